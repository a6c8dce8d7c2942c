//! What a PNG's chunks say about its colours.

use std::io::{BufRead, Seek};

use moxcms::{
    Chromaticity, CicpColorPrimaries, CicpProfile, ColorPrimaries, ColorProfile, LocalizableString,
    MatrixCoefficients, ProfileText, ToneReprCurve, TransferCharacteristics,
};
use png::{Info, ScaledFloat};

use super::color_profile::FileColors;

/// The light of white in HDR pictures, in cd/m² (ITU-R BT.2408).
const HDR_WHITE: f32 = 203.0;

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
        && let Some(colors) = of_code_points(points.color_primaries, points.transfer_function)
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
    describe(&mut profile, "gAMA and cHRM");
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

/// Of cICP: numbers of ITU-T H.273.
fn of_code_points(primaries: u8, transfer: u8) -> Option<FileColors> {
    let primaries = CicpColorPrimaries::try_from(primaries).ok()?;
    let transfer = TransferCharacteristics::try_from(transfer).ok()?;
    let mut profile = ColorProfile::new_from_cicp(CicpProfile {
        color_primaries: primaries,
        transfer_characteristics: transfer,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    });
    // None if either is unknown.
    profile.red_trc.as_ref()?;
    describe(&mut profile, "cICP");
    // The light of a stored value, white being 1.
    let hdr: Option<fn(f32) -> f32> = match transfer {
        TransferCharacteristics::Smpte2084 => Some(|stored| 10_000.0 * pq(stored) / HDR_WHITE),
        // On a screen of 1000 cd/m², whose system gamma is 1.2.
        TransferCharacteristics::Hlg => Some(|stored| 1_000.0 * hlg(stored).powf(1.2) / HDR_WHITE),
        _ => None,
    };
    if let Some(light) = hdr {
        let entry = |i| (light(i as f32 / 4095.0).clamp(0.0, 1.0) * 65_535.0).round() as u16;
        set_curve(
            &mut profile,
            ToneReprCurve::Lut((0..4096).map(entry).collect()),
        );
    }
    // What is written has no highlights beyond white.
    FileColors::from_made(&profile, hdr.is_none())
}

/// A part of 10,000 cd/m² (SMPTE ST 2084).
fn pq(stored: f32) -> f32 {
    let [m1, m2, c1, c2, c3] = [0.159_301_76, 78.843_75, 0.835_937_5, 18.851_563, 18.687_5];
    let root = stored.powf(1.0 / m2);
    ((root - c1).max(0.0) / (c2 - c3 * root)).powf(1.0 / m1)
}

/// A part of the light of the scene (ITU-R BT.2100).
fn hlg(stored: f32) -> f32 {
    let [a, b, c] = [0.178_832_77, 0.284_668_92, 0.559_910_7];
    match stored {
        ..=0.5 => stored * stored / 3.0,
        _ => (((stored - c) / a).exp() + b) / 12.0,
    }
}

/// Says that the profile was made from such chunks, and of nothing else.
fn describe(profile: &mut ColorProfile, chunks: &str) {
    profile.cicp = None;
    let text = format!("RGB as a PNG's {chunks} describe it");
    let text = LocalizableString::new("en".to_string(), "US".to_string(), text);
    profile.description = Some(ProfileText::Localizable(vec![text]));
}

fn set_curve(profile: &mut ColorProfile, curve: ToneReprCurve) {
    profile.red_trc = Some(curve.clone());
    profile.green_trc = Some(curve.clone());
    profile.blue_trc = Some(curve);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(colors: &FileColors, mut rgb: [f32; 3]) -> [f32; 3] {
        colors.to_srgb.apply(&mut rgb);
        rgb
    }

    #[test]
    fn high_dynamic_range_has_its_white_at_203() {
        // The stored values of 203 cd/m² (ITU-R BT.2408, table 1).
        for (transfer, white) in [(16, 0.58), (18, 0.75)] {
            let colors = of_code_points(9, transfer).unwrap();
            for value in converted(&colors, [white; 3]) {
                assert!((value - 1.0).abs() < 0.01, "{transfer}: {value}");
            }
            assert!(converted(&colors, [white - 0.1; 3])[1] < 0.9);
            assert_eq!(converted(&colors, [0.0; 3]), [0.0; 3]);
            assert!(colors.profile.is_none());
        }
    }

    #[test]
    fn code_points_of_srgb_change_nothing() {
        let colors = of_code_points(1, 13).unwrap();
        assert!(colors.to_srgb.is_identity() && colors.profile.is_some());
        // Unspecified and reserved ones say nothing.
        for (primaries, transfer) in [(2, 13), (1, 2), (0, 13), (200, 13)] {
            assert!(of_code_points(primaries, transfer).is_none());
        }
    }
}
