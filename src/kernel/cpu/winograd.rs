//! The transforms of Winograd's minimal filtering F(4×4, 3×3): 36 multiplications for 16 outputs
//! where the definition takes 144.
//!
//! With the points 0, ±1, ±2 and ∞ (Lavin and Gray, arXiv 1509.09308), an output tile is
//! `Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` for the 6×6 pixels `d` under it and the kernel `g`; summed over input
//! channels before the outer `Aᵀ … A`, the products are one matrix product for each of 36 points.

use pulp::Simd;

use super::lanes::{Lanes, NR, load_bits};
use super::masks::NeighborMasks;
use super::microkernel::MR;
use super::patches::Pixels;
use super::tiles::{PATCH, TILE};

/// Products for each tile and pair of channels.
pub const POINTS: usize = PATCH * PATCH;

/// `G`, the transform of a kernel along one axis.
const KERNEL: [[f64; 3]; PATCH] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Length of the result of [`pack`] for a kernel `[channels_out, channels_in, 3, 3]`.
pub fn packed_len(channels_out: usize, channels_in: usize) -> usize {
    POINTS * channels_out.div_ceil(MR) * channels_in * MR
}

/// Transforms a kernel `[channels_out, channels_in, 3, 3]` into
/// `[36 points, ⌈channels_out / 6⌉, channels_in, 6 of channels_out]`, in double precision until the
/// last rounding.
///
/// The backward convolution, whose kernel is rotated by 180° and has its channels swapped, reads the
/// same numbers: rotating the kernel is the same as rotating the pixels under a tile and the tile.
///
/// # Panics
/// If `packed` does not have the length [`packed_len`].
pub fn pack(kernel: &[f32], channels_out: usize, channels_in: usize, packed: &mut [f32]) {
    let stripes = channels_out.div_ceil(MR);
    assert_eq!(packed.len(), packed_len(channels_out, channels_in));
    packed.fill(0.0);
    for (index, kernel) in kernel.as_chunks::<9>().0.iter().enumerate() {
        let (out, channel) = (index / channels_in, index % channels_in);
        let mut half = [[0.0; 3]; PATCH];
        for i in 0..PATCH {
            for x in 0..3 {
                let value = |y: usize| f64::from(kernel[3 * y + x]);
                half[i][x] = dot(KERNEL[i], [value(0), value(1), value(2)]);
            }
        }
        for point in 0..POINTS {
            let (half, row) = (half[point / PATCH], KERNEL[point % PATCH]);
            let value = dot(half, row);
            let stripe = point * stripes + out / MR;
            packed[(stripe * channels_in + channel) * MR + out % MR] = value as f32;
        }
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// `Bᵀ d B`; point `i` is written to `points[i * pitch]`.
///
/// With masks (in the backward pass), pixels whose bit is not set count as zero, and the patches are
/// rotated by 180°.
#[inline(always)]
pub fn transform_patch<S: Simd>(
    simd: S,
    pixels: Pixels<'_>,
    masks: Option<&NeighborMasks>,
    points: &mut [Lanes],
    pitch: usize,
) {
    let zero = simd.splat_f32s(0.0);
    let points = &mut points[..(POINTS - 1) * pitch + 1];
    for x in (0..NR).step_by(S::F32_LANES) {
        let mut half = [[zero; PATCH]; PATCH];
        for i in 0..PATCH {
            let mut row = pixels.row(simd, i, x);
            match masks {
                None => half[i] = transform_6(simd, row),
                Some(masks) => {
                    for j in 0..PATCH {
                        // The patch begins one pixel above and left of the tile.
                        let (y, x_in) = (i + TILE - 1, j + TILE - 1);
                        let bits = load_bits::<S>(&masks[y / TILE][x_in / TILE], x);
                        let bit = 1 << (y % TILE * TILE + x_in % TILE);
                        let bit = simd.and_u32s(bits, simd.splat_u32s(bit));
                        let inactive = simd.equal_u32s(bit, simd.splat_u32s(0));
                        row[j] = simd.select_f32s(inactive, zero, row[j]);
                    }
                    let [a, b, c, d, e, f] = row;
                    half[PATCH - 1 - i] = transform_6(simd, [f, e, d, c, b, a]);
                }
            }
        }
        for j in 0..PATCH {
            let mut column = [zero; PATCH];
            for i in 0..PATCH {
                column[i] = half[i][j];
            }
            let column = transform_6(simd, column);
            for i in 0..PATCH {
                let point = i * PATCH + j;
                // SAFETY: the slice above holds all points. A check for each of them costs as much as what it
                // checks, since 36 offsets do not stay in registers.
                let point = unsafe { points.get_unchecked_mut(point * pitch) };
                point.store::<S>(x, column[i]);
            }
        }
    }
}

/// `Aᵀ m A` for the lanes from `x` on.
#[inline(always)]
pub fn transform_points<S: Simd>(
    simd: S,
    points: &[Lanes; POINTS],
    x: usize,
) -> [[S::f32s; TILE]; TILE] {
    let zero = simd.splat_f32s(0.0);
    let mut half = [[zero; PATCH]; TILE];
    for j in 0..PATCH {
        let mut column = [zero; PATCH];
        for i in 0..PATCH {
            column[i] = points[i * PATCH + j].load::<S>(x);
        }
        let column = transform_4(simd, column);
        for i in 0..TILE {
            half[i][j] = column[i];
        }
    }
    let mut tile = [[zero; TILE]; TILE];
    for i in 0..TILE {
        tile[i] = transform_4(simd, half[i]);
    }
    tile
}

/// `Bᵀ d`.
#[inline(always)]
fn transform_6<S: Simd>(s: S, d: [S::f32s; PATCH]) -> [S::f32s; PATCH] {
    let k = |x: f32| s.splat_f32s(x);
    let even = s.mul_add_e_f32s(k(-4.0), d[2], d[4]);
    let odd = s.mul_add_e_f32s(k(-4.0), d[1], d[3]);
    let (even2, odd2) = (s.sub_f32s(d[4], d[2]), s.sub_f32s(d[3], d[1]));
    let first = s.mul_add_e_f32s(k(-5.0), d[2], d[4]);
    let last = s.mul_add_e_f32s(k(-5.0), d[3], d[5]);
    [
        s.mul_add_e_f32s(k(4.0), d[0], first),
        s.add_f32s(even, odd),
        s.sub_f32s(even, odd),
        s.mul_add_e_f32s(k(2.0), odd2, even2),
        s.mul_add_e_f32s(k(-2.0), odd2, even2),
        s.mul_add_e_f32s(k(4.0), d[1], last),
    ]
}

/// `Aᵀ m`.
#[inline(always)]
fn transform_4<S: Simd>(s: S, m: [S::f32s; PATCH]) -> [S::f32s; TILE] {
    let k = |x: f32| s.splat_f32s(x);
    let (even, odd) = (s.add_f32s(m[1], m[2]), s.sub_f32s(m[1], m[2]));
    let (even2, odd2) = (s.add_f32s(m[3], m[4]), s.sub_f32s(m[3], m[4]));
    [
        s.add_f32s(m[0], s.add_f32s(even, even2)),
        s.mul_add_e_f32s(k(2.0), odd2, odd),
        s.mul_add_e_f32s(k(4.0), even2, even),
        s.add_f32s(s.mul_add_e_f32s(k(8.0), odd2, odd), m[5]),
    ]
}
