//! From products to pixels: the inverse transform, then bias, ReLU, pool and masks.

use pulp::Simd;

use super::{Direction, GROUP_PITCH, Geometry, Pass};
use crate::kernel::cpu::lanes::{Bits, Lanes, NR, store_bits};
use crate::kernel::cpu::output_tiles::TileWriter;
use crate::kernel::cpu::tiles::{Panel, TILE};
use crate::kernel::cpu::winograd::{POINTS, transform_points};
use crate::kernel::{Epilogue, Pooling};

/// Buffers for the pixels and masks of a panel.
pub(super) struct TileBuffers {
    whole: [[Lanes; TILE]; TILE],
    pooled: [[Lanes; 2]; 2],
    bits: Bits,
}

impl TileBuffers {
    pub(super) const ZERO: Self = Self {
        whole: [[Lanes::ZERO; TILE]; TILE],
        pooled: [[Lanes::ZERO; 2]; 2],
        bits: [0; NR],
    };
}

impl Pass<'_> {
    /// Computes and writes the pixels and masks of one channel and panel.
    #[inline(always)]
    pub(super) fn write_tiles<S: Simd>(
        &self,
        simd: S,
        [image, channel]: [usize; 2],
        panel: &Panel,
        products: &[Lanes; POINTS],
        buffers: &mut TileBuffers,
    ) {
        let Geometry {
            channels_in,
            channels_out,
            height,
            width,
            ..
        } = self.geometry;
        let TileBuffers {
            whole,
            pooled,
            bits,
        } = buffers;
        let writer = TileWriter::<TILE>::new(panel, (height, width));
        let Direction::Forward { bias, masks } = self.direction else {
            let plane = (image * channels_in + channel) * height * width;
            let plane = self.output.wrapping_add(plane);
            for x in (0..NR).step_by(S::F32_LANES) {
                let tile = transform_points(simd, products, x);
                let mut rotated = tile;
                for i in 0..TILE {
                    for j in 0..TILE {
                        rotated[TILE - 1 - i][TILE - 1 - j] = tile[i][j];
                    }
                }
                // SAFETY: `output` has channels_in planes for each image, and this is one of them; no
                // other block writes the tiles of this one.
                unsafe { writer.write_lanes::<S>(plane, &rotated, x, whole) };
            }
            // SAFETY: as above.
            unsafe { writer.flush(plane, whole) };
            return;
        };

        let index = image * channels_out + channel;
        let (height, width) = self.geometry.output_size(self.epilogue);
        let plane = self.output.wrapping_add(index * height * width);
        let pooled_writer = TileWriter::<2>::new(panel, (height, width));
        for x in (0..NR).step_by(S::F32_LANES) {
            let Activations {
                tile,
                pooled_tile,
                active,
            } = self.apply_epilogue(simd, bias[channel], products, x);
            // SAFETY: `output` has channels_out planes for each image, of the size after the epilogue,
            // and this is one of them; no other block writes the tiles of this one.
            unsafe {
                match self.epilogue {
                    Epilogue::ReluPool(_) => {
                        pooled_writer.write_lanes::<S>(plane, &pooled_tile, x, pooled)
                    }
                    _ => writer.write_lanes::<S>(plane, &tile, x, whole),
                }
            }
            store_bits::<S>(bits, x, active);
        }
        // SAFETY: as above.
        unsafe {
            match self.epilogue {
                Epilogue::ReluPool(_) => pooled_writer.flush(plane, pooled),
                _ => writer.flush(plane, whole),
            }
        }
        // SAFETY: the masks of this image, channel and panel are written by no other thread.
        unsafe { self.write_masks(masks, index, panel, bits) };
    }

    /// Computes the pixels of one channel and panel for the projection, pixel number `i` to
    /// `to[i * GROUP_PITCH]`, and writes the masks.
    #[inline(always)]
    pub(super) fn store_activations<S: Simd>(
        &self,
        simd: S,
        [image, channel]: [usize; 2],
        panel: &Panel,
        products: &[Lanes; POINTS],
        to: &mut [Lanes],
    ) {
        let Direction::Forward { bias, masks } = self.direction else {
            return;
        };
        let mut bits: Bits = [0; NR];
        for x in (0..NR).step_by(S::F32_LANES) {
            let Activations {
                tile,
                pooled_tile,
                active,
            } = self.apply_epilogue(simd, bias[channel], products, x);
            match self.epilogue {
                Epilogue::ReluPool(_) => {
                    for i in 0..2 {
                        for j in 0..2 {
                            to[(2 * i + j) * GROUP_PITCH].store::<S>(x, pooled_tile[i][j]);
                        }
                    }
                }
                _ => {
                    for i in 0..TILE {
                        for j in 0..TILE {
                            to[(TILE * i + j) * GROUP_PITCH].store::<S>(x, tile[i][j]);
                        }
                    }
                }
            }
            store_bits::<S>(&mut bits, x, active);
        }
        let index = image * self.geometry.channels_out + channel;
        // SAFETY: the masks of this image, channel and panel are written by no other thread.
        unsafe { self.write_masks(masks, index, panel, &bits) };
    }

    /// Applies the inverse transform, bias, ReLU and pool, for the lanes from `x` on.
    #[inline(always)]
    fn apply_epilogue<S: Simd>(
        &self,
        simd: S,
        bias: f32,
        products: &[Lanes; POINTS],
        x: usize,
    ) -> Activations<S> {
        let bias = simd.splat_f32s(bias);
        let mut tile = transform_points(simd, products, x);
        for row in &mut tile {
            for pixel in row {
                *pixel = simd.add_f32s(*pixel, bias);
            }
        }
        let mut active = simd.splat_u32s(0);
        let mut pooled_tile = [[bias; 2]; 2];
        match self.epilogue {
            Epilogue::None => {}
            Epilogue::Relu => active = apply_relu(simd, &mut tile),
            Epilogue::ReluPool(Pooling::Max) => {
                for i in 0..2 {
                    for j in 0..2 {
                        let (value, bit) = largest(simd, &tile, 2 * i, 2 * j);
                        pooled_tile[i][j] = value;
                        active = simd.or_u32s(active, bit);
                    }
                }
            }
            Epilogue::ReluPool(Pooling::Average) => {
                active = apply_relu(simd, &mut tile);
                for i in 0..2 {
                    for j in 0..2 {
                        let row = |i: usize| simd.add_f32s(tile[i][2 * j], tile[i][2 * j + 1]);
                        let sum = simd.add_f32s(row(2 * i), row(2 * i + 1));
                        pooled_tile[i][j] = simd.mul_f32s(sum, simd.splat_f32s(0.25));
                    }
                }
            }
        }
        Activations {
            tile,
            pooled_tile,
            active,
        }
    }

    /// Writes the masks of one panel, unless `masks` is null.
    ///
    /// # Safety
    /// No other thread may access the masks of this panel in the plane numbered `index`.
    #[inline(always)]
    unsafe fn write_masks(&self, masks: *mut u16, index: usize, panel: &Panel, bits: &Bits) {
        if masks.is_null() {
            return;
        }
        let tiles = panel.tiles.clone();
        let mut lanes = [0; NR];
        for lane in 0..NR {
            lanes[lane] = bits[lane] as u16;
        }
        // SAFETY: there is a mask for each image, channel and tile.
        let masks = unsafe {
            let at = masks.add(index * self.geometry.grid().tiles() + tiles.start);
            std::slice::from_raw_parts_mut(at, tiles.len())
        };
        match masks.first_chunk_mut() {
            Some(masks) => *masks = lanes,
            None => masks.copy_from_slice(&lanes[..tiles.len()]),
        }
    }
}

/// Pixels after bias and ReLU (`tile`), or also after the pool (`pooled_tile`), and the bits of the pixels
/// that pass a gradient on.
struct Activations<S: Simd> {
    tile: [[S::f32s; TILE]; TILE],
    pooled_tile: [[S::f32s; 2]; 2],
    active: S::u32s,
}

/// Replaces values `≤ 0` by zero (NaN stays); returns the bits of the others.
#[inline(always)]
fn apply_relu<S: Simd>(simd: S, tile: &mut [[S::f32s; TILE]; TILE]) -> S::u32s {
    let zero = simd.splat_f32s(0.0);
    let none = simd.splat_u32s(0);
    let mut active = none;
    for i in 0..TILE {
        for j in 0..TILE {
            let inactive = simd.less_than_or_equal_f32s(tile[i][j], zero);
            tile[i][j] = simd.select_f32s(inactive, zero, tile[i][j]);
            let bit = simd.splat_u32s(1 << (TILE * i + j));
            active = simd.or_u32s(active, simd.select_u32s(inactive, none, bit));
        }
    }
    active
}

/// The largest of the four pixels from `(i, j)` on, or zero, and the bit of the first pixel of that
/// value; no bit for zero.
#[inline(always)]
fn largest<S: Simd>(
    simd: S,
    tile: &[[S::f32s; TILE]; TILE],
    i: usize,
    j: usize,
) -> (S::f32s, S::u32s) {
    let zero = simd.splat_f32s(0.0);
    let pixel = |i: usize, j: usize| (tile[i][j], simd.splat_u32s(1 << (TILE * i + j)));
    let larger = |a: (S::f32s, S::u32s), b: (S::f32s, S::u32s)| {
        let second = simd.greater_than_f32s(b.0, a.0);
        (
            simd.select_f32s(second, b.0, a.0),
            simd.select_u32s(second, b.1, a.1),
        )
    };
    let upper = larger(pixel(i, j), pixel(i, j + 1));
    let lower = larger(pixel(i + 1, j), pixel(i + 1, j + 1));
    let (value, bit) = larger(upper, lower);
    let inactive = simd.less_than_or_equal_f32s(value, zero);
    (
        simd.select_f32s(inactive, zero, value),
        simd.select_u32s(inactive, simd.splat_u32s(0), bit),
    )
}
