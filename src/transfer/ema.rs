//! The mean of the images of a scale, or of the variables that they are made of.

use burn::tensor::{Tensor, backend::Backend};

/// An exponential moving average, `m ← d·m + (1−d)·x`, corrected for having begun at zero (Kingma and
/// Ba, arXiv 1412.6980, section 7.2).
#[derive(Clone, Debug)]
pub(super) struct Ema<B: Backend> {
    decay: f64,
    sum: Tensor<B, 4>,
    /// dᵗ after t images: the weight that the sum lacks.
    decay_power: f64,
}

impl<B: Backend> Ema<B> {
    /// The mean of a first image.
    pub fn new(decay: f64, image: Tensor<B, 4>) -> Self {
        Self::restore(decay, 1.0, image.zeros_like()).with(image)
    }

    /// Goes on from what [`parts`](Self::parts) gave.
    pub fn restore(decay: f64, decay_power: f64, sum: Tensor<B, 4>) -> Self {
        Self {
            decay,
            sum,
            decay_power,
        }
    }

    /// The mean with one more image.
    pub fn with(self, image: Tensor<B, 4>) -> Self {
        Self {
            decay: self.decay,
            sum: self.sum * self.decay + image * (1.0 - self.decay),
            decay_power: self.decay_power * self.decay,
        }
    }

    /// What a checkpoint holds: the power of the decay, and the sum.
    pub fn parts(&self) -> (f64, Tensor<B, 4>) {
        (self.decay_power, self.sum.clone())
    }

    /// The mean.
    pub fn mean(&self) -> Tensor<B, 4> {
        self.sum.clone() / (1.0 - self.decay_power)
    }
}
