//! Style as correlations between feature channels.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::term::in_region;
use super::{Guide, Part, Term, sum_per_image};
use crate::encoder::Moments;
use crate::kernel::{Precision, StyleBackend, all_positions};
use crate::layer::Layer;

/// How the squared error of a Gram matrix is scaled. `C` channels, `H·W` positions; `G` and `A` are
/// [`gram_matrix`] of the image and of the style, which are divided by `H·W` already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GramNormalization {
    /// Gram matrices `÷ C·H·W`, mean squared error: `Σ(G − A)² / C⁴`. neural-style and
    /// neural-style-pt.
    #[default]
    PerElement,
    /// Gram matrices `÷ H·W`, mean squared error: `Σ(G − A)² / C²`. Gatys' own code, pystiche.
    PerPosition,
    /// `Σ(G − A)² / (4·C²)`: Gatys et al. (CVPR 2016), whose `1 / (4·N²·M²)` for undivided matrices
    /// (N = C, M = H·W) this equals where both pictures have the same size, and extends to where
    /// they have not.
    Paper,
}

impl GramNormalization {
    /// What `Σ(G − A)²` is multiplied with, for a layer of this many channels.
    pub fn factor(self, channels: usize) -> f64 {
        let channels = channels as f64;
        match self {
            GramNormalization::PerElement => channels.powi(-4),
            GramNormalization::PerPosition => channels.powi(-2),
            GramNormalization::Paper => channels.powi(-2) / 4.0,
        }
    }
}

/// Channel-wise Gram matrix: `G[b,i,j] = Σ_p F[b,i,p]·F[b,j,p] / (H·W)`.
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - output: `[batch, channels, channels]`
///
/// Style representation of Gatys et al. (CVPR 2016). They normalise in the loss; dividing here
/// lets targets from differently sized pictures compare.
pub fn gram_matrix<B: StyleBackend>(features: Tensor<B, 4>) -> Tensor<B, 3> {
    let area = all_positions(&features);
    B::gram(features, area, Precision::F32)
}

/// Style loss at one layer: the squared error of its Gram matrix, scaled by a
/// [`GramNormalization`].
#[derive(Debug)]
pub struct StyleTerm<B: Backend> {
    layer: Layer,
    channels: usize,
    normalization: GramNormalization,
    target: Tensor<B, 3>,
    guide: Option<Tensor<B, 4>>,
}

impl<B: Backend> StyleTerm<B> {
    /// Compares the Gram matrix at `layer` with `target`, `[1, C, C]`, or one for each image of a
    /// batch. `channels` are those of [`Vgg19::channels`](crate::Vgg19::channels), which a slim
    /// encoder's `C` is less than.
    ///
    /// For several styles, give the weighted mean of their Gram matrices: with weights that add up
    /// to one, `Σ wᵢ·‖G − Aᵢ‖²` differs from `‖G − Σ wᵢ·Aᵢ‖²` only by a constant.
    pub fn new(
        layer: Layer,
        channels: usize,
        normalization: GramNormalization,
        target: Tensor<B, 3>,
    ) -> Self {
        Self {
            layer,
            channels,
            normalization,
            target,
            guide: None,
        }
    }

    /// The same term for a region: the Gram matrix is the mean of `f·fᵀ` over the guide's mask; over
    /// all positions without a guide.
    ///
    /// # Panics
    /// If the guide was not made for the layer.
    pub fn within<'a>(mut self, guide: impl Into<Option<&'a Guide<B>>>) -> Self
    where
        B: 'a,
    {
        let guide = guide.into();
        self.guide = guide.map(|guide| guide.of(self.layer));
        self
    }

    /// The value for an image without any response, to which others can be related, shape `[1]`.
    pub fn zero_feature_loss(&self) -> Tensor<B, 1> {
        let target = self.target.clone().mul_scalar(self.scale());
        sum_per_image(target.powi_scalar(2)).mean()
    }

    /// What differences are multiplied with before they are squared.
    fn scale(&self) -> f64 {
        self.normalization.factor(self.channels).sqrt()
    }
}

impl<B: StyleBackend> Term<B> for StyleTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let gram = part.gram_sum(self.layer, self.guide.as_ref());
        gram.flatten(1, 2)
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        B::squared_distances(sums, self.target.clone().flatten(1, 2), self.scale())
    }

    fn reads_only(&self) -> Option<Moments> {
        self.guide.is_none().then_some(Moments::Gram)
    }

    fn describe(&self) -> String {
        let scale = match self.normalization {
            GramNormalization::PerElement => "mean squared error of the Gram matrix ÷ CHW",
            GramNormalization::PerPosition => "mean squared error of the Gram matrix ÷ HW",
            GramNormalization::Paper => "squared error of the Gram matrix ÷ 4N²M²",
        };
        in_region(scale, self.guide.is_some())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;
    use proptest::prelude::*;

    proptest! {
        /// `G` is symmetric, its diagonal holds the mean squares, and repeating the picture in
        /// space does not change it when divided by the positions.
        #[test]
        fn gram_matrices_describe_channels_not_places(
            channels in 1usize..6, height in 1usize..7, width in 1usize..7, seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            };
            let values: Vec<f32> = (0..channels * height * width).map(|_| draw()).collect();
            let device = Default::default();
            let features = Tensor::<Flex, 1>::from_floats(&values[..], &device)
                .reshape([1, channels, height, width]);
            let gram = gram_matrix(features.clone());
            let entries: Vec<f32> = gram.clone().into_data().to_vec().unwrap();
            let plane = height * width;
            for i in 0..channels {
                let row = &values[i * plane..(i + 1) * plane];
                let mean_square = row.iter().map(|v| v * v).sum::<f32>() / plane as f32;
                prop_assert!((entries[i * channels + i] - mean_square).abs() < 1e-5);
                for j in 0..channels {
                    let (a, b) = (entries[i * channels + j], entries[j * channels + i]);
                    prop_assert!((a - b).abs() < 1e-6);
                }
            }
            let twice = Tensor::cat(vec![features.clone(), features], 3);
            let again = gram_matrix(twice);
            let difference: f32 = (again - gram).abs().max().into_scalar();
            prop_assert!(difference < 1e-5);
        }
    }
}
