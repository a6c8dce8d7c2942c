//! The 2×2 pool where it stands alone.

use rayon::prelude::*;

use crate::kernel::Pooling;

/// Pools that share a byte of winners.
const SHARED: usize = 4;

/// Bytes of winners for a plane of `pooled` values.
pub fn winners_len(pooled: usize) -> usize {
    pooled.div_ceil(SHARED)
}

/// Pools planes of `height` × `width` pixels; an odd last row or column is left out. `winners` get
/// two bits for each value of a largest-value pool, `2·row + column` of the first pixel that is as
/// large as the largest.
///
/// # Panics
/// If a slice has not the length that the sizes tell.
pub fn forward(
    x: &[f32],
    (height, width): (usize, usize),
    pooling: Pooling,
    output: &mut [f32],
    winners: Option<&mut [u8]>,
) {
    let pooled = (height / 2) * (width / 2);
    if pooled == 0 {
        return;
    }
    let planes = x.len() / (height * width);
    assert_eq!(output.len(), planes * pooled);
    let outputs = output.par_chunks_exact_mut(pooled);
    let planes = x.par_chunks_exact(height * width);
    match winners {
        Some(winners) => {
            let length = winners_len(pooled);
            assert_eq!(winners.len(), planes.len() * length);
            let winners = winners.par_chunks_exact_mut(length);
            let all = planes.zip(outputs).zip(winners);
            all.for_each(|((plane, output), winners)| {
                winners.fill(0);
                for (index, value) in output.iter_mut().enumerate() {
                    let window = window(index, width).map(|at| plane[at]);
                    let mut best = 0;
                    for place in 1..4 {
                        if window[place] > window[best] {
                            best = place;
                        }
                    }
                    *value = window[best];
                    winners[index / SHARED] |= (best as u8) << (2 * (index % SHARED));
                }
            });
        }
        None => planes.zip(outputs).for_each(|(plane, output)| {
            for (index, value) in output.iter_mut().enumerate() {
                let [a, b, c, d] = window(index, width).map(|at| plane[at]);
                *value = match pooling {
                    Pooling::Max => a.max(b).max(c.max(d)),
                    Pooling::Average => (a + b + (c + d)) * 0.25,
                };
            }
        }),
    }
}

/// Where the four pixels of a window are, in a plane of some width.
fn window(index: usize, width: usize) -> [usize; 4] {
    let at = 2 * (index / (width / 2)) * width + 2 * (index % (width / 2));
    [at, at + 1, at + width, at + width + 1]
}

/// The gradient with respect to the planes: to the winners, or to all alike where there are none.
///
/// # Panics
/// If a slice has not the length that the sizes tell.
pub fn backward(
    gradient: &[f32],
    (height, width): (usize, usize),
    winners: Option<&[u8]>,
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
        let winners = winners.map(|winners| &winners[index * winners_len(pooled)..]);
        for (index, &value) in gradient.iter().enumerate() {
            let window = window(index, width);
            match winners {
                Some(winners) => {
                    let winner = winners[index / SHARED] >> (2 * (index % SHARED)) & 3;
                    plane[window[usize::from(winner)]] = value;
                }
                None => window.into_iter().for_each(|at| plane[at] = 0.25 * value),
            }
        }
    });
}
