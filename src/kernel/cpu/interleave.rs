//! Interleaved loads and stores: from pixels in the order of memory to lanes that hold a tile each,
//! and back.
//!
//! The sixteen tiles of a panel are four groups of four neighbours, and each group has an address of
//! its own. AVX-512 and AVX2 have shuffles for this; everything else goes element by element, which
//! is also the reference in the tests.

use pulp::Simd;

use super::lanes::NR;

/// Tiles of a group.
pub const FOUR: usize = 4;
/// Groups of a panel.
pub const GROUPS: usize = NR / FOUR;

/// Reads `4·SIDE` values of each group: value `SIDE·t + j` of a group goes to lane `t` of its four
/// lanes in vector `j`. Returns the lanes from `x` on.
///
/// # Safety
/// The `4·SIDE` values from each pointer on must be valid for reading.
#[inline(always)]
pub unsafe fn load_deinterleaved<S: Simd, const SIDE: usize>(
    simd: S,
    groups: [*const f32; GROUPS],
    x: usize,
) -> [S::f32s; SIDE] {
    const { assert!(SIDE == 2 || SIDE == 4) }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as promised by the caller; a `V4` or `V3` exists only where the machine has it.
    unsafe {
        use std::mem::transmute_copy as cast;
        if x86::is::<S, pulp::x86::V4>() {
            return match SIDE {
                2 => cast(&x86::wide::load_2(groups)),
                _ => cast(&x86::wide::load_4(groups)),
            };
        }
        if x86::is::<S, pulp::x86::V3>() {
            let groups = [groups[x / FOUR], groups[x / FOUR + 1]];
            return match SIDE {
                2 => cast(&x86::load_2(groups)),
                _ => cast(&x86::load_4(groups)),
            };
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { load_deinterleaved_reference(simd, groups, x) }
}

/// The inverse of [`load_deinterleaved`].
///
/// # Safety
/// The `4·SIDE` values from each pointer on must be valid for writing, and no other thread may
/// access them.
#[inline(always)]
pub unsafe fn store_interleaved<S: Simd, const SIDE: usize>(
    columns: [S::f32s; SIDE],
    groups: [*mut f32; GROUPS],
    x: usize,
) {
    const { assert!(SIDE == 2 || SIDE == 4) }
    #[cfg(target_arch = "x86_64")]
    // SAFETY: as promised by the caller; a `V4` or `V3` exists only where the machine has it.
    unsafe {
        use std::mem::transmute_copy as cast;
        if x86::is::<S, pulp::x86::V4>() {
            return match SIDE {
                2 => x86::wide::store_2(cast(&columns), groups),
                _ => x86::wide::store_4(cast(&columns), groups),
            };
        }
        if x86::is::<S, pulp::x86::V3>() {
            let groups = [groups[x / FOUR], groups[x / FOUR + 1]];
            return match SIDE {
                2 => x86::store_2(cast(&columns), groups),
                _ => x86::store_4(cast(&columns), groups),
            };
        }
    }
    // SAFETY: as promised by the caller.
    unsafe { store_interleaved_reference::<S, SIDE>(columns, groups, x) }
}

/// The reference for [`load_deinterleaved`].
///
/// # Safety
/// See [`load_deinterleaved`].
#[inline(always)]
unsafe fn load_deinterleaved_reference<S: Simd, const SIDE: usize>(
    simd: S,
    groups: [*const f32; GROUPS],
    x: usize,
) -> [S::f32s; SIDE] {
    let mut columns = [simd.splat_f32s(0.0); SIDE];
    for (j, column) in columns.iter_mut().enumerate() {
        let lanes: *mut f32 = std::ptr::from_mut(column).cast();
        for lane in 0..S::F32_LANES {
            let (group, t) = ((x + lane) / FOUR, (x + lane) % FOUR);
            // SAFETY: a vector is `F32_LANES` values; the rest as promised by the caller.
            unsafe { *lanes.add(lane) = *groups[group].add(SIDE * t + j) };
        }
    }
    columns
}

/// The reference for [`store_interleaved`].
///
/// # Safety
/// See [`store_interleaved`].
#[inline(always)]
unsafe fn store_interleaved_reference<S: Simd, const SIDE: usize>(
    columns: [S::f32s; SIDE],
    groups: [*mut f32; GROUPS],
    x: usize,
) {
    for (j, column) in columns.iter().enumerate() {
        let lanes: *const f32 = std::ptr::from_ref(column).cast();
        for lane in 0..S::F32_LANES {
            let (group, t) = ((x + lane) / FOUR, (x + lane) % FOUR);
            // SAFETY: a vector is `F32_LANES` values; the rest as promised by the caller.
            unsafe { *groups[group].add(SIDE * t + j) = *lanes.add(lane) };
        }
    }
}

/// The shuffles of x86-64. All functions are `unsafe`: they need AVX2 (in `wide` AVX-512), and
/// pointers as [`load_deinterleaved`] and [`store_interleaved`] require them.
#[cfg(target_arch = "x86_64")]
mod x86 {
    #![allow(clippy::missing_safety_doc, reason = "documented once, above")]

    use std::any::TypeId;
    use std::arch::x86_64::*;

    /// Whether two instruction sets are the same.
    #[inline(always)]
    pub fn is<S: 'static, T: 'static>() -> bool {
        TypeId::of::<S>() == TypeId::of::<T>()
    }

    /// Four values of each of two groups.
    #[inline(always)]
    unsafe fn read(groups: [*const f32; 2], at: usize) -> __m256 {
        unsafe {
            _mm256_set_m128(
                _mm_loadu_ps(groups[1].add(at)),
                _mm_loadu_ps(groups[0].add(at)),
            )
        }
    }

    #[inline(always)]
    unsafe fn put(values: __m256, groups: [*mut f32; 2], at: usize) {
        unsafe {
            _mm_storeu_ps(groups[0].add(at), _mm256_castps256_ps128(values));
            _mm_storeu_ps(groups[1].add(at), _mm256_extractf128_ps::<1>(values));
        }
    }

    /// Rows to columns in each half.
    #[inline(always)]
    unsafe fn transpose([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (ef, gh) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            [
                _mm256_shuffle_ps::<0x44>(ab, cd),
                _mm256_shuffle_ps::<0xEE>(ab, cd),
                _mm256_shuffle_ps::<0x44>(ef, gh),
                _mm256_shuffle_ps::<0xEE>(ef, gh),
            ]
        }
    }

    #[inline(always)]
    pub unsafe fn load_4(groups: [*const f32; 2]) -> [__m256; 4] {
        unsafe {
            transpose([
                read(groups, 0),
                read(groups, 4),
                read(groups, 8),
                read(groups, 12),
            ])
        }
    }

    #[inline(always)]
    pub unsafe fn load_2(groups: [*const f32; 2]) -> [__m256; 2] {
        unsafe {
            let (a, b) = (read(groups, 0), read(groups, 4));
            [
                _mm256_shuffle_ps::<0x88>(a, b),
                _mm256_shuffle_ps::<0xDD>(a, b),
            ]
        }
    }

    #[inline(always)]
    pub unsafe fn store_4(columns: [__m256; 4], groups: [*mut f32; 2]) {
        unsafe {
            let tiles = transpose(columns);
            for t in 0..4 {
                put(tiles[t], groups, 4 * t);
            }
        }
    }

    #[inline(always)]
    pub unsafe fn store_2([a, b]: [__m256; 2], groups: [*mut f32; 2]) {
        unsafe {
            put(_mm256_unpacklo_ps(a, b), groups, 0);
            put(_mm256_unpackhi_ps(a, b), groups, 4);
        }
    }

    pub mod wide {
        #![allow(clippy::missing_safety_doc, reason = "documented once, above")]

        use std::arch::x86_64::*;

        /// Lane numbers in the concatenation of two vectors, as permutations take them: lane `i` of
        /// the result is lane `i / run * per_run + i % run * per_lane + first`.
        const fn lanes(run: i32, per_run: i32, per_lane: i32, first: i32) -> [i32; 16] {
            let mut lanes = [0; 16];
            let mut i = 0;
            while i < 16 {
                lanes[i as usize] = i / run * per_run + i % run * per_lane + first;
                i += 1;
            }
            lanes
        }

        /// Every second value, beginning with the first or the second.
        const SECOND: [[i32; 16]; 2] = [lanes(16, 0, 2, 0), lanes(16, 0, 2, 1)];
        /// Every fourth value, beginning with the first, then with the second; beginning with the
        /// third, then with the fourth.
        const FOURTH: [[i32; 16]; 2] = [lanes(8, 1, 4, 0), lanes(8, 1, 4, 2)];
        /// Values of two vectors alternately: of their first halves, of their second halves.
        const ALTERNATE: [[i32; 16]; 2] = [lanes(2, 1, 16, 0), lanes(2, 1, 16, 8)];
        /// The same for pairs of values.
        const PAIRS: [[i32; 16]; 2] = [pairs(0), pairs(8)];

        const fn pairs(first: i32) -> [i32; 16] {
            let mut lanes = lanes(2, 0, 1, 0);
            let mut i = 0;
            while i < 16 {
                // Pair `i / 2` of the result is pair `i / 4` of one or the other vector.
                lanes[i as usize] += i / 4 * 2 + i / 2 % 2 * 16 + first;
                i += 1;
            }
            lanes
        }

        #[inline(always)]
        unsafe fn permute(a: __m512, b: __m512, lanes: &[i32; 16]) -> __m512 {
            unsafe { _mm512_permutex2var_ps(a, _mm512_loadu_epi32(lanes.as_ptr()), b) }
        }

        /// Eight values of each of two groups.
        #[inline(always)]
        unsafe fn read([a, b]: [*const f32; 2]) -> __m512 {
            unsafe {
                let a = _mm512_castps256_ps512(_mm256_loadu_ps(a));
                _mm512_insertf32x8::<1>(a, _mm256_loadu_ps(b))
            }
        }

        #[inline(always)]
        pub unsafe fn load_4(groups: [*const f32; 4]) -> [__m512; 4] {
            unsafe {
                let [a, b, c, d] = [
                    _mm512_loadu_ps(groups[0]),
                    _mm512_loadu_ps(groups[1]),
                    _mm512_loadu_ps(groups[2]),
                    _mm512_loadu_ps(groups[3]),
                ];
                // Columns 0 and 1 of half of the tiles; columns 2 and 3.
                let (ab, cd) = (permute(a, b, &FOURTH[0]), permute(c, d, &FOURTH[0]));
                let (ef, gh) = (permute(a, b, &FOURTH[1]), permute(c, d, &FOURTH[1]));
                [
                    _mm512_shuffle_f32x4::<0x44>(ab, cd),
                    _mm512_shuffle_f32x4::<0xEE>(ab, cd),
                    _mm512_shuffle_f32x4::<0x44>(ef, gh),
                    _mm512_shuffle_f32x4::<0xEE>(ef, gh),
                ]
            }
        }

        #[inline(always)]
        pub unsafe fn load_2([a, b, c, d]: [*const f32; 4]) -> [__m512; 2] {
            unsafe {
                let (ab, cd) = (read([a, b]), read([c, d]));
                [permute(ab, cd, &SECOND[0]), permute(ab, cd, &SECOND[1])]
            }
        }

        #[inline(always)]
        pub unsafe fn store_4([a, b, c, d]: [__m512; 4], groups: [*mut f32; 4]) {
            unsafe {
                for half in 0..2 {
                    let (ab, cd) = (
                        permute(a, b, &ALTERNATE[half]),
                        permute(c, d, &ALTERNATE[half]),
                    );
                    _mm512_storeu_ps(groups[2 * half], permute(ab, cd, &PAIRS[0]));
                    _mm512_storeu_ps(groups[2 * half + 1], permute(ab, cd, &PAIRS[1]));
                }
            }
        }

        #[inline(always)]
        pub unsafe fn store_2([a, b]: [__m512; 2], groups: [*mut f32; 4]) {
            unsafe {
                for half in 0..2 {
                    let both = permute(a, b, &ALTERNATE[half]);
                    _mm256_storeu_ps(groups[2 * half], _mm512_castps512_ps256(both));
                    _mm256_storeu_ps(groups[2 * half + 1], _mm512_extractf32x8_ps::<1>(both));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::WithSimd;

    use super::super::lanes::dispatch;
    use super::*;

    /// Groups in any order, loaded and stored again, compared with the reference.
    struct Case<'a, const SIDE: usize> {
        pixels: &'a [f32],
        starts: [usize; GROUPS],
    }

    impl<const SIDE: usize> WithSimd for Case<'_, SIDE> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let mut back = vec![f32::NAN; self.pixels.len()];
            let from = self.starts.map(|start| self.pixels[start..].as_ptr());
            let to = self.starts.map(|start| back[start..].as_mut_ptr());
            for x in (0..NR).step_by(S::F32_LANES) {
                // SAFETY: 16 values lie behind each start, within the slices.
                unsafe {
                    let found = load_deinterleaved::<S, SIDE>(simd, from, x);
                    let expected = load_deinterleaved_reference::<S, SIDE>(simd, from, x);
                    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
                    store_interleaved::<S, SIDE>(found, to, x);
                }
            }
            for start in self.starts {
                let range = start..start + FOUR * SIDE;
                assert_eq!(back[range.clone()], self.pixels[range]);
                back[start..start + FOUR * SIDE].fill(f32::NAN);
            }
            assert!(back.iter().all(|value| value.is_nan()));
        }
    }

    #[test]
    fn shuffles_match_the_reference() {
        let pixels: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for starts in [[0, 16, 32, 48], [84, 3, 50, 21]] {
            let pixels = &pixels[..];
            dispatch(Case::<4> { pixels, starts });
            dispatch(Case::<2> { pixels, starts });
            pulp::Scalar128b.vectorize(Case::<4> { pixels, starts });
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                Simd::vectorize(simd, Case::<4> { pixels, starts });
                Simd::vectorize(simd, Case::<2> { pixels, starts });
            }
        }
    }
}
