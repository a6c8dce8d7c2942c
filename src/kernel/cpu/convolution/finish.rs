//! From products to pixels: the transform back, then bias, ReLU, pool and masks.

use pulp::Simd;

use super::{Direction, GROUP_PITCH, Geometry, Pass};
use crate::kernel::cpu::lanes::{Bits, LANES, Lanes, store_bits};
use crate::kernel::cpu::patch::Panel;
use crate::kernel::cpu::winograd::{POINTS, TILE, transform_points};
use crate::kernel::{Epilogue, Pooling};

/// Finished pixels of a panel, before they are placed.
pub(super) struct Tiles {
    whole: [[Lanes; TILE]; TILE],
    pooled: [[Lanes; 2]; 2],
    bits: Bits,
}

impl Tiles {
    pub(super) const ZERO: Self = Self {
        whole: [[Lanes::ZERO; TILE]; TILE],
        pooled: [[Lanes::ZERO; 2]; 2],
        bits: [0; LANES],
    };
}

impl Pass<'_> {
    /// Turns the products of one channel and panel into pixels and masks.
    #[inline(always)]
    pub(super) fn finish<S: Simd>(
        &self,
        simd: S,
        [image, channel]: [usize; 2],
        panel: &Panel,
        products: &[Lanes; POINTS],
        tiles: &mut Tiles,
    ) {
        let Geometry {
            channels_in,
            channels_out,
            height,
            width,
            ..
        } = self.geometry;
        let Tiles {
            whole: tiles,
            pooled,
            bits,
        } = tiles;
        let canvas = panel.canvas::<TILE>((height, width));
        let Direction::Forward { bias, masks } = self.direction else {
            let plane = (image * channels_in + channel) * height * width;
            let plane = self.output.wrapping_add(plane);
            for x in (0..LANES).step_by(S::F32_LANES) {
                let tile = transform_points(simd, products, x);
                let mut turned = tile;
                for i in 0..TILE {
                    for j in 0..TILE {
                        turned[TILE - 1 - i][TILE - 1 - j] = tile[i][j];
                    }
                }
                // SAFETY: `output` has channels_in planes for each image, and this is one of them;
                // the tiles of this block are written by no other.
                unsafe { canvas.put::<S>(plane, &turned, x, tiles) };
            }
            // SAFETY: as above.
            unsafe { canvas.place(plane, tiles) };
            return;
        };

        let index = image * channels_out + channel;
        let (height, width) = self.geometry.after(self.then);
        let plane = self.output.wrapping_add(index * height * width);
        let small = panel.canvas::<2>((height, width));
        for x in (0..LANES).step_by(S::F32_LANES) {
            let Finished { tile, half, alive } = self.finished(simd, bias[channel], products, x);
            // SAFETY: `output` has channels_out planes for each image, of the size after `then`, and
            // this is one of them; the tiles of this block are written by no other.
            unsafe {
                match self.then {
                    Epilogue::ReluPool(_) => small.put::<S>(plane, &half, x, pooled),
                    _ => canvas.put::<S>(plane, &tile, x, tiles),
                }
            }
            store_bits::<S>(bits, x, alive);
        }
        // SAFETY: as above.
        unsafe {
            match self.then {
                Epilogue::ReluPool(_) => small.place(plane, pooled),
                _ => canvas.place(plane, tiles),
            }
        }
        // SAFETY: the masks of this image, channel and panel are written by no other thread.
        unsafe { self.put_masks(masks, index, panel, bits) };
    }

    /// Keeps the finished pixels of one channel and panel for the mix, the pixel numbered `i` at
    /// `to[i * GROUP_PITCH]`, and writes the masks.
    #[inline(always)]
    pub(super) fn keep<S: Simd>(
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
        let mut bits: Bits = [0; LANES];
        for x in (0..LANES).step_by(S::F32_LANES) {
            let Finished { tile, half, alive } = self.finished(simd, bias[channel], products, x);
            match self.then {
                Epilogue::ReluPool(_) => {
                    for i in 0..2 {
                        for j in 0..2 {
                            to[(2 * i + j) * GROUP_PITCH].store::<S>(x, half[i][j]);
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
            store_bits::<S>(&mut bits, x, alive);
        }
        let index = image * self.geometry.channels_out + channel;
        // SAFETY: the masks of this image, channel and panel are written by no other thread.
        unsafe { self.put_masks(masks, index, panel, &bits) };
    }

    /// What bias, ReLU and pool make of the products, for the lanes from `x` on.
    #[inline(always)]
    fn finished<S: Simd>(
        &self,
        simd: S,
        bias: f32,
        products: &[Lanes; POINTS],
        x: usize,
    ) -> Finished<S> {
        let bias = simd.splat_f32s(bias);
        let mut tile = transform_points(simd, products, x);
        for row in &mut tile {
            for pixel in row {
                *pixel = simd.add_f32s(*pixel, bias);
            }
        }
        let mut alive = simd.splat_u32s(0);
        let mut half = [[bias; 2]; 2];
        match self.then {
            Epilogue::None => {}
            Epilogue::Relu => alive = rectify(simd, &mut tile),
            Epilogue::ReluPool(Pooling::Max) => {
                for i in 0..2 {
                    for j in 0..2 {
                        let (most, bit) = largest(simd, &tile, 2 * i, 2 * j);
                        half[i][j] = most;
                        alive = simd.or_u32s(alive, bit);
                    }
                }
            }
            Epilogue::ReluPool(Pooling::Average) => {
                alive = rectify(simd, &mut tile);
                for i in 0..2 {
                    for j in 0..2 {
                        let row = |i: usize| simd.add_f32s(tile[i][2 * j], tile[i][2 * j + 1]);
                        let sum = simd.add_f32s(row(2 * i), row(2 * i + 1));
                        half[i][j] = simd.mul_f32s(sum, simd.splat_f32s(0.25));
                    }
                }
            }
        }
        Finished { tile, half, alive }
    }

    /// Writes the masks of one panel, if any are wanted.
    ///
    /// # Safety
    /// No other thread may access the masks of this panel in the plane numbered `index`.
    #[inline(always)]
    unsafe fn put_masks(&self, masks: *mut u16, index: usize, panel: &Panel, bits: &Bits) {
        if masks.is_null() {
            return;
        }
        let tiles = panel.tiles.clone();
        let bits = bits.map(|bits| bits as u16);
        // SAFETY: there is a mask for each image, channel and tile.
        let masks = unsafe {
            let at = masks.add(index * self.geometry.grid().tiles() + tiles.start);
            std::slice::from_raw_parts_mut(at, tiles.len())
        };
        match masks.first_chunk_mut() {
            Some(masks) => *masks = bits,
            None => masks.copy_from_slice(&bits[..tiles.len()]),
        }
    }
}

/// Pixels that went through bias and ReLU, and through the pool where there is one, with the bits of
/// those that pass a gradient on.
struct Finished<S: Simd> {
    tile: [[S::f32s; TILE]; TILE],
    half: [[S::f32s; 2]; 2],
    alive: S::u32s,
}

/// Replaces what is not positive by zero (NaN stays); the bits of what is left.
#[inline(always)]
fn rectify<S: Simd>(simd: S, tile: &mut [[S::f32s; TILE]; TILE]) -> S::u32s {
    let zero = simd.splat_f32s(0.0);
    let none = simd.splat_u32s(0);
    let mut alive = none;
    for i in 0..TILE {
        for j in 0..TILE {
            let dead = simd.less_than_or_equal_f32s(tile[i][j], zero);
            tile[i][j] = simd.select_f32s(dead, zero, tile[i][j]);
            let bit = simd.splat_u32s(1 << (TILE * i + j));
            alive = simd.or_u32s(alive, simd.select_u32s(dead, none, bit));
        }
    }
    alive
}

/// The largest of the four pixels from `(i, j)` on, at least zero, and the bit of the first that is
/// as large; none if it is zero.
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
    let (most, bit) = larger(upper, lower);
    let dead = simd.less_than_or_equal_f32s(most, zero);
    (
        simd.select_f32s(dead, zero, most),
        simd.select_u32s(dead, simd.splat_u32s(0), bit),
    )
}
