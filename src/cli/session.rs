//! Running jobs: the loop with its progress, reports, checkpoints and interruption, and what is said
//! at its end.

use std::cell::RefCell;
use std::process::ExitCode;

use impasto::kernel::AutodiffStyleBackend;
use impasto::loss::LossValues;
use impasto::transfer::{Checkpoint, End, StyleCache};
use impasto::{Error, StyleTransfer, Vgg19, Vgg19Weights};

use super::args::{CheckpointArgs, DeviceArgs};
use super::checkpoint_file::CheckpointFile;
use super::console::{print, say};
use super::describe::{self, duration};
use super::device::{BackendTask, Device, run_on};
use super::encoder::{Encoder, build};
use super::failure::{Failure, describe_error};
use super::interrupt::Interrupt;
use super::invocation::Invocation;
use super::job::Job;
use super::limits::{check_format, check_memory};
use super::progress::ProgressDisplay;
use super::reports::{self, Reports};

/// Runs a single job, which can be interrupted and continued; `resumed` is the state to continue
/// from.
pub fn run_job(
    job: Job,
    device: &DeviceArgs,
    checkpoints: &CheckpointArgs,
    resumed: Option<Checkpoint>,
) -> Result<ExitCode, Failure> {
    reports::check(&job.reports)?;
    let encoder = Encoder::choose(device)?;
    // What began the run, now or before the interruption.
    let note = match (&resumed, &checkpoints.checkpoint) {
        (Some(checkpoint), _) => checkpoint.note.clone(),
        (None, Some(_)) => Invocation::current(&encoder)?.to_note()?,
        (None, None) => String::new(),
    };
    let task = SingleJob {
        weights: encoder.load(device, job.reports.quiet)?,
        job,
        device,
        file: CheckpointFile::new(checkpoints, note),
        resumed,
    };
    let ending = run_on(device.device, device.threads, task)?;
    Ok(ending.exit_code())
}

/// A job and everything that its backend must be given.
struct SingleJob<'a> {
    job: Job,
    device: &'a DeviceArgs,
    weights: Vgg19Weights,
    file: Option<CheckpointFile>,
    resumed: Option<Checkpoint>,
}

impl BackendTask for SingleJob<'_> {
    type Output = Result<Ending, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        let encoder = build::<B>(self.weights, self.device, &device);
        let session = Session::new(&encoder, self.device.device, Unfinished::Written)?;
        session.run(self.job, self.file, self.resumed)
    }
}

/// How a job ended, if not with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    Interrupted,
}

impl Ending {
    /// The exit status that it leads to.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Interrupted => Interrupt::exit_code(),
        }
    }
}

/// What becomes of a picture whose run was stopped or diverged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It is written as the result.
    Written,
    /// It is not, so that nobody takes it for finished.
    Dropped,
}

/// What all jobs of a command share.
pub struct Session<'a, B: AutodiffStyleBackend> {
    encoder: &'a Vgg19<B>,
    device: Device,
    cache: StyleCache<B::InnerBackend>,
    interrupt: Interrupt,
    unfinished: Unfinished,
}

impl<'a, B: AutodiffStyleBackend> Session<'a, B> {
    /// Can be called once in the life of the program, since it watches for Ctrl-C.
    pub fn new(
        encoder: &'a Vgg19<B>,
        device: Device,
        unfinished: Unfinished,
    ) -> Result<Self, Failure> {
        Ok(Self {
            encoder,
            device,
            cache: StyleCache::default(),
            interrupt: Interrupt::watch()?,
            unfinished,
        })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_requested()
    }

    /// Checks a job against the encoder and the limits, then runs it.
    pub fn run(
        &self,
        job: Job,
        file: Option<CheckpointFile>,
        resumed: Option<Checkpoint>,
    ) -> Result<Ending, Failure> {
        let Job {
            output,
            save,
            reports: report_args,
            ..
        } = job;
        let mut transfer = StyleTransfer::new(self.encoder)
            .content(job.content)
            .recipe(job.recipe.clone())
            .seed(job.seed)
            .share(&self.cache);
        for style in job.styles {
            transfer = transfer.add_style(style);
        }
        let start = job.start.as_ref().map(|start| start.path.clone());
        if let Some(start) = job.start {
            transfer = transfer.start(start.picture);
        }
        let evaluations = resumed.as_ref().map(Checkpoint::evaluations);
        if let Some(checkpoint) = resumed {
            transfer = transfer.resume(checkpoint);
        }
        let plan = transfer.plan().map_err(Failure::usage)?;
        check_memory(job.memory, &plan)?;
        check_format(&output, &plan)?;
        if report_args.dry_run {
            let start = start.as_deref();
            let text = describe::plan(&job.recipe, start, &plan, self.device, &output);
            print(&text);
            return Ok(Ending::Done);
        }
        if let Some(file) = &file {
            file.check()?;
        }
        // The last of the checks, since it begins an old log anew.
        let mut reports = Reports::open(&report_args, &output, save, evaluations)?;
        let display = RefCell::new(ProgressDisplay::new(plan, report_args.quiet));
        let transfer = match &file {
            None => transfer,
            Some(file) => transfer.on_checkpoint(file.every, |checkpoint| {
                if let Err(error) = file.write(checkpoint) {
                    display.borrow().warn(&describe_error(&error));
                }
            }),
        };
        let outcome = transfer
            .on_step(|step| {
                let mut display = display.borrow_mut();
                display.show(step);
                reports.record(step, |warning| display.warn(warning));
                self.interrupt.control_flow()
            })
            .run()
            .map_err(|error| match error {
                // Told before anything was computed or written.
                Error::Checkpoint(_) => Failure::usage(error),
                _ => Failure::other(error),
            })?;
        let display = display.into_inner();
        display.finish();

        let name = output.display();
        if self.unfinished == Unfinished::Dropped {
            match outcome.end {
                End::Stopped => {
                    say(&format!("Interrupted; {name} is not written."));
                    return Ok(Ending::Interrupted);
                }
                End::Diverged { losses, evaluation } => {
                    let picture = format!("{name} is not written");
                    return Err(diverged(&losses, evaluation, &picture));
                }
                _ => {}
            }
        }
        if let Err(error) = outcome.picture.save_with(&output, save) {
            // The disk may be full or the folder gone, but the work must not be lost.
            let refuge = std::env::temp_dir().join(output.file_name().unwrap_or_default());
            if outcome.picture.save_with(&refuge, save).is_ok() {
                display.warn(&format!(
                    "The picture is written to {} instead.",
                    refuge.display()
                ));
            }
            return Err(Failure::other(error));
        }
        reports.finish(&outcome)?;
        let summary = format!(
            "{name}: {}×{}, {} evaluations in {}",
            outcome.picture.width(),
            outcome.picture.height(),
            outcome.evaluations,
            duration(outcome.elapsed.as_secs_f64())
        );
        match outcome.end {
            End::Stopped => {
                say(&format!(
                    "Interrupted; the best picture so far is written.\n{summary}"
                ));
                if let Some(file) = &file {
                    say(&format!(
                        "Continue with: impasto resume {}",
                        file.path.display()
                    ));
                }
                Ok(Ending::Interrupted)
            }
            End::Diverged { losses, evaluation } => {
                let picture = format!("the last good picture is written to {name}");
                Err(diverged(&losses, evaluation, &picture))
            }
            _ => {
                display.note(&summary);
                Ok(Ending::Done)
            }
        }
    }
}

/// The error of a run that diverged, with what became of its picture.
fn diverged(losses: &LossValues, evaluation: usize, picture: &str) -> Failure {
    Failure::other(format!(
        "the loss was no longer a number at evaluation {evaluation} ({losses}); {picture}. Try \
         smaller weights or --optimizer adam"
    ))
}
