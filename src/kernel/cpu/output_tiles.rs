//! Writing the tiles of a panel to a plane of pixels.

use pulp::Simd;

use super::interleave::{FOUR, GROUPS, store_interleaved};
use super::lanes::{Lanes, NR, copy, transpose};
use super::tiles::{Group, Panel, Position, TILE};

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
        let groups = panel.whole.as_ref().map(|groups| {
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
        if self.groups.is_none() {
            // SAFETY: as promised by the caller.
            unsafe { self.write_groups(plane, tiles) };
        }
    }

    /// Writes all tiles, four at a time. A function of its own, since its many variables would slow
    /// down panels that do not need it.
    ///
    /// # Safety
    /// See [`write_lanes`](Self::write_lanes).
    #[inline(never)]
    unsafe fn write_groups(&self, plane: *mut f32, tiles: &[[Lanes; SIDE]; SIDE]) {
        for (group, positions) in self.panel.groups.iter().enumerate() {
            for i in 0..SIDE {
                // Pixels `[j][t]` to `[t][j]`.
                let mut pixels = [[0.0; FOUR]; TILE];
                for j in 0..SIDE {
                    copy::<FOUR>(&tiles[i][j].0[FOUR * group..], &mut pixels[j]);
                }
                let pixels = transpose(pixels);
                for t in 0..FOUR {
                    let tile = match positions {
                        Group::Whole(first) => Position {
                            column: first.column + t,
                            ..*first
                        },
                        Group::Mixed(positions) => match positions[t] {
                            Some(tile) => tile,
                            None => continue,
                        },
                    };
                    let (y, x) = (SIDE * tile.row + i, SIDE * tile.column);
                    if y >= self.height || x >= self.width {
                        continue;
                    }
                    let count = SIDE.min(self.width - x);
                    // SAFETY: these are the pixels of row `y` from `x` on, as far as the plane goes.
                    let to = unsafe {
                        std::slice::from_raw_parts_mut(plane.add(y * self.width + x), count)
                    };
                    if count == SIDE {
                        copy::<SIDE>(&pixels[t], to);
                    } else {
                        for j in 0..count {
                            to[j] = pixels[t][j];
                        }
                    }
                }
            }
        }
    }
}
