//! Whether a device computes what the CPU does: features, loss, gradient, and ten steps of each
//! optimiser, from the same weights and pictures.

use std::fmt;
use std::process::ExitCode;

use burn::module::AutodiffModule;
use burn::tensor::{Tensor, backend::Backend};
use impasto::kernel::{AutodiffStyleBackend, Precision};
use impasto::optim::{AdamConfig, Optimizer, OptimizerConfig};
use impasto::{Evaluator, Layer, Vgg19, Vgg19Weights};
use serde::Serialize;

use super::objective::{self, layers};
use super::pictures::Pictures;
use crate::cli::args::DeviceArgs;
use crate::cli::device::{BackendTask, Device};
use crate::cli::encoder::build;
use crate::cli::failure::Failure;
use crate::cli::interrupt::Interrupt;

/// Width and height of the pictures: one that every pool divides, and one that none does.
const SIZES: [[usize; 2]; 2] = [[96, 64], [75, 53]];

/// Steps of each optimiser.
const STEPS: usize = 10;

/// The largest errors that rounding explains.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Relative error of the features of each layer.
    pub features: f64,
    /// Relative error of the loss.
    pub loss: f64,
    /// Relative error of the gradient.
    pub gradient: f64,
    /// Relative difference of the losses after all steps. The images are not judged: pixels on which the
    /// loss hardly depends go where rounding sends them.
    pub steps: f64,
}

impl Limits {
    /// For sums of products in single precision, which are off by some 1e-6: two orders of addition, or
    /// Winograd's transforms, which lose a digit. A ReLU or a pool that decides otherwise changes
    /// single values of the gradient. Ten steps of L-BFGS make 2e-3 of the loss out of 1e-6 of the
    /// gradient.
    const F32: Self = Self {
        features: 1e-4,
        loss: 1e-4,
        gradient: 1e-3,
        steps: 2e-2,
    };

    /// For factors in TF32, 2⁻¹¹ off at most: about 3e-4 for a convolution, a few times as much after
    /// thirteen. Where a ReLU or a pool decides otherwise a value of the gradient comes or goes.
    const TF32: Self = Self {
        features: 5e-3,
        loss: 5e-3,
        gradient: 1e-1,
        steps: 1e-1,
    };

    /// For factors in bfloat16, 2⁻⁸ off at most.
    const BF16: Self = Self {
        features: 4e-2,
        loss: 4e-2,
        gradient: 3e-1,
        steps: 3e-1,
    };

    /// For a precision of the convolutions.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::TF32,
            Precision::Bf16 => Self::BF16,
        }
    }
}

/// The errors of a device, and whether rounding explains them.
#[derive(Serialize)]
pub struct Check {
    pub sizes: Vec<[usize; 2]>,
    pub features: Vec<FeatureError>,
    pub loss: Vec<LossError>,
    pub gradient: Vec<GradientError>,
    pub steps: Vec<StepsError>,
    pub passed: bool,
    #[serde(skip)]
    limits: Limits,
}

/// A number that tells how far a device is off, with the most that is accepted if it is judged.
pub struct Comparison {
    pub size: [usize; 2],
    pub what: String,
    pub error: f64,
    pub limit: Option<f64>,
}

/// The error of a layer's features.
#[derive(Serialize)]
pub struct FeatureError {
    pub size: [usize; 2],
    pub layer: String,
    /// ‖found − expected‖ ÷ ‖expected‖.
    pub relative_error: f64,
    /// The largest error ÷ the largest value.
    pub max_error: f64,
}

#[derive(Serialize)]
pub struct LossError {
    pub size: [usize; 2],
    pub expected: f64,
    pub found: f64,
    pub relative_error: f64,
}

#[derive(Serialize)]
pub struct GradientError {
    pub size: [usize; 2],
    pub relative_error: f64,
}

/// The difference between two runs of an optimiser.
#[derive(Serialize)]
pub struct StepsError {
    pub optimizer: &'static str,
    pub steps: usize,
    pub size: [usize; 2],
    pub loss_expected: f64,
    pub loss_found: f64,
    pub relative_error: f64,
    /// Root mean square of the difference between the images, of 255.
    pub image_rms: f64,
}

/// What a device computes for pictures of one size, read back.
pub struct Observation {
    size: [usize; 2],
    features: Vec<(Layer, Vec<f32>)>,
    loss: f64,
    gradient: Vec<f32>,
    runs: Vec<Descent>,
}

/// Where some steps of an optimiser led.
struct Descent {
    optimizer: &'static str,
    loss: f64,
    image: Vec<f32>,
}

/// The CPU engine, which the tests of this crate compare with other programs.
pub struct Reference<'a> {
    pub weights: Vgg19Weights,
    pub args: &'a DeviceArgs,
    pub pictures: &'a Pictures,
    pub interrupt: &'a Interrupt,
}

impl BackendTask for Reference<'_> {
    type Output = Vec<Observation>;

    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Self::Output, Failure> {
        let encoder = build::<B>(self.weights, self.args, &device);
        observe(&encoder, self.pictures, self.interrupt)
    }
}

/// What a device computes, at each size.
pub fn observe<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    pictures: &Pictures,
    interrupt: &Interrupt,
) -> Result<Vec<Observation>, Failure> {
    let observe = |size| {
        let pair = pictures.at(size);
        let image = pair.content.to_tensor(&encoder.device());
        let features = encoder.valid().features(image.clone(), &layers());
        let features = features.map_err(Failure::usage)?;
        let features = features.iter();
        let features = features.map(|(layer, response)| (layer, values(response.clone())));
        let evaluator = objective::evaluator(encoder, &pair).map_err(Failure::usage)?;
        let found = objective::evaluate(&evaluator, image.clone(), interrupt)?;
        let optimizers = [
            ("lbfgs", objective::lbfgs()),
            ("adam", OptimizerConfig::Adam(AdamConfig::default())),
        ];
        let runs = optimizers.into_iter().map(|(optimizer, config)| {
            let (loss, image) = descend(&evaluator, config, image.clone(), interrupt)?;
            Ok(Descent {
                optimizer,
                loss,
                image: values(image),
            })
        });
        Ok(Observation {
            size,
            features: features.collect(),
            loss: found.loss,
            gradient: values(found.gradient),
            runs: runs.collect::<Result<_, Failure>>()?,
        })
    };
    SIZES.into_iter().map(observe).collect()
}

/// The loss and the image after all steps.
fn descend<B: AutodiffStyleBackend>(
    evaluator: &Evaluator<B>,
    config: OptimizerConfig,
    mut image: Tensor<B::InnerBackend, 4>,
    interrupt: &Interrupt,
) -> Result<(f64, Tensor<B::InnerBackend, 4>), Failure> {
    let mut optimizer = config.init();
    for _ in 0..STEPS {
        let evaluate = |image| objective::evaluate(evaluator, image, interrupt);
        image = optimizer.step(image, evaluate)?;
    }
    let losses = evaluator.loss_only(&image).map_err(Failure::other)?;
    Ok((losses.weighted(), image))
}

fn values<B: Backend>(tensor: Tensor<B, 4>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Compares what a device computes with what it should.
pub fn compare(expected: &[Observation], found: &[Observation], limits: Limits) -> Check {
    let mut check = Check {
        sizes: Vec::new(),
        features: Vec::new(),
        loss: Vec::new(),
        gradient: Vec::new(),
        steps: Vec::new(),
        passed: false,
        limits,
    };
    for (expected, found) in expected.iter().zip(found) {
        let size = expected.size;
        check.sizes.push(size);
        let layers = expected.features.iter().zip(&found.features);
        check
            .features
            .extend(layers.map(|((layer, expected), (_, found))| FeatureError {
                size,
                layer: layer.to_string(),
                relative_error: relative_error(found, expected),
                max_error: max_error(found, expected),
            }));
        check.loss.push(LossError {
            size,
            expected: expected.loss,
            found: found.loss,
            relative_error: relative_difference(found.loss, expected.loss),
        });
        check.gradient.push(GradientError {
            size,
            relative_error: relative_error(&found.gradient, &expected.gradient),
        });
        let runs = expected.runs.iter().zip(&found.runs);
        check.steps.extend(runs.map(|(expected, found)| StepsError {
            optimizer: expected.optimizer,
            steps: STEPS,
            size,
            loss_expected: expected.loss,
            loss_found: found.loss,
            relative_error: relative_difference(found.loss, expected.loss),
            image_rms: 255.0 * rms_difference(&found.image, &expected.image),
        }));
    }
    check.passed = check.comparisons().iter().all(Comparison::is_accepted);
    check
}

/// `gradient at 96×64: 2.1e-2`.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([width, height], what) = (self.size, &self.what);
        write!(f, "{what} at {width}×{height}: {:.1e}", self.error)
    }
}

impl Comparison {
    /// Whether rounding explains the error; an error that is no number is none of rounding.
    pub fn is_accepted(&self) -> bool {
        self.limit.is_none_or(|limit| self.error <= limit)
    }
}

impl Check {
    /// All that is judged, size by size.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let sizes = self.sizes.iter();
        sizes.flat_map(|&size| self.comparisons_at(size)).collect()
    }

    fn comparisons_at(&self, size: [usize; 2]) -> Vec<Comparison> {
        let limits = self.limits;
        let mut list = Vec::new();
        let mut add = |what: String, error, limit: Option<f64>| {
            list.push(Comparison {
                size,
                what,
                error,
                limit,
            });
        };
        for found in self.features.iter().filter(|found| found.size == size) {
            add(
                found.layer.clone(),
                found.relative_error,
                Some(limits.features),
            );
        }
        for found in self.loss.iter().filter(|found| found.size == size) {
            add("loss".to_string(), found.relative_error, Some(limits.loss));
        }
        for found in self.gradient.iter().filter(|found| found.size == size) {
            add(
                "gradient".to_string(),
                found.relative_error,
                Some(limits.gradient),
            );
        }
        for found in self.steps.iter().filter(|found| found.size == size) {
            let (steps, optimizer) = (found.steps, found.optimizer);
            let after = |what| format!("{what} after {steps} steps of {optimizer}");
            add(after("loss"), found.relative_error, Some(limits.steps));
            let image = after("image") + ", RMS of 255";
            add(image, found.image_rms, None);
        }
        list
    }

    /// Success, or the failure of a device that does not compute what the CPU does.
    pub fn verdict(&self, device: Device) -> Result<ExitCode, Failure> {
        let mut off = self.comparisons();
        off.retain(|comparison| !comparison.is_accepted());
        let off: Vec<String> = off.iter().map(ToString::to_string).collect();
        match off.is_empty() {
            true => Ok(ExitCode::SUCCESS),
            false => Err(Failure::wrong_results(format!(
                "{device} does not compute what the CPU does: {}",
                off.join("; ")
            ))),
        }
    }
}

/// ‖found − expected‖ ÷ ‖expected‖.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let norm: f64 = expected.iter().map(|&value| f64::from(value).powi(2)).sum();
    ratio(squared_distance(found, expected).sqrt(), norm.sqrt())
}

/// The largest error ÷ the largest value.
fn max_error(found: &[f32], expected: &[f32]) -> f64 {
    let values = expected.iter().map(|&value| f64::from(value).abs());
    let errors = differences(found, expected).map(f64::abs);
    ratio(errors.fold(0.0, f64::max), values.fold(0.0, f64::max))
}

fn relative_difference(found: f64, expected: f64) -> f64 {
    ratio((found - expected).abs(), expected.abs())
}

/// The root of the mean square of the differences.
fn rms_difference(found: &[f32], expected: &[f32]) -> f64 {
    (squared_distance(found, expected) / expected.len() as f64).sqrt()
}

fn squared_distance(found: &[f32], expected: &[f32]) -> f64 {
    differences(found, expected)
        .map(|difference| difference.powi(2))
        .sum()
}

fn differences(found: &[f32], expected: &[f32]) -> impl Iterator<Item = f64> {
    let pairs = found.iter().zip(expected);
    pairs.map(|(&found, &expected)| f64::from(found) - f64::from(expected))
}

/// An error in relation to a size; 0 without an error, whatever the size.
fn ratio(error: f64, size: f64) -> f64 {
    match error == 0.0 {
        true => 0.0,
        false => error / size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation() -> Observation {
        Observation {
            size: [4, 2],
            features: vec![(Layer::RELU2_1, vec![3.0, 0.0, 4.0])],
            loss: 200.0,
            gradient: vec![0.0, -0.5],
            runs: vec![Descent {
                optimizer: "adam",
                loss: 100.0,
                image: vec![0.25, 0.75],
            }],
        }
    }

    type Change = fn(&mut Observation);

    fn checked(change: Change) -> Check {
        let mut found = observation();
        change(&mut found);
        compare(&[observation()], &[found], Limits::F32)
    }

    #[test]
    fn errors_are_relative() {
        let check = checked(|found| {
            found.features[0].1[1] = 0.5;
            found.loss = 201.0;
            found.gradient[1] = -0.25;
            found.runs[0].image = vec![0.75, 0.25];
        });
        assert_eq!(check.features[0].relative_error, 0.1);
        assert_eq!(check.features[0].max_error, 0.125);
        assert_eq!(check.loss[0].relative_error, 0.005);
        assert_eq!(check.gradient[0].relative_error, 0.5);
        assert_eq!(check.steps[0].relative_error, 0.0);
        assert_eq!(check.steps[0].image_rms, 127.5);
    }

    #[test]
    fn rounding_passes_and_what_is_off_is_named() {
        let rounded = checked(|found| {
            found.features[0].1[1] = 1e-6;
            found.loss *= 1.0 + 1e-6;
            found.gradient[0] = 1e-6;
            found.runs[0].image[0] = 0.5;
        });
        assert!(rounded.passed && rounded.verdict(Device::Cpu).is_ok());
        let changes: [(Change, &str); 5] = [
            (|found| found.features[0].1[1] = 1e-2, "relu2_1 at 4×2"),
            (|found| found.features[0].1[0] = f32::NAN, "relu2_1 at 4×2"),
            (|found| found.loss = 200.1, "loss at 4×2"),
            (|found| found.gradient[0] = 1e-3, "gradient at 4×2"),
            (
                |found| found.runs[0].loss = f64::NAN,
                "loss after 10 steps of adam",
            ),
        ];
        for (change, words) in changes {
            let check = checked(change);
            assert!(!check.passed);
            let problem = check.verdict(Device::Cpu).unwrap_err().to_string();
            assert!(problem.contains(words), "{words}: {problem}");
            assert!(!problem.contains(';'), "{problem}");
        }
    }
}
