//! `impasto stylize`.

use std::process::ExitCode;

use impasto::picture::check_output;

use super::args::StylizeArgs;
use super::encoder::Encoder;
use super::failure::Failure;
use super::files::Files;
use super::job::{JobTemplate, save_options};
use super::patterns::expand;
use super::ranks::follow_first;
use super::reports;
use super::resume::Resumed;
use super::session::run_job;

/// Checks everything, then paints; from a checkpoint of the same command if one is given.
pub fn run(args: &StylizeArgs, resumed: Option<Resumed>) -> Result<ExitCode, Failure> {
    let styles = expand(&args.styles)?;
    let encoder = Encoder::choose(&args.device)?;
    let files = Files::new()
        .read("the content", [&args.content])
        .read("a style", &styles)
        .read_style(&args.style)
        .read_weights(&args.device, &encoder)
        .write_result(&args.output, &args.reports)
        .keep_checkpoint(
            &args.checkpoint,
            resumed.as_ref().map(|resumed| &*resumed.path),
        );
    if !follow_first() {
        files.check()?;
        check_output(&args.output, save_options(&args.style)).map_err(Failure::usage)?;
        reports::check(&args.reports)?;
    }
    let template = JobTemplate::new(&args.style, &args.device, args.memory, &styles)?;
    let job = template.open(&args.content, &args.output, &args.reports)?;
    run_job(job, encoder, &args.device, &args.checkpoint, resumed)
}
