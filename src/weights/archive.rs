//! The one file of weights in a tar or zip archive.

use std::io::{Cursor, Read};

use bytes::Bytes;

use super::file::{MAX_UNPACKED, is_gzip, unpack_gzip};
use super::kind::Kind;
use super::zip_file;

/// Most files in a tar archive.
const MAX_FILES: usize = 10_000;

/// Bytes that tell what a file is.
const START: usize = 512;

/// Names of the files in an archive, the first few of which are told.
struct Listing {
    /// Files that may be weights, by their first bytes: name and a number.
    found: Vec<(String, usize)>,
    others: Vec<String>,
}

impl Listing {
    /// Takes note of a file by its first bytes.
    fn note(&mut self, name: String, number: usize, start: &[u8]) {
        let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
        // What a Mac adds to each file.
        let hidden = base.starts_with("._") || name.starts_with("__MACOSX/");
        let weights = match Kind::of(start, base.as_ref()) {
            Kind::Other(_) => is_gzip(start),
            _ => true,
        };
        match weights && !hidden {
            true => self.found.push((name, number)),
            false => self.others.push(name),
        }
    }

    /// The one file of weights.
    fn one(self) -> Result<(String, usize), String> {
        let names = |names: &mut dyn Iterator<Item = &String>| -> String {
            let names: Vec<&str> = names.take(5).map(String::as_str).collect();
            names.join(", ")
        };
        let Self { mut found, others } = self;
        match found.len() {
            1 => Ok(found.swap_remove(0)),
            0 if others.is_empty() => Err("the archive is empty; get it again".to_string()),
            0 => Err(format!(
                "the archive holds no file of weights (ONNX, safetensors or PyTorch), but {}",
                names(&mut others.iter())
            )),
            count => Err(format!(
                "the archive holds {count} files that may be weights ({}); unpack it and name one \
                 of them",
                names(&mut found.iter().map(|(name, _)| name))
            )),
        }
    }
}

/// The one file of weights in a tar archive, and its name there.
pub(super) fn tar_member(bytes: &Bytes) -> Result<(String, Bytes), String> {
    let damaged = |error: std::io::Error| format!("damaged tar archive ({error}); get it again");
    let mut listing = Listing {
        found: Vec::new(),
        others: Vec::new(),
    };
    let mut places = Vec::new();
    let mut archive = tar::Archive::new(Cursor::new(bytes.clone()));
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        if places.len() >= MAX_FILES {
            return Err(format!("the tar archive holds more than {MAX_FILES} files"));
        }
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let start = entry.raw_file_position();
        let end = start.checked_add(entry.size());
        let Some(end) = end.filter(|&end| end <= bytes.len() as u64) else {
            return Err(format!(
                "incomplete tar archive: `{name}` ends after it; get it again"
            ));
        };
        let contents = bytes.slice(start as usize..end as usize);
        listing.note(name, places.len(), &contents[..contents.len().min(START)]);
        places.push(contents);
    }
    let (name, number) = listing.one()?;
    let contents = places.swap_remove(number);
    unpacked(name, contents)
}

/// The one file of weights in a zip archive, and its name there.
pub(super) fn zip_member(bytes: &Bytes) -> Result<(String, Bytes), String> {
    let mut archive = zip_file::open(bytes)?;
    let mut listing = Listing {
        found: Vec::new(),
        others: Vec::new(),
    };
    let damaged =
        |error: &dyn std::fmt::Display| format!("the zip archive cannot be read ({error})");
    for number in 0..archive.len() {
        let entry = archive.by_index(number).map_err(|error| damaged(&error))?;
        if entry.is_dir() {
            continue;
        }
        let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
        let mut start = Vec::new();
        let read = entry.take(START as u64).read_to_end(&mut start);
        read.map_err(|error| damaged(&error))?;
        listing.note(name, number, &start);
    }
    let (name, number) = listing.one()?;
    let mut contents = Vec::new();
    let entry = archive.by_index(number).map_err(|error| damaged(&error))?;
    let read = entry.take(MAX_UNPACKED + 1).read_to_end(&mut contents);
    read.map_err(|error| damaged(&error))?;
    if contents.len() as u64 > MAX_UNPACKED {
        return Err(format!("`{name}` unpacks to more than 1 GiB"));
    }
    unpacked(name, contents.into())
}

/// A file that may be compressed with gzip.
fn unpacked(name: String, contents: Bytes) -> Result<(String, Bytes), String> {
    if !is_gzip(&contents) {
        return Ok((name, contents));
    }
    match unpack_gzip(&contents[..]) {
        Ok(contents) => Ok((name, contents)),
        Err(error) => Err(format!("`{name}` cannot be unpacked ({error})")),
    }
}
