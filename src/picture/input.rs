//! A file to read, and bounds on what it may ask for.

use std::fs::File;
use std::io::{BufReader, ErrorKind};
use std::path::Path;

use super::error::PictureError;

/// Bytes of a pixel while it is converted: colours and alpha as f32, twice.
pub(super) const CONVERTED: u64 = 32;

/// Bounds on what a file may ask for, checked before the pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels a picture may have.
    pub pixels: u64,
    /// Most bytes that reading it may take, with the decoder's and our own copies.
    pub bytes: u64,
}

impl Default for Limits {
    /// 64 × 2²⁰ pixels and 3 GiB; a quarter of the pixels and 1 GiB where addresses have 32 bits.
    fn default() -> Self {
        match cfg!(target_pointer_width = "32") {
            true => Self {
                pixels: 16 << 20,
                bytes: 1 << 30,
            },
            false => Self {
                pixels: 64 << 20,
                bytes: 3 << 30,
            },
        }
    }
}

/// Opens a file; a folder is an error.
pub(super) fn open_file(path: &Path) -> Result<BufReader<File>, PictureError> {
    let read = |source| PictureError::Read {
        path: path.into(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.is_dir() {
        return Err(read(ErrorKind::IsADirectory.into()));
    }
    Ok(BufReader::new(File::open(path).map_err(read)?))
}
