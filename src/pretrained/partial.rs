//! The part of a file that has arrived, and the manifest beside it that a later call resumes from.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Mirror, PretrainedError};

/// The single piece that is all of a file.
pub(super) fn whole_file(length: u64) -> Vec<Range<u64>> {
    std::iter::once(0..length).collect()
}

/// What a partial file is a part of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ResumeManifest {
    pub url: String,
    pub validator: Option<String>,
    /// Length of the file at the server.
    pub total: Option<u64>,
    /// How many convolutions were wanted.
    pub depth: usize,
    /// Whether the pieces are one, and the whole file.
    pub whole: bool,
    pub pieces: Vec<Range<u64>>,
}

impl ResumeManifest {
    /// Bytes of all pieces.
    pub fn length(&self) -> u64 {
        self.pieces.iter().fold(0, |sum: u64, piece| {
            sum.saturating_add(piece.end.saturating_sub(piece.start))
        })
    }
}

/// A file that is not whole yet, and the manifest beside it.
pub(super) struct PartialFile {
    pub path: PathBuf,
    manifest_path: PathBuf,
    pub manifest: Option<ResumeManifest>,
    pub length: u64,
    /// Whether it was begun by this call.
    fresh: bool,
    file: Option<File>,
}

impl PartialFile {
    /// What an earlier call has left, if its manifest can be read.
    pub fn open(path: &Path) -> Self {
        let manifest_path = path.with_extension("partial.json");
        let length = fs::metadata(path).map_or(0, |facts| facts.len());
        let manifest = fs::read(&manifest_path).ok();
        let manifest =
            manifest.and_then(|json| serde_json::from_slice::<ResumeManifest>(&json).ok());
        let sound = |manifest: &ResumeManifest| {
            let rising = manifest.pieces.iter().all(|piece| piece.start < piece.end);
            let apart = |pair: &[Range<u64>]| pair[0].end <= pair[1].start;
            let ordered = manifest.pieces.windows(2).all(apart);
            rising && ordered && length > 0 && length <= manifest.length()
        };
        Self {
            path: path.into(),
            manifest_path,
            manifest: manifest.filter(sound),
            length,
            fresh: false,
            file: None,
        }
    }

    pub fn error(&self, source: std::io::Error) -> PretrainedError {
        PretrainedError::Cache {
            path: self.path.clone(),
            source,
        }
    }

    pub fn is_from(&self, url: &str) -> bool {
        self.manifest
            .as_ref()
            .is_some_and(|manifest| manifest.url == url)
    }

    /// Whether a download from this mirror can resume it: only if something promises that the
    /// rest will be of the same file. Between two requests of one call its length has to do.
    pub fn fits(&self, mirror: &Mirror, depth: usize) -> bool {
        self.manifest.as_ref().is_some_and(|manifest| {
            let same = manifest.url == mirror.url && (manifest.whole || manifest.depth == depth);
            let promised = match mirror.sha256 {
                Some(_) => manifest.whole,
                None => manifest.validator.is_some() || self.fresh,
            };
            same && promised && (manifest.total.is_some() || self.is_complete())
        })
    }

    pub fn is_complete(&self) -> bool {
        let length = self.manifest.as_ref().map(ResumeManifest::length);
        length == Some(self.length)
    }

    /// What to ask for next.
    pub fn next_range(&self) -> Option<Range<u64>> {
        let mut before = 0;
        for piece in &self.manifest.as_ref()?.pieces {
            let length = piece.end - piece.start;
            if self.length < before + length {
                return Some(piece.start + (self.length - before)..piece.end);
            }
            before += length;
        }
        None
    }

    /// Where in the partial file a part of the original lies.
    pub fn find(&self, place: &Range<u64>) -> Option<Range<usize>> {
        let mut before = 0;
        for piece in &self.manifest.as_ref()?.pieces {
            if piece.start <= place.start && place.end <= piece.end {
                let start = before + (place.start - piece.start);
                return Some(start as usize..(start + place.end - place.start) as usize);
            }
            before += piece.end - piece.start;
        }
        None
    }

    /// Starts anew.
    pub fn begin(&mut self, manifest: ResumeManifest) -> Result<(), PretrainedError> {
        self.discard();
        let file = File::create(&self.path).map_err(|source| self.error(source))?;
        let json = serde_json::to_vec(&manifest).map_err(|error| self.error(error.into()))?;
        crate::atomic::write(&self.manifest_path, |file| file.write_all(&json))
            .map_err(|error| self.error(std::io::Error::other(error)))?;
        self.file = Some(file);
        self.manifest = Some(manifest);
        self.fresh = true;
        Ok(())
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), PretrainedError> {
        let file = match self.file.take() {
            Some(file) => Ok(file),
            None => File::options().append(true).open(&self.path),
        };
        let written = file.and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file)
        });
        self.file = Some(written.map_err(|source| self.error(source))?);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Declares that there is no more to come.
    pub fn end_here(&mut self) {
        if let Some(manifest) = &mut self.manifest {
            manifest.pieces = whole_file(self.length);
        }
    }

    pub fn close(&mut self) {
        self.file = None;
    }

    /// Goes on no more with what is there.
    pub fn forget(&mut self) {
        self.close();
        self.manifest = None;
        self.length = 0;
    }

    /// Removes it.
    pub fn discard(&mut self) {
        self.forget();
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.manifest_path);
    }
}
