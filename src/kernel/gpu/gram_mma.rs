//! Gram matrices on tensor cores, in TF32 or in single precision, where each factor is split in two (see
//! [`super::mma`]).
//!
//! A plane computes 32 × 64 values of the matrix for its share of the positions. Both factors are rows of
//! the features, whose positions are adjacent in memory, so that fragments are loaded from there. The
//! planes of a cube add their sums in shared memory, the cubes write theirs one after the other
//! ([`super::gemm::sum_gram`] adds them).

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

use super::mma::{add, zeros};

/// Rows that a plane computes.
pub const ROWS: usize = 32;
/// Columns that a plane computes.
pub const COLUMNS: usize = 64;
/// Planes of a cube.
pub const PLANES: usize = 8;
/// Positions that a plane takes at once.
pub const STEP: usize = 16;

/// Partial sums of Gram matrices of `features`, `[batch, channels, positions]`, each over `split`
/// positions: `[splits, batch, channels, channels]`, only blocks of 64 × 64 on and above the diagonal. With
/// `precise` in single precision.
#[cube(launch_unchecked)]
pub fn gram_mma<F: Float, N: Size, E: Float>(
    features: &Array<Vector<F, N>>,
    partial: &mut Array<f32>,
    channels: usize,
    positions: usize,
    split: usize,
    splits: usize,
    #[comptime] precise: bool,
    #[define(F, E)] _dtypes: [StorageType; 2],
) {
    let product = MmaDefinition::<E, E, f32>::new(16usize, 8usize, 8usize);
    let fragments = comptime!(ROWS / 16);
    let blocks = comptime!(COLUMNS / 8);
    let row = CUBE_POS_X as usize * ROWS;
    let column = CUBE_POS_Y as usize * COLUMNS;
    let split_index = CUBE_POS_Z as usize % splits;
    let image = CUBE_POS_Z as usize / splits;
    if row / COLUMNS * COLUMNS <= column {
        let unit = UNIT_POS as usize;
        let (plane, lane) = (unit / 32, unit % 32);
        let (g, t) = (lane / 4, lane % 4);
        let mut total = SharedMemory::<f32>::new(comptime!(ROWS * COLUMNS));

        let mut sums = zeros(comptime!(fragments * blocks));

        let end = min(split_index * split + split, positions);
        let mut first = split_index * split + plane * STEP;
        while first < end {
            let position = first + 4 * t;
            let mut parts = zeros(comptime!(fragments * blocks));
            let mut rows = Sequence::<Array<f32>>::new();
            #[unroll]
            for i in 0..comptime!(ROWS / 8) {
                let channel = row + comptime!(8 * i) + g;
                rows.push(four::<F, N>(
                    features, image, channel, position, channels, positions, end,
                ));
            }
            let mut columns = Sequence::<Array<f32>>::new();
            #[unroll]
            for i in 0..blocks {
                let channel = column + comptime!(8 * i) + g;
                columns.push(four::<F, N>(
                    features, image, channel, position, channels, positions, end,
                ));
            }
            #[unroll]
            for half in 0..2usize {
                let mut left = Sequence::<Array<Vector<E, Const<1>>>>::new();
                let mut left_rest = Sequence::<Array<Vector<E, Const<1>>>>::new();
                #[unroll]
                for m in 0..fragments {
                    let mut rounded = Array::<Vector<E, Const<1>>>::new(4usize);
                    let mut rests = Array::<Vector<E, Const<1>>>::new(4usize);
                    #[unroll]
                    for i in 0..4usize {
                        let values = rows.index(comptime!(2 * m + i % 2));
                        let (a, b) = halves::<E>(values[comptime!(2 * half + i / 2)]);
                        rounded[i] = Vector::new(a);
                        rests[i] = Vector::new(b);
                    }
                    left.push(rounded);
                    left_rest.push(rests);
                }
                #[unroll]
                for n in 0..blocks {
                    let mut rounded = Array::<Vector<E, Const<1>>>::new(2usize);
                    let mut rests = Array::<Vector<E, Const<1>>>::new(2usize);
                    #[unroll]
                    for i in 0..2usize {
                        let (a, b) = halves::<E>(columns.index(n)[comptime!(2 * half + i)]);
                        rounded[i] = Vector::new(a);
                        rests[i] = Vector::new(b);
                    }
                    #[unroll]
                    for m in 0..fragments {
                        let part = parts.index_mut(comptime!(m * blocks + n));
                        if comptime!(precise) {
                            product.execute_inplace(left_rest.index(m), &rounded, part);
                            product.execute_inplace(left.index(m), &rests, part);
                        }
                        product.execute_inplace(left.index(m), &rounded, part);
                    }
                }
            }
            add(&mut sums, &parts, comptime!(fragments * blocks));
            first += comptime!(STEP * PLANES);
        }

        // One plane after the other, so that the order of the sum is always the same.
        for turn in 0..PLANES {
            if plane == turn {
                #[unroll]
                for m in 0..fragments {
                    #[unroll]
                    for n in 0..blocks {
                        let sum = sums.index(comptime!(m * blocks + n));
                        #[unroll]
                        for half in 0..2usize {
                            #[unroll]
                            for k in 0..2usize {
                                let r = comptime!(16 * m + 8 * half) + g;
                                let at = r * COLUMNS + comptime!(8 * n + k) + 2 * t;
                                let mut value = sum[half][k];
                                if turn > 0 {
                                    value += total[at];
                                }
                                total[at] = value;
                            }
                        }
                    }
                }
            }
            sync_cube();
        }

        let start = (split_index * (CUBE_COUNT_Z as usize / splits) + image) * channels * channels;
        let mut i = unit;
        while i < comptime!(ROWS * COLUMNS) {
            let (r, c) = (row + i / COLUMNS, column + i % COLUMNS);
            if r < channels && c < channels {
                partial[start + r * channels + c] = total[i];
            }
            i += comptime!(32 * PLANES);
        }
    }
}

/// A number as the sum of two of a shorter type, but for what is left then.
#[cube]
fn halves<E: Float>(value: f32) -> (E, E) {
    let rounded = E::cast_from(value);
    (rounded, E::cast_from(value - f32::cast_from(rounded)))
}

/// Four adjacent positions of a channel; zeros beyond the last.
#[cube]
fn four<F: Float, N: Size>(
    features: &Array<Vector<F, N>>,
    image: usize,
    channel: usize,
    position: usize,
    channels: usize,
    positions: usize,
    end: usize,
) -> Array<f32> {
    let vector = N::value();
    let mut values = Array::<f32>::new(4usize);
    #[unroll]
    for i in 0..4usize {
        values[i] = 0.0;
    }
    if channel < channels {
        let start = (image * channels + channel) * positions + position;
        #[unroll]
        for j in 0..comptime!(4 / vector) {
            if position + comptime!(j * vector) < end {
                let loaded = features[(start + comptime!(j * vector)) / vector];
                #[unroll]
                for k in 0..vector {
                    values[comptime!(j * vector + k)] = f32::cast_from(loaded[k]);
                }
            }
        }
    }
    values
}
