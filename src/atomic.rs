//! Files that are written whole or not at all.
//!
//! What a name stands for stays what it is: a link remains a link and its target is written; a file
//! keeps its mode, and its owner where that is allowed; a device or a named pipe is written to, never
//! replaced.

use std::error::Error;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Links that are followed from one to the next before they count as a circle, as in Linux.
const MOST_LINKS: usize = 40;

/// Writes a file: into a temporary one beside it, which then takes its place. Whatever fails, the
/// file is what it was. Where the place cannot be taken (the folder accepts no files, or the file is
/// a mount point), the finished contents are copied into the existing file.
pub fn write<E>(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<NamedTempFile>) -> Result<(), E>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let target = follow_links(path)?;
    let existing = Existing::at(&target)?;
    let (temporary, beside) = match (&existing, temporary_beside(&target)) {
        (Existing::Stream, _) => (NamedTempFile::new()?, false),
        (_, Ok(file)) => (file, true),
        (Existing::File(_), Err(_)) => (NamedTempFile::new()?, false),
        (Existing::Nothing, Err(error)) => return Err(error.into()),
    };
    let mut writer = BufWriter::new(temporary);
    contents(&mut writer).map_err(Into::into)?;
    let mut file = writer.into_inner().map_err(|error| error.into_error())?;
    match existing {
        Existing::Stream => {
            file.rewind()?;
            let mut stream = OpenOptions::new().write(true).open(&target)?;
            io::copy(&mut file, &mut stream)?;
        }
        Existing::File(_) if !beside => overwrite(file.as_file_mut(), &target)?,
        Existing::File(metadata) => {
            keep_attributes(file.as_file(), &metadata)?;
            file.as_file().sync_all()?;
            if let Err(mut refused) = file.persist(&target) {
                overwrite(refused.file.as_file_mut(), &target).map_err(|_| refused.error)?;
            }
        }
        Existing::Nothing => {
            file.as_file().sync_all()?;
            file.persist(&target).map_err(|error| error.error)?;
        }
    }
    Ok(())
}

/// Checks that [`write`] could begin: the file may be replaced or its folder accepts a new one.
/// Leaves everything as it is.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let target = follow_links(path)?;
    match Existing::at(&target)? {
        // A file that can be written to will do, whatever its folder. Opening a named pipe would
        // wait for its reader.
        Existing::File(_) | Existing::Stream => Ok(()),
        Existing::Nothing => check_folder_of(&target),
    }
}

/// What is at a place before it is written to.
enum Existing {
    Nothing,
    File(Metadata),
    /// A named pipe, a terminal, or another device that takes bytes one after the other.
    Stream,
}

impl Existing {
    /// What is there; an error if it must not or cannot be written to.
    fn at(target: &Path) -> io::Result<Self> {
        let refused = |kind, problem: &str| Err(io::Error::new(kind, problem.to_string()));
        let last = target.as_os_str().as_encoded_bytes().last();
        let metadata = match fs::metadata(target) {
            Err(error) if absent(&error) => {
                return match last.is_some_and(|&byte| std::path::is_separator(byte.into())) {
                    true => refused(ErrorKind::IsADirectory, "this is the name of a folder"),
                    false => Ok(Self::Nothing),
                };
            }
            metadata => metadata?,
        };
        if metadata.is_dir() {
            return refused(ErrorKind::IsADirectory, "there is a folder of this name");
        }
        if is_stream(&metadata) {
            return Ok(Self::Stream);
        }
        if !metadata.is_file() {
            return refused(ErrorKind::InvalidInput, "this is no file");
        }
        if metadata.permissions().readonly() {
            return refused(
                ErrorKind::PermissionDenied,
                "the file is write-protected; choose another name, or allow writing to it",
            );
        }
        // Opening alone changes nothing.
        OpenOptions::new()
            .write(true)
            .open(target)
            .map_err(|error| {
                let problem = format!("the file cannot be written to ({error})");
                io::Error::new(error.kind(), problem)
            })?;
        Ok(Self::File(metadata))
    }
}

/// Whether an error says that there is nothing at a place.
fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(unix)]
fn is_stream(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_fifo() || metadata.file_type().is_char_device()
}

#[cfg(not(unix))]
fn is_stream(_: &Metadata) -> bool {
    false
}

/// The place that a name stands for, at the end of all links, whether something is there or not.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    // What a link to an open pipe says is no name.
    if fs::metadata(path).is_ok_and(|metadata| is_stream(&metadata)) {
        return Ok(target);
    }
    for _ in 0..MOST_LINKS {
        match fs::read_link(&target) {
            Ok(link) => target = folder_of(&target).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("the links lead in a circle"))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// A temporary file beside `path`, gone when dropped, with an error that says what to do.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".impasto-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
        .tempfile_in(folder)
        .map_err(|source| explained(folder, &source))
}

/// Whether the folder of `path` accepts files: with one that has no name where the system can do that, so
/// that nothing is left whenever the program ends.
fn check_folder_of(path: &Path) -> io::Result<()> {
    let folder = folder_of(path);
    let made = tempfile::tempfile_in(folder);
    made.map(drop).map_err(|source| explained(folder, &source))
}

/// An error of making a file in a folder, with what to do.
fn explained(folder: &Path, source: &io::Error) -> io::Error {
    let folder = folder.display();
    let hint = match source.kind() {
        ErrorKind::NotFound => format!("the folder {folder} does not exist; create it first"),
        // The whole error names the temporary file.
        kind => format!("the folder {folder} cannot be written to ({kind})"),
    };
    io::Error::new(source.kind(), hint)
}

/// Gives a file the mode of the one that it replaces, and its owner and group where that is allowed.
#[cfg(unix)]
fn keep_attributes(file: &File, replaced: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let own = file.metadata()?;
    let (uid, gid) = (replaced.uid(), replaced.gid());
    if (own.uid(), own.gid()) != (uid, gid) && fchown(file, Some(uid), Some(gid)).is_err() {
        let _ = fchown(file, None, Some(gid));
    }
    file.set_permissions(fs::Permissions::from_mode(replaced.mode() & 0o777))
}

#[cfg(not(unix))]
fn keep_attributes(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

/// Replaces the contents of an existing file; if that fails, by the old ones.
fn overwrite(source: &mut File, target: &Path) -> io::Result<()> {
    let old = fs::read(target).ok();
    let mut file = OpenOptions::new().write(true).open(target)?;
    let mut copy = || {
        source.rewind()?;
        let length = io::copy(source, &mut file)?;
        file.set_len(length)?;
        file.sync_all()
    };
    copy().inspect_err(|_| {
        if let Some(old) = old {
            // It had room for them before.
            let restored = file.rewind().and_then(|()| file.write_all(&old));
            let _ = restored.and_then(|()| file.set_len(old.len() as u64));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(path: &Path, text: &str) -> Result<(), String> {
        check(path).map_err(|error| error.to_string())?;
        write(path, |writer| writer.write_all(text.as_bytes())).map_err(|error| error.to_string())
    }

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        save(&path, "old").unwrap();
        let failed = write(&path, |writer| {
            writer.write_all(b"ne")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a"]);
    }

    #[test]
    fn what_cannot_be_written_is_refused_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("protected"), "old").unwrap();
        let mut permissions = fs::metadata(path("protected")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(path("protected"), permissions).unwrap();
        fs::create_dir(path("folder")).unwrap();
        for (name, words) in [
            ("protected", "write-protected"),
            ("folder", "a folder of this name"),
            ("new/", "name of a folder"),
            ("missing/new", "does not exist"),
            ("protected/new", "cannot be written to"),
            (&"long".repeat(100), ""),
        ] {
            let problem = save(&path(name), "new").unwrap_err();
            assert!(problem.contains(words), "{name}: {problem}");
        }
        assert_eq!(fs::read(path("protected")).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["folder", "protected"]);
    }

    #[test]
    fn a_file_that_cannot_be_replaced_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a");
        for (old, new) in [("long contents", "new"), ("old", "longer contents")] {
            fs::write(&target, old).unwrap();
            let mut source = tempfile::tempfile().unwrap();
            source.write_all(new.as_bytes()).unwrap();
            overwrite(&mut source, &target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), new);
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_remain_links_and_files_keep_their_modes() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("inner")).unwrap();
        fs::write(path("inner/file"), "old").unwrap();
        fs::set_permissions(path("inner/file"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("inner/file", path("link")).unwrap();
        symlink("link", path("second")).unwrap();
        symlink("inner/absent", path("dangling")).unwrap();
        save(&path("second"), "new").unwrap();
        save(&path("dangling"), "made").unwrap();
        assert_eq!(fs::read(path("inner/file")).unwrap(), b"new");
        assert_eq!(fs::read(path("inner/absent")).unwrap(), b"made");
        let mode = fs::metadata(path("inner/file"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        for link in ["link", "second", "dangling"] {
            assert!(path(link).is_symlink(), "{link}");
        }
        symlink("circle", path("circle")).unwrap();
        assert!(save(&path("circle"), "new").unwrap_err().contains("circle"));
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_pipes_are_written_to_and_remain() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("/dev/null", path("null")).unwrap();
        save(&path("null"), "gone").unwrap();
        assert!(path("null").is_symlink());
        let kind = fs::metadata("/dev/null").unwrap().file_type();
        assert!(kind.is_char_device());

        let pipe = path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let reader = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read(pipe).unwrap())
        };
        save(&pipe, "through").unwrap();
        assert_eq!(reader.join().unwrap(), b"through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    }
}
