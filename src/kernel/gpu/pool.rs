//! The 2×2 pool on its own, and what undoes an epilogue.

use cubecl::prelude::*;

use super::epilogue::{largest, write_mask};
use super::input::input_values;
use crate::kernel::{Epilogue, Pooling};

/// The pool of `x`, `[planes, height, width]`; each unit has a block of 4 rows × 8 columns. The mask
/// has the bits of the first largest values.
#[cube(launch_unchecked)]
pub fn pool<F: Float>(
    x: &Array<F>,
    y: &mut Array<F>,
    mut mask: ComptimeOption<Array<u32>>,
    planes: usize,
    height: usize,
    width: usize,
    #[comptime] pooling: Pooling,
    #[define(F)] _dtype: StorageType,
) {
    let blocks_x = width.div_ceil(8);
    let blocks = height.div_ceil(4) * blocks_x;
    let (rows, columns) = (height / 2, width / 2);
    let plane = ABSOLUTE_POS / blocks;
    if plane < planes {
        let top = ABSOLUTE_POS % blocks / blocks_x * 4;
        let left = ABSOLUTE_POS % blocks_x * 8;
        let mut bits = 0u32;
        for window in 0..8usize {
            let row = top / 2 + window / 4;
            let column = left / 2 + window % 4;
            if row < rows && column < columns {
                let start = (plane * height + 2 * row) * width + 2 * column;
                let a = f32::cast_from(x[start]);
                let b = f32::cast_from(x[start + 1]);
                let c = f32::cast_from(x[start + width]);
                let d = f32::cast_from(x[start + width + 1]);
                let mut value = 0.25 * (a + b + c + d);
                if comptime!(pooling == Pooling::Max) {
                    let largest = largest(a, b, c, d);
                    value = largest.0;
                    let corner = window / 4 * 16 + window % 4 * 2;
                    bits |= 1u32 << (corner as u32 + largest.1 / 2 * 8 + largest.1 % 2);
                }
                y[(plane * rows + row) * columns + column] = F::cast_from(value);
            }
        }
        write_mask(&mut mask, bits, plane, top, left, height, width);
    }
}

/// The gradient that ReLU, mask and pool pass on, `[planes, height, width]`, from that with respect to
/// their output: what [`super::input`] reads, for kernels that would read it several times.
///
/// The vectors of `x` divide its width; those of the gradient, as many or half as many values, that of
/// the output.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn undo<F: Float, G: Size, N: Size>(
    gradient: &Array<Vector<F, G>>,
    mask: ComptimeOption<Array<u32>>,
    x: &mut Array<Vector<F, N>>,
    vectors: usize,
    height: usize,
    width: usize,
    #[comptime] epilogue: Epilogue,
    #[define(F)] _dtype: StorageType,
) {
    let size = N::value();
    if ABSOLUTE_POS < vectors {
        let position = ABSOLUTE_POS * size;
        let (row, column) = (position / width % height, position % width);
        let plane = position / (width * height);
        let found =
            input_values::<F, G, N>(gradient, &mask, plane, row, column, height, width, epilogue);
        let mut values = Vector::<F, N>::empty();
        #[unroll]
        for k in 0..size {
            values[k] = F::cast_from(found[k]);
        }
        x[ABSOLUTE_POS] = values;
    }
}
