//! The land of the scene, as a height field of noise: a quay with the village
//! behind it, a near bank on the left, wooded hills and far mountains.

use crate::noise::{fbm, noise, worley};
use crate::vector::{smooth, v2};

/// The quay's line in front of the village.
pub fn quay(x: f32) -> f32 {
    84.0 + 3.0 * (x / 16.0).sin() + 0.004 * x * x
}

/// The shore of the near bank on the left.
pub fn bank(z: f32) -> f32 {
    -5.4 - 0.0045 * (z - 17.0).powi(2)
}

/// How far inland a place is, behind the quay and on the near bank. Water is
/// where both are negative.
pub fn inland(x: f32, z: f32) -> (f32, f32) {
    let rough = 1.2 * noise(v2(x / 3.0, z / 4.0));
    (z - quay(x), bank(z) - x + rough)
}

/// The height of the far mountains' crests.
const CRESTS: f32 = 560.0;

/// How far the mountains have risen at depth `z`, 0..1.
fn range(z: f32) -> f32 {
    smooth(450.0, 2100.0, z)
}

/// No land at depth `z` is higher than this; much quicker than [`land`].
pub fn ceiling(z: f32) -> f32 {
    let hill = smooth(110.0, 500.0, z) * 105.0;
    if z < 80.0 {
        2.2
    } else {
        18.0 + hill + range(z) * CRESTS
    }
}

/// The height of the land.
pub fn land(x: f32, z: f32) -> f32 {
    let (quay, bank) = inland(x, z);
    let mut h = -1.0f32;
    if bank > -1.0 {
        h = h.max(1.5 * (1.0 - (-0.35 * bank).exp()) + 0.1 * noise(v2(x, z) * 1.5));
    }
    if quay > 0.0 {
        h = h.max(1.3 + 0.15 * quay.min(60.0));
        let p = v2(x, z);
        let hill = smooth(30.0, 420.0, quay);
        if hill > 0.0 {
            h += hill * (52.0 + 62.0 * fbm(p / 190.0 + v2(0.4, 0.1), 4));
        }
        if quay > 40.0 && z < 900.0 {
            // Woods: the canopy as rounded bumps.
            h += 5.0 * smooth(40.0, 90.0, quay) * (1.0 - worley(p * 0.13));
        }
        let range = range(z);
        if range > 0.0 {
            // Crests lie where noise passes through zero.
            let q = p / 1050.0 + v2(3.05, 0.7);
            let q = q + v2(noise(q * 2.0), noise(q * 2.0 + v2(5.0, 8.0))) * 0.12;
            let crest = |f: f32| 1.0 - noise(q * f + v2(f * 7.7, 1.0)).abs();
            let ridge = 0.62 * crest(1.0).powi(2) + 0.27 * crest(2.3) + 0.12 * crest(5.1);
            h += range * (ridge * CRESTS - 90.0 + 80.0 * fbm(q * 8.0, 5));
        }
    }
    h
}
