//! Whose colours the result has: the style's, or the content's (Gatys, Bethge, Hertzmann and
//! Shechtman, "Preserving Color in Neural Artistic Style Transfer", arXiv 1606.05897).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Picture;

/// How the colours of the result come about.
///
/// ```
/// use impasto::picture::ColorTransfer;
///
/// let colors: ColorTransfer = "luminance-lab".parse().unwrap();
/// assert_eq!(colors, ColorTransfer::LuminanceLab);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColorTransfer {
    /// The style's, as they come.
    #[default]
    Style,
    /// The content's: only the luminance Y of YUV (BT.601) is painted, on grey pictures, the style's
    /// brought to mean and deviation of the content's; the colour differences U and V are the
    /// content's. Keeps every colour in its place; brush strokes differ in brightness only.
    LuminanceYuv,
    /// The same with the lightness L of CIE L\*a\*b\* (D65): even where colours are strong, no
    /// change of lightness changes their hue.
    LuminanceLab,
    /// The style picture is recoloured before the run, `L_c · L_s⁻¹ · (x − μ_s) + μ_c` for the
    /// Cholesky factors L of the covariances of content and style. Strokes keep their colour
    /// contrasts, in the content's palette; of the linear maps this one may change hues most.
    Cholesky,
    /// The same with `Σ_c^½ · Σ_s^-½`, square roots along the principal axes.
    Pca,
    /// The same with `Σ_s^-½ (Σ_s^½ Σ_c Σ_s^½)^½ Σ_s^-½`, the optimal transport between Gaussians:
    /// the linear map that moves colours least (Monge-Kantorovich; Pitié and Kokaram 2007).
    Symmetric,
    /// The same channel by channel with the whole histogram.
    Histogram,
}

impl ColorTransfer {
    /// All choices.
    pub const ALL: [Self; 7] = [
        Self::Style,
        Self::LuminanceYuv,
        Self::LuminanceLab,
        Self::Cholesky,
        Self::Pca,
        Self::Symmetric,
        Self::Histogram,
    ];

    fn luminance(self) -> Option<Space> {
        match self {
            Self::LuminanceYuv => Some(Space::Yuv),
            Self::LuminanceLab => Some(Space::Lab),
            _ => None,
        }
    }

    /// The content picture as the run shall see it.
    pub(crate) fn preprocess_content(self, content: &Picture) -> Cow<'_, Picture> {
        match self.luminance() {
            None => Cow::Borrowed(content),
            Some(space) => Cow::Owned(grey(content, space, &luminances(content, space))),
        }
    }

    /// The style picture as the run shall see it.
    pub(crate) fn preprocess_style<'a>(
        self,
        style: &'a Picture,
        content: &Picture,
    ) -> Cow<'a, Picture> {
        if let Some(space) = self.luminance() {
            let (mut values, wanted) = (luminances(style, space), luminances(content, space));
            let ([mean, deviation], [new_mean, new_deviation]) =
                (moments(&values), moments(&wanted));
            let scale = new_deviation / deviation.max(1e-6);
            for value in &mut values {
                *value = (*value - mean) * scale + new_mean;
            }
            return Cow::Owned(grey(style, space, &values));
        }
        match self {
            Self::Histogram => Cow::Owned(match_histogram(style, content)),
            Self::Cholesky | Self::Pca | Self::Symmetric => {
                Cow::Owned(match_linearly(style, content, self))
            }
            _ => Cow::Borrowed(style),
        }
    }

    /// The result with the colours that it shall have.
    pub(crate) fn restore(self, result: Picture, content: &Picture) -> Picture {
        let Some(space) = self.luminance() else {
            return result;
        };
        let content = content.resize(result.width, result.height);
        let wanted = luminances(&result, space);
        let pixels = content.rgb.as_chunks::<3>().0.iter().zip(wanted);
        let rgb = pixels.flat_map(|(&color, luminance)| space.with_luminance(color, luminance));
        result.with_rgb(rgb.collect())
    }
}

impl fmt::Display for ColorTransfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Style => "style",
            Self::LuminanceYuv => "luminance-yuv",
            Self::LuminanceLab => "luminance-lab",
            Self::Cholesky => "cholesky",
            Self::Pca => "pca",
            Self::Symmetric => "symmetric",
            Self::Histogram => "histogram",
        })
    }
}

impl FromStr for ColorTransfer {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL
            .into_iter()
            .find(|colors| colors.to_string() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(|colors| colors.to_string());
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// A space that separates luminance from colour.
#[derive(Clone, Copy)]
enum Space {
    Yuv,
    Lab,
}

impl Space {
    /// From 0 for black to 1 for white.
    fn luminance(self, color: [f32; 3]) -> f32 {
        match self {
            Space::Yuv => 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2],
            Space::Lab => to_lab(color)[0] / 100.0,
        }
    }

    /// Grey of this luminance.
    fn grey(self, luminance: f32) -> f32 {
        match self {
            Space::Yuv => luminance,
            Space::Lab => from_lab([100.0 * luminance, 0.0, 0.0])[1],
        }
    }

    /// A colour with another luminance.
    fn with_luminance(self, color: [f32; 3], luminance: f32) -> [f32; 3] {
        match self {
            // U and V are differences: they stay where all channels change alike.
            Space::Yuv => color.map(|value| value + luminance - self.luminance(color)),
            Space::Lab => {
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
fn to_lab(color: [f32; 3]) -> [f32; 3] {
    let [r, g, b] = color.map(|value| match value <= 0.040_45 {
        true => value / 12.92,
        false => ((value + 0.055) / 1.055).powf(2.4),
    });
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
    linear.map(|value| match value <= 0.003_130_8 {
        true => 12.92 * value,
        false => 1.055 * value.powf(1.0 / 2.4) - 0.055,
    })
}

fn luminances(picture: &Picture, space: Space) -> Vec<f32> {
    let pixels = picture.rgb.as_chunks::<3>().0.iter();
    pixels.map(|&color| space.luminance(color)).collect()
}

fn moments(values: &[f32]) -> [f32; 2] {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let square = |&value: &f32| (f64::from(value) - mean).powi(2);
    let variance = values.iter().map(square).sum::<f64>() / count;
    [mean as f32, variance.sqrt() as f32]
}

/// A grey picture of these luminances, with all else of `picture`.
fn grey(picture: &Picture, space: Space, values: &[f32]) -> Picture {
    let rgb = values.iter().flat_map(|&value| [space.grey(value); 3]);
    picture.clone().with_rgb(rgb.collect())
}

type Matrix = [[f64; 3]; 3];

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| (0..3).map(|k| a[i][k] * b[k][j]).sum()))
}

/// Mean and covariance of the colours.
fn gaussian(picture: &Picture) -> ([f64; 3], Matrix) {
    let pixels = || {
        picture
            .rgb
            .as_chunks::<3>()
            .0
            .iter()
            .map(|color| color.map(f64::from))
    };
    let count = (picture.width * picture.height) as f64;
    let mut mean = [0.0; 3];
    for color in pixels() {
        for (sum, value) in mean.iter_mut().zip(color) {
            *sum += value / count;
        }
    }
    let mut covariance = [[0.0; 3]; 3];
    for color in pixels() {
        let centred: [f64; 3] = std::array::from_fn(|axis| color[axis] - mean[axis]);
        for i in 0..3 {
            for j in 0..3 {
                covariance[i][j] += centred[i] * centred[j] / count;
            }
        }
    }
    // A picture of few colours has no spread along some axis, by which nothing can be divided.
    for (axis, row) in covariance.iter_mut().enumerate() {
        row[axis] += 1e-6;
    }
    (mean, covariance)
}

/// The lower triangular L with L·Lᵀ = `matrix`.
fn cholesky(matrix: &Matrix) -> Matrix {
    let mut factor = [[0.0; 3]; 3];
    for i in 0..3 {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            factor[i][j] = match i == j {
                true => (matrix[i][i] - known).max(1e-12).sqrt(),
                false => (matrix[i][j] - known) / factor[j][j],
            };
        }
    }
    factor
}

/// The inverse of a lower triangular matrix.
fn inverse_of_lower(factor: &Matrix) -> Matrix {
    let mut inverse = [[0.0; 3]; 3];
    for j in 0..3 {
        inverse[j][j] = 1.0 / factor[j][j];
        for i in j + 1..3 {
            let known: f64 = (j..i).map(|k| factor[i][k] * inverse[k][j]).sum();
            inverse[i][j] = -known / factor[i][i];
        }
    }
    inverse
}

/// A power of a symmetric positive matrix, by Jacobi's rotations.
fn power(matrix: &Matrix, exponent: f64) -> Matrix {
    let mut diagonal = *matrix;
    let mut vectors: Matrix = std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
    for _ in 0..16 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if diagonal[p][q].abs() < 1e-18 {
                continue;
            }
            let angle = 0.5 * (2.0 * diagonal[p][q]).atan2(diagonal[q][q] - diagonal[p][p]);
            let (sine, cosine) = angle.sin_cos();
            let mut rotation: Matrix =
                std::array::from_fn(|i| std::array::from_fn(|j| f64::from(i == j)));
            rotation[p][p] = cosine;
            rotation[q][q] = cosine;
            rotation[p][q] = sine;
            rotation[q][p] = -sine;
            let transposed = transpose(&rotation);
            diagonal = product(&product(&transposed, &diagonal), &rotation);
            vectors = product(&vectors, &rotation);
        }
    }
    let scaled: Matrix = std::array::from_fn(|i| {
        std::array::from_fn(|j| vectors[i][j] * diagonal[j][j].max(1e-12).powf(exponent))
    });
    product(&scaled, &transpose(&vectors))
}

fn transpose(matrix: &Matrix) -> Matrix {
    std::array::from_fn(|i| std::array::from_fn(|j| matrix[j][i]))
}

/// The linear map after which colours of covariance `from` have the covariance `to`.
fn linear_map(from: &Matrix, to: &Matrix, method: ColorTransfer) -> Matrix {
    match method {
        ColorTransfer::Cholesky => product(&cholesky(to), &inverse_of_lower(&cholesky(from))),
        ColorTransfer::Pca => product(&power(to, 0.5), &power(from, -0.5)),
        _ => {
            let (root, inverse) = (power(from, 0.5), power(from, -0.5));
            let middle = power(&product(&product(&root, to), &root), 0.5);
            product(&product(&inverse, &middle), &inverse)
        }
    }
}

fn match_linearly(style: &Picture, content: &Picture, method: ColorTransfer) -> Picture {
    let ((from, spread), (to, wanted)) = (gaussian(style), gaussian(content));
    let map = linear_map(&spread, &wanted, method);
    let recolored = style.rgb.as_chunks::<3>().0.iter().flat_map(|color| {
        let centred: [f64; 3] = std::array::from_fn(|axis| f64::from(color[axis]) - from[axis]);
        std::array::from_fn::<f32, 3, _>(|i| {
            let mapped: f64 = (0..3).map(|j| map[i][j] * centred[j]).sum();
            (mapped + to[i]) as f32
        })
    });
    style.clone().with_rgb(recolored.collect())
}

fn match_histogram(style: &Picture, content: &Picture) -> Picture {
    let mut rgb = style.rgb.to_vec();
    let sorted = |picture: &Picture, channel: usize| {
        let values = picture.rgb.iter().skip(channel).step_by(3).copied();
        let mut values: Vec<f32> = values.collect();
        values.sort_by(f32::total_cmp);
        values
    };
    for channel in 0..3 {
        let (from, to) = (sorted(style, channel), sorted(content, channel));
        for value in rgb.iter_mut().skip(channel).step_by(3) {
            // The middle of all equal values, so that these stay equal.
            let below = from.partition_point(|other| other < value);
            let through = from.partition_point(|other| other <= value);
            let quantile = (below + through) as f64 / (2 * from.len()) as f64;
            let place = (quantile * to.len() as f64 - 0.5).clamp(0.0, (to.len() - 1) as f64);
            let (low, high) = (to[place.floor() as usize], to[place.ceil() as usize]);
            *value = low + (high - low) * place.fract() as f32;
        }
    }
    style.clone().with_rgb(rgb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Correlated colours within the range, different for each seed.
    fn picture(width: usize, height: usize, seed: u64) -> Picture {
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

    proptest! {
        #[test]
        fn linear_maps_give_the_contents_mean_and_covariance(seed in 0u64..1000) {
            let (style, content) = (picture(40, 30, seed), picture(25, 31, seed + 1000));
            let (mean, covariance) = gaussian(&content);
            for method in [ColorTransfer::Cholesky, ColorTransfer::Pca, ColorTransfer::Symmetric] {
                let recolored = method.preprocess_style(&style, &content);
                let (found_mean, found) = gaussian(&recolored);
                for i in 0..3 {
                    prop_assert!((found_mean[i] - mean[i]).abs() < 1e-4, "{method}");
                    for j in 0..3 {
                        prop_assert!((found[i][j] - covariance[i][j]).abs() < 2e-5, "{method}");
                    }
                }
            }
        }

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

    #[test]
    fn symmetric_moves_least_and_cholesky_is_triangular() {
        let (from, to) = (
            gaussian(&picture(50, 50, 3)).1,
            gaussian(&picture(50, 50, 4)).1,
        );
        let maps = [
            ColorTransfer::Cholesky,
            ColorTransfer::Pca,
            ColorTransfer::Symmetric,
        ]
        .map(|method| linear_map(&from, &to, method));
        assert_eq!([maps[0][0][1], maps[0][0][2], maps[0][1][2]], [0.0; 3]);
        for (i, j) in [(0, 1), (0, 2), (1, 2)] {
            assert!((maps[2][i][j] - maps[2][j][i]).abs() < 1e-9);
        }
        // E|Ax - x|² = tr((A - I) Σ (A - I)ᵀ)
        let moved = maps.map(|mut map| {
            (0..3).for_each(|i| map[i][i] -= 1.0);
            let spread = product(&product(&map, &from), &transpose(&map));
            spread[0][0] + spread[1][1] + spread[2][2]
        });
        assert!(moved[2] <= moved[0] && moved[2] <= moved[1], "{moved:?}");
    }

    #[test]
    fn histograms_match_and_equal_values_stay_equal() {
        let (style, content) = (picture(30, 20, 5), picture(17, 23, 6));
        let matched = ColorTransfer::Histogram.preprocess_style(&style, &content);
        for channel in 0..3 {
            let sorted = |picture: &Picture| {
                let mut values: Vec<f32> = picture
                    .rgb
                    .iter()
                    .skip(channel)
                    .step_by(3)
                    .copied()
                    .collect();
                values.sort_by(f32::total_cmp);
                values
            };
            let (found, wanted) = (sorted(&matched), sorted(&content));
            for tenth in 0..=10 {
                let at = |values: &[f32]| values[tenth * (values.len() - 1) / 10];
                assert!((at(&found) - at(&wanted)).abs() < 0.02);
            }
        }
        let flat = Picture::from_rgb(4, 4, vec![0.3; 48]).unwrap();
        let matched = ColorTransfer::Histogram.preprocess_style(&flat, &content);
        assert!(
            matched
                .rgb
                .as_chunks::<3>()
                .0
                .iter()
                .all(|color| *color == matched.rgb[..3])
        );
        // Nothing to divide by, and nothing is.
        for method in ColorTransfer::ALL {
            assert!(
                method
                    .preprocess_style(&flat, &content)
                    .rgb
                    .iter()
                    .all(|v| v.is_finite())
            );
        }
    }

    #[test]
    fn luminance_is_the_results_and_colour_the_contents() {
        let (result, content) = (picture(12, 10, 7), picture(24, 20, 8));
        let small = content.resize(12, 10);
        for (colors, space) in [
            (ColorTransfer::LuminanceYuv, Space::Yuv),
            (ColorTransfer::LuminanceLab, Space::Lab),
        ] {
            let mixed = colors.restore(result.clone(), &content);
            for index in 0..120 {
                let at = |picture: &Picture| -> [f32; 3] {
                    picture.rgb[3 * index..3 * index + 3].try_into().unwrap()
                };
                let (found, wanted) = (space.luminance(at(&mixed)), space.luminance(at(&result)));
                assert!((found - wanted).abs() < 2e-3, "{colors}");
                let chroma = |color: [f32; 3]| match space {
                    Space::Yuv => [color[0] - color[1], color[2] - color[1]],
                    Space::Lab => [to_lab(color)[1] / 100.0, to_lab(color)[2] / 100.0],
                };
                for (found, wanted) in chroma(at(&mixed)).into_iter().zip(chroma(at(&small))) {
                    assert!((found - wanted).abs() < 5e-3, "{colors}");
                }
            }
            // The run itself sees grey, the style's of the content's mean and deviation.
            let style = colors.preprocess_style(&result, &content);
            assert!(
                style
                    .rgb
                    .as_chunks::<3>()
                    .0
                    .iter()
                    .all(|c| c[0] == c[1] && c[1] == c[2])
            );
            let grey = colors.preprocess_content(&content);
            let [mean, deviation] = moments(&luminances(&style, space));
            let [wanted_mean, wanted_deviation] = moments(&luminances(&grey, space));
            assert!(
                (mean - wanted_mean).abs() < 1e-3 && (deviation - wanted_deviation).abs() < 1e-3
            );
        }
    }
}
