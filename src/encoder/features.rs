//! The responses of the encoder's layers.

use std::sync::atomic::{AtomicU64, Ordering};

use burn::tensor::{Tensor, backend::Backend};

use super::Layer;
use crate::kernel::{self, Moments, Precision, StyleBackend, all_positions, channel_means};
use crate::rect::Rect;

/// A layer, and what is read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tap {
    /// The layer.
    pub layer: Layer,
    /// Whether the features themselves are read.
    pub features: bool,
    /// The moments that are read.
    pub moments: Option<Moments>,
}

impl Tap {
    /// The features of a layer.
    pub fn features(layer: Layer) -> Self {
        Self {
            features: true,
            ..Self::distances(layer)
        }
    }

    /// No more than moments of a layer.
    pub fn moments(layer: Layer, moments: Moments) -> Self {
        Self {
            moments: Some(moments),
            ..Self::distances(layer)
        }
    }

    /// No more than [distances](SquaredDistance) from targets.
    pub fn distances(layer: Layer) -> Self {
        Self {
            layer,
            features: false,
            moments: None,
        }
    }

    /// The same taps, shallow to deep, with one of each layer for all that is read of it.
    pub fn merged(mut taps: Vec<Self>) -> Vec<Self> {
        taps.sort_by_key(|tap| tap.layer);
        taps.dedup_by(|next, tap| {
            let same = next.layer == tap.layer;
            if same {
                tap.features |= next.features;
                tap.moments = tap.moments.max(next.moments);
            }
            same
        });
        taps
    }
}

/// A squared distance of the features of a layer from a target, `Σ (scale · (F − target))²`: what a loss may
/// read instead of the features.
#[derive(Clone, Debug)]
pub struct SquaredDistance<B: Backend> {
    id: u64,
    /// The layer.
    pub layer: Layer,
    /// The target for the whole image, `[1, channels, height, width]`, or one for each image of a batch.
    pub target: Tensor<B, 4>,
    /// What differences are multiplied with.
    pub scale: f64,
}

impl<B: Backend> SquaredDistance<B> {
    /// The distance of a layer from a target.
    pub fn new(layer: Layer, target: Tensor<B, 4>, scale: f64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            layer,
            target,
            scale,
        }
    }

    /// The same distance of a rectangle of the layer's positions.
    pub(crate) fn within(&self, positions: Rect) -> Self
    where
        B: StyleBackend,
    {
        Self {
            target: B::crop(self.target.clone(), positions),
            ..self.clone()
        }
    }

    /// As the kernels take it.
    pub(super) fn of_stage(&self) -> kernel::Target<B> {
        kernel::Target {
            values: self.target.clone(),
            scale: self.scale,
        }
    }
}

/// The responses of the layers that were asked for.
#[derive(Clone, Debug)]
pub struct Features<B: Backend> {
    /// Shallow to deep.
    responses: Vec<(Layer, Response<B>)>,
    /// Distances by their number, `[batch]`, where the features they are of are not there as a whole.
    distances: Vec<(u64, Tensor<B, 1>)>,
    precision: Precision,
}

/// The response of a layer.
#[derive(Clone, Debug)]
pub(super) enum Response<B: Backend> {
    /// `[batch, channels, height, width]`.
    Kept(Tensor<B, 4>),
    /// Of a response that is nowhere as a whole, the [moments](kernel::Read) that were asked for.
    Moments(Option<Tensor<B, 3>>),
}

impl<B: Backend> Features<B> {
    /// Responses `[batch, channels, height, width]` of some layers, shallow to deep, of an encoder with a
    /// precision.
    pub(crate) fn new(responses: Vec<(Layer, Tensor<B, 4>)>, precision: Precision) -> Self {
        let responses = responses.into_iter();
        let kept = responses.map(|(layer, response)| (layer, Response::Kept(response)));
        Self::with_responses(kept.collect(), Vec::new(), precision)
    }

    /// Responses of some layers, shallow to deep, and distances.
    pub(super) fn with_responses(
        responses: Vec<(Layer, Response<B>)>,
        distances: Vec<(SquaredDistance<B>, Tensor<B, 1>)>,
        precision: Precision,
    ) -> Self {
        let distances = distances.into_iter();
        Self {
            responses,
            distances: distances
                .map(|(distance, found)| (distance.id, found))
                .collect(),
            precision,
        }
    }

    /// The least precision of the encoder, and of products of its features.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    pub(super) fn response(&self, layer: Layer) -> &Response<B> {
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
    /// If the layer was not among the taps, or if a term of a loss asks for it that said it would not read it.
    pub fn get(&self, layer: Layer) -> &Tensor<B, 4> {
        match self.response(layer) {
            Response::Kept(response) => response,
            Response::Moments(_) => panic!("of {layer} the features were not asked for"),
        }
    }

    /// The responses with their layers, shallow to deep.
    ///
    /// # Panics
    /// See [`get`](Self::get).
    pub fn iter(&self) -> impl Iterator<Item = (Layer, &Tensor<B, 4>)> {
        let layers = self.responses.iter().map(|(layer, _)| *layer);
        layers.map(|layer| (layer, self.get(layer)))
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

    /// The Gram matrix of the positions in an area, or of all. Where there are only moments, they are those
    /// of the area that was asked for.
    pub(crate) fn gram_of(&self, layer: Layer, area: Option<Rect>) -> Tensor<B, 3> {
        match self.response(layer) {
            Response::Kept(response) => {
                let area = area.unwrap_or(all_positions(response));
                B::gram(response.clone(), area, self.precision)
            }
            Response::Moments(moments) => {
                let moments = moments.as_ref().expect("the Gram matrix was asked for");
                let [_, channels, columns] = moments.dims();
                match columns == channels {
                    true => moments.clone(),
                    false => moments.clone().narrow(2, 0, channels),
                }
            }
        }
    }

    /// The mean of the channels over the positions in an area, or over all, as
    /// [`gram_of`](Self::gram_of).
    pub(crate) fn mean_of(&self, layer: Layer, area: Option<Rect>) -> Tensor<B, 3> {
        match self.response(layer) {
            Response::Kept(response) => {
                let area = area.unwrap_or(all_positions(response));
                channel_means(B::crop(response.clone(), area))
            }
            Response::Moments(moments) => {
                let moments = moments.as_ref().expect("the mean was asked for");
                let [_, channels, columns] = moments.dims();
                assert!(
                    columns > channels,
                    "of {layer} only the Gram matrix was asked for, not the mean"
                );
                moments.clone().narrow(2, channels, 1).transpose()
            }
        }
    }

    /// A distance that was computed with the features, `[batch]`.
    pub(crate) fn distance(&self, distance: &SquaredDistance<B>) -> Option<Tensor<B, 1>> {
        let mut known = self.distances.iter();
        let (_, found) = known.find(|(id, _)| *id == distance.id)?;
        Some(found.clone())
    }
}
