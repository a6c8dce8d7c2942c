//! Rectangles of pixels and of positions.

use std::ops::Range;

/// A rectangle of pixels, or of positions of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Number of rows.
    pub height: usize,
    /// Number of columns.
    pub width: usize,
}

impl Rect {
    /// All of an image of `size` (height and width).
    pub fn whole([height, width]: [usize; 2]) -> Self {
        Self::rows(0..height, width)
    }

    /// Some rows of an image of this width.
    pub(crate) fn rows(rows: Range<usize>, width: usize) -> Self {
        Self {
            top: rows.start,
            left: 0,
            height: rows.len(),
            width,
        }
    }

    /// The row after the last.
    pub fn bottom(&self) -> usize {
        self.top + self.height
    }

    /// The column after the last.
    pub fn right(&self) -> usize {
        self.left + self.width
    }

    /// The positions of a layer of this stride that belong to these pixels: those of whose `stride × stride`
    /// pixels the first is one of them, and that are whole.
    pub(crate) fn at_stride(&self, stride: usize) -> Self {
        let (top, left) = (self.top / stride, self.left / stride);
        Self {
            top,
            left,
            height: self.bottom() / stride - top,
            width: self.right() / stride - left,
        }
    }

    /// The same rectangle where the corner of `other` is the origin.
    pub(crate) fn relative_to(&self, other: Self) -> Self {
        Self {
            top: self.top - other.top,
            left: self.left - other.left,
            ..*self
        }
    }

    /// The rectangle with as many pixels more on each side, as far as `bounds` reach.
    pub(crate) fn expanded(&self, pixels: usize, bounds: Self) -> Self {
        let top = self.top.saturating_sub(pixels).max(bounds.top);
        let left = self.left.saturating_sub(pixels).max(bounds.left);
        Self {
            top,
            left,
            height: (self.bottom() + pixels).min(bounds.bottom()) - top,
            width: (self.right() + pixels).min(bounds.right()) - left,
        }
    }

    /// Number of pixels or positions.
    pub fn count(&self) -> usize {
        self.height * self.width
    }
}
