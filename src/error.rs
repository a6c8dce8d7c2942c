//! One error for programs that use several parts of the crate.

use crate::communicator::CommunicationError;
use crate::encoder::EncoderError;
use crate::eval::EvalError;
use crate::layer::UnknownLayer;
use crate::loss::{EmptyRegion, TermError};
use crate::picture::PictureError;
use crate::transfer::{CheckpointError, ProvenanceError, RecipeError, RegionsError, TransferError};
use crate::weights::WeightsError;

/// Anything that can go wrong between a file and a stylized picture. No function of the crate returns
/// it; the error of every part converts into it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture or its file.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// A file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Weights on their way from their publisher into the cache.
    #[cfg(feature = "pretrained")]
    #[error(transparent)]
    Pretrained(#[from] crate::pretrained::PretrainedError),
    /// A name that is no layer.
    #[error(transparent)]
    Layer(#[from] UnknownLayer),
    /// An image or layer that the encoder cannot serve.
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    /// A region of which nothing is left.
    #[error(transparent)]
    Region(#[from] EmptyRegion),
    /// A loss term that cannot begin a scale.
    #[error(transparent)]
    Term(#[from] TermError),
    /// Other ranks that are gone, or do something else.
    #[error(transparent)]
    Communication(#[from] CommunicationError),
    /// A loss that cannot be evaluated.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// A transfer that cannot be run.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A recipe that makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A checkpoint that cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A picture that does not say how it was made, in a form that can be read.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// Maps of coloured regions that do not go together.
    #[error(transparent)]
    Regions(#[from] RegionsError),
}
