//! Loss and gradient at an image: [`Evaluator`].
//!
//! A loss is a function of sums over positions, so there are two ways to the same gradient:
//!
//! - *whole*: the sums of the whole image and their value, then backward in one pass;
//! - *in tiles*: a first pass without autodiff adds up the sums `S` of all tiles; the derivative of the
//!   value with respect to them, `dS`, costs next to nothing; a second pass goes backward from
//!   `⟨dS, sums(tile)⟩` tile by tile and adds the gradients of the pixels. By linearity this is the
//!   gradient of the whole image but for rounding, and no more than one tile with its halo is in
//!   memory at a time. It costs a second forward pass, and the halos.
//!
//! Both can compute the network in segments, tiles always do: of several convolutions no more than the last
//! one's response is kept, and of what a loss reads only [`Moments`](crate::encoder::Moments) or a
//! [`SquaredDistance`] of, no more than those. For their gradient it is computed once more.
//!
//! ```
//! # #[cfg(all(feature = "flex", feature = "builtin"))] {
//! use burn::backend::{Autodiff, Flex};
//! use impasto::eval::Evaluator;
//! use impasto::loss::{GramNormalization, Loss, StyleTerm};
//! use impasto::{Layer, Picture, Vgg19};
//!
//! let device = Default::default();
//! let encoder = Vgg19::<Autodiff<Flex>>::builtin(&device);
//! let style = Picture::open("assets/swirls.jpg")?.resize(64, 64).to_tensor(&device);
//! let target = encoder.features(style, &[Layer::RELU2_1])?.gram(Layer::RELU2_1);
//! let channels = encoder.channels(Layer::RELU2_1)?;
//! let term = StyleTerm::new(Layer::RELU2_1, channels, GramNormalization::default(), target);
//! let loss = Loss::sum("total", 1.0, vec![Loss::term("style", 100.0, term)]);
//!
//! let evaluator = Evaluator::new(encoder, loss);
//! let image = Picture::open("assets/scene.jpg")?.resize(64, 48).to_tensor(&device);
//! let found = evaluator.evaluate(&image)?;
//! println!("{}", found.losses);
//! assert_eq!(found.gradient.dims(), [1, 3, 48, 64]);
//! # }
//! # Ok::<(), impasto::Error>(())
//! ```

mod spread;
mod tile;

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::communicator::{CommunicationError, Communicator};
use crate::encoder::{EncoderError, Reading, SquaredDistance, Tap, Vgg19};
use crate::kernel::{AutodiffStyleBackend, StyleBackend};
use crate::layer::Layer;
use crate::loss::{Evaluated, Loss, LossValues};
use crate::rect::Rect;

use spread::Share;
pub use tile::Tile;
pub(crate) use tile::{PartReading, features_in_tiles, parts};

/// Computes a loss and its gradient with respect to the image, whole or in tiles.
#[derive(Debug)]
pub struct Evaluator<B: AutodiffStyleBackend> {
    encoder: Vgg19<B>,
    loss: Loss<B>,
    layers: Vec<Layer>,
    taps: Vec<Tap>,
    distances: Vec<SquaredDistance<B>>,
    margin: usize,
    tile_size: Option<usize>,
    segment_values: Option<usize>,
    communicator: Option<Arc<dyn Communicator>>,
}

/// A loss and its gradient at an image.
#[derive(Clone, Debug)]
pub struct LossGradient<B: Backend> {
    /// The values of all terms.
    pub losses: LossValues,
    /// The gradient of the weighted total with respect to the image, of the image's shape.
    pub gradient: Tensor<B, 4>,
}

/// Sums of every term over an image or a part of it, or derivatives with respect to them.
pub type Sums<B> = Vec<Tensor<B, 2>>;

/// What can go wrong when a loss is evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// An image or layer that the encoder cannot serve.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A term that cannot be computed in tiles.
    #[error("the loss term `{term}` needs the whole image; compute without tiles")]
    NeedsWholeImage {
        /// The name of the term.
        term: String,
    },
    /// Tiles without pixels.
    #[error("the tile size is 0, expected at least 1 pixel")]
    NoTileSize,
    /// Other ranks that are gone, or compute something else.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
}

impl<B: AutodiffStyleBackend> Evaluator<B> {
    /// An evaluator of the whole image at once. An encoder's clone shares its weights.
    pub fn new(encoder: Vgg19<B>, loss: Loss<B>) -> Self {
        Self {
            layers: loss.layers(),
            taps: loss.taps(),
            distances: loss.distances(),
            margin: loss.margin(),
            encoder,
            loss,
            tile_size: None,
            segment_values: None,
            communicator: None,
        }
    }

    /// The same evaluator computing in tiles of about `pixels` on a side, see [`Tile::grid`]; `None`
    /// for the whole image.
    ///
    /// # Errors
    /// [`EvalError::NeedsWholeImage`] if a term does; [`EvalError::NoTileSize`] for 0.
    pub fn with_tile_size(mut self, pixels: Option<usize>) -> Result<Self, EvalError> {
        if let (Some(_), Some(term)) = (pixels, self.loss.needs_whole_image()) {
            let term = term.to_string();
            return Err(EvalError::NeedsWholeImage { term });
        }
        if pixels == Some(0) {
            return Err(EvalError::NoTileSize);
        }
        self.tile_size = pixels;
        Ok(self)
    }

    /// The same evaluator computing the network in segments, where the image is computed whole: less memory,
    /// and more time. Within them no response has many more than `values`, such as
    /// [`SEGMENT_VALUES`](StyleBackend::SEGMENT_VALUES); the fewer, the less memory and the more time. Tiles
    /// are computed so anyway, and so is the first block of a large image, which costs little.
    pub fn with_segments(mut self, values: Option<usize>) -> Self {
        self.segment_values = values;
        self
    }

    /// The same evaluator sharing the tiles of an image with other ranks, which evaluate the same loss at the
    /// same images. All receive loss and gradient. An image of one tile each computes alone.
    pub fn with_communicator(mut self, communicator: Option<Arc<dyn Communicator>>) -> Self {
        self.communicator = communicator;
        self
    }

    /// The network.
    pub fn encoder(&self) -> &Vgg19<B> {
        &self.encoder
    }

    /// The loss.
    pub fn loss(&self) -> &Loss<B> {
        &self.loss
    }

    /// Tells the terms that a step of the optimiser begins, see [`Term::begin_step`](crate::loss::Term).
    pub fn begin_step(&mut self, step: usize) {
        self.loss.begin_step(step);
    }

    /// Gives the loss back.
    pub fn into_loss(self) -> Loss<B> {
        self.loss
    }

    /// Loss and gradient at an image, `[batch, 3, height, width]`, RGB in `[0, 1]` (other values are
    /// not clamped).
    ///
    /// # Errors
    /// [`EvalError::Encoder`] for an image that is too small or no RGB image; with other ranks
    /// [`EvalError::Communication`].
    pub fn evaluate(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
    ) -> Result<LossGradient<B::InnerBackend>, EvalError> {
        match &self.tiles(image)[..] {
            [_] => self.evaluate_whole(image),
            tiles => self.evaluate_in_tiles(image, tiles),
        }
    }

    /// The loss alone.
    ///
    /// # Errors
    /// See [`evaluate`](Self::evaluate).
    pub fn loss_only(&self, image: &Tensor<B::InnerBackend, 4>) -> Result<LossValues, EvalError> {
        let sums = self.sums_over(image, &self.tiles(image))?;
        let sums = sums.into_iter().map(Tensor::from_inner).collect();
        Ok(self.loss.value(sums, &self.encoder.device()).read())
    }

    fn evaluate_whole(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
    ) -> Result<LossGradient<B::InnerBackend>, EvalError> {
        let variable = Tensor::<B, 4>::from_inner(image.clone()).require_grad();
        let [_, _, height, width] = image.dims();
        let area = Rect::whole([height, width]);
        let reading = Reading {
            taps: &self.taps,
            distances: &self.distances,
            segment_values: self.segment_values,
            area,
            seen: area,
        };
        let features = self.encoder.read(variable.clone(), reading)?;
        let evaluated = self.loss.evaluate(&variable, &features);
        drop(features);
        // Backward is queued before anything waits for forward.
        let mut gradients = evaluated.total.backward();
        let gradient = variable
            .grad_remove(&mut gradients)
            // Without any term that depends on the image there is no gradient.
            .unwrap_or_else(|| image.zeros_like());
        Ok(LossGradient {
            losses: evaluated.read(),
            gradient,
        })
    }

    fn evaluate_in_tiles(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
        tiles: &[Tile],
    ) -> Result<LossGradient<B::InnerBackend>, EvalError> {
        let sums = self.sums_over(image, tiles)?;
        let (evaluated, derivatives) = self.differentiate(sums);
        let share = Share::new(self.communicator.as_deref(), tiles);
        let found = share.gradients(image, |tile| self.tile_gradient(image, tile, &derivatives));
        let mut gradient = image.zeros_like();
        for (tile, added) in tiles.iter().zip(found?) {
            gradient = add_to_window(gradient, tile, added?);
        }
        Ok(LossGradient {
            losses: evaluated.read(),
            gradient,
        })
    }

    /// What is read of a tile.
    fn reading(&self) -> PartReading<'_, B> {
        PartReading {
            taps: &self.taps,
            distances: &self.distances,
            margin: self.margin,
        }
    }

    /// The sums over all tiles, added up in the order of the tiles.
    fn sums_over(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
        tiles: &[Tile],
    ) -> Result<Sums<B::InnerBackend>, EvalError> {
        let share = Share::new(self.communicator.as_deref(), tiles);
        let mut total: Option<Sums<B::InnerBackend>> = None;
        for sums in share.sums(image, |tile| self.tile_sums(image, tile))? {
            let sums = sums?;
            total = Some(match total {
                None => sums,
                Some(total) => add(total, sums),
            });
        }
        Ok(total.unwrap_or_default())
    }
}

/// The steps of an evaluation in tiles, for those who share the tiles among devices, threads or
/// machines: [`tile_sums`](Evaluator::tile_sums) of every tile, added up **in the order of the tiles**
/// by [`add`]; [`differentiate`](Evaluator::differentiate) once;
/// [`tile_gradient`](Evaluator::tile_gradient) of every tile, added **in the order of the tiles** by
/// [`add_to_window`]. Whoever computes which tile, the result has the same bytes.
impl<B: AutodiffStyleBackend> Evaluator<B> {
    /// The tiles of an image, in order; one without a tile size.
    pub fn tiles(&self, image: &Tensor<B::InnerBackend, 4>) -> Vec<Tile> {
        let [_, _, height, width] = image.dims();
        Tile::grid([height, width], self.tile_size, &self.layers, self.margin)
    }

    /// The sums of every term over one tile.
    ///
    /// # Errors
    /// See [`evaluate`](Self::evaluate).
    pub fn tile_sums(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
        tile: &Tile,
    ) -> Result<Sums<B::InnerBackend>, EvalError> {
        let [_, _, height, width] = image.dims();
        let window = B::InnerBackend::crop(image.clone(), tile.window);
        let window = Tensor::from_inner(window);
        let size = [height, width];
        let part = tile::part(&self.encoder, window, self.reading(), tile, size)?;
        let sums = self.loss.sums(&part).into_iter();
        Ok(sums.map(Tensor::inner).collect())
    }

    /// The loss for the sums over the whole image, and its derivatives with respect to them.
    pub fn differentiate(
        &self,
        sums: Sums<B::InnerBackend>,
    ) -> (Evaluated<'_, B>, Sums<B::InnerBackend>) {
        let variable = |sums| Tensor::<B, 2>::from_inner(sums).require_grad();
        let variables: Vec<_> = sums.into_iter().map(variable).collect();
        let evaluated = self.loss.value(variables.clone(), &self.encoder.device());
        let mut gradients = evaluated.total.backward();
        let derivative = |sums: &Tensor<B, 2>| {
            let derivative = sums.grad_remove(&mut gradients);
            derivative.unwrap_or_else(|| sums.clone().inner().zeros_like())
        };
        let derivatives = variables.iter().map(derivative).collect();
        (evaluated, derivatives)
    }

    /// What one tile adds to the gradient, at the pixels of its window, given the derivatives with
    /// respect to the sums.
    ///
    /// # Errors
    /// See [`evaluate`](Self::evaluate).
    pub fn tile_gradient(
        &self,
        image: &Tensor<B::InnerBackend, 4>,
        tile: &Tile,
        derivatives: &Sums<B::InnerBackend>,
    ) -> Result<Tensor<B::InnerBackend, 4>, EvalError> {
        let [_, _, height, width] = image.dims();
        let window = B::InnerBackend::crop(image.clone(), tile.window);
        let variable = Tensor::<B, 4>::from_inner(window.clone()).require_grad();
        let size = [height, width];
        let part = tile::part(&self.encoder, variable.clone(), self.reading(), tile, size)?;
        let sums = self.loss.sums(&part).into_iter().zip(derivatives);
        drop(part);
        let products = sums.map(|(sums, derivative)| {
            let derivative = Tensor::from_inner(derivative.clone());
            (sums * derivative).sum()
        });
        let gradient = products
            .reduce(|sum, product| sum + product)
            .and_then(|sum| {
                let mut gradients = sum.backward();
                variable.grad_remove(&mut gradients)
            });
        Ok(gradient.unwrap_or_else(|| window.zeros_like()))
    }
}

/// Sums of two disjoint parts, added up.
pub fn add<B: Backend>(total: Sums<B>, sums: Sums<B>) -> Sums<B> {
    let pairs = total.into_iter().zip(sums);
    pairs.map(|(total, sums)| total + sums).collect()
}

/// The gradient of an image with what one tile adds to it.
pub fn add_to_window<B: StyleBackend>(
    gradient: Tensor<B, 4>,
    tile: &Tile,
    added: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let [_, _, height, width] = gradient.dims();
    B::crop_backward(added, tile.window, [height, width], Some(gradient))
}
