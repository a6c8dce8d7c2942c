//! What lies beyond the border of an image.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

/// What the first convolution sees beyond the border of the image. Deeper layers are always padded
/// with zeros, as the network was trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    /// The mean colour that the normalisation subtracts, as the network was trained. The border looks
    /// like an edge to it, and may be painted as one.
    #[default]
    Zero,
    /// The nearest pixel again (crowsonkb/style-transfer-pytorch).
    Replicate,
    /// The picture in a mirror, without the border's own pixels (leongatys/NeuralImageSynthesis).
    /// A picture of one pixel has nothing to reflect but itself.
    Reflect,
}

impl Padding {
    /// The image with one more pixel on each side; `None` where the convolution's own zeros will do.
    pub(super) fn apply<B: Backend>(self, image: &Tensor<B, 4>) -> Option<Tensor<B, 4>> {
        let offset = match self {
            Padding::Zero => return None,
            Padding::Replicate => 0,
            Padding::Reflect => 1,
        };
        Some(Self::widen(image.clone(), offset))
    }

    /// The image with one more pixel on each side: the one `offset` pixels inwards from the border.
    fn widen<B: Backend>(image: Tensor<B, 4>, offset: usize) -> Tensor<B, 4> {
        [2, 3].into_iter().fold(image, |image, axis| {
            let length = image.dims()[axis];
            let offset = offset.min(length - 1);
            let before = image.clone().narrow(axis, offset, 1);
            let after = image.clone().narrow(axis, length - 1 - offset, 1);
            Tensor::cat(vec![before, image, after], axis)
        })
    }
}
