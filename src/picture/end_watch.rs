//! Telling files that end too early from those that are damaged.

use std::cell::Cell;
use std::io::{BufRead, Read, Result, Seek, SeekFrom};
use std::rc::Rc;

/// A reader that notes whether anything was looked for beyond its end.
pub(super) struct EndWatch<R> {
    file: R,
    passed: Rc<Cell<bool>>,
}

impl<R> EndWatch<R> {
    /// The reader and its note.
    pub(super) fn new(file: R) -> (Self, Rc<Cell<bool>>) {
        let passed = Rc::new(Cell::new(false));
        let note = Rc::clone(&passed);
        (Self { file, passed }, note)
    }
}

impl<R: Read> Read for EndWatch<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let count = self.file.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.passed.set(true);
        }
        Ok(count)
    }
}

impl<R: BufRead> BufRead for EndWatch<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        let buffer = self.file.fill_buf()?;
        if buffer.is_empty() {
            self.passed.set(true);
        }
        Ok(buffer)
    }

    fn consume(&mut self, count: usize) {
        self.file.consume(count);
    }
}

impl<R: Seek> Seek for EndWatch<R> {
    fn seek(&mut self, place: SeekFrom) -> Result<u64> {
        self.file.seek(place)
    }
}
