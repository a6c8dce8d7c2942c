//! How far the picture's contents have moved.

use burn::tensor::{ElementConversion, Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::Term;
use crate::encoder::{Features, Layer};
use crate::kernel;

/// How the squared error of the features is scaled. `N` channels, `M = H·W` positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentNormalization {
    /// The mean, `Σ(F − T)² / NM`, which is independent of the size of the picture: neural-style and
    /// its successors.
    #[default]
    Mean,
    /// Half the sum, `Σ(F − T)² / 2`: Gatys et al. (arXiv 1508.06576).
    HalfOfSum,
    /// `Σ(F − T)² / 2√(NM)`: cysmith/neural-style-tf.
    RootOfElements,
}

impl ContentNormalization {
    /// What `Σ(F − T)²` is multiplied with, for a layer of this many channels and positions.
    pub fn factor(self, channels: usize, positions: usize) -> f64 {
        let elements = channels as f64 * positions as f64;
        match self {
            Self::Mean => 1.0 / elements,
            Self::HalfOfSum => 0.5,
            Self::RootOfElements => 0.5 / elements.sqrt(),
        }
    }
}

/// Content loss at one layer: the squared error of the features `F` of the image against those of the
/// content picture, `T`, scaled by a [`ContentNormalization`].
#[derive(Debug)]
pub struct ContentTerm<B: Backend> {
    layer: Layer,
    normalization: ContentNormalization,
    target: Tensor<B, 4>,
}

impl<B: Backend> ContentTerm<B> {
    /// Compares `layer` with `target`, the features of the content picture at the same size,
    /// `[1, channels, height, width]`.
    pub fn new(layer: Layer, target: Tensor<B, 4>) -> Self {
        Self {
            layer,
            normalization: ContentNormalization::default(),
            target,
        }
    }

    /// The same term with another scaling.
    pub fn with_normalization(mut self, normalization: ContentNormalization) -> Self {
        self.normalization = normalization;
        self
    }
}

impl<B: Backend> ContentTerm<B> {
    /// The value for an image without any response, to which others can be related. `channels` as
    /// [`Features::channels`] has them.
    pub fn magnitude(&self, channels: usize) -> f64 {
        self.squared(self.target.clone(), channels)
            .into_scalar()
            .elem()
    }

    /// A slim encoder's channels stand for more of them, of which there are `channels`.
    fn squared(&self, difference: Tensor<B, 4>, channels: usize) -> Tensor<B, 1> {
        let [batch, _, height, width] = difference.dims();
        let factor = self.normalization.factor(channels, batch * height * width);
        kernel::sum(difference.powi_scalar(2)).mul_scalar(factor)
    }
}

impl<B: kernel::StyleBackend> Term<B> for ContentTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn value(&self, _: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1> {
        let difference = features.get(self.layer).clone() - self.target.clone();
        self.squared(difference, features.channels(self.layer))
    }

    fn describe(&self) -> String {
        let scale = match self.normalization {
            ContentNormalization::Mean => "mean squared error of the features",
            ContentNormalization::HalfOfSum => "half of the squared error of the features",
            ContentNormalization::RootOfElements => "squared error of the features ÷ 2√(NM)",
        };
        scale.to_string()
    }
}
