//! What the values of a file mean: ICC profiles, and the way to sRGB and back.

use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, ProfileClass};

use super::color_space::{linear_to_srgb, srgb_to_linear};
use super::profile_table::{ProfileTable, curve, srgb};
use super::tone_curve::ToneCurve;

/// How values become others, of colours in RGB.
#[derive(Clone)]
pub(super) enum Conversion {
    /// They stay.
    Identity,
    /// Tone curve, matrix, tone curve.
    Matrix {
        decode: Tones,
        matrix: [[f32; 3]; 3],
        encode: Tones,
    },
    /// A table of colours, to sRGB.
    FromTable(Arc<ProfileTable>),
    /// The same from sRGB.
    IntoTable(Arc<ProfileTable>),
}

/// The tone curves of red, green and blue.
#[derive(Clone)]
pub(super) enum Tones {
    Srgb,
    Curves([ToneCurve; 3]),
}

impl Tones {
    fn linear(&self, rgb: [f32; 3]) -> [f32; 3] {
        match self {
            Self::Srgb => rgb.map(srgb_to_linear),
            Self::Curves(curves) => [0, 1, 2].map(|i| curves[i].linear(rgb[i])),
        }
    }

    fn encoded(&self, light: [f32; 3]) -> [f32; 3] {
        let light = light.map(|value| value.clamp(0.0, 1.0));
        match self {
            Self::Srgb => light.map(linear_to_srgb),
            Self::Curves(curves) => [0, 1, 2].map(|i| curves[i].encoded(light[i])),
        }
    }
}

impl Conversion {
    /// Converts interleaved RGB values. What the goal cannot show is clipped to its range, channel by
    /// channel.
    pub(super) fn apply(&self, rgb: &mut [f32]) {
        match self {
            Self::Identity => {}
            Self::Matrix {
                decode,
                matrix,
                encode,
            } => {
                for pixel in rgb.as_chunks_mut::<3>().0 {
                    let [r, g, b] = decode.linear(*pixel);
                    *pixel = encode.encoded(matrix.map(|row| row[0] * r + row[1] * g + row[2] * b));
                }
            }
            Self::FromTable(table) => {
                for pixel in rgb.as_chunks_mut::<3>().0 {
                    let [r, g, b] = *pixel;
                    *pixel = table.srgb_of([r, g, b, 0.0]);
                }
            }
            Self::IntoTable(table) => {
                for pixel in rgb.as_chunks_mut::<3>().0 {
                    *pixel = table.device_of(*pixel);
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::Identity)
    }

    /// Itself, or the identity if it changes colours by less than a quarter of a step of 8 bits on
    /// average and none by two: the many profiles of sRGB differ by less, the most where a channel of a
    /// strong colour is nearly black.
    fn or_identity(self) -> Self {
        let levels = || (0..=16).map(|level| level as f32 / 16.0);
        let colors: Vec<f32> = levels()
            .flat_map(|r| levels().flat_map(move |g| levels().flat_map(move |b| [r, g, b])))
            .collect();
        let mut converted = colors.clone();
        self.apply(&mut converted);
        let differences = || colors.iter().zip(&converted).map(|(a, b)| (a - b).abs());
        let most = differences().fold(0.0, f32::max);
        let mean = differences().sum::<f32>() / colors.len() as f32;
        match most < 2.0 / 255.0 && mean < 0.25 / 255.0 {
            true => Self::Identity,
            false => self,
        }
    }
}

/// The colours of a file: how its RGB or grey values become sRGB, and the profile that a picture keeps
/// so that its result can be written in the same colours.
#[derive(Clone)]
pub(super) struct FileColors {
    pub to_srgb: Conversion,
    pub profile: Option<Vec<u8>>,
}

impl FileColors {
    /// Those of a file that says nothing about them.
    pub(super) const SRGB: Self = Self {
        to_srgb: Conversion::Identity,
        profile: None,
    };

    /// Those of a file with this ICC profile, `grey` or not. A profile that is damaged or for other
    /// channels than the file has says nothing: the values count as sRGB.
    pub(super) fn from_icc(icc: Vec<u8>, grey: bool) -> Self {
        let Some(profile) = parse(&icc) else {
            return Self::SRGB;
        };
        let to_srgb = match profile.color_space {
            DataColorSpace::Rgb => rgb_to_srgb(&profile),
            DataColorSpace::Gray if grey => grey_to_srgb(&profile),
            _ => None,
        };
        match to_srgb {
            None => Self::SRGB,
            Some(to_srgb) => {
                let is_rgb = profile.color_space == DataColorSpace::Rgb;
                let kept = is_rgb && rgb_from_srgb(&profile, to_srgb.clone()).is_some();
                Self {
                    to_srgb,
                    profile: kept.then_some(icc),
                }
            }
        }
    }

    /// Those of a profile that was made here. `keep`: it describes what is written, too.
    pub(super) fn from_made(profile: &ColorProfile, keep: bool) -> Option<Self> {
        let icc = profile.encode().ok()?;
        // Through the bytes, so that what is kept and what is used are the same.
        let colors = Self::from_icc(icc, false);
        let profile = colors.profile.filter(|_| keep);
        Some(Self { profile, ..colors })
    }
}

/// How sRGB becomes the colours of an RGB profile; `None` if the profile does not tell.
pub(super) fn from_srgb(icc: &[u8]) -> Option<Conversion> {
    let profile = parse(icc).filter(|profile| profile.color_space == DataColorSpace::Rgb)?;
    let to_srgb = rgb_to_srgb(&profile)?;
    rgb_from_srgb(&profile, to_srgb)
}

/// How amounts of cyan, magenta, yellow and black become sRGB; `None` if this is no profile for them.
pub(super) fn cmyk_to_srgb(icc: &[u8]) -> Option<ProfileTable> {
    let profile = parse(icc)?;
    let inks = profile.color_space == DataColorSpace::Cmyk;
    inks.then(|| ProfileTable::to_srgb(&profile, 4)).flatten()
}

/// The profile, if it is one that tells the colours of pictures. Where it has no table for the
/// colorimetric intent, that of another stands in (ICC.1:2022, 9.2).
fn parse(icc: &[u8]) -> Option<ColorProfile> {
    let mut profile = ColorProfile::new_from_slice(icc).ok()?;
    let known = matches!(
        profile.profile_class,
        ProfileClass::InputDevice
            | ProfileClass::DisplayDevice
            | ProfileClass::OutputDevice
            | ProfileClass::ColorSpace
    );
    let connected = matches!(profile.pcs, DataColorSpace::Xyz | DataColorSpace::Lab);
    if !known || !connected {
        return None;
    }
    let p = &mut profile;
    for (wanted, others) in [
        (
            &mut p.lut_a_to_b_colorimetric,
            [&p.lut_a_to_b_perceptual, &p.lut_a_to_b_saturation],
        ),
        (
            &mut p.lut_b_to_a_colorimetric,
            [&p.lut_b_to_a_perceptual, &p.lut_b_to_a_saturation],
        ),
    ] {
        if wanted.is_none() {
            *wanted = others.into_iter().flatten().next().cloned();
        }
    }
    Some(profile)
}

fn rgb_to_srgb(profile: &ColorProfile) -> Option<Conversion> {
    let srgb = srgb();
    let conversion = if profile.lut_a_to_b_colorimetric.is_some() {
        Conversion::FromTable(Arc::new(ProfileTable::to_srgb(profile, 3)?))
    } else {
        Conversion::Matrix {
            decode: tones(profile)?,
            matrix: matrix(profile, &srgb)?,
            encode: Tones::Srgb,
        }
    };
    Some(conversion.or_identity())
}

/// The way back from what [`rgb_to_srgb`] gave.
fn rgb_from_srgb(profile: &ColorProfile, to_srgb: Conversion) -> Option<Conversion> {
    match to_srgb {
        Conversion::Identity => Some(Conversion::Identity),
        Conversion::FromTable(_) => {
            let table = ProfileTable::from_srgb(profile)?;
            Some(Conversion::IntoTable(Arc::new(table)))
        }
        Conversion::Matrix {
            decode: Tones::Curves(curves),
            ..
        } if curves.iter().all(ToneCurve::is_invertible) => Some(Conversion::Matrix {
            decode: Tones::Srgb,
            matrix: matrix(&srgb(), profile)?,
            encode: Tones::Curves(curves),
        }),
        _ => None,
    }
}

/// Of a profile for grey, whose values stand in all three channels.
fn grey_to_srgb(profile: &ColorProfile) -> Option<Conversion> {
    let mut curve = curve(profile.gray_trc.as_ref()?)?;
    if profile.pcs == DataColorSpace::Lab {
        // A hundredth of L*, of CIE L*a*b*.
        curve = ToneCurve::new(|stored| match curve.linear(stored) {
            dark @ ..0.08 => dark * 2_700.0 / 24_389.0,
            value => ((value + 0.16) / 1.16).powi(3),
        })?;
    }
    let conversion = Conversion::Matrix {
        decode: Tones::Curves([curve.clone(), curve.clone(), curve]),
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        encode: Tones::Srgb,
    };
    Some(conversion.or_identity())
}

fn tones(profile: &ColorProfile) -> Option<Tones> {
    let curves = [&profile.red_trc, &profile.green_trc, &profile.blue_trc];
    let [Some(red), Some(green), Some(blue)] = curves.map(|of| curve(of.as_ref()?)) else {
        return None;
    };
    Some(Tones::Curves([red, green, blue]))
}

/// From the light of one matrix profile to that of another.
fn matrix(from: &ColorProfile, to: &ColorProfile) -> Option<[[f32; 3]; 3]> {
    if from.pcs != DataColorSpace::Xyz || to.pcs != DataColorSpace::Xyz {
        return None;
    }
    let matrix = from.transform_matrix(to).v.map(|row| row.map(|v| v as f32));
    let finite = matrix.iter().flatten().all(|value| value.is_finite());
    let flat = matrix.iter().flatten().all(|&value| value == 0.0);
    (finite && !flat).then_some(matrix)
}

#[cfg(test)]
mod tests {
    use moxcms::ToneReprCurve;

    use super::*;

    #[test]
    fn srgb_is_recognised() {
        let icc = ColorProfile::new_srgb().encode().unwrap();
        let colors = FileColors::from_icc(icc.clone(), false);
        assert!(colors.to_srgb.is_identity());
        assert_eq!(colors.profile, Some(icc));
        // As a table of 1024 entries, as the oldest and most common profiles of sRGB have it.
        let mut sampled = ColorProfile::new_srgb();
        let entry = |i| (srgb_to_linear(i as f32 / 1023.0) * 65_535.0).round() as u16;
        let curve = Some(ToneReprCurve::Lut((0..1024).map(entry).collect()));
        (sampled.red_trc, sampled.green_trc, sampled.blue_trc) =
            (curve.clone(), curve.clone(), curve);
        let colors = FileColors::from_icc(sampled.encode().unwrap(), false);
        assert!(colors.to_srgb.is_identity());
        // One with a plain gamma of 2.2 is another space.
        let mut plain = ColorProfile::new_srgb();
        let curve = Some(ToneReprCurve::Parametric(vec![2.2]));
        (plain.red_trc, plain.green_trc, plain.blue_trc) = (curve.clone(), curve.clone(), curve);
        let colors = FileColors::from_icc(plain.encode().unwrap(), false);
        assert!(!colors.to_srgb.is_identity());
    }

    /// By definition, not by the code above: a power of the light, in 16 bits.
    #[test]
    fn curves_are_as_fine_as_sixteen_bits() {
        let icc = ColorProfile::new_adobe_rgb().encode().unwrap();
        let to_srgb = FileColors::from_icc(icc.clone(), false).to_srgb;
        let back = from_srgb(&icc).unwrap();
        for i in (0..=65_535).step_by(17) {
            let stored = i as f32 / 65_535.0;
            let mut grey = [stored; 3];
            to_srgb.apply(&mut grey);
            let expected = linear_to_srgb(stored.powf(563.0 / 256.0));
            // Two steps of 16 bits; the white points of the two profiles differ in the sixth digit.
            assert!((grey[1] - expected).abs() < 2.0 / 65_535.0, "{stored}");
            back.apply(&mut grey);
            // The nearly black values of a power function crowd together in f32.
            assert!(
                (grey[1] - stored).abs() < 4.0 / 65_535.0,
                "{stored}: {}",
                grey[1]
            );
        }
    }

    #[test]
    fn what_cannot_be_converted_into_is_not_kept() {
        let mut grey = ColorProfile::new_gray_with_gamma(1.8);
        let colors = FileColors::from_icc(grey.encode().unwrap(), true);
        assert!(!colors.to_srgb.is_identity() && colors.profile.is_none());
        // A profile for grey beside colours says nothing.
        let colors = FileColors::from_icc(grey.encode().unwrap(), false);
        assert!(colors.to_srgb.is_identity() && colors.profile.is_none());
        grey.profile_class = ProfileClass::Abstract;
        let colors = FileColors::from_icc(grey.encode().unwrap(), true);
        assert!(colors.to_srgb.is_identity());
        // Curves that fall have no inverse; damaged profiles say nothing.
        let mut odd = ColorProfile::new_display_p3();
        odd.green_trc = Some(ToneReprCurve::Lut(vec![0, 40_000, 20_000, 65_535]));
        let icc = odd.encode().unwrap();
        let colors = FileColors::from_icc(icc.clone(), false);
        assert!(!colors.to_srgb.is_identity() && colors.profile.is_none());
        let colors = FileColors::from_icc(icc[..icc.len() / 2].to_vec(), false);
        assert!(colors.to_srgb.is_identity() && colors.profile.is_none());
    }
}
