//! Points between the positions of a layer.

use std::sync::Arc;

/// Points at which features are read, between positions by bilinear interpolation.
///
/// Coordinates count positions: `[0, 0]` is the centre of the upper left one and
/// `[height - 1, width - 1]` that of the lower right one. Clones share the points.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplePoints {
    size: [usize; 2],
    points: Arc<[[f32; 2]]>,
    /// For both passes.
    corners: Arc<[[Corner; 4]]>,
}

impl SamplePoints {
    /// Points `[row, column]` in a layer of `size` (height and width). Points outside are moved to the
    /// nearest edge; a coordinate that is no number counts as zero.
    ///
    /// # Panics
    /// If there are points, but the layer has no positions, or more than `u32` can count.
    pub fn new(size: [usize; 2], mut points: Vec<[f32; 2]>) -> Self {
        assert!(
            points.is_empty() || !size.contains(&0),
            "a layer of {} × {} positions has no points",
            size[0],
            size[1]
        );
        assert!(
            u32::try_from(size[0] * size[1]).is_ok(),
            "a layer of {} × {} positions is too large",
            size[0],
            size[1]
        );
        for point in &mut points {
            for (coordinate, side) in point.iter_mut().zip(size) {
                // Not `clamp`, which would keep NaN.
                *coordinate = coordinate.max(0.0).min((side - 1) as f32);
            }
        }
        Self {
            size,
            corners: points.iter().map(|&point| corners(point, size)).collect(),
            points: points.into(),
        }
    }

    /// Number of points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Height and width of the layer.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// The points, each `[row, column]`.
    pub fn points(&self) -> &[[f32; 2]] {
        &self.points
    }

    /// The four positions around every point: upper left, upper right, lower left, lower right.
    pub(crate) fn corners(&self) -> &[[Corner; 4]] {
        &self.corners
    }
}

/// The positions around a point, whose weights sum to 1. At the lower or right edge, where a neighbour
/// would lie outside, its weight is zero and the edge stands in for it.
fn corners([row, column]: [f32; 2], [height, width]: [usize; 2]) -> [Corner; 4] {
    let split = |coordinate: f32, side: usize| {
        let first = (coordinate as usize).min(side - 1);
        let second = (first + 1).min(side - 1);
        (first, second, coordinate - first as f32)
    };
    let (upper, lower, y) = split(row, height);
    let (left, right, x) = split(column, width);
    let corner = |row: usize, column: usize, weight| Corner {
        position: (row * width + column) as u32,
        weight,
    };
    [
        corner(upper, left, (1.0 - y) * (1.0 - x)),
        corner(upper, right, (1.0 - y) * x),
        corner(lower, left, y * (1.0 - x)),
        corner(lower, right, y * x),
    ]
}

/// A position next to a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Corner {
    /// Its index, rows first.
    pub position: u32,
    /// What it contributes to the value at the point.
    pub weight: f32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_outside_are_moved_to_the_edge() {
        let points = vec![[-1.0, 9.0], [f32::NAN, 2.5], [f32::INFINITY, 0.25]];
        let points = SamplePoints::new([3, 4], points);
        assert_eq!(points.points(), [[0.0, 3.0], [0.0, 2.5], [2.0, 0.25]]);
        assert_eq!((points.len(), points.is_empty()), (3, false));
        assert_eq!(points.size(), [3, 4]);
    }

    #[test]
    fn corners_lie_around_the_point() {
        let points = SamplePoints::new([3, 4], vec![[1.25, 2.5], [2.0, 3.0]]);
        let corners = points.corners();
        let positions = |index: usize| corners[index].map(|corner| corner.position);
        let weights = |index: usize| corners[index].map(|corner| corner.weight);
        assert_eq!(positions(0), [6, 7, 10, 11]);
        assert_eq!(weights(0), [0.375, 0.375, 0.125, 0.125]);
        assert_eq!(positions(1), [11; 4]);
        assert_eq!(weights(1), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    #[should_panic = "0 × 5 positions"]
    fn a_layer_without_positions_has_no_points() {
        SamplePoints::new([0, 5], vec![[0.0, 0.0]]);
    }
}
