//! Everything that only the program needs.

pub mod args;
pub mod device;
pub mod lists;
mod log;
mod progress;
pub mod resume;
pub mod stylize;

use std::error::Error;
use std::process::ExitCode;

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
        let mut message = format!("impasto: {}", self.error);
        let mut cause = self.error.source();
        while let Some(error) = cause {
            message.push_str(&format!(": {error}"));
            cause = error.source();
        }
        eprintln!("{message}");
        ExitCode::from(self.status)
    }
}
