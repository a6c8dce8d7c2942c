//! The structure of JPEG files, and whether they are whole.

use std::io::{self, BufRead, ErrorKind, Seek, SeekFrom};

use zune_core::bytestream::ZCursor;
use zune_core::options::DecoderOptions;

/// What the markers of a JPEG file tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Structure {
    /// Channels, 0 before the header of the frame.
    pub channels: u8,
    /// Whether it refines the picture scan by scan.
    pub progressive: bool,
    /// Whether there are compressed pixels.
    pub scans: bool,
    /// Whether the mark for the end of the image is there.
    pub ended: bool,
}

impl Structure {
    /// Reads the markers of a file up to the end of its first image, or of the file. What follows the
    /// first image (a second one, a film, filler) is no matter.
    pub(super) fn read(file: &mut (impl BufRead + Seek)) -> io::Result<Self> {
        let mut structure = Self::default();
        match structure.read_markers(file) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(structure),
            result => result.map(|()| structure),
        }
    }

    fn read_markers(&mut self, file: &mut (impl BufRead + Seek)) -> io::Result<()> {
        let length = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(2))?;
        loop {
            let marker = next_marker(file)?;
            match marker {
                END => {
                    self.ended = true;
                    return Ok(());
                }
                // Marks without contents.
                0x01 | 0xd0..=0xd8 => continue,
                _ => {}
            }
            let size = u64::from(u16::from_be_bytes(read(file)?));
            let mut rest = size.saturating_sub(2);
            if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) && rest >= 6 {
                let [.., channels] = read::<6>(file)?;
                rest -= 6;
                self.channels = channels;
                self.progressive = marker & 0x03 == 0x02;
            }
            let place = file.stream_position()?.saturating_add(rest);
            if place > length {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(place))?;
            self.scans |= marker == SCAN;
        }
    }
}

const END: u8 = 0xd9;
const SCAN: u8 = 0xda;

/// The next marker, behind compressed data or filler if need be: there 0xff stands before zero, before
/// the marks of restarts, or before more filler.
fn next_marker(file: &mut impl BufRead) -> io::Result<u8> {
    loop {
        let skipped = file.skip_until(0xff)?;
        if skipped == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let mut byte = 0xff;
        while byte == 0xff {
            [byte] = read(file)?;
        }
        if !matches!(byte, 0x00 | 0xd0..=0xd7) {
            return Ok(byte);
        }
    }
}

fn read<const N: usize>(file: &mut impl BufRead) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Whether all pixels of a file without the mark of its end are there, as some cameras write them: then
/// they are the same whatever follows.
pub(super) fn pixels_are_there(file: &[u8], structure: Structure) -> bool {
    // Nobody can tell how many refinements were to come.
    if structure.progressive || !structure.scans {
        return false;
    }
    let decode = |tail: [u8; 2]| {
        let mut whole = file.to_vec();
        // A mark that was cut in two.
        whole.pop_if(|last| *last == 0xff);
        whole.extend(tail.repeat(TAIL));
        whole.extend([0xff, END]);
        decoder(&whole).decode().ok()
    };
    let pixels = decode([0x00, 0x00]);
    pixels.is_some()
        && [[0x55, 0x55], [0xb7, 0x3a], [0xff, 0x00]]
            .map(decode)
            .iter()
            .all(|other| *other == pixels)
}

/// Pairs of bytes that follow in [`pixels_are_there`].
const TAIL: usize = 64;

/// A decoder that takes what it gets, of any size; the caller knows the limits.
pub(super) fn decoder(file: &[u8]) -> zune_jpeg::JpegDecoder<ZCursor<&[u8]>> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(file), options)
}
