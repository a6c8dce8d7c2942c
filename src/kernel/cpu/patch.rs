//! From planes of pixels to the patches under sixteen tiles, and back.

use std::ops::Range;

use pulp::Simd;

use super::deal::{FOUR, GROUPS, columns, write};
use super::lanes::{Bits, LANES, Lanes, load_bits, prefetch, transpose};
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

    /// The tiles of a panel.
    pub fn panel(self, panel: usize) -> Panel {
        let first = panel * LANES;
        let tiles = first..self.tiles().min(first + LANES);
        let runs = self.runs(tiles.clone());
        let groups = self.groups(&runs);
        Panel {
            grid: self,
            tiles,
            runs,
            groups,
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

    /// The groups of a panel, if each has four neighbours that lie inside of the image whole.
    fn groups(self, runs: &[Run]) -> Option<[Place; GROUPS]> {
        let mut groups = [Place { row: 0, column: 0 }; GROUPS];
        let mut filled = 0;
        for run in runs {
            let inside = TILE * (run.row + 1) <= self.height
                && TILE * (run.column + run.count) <= self.width;
            if run.count % FOUR != 0 || !inside {
                return None;
            }
            for tile in (0..run.count).step_by(FOUR) {
                groups[filled] = Place {
                    row: run.row,
                    column: run.column + tile,
                };
                filled += 1;
            }
        }
        (filled == GROUPS).then_some(groups)
    }
}

/// Sixteen tiles.
#[derive(Clone, Debug)]
pub struct Panel {
    /// The numbers of its tiles.
    pub tiles: Range<usize>,
    grid: Grid,
    runs: Vec<Run>,
    /// Where the first tile of each group of four lies, if all groups are whole.
    groups: Option<[Place; GROUPS]>,
}

/// Row and column of a tile.
#[derive(Clone, Copy, Debug)]
struct Place {
    row: usize,
    column: usize,
}

/// Neighbouring tiles of one row, in the lanes from `lane` on.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    row: usize,
    column: usize,
    lane: usize,
    count: usize,
}

/// Values of a pool's output under a patch, along one axis: each of the inner two stands for two of
/// the six pixels.
pub const DISTINCT: usize = 4;

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

/// A row outside of the image.
static NOTHING: [f32; 4 * TILE + 4] = [0.0; 4 * TILE + 4];

/// Where the pixels under the tiles of a panel lie in a plane, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pooled: bool,
    /// For each group the place one pixel left of its tiles in each row, counted from the first
    /// pixel of the plane; `None` for a row outside of the image.
    rows: [[Option<isize>; GROUPS]; PATCH],
    /// What is read lies in this range.
    reach: (isize, isize),
    /// All bits of a tile that has a neighbour on this side, none of one that has none.
    left: Bits,
    right: Bits,
}

impl Panel {
    /// Where the pixels lie, of a plane of the image or of a 2×2 pool's output, if all groups are
    /// whole.
    pub fn window(&self, pooled: bool) -> Option<Window> {
        let groups = self.groups?;
        let scale = if pooled { 2 } else { 1 };
        let (height, width) = (self.grid.height / scale, self.grid.width / scale);
        let side = TILE / scale;
        let mut window = Window {
            pooled,
            rows: [[None; GROUPS]; PATCH],
            reach: (0, 0),
            left: [u32::MAX; LANES],
            right: [u32::MAX; LANES],
        };
        for (group, place) in groups.iter().enumerate() {
            for (i, row) in window.rows.iter_mut().enumerate() {
                // One row above the tile; beyond `usize` at the upper edge.
                let y = (side * place.row + i.div_ceil(scale)).wrapping_sub(1);
                if y < height {
                    let at = (y * width + side * place.column) as isize - 1;
                    row[group] = Some(at);
                    // Two reads of four tiles, the second one tile further right.
                    let end = at + (side * (FOUR + 1)) as isize;
                    window.reach = (window.reach.0.min(at), window.reach.1.max(end));
                }
            }
            if place.column == 0 {
                window.left[FOUR * group] = 0;
            }
            if side * (place.column + FOUR) >= width {
                window.right[FOUR * group + FOUR - 1] = 0;
            }
        }
        Some(window)
    }
}

/// The pixels under the tiles of a panel.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Collected by [`gather`].
    Collected(&'a Patch),
    /// Computed, row by row: the six rows of six pixels, or what a pool's output holds of them, four
    /// rows of four values.
    Computed(&'a [Lanes]),
    /// Where they lie, in the plane that begins at the pointer, and what they are multiplied with.
    There(&'a Window, *const f32, f32),
}

impl<'a> Pixels<'a> {
    /// The pixels of the plane that begins at `start`, if all that is read lies within `planes`.
    #[inline(always)]
    pub fn there(window: &'a Window, planes: &[f32], start: usize, factor: f32) -> Option<Self> {
        let (first, end) = window.reach;
        let inside = start as isize + first >= 0 && start as isize + end <= planes.len() as isize;
        // A pointer to all planes, since the pixel left of the first lies before `start`.
        inside.then(|| Self::There(window, planes.as_ptr().wrapping_add(start), factor))
    }

    /// Row `i` of all patches, for the lanes from `x` on.
    #[inline(always)]
    pub fn row<S: Simd>(self, simd: S, i: usize, x: usize) -> [S::f32s; PATCH] {
        let zero = simd.splat_f32s(0.0);
        let (window, plane, factor) = match self {
            Self::Collected(patch) => {
                let mut row = [zero; PATCH];
                for j in 0..PATCH {
                    row[j] = patch[i][j].load::<S>(x);
                }
                return row;
            }
            Self::Computed(values) if values.len() == DISTINCT * DISTINCT => {
                let values = &values[i.div_ceil(2) * DISTINCT..][..DISTINCT];
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
            Self::There(window, plane, factor) => (window, plane, factor),
        };
        let mut here = [NOTHING.as_ptr(); GROUPS];
        for (here, at) in here.iter_mut().zip(window.rows[i]) {
            if let Some(at) = at {
                *here = plane.wrapping_offset(at);
            }
        }
        let side = if window.pooled { TILE / 2 } else { TILE };
        let mut next = here;
        for next in &mut next {
            *next = next.wrapping_add(side);
        }
        // SAFETY: `there` made sure that the values that the rows reach lie within the planes;
        // `NOTHING` is as long as what is read of a row.
        let [mut first, b, c, d, e, mut last] = unsafe {
            if window.pooled {
                let [a, b] = columns::<S, 2>(simd, here, x);
                let [c, d] = columns::<S, 2>(simd, next, x);
                let factor = simd.splat_f32s(factor);
                let (b, c) = (simd.mul_f32s(factor, b), simd.mul_f32s(factor, c));
                let (a, d) = (simd.mul_f32s(factor, a), simd.mul_f32s(factor, d));
                [a, b, b, c, c, d]
            } else {
                let [a, b, c, d] = columns::<S, 4>(simd, here, x);
                let [e, f, ..] = columns::<S, 4>(simd, next, x);
                [a, b, c, d, e, f]
            }
        };
        let none = simd.splat_u32s(0);
        let edge = |bits: &Bits| simd.equal_u32s(load_bits::<S>(bits, x), none);
        first = simd.select_f32s(edge(&window.left), zero, first);
        last = simd.select_f32s(edge(&window.right), zero, last);
        [first, b, c, d, e, last]
    }
}

/// Collects the pixels under the tiles of a panel, with zeros outside of the image. Lanes without a
/// tile keep what they held.
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

/// Asks for what will be read of a plane, which may lie anywhere.
#[inline(always)]
pub fn foresee(panel: &Panel, plane: *const f32, pooled: bool) {
    let scale = if pooled { 2 } else { 1 };
    let width = panel.grid.width / scale;
    for run in &panel.runs {
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
pub fn gather_masks(panel: &Panel, masks: &[u16], near: &mut Near) {
    let grid = panel.grid;
    let columns = grid.columns();
    for run in &panel.runs {
        let first = run.column == 0;
        let last = run.column + run.count == columns;
        for dy in 0..3 {
            let tile_row = (run.row + dy).wrapping_sub(1);
            // A whole row of lanes with both neighbours, which at the sides of the image are those of
            // other rows and do not count.
            let at = (tile_row.wrapping_mul(columns) + run.column).wrapping_sub(1);
            let there = masks.get(at..).and_then(|there| there.first_chunk());
            if let (Some::<&[u16; LANES + 2]>(there), LANES, true) =
                (there, run.count, tile_row < grid.rows())
            {
                for dx in 0..3 {
                    for t in 0..LANES {
                        near[dy][dx][t] = there[dx + t].into();
                    }
                }
                if first {
                    near[dy][0][0] = 0;
                }
                if last {
                    near[dy][2][LANES - 1] = 0;
                }
                continue;
            }
            let mut row = [0; LANES + 2];
            if tile_row < grid.rows() {
                let left = usize::from(run.column == 0);
                let end = columns.min(run.column + run.count + 1);
                let there = &masks[tile_row * columns..][run.column + left - 1..end];
                row[left..left + there.len()].copy_from_slice(there);
            }
            for dx in 0..3 {
                for t in 0..run.count {
                    near[dy][dx][run.lane + t] = row[dx + t].into();
                }
            }
        }
    }
}

/// Where the tiles of a panel go, `SIDE` pixels high and wide, in a plane of `height` × `width`
/// pixels; what lies outside of it is left out.
#[derive(Clone, Copy, Debug)]
pub struct Canvas<'a, const SIDE: usize> {
    panel: &'a Panel,
    /// Where each group begins in the plane, if all are whole.
    groups: Option<[usize; GROUPS]>,
    height: usize,
    width: usize,
}

impl Panel {
    /// Where the tiles go.
    pub fn canvas<const SIDE: usize>(&self, (height, width): (usize, usize)) -> Canvas<'_, SIDE> {
        Canvas {
            panel: self,
            groups: self
                .groups
                .map(|groups| groups.map(|place| SIDE * (place.row * width + place.column))),
            height,
            width,
        }
    }
}

impl<const SIDE: usize> Canvas<'_, SIDE> {
    /// Writes the pixels of some lanes, those from `x` on, or keeps them in `tiles` until
    /// [`place`](Self::place).
    ///
    /// # Safety
    /// `plane` must be valid for writing `height · width` values, and no other thread may access
    /// those under the tiles of this panel.
    #[inline(always)]
    pub unsafe fn put<S: Simd>(
        &self,
        plane: *mut f32,
        pixels: &[[S::f32s; SIDE]; SIDE],
        x: usize,
        tiles: &mut [[Lanes; SIDE]; SIDE],
    ) {
        match self.groups {
            Some(groups) => {
                for i in 0..SIDE {
                    let mut to = [plane; GROUPS];
                    for (to, at) in to.iter_mut().zip(groups) {
                        *to = to.wrapping_add(at + i * self.width);
                    }
                    // SAFETY: whole groups lie inside of the plane.
                    unsafe { write::<S, SIDE>(pixels[i], to, x) };
                }
            }
            None => {
                for i in 0..SIDE {
                    for j in 0..SIDE {
                        tiles[i][j].store::<S>(x, pixels[i][j]);
                    }
                }
            }
        }
    }

    /// Writes the pixels of all lanes, given row by row.
    ///
    /// # Safety
    /// See [`put`](Self::put).
    #[inline(always)]
    pub unsafe fn spread<S: Simd>(&self, _: S, plane: *mut f32, pixels: &[Lanes]) {
        let mut tiles = [[Lanes::ZERO; SIDE]; SIDE];
        for x in (0..LANES).step_by(S::F32_LANES) {
            let mut vectors = [[pixels[0].load::<S>(x); SIDE]; SIDE];
            for i in 0..SIDE {
                for j in 0..SIDE {
                    vectors[i][j] = pixels[i * SIDE + j].load::<S>(x);
                }
            }
            // SAFETY: as promised by the caller.
            unsafe { self.put::<S>(plane, &vectors, x, &mut tiles) };
        }
        // SAFETY: as promised by the caller.
        unsafe { self.place(plane, &tiles) };
    }

    /// Writes what [`put`](Self::put) has kept.
    ///
    /// # Safety
    /// See [`put`](Self::put).
    #[inline(always)]
    pub unsafe fn place(&self, plane: *mut f32, tiles: &[[Lanes; SIDE]; SIDE]) {
        if self.groups.is_some() {
            return;
        }
        for run in &self.panel.runs {
            let (x, y) = (SIDE * run.column, SIDE * run.row);
            if x >= self.width {
                continue;
            }
            let count = (SIDE * run.count).min(self.width - x);
            for i in 0..SIDE.min(self.height.saturating_sub(y)) {
                for j in 0..count {
                    let pixel = tiles[i][j % SIDE].0[run.lane + j / SIDE];
                    // SAFETY: row `y + i` and the `count` pixels from `x` on are inside of the plane.
                    unsafe { *plane.add((y + i) * self.width + x + j) = pixel };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups that are whole are read where they lie, unless that would leave the planes: at the
    /// very first and the very last pixel of all.
    #[test]
    fn whole_groups_are_read_in_place() {
        let grid = |height, width| Grid { height, width };
        let planes = vec![0.0; 3 * 64 * 64];
        for pooled in [false, true] {
            let size = if pooled { 32 * 32 } else { 64 * 64 };
            for number in 0..16 {
                let panel = grid(64, 64).panel(number);
                let window = panel.window(pooled).unwrap();
                let there = |plane: usize| {
                    let planes = &planes[..3 * size];
                    Pixels::there(&window, planes, plane * size, 1.0).is_some()
                };
                assert_eq!(there(0), number > 0, "{number}");
                assert!(there(1), "{number}");
                assert_eq!(there(2), number < 15, "{number}");
            }
        }
        assert!(grid(16, 16).panel(0).window(false).is_some());
        assert!(grid(8, 32).panel(0).window(true).is_some());
        // The last row of tiles is not whole; a row of tiles is not whole; nor is a group.
        assert!(grid(67, 64).panel(16).window(false).is_none());
        assert!(grid(64, 63).panel(0).window(false).is_none());
        assert!(grid(64, 68).panel(1).window(false).is_none());
    }
}
