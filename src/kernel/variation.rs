//! Differences of pixels with their neighbours.

use burn::tensor::{Tensor, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::rect::Rect;

/// What is summed over neighbouring pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VariationNorm {
    /// `|a − b|`: keeps edges.
    #[default]
    L1,
    /// `(a − b)²`: blurs edges more than fine noise.
    L2,
}

/// Pairs of pixels: those at the same place of two rectangles of an image, which are equally large.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelPairs {
    /// The first of each pair.
    pub first: Rect,
    /// The second of each pair.
    pub second: Rect,
    /// What their sum is multiplied with.
    pub weight: f64,
}

/// A part of an image, as a view.
pub(super) fn view<B: Backend>(x: &Tensor<B, 4>, area: Rect) -> Tensor<B, 4> {
    let rows = x.clone().narrow(2, area.top, area.height);
    rows.narrow(3, area.left, area.width)
}
