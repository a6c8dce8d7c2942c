//! Checkpoints of the commands that paint, and `impasto resume`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use impasto::transfer::Checkpoint;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::args::{Arguments, Command, Engine};
use super::{reconstruct, stylize};

/// The command that began a run, kept in its checkpoints.
#[derive(Clone, Serialize, Deserialize)]
pub struct Origin {
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Origin {
    /// The command that is running now. The weights are named in it even if they came from the
    /// environment.
    pub fn here(engine: &Engine) -> Result<Self, Failure> {
        let text = |text: OsString| {
            text.into_string().map_err(|text| {
                Failure::usage(format!(
                    "a checkpoint needs names in Unicode, which {} is not",
                    text.display()
                ))
            })
        };
        let mut command: Vec<String> = std::env::args_os().map(text).collect::<Result<_, _>>()?;
        if let Some(weights) = &engine.weights
            && !command
                .iter()
                .any(|argument| argument.starts_with("--weights"))
        {
            let path = text(weights.clone().into_os_string())?;
            // Before what may stand behind a `--`.
            let end = command.iter().position(|argument| argument == "--");
            let end = end.unwrap_or(command.len());
            command.insert(end, format!("--weights={path}"));
        }
        Ok(Self {
            folder: std::env::current_dir().map_err(Failure::other)?,
            arguments: command,
        })
    }

    /// The form in which a checkpoint keeps it.
    pub fn to_note(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Goes on with the run that a checkpoint belongs to.
pub fn run(path: &Path) -> Result<ExitCode, Failure> {
    let checkpoint = Checkpoint::load(path).map_err(Failure::usage)?;
    let unknown = || {
        Failure::usage(format!(
            "{}: the checkpoint does not say how `impasto` was called; it was written by \
             another program",
            path.display()
        ))
    };
    let origin: Origin = serde_json::from_str(&checkpoint.note).map_err(|_| unknown())?;
    let arguments = Arguments::try_parse_from(&origin.arguments).map_err(|_| unknown())?;
    std::env::set_current_dir(&origin.folder)
        .map_err(|error| Failure::usage(format!("{}: {error}", origin.folder.display())))?;
    match arguments.command {
        Command::Stylize(arguments) => stylize::run(&arguments, Some(checkpoint)),
        Command::Reconstruct(what) => reconstruct::run(&what, Some(checkpoint)),
        _ => Err(unknown()),
    }
}
