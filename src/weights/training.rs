//! The known trainings of VGG19, recognised by their values.
//!
//! The deviations of the kernels and biases of each layer tell one training from another, whatever
//! the file is called and in whatever format, precision, order of colours or length it is.

use super::source::Training;
use super::vgg19::Convolution;
use crate::normalization::Normalization;

/// Standard deviations of the values of each layer.
struct Statistics {
    training: Training,
    kernels: [f64; 16],
    biases: [f64; 16],
}

/// Measured on the weights that the Oxford Visual Geometry Group published
/// (`VGG_ILSVRC_19_layers.caffemodel`, converted to ONNX).
const CAFFE: Statistics = Statistics {
    training: Training::Caffe,
    kernels: [
        0.191379, 0.039878, 0.029990, 0.022288, 0.016496, 0.011090, 0.010232, 0.010316, 0.008163,
        0.006342, 0.006915, 0.007485, 0.008197, 0.008419, 0.008412, 0.008139,
    ],
    biases: [
        0.295065, 0.306453, 0.117137, 0.180955, 0.064620, 0.073545, 0.071704, 0.046587, 0.019697,
        0.018138, 0.021774, 0.040251, 0.076879, 0.117737, 0.258700, 0.520390,
    ],
};

/// torchvision 0.2x, `vgg19(weights="IMAGENET1K_V1")`, as the GraphNet data set of computation graphs
/// records them to three decimals (github.com/PaddlePaddle/GraphNet,
/// `samples/torchvision/vgg19/weight_meta.py`).
const TORCHVISION: Statistics = Statistics {
    training: Training::Torchvision,
    kernels: [
        0.254, 0.056, 0.049, 0.038, 0.031, 0.023, 0.023, 0.023, 0.020, 0.015, 0.015, 0.014, 0.016,
        0.016, 0.015, 0.015,
    ],
    biases: [
        0.497, 0.229, 0.098, 0.143, 0.106, 0.107, 0.108, 0.098, 0.086, 0.105, 0.131, 0.089, 0.096,
        0.143, 0.142, 0.132,
    ],
};

/// Deviations of the Caffe training's first kernel over the values of R, G and B, measured as above.
/// Their order tells in which order it expects its channels.
const CAFFE_COLORS: [f64; 3] = [0.190821, 0.211193, 0.169266];

/// Deviation of the Caffe training's first biases once the mean colour is subtracted in them:
/// `b − Σ W · mean`, measured as above.
const CAFFE_FOLDED_BIASES: f64 = 76.925;

/// The rounding of the recorded deviations.
const ROUNDING: f64 = 0.0006;

/// How far a copy may be from its training, for half precision, bfloat16 or 8 bits for each value.
const COPY: f64 = 0.03;

/// How far a fine-tuned network may be from its training.
const FINE_TUNED: f64 = 0.2;

/// Fewer layers could be like a known training by chance if they are only near to it.
const ENOUGH: usize = 4;

/// What the values of a network say about it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recognized {
    pub training: Training,
    /// Whether these are its values, but for rounding; else they are near to them.
    pub exact: bool,
    pub normalization: Normalization,
}

/// The known training that these convolutions are of, or near to.
pub(crate) fn recognize(convolutions: &[Convolution]) -> Option<Recognized> {
    if convolutions.first()?.shape != [64, 3, 3, 3] {
        return None;
    }
    let measured: Vec<[f64; 2]> = convolutions
        .iter()
        .map(|layer| {
            let bias = layer.bias.as_deref().unwrap_or_default();
            [deviation(&layer.weight), deviation(bias)]
        })
        .collect();
    [&CAFFE, &TORCHVISION]
        .into_iter()
        .find_map(|known| known.compare(&measured, &convolutions[0]))
}

impl Statistics {
    fn compare(&self, measured: &[[f64; 2]], first: &Convolution) -> Option<Recognized> {
        let training = self.training;
        let like = |from: usize, tolerance: f64| {
            let known = self.kernels.iter().zip(&self.biases);
            let mut layers = measured.iter().zip(known).skip(from);
            layers.all(|(&[kernel, bias], (&known_kernel, &known_bias))| {
                near(kernel, known_kernel, tolerance) && near(bias, known_bias, tolerance)
            })
        };
        let recognized = |exact, normalization| {
            Some(Recognized {
                training,
                exact,
                normalization,
            })
        };
        let plain = match training {
            Training::Caffe if is_bgr(first) => Normalization::CAFFE_BGR,
            Training::Caffe => Normalization::CAFFE,
            Training::Torchvision => Normalization::TORCHVISION,
        };
        if like(0, COPY) {
            return recognized(true, plain);
        }
        if measured.len() < ENOUGH {
            return None;
        }
        if training == Training::Caffe
            && like(1, COPY)
            && let Some(normalization) = folded(measured[0][1], first)
        {
            return recognized(true, normalization);
        }
        match like(0, FINE_TUNED) {
            true => recognized(false, plain),
            false => None,
        }
    }
}

fn near(value: f64, known: f64, tolerance: f64) -> bool {
    (value - known).abs() <= tolerance * known + ROUNDING
}

fn deviation(values: &[f32]) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let squares = values.iter().map(|&v| (f64::from(v) - mean).powi(2));
    (squares.sum::<f64>() / count).sqrt()
}

/// Deviations over the values of each channel of a first kernel.
fn color_deviations(first: &Convolution) -> [f64; 3] {
    let channel = |channel: usize| -> Vec<f32> {
        let planes = first.weight.as_chunks::<9>().0;
        planes
            .iter()
            .skip(channel)
            .step_by(3)
            .flatten()
            .copied()
            .collect()
    };
    [0, 1, 2].map(|index| deviation(&channel(index)))
}

/// Whether a first kernel of the Caffe training has its channels as B, G, R.
fn is_bgr(first: &Convolution) -> bool {
    let [a, _, c] = color_deviations(first);
    a < c
}

/// The normalisation where a part of it is computed by the first layer of the Caffe training: its
/// kernel times a number for each colour, so that the input may have another unit, and the mean in
/// its biases. `None` if the first layer is another one.
fn folded(bias: f64, first: &Convolution) -> Option<Normalization> {
    let Normalization { mean, .. } = Normalization::CAFFE;
    let mean = if near(bias, CAFFE.biases[0], COPY) {
        mean
    } else if near(bias, CAFFE_FOLDED_BIASES, COPY) {
        [0.0; 3]
    } else {
        return None;
    };
    let bgr = is_bgr(first);
    let mut colors = color_deviations(first);
    if bgr {
        colors.reverse();
    }
    let factors = [0, 1, 2].map(|color| colors[color] / CAFFE_COLORS[color]);
    // The factors of one unit are equal, those of deviations of pictures nearly.
    let largest = factors.iter().fold(0.0f64, |a, &b| a.max(b));
    let smallest = factors.iter().fold(f64::MAX, |a, &b| a.min(b));
    if !(smallest > 0.0 && largest / smallest < 1.1) {
        return None;
    }
    // 1 and 255 are the units that there are; anything else was measured.
    let unit = [1.0, 255.0]
        .into_iter()
        .find(|unit| factors.iter().all(|factor| near(*factor, *unit, COPY)));
    Some(Normalization {
        range: 255.0,
        mean,
        std: unit
            .map_or(factors, |unit| [unit; 3])
            .map(|factor| factor as f32),
        bgr,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::weights::vgg19::Vgg19Weights;

    /// Random values with the deviations of a training.
    fn like(known: &Statistics, layers: usize) -> Vec<Convolution> {
        let mut convolutions = Vgg19Weights::random(64, 1)
            .until(Layer::convolution(layers - 1))
            .convolutions()
            .to_vec();
        for (index, layer) in convolutions.iter_mut().enumerate() {
            scale(&mut layer.weight, known.kernels[index]);
            let bias = (0..layer.shape[0]).map(|i| (i % 2) as f32);
            let mut bias: Vec<f32> = bias.collect();
            scale(&mut bias, known.biases[index]);
            layer.bias = Some(bias);
        }
        let order = if known.training == Training::Caffe {
            [0, 1, 2]
        } else {
            [1; 3]
        };
        set_colors(&mut convolutions[0], order.map(|color| CAFFE_COLORS[color]));
        scale(&mut convolutions[0].weight, known.kernels[0]);
        convolutions
    }

    fn scale(values: &mut [f32], to: f64) {
        let factor = (to / deviation(values)) as f32;
        values.iter_mut().for_each(|value| *value *= factor);
    }

    fn set_colors(first: &mut Convolution, deviations: [f64; 3]) {
        let now = color_deviations(first);
        for (place, plane) in first.weight.chunks_exact_mut(9).enumerate() {
            let factor = (deviations[place % 3] / now[place % 3]) as f32;
            plane.iter_mut().for_each(|value| *value *= factor);
        }
    }

    fn normalization(convolutions: &[Convolution]) -> Option<(bool, Normalization)> {
        recognize(convolutions).map(|found| (found.exact, found.normalization))
    }

    #[test]
    fn trainings_are_told_by_their_deviations_at_any_length() {
        for layers in [1, 3, 9, 13] {
            let caffe = like(&CAFFE, layers);
            assert_eq!(normalization(&caffe), Some((true, Normalization::CAFFE)));
            let torchvision = like(&TORCHVISION, layers);
            let expected = Some((true, Normalization::TORCHVISION));
            assert_eq!(normalization(&torchvision), expected);
        }
        let random = Vgg19Weights::random(64, 3);
        assert_eq!(recognize(random.convolutions()), None);
        assert_eq!(recognize(&[]), None);
    }

    #[test]
    fn the_order_of_the_colors_is_told() {
        let mut caffe = like(&CAFFE, 9);
        for planes in caffe[0].weight.chunks_exact_mut(27) {
            let (red, rest) = planes.split_at_mut(9);
            red.swap_with_slice(&mut rest[9..]);
        }
        assert_eq!(
            normalization(&caffe),
            Some((true, Normalization::CAFFE_BGR))
        );
    }

    #[test]
    fn a_normalisation_folded_into_the_first_layer_is_told() {
        let mut caffe = like(&CAFFE, 9);
        caffe[0].weight.iter_mut().for_each(|value| *value *= 255.0);
        let folded = Normalization {
            std: [255.0; 3],
            ..Normalization::CAFFE
        };
        assert_eq!(normalization(&caffe), Some((true, folded)));
        scale(caffe[0].bias.as_mut().unwrap(), CAFFE_FOLDED_BIASES);
        let folded = Normalization {
            mean: [0.0; 3],
            ..folded
        };
        assert_eq!(normalization(&caffe), Some((true, folded)));
        // Another first layer says nothing of its input.
        scale(caffe[0].bias.as_mut().unwrap(), 7.0);
        assert_eq!(recognize(&caffe), None);
    }

    #[test]
    fn fine_tuned_networks_are_near() {
        let mut tuned = like(&CAFFE, 9);
        scale(&mut tuned[5].weight, 1.1 * CAFFE.kernels[5]);
        assert_eq!(normalization(&tuned), Some((false, Normalization::CAFFE)));
        scale(&mut tuned[5].weight, 1.5 * CAFFE.kernels[5]);
        assert_eq!(recognize(&tuned), None);
        // A short one may be near by chance.
        let mut short = like(&CAFFE, 2);
        scale(&mut short[1].weight, 1.1 * CAFFE.kernels[1]);
        assert_eq!(recognize(&short), None);
    }
}
