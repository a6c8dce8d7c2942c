//! The parameters of VGG19 in memory.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use super::source::NormalizationSource;
use crate::layer::Layer;
use crate::normalization::Normalization;

/// One convolution: values in the order `[out, in, height, width]` and a bias for each output.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// The kernel, `[out, in, height, width]`.
    pub weight: Vec<f32>,
    /// Sizes of `weight`.
    pub shape: [usize; 4],
    /// One value for each output channel.
    pub bias: Option<Vec<f32>>,
}

/// The parameters of a network with VGG19's topology, in memory and independent of any backend.
///
/// Two are equal if their parameters and their normalisation are, wherever they are from.
#[derive(Clone, Debug)]
pub struct Vgg19Weights {
    pub(crate) convolutions: Vec<Convolution>,
    /// The projections of a slim network, one for each convolution: 1×1 convolutions after the ReLU
    /// (and after the pool, where one follows), whose few channels stand for VGG19's. The next layer
    /// sees only them. Empty for VGG19.
    pub(crate) projections: Vec<Convolution>,
    /// What the input must be brought to.
    pub normalization: Normalization,
    /// How the normalisation was found.
    pub normalization_source: NormalizationSource,
}

impl PartialEq for Vgg19Weights {
    fn eq(&self, other: &Self) -> bool {
        self.convolutions == other.convolutions
            && self.projections == other.projections
            && self.normalization == other.normalization
    }
}

impl Vgg19Weights {
    /// Seeded random weights after He et al. (arXiv 1502.01852): normal with variance
    /// `2 / (9 · in)`, biases zero.
    ///
    /// # Panics
    /// If `width` is zero.
    pub fn random(width: usize, seed: u64) -> Self {
        assert!(width > 0, "the first block needs at least one channel");
        let mut rng = StdRng::seed_from_u64(seed);
        let convolutions: Vec<Convolution> = (0..16)
            .map(|index| {
                let [out, fan_in, ..] = expected_shape(index, width);
                let deviation = (2.0 / (9 * fan_in) as f32).sqrt();
                let mut draw = || -> f32 { StandardNormal.sample(&mut rng) };
                Convolution {
                    weight: (0..out * fan_in * 9).map(|_| deviation * draw()).collect(),
                    shape: [out, fan_in, 3, 3],
                    bias: Some(vec![0.0; out]),
                }
            })
            .collect();
        Self {
            convolutions,
            projections: Vec::new(),
            normalization: Normalization::TORCHVISION,
            normalization_source: NormalizationSource::Given,
        }
    }

    /// The convolutions, first to last.
    pub fn convolutions(&self) -> &[Convolution] {
        &self.convolutions
    }

    /// The same weights without the convolutions that lie behind `layer`, which then cannot be
    /// computed; those of fewer layers stay as they are.
    pub fn until(mut self, layer: Layer) -> Self {
        self.convolutions.truncate(layer.depth());
        self.projections.truncate(layer.depth());
        self
    }
}

impl Vgg19Weights {
    /// The same weights with a normalisation that the caller knows.
    pub fn with_normalization(mut self, normalization: Normalization) -> Self {
        self.normalization = normalization;
        self.normalization_source = NormalizationSource::Given;
        self
    }

    /// What was decided about the normalisation without being sure, in a sentence; `None` where the
    /// file or its values left no doubt.
    pub fn normalization_doubt(&self) -> Option<String> {
        match self.normalization_source {
            NormalizationSource::Assumed => {
                let folded = match self.convolutions.len() {
                    16 => {
                        " (VGG19 with batch normalisation folded into its kernels would look the \
                         same)"
                    }
                    _ => "",
                };
                Some(format!(
                    "nothing in the file states the normalisation of its input, and its values are \
                     of no known training{folded}; assumed torchvision's: RGB from 0 to 1, \
                     ImageNet's mean and deviation"
                ))
            }
            NormalizationSource::NearValues(training) => Some(format!(
                "nothing in the file states the normalisation of its input; its values are near to \
                 those of {training}, so its normalisation was taken"
            )),
            _ => None,
        }
    }
}

/// Largest number of channels of a layer. VGG19 has 512.
pub(super) const MAX_CHANNELS: usize = 1024;

/// Shape of the convolution numbered `index` in a network whose first block has `width` channels.
pub(super) fn expected_shape(index: usize, width: usize) -> [usize; 4] {
    let channels_in = match index {
        0 => 3,
        _ => Layer::convolution(index - 1).channels(width),
    };
    [Layer::convolution(index).channels(width), channels_in, 3, 3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_repeat_with_their_seed() {
        let weights = Vgg19Weights::random(4, 7);
        assert_eq!(weights, Vgg19Weights::random(4, 7));
        assert_ne!(weights, Vgg19Weights::random(4, 8));
        assert_eq!(weights.convolutions().len(), 16);
        assert_eq!(weights.convolutions()[15].shape, [32, 32, 3, 3]);
        // The variance that keeps activations at one scale, for the largest kernel.
        let values = &weights.convolutions()[15].weight;
        let mean_square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((mean_square * 9.0 * 32.0 / 2.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn shapes_are_those_of_vgg19() {
        assert_eq!(expected_shape(0, 64), [64, 3, 3, 3]);
        assert_eq!(expected_shape(2, 64), [128, 64, 3, 3]);
        assert_eq!(expected_shape(8, 64), [512, 256, 3, 3]);
        assert_eq!(expected_shape(15, 64), [512, 512, 3, 3]);
    }
}
