//! Reading the 6×6 pixels under the sixteen tiles of a panel.
//!
//! They are read in place, four neighbouring tiles at a time; where four tiles of a panel are not
//! neighbours, or at the edge of the image, their pixels are copied first.

use pulp::Simd;

use super::interleave::{FOUR, GROUPS, load_deinterleaved};
use super::lanes::{Bits, Lanes, NR, copy, load_bits, prefetch};
use super::tiles::{Grid, Group, PATCH, Panel, Position, TILE};

/// Side of the patch in a 2×2 pool's output, where each of the inner two values stands for two of
/// the six pixels.
pub const POOLED_PATCH: usize = 4;

/// A row outside the image.
static ZEROS: [f32; (FOUR + 1) * TILE] = [0.0; (FOUR + 1) * TILE];

/// Where the patches of a panel lie in a plane of the image, or of the output of a 2×2 pool.
#[derive(Clone, Copy, Debug)]
pub struct PatchOffsets {
    /// Height and width of the plane.
    grid: Grid,
    pooled: bool,
    groups: [Group; GROUPS],
    whole: bool,
    /// For each row of the patch and each whole group the offset of the pixel left of its tiles,
    /// counted from the first pixel of the plane.
    rows: [[Option<isize>; GROUPS]; PATCH],
    /// All offsets that are read lie in this range.
    range: (isize, isize),
    /// All bits set for a tile that has a neighbour on this side, no bits for one that has none.
    left: Bits,
    right: Bits,
}

impl PatchOffsets {
    /// The offsets in a plane of the image, or of a 2×2 pool's output.
    pub fn new(panel: &Panel, pooled: bool) -> Self {
        let scale = if pooled { 2 } else { 1 };
        let grid = Grid {
            height: panel.grid.height / scale,
            width: panel.grid.width / scale,
        };
        let side = TILE / scale;
        let mut offsets = Self {
            grid,
            pooled,
            groups: panel.groups,
            whole: panel.whole.is_some(),
            rows: [[None; GROUPS]; PATCH],
            range: (0, 0),
            left: [u32::MAX; NR],
            right: [u32::MAX; NR],
        };
        for (group, tiles) in panel.groups.iter().enumerate() {
            let Group::Whole(first) = tiles else {
                continue;
            };
            for i in 0..PATCH {
                // One row above the tile; beyond `usize` at the upper edge.
                let y = (side * first.row + i.div_ceil(scale)).wrapping_sub(1);
                if y < grid.height {
                    let at = (y * grid.width + side * first.column) as isize - 1;
                    offsets.rows[i][group] = Some(at);
                    // Two reads of four tiles, the second one tile further right.
                    let end = at + (side * (FOUR + 1)) as isize;
                    offsets.range = (offsets.range.0.min(at), offsets.range.1.max(end));
                }
            }
            if first.column == 0 {
                offsets.left[FOUR * group] = 0;
            }
            if side * (first.column + FOUR) >= grid.width {
                offsets.right[FOUR * group + FOUR - 1] = 0;
            }
        }
        offsets
    }

    /// The pixels of the plane that begins at `start`, times the factor. What cannot be read in place,
    /// within `planes`, is copied.
    #[inline(always)]
    pub fn pixels<'a>(
        &'a self,
        planes: &[f32],
        start: usize,
        factor: f32,
        copies: &'a mut PatchCopies,
    ) -> Pixels<'a> {
        let (first, end) = self.range;
        let inside = start as isize + first >= 0 && start as isize + end <= planes.len() as isize;
        if self.whole && inside {
            // A pointer into all planes, since the pixel left of the first one lies before `start`.
            Pixels::InPlace(self, planes.as_ptr().wrapping_add(start), factor)
        } else {
            self.copy_groups(planes, start, inside, copies);
            Pixels::Copied(self, copies, factor)
        }
    }

    /// Copies what is not read in place; of whole groups nothing if all of them are `inside`. A function
    /// of its own, since its many variables would slow down panels that do not need it.
    #[inline(never)]
    fn copy_groups(&self, planes: &[f32], start: usize, inside: bool, copies: &mut PatchCopies) {
        let plane = planes.as_ptr().wrapping_add(start);
        let side = if self.pooled { TILE / 2 } else { TILE };
        let PatchCopies { copies, rows, next } = copies;
        for (group, copy) in copies.iter_mut().enumerate() {
            let tiles = match self.groups[group] {
                Group::Whole(_) if inside => {
                    for i in 0..PATCH {
                        rows[i][group] = match self.rows[i][group] {
                            Some(at) => plane.wrapping_offset(at),
                            None => ZEROS.as_ptr(),
                        };
                    }
                    next[group] = side;
                    continue;
                }
                Group::Whole(first) => std::array::from_fn(|t| {
                    let column = first.column + t;
                    Some(Position { column, ..first })
                }),
                Group::Mixed(tiles) => tiles,
            };
            if self.pooled {
                copy.fill::<2, POOLED_PATCH>(tiles, self.grid, &planes[start..]);
            } else {
                copy.fill::<TILE, PATCH>(tiles, self.grid, &planes[start..]);
            }
            for i in 0..PATCH {
                let row = if self.pooled { i.div_ceil(2) } else { i };
                rows[i][group] = copy.0[row].as_ptr();
            }
            next[group] = NEXT;
        }
    }
}

/// The pixels under the tiles of a panel.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Computed, row by row: six rows of six pixels, or four rows of four values of a pool's output.
    Computed(&'a [Lanes]),
    /// Read in place, in the plane that begins at the pointer. A pool's output is multiplied by the
    /// factor.
    InPlace(&'a PatchOffsets, *const f32, f32),
    /// The same, with copies of some groups.
    Copied(&'a PatchOffsets, &'a PatchCopies, f32),
}

/// Copies of the patches of groups that cannot be read in place.
#[derive(Debug)]
pub struct PatchCopies {
    copies: [GroupCopy; GROUPS],
    /// Where each row of each group begins, in the plane or in a copy.
    rows: [[*const f32; GROUPS]; PATCH],
    /// The distance to the pixels under the next tile, for each group.
    next: [usize; GROUPS],
}

impl PatchCopies {
    pub fn new() -> Self {
        Self {
            copies: [GroupCopy([[0.0; 2 * NEXT]; PATCH]); GROUPS],
            rows: [[ZEROS.as_ptr(); GROUPS]; PATCH],
            next: [NEXT; GROUPS],
        }
    }
}

/// For each row of the patches of four tiles the first `side` pixels of each, in the places where
/// they would be if the tiles were neighbours; [`NEXT`] values further on the other two.
#[derive(Clone, Copy, Debug)]
struct GroupCopy([[f32; 2 * NEXT]; PATCH]);

/// Values for the first pixels in a row of a copy.
const NEXT: usize = FOUR * TILE;

impl GroupCopy {
    /// Copies `SPAN = SIDE + 2` rows and columns of the plane for each tile, with zeros outside.
    #[inline(never)]
    fn fill<const SIDE: usize, const SPAN: usize>(
        &mut self,
        tiles: [Option<Position>; FOUR],
        grid: Grid,
        plane: &[f32],
    ) {
        for (t, tile) in tiles.into_iter().enumerate() {
            let Some(tile) = tile else { continue };
            for i in 0..SPAN {
                // One row above the tile; beyond `usize` at the upper edge.
                let y = (SIDE * tile.row + i).wrapping_sub(1);
                let mut pixels = [0.0; SPAN];
                if y < grid.height {
                    let row = &plane[y * grid.width..][..grid.width];
                    let x = SIDE * tile.column;
                    match row.get(x.wrapping_sub(1)..) {
                        Some(there) if there.len() >= SPAN => copy::<SPAN>(there, &mut pixels),
                        _ => {
                            let left = usize::from(x == 0);
                            let there = row.get(x + left - 1..).unwrap_or(&[]);
                            for i in 0..there.len().min(SPAN - left) {
                                pixels[left + i] = there[i];
                            }
                        }
                    }
                }
                let row = &mut self.0[i][SIDE * t..];
                copy::<SIDE>(&pixels, row);
                copy::<2>(&pixels[SIDE..], &mut row[NEXT..]);
            }
        }
    }
}

impl Pixels<'_> {
    /// Row `i` of all patches, for the lanes from `x` on.
    #[inline(always)]
    pub fn row<S: Simd>(self, simd: S, i: usize, x: usize) -> [S::f32s; PATCH] {
        let zero = simd.splat_f32s(0.0);
        let mut here = [ZEROS.as_ptr(); GROUPS];
        let mut next = here;
        let (offsets, factor) = match self {
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
            Self::InPlace(offsets, plane, factor) => {
                let side = if offsets.pooled { TILE / 2 } else { TILE };
                for group in 0..GROUPS {
                    if let Some(at) = offsets.rows[i][group] {
                        here[group] = plane.wrapping_offset(at);
                    }
                    next[group] = here[group].wrapping_add(side);
                }
                (offsets, factor)
            }
            Self::Copied(offsets, copies, factor) => {
                here = copies.rows[i];
                for group in 0..GROUPS {
                    next[group] = here[group].wrapping_add(copies.next[group]);
                }
                (offsets, factor)
            }
        };
        // SAFETY: `pixels` copies what does not lie within the planes; copies and `ZEROS` are as
        // long as what is read of a row.
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
        let planes = vec![0.0; 3 * 72 * 67];
        let in_place = |grid: Grid, number: usize, pooled: bool, plane: usize| {
            let scale = if pooled { 2 } else { 1 };
            let size = (grid.height / scale) * (grid.width / scale);
            let offsets = PatchOffsets::new(&grid.panel(number), pooled);
            let planes = &planes[..3 * size];
            let mut copies = PatchCopies::new();
            let pixels = offsets.pixels(planes, plane * size, 1.0, &mut copies);
            matches!(pixels, Pixels::InPlace(..))
        };
        for pooled in [false, true] {
            for number in 0..16 {
                let in_place = |plane| in_place(grid(64, 64), number, pooled, plane);
                assert_eq!(in_place(0), number > 0, "{number}");
                assert!(in_place(1), "{number}");
                assert_eq!(in_place(2), number < 15, "{number}");
            }
        }
        assert!(in_place(grid(16, 16), 0, false, 1));
        assert!(in_place(grid(8, 32), 0, true, 1));
        // The last row of tiles is not whole; nor is the last tile of a row; a group is on two rows.
        assert!(!in_place(grid(67, 64), 16, false, 1));
        assert!(!in_place(grid(64, 63), 0, false, 1));
        assert!(!in_place(grid(64, 72), 1, false, 1));
    }
}
