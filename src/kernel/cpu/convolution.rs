//! The 3×3 convolution and its gradient, in blocks that stay in the cache.
//!
//! A block is a few panels of sixteen tiles. One thread transforms the patches of all input
//! channels, multiplies them with the kernel for 48 output channels at a time, and finishes those
//! (bias, ReLU, pool, masks) while they are warm. What it needs besides its inputs and outputs is
//! kept from call to call. The order of every sum is fixed, whatever the number of threads.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Bits, LANES, Lanes, dispatch, store_bits};
use super::patch::{Grid, Panel, Pixels, Plane, foresee, gather, gather_masks};
use super::product::{BLOCK, Left, Output, ROWS, Right, product};
use super::winograd::{
    Near, PATCH, POINTS, Patch, TILE, packed_len, transform_patch, transform_points,
};
use crate::kernel::{Pooling, Then};

/// Panels of a block: few enough for the second-level cache, enough to read the kernel seldom.
const PANELS: usize = 2;
/// The same where a register holds a whole panel.
const WIDE_PANELS: usize = 4;
/// Output channels that are finished at once.
const GROUP: usize = 8 * ROWS;
/// How many channels ahead pixels are asked for.
const AHEAD: usize = 4;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Channels of the convolution's input.
    pub channels_in: usize,
    /// Channels of its output.
    pub channels_out: usize,
    /// Height of both in pixels.
    pub height: usize,
    /// Width of both in pixels.
    pub width: usize,
}

impl Geometry {
    fn grid(&self) -> Grid {
        Grid {
            height: self.height,
            width: self.width,
        }
    }

    /// Height and width after `then`.
    pub fn after(&self, then: Then) -> (usize, usize) {
        match then {
            Then::ReluPool(_) => (self.height / 2, self.width / 2),
            _ => (self.height, self.width),
        }
    }

    /// Masks of the output: one for each image, channel and tile.
    pub fn masks(&self) -> usize {
        self.batch * self.channels_out * self.grid().tiles()
    }

    fn values(&self, channels: usize, (height, width): (usize, usize)) -> usize {
        self.batch * channels * height * width
    }
}

/// `then(convolution(x) + bias)`, and with `masks` for each tile which of its 16 pixels pass a
/// gradient on: bit `4y + x` for the pixel in row `y` and column `x`.
///
/// # Panics
/// If a slice has not the length that the geometry tells.
pub fn forward(
    geometry: Geometry,
    x: &[f32],
    packed: &[f32],
    bias: &[f32],
    then: Then,
    output: &mut [f32],
    masks: Option<&mut [u16]>,
) {
    let Geometry {
        channels_in,
        channels_out,
        ..
    } = geometry;
    assert_eq!(
        x.len(),
        geometry.values(channels_in, geometry.after(Then::Nothing))
    );
    assert_eq!(packed.len(), packed_len(channels_out, channels_in));
    assert_eq!(bias.len(), channels_out);
    assert_eq!(
        output.len(),
        geometry.values(channels_out, geometry.after(then))
    );
    if let Some(masks) = &masks {
        assert_eq!(masks.len(), geometry.masks());
    }
    let pass = Pass {
        geometry,
        then,
        packed,
        input: x,
        output: output.as_mut_ptr(),
        direction: Direction::Forward {
            bias,
            masks: masks.map_or(std::ptr::null_mut(), |masks| masks.as_mut_ptr()),
        },
    };
    pass.run(channels_out);
}

/// The gradient with respect to the input, from that with respect to `then`'s output and the masks
/// of [`forward`] (none where nothing came after the convolution).
///
/// # Panics
/// If a slice has not the length that the geometry tells.
pub fn backward(
    geometry: Geometry,
    gradient: &[f32],
    packed: &[f32],
    then: Then,
    masks: Option<&[u16]>,
    output: &mut [f32],
) {
    let Geometry {
        channels_in,
        channels_out,
        ..
    } = geometry;
    assert_eq!(
        gradient.len(),
        geometry.values(channels_out, geometry.after(then))
    );
    assert_eq!(packed.len(), packed_len(channels_out, channels_in));
    assert_eq!(
        output.len(),
        geometry.values(channels_in, geometry.after(Then::Nothing))
    );
    if let Some(masks) = masks {
        assert_eq!(masks.len(), geometry.masks());
    }
    let pass = Pass {
        geometry,
        then,
        packed,
        input: gradient,
        output: output.as_mut_ptr(),
        direction: Direction::Backward { masks },
    };
    pass.run(channels_in);
}

/// One convolution in one direction.
struct Pass<'a> {
    geometry: Geometry,
    then: Then,
    packed: &'a [f32],
    /// What is convolved: the input, or the gradient of the output.
    input: &'a [f32],
    output: *mut f32,
    direction: Direction<'a>,
}

enum Direction<'a> {
    Forward { bias: &'a [f32], masks: *mut u16 },
    Backward { masks: Option<&'a [u16]> },
}

// SAFETY: the pointers are to slices that the pass has for itself as long as it runs, and each part
// of it writes to tiles and channels that no other part writes to.
unsafe impl Sync for Pass<'_> {}

thread_local! {
    /// Transformed patches and products of one block.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

impl Pass<'_> {
    /// Cuts the work into blocks of tiles, and those into ranges of output channels where there are
    /// too few for all threads.
    fn run(&self, channels: usize) {
        let panels_at_once = dispatch(PanelsAtOnce);
        let panels = self.geometry.grid().panels();
        let blocks = panels.div_ceil(panels_at_once);
        let tasks = self.geometry.batch * blocks;
        if tasks == 0 || channels == 0 {
            return;
        }
        let groups = channels.div_ceil(GROUP);
        let threads = rayon::current_num_threads();
        // Each range transforms all patches again, so no more than what keeps the threads busy.
        let uneven = |ranges: &usize| {
            let tasks = tasks * ranges;
            10 * tasks.next_multiple_of(threads) > 11 * tasks
        };
        let ranges = (1..groups).find(|ranges| !uneven(ranges)).unwrap_or(groups);
        let range = groups.div_ceil(ranges) * GROUP;
        (0..tasks * ranges).into_par_iter().for_each(|task| {
            let (block, first) = (task / ranges, task % ranges * range);
            if first >= channels {
                return;
            }
            let first_panel = block % blocks * panels_at_once;
            SCRATCH.with_borrow_mut(|scratch| {
                dispatch(Block {
                    pass: self,
                    image: block / blocks,
                    panels: first_panel..panels.min(first_panel + panels_at_once),
                    channels: first..channels.min(first + range),
                    scratch,
                });
            });
        });
    }
}

/// Finished pixels of a panel, before they are placed.
struct Tiles {
    whole: [[Lanes; TILE]; TILE],
    pooled: [[Lanes; 2]; 2],
    bits: Bits,
}

impl Tiles {
    const ZERO: Self = Self {
        whole: [[Lanes::ZERO; TILE]; TILE],
        pooled: [[Lanes::ZERO; 2]; 2],
        bits: [0; LANES],
    };
}

/// How many panels a block has on this machine.
struct PanelsAtOnce;

impl WithSimd for PanelsAtOnce {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        match S::F32_LANES {
            LANES => WIDE_PANELS,
            _ => PANELS,
        }
    }
}

/// Some tiles and output channels of one image.
struct Block<'a> {
    pass: &'a Pass<'a>,
    image: usize,
    panels: std::ops::Range<usize>,
    channels: std::ops::Range<usize>,
    scratch: &'a mut Vec<Lanes>,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            pass,
            image,
            panels,
            channels,
            scratch,
        } = self;
        let Geometry {
            channels_in,
            channels_out,
            ..
        } = pass.geometry;
        let depth = match pass.direction {
            Direction::Forward { .. } => channels_in,
            Direction::Backward { .. } => channels_out,
        };
        // Transformed patches as [panel, point, channel], one more channel than there are so that
        // points do not fall on the same cache sets; products as [channel, panel, point].
        let pitch = depth + 1;
        let patches_len = panels.len() * POINTS * pitch;
        let products_len = GROUP * panels.len() * POINTS;
        if scratch.len() < patches_len + products_len {
            scratch.resize(patches_len + products_len, Lanes::ZERO);
        }
        let (patches, products) = scratch.split_at_mut(patches_len);

        let grid = pass.geometry.grid();
        let panels: Vec<Panel> = panels.map(|number| grid.panel(number)).collect();
        for (index, panel) in panels.iter().enumerate() {
            let points = &mut patches[index * POINTS * pitch..][..POINTS * pitch];
            pass.transform_input(simd, image, panel, depth, points, pitch);
        }

        let stripes = channels_out.div_ceil(ROWS);
        let panel_count = panels.len();
        for first in channels.clone().step_by(GROUP) {
            let group = GROUP.min(channels.end - first);
            for point in 0..POINTS {
                let right = Right {
                    at: patches[point * pitch..].as_ptr().cast(),
                    next: POINTS * pitch * LANES,
                    panels: panel_count,
                };
                for row in (0..group).step_by(ROWS) {
                    let rows = ROWS.min(group - row);
                    let output = Output {
                        at: products[row * panel_count * POINTS + point..]
                            .as_mut_ptr()
                            .cast(),
                        row: panel_count * POINTS * LANES,
                        next: POINTS * LANES,
                        add: false,
                    };
                    let channel = first + row;
                    // SAFETY: `packed` holds, for each point, ⌈channels_out / 6⌉ stripes of
                    // channels_in × 6 values; the forward pass reads one stripe along its first
                    // dimension (6 values a step), the backward pass `rows` of the first dimension
                    // in every stripe. `right` are `depth` of the `pitch` channels of a point in each
                    // panel; `output` the rows of a group, which has GROUP of them.
                    unsafe {
                        match pass.direction {
                            Direction::Forward { .. } => {
                                let stripe = point * stripes + channel / ROWS;
                                let left = Left {
                                    at: pass.packed[stripe * channels_in * ROWS..].as_ptr(),
                                    stride: BLOCK * ROWS,
                                };
                                product::<S, ROWS, 1>(simd, rows, depth, left, right, output);
                            }
                            Direction::Backward { .. } => {
                                let at = (point * stripes * channels_in + channel) * ROWS;
                                let left = Left {
                                    at: pass.packed[at..].as_ptr(),
                                    stride: channels_in * ROWS,
                                };
                                product::<S, 1, ROWS>(simd, rows, depth, left, right, output);
                            }
                        }
                    }
                }
            }
            let mut tiles = Tiles::ZERO;
            for (index, panel) in panels.iter().enumerate() {
                for channel in 0..group {
                    let products = &products[(channel * panel_count + index) * POINTS..];
                    if let Some(products) = products.first_chunk() {
                        pass.finish(simd, [image, first + channel], panel, products, &mut tiles);
                    }
                }
            }
        }
    }
}

impl Pass<'_> {
    /// Transforms the patches of one panel, for all channels of what is convolved.
    #[inline(always)]
    fn transform_input<S: Simd>(
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
        let pooled = match self.then {
            Then::ReluPool(pooling) if backward => Some(match pooling {
                Pooling::Max => 1.0,
                Pooling::Average => 0.25,
            }),
            _ => None,
        };
        let size = match pooled {
            Some(_) => (grid.height / 2) * (grid.width / 2),
            None => grid.height * grid.width,
        };
        let window = panel.window(pooled.is_some());
        for channel in 0..depth {
            let index = image * depth + channel;
            let start = index * size;
            let ahead = self.input[start..].as_ptr().wrapping_add(AHEAD * size);
            foresee(panel, ahead, pooled.is_some());
            let factor = pooled.unwrap_or(1.0);
            let there = window
                .as_ref()
                .and_then(|window| Pixels::there(window, self.input, start, factor));
            let pixels = match there {
                Some(pixels) => pixels,
                None => {
                    let values = &self.input[start..][..size];
                    let plane = match pooled {
                        Some(factor) => Plane::Pooled(values, factor),
                        None => Plane::Whole(values),
                    };
                    gather(panel, plane, &mut patch);
                    Pixels::Collected(&patch)
                }
            };
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

    /// Turns the products of one channel and panel into pixels and masks.
    #[inline(always)]
    fn finish<S: Simd>(
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
        let bias = simd.splat_f32s(bias[channel]);
        for x in (0..LANES).step_by(S::F32_LANES) {
            let mut tile = transform_points(simd, products, x);
            for row in &mut tile {
                for pixel in row {
                    *pixel = simd.add_f32s(*pixel, bias);
                }
            }
            let mut alive = simd.splat_u32s(0);
            let mut half = [[bias; 2]; 2];
            match self.then {
                Then::Nothing => {}
                Then::Relu => alive = rectify(simd, &mut tile),
                Then::ReluPool(Pooling::Max) => {
                    for i in 0..2 {
                        for j in 0..2 {
                            let (most, bit) = largest(simd, &tile, 2 * i, 2 * j);
                            half[i][j] = most;
                            alive = simd.or_u32s(alive, bit);
                        }
                    }
                }
                Then::ReluPool(Pooling::Average) => {
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
            // SAFETY: `output` has channels_out planes for each image, of the size after `then`, and
            // this is one of them; the tiles of this block are written by no other.
            unsafe {
                match self.then {
                    Then::ReluPool(_) => small.put::<S>(plane, &half, x, pooled),
                    _ => canvas.put::<S>(plane, &tile, x, tiles),
                }
            }
            store_bits::<S>(bits, x, alive);
        }
        // SAFETY: as above.
        unsafe {
            match self.then {
                Then::ReluPool(_) => small.place(plane, pooled),
                _ => canvas.place(plane, tiles),
            }
        }
        if !masks.is_null() {
            let grid = self.geometry.grid();
            let tiles = panel.tiles.clone();
            let bits = bits.map(|bits| bits as u16);
            // SAFETY: there is a mask for each image, channel and tile; those of this panel are
            // written by no other thread.
            let masks = unsafe {
                let at = masks.add(index * grid.tiles() + tiles.start);
                std::slice::from_raw_parts_mut(at, tiles.len())
            };
            masks.copy_from_slice(&bits[..tiles.len()]);
        }
    }
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
