//! `impasto figure` and `impasto features`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use burn::module::AutodiffModule;
use impasto::kernel::AutodiffStyleBackend;
use impasto::picture::{Limits, SaveOptions, check_output};
use impasto::view::{self, FigureOptions};
use impasto::{Picture, Recipe, Vgg19, Vgg19Weights};

use super::args::{DeviceArgs, FeaturesArgs, FigureArgs};
use super::budget::Budget;
use super::console::say;
use super::describe::duration;
use super::device::{BackendTask, run_on};
use super::encoder::{Encoder, build};
use super::failure::Failure;
use super::files::Files;
use super::inputs::open;
use super::interrupt::Interrupt;
use super::result;
#[cfg(feature = "studio")]
use super::studio::{Live, LiveJob};

/// Draws a sheet on the chosen device and writes it.
fn draw<S: Sheet>(
    sheet: S,
    encoder: &Encoder,
    output: &Path,
    args: &DeviceArgs,
    quiet: bool,
) -> Result<ExitCode, Failure> {
    let task = DrawSheet {
        sheet,
        weights: encoder.load(args, quiet)?,
        args,
    };
    let picture = run_on(args, quiet, task)?;
    result::write(&picture, output, SaveOptions::default()).map_err(Failure::other)?;
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

struct DrawSheet<'a, S> {
    sheet: S,
    weights: Vgg19Weights,
    args: &'a DeviceArgs,
}

impl<S: Sheet> BackendTask for DrawSheet<'_, S> {
    type Output = Picture;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Picture, Failure> {
        let encoder = build::<B>(self.weights, self.args, &device);
        self.sheet.draw(&encoder)
    }
}

/// Checks that a sheet can be written, and over none of the files that are read.
fn check_files<const N: usize>(
    pictures: [&PathBuf; N],
    device: &DeviceArgs,
    encoder: &Encoder,
    output: &Path,
) -> Result<(), Failure> {
    Files::new()
        .read("a picture", pictures)
        .read_weights(device, encoder)
        .write("the sheet (--output)", [output])
        .check()?;
    check_output(output, SaveOptions::default()).map_err(Failure::usage)
}

/// `impasto figure`.
pub fn figure(args: &FigureArgs) -> Result<ExitCode, Failure> {
    let encoder = Encoder::choose(&args.device)?;
    check_files(
        [&args.content, &args.style],
        &args.device,
        &encoder,
        &args.output,
    )?;
    let interrupt = Interrupt::watch()?;
    let largest = args.memory.largest_picture();
    let budget = Budget::new(args.memory, args.device.device());
    #[cfg(feature = "studio")]
    let live = args.live.port.map(Live::start).transpose()?;
    let sheet = FigureSheet {
        #[cfg(feature = "studio")]
        live: live.as_ref(),
        content: open(&args.content, args.size, largest)?,
        style: open(&args.style, args.size, largest)?,
        options: FigureOptions {
            size: args.size,
            iterations: args.iterations,
            seed: args.seed,
            memory_limit: budget.map(|budget| budget.bytes),
            tile_size: args.memory.tile,
        },
        quiet: args.quiet,
        interrupt: &interrupt,
    };
    let done = draw(sheet, &encoder, &args.output, &args.device, args.quiet)?;
    Ok(match interrupt.is_requested() {
        true => Interrupt::exit_code(),
        false => done,
    })
}

struct FigureSheet<'a> {
    interrupt: &'a Interrupt,
    #[cfg(feature = "studio")]
    live: Option<&'a Live>,
    content: Picture,
    style: Picture,
    options: FigureOptions,
    quiet: bool,
}

impl Sheet for FigureSheet<'_> {
    fn draw<B: AutodiffStyleBackend>(self, encoder: &Vgg19<B>) -> Result<Picture, Failure> {
        let began = Instant::now();
        let mut current = None;
        #[cfg(feature = "studio")]
        let mut shown: Option<LiveJob> = None;
        let picture = view::figure(
            encoder,
            &self.content,
            &self.style,
            self.options,
            |index, _step| {
                let is_next = current.replace(index) != Some(index);
                if !self.quiet && is_next {
                    let spent = duration(began.elapsed().as_secs_f64());
                    say(&format!("picture {} of 10, {spent}", index + 1));
                }
                #[cfg(feature = "studio")]
                if let Some(live) = self.live {
                    if is_next {
                        shown.take().into_iter().for_each(LiveJob::done);
                        shown = Some(live.job(format!("picture {} of 10", index + 1), None));
                    }
                    shown.iter_mut().for_each(|job| job.record(_step));
                }
                self.interrupt.control_flow()
            },
        );
        #[cfg(feature = "studio")]
        shown
            .filter(|_| picture.is_ok() && !self.interrupt.is_requested())
            .into_iter()
            .for_each(LiveJob::done);
        // Encoders and recipes that cannot do what was asked are a matter of the arguments.
        picture.map_err(Failure::usage)
    }
}

/// `impasto features`.
pub fn features(args: &FeaturesArgs) -> Result<ExitCode, Failure> {
    let encoder = Encoder::choose(&args.device)?;
    check_files([&args.image], &args.device, &encoder, &args.output)?;
    let picture = open(&args.image, args.size, Limits::REDUCED)?;
    let recipe = Recipe::default().with_size(args.size);
    recipe.check().map_err(Failure::usage)?;
    let (width, height) = recipe.dimensions(&picture, args.size);
    let sheet = FeatureSheet {
        picture: picture.resize(width, height),
        args,
    };
    draw(sheet, &encoder, &args.output, &args.device, args.quiet)
}

struct FeatureSheet<'a> {
    picture: Picture,
    args: &'a FeaturesArgs,
}

impl Sheet for FeatureSheet<'_> {
    fn draw<B: AutodiffStyleBackend>(self, encoder: &Vgg19<B>) -> Result<Picture, Failure> {
        let encoder = encoder.valid();
        let (args, cell, scaling) = (self.args, self.args.cell.into(), self.args.scaling.into());
        let channels = |otherwise: usize| args.channels.map_or(otherwise, usize::from);
        let sheet = match args.all {
            true => {
                let count = channels(6);
                view::feature_sheet_of_all_layers(&encoder, &self.picture, count, scaling, cell)
            }
            false => {
                let count = channels(36);
                let layer = args.layer;
                view::feature_sheet(&encoder, &self.picture, layer, count, scaling, cell)
            }
        };
        sheet.map_err(Failure::usage)
    }
}
