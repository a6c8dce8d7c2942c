//! The 2×2 pool on its own, and what undoes an epilogue.

use cubecl::prelude::*;

use super::epilogue::{largest, write_mask};
use super::input::mask_word;
use super::reduce::{CUBES, reduce};
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
/// their output: what [`super::input`] reads, for kernels that would read it several times. With `parts` also
/// the largest absolute values ([`super::scale`]).
///
/// The vectors of `x` divide its width; those of the gradient, as many or half as many values, that of
/// the output.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn undo<F: Float, G: Size, N: Size>(
    gradient: &Array<Vector<F, G>>,
    mask: ComptimeOption<Array<u32>>,
    x: &mut Array<Vector<F, N>>,
    mut parts: ComptimeOption<Array<f32>>,
    vectors: usize,
    height: usize,
    width: usize,
    #[comptime] epilogue: Epilogue,
    #[define(F)] _dtype: StorageType,
) {
    let pooled = comptime!(matches!(epilogue, Epilogue::ReluPool(_)));
    let average = comptime!(epilogue == Epilogue::ReluPool(Pooling::Average));
    let size = N::value();
    let of_gradient = G::value();
    let mut most = 0.0f32;
    for i in range_stepped(ABSOLUTE_POS, vectors, comptime!(CUBES * CUBES)) {
        let column = i * size % width;
        let row = i * size / width % height;
        let plane = i * size / (width * height);
        let mut index = i * size;
        let mut exists = true.runtime();
        if comptime!(pooled) {
            // An odd last row or column has no part in the pool.
            let (rows, columns) = (height / 2, width / 2);
            index = (plane * rows + row / 2) * columns + column / 2;
            exists = row / 2 < rows && column / 2 < columns;
        }
        let mut values = Vector::<F, N>::empty();
        #[unroll]
        for k in 0..size {
            values[k] = F::new(0.0);
        }
        if exists {
            let loaded = gradient[index / of_gradient];
            let mut bits = 0xffff_ffffu32.runtime();
            #[comptime]
            if let ComptimeOption::Some(mask) = &mask {
                let word = mask[mask_word(plane, row, column, height, width)];
                bits = word >> (row % 4 * 8 + column % 8) as u32;
            }
            #[unroll]
            for k in 0..size {
                let mut value = f32::cast_from(loaded[comptime!(k * of_gradient / size)]);
                if comptime!(average) {
                    value *= 0.25;
                }
                let value = select((bits >> comptime!(k as u32)) & 1 == 1, value, 0.0);
                values[k] = F::cast_from(value);
                most = select(value.abs() > most, value.abs(), most);
            }
        }
        x[i] = values;
    }
    #[comptime]
    if let ComptimeOption::Some(parts) = &mut parts {
        let mut largest = SharedMemory::<f32>::new(CUBES);
        largest[UNIT_POS as usize] = most;
        sync_cube();
        reduce(&mut largest, true);
        if UNIT_POS == 0 {
            parts[CUBE_POS_X as usize] = largest[0];
        }
    }
}
