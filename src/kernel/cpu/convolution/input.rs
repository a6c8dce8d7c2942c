//! From pixels to transformed patches: what the kernel is multiplied with.

use pulp::Simd;

use super::{Direction, Pass};
use crate::kernel::cpu::lanes::{LANES, Lanes};
use crate::kernel::cpu::patch::{
    DISTINCT, Panel, Pixels, Plane, Window, foresee, gather, gather_masks,
};
use crate::kernel::cpu::product::{BLOCK, Left, Output, ROWS, Right, product};
use crate::kernel::cpu::winograd::{Near, PATCH, Patch, transform_patch};
use crate::kernel::{Epilogue, Pooling};

/// How many channels ahead pixels are asked for.
const AHEAD: usize = 4;

impl Pass<'_> {
    /// Transforms the patches of one panel, for all channels of what is convolved.
    #[inline(always)]
    pub(super) fn transform_input<S: Simd>(
        &self,
        simd: S,
        image: usize,
        panel: &Panel,
        depth: usize,
        points: &mut [Lanes],
        pitch: usize,
    ) {
        let grid = self.geometry.grid();
        let mut patch: Patch = [[Lanes::ZERO; PATCH]; PATCH];
        let (backward, masks) = match self.direction {
            Direction::Forward { .. } => (false, None),
            Direction::Backward { masks } => (true, masks),
        };
        // Without masks, everything passes.
        let mut near: Near = [[[u32::MAX; LANES]; 3]; 3];
        let pooled = if backward { self.spread() } else { None };
        let size = match pooled {
            Some(_) => (grid.height / 2) * (grid.width / 2),
            None => grid.height * grid.width,
        };
        let window = panel.window(pooled.is_some());
        for channel in 0..depth {
            let index = image * depth + channel;
            let pixels = self.pixels(panel, &window, index * size, size, pooled, &mut patch);
            let points = &mut points[channel..];
            if backward {
                if let Some(masks) = masks {
                    let masks = &masks[index * grid.tiles()..][..grid.tiles()];
                    gather_masks(panel, masks, &mut near);
                }
                transform_patch(simd, pixels, Some(&near), points, pitch);
            } else {
                transform_patch(simd, pixels, None, points, pitch);
            }
        }
    }

    /// [`transform_input`](Self::transform_input) where the gradient is that of mixed channels: those
    /// before the mix are computed for the pixels of the patches, six channels at a time.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn unmix_input<S: Simd>(
        &self,
        simd: S,
        image: usize,
        panel: &Panel,
        rows: usize,
        masks: Option<&[u16]>,
        points: &mut [Lanes],
        pitch: usize,
        scratch: &mut [Lanes],
    ) {
        let channels = self.geometry.channels_out;
        let grid = self.geometry.grid();
        let factor = self.spread();
        let pooled = factor.is_some();
        let (height, width) = self.geometry.after(self.then);
        let size = height * width;
        let side = self.distinct_side();
        let distinct = |i: usize| if pooled { (2 * i).saturating_sub(1) } else { i };
        let count = side * side;
        let row_pitch = rows + 1;
        let (gradients, before) = scratch.split_at_mut(count * row_pitch);
        let mut patch: Patch = [[Lanes::ZERO; PATCH]; PATCH];
        let window = panel.window(pooled);
        for row in 0..rows {
            let start = (image * rows + row) * size;
            let pixels = self.pixels(panel, &window, start, size, factor, &mut patch);
            for x in (0..LANES).step_by(S::F32_LANES) {
                for i in 0..side {
                    let values = pixels.row(simd, distinct(i), x);
                    for j in 0..side {
                        let at = (i * side + j) * row_pitch + row;
                        gradients[at].store::<S>(x, values[distinct(j)]);
                    }
                }
            }
        }
        // Without masks, everything passes.
        let mut near: Near = [[[u32::MAX; LANES]; 3]; 3];
        for first in (0..channels).step_by(ROWS) {
            let group = ROWS.min(channels - first);
            let left = Left {
                at: self.mix[first * rows..].as_ptr(),
                stride: BLOCK * ROWS,
            };
            let right = Right {
                at: gradients.as_ptr().cast(),
                next: row_pitch * LANES,
                panels: count,
            };
            let output = Output {
                at: before.as_mut_ptr().cast(),
                row: count * LANES,
                next: LANES,
                add: false,
            };
            // SAFETY: `mix` holds stripes of six channels for each of `rows` rows, `gradients` as
            // many values of every pixel, and `before` has room for six channels of all pixels.
            unsafe { product::<S, ROWS, 1>(simd, group, rows, left, right, output) };
            for channel in 0..group {
                let pixels = Pixels::Computed(&before[channel * count..][..count]);
                let channel = first + channel;
                if let Some(masks) = masks {
                    let plane = (image * channels + channel) * grid.tiles();
                    gather_masks(panel, &masks[plane..][..grid.tiles()], &mut near);
                }
                transform_patch(simd, pixels, Some(&near), &mut points[channel..], pitch);
            }
        }
    }

    /// What each value of the gradient is multiplied with where it stands for the four pixels of a pool.
    fn spread(&self) -> Option<f32> {
        match self.then {
            Epilogue::ReluPool(Pooling::Max) => Some(1.0),
            Epilogue::ReluPool(Pooling::Average) => Some(0.25),
            _ => None,
        }
    }

    /// The pixels under a panel's patches, of the plane of `size` values that begins at `start`: where
    /// they lie if they can be read there, else collected in `patch`.
    #[inline(always)]
    fn pixels<'p>(
        &self,
        panel: &Panel,
        window: &'p Option<Window>,
        start: usize,
        size: usize,
        pooled: Option<f32>,
        patch: &'p mut Patch,
    ) -> Pixels<'p> {
        let ahead = self.input[start..].as_ptr().wrapping_add(AHEAD * size);
        foresee(panel, ahead, pooled.is_some());
        let there = window
            .as_ref()
            .and_then(|window| Pixels::there(window, self.input, start, pooled.unwrap_or(1.0)));
        match there {
            Some(pixels) => pixels,
            None => {
                let values = &self.input[start..][..size];
                let plane = match pooled {
                    Some(factor) => Plane::Pooled(values, factor),
                    None => Plane::Whole(values),
                };
                gather(panel, plane, patch);
                Pixels::Collected(patch)
            }
        }
    }

    /// Values along one axis of what lies under a patch.
    fn distinct_side(&self) -> usize {
        match self.then {
            Epilogue::ReluPool(_) => DISTINCT,
            _ => PATCH,
        }
    }

    /// What [`unmix_input`](Self::unmix_input) needs: gradients of mixed channels under one panel,
    /// and six channels of those before the mix.
    pub(super) fn unmixed_len(&self) -> usize {
        let count = self.distinct_side().pow(2);
        self.geometry
            .mixed
            .map_or(0, |rows| count * (rows + 1 + ROWS))
    }
}
