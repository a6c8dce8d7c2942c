//! How long a run will take, from a short calibration on this machine: a few steps of the same recipe at
//! small sizes.

use std::collections::VecDeque;
use std::time::Instant;

use burn::tensor::{Distribution, Tensor, backend::Backend};
use impasto::kernel::{AutodiffStyleBackend, CurvaturePair, StyleBackend};
use impasto::optim::OptimizerConfig;
use impasto::transfer::{Neighbors, Plan, PlannedScale};
use impasto::{Recipe, Status, StyleTransfer};

use super::failure::Failure;

/// The sizes that are measured, if the result is no smaller: work on pairs of places grows with the square
/// of the pixels, the rest with the pixels.
const SIZES: [usize; 2] = [128, 256];

/// What tiles cost beside their halos: two passes forward instead of one, and segments.
const TILES: f64 = 1.75;

/// What segments cost: responses that are computed twice, and the halos of tiles; of the usual size, and of
/// smaller ones.
const SEGMENTS: [f64; 2] = [1.3, 1.45];

/// Rows and columns of the images on which the optimiser is measured: larger than caches.
const IMAGE: [usize; 2] = [512, 1024];

/// Times in seconds at one size.
#[derive(Clone, Copy)]
struct Probe {
    pixels: f64,
    /// What is done once: features and targets.
    targets: f64,
    /// A step of the optimiser that remembers nothing.
    step: f64,
}

impl Probe {
    /// The lesser times of two probes of a size.
    fn or_faster(self, other: Self) -> Self {
        Self {
            targets: self.targets.min(other.targets),
            step: self.step.min(other.step),
            ..self
        }
    }
}

/// What was measured, for a recipe.
pub struct Calibration {
    small: Probe,
    large: Probe,
    /// What a remembered step of L-BFGS adds to each step, in seconds a pixel.
    history: f64,
    /// The usual size of the tiles of segments.
    segment_values: usize,
}

impl Calibration {
    /// Measures. `transfer` gives a run of the same pictures with another recipe.
    pub fn new<B: AutodiffStyleBackend>(
        recipe: &Recipe,
        device: &B::Device,
        transfer: impl Fn(Recipe) -> StyleTransfer<'static, B>,
    ) -> Result<Self, Failure> {
        let [small, large] = SIZES.map(|size| size.min(recipe.size));
        // The first run packs the weights.
        probe(recipe, small, &transfer)?;
        Ok(Self {
            small: probe(recipe, small, &transfer)?,
            // What is done once is a difference of two times, and grows with the pixels: one hiccup of the
            // machine would be taken for minutes.
            large: probe(recipe, large, &transfer)?.or_faster(probe(recipe, large, &transfer)?),
            history: history_seconds::<B>(recipe, device)?,
            segment_values: B::SEGMENT_VALUES,
        })
    }

    /// About how many seconds a run takes from its first step on.
    pub fn seconds(&self, recipe: &Recipe, plan: &Plan) -> f64 {
        let scales = plan.scales.iter();
        scales.map(|scale| self.scale_seconds(recipe, scale)).sum()
    }

    fn scale_seconds(&self, recipe: &Recipe, scale: &PlannedScale) -> f64 {
        let pixels = (scale.width * scale.height) as f64;
        let steps = scale.iterations;
        let kept = match recipe.optimizer {
            OptimizerConfig::Lbfgs(config) => scale.computation.history.unwrap_or(config.history),
            OptimizerConfig::Adam(_) => 0,
        };
        // Remembered steps, summed over all steps.
        let growing = steps.min(kept);
        let remembered = growing * growing / 2 + steps.saturating_sub(kept) * kept;
        let factor = match scale.tiles {
            1 => match scale.computation.segment_values {
                None => 1.0,
                Some(values) if values >= self.segment_values => SEGMENTS[0],
                Some(_) => SEGMENTS[1],
            },
            _ => TILES * scale.window_pixels as f64 / pixels,
        };
        let per_pixel = self.large.step / self.large.pixels;
        // The last image is evaluated forward.
        let evaluations = steps as f64 + 0.4;
        targets(pixels, self.small, self.large)
            + per_pixel * pixels * factor * evaluations
            + self.history * pixels * remembered as f64
    }
}

/// Runs a few steps at a size.
fn probe<B: AutodiffStyleBackend>(
    recipe: &Recipe,
    size: usize,
    transfer: &impl Fn(Recipe) -> StyleTransfer<'static, B>,
) -> Result<Probe, Failure> {
    let recipe = Recipe {
        iterations: 3,
        coarsest: usize::MAX,
        neighbors: Neighbors {
            final_iterations: 0,
            ..recipe.neighbors.clone()
        },
        ..recipe.clone()
    };
    let mut run = transfer(recipe.with_size(size))
        .prepare()
        .map_err(Failure::usage)?;
    let pixels = run.plan().scales.iter().map(|s| s.width * s.height);
    let pixels = pixels.max().unwrap_or(1) as f64;
    let mut times = Vec::new();
    loop {
        let began = Instant::now();
        let status = run.step().map_err(Failure::other)?;
        if !matches!(status, Status::Running(_)) {
            break;
        }
        times.push(began.elapsed().as_secs_f64());
    }
    let step = times.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
    let first = times.first().copied().unwrap_or_default();
    let step = if step.is_finite() { step } else { first };
    Ok(Probe {
        pixels,
        targets: (first - step).max(0.0),
        step,
    })
}

/// See [`Calibration`].
fn history_seconds<B: AutodiffStyleBackend>(
    recipe: &Recipe,
    device: &B::Device,
) -> Result<f64, Failure> {
    if let OptimizerConfig::Adam(_) = recipe.optimizer {
        return Ok(0.0);
    }
    let shape = [1, 3, IMAGE[0], IMAGE[1]];
    let image =
        || Tensor::<B::InnerBackend, 4>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
    let gradient = image();
    let mut times = [1, 3].map(|count| {
        let pairs: VecDeque<_> = (0..count)
            .map(|_| CurvaturePair {
                s: image(),
                y: image(),
                rho: 1e-6,
            })
            .collect();
        let time = || {
            let began = Instant::now();
            let direction =
                <B::InnerBackend as StyleBackend>::two_loop(gradient.clone(), &pairs, 1.0);
            <B::InnerBackend as Backend>::sync(device).map(|()| {
                drop(direction);
                began.elapsed().as_secs_f64()
            })
        };
        // The first one touches fresh memory.
        time().and_then(|_| time())
    });
    let [few, more] = times
        .each_mut()
        .map(|time| std::mem::replace(time, Ok(0.0)));
    let (few, more) = (few.map_err(Failure::other)?, more.map_err(Failure::other)?);
    Ok(((more - few) / 2.0 / (IMAGE[0] * IMAGE[1]) as f64).max(0.0))
}

/// What is done once at a scale: `a·pixels + b·pixels²` through both measurements.
fn targets(pixels: f64, small: Probe, large: Probe) -> f64 {
    let linear = large.targets / large.pixels * pixels;
    if large.pixels < 1.5 * small.pixels {
        return linear;
    }
    let rates = [small, large].map(|probe| probe.targets / probe.pixels);
    let b = ((rates[1] - rates[0]) / (large.pixels - small.pixels)).max(0.0);
    let a = (rates[1] - b * large.pixels).max(0.0);
    a * pixels + b * pixels * pixels
}
