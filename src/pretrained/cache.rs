//! The folder in which weights are kept between runs.

use std::fs::{self, File, TryLockError};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::PretrainedError;

/// Time between two attempts to get a lock.
const PAUSE: Duration = Duration::from_millis(100);

/// Age from which a temporary file is what a killed program left behind.
const STALE: Duration = Duration::from_secs(3600);

/// A folder of compact files of weights, shared by all programs of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The names under which [`Cache::find`] looks, most wanted first: what the user brought comes
    /// before what was fetched by name.
    pub const NAMES: [&'static str; 4] = ["imported", "custom", "torchvision", "caffe"];

    /// The folder that `IMPASTO_CACHE` names, else `impasto` in the platform's folder for caches.
    /// It need not exist yet.
    ///
    /// # Errors
    /// [`PretrainedError::NoCacheFolder`] where there is neither.
    pub fn open() -> Result<Self, PretrainedError> {
        let named = std::env::var_os("IMPASTO_CACHE").filter(|name| !name.is_empty());
        let folder = match named {
            Some(folder) => PathBuf::from(folder),
            None => dirs::cache_dir()
                .ok_or(PretrainedError::NoCacheFolder)?
                .join("impasto"),
        };
        Ok(Self::at(folder))
    }

    /// A folder of one's own.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the weights of that name are kept, whether they are there or not.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("vgg19-{name}.safetensors"))
    }

    /// The first of [`Cache::NAMES`] whose file is there.
    pub fn find(&self) -> Option<PathBuf> {
        let paths = Self::NAMES.into_iter().map(|name| self.path(name));
        paths.into_iter().find(|path| path.is_file())
    }

    /// Makes the folder if it is not there.
    ///
    /// # Errors
    /// [`PretrainedError::Cache`] if it cannot be made.
    pub fn create(&self) -> Result<(), PretrainedError> {
        fs::create_dir_all(&self.folder).map_err(|source| PretrainedError::Cache {
            path: self.folder.clone(),
            source,
        })
    }

    /// Waits until no other process works on the weights of that name, and keeps others waiting
    /// until the result is dropped. `waiting` is asked now and then whether to go on waiting.
    pub(super) fn lock(
        &self,
        name: &str,
        mut waiting: impl FnMut() -> ControlFlow<()>,
    ) -> Result<File, PretrainedError> {
        self.create()?;
        // The file stays: were it removed, two processes could each lock another one.
        let path = self.folder.join(format!(".vgg19-{name}.lock"));
        let error = |source| PretrainedError::Cache {
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(error)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => return Err(error(source)),
            }
            if waiting().is_break() {
                return Err(PretrainedError::Stopped);
            }
            std::thread::sleep(PAUSE);
        }
        self.sweep();
        Ok(file)
    }

    /// Removes what programs that were killed while they wrote a file have left.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let temporary = entry.file_name().to_string_lossy().starts_with(".impasto-");
            let modified = entry.metadata().and_then(|facts| facts.modified());
            let age = modified.ok().and_then(|time| time.elapsed().ok());
            if temporary && age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}
