//! From pixels to transformed patches, which are multiplied with the kernel.

use pulp::Simd;

use super::{Direction, Pass};
use crate::kernel::cpu::lanes::{Lanes, NR};
use crate::kernel::cpu::masks::{NeighborMasks, gather_masks};
use crate::kernel::cpu::microkernel::{K_BLOCK, Left, MR, Output, Right, matmul};
use crate::kernel::cpu::patches::{
    POOLED_PATCH, PatchCopies, PatchOffsets, Pixels, prefetch_patches,
};
use crate::kernel::cpu::tiles::{PATCH, Panel};
use crate::kernel::cpu::winograd::transform_patch;
use crate::kernel::{Epilogue, Pooling};

/// How many channels ahead pixels are prefetched.
const PREFETCH_CHANNELS: usize = 4;

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
        let mut copies = PatchCopies::new();
        let (backward, masks) = match self.direction {
            Direction::Forward { .. } => (false, None),
            Direction::Backward { masks } => (true, masks),
        };
        // Without masks, all pixels pass their gradient on.
        let mut neighbors: NeighborMasks = [[[u32::MAX; NR]; 3]; 3];
        let pooled = if backward { self.pool_factor() } else { None };
        let size = match pooled {
            Some(_) => (grid.height / 2) * (grid.width / 2),
            None => grid.height * grid.width,
        };
        let offsets = PatchOffsets::new(panel, pooled.is_some());
        for channel in 0..depth {
            let index = image * depth + channel;
            let pixels = self.pixels(panel, &offsets, index * size, size, pooled, &mut copies);
            let points = &mut points[channel..];
            if backward {
                if let Some(masks) = masks {
                    let masks = &masks[index * grid.tiles()..][..grid.tiles()];
                    gather_masks(panel, masks, &mut neighbors);
                }
                transform_patch(simd, pixels, Some(&neighbors), points, pitch);
            } else {
                transform_patch(simd, pixels, None, points, pitch);
            }
        }
    }

    /// [`transform_input`](Self::transform_input) in the backward pass of a convolution with a
    /// projection: the gradient before the projection is computed for the pixels of the patches, six
    /// channels at a time.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn project_gradient<S: Simd>(
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
        let factor = self.pool_factor();
        let pooled = factor.is_some();
        let (height, width) = self.geometry.output_size(self.epilogue);
        let size = height * width;
        let side = self.gradient_patch_side();
        let distinct = |i: usize| if pooled { (2 * i).saturating_sub(1) } else { i };
        let count = side * side;
        let row_pitch = rows + 1;
        let (gradients, before) = scratch.split_at_mut(count * row_pitch);
        let mut copies = PatchCopies::new();
        let offsets = PatchOffsets::new(panel, pooled);
        for row in 0..rows {
            let start = (image * rows + row) * size;
            let pixels = self.pixels(panel, &offsets, start, size, factor, &mut copies);
            for x in (0..NR).step_by(S::F32_LANES) {
                for i in 0..side {
                    let values = pixels.row(simd, distinct(i), x);
                    for j in 0..side {
                        let at = (i * side + j) * row_pitch + row;
                        gradients[at].store::<S>(x, values[distinct(j)]);
                    }
                }
            }
        }
        // Without masks, all pixels pass their gradient on.
        let mut neighbors: NeighborMasks = [[[u32::MAX; NR]; 3]; 3];
        for first in (0..channels).step_by(MR) {
            let group = MR.min(channels - first);
            let left = Left {
                at: self.projection[first * rows..].as_ptr(),
                stride: K_BLOCK * MR,
            };
            let right = Right {
                at: gradients.as_ptr().cast(),
                next: row_pitch * NR,
                panels: count,
            };
            let output = Output {
                at: before.as_mut_ptr().cast(),
                row: count * NR,
                next: NR,
                add: false,
            };
            // SAFETY: `projection` holds stripes of six channels for each of `rows` rows, `gradients`
            // as many values of every pixel, and `before` has room for six channels of all pixels.
            unsafe { matmul::<S, MR, 1>(simd, group, rows, left, right, output) };
            for channel in 0..group {
                let pixels = Pixels::Computed(&before[channel * count..][..count]);
                let channel = first + channel;
                if let Some(masks) = masks {
                    let plane = (image * channels + channel) * grid.tiles();
                    gather_masks(panel, &masks[plane..][..grid.tiles()], &mut neighbors);
                }
                transform_patch(
                    simd,
                    pixels,
                    Some(&neighbors),
                    &mut points[channel..],
                    pitch,
                );
            }
        }
    }

    /// The factor of a gradient that stands for the four pixels of a pool, if there is a pool.
    fn pool_factor(&self) -> Option<f32> {
        match self.epilogue {
            Epilogue::ReluPool(Pooling::Max) => Some(1.0),
            Epilogue::ReluPool(Pooling::Average) => Some(0.25),
            _ => None,
        }
    }

    /// The pixels under a panel's tiles, in the plane of `size` values that begins at `start`.
    #[inline(always)]
    fn pixels<'p>(
        &self,
        panel: &Panel,
        offsets: &'p PatchOffsets,
        start: usize,
        size: usize,
        pooled: Option<f32>,
        copies: &'p mut PatchCopies,
    ) -> Pixels<'p> {
        let ahead = self.input[start..]
            .as_ptr()
            .wrapping_add(PREFETCH_CHANNELS * size);
        prefetch_patches(panel, ahead, pooled.is_some());
        let factor = pooled.unwrap_or(1.0);
        offsets.pixels(self.input, start, factor, copies)
    }

    /// Side of a patch in the gradient: smaller after a pool.
    fn gradient_patch_side(&self) -> usize {
        match self.epilogue {
            Epilogue::ReluPool(_) => POOLED_PATCH,
            _ => PATCH,
        }
    }

    /// Scratch of [`project_gradient`](Self::project_gradient): the gradient of all projected channels under
    /// one panel, and that of six channels before the projection.
    pub(super) fn gradient_projection_len(&self) -> usize {
        let count = self.gradient_patch_side().pow(2);
        self.geometry
            .channels_projected
            .map_or(0, |rows| count * (rows + 1 + MR))
    }
}
