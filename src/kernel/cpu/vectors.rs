//! What optimisers do with images: sums of products, multiples added to an image, and a step of Adam. Bound by
//! memory: nothing between is stored, and images that are kept may have half the precision.

use half::bf16;
use rayon::prelude::*;

use super::lanes::dispatch;
use pulp::{Simd, WithSimd};

/// Values that one task computes.
const CHUNK: usize = 1 << 15;

/// Partial sums of a chunk, which vectors can hold.
const SUMS: usize = 32;

/// A number that is kept, and calculated with as `f32`.
pub trait Kept: Copy + Send + Sync {
    fn value(self) -> f32;
}

impl Kept for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Kept for bf16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// `Σ a·b`, in an order that does not depend on the number of threads.
///
/// # Panics
/// If the slices are not equally long.
pub fn dot<A: Kept, B: Kept>(a: &[A], b: &[B]) -> f64 {
    assert_eq!(a.len(), b.len());
    let chunks = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    let sums: Vec<f64> = chunks.map(|(a, b)| dispatch(Dot { a, b })).collect();
    sums.iter().sum()
}

struct Dot<'a, A, B> {
    a: &'a [A],
    b: &'a [B],
}

impl<A: Kept, B: Kept> WithSimd for Dot<'_, A, B> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut sums = [0.0f32; SUMS];
        let (a, a_rest) = self.a.as_chunks::<SUMS>();
        let (b, b_rest) = self.b.as_chunks::<SUMS>();
        for (a, b) in a.iter().zip(b) {
            for lane in 0..SUMS {
                sums[lane] += a[lane].value() * b[lane].value();
            }
        }
        for lane in 0..a_rest.len() {
            sums[lane] += a_rest[lane].value() * b_rest[lane].value();
        }
        let mut sum = 0.0;
        for lane in 0..SUMS {
            sum += f64::from(sums[lane]);
        }
        sum
    }
}

/// The largest absolute value; NaN if there is one.
pub fn largest(x: &[f32]) -> f32 {
    let largest = |a: f32, b: f32| if a.is_nan() || a > b { a } else { b };
    let chunks = x.par_chunks(CHUNK);
    let chunks = chunks.map(|x| x.iter().fold(0.0, |most, x| largest(x.abs(), most)));
    let all: Vec<f32> = chunks.collect();
    all.into_iter().fold(0.0, largest)
}

/// `y += factor · x`.
///
/// # Panics
/// If the slices are not equally long.
pub fn add_multiple<X: Kept>(y: &mut [f32], factor: f32, x: &[X]) {
    update(y, x, |y, x| y + factor * x);
}

/// `y ← change(y, x)` for each pair of values.
///
/// # Panics
/// If the slices are not equally long.
pub fn update<X: Kept>(y: &mut [f32], x: &[X], change: impl Fn(f32, f32) -> f32 + Sync) {
    assert_eq!(y.len(), x.len());
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    chunks.for_each(|(y, x)| {
        for (y, x) in y.iter_mut().zip(x) {
            *y = change(*y, x.value());
        }
    });
}

/// `y ← change(y, a, b)` for each three values.
///
/// # Panics
/// If the slices are not equally long.
pub fn update_by_two(
    y: &mut [f32],
    a: &[f32],
    b: &[f32],
    change: impl Fn(f32, f32, f32) -> f32 + Sync,
) {
    assert!(y.len() == a.len() && y.len() == b.len());
    let chunks = y.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK));
    let chunks = chunks.zip(b.par_chunks(CHUNK));
    chunks.for_each(|((y, a), b)| {
        for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
            *y = change(*y, *a, *b);
        }
    });
}
