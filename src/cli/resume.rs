//! Checkpoints of the commands that paint, and `impasto resume`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use impasto::transfer::Checkpoint;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::args::{Arguments, Command, Encoder, Engine};
use super::encoder::chosen_weights;
use super::{reconstruct, stylize};

/// The command that began a run, kept in its checkpoints.
#[derive(Clone, Serialize, Deserialize)]
pub struct Origin {
    folder: PathBuf,
    arguments: Vec<String>,
}

impl Origin {
    /// The command that is running now. The encoder is named in it even if it came from the
    /// environment or the cache, so that what is there later changes nothing.
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
        let chosen = match (engine.encoder, chosen_weights(engine)) {
            (Encoder::Builtin, _) => None,
            (_, Some(weights)) => {
                let path = std::path::absolute(weights).map_err(Failure::other)?;
                Some(format!("--weights={}", text(path.into_os_string())?))
            }
            (_, None) => Some("--encoder=builtin".to_string()),
        };
        if let Some(option) = chosen {
            // Before what may stand behind a `--`; it overrides what was given before.
            let end = command.iter().position(|argument| argument == "--");
            command.insert(end.unwrap_or(command.len()), option);
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
