//! The inner loop of all kernels: a small matrix product in registers.

use pulp::{Simd, WithSimd};

use super::lanes::{NR, prefetch};

/// Rows of the left factor that are computed together; of the right factor [`NR`] columns.
pub const MR: usize = 6;

/// Steps along the shared dimension in a block of the left factor.
pub const K_BLOCK: usize = 6;

/// Layout of the left factor. The element of step `k` and row `i` is
/// `at[(k / K_BLOCK) * stride + (k % K_BLOCK) * STEP + i * ROW]`, with the `STEP` and `ROW` of
/// [`matmul`].
#[derive(Clone, Copy)]
pub struct Left {
    /// The element of step 0 and row 0.
    pub at: *const f32,
    /// Distance of two blocks of steps.
    pub stride: usize,
}

/// Layout of the right factor: `panels` panels, each with [`NR`] values for each step.
#[derive(Clone, Copy)]
pub struct Right {
    /// The first value of the first panel.
    pub at: *const f32,
    /// Distance of two panels.
    pub next: usize,
    /// Number of panels.
    pub panels: usize,
}

/// Layout of the product: [`NR`] values for each row and panel.
#[derive(Clone, Copy)]
pub struct Output {
    /// The first value of the first row and panel.
    pub at: *mut f32,
    /// Distance of two rows.
    pub row: usize,
    /// Distance of two panels.
    pub next: usize,
    /// Whether the product is added to the values already there.
    pub add: bool,
}

/// How many panels one step computes together, with one reading of the left factor.
#[inline(always)]
pub fn together<S: Simd>() -> usize {
    // With AVX-512 a register holds a whole panel, and one panel alone would wait for its own sums.
    if S::F32_LANES == NR { 4 } else { 1 }
}

/// `output[i, lane] = Σ_k left[k, i] · right[k, lane]` for up to [`MR`] rows and any number of
/// panels. Each element is summed in the order of `k` in one accumulator, so the result does not
/// depend on how rows and panels are divided.
///
/// # Safety
/// All elements that the arguments describe must lie within allocations that are valid for reading
/// (`left`, `right`) and for reading and writing, from this thread only (`output`).
#[inline(always)]
pub unsafe fn matmul<S: Simd, const STEP: usize, const ROW: usize>(
    simd: S,
    rows: usize,
    steps: usize,
    left: Left,
    mut right: Right,
    mut output: Output,
) {
    while right.panels > 0 {
        let panels = right.panels.min(together::<S>());
        // SAFETY: as promised by the caller; the panels are within the described ones.
        unsafe { select_tile::<S, STEP, ROW>(simd, rows, panels, steps, left, right, output) };
        right.panels -= panels;
        right.at = right.at.wrapping_add(panels * right.next);
        output.at = output.at.wrapping_add(panels * output.next);
    }
}

/// Calls the function compiled for this number of rows, panels and vectors.
///
/// # Safety
/// See [`matmul`].
#[inline(always)]
unsafe fn select_tile<S: Simd, const STEP: usize, const ROW: usize>(
    simd: S,
    rows: usize,
    panels: usize,
    steps: usize,
    left: Left,
    right: Right,
    output: Output,
) {
    macro_rules! tile {
        ($rows:literal, $panels:literal, $vectors:literal) => {
            call(
                simd,
                Tile::<$rows, $panels, $vectors, STEP, ROW> {
                    steps,
                    left,
                    right,
                    output,
                },
            )
        };
    }
    macro_rules! tiles {
        ($panels:literal, $vectors:literal) => {
            match rows {
                1 => tile!(1, $panels, $vectors),
                2 => tile!(2, $panels, $vectors),
                3 => tile!(3, $panels, $vectors),
                4 => tile!(4, $panels, $vectors),
                5 => tile!(5, $panels, $vectors),
                _ => tile!(6, $panels, $vectors),
            }
        };
    }
    // Constants, so that only the functions for this width of vectors are compiled.
    if const { S::F32_LANES == NR } {
        match panels {
            1 => tiles!(1, 1),
            2 => tiles!(2, 1),
            3 => tiles!(3, 1),
            _ => tiles!(4, 1),
        }
    } else if const { 2 * S::F32_LANES == NR } {
        tiles!(1, 2)
    } else if const { 4 * S::F32_LANES == NR } {
        tiles!(1, 4)
    } else {
        tiles!(1, 16)
    }
}

/// Calls a function with the vector instructions enabled. On WebAssembly, which has them everywhere, it would be
/// inlined: a fifth slower, since browsers find registers worse in larger functions.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline(always))]
fn call<S: Simd>(simd: S, tile: impl WithSimd<Output = ()>) {
    simd.vectorize(tile);
}

/// `R` rows times `P` panels of `V` vectors. Each combination is a function that is not inlined, since
/// it has several callers and the cost of a call is small beside that of its multiplications.
struct Tile<const R: usize, const P: usize, const V: usize, const STEP: usize, const ROW: usize> {
    steps: usize,
    left: Left,
    right: Right,
    output: Output,
}

impl<const R: usize, const P: usize, const V: usize, const STEP: usize, const ROW: usize> WithSimd
    for Tile<R, P, V, STEP, ROW>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            steps,
            left,
            right,
            output,
        } = self;
        debug_assert_eq!(V * S::F32_LANES, NR);
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[[zero; V]; P]; R];
        let mut a = left.at;
        let mut b = right.at;
        // SAFETY: the caller of `product` promises that every element read and written is there;
        // vectors are read and written unaligned.
        unsafe {
            macro_rules! step {
                ($j:expr) => {
                    let mut values = [[zero; V]; P];
                    for p in 0..P {
                        for v in 0..V {
                            let at = b.add($j * NR + p * right.next + v * S::F32_LANES);
                            values[p][v] = at.cast::<S::f32s>().read_unaligned();
                        }
                    }
                    for i in 0..R {
                        let factor = simd.splat_f32s(*a.add($j * STEP + i * ROW));
                        for p in 0..P {
                            for v in 0..V {
                                let sum = sums[i][p][v];
                                sums[i][p][v] = simd.mul_add_e_f32s(factor, values[p][v], sum);
                            }
                        }
                    }
                };
            }
            for _ in 0..steps / K_BLOCK {
                // In the backward pass rows jump from block to block, which hardware does not prefetch;
                // in the forward pass this is a little earlier than the hardware.
                let ahead = a.wrapping_add(8 * left.stride);
                prefetch(ahead);
                prefetch(ahead.wrapping_add(NR));
                prefetch(ahead.wrapping_add(2 * NR));
                for j in 0..K_BLOCK {
                    step!(j);
                }
                a = a.wrapping_add(left.stride);
                b = b.add(K_BLOCK * NR);
            }
            for j in 0..steps % K_BLOCK {
                step!(j);
            }
            for i in 0..R {
                for p in 0..P {
                    for v in 0..V {
                        let at = i * output.row + p * output.next + v * S::F32_LANES;
                        let at = output.at.add(at).cast::<S::f32s>();
                        let mut sum = sums[i][p][v];
                        if output.add {
                            sum = simd.add_f32s(at.read_unaligned(), sum);
                        }
                        at.write_unaligned(sum);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use pulp::{Scalar128b, Scalar256b, Scalar512b, WithSimd};

    struct Case<'a> {
        rows: usize,
        steps: usize,
        panels: usize,
        left: &'a [f32],
        right: &'a [f32],
        output: &'a mut [f32],
    }

    impl WithSimd for Case<'_> {
        type Output = ();
        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let left = Left {
                at: self.left.as_ptr(),
                stride: K_BLOCK * MR,
            };
            let right = Right {
                at: self.right.as_ptr(),
                next: self.steps * NR,
                panels: self.panels,
            };
            let output = Output {
                at: self.output.as_mut_ptr(),
                row: self.panels * NR,
                next: NR,
                add: true,
            };
            // SAFETY: the slices have the sizes that the test below gives them.
            unsafe { matmul::<S, MR, 1>(simd, self.rows, self.steps, left, right, output) };
        }
    }

    proptest! {
        /// Every vector width, number of rows and number of panels agrees with the definition; the
        /// scalar implementations, which have no fused multiplication, agree bit for bit.
        #[test]
        fn products_match_the_definition(
            rows in 1usize..=6, steps in 0usize..20, panels in 1usize..7, seed in any::<u64>(),
        ) {
            let mut random = crate::kernel::tests::numbers(seed);
            let mut draw = |n: usize| -> Vec<f32> { (0..n).map(|_| random()).collect() };
            let (left, right) = (draw(steps * MR), draw(panels * steps * NR));
            let start = draw(rows * panels * NR);
            let run = |vectors: usize| {
                let mut found = start.clone();
                let case = Case {
                    rows, steps, panels, left: &left, right: &right, output: &mut found,
                };
                match vectors {
                    0 => super::super::lanes::dispatch(case),
                    4 => Scalar128b.vectorize(case),
                    8 => Scalar256b.vectorize(case),
                    _ => Scalar512b.vectorize(case),
                }
                found
            };
            let native = run(0);
            let scalar = run(4);
            prop_assert_eq!(&scalar, &run(8));
            prop_assert_eq!(&scalar, &run(16));
            for i in 0..rows {
                for p in 0..panels {
                    for lane in 0..NR {
                        let at = (i * panels + p) * NR + lane;
                        let sum: f64 = (0..steps)
                            .map(|k| {
                                let right = right[(p * steps + k) * NR + lane];
                                left[k * MR + i] as f64 * right as f64
                            })
                            .sum();
                        let expected = start[at] as f64 + sum;
                        prop_assert!((scalar[at] as f64 - expected).abs() < 1e-5);
                        prop_assert!((native[at] as f64 - expected).abs() < 1e-5);
                    }
                }
            }
        }
    }
}
