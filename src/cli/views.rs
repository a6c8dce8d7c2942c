//! `impasto figure` and `impasto features`.

use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::{SaveOptions, check_output};
use impasto::view::{self, FigureOptions};
use impasto::{Error, Picture, Recipe, Vgg19, Vgg19Weights};

use super::args::{Engine, Features, Figure, Scaling};
use super::device::{Job, run_on};
use super::encoder::{build, encoder_weights};
use super::paint::{INTERRUPTED, watch_for_interruption};
use super::progress::human;
use super::{Failure, say};

/// Draws a sheet on the chosen device and writes it.
fn draw<S: Sheet>(
    sheet: S,
    output: &Path,
    engine: &Engine,
    quiet: bool,
) -> Result<ExitCode, Failure> {
    let job = Drawing {
        sheet,
        weights: encoder_weights(engine, quiet)?,
        engine,
    };
    let picture = run_on(engine, job)?;
    picture.save(output).map_err(Failure::other)?;
    if !quiet {
        let (width, height) = (picture.width(), picture.height());
        say(&format!("{}: {width}×{height}", output.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// A picture that an encoder of any backend can draw.
trait Sheet {
    fn draw<B: AutodiffStyleBackend>(self, encoder: &Vgg19<B>) -> Result<Picture, Failure>;
}

struct Drawing<'a, S> {
    sheet: S,
    weights: Vgg19Weights,
    engine: &'a Engine,
}

impl<S: Sheet> Job for Drawing<'_, S> {
    type Output = Result<Picture, Failure>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output {
        let encoder = build::<B>(self.weights, self.engine, &device);
        self.sheet.draw(&encoder)
    }
}

/// Encoders and recipes that cannot do what was asked are a matter of the arguments.
fn failure(error: Error) -> Failure {
    Failure::usage(error)
}

/// `impasto figure`.
pub fn figure(arguments: &Figure) -> Result<ExitCode, Failure> {
    check_output(&arguments.output, SaveOptions::default()).map_err(Failure::usage)?;
    let interrupted = watch_for_interruption().map_err(Failure::other)?;
    let sheet = FigureSheet {
        content: Picture::open(&arguments.content).map_err(Failure::usage)?,
        style: Picture::open(&arguments.style).map_err(Failure::usage)?,
        options: FigureOptions {
            size: arguments.size,
            iterations: arguments.iterations,
            seed: arguments.seed,
        },
        quiet: arguments.quiet,
        interrupted: &interrupted,
    };
    let done = draw(sheet, &arguments.output, &arguments.engine, arguments.quiet)?;
    Ok(match interrupted.load(Ordering::Relaxed) {
        true => ExitCode::from(INTERRUPTED),
        false => done,
    })
}

struct FigureSheet<'a> {
    interrupted: &'a AtomicBool,
    content: Picture,
    style: Picture,
    options: FigureOptions,
    quiet: bool,
}

impl Sheet for FigureSheet<'_> {
    fn draw<B: AutodiffStyleBackend>(self, encoder: &Vgg19<B>) -> Result<Picture, Failure> {
        let began = Instant::now();
        let mut current = None;
        let picture = view::figure(
            encoder,
            &self.content,
            &self.style,
            self.options,
            |index, _| {
                if !self.quiet && current.replace(index) != Some(index) {
                    let spent = human(began.elapsed().as_secs_f64());
                    say(&format!("picture {} of 10, {spent}", index + 1));
                }
                match self.interrupted.load(Ordering::Relaxed) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        );
        picture.map_err(failure)
    }
}

/// `impasto features`.
pub fn features(arguments: &Features) -> Result<ExitCode, Failure> {
    check_output(&arguments.output, SaveOptions::default()).map_err(Failure::usage)?;
    let picture = Picture::open(&arguments.image).map_err(Failure::usage)?;
    let recipe = Recipe::default().with_size(arguments.size);
    recipe.check().map_err(Failure::usage)?;
    let (width, height) = recipe.dimensions(&picture, arguments.size);
    let sheet = FeatureSheet {
        picture: picture.resize(width, height),
        arguments,
    };
    draw(sheet, &arguments.output, &arguments.engine, arguments.quiet)
}

struct FeatureSheet<'a> {
    picture: Picture,
    arguments: &'a Features,
}

impl Sheet for FeatureSheet<'_> {
    fn draw<B: AutodiffStyleBackend>(self, encoder: &Vgg19<B>) -> Result<Picture, Failure> {
        use burn::module::AutodiffModule;
        let encoder = encoder.valid();
        let (arguments, cell) = (self.arguments, self.arguments.cell.into());
        let scaling = match arguments.scaling {
            Scaling::Each => view::Scaling::Each,
            Scaling::Shared => view::Scaling::Shared,
        };
        let channels = |otherwise: usize| arguments.channels.map_or(otherwise, usize::from);
        let sheet = match arguments.all {
            true => {
                let count = channels(6);
                view::feature_sheet_of_all_layers(&encoder, &self.picture, count, scaling, cell)
            }
            false => {
                let count = channels(36);
                let layer = arguments.layer;
                view::feature_sheet(&encoder, &self.picture, layer, count, scaling, cell)
            }
        };
        sheet.map_err(failure)
    }
}
