//! An image cut into tiles, each with a halo of the pixels around it.

use crate::rect::Rect;

/// A tile of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// The pixels that belong to the tile. Those of all tiles are disjoint and cover the image.
    pub area: Rect,
    /// The same with the halo: the pixels around it that its features depend on, as far as the image
    /// reaches.
    pub window: Rect,
}

impl Tile {
    /// The tiles of an image of `size` (height and width), row by row, of about `sides` (height and width);
    /// as long as the image where there is none.
    ///
    /// For values at positions of `stride` pixels that depend on pixels as far as `halo` around. Sides are
    /// rounded up to a multiple of four times the stride, and windows begin at such multiples: there neither
    /// pooling windows nor the 4×4 tiles of a Winograd convolution are cut. What is left over at the right
    /// and at the bottom is a tile of its own only if it has a position.
    pub(crate) fn cut(
        size: [usize; 2],
        sides: [Option<usize>; 2],
        stride: usize,
        halo: usize,
    ) -> Vec<Self> {
        let halo = halo.next_multiple_of(stride);
        let [rows, columns] = [0, 1].map(|axis| cuts(size[axis], sides[axis], stride, halo));
        let around = |(start, end): (usize, usize), length: usize| {
            (start.saturating_sub(halo), (end + halo).min(length))
        };
        let mut tiles = Vec::new();
        for &row in &rows {
            for &column in &columns {
                tiles.push(Self {
                    area: Rect::between(row, column),
                    window: Rect::between(around(row, size[0]), around(column, size[1])),
                });
            }
        }
        tiles
    }

    /// The tile that is largest with its halo.
    pub(crate) fn largest(tiles: &[Self]) -> Self {
        let largest = tiles.iter().max_by_key(|tile| tile.window.count());
        *largest.expect("a tile at least")
    }
}

/// Where a side of an image is cut: first and end of each piece.
fn cuts(length: usize, side: Option<usize>, stride: usize, halo: usize) -> Vec<(usize, usize)> {
    let Some(side) = side else {
        return vec![(0, length)];
    };
    let grid = 4 * stride;
    // Any larger tile is the whole side too.
    let side = side.clamp(1, length.max(1)).next_multiple_of(grid);
    // A piece begins a halo behind a line of the grid.
    let starts = (side + halo % grid..).step_by(side);
    let starts = starts.take_while(|start| start + stride <= length);
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    let ends = starts.iter().skip(1).copied().chain([length]);
    starts.iter().copied().zip(ends).collect()
}
