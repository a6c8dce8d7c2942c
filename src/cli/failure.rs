//! Errors that end the program.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use impasto::TransferError;
use impasto::communicator::CommunicationError;

use super::console::complain;

/// Exit status after an interruption, as shells give it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// An error with the exit status that it leads to.
#[derive(Debug)]
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

    /// A device that does not compute what it should.
    pub fn wrong_results(error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self { status: 3, error }
    }

    /// Ctrl-C.
    pub fn interrupted(error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self {
            status: INTERRUPTED,
            error,
        }
    }

    /// Anything else.
    pub fn other(error: impl Into<Box<dyn Error>>) -> Self {
        let error = error.into();
        Self { status: 1, error }
    }

    /// Whether it is that another rank is gone, which has a cause elsewhere.
    pub fn is_lost_rank(&self) -> bool {
        let error = self.error.downcast_ref::<TransferError>();
        error.and_then(TransferError::communication) == Some(&CommunicationError::Lost)
    }

    /// The error.
    pub fn cause(&self) -> &dyn Error {
        self.error.as_ref()
    }

    /// Prints the error and its causes.
    pub fn report(self) -> ExitCode {
        complain(&describe_error(self.error.as_ref()));
        ExitCode::from(self.status)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// An error and its causes on one line.
pub fn describe_error(error: &dyn Error) -> String {
    format!("impasto: {}", describe_causes(error))
}

/// The same without the program's name.
pub fn describe_causes(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message.push_str(&format!(": {error}"));
        cause = error.source();
    }
    message
}
