//! Squared distances of the rows of a matrix from others, and their gradient.

use cubecl::prelude::*;

use super::reduce::{CUBES, reduce};

/// For each row of `x`, `[rows, columns]`, and each cube its part of `Σ (scale · (x − target))²`:
/// `[rows, cubes]`. The rows of the target follow each other after `target_stride` values.
#[cube(launch_unchecked)]
pub fn distances<F: Float>(
    x: &Array<F>,
    target: &Array<F>,
    parts: &mut Array<f32>,
    columns: usize,
    target_stride: usize,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(CUBES);
    let row = CUBE_POS_Y as usize;
    let unit = UNIT_POS as usize;
    let first = CUBE_POS_X as usize * CUBES + unit;
    let stride = CUBE_COUNT_X as usize * CUBES;
    let mut sum = 0.0f32;
    for i in range_stepped(first, columns, stride) {
        let wanted = f32::cast_from(target[row * target_stride + i]);
        let difference = scale * (f32::cast_from(x[row * columns + i]) - wanted);
        sum += difference * difference;
    }
    values[unit] = sum;
    sync_cube();
    reduce(&mut values, false);
    if unit == 0 {
        parts[row * CUBE_COUNT_X as usize + CUBE_POS_X as usize] = values[0];
    }
}

/// The sums of the parts of [`distances`], at most as many as units, `[rows]`.
#[cube(launch_unchecked)]
pub fn distances_total<F: Float>(
    parts: &Array<f32>,
    total: &mut Array<F>,
    count: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(CUBES);
    let row = CUBE_POS_X as usize;
    let unit = UNIT_POS as usize;
    let mut part = 0.0f32;
    if unit < count {
        part = parts[row * count + unit];
    }
    values[unit] = part;
    sync_cube();
    reduce(&mut values, false);
    if unit == 0 {
        total[row] = F::cast_from(values[0]);
    }
}

/// The gradient with respect to `x`: `2 · scale² · gradient · (x − target)`.
#[cube(launch_unchecked)]
pub fn distances_backward<F: Float>(
    gradient: &Array<F>,
    x: &Array<F>,
    target: &Array<F>,
    y: &mut Array<F>,
    columns: usize,
    target_stride: usize,
    scale: f32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < y.len() {
        let (row, column) = (ABSOLUTE_POS / columns, ABSOLUTE_POS % columns);
        let wanted = f32::cast_from(target[row * target_stride + column]);
        let difference = scale * (f32::cast_from(x[ABSOLUTE_POS]) - wanted);
        let factor = 2.0 * scale * f32::cast_from(gradient[row]);
        y[ABSOLUTE_POS] = F::cast_from(factor * difference);
    }
}
