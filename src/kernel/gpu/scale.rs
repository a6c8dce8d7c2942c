//! Powers of two that bring the values of a tensor into the range of half precision.
//!
//! f16 has the 11 bits of TF32 at twice its speed, but only 5 bits of exponent. With the largest value
//! between 2¹⁴ and 2¹⁵, values down to 2⁻²⁸ of it keep all 11 bits, and what is lost below is nothing
//! beside the sums that the largest has a part in.

use cubecl::prelude::*;

use super::reduce::{CUBES, reduce};

/// For each cube the largest absolute value of its share.
#[cube(launch_unchecked)]
pub fn magnitudes<F: Float, N: Size>(
    x: &Array<Vector<F, N>>,
    parts: &mut Array<f32>,
    vectors: usize,
    #[define(F)] _dtype: StorageType,
) {
    let mut values = SharedMemory::<f32>::new(CUBES);
    let size = N::value();
    let mut most = 0.0f32;
    for i in range_stepped(ABSOLUTE_POS, vectors, comptime!(CUBES * CUBES)) {
        let vector = x[i];
        #[unroll]
        for k in 0..size {
            let value = f32::cast_from(vector[k]).abs();
            // NaN stays out: a scale cannot help it, and it is passed on without one.
            most = select(value > most, value, most);
        }
    }
    values[UNIT_POS as usize] = most;
    sync_cube();
    reduce(&mut values, true);
    if UNIT_POS == 0 {
        parts[CUBE_POS_X as usize] = values[0];
    }
}

/// The scale for a tensor with these [`magnitudes`], and its inverse; all units of a plane of 32 call
/// it.
#[cube]
pub fn scale(parts: &Array<f32>) -> (f32, f32) {
    let mut most = 0.0f32;
    #[unroll]
    for i in 0..comptime!(CUBES / 32) {
        let part = parts[comptime!(32 * i) + UNIT_POS as usize % 32];
        most = select(part > most, part, most);
    }
    let most = plane_max(most);
    // The exponents of the scale and of its inverse, for which an infinite value is too large.
    let exponent = min(max((u32::reinterpret(most) >> 23) & 255, 15), 253);
    let up = min(268 - exponent, 253);
    (
        f32::reinterpret(up << 23),
        f32::reinterpret((254 - up) << 23),
    )
}
