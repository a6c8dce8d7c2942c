//! One side of `benches/compare.py`: evaluates the loss of style transfer, once for each line that
//! it reads, and answers with a line of JSON.
//!
//! `evaluate WEIGHTS SIZE [flex|ndarray|cuda [TILE|segments[/N]]]`, where SIZE is a side or WIDTHxHEIGHT, in tiles of
//! TILE pixels or in segments where that is given, these in tiles of an Nth of the usual values. The lines are
//! `evaluate` (loss and gradient, in seconds, and on Linux the most bytes that the process has held since the targets
//! were there), `step` (of L-BFGS with 100 pairs, on this loss and total variation) and `layers` (each convolution
//! alone, forward and backward, with the pool where one follows).

use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::time::Instant;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use impasto::kernel::{ConvOps, Epilogue, PackedConv2d, Pooling, Precision};
use impasto::loss::{
    ContentTerm, GramNormalization, Loss, Reduction, Stencil, StyleTerm, TotalVariation,
    VariationNorm,
};
use impasto::optim::{Evaluation, Lbfgs, LbfgsConfig, Optimizer};
use impasto::{Evaluator, Layer, Vgg19, Vgg19Weights};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

const STYLE: [Layer; 5] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
];

/// Weight of the total variation in a step.
const VARIATION: f64 = 1e-3;

/// The same numbers as in `compare.py`: value `i` is the top 24 bits of `i · 2654435761 mod 2³²`.
fn picture<B: ConvOps>([width, height]: [usize; 2], offset: u32) -> Tensor<B, 4> {
    let values: Vec<f32> = (0..3 * (width * height) as u32)
        .map(|i| (i.wrapping_add(offset).wrapping_mul(2_654_435_761) >> 8) as f32 / 16_777_216.0)
        .collect();
    let data = TensorData::new(values, [1, 3, height, width]);
    Tensor::from_data(data, &Default::default())
}

/// Lets the system count the most memory that the process holds anew, where it can.
fn reset_peak() {
    impasto::kernel::release_idle_memory();
    std::fs::write("/proc/self/clear_refs", "5").ok();
}

/// The most bytes that the process has held, where the system tells.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(1024 * kibibytes)
}

fn serve<B: ConvOps>(weights: &str, size: [usize; 2], how: Option<&str>) -> Result<(), Failure> {
    let encoder = Vgg19::<Autodiff<B>>::load(weights, &Default::default())?;
    let layers = [&STYLE[..], &[Layer::RELU4_2]].concat();
    encoder.prepare(&layers);
    let targets = encoder.valid().features(picture(size, 1), &layers)?;
    let grams = STYLE.map(|layer| targets.gram(layer));
    let content = targets.get(Layer::RELU4_2).clone();
    drop(targets);
    let evaluator = |more: Option<Loss<Autodiff<B>>>| -> Result<_, Failure> {
        let mut terms = Vec::new();
        for (layer, gram) in STYLE.into_iter().zip(&grams) {
            let (channels, target) = (encoder.channels(layer)?, Tensor::from_inner(gram.clone()));
            let term = StyleTerm::new(layer, channels, GramNormalization::PerPosition, target);
            terms.push(Loss::term(layer.to_string(), 1.0, term));
        }
        let (layer, target) = (Layer::RELU4_2, Tensor::from_inner(content.clone()));
        let term = ContentTerm::new(layer, encoder.channels(layer)?, target);
        terms.push(Loss::term("content", 1.0, term));
        terms.extend(more);
        let evaluator = Evaluator::new(encoder.clone(), Loss::sum("total", 1.0, terms));
        Ok(match how {
            None => evaluator,
            Some(how) if how.starts_with("segments") => {
                evaluator.with_segments(Some(segment_values::<B>(how)?))
            }
            Some(tile) => evaluator.with_tile_size(Some(tile.parse()?))?,
        })
    };
    let whole = evaluator(None)?;
    let variation = TotalVariation {
        norm: VariationNorm::L1,
        reduction: Reduction::Sum,
        stencil: Stencil::Axes,
        range: 1.0,
    };
    let with_variation = evaluator(Some(Loss::term("variation", VARIATION, variation)))?;
    let mut optimizer = Lbfgs::new(LbfgsConfig {
        history: 100,
        ..LbfgsConfig::default()
    });
    let image = picture::<B>(size, 7);
    let mut painted = image.clone();
    reset_peak();

    for line in std::io::stdin().lock().lines() {
        let answer = match line?.as_str() {
            "evaluate" => {
                let start = Instant::now();
                let found = whole.evaluate(&image)?;
                B::sync(&image.device())?;
                let seconds = start.elapsed().as_secs_f64();
                let loss = found.losses.weighted();
                let squares = found.gradient.powi_scalar(2).sum().into_data();
                let norm = squares.iter::<f64>().sum::<f64>();
                json!({"seconds": seconds, "loss": loss, "gradient": norm.sqrt(), "peak": peak()})
            }
            "step" => {
                let start = Instant::now();
                let mut first = None;
                painted = optimizer.step(painted, |image| -> Result<_, Failure> {
                    let found = with_variation.evaluate(&image)?;
                    let loss = found.losses.weighted();
                    first.get_or_insert(loss);
                    let gradient = found.gradient;
                    Ok(Evaluation { loss, gradient })
                })?;
                B::sync(&image.device())?;
                json!({"seconds": start.elapsed().as_secs_f64(), "loss": first, "peak": peak()})
            }
            "layers" => json!(each_layer::<B>(&Vgg19Weights::load(weights)?, size)),
            other => return Err(format!("what is `{other}`?").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// What `segments` and `segments/2` mean.
fn segment_values<B: ConvOps>(how: &str) -> Result<usize, Failure> {
    let usual = <B as ConvOps>::SEGMENT_VALUES;
    Ok(match how.split_once('/') {
        Some((_, divisor)) => usual / divisor.parse::<NonZeroUsize>()?,
        None => usual,
    })
}

/// Seconds of every convolution up to conv5_1, forward and backward, on random values: with the
/// channels of the weights, and with what stands between them in a slim network.
fn each_layer<B: ConvOps>(weights: &Vgg19Weights, size: [usize; 2]) -> Vec<Value> {
    let device = Default::default();
    let mut rows = Vec::new();
    let shapes: Vec<_> = weights.convolutions().iter().map(|c| c.shape).collect();
    for (index, &[channels_out, channels_in, ..]) in shapes.iter().take(13).enumerate() {
        let layer = Layer::convolution(index);
        let [width, height] = size.map(|side| side / layer.stride());
        let pooled = index + 1 < 16 && Layer::convolution(index + 1).block() != layer.block();
        let epilogue = match pooled {
            true => Epilogue::ReluPool(Pooling::Max),
            false => Epilogue::Relu,
        };
        let uniform = burn::tensor::Distribution::Uniform(-1.0, 1.0);
        let weight = Tensor::random([channels_out, channels_in, 3, 3], uniform, &device);
        let mut weights = PackedConv2d::<B>::new(
            weight,
            Tensor::zeros([channels_out], &device),
            Precision::F32,
        );
        let shown = shapes.get(index + 1).map_or(channels_out, |shape| shape[1]);
        if shown != channels_out {
            weights.projection = Some(Tensor::random([shown, channels_out], uniform, &device));
        }
        let x = Tensor::random([1, channels_in, height, width], uniform, &device);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..9 {
            let start = Instant::now();
            let (y, mask) = <B as ConvOps>::convolve(x.clone(), &weights, epilogue, true);
            times[0].push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            let gradient = B::convolve_backward(y, &weights, epilogue, mask, [height, width]);
            times[1].push(start.elapsed().as_secs_f64());
            drop(gradient);
        }
        let [forward, backward] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        });
        let multiplications = 9 * channels_in * channels_out * height * width;
        rows.push(json!({
            "layer": layer.to_string(), "pool": pooled, "width": width,
            "multiplications": multiplications, "forward": forward, "backward": backward,
        }));
    }
    rows
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [weights, size, backend @ ..] = &arguments[..] else {
        return Err("usage: evaluate WEIGHTS SIZE [flex|ndarray|cuda [TILE|segments[/N]]]".into());
    };
    // As in the program, this thread is one of those that compute.
    rayon::ThreadPoolBuilder::new()
        .use_current_thread()
        .build_global()?;
    let (width, height) = size.split_once('x').unwrap_or((size, size));
    let size = [width.parse()?, height.parse()?];
    let how = backend.get(1).map(String::as_str);
    match backend.first().map(String::as_str) {
        None | Some("flex") => serve::<Flex>(weights, size, how),
        #[cfg(feature = "ndarray")]
        Some("ndarray") => serve::<burn::backend::NdArray>(weights, size, how),
        #[cfg(feature = "cuda")]
        Some("cuda") => serve::<burn::backend::Cuda>(weights, size, how),
        Some(other) => Err(format!("no backend `{other}` in this build").into()),
    }
}
