//! `impasto stylize`.

use std::process::ExitCode;

use impasto::picture::check_output;
use impasto::transfer::Checkpoint;

use super::args::StylizeArgs;
use super::failure::Failure;
use super::job::{JobTemplate, save_options};
use super::session::run_job;

/// Checks everything, then paints; from a checkpoint of the same command if one is given.
pub fn run(args: &StylizeArgs, checkpoint: Option<Checkpoint>) -> Result<ExitCode, Failure> {
    check_output(&args.output, save_options(&args.style)).map_err(Failure::usage)?;
    let template = JobTemplate::new(&args.style, &args.device, args.memory, &args.styles)?;
    let job = template.open(&args.content, &args.output, &args.reports)?;
    run_job(job, &args.device, &args.checkpoint, checkpoint)
}
