//! Ctrl-C.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::console::say;
use super::failure::{Failure, INTERRUPTED};

/// `timeout`, `npm` and other programs around this one pass a signal on to it and again to its process
/// group: what comes this soon after the first is the same press of the keys.
const ONE_PRESS: Duration = Duration::from_millis(300);

/// Whether the user has asked to stop.
#[derive(Clone)]
pub struct Interrupt(Arc<OnceLock<Instant>>);

impl Interrupt {
    /// Watches for Ctrl-C, which the first time asks the run to stop and the second time ends the
    /// program at once. Can be called once in the life of the program.
    pub fn watch() -> Result<Self, Failure> {
        let requested = Arc::new(OnceLock::new());
        let flag = Arc::clone(&requested);
        let mut first: Option<Instant> = None;
        ctrlc::set_handler(move || {
            match first {
                Some(first) if first.elapsed() < ONE_PRESS => return,
                Some(_) => std::process::exit(INTERRUPTED.into()),
                None => first = Some(Instant::now()),
            }
            let _ = flag.set(Instant::now());
            say("\nStopping as soon as this step is done; press Ctrl-C again to quit at once.");
        })
        .map_err(Failure::other)?;
        Ok(Self(requested))
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_requested(&self) -> bool {
        self.0.get().is_some()
    }

    /// Whether it was pressed that long ago.
    #[cfg(feature = "mpi")]
    pub fn is_requested_for(&self, time: Duration) -> bool {
        self.0.get().is_some_and(|since| since.elapsed() >= time)
    }

    /// Ends a command that has nothing to keep, if Ctrl-C was pressed.
    pub fn check(&self) -> Result<(), Failure> {
        match self.is_requested() {
            true => Err(Failure::interrupted("interrupted; nothing is written")),
            false => Ok(()),
        }
    }

    /// What a run is told after each evaluation.
    pub fn control_flow(&self) -> ControlFlow<()> {
        match self.is_requested() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// How the program ends after an interruption.
    pub fn exit_code() -> ExitCode {
        ExitCode::from(INTERRUPTED)
    }
}
