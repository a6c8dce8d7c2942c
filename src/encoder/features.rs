//! The responses of the encoder's layers.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Tensor, backend::Backend};

use super::Layer;
use crate::kernel::{Epilogue, PackedConv2d, Precision, StyleBackend, channel_means};
use crate::rect::Rect;

/// The responses of the layers that were asked for.
#[derive(Clone, Debug)]
pub struct Features<B: Backend> {
    /// Shallow to deep.
    responses: Vec<(Layer, Response<B>)>,
    precision: Precision,
}

/// The response of a layer.
#[derive(Clone, Debug)]
pub(super) enum Response<B: Backend> {
    /// `[batch, channels, height, width]`.
    Kept(Tensor<B, 4>),
    Recomputed(Box<Recomputed<B>>),
}

/// The response of a convolution with a ReLU, computed when it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Recomputed<B: Backend> {
    /// What it is applied to.
    pub x: Tensor<B, 4>,
    pub convolution: PackedConv2d<B>,
    /// The positions that are read.
    pub area: Rect,
    /// The response, once it was needed as such.
    pub response: Arc<OnceLock<Tensor<B, 4>>>,
}

impl<B: Backend> Features<B> {
    /// Responses `[batch, channels, height, width]` of some layers, shallow to deep, of an encoder with a
    /// precision.
    pub(crate) fn new(responses: Vec<(Layer, Tensor<B, 4>)>, precision: Precision) -> Self {
        let responses = responses.into_iter();
        let kept = responses.map(|(layer, response)| (layer, Response::Kept(response)));
        Self::with_responses(kept.collect(), precision)
    }

    /// Responses of some layers, shallow to deep.
    pub(super) fn with_responses(
        responses: Vec<(Layer, Response<B>)>,
        precision: Precision,
    ) -> Self {
        Self {
            responses,
            precision,
        }
    }

    /// The least precision of the encoder, and of products of its features.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    fn response(&self, layer: Layer) -> &Response<B> {
        match self.responses.iter().find(|(known, _)| *known == layer) {
            Some((_, response)) => response,
            None => panic!("{layer} was not among the layers asked for"),
        }
    }
}

impl<B: StyleBackend> Features<B> {
    /// The response of one layer, `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn get(&self, layer: Layer) -> &Tensor<B, 4> {
        self.response(layer).get()
    }

    /// The responses with their layers, shallow to deep.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, &Tensor<B, 4>)> {
        let responses = self.responses.iter();
        responses.map(|(layer, response)| (*layer, response.get()))
    }

    /// The Gram matrix of one layer, [`gram_matrix`](crate::loss::gram_matrix) of its response:
    /// `[batch, channels, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn gram(&self, layer: Layer) -> Tensor<B, 3> {
        self.gram_of(layer, None)
    }

    /// The mean of one layer's channels over all positions, `[batch, 1, channels]`.
    ///
    /// # Panics
    /// If the layer was not among the taps.
    pub fn mean(&self, layer: Layer) -> Tensor<B, 3> {
        self.mean_of(layer, None)
    }

    /// The Gram matrix of the positions in an area, or of all.
    pub(crate) fn gram_of(&self, layer: Layer, area: Option<Rect>) -> Tensor<B, 3> {
        match self.response(layer) {
            Response::Kept(response) => B::gram(cropped(response, area), self.precision),
            Response::Recomputed(r) => {
                B::convolve_gram(r.x.clone(), &r.convolution, r.within(area))
            }
        }
    }

    /// The mean of the channels over the positions in an area, or over all.
    pub(crate) fn mean_of(&self, layer: Layer, area: Option<Rect>) -> Tensor<B, 3> {
        match self.response(layer) {
            Response::Kept(response) => channel_means(cropped(response, area)),
            Response::Recomputed(r) => {
                B::convolve_mean(r.x.clone(), &r.convolution, r.within(area))
            }
        }
    }
}

impl<B: StyleBackend> Response<B> {
    fn get(&self) -> &Tensor<B, 4> {
        match self {
            Response::Kept(response) => response,
            Response::Recomputed(r) => r.response.get_or_init(|| {
                let response = B::convolve(r.x.clone(), &r.convolution, Epilogue::Relu);
                B::crop(response, r.area)
            }),
        }
    }
}

impl<B: Backend> Recomputed<B> {
    /// The area of the positions that are read, or all of them, as they lie in the whole response.
    fn within(&self, area: Option<Rect>) -> Rect {
        area.map_or(self.area, |area| Rect {
            top: self.area.top + area.top,
            left: self.area.left + area.left,
            ..area
        })
    }
}

fn cropped<B: StyleBackend>(response: &Tensor<B, 4>, area: Option<Rect>) -> Tensor<B, 4> {
    match area {
        None => response.clone(),
        Some(area) => B::crop(response.clone(), area),
    }
}
