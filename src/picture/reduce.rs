//! Reading pictures that are larger than what is needed of them.

use std::io::{BufRead, Cursor, Seek};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use image::DynamicImage;

use super::error::PictureError;
use super::header::{Attributes, Meaning, read_header};
use super::input::{CONVERTED, Limits, open_file};
use super::raster::Picture;
use super::resize::resample_rows;
use super::samples::depth_of;

/// How many times the decoded samples are counted: a decoder may keep as much beside them, and a
/// progressive JPEG twice as much.
const DECODER_COPIES: u64 = 3;

/// Pixels that are converted to f32 and made narrower at once: many rows, each of which would cost a table
/// of the filter's factors.
const AT_ONCE: u32 = 1 << 20;

/// Pixels of the result, on either side, that the filter of [`Picture::resize`] reaches.
const SUPPORT: f64 = 3.0;

/// A picture of at most as many pixels is kept at its size, whatever is needed of it.
const KEPT: u64 = 16 << 20;

impl Limits {
    /// Bounds on a picture that [`Picture::open_reduced`] reduces: 256 × 2²⁰ pixels (such as
    /// 16384×16384, or A4 at 1200 dots an inch with room to spare) and 3 GiB for the samples as
    /// stored, which are counted three times for what the decoder keeps beside them. A pixel of 8-bit
    /// RGB takes 3 bytes, one of 16-bit RGBA 8. Where addresses have 32 bits, 1 GiB.
    pub const REDUCED: Self = Self {
        pixels: 256 << 20,
        bytes: if cfg!(target_pointer_width = "32") {
            1 << 30
        } else {
            3 << 30
        },
    };
}

impl Picture {
    /// Reads a picture of which no more than `longest_side` pixels along the longest side are
    /// needed. One of at most 16 × 2²⁰ pixels, or within [`Limits::default`] and no larger than needed, is
    /// read exactly as by [`Picture::open`]; a larger one, up to [`Limits::REDUCED`], is decoded in the depth
    /// that its file has and reduced until its longest side is `longest_side`: as [`Picture::resize`] would
    /// do it, but some rows at a time, so that it never takes the memory of a whole picture of f32.
    ///
    /// # Errors
    /// Those of [`Picture::open`]; [`PictureError::TooLarge`] also if what is left would exceed
    /// [`Limits::default`].
    pub fn open_reduced(path: impl AsRef<Path>, longest_side: usize) -> Result<Self, PictureError> {
        Self::open_reduced_with(path, longest_side, Limits::default(), Limits::REDUCED)
    }

    /// [`Picture::open_reduced`] with other bounds: `whole` for a picture that is kept at its size,
    /// `reduced` for one that is reduced.
    ///
    /// # Errors
    /// See [`Picture::open_reduced`].
    pub fn open_reduced_with(
        path: impl AsRef<Path>,
        longest_side: usize,
        whole: Limits,
        reduced: Limits,
    ) -> Result<Self, PictureError> {
        let (path, meaning) = (path.as_ref(), Meaning::Colors);
        decode_reduced(
            open_file(path)?,
            path,
            longest_side,
            [whole, reduced],
            meaning,
        )
    }

    /// [`Picture::open_reduced`] for the bytes of a file that is in memory; errors name it as `name`.
    ///
    /// # Errors
    /// See [`Picture::open_reduced`].
    pub fn reduced_from_bytes(
        bytes: &[u8],
        name: impl AsRef<Path>,
        longest_side: usize,
    ) -> Result<Self, PictureError> {
        let limits = [Limits::default(), Limits::REDUCED];
        let (file, name) = (Cursor::new(bytes), name.as_ref());
        decode_reduced(file, name, longest_side, limits, Meaning::Colors)
    }

    /// [`Picture::open_mask`] for the bytes of a file that is in memory; errors name it as `name`.
    ///
    /// # Errors
    /// See [`Picture::open_mask`].
    pub fn mask_from_bytes(
        bytes: &[u8],
        name: impl AsRef<Path>,
        longest_side: usize,
    ) -> Result<Self, PictureError> {
        let limits = [Limits::default(), Limits::REDUCED];
        let (file, name) = (Cursor::new(bytes), name.as_ref());
        decode_reduced(file, name, longest_side, limits, Meaning::Data)
    }

    /// [`Picture::open_reduced`] for a mask or a map of regions: its values are data, not colours, and
    /// stay as they are in the file, whatever colour profile that has.
    ///
    /// # Errors
    /// Those of [`Picture::open_reduced`].
    pub fn open_mask(path: impl AsRef<Path>, longest_side: usize) -> Result<Self, PictureError> {
        Self::open_mask_with(path, longest_side, Limits::default(), Limits::REDUCED)
    }

    /// [`Picture::open_mask`] with other bounds, as for [`Picture::open_reduced_with`].
    ///
    /// # Errors
    /// See [`Picture::open_mask`].
    pub fn open_mask_with(
        path: impl AsRef<Path>,
        longest_side: usize,
        whole: Limits,
        reduced: Limits,
    ) -> Result<Self, PictureError> {
        let (path, limits) = (path.as_ref(), [whole, reduced]);
        decode_reduced(open_file(path)?, path, longest_side, limits, Meaning::Data)
    }
}

/// Decodes a picture and reduces it if need be, within bounds for whole and for reduced ones; `path` is
/// for messages.
pub(super) fn decode_reduced<'a>(
    file: impl BufRead + Seek + 'a,
    path: &'a Path,
    longest_side: usize,
    [whole, reduced]: [Limits; 2],
    meaning: Meaning,
) -> Result<Picture, PictureError> {
    let header = read_header(file, path, whole.bytes.max(reduced.bytes), meaning)?;
    let longest = header.width.max(header.height) as usize;
    if header.fits(whole) && (header.pixels() <= KEPT || longest <= longest_side) {
        let (image, attributes) = header.decode()?;
        return attributes.into_picture(image);
    }
    let (width, height) = reduced_size(header.width, header.height, longest_side);
    let pixels = u64::from(width) * u64::from(height);
    let most = whole.pixels.min(whole.bytes / (CONVERTED + 8));
    if pixels > most {
        return Err(header.too_large(most));
    }
    let samples = header.sample_bytes().saturating_mul(DECODER_COPIES);
    let result = pixels.saturating_mul(CONVERTED);
    if header.pixels() > reduced.pixels || samples.saturating_add(result) > reduced.bytes {
        let of_pixel = DECODER_COPIES * header.sample_bytes().div_ceil(header.pixels().max(1));
        let most = reduced.bytes.saturating_sub(result) / of_pixel.max(1);
        return Err(header.too_large(reduced.pixels.min(most)));
    }
    let (image, attributes) = header.decode()?;
    reduce(image, attributes, longest_side, whole.pixels / 4)
}

/// The size with this longest side, or the size itself if it is no larger.
fn reduced_size(width: u32, height: u32, longest_side: usize) -> (u32, u32) {
    let longest = u64::from(width.max(height).max(1));
    let wanted = (longest_side as u64).clamp(1, longest);
    let scale = |side: u32| ((u64::from(side) * wanted + longest / 2) / longest).max(1) as u32;
    (scale(width), scale(height))
}

/// The picture at a smaller size. No more than about `band_pixels` of it are there as f32 at a time.
///
/// The filter is separable: some rows are made narrower, then as many of these as it takes become a band of
/// the result.
fn reduce(
    image: DynamicImage,
    attributes: Attributes,
    longest_side: usize,
    band_pixels: u64,
) -> Result<Picture, PictureError> {
    let image = attributes.upright(image)?;
    let (height, size) = (image.height(), (image.width(), image.height()));
    let (width, new_height) = reduced_size(size.0, size.1, longest_side);
    let scale = f64::from(height) / f64::from(new_height);
    let support = SUPPORT * scale.max(1.0);
    let band_rows = band_pixels as f64 / f64::from(width) - 2.0 * support;
    let step = (band_rows / scale).max(1.0) as u32;
    let mut picture = Band::default();
    for first in (0..new_height).step_by(step as usize) {
        let last = new_height.min(first + step);
        let (from, to) = (f64::from(first) * scale, f64::from(last) * scale);
        let top = (from - support).max(0.0) as u32;
        let bottom = ((to + support).ceil() as u32).min(height);
        let narrow = narrow(&image, &attributes, top..bottom, width)?;
        let rows = from - f64::from(top)..(to - f64::from(top)).min(f64::from(bottom - top));
        picture.append(narrow.resample(width, rows, (width, last - first)));
    }
    let mut picture = picture.into_picture(width)?;
    picture.depth = depth_of(&image);
    picture.icc_profile = attributes.colors.profile;
    Ok(picture)
}

/// Some rows of an image as f32, made narrower.
fn narrow(
    image: &DynamicImage,
    attributes: &Attributes,
    rows: Range<u32>,
    width: u32,
) -> Result<Band, PictureError> {
    let mut narrow = Band::default();
    let step = (AT_ONCE / image.width()).max(1);
    for first in rows.clone().step_by(step as usize) {
        let count = step.min(rows.end - first);
        let whole = attributes.convert(image, first..first + count)?;
        let whole = Band {
            rgb: Arc::unwrap_or_clone(whole.rgb),
            alpha: whole.alpha.unwrap_or_default(),
        };
        narrow.append(whole.resample(image.width(), 0.0..count.into(), (width, count)));
    }
    Ok(narrow)
}

/// Rows of colours, and their opacity if they are not opaque.
#[derive(Default)]
struct Band {
    rgb: Vec<f32>,
    alpha: Vec<f32>,
}

impl Band {
    /// These rows, of this width, at another size.
    fn resample(&self, width: u32, rows: Range<f64>, to: (u32, u32)) -> Self {
        let (from, to) = (
            (width as usize, self.rgb.len() / 3 / width as usize),
            (to.0 as usize, to.1 as usize),
        );
        let alpha = match self.alpha.is_empty() {
            true => Vec::new(),
            false => resample_rows(&self.alpha, from, rows.clone(), to),
        };
        Self {
            rgb: resample_rows(&self.rgb, from, rows, to),
            alpha,
        }
    }

    /// Rows below these.
    fn append(&mut self, below: Self) {
        if !below.alpha.is_empty() || !self.alpha.is_empty() {
            self.alpha.resize(self.rgb.len() / 3, 1.0);
            self.alpha.extend(below.alpha);
            self.alpha
                .resize((self.rgb.len() + below.rgb.len()) / 3, 1.0);
        }
        self.rgb.extend(below.rgb);
    }

    /// The picture of all rows; the filter's overshoot is clamped.
    fn into_picture(mut self, width: u32) -> Result<Picture, PictureError> {
        let (width, pixels) = (width as usize, self.rgb.len() / 3);
        for opacity in &mut self.alpha {
            *opacity = opacity.clamp(0.0, 1.0);
        }
        let mut picture = Picture::from_rgb(width, pixels / width, self.rgb)?;
        picture.alpha = Some(self.alpha).filter(|alpha| !alpha.is_empty());
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::ImageFormat;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bands_are_the_whole(
            (width, height) in (2u32..80, 1u32..80),
            longest_side in 1usize..80,
            band in 1u64..3,
            opaque in 0u32..80,
        ) {
            let longest_side = longest_side.min(width.max(height) as usize - 1);
            prop_assume!(longest_side > 0);
            let image = image::RgbaImage::from_fn(width, height, |x, y| {
                let alpha = if y < opaque { 255 } else { (5 * y + x) as u8 };
                image::Rgba([(7 * x + 3 * y) as u8, (x * y) as u8, (91 * x) as u8, alpha])
            });
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, ImageFormat::Png).unwrap();
            let (path, meaning) = (Path::new("whole"), Meaning::Data);
            let read = |pixels| {
                let whole = Limits { pixels, ..Limits::default() };
                let file = Cursor::new(file.get_ref());
                decode_reduced(file, path, longest_side, [whole, Limits::REDUCED], meaning)
            };
            let all = u64::from(width * height);
            let whole = read(all).unwrap();
            // A band of few rows, as many as the result allows.
            let (w, h) = reduced_size(width, height, longest_side);
            let reduced = read((all / band).max(u64::from(w * h)).min(all - 1)).unwrap();
            let expected = whole.resize(w as usize, h as usize);
            prop_assert_eq!((reduced.width, reduced.height), (expected.width, expected.height));
            let mut values: Vec<_> = reduced.rgb.iter().zip(expected.rgb.iter()).collect();
            let opaque = vec![1.0; (w * h) as usize];
            let alphas = [&reduced, &expected].map(|p| p.alpha.as_ref().unwrap_or(&opaque));
            values.extend(alphas[0].iter().zip(alphas[1]));
            for (found, expected) in values {
                prop_assert!((found - expected).abs() < 1e-5, "{} for {}", found, expected);
            }
        }
    }

    #[test]
    fn sizes_keep_their_proportions() {
        assert_eq!(reduced_size(12_000, 9_000, 256), (256, 192));
        assert_eq!(reduced_size(9_000, 12_000, 256), (192, 256));
        assert_eq!(reduced_size(16_000, 3, 100), (100, 1));
        // Never larger, never nothing.
        assert_eq!(reduced_size(300, 200, 301), (300, 200));
        assert_eq!(reduced_size(300, 200, usize::MAX), (300, 200));
        assert_eq!(reduced_size(300, 200, 0), (1, 1));
        assert_eq!(reduced_size(u32::MAX, u32::MAX, 7), (7, 7));
    }
}
