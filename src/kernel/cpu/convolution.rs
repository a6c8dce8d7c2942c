//! The 3×3 convolution and its gradient, in blocks that fit the cache.
//!
//! A block is a few panels of sixteen tiles. One thread transforms the patches of all input channels,
//! multiplies them with the kernel for 48 output channels at a time, and applies the epilogue (bias,
//! ReLU, pool, masks) to those while they are in the cache. With a projection, the channels before it
//! are never written to memory, neither forward nor backward. The scratch memory of a block is kept
//! from call to call. The order of every sum is fixed, whatever the number of threads.

mod epilogue;
mod input;
mod tasks;

use std::cell::RefCell;
use std::ops::{Deref, Range};

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::conv1x1::pack_matrix;
use super::lanes::{Lanes, NR, dispatch};
use super::microkernel::{K_BLOCK, Left, MR, Output, Right, matmul};
use super::output_tiles::TileWriter;
use super::tiles::{Grid, Panel, TILE};
use super::winograd::{POINTS, packed_len};
use crate::kernel::Epilogue;
use epilogue::TileBuffers;
use tasks::{Task, divide};

/// Panels of a block: few enough for the second-level cache, enough to read the kernel seldom.
const PANELS: usize = 2;
/// The same where the kernel is large.
const MORE_PANELS: usize = 4;
/// Up to this many values, a kernel stays in the cache and may be read often.
const SMALL_KERNEL: usize = 1 << 23;
/// The same with AVX-512, whose registers hold four panels, all multiplied with one reading of the kernel.
const SMALL_KERNEL_WIDE: usize = 1 << 18;
/// Output channels of a group, to which the epilogue is applied at once.
const GROUP: usize = 8 * MR;
/// Distance of two pixels of a group's channels: one more than the channels, so that pixels do not
/// fall on the same cache sets.
const GROUP_PITCH: usize = GROUP + 1;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels_in: usize,
    /// Output channels of the 3×3 convolution.
    pub channels_out: usize,
    /// Output channels of the projection that follows, if any.
    pub channels_projected: Option<usize>,
    /// Height of input and convolution in pixels.
    pub height: usize,
    /// Width of input and convolution in pixels.
    pub width: usize,
}

impl Geometry {
    fn grid(&self) -> Grid {
        Grid {
            height: self.height,
            width: self.width,
        }
    }

    /// Height and width after the epilogue.
    pub fn output_size(&self, epilogue: Epilogue) -> (usize, usize) {
        match epilogue {
            Epilogue::ReluPool(_) => (self.height / 2, self.width / 2),
            _ => (self.height, self.width),
        }
    }

    /// Number of masks: one for each image, output channel of the convolution and tile.
    pub fn mask_count(&self) -> usize {
        self.batch * self.channels_out * self.grid().tiles()
    }

    /// Output channels, after the projection if there is one.
    pub fn output_channels(&self) -> usize {
        self.channels_projected.unwrap_or(self.channels_out)
    }

    fn values(&self, channels: usize, (height, width): (usize, usize)) -> usize {
        self.batch * channels * height * width
    }
}

/// The weights of a convolution, in slices or in whatever holds them.
#[derive(Clone, Copy, Debug)]
pub struct Weights<V> {
    /// The kernel in the layout of [`pack`](super::winograd::pack).
    pub packed: V,
    /// One value for each output channel of the convolution.
    pub bias: V,
    /// The matrix of the projection, `[channels_projected, channels_out]`, if there is one.
    pub projection: Option<V>,
}

impl<V: Deref<Target = [f32]>> Weights<V> {
    /// The matrix of the projection; empty if there is none.
    ///
    /// # Panics
    /// If the length of a slice does not match the sizes.
    fn checked_projection(&self, geometry: Geometry) -> &[f32] {
        let Geometry {
            channels_in,
            channels_out,
            channels_projected,
            ..
        } = geometry;
        assert_eq!(self.packed.len(), packed_len(channels_out, channels_in));
        assert_eq!(self.bias.len(), channels_out);
        let projection = self.projection.as_deref().unwrap_or(&[]);
        assert_eq!(
            projection.len(),
            channels_projected.unwrap_or(0) * channels_out
        );
        projection
    }
}

/// `epilogue(convolution(x) + bias)`, projected if the geometry says so. With `masks`, also which of
/// the 16 pixels of each tile pass a gradient on: bit `4y + x` for the pixel in row `y` and column
/// `x`.
///
/// # Panics
/// If the length of a slice does not match the geometry.
pub fn forward(
    geometry: Geometry,
    x: &[f32],
    weights: &Weights<impl Deref<Target = [f32]>>,
    epilogue: Epilogue,
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
        geometry.values(channels_in, geometry.output_size(Epilogue::None))
    );
    let projection = weights.checked_projection(geometry);
    assert_eq!(
        output.len(),
        geometry.values(geometry.output_channels(), geometry.output_size(epilogue))
    );
    if let Some(masks) = &masks {
        assert_eq!(masks.len(), geometry.mask_count());
    }
    let rows = geometry.channels_projected.unwrap_or(0);
    let pass = Pass {
        geometry,
        epilogue,
        packed: &weights.packed,
        projection: pack_matrix(rows, channels_out, |row, channel| {
            projection[row * channels_out + channel]
        }),
        input: x,
        output: output.as_mut_ptr(),
        direction: Direction::Forward {
            bias: &weights.bias,
            masks: masks.map_or(std::ptr::null_mut(), |masks| masks.as_mut_ptr()),
        },
    };
    pass.run(channels_out);
}

/// The gradient with respect to the input, from that with respect to the output of [`forward`] and
/// its masks (none for [`Epilogue::None`]).
///
/// # Panics
/// If the length of a slice does not match the geometry.
pub fn backward(
    geometry: Geometry,
    gradient: &[f32],
    weights: &Weights<impl Deref<Target = [f32]>>,
    epilogue: Epilogue,
    masks: Option<&[u16]>,
    output: &mut [f32],
) {
    let Geometry {
        channels_in,
        channels_out,
        ..
    } = geometry;
    let projection = weights.checked_projection(geometry);
    assert_eq!(
        gradient.len(),
        geometry.values(geometry.output_channels(), geometry.output_size(epilogue))
    );
    assert_eq!(
        output.len(),
        geometry.values(channels_in, geometry.output_size(Epilogue::None))
    );
    if let Some(masks) = masks {
        assert_eq!(masks.len(), geometry.mask_count());
    }
    let rows = geometry.channels_projected.unwrap_or(0);
    let pass = Pass {
        geometry,
        epilogue,
        packed: &weights.packed,
        projection: pack_matrix(channels_out, rows, |channel, row| {
            projection[row * channels_out + channel]
        }),
        input: gradient,
        output: output.as_mut_ptr(),
        direction: Direction::Backward { masks },
    };
    pass.run(channels_in);
}

/// A convolution in one direction.
struct Pass<'a> {
    geometry: Geometry,
    epilogue: Epilogue,
    packed: &'a [f32],
    /// The matrix of the projection, in the backward pass its transpose, packed for the microkernel.
    projection: Vec<f32>,
    /// What is convolved: the input, or the gradient with respect to the output.
    input: &'a [f32],
    output: *mut f32,
    direction: Direction<'a>,
}

#[derive(Clone, Copy)]
enum Direction<'a> {
    Forward { bias: &'a [f32], masks: *mut u16 },
    Backward { masks: Option<&'a [u16]> },
}

// SAFETY: the pointers are to slices that the pass borrows exclusively while it runs, and each of its
// blocks writes to tiles and channels that no other block writes to.
unsafe impl Sync for Pass<'_> {}

thread_local! {
    /// Transformed patches, products, and projected channels of a block.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

impl Pass<'_> {
    /// The number of projected channels, in the forward pass of a convolution with a projection.
    fn forward_projection(&self) -> Option<usize> {
        match self.direction {
            Direction::Forward { .. } => self.geometry.channels_projected,
            Direction::Backward { .. } => None,
        }
    }

    /// Divides the work into tasks, each a block of panels and a range of output channels, and does
    /// them on all threads.
    fn run(&self, channels: usize) {
        let mut panels_at_once = match self.packed.len() <= dispatch(SmallKernel) {
            true => PANELS,
            false => MORE_PANELS,
        };
        let panels = self.geometry.grid().panels();
        let threads = rayon::current_num_threads();
        let mut most_ranges = channels.div_ceil(MR);
        if self.forward_projection().is_some() {
            // A projection needs all channels at once, so only blocks are made smaller.
            most_ranges = 1;
            panels_at_once = panels_at_once.min(panels.div_ceil(threads).max(1));
        }
        let tasks = divide(panels, panels_at_once, channels, most_ranges, threads);
        // Each thread takes the next task in turn, so that one that is held up holds up no more than one.
        (0..self.geometry.batch * tasks.len())
            .par_bridge()
            .for_each(|index| {
                let Task { panels, channels } = tasks[index % tasks.len()].clone();
                SCRATCH.with_borrow_mut(|scratch| {
                    dispatch(Block {
                        pass: self,
                        image: index / tasks.len(),
                        panels,
                        channels,
                        scratch,
                    });
                });
            });
    }
}

/// The values of a small kernel on this machine.
struct SmallKernel;

impl WithSimd for SmallKernel {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        match S::F32_LANES {
            NR => SMALL_KERNEL_WIDE,
            _ => SMALL_KERNEL,
        }
    }
}

/// Some tiles and output channels of one image.
struct Block<'a> {
    pass: &'a Pass<'a>,
    image: usize,
    panels: Range<usize>,
    channels: Range<usize>,
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
        // Transformed patches as [panel, point, channel], with one unused channel so that points do
        // not fall on the same cache sets; products as [channel, panel, point].
        let pitch = depth + 1;
        let patches_len = panels.len() * POINTS * pitch;
        let products_len = GROUP * panels.len() * POINTS;
        // Pixels of a group after the epilogue as [panel, pixel, channel]; projected ones as
        // [projected channel, panel, pixel].
        let rows = pass.forward_projection().unwrap_or(0);
        let pixels = match pass.epilogue {
            Epilogue::ReluPool(_) => (TILE / 2) * (TILE / 2),
            _ => TILE * TILE,
        };
        let activations_len = match rows {
            0 => 0,
            _ => panels.len() * pixels * GROUP_PITCH,
        };
        let projected_len = rows * panels.len() * pixels;
        let needed = patches_len
            + (products_len + activations_len + projected_len).max(pass.gradient_projection_len());
        if scratch.len() < needed {
            scratch.resize(needed, Lanes::ZERO);
        }
        let (patches, rest) = scratch.split_at_mut(patches_len);

        let grid = pass.geometry.grid();
        let panels: Vec<Panel> = panels.map(|number| grid.panel(number)).collect();
        for (index, panel) in panels.iter().enumerate() {
            let points = &mut patches[index * POINTS * pitch..][..POINTS * pitch];
            match (pass.geometry.channels_projected, pass.direction) {
                (Some(rows), Direction::Backward { masks }) => {
                    let scratch = &mut *rest;
                    pass.project_gradient(simd, image, panel, rows, masks, points, pitch, scratch);
                }
                _ => pass.transform_input(simd, image, panel, depth, points, pitch),
            }
        }

        let (products, rest) = rest.split_at_mut(products_len);
        let (activations, projected) = rest.split_at_mut(activations_len);
        let stripes = channels_out.div_ceil(MR);
        let panel_count = panels.len();
        for first in channels.clone().step_by(GROUP) {
            let group = GROUP.min(channels.end - first);
            for point in 0..POINTS {
                let right = Right {
                    at: patches[point * pitch..].as_ptr().cast(),
                    next: POINTS * pitch * NR,
                    panels: panel_count,
                };
                for row in (0..group).step_by(MR) {
                    let rows = MR.min(group - row);
                    let output = Output {
                        at: products[row * panel_count * POINTS + point..]
                            .as_mut_ptr()
                            .cast(),
                        row: panel_count * POINTS * NR,
                        next: POINTS * NR,
                        add: false,
                    };
                    let channel = first + row;
                    // SAFETY: for each point, `packed` holds ⌈channels_out / 6⌉ stripes of
                    // channels_in × 6 values; the forward pass reads one stripe along its first
                    // dimension (6 values a step), the backward pass `rows` of the first dimension
                    // in every stripe. `right` are `depth` of the `pitch` channels of a point in each
                    // panel; `output` are rows of a group, which has GROUP of them.
                    unsafe {
                        match pass.direction {
                            Direction::Forward { .. } => {
                                let stripe = point * stripes + channel / MR;
                                let left = Left {
                                    at: pass.packed[stripe * channels_in * MR..].as_ptr(),
                                    stride: K_BLOCK * MR,
                                };
                                matmul::<S, MR, 1>(simd, rows, depth, left, right, output);
                            }
                            Direction::Backward { .. } => {
                                let at = (point * stripes * channels_in + channel) * MR;
                                let left = Left {
                                    at: pass.packed[at..].as_ptr(),
                                    stride: channels_in * MR,
                                };
                                matmul::<S, 1, MR>(simd, rows, depth, left, right, output);
                            }
                        }
                    }
                }
            }
            let mut tiles = TileBuffers::ZERO;
            for (index, panel) in panels.iter().enumerate() {
                for channel in 0..group {
                    let products = &products[(channel * panel_count + index) * POINTS..];
                    if let Some(products) = products.first_chunk() {
                        let plane = [image, first + channel];
                        if rows == 0 {
                            pass.write_tiles(simd, plane, panel, products, &mut tiles);
                        } else {
                            let to = &mut activations[index * pixels * GROUP_PITCH + channel..];
                            pass.store_activations(simd, plane, panel, products, to);
                        }
                    }
                }
            }
            for row in (0..rows).step_by(MR) {
                let left = Left {
                    at: pass.projection[(row * channels_out) + first * MR..].as_ptr(),
                    stride: K_BLOCK * MR,
                };
                let right = Right {
                    at: activations.as_ptr().cast(),
                    next: GROUP_PITCH * NR,
                    panels: panel_count * pixels,
                };
                let output = Output {
                    at: projected[row * panel_count * pixels..].as_mut_ptr().cast(),
                    row: panel_count * pixels * NR,
                    next: NR,
                    add: first > 0,
                };
                // SAFETY: `projection` holds stripes of six rows for each of channels_out channels, of
                // which this group's begin at `first`; `activations` holds as many channels of every
                // pixel, and `projected` all pixels of every row.
                unsafe {
                    matmul::<S, MR, 1>(simd, MR.min(rows - row), group, left, right, output);
                }
            }
        }
        let (height, width) = pass.geometry.output_size(pass.epilogue);
        for row in 0..rows {
            let plane = (image * rows + row) * height * width;
            let plane = pass.output.wrapping_add(plane);
            for (index, panel) in panels.iter().enumerate() {
                let projected = &projected[(row * panel_count + index) * pixels..][..pixels];
                // SAFETY: `output` has `rows` planes for each image, and this is one of them; no other
                // block writes the tiles of this one.
                unsafe {
                    match pass.epilogue {
                        Epilogue::ReluPool(_) => TileWriter::<2>::new(panel, (height, width))
                            .write_panel(simd, plane, projected),
                        _ => TileWriter::<TILE>::new(panel, (height, width))
                            .write_panel(simd, plane, projected),
                    }
                }
            }
        }
    }
}
