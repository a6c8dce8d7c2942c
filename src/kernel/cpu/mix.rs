//! A matrix times the channels of every position: the 1×1 convolution.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{LANES, Lanes, dispatch};
use super::product::{BLOCK, Left, Output, ROWS, Right, product};

/// Values that are put into panels at once: as many as stay in the second-level cache.
const SCRATCH_LEN: usize = 1 << 16;

thread_local! {
    /// Features of a chunk, in panels.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// How many positions, in whole panels, are taken at once.
fn chunk(channels: usize) -> usize {
    (SCRATCH_LEN / channels.max(1) / LANES * LANES).clamp(128, 512)
}

/// The matrix of `value(row, channel)` as a product reads it: `[⌈rows / 6⌉, channels, 6]`.
pub fn pack(rows: usize, channels: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = vec![0.0; rows.next_multiple_of(ROWS) * channels];
    for row in 0..rows {
        for channel in 0..channels {
            packed[(row / ROWS * channels + channel) * ROWS + row % ROWS] = value(row, channel);
        }
    }
    packed
}

/// A matrix, and perhaps a bias for each row.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: usize,
    channels: usize,
    /// The bias is one more channel, which is one everywhere.
    biased: bool,
    packed: Vec<f32>,
}

impl Matrix {
    /// The matrix of `value(row, channel)`.
    ///
    /// # Panics
    /// If there is another number of biases than of rows.
    pub fn new(
        rows: usize,
        channels: usize,
        value: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Self {
        let biased = bias.is_some();
        if let Some(bias) = bias {
            assert_eq!(bias.len(), rows);
        }
        let packed = pack(
            rows,
            channels + usize::from(biased),
            |row, channel| match bias {
                Some(bias) if channel == channels => bias[row],
                _ => value(row, channel),
            },
        );
        Self {
            rows,
            channels,
            biased,
            packed,
        }
    }

    /// `output[i, p] = Σ_j matrix[i, j] · features[j, p] + bias[i]` for each image, or with `add` the
    /// same added to what is there.
    ///
    /// # Panics
    /// If the slices have not the lengths of equally many images of `positions` positions.
    pub fn apply(&self, features: &[f32], output: &mut [f32], positions: usize, add: bool) {
        let (input_len, output_len) = (self.channels * positions, self.rows * positions);
        assert_eq!(features.len() * output_len, output.len() * input_len);
        if input_len == 0 || output_len == 0 {
            return;
        }
        let step = chunk(self.channels);
        let chunks = positions.div_ceil(step);
        let columns = Columns {
            matrix: self,
            features,
            positions,
            output: output.as_mut_ptr(),
            add,
        };
        let images = features.len() / input_len;
        assert_eq!(images * input_len, features.len());
        (0..images * chunks).into_par_iter().for_each(|task| {
            let first = task % chunks * step;
            SCRATCH.with_borrow_mut(|panels| {
                dispatch(Product {
                    columns: &columns,
                    image: task / chunks,
                    chunk: first..positions.min(first + step),
                    panels,
                })
            });
        });
    }
}

/// A product of which each task computes some columns.
struct Columns<'a> {
    matrix: &'a Matrix,
    features: &'a [f32],
    positions: usize,
    output: *mut f32,
    add: bool,
}

// SAFETY: the pointer is to a slice that `apply` has for itself as long as it runs, and no two tasks
// write to the same columns.
unsafe impl Sync for Columns<'_> {}

struct Product<'a> {
    columns: &'a Columns<'a>,
    image: usize,
    chunk: std::ops::Range<usize>,
    panels: &'a mut Vec<Lanes>,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Columns {
            matrix,
            features,
            positions,
            output,
            add,
        } = *self.columns;
        let Matrix {
            rows,
            channels,
            biased,
            ref packed,
        } = *matrix;
        let features = &features[self.image * channels * positions..][..channels * positions];
        let output = output.wrapping_add(self.image * rows * positions);
        let steps = channels + usize::from(biased);
        let count = self.chunk.len().div_ceil(LANES);
        // Panels of the features, and one of the output for the last, incomplete one.
        let size = count * steps + ROWS;
        if self.panels.len() < size {
            self.panels.resize(size, Lanes::ZERO);
        }
        let (panels, last) = self.panels.split_at_mut(count * steps);
        for channel in 0..channels {
            let row = &features[channel * positions..][self.chunk.clone()];
            let (whole, rest) = row.as_chunks::<LANES>();
            for (panel, &values) in whole.iter().enumerate() {
                panels[panel * steps + channel].0 = values;
            }
            if !rest.is_empty() {
                let last = &mut panels[whole.len() * steps + channel].0;
                last[..rest.len()].copy_from_slice(rest);
            }
        }
        if biased {
            for panel in 0..count {
                panels[panel * steps + channels].0 = [1.0; LANES];
            }
        }
        let whole = self.chunk.len() / LANES;
        for row in (0..rows).step_by(ROWS) {
            let rows = ROWS.min(rows - row);
            let left = Left {
                at: packed[row * steps..].as_ptr(),
                stride: BLOCK * ROWS,
            };
            let right = |panel: usize, panels_here: usize| Right {
                at: panels[panel * steps..].as_ptr().cast(),
                next: steps * LANES,
                panels: panels_here,
            };
            // SAFETY: `packed` holds a stripe of 6 values for each of `steps` channels, a panel
            // sixteen; the whole panels lie within the rows of the output and of this task's
            // columns, and `last` has room for six rows of sixteen.
            unsafe {
                let at = output.add(row * positions + self.chunk.start);
                let direct = Output {
                    at,
                    row: positions,
                    next: LANES,
                    add,
                };
                product::<S, ROWS, 1>(simd, rows, steps, left, right(0, whole), direct);
                if whole < count {
                    let indirect = Output {
                        at: last.as_mut_ptr().cast(),
                        row: LANES,
                        next: 0,
                        add: false,
                    };
                    product::<S, ROWS, 1>(simd, rows, steps, left, right(whole, 1), indirect);
                    let width = self.chunk.len() - whole * LANES;
                    for (i, values) in last[..rows].iter().enumerate() {
                        let at = at.add(i * positions + whole * LANES);
                        let row = std::slice::from_raw_parts_mut(at, width);
                        for (sum, value) in row.iter_mut().zip(&values.0) {
                            *sum = if add { *sum + value } else { *value };
                        }
                    }
                }
            }
        }
    }
}
