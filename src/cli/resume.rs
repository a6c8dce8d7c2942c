//! From a checkpoint back to the command that wrote it.

use std::path::{Path, PathBuf};

use impasto::transfer::Checkpoint;

use super::args::{Arguments, Command};
use super::failure::Failure;
use super::invocation::Invocation;

/// The state of a run that is to go on.
pub struct Resumed {
    pub checkpoint: Checkpoint,
    /// The file that it was read from.
    pub path: PathBuf,
    /// The port at which it is shown, if it shall be now.
    #[cfg(feature = "studio")]
    pub live: Option<u16>,
}

/// Reads a checkpoint, returns to the folder where its run began, and parses the command of then.
pub fn restore(path: &Path) -> Result<(Command, Resumed), Failure> {
    let checkpoint = Checkpoint::load(path).map_err(Failure::usage)?;
    // The name that was given holds in the folder of now.
    let file = std::path::absolute(path).map_err(Failure::other)?;
    let unknown = || unknown_command(path);
    let invocation = Invocation::from_note(&checkpoint.note).ok_or_else(unknown)?;
    let arguments = Arguments::from_words(invocation.arguments()).map_err(|_| unknown())?;
    let folder = invocation.folder();
    std::env::set_current_dir(&folder)
        .map_err(|error| Failure::usage(format!("{}: {error}", folder.display())))?;
    let resumed = Resumed {
        checkpoint,
        path: file,
        #[cfg(feature = "studio")]
        live: None,
    };
    Ok((arguments.command, resumed))
}

/// The error for a checkpoint that does not name a command which could be continued.
pub fn unknown_command(path: &Path) -> Failure {
    Failure::usage(format!(
        "{}: the checkpoint does not say how `impasto` was called; another program wrote it",
        path.display()
    ))
}
