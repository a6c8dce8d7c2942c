//! Running jobs: the loop with its progress, reports, checkpoints and interruption.

use std::cell::OnceCell;
use std::process::ExitCode;
use std::sync::Arc;

use impasto::communicator::Communicator;
use impasto::kernel::AutodiffStyleBackend;
#[cfg(feature = "studio")]
use impasto::transfer::Plan;
use impasto::transfer::{Checkpoint, End, StyleCache};
use impasto::{Status, Vgg19, Vgg19Weights};

use super::args::{CheckpointArgs, DeviceArgs};
use super::checkpoint_file::CheckpointFile;
use super::console::say;
use super::describe;
use super::device::{BackendTask, Device, run_on, run_on_all};
use super::dry_run;
use super::encoder::{Encoder, build};
use super::failure::{Failure, describe_error};
use super::forecast::Calibration;
use super::interrupt::Interrupt;
use super::invocation::Invocation;
use super::job::Job;
use super::limits::{check_format, check_metadata};
use super::progress::ProgressDisplay;
use super::ranks;
use super::reports::Reports;
use super::result::{self, Ending, say_resume};
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
    let interrupt = Interrupt::watch()?;
    let mut device = device.clone();
    let ranks = ranks::join(&mut device, &interrupt)?;
    #[cfg(feature = "studio")]
    if !ranks.is_empty() && job.reports.live.port.is_some() {
        return Err(Failure::usage(
            "--live shows pictures that one device paints, and several were named",
        ));
    }
    let quiet = job.reports.quiet;
    let leader = SingleJob {
        weights: encoder.load(&device, quiet)?,
        job,
        args: &device,
        device: device.device(),
        file: CheckpointFile::new(checkpoints, note),
        resumed,
        interrupt,
        ranks: ranks.first().cloned(),
    };
    let followers = device.devices.iter().zip(&ranks).skip(1);
    let followers: Vec<_> = followers
        .map(|(device, rank)| leader.for_rank(rank, device))
        .collect();
    drop(ranks);
    let ending = match followers.is_empty() {
        true => run_on(&device, quiet, leader)?,
        false => {
            let tasks = std::iter::once(leader).chain(followers);
            run_on_all(&device, quiet, tasks.collect())?
        }
    };
    Ok(ending.exit_code())
}

/// A job and everything that its backend must be given.
struct SingleJob<'a> {
    job: Job,
    args: &'a DeviceArgs,
    /// The one of them that it is done on.
    device: Device,
    weights: Vgg19Weights,
    file: Option<CheckpointFile>,
    resumed: Option<Checkpoint>,
    interrupt: Interrupt,
    /// One of those that paint the job together.
    ranks: Option<Arc<dyn Communicator>>,
}

impl SingleJob<'_> {
    /// The same for another rank of this process.
    fn for_rank(&self, rank: &Arc<dyn Communicator>, device: Device) -> Self {
        Self {
            job: self.job.clone(),
            args: self.args,
            device,
            weights: self.weights.clone(),
            file: None,
            resumed: self.resumed.clone(),
            interrupt: self.interrupt.clone(),
            ranks: Some(Arc::clone(rank)),
        }
    }
}

impl BackendTask for SingleJob<'_> {
    type Output = Ending;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Ending, Failure> {
        let encoder = build::<B>(self.weights, self.args, &device);
        let session = Session::new(&encoder, self.device, Unfinished::Written, self.interrupt);
        match self.ranks {
            Some(ranks) if ranks.rank() > 0 => session.follow(&self.job, self.resumed, ranks),
            ranks => session.run(&self.job, self.file, self.resumed, ranks),
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
    /// For dry runs; all jobs have the same recipe.
    calibration: OnceCell<Calibration>,
    /// The page that shows the jobs.
    #[cfg(feature = "studio")]
    live: OnceCell<Live>,
}

impl<'a, B: AutodiffStyleBackend> Session<'a, B> {
    /// A session on a device, which Ctrl-C ends.
    pub fn new(
        encoder: &'a Vgg19<B>,
        device: Device,
        unfinished: Unfinished,
        interrupt: Interrupt,
    ) -> Self {
        Self {
            encoder,
            device,
            cache: StyleCache::default(),
            interrupt,
            unfinished,
            calibration: OnceCell::new(),
            #[cfg(feature = "studio")]
            live: OnceCell::new(),
        }
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_requested()
    }

    /// Checks a job against the encoder and the limits, then runs it, or prints what would be done.
    /// The state is kept in `file`; `resumed` is the one to continue from. With `ranks` it leads the others.
    pub fn run(
        &self,
        job: &Job,
        mut file: Option<CheckpointFile>,
        resumed: Option<Checkpoint>,
        ranks: Option<Arc<dyn Communicator>>,
    ) -> Result<Ending, Failure> {
        let evaluations = resumed.as_ref().map(Checkpoint::evaluations);
        // Kept until everything is written: a launcher ends all processes soon after the first has ended.
        let together = ranks.clone();
        let mut run = job.prepare(self.encoder, self.device, &self.cache, resumed, ranks)?;
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
            if together.is_some() && run.plan().scales.iter().all(|scale| scale.tiles == 1) {
                say(
                    "Each rank computes everything: no scale is cut into tiles that they could share.",
                );
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
            let ended = !matches!(status, Ok(Status::Running(_)));
            if let Some(file) = &mut file
                && (ended || file.is_due())
                && let Some(checkpoint) = run.checkpoint()
                && let Err(error) = file.write(checkpoint)
            {
                display.warn(&describe_error(&error));
            }
            if status.is_err()
                && let Some(file) = file.as_ref().filter(|file| file.is_written())
            {
                say_resume(&file.path);
            }
            status.map_err(Failure::other)?;
            if ended {
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
        drop(together);
        let checkpoint = file.as_ref().map(|file| file.path.as_path());
        result::conclude(
            &outcome,
            &job.output,
            written,
            checkpoint,
            job.reports.quiet,
        )
    }

    /// Paints a job as one of `ranks` that leaves everything else to their first.
    fn follow(
        &self,
        job: &Job,
        resumed: Option<Checkpoint>,
        ranks: Arc<dyn Communicator>,
    ) -> Result<Ending, Failure> {
        let mut run = job.prepare(self.encoder, self.device, &self.cache, resumed, Some(ranks))?;
        if job.reports.dry_run {
            return Ok(Ending::Done);
        }
        loop {
            let status = run.step_with(|_| self.interrupt.control_flow());
            match status.map_err(Failure::other)? {
                Status::Running(_) => {}
                // The first says how it ended.
                Status::Stopped | Status::Ended(_) => return Ok(Ending::Done),
            }
        }
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
