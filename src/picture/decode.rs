//! Reading picture files of any origin.

use std::io::ErrorKind;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::{Depth, Picture, PictureError};

/// Bounds on what a file may ask for, checked before the pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels a picture may have.
    pub pixels: u64,
    /// Most bytes that reading it may take, with the decoder's and our own copies.
    pub bytes: u64,
}

impl Default for Limits {
    /// 64 × 2²⁰ pixels and 3 GiB.
    fn default() -> Self {
        Self {
            pixels: 64 << 20,
            bytes: 3 << 30,
        }
    }
}

impl Picture {
    /// Reads a PNG, JPEG, WebP, TIFF, BMP or GIF (its first frame), told apart by the contents,
    /// turned upright where EXIF says so. Grey, palette and CMYK become RGB; alpha is laid over
    /// white and kept.
    ///
    /// # Errors
    /// [`PictureError`] naming the file; no file, however made, exceeds [`Limits::default`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PictureError> {
        Self::open_with(path, Limits::default())
    }

    /// [`Picture::open`] with other bounds.
    ///
    /// # Errors
    /// See [`Picture::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: Limits) -> Result<Self, PictureError> {
        let path = path.as_ref();
        let read = |source| PictureError::Read {
            path: path.into(),
            source,
        };
        let failed = |source| match source {
            ImageError::IoError(source) if source.kind() != ErrorKind::UnexpectedEof => {
                read(source)
            }
            source => PictureError::Decode {
                path: path.into(),
                source,
            },
        };
        let metadata = std::fs::metadata(path).map_err(read)?;
        if metadata.is_dir() {
            return Err(read(ErrorKind::IsADirectory.into()));
        }
        let mut reader = ImageReader::open(path)
            .and_then(|mut reader| {
                // The name is no evidence: a renamed text file must not reach a decoder.
                reader.clear_format();
                reader.with_guessed_format()
            })
            .map_err(read)?;
        if reader.format().is_none() {
            return Err(PictureError::NotAPicture { path: path.into() });
        }
        let mut bounds = image::Limits::default();
        bounds.max_alloc = Some(limits.bytes);
        reader.limits(bounds);

        let mut decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        // The decoded samples, then colours and alpha as f32, twice while they are converted.
        let bytes = decoder
            .total_bytes()
            .saturating_add(pixels.saturating_mul(32));
        if pixels > limits.pixels || bytes > limits.bytes {
            return Err(PictureError::TooLarge {
                path: path.into(),
                width,
                height,
                limit: limits.pixels.min(limits.bytes / 40),
            });
        }
        // A damaged profile or EXIF block is no reason to refuse the pixels.
        let icc_profile = decoder.icc_profile().ok().flatten();
        let orientation = decoder.orientation().ok();
        let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        let mut picture = from_image(image)?;
        picture.icc_profile = icc_profile.filter(|profile| is_rgb_profile(profile));
        Ok(picture)
    }
}

/// Colours over white, and alpha if any pixel is not opaque.
fn from_image(image: DynamicImage) -> Result<Picture, PictureError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let depth = match image.color().bytes_per_pixel() / image.color().channel_count() {
        0 | 1 => Depth::Eight,
        _ => Depth::Sixteen,
    };
    let mut picture = if image.color().has_alpha() {
        let rgba = image.into_rgba32f().into_raw();
        let mut rgb = Vec::with_capacity(width * height * 3);
        let mut alpha = Vec::with_capacity(width * height);
        for &[r, g, b, a] in rgba.as_chunks().0 {
            let a = if a.is_nan() { 1.0 } else { a.clamp(0.0, 1.0) };
            rgb.extend([r, g, b].map(|value| value * a + (1.0 - a)));
            alpha.push(a);
        }
        let mut picture = Picture::from_rgb(width, height, rgb)?;
        picture.alpha = Some(alpha).filter(|alpha| alpha.iter().any(|&a| a < 1.0));
        picture
    } else {
        Picture::from_rgb(width, height, image.into_rgb32f().into_raw())?
    };
    picture.depth = depth;
    Ok(picture)
}

/// Whether an ICC profile describes RGB, by the field at byte 16 of its header. One for CMYK or
/// grey would be wrong beside the RGB that is written.
fn is_rgb_profile(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}
