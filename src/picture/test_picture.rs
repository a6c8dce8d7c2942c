//! Pictures for tests.

use super::Picture;

/// Correlated colours within the range, different for each seed.
pub(super) fn picture(width: usize, height: usize, seed: u64) -> Picture {
    let mut state = seed.wrapping_mul(2) + 1;
    let mut draw = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let weights: [f32; 9] = std::array::from_fn(|_| 0.15 * draw());
    let rgb = (0..width * height).flat_map(|_| {
        // An independent part, so that no axis is without spread.
        let (x, y) = ([draw(), draw(), draw()], [draw(), draw(), draw()]);
        std::array::from_fn::<f32, 3, _>(|i| {
            0.45 + 0.1 * y[i] + (0..3).map(|j| weights[3 * i + j] * x[j]).sum::<f32>()
        })
    });
    Picture::from_rgb(width, height, rgb.collect()).unwrap()
}
