//! Vectors of sixteen values, on whatever vector registers the machine has.

use pulp::{Arch, Simd, WithSimd};

/// Columns that the microkernel computes together: sixteen values, one cache line of `f32`.
pub const NR: usize = 16;

/// Sixteen values, one in each lane.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Lanes(pub [f32; NR]);

impl Lanes {
    pub const ZERO: Self = Self([0.0; NR]);

    /// The vector that begins at lane `x`.
    #[inline(always)]
    pub fn load<S: Simd>(&self, x: usize) -> S::f32s {
        let lanes = &self.0[x..x + S::F32_LANES];
        // SAFETY: `S::f32s` is plain data of `F32_LANES` values, all within the slice.
        unsafe { lanes.as_ptr().cast::<S::f32s>().read_unaligned() }
    }

    /// Writes a vector to the lanes from `x` on.
    #[inline(always)]
    pub fn store<S: Simd>(&mut self, x: usize, vector: S::f32s) {
        let lanes = &mut self.0[x..x + S::F32_LANES];
        // SAFETY: `S::f32s` is plain data of `F32_LANES` values, all within the slice.
        unsafe {
            lanes.as_mut_ptr().cast::<S::f32s>().write_unaligned(vector);
        }
    }
}

/// Copies the first `N` values of a slice to the front of another. Unlike `copy_from_slice` it is moves of
/// vectors and no call, however the crate is compiled.
#[inline(always)]
pub fn copy<const N: usize>(from: &[f32], to: &mut [f32]) {
    let (from, to) = (&from[..N], &mut to[..N]);
    for i in 0..N {
        to[i] = from[i];
    }
}

/// Sixteen bit masks, one in each lane.
pub type Bits = [u32; NR];

/// The vector of bit masks that begins at lane `x`.
#[inline(always)]
pub fn load_bits<S: Simd>(bits: &Bits, x: usize) -> S::u32s {
    let lanes = &bits[x..x + S::U32_LANES];
    // SAFETY: `S::u32s` is plain data of `U32_LANES` values, all within the slice.
    unsafe { lanes.as_ptr().cast::<S::u32s>().read_unaligned() }
}

/// Writes a vector to the bit masks from lane `x` on.
#[inline(always)]
pub fn store_bits<S: Simd>(bits: &mut Bits, x: usize, vector: S::u32s) {
    let lanes = &mut bits[x..x + S::U32_LANES];
    // SAFETY: `S::u32s` is plain data of `U32_LANES` values, all within the slice.
    unsafe {
        lanes.as_mut_ptr().cast::<S::u32s>().write_unaligned(vector);
    }
}

/// Runs `task` with the widest vectors of this machine: AVX-512, AVX2 with FMA, or NEON; with scalar
/// code where there are none.
pub fn dispatch<T: WithSimd>(task: T) -> T::Output {
    #[cfg(all(test, target_arch = "x86_64"))]
    if FORCE_AVX2.load(std::sync::atomic::Ordering::Relaxed)
        && let Some(simd) = pulp::x86::V3::try_new()
    {
        return Simd::vectorize(simd, task);
    }
    Arch::new().dispatch(task)
}

/// Makes [`dispatch`] choose AVX2 on machines with AVX-512, for tests.
#[cfg(all(test, target_arch = "x86_64"))]
pub static FORCE_AVX2: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Transposes a 4×4 matrix.
#[inline(always)]
pub fn transpose(rows: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        let [a, b, c, d]: [__m128; 4] = bytemuck::cast(rows);
        // SAFETY: SSE is part of x86-64.
        unsafe {
            let (ab, cd) = (_mm_unpacklo_ps(a, b), _mm_unpacklo_ps(c, d));
            let (ef, gh) = (_mm_unpackhi_ps(a, b), _mm_unpackhi_ps(c, d));
            bytemuck::cast([
                _mm_movelh_ps(ab, cd),
                _mm_movehl_ps(cd, ab),
                _mm_movelh_ps(ef, gh),
                _mm_movehl_ps(gh, ef),
            ])
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let [a, b, c, d] = rows;
        [
            [a[0], b[0], c[0], d[0]],
            [a[1], b[1], c[1], d[1]],
            [a[2], b[2], c[2], d[2]],
            [a[3], b[3], c[3], d[3]],
        ]
    }
}

/// Prefetches the cache line at `address`, which may be any address.
#[inline(always)]
pub fn prefetch(address: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
