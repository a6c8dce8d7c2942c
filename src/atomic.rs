//! Files that are written whole or not at all.

use std::error::Error;
use std::io::{self, BufWriter, ErrorKind};
use std::path::Path;

use tempfile::NamedTempFile;

/// Writes a file: into a temporary one beside it, which then takes its place. Whatever fails, the
/// file is what it was.
pub(crate) fn write<E>(
    path: &Path,
    contents: impl FnOnce(&mut BufWriter<NamedTempFile>) -> Result<(), E>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut writer = BufWriter::new(temporary(path)?);
    contents(&mut writer).map_err(Into::into)?;
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Checks that [`write`] could begin: the folder exists and accepts files.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    temporary(path).map(drop)
}

/// A temporary file beside `path`, gone when dropped, with an error that says what to do.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".impasto-");
    #[cfg(unix)]
    {
        // Temporary files are private by default; this one becomes an ordinary file.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder).map_err(|source| {
        let folder = folder.display();
        let hint = match source.kind() {
            ErrorKind::NotFound => format!("the folder {folder} does not exist; create it first"),
            _ => format!("the folder {folder} cannot be written to ({source})"),
        };
        io::Error::new(source.kind(), hint)
    })
}
