//! From a checkpoint back to the command that wrote it.

use std::path::Path;

use clap::Parser;
use impasto::transfer::Checkpoint;

use super::args::{Arguments, Command};
use super::failure::Failure;
use super::invocation::Invocation;

/// Reads a checkpoint, returns to the folder where its run began, and parses the command of then.
pub fn restore(path: &Path) -> Result<(Command, Checkpoint), Failure> {
    let checkpoint = Checkpoint::load(path).map_err(Failure::usage)?;
    let unknown = || unknown_command(path);
    let invocation = Invocation::from_note(&checkpoint.note).ok_or_else(unknown)?;
    let arguments = Arguments::try_parse_from(invocation.arguments()).map_err(|_| unknown())?;
    let folder = invocation.folder();
    std::env::set_current_dir(&folder)
        .map_err(|error| Failure::usage(format!("{}: {error}", folder.display())))?;
    Ok((arguments.command, checkpoint))
}

/// The error for a checkpoint that does not name a command which could be continued.
pub fn unknown_command(path: &Path) -> Failure {
    Failure::usage(format!(
        "{}: the checkpoint does not say how `impasto` was called; another program wrote it",
        path.display()
    ))
}
