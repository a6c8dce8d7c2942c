//! The program `impasto`.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::args::Arguments::from_words(std::env::args_os()) {
        Ok(arguments) => cli::command::run(arguments.command),
        Err(error) => error.exit(),
    }
}
