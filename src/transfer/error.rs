//! What can go wrong in a transfer.

use super::{CheckpointError, RecipeError};
use crate::communicator::CommunicationError;
use crate::encoder::EncoderError;
use crate::eval::EvalError;
use crate::loss::{EmptyRegion, TermError};
use crate::picture::PictureError;

/// What can go wrong between pictures and a stylized picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Values that are no picture.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// An image or layer that the encoder cannot serve.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A loss that cannot be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A recipe that makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A checkpoint that cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No content picture was given.
    #[error("no content picture was given")]
    NoContent,
    /// No style picture was given, but the style has a weight.
    #[error("no style picture was given; add one or set the weights of its losses to 0")]
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
    /// A limit on memory that no way to compute a scale fits.
    #[error(
        "{width}×{height} pixels need about {} MB at least, and {} MB are allowed; a size of {size} would fit",
        needed.div_ceil(1_000_000),
        limit / 1_000_000
    )]
    Memory {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// The bytes that are needed at least.
        needed: u64,
        /// The bytes that are allowed.
        limit: u64,
        /// The largest size of a result that fits, as the recipe measures it, or nearly.
        size: usize,
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
    #[error("the weights of the styles must be 0 or more, and not all 0, one for each style")]
    StyleWeights,
    /// A setting that a run cannot change once it is planned.
    #[error("{name} cannot be changed; begin another run")]
    FixedSetting {
        /// Which setting.
        name: &'static str,
    },
    /// A term of one's own that could not begin a scale.
    #[error(transparent)]
    Term(#[from] TermError),
    /// A term that would have to see the whole image, which several ranks share.
    #[error(
        "the loss term `{term}` needs the whole image, so that several devices or processes cannot share it; \
         take another recipe, such as gram or neural-style, or one device"
    )]
    CannotShare {
        /// The name of the term.
        term: String,
    },
    /// Other ranks that are gone, or do something else.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
}

impl TransferError {
    /// What went wrong between ranks, if that is it.
    pub fn communication(&self) -> Option<&CommunicationError> {
        match self {
            Self::Communication(error) | Self::Eval(EvalError::Communication(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the run was stopped while it waited for other ranks.
    pub(super) fn is_cancelled(&self) -> bool {
        self.communication() == Some(&CommunicationError::Cancelled)
    }
}
