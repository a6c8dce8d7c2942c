//! Colour spaces that separate luminance from colour.

/// A space that separates luminance from colour.
#[derive(Clone, Copy)]
pub(super) enum ColorSpace {
    Yuv,
    Lab,
}

impl ColorSpace {
    /// From 0 for black to 1 for white.
    pub(super) fn luminance(self, color: [f32; 3]) -> f32 {
        match self {
            ColorSpace::Yuv => 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2],
            ColorSpace::Lab => to_lab(color)[0] / 100.0,
        }
    }

    /// Grey of this luminance.
    pub(super) fn grey(self, luminance: f32) -> f32 {
        match self {
            ColorSpace::Yuv => luminance,
            ColorSpace::Lab => from_lab([100.0 * luminance, 0.0, 0.0])[1],
        }
    }

    /// A colour with another luminance.
    pub(super) fn with_luminance(self, color: [f32; 3], luminance: f32) -> [f32; 3] {
        match self {
            // U and V are differences: they stay where all channels change alike.
            ColorSpace::Yuv => color.map(|value| value + luminance - self.luminance(color)),
            ColorSpace::Lab => {
                let [_, a, b] = to_lab(color);
                from_lab([100.0 * luminance, a, b])
            }
        }
    }
}

/// The white point D65.
const WHITE: [f32; 3] = [0.95047, 1.0, 1.08883];
/// Where Lab's cube root gives way to a line, (6/29)³, and the slope of that line.
const DARK: f32 = 0.008_856_452;
const SLOPE: f32 = 7.787_037;

/// CIE L\*a\*b\* of an sRGB colour (IEC 61966-2-1).
pub(super) fn to_lab(color: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = color.map(srgb_to_linear);
    let xyz = [
        0.412_456_4 * r + 0.357_576_1 * g + 0.180_437_5 * b,
        0.212_672_9 * r + 0.715_152_2 * g + 0.072_175 * b,
        0.019_333_9 * r + 0.119_192 * g + 0.950_304_1 * b,
    ];
    let root = |value: f32| match value > DARK {
        true => value.cbrt(),
        false => SLOPE * value + 16.0 / 116.0,
    };
    let [x, y, z] = [0, 1, 2].map(|axis| root(xyz[axis] / WHITE[axis]));
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

/// The sRGB colour; outside `[0, 1]` where no screen can show it.
fn from_lab([lightness, a, b]: [f32; 3]) -> [f32; 3] {
    let y = (lightness + 16.0) / 116.0;
    let cube = |value: f32| match value.powi(3) > DARK {
        true => value.powi(3),
        false => (value - 16.0 / 116.0) / SLOPE,
    };
    let x = WHITE[0] * cube(y + a / 500.0);
    let z = WHITE[2] * cube(y - b / 200.0);
    let y = WHITE[1] * cube(y);
    let linear = [
        3.240_454_2 * x - 1.537_138_5 * y - 0.498_531_4 * z,
        -0.969_266 * x + 1.876_010_8 * y + 0.041_556 * z,
        0.055_643_4 * x - 0.204_025_9 * y + 1.057_225_2 * z,
    ];
    linear.map(linear_to_srgb)
}

/// The amount of light of a stored value of sRGB (IEC 61966-2-1).
pub(super) fn srgb_to_linear(stored: f32) -> f32 {
    match stored <= 0.040_45 {
        true => stored / 12.92,
        false => ((stored + 0.055) / 1.055).powf(2.4),
    }
}

/// The stored value of sRGB of an amount of light.
pub(super) fn linear_to_srgb(light: f32) -> f32 {
    match light <= 0.003_130_8 {
        true => 12.92 * light,
        false => 1.055 * light.powf(1.0 / 2.4) - 0.055,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lab_goes_there_and_back(r in 0f32..1.0, g in 0f32..1.0, b in 0f32..1.0) {
            let back = from_lab(to_lab([r, g, b]));
            for (found, expected) in back.into_iter().zip([r, g, b]) {
                prop_assert!((found - expected).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn lab_of_known_colours() {
        for (color, expected) in [
            ([1.0, 1.0, 1.0], [100.0, 0.0, 0.0]),
            ([1.0, 0.0, 0.0], [53.24, 80.09, 67.20]),
            ([0.0, 0.0, 1.0], [32.30, 79.19, -107.86]),
            ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ] {
            for (found, expected) in to_lab(color).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 0.05,
                    "{color:?}: {found}, {expected}"
                );
            }
        }
    }
}
