//! Results that one of several processes is about to write.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use same_file::Handle;

/// The right to paint a picture, as long as it is kept: a locked file beside the result. The lock goes with the
/// process, however it ends.
pub struct Claim {
    path: PathBuf,
    _locked: File,
}

/// Whose turn it is to paint a picture that several processes may paint.
pub enum Turn {
    Ours(Claim),
    /// Another process has claimed it.
    Painting,
    /// Its result exists.
    Painted,
}

impl Turn {
    /// Claims a result, unless it exists or another process has claimed it.
    ///
    /// # Errors
    /// If the file beside it cannot be made. Where files cannot be locked every process may claim it.
    pub fn take(output: &Path) -> io::Result<Self> {
        Ok(match Claim::take(output)? {
            None => Self::Painting,
            // Asked while it is ours: nobody can write it now.
            Some(_) if output.exists() => Self::Painted,
            Some(claim) => Self::Ours(claim),
        })
    }
}

impl Claim {
    fn take(output: &Path) -> io::Result<Option<Self>> {
        let mut name = OsString::from(".");
        name.push(output.file_name().unwrap_or_default());
        name.push(".claim");
        let path = output.with_file_name(name);
        loop {
            let file = OpenOptions::new();
            let file = file
                .clone()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Ok(None),
                // It could be made, but not be locked: then by nobody.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            // Whoever had it may have removed it in the meantime, and a third one made another.
            let own = Handle::from_file(file.try_clone()?)?;
            if Handle::from_path(&path).is_ok_and(|now| now == own) {
                let _locked = file;
                return Ok(Some(Self { path, _locked }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // While it is locked: afterwards it may be another's.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    #[test]
    fn one_of_many_has_a_claim_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out.png");
        let (owners, painted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let Turn::Ours(claim) = Turn::take(&output).unwrap() else {
                            continue;
                        };
                        assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        fs::write(&output, "picture").unwrap();
                        painted.fetch_add(1, Ordering::SeqCst);
                        owners.fetch_sub(1, Ordering::SeqCst);
                        drop(claim);
                    }
                });
            }
        });
        assert_eq!(painted.into_inner(), 1);
        assert!(matches!(Turn::take(&output), Ok(Turn::Painted)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let nowhere = folder.path().join("none").join("out.png");
        assert!(Turn::take(&nowhere).is_err());
    }
}
