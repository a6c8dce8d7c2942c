//! The program `impasto`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::command::run(cli::args::Arguments::parse().command)
}
