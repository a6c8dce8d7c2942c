//! Matrix products in single precision, tiled in shared memory, without plane operations: 1×1
//! convolutions, Gram matrices and their gradients.

use cubecl::prelude::*;

use super::conv::bias_of;

/// Rows and columns of a cube's tile.
pub const SIDE: usize = 64;
/// Terms of the sums in shared memory at once.
pub const DEPTH: usize = 16;
/// Units of a cube; each has 8 × 8 results in registers.
pub const UNITS: usize = 64;

/// What [`multiply`] multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Product {
    /// A matrix `[rows, terms]` and `[terms, columns]`.
    Plain,
    /// The transpose of a matrix `[terms, rows]` and `[terms, columns]`.
    Transposed,
    /// A square matrix plus its transpose, and `[terms, columns]`.
    Symmetric,
    /// `[rows, terms]` and the transpose of `[columns, terms]`, both the same: only tiles on and above
    /// the diagonal.
    Gram,
}

/// Sizes of a product. The terms of a sum are divided into `splits` parts of `split` terms, whose sums
/// are written one after the other.
#[derive(CubeType, CubeLaunch, Clone)]
pub struct Sizes {
    pub rows: usize,
    pub columns: usize,
    pub terms: usize,
    pub split: usize,
    pub splits: usize,
    /// Values of the first matrix from one image of the batch to the next; 0 for the same in all.
    pub matrix_stride: usize,
}

/// `scale` times a product, plus a bias for each row, or added to `y` with `accumulate`.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn multiply<F: Float, O: Float>(
    a: &Array<F>,
    b: &Array<F>,
    bias: ComptimeOption<Array<F>>,
    y: &mut Array<O>,
    sizes: Sizes,
    scale: f32,
    #[comptime] kind: Product,
    #[comptime] accumulate: bool,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let stride = comptime!(SIDE + 1);
    let mut left = SharedMemory::<f32>::new(comptime!(DEPTH * stride));
    let mut right = SharedMemory::<f32>::new(comptime!(DEPTH * stride));
    let unit = UNIT_POS as usize;
    let (tr, tc) = (unit / 8, unit % 8);

    let tile_columns = sizes.columns.div_ceil(SIDE);
    let tile_rows = sizes.rows.div_ceil(SIDE);
    let tile_column = CUBE_POS_X as usize + CUBE_POS_Y as usize * CUBE_COUNT_X as usize;
    let tile_row = CUBE_POS_Z as usize % tile_rows;
    let split = CUBE_POS_Z as usize / tile_rows % sizes.splits;
    let image = CUBE_POS_Z as usize / tile_rows / sizes.splits;
    let wanted = match comptime!(kind) {
        Product::Gram => tile_row <= tile_column,
        _ => true.runtime(),
    };
    if wanted && tile_column < tile_columns {
        let row = tile_row * SIDE;
        let column = tile_column * SIDE;
        let a_start = image * sizes.matrix_stride;
        let b_start = image * sizes.columns * sizes.terms;
        let begin = split * sizes.split;
        let end = min(begin + sizes.split, sizes.terms);

        let mut sums = Array::<f32>::new(64usize);
        #[unroll]
        for i in 0..64usize {
            sums[i] = 0.0;
        }
        for first in range_stepped(begin, end, DEPTH) {
            let mut i = unit;
            while i < comptime!(DEPTH * SIDE) {
                // The index that runs fastest in memory runs fastest over the units.
                let (mut k, mut side) = (i % DEPTH, i / DEPTH);
                if comptime!(kind == Product::Transposed) {
                    k = i / SIDE;
                    side = i % SIDE;
                }
                let mut value = 0.0f32;
                let (r, term) = (row + side, first + k);
                if r < sizes.rows && term < end {
                    if comptime!(kind == Product::Transposed) {
                        value = f32::cast_from(a[a_start + term * sizes.rows + r]);
                    } else {
                        value = f32::cast_from(a[a_start + r * sizes.terms + term]);
                    }
                    if comptime!(kind == Product::Symmetric) {
                        value += f32::cast_from(a[a_start + term * sizes.rows + r]);
                    }
                }
                left[k * stride + side] = value;

                if comptime!(kind == Product::Gram) {
                    k = i % DEPTH;
                    side = i / DEPTH;
                } else {
                    k = i / SIDE;
                    side = i % SIDE;
                }
                let mut value = 0.0f32;
                let (c, term) = (column + side, first + k);
                if c < sizes.columns && term < end {
                    if comptime!(kind == Product::Gram) {
                        value = f32::cast_from(b[b_start + c * sizes.terms + term]);
                    } else {
                        value = f32::cast_from(b[b_start + term * sizes.columns + c]);
                    }
                }
                right[k * stride + side] = value;
                i += UNITS;
            }
            sync_cube();
            for k in 0..DEPTH {
                let mut rows = Array::<f32>::new(8usize);
                let mut columns = Array::<f32>::new(8usize);
                #[unroll]
                for i in 0..8usize {
                    rows[i] = left[k * stride + tr + comptime!(8 * i)];
                    columns[i] = right[k * stride + tc + comptime!(8 * i)];
                }
                #[unroll]
                for i in 0..8usize {
                    #[unroll]
                    for j in 0..8usize {
                        let at = comptime!(8 * i + j);
                        sums[at] = fma(rows[i], columns[j], sums[at]);
                    }
                }
            }
            sync_cube();
        }

        let y_start = (split * (CUBE_COUNT_Z as usize / tile_rows / sizes.splits) + image)
            * sizes.rows
            * sizes.columns;
        #[unroll]
        for i in 0..8usize {
            let r = row + tr + comptime!(8 * i);
            if r < sizes.rows {
                let offset = bias_of::<F>(&bias, r);
                #[unroll]
                for j in 0..8usize {
                    let c = column + tc + comptime!(8 * j);
                    if c < sizes.columns {
                        let at = y_start + r * sizes.columns + c;
                        let mut value = sums[comptime!(8 * i + j)] * scale + offset;
                        if comptime!(accumulate) {
                            value += f32::cast_from(y[at]);
                        }
                        y[at] = O::cast_from(value);
                    }
                }
            }
        }
    }
}

/// Gram matrices from the partial sums of their tiles on and above the diagonal, `[splits, batch ·
/// channels · channels]`, times `scale`.
#[cube(launch_unchecked)]
pub fn sum_gram<F: Float>(
    partial: &Array<f32>,
    grams: &mut Array<F>,
    channels: usize,
    splits: usize,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < grams.len() {
        let matrix = channels * channels;
        let image = ABSOLUTE_POS / matrix;
        let (row, column) = (ABSOLUTE_POS % matrix / channels, ABSOLUTE_POS % channels);
        let mut at = ABSOLUTE_POS;
        if row / SIDE > column / SIDE {
            at = image * matrix + column * channels + row;
        }
        let mut sum = 0.0f32;
        for split in 0..splits {
            sum += partial[split * grams.len() + at];
        }
        grams[ABSOLUTE_POS] = F::cast_from(scale * sum);
    }
}
