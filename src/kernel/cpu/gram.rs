//! Gram matrices and their gradient.
//!
//! One triangle is computed, and positions are cut into parts that do not depend on the number of
//! threads, so neither do the sums.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer_pool::PooledBuffer;
use super::conv1x1::PackedMatrix;
use super::lanes::{Lanes, NR, copy, dispatch, transpose};
use super::microkernel::{K_BLOCK, Left, MR, Output, Right, matmul};
use super::runs::Runs;

/// Largest number of parts; each has a matrix of its own.
const PARTS: usize = 8;
/// Smallest number of positions in a part.
const PART: usize = 256;
/// Values that are copied to panels at once: as many as fit the second-level cache.
const SCRATCH_LEN: usize = 1 << 16;

/// How many positions, in whole panels, are computed at once.
fn chunk(channels: usize) -> usize {
    (SCRATCH_LEN / channels / NR * NR).clamp(128, 512)
}

thread_local! {
    /// Features of a chunk, in panels.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// `gram[i, j] = scale · Σ_p features[i, p] · features[j, p]` for `channels` planes, and the positions `p`
/// in an area.
///
/// # Panics
/// If the length of a slice does not match the sizes.
pub fn gram(features: &[f32], channels: usize, area: Runs, scale: f32, gram: &mut [f32]) {
    let positions = area.positions();
    assert_eq!(features.len(), channels * area.plane);
    assert_eq!(gram.len(), channels * channels);
    if channels == 0 {
        return;
    }
    let side = channels.next_multiple_of(NR);
    let chunk = chunk(channels);
    let parts = (positions / PART).clamp(1, PARTS);
    let length = positions.div_ceil(parts);
    let mut sums = PooledBuffer::new(4 * parts * side * side);
    let sums: &mut [f32] = sums.values_mut();
    sums.par_chunks_mut(side * side)
        .with_max_len(1)
        .enumerate()
        .for_each(|(part, sums)| {
            let end = positions.min((part + 1) * length);
            if part * length >= end {
                sums.fill(0.0);
            }
            let mut first = part * length;
            while first < end {
                let chunk = area.from(first, end, chunk);
                let add = first > part * length;
                first += chunk.len();
                SCRATCH.with_borrow_mut(|panels| {
                    dispatch(Chunk {
                        features,
                        positions: area.plane,
                        chunk,
                        add,
                        panels,
                        sums,
                        side,
                    });
                });
            }
        });
    // Only the elements right of the diagonal are complete.
    let sums = &*sums;
    gram.par_chunks_exact_mut(channels)
        .enumerate()
        .for_each(|(i, row)| {
            let row = &mut row[i..];
            row.fill(0.0);
            for part in sums.chunks_exact(side * side) {
                for (value, sum) in row.iter_mut().zip(&part[i * side + i..]) {
                    *value += sum;
                }
            }
            row.iter_mut().for_each(|value| *value *= scale);
        });
    for i in 1..channels {
        for j in 0..i {
            gram[i * channels + j] = gram[j * channels + i];
        }
    }
}

/// Writes the products of some positions to a matrix of `side` rows and columns, or adds them.
struct Chunk<'a> {
    features: &'a [f32],
    /// Positions of a plane.
    positions: usize,
    chunk: std::ops::Range<usize>,
    add: bool,
    panels: &'a mut Vec<Lanes>,
    sums: &'a mut [f32],
    side: usize,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let steps = self.chunk.len();
        let count = self.side / NR;
        if self.panels.len() < count * steps {
            self.panels.resize(count * steps, Lanes::ZERO);
        }
        let panels = &mut self.panels[..count * steps];
        for (panel, values) in panels.chunks_mut(steps).enumerate() {
            let row = |lane: usize| {
                let channel = panel * NR + lane;
                let row = self.features.get(channel * self.positions..)?;
                row.get(self.chunk.clone())
            };
            for lane in (0..NR).step_by(4) {
                let rows = [row(lane), row(lane + 1), row(lane + 2), row(lane + 3)];
                transpose_channels(rows, lane, values);
            }
        }
        for panel in 0..count {
            let at: *const f32 = panels[panel * steps..].as_ptr().cast();
            for first in (0..NR).step_by(MR) {
                let rows = MR.min(NR - first);
                let left = Left {
                    at: at.wrapping_add(first),
                    stride: K_BLOCK * NR,
                };
                let right = Right {
                    at,
                    next: steps * NR,
                    panels: count - panel,
                };
                let row = panel * NR + first;
                let output = Output {
                    at: self.sums[row * self.side + panel * NR..].as_mut_ptr(),
                    row: self.side,
                    next: NR,
                    add: self.add,
                };
                // SAFETY: every panel holds `steps` times sixteen values, of which the left factor
                // reads `rows` from `first` on; `sums` has `side` rows and columns.
                unsafe { matmul::<S, NR, 1>(simd, rows, steps, left, right, output) };
            }
        }
    }
}

/// Copies four channels to four lanes; a missing channel counts as zero.
#[inline(always)]
fn transpose_channels(rows: [Option<&[f32]>; 4], lane: usize, values: &mut [Lanes]) {
    let steps = values.len();
    let mut fours = 0;
    if let [Some(a), Some(b), Some(c), Some(d)] = rows {
        fours = steps / 4 * 4;
        for k in (0..fours).step_by(4) {
            let four = |row: &[f32]| [row[k], row[k + 1], row[k + 2], row[k + 3]];
            let columns = transpose([four(a), four(b), four(c), four(d)]);
            for j in 0..4 {
                copy::<4>(&columns[j], &mut values[k + j].0[lane..]);
            }
        }
    }
    for j in 0..4 {
        for k in fours..steps {
            values[k].0[lane + j] = rows[j].map_or(0.0, |row| row[k]);
        }
    }
}

/// Adds the gradient with respect to the features, at the positions `p` in an area:
/// `output[i, p] += Σ_j (gradient[i, j] + gradient[j, i]) · features[j, p] / positions`; with `add` false it
/// is written there instead.
///
/// # Panics
/// If the length of a slice does not match the sizes.
pub fn backward(
    gradient: &[f32],
    features: &[f32],
    channels: usize,
    area: Runs,
    output: &mut [f32],
    add: bool,
) {
    assert_eq!(gradient.len(), channels * channels);
    assert_eq!(features.len(), channels * area.plane);
    assert_eq!(output.len(), features.len());
    let positions = area.positions() as f32;
    let entry = |i, j| (gradient[i * channels + j] + gradient[j * channels + i]) / positions;
    PackedMatrix::new(channels, channels, entry, None).apply(features, output, area, add);
}
