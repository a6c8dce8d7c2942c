//! `impasto stylize`.

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use impasto::kernel::AutodiffBackend;
use impasto::picture::{Format, check_folder, check_output};
use impasto::transfer::{Checkpoint, End, Plan};
use impasto::{Error, Picture, Recipe, StyleTransfer, Vgg19, Vgg19Weights};

use super::args::Encoder;
pub use super::args::Stylize;
use super::device::Job;
use super::lists::describe;
use super::log::Log;
use super::progress::{Progress, human};
use super::resume::Origin;
use super::{Failure, describe_error, print, say};

/// Exit status after an interruption, as shells give it for SIGINT.
const INTERRUPTED: u8 = 130;

/// Checks everything, then paints.
pub fn run(arguments: &Stylize) -> Result<ExitCode, Failure> {
    begin(arguments, None)
}

/// Goes on with a run that an earlier command with these arguments has begun.
pub fn resume(arguments: &Stylize, checkpoint: Checkpoint) -> Result<ExitCode, Failure> {
    begin(arguments, Some(checkpoint))
}

fn begin(arguments: &Stylize, checkpoint: Option<Checkpoint>) -> Result<ExitCode, Failure> {
    let (recipe, start) = arguments.choices.resolve().map_err(Failure::usage)?;
    check_output(&arguments.output, arguments.choices.save_options()).map_err(Failure::usage)?;
    let open = |path: &Path| Picture::open(path).map_err(Failure::usage);
    let content = open(&arguments.content)?;
    let styles = arguments
        .styles
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let blend = match &arguments.choices.style_blend {
        None => vec![1.0; styles.len()],
        Some(blend) if blend.len() == styles.len() => blend.clone(),
        Some(blend) => {
            return Err(Failure::usage(format!(
                "--style-blend has {} weights for {} styles; give one for each",
                blend.len(),
                styles.len()
            )));
        }
    };
    let start = start.map(open).transpose()?;
    // Kept in the checkpoints: what began the run, now or before the interruption.
    let note = match (&checkpoint, &arguments.reports.checkpoint) {
        (Some(checkpoint), _) => checkpoint.note.clone(),
        (None, Some(_)) => Origin::here(arguments)?.to_note(),
        (None, None) => String::new(),
    };
    let weights = encoder_weights(arguments)?;
    if let Some(threads) = arguments.engine.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .map_err(Failure::other)?;
    }
    let device = arguments.engine.device;
    let job = Painting {
        arguments,
        recipe,
        content,
        styles: styles.into_iter().zip(blend).collect(),
        start,
        weights,
        checkpoint,
        note,
    };
    let missing = || Err(Failure::usage(format!("this build has no {device}")));
    device.run(job).unwrap_or_else(missing)
}

/// VGG19 where it is wanted and at hand, else the built-in encoder.
fn encoder_weights(arguments: &Stylize) -> Result<Vgg19Weights, Failure> {
    let engine = &arguments.engine;
    let load = |path: &PathBuf| Vgg19Weights::load(path).map_err(Failure::usage);
    match (engine.encoder, &engine.weights) {
        (Encoder::Auto | Encoder::Vgg19, Some(path)) => load(path),
        (Encoder::Vgg19, None) => Err(Failure::usage(
            "--encoder vgg19 needs its weights: name a file with --weights or IMPASTO_WEIGHTS",
        )),
        #[cfg(feature = "builtin")]
        (Encoder::Auto, None) => {
            if !arguments.reports.quiet {
                say(
                    "Using the small built-in encoder. For the full quality of VGG19, name its \
                     weights (ONNX, safetensors or .pth) with --weights or IMPASTO_WEIGHTS.",
                );
            }
            Ok(Vgg19Weights::builtin())
        }
        #[cfg(feature = "builtin")]
        (Encoder::Builtin, _) => Ok(Vgg19Weights::builtin()),
        #[cfg(not(feature = "builtin"))]
        _ => Err(Failure::usage(
            "this build has no built-in encoder: name VGG19's weights with --weights or \
             IMPASTO_WEIGHTS",
        )),
    }
}

/// Everything that is needed to paint, on whatever backend.
struct Painting<'a> {
    arguments: &'a Stylize,
    recipe: Recipe,
    content: Picture,
    styles: Vec<(Picture, f64)>,
    start: Option<Picture>,
    weights: Vgg19Weights,
    checkpoint: Option<Checkpoint>,
    note: String,
}

impl Job for Painting<'_> {
    type Output = Result<ExitCode, Failure>;

    fn run<B: AutodiffBackend>(self, device: B::Device) -> Self::Output {
        let encoder = Vgg19::<B>::from_weights(self.weights, &device);
        let mut transfer = StyleTransfer::new(&encoder)
            .content(self.content)
            .recipe(self.recipe.clone())
            .seed(self.arguments.choices.seed);
        for (style, weight) in self.styles {
            transfer = transfer.style(style, weight);
        }
        if let Some(start) = self.start {
            transfer = transfer.start(start);
        }
        let evaluations = self.checkpoint.as_ref().map(Checkpoint::evaluations);
        if let Some(checkpoint) = self.checkpoint {
            transfer = transfer.resume(checkpoint);
        }
        let plan = transfer.plan().map_err(Failure::usage)?;
        check_memory(self.arguments, &plan)?;
        check_format(self.arguments, &plan)?;
        if self.arguments.reports.dry_run {
            print_plan(self.arguments, &self.recipe, &plan);
            return Ok(ExitCode::SUCCESS);
        }
        paint(self.arguments, transfer, plan, evaluations, &self.note)
    }
}

/// Paints; `resumed` is how many evaluations an interrupted run has made already.
fn paint<B: AutodiffBackend>(
    arguments: &Stylize,
    transfer: StyleTransfer<'_, B>,
    plan: Plan,
    resumed: Option<usize>,
    note: &str,
) -> Result<ExitCode, Failure> {
    let reports = &arguments.reports;
    let save_options = arguments.choices.save_options();
    let open_log = |path: &Path| match resumed {
        None => Log::create(path),
        Some(evaluations) => Log::resume(path, evaluations),
    };
    let interrupted = watch_for_interruption().map_err(Failure::other)?;
    let progress = RefCell::new(Progress::new(plan, reports.quiet));

    let messages = &progress;
    let transfer = match &reports.checkpoint {
        None => transfer,
        Some(path) => {
            check_folder(path).map_err(Failure::usage)?;
            let every = Duration::from_secs(reports.checkpoint_every);
            transfer.on_checkpoint(every, move |mut checkpoint| {
                checkpoint.note = note.to_string();
                if let Err(error) = checkpoint.save(path) {
                    messages.borrow().warn(&describe_error(&error));
                }
            })
        }
    };
    // The last of the checks, since it begins an old log anew.
    let log = reports.log.as_deref().map(open_log).transpose();
    let mut log = log.map_err(Failure::usage)?;
    let outcome = transfer
        .on_step(|step| {
            let mut progress = progress.borrow_mut();
            progress.show(step);
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
                let path = numbered(&arguments.output, step.evaluation);
                let saved = step
                    .picture()
                    .and_then(|picture| picture.save_with(&path, save_options));
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
    if let Err(error) = outcome.picture.save_with(&arguments.output, save_options) {
        // The disk may be full or the folder gone, but the work must not be lost.
        let name = arguments.output.file_name().unwrap_or_default();
        let refuge = std::env::temp_dir().join(name);
        if outcome.picture.save_with(&refuge, save_options).is_ok() {
            progress.warn(&format!(
                "The picture is written to {} instead.",
                refuge.display()
            ));
        }
        return Err(Failure::other(error));
    }

    let (width, height) = (outcome.picture.width(), outcome.picture.height());
    let summary = format!(
        "{}: {width}×{height}, {} evaluations in {}",
        arguments.output.display(),
        outcome.evaluations,
        human(outcome.elapsed.as_secs_f64())
    );
    match outcome.end {
        End::Stopped => {
            say(&format!(
                "Interrupted; the best picture so far is written.\n{summary}"
            ));
            if let Some(path) = &reports.checkpoint {
                say(&format!("Go on with: impasto resume {}", path.display()));
            }
            Ok(ExitCode::from(INTERRUPTED))
        }
        End::Diverged { losses, evaluation } => Err(Failure::other(format!(
            "the loss was no longer a number at evaluation {evaluation} ({losses}); the last good \
             picture is written to {}. Try smaller weights or --optimizer adam",
            arguments.output.display()
        ))),
        _ => {
            progress.note(&summary);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Refuses a run that would need more memory than allowed, and says what would fit.
fn check_memory(arguments: &Stylize, plan: &Plan) -> Result<(), Failure> {
    let (Some(limit), Some(last)) = (arguments.engine.memory, plan.scales.last()) else {
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
fn check_format(arguments: &Stylize, plan: &Plan) -> Result<(), Failure> {
    let format = Format::from_path(&arguments.output).map_err(Failure::usage)?;
    let side = plan.scales.iter().map(|s| s.width.max(s.height)).max();
    match side {
        Some(side) if side > format.largest_side() => Err(Failure::usage(format!(
            "{}: the format has room for {} pixels along a side, not for {side}; use .png or .tiff",
            arguments.output.display(),
            format.largest_side()
        ))),
        _ => Ok(()),
    }
}

fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// A flag that the first Ctrl-C raises; the second one ends the program at once.
fn watch_for_interruption() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let flag = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&flag);
    ctrlc::set_handler(move || {
        if raised.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        say("\nStopping after this evaluation; press Ctrl-C again to quit without a picture.");
    })?;
    Ok(flag)
}

/// `out.png` → `out-0050.png`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}-{number:04}.{extension}"))
}

fn print_plan(arguments: &Stylize, recipe: &Recipe, plan: &Plan) {
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
    let layers: Vec<String> = plan.layers.iter().map(|layer| layer.to_string()).collect();
    text.push_str(&format!("layers           {}\n", layers.join(" ")));
    text.push_str(&format!("device           {}\n", arguments.engine.device));
    text.push_str(&format!(
        "output           {}\n",
        arguments.output.display()
    ));
    print(&text);
}
