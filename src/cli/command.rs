//! From a command to the module that carries it out.

use std::process::ExitCode;

use super::args::Command;
use super::failure::Failure;
use super::{batch, bench, lists, reconstruct, resume, show, stylize, views, weights};

/// Carries out a command.
///
/// Exit status: 0 done; 2 unusable arguments or input, nothing is written; 3 a device that `bench` found to
/// compute something else than the CPU; 130 interrupted, the best picture so far is written if there is
/// one; 1 anything else.
pub fn run(command: Command) -> ExitCode {
    dispatch(command).unwrap_or_else(Failure::report)
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Stylize(arguments) => stylize::run(&arguments, None),
        Command::Batch(arguments) => batch::run(&arguments),
        Command::Reconstruct(command) => reconstruct::run(&command, None),
        Command::Figure(arguments) => views::figure(&arguments),
        Command::Features(arguments) => views::features(&arguments),
        #[cfg(feature = "studio")]
        Command::Studio(arguments) => super::studio::run(&arguments),
        Command::Resume {
            checkpoint: path,
            #[cfg(feature = "studio")]
            live,
        } => {
            #[cfg_attr(not(feature = "studio"), allow(unused_mut))]
            let (command, mut resumed) = resume::restore(&path)?;
            #[cfg(feature = "studio")]
            {
                resumed.live = live.port;
            }
            match command {
                Command::Stylize(arguments) => stylize::run(&arguments, Some(resumed)),
                Command::Reconstruct(command) => reconstruct::run(&command, Some(resumed)),
                _ => Err(resume::unknown_command(&path)),
            }
        }
        Command::Weights(command) => weights::run(&command),
        Command::Layers { size, json } => lists::layers(size.into(), json),
        Command::Recipes(arguments) => lists::recipes(&arguments),
        Command::Show { file, json } => show::run(&file, json),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Devices { json } => lists::devices(json),
        Command::Completions { shell } => lists::completions(shell),
    }
}
