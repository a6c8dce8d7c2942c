//! Squared distances of rows from those of a target, and their gradient. Bound by memory: nothing between is
//! stored.

use rayon::prelude::*;

/// Values that one task adds up.
const CHUNK: usize = 1 << 14;

/// Partial sums of a chunk, which vectors can hold.
const SUMS: usize = 32;

/// For each row of `x`, `Σ (scale · (x − target))²`, of a target with as many rows or one. The order of the
/// sums does not depend on the number of threads.
///
/// # Panics
/// If the length of a slice does not match the sizes, or if one is zero.
pub fn forward(x: &[f32], target: &[f32], scale: f32, output: &mut [f32]) {
    let values = x.len() / output.len();
    check(x, target, values);
    for (row, (x, output)) in x.chunks_exact(values).zip(output).enumerate() {
        let target = row_of(target, values, row);
        let chunks = x.par_chunks(CHUNK).zip(target.par_chunks(CHUNK));
        let sums: Vec<f32> = chunks.map(|(x, target)| sum(x, target, scale)).collect();
        *output = sums.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32;
    }
}

fn sum(x: &[f32], target: &[f32], scale: f32) -> f32 {
    let square = |x: f32, target: f32| {
        let difference = scale * (x - target);
        difference * difference
    };
    let mut sums = [0.0f32; SUMS];
    let (xs, x_rest) = x.as_chunks::<SUMS>();
    let (targets, target_rest) = target.as_chunks::<SUMS>();
    for (x, target) in xs.iter().zip(targets) {
        for lane in 0..SUMS {
            sums[lane] += square(x[lane], target[lane]);
        }
    }
    for ((sum, &x), &target) in sums.iter_mut().zip(x_rest).zip(target_rest) {
        *sum += square(x, target);
    }
    sums.iter().sum()
}

/// Makes of `x` the gradient with respect to it, `2 · scale² · gradient · (x − target)`, from that of each row.
///
/// # Panics
/// See [`forward`].
pub fn backward(gradient: &[f32], target: &[f32], scale: f32, x: &mut [f32]) {
    let values = x.len() / gradient.len();
    check(x, target, values);
    for (row, (x, gradient)) in x.chunks_exact_mut(values).zip(gradient).enumerate() {
        let factor = 2.0 * scale * gradient;
        let target = row_of(target, values, row);
        let chunks = x.par_chunks_mut(CHUNK).zip(target.par_chunks(CHUNK));
        chunks.for_each(|(x, target)| {
            for (x, target) in x.iter_mut().zip(target) {
                *x = scale * (*x - target) * factor;
            }
        });
    }
}

fn check(x: &[f32], target: &[f32], values: usize) {
    assert!(target.len() == x.len() || target.len() == values);
}

fn row_of(target: &[f32], values: usize, row: usize) -> &[f32] {
    let row = if target.len() == values { 0 } else { row };
    &target[row * values..][..values]
}
