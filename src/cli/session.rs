//! Running jobs: the loop with its progress, reports, checkpoints and interruption.

use std::cell::OnceCell;
use std::process::ExitCode;

use impasto::kernel::AutodiffStyleBackend;
#[cfg(feature = "studio")]
use impasto::transfer::Plan;
use impasto::transfer::{Checkpoint, End, StyleCache};
use impasto::{Status, Vgg19, Vgg19Weights};

use super::args::{CheckpointArgs, DeviceArgs};
use super::checkpoint_file::CheckpointFile;
use super::console::say;
use super::describe;
use super::device::{BackendTask, Device, run_on};
use super::dry_run;
use super::encoder::{Encoder, build};
use super::failure::{Failure, describe_error};
use super::forecast::Calibration;
use super::interrupt::Interrupt;
use super::invocation::Invocation;
use super::job::Job;
use super::limits::{check_format, check_metadata};
use super::progress::ProgressDisplay;
use super::reports::Reports;
use super::result::{self, Ending};
use super::resume::Resumed;
#[cfg(feature = "studio")]
use super::studio::{Live, LiveJob};

/// Runs a single job, which can be interrupted and continued; `resumed` is the state to continue
/// from.
pub fn run_job(
    #[cfg_attr(not(feature = "studio"), allow(unused_mut))] mut job: Job,
    encoder: Encoder,
    device: &DeviceArgs,
    checkpoints: &CheckpointArgs,
    resumed: Option<Resumed>,
) -> Result<ExitCode, Failure> {
    #[cfg(feature = "studio")]
    if let Some(port) = resumed.as_ref().and_then(|resumed| resumed.live) {
        job.reports.live.port = Some(port);
    }
    let resumed = resumed.map(|resumed| resumed.checkpoint);
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
    let ending = run_on(device, task.job.reports.quiet, task)?;
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
    type Output = Ending;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Ending, Failure> {
        let encoder = build::<B>(self.weights, self.device, &device);
        let session = Session::new(&encoder, self.device.device, Unfinished::Written)?;
        session.run(&self.job, self.file, self.resumed)
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
    /// For dry runs; all jobs have the same recipe.
    calibration: OnceCell<Calibration>,
    /// The page that shows the jobs.
    #[cfg(feature = "studio")]
    live: OnceCell<Live>,
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
            calibration: OnceCell::new(),
            #[cfg(feature = "studio")]
            live: OnceCell::new(),
        })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_requested()
    }

    /// Checks a job against the encoder and the limits, then runs it, or prints what would be done.
    /// The state is kept in `file`; `resumed` is the one to continue from.
    pub fn run(
        &self,
        job: &Job,
        mut file: Option<CheckpointFile>,
        resumed: Option<Checkpoint>,
    ) -> Result<Ending, Failure> {
        let evaluations = resumed.as_ref().map(Checkpoint::evaluations);
        let mut run = job.prepare(self.encoder, self.device, &self.cache, resumed)?;
        check_format(&job.output, run.plan())?;
        if job.reports.dry_run {
            let device = self.encoder.device();
            let transfer = |recipe| job.transfer(self.encoder, recipe);
            let calibration = match self.calibration.get() {
                Some(calibration) => calibration,
                None => {
                    let measured = Calibration::new(run.recipe(), &device, transfer)?;
                    self.calibration.get_or_init(|| measured)
                }
            };
            let seconds = calibration.seconds(run.recipe(), run.plan());
            dry_run::report(job, &run, self.device, seconds)?;
            return Ok(Ending::Done);
        }
        if self.is_interrupted() {
            let name = job.output.display();
            say(&format!(
                "Interrupted before the first step; {name} is not written."
            ));
            return Ok(Ending::Interrupted);
        }
        let provenance = (!job.reports.no_metadata).then(|| run.provenance());
        if let Some(provenance) = &provenance {
            check_metadata(&job.output, &provenance.to_metadata())?;
        }
        if !job.reports.quiet {
            for line in describe::computations(run.plan()) {
                say(&line);
            }
        }
        #[cfg(feature = "studio")]
        let mut live = self.live(job, run.plan())?;
        // The last of the checks, since it begins an old log anew.
        let mut reports =
            Reports::open(&job.reports, &job.output, job.save, provenance, evaluations)?;
        let mut display = ProgressDisplay::new(run.plan().clone(), job.reports.quiet);

        loop {
            let status = run.step_with(|step| {
                display.show(step);
                #[cfg(feature = "studio")]
                live.iter_mut().for_each(|live| live.record(step));
                reports.record(step, |warning| display.warn(warning));
                self.interrupt.control_flow()
            });
            let status = status.map_err(Failure::other)?;
            if let Some(file) = &mut file
                && (status == Status::Stopped || file.is_due())
                && let Some(checkpoint) = run.checkpoint()
                && let Err(error) = file.write(checkpoint)
            {
                display.warn(&describe_error(&error));
            }
            if !matches!(status, Status::Running(_)) {
                break;
            }
        }
        let mut outcome = run.finish().map_err(Failure::other)?;
        #[cfg(feature = "studio")]
        live.into_iter().for_each(|live| live.finish(&outcome));
        if !job.reports.no_metadata {
            let metadata = outcome.provenance.to_metadata();
            outcome.picture = outcome.picture.with_metadata(metadata);
        }
        display.finish();
        let written = self.unfinished == Unfinished::Written || outcome.end == End::Finished;
        if written {
            // What can be written is, even if something else cannot.
            let result = result::write(&outcome.picture, &job.output, job.save);
            let reports = reports.finish(&outcome);
            result.map_err(Failure::other).and(reports)?;
        }
        let checkpoint = file.as_ref().map(|file| file.path.as_path());
        result::conclude(
            &outcome,
            &job.output,
            written,
            checkpoint,
            job.reports.quiet,
        )
    }

    /// Begins to show a job on a page, if it shall be.
    #[cfg(feature = "studio")]
    fn live(&self, job: &Job, plan: &Plan) -> Result<Option<LiveJob>, Failure> {
        let Some(port) = job.reports.live.port else {
            return Ok(None);
        };
        let live = match self.live.get() {
            Some(live) => live,
            None => {
                let started = Live::start(port)?;
                self.live.get_or_init(|| started)
            }
        };
        let title = job.output.display().to_string();
        Ok(Some(live.job(title, Some(plan))))
    }
}
