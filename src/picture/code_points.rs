//! Colours that a file describes by numbers instead of an ICC profile.

#[cfg(feature = "jxl")]
use moxcms::{Chromaticity, ColorPrimaries};
use moxcms::{
    CicpColorPrimaries, CicpProfile, ColorProfile, LocalizableString, MatrixCoefficients,
    ProfileText, ToneReprCurve, TransferCharacteristics,
};

use super::color_profile::FileColors;

/// The light of white in HDR pictures, in cd/m² (ITU-R BT.2408).
const HDR_WHITE: f32 = 203.0;

/// Of the code points of ITU-T H.273 for primaries and transfer function, if both are known. `source`
/// says where they stand.
pub(super) fn of_code_points(primaries: u8, transfer: u8, source: &str) -> Option<FileColors> {
    let primaries = CicpColorPrimaries::try_from(primaries).ok()?;
    let transfer = TransferCharacteristics::try_from(transfer).ok()?;
    with_transfer(primaries_profile(primaries, transfer), transfer, source)
}

/// How light becomes values, where there may be no code point for it.
#[cfg(feature = "jxl")]
pub(super) enum Transfer {
    Known(TransferCharacteristics),
    /// Light is this power of a value.
    Power(f32),
}

/// The same of chromaticities.
#[cfg(feature = "jxl")]
pub(super) fn of_chromaticities(
    white: Chromaticity,
    primaries: ColorPrimaries,
    transfer: Transfer,
    source: &str,
) -> Option<FileColors> {
    let mut profile = ColorProfile::new_srgb();
    profile.update_rgb_colorimetry(white.to_xyyb(), primaries);
    match transfer {
        Transfer::Known(transfer) => {
            let curve = primaries_profile(CicpColorPrimaries::Bt709, transfer).red_trc?;
            set_curve(&mut profile, curve);
            with_transfer(profile, transfer, source)
        }
        Transfer::Power(power) => {
            set_curve(&mut profile, ToneReprCurve::Parametric(vec![power]));
            describe(&mut profile, source);
            FileColors::from_made(&profile, true)
        }
    }
}

/// Without curves if either is unknown.
fn primaries_profile(
    color_primaries: CicpColorPrimaries,
    transfer_characteristics: TransferCharacteristics,
) -> ColorProfile {
    ColorProfile::new_from_cicp(CicpProfile {
        color_primaries,
        transfer_characteristics,
        matrix_coefficients: MatrixCoefficients::Identity,
        full_range: true,
    })
}

/// Of a profile with this transfer function, but for high dynamic range, of which no profile can tell.
fn with_transfer(
    mut profile: ColorProfile,
    transfer: TransferCharacteristics,
    source: &str,
) -> Option<FileColors> {
    profile.red_trc.as_ref()?;
    describe(&mut profile, source);
    // The light of a stored value, white being 1.
    let hdr: Option<fn(f32) -> f32> = match transfer {
        TransferCharacteristics::Smpte2084 => Some(|stored| 10_000.0 * pq(stored) / HDR_WHITE),
        // On a screen of 1000 cd/m², whose system gamma is 1.2.
        TransferCharacteristics::Hlg => Some(|stored| 1_000.0 * hlg(stored).powf(1.2) / HDR_WHITE),
        _ => None,
    };
    if let Some(light) = hdr {
        let entry = |i| (light(i as f32 / 4095.0).clamp(0.0, 1.0) * 65_535.0).round() as u16;
        let table = ToneReprCurve::Lut((0..4096).map(entry).collect());
        set_curve(&mut profile, table);
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

/// Says what the profile was made from, and nothing else.
pub(super) fn describe(profile: &mut ColorProfile, source: &str) {
    profile.cicp = None;
    let text = format!("RGB as described by {source}");
    let text = LocalizableString::new("en".to_string(), "US".to_string(), text);
    profile.description = Some(ProfileText::Localizable(vec![text]));
}

pub(super) fn set_curve(profile: &mut ColorProfile, curve: ToneReprCurve) {
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
            let colors = of_code_points(9, transfer, "a test").unwrap();
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
        let colors = of_code_points(1, 13, "a test").unwrap();
        assert!(colors.to_srgb.is_identity() && colors.profile.is_some());
        // Unspecified and reserved ones say nothing.
        for (primaries, transfer) in [(2, 13), (1, 2), (0, 13), (200, 13)] {
            assert!(of_code_points(primaries, transfer, "a test").is_none());
        }
    }
}
