//! The sums and updates of L-BFGS, each step of its recursion in one launch.
//!
//! A sum over an image needs all cubes, and the next step of the recursion needs the sum: each cube
//! writes its part, and every cube of the next launch adds the parts itself, always in the same order.

use cubecl::prelude::*;

use super::reduce::{CUBES, larger, reduce};

/// The change `y` of the gradient, and for each cube the largest absolute value of the gradient and its
/// parts of `yᵀs` and `yᵀy`.
#[cube(launch_unchecked)]
pub fn curvature<F: Float>(
    gradient: &Array<F>,
    previous: &Array<F>,
    step: &Array<F>,
    y: &mut Array<F>,
    parts: &mut Array<f32>,
    #[define(F)] _dtype: StorageType,
) {
    let mut largest = SharedMemory::<f32>::new(CUBES);
    let mut products = SharedMemory::<f32>::new(CUBES);
    let mut squares = SharedMemory::<f32>::new(CUBES);
    let unit = UNIT_POS as usize;
    let mut most = 0.0f32;
    let mut product = 0.0f32;
    let mut square = 0.0f32;
    for i in range_stepped(ABSOLUTE_POS, gradient.len(), comptime!(CUBES * CUBES)) {
        let value = f32::cast_from(gradient[i]);
        let change = value - f32::cast_from(previous[i]);
        y[i] = F::cast_from(change);
        most = larger(most, value.abs());
        product += change * f32::cast_from(step[i]);
        square += change * change;
    }
    largest[unit] = most;
    products[unit] = product;
    squares[unit] = square;
    sync_cube();
    reduce(&mut largest, true);
    reduce(&mut products, false);
    reduce(&mut squares, false);
    if unit == 0 {
        let cube = CUBE_POS_X as usize;
        parts[cube] = largest[0];
        parts[CUBES + cube] = products[0];
        parts[comptime!(2 * CUBES) + cube] = squares[0];
    }
}

/// The results of [`curvature`], `[3]`, from its parts.
#[cube(launch_unchecked)]
pub fn curvature_total<F: Float>(
    parts: &Array<f32>,
    total: &mut Array<F>,
    #[define(F)] _dtype: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(CUBES);
    let unit = UNIT_POS as usize;
    #[unroll]
    for i in 0..3usize {
        values[unit] = parts[comptime!(i * CUBES) + unit];
        sync_cube();
        reduce(&mut values, comptime!(i == 0));
        if unit == 0 {
            total[i] = F::cast_from(values[0]);
        }
        sync_cube();
    }
}

/// A step of the two-loop recursion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// `q = −scale · v`.
    Begin,
    /// `α = ρ · sum`, `q = scale · (q − α · v)`.
    Down,
    /// `q = q + (α − ρ · sum) · v`.
    Up,
}

/// One step, then for each cube its part of `qᵀw`. `sums` are those parts of the step before.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub fn recursion<F: Float>(
    q: &mut Array<F>,
    v: &Array<F>,
    w: ComptimeOption<Array<F>>,
    sums: &Array<f32>,
    parts: &mut Array<f32>,
    alphas: &mut Array<f32>,
    index: usize,
    rho: f32,
    scale: f32,
    #[comptime] turn: Turn,
    #[define(F)] _dtype: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(CUBES);
    let unit = UNIT_POS as usize;
    let mut factor = 0.0f32;
    if comptime!(turn != Turn::Begin) {
        values[unit] = sums[unit];
        sync_cube();
        reduce(&mut values, false);
        factor = rho * values[0];
        sync_cube();
        if comptime!(turn == Turn::Up) {
            factor = alphas[index] - factor;
        } else if ABSOLUTE_POS == 0 {
            alphas[index] = factor;
        }
    }
    let mut sum = 0.0f32;
    for i in range_stepped(ABSOLUTE_POS, q.len(), comptime!(CUBES * CUBES)) {
        let other = f32::cast_from(v[i]);
        let mut value = -scale * other;
        if comptime!(turn == Turn::Down) {
            value = scale * (f32::cast_from(q[i]) - factor * other);
        } else if comptime!(turn == Turn::Up) {
            value = f32::cast_from(q[i]) + factor * other;
        }
        q[i] = F::cast_from(value);
        #[comptime]
        if let ComptimeOption::Some(w) = &w {
            sum += value * f32::cast_from(w[i]);
        }
    }
    values[unit] = sum;
    sync_cube();
    reduce(&mut values, false);
    if unit == 0 {
        parts[CUBE_POS_X as usize] = values[0];
    }
}
