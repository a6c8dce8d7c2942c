//! Reading the 6×6 pixels under the sixteen tiles of a panel.
//!
//! Where possible they are read in place, four neighbouring tiles at a time; at the edges of an
//! image they are copied to a [`Patch`] first.

use pulp::Simd;

use super::interleave::{FOUR, GROUPS, load_deinterleaved};
use super::lanes::{Bits, Lanes, NR, copy, load_bits, prefetch, transpose};
use super::tiles::{PATCH, Panel, TILE};

/// The 6×6 pixels under each of sixteen tiles.
pub type Patch = [[Lanes; PATCH]; PATCH];

/// Side of the patch in a 2×2 pool's output, where each of the inner two values stands for two of
/// the six pixels.
pub const POOLED_PATCH: usize = 4;

/// Pixels in one row of the patches of four neighbouring tiles.
const SPAN: usize = FOUR * TILE + 2;

/// A plane of values, and how they stand for the pixels of the image.
#[derive(Clone, Copy, Debug)]
pub enum Plane<'a> {
    /// The pixels themselves.
    Whole(&'a [f32]),
    /// The gradient of a 2×2 pool's output: each value times the factor stands for four pixels.
    Pooled(&'a [f32], f32),
}

/// A row outside the image.
static ZEROS: [f32; 4 * TILE + 4] = [0.0; 4 * TILE + 4];

/// Offsets of the patches of a panel in a plane, for reading them in place.
#[derive(Clone, Copy, Debug)]
pub struct PatchOffsets {
    pooled: bool,
    /// For each row of the patch and each group the offset of the pixel left of its tiles, counted
    /// from the first pixel of the plane; `None` for a row outside the image.
    rows: [[Option<isize>; GROUPS]; PATCH],
    /// All offsets that are read lie in this range.
    range: (isize, isize),
    /// All bits set for a tile that has a neighbour on this side, no bits for one that has none.
    left: Bits,
    right: Bits,
}

impl PatchOffsets {
    /// The offsets in a plane of the image, or of a 2×2 pool's output, if all groups of the panel
    /// are whole.
    pub fn new(panel: &Panel, pooled: bool) -> Option<Self> {
        let groups = panel.groups?;
        let scale = if pooled { 2 } else { 1 };
        let (height, width) = (panel.grid.height / scale, panel.grid.width / scale);
        let side = TILE / scale;
        let mut offsets = Self {
            pooled,
            rows: [[None; GROUPS]; PATCH],
            range: (0, 0),
            left: [u32::MAX; NR],
            right: [u32::MAX; NR],
        };
        for (group, position) in groups.iter().enumerate() {
            for (i, row) in offsets.rows.iter_mut().enumerate() {
                // One row above the tile; beyond `usize` at the upper edge.
                let y = (side * position.row + i.div_ceil(scale)).wrapping_sub(1);
                if y < height {
                    let at = (y * width + side * position.column) as isize - 1;
                    row[group] = Some(at);
                    // Two reads of four tiles, the second one tile further right.
                    let end = at + (side * (FOUR + 1)) as isize;
                    offsets.range = (offsets.range.0.min(at), offsets.range.1.max(end));
                }
            }
            if position.column == 0 {
                offsets.left[FOUR * group] = 0;
            }
            if side * (position.column + FOUR) >= width {
                offsets.right[FOUR * group + FOUR - 1] = 0;
            }
        }
        Some(offsets)
    }
}

/// The pixels under the tiles of a panel.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Copied by [`gather`].
    Gathered(&'a Patch),
    /// Computed, row by row: six rows of six pixels, or four rows of four values of a pool's output.
    Computed(&'a [Lanes]),
    /// Read in place, in the plane that begins at the pointer, and multiplied by the factor.
    InPlace(&'a PatchOffsets, *const f32, f32),
}

impl<'a> Pixels<'a> {
    /// The pixels of the plane that begins at `start`, if all that is read lies within `planes`.
    #[inline(always)]
    pub fn in_place(
        offsets: &'a PatchOffsets,
        planes: &[f32],
        start: usize,
        factor: f32,
    ) -> Option<Self> {
        let (first, end) = offsets.range;
        let inside = start as isize + first >= 0 && start as isize + end <= planes.len() as isize;
        // A pointer into all planes, since the pixel left of the first one lies before `start`.
        inside.then(|| Self::InPlace(offsets, planes.as_ptr().wrapping_add(start), factor))
    }

    /// Row `i` of all patches, for the lanes from `x` on.
    #[inline(always)]
    pub fn row<S: Simd>(self, simd: S, i: usize, x: usize) -> [S::f32s; PATCH] {
        let zero = simd.splat_f32s(0.0);
        let (offsets, plane, factor) = match self {
            Self::Gathered(patch) => {
                let mut row = [zero; PATCH];
                for j in 0..PATCH {
                    row[j] = patch[i][j].load::<S>(x);
                }
                return row;
            }
            Self::Computed(values) if values.len() == POOLED_PATCH * POOLED_PATCH => {
                let values = &values[i.div_ceil(2) * POOLED_PATCH..][..POOLED_PATCH];
                let at = |j: usize| values[j].load::<S>(x);
                let (b, c) = (at(1), at(2));
                return [at(0), b, b, c, c, at(3)];
            }
            Self::Computed(values) => {
                let values = &values[i * PATCH..][..PATCH];
                let mut row = [zero; PATCH];
                for j in 0..PATCH {
                    row[j] = values[j].load::<S>(x);
                }
                return row;
            }
            Self::InPlace(offsets, plane, factor) => (offsets, plane, factor),
        };
        let mut here = [ZEROS.as_ptr(); GROUPS];
        for group in 0..GROUPS {
            if let Some(at) = offsets.rows[i][group] {
                here[group] = plane.wrapping_offset(at);
            }
        }
        let side = if offsets.pooled { TILE / 2 } else { TILE };
        let mut next = here;
        for next in &mut next {
            *next = next.wrapping_add(side);
        }
        // SAFETY: `in_place` made sure that all offsets lie within the planes; `ZEROS` is as long as
        // what is read of a row.
        let [mut first, b, c, d, e, mut last] = unsafe {
            if offsets.pooled {
                let [a, b] = load_deinterleaved::<S, 2>(simd, here, x);
                let [c, d] = load_deinterleaved::<S, 2>(simd, next, x);
                let factor = simd.splat_f32s(factor);
                let (b, c) = (simd.mul_f32s(factor, b), simd.mul_f32s(factor, c));
                let (a, d) = (simd.mul_f32s(factor, a), simd.mul_f32s(factor, d));
                [a, b, b, c, c, d]
            } else {
                let [a, b, c, d] = load_deinterleaved::<S, 4>(simd, here, x);
                let [e, f, ..] = load_deinterleaved::<S, 4>(simd, next, x);
                [a, b, c, d, e, f]
            }
        };
        let none = simd.splat_u32s(0);
        let edge = |bits: &Bits| simd.equal_u32s(load_bits::<S>(bits, x), none);
        first = simd.select_f32s(edge(&offsets.left), zero, first);
        last = simd.select_f32s(edge(&offsets.right), zero, last);
        [first, b, c, d, e, last]
    }
}

/// Copies the pixels under the tiles of a panel, with zeros outside the image. Lanes without a tile
/// are left as they are.
#[inline(always)]
pub fn gather(panel: &Panel, plane: Plane<'_>, patch: &mut Patch) {
    let grid = panel.grid;
    for run in &panel.runs {
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
                    deinterleave_row(&pixels, &mut patch[i], lane);
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

/// The pixels of a row from `x − 1` on, zero outside the row.
#[inline(always)]
fn whole_span(row: &[f32], x: usize) -> [f32; SPAN] {
    let mut pixels = [0.0; SPAN];
    match row.get(x.wrapping_sub(1)..) {
        Some(there) if there.len() >= SPAN => copy::<SPAN>(there, &mut pixels),
        _ => {
            let left = usize::from(x == 0);
            let there = &row[x + left - 1..];
            for i in 0..there.len().min(SPAN - left) {
                pixels[left + i] = there[i];
            }
        }
    }
    pixels
}

/// The pixels from `x − 1` on (`x` is even) that the values of a pooled row stand for.
#[inline(always)]
fn pooled_span(row: &[f32], x: usize, factor: f32) -> [f32; SPAN] {
    let mut values = [0.0; SPAN / 2 + 1];
    let first = (x / 2).wrapping_sub(1);
    match row.get(first..first.wrapping_add(values.len())) {
        Some(there) => copy::<{ SPAN / 2 + 1 }>(there, &mut values),
        None => {
            let left = usize::from(x == 0);
            let there = row.get(x / 2 + left - 1..).unwrap_or(&[]);
            for i in 0..there.len().min(values.len() - left) {
                values[left + i] = there[i];
            }
        }
    }
    let mut pixels = [0.0; SPAN];
    for i in 0..SPAN {
        pixels[i] = factor * values[i.div_ceil(2)];
    }
    pixels
}

/// Writes a row of four patches to four lanes from `lane` on: pixel `4t + j` to lane `t` of column
/// `j`.
#[inline(always)]
fn deinterleave_row(pixels: &[f32; SPAN], row: &mut [Lanes; PATCH], lane: usize) {
    let four = |x: usize| [pixels[x], pixels[x + 1], pixels[x + 2], pixels[x + 3]];
    let inner = transpose([four(0), four(4), four(8), four(12)]);
    // Columns 4 and 5 are the first two of the next tile.
    let outer = transpose([four(2), four(6), four(10), four(14)]);
    for j in 0..4 {
        copy::<FOUR>(&inner[j], &mut row[j].0[lane..]);
    }
    for j in 4..PATCH {
        copy::<FOUR>(&outer[j - 2], &mut row[j].0[lane..]);
    }
}

/// Prefetches the patches of a panel in the plane that begins at `plane`, which may be any address.
#[inline(always)]
pub fn prefetch_patches(panel: &Panel, plane: *const f32, pooled: bool) {
    let scale = if pooled { 2 } else { 1 };
    let width = panel.grid.width / scale;
    for run in &panel.runs {
        let at = (TILE * run.row / scale * width + TILE * run.column / scale).wrapping_sub(width);
        for i in 0..PATCH / scale {
            for x in (0..TILE * run.count / scale + 2).step_by(NR) {
                prefetch(plane.wrapping_add(at.wrapping_add(i * width + x)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::cpu::tiles::Grid;

    /// Whole groups are read in place, except where that would leave the planes: at the very first
    /// and the very last pixel of all.
    #[test]
    fn whole_groups_are_read_in_place() {
        let grid = |height, width| Grid { height, width };
        let planes = vec![0.0; 3 * 64 * 64];
        for pooled in [false, true] {
            let size = if pooled { 32 * 32 } else { 64 * 64 };
            for number in 0..16 {
                let panel = grid(64, 64).panel(number);
                let offsets = PatchOffsets::new(&panel, pooled).unwrap();
                let in_place = |plane: usize| {
                    let planes = &planes[..3 * size];
                    Pixels::in_place(&offsets, planes, plane * size, 1.0).is_some()
                };
                assert_eq!(in_place(0), number > 0, "{number}");
                assert!(in_place(1), "{number}");
                assert_eq!(in_place(2), number < 15, "{number}");
            }
        }
        let offsets = |height, width, number, pooled| {
            PatchOffsets::new(&grid(height, width).panel(number), pooled)
        };
        assert!(offsets(16, 16, 0, false).is_some());
        assert!(offsets(8, 32, 0, true).is_some());
        // The last row of tiles is not whole; a row of tiles is not whole; nor is a group.
        assert!(offsets(67, 64, 16, false).is_none());
        assert!(offsets(64, 63, 0, false).is_none());
        assert!(offsets(64, 68, 1, false).is_none());
    }
}
