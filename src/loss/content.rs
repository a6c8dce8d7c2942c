//! How far the picture's contents have moved.

use burn::tensor::{ElementConversion, Tensor, backend::Backend};

use super::Term;
use crate::encoder::{Features, Layer};
use crate::kernel;

/// Content loss at one layer: `mean((F − T)²)` over all elements, for the features `F` of the image
/// and `T` of the content picture.
///
/// Gatys et al. (arXiv 1508.06576) sum and halve; the mean, as in neural-style and its successors,
/// keeps the value independent of the size of the picture.
#[derive(Debug)]
pub struct ContentTerm<B: Backend> {
    layer: Layer,
    target: Tensor<B, 4>,
}

impl<B: Backend> ContentTerm<B> {
    /// Compares `layer` with `target`, the features of the content picture at the same size,
    /// `[1, channels, height, width]`.
    pub fn new(layer: Layer, target: Tensor<B, 4>) -> Self {
        Self { layer, target }
    }
}

impl<B: Backend> ContentTerm<B> {
    /// The value for an image without any response, to which others can be related. `channels` as
    /// [`Features::channels`] has them.
    pub fn magnitude(&self, channels: usize) -> f64 {
        self.mean_square(self.target.clone(), channels)
            .into_scalar()
            .elem()
    }

    /// A slim encoder's channels stand for more of them, of which there are `channels`.
    fn mean_square(&self, difference: Tensor<B, 4>, channels: usize) -> Tensor<B, 1> {
        let [_, own, ..] = difference.dims();
        let count = difference.shape().num_elements();
        let mean = kernel::sum(difference.powi_scalar(2)) / count as f64;
        mean.mul_scalar(own as f64 / channels as f64)
    }
}

impl<B: Backend> Term<B> for ContentTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn value(&self, _: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1> {
        let difference = features.get(self.layer).clone() - self.target.clone();
        self.mean_square(difference, features.channels(self.layer))
    }

    fn describe(&self) -> String {
        "mean squared error of the features".to_string()
    }
}
