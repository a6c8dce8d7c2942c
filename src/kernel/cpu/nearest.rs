//! The column with the largest inner product, among many: a matrix product of which only the running
//! maximum is kept.
//!
//! Candidates are the rows of the microkernel and queries its lanes, so that maxima are taken lane by
//! lane, in the order of the candidates. Values are cut into parts that do not depend on the number of
//! threads, so neither do the products.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::buffer_pool::PooledBuffer;
use super::lanes::{Bits, Lanes, NR, copy, dispatch, load_bits, store_bits};
use super::microkernel::{K_BLOCK, Left, MR, Output, Right, matmul, together};

/// Queries of a task. Their products with a block of candidates stay in the second-level cache.
const QUERIES: usize = 128;
/// Candidates in a block, whole sixes. A part of their values stays in the second-level cache.
const CANDIDATES: usize = 192;
/// Largest number of values in a part. A panel of queries with as many stays in the first-level cache.
const PART: usize = 288;
/// Values of candidates that are packed at once, for all queries.
const PACKED_LEN: usize = 1 << 22;

thread_local! {
    /// The queries of a task in panels, then products.
    static SCRATCH: RefCell<Vec<Lanes>> = const { RefCell::new(Vec::new()) };
}

/// The parts of the values, about equally long.
#[inline(always)]
fn parts(values: usize) -> impl Iterator<Item = Range<usize>> {
    let length = values.div_ceil(values.div_ceil(PART));
    let length = length.next_multiple_of(K_BLOCK);
    (0..values)
        .step_by(length)
        .map(move |first| first..values.min(first + length))
}

/// The largest products so far of sixteen queries.
#[derive(Clone, Copy)]
struct Best {
    indices: Bits,
    products: Lanes,
}

/// For each column of `queries`, `[values, n]`, the largest inner product with a column of
/// `candidates`, `[values, m]`, and the smallest index of one that has it. Products that are NaN do not
/// count; if there are no others, the index is 0 and the product −∞.
///
/// # Panics
/// If `values` is zero or the length of a slice does not match it.
pub fn nearest(
    queries: &[f32],
    candidates: &[f32],
    values: usize,
    indices: &mut [u32],
    products: &mut [f32],
) {
    assert_eq!(queries.len(), values * products.len());
    assert_eq!(indices.len(), products.len());
    let count = candidates.len() / values;
    assert_eq!(candidates.len(), values * count);
    assert!(u32::try_from(count).is_ok(), "too many candidates: {count}");
    let none = Best {
        indices: [0; NR],
        products: Lanes([f32::NEG_INFINITY; NR]),
    };
    let mut best = vec![none; products.len().div_ceil(NR)];
    let pass = (PACKED_LEN / values / CANDIDATES).max(1) * CANDIDATES;
    let mut packed = PooledBuffer::new(4 * values * pass.min(count.next_multiple_of(MR)));
    for first in (0..count).step_by(pass) {
        let columns = first..count.min(first + pass);
        let length = values * columns.len().next_multiple_of(MR);
        let packed = &mut packed.values_mut()[..length];
        packed
            .par_chunks_mut(values * CANDIDATES)
            .enumerate()
            .for_each(|(block, packed)| {
                let first = columns.start + block * CANDIDATES;
                let columns = first..columns.end.min(first + CANDIDATES);
                pack(candidates, count, columns, packed);
            });
        let packed = &*packed;
        best.par_chunks_mut(QUERIES / NR)
            .enumerate()
            .for_each(|(task, best)| {
                SCRATCH.with_borrow_mut(|scratch| {
                    dispatch(Task {
                        queries,
                        count: products.len(),
                        first: task * QUERIES,
                        values,
                        packed,
                        columns: columns.clone(),
                        scratch,
                        best,
                    });
                });
            });
    }
    let found = indices.chunks_mut(NR).zip(products.chunks_mut(NR));
    for ((indices, products), best) in found.zip(&best) {
        indices.copy_from_slice(&best.indices[..indices.len()]);
        products.copy_from_slice(&best.products.0[..products.len()]);
    }
}

/// Copies a block of columns to the layout that the microkernel reads: for each part of the values
/// `[⌈columns / 6⌉, values, 6]`.
fn pack(candidates: &[f32], count: usize, columns: Range<usize>, packed: &mut [f32]) {
    let padded = columns.len().next_multiple_of(MR);
    for part in parts(candidates.len() / count) {
        let packed = &mut packed[padded * part.start..padded * part.end];
        for (step, value) in part.clone().enumerate() {
            let row = &candidates[value * count..][columns.clone()];
            let (sixes, rest) = row.as_chunks::<MR>();
            let mut blocks = packed.chunks_exact_mut(MR * part.len());
            for (six, block) in sixes.iter().zip(&mut blocks) {
                copy::<MR>(six, &mut block[step * MR..]);
            }
            if !rest.is_empty()
                && let Some(block) = blocks.next()
            {
                block[step * MR..][..rest.len()].copy_from_slice(rest);
            }
        }
    }
}

/// Some queries with all packed candidates.
struct Task<'a> {
    queries: &'a [f32],
    /// Number of all queries.
    count: usize,
    /// The first query of the task.
    first: usize,
    values: usize,
    packed: &'a [f32],
    /// The candidates that are packed.
    columns: Range<usize>,
    scratch: &'a mut Vec<Lanes>,
    best: &'a mut [Best],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (values, panels) = (self.values, self.best.len());
        let size = panels * (values + CANDIDATES);
        if self.scratch.len() < size {
            self.scratch.resize(size, Lanes::ZERO);
        }
        let (queries, products) = self.scratch[..size].split_at_mut(panels * values);
        let width = (panels * NR).min(self.count - self.first);
        for part in parts(values) {
            let queries = &mut queries[panels * part.start..panels * part.end];
            for (step, value) in part.clone().enumerate() {
                let row = &self.queries[value * self.count + self.first..][..width];
                let (whole, rest) = row.as_chunks::<NR>();
                for (panel, &lanes) in whole.iter().enumerate() {
                    queries[panel * part.len() + step].0 = lanes;
                }
                if !rest.is_empty() {
                    let last = &mut queries[whole.len() * part.len() + step];
                    *last = Lanes::ZERO;
                    last.0[..rest.len()].copy_from_slice(rest);
                }
            }
        }
        let group = together::<S>();
        let blocks = self.packed.chunks(values * CANDIDATES);
        for (first, block) in self.columns.clone().step_by(CANDIDATES).zip(blocks) {
            let rows = CANDIDATES.min(self.columns.end - first);
            let padded = rows.next_multiple_of(MR);
            for part in parts(values) {
                let steps = part.len();
                let block = &block[padded * part.start..padded * part.end];
                let queries = &queries[panels * part.start..panels * part.end];
                for panel in (0..panels).step_by(group) {
                    let right = Right {
                        at: queries[panel * steps..].as_ptr().cast(),
                        next: steps * NR,
                        panels: group.min(panels - panel),
                    };
                    for row in (0..rows).step_by(MR) {
                        let left = Left {
                            at: block[row * steps..].as_ptr(),
                            stride: K_BLOCK * MR,
                        };
                        let output = Output {
                            at: products[panel * CANDIDATES + row..].as_mut_ptr().cast(),
                            row: NR,
                            next: CANDIDATES * NR,
                            add: part.start > 0,
                        };
                        let rows = MR.min(rows - row);
                        // SAFETY: for each of `steps` values, `block` holds six from every sixth row on
                        // and a panel sixteen; `products` has CANDIDATES times sixteen for each panel.
                        unsafe { matmul::<S, MR, 1>(simd, rows, steps, left, right, output) };
                    }
                }
            }
            for (panel, best) in self.best.iter_mut().enumerate() {
                let products = &products[panel * CANDIDATES..][..rows];
                keep_larger(simd, products, first as u32, best);
            }
        }
    }
}

/// Replaces what is smaller than the products with the candidates from number `first` on.
#[inline(always)]
fn keep_larger<S: Simd>(simd: S, products: &[Lanes], first: u32, best: &mut Best) {
    let one = simd.splat_u32s(1);
    for x in (0..NR).step_by(S::F32_LANES) {
        let mut largest = best.products.load::<S>(x);
        let mut index = load_bits::<S>(&best.indices, x);
        let mut candidate = simd.splat_u32s(first);
        for product in products {
            let product = product.load::<S>(x);
            let larger = simd.greater_than_f32s(product, largest);
            largest = simd.select_f32s(larger, product, largest);
            index = simd.select_u32s(larger, candidate, index);
            candidate = simd.add_u32s(candidate, one);
        }
        best.products.store::<S>(x, largest);
        store_bits::<S>(&mut best.indices, x, index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_about_equally_long() {
        let lengths = |values: usize| parts(values).map(|part| part.len()).collect::<Vec<_>>();
        assert_eq!(lengths(1), [1]);
        assert_eq!(lengths(PART), [PART]);
        assert_eq!(lengths(PART + 1), [150, PART - 149]);
        assert_eq!(lengths(512), [258, 254]);
    }

    #[test]
    fn products_that_are_nan_do_not_count() {
        let (mut indices, mut products) = ([9; 2], [0.0; 2]);
        let candidates = [f32::NAN, -1.0, 2.0];
        nearest(
            &[1.0, f32::NAN],
            &candidates,
            1,
            &mut indices,
            &mut products,
        );
        assert_eq!((indices, products), ([2, 0], [2.0, f32::NEG_INFINITY]));
    }
}
