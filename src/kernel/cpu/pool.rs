//! The 2×2 pool that does not follow a convolution directly.

use rayon::prelude::*;

use crate::kernel::Pooling;

/// Pooled values for each byte of `argmax`.
const PER_BYTE: usize = 4;

/// Length of `argmax` for a plane of `pooled` values, in bytes.
pub fn argmax_len(pooled: usize) -> usize {
    pooled.div_ceil(PER_BYTE)
}

/// Pools planes of `height` × `width` pixels; an odd last row or column is left out. For max pooling,
/// `argmax` gets two bits for each value: `2·row + column` of the first largest pixel.
///
/// # Panics
/// If the length of a slice does not match the sizes.
pub fn forward(
    x: &[f32],
    (height, width): (usize, usize),
    pooling: Pooling,
    output: &mut [f32],
    argmax: Option<&mut [u8]>,
) {
    let pooled = (height / 2) * (width / 2);
    if pooled == 0 {
        return;
    }
    let planes = x.len() / (height * width);
    assert_eq!(output.len(), planes * pooled);
    let outputs = output.par_chunks_exact_mut(pooled);
    let planes = x.par_chunks_exact(height * width);
    match argmax {
        Some(argmax) => {
            let length = argmax_len(pooled);
            assert_eq!(argmax.len(), planes.len() * length);
            let argmax = argmax.par_chunks_exact_mut(length);
            let all = planes.zip(outputs).zip(argmax);
            all.for_each(|((plane, output), argmax)| {
                argmax.fill(0);
                for (index, value) in output.iter_mut().enumerate() {
                    let window = values(plane, window(index, width));
                    let mut best = 0;
                    for place in 1..4 {
                        if window[place] > window[best] {
                            best = place;
                        }
                    }
                    *value = window[best];
                    argmax[index / PER_BYTE] |= (best as u8) << (2 * (index % PER_BYTE));
                }
            });
        }
        None => planes.zip(outputs).for_each(|(plane, output)| {
            for (index, value) in output.iter_mut().enumerate() {
                let [a, b, c, d] = values(plane, window(index, width));
                *value = match pooling {
                    Pooling::Max => a.max(b).max(c.max(d)),
                    Pooling::Average => (a + b + (c + d)) * 0.25,
                };
            }
        }),
    }
}

/// Indices of the four pixels of a window, in a plane of some width.
fn window(index: usize, width: usize) -> [usize; 4] {
    let at = 2 * (index / (width / 2)) * width + 2 * (index % (width / 2));
    [at, at + 1, at + width, at + width + 1]
}

/// The values of a window.
fn values(plane: &[f32], [a, b, c, d]: [usize; 4]) -> [f32; 4] {
    [plane[a], plane[b], plane[c], plane[d]]
}

/// The gradient with respect to the planes: of max pooling with `argmax`, else of average pooling.
///
/// # Panics
/// If the length of a slice does not match the sizes.
pub fn backward(
    gradient: &[f32],
    (height, width): (usize, usize),
    argmax: Option<&[u8]>,
    output: &mut [f32],
) {
    let pooled = (height / 2) * (width / 2);
    if pooled == 0 {
        output.fill(0.0);
        return;
    }
    let planes = output.par_chunks_exact_mut(height * width).enumerate();
    planes.for_each(|(index, plane)| {
        plane.fill(0.0);
        let gradient = &gradient[index * pooled..][..pooled];
        let argmax = argmax.map(|argmax| &argmax[index * argmax_len(pooled)..]);
        for (index, &value) in gradient.iter().enumerate() {
            let window = window(index, width);
            match argmax {
                Some(argmax) => {
                    let largest = argmax[index / PER_BYTE] >> (2 * (index % PER_BYTE)) & 3;
                    plane[window[usize::from(largest)]] = value;
                }
                None => {
                    for place in 0..4 {
                        plane[window[place]] = 0.25 * value;
                    }
                }
            }
        }
    });
}
