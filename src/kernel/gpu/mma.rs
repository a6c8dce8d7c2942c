//! Convolutions on tensor cores, 3×3 and 1×1: the factors in TF32, the sums in single precision. For CUDA
//! from compute capability 8.0 on. Faster, for factors of half the size, is [`super::conv_halves`], and for one tap
//! [`super::product_async`].
//!
//! With `split` a factor in single precision is the sum of two in TF32, and three of their four products
//! are added: the precision of single, at a third of the speed. Tensor cores cut off instead of rounding,
//! so they add the terms of one row of the kernel only (3xTF32; Ootomo and Yokota, arXiv 2203.03341).
//!
//! An implicit matrix product without its matrix: rows are output channels, columns are pixels, and the
//! sum runs over input channels and taps. A cube copies the pixels of its tile, with their border, to
//! shared memory for 16 input channels at a time, rounded to the type of the factors and channels innermost,
//! and uses them for all taps. The weights come from global memory in the order in which the units of a plane take them ([`super::pack`]).
//!
//! Fragments are those of `mma.sync.m16n8k8` (of halves `m16n8k16`; PTX ISA, "Matrix fragments").
//! Unit `4·g + t` of a plane has rows `g` and `g + 8` and columns `2t` and `2t + 1` of a result of 16
//! channels × 8 pixels. The sum may take its terms in any order: unit `t` takes adjacent channels, so
//! that it loads those of two products at once, 16 bytes. Four results are four rows of 8 columns, the
//! block of one word of a mask for each channel, which the four units of a `g` hold: bias, ReLU, mask
//! and pool need no shared memory.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

use super::conv::bias_of;
use super::epilogue::{largest, relu, write_mask};
use crate::kernel::{Epilogue, Pooling};

/// Sides of a cube of tensor-core convolutions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaTile {
    /// Fragments of 16 channels that a plane computes.
    pub fragments: usize,
    /// Blocks of 8 columns that a plane computes, of four rows each.
    pub blocks: usize,
    /// Planes for other channels.
    pub planes_of_channels: usize,
    /// Planes for other rows.
    pub planes_of_rows: usize,
}

impl MmaTile {
    /// See the fields.
    pub fn new(
        fragments: usize,
        blocks: usize,
        planes_of_channels: usize,
        planes_of_rows: usize,
    ) -> Self {
        Self {
            fragments,
            blocks,
            planes_of_channels,
            planes_of_rows,
        }
    }

    /// Output channels of a cube.
    pub fn channels(self) -> usize {
        16 * self.fragments * self.planes_of_channels
    }

    /// Units of a cube.
    pub fn units(self) -> usize {
        32 * self.planes_of_channels * self.planes_of_rows
    }

    /// Rows of an image that a cube computes.
    pub fn rows(self) -> usize {
        4 * self.planes_of_rows
    }

    /// Columns of an image that a cube computes.
    pub fn columns(self) -> usize {
        8 * self.blocks
    }

    /// Cubes along the columns and the rows of an image, and for its channels.
    pub fn count(self, channels_out: usize, height: usize, width: usize) -> [usize; 3] {
        [
            width.div_ceil(self.columns()),
            height.div_ceil(self.rows()),
            channels_out.div_ceil(self.channels()),
        ]
    }
}

/// Input channels between two barriers.
const DEPTH: usize = 16;

/// Which part of the input a cube takes, and how.
#[derive(CubeType, Clone)]
struct Source {
    batch: usize,
    top: usize,
    left: usize,
    channels: usize,
    height: usize,
    width: usize,
    #[cube(comptime)]
    border: usize,
    #[cube(comptime)]
    patch_width: usize,
    #[cube(comptime)]
    pixels: usize,
}

/// The convolution of `x`, `[batch, channels_in, height, width]`; with `accumulate` added to `y`.
///
/// Weights begin at vector `weights_start`, those of each image of the batch `weights_per_image` further.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn convolve_mma<F: Float, N: Size, S: Float, E: Float>(
    x: &Array<F>,
    weights: &Array<Vector<u32, Const<4>>>,
    bias: ComptimeOption<Array<F>>,
    y: &mut Array<Vector<F, N>>,
    mut mask: ComptimeOption<Array<u32>>,
    weights_start: usize,
    weights_per_image: usize,
    channels_in: usize,
    channels_out: usize,
    height: usize,
    width: usize,
    #[comptime] taps: usize,
    #[comptime] epilogue: Epilogue,
    #[comptime] accumulate: bool,
    #[comptime] tile: MmaTile,
    #[comptime] split: bool,
    #[define(F, S, E)] _dtypes: [StorageType; 3],
) {
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 8usize);
    let border = comptime!(taps / 9);
    let patch_width = comptime!(tile.columns() + 2 * border);
    let pixels = comptime!(patch_width * (tile.rows() + 2 * border));
    let units = comptime!(tile.units());
    let stages = comptime!((4 * pixels).div_ceil(units));
    let stages_per_tap = comptime!(stages.div_ceil(taps));
    let fragments = comptime!(tile.fragments * tile.planes_of_channels);
    let results = comptime!(4 * tile.fragments * tile.blocks);
    // The taps of one row of the kernel are used between two barriers.
    let row_taps = comptime!(if taps == 9 { 3 } else { 1 });
    let rows = comptime!(taps / row_taps);
    let weight_len = comptime!(64 * fragments);
    let weight_stages = comptime!(weight_len.div_ceil(units));
    let mut patch = SharedMemory::<Vector<u32, Const<4>>>::new(comptime!(8 * pixels));
    let mut row_weights =
        SharedMemory::<Vector<u32, Const<4>>>::new(comptime!(2 * row_taps * weight_len));

    let unit = UNIT_POS as usize;
    let lane = unit % 32;
    let plane = unit / 32;
    let plane_of_rows = plane % tile.planes_of_rows;
    let plane_of_channels = plane / tile.planes_of_rows;
    let cubes = channels_out.div_ceil(comptime!(tile.channels()));
    let cube = CUBE_POS_Z as usize % cubes;
    let source = Source {
        batch: CUBE_POS_Z as usize / cubes,
        top: CUBE_POS_Y as usize * comptime!(tile.rows()),
        left: CUBE_POS_X as usize * comptime!(tile.columns()),
        channels: channels_in,
        height,
        width,
        border,
        patch_width,
        pixels,
    };
    let (g, t) = (lane / 4, lane % 4);

    let mut sums = zeros(results);

    #[unroll]
    for stage in 0..stages {
        let task = unit + comptime!(stage * units);
        let values = read_pixel::<F>(x, task, 0, &source);
        write_pixel::<S>(&values, &mut patch, task, 0, pixels);
    }
    let steps = channels_in.div_ceil(DEPTH);
    let first = cube * fragments;
    // Weights of a fragment for all taps of all steps are contiguous.
    let start =
        weights_start + weights_per_image * source.batch + first * steps * comptime!(64 * taps);
    let stride = steps * comptime!(64 * taps);
    #[unroll]
    for tap in 0..row_taps {
        #[unroll]
        for stage in 0..weight_stages {
            let task = unit + comptime!(stage * units);
            if task < weight_len {
                let at = start + task / 64 * stride + comptime!(64 * tap) + task % 64;
                row_weights[comptime!(tap * weight_len) + task] = weights[at];
            }
        }
    }
    sync_cube();

    for turn in 0..steps * rows {
        let (step, row) = (turn / rows, turn % rows);
        let buffer = step % 2 * comptime!(4 * pixels);
        let weight_buffer = turn % 2 * comptime!(row_taps * weight_len);
        let mut parts = zeros(comptime!(if split { results } else { 0 }));
        for tap in 0..row_taps {
            // The next pixels and weights are on their way while these are used.
            let mut staged = Sequence::<Array<f32>>::new();
            let first_task = unit + (row * row_taps + tap) * comptime!(stages_per_tap * units);
            #[unroll]
            for i in 0..stages_per_tap {
                let task = first_task + comptime!(i * units);
                let first = (step + 1) * DEPTH;
                staged.push(read_pixel::<F>(x, task, first, &source));
            }
            let mut staged_weights = Sequence::<Vector<u32, Const<4>>>::new();
            #[unroll]
            for stage in 0..weight_stages {
                let task = unit + comptime!(stage * units);
                let mut words = Vector::<u32, Const<4>>::empty();
                if turn + 1 < steps * rows && task < weight_len {
                    let next = ((turn + 1) * row_taps + tap) * 64;
                    words = weights[start + task / 64 * stride + next + task % 64];
                }
                staged_weights.push(words);
            }

            let mut pixel_words = Sequence::<Vector<u32, Const<4>>>::new();
            let (top, left) = (4 * plane_of_rows + row, tap + g);
            #[unroll]
            for n in 0..comptime!(4 * tile.blocks) {
                let pixel = (top + comptime!(n % 4)) * patch_width + left + comptime!(n / 4 * 8);
                pixel_words.push(patch[buffer + 4 * pixel + (t ^ (pixel / 2 % 4))]);
            }
            let tap_weights = weight_buffer
                + tap * weight_len
                + plane_of_channels * comptime!(64 * tile.fragments)
                + lane;
            #[unroll]
            for half in 0..2usize {
                let mut weight_fragments = Sequence::<Array<Vector<E, Const<1>>>>::new();
                let mut weight_rests = Sequence::<Array<Vector<E, Const<1>>>>::new();
                #[unroll]
                for m in 0..tile.fragments {
                    let words = row_weights[tap_weights + comptime!(64 * m + 32 * half)];
                    weight_fragments.push(fragment::<E>(words, 0usize, 4usize, split));
                    if comptime!(split) {
                        weight_rests.push(rest::<E>(words, 0usize, 4usize));
                    }
                }
                #[unroll]
                for n in 0..comptime!(4 * tile.blocks) {
                    let words = *pixel_words.index(n);
                    let pixels = fragment::<E>(words, comptime!(2 * half), 2usize, split);
                    if comptime!(split) {
                        let rests = rest::<E>(words, comptime!(2 * half), 2usize);
                        #[unroll]
                        for m in 0..tile.fragments {
                            let part = parts.index_mut(comptime!(m * 4 * tile.blocks + n));
                            product.execute_inplace(weight_rests.index(m), &pixels, part);
                            product.execute_inplace(weight_fragments.index(m), &rests, part);
                            product.execute_inplace(weight_fragments.index(m), &pixels, part);
                        }
                    } else {
                        #[unroll]
                        for m in 0..tile.fragments {
                            let sum = sums.index_mut(comptime!(m * 4 * tile.blocks + n));
                            product.execute_inplace(weight_fragments.index(m), &pixels, sum);
                        }
                    }
                }
            }

            #[unroll]
            for i in 0..stages_per_tap {
                let task = first_task + comptime!(i * units);
                let next = comptime!(4 * pixels) - buffer;
                write_pixel::<S>(staged.index(i), &mut patch, task, next, pixels);
            }
            #[unroll]
            for stage in 0..weight_stages {
                let task = unit + comptime!(stage * units);
                if task < weight_len {
                    let next = comptime!(row_taps * weight_len) - weight_buffer;
                    row_weights[next + tap * weight_len + task] = *staged_weights.index(stage);
                }
            }
        }
        if comptime!(split) {
            add(&mut sums, &parts, results);
        }
        sync_cube();
    }

    let place = Place {
        batch: source.batch,
        fragment: first + plane_of_channels * tile.fragments,
        row: source.top + 4 * plane_of_rows,
        column: source.left,
        channels_out,
        height,
        width,
    };
    write_results::<F, N>(
        &sums, &place, &bias, y, &mut mask, 1.0, tile, epilogue, accumulate,
    );
}

/// Where the results of a plane lie.
#[derive(CubeType, Clone)]
pub struct Place {
    pub batch: usize,
    /// Their first fragment of channels.
    pub fragment: usize,
    pub row: usize,
    pub column: usize,
    /// Of the whole result, without a pool.
    pub channels_out: usize,
    pub height: usize,
    pub width: usize,
}

/// Writes the results of a plane times `inverse`, with bias and epilogue.
#[cube]
#[allow(clippy::too_many_arguments)]
pub fn write_results<F: Float, N: Size>(
    sums: &Sequence<Array<Vector<f32, Const<2>>>>,
    place: &Place,
    bias: &ComptimeOption<Array<F>>,
    y: &mut Array<Vector<F, N>>,
    mask: &mut ComptimeOption<Array<u32>>,
    inverse: f32,
    #[comptime] tile: MmaTile,
    #[comptime] epilogue: Epilogue,
    #[comptime] accumulate: bool,
) {
    let lane = UNIT_POS as usize % 32;
    #[unroll]
    for m in 0..tile.fragments {
        #[unroll]
        for half in 0..2usize {
            let channel = 16 * (place.fragment + m) + comptime!(8 * half) + lane / 4;
            let is_channel = channel < place.channels_out;
            let mut offset = 0.0f32;
            if is_channel {
                offset = bias_of::<F>(bias, channel);
            }
            #[unroll]
            for block in 0..tile.blocks {
                let mut values = Array::<f32>::new(8usize);
                #[unroll]
                for row in 0..4usize {
                    let sum = sums.index(comptime!(m * 4 * tile.blocks + 4 * block + row));
                    let pair = sum[half];
                    values[comptime!(2 * row)] = fma(pair[0], inverse, offset);
                    values[comptime!(2 * row + 1)] = fma(pair[1], inverse, offset);
                }
                write_quad::<F, N>(
                    &mut values,
                    y,
                    mask,
                    is_channel,
                    place.batch * place.channels_out + channel,
                    place.row,
                    place.column + comptime!(8 * block),
                    lane % 4,
                    place.height,
                    place.width,
                    epilogue,
                    accumulate,
                );
            }
        }
    }
}

/// Fragments of a result, zero.
#[cube]
pub fn zeros(#[comptime] count: usize) -> Sequence<Array<Vector<f32, Const<2>>>> {
    let mut sums = Sequence::<Array<Vector<f32, Const<2>>>>::new();
    #[unroll]
    for _ in 0..count {
        let mut sum = Array::<Vector<f32, Const<2>>>::new(2usize);
        sum[0] = Vector::new(0.0);
        sum[1] = Vector::new(0.0);
        sums.push(sum);
    }
    sums
}

/// Adds fragments to others. Tensor cores cut off what a sum cannot hold, which would add up; this
/// rounds.
#[cube]
pub fn add(
    sums: &mut Sequence<Array<Vector<f32, Const<2>>>>,
    parts: &Sequence<Array<Vector<f32, Const<2>>>>,
    #[comptime] count: usize,
) {
    #[unroll]
    for i in 0..count {
        let sum = sums.index_mut(i);
        let part = parts.index(i);
        sum[0] += part[0];
        sum[1] += part[1];
    }
}

/// Four channels of one pixel of a patch, from channel `first` on; zeros outside of the image.
#[cube]
fn read_pixel<F: Float>(x: &Array<F>, task: usize, first: usize, source: &Source) -> Array<f32> {
    let mut values = Array::<f32>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        values[i] = 0.0;
    }
    let pixel = task % source.pixels;
    let first = first + task / source.pixels * 4;
    // One border more than the position, so that it is not negative.
    let row = source.top + pixel / source.patch_width;
    let column = source.left + pixel % source.patch_width;
    let border = source.border;
    let inside = row >= border
        && row < source.height + border
        && column >= border
        && column < source.width + border;
    if inside && task < comptime!(4 * source.pixels) {
        let stride = source.height * source.width;
        let plane = source.batch * source.channels + first;
        let start = plane * stride + (row - border) * source.width + column - border;
        #[unroll]
        for i in 0..4usize {
            if first + i < source.channels {
                values[i] = f32::cast_from(x[start + i * stride]);
            }
        }
    }
    values
}

/// Writes what [`read_pixel`] read to shared memory. The four words-of-four of a pixel are permuted, so
/// that neither writing nor reading has bank conflicts.
#[cube]
fn write_pixel<S: Float>(
    values: &Array<f32>,
    patch: &mut SharedMemory<Vector<u32, Const<4>>>,
    task: usize,
    buffer: usize,
    #[comptime] pixels: usize,
) {
    let mut words = Vector::<u32, Const<4>>::empty();
    #[unroll]
    for i in 0..4usize {
        words[i] = u32::reinterpret(S::cast_from(values[i]));
    }
    if task < comptime!(4 * pixels) {
        let pixel = task % pixels;
        patch[buffer + 4 * pixel + ((task / pixels) ^ (pixel / 2 % 4))] = words;
    }
}

/// Registers of a fragment from some of four words: with `split` from numbers in single precision,
/// which are rounded to the type of the factors.
#[cube]
fn fragment<E: Float>(
    words: Vector<u32, Const<4>>,
    #[comptime] first: usize,
    #[comptime] count: usize,
    #[comptime] split: bool,
) -> Array<Vector<E, Const<1>>> {
    let mut fragment = Array::<Vector<E, Const<1>>>::new(count);
    #[unroll]
    for i in 0..count {
        let word = words[comptime!(first + i)];
        if comptime!(split) {
            fragment[i] = Vector::new(E::cast_from(f32::reinterpret(word)));
        } else {
            fragment[i] = Vector::<E, Const<1>>::reinterpret(word);
        }
    }
    fragment
}

/// What rounding leaves of numbers in single precision, rounded too.
#[cube]
fn rest<E: Float>(
    words: Vector<u32, Const<4>>,
    #[comptime] first: usize,
    #[comptime] count: usize,
) -> Array<Vector<E, Const<1>>> {
    let mut fragment = Array::<Vector<E, Const<1>>>::new(count);
    #[unroll]
    for i in 0..count {
        let value = f32::reinterpret(words[comptime!(first + i)]);
        let rounded = f32::cast_from(E::cast_from(value));
        fragment[i] = Vector::new(E::cast_from(value - rounded));
    }
    fragment
}

/// Applies an epilogue to the two columns that unit `t` of a quad has of a block of 4 rows × 8 columns,
/// and writes them. See [`write_block`](super::epilogue::write_block).
#[cube]
#[allow(clippy::too_many_arguments)]
fn write_quad<F: Float, N: Size>(
    values: &mut Array<f32>,
    y: &mut Array<Vector<F, N>>,
    mask: &mut ComptimeOption<Array<u32>>,
    is_channel: bool,
    plane: usize,
    row: usize,
    column: usize,
    t: usize,
    height: usize,
    width: usize,
    #[comptime] epilogue: Epilogue,
    #[comptime] accumulate: bool,
) {
    let mut bits = 0u32;
    if comptime!(epilogue != Epilogue::None) {
        #[unroll]
        for i in 0..8usize {
            values[i] = relu(values[i]);
        }
    }
    if comptime!(matches!(epilogue, Epilogue::ReluPool(_))) {
        let (rows, columns) = (height / 2, width / 2);
        #[unroll]
        for window in 0..2usize {
            let corner = comptime!(4 * window);
            let mut pooled = 0.0f32;
            if comptime!(epilogue == Epilogue::ReluPool(Pooling::Average)) {
                #[unroll]
                for i in 0..4usize {
                    let value = values[comptime!(corner + i)];
                    pooled += value;
                    bits |= u32::cast_from(value > 0.0)
                        << comptime!((8 * (2 * window + i / 2) + i % 2) as u32);
                }
                pooled *= 0.25;
            } else {
                let largest = largest(
                    values[corner],
                    values[comptime!(corner + 1)],
                    values[comptime!(corner + 2)],
                    values[comptime!(corner + 3)],
                );
                pooled = largest.0;
                if largest.0 > 0.0 {
                    let offset = largest.1 / 2 * 8 + largest.1 % 2;
                    bits |= 1u32 << (offset + comptime!(16 * window as u32));
                }
            }
            let (row, column) = (row / 2 + window, column / 2 + t);
            if is_channel && row < rows && column < columns {
                // Vectors of pooled rows have one value.
                let mut vectors = Vector::<F, N>::empty();
                vectors[0] = F::cast_from(pooled);
                y[(plane * rows + row) * columns + column] = vectors;
            }
        }
    } else {
        if comptime!(epilogue == Epilogue::Relu) {
            #[unroll]
            for i in 0..8usize {
                bits |= u32::cast_from(values[i] > 0.0) << comptime!((i / 2 * 8 + i % 2) as u32);
            }
        }
        let vector = N::value();
        #[unroll]
        for i in 0..4usize {
            #[unroll]
            for j in 0..comptime!(2 / vector) {
                let (row, column) = (row + i, column + 2 * t + j * vector);
                if is_channel && row < height && column < width {
                    let index = ((plane * height + row) * width + column) / vector;
                    let mut vectors = Vector::<F, N>::empty();
                    #[unroll]
                    for k in 0..vector {
                        vectors[k] = F::cast_from(values[comptime!(2 * i + j * vector + k)]);
                    }
                    if comptime!(accumulate) {
                        vectors += y[index];
                    }
                    y[index] = vectors;
                }
            }
        }
    }
    if comptime!(epilogue != Epilogue::None) {
        let bits = bits << (2 * t) as u32;
        let bits = bits | plane_shuffle_xor(bits, 1u32);
        let bits = bits | plane_shuffle_xor(bits, 2u32);
        if is_channel && t == 0 && row < height && column < width {
            write_mask(mask, bits, plane, row, column, height, width);
        }
    }
}
