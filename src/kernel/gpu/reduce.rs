//! Sums and maxima over the units of a cube.

use cubecl::prelude::*;

/// Cubes of a launch, and units of a cube.
pub const CUBES: usize = 256;

/// The sum, or the largest, of all values in shared memory, in its first.
#[cube]
pub fn reduce(values: &mut SharedMemory<f32>, #[comptime] largest: bool) {
    let unit = UNIT_POS as usize;
    #[unroll]
    for level in 0..8usize {
        let half = comptime!(CUBES >> (level + 1));
        if unit < half {
            let (a, b) = (values[unit], values[unit + half]);
            if comptime!(largest) {
                values[unit] = larger(a, b);
            } else {
                values[unit] = a + b;
            }
        }
        sync_cube();
    }
}

/// The larger of two numbers, NaN if one is.
#[cube]
pub fn larger(a: f32, b: f32) -> f32 {
    select(b > a || b.is_nan(), b, a)
}
