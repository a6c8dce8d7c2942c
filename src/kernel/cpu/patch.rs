//! From planes of pixels to the patches under sixteen tiles, and back.

use super::lanes::{LANES, prefetch, transpose};
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

/// Pixels of a run's patches in one row.
const SPAN: usize = TILE * LANES + 2;

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
    let mut copy = [0.0; SPAN];
    for run in runs {
        let span = TILE * run.count + 2;
        let x = TILE * run.column;
        for i in 0..PATCH {
            let row = &mut patch[i];
            // One row above the tile; beyond `usize` at the upper edge.
            let y = (TILE * run.row + i).wrapping_sub(1);
            let pixels = match plane {
                _ if y >= grid.height => None,
                Plane::Whole(values) => {
                    let values = &values[y * grid.width..][..grid.width];
                    Some(whole_span(values, x, span, &mut copy))
                }
                Plane::Pooled(values, factor) => {
                    let (height, width) = (grid.height / 2, grid.width / 2);
                    (y / 2 < height).then(|| {
                        let values = &values[y / 2 * width..][..width];
                        pooled_span(values, x, span, factor, &mut copy)
                    })
                }
            };
            let lanes = run.lane..run.lane + run.count;
            match pixels {
                Some(pixels) => scatter(pixels, row, run),
                None => row.iter_mut().for_each(|j| j.0[lanes.clone()].fill(0.0)),
            }
        }
    }
}

/// The pixels from `x − 1` on, in place where they all exist.
#[inline(always)]
fn whole_span<'a>(row: &'a [f32], x: usize, span: usize, copy: &'a mut [f32; SPAN]) -> &'a [f32] {
    if x > 0 && x - 1 + span <= row.len() {
        return &row[x - 1..][..span];
    }
    let left = usize::from(x == 0);
    let there = &row[x + left - 1..row.len().min(x - 1 + left + span - left)];
    copy[0] = 0.0;
    copy[left..left + there.len()].copy_from_slice(there);
    copy[left + there.len()..span].fill(0.0);
    &copy[..span]
}

/// The pixels from `x − 1` on that the values of a pooled row stand for.
#[inline(always)]
fn pooled_span<'a>(
    row: &[f32],
    x: usize,
    span: usize,
    factor: f32,
    copy: &'a mut [f32; SPAN],
) -> &'a [f32] {
    let value = |x: usize| row.get(x / 2).map_or(0.0, |value| factor * value);
    copy[0] = match x {
        0 => 0.0,
        _ => value(x - 1),
    };
    copy[span - 1] = value(x + span - 2);
    let inner = &mut copy[1..span - 1];
    let there = &row[(x / 2).min(row.len())..row.len().min((x + inner.len()) / 2)];
    for (pair, value) in inner.as_chunks_mut::<2>().0.iter_mut().zip(there) {
        *pair = [factor * value; 2];
    }
    inner[2 * there.len()..].fill(0.0);
    &copy[..span]
}

/// Deals a row of pixels out to the patches: pixel `4t + j` to lane `t` of column `j`.
#[inline(always)]
fn scatter(pixels: &[f32], row: &mut [super::lanes::Lanes; PATCH], run: &Run) {
    let lanes = run.lane..run.lane + run.count;
    let [a, b, c, d, e, f] = row;
    let columns = [
        &mut a.0[lanes.clone()],
        &mut b.0[lanes.clone()],
        &mut c.0[lanes.clone()],
        &mut d.0[lanes.clone()],
        &mut e.0[lanes.clone()],
        &mut f.0[lanes],
    ];
    let four = |x: usize| -> [f32; 4] { [pixels[x], pixels[x + 1], pixels[x + 2], pixels[x + 3]] };
    let fours = run.count / 4 * 4;
    for t in (0..fours).step_by(4) {
        let x = TILE * t;
        let inner = transpose([four(x), four(x + 4), four(x + 8), four(x + 12)]);
        for j in 0..4 {
            columns[j][t..t + 4].copy_from_slice(&inner[j]);
        }
        // Columns 4 and 5 are the first two of the next tile.
        let outer = transpose([four(x + 2), four(x + 6), four(x + 10), four(x + 14)]);
        for j in 4..6 {
            columns[j][t..t + 4].copy_from_slice(&outer[j - 2]);
        }
    }
    for t in fours..run.count {
        for j in 0..PATCH {
            columns[j][t] = pixels[TILE * t + j];
        }
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
    tiles: &[[super::lanes::Lanes; SIDE]; SIDE],
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
            if count == 4 * LANES && SIDE == 4 {
                for t in (0..LANES).step_by(4) {
                    let four = |j: usize| -> [f32; 4] {
                        let lanes = &tiles[j % SIDE].0;
                        [lanes[t], lanes[t + 1], lanes[t + 2], lanes[t + 3]]
                    };
                    let pixels = transpose([four(0), four(1), four(2), four(3)]);
                    for k in 0..4 {
                        row[4 * (t + k)..][..4].copy_from_slice(&pixels[k]);
                    }
                }
            } else {
                for (x, pixel) in row.iter_mut().enumerate() {
                    *pixel = tiles[x % SIDE].0[run.lane + x / SIDE];
                }
            }
        }
    }
}
