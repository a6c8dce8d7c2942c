//! The mean of the images of a scale.

use burn::tensor::{Tensor, backend::Backend};

/// A decaying mean, `m ← d·m + (1−d)·x`, corrected for having begun at zero.
#[derive(Clone, Debug)]
pub(super) struct Average<B: Backend> {
    decay: f64,
    sum: Tensor<B, 4>,
    /// How much of the weights the sum lacks: dᵗ after t images.
    missing: f64,
}

impl<B: Backend> Average<B> {
    /// The mean of a first image.
    pub fn new(decay: f64, image: Tensor<B, 4>) -> Self {
        Self::restore(decay, 1.0, image.zeros_like()).with(image)
    }

    /// Goes on from what [`parts`](Self::parts) gave.
    pub fn restore(decay: f64, missing: f64, sum: Tensor<B, 4>) -> Self {
        Self {
            decay,
            sum,
            missing,
        }
    }

    /// The mean with one more image.
    pub fn with(self, image: Tensor<B, 4>) -> Self {
        Self {
            decay: self.decay,
            sum: self.sum * self.decay + image * (1.0 - self.decay),
            missing: self.missing * self.decay,
        }
    }

    /// What is kept in a checkpoint: how much of the weights is missing, and the sum.
    pub fn parts(&self) -> (f64, Tensor<B, 4>) {
        (self.missing, self.sum.clone())
    }

    /// The mean image.
    pub fn image(&self) -> Tensor<B, 4> {
        self.sum.clone() / (1.0 - self.missing)
    }
}
