//! Gram matrices: one triangle, in parts whose sums do not depend on the number of threads.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{LANES, Lanes, dispatch};
use super::memory::Recycled;
use super::product::{BLOCK, Left, Output, ROWS, Right, product};

/// Positions that are multiplied at once.
const CHUNK: usize = 128;
/// Most parts that the positions are cut into; each has a matrix of its own.
const PARTS: usize = 8;
/// Panels of positions that the gradient is computed for at once.
const PANELS: usize = 4;

thread_local! {
    /// Features of a chunk, in panels.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// `gram[i, j] = scale · Σ_p features[i, p] · features[j, p]` for `channels` rows of `positions`
/// values.
///
/// # Panics
/// If a slice has not the length that the sizes tell.
pub fn gram(features: &[f32], channels: usize, positions: usize, scale: f32, gram: &mut [f32]) {
    assert_eq!(features.len(), channels * positions);
    assert_eq!(gram.len(), channels * channels);
    if channels == 0 {
        return;
    }
    let side = channels.next_multiple_of(LANES);
    let parts = positions.div_ceil(CHUNK).clamp(1, PARTS);
    let length = positions.div_ceil(parts).next_multiple_of(CHUNK);
    let mut sums = Recycled::new(4 * parts * side * side);
    let sums: &mut [f32] = sums.values_mut();
    sums.par_chunks_mut(side * side)
        .enumerate()
        .for_each(|(part, sums)| {
            sums.fill(0.0);
            let end = positions.min((part + 1) * length);
            for first in (part * length..end).step_by(CHUNK) {
                SCRATCH.with_borrow_mut(|panels| {
                    dispatch(Chunk {
                        features,
                        channels,
                        positions,
                        chunk: first..end.min(first + CHUNK),
                        panels,
                        sums,
                        side,
                    });
                });
            }
        });
    let sums = &*sums;
    gram.par_chunks_mut(channels)
        .enumerate()
        .for_each(|(i, row)| {
            for (j, value) in row.iter_mut().enumerate() {
                // Only panels from a row's own on were computed.
                let at = i.min(j) * side + i.max(j);
                let sum: f32 = sums.chunks(side * side).map(|part| part[at]).sum();
                *value = scale * sum;
            }
        });
}

/// Adds the products of some positions to a matrix of `side` rows and columns.
struct Chunk<'a> {
    features: &'a [f32],
    channels: usize,
    positions: usize,
    chunk: std::ops::Range<usize>,
    panels: &'a mut Vec<Lanes>,
    sums: &'a mut [f32],
    side: usize,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let steps = self.chunk.len();
        let count = self.side / LANES;
        if self.panels.len() < count * steps {
            self.panels.resize(count * steps, Lanes::ZERO);
        }
        let panels = &mut self.panels[..count * steps];
        // Channels to lanes; lanes without a channel are zero.
        for (panel, values) in panels.chunks_mut(steps).enumerate() {
            for lane in 0..LANES {
                let channel = panel * LANES + lane;
                if channel < self.channels {
                    let row = &self.features[channel * self.positions..][self.chunk.clone()];
                    for (value, &feature) in values.iter_mut().zip(row) {
                        value.0[lane] = feature;
                    }
                } else {
                    values.iter_mut().for_each(|value| value.0[lane] = 0.0);
                }
            }
        }
        for panel in 0..count {
            let at: *const f32 = panels[panel * steps..].as_ptr().cast();
            for first in (0..LANES).step_by(ROWS) {
                let rows = ROWS.min(LANES - first);
                let left = Left {
                    at: at.wrapping_add(first),
                    stride: BLOCK * LANES,
                };
                let right = Right {
                    at,
                    next: steps * LANES,
                    panels: count - panel,
                };
                let row = panel * LANES + first;
                let output = Output {
                    at: self.sums[row * self.side + panel * LANES..].as_mut_ptr(),
                    row: self.side,
                    next: LANES,
                    add: true,
                };
                // SAFETY: every panel holds `steps` times sixteen values, of which the left factor
                // reads `rows` from `first` on; the matrix has `side` rows and columns.
                unsafe { product::<S, LANES, 1>(simd, rows, steps, left, right, output) };
            }
        }
    }
}

/// The gradient with respect to the features:
/// `output[i, p] = Σ_j (gradient[i, j] + gradient[j, i]) · features[j, p] / positions`.
///
/// # Panics
/// If a slice has not the length that the sizes tell.
pub fn backward(
    gradient: &[f32],
    features: &[f32],
    channels: usize,
    positions: usize,
    output: &mut [f32],
) {
    assert_eq!(gradient.len(), channels * channels);
    assert_eq!(features.len(), channels * positions);
    assert_eq!(output.len(), features.len());
    // As the product reads it: [⌈channels / 6⌉, channels, 6].
    let mut packed = vec![0.0; channels.next_multiple_of(ROWS) * channels];
    for i in 0..channels {
        for j in 0..channels {
            let value = gradient[i * channels + j] + gradient[j * channels + i];
            packed[(i / ROWS * channels + j) * ROWS + i % ROWS] = value / positions as f32;
        }
    }
    let columns = Columns {
        packed: &packed,
        features,
        channels,
        positions,
        output: output.as_mut_ptr(),
    };
    let step = PANELS * LANES;
    (0..positions.div_ceil(step))
        .into_par_iter()
        .for_each(|task| {
            let first = task * step;
            let chunk = first..positions.min(first + step);
            SCRATCH.with_borrow_mut(|panels| {
                dispatch(Product {
                    columns: &columns,
                    chunk,
                    panels,
                })
            });
        });
}

/// A product of which each task computes some columns.
struct Columns<'a> {
    packed: &'a [f32],
    features: &'a [f32],
    channels: usize,
    positions: usize,
    output: *mut f32,
}

// SAFETY: the pointer is to a slice that `backward` has for itself as long as it runs, and no two
// tasks write to the same columns.
unsafe impl Sync for Columns<'_> {}

struct Product<'a> {
    columns: &'a Columns<'a>,
    chunk: std::ops::Range<usize>,
    panels: &'a mut Vec<Lanes>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Columns {
            packed,
            features,
            channels,
            positions,
            output,
        } = *self.columns;
        let count = self.chunk.len().div_ceil(LANES);
        // Panels of the features, and one of the output for the last, incomplete one.
        let size = count * channels + ROWS;
        if self.panels.len() < size {
            self.panels.resize(size, Lanes::ZERO);
        }
        let (panels, last) = self.panels.split_at_mut(count * channels);
        for (panel, values) in panels.chunks_mut(channels).enumerate() {
            let first = self.chunk.start + panel * LANES;
            let width = LANES.min(self.chunk.end - first);
            for (channel, value) in values.iter_mut().enumerate() {
                let row = &features[channel * positions + first..][..width];
                value.0[..width].copy_from_slice(row);
            }
        }
        let whole = self.chunk.len() / LANES;
        for row in (0..channels).step_by(ROWS) {
            let rows = ROWS.min(channels - row);
            let left = Left {
                at: packed[row * channels..].as_ptr(),
                stride: BLOCK * ROWS,
            };
            let right = |panel: usize, panels_here: usize| Right {
                at: panels[panel * channels..].as_ptr().cast(),
                next: channels * LANES,
                panels: panels_here,
            };
            // SAFETY: `packed` holds a stripe of 6 values for each of `channels` steps, a panel
            // sixteen; the whole panels lie within the rows of the output and of this task's
            // columns, and `last` has room for six rows of sixteen.
            unsafe {
                let at = output.add(row * positions + self.chunk.start);
                let direct = Output {
                    at,
                    row: positions,
                    next: LANES,
                    add: false,
                };
                product::<S, ROWS, 1>(simd, rows, channels, left, right(0, whole), direct);
                if whole < count {
                    let indirect = Output {
                        at: last.as_mut_ptr().cast(),
                        row: LANES,
                        next: 0,
                        add: false,
                    };
                    product::<S, ROWS, 1>(simd, rows, channels, left, right(whole, 1), indirect);
                    let width = self.chunk.len() - whole * LANES;
                    for (i, values) in last[..rows].iter().enumerate() {
                        let at = at.add(i * positions + whole * LANES);
                        std::slice::from_raw_parts_mut(at, width)
                            .copy_from_slice(&values.0[..width]);
                    }
                }
            }
        }
    }
}
