//! The error of the crate's front door.

use crate::encoder::{EmptyRegion, EncoderError};
use crate::picture::PictureError;
use crate::transfer::{CheckpointError, RecipeError, RegionsError};
use crate::weights::WeightsError;

/// Anything that can go wrong between a file and a stylized picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture or its file.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The way of the weights from their publisher into the cache.
    #[cfg(feature = "pretrained")]
    #[error(transparent)]
    Pretrained(#[from] crate::pretrained::PretrainedError),
    /// An image or layer that the encoder cannot serve.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A recipe that makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A checkpoint that cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Maps of coloured regions that do not go together.
    #[error(transparent)]
    Regions(#[from] RegionsError),
    /// No content picture was given.
    #[error("no content picture was given")]
    NoContent,
    /// No style picture was given, but the style has a weight.
    #[error("no style picture was given; add one or set the style weight to 0")]
    NoStyle,
    /// A result beyond reason, of a picture far longer than wide.
    #[error("the result would have {width}×{height} pixels; choose a smaller size")]
    TooLarge {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// A style picture that would be enlarged beyond reason.
    #[error("the style would be resized to {width}×{height} pixels; choose a smaller style scale")]
    StyleTooLarge {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// A region that a style shall be confined to, of which nothing is left.
    #[error("the region of style {style} is empty; give a mask with white in it, or a larger size")]
    Region {
        /// Which style, from 1.
        style: usize,
        /// Where.
        #[source]
        source: EmptyRegion,
    },
    /// A style picture of a senseless size relative to the result.
    #[error("the scale of a style is {0}, expected 0.001 to 1000")]
    StyleScale(f64),
    /// Weights of several styles that cannot be normalised.
    #[error("the weights of the styles must be 0 or more, and not all 0")]
    StyleWeights,
}
