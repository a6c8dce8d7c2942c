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
}

impl CheckpointFile {
    /// The file that the arguments name, if they do. The note says how the program was called.
    pub fn new(args: &CheckpointArgs, note: String) -> Option<Self> {
        Some(Self {
            path: args.checkpoint.clone()?,
            every: Duration::from_secs(args.checkpoint_every),
            last: Instant::now(),
            note,
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
        written
    }
}
