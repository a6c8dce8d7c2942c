//! The 3×3 convolution and its gradient, in blocks that stay in the cache.
//!
//! A block is a few panels of sixteen tiles. One thread transforms the patches of all input
//! channels, multiplies them with the kernel for 48 output channels at a time, and finishes those
//! (bias, ReLU, pool, masks) while they are warm. Where a mix follows, a matrix times the channels of
//! every position, the channels before it never leave the cache, neither forward nor backward. What
//! a block needs besides its inputs and outputs is kept from call to call. The order of every sum is
//! fixed, whatever the number of threads.

mod finish;
mod input;

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{LANES, Lanes, dispatch};
use super::mix;
use super::patch::{Grid, Panel};
use super::product::{BLOCK, Left, Output, ROWS, Right, product};
use super::winograd::{POINTS, TILE, packed_len};
use crate::kernel::Epilogue;
use finish::Tiles;

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
    pub fn after(&self, then: Epilogue) -> (usize, usize) {
        match then {
            Epilogue::ReluPool(_) => (self.height / 2, self.width / 2),
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
    then: Epilogue,
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
        geometry.values(channels_in, geometry.after(Epilogue::None))
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
    then: Epilogue,
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
        geometry.values(channels_in, geometry.after(Epilogue::None))
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
    then: Epilogue,
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
            Epilogue::ReluPool(_) => (TILE / 2) * (TILE / 2),
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
                        Epilogue::ReluPool(_) => panel
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
