//! Zip archives, opened within bounds.

use std::io::Cursor;

use bytes::Bytes;

/// An opened archive.
pub(super) type Archive = zip::ZipArchive<Cursor<Bytes>>;

/// Most files in a zip archive. VGG19's has about 60.
const MAX_FILES: u64 = 10_000;

/// Opens a zip archive.
pub(super) fn open(bytes: &Bytes) -> Result<Archive, String> {
    if stated_files(bytes).is_some_and(|files| files > MAX_FILES) {
        return Err(format!("the zip archive holds more than {MAX_FILES} files"));
    }
    zip::ZipArchive::new(Cursor::new(bytes.clone())).map_err(|error| {
        format!("the zip archive is damaged or incomplete ({error}); get it again")
    })
}

/// How many files a zip archive says it holds, in either of the two places where it may: all of them
/// would be listed in memory at once.
fn stated_files(bytes: &[u8]) -> Option<u64> {
    // The last record, before a comment.
    let from = bytes.len().saturating_sub(22 + 0xffff);
    let record = from + bytes[from..].windows(4).rposition(|w| w == b"PK\x05\x06")?;
    let small = u16::from_le_bytes(*bytes.get(record + 10..)?.first_chunk()?);
    let large = || {
        let locator = bytes.get(record.checked_sub(20)?..record)?;
        let offset = locator.strip_prefix(b"PK\x06\x07")?.get(4..)?;
        let offset = usize::try_from(u64::from_le_bytes(*offset.first_chunk()?)).ok()?;
        let count = bytes.get(offset.checked_add(32)?..)?.first_chunk()?;
        Some(u64::from_le_bytes(*count))
    };
    Some(large().unwrap_or(0).max(small.into()))
}
