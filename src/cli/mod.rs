//! Everything that only the program needs.

pub mod args;
pub mod batch;
pub mod device;
mod encoder;
pub mod lists;
mod log;
mod paint;
mod progress;
pub mod reconstruct;
pub mod resume;
pub mod stylize;
pub mod views;
pub mod weights;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

/// Prints a line to standard error. A reader that has gone away must not end a run.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints to standard output; a reader that has gone away, as in `| head`, is no error.
pub fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// An error with the exit status that it leads to.
pub struct Failure {
    status: u8,
    error: Box<dyn Error>,
}

impl Failure {
    /// Unusable arguments or input.
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self { status: 2, error }
    }

    /// Anything else.
    pub fn other(error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self { status: 1, error }
    }

    /// Prints the error and its causes.
    pub fn report(self) -> ExitCode {
        say(&describe_error(self.error.as_ref()));
        ExitCode::from(self.status)
    }
}

/// An error and its causes on one line.
pub fn describe_error(error: &dyn Error) -> String {
    let mut message = format!("impasto: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    message
}
