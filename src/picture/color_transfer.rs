//! Whose colours the result has: the style's, or the content's (Gatys, Bethge, Hertzmann and
//! Shechtman, "Preserving Color in Neural Artistic Style Transfer", arXiv 1606.05897).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::color_space::ColorSpace;
use super::histogram;
use super::linear_map::{self, cholesky_map, pca_map, symmetric_map};
use super::raster::Picture;
use crate::suggest;

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

    fn luminance_space(self) -> Option<ColorSpace> {
        match self {
            Self::LuminanceYuv => Some(ColorSpace::Yuv),
            Self::LuminanceLab => Some(ColorSpace::Lab),
            _ => None,
        }
    }

    /// The content picture as the run shall see it.
    pub(crate) fn preprocess_content(self, content: &Picture) -> Cow<'_, Picture> {
        match self.luminance_space() {
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
        if let Some(space) = self.luminance_space() {
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
            Self::Histogram => Cow::Owned(histogram::transfer(style, content)),
            Self::Cholesky => Cow::Owned(linear_map::transfer(style, content, cholesky_map)),
            Self::Pca => Cow::Owned(linear_map::transfer(style, content, pca_map)),
            Self::Symmetric => Cow::Owned(linear_map::transfer(style, content, symmetric_map)),
            Self::Style | Self::LuminanceYuv | Self::LuminanceLab => Cow::Borrowed(style),
        }
    }

    /// The result with the colours that it shall have.
    pub(crate) fn restore(self, result: Picture, content: &Picture) -> Picture {
        let Some(space) = self.luminance_space() else {
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
            let nearest = suggest::nearest(name, names.iter().map(String::as_str));
            let question = suggest::question(&nearest.map(str::to_string));
            format!("expected one of {}{question}", names.join(", "))
        })
    }
}

fn luminances(picture: &Picture, space: ColorSpace) -> Vec<f32> {
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
fn grey(picture: &Picture, space: ColorSpace, values: &[f32]) -> Picture {
    let rgb = values.iter().flat_map(|&value| [space.grey(value); 3]);
    picture.clone().with_rgb(rgb.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::color_space::to_lab;
    use crate::picture::test_picture::picture;

    #[test]
    fn a_flat_style_stays_finite() {
        let content = picture(17, 23, 6);
        let flat = Picture::from_rgb(4, 4, vec![0.3; 48]).unwrap();
        // Nothing to divide by, and nothing is.
        for method in ColorTransfer::ALL {
            let style = method.preprocess_style(&flat, &content);
            assert!(style.rgb.iter().all(|v| v.is_finite()), "{method}");
        }
    }

    #[test]
    fn luminance_is_the_results_and_colour_the_contents() {
        let (result, content) = (picture(12, 10, 7), picture(24, 20, 8));
        let small = content.resize(12, 10);
        for (colors, space) in [
            (ColorTransfer::LuminanceYuv, ColorSpace::Yuv),
            (ColorTransfer::LuminanceLab, ColorSpace::Lab),
        ] {
            let mixed = colors.restore(result.clone(), &content);
            for index in 0..120 {
                let at = |picture: &Picture| -> [f32; 3] {
                    picture.rgb[3 * index..3 * index + 3].try_into().unwrap()
                };
                let (found, wanted) = (space.luminance(at(&mixed)), space.luminance(at(&result)));
                assert!((found - wanted).abs() < 2e-3, "{colors}");
                let chroma = |color: [f32; 3]| match space {
                    ColorSpace::Yuv => [color[0] - color[1], color[2] - color[1]],
                    ColorSpace::Lab => [to_lab(color)[1] / 100.0, to_lab(color)[2] / 100.0],
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
