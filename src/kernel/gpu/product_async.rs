//! Products of a matrix and the channels of all positions on tensor cores in TF32, both copied asynchronously:
//! 1×1 convolutions and the gradients of Gram matrices. For CUDA from compute capability 8.0 on.
//!
//! What [`super::mma`] computes for one tap. Here the values reach shared memory as they are, 16 bytes at a time
//! (`cp.async`), while those before are multiplied, and are rounded when they are used. The columns of a
//! fragment are every fourth position: a unit has eight adjacent results of a row, and writes them, or
//! adds to what is there, 16 bytes at a time.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::barrier::{Barrier, copy_async_checked};
use cubecl::prelude::*;

use super::conv::bias_of;
use super::mma::zeros;

/// Positions of a cube.
pub const POSITIONS: usize = 128;
/// Planes of a cube, each for 32 positions.
pub const PLANES: usize = 4;
/// Fragments of 16 rows of a cube, at most.
pub const FRAGMENTS: usize = 4;

/// Channels between two barriers: two groups of 16.
const DEPTH: usize = 32;
/// Vectors of four positions of a channel.
const CHUNKS: usize = POSITIONS / 4;
/// Vectors of a step.
const TILE: usize = DEPTH * CHUNKS;

/// The product of matrices, packed in fragments ([`super::pack`]), and `x`, `[batch, terms, positions]`; with
/// `accumulate` added to `y`. Matrices have `all_fragments` fragments of rows, those of each image begin
/// `matrix_len` vectors further.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn multiply_async<E: Float>(
    matrices: &Array<Vector<u32, Const<4>>>,
    x: &Array<Vector<f32, Const<4>>>,
    bias: ComptimeOption<Array<f32>>,
    y: &mut Array<Vector<f32, Const<4>>>,
    matrix_len: usize,
    all_fragments: usize,
    rows: usize,
    terms: usize,
    positions: usize,
    #[comptime] fragments: usize,
    #[comptime] accumulate: bool,
    #[define(E)] _dtype: StorageType,
) {
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 8usize);
    let matrix_tile = comptime!(2 * 64 * fragments);
    let mut values = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * TILE));
    let mut factors = SharedMemory::<Vector<u32, Const<4>>>::new(comptime!(2 * matrix_tile));
    let copied = Barrier::shared(CUBE_DIM, UNIT_POS == 0);

    let unit = UNIT_POS as usize;
    let (plane, lane) = (unit / 32, unit % 32);
    let (g, t) = (lane / 4, lane % 4);
    let image = CUBE_POS_Z as usize;
    let first = CUBE_POS_X as usize * POSITIONS;
    let fragment = CUBE_POS_Y as usize * fragments;
    let groups = terms.div_ceil(16usize);
    let steps = terms.div_ceil(DEPTH);
    let matrix = image * matrix_len + fragment * groups * 64;

    copy_values(x, &mut values, 0, image, 0, first, terms, positions);
    copy_factors(
        matrices,
        &mut factors,
        0,
        matrix,
        0,
        groups,
        all_fragments - fragment,
        fragments,
    );
    copied.commit_copy_async();
    copied.arrive_and_wait();

    let mut sums = zeros(comptime!(4 * fragments));
    let of_values = t * comptime!(4 * CHUNKS) + ((8 * plane + g) ^ (2 * t));
    for step in 0..steps {
        let buffer = step % 2;
        if step + 1 < steps {
            copy_values(
                x,
                &mut values,
                TILE - buffer * TILE,
                image,
                (step + 1) * DEPTH,
                first,
                terms,
                positions,
            );
            copy_factors(
                matrices,
                &mut factors,
                matrix_tile - buffer * matrix_tile,
                matrix,
                2 * (step + 1),
                groups,
                all_fragments - fragment,
                fragments,
            );
        }
        let at = buffer * TILE + of_values;
        let factor = buffer * matrix_tile + lane;
        #[unroll]
        for group in 0..2usize {
            #[unroll]
            for half in 0..2usize {
                let channel = at + comptime!((16 * group + 2 * half) * CHUNKS);
                let (a, b) = (values[channel], values[channel + CHUNKS]);
                let mut left = Sequence::<Array<Vector<E, Const<1>>>>::new();
                #[unroll]
                for m in 0..fragments {
                    let words = factors[factor + comptime!(64 * (2 * m + group) + 32 * half)];
                    let mut rounded = Array::<Vector<E, Const<1>>>::new(4usize);
                    #[unroll]
                    for i in 0..4usize {
                        rounded[i] = Vector::<E, Const<1>>::reinterpret(words[i]);
                    }
                    left.push(rounded);
                }
                #[unroll]
                for n in 0..4usize {
                    let mut rounded = Array::<Vector<E, Const<1>>>::new(2usize);
                    rounded[0] = Vector::new(E::cast_from(a[n]));
                    rounded[1] = Vector::new(E::cast_from(b[n]));
                    #[unroll]
                    for m in 0..fragments {
                        let sum = sums.index_mut(comptime!(4 * m + n));
                        product.execute_inplace(left.index(m), &rounded, sum);
                    }
                }
            }
        }
        copied.commit_copy_async();
        copied.arrive_and_wait();
    }

    #[unroll]
    for m in 0..fragments {
        #[unroll]
        for half in 0..2usize {
            let row = 16 * (fragment + m) + comptime!(8 * half) + g;
            if row < rows {
                let offset = bias_of::<f32>(&bias, row);
                #[unroll]
                for k in 0..2usize {
                    let position = first + 4 * (8 * plane + 2 * t + k);
                    if position < positions {
                        let at = ((image * rows + row) * positions + position) / 4;
                        let mut results = Vector::<f32, Const<4>>::empty();
                        #[unroll]
                        for n in 0..4usize {
                            let sum = sums.index(comptime!(4 * m + n));
                            results[n] = sum[half][k] + offset;
                        }
                        if comptime!(accumulate) {
                            results += y[at];
                        }
                        y[at] = results;
                    }
                }
            }
        }
    }
}

/// Copies the positions of a cube of 32 channels; zeros beyond the last channel and position. The vectors of
/// four channels are permuted alike, so that reading has no bank conflicts.
#[cube]
#[allow(clippy::too_many_arguments)]
fn copy_values(
    x: &Array<Vector<f32, Const<4>>>,
    values: &mut SharedMemory<Vector<f32, Const<4>>>,
    buffer: usize,
    image: usize,
    channel: usize,
    first: usize,
    terms: usize,
    positions: usize,
) {
    let unit = UNIT_POS as usize;
    let (plane, chunk) = (unit / 32, unit % 32);
    let at = ((image * terms + channel + plane) * positions + first) / 4 + chunk;
    let is_inside = first + 4 * chunk < positions;
    #[unroll]
    for i in 0..comptime!(DEPTH / PLANES) {
        let exists = is_inside && channel + plane + comptime!(i * PLANES) < terms;
        let at = select(exists, at + comptime!(i * PLANES) * (positions / 4), 0);
        let to = buffer + (plane + comptime!(i * PLANES)) * CHUNKS + (chunk ^ comptime!(i % 4 * 2));
        copy_async_checked(
            &x.slice(at, at + usize::cast_from(exists)),
            &mut values.slice_mut(to, to + 1),
            4u32,
        );
    }
}

/// Copies two groups of channels of the fragments of a cube; zeros beyond the last of either.
#[cube]
#[allow(clippy::too_many_arguments)]
fn copy_factors(
    matrices: &Array<Vector<u32, Const<4>>>,
    factors: &mut SharedMemory<Vector<u32, Const<4>>>,
    buffer: usize,
    matrix: usize,
    group: usize,
    groups: usize,
    left: usize,
    #[comptime] fragments: usize,
) {
    let unit = UNIT_POS as usize;
    let group = group + unit / 64;
    #[unroll]
    for m in 0..fragments {
        let exists = group < groups && m < left;
        let at = select(exists, matrix + (m * groups + group) * 64 + unit % 64, 0);
        let to = buffer + comptime!(128 * m) + unit;
        copy_async_checked(
            &matrices.slice(at, at + usize::cast_from(exists)),
            &mut factors.slice_mut(to, to + 1),
            4u32,
        );
    }
}
