//! What follows a convolution: ReLU, mask and pool of a block of 4 rows × 8 columns.

use cubecl::prelude::*;

use super::input::mask_word;
use crate::kernel::{Epilogue, Pooling};

/// Applies an epilogue to a block of 4 rows × 8 columns of channel `plane` (counted through the batch)
/// that begins at `row` and `column`, and writes it, as far as it lies inside of `height` × `width`,
/// and the word of its mask.
///
/// The vectors of `y` divide the width of the output.
#[cube]
#[allow(clippy::too_many_arguments)]
pub fn write_block<F: Float, N: Size>(
    values: &mut Array<f32>,
    y: &mut Array<Vector<F, N>>,
    mask: &mut ComptimeOption<Array<u32>>,
    plane: usize,
    row: usize,
    column: usize,
    height: usize,
    width: usize,
    #[comptime] epilogue: Epilogue,
) {
    if comptime!(epilogue != Epilogue::None) {
        #[unroll]
        for i in 0..32usize {
            values[i] = relu(values[i]);
        }
    }
    if comptime!(matches!(epilogue, Epilogue::ReluPool(_))) {
        let (rows, columns) = (height / 2, width / 2);
        let mut pooled = Array::<f32>::new(8usize);
        let mut bits = 0u32;
        #[unroll]
        for window in 0..8usize {
            let corner = comptime!(window / 4 * 16 + window % 4 * 2);
            if comptime!(epilogue == Epilogue::ReluPool(Pooling::Average)) {
                let mut sum = 0.0f32;
                #[unroll]
                for i in 0..4usize {
                    let position = comptime!(corner + i / 2 * 8 + i % 2);
                    sum += values[position];
                    bits |= u32::cast_from(values[position] > 0.0) << comptime!(position as u32);
                }
                pooled[window] = 0.25 * sum;
            } else {
                let largest = largest(
                    values[corner],
                    values[comptime!(corner + 1)],
                    values[comptime!(corner + 8)],
                    values[comptime!(corner + 9)],
                );
                pooled[window] = largest.0;
                if largest.0 > 0.0 {
                    let offset = largest.1 / 2 * 8 + largest.1 % 2;
                    bits |= 1u32 << (offset + comptime!(corner as u32));
                }
            }
        }
        write_mask(mask, bits, plane, row, column, height, width);
        write_rows::<F, N>(
            &pooled,
            y,
            plane,
            row / 2,
            column / 2,
            rows,
            columns,
            2usize,
            4usize,
        );
    } else {
        if comptime!(epilogue == Epilogue::Relu) {
            let mut bits = 0u32;
            #[unroll]
            for i in 0..32usize {
                bits |= u32::cast_from(values[i] > 0.0) << comptime!(i as u32);
            }
            write_mask(mask, bits, plane, row, column, height, width);
        }
        write_rows::<F, N>(values, y, plane, row, column, height, width, 4usize, 8usize);
    }
}

/// `max(x, 0)`, NaN where `x` is.
#[cube]
pub fn relu(x: f32) -> f32 {
    select(x <= 0.0, 0.0, x)
}

/// The largest of four values, NaN if one of them is, and the index of the first that is as large.
#[cube]
pub fn largest(a: f32, b: f32, c: f32, d: f32) -> (f32, u32) {
    let mut value = a;
    let mut index = 0u32;
    if b > value || b.is_nan() {
        value = b;
        index = 1;
    }
    if c > value || c.is_nan() {
        value = c;
        index = 2;
    }
    if d > value || d.is_nan() {
        value = d;
        index = 3;
    }
    (value, index)
}

/// Writes the word of a block, if there is a mask.
#[cube]
pub fn write_mask(
    mask: &mut ComptimeOption<Array<u32>>,
    bits: u32,
    plane: usize,
    row: usize,
    column: usize,
    height: usize,
    width: usize,
) {
    #[comptime]
    if let ComptimeOption::Some(mask) = mask {
        mask[mask_word(plane, row, column, height, width)] = bits;
    }
}

/// Writes rows of values, as far as they lie inside of `height` × `width`.
#[cube]
#[allow(clippy::too_many_arguments)]
fn write_rows<F: Float, N: Size>(
    values: &Array<f32>,
    y: &mut Array<Vector<F, N>>,
    plane: usize,
    row: usize,
    column: usize,
    height: usize,
    width: usize,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
) {
    let vector = N::value();
    #[unroll]
    for i in 0..rows {
        #[unroll]
        for j in 0..comptime!(columns / vector) {
            let (row, column) = (row + i, column + j * vector);
            if row < height && column < width {
                let mut vectors = Vector::<F, N>::empty();
                #[unroll]
                for k in 0..vector {
                    vectors[k] = F::cast_from(values[comptime!(i * columns + j * vector + k)]);
                }
                y[((plane * height + row) * width + column) / vector] = vectors;
            }
        }
    }
}
