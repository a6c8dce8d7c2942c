//! The log: one JSON object for each evaluation.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::Path;

use burn::tensor::backend::Backend;
use impasto::Step;
use serde::Serialize;

/// A line of the log. The terms are unweighted, the total is weighted; a term without weight is
/// not computed and reads 0.
#[derive(Serialize)]
struct Line {
    scale: usize,
    width: usize,
    height: usize,
    iteration: usize,
    evaluation: usize,
    content: f64,
    style: f64,
    neighbors: f64,
    transport: f64,
    tv: f64,
    total: f64,
    seconds: f64,
}

/// An open log file.
pub struct Log(BufWriter<File>);

impl Log {
    /// Creates the file, replacing an old one.
    pub fn create(path: &Path) -> Result<Self, String> {
        match File::create(path) {
            Ok(file) => Ok(Self(BufWriter::new(file))),
            Err(error) => Err(format!("{}: cannot write the log: {error}", path.display())),
        }
    }

    /// Opens the file of an interrupted run, without the lines after its first `evaluations`, which
    /// will be written again.
    pub fn resume(path: &Path, evaluations: usize) -> Result<Self, String> {
        let failed = |error| format!("{}: cannot continue the log: {error}", path.display());
        // A pipe or a device has kept nothing.
        if !std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
            return Self::create(path);
        }
        let old = std::fs::read_to_string(path).map_err(failed)?;
        let kept: usize = old
            .split_inclusive('\n')
            .take(evaluations)
            .map(str::len)
            .sum();
        let file = OpenOptions::new().append(true).open(path).map_err(failed)?;
        file.set_len(kept as u64).map_err(failed)?;
        Ok(Self(BufWriter::new(file)))
    }

    /// Appends a line, and hands it to the operating system at once so that it can be followed.
    pub fn write<B: Backend>(&mut self, step: &Step<'_, B>) -> std::io::Result<()> {
        let term = |name| step.losses.get(name).map_or(0.0, |part| part.value);
        let line = Line {
            scale: step.scale,
            width: step.width,
            height: step.height,
            iteration: step.iteration,
            evaluation: step.evaluation,
            content: term("content"),
            style: term("style"),
            neighbors: term("neighbors"),
            transport: term("transport"),
            tv: term("tv"),
            total: step.losses.weighted(),
            seconds: step.elapsed.as_secs_f64(),
        };
        serde_json::to_writer(&mut self.0, &line)?;
        writeln!(self.0)?;
        self.0.flush()
    }
}
