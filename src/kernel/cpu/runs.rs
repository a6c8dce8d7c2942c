//! The positions of a rectangle of a plane, as runs that lie together in memory.

use std::ops::Range;

use crate::rect::Rect;

/// The runs of a rectangle: its rows, or one run if it is as wide as the plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Positions of the plane.
    pub plane: usize,
    first: usize,
    pitch: usize,
    /// Positions of each run.
    length: usize,
    count: usize,
}

impl Runs {
    /// All positions of a plane.
    pub fn whole(plane: usize) -> Self {
        Self {
            plane,
            first: 0,
            pitch: plane,
            length: plane,
            count: 1,
        }
    }

    /// The positions of a rectangle of a plane of some height and width.
    ///
    /// # Panics
    /// If it reaches beyond the plane.
    pub fn new([height, width]: [usize; 2], area: Rect) -> Self {
        assert!(area.bottom() <= height && area.right() <= width);
        let (length, count) = match area.width == width {
            true => (area.count(), 1),
            false => (area.width, area.height),
        };
        Self {
            plane: height * width,
            first: area.top * width + area.left,
            pitch: width,
            length,
            count,
        }
    }

    /// The number of positions.
    pub fn positions(&self) -> usize {
        self.length * self.count
    }

    /// In how many pieces of at most `most` positions the runs are cut.
    pub fn pieces(&self, most: usize) -> usize {
        self.count * self.length.div_ceil(most)
    }

    /// The positions of one of the [`pieces`](Self::pieces) in the plane.
    pub fn piece(&self, most: usize, index: usize) -> Range<usize> {
        let pieces = self.length.div_ceil(most);
        let (run, first) = (index / pieces, index % pieces * most);
        let start = self.first + run * self.pitch;
        start + first..start + self.length.min(first + most)
    }

    /// Of the positions, numbered one run after the other, those from `first` on that lie together in the
    /// plane; at most `most`, and none from `end` on.
    pub fn from(&self, first: usize, end: usize, most: usize) -> Range<usize> {
        let (run, offset) = (first / self.length, first % self.length);
        let start = self.first + run * self.pitch + offset;
        start..start + most.min(self.length - offset).min(end - first)
    }
}
