//! Content as features in their places.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use super::term::in_region;
use super::{Guide, Part, Term, sum_per_image};
use crate::encoder::SquaredDistance;
use crate::kernel::StyleBackend;
use crate::layer::Layer;

/// How the squared error of the features is scaled. `C` channels, `M = H·W` positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentNormalization {
    /// The mean, `Σ(F − T)² / CM`, which is independent of the size of the picture: neural-style and
    /// its successors.
    #[default]
    Mean,
    /// Half the sum, `Σ(F − T)² / 2`: Gatys et al. (arXiv 1508.06576).
    HalfOfSum,
    /// `Σ(F − T)² / 2√(CM)`: cysmith/neural-style-tf.
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
    channels: usize,
    normalization: ContentNormalization,
    /// From the target, with the scale of the normalisation.
    distance: SquaredDistance<B>,
    guide: Option<Tensor<B, 4>>,
}

impl<B: Backend> ContentTerm<B> {
    /// Compares `layer` with `target`, the features of the content picture at the same size,
    /// `[1, channels, height, width]`, or one for each image of a batch. `channels` are those of
    /// [`Vgg19::channels`](crate::Vgg19::channels).
    pub fn new(layer: Layer, channels: usize, target: Tensor<B, 4>) -> Self {
        Self {
            channels,
            normalization: ContentNormalization::default(),
            distance: SquaredDistance::new(layer, target, 1.0),
            guide: None,
        }
        .with_normalization(ContentNormalization::default())
    }

    /// The same term with another scaling.
    pub fn with_normalization(mut self, normalization: ContentNormalization) -> Self {
        self.normalization = normalization;
        let [_, _, height, width] = self.distance.target.dims();
        self.distance.scale = normalization.factor(self.channels, height * width).sqrt();
        self
    }

    /// The same term where each position counts as the guide's mask has it: `m / mean(m)` times;
    /// everywhere alike without a guide.
    ///
    /// # Panics
    /// If the guide was not made for the layer.
    pub fn within<'a>(mut self, guide: impl Into<Option<&'a Guide<B>>>) -> Self
    where
        B: 'a,
    {
        let guide = guide.into();
        self.guide = guide.map(|guide| guide.of(self.distance.layer));
        self
    }

    /// The value for an image without any response, to which others can be related, shape `[1]`.
    pub fn zero_feature_loss(&self) -> Tensor<B, 1> {
        let target = self.distance.target.clone();
        let [_, _, height, width] = target.dims();
        let squares = self.squares(target, self.guide.clone());
        self.scaled(squares, height * width).mean()
    }

    /// `(F − T)²`, where the guide says how much.
    fn squares(&self, difference: Tensor<B, 4>, guide: Option<Tensor<B, 4>>) -> Tensor<B, 4> {
        match guide {
            None => difference.powi_scalar(2),
            Some(guide) => (difference * guide).powi_scalar(2),
        }
    }

    /// The scaled sum for each image, of a layer with this many positions.
    fn scaled(&self, squares: Tensor<B, 4>, positions: usize) -> Tensor<B, 2> {
        let factor = self.normalization.factor(self.channels, positions);
        sum_per_image(squares).mul_scalar(factor)
    }
}

impl<B: StyleBackend> Term<B> for ContentTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.distance.layer]
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let Some(guide) = &self.guide else {
            return part.distance_sum(&self.distance).unsqueeze_dim(1);
        };
        let layer = self.distance.layer;
        let target = part.crop(layer, &self.distance.target);
        let guide = part.crop(layer, guide);
        let squares = self.squares(part.features(layer) - target, Some(guide));
        let [height, width] = part.layer_size(layer);
        self.scaled(squares, height * width)
    }

    fn reads_only_distance(&self) -> Option<SquaredDistance<B>> {
        self.guide.is_none().then(|| self.distance.clone())
    }

    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }

    fn describe(&self) -> String {
        let scale = match self.normalization {
            ContentNormalization::Mean => "mean squared error of the features",
            ContentNormalization::HalfOfSum => "half of the squared error of the features",
            ContentNormalization::RootOfElements => "squared error of the features ÷ 2√(CM)",
        };
        in_region(scale, self.guide.is_some())
    }
}
