//! From planes of pixels to the patches under sixteen tiles, and back.

use super::lanes::{LANES, Lanes, prefetch, transpose};
use super::winograd::{Near, PATCH, Patch, TILE};

/// Tiles of an image, numbered row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Height of the image in pixels.
    pub height: usize,
    /// Width of the image in pixels.
    pub width: usize,
}

impl Grid {
    /// Rows of tiles.
    fn rows(self) -> usize {
        self.height.div_ceil(TILE)
    }

    /// Tiles in a row.
    fn columns(self) -> usize {
        self.width.div_ceil(TILE)
    }

    /// All tiles.
    pub fn tiles(self) -> usize {
        self.rows() * self.columns()
    }

    /// Groups of sixteen tiles, the last one perhaps incomplete.
    pub fn panels(self) -> usize {
        self.tiles().div_ceil(LANES)
    }

    /// The tiles of a panel, cut where a row of tiles ends.
    pub fn runs(self, panel: usize) -> Vec<Run> {
        let first = panel * LANES;
        let end = self.tiles().min(first + LANES);
        let mut runs = Vec::with_capacity(4);
        let mut tile = first;
        while tile < end {
            let (row, column) = (tile / self.columns(), tile % self.columns());
            let count = (self.columns() - column).min(end - tile);
            runs.push(Run {
                row,
                column,
                lane: tile - first,
                count,
            });
            tile += count;
        }
        runs
    }
}

/// Neighbouring tiles of one row, in the lanes from `lane` on.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    row: usize,
    column: usize,
    lane: usize,
    count: usize,
}

/// Tiles that are dealt out at once.
const FOUR: usize = 4;
/// Pixels of their patches in one row.
const SPAN: usize = FOUR * TILE + 2;

/// What a plane of pixels stands for.
#[derive(Clone, Copy, Debug)]
pub enum Plane<'a> {
    /// The image itself.
    Whole(&'a [f32]),
    /// The gradient of a 2×2 pool's output: each value, multiplied by the factor, stands for four
    /// pixels.
    Pooled(&'a [f32], f32),
}

/// Collects the pixels under the tiles of a panel, with zeros outside of the image. Lanes without a
/// tile keep what they held.
#[inline(always)]
pub fn gather(grid: Grid, runs: &[Run], plane: Plane<'_>, patch: &mut Patch) {
    for run in runs {
        for i in 0..PATCH {
            // One row above the tile; beyond `usize` at the upper edge.
            let y = (TILE * run.row + i).wrapping_sub(1);
            for tile in (0..run.count).step_by(FOUR) {
                let x = TILE * (run.column + tile);
                let pixels = match plane {
                    _ if y >= grid.height => [0.0; SPAN],
                    Plane::Whole(values) => whole_span(&values[y * grid.width..][..grid.width], x),
                    Plane::Pooled(values, factor) => {
                        let width = grid.width / 2;
                        match values.get(y / 2 * width..(y / 2 + 1) * width) {
                            Some(values) => pooled_span(values, x, factor),
                            None => [0.0; SPAN],
                        }
                    }
                };
                let lane = run.lane + tile;
                if run.count - tile >= FOUR {
                    deal(&pixels, &mut patch[i], lane);
                } else {
                    for t in 0..run.count - tile {
                        for j in 0..PATCH {
                            patch[i][j].0[lane + t] = pixels[TILE * t + j];
                        }
                    }
                }
            }
        }
    }
}

/// The pixels of a row from `x − 1` on.
#[inline(always)]
fn whole_span(row: &[f32], x: usize) -> [f32; SPAN] {
    let mut pixels = [0.0; SPAN];
    match row.get(x.wrapping_sub(1)..) {
        Some(there) if there.len() >= SPAN => pixels.copy_from_slice(&there[..SPAN]),
        _ => {
            let left = usize::from(x == 0);
            for (pixel, &value) in pixels[left..].iter_mut().zip(&row[x + left - 1..]) {
                *pixel = value;
            }
        }
    }
    pixels
}

/// The pixels from `x − 1` on, an odd place, that the values of a pooled row stand for.
#[inline(always)]
fn pooled_span(row: &[f32], x: usize, factor: f32) -> [f32; SPAN] {
    let mut values = [0.0; SPAN / 2 + 1];
    let first = (x / 2).wrapping_sub(1);
    match row.get(first..first.wrapping_add(values.len())) {
        Some(there) => values.copy_from_slice(there),
        None => {
            let left = usize::from(x == 0);
            let there = row.get(x / 2 + left - 1..).unwrap_or(&[]);
            for (value, &there) in values[left..].iter_mut().zip(there) {
                *value = there;
            }
        }
    }
    let mut pixels = [0.0; SPAN];
    for i in 0..SPAN {
        pixels[i] = factor * values[i.div_ceil(2)];
    }
    pixels
}

/// Deals four patches of a row out to the lanes from `lane` on: pixel `4t + j` to lane `t` of column
/// `j`.
#[inline(always)]
fn deal(pixels: &[f32; SPAN], row: &mut [Lanes; PATCH], lane: usize) {
    let four = |x: usize| [pixels[x], pixels[x + 1], pixels[x + 2], pixels[x + 3]];
    let inner = transpose([four(0), four(4), four(8), four(12)]);
    // Columns 4 and 5 are the first two of the next tile.
    let outer = transpose([four(2), four(6), four(10), four(14)]);
    for j in 0..4 {
        row[j].0[lane..lane + FOUR].copy_from_slice(&inner[j]);
    }
    for j in 4..PATCH {
        row[j].0[lane..lane + FOUR].copy_from_slice(&outer[j - 2]);
    }
}

/// Asks for what [`gather`] will read of a plane, which may lie anywhere.
#[inline(always)]
pub fn foresee(grid: Grid, runs: &[Run], plane: *const f32, pooled: bool) {
    let scale = if pooled { 2 } else { 1 };
    let width = grid.width / scale;
    for run in runs {
        let at = (TILE * run.row / scale * width + TILE * run.column / scale).wrapping_sub(width);
        for i in 0..PATCH / scale {
            for x in (0..TILE * run.count / scale + 2).step_by(LANES) {
                prefetch(plane.wrapping_add(at.wrapping_add(i * width + x)));
            }
        }
    }
}

/// Collects the masks of a panel's tiles and of their neighbours; zero outside of the image.
#[inline(always)]
pub fn gather_masks(grid: Grid, runs: &[Run], masks: &[u16], near: &mut Near) {
    let columns = grid.columns();
    for run in runs {
        for dy in 0..3 {
            let mut row = [0; LANES + 2];
            let tile_row = (run.row + dy).wrapping_sub(1);
            if tile_row < grid.rows() {
                let left = usize::from(run.column == 0);
                let end = columns.min(run.column + run.count + 1);
                let there = &masks[tile_row * columns..][run.column + left - 1..end];
                row[left..left + there.len()].copy_from_slice(there);
            }
            for dx in 0..3 {
                let near = &mut near[dy][dx];
                if run.count == LANES {
                    for t in 0..LANES {
                        near[t] = row[dx + t].into();
                    }
                } else {
                    for t in 0..run.count {
                        near[run.lane + t] = row[dx + t].into();
                    }
                }
            }
        }
    }
}

/// Writes the tiles of a panel, `SIDE` pixels high and wide, into a plane of `height` × `width`
/// pixels; what lies outside of it is left out.
///
/// # Safety
/// `plane` must be valid for writing `height · width` values, and no other thread may access those
/// under the tiles of these runs.
#[inline(always)]
pub unsafe fn place<const SIDE: usize>(
    runs: &[Run],
    tiles: &[[Lanes; SIDE]; SIDE],
    plane: *mut f32,
    (height, width): (usize, usize),
) {
    for run in runs {
        let (x, y) = (SIDE * run.column, SIDE * run.row);
        if x >= width {
            continue;
        }
        let count = (SIDE * run.count).min(width - x);
        for i in 0..SIDE.min(height.saturating_sub(y)) {
            // SAFETY: row `y + i` and the `count` pixels from `x` on are inside of the plane.
            let row =
                unsafe { std::slice::from_raw_parts_mut(plane.add((y + i) * width + x), count) };
            let tiles = &tiles[i];
            let (fours, rest) = row.as_chunks_mut::<16>();
            let mut lane = run.lane;
            if SIDE == TILE {
                for pixels in fours.iter_mut() {
                    let four = |j: usize| {
                        let lanes = &tiles[j % SIDE].0;
                        [
                            lanes[lane],
                            lanes[lane + 1],
                            lanes[lane + 2],
                            lanes[lane + 3],
                        ]
                    };
                    *pixels = bytemuck::cast(transpose([four(0), four(1), four(2), four(3)]));
                    lane += FOUR;
                }
            } else {
                for pixels in fours.iter_mut() {
                    for x in 0..pixels.len() {
                        pixels[x] = tiles[x % SIDE].0[lane + x / SIDE];
                    }
                    lane += pixels.len() / SIDE;
                }
            }
            for (x, pixel) in rest.iter_mut().enumerate() {
                *pixel = tiles[x % SIDE].0[lane + x / SIDE];
            }
        }
    }
}
