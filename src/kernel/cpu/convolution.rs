//! The 3×3 convolution and its gradient, in blocks that stay in the cache.
//!
//! A block is a few panels of sixteen tiles. One thread transforms the patches of all input
//! channels, multiplies them with the kernel for 48 output channels at a time, and finishes those
//! (bias, ReLU, pool, masks) while they are warm. Where a mix follows, a matrix times the channels of
//! every position, the channels before it never leave the cache, neither forward nor backward. What
//! a block needs besides its inputs and outputs is kept from call to call. The order of every sum is
//! fixed, whatever the number of threads.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Bits, LANES, Lanes, dispatch, store_bits};
use super::mix;
use super::patch::{DISTINCT, Grid, Panel, Pixels, Plane, foresee, gather, gather_masks};
use super::product::{BLOCK, Left, Output, ROWS, Right, product};
use super::winograd::{
    Near, PATCH, POINTS, Patch, TILE, packed_len, transform_patch, transform_points,
};
use crate::kernel::{Pooling, Then};

/// Panels of a block: few enough for the second-level cache, enough to read the kernel seldom.
const PANELS: usize = 2;
/// The same where a register holds a whole panel and the kernel is large.
const WIDE_PANELS: usize = 4;
/// Up to this many values, a kernel stays in the cache and may be read often.
const SMALL: usize = 1 << 18;
/// Output channels that are finished at once.
const GROUP: usize = 8 * ROWS;
/// Distance of two pixels of finished channels: one more than there are, for the sake of cache sets.
const GROUP_PITCH: usize = GROUP + 1;
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
    /// Channels that are mixed of those, if any mix follows.
    pub mixed: Option<usize>,
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

    /// Channels of what comes out at the end.
    pub fn channels_after(&self) -> usize {
        self.mixed.unwrap_or(self.channels_out)
    }

    fn values(&self, channels: usize, (height, width): (usize, usize)) -> usize {
        self.batch * channels * height * width
    }
}

/// Values of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    /// The kernel as [`pack`](super::winograd::pack) arranges it.
    pub packed: &'a [f32],
    /// One value for each output channel.
    pub bias: &'a [f32],
    /// The matrix of the mix, `[mixed, channels_out]`; empty where none follows.
    pub mix: &'a [f32],
}

/// `then(convolution(x) + bias)`, mixed where the geometry tells of a mix, and with `masks` for each
/// tile which of its 16 pixels pass a gradient on: bit `4y + x` for the pixel in row `y` and
/// column `x`.
///
/// # Panics
/// If a slice has not the length that the geometry tells.
pub fn forward(
    geometry: Geometry,
    x: &[f32],
    Weights { packed, bias, mix }: Weights,
    then: Then,
    output: &mut [f32],
    masks: Option<&mut [u16]>,
) {
    let Geometry {
        channels_in,
        channels_out,
        mixed,
        ..
    } = geometry;
    assert_eq!(
        x.len(),
        geometry.values(channels_in, geometry.after(Then::Nothing))
    );
    assert_eq!(packed.len(), packed_len(channels_out, channels_in));
    assert_eq!(bias.len(), channels_out);
    let rows = mixed.unwrap_or(0);
    assert_eq!(mix.len(), rows * channels_out);
    assert_eq!(
        output.len(),
        geometry.values(geometry.channels_after(), geometry.after(then))
    );
    if let Some(masks) = &masks {
        assert_eq!(masks.len(), geometry.masks());
    }
    let pass = Pass {
        geometry,
        then,
        packed,
        mix: mix::pack(rows, channels_out, |row, channel| {
            mix[row * channels_out + channel]
        }),
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
    Weights { packed, mix, .. }: Weights,
    then: Then,
    masks: Option<&[u16]>,
    output: &mut [f32],
) {
    let Geometry {
        channels_in,
        channels_out,
        mixed,
        ..
    } = geometry;
    let rows = mixed.unwrap_or(0);
    assert_eq!(mix.len(), rows * channels_out);
    assert_eq!(
        gradient.len(),
        geometry.values(geometry.channels_after(), geometry.after(then))
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
        mix: mix::pack(channels_out, rows, |channel, row| {
            mix[row * channels_out + channel]
        }),
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
    /// The matrix of the mix forward, its transpose backward, as a product reads it.
    mix: Vec<f32>,
    /// What is convolved: the input, or the gradient of the output.
    input: &'a [f32],
    output: *mut f32,
    direction: Direction<'a>,
}

#[derive(Clone, Copy)]
enum Direction<'a> {
    Forward { bias: &'a [f32], masks: *mut u16 },
    Backward { masks: Option<&'a [u16]> },
}

// SAFETY: the pointers are to slices that the pass has for itself as long as it runs, and each part
// of it writes to tiles and channels that no other part writes to.
unsafe impl Sync for Pass<'_> {}

thread_local! {
    /// Transformed patches, products, and what is mixed of one block.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

impl Pass<'_> {
    /// The channels that a mix follows, if they have to be all at hand.
    fn mixes_forward(&self) -> Option<usize> {
        match self.direction {
            Direction::Forward { .. } => self.geometry.mixed,
            Direction::Backward { .. } => None,
        }
    }

    /// Cuts the work into blocks of tiles, and those into ranges of output channels where there are
    /// too few for all threads; what is mixed, which takes all channels, into smaller blocks.
    fn run(&self, channels: usize) {
        let mut panels_at_once = dispatch(PanelsAtOnce);
        if self.packed.len() <= SMALL {
            panels_at_once = panels_at_once.min(PANELS);
        }
        let panels = self.geometry.grid().panels();
        if self.mixes_forward().is_some() {
            let share = panels.div_ceil(rayon::current_num_threads());
            panels_at_once = panels_at_once.min(share.max(1));
        }
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
        let ranges = match self.mixes_forward() {
            Some(_) => 1,
            None => (1..groups).find(|ranges| !uneven(ranges)).unwrap_or(groups),
        };
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
        // Finished pixels of a group as [panel, pixel, channel]; what is mixed of them as
        // [mixed channel, panel, pixel].
        let rows = pass.mixes_forward().unwrap_or(0);
        let pixels = match pass.then {
            Then::ReluPool(_) => (TILE / 2) * (TILE / 2),
            _ => TILE * TILE,
        };
        let finished_len = match rows {
            0 => 0,
            _ => panels.len() * pixels * GROUP_PITCH,
        };
        let mixed_len = rows * panels.len() * pixels;
        let needed =
            patches_len + (products_len + finished_len + mixed_len).max(pass.unmixed_len());
        if scratch.len() < needed {
            scratch.resize(needed, Lanes::ZERO);
        }
        let (patches, rest) = scratch.split_at_mut(patches_len);

        let grid = pass.geometry.grid();
        let panels: Vec<Panel> = panels.map(|number| grid.panel(number)).collect();
        for (index, panel) in panels.iter().enumerate() {
            let points = &mut patches[index * POINTS * pitch..][..POINTS * pitch];
            match (pass.geometry.mixed, pass.direction) {
                (Some(rows), Direction::Backward { masks }) => {
                    let scratch = &mut *rest;
                    pass.unmix_input(simd, image, panel, rows, masks, points, pitch, scratch);
                }
                _ => pass.transform_input(simd, image, panel, depth, points, pitch),
            }
        }

        let (products, rest) = rest.split_at_mut(products_len);
        let (finished, mixed) = rest.split_at_mut(finished_len);
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
                        let place = [image, first + channel];
                        if rows == 0 {
                            pass.finish(simd, place, panel, products, &mut tiles);
                        } else {
                            let to = &mut finished[index * pixels * GROUP_PITCH + channel..];
                            pass.keep(simd, place, panel, products, to);
                        }
                    }
                }
            }
            for row in (0..rows).step_by(ROWS) {
                let left = Left {
                    at: pass.mix[(row * channels_out) + first * ROWS..].as_ptr(),
                    stride: BLOCK * ROWS,
                };
                let right = Right {
                    at: finished.as_ptr().cast(),
                    next: GROUP_PITCH * LANES,
                    panels: panel_count * pixels,
                };
                let output = Output {
                    at: mixed[row * panel_count * pixels..].as_mut_ptr().cast(),
                    row: panel_count * pixels * LANES,
                    next: LANES,
                    add: first > 0,
                };
                // SAFETY: `mix` holds stripes of six rows for each of channels_out channels, of which
                // this group's begin at `first`; `finished` as many channels of every pixel, and
                // `mixed` all pixels of every row.
                unsafe {
                    product::<S, ROWS, 1>(simd, ROWS.min(rows - row), group, left, right, output);
                }
            }
        }
        let (height, width) = pass.geometry.after(pass.then);
        for row in 0..rows {
            let plane = (image * rows + row) * height * width;
            let plane = pass.output.wrapping_add(plane);
            for (index, panel) in panels.iter().enumerate() {
                let mixed = &mixed[(row * panel_count + index) * pixels..][..pixels];
                // SAFETY: `output` has `rows` planes for each image, and this is one of them; the
                // tiles of this block are written by no other.
                unsafe {
                    match pass.then {
                        Then::ReluPool(_) => panel
                            .canvas::<2>((height, width))
                            .spread(simd, plane, mixed),
                        _ => panel
                            .canvas::<TILE>((height, width))
                            .spread(simd, plane, mixed),
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
        for x in (0..LANES).step_by(S::F32_LANES) {
            let Finished { tile, half, alive } = self.finished(simd, bias[channel], products, x);
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
        // SAFETY: the masks of this image, channel and panel are written by no other thread.
        unsafe { self.put_masks(masks, index, panel, bits) };
    }

    /// Keeps the finished pixels of one channel and panel for the mix, the pixel numbered `i` at
    /// `to[i * GROUP_PITCH]`, and writes the masks.
    #[inline(always)]
    fn keep<S: Simd>(
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
                Then::ReluPool(_) => {
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

    /// [`transform_input`](Self::transform_input) where the gradient is that of mixed channels: those
    /// before the mix are computed for the pixels of the patches, six channels at a time.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn unmix_input<S: Simd>(
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
        let (pooled, factor) = match self.then {
            Then::ReluPool(Pooling::Max) => (true, 1.0),
            Then::ReluPool(Pooling::Average) => (true, 0.25),
            _ => (false, 1.0),
        };
        let scale = if pooled { 2 } else { 1 };
        let size = (grid.height / scale) * (grid.width / scale);
        let side = self.distinct_side();
        let distinct = |i: usize| if pooled { (2 * i).saturating_sub(1) } else { i };
        let count = side * side;
        let row_pitch = rows + 1;
        let (gradients, before) = scratch.split_at_mut(count * row_pitch);
        let mut patch: Patch = [[Lanes::ZERO; PATCH]; PATCH];
        let window = panel.window(pooled);
        for row in 0..rows {
            let start = (image * rows + row) * size;
            let ahead = self.input[start..].as_ptr().wrapping_add(AHEAD * size);
            foresee(panel, ahead, pooled);
            let there = window
                .as_ref()
                .and_then(|window| Pixels::there(window, self.input, start, factor));
            let pixels = match there {
                Some(pixels) => pixels,
                None => {
                    let values = &self.input[start..][..size];
                    let plane = match pooled {
                        true => Plane::Pooled(values, factor),
                        false => Plane::Whole(values),
                    };
                    gather(panel, plane, &mut patch);
                    Pixels::Collected(&patch)
                }
            };
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

    /// Values along one axis of what lies under a patch.
    fn distinct_side(&self) -> usize {
        match self.then {
            Then::ReluPool(_) => DISTINCT,
            _ => PATCH,
        }
    }

    /// What [`unmix_input`](Self::unmix_input) needs: gradients of mixed channels under one panel,
    /// and six channels of those before the mix.
    fn unmixed_len(&self) -> usize {
        let count = self.distinct_side().pow(2);
        self.geometry
            .mixed
            .map_or(0, |rows| count * (rows + 1 + ROWS))
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
