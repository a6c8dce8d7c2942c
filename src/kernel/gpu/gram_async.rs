//! Gram matrices on tensor cores in TF32, their features copied asynchronously. For CUDA from compute
//! capability 8.0 on.
//!
//! What [`super::gram_mma`] computes. There each plane loads its fragments from global memory and waits for
//! them; here a cube copies 64 positions of its rows and columns to shared memory (`cp.async`) while it
//! multiplies those before, so that memory never rests: the features of early layers are large, and little
//! is computed with them.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::barrier::{Barrier, copy_async_checked};
use cubecl::prelude::*;

use super::mma::{add, zeros};

/// Rows and columns of a cube.
pub const SIDE: usize = 64;
/// Planes of a cube, two by two.
pub const PLANES: usize = 4;
/// Positions between two barriers.
pub const STEP: usize = 64;

/// Vectors of a step of a row.
const CHUNKS: usize = STEP / 4;
/// Vectors of a step of all rows of a cube.
const TILE: usize = SIDE * CHUNKS;

/// Partial sums of Gram matrices of `features`, `[batch, channels, positions]`, each over `split`
/// positions, a multiple of [`STEP`]: `[splits, batch, channels, channels]`, only blocks of 64 × 64 on and above the
/// diagonal. `single` for 64 channels at most.
#[cube(launch_unchecked)]
pub fn gram_async<E: Float>(
    features: &Array<Vector<f32, Const<4>>>,
    partial: &mut Array<f32>,
    channels: usize,
    positions: usize,
    split: usize,
    splits: usize,
    #[comptime] single: bool,
    #[define(E)] _dtype: StorageType,
) {
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 8usize);
    let buffer_len = comptime!(if single { TILE } else { 2 * TILE });
    let mut tiles = SharedMemory::<Vector<f32, Const<4>>>::new(comptime!(2 * buffer_len));
    let copied = Barrier::shared(CUBE_DIM, UNIT_POS == 0);
    let row = CUBE_POS_X as usize * SIDE;
    let column = CUBE_POS_Y as usize * SIDE;
    let split_index = CUBE_POS_Z as usize % splits;
    let image = CUBE_POS_Z as usize / splits;
    if row <= column {
        let unit = UNIT_POS as usize;
        let (plane, lane) = (unit / 32, unit % 32);
        let (g, t) = (lane / 4, lane % 4);
        let is_square = row == column;

        let first = split_index * split;
        let end = min(first + split, positions);
        let steps = (end - first).div_ceil(STEP);
        copy_rows(
            features, &mut tiles, 0, image, row, first, channels, positions, end,
        );
        if !is_square {
            copy_rows(
                features, &mut tiles, TILE, image, column, first, channels, positions, end,
            );
        }
        copied.commit_copy_async();
        copied.arrive_and_wait();

        let mut sums = zeros(8usize);
        // Odd rows have their vectors four further, so that reading has no bank conflicts.
        let swap = 4 * (g % 2);
        let of_rows = (plane / 2 * 32 + g) * CHUNKS;
        let of_columns = select(is_square, 0, TILE) + (plane % 2 * 32 + g) * CHUNKS;
        for step in 0..steps {
            let buffer = step % 2 * buffer_len;
            if step + 1 < steps {
                let next = first + (step + 1) * STEP;
                let to = buffer_len - buffer;
                copy_rows(
                    features, &mut tiles, to, image, row, next, channels, positions, end,
                );
                if !is_square {
                    copy_rows(
                        features,
                        &mut tiles,
                        to + TILE,
                        image,
                        column,
                        next,
                        channels,
                        positions,
                        end,
                    );
                }
            }
            let mut parts = zeros(8usize);
            #[unroll]
            for quad in 0..comptime!(CHUNKS / 4) {
                let chunk = buffer + ((comptime!(4 * quad) + t) ^ swap);
                let mut rows = Sequence::<Vector<f32, Const<4>>>::new();
                let mut columns = Sequence::<Vector<f32, Const<4>>>::new();
                #[unroll]
                for i in 0..4usize {
                    rows.push(tiles[chunk + of_rows + comptime!(8 * i * CHUNKS)]);
                    columns.push(tiles[chunk + of_columns + comptime!(8 * i * CHUNKS)]);
                }
                #[unroll]
                for half in 0..2usize {
                    let mut left = Sequence::<Array<Vector<E, Const<1>>>>::new();
                    #[unroll]
                    for m in 0..2usize {
                        let mut rounded = Array::<Vector<E, Const<1>>>::new(4usize);
                        #[unroll]
                        for i in 0..4usize {
                            let values = *rows.index(comptime!(2 * m + i % 2));
                            rounded[i] =
                                Vector::new(E::cast_from(values[comptime!(2 * half + i / 2)]));
                        }
                        left.push(rounded);
                    }
                    #[unroll]
                    for n in 0..4usize {
                        let mut rounded = Array::<Vector<E, Const<1>>>::new(2usize);
                        let values = *columns.index(n);
                        #[unroll]
                        for i in 0..2usize {
                            rounded[i] = Vector::new(E::cast_from(values[comptime!(2 * half + i)]));
                        }
                        #[unroll]
                        for m in 0..2usize {
                            let part = parts.index_mut(comptime!(4 * m + n));
                            product.execute_inplace(left.index(m), &rounded, part);
                        }
                    }
                }
            }
            add(&mut sums, &parts, 8usize);
            copied.commit_copy_async();
            copied.arrive_and_wait();
        }

        let start = (split_index * (CUBE_COUNT_Z as usize / splits) + image) * channels * channels;
        #[unroll]
        for m in 0..2usize {
            #[unroll]
            for n in 0..4usize {
                let sum = sums.index(comptime!(4 * m + n));
                #[unroll]
                for half in 0..2usize {
                    let r = row + plane / 2 * 32 + comptime!(16 * m + 8 * half) + g;
                    #[unroll]
                    for k in 0..2usize {
                        let c = column + plane % 2 * 32 + comptime!(8 * n + k) + 2 * t;
                        if r < channels && c < channels {
                            partial[start + r * channels + c] = sum[half][k];
                        }
                    }
                }
            }
        }
    }
}

/// Copies a step of 64 rows; zeros beyond the last channel and position.
#[cube]
#[allow(clippy::too_many_arguments)]
fn copy_rows(
    features: &Array<Vector<f32, Const<4>>>,
    tiles: &mut SharedMemory<Vector<f32, Const<4>>>,
    buffer: usize,
    image: usize,
    row: usize,
    position: usize,
    channels: usize,
    positions: usize,
    end: usize,
) {
    let unit = UNIT_POS as usize;
    let (of_unit, chunk) = (unit / CHUNKS, unit % CHUNKS);
    let first = row + of_unit;
    let at = ((image * channels + first) * positions + position) / 4 + chunk;
    let is_inside = position + 4 * chunk < end;
    let to = buffer + of_unit * CHUNKS + (chunk ^ (4 * (of_unit % 2)));
    #[unroll]
    for i in 0..comptime!(TILE / (32 * PLANES)) {
        // Rows from one copy of a unit to its next.
        let rows = comptime!(i * 32 * PLANES / CHUNKS);
        let exists = is_inside && first + rows < channels;
        let at = select(exists, at + rows * (positions / 4), 0);
        let to = to + comptime!(i * 32 * PLANES);
        copy_async_checked(
            &features.slice(at, at + usize::cast_from(exists)),
            &mut tiles.slice_mut(to, to + 1),
            4u32,
        );
    }
}
