//! How far the picture's contents have moved.

use burn::tensor::{Tensor, backend::Backend};

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

impl<B: Backend> Term<B> for ContentTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        vec![self.layer]
    }

    fn value(&self, _: &Tensor<B, 4>, features: &Features<B>) -> Tensor<B, 1> {
        let response = features.get(self.layer);
        let [_, channels, ..] = response.dims();
        let difference = response.clone() - self.target.clone();
        let count = difference.shape().num_elements();
        let mean = kernel::sum(difference.powi_scalar(2)) / count as f64;
        // A slim encoder's channels stand for more of them (see `Features::channels`).
        mean.mul_scalar(channels as f64 / features.channels(self.layer) as f64)
    }

    fn describe(&self) -> String {
        "mean squared error of the features".to_string()
    }
}
