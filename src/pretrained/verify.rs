//! Whether weights behave as VGG19's do.
//!
//! A file can have all the right names and shapes and still be of no use: random, damaged, or meant
//! for another normalisation. Two things tell. The kernels of a trained network are smooth, which
//! random ones are not; and a test picture with flat areas and edges raises responses in each layer,
//! whose strength is known for the original training. The original weights are recognised by the
//! deviations of their values; for other trainings the bounds are wider. The order of the colours and the
//! direction of the axes cannot be told this way.

use std::fmt;

use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use crate::encoder::{EncoderError, Vgg19};
use crate::kernel::StyleBackend;
use crate::layer::{Layer, LayerKind};
use crate::normalization::Normalization;
use crate::weights::{Convolution, Training, Vgg19Weights, metadata, training};

/// Width and height of the picture that is shown to the network, in pixels.
const SIZE: usize = 64;

/// Mean responses of the original training to that picture, under its normalisation: 0–255, mean
/// subtracted.
const RESPONSES: [f32; 16] = [
    23.97, 114.92, 162.90, 176.90, 222.30, 262.09, 561.13, 891.68, 854.71, 545.89, 359.78, 72.31,
    73.26, 29.91, 9.72, 1.07,
];

/// How many times stronger or weaker the original training may respond, for its values are often
/// stored in fewer bits; and how many times another one for 0–255.
const TOLERANCE: [f32; 2] = [3.0, 30.0];

/// Mean responses of trainings for inputs of deviation 1, such as torchvision's: of order 1.
const NORMALIZED: [f32; 2] = [0.001, 100.0];

/// Kernels' root mean square in units of a random network's that keeps responses at one strength.
const STRENGTH: [f32; 2] = [0.1, 1.5];

/// Least correlation of neighbouring values in a kernel; the original's is 0.5 to 0.8, a random
/// network's 0.
const SMOOTHNESS: f32 = 0.05;

/// Least deviation over the picture in units of the mean response; the original's is 0.8 to 2.3.
const CONTRAST: f32 = 0.3;

/// Share of outputs above zero; the original's is 0.07 to 0.77.
const ACTIVE: [f32; 2] = [0.002, 0.95];

/// How one convolution and the ReLU behind it behave.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerReport {
    /// The ReLU.
    pub layer: Layer,
    /// Shape of the kernel, `[out, in, height, width]`.
    pub shape: [usize; 4],
    /// Root mean square of the kernel's values.
    pub kernel: f32,
    /// Root mean square of the biases.
    pub bias: f32,
    /// Correlation of neighbouring values in the kernel, −1 to 1.
    pub smoothness: f32,
    /// Share of outputs above zero, 0 to 1.
    pub active: f32,
    /// Mean output.
    pub response: f32,
    /// Deviation of each channel over the picture, in units of the mean output.
    pub contrast: f32,
    /// What is not as VGG19's.
    pub problems: Vec<String>,
}

/// What [`verify`] found; displayed as a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The normalisation that the weights ask for.
    pub normalization: Normalization,
    /// The convolutions, first to last.
    pub layers: Vec<LayerReport>,
}

impl Report {
    /// Whether the weights behave as VGG19's.
    pub fn is_ok(&self) -> bool {
        !self.layers.is_empty() && self.layers.iter().all(|layer| layer.problems.is_empty())
    }
}

/// Looks at the values of the weights, and at what they answer to a small picture.
///
/// # Errors
/// Those of [`Vgg19::features`].
pub fn verify<B: StyleBackend>(
    weights: &Vgg19Weights,
    device: &B::Device,
) -> Result<Report, EncoderError> {
    let taps: Vec<Layer> = Layer::all()
        .filter(|layer| layer.kind() == LayerKind::Relu)
        .take(weights.convolutions().len())
        .collect();
    let normalization = weights.normalization;
    let encoder = Vgg19::<B>::from_weights(weights.clone(), device);
    let image = Tensor::from_data(TensorData::new(dead_leaves(), [1, 3, SIZE, SIZE]), device);
    let features = encoder.features(image, &taps)?;
    let layers = taps.iter().zip(weights.convolutions());
    let layers = layers.map(|(&layer, convolution)| {
        let output = features.get(layer).clone().into_data();
        let values: Vec<f32> = output.iter::<f32>().collect();
        examine(layer, convolution, &values, output.shape[1])
    });
    let mut layers: Vec<LayerReport> = layers.collect();
    let original = training::recognize(weights.convolutions())
        .is_some_and(|known| known.training == Training::Caffe && known.exact);
    for (index, layer) in layers.iter_mut().enumerate() {
        let [least, most] = expected_response(index, original, &normalization);
        layer.judge(index, least, most);
    }
    Ok(Report {
        normalization,
        layers,
    })
}

/// Least and largest mean response that is expected of the convolution numbered `index`.
fn expected_response(index: usize, original: bool, normalization: &Normalization) -> [f32; 2] {
    let around = |times: f32| [RESPONSES[index] / times, RESPONSES[index] * times];
    match normalization.range {
        _ if original => around(TOLERANCE[0]),
        255.0 => around(TOLERANCE[1]),
        _ => NORMALIZED,
    }
}

/// Measures one layer: the kernel and its outputs, `channels` planes one after another.
fn examine(
    layer: Layer,
    convolution: &Convolution,
    outputs: &[f32],
    channels: usize,
) -> LayerReport {
    let mean = |values: &mut dyn Iterator<Item = f64>| {
        let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
        sum / count.max(1) as f64
    };
    let square = |values: &[f32]| mean(&mut values.iter().map(|&v| f64::from(v).powi(2)));
    let [.., height, width] = convolution.shape;
    let kernels = || convolution.weight.chunks_exact((height * width).max(1));
    let neighbours = |step: usize, inside: fn(usize, usize) -> bool| {
        let pairs = kernels().flat_map(|kernel| {
            let places = (0..kernel.len()).filter(|&place| inside(place, kernel.len()));
            places.map(move |place| f64::from(kernel[place]) * f64::from(kernel[place + step]))
        });
        mean(&mut pairs.into_iter())
    };
    // The kernels are 3×3: to the right, and below.
    let along = neighbours(1, |place, count| place % 3 < 2 && place + 1 < count);
    let down = neighbours(3, |place, count| place + 3 < count);
    let power = square(&convolution.weight);

    let response = mean(&mut outputs.iter().map(|&v| f64::from(v)));
    let planes = outputs.chunks_exact((outputs.len() / channels.max(1)).max(1));
    let mut deviations = planes.map(|plane| {
        let center = mean(&mut plane.iter().map(|&v| f64::from(v)));
        mean(&mut plane.iter().map(|&v| (f64::from(v) - center).powi(2))).sqrt()
    });
    let deviation = mean(&mut deviations);
    let ratio = |a: f64, b: f64| if b > 0.0 { (a / b) as f32 } else { 0.0 };
    LayerReport {
        layer,
        shape: convolution.shape,
        kernel: power.sqrt() as f32,
        bias: square(convolution.bias.as_deref().unwrap_or_default()).sqrt() as f32,
        smoothness: ratio((along + down) / 2.0, power),
        active: mean(&mut outputs.iter().map(|&v| f64::from(u8::from(v > 0.0)))) as f32,
        response: response as f32,
        contrast: ratio(deviation, response),
        problems: Vec::new(),
    }
}

impl LayerReport {
    /// Compares the measures with what is expected of the convolution numbered `index`, and of its
    /// mean response.
    fn judge(&mut self, index: usize, least: f32, most: f32) {
        let layer = self.layer;
        let mut problems = Vec::new();
        let convolution = Layer::convolution(index);
        let channels_in = match index {
            0 => 3,
            _ => Layer::convolution(index - 1).channels(64),
        };
        let expected = [convolution.channels(64), channels_in, 3, 3];
        if self.shape != expected {
            problems.push(format!(
                "{convolution} has shape {:?}, VGG19's has {expected:?}",
                self.shape
            ));
        }
        // In units of what keeps random networks at one strength (He et al. 2015).
        let strength = self.kernel * (9.0 * self.shape[1] as f32 / 2.0).sqrt();
        if !(STRENGTH[0]..=STRENGTH[1]).contains(&strength) {
            problems.push(format!(
                "the kernels of {convolution} are {} than a trained network's",
                if strength > 1.0 { "larger" } else { "smaller" }
            ));
        }
        if self.smoothness < SMOOTHNESS {
            problems.push(format!(
                "the kernels of {convolution} look like noise: are these trained weights?"
            ));
        }
        // In comparison with what lies in the middle of the expected.
        let times = self.response / (least * most).sqrt();
        if self.response > most {
            problems.push(format!(
                "{layer} answers {times:.0} times more strongly than VGG19 does: is the \
                 normalisation right?"
            ));
        } else if self.response < least {
            problems.push(format!(
                "{layer} answers {:.0} times more weakly than VGG19 does: is the normalisation \
                 right?",
                1.0 / times
            ));
        }
        if self.contrast < CONTRAST {
            problems.push(format!(
                "{layer} hardly sees where in the picture something is: is the normalisation right?"
            ));
        }
        if !(ACTIVE[0]..=ACTIVE[1]).contains(&self.active) {
            let share = 100.0 * self.active;
            problems.push(format!("{share:.1} % of {layer} are above zero"));
        }
        self.problems = problems;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:>18} {:>9} {:>9} {:>7} {:>8} {:>9} {:>9}",
            "layer", "kernel", "rms", "bias rms", "smooth", "active", "response", "contrast"
        )?;
        for layer in &self.layers {
            let shape = layer.shape.map(|size| size.to_string()).join("×");
            writeln!(
                f,
                "{:8} {shape:>18} {:>9.5} {:>9.4} {:>7.2} {:>6.1} % {:>9.3} {:>9.2}  {}",
                layer.layer,
                layer.kernel,
                layer.bias,
                layer.smoothness,
                100.0 * layer.active,
                layer.response,
                layer.contrast,
                if layer.problems.is_empty() {
                    "ok"
                } else {
                    "not ok"
                }
            )?;
        }
        writeln!(
            f,
            "normalisation: {}",
            metadata::describe(&self.normalization)
        )?;
        for problem in self.layers.iter().flat_map(|layer| &layer.problems) {
            writeln!(f, "- {problem}")?;
        }
        Ok(())
    }
}

/// A picture of overlapping discs in one colour each, values 0 to 1, three planes one after another:
/// flat areas, edges, large and small, as photographs have them.
fn dead_leaves() -> Vec<f32> {
    let mut state = 1u32;
    let mut draw = |limit: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) % limit) as usize
    };
    let size = SIZE as u32;
    let mut image = vec![0.5; 3 * SIZE * SIZE];
    for _ in 0..60 {
        let (x, y, radius, grey) = (draw(size), draw(size), 3 + draw(12), draw(200));
        let color = [0; 3].map(|_| (grey + draw(80)).min(255) as f32 / 255.0);
        for (channel, plane) in image.chunks_exact_mut(SIZE * SIZE).enumerate() {
            for (place, value) in plane.iter_mut().enumerate() {
                let (row, column) = (place / SIZE, place % SIZE);
                if row.abs_diff(y).pow(2) + column.abs_diff(x).pow(2) < radius * radius {
                    *value = color[channel];
                }
            }
        }
    }
    image
}
