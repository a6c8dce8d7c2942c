//! The geometry of Winograd's tiles: how an image is cut into tiles and tiles are grouped.
//!
//! A tile is 4×4 output pixels. Tiles are numbered row by row; sixteen in a row of numbers form a
//! panel, one tile in each lane of a vector.

use std::ops::Range;

use super::interleave::{FOUR, GROUPS};
use super::lanes::NR;

/// Side of an output tile in pixels.
pub const TILE: usize = 4;
/// Side of the input patch under a tile: the tile and one pixel around it.
pub const PATCH: usize = 6;

/// The tiles of an image, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Height of the image in pixels.
    pub height: usize,
    /// Width of the image in pixels.
    pub width: usize,
}

impl Grid {
    /// Rows of tiles.
    pub fn rows(self) -> usize {
        self.height.div_ceil(TILE)
    }

    /// Tiles in a row.
    pub fn columns(self) -> usize {
        self.width.div_ceil(TILE)
    }

    /// Number of tiles.
    pub fn tiles(self) -> usize {
        self.rows() * self.columns()
    }

    /// Number of panels; the last one may be incomplete.
    pub fn panels(self) -> usize {
        self.tiles().div_ceil(NR)
    }

    /// The panel with this number.
    pub fn panel(self, panel: usize) -> Panel {
        let first = panel * NR;
        let tiles = first..self.tiles().min(first + NR);
        let runs = self.runs(tiles.clone());
        let groups = std::array::from_fn(|group| self.group(tiles.start + FOUR * group));
        let whole = match groups {
            [
                Group::Whole(a),
                Group::Whole(b),
                Group::Whole(c),
                Group::Whole(d),
            ] => Some([a, b, c, d]),
            _ => None,
        };
        Panel {
            grid: self,
            tiles,
            runs,
            groups,
            whole,
        }
    }

    /// Some tiles, cut where a row of tiles ends.
    fn runs(self, tiles: Range<usize>) -> Vec<Run> {
        let mut runs = Vec::with_capacity(4);
        let mut tile = tiles.start;
        while tile < tiles.end {
            let (row, column) = (tile / self.columns(), tile % self.columns());
            let count = (self.columns() - column).min(tiles.end - tile);
            runs.push(Run {
                row,
                column,
                lane: tile - tiles.start,
                count,
            });
            tile += count;
        }
        runs
    }

    /// The four tiles from this one on.
    fn group(self, first: usize) -> Group {
        let columns = self.columns();
        let tiles: [_; FOUR] = std::array::from_fn(|t| {
            let tile = first + t;
            (tile < self.tiles()).then(|| Position {
                row: tile / columns,
                column: tile % columns,
            })
        });
        match tiles {
            [Some(first), .., Some(last)]
                if first.row == last.row
                    && TILE * (last.row + 1) <= self.height
                    && TILE * (last.column + 1) <= self.width =>
            {
                Group::Whole(first)
            }
            _ => Group::Mixed(tiles),
        }
    }
}

/// Sixteen tiles, one for each lane. The last panel of an image may have fewer.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The image that the tiles belong to.
    pub grid: Grid,
    /// The numbers of the tiles.
    pub tiles: Range<usize>,
    /// The tiles again, cut where a row of tiles ends.
    pub runs: Vec<Run>,
    /// The tiles once more, four at a time.
    pub groups: [Group; GROUPS],
    /// Positions of the first tiles of all groups, if all are whole.
    pub whole: Option<[Position; GROUPS]>,
}

/// Four tiles with consecutive numbers.
#[derive(Clone, Copy, Debug)]
pub enum Group {
    /// Neighbours in a row that lie fully inside the image. The position is that of the first.
    Whole(Position),
    /// Any others. Lanes of the last panel may have no tile.
    Mixed([Option<Position>; FOUR]),
}

/// Row and column of a tile.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub row: usize,
    pub column: usize,
}

/// `count` neighbouring tiles of one row, the first at `row` and `column`, in the lanes from `lane`
/// on.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub row: usize,
    pub column: usize,
    pub lane: usize,
    pub count: usize,
}
