//! Writing the tiles of a panel to a plane of pixels.

use pulp::Simd;

use super::interleave::{GROUPS, store_interleaved};
use super::lanes::{Lanes, NR};
use super::tiles::Panel;

/// Writes the tiles of a panel, `SIDE` pixels high and wide, to planes of `height` × `width` pixels.
/// Pixels outside the plane are left out.
#[derive(Clone, Copy, Debug)]
pub struct TileWriter<'a, const SIDE: usize> {
    panel: &'a Panel,
    /// Where each group begins in the plane, if all groups are whole.
    groups: Option<[usize; GROUPS]>,
    height: usize,
    width: usize,
}

impl<'a, const SIDE: usize> TileWriter<'a, SIDE> {
    /// A writer for planes of this height and width.
    #[inline(always)]
    pub fn new(panel: &'a Panel, (height, width): (usize, usize)) -> Self {
        let groups = panel.groups.as_ref().map(|groups| {
            let mut starts = [0; GROUPS];
            for group in 0..GROUPS {
                starts[group] = SIDE * (groups[group].row * width + groups[group].column);
            }
            starts
        });
        Self {
            panel,
            groups,
            height,
            width,
        }
    }

    /// Writes the pixels of the lanes from `x` on, or stores them in `tiles` until
    /// [`flush`](Self::flush).
    ///
    /// # Safety
    /// `plane` must be valid for writing `height · width` values, and no other thread may access
    /// those under the tiles of this panel.
    #[inline(always)]
    pub unsafe fn write_lanes<S: Simd>(
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
                    for group in 0..GROUPS {
                        to[group] = plane.wrapping_add(groups[group] + i * self.width);
                    }
                    // SAFETY: whole groups lie inside the plane.
                    unsafe { store_interleaved::<S, SIDE>(pixels[i], to, x) };
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

    /// Writes the pixels of all lanes; pixel `(i, j)` of the tiles is `pixels[i * SIDE + j]`.
    ///
    /// # Safety
    /// See [`write_lanes`](Self::write_lanes).
    #[inline(always)]
    pub unsafe fn write_panel<S: Simd>(&self, _: S, plane: *mut f32, pixels: &[Lanes]) {
        let mut tiles = [[Lanes::ZERO; SIDE]; SIDE];
        for x in (0..NR).step_by(S::F32_LANES) {
            let mut vectors = [[pixels[0].load::<S>(x); SIDE]; SIDE];
            for i in 0..SIDE {
                for j in 0..SIDE {
                    vectors[i][j] = pixels[i * SIDE + j].load::<S>(x);
                }
            }
            // SAFETY: as promised by the caller.
            unsafe { self.write_lanes::<S>(plane, &vectors, x, &mut tiles) };
        }
        // SAFETY: as promised by the caller.
        unsafe { self.flush(plane, &tiles) };
    }

    /// Writes what [`write_lanes`](Self::write_lanes) stored in `tiles`.
    ///
    /// # Safety
    /// See [`write_lanes`](Self::write_lanes).
    #[inline(always)]
    pub unsafe fn flush(&self, plane: *mut f32, tiles: &[[Lanes; SIDE]; SIDE]) {
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
                    // SAFETY: row `y + i` and the `count` pixels from `x` on are inside the plane.
                    unsafe { *plane.add((y + i) * self.width + x + j) = pixel };
                }
            }
        }
    }
}
