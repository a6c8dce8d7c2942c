//! The end of a run: its picture is written, and it is said what became of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::loss::LossValues;
use impasto::picture::{PictureError, SaveOptions};
use impasto::transfer::End;
use impasto::{Outcome, Picture};

use super::console::say;
use super::describe::duration;
use super::failure::Failure;
use super::interrupt::Interrupt;

/// How a job ended, if not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Interrupted,
}

impl Ending {
    /// The exit status that it leads to.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Interrupted => Interrupt::exit_code(),
        }
    }
}

/// Writes the result, to the folder for temporary files if it cannot be written where it should: the
/// disk may be full or the folder gone, but the work must not be lost.
pub fn write(picture: &Picture, output: &Path, save: SaveOptions) -> Result<(), PictureError> {
    picture.save_with(output, save).inspect_err(|_| {
        if let Some(refuge) = write_elsewhere(picture, output, save) {
            let refuge = refuge.display();
            say(&format!("The picture is written to {refuge} instead."));
        }
    })
}

/// Writes a picture to a file of a new name in the folder for temporary files.
fn write_elsewhere(picture: &Picture, output: &Path, save: SaveOptions) -> Option<PathBuf> {
    let mut extension = OsString::from(".");
    extension.push(output.extension()?);
    let mut name = tempfile::Builder::new();
    let file = name.prefix("impasto-").suffix(&extension).tempfile().ok()?;
    picture.save_with(file.path(), save).ok()?;
    Some(file.keep().ok()?.1)
}

/// Says how a run ended and whether its result, `output`, is written; `checkpoint` is the file to
/// continue from.
pub fn conclude(
    outcome: &Outcome,
    output: &Path,
    written: bool,
    checkpoint: Option<&Path>,
    quiet: bool,
) -> Result<Ending, Failure> {
    let name = output.display();
    let summary = format!(
        "{name}: {}×{}, {} evaluations in {}",
        outcome.picture.width(),
        outcome.picture.height(),
        outcome.evaluations,
        duration(outcome.elapsed.as_secs_f64())
    );
    match (&outcome.end, written) {
        (End::Stopped, false) => {
            say(&format!("Interrupted; {name} is not written."));
            Ok(Ending::Interrupted)
        }
        (End::Stopped, true) => {
            say(&format!(
                "Interrupted; the best picture so far is written.\n{summary}"
            ));
            checkpoint.map(say_resume);
            Ok(Ending::Interrupted)
        }
        (End::Diverged { losses, evaluation }, written) => {
            let picture = match written {
                true => format!("the last good picture is written to {name}"),
                false => format!("{name} is not written"),
            };
            Err(diverged(losses, *evaluation, &picture))
        }
        _ => {
            if !quiet {
                say(&summary);
            }
            Ok(Ending::Done)
        }
    }
}

/// The error of a run that diverged, with what became of its picture.
fn diverged(losses: &LossValues, evaluation: usize, picture: &str) -> Failure {
    Failure::other(format!(
        "the loss was no longer a number at evaluation {evaluation} ({losses}); {picture}. Try \
         smaller weights or --optimizer adam"
    ))
}

/// Says how to go on from a checkpoint.
pub fn say_resume(checkpoint: &Path) {
    let name = checkpoint.to_string_lossy();
    let name = shlex::try_quote(&name).unwrap_or(name.clone());
    say(&format!("Continue with: impasto resume {name}"));
}
