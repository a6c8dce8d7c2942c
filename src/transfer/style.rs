//! The pictures that give the style, and where each is painted.

use super::Region;
use crate::picture::Picture;

/// A style picture with its weight and size, for the whole result or a region of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    pub(super) picture: Picture,
    pub(super) weight: f64,
    pub(super) scale: f64,
    pub(super) region: Option<Region>,
}

impl Style {
    /// A style of weight 1, as large as the recipe says, for the whole result.
    pub fn new(picture: Picture) -> Self {
        Self {
            picture,
            weight: 1.0,
            scale: 1.0,
            region: None,
        }
    }

    /// How much the style counts beside others.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Multiplies the size that the recipe gives to style pictures: more gives larger strokes.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Confines the style to a region. It has loss terms of its own, multiplied by its weight relative
    /// to the mean of all, and sees nothing outside its region (see
    /// [`Guide`](crate::loss::Guide)); styles without a region are painted everywhere.
    pub fn within(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }
}
