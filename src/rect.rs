//! Rectangles of pixels and of positions.

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
        Self {
            top: 0,
            left: 0,
            height,
            width,
        }
    }

    /// From a first to before an end, for rows and for columns.
    pub(crate) fn between((top, bottom): (usize, usize), (left, right): (usize, usize)) -> Self {
        Self {
            top,
            left,
            height: bottom - top,
            width: right - left,
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

    /// What both rectangles have in common, if that is anything.
    pub(crate) fn intersection(&self, other: Self) -> Option<Self> {
        let (top, left) = (self.top.max(other.top), self.left.max(other.left));
        let bottom = self.bottom().min(other.bottom());
        let right = self.right().min(other.right());
        (top < bottom && left < right).then(|| Self::between((top, bottom), (left, right)))
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
