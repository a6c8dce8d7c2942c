//! Differences of pixels with their neighbours, and their gradient. Bound by memory: nothing between is
//! stored.

use rayon::prelude::*;

use crate::kernel::{PixelPairs, VariationNorm};
use crate::rect::Rect;

/// Partial sums of a row, which vectors can hold.
const SUMS: usize = 16;

/// For each image of `channels` planes of `[height, width]`, `Σ weight · |second − first|ᵖ` over all pairs.
/// The order of the sums does not depend on the number of threads.
///
/// # Panics
/// If the length of a slice does not match the sizes, or if pairs reach beyond the planes.
pub fn forward(
    x: &[f32],
    channels: usize,
    plane: [usize; 2],
    pairs: &[PixelPairs],
    norm: VariationNorm,
    output: &mut [f32],
) {
    check(x, output.len() * channels, plane, pairs);
    for (image, output) in x.chunks_exact(x.len() / output.len()).zip(output) {
        let of_pairs = pairs.iter().map(|pairs| {
            let rows = (0..channels * pairs.first.height).into_par_iter();
            let sums: Vec<f64> = rows
                .map(|index| {
                    let (channel, row) = (index / pairs.first.height, index % pairs.first.height);
                    let first = row_of(image, plane, channel, pairs.first, row);
                    row_sum(
                        first,
                        row_of(image, plane, channel, pairs.second, row),
                        norm,
                    )
                })
                .collect();
            pairs.weight * sums.iter().sum::<f64>()
        });
        *output = of_pairs.sum::<f64>() as f32;
    }
}

/// A row of a rectangle of a plane.
fn row_of(
    image: &[f32],
    [height, width]: [usize; 2],
    channel: usize,
    area: Rect,
    row: usize,
) -> &[f32] {
    let start = (channel * height + area.top + row) * width + area.left;
    &image[start..][..area.width]
}

fn row_sum(first: &[f32], second: &[f32], norm: VariationNorm) -> f64 {
    match norm {
        VariationNorm::L1 => sum(first, second, f32::abs),
        VariationNorm::L2 => sum(first, second, |difference| difference * difference),
    }
}

fn sum(first: &[f32], second: &[f32], measure: impl Fn(f32) -> f32) -> f64 {
    let mut sums = [0.0f32; SUMS];
    let (firsts, first_rest) = first.as_chunks::<SUMS>();
    let (seconds, second_rest) = second.as_chunks::<SUMS>();
    for (first, second) in firsts.iter().zip(seconds) {
        for lane in 0..SUMS {
            sums[lane] += measure(second[lane] - first[lane]);
        }
    }
    for ((sum, first), second) in sums.iter_mut().zip(first_rest).zip(second_rest) {
        *sum += measure(second - first);
    }
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

/// Adds to `output` the gradient with respect to `x`, from that of each image's sum.
///
/// # Panics
/// See [`forward`].
pub fn backward(
    gradient: &[f32],
    x: &[f32],
    channels: usize,
    plane: [usize; 2],
    (pairs, norm): (&[PixelPairs], VariationNorm),
    output: &mut [f32],
) {
    check(x, gradient.len() * channels, plane, pairs);
    assert_eq!(x.len(), output.len());
    let [height, width] = plane;
    let rows = output.par_chunks_exact_mut(width).enumerate();
    rows.for_each(|(index, output)| {
        let (channel, row) = (index / height, index % height);
        let gradient = f64::from(gradient[channel / channels]);
        for pairs in pairs {
            let factor = (pairs.weight * gradient) as f32;
            // As the first of its pairs, and as the second.
            for (own, other) in [(pairs.first, pairs.second), (pairs.second, pairs.first)] {
                let Some(row) = row.checked_sub(own.top).filter(|&row| row < own.height) else {
                    continue;
                };
                let others = row_of(x, plane, channel, other, row);
                let values = row_of(x, plane, channel, own, row);
                let sums = &mut output[own.left..own.right()];
                match norm {
                    VariationNorm::L1 => add(sums, values, others, |difference| {
                        // Nothing where both are the same.
                        factor * (f32::from(difference > 0.0) - f32::from(difference < 0.0))
                    }),
                    VariationNorm::L2 => add(sums, values, others, |d| 2.0 * factor * d),
                }
            }
        }
    });
}

/// Adds the derivative for each difference of own and other values.
fn add(sums: &mut [f32], values: &[f32], others: &[f32], derivative: impl Fn(f32) -> f32) {
    for ((sum, value), other) in sums.iter_mut().zip(values).zip(others) {
        *sum += derivative(value - other);
    }
}

fn check(x: &[f32], planes: usize, [height, width]: [usize; 2], pairs: &[PixelPairs]) {
    assert_eq!(x.len(), planes * height * width);
    for PixelPairs { first, second, .. } in pairs {
        assert_eq!([first.height, first.width], [second.height, second.width]);
        for area in [first, second] {
            assert!(area.bottom() <= height && area.right() <= width);
        }
    }
}
