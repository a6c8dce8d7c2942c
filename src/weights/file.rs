//! The bytes of a file.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use bytes::Bytes;

/// Largest file that is unpacked into memory: all of VGG19 with its classifier is 575 MB.
pub(super) const MAX_UNPACKED: u64 = 1 << 30;

/// Maps a file into memory; one compressed with gzip is unpacked.
pub(super) fn read(path: &Path) -> io::Result<Bytes> {
    let mut file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    let mut magic = [0; 2];
    match file.read_exact(&mut magic).is_ok() && is_gzip(&magic) {
        true => unpack_gzip(File::open(path)?),
        false => map_file(&file),
    }
}

/// Maps a file into memory.
#[cfg(feature = "onnx")]
pub(super) fn map(path: &Path) -> io::Result<Bytes> {
    map_file(&File::open(path)?)
}

#[cfg(not(target_family = "wasm"))]
fn map_file(file: &File) -> io::Result<Bytes> {
    // SAFETY: the map is read-only and private. Should another process cut the file short while it
    // is read, the operating system ends this one (SIGBUS) rather than letting it read other
    // memory; that is the usual price of mapping, paid to load 575 MB at once.
    let map = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}

/// Reads a file: WebAssembly has no maps.
#[cfg(target_family = "wasm")]
fn map_file(mut file: &File) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file)?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// Whether a file that begins with these bytes is one of gzip.
pub(super) fn is_gzip(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b])
}

/// The contents of a gzip file.
pub(super) fn unpack_gzip(file: impl Read) -> io::Result<Bytes> {
    let mut bytes = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(file);
    decoder.take(MAX_UNPACKED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_UNPACKED {
        return Err(io::Error::other("it unpacks to more than 1 GiB"));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_are_mapped_or_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for contents in [&b""[..], b"x", b"plain bytes"] {
            std::fs::write(&path, contents).unwrap();
            assert_eq!(read(&path).unwrap(), contents);
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            packed.write_all(contents).unwrap();
            std::fs::write(&path, packed.finish().unwrap()).unwrap();
            assert_eq!(read(&path).unwrap(), contents);
        }
        let error = read(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IsADirectory);
    }
}
