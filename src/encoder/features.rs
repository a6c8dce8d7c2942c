//! The responses of the encoder's layers.

use burn::tensor::{Tensor, backend::Backend};

use super::Layer;
use crate::kernel::{Precision, StyleBackend};

/// The responses of the layers that were asked for.
#[derive(Clone, Debug)]
pub struct Features<B: Backend> {
    /// Shallow to deep.
    responses: Vec<(Layer, Tensor<B, 4>)>,
    precision: Precision,
}

impl<B: Backend> Features<B> {
    /// Responses `[batch, channels, height, width]` of some layers, shallow to deep, of an encoder with a
    /// precision.
    pub(crate) fn new(responses: Vec<(Layer, Tensor<B, 4>)>, precision: Precision) -> Self {
        Self {
            responses,
            precision,
        }
    }

    /// The least precision of the encoder, and of products of its features.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The response of one layer, `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn get(&self, layer: Layer) -> &Tensor<B, 4> {
        match self.responses.iter().find(|(known, _)| *known == layer) {
            Some((_, response)) => response,
            None => panic!("{layer} was not among the layers asked for"),
        }
    }

    /// The responses with their layers, shallow to deep.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, &Tensor<B, 4>)> {
        self.responses
            .iter()
            .map(|(layer, response)| (*layer, response))
    }
}

impl<B: StyleBackend> Features<B> {
    /// The Gram matrix of one layer, [`gram_matrix`](crate::loss::gram_matrix) of its response:
    /// `[batch, channels, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn gram(&self, layer: Layer) -> Tensor<B, 3> {
        B::gram(self.get(layer).clone(), self.precision)
    }

    /// The mean of one layer's channels over all positions, `[batch, 1, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn mean(&self, layer: Layer) -> Tensor<B, 3> {
        channel_means(self.get(layer).clone())
    }
}

/// The mean of each channel over all positions, `[batch, channels, height, width]` to
/// `[batch, 1, channels]`.
pub(crate) fn channel_means<B: Backend>(response: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = response.dims();
    let rows = response.reshape([batch, channels, height * width]);
    rows.mean_dim(2).transpose()
}
