//! The file in which the state of a run is kept.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use impasto::transfer::{Checkpoint, CheckpointError};

use super::args::CheckpointArgs;

/// Where, how often and with what note checkpoints are written.
pub struct CheckpointFile {
    pub path: PathBuf,
    every: Duration,
    last: Instant,
    note: String,
    is_written: bool,
}

impl CheckpointFile {
    /// The file that the arguments name, if they do. The note says how the program was called.
    pub fn new(args: &CheckpointArgs, note: String) -> Option<Self> {
        Some(Self {
            path: args.checkpoint.clone()?,
            every: Duration::from_secs(args.checkpoint_every),
            last: Instant::now(),
            note,
            is_written: false,
        })
    }

    /// Whether it is time for the next checkpoint.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every
    }

    /// Writes the file.
    pub fn write(&mut self, mut checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        checkpoint.note = self.note.clone();
        let written = checkpoint.save(&self.path);
        self.last = Instant::now();
        self.is_written |= written.is_ok();
        written
    }

    /// Whether the file is there and this run's.
    pub fn is_written(&self) -> bool {
        self.is_written
    }
}
