//! The folder in which the studio keeps pictures, jobs and results.
//!
//! ```text
//! lock                 one studio at a time
//! white.png            the mask of a style that is painted everywhere
//! pictures/<id>        what was dropped on the page, under the SHA-256 of its bytes
//! pictures/<id>.png    the same for a browser, no larger than a page needs
//! jobs/<number>/       job.json, checkpoint, result.png, thumbnail.png
//! jobs/last            the largest number of those that were deleted
//! ```

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use impasto::Picture;
use impasto::page::{SHOWN, shrunk};
use impasto::picture::Limits;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::ids::{JobId, PictureId};
use super::job::Job;
use crate::cli::failure::{Failure, describe_error};

/// Longest side of what a page lists.
const THUMBNAIL: usize = 320;

/// A picture that was added.
#[derive(Clone, Debug, Serialize)]
pub struct Added {
    pub id: PictureId,
    pub width: usize,
    pub height: usize,
}

/// The folder.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Held as long as the studio runs.
    _lock: File,
}

impl Store {
    /// Opens a folder, by default one in the platform's folder for data.
    pub fn open(folder: Option<&Path>) -> Result<Self, Failure> {
        let folder = match folder {
            Some(folder) => folder.to_path_buf(),
            None => dirs::data_dir()
                .ok_or_else(|| Failure::usage("name a folder for the studio with --folder"))?
                .join("impasto/studio"),
        };
        let usable = |error: io::Error| {
            let folder = folder.display();
            Failure::usage(format!(
                "{folder}: the studio's folder cannot be used: {error}"
            ))
        };
        for name in ["pictures", "jobs"] {
            fs::create_dir_all(folder.join(name)).map_err(usable)?;
        }
        let folder = std::path::absolute(&folder).map_err(usable)?;
        let lock = File::create(folder.join("lock")).map_err(usable)?;
        if lock.try_lock().is_err() {
            return Err(Failure::usage(format!(
                "{}: another studio works in this folder; end it, or name another with --folder",
                folder.display()
            )));
        }
        let store = Self {
            folder,
            _lock: lock,
        };
        let white = Picture::from_rgb(16, 16, vec![1.0; 3 * 256]).map_err(Failure::other)?;
        white.save(store.white()).map_err(Failure::usage)?;
        Ok(store)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file of a picture, whether it is there or not.
    pub fn picture(&self, id: &PictureId) -> PathBuf {
        match id {
            PictureId::Dropped(text) => self.folder.join("pictures").join(text),
            PictureId::Result(job) => self.result(*job),
        }
    }

    /// The mask that is white everywhere.
    pub fn white(&self) -> PathBuf {
        self.folder.join("white.png")
    }

    fn job(&self, id: JobId) -> PathBuf {
        self.folder.join("jobs").join(id.to_string())
    }

    /// The file of a job's result.
    pub fn result(&self, id: JobId) -> PathBuf {
        self.job(id).join("result.png")
    }

    /// The file of a job's state.
    pub fn checkpoint(&self, id: JobId) -> PathBuf {
        self.job(id).join("checkpoint")
    }

    /// A picture for a browser, small for a list: PNG.
    pub fn shown(&self, id: &PictureId, small: bool) -> io::Result<Vec<u8>> {
        match (id, small) {
            (PictureId::Dropped(text), _) => {
                fs::read(self.folder.join("pictures").join(format!("{text}.png")))
            }
            (PictureId::Result(job), true) => fs::read(self.job(*job).join("thumbnail.png")),
            (PictureId::Result(job), false) => fs::read(self.result(*job)),
        }
    }

    /// Adds the bytes of a picture's file, if it can be read.
    pub fn add(&self, bytes: &[u8]) -> Result<Added, String> {
        let mut id = String::new();
        for byte in &Sha256::digest(bytes)[..16] {
            let _ = write!(id, "{byte:02x}");
        }
        let folder = self.folder.join("pictures");
        let io = |error: io::Error| format!("the picture cannot be kept: {error}");
        let mut file = tempfile::NamedTempFile::new_in(&folder).map_err(io)?;
        file.write_all(bytes).map_err(io)?;
        let readable = |error: impasto::picture::PictureError| {
            // Without the name of the file, which says nothing to the user.
            let text = describe_error(&error);
            let text = text.replace(&*file.path().to_string_lossy(), "the picture");
            text.trim_start_matches("impasto: ").to_string()
        };
        let (width, height) = Picture::read_size(file.path()).map_err(readable)?;
        let (whole, reduced) = (Limits::default(), Limits::REDUCED);
        let picture = Picture::open_reduced_with(file.path(), SHOWN, whole, reduced);
        let shown = shrunk(&picture.map_err(readable)?, SHOWN);
        shown
            .save(folder.join(format!("{id}.png")))
            .map_err(readable)?;
        file.persist(folder.join(&id))
            .map_err(|error| io(error.error))?;
        Ok(Added {
            id: PictureId::Dropped(id),
            width,
            height,
        })
    }

    /// Keeps the small picture of a result.
    pub fn save_thumbnail(&self, id: JobId, picture: &Picture) -> Result<(), String> {
        let path = self.job(id).join("thumbnail.png");
        let saved = shrunk(picture, THUMBNAIL).save(path);
        saved.map_err(|error| describe_error(&error))
    }

    /// All jobs, and the number of the next. Folders that hold no job are left alone.
    pub fn load_jobs(&self) -> io::Result<(Vec<Job>, JobId)> {
        let mut jobs = Vec::new();
        let mut last = self.last_deleted();
        for entry in fs::read_dir(self.folder.join("jobs"))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let Some(id) = name.and_then(|name| name.parse::<JobId>().ok()) else {
                continue;
            };
            last = last.max(id);
            let read = fs::read(path.join("job.json"));
            let job: Option<Job> = read
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            jobs.extend(job.filter(|job| job.facts.id == id));
        }
        Ok((jobs, last + 1))
    }

    /// The largest number of a job that was deleted, or 0.
    fn last_deleted(&self) -> JobId {
        let text = fs::read_to_string(self.folder.join("jobs").join("last"));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Keeps what is known of a job, whole or not at all.
    pub fn save_job(&self, job: &Job) -> io::Result<()> {
        let folder = self.job(job.facts.id);
        fs::create_dir_all(&folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        serde_json::to_writer(&mut file, job)?;
        file.persist(folder.join("job.json"))?;
        Ok(())
    }

    /// Deletes a job and its result. Its number is not given again.
    pub fn remove_job(&self, id: JobId) -> io::Result<()> {
        let last = self.last_deleted().max(id);
        fs::write(self.folder.join("jobs").join("last"), last.to_string())?;
        match fs::remove_dir_all(self.job(id)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}
