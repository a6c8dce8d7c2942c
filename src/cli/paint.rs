//! Painting a picture on whatever device, with everything that is told and kept along the way.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::{Format, SaveOptions, check_folder};
use impasto::transfer::{Checkpoint, End, Plan, StyleCache};
use impasto::view::{Curves, Evolution};
use impasto::{Error, Picture, Recipe, Style, StyleTransfer, Vgg19, Vgg19Weights};

use super::args::{Checkpoints, Engine, Reports};
use super::device::{Job, run_on};
use super::encoder::{build, encoder_weights};
use super::lists::describe;
use super::log::Log;
use super::progress::{Progress, human};
use super::resume::Origin;
use super::{Failure, describe_error, print, say};

/// Exit status after an interruption, as shells give it for SIGINT.
pub const INTERRUPTED: u8 = 130;

/// A picture to paint: what goes in, how, and where the result and the reports go.
pub struct Painting {
    pub output: PathBuf,
    pub save: SaveOptions,
    pub reports: Reports,
    pub recipe: Recipe,
    pub content: Picture,
    pub styles: Vec<Style>,
    pub start: Option<Picture>,
    pub seed: u64,
}

/// How a painting can be interrupted and gone on with.
pub struct Interruptible<'a> {
    pub checkpoints: &'a Checkpoints,
    /// The state to go on from.
    pub resumed: Option<Checkpoint>,
}

/// Checks that reports of these names can be written, as far as that can be known beforehand.
pub fn check_reports(reports: &Reports) -> Result<(), Failure> {
    if let Some(path) = &reports.evolution {
        Evolution::check(path).map_err(Failure::usage)?;
    }
    if let Some(path) = &reports.plot {
        Curves::check(path).map_err(Failure::usage)?;
    }
    Ok(())
}

impl Painting {
    /// Checks what is left to check, then paints.
    pub fn run(self, engine: &Engine, state: Interruptible<'_>) -> Result<ExitCode, Failure> {
        check_reports(&self.reports)?;
        // Kept in the checkpoints: what began the run, now or before the interruption.
        let note = match (&state.resumed, &state.checkpoints.checkpoint) {
            (Some(checkpoint), _) => checkpoint.note.clone(),
            (None, Some(_)) => Origin::here(engine)?.to_note(),
            (None, None) => String::new(),
        };
        let weights = encoder_weights(engine, self.reports.quiet)?;
        let job = Single {
            painting: self,
            engine,
            state,
            weights,
            note,
        };
        run_on(engine, job)
    }
}

/// A painting and everything that its backend must be given.
struct Single<'a> {
    painting: Painting,
    engine: &'a Engine,
    state: Interruptible<'a>,
    weights: Vgg19Weights,
    note: String,
}

impl Job for Single<'_> {
    type Output = Result<ExitCode, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        let encoder = build::<B>(self.weights, self.engine, &device);
        let studio = Studio::new(&encoder, self.engine, Unfinished::Written)?;
        let Interruptible {
            checkpoints,
            resumed,
        } = self.state;
        let keep = checkpoints.checkpoint.as_deref().map(|path| Keep {
            path,
            every: Duration::from_secs(checkpoints.checkpoint_every),
            note: &self.note,
        });
        studio.paint(self.painting, keep, resumed)
    }
}

/// What all paintings of a command have in common.
pub struct Studio<'a, B: AutodiffStyleBackend> {
    encoder: &'a Vgg19<B>,
    engine: &'a Engine,
    seen: StyleCache<B::InnerBackend>,
    interrupted: Arc<AtomicBool>,
    unfinished: Unfinished,
}

/// What becomes of a picture whose run was stopped or diverged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// It is written as the result.
    Written,
    /// It is not, so that nobody takes it for finished.
    Dropped,
}

/// Where, how often and with what note checkpoints are written.
pub struct Keep<'a> {
    path: &'a Path,
    every: Duration,
    note: &'a str,
}

impl<'a, B: AutodiffStyleBackend> Studio<'a, B> {
    /// Can be called once in the life of the program, since it watches for Ctrl-C.
    pub fn new(
        encoder: &'a Vgg19<B>,
        engine: &'a Engine,
        unfinished: Unfinished,
    ) -> Result<Self, Failure> {
        Ok(Self {
            unfinished,
            encoder,
            engine,
            seen: StyleCache::default(),
            interrupted: watch_for_interruption().map_err(Failure::other)?,
        })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Checks against the encoder what is to be painted, then paints it.
    pub fn paint(
        &self,
        painting: Painting,
        keep: Option<Keep<'_>>,
        resumed: Option<Checkpoint>,
    ) -> Result<ExitCode, Failure> {
        let Painting {
            output,
            save,
            reports,
            mut recipe,
            ..
        } = painting;
        // An option for the encoder overrides the recipe.
        if self.engine.pooling.is_some() {
            recipe.pooling = None;
        }
        if self.engine.padding.is_some() {
            recipe.padding = None;
        }
        let mut transfer = StyleTransfer::new(self.encoder)
            .content(painting.content)
            .recipe(recipe.clone())
            .seed(painting.seed)
            .share(&self.seen);
        for style in painting.styles {
            transfer = transfer.add_style(style);
        }
        if let Some(start) = painting.start {
            transfer = transfer.start(start);
        }
        let evaluations = resumed.as_ref().map(Checkpoint::evaluations);
        if let Some(checkpoint) = resumed {
            transfer = transfer.resume(checkpoint);
        }
        let plan = transfer.plan().map_err(Failure::usage)?;
        check_memory(&reports, &plan)?;
        check_format(&output, &plan)?;
        if reports.dry_run {
            print_plan(self.engine, &output, &recipe, &plan);
            return Ok(ExitCode::SUCCESS);
        }
        let to = To {
            output: &output,
            save,
            reports: &reports,
            keep,
            interrupted: &self.interrupted,
            unfinished: self.unfinished,
        };
        paint(&to, transfer, plan, evaluations)
    }
}

/// Where the result and the reports go.
struct To<'a> {
    output: &'a Path,
    save: SaveOptions,
    reports: &'a Reports,
    keep: Option<Keep<'a>>,
    interrupted: &'a AtomicBool,
    unfinished: Unfinished,
}

/// Paints; `resumed` is how many evaluations an interrupted run has made already.
fn paint<B: AutodiffStyleBackend>(
    to: &To<'_>,
    transfer: StyleTransfer<'_, B>,
    plan: Plan,
    resumed: Option<usize>,
) -> Result<ExitCode, Failure> {
    let To {
        output,
        save,
        reports,
        ref keep,
        interrupted,
        unfinished,
    } = *to;
    let open_log = |path: &Path| match resumed {
        None => Log::create(path),
        Some(evaluations) => Log::resume(path, evaluations),
    };
    let progress = RefCell::new(Progress::new(plan, reports.quiet));

    let messages = &progress;
    let transfer = match keep {
        None => transfer,
        Some(keep) => {
            check_folder(keep.path).map_err(Failure::usage)?;
            transfer.on_checkpoint(keep.every, move |mut checkpoint| {
                checkpoint.note = keep.note.to_string();
                if let Err(error) = checkpoint.save(keep.path) {
                    messages.borrow().warn(&describe_error(&error));
                }
            })
        }
    };
    // The last of the checks, since it begins an old log anew.
    let log = reports.log.as_deref().map(open_log).transpose();
    let mut log = log.map_err(Failure::usage)?;
    let (mut evolution, mut curves) = (Evolution::new(), Curves::new());
    let outcome = transfer
        .on_step(|step| {
            let mut progress = progress.borrow_mut();
            progress.show(step);
            curves.record(step);
            if reports.evolution.is_some()
                && let Err(error) = evolution.record(step)
            {
                progress.warn(&describe_error(&error));
            }
            // A full disk must not cost the run: the report ends, the painting goes on.
            if let Some(open) = &mut log
                && let Err(error) = open.write(step)
            {
                progress.warn(&format!("impasto: the log ends here: {error}"));
                log = None;
            }
            if let Some(every) = reports.save_every
                && step.evaluation.is_multiple_of(every as usize)
            {
                let path = numbered(output, step.evaluation);
                let saved = step
                    .picture()
                    .and_then(|picture| picture.save_with(&path, save));
                if let Err(error) = saved {
                    progress.warn(&describe_error(&error));
                }
            }
            match interrupted.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
        .run()
        .map_err(|error| match error {
            // Told before anything was computed or written.
            Error::Checkpoint(_) => Failure::usage(error),
            _ => Failure::other(error),
        })?;
    let progress = progress.into_inner();
    progress.finish();
    if unfinished == Unfinished::Dropped {
        match outcome.end {
            End::Stopped => {
                say(&format!(
                    "Interrupted; {} is not written.",
                    output.display()
                ));
                return Ok(ExitCode::from(INTERRUPTED));
            }
            End::Diverged { losses, evaluation } => {
                return Err(Failure::other(format!(
                    "the loss was no longer a number at evaluation {evaluation} ({losses}); {} is \
                     not written. Try smaller weights or --optimizer adam",
                    output.display()
                )));
            }
            _ => {}
        }
    }
    if let Err(error) = outcome.picture.save_with(output, save) {
        // The disk may be full or the folder gone, but the work must not be lost.
        let name = output.file_name().unwrap_or_default();
        let refuge = std::env::temp_dir().join(name);
        if outcome.picture.save_with(&refuge, save).is_ok() {
            progress.warn(&format!(
                "The picture is written to {} instead.",
                refuge.display()
            ));
        }
        return Err(Failure::other(error));
    }
    if let Some(path) = &reports.evolution {
        evolution.finish(outcome.evaluations, &outcome.picture);
        evolution.save(path).map_err(Failure::other)?;
    }
    if let Some(path) = &reports.plot {
        curves.save(path).map_err(Failure::other)?;
    }

    let (width, height) = (outcome.picture.width(), outcome.picture.height());
    let summary = format!(
        "{}: {width}×{height}, {} evaluations in {}",
        output.display(),
        outcome.evaluations,
        human(outcome.elapsed.as_secs_f64())
    );
    match outcome.end {
        End::Stopped => {
            say(&format!(
                "Interrupted; the best picture so far is written.\n{summary}"
            ));
            if let Some(keep) = keep {
                say(&format!(
                    "Go on with: impasto resume {}",
                    keep.path.display()
                ));
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
        End::Diverged { losses, evaluation } => Err(Failure::other(format!(
            "the loss was no longer a number at evaluation {evaluation} ({losses}); the last good \
             picture is written to {}. Try smaller weights or --optimizer adam",
            output.display()
        ))),
        _ => {
            progress.note(&summary);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Refuses a run that would need more memory than allowed, and says what would fit.
fn check_memory(reports: &Reports, plan: &Plan) -> Result<(), Failure> {
    let (Some(limit), Some(last)) = (reports.memory, plan.scales.last()) else {
        return Ok(());
    };
    if last.memory <= limit {
        return Ok(());
    }
    let longest = last.width.max(last.height) as f64;
    // Nearly all of it grows with the pixels; a little less is on the safe side.
    let fits = (longest * (limit as f64 / last.memory as f64).sqrt() * 0.95) as usize;
    Err(Failure::usage(format!(
        "{}×{} pixels need about {}, more than --memory {}; try --size {} or --encoder \
         builtin",
        last.width,
        last.height,
        gigabytes(last.memory),
        gigabytes(limit),
        fits.max(16)
    )))
}

/// Refuses a result that is larger than its file format allows.
fn check_format(output: &Path, plan: &Plan) -> Result<(), Failure> {
    let format = Format::from_path(output).map_err(Failure::usage)?;
    let side = plan.scales.iter().map(|s| s.width.max(s.height)).max();
    match side {
        Some(side) if side > format.largest_side() => Err(Failure::usage(format!(
            "{}: the format has room for {} pixels along a side, not for {side}; use .png or .tiff",
            output.display(),
            format.largest_side()
        ))),
        _ => Ok(()),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// A flag that the first Ctrl-C raises; the second one ends the program at once.
pub fn watch_for_interruption() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        say("\nStopping after this evaluation; press Ctrl-C again to quit at once.");
    })?;
    Ok(flag)
}

/// `out.png` → `out-0050.png`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{number:04}.{extension}"))
}

fn print_plan(engine: &Engine, output: &Path, recipe: &Recipe, plan: &Plan) {
    let mut text = format!("recipe           {}\n", recipe.name);
    for (key, value) in describe(recipe) {
        text.push_str(&format!("{key:16} {value}\n"));
    }
    for (index, scale) in plan.scales.iter().enumerate() {
        text.push_str(&format!(
            "scale {:<10} {}×{} pixels, {} steps, about {} of memory\n",
            index + 1,
            scale.width,
            scale.height,
            scale.iterations,
            gigabytes(scale.memory)
        ));
    }
    for (index, coverage) in plan.coverage.iter().enumerate() {
        if let Some(coverage) = coverage {
            let (number, percent) = (index + 1, 100.0 * coverage);
            text.push_str(&format!(
                "region {number:<9} {percent:.1} % of the picture\n"
            ));
        }
    }
    let layers: Vec<String> = plan.layers.iter().map(|layer| layer.to_string()).collect();
    text.push_str(&format!("layers           {}\n", layers.join(" ")));
    text.push_str(&format!("device           {}\n", engine.device));
    text.push_str(&format!("output           {}\n", output.display()));
    print(&text);
}
