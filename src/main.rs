//! The program `impasto`: arguments → library calls → progress and messages.
//!
//! Exit status: 0 done; 2 unusable arguments or input, nothing is written; 130 interrupted, the best
//! picture so far is written; 1 anything else.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use cli::args::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Stylize(arguments) => cli::stylize::run(&arguments, None),
        Command::Batch(arguments) => cli::batch::run(&arguments),
        Command::Reconstruct(what) => cli::reconstruct::run(&what, None),
        Command::Figure(arguments) => cli::views::figure(&arguments),
        Command::Features(arguments) => cli::views::features(&arguments),
        Command::Resume { checkpoint } => cli::resume::run(&checkpoint),
        Command::Weights(what) => cli::weights::run(&what),
        Command::Layers { size, json } => {
            cli::lists::layers(size.into(), json);
            Ok(ExitCode::SUCCESS)
        }
        Command::Recipes => {
            cli::lists::recipes();
            Ok(ExitCode::SUCCESS)
        }
        Command::Devices => {
            cli::lists::devices();
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            cli::lists::completions(shell);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|failure| failure.report())
}
