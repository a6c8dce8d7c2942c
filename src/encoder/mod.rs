//! From an image to the responses of VGG19: the network [`Vgg19`], its [`Layer`]s and their
//! [`Features`].

mod architecture;
mod convolution;
mod features;
mod padding;
mod segments;
mod vgg19;

pub use crate::kernel::{Moments, Pooling};
pub use crate::layer::{Layer, LayerKind};
pub use crate::normalization::Normalization;
pub use architecture::{LayerFacts, architecture};
pub use features::{Features, SquaredDistance, Tap};
pub use padding::Padding;
pub(crate) use segments::{Step, steps_to};
pub(crate) use vgg19::Reading;
pub use vgg19::{Vgg19, Vgg19Config};

/// What can go wrong when an image is encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncoderError {
    /// A layer deeper than the loaded weights reach.
    #[error(
        "the loaded weights end at {deepest}, so {layer} cannot be computed; use a shallower layer or the full weights"
    )]
    TooDeep {
        /// The layer asked for.
        layer: Layer,
        /// The deepest layer there is.
        deepest: Layer,
    },
    /// A layer that the built-in encoder has no projection for.
    #[error(
        "the built-in encoder reproduces VGG19's ReLU outputs only, not {layer}; use the ReLU output or VGG19's weights"
    )]
    NotRelu {
        /// The layer asked for.
        layer: Layer,
    },
    /// An image with fewer pixels than the pools need.
    #[error(
        "an image of {width}×{height} pixels is too small for {layer}, which needs at least \
         {minimum} pixels on each side; use a larger size, a less elongated picture or a \
         shallower layer"
    )]
    ImageTooSmall {
        /// Width of the image in pixels.
        width: usize,
        /// Height of the image in pixels.
        height: usize,
        /// The deepest layer asked for.
        layer: Layer,
        /// Pixels that it needs along each axis.
        minimum: usize,
    },
    /// A tensor that is no RGB image.
    #[error("expected an RGB image of shape [batch, 3, height, width], found {channels} channels")]
    NotRgb {
        /// Size of the channel axis.
        channels: usize,
    },
}
