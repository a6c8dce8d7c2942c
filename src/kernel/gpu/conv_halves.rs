//! 3×3 convolutions of packed halves on tensor cores: the factors in f16 or bf16, the sums in single
//! precision. For CUDA from compute capability 8.0 on.
//!
//! The same implicit matrix product as in [`super::mma`], with the same fragments and the same order of
//! weights. Its input is packed ([`super::pack::pack_pixels`]), so that pixels and weights go to shared
//! memory by asynchronous copies (`cp.async`) of 16 bytes, without a register or a conversion on the way,
//! while tensor cores work on those of the copies before. One barrier ends both.
//!
//! Between two barriers are the taps of one column of the kernel, for 32 input channels: the 4 rows of a result
//! need 6 rows of pixels for the three of them, each of which is loaded from shared memory once.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::barrier::{Barrier, copy_async, copy_async_checked};
use cubecl::prelude::*;

use super::mma::{MmaTile, Place, write_results, zeros};
use super::scale::scale;
use crate::kernel::Epilogue;

/// Input channels between two barriers, 16 bytes for each unit of a quad.
pub const DEPTH: usize = 32;

/// More than the vectors of shared memory, and a power of two.
const LIMIT: usize = 1 << 14;
/// More than the vectors of packed weights, and a power of two.
const FAR_LIMIT: usize = 1 << 27;

/// Where a cube stands, and how it copies pixels.
#[derive(CubeType, Clone)]
struct Patch {
    /// Of the 8-channel groups of a step, the one that this unit copies.
    quarter: usize,
    /// For each pixel that this unit copies, its vector in the first step; 0 outside of the image.
    from: Sequence<usize>,
    /// A bit for each of them, set inside of the image.
    inside: u32,
    /// The first vector in shared memory.
    to: usize,
    groups: usize,
    /// Vectors from one step to the next.
    stride: usize,
}

/// The convolution of `x`, packed from `[batch, channels_in, height, width]`.
///
/// With `magnitudes` of what was packed ([`super::scale`]) its scale is undone, and so is that of the weights, whose
/// inverse is their word `inverse_at`. Weights begin at vector `weights_start`, in blocks of `block` fragments.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn convolve_halves<F: Float, N: Size, E: Float>(
    x: &Array<Vector<u32, Const<4>>>,
    magnitudes: ComptimeOption<Array<f32>>,
    weights: &Array<Vector<u32, Const<4>>>,
    bias: ComptimeOption<Array<F>>,
    y: &mut Array<Vector<F, N>>,
    mut mask: ComptimeOption<Array<u32>>,
    weights_start: usize,
    inverse_at: usize,
    channels_in: usize,
    channels_out: usize,
    height: usize,
    width: usize,
    #[comptime] epilogue: Epilogue,
    #[comptime] tile: MmaTile,
    #[comptime] block: usize,
    #[define(F, E)] _dtypes: [StorageType; 2],
) {
    let size!(W) = 2usize;
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 16usize);
    let patch_width = comptime!(tile.columns() + 2);
    let pixels = comptime!(patch_width * (tile.rows() + 2));
    let units = comptime!(tile.units());
    // Pixels from one quarter to the next: so that neither writing nor reading has bank conflicts.
    let quarter_len = comptime!((pixels + 5) / 8 * 8 + 2);
    let patch_len = comptime!(4 * quarter_len);
    let copies = comptime!((4 * pixels).div_ceil(units));
    let fragments = comptime!(tile.fragments * tile.planes_of_channels);
    let results = comptime!(4 * tile.fragments * tile.blocks);
    let taps_len = comptime!(3 * 64 * fragments);
    let mut patch = SharedMemory::<Vector<u32, Const<4>>>::new(comptime!(2 * patch_len));
    let mut taps = SharedMemory::<Vector<u32, Const<4>>>::new(comptime!(2 * taps_len));
    let copied = Barrier::shared(CUBE_DIM, UNIT_POS == 0);

    let unit = UNIT_POS as usize;
    let lane = unit % 32;
    let plane = unit / 32;
    let plane_of_rows = plane % tile.planes_of_rows;
    let plane_of_channels = plane / tile.planes_of_rows;
    let cubes = channels_out.div_ceil(comptime!(tile.channels()));
    let cube = CUBE_POS_Z as usize % cubes;
    let batch = CUBE_POS_Z as usize / cubes;
    let top = CUBE_POS_Y as usize * comptime!(tile.rows());
    let left = CUBE_POS_X as usize * comptime!(tile.columns());
    let (g, t) = (lane / 4, lane % 4);

    let groups = channels_in.div_ceil(8usize);
    let steps = channels_in.div_ceil(DEPTH);
    let quarter = unit % 4;
    let mut inside = 0u32;
    let mut from = Sequence::<usize>::new();
    #[unroll]
    for i in 0..copies {
        let pixel = unit / 4 + comptime!(i * units / 4);
        // One more than the position, so that it is not negative.
        let row = top + pixel / patch_width;
        let column = left + pixel % patch_width;
        let is_inside =
            pixel < pixels && row >= 1 && row <= height && column >= 1 && column <= width;
        let at = ((batch * groups + quarter) * height + row - 1) * width + column - 1;
        from.push(select(is_inside, at, 0));
        inside |= u32::cast_from(is_inside) << comptime!(i as u32);
    }
    let source = Patch {
        quarter,
        from,
        inside,
        to: quarter * quarter_len + unit / 4,
        groups,
        stride: 4 * height * width,
    };
    // Weights of a block of fragments for all taps of all steps are contiguous.
    let first = cube * fragments;
    let weights_stride = comptime!(3 * 64 * block);
    let weights_from = weights_start
        + first / block * (3 * steps * weights_stride)
        + first % block * comptime!(3 * 64)
        + unit;

    let mut sums = zeros(results);
    copy_pixels(x, &mut patch, &source, 0, 0, copies, pixels, units);
    copy_taps(weights, &mut taps, weights_from, unit, taps_len, units);
    copied.commit_copy_async();
    copied.arrive_and_wait();

    let of_rows = plane_of_rows * comptime!(4 * patch_width) + g + t * quarter_len;
    let of_channels = plane_of_channels * comptime!(3 * 64 * tile.fragments) + lane;
    for turn in 0..3 * steps {
        let (step, column) = (turn / 3, turn % 3);
        let buffer = step % 2 * patch_len;
        let tap_buffer = turn % 2 * taps_len;
        if column == 0 && step + 1 < steps {
            copy_pixels(
                x,
                &mut patch,
                &source,
                step + 1,
                patch_len - buffer,
                copies,
                pixels,
                units,
            );
        }
        if turn + 1 < 3 * steps {
            copy_taps(
                weights,
                &mut taps,
                weights_from + (turn + 1) * weights_stride,
                unit + (taps_len - tap_buffer),
                taps_len,
                units,
            );
        }

        // The remainders change nothing: they show the compiler that these sums do not overflow, so
        // that what is constant of them becomes part of the instruction.
        let pixel = (buffer + of_rows + column) % LIMIT;
        let mut words = Sequence::<Vector<u32, Const<4>>>::new();
        #[unroll]
        for n in 0..comptime!(6 * tile.blocks) {
            words.push(patch[pixel + comptime!(n % 6 * patch_width + n / 6 * 8)]);
        }
        let tap = (tap_buffer + of_channels) % LIMIT;
        #[unroll]
        for row in 0..3usize {
            #[unroll]
            for half in 0..2usize {
                let mut factors = Sequence::<Array<Vector<E, W>>>::new();
                #[unroll]
                for m in 0..tile.fragments {
                    let words = taps[tap + comptime!(64 * (3 * m + row) + 32 * half)];
                    let mut factor = Array::<Vector<E, W>>::new(4usize);
                    #[unroll]
                    for i in 0..4usize {
                        factor[i] = Vector::<E, W>::reinterpret(words[i]);
                    }
                    factors.push(factor);
                }
                #[unroll]
                for n in 0..comptime!(4 * tile.blocks) {
                    let words = *words.index(comptime!(n / 4 * 6 + n % 4 + row));
                    let mut pixels = Array::<Vector<E, W>>::new(2usize);
                    pixels[0] = Vector::<E, W>::reinterpret(words[comptime!(2 * half)]);
                    pixels[1] = Vector::<E, W>::reinterpret(words[comptime!(2 * half + 1)]);
                    #[unroll]
                    for m in 0..tile.fragments {
                        let sum = sums.index_mut(comptime!(m * 4 * tile.blocks + n));
                        product.execute_inplace(factors.index(m), &pixels, sum);
                    }
                }
            }
        }
        copied.commit_copy_async();
        copied.arrive_and_wait();
    }

    let mut inverse = 1.0f32;
    #[comptime]
    if let ComptimeOption::Some(magnitudes) = &magnitudes {
        let (_, input_inverse) = scale(magnitudes);
        inverse = input_inverse * f32::reinterpret(weights[inverse_at / 4][0]);
    }
    let place = Place {
        batch,
        fragment: first + plane_of_channels * tile.fragments,
        row: top + 4 * plane_of_rows,
        column: left,
        channels_out,
        height,
        width,
    };
    write_results::<F, N>(
        &sums, &place, &bias, y, &mut mask, inverse, tile, epilogue, false,
    );
}

/// Copies the pixels of a patch for one step; zeros outside of the image and beyond the last channel.
#[cube]
#[allow(clippy::too_many_arguments)]
fn copy_pixels(
    x: &Array<Vector<u32, Const<4>>>,
    patch: &mut SharedMemory<Vector<u32, Const<4>>>,
    source: &Patch,
    step: usize,
    buffer: usize,
    #[comptime] copies: usize,
    #[comptime] pixels: usize,
    #[comptime] units: usize,
) {
    let exists = 4 * step + source.quarter < source.groups;
    let inside = select(exists, source.inside, 0u32);
    let advance = select(exists, step * source.stride, 0);
    let to = (buffer + source.to) % LIMIT;
    #[unroll]
    for copy in 0..copies {
        let at = *source.from.index(copy) + advance;
        let to = to + comptime!(copy * units / 4);
        let len = (inside >> comptime!(copy as u32)) & 1;
        let mut exists = true.runtime();
        if comptime!(copy + 1 == copies) {
            exists = UNIT_POS as usize / 4 + comptime!(copy * units / 4) < pixels;
        }
        if exists {
            copy_async_checked(
                &x.slice(at, at + len as usize),
                &mut patch.slice_mut(to, to + 1),
                4u32,
            );
        }
    }
}

/// Copies the weights of the three taps of a column.
#[cube]
fn copy_taps(
    weights: &Array<Vector<u32, Const<4>>>,
    taps: &mut SharedMemory<Vector<u32, Const<4>>>,
    from: usize,
    to: usize,
    #[comptime] taps_len: usize,
    #[comptime] units: usize,
) {
    let from = from % FAR_LIMIT;
    let to = to % LIMIT;
    #[unroll]
    for i in 0..comptime!(taps_len.div_ceil(units)) {
        let (from, to) = (from + comptime!(i * units), to + comptime!(i * units));
        let mut exists = true.runtime();
        if comptime!((i + 1) * units > taps_len) {
            exists = UNIT_POS as usize + comptime!(i * units) < taps_len;
        }
        if exists {
            copy_async(
                &weights.slice(from, from + 1),
                &mut taps.slice_mut(to, to + 1),
                4u32,
            );
        }
    }
}
