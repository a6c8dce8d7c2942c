//! What a PNG's chunks say about its colours.

use std::io::{BufRead, Seek};

use moxcms::{Chromaticity, ColorPrimaries, ColorProfile, ToneReprCurve};
use png::{Info, ScaledFloat};

use super::code_points::{describe, of_code_points, set_curve};
use super::color_profile::FileColors;

/// The colours of a PNG. The first of these that it has counts (PNG, third edition, 4.3): cICP, iCCP,
/// sRGB, gAMA with cHRM.
pub(super) fn file_colors(file: impl BufRead + Seek, max_alloc: u64) -> FileColors {
    let bytes = usize::try_from(max_alloc).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(file, png::Limits { bytes });
    decoder.set_ignore_text_chunk(true);
    // What is wrong with the file is told when its pixels are read.
    match decoder.read_info() {
        Ok(reader) => colors_of(reader.info()).unwrap_or(FileColors::SRGB),
        Err(_) => FileColors::SRGB,
    }
}

fn colors_of(info: &Info) -> Option<FileColors> {
    use png::ColorType::{Grayscale, GrayscaleAlpha};
    if let Some(points) = info.coding_independent_code_points
        && let Some(colors) = of_code_points(
            points.color_primaries,
            points.transfer_function,
            "a PNG's cICP",
        )
        && points.is_video_full_range_image
    {
        return Some(colors);
    }
    if let Some(icc) = &info.icc_profile {
        let grey = matches!(info.color_type, Grayscale | GrayscaleAlpha);
        return Some(FileColors::from_icc(icc.to_vec(), grey));
    }
    if info.srgb.is_some() {
        return None;
    }
    of_gamma(info)
}

/// Of gAMA and cHRM, either of which may be missing: then sRGB's stands in.
fn of_gamma(info: &Info) -> Option<FileColors> {
    let gamma = info.gama_chunk.map(value);
    if (gamma.is_none() && info.chrm_chunk.is_none()) || gamma.is_some_and(|gamma| gamma <= 0.0) {
        return None;
    }
    let mut profile = ColorProfile::new_srgb();
    describe(&mut profile, "a PNG's gAMA and cHRM");
    if let Some(points) = info.chrm_chunk {
        let at = |(x, y): (ScaledFloat, ScaledFloat)| Chromaticity {
            x: value(x),
            y: value(y),
        };
        let primaries = ColorPrimaries {
            red: at(points.red),
            green: at(points.green),
            blue: at(points.blue),
        };
        profile.update_rgb_colorimetry(at(points.white).to_xyyb(), primaries);
    }
    // 1/2.2 is how PNG writes the curve of sRGB (11.3.2.5), and 5 % of it no difference to libpng.
    if let Some(gamma) = gamma.filter(|gamma| (gamma * 2.2 - 1.0).abs() > 0.05) {
        set_curve(&mut profile, ToneReprCurve::Parametric(vec![1.0 / gamma]));
    }
    FileColors::from_made(&profile, true)
}

fn value(scaled: ScaledFloat) -> f32 {
    scaled.into_scaled() as f32 / ScaledFloat::SCALING
}
