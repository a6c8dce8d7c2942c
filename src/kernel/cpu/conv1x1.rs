//! The 1×1 convolution: a matrix times the channels at every position.

use std::cell::RefCell;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::lanes::{Lanes, NR, dispatch};
use super::microkernel::{K_BLOCK, Left, MR, Output, Right, matmul};
use super::runs::Runs;

/// Values that are copied to panels at once: as many as fit the second-level cache.
const SCRATCH_LEN: usize = 1 << 16;

thread_local! {
    /// Features of a chunk, in panels.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// How many positions, in whole panels, are computed at once.
fn chunk(channels: usize) -> usize {
    (SCRATCH_LEN / channels.max(1) / NR * NR).clamp(128, 512)
}

/// The matrix of `value(row, channel)` in the layout that the microkernel reads:
/// `[⌈rows / 6⌉, channels, 6]`.
pub fn pack_matrix(rows: usize, channels: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
    let mut packed = vec![0.0; rows.next_multiple_of(MR) * channels];
    for row in 0..rows {
        for channel in 0..channels {
            packed[(row / MR * channels + channel) * MR + row % MR] = value(row, channel);
        }
    }
    packed
}

/// A packed matrix, with or without a bias for each row.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    rows: usize,
    channels: usize,
    /// Whether the last column is a bias: that of one more channel, which is 1 everywhere.
    biased: bool,
    packed: Vec<f32>,
}

impl PackedMatrix {
    /// The matrix of `value(row, channel)`.
    ///
    /// # Panics
    /// If the bias does not have one value for each row.
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
        let packed = pack_matrix(
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

    /// `output[i, p] = Σ_j matrix[i, j] · features[j, p] + bias[i]` for each image and the positions `p` in
    /// an area; with `add`, this is added to `output`.
    ///
    /// # Panics
    /// If the slices are not equally many images of the area's plane.
    pub fn apply(&self, features: &[f32], output: &mut [f32], area: Runs, add: bool) {
        let positions = area.plane;
        let (input_len, output_len) = (self.channels * positions, self.rows * positions);
        assert_eq!(features.len() * output_len, output.len() * input_len);
        if input_len == 0 || output_len == 0 {
            return;
        }
        let step = chunk(self.channels);
        let chunks = area.pieces(step);
        let product = Product {
            matrix: self,
            features,
            positions,
            output: output.as_mut_ptr(),
            add,
        };
        let images = features.len() / input_len;
        assert_eq!(images * input_len, features.len());
        (0..images * chunks)
            .into_par_iter()
            .with_max_len(1)
            .for_each(|task| {
                SCRATCH.with_borrow_mut(|panels| {
                    dispatch(Chunk {
                        product: &product,
                        image: task / chunks,
                        chunk: area.piece(step, task % chunks),
                        panels,
                    })
                });
            });
    }
}

/// A product of which each task computes some columns.
struct Product<'a> {
    matrix: &'a PackedMatrix,
    features: &'a [f32],
    positions: usize,
    output: *mut f32,
    add: bool,
}

// SAFETY: `output` points to a slice that `apply` borrows exclusively while it runs, and no two tasks
// write to the same columns.
unsafe impl Sync for Product<'_> {}

/// Some columns of one image.
struct Chunk<'a> {
    product: &'a Product<'a>,
    image: usize,
    chunk: std::ops::Range<usize>,
    panels: &'a mut Vec<Lanes>,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product {
            matrix,
            features,
            positions,
            output,
            add,
        } = *self.product;
        let PackedMatrix {
            rows,
            channels,
            biased,
            ref packed,
        } = *matrix;
        let features = &features[self.image * channels * positions..][..channels * positions];
        let output = output.wrapping_add(self.image * rows * positions);
        let steps = channels + usize::from(biased);
        let count = self.chunk.len().div_ceil(NR);
        // Panels of the features, and six rows of output for the last panel if it is incomplete.
        let size = count * steps + MR;
        if self.panels.len() < size {
            self.panels.resize(size, Lanes::ZERO);
        }
        let (panels, last) = self.panels.split_at_mut(count * steps);
        for channel in 0..channels {
            let row = &features[channel * positions..][self.chunk.clone()];
            let (whole, rest) = row.as_chunks::<NR>();
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
                panels[panel * steps + channels].0 = [1.0; NR];
            }
        }
        let whole = self.chunk.len() / NR;
        for row in (0..rows).step_by(MR) {
            let rows = MR.min(rows - row);
            let left = Left {
                at: packed[row * steps..].as_ptr(),
                stride: K_BLOCK * MR,
            };
            let right = |panel: usize, panels_here: usize| Right {
                at: panels[panel * steps..].as_ptr().cast(),
                next: steps * NR,
                panels: panels_here,
            };
            // SAFETY: for each of `steps` channels, `packed` holds 6 values and a panel sixteen. The
            // whole panels lie within the rows of the output and the columns of this task; `last` has
            // room for six rows of sixteen.
            unsafe {
                let at = output.add(row * positions + self.chunk.start);
                let direct = Output {
                    at,
                    row: positions,
                    next: NR,
                    add,
                };
                matmul::<S, MR, 1>(simd, rows, steps, left, right(0, whole), direct);
                if whole < count {
                    let indirect = Output {
                        at: last.as_mut_ptr().cast(),
                        row: NR,
                        next: 0,
                        add: false,
                    };
                    matmul::<S, MR, 1>(simd, rows, steps, left, right(whole, 1), indirect);
                    let width = self.chunk.len() - whole * NR;
                    for (i, values) in last[..rows].iter().enumerate() {
                        let at = at.add(i * positions + whole * NR);
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
