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

/// Rows and terms of [`multiply_few`], at most.
pub const FEW: usize = 4;

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

/// [`multiply`] for at most [`FEW`] rows and terms, such as colours: a unit computes all rows of `N` positions.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn multiply_few<F: Float, N: Size>(
    a: &Array<F>,
    b: &Array<Vector<F, N>>,
    bias: ComptimeOption<Array<F>>,
    y: &mut Array<Vector<F, N>>,
    vectors: usize,
    images: usize,
    #[comptime] rows: usize,
    #[comptime] terms: usize,
    #[comptime] transposed: bool,
    #[comptime] accumulate: bool,
    #[define(F)] _dtype: StorageType,
) {
    let (image, at) = (ABSOLUTE_POS / vectors, ABSOLUTE_POS % vectors);
    if image < images {
        let size = N::value();
        let mut loaded = Sequence::<Vector<F, N>>::new();
        #[unroll]
        for term in 0..terms {
            loaded.push(b[(image * terms + term) * vectors + at]);
        }
        #[unroll]
        for row in 0..rows {
            let to = (image * rows + row) * vectors + at;
            let offset = bias_of::<F>(&bias, row);
            let mut results = Vector::<F, N>::empty();
            #[unroll]
            for k in 0..size {
                let mut sum = offset;
                #[unroll]
                for term in 0..terms {
                    let index = if comptime!(transposed) {
                        comptime!(term * rows + row)
                    } else {
                        comptime!(row * terms + term)
                    };
                    let value = f32::cast_from(loaded.index(term)[k]);
                    sum += f32::cast_from(a[index]) * value;
                }
                results[k] = F::cast_from(sum);
            }
            if comptime!(accumulate) {
                results += y[to];
            }
            y[to] = results;
        }
    }
}

/// Values that a cube of [`sum_gram`] computes, and the parts of their sums.
pub const SUMMED: usize = 32;
const PARTS: usize = 8;
/// Units of a cube of [`sum_gram`].
pub const SUM_UNITS: usize = SUMMED * PARTS;

/// Gram matrices from the partial sums of their tiles on and above the diagonal, `[splits, batch ·
/// channels · channels]`, times `scale`. A cube computes [`SUMMED`] values, whose sums it divides into parts.
#[cube(launch_unchecked)]
pub fn sum_gram<F: Float>(
    partial: &Array<f32>,
    grams: &mut Array<F>,
    channels: usize,
    splits: usize,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    let mut sums = SharedMemory::<f32>::new(SUM_UNITS);
    let unit = UNIT_POS as usize;
    let part = unit / SUMMED;
    let cube = CUBE_POS_Y as usize * CUBE_COUNT_X as usize + CUBE_POS_X as usize;
    let value = cube * SUMMED + unit % SUMMED;
    let mut sum = 0.0f32;
    if value < grams.len() {
        let matrix = channels * channels;
        let image = value / matrix;
        let (row, column) = (value % matrix / channels, value % channels);
        let mut at = value;
        if row / SIDE > column / SIDE {
            at = image * matrix + column * channels + row;
        }
        for split in range_stepped(part, splits, PARTS) {
            sum += partial[split * grams.len() + at];
        }
    }
    sums[unit] = sum;
    sync_cube();
    if part == 0 && value < grams.len() {
        #[unroll]
        for other in 1..PARTS {
            sum += sums[comptime!(other * SUMMED) + unit];
        }
        grams[value] = F::cast_from(scale * sum);
    }
}
