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
        add_up(&sums)
    }
}

#[inline(always)]
fn add_up(sums: &[f32; SUMS]) -> f64 {
    let mut sum = 0.0;
    for lane in 0..SUMS {
        sum += f64::from(sums[lane]);
    }
    sum
}

/// The largest absolute value; NaN if there is one.
pub fn largest(x: &[f32]) -> f32 {
    let largest = |a: f32, b: f32| if a.is_nan() || a > b { a } else { b };
    let chunks = x.par_chunks(CHUNK);
    let chunks = chunks.map(|x| x.iter().fold(0.0, |most, x| largest(x.abs(), most)));
    let all: Vec<f32> = chunks.collect();
    all.into_iter().fold(0.0, largest)
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

/// [`update`], and the [`dot`] of what comes out and `z`, in one pass and to the same bits.
///
/// # Panics
/// If the slices are not equally long.
pub fn update_and_dot<X: Kept, Z: Kept>(
    y: &mut [f32],
    x: &[X],
    z: &[Z],
    change: impl Fn(f32, f32) -> f32 + Sync,
) -> f64 {
    assert!(y.len() == x.len() && y.len() == z.len());
    let chunks = y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK));
    let chunks = chunks.zip(z.par_chunks(CHUNK));
    let change = &change;
    let sums = chunks.map(|((y, x), z)| dispatch(UpdateAndDot { y, x, z, change }));
    let sums: Vec<f64> = sums.collect();
    sums.iter().sum()
}

struct UpdateAndDot<'a, X, Z, F> {
    y: &'a mut [f32],
    x: &'a [X],
    z: &'a [Z],
    change: &'a F,
}

impl<X: Kept, Z: Kept, F: Fn(f32, f32) -> f32> WithSimd for UpdateAndDot<'_, X, Z, F> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut sums = [0.0f32; SUMS];
        let (y, y_rest) = self.y.as_chunks_mut::<SUMS>();
        let (x, x_rest) = self.x.as_chunks::<SUMS>();
        let (z, z_rest) = self.z.as_chunks::<SUMS>();
        for ((y, x), z) in y.iter_mut().zip(x).zip(z) {
            for lane in 0..SUMS {
                y[lane] = (self.change)(y[lane], x[lane].value());
                sums[lane] += z[lane].value() * y[lane];
            }
        }
        for lane in 0..y_rest.len() {
            y_rest[lane] = (self.change)(y_rest[lane], x_rest[lane].value());
            sums[lane] += z_rest[lane].value() * y_rest[lane];
        }
        add_up(&sums)
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::tests::numbers;
    use proptest::prelude::*;

    proptest! {
        /// One pass gives the bits of two, at every length and in both precisions.
        #[test]
        fn update_and_dot_is_both(
            length in prop_oneof![0usize..200, CHUNK - 40..CHUNK + 40, 2 * CHUNK..3 * CHUNK],
            factor in -2.0f32..2.0, seed in any::<u64>(),
        ) {
            let mut random = numbers(seed);
            let mut draw = || -> Vec<f32> { (0..length).map(|_| random()).collect() };
            let (y, x, z) = (draw(), draw(), draw());
            let halves: Vec<bf16> = z.iter().map(|&value| bf16::from_f32(value)).collect();
            let change = |y: f32, x: f32| y + factor * x;
            let (mut expected, mut found) = (y.clone(), y);
            update(&mut expected, &x, change);
            let product = update_and_dot(&mut found, &x, &z, change);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(product.to_bits(), dot(&z, &expected).to_bits());
            update(&mut expected, &halves, change);
            let product = update_and_dot(&mut found, &halves, &halves, change);
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(product.to_bits(), dot(&halves, &expected).to_bits());
        }
    }
}
