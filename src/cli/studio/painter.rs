//! The loop that paints one job after another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use impasto::kernel::AutodiffStyleBackend;
use impasto::transfer::{Checkpoint, End, StyleCache};
use impasto::{Picture, Run, Status as RunStatus, Vgg19};

use super::command_line::CommonOptions;
use super::ids::JobId;
use super::job::{Leave, Status, Steered};
use super::jobs::Jobs;
use super::settings::Settings;
use super::store::Store;
use super::watched::Watched;
use crate::cli::args::EncoderArg;
use crate::cli::console::say;
use crate::cli::encoder::{Encoder, build};
use crate::cli::failure::{Failure, describe_error};
use crate::cli::interrupt::Interrupt;
use crate::cli::job::JobTemplate;
use crate::cli::patterns::expand;
use crate::cli::{recipe, result};

/// Least time between two checkpoints.
const CHECKPOINTS: Duration = Duration::from_secs(30);

/// How many times the time that it takes to write one passes between two.
const SHARE: u32 = 50;

/// What paints.
pub struct Painter<B: AutodiffStyleBackend> {
    common: CommonOptions,
    store: Arc<Store>,
    jobs: Arc<Jobs>,
    interrupt: Interrupt,
    device: B::Device,
    /// The network of the last job.
    network: Option<(EncoderArg, Vgg19<B>)>,
    cache: StyleCache<B::InnerBackend>,
}

/// Why a run is left.
enum Ended {
    /// All its steps are taken, or it was told to finish.
    Finished,
    Paused,
    Removed,
    /// The studio ends.
    Interrupted,
}

/// Where a job stands when it is left, and what there is to say.
type Left = (Status, Option<String>);

impl<B: AutodiffStyleBackend> Painter<B> {
    pub fn new(
        common: CommonOptions,
        store: Arc<Store>,
        jobs: Arc<Jobs>,
        interrupt: Interrupt,
        device: B::Device,
    ) -> Self {
        Self {
            common,
            store,
            jobs,
            interrupt,
            device,
            network: None,
            cache: StyleCache::default(),
        }
    }

    /// Paints whatever is queued until the studio ends.
    pub fn run(mut self) -> Result<(), Failure> {
        let jobs = Arc::clone(&self.jobs);
        while let Some(id) = jobs.next(|| self.interrupt.is_requested()) {
            // A fault in one job must not end the others.
            let painted = catch_unwind(AssertUnwindSafe(|| self.paint(id)));
            let painted = painted.unwrap_or_else(|_| {
                (self.network, self.cache) = (None, StyleCache::default());
                Err(Failure::other("a fault in the program; please report it"))
            });
            let kept = match painted {
                Ok(Some((status, message))) => jobs.leave(id, status, message),
                Ok(None) => jobs.remove(id),
                Err(error) => jobs.leave(id, Status::Failed, Some(words(&error))),
            };
            if let Err(error) = kept {
                say(&format!("impasto: job {id} cannot be kept: {error}"));
            }
        }
        Ok(())
    }

    /// Says something about a job on the page.
    fn tell(&self, id: JobId, message: String) {
        // What cannot be kept is told all the same.
        let _ = self.jobs.update(id, |facts| facts.message = Some(message));
    }

    /// Paints a job, from its checkpoint if there is one. `None` if it shall be deleted.
    fn paint(&mut self, id: JobId) -> Result<Option<Left>, Failure> {
        let facts = self.jobs.read(id, |job| job.facts.clone());
        let Some(facts) = facts else {
            return Ok(None);
        };
        let settings = facts.settings.as_ref();
        let settings = settings.ok_or_else(|| Failure::other("the job has no settings"))?;
        let output = self.store.result(id);
        let arguments = self.common.arguments(settings, &self.store, &output);
        let arguments = arguments.map_err(Failure::usage)?;
        let styles = expand(&arguments.styles)?;
        let template = JobTemplate::new(
            &arguments.style,
            &arguments.device,
            arguments.memory,
            &styles,
        )?;
        let job = template.open(&arguments.content, &arguments.output, &arguments.reports)?;
        let encoder = self.encoder(settings.encoder)?;
        let checkpoint = self.store.checkpoint(id);
        let resumed = match Checkpoint::load(&checkpoint) {
            Ok(resumed) => Some(resumed),
            Err(_) if !checkpoint.exists() => None,
            Err(error) => {
                self.tell(id, format!("It begins anew: {error}"));
                None
            }
        };
        self.jobs
            .rewind(id, resumed.as_ref().map_or(0, Checkpoint::evaluations));
        let device = arguments.device.device();
        let mut run = job.prepare(&encoder, device, &self.cache, resumed, None)?;
        let mut watched = Watched::new(Arc::clone(&self.jobs), id, Some(run.plan()));
        if let Some(last) = facts.steering.last() {
            // Changes nothing where the checkpoint has it already.
            if let Err(error) = self.steer(id, &mut run, &last.settings) {
                let message = Some(words(&error));
                let _ = self.jobs.update(id, |facts| {
                    facts.steering.pop();
                    facts.message = message;
                });
            }
        }
        let ended = match facts.finish {
            true => Ended::Finished,
            false => self.steps(id, &mut run, &mut watched, &checkpoint)?,
        };
        let status = match ended {
            Ended::Removed => return Ok(None),
            Ended::Finished => None,
            Ended::Paused => Some(Status::Paused),
            // It goes on next time.
            Ended::Interrupted => Some(Status::Queued),
        };
        if let Some(status) = status {
            let picture = run.picture().map_err(Failure::other)?;
            watched.show(&picture);
            save(&run, &checkpoint)?;
            return Ok(Some((status, self.save_thumbnail(id, &picture))));
        }
        let mut outcome = run.finish().map_err(Failure::other)?;
        let metadata = outcome.provenance.to_metadata();
        outcome.picture = outcome.picture.with_metadata(metadata);
        watched.show(&outcome.picture);
        result::write(&outcome.picture, &job.output, job.save).map_err(Failure::other)?;
        let _ = std::fs::remove_file(checkpoint);
        let unsaved = self.save_thumbnail(id, &outcome.picture);
        let (status, message) = left_with(&outcome.end);
        Ok(Some((status, message.or(unsaved))))
    }

    /// Keeps the small picture of a job; what went wrong with that costs no job.
    fn save_thumbnail(&self, id: JobId, picture: &Picture) -> Option<String> {
        self.store.save_thumbnail(id, picture).err()
    }

    /// Steps a run until it ends or is told to.
    fn steps(
        &self,
        id: JobId,
        run: &mut Run<B>,
        watched: &mut Watched,
        checkpoint: &Path,
    ) -> Result<Ended, Failure> {
        let mut kept = (Instant::now(), Duration::ZERO);
        loop {
            let wishes = self.jobs.take_wishes(id);
            if let Some(settings) = wishes.steer {
                match self.steer(id, run, &settings) {
                    Err(error) => self.tell(id, words(&error)),
                    Ok(()) => {
                        let evaluation = run.evaluations();
                        let steered = Steered {
                            evaluation,
                            settings,
                        };
                        let _ = self.jobs.update(id, |facts| {
                            facts.message = None;
                            facts.steering.push(steered);
                        });
                    }
                }
                watched.interrupted();
            }
            match wishes.leave {
                Some(Leave::Pause) => return Ok(Ended::Paused),
                Some(Leave::Finish) => return Ok(Ended::Finished),
                Some(Leave::Remove) => return Ok(Ended::Removed),
                None => {}
            }
            let status = run.step_with(|step| {
                watched.record(step);
                self.interrupt.control_flow()
            });
            match status.map_err(Failure::other)? {
                RunStatus::Running(_) => {}
                RunStatus::Stopped => return Ok(Ended::Interrupted),
                RunStatus::Ended(_) => return Ok(Ended::Finished),
            }
            if kept.0.elapsed() >= CHECKPOINTS.max(SHARE * kept.1) {
                let began = Instant::now();
                let saved = save(run, checkpoint);
                let saved = saved.and_then(|()| self.jobs.keep(id).map_err(Failure::other));
                // A full disk must not cost the run.
                if let Err(error) = saved {
                    self.tell(id, words(&error));
                }
                kept = (Instant::now(), began.elapsed());
            }
        }
    }

    /// Changes the weights of a run, the blend of its styles and all else that can be changed; an error
    /// changes nothing.
    fn steer(&self, id: JobId, run: &mut Run<B>, settings: &Settings) -> Result<(), Failure> {
        let output = self.store.result(id);
        let arguments = self.common.arguments(settings, &self.store, &output);
        let arguments = arguments.map_err(Failure::usage)?;
        let (recipe, _) = recipe::from_style_args(&arguments.style, &arguments.device)?;
        let before = run.recipe().clone();
        run.set_recipe(recipe).map_err(Failure::usage)?;
        let weights: Vec<f64> = settings.styles.iter().map(|style| style.weight).collect();
        run.set_style_weights(&weights).map_err(|error| {
            let _ = run.set_recipe(before);
            Failure::usage(error)
        })
    }

    /// The network of a job; that of the last one if it is the same.
    fn encoder(&mut self, name: EncoderArg) -> Result<Vgg19<B>, Failure> {
        if let Some((known, network)) = &self.network
            && *known == name
        {
            return Ok(network.clone());
        }
        // Before the next is loaded.
        self.network = None;
        self.cache = StyleCache::default();
        let device = self.common.device(name);
        let weights = Encoder::choose(&device)?.load(&device, true)?;
        let network = build::<B>(weights, &device, &self.device);
        self.network = Some((name, network.clone()));
        Ok(network)
    }
}

/// How a job is left whose run has ended.
fn left_with(end: &End) -> Left {
    match end {
        End::Finished => (Status::Done, None),
        End::Diverged { .. } => {
            let message = "The loss was no longer a number; this is the last good picture. Try smaller \
                           weights.";
            (Status::Stopped, Some(message.to_string()))
        }
        _ => (Status::Stopped, None),
    }
}

fn save<B: AutodiffStyleBackend>(run: &Run<B>, path: &Path) -> Result<(), Failure> {
    match run.checkpoint() {
        Some(checkpoint) => checkpoint.save(path).map_err(Failure::other),
        None => Ok(()),
    }
}

/// An error as the page says it.
fn words(failure: &Failure) -> String {
    let text = describe_error(failure.cause());
    text.trim_start_matches("impasto: ").to_string()
}
