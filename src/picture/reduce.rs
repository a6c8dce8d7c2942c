//! Reading pictures that are larger than what is needed of them.

use std::io::{BufRead, Seek};
use std::path::Path;

use bytemuck::Pod;
use fast_image_resize::PixelType;
use image::{DynamicImage, ImageBuffer, Pixel};

use super::alpha::lay_over_white;
use super::color_profile::{Conversion, FileColors};
use super::error::PictureError;
use super::header::{Meaning, Stage, read_header};
use super::input::{CONVERTED, Limits, open_file};
use super::raster::Picture;
use super::resize::resample_bytes;

/// How many times the decoded samples are counted: a decoder may keep as much beside them, and a
/// progressive JPEG twice as much.
const DECODER_COPIES: u64 = 3;

impl Limits {
    /// Bounds on a picture that [`Picture::open_reduced`] reduces: 256 × 2²⁰ pixels (such as
    /// 16384×16384, or A4 at 1200 dots an inch with room to spare) and 3 GiB for the samples as
    /// stored, which are counted three times for what the decoder keeps beside them. A pixel of 8-bit
    /// RGB takes 3 bytes, one of 16-bit RGBA 8.
    pub const REDUCED: Self = Self {
        pixels: 256 << 20,
        bytes: 3 << 30,
    };
}

impl Picture {
    /// Reads a picture of which no more than `longest_side` pixels along the longest side are
    /// needed. One within [`Limits::default`] is read exactly as by [`Picture::open`], whatever its
    /// size; a larger one, up to [`Limits::REDUCED`], is decoded in the depth that its file has,
    /// converted to sRGB and reduced in that form until its longest side is `longest_side`, so that it
    /// never takes the memory of a whole picture of f32. The filter is that of [`Picture::resize`];
    /// converted colours, and those after each of its two passes, are rounded to the file's own depth
    /// and limited to its range.
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

    /// [`Picture::open_reduced`] for a mask or a map of regions: its values are data, not colours, and
    /// stay as they are in the file, whatever colour profile that has.
    ///
    /// # Errors
    /// Those of [`Picture::open_reduced`].
    pub fn open_mask(path: impl AsRef<Path>, longest_side: usize) -> Result<Self, PictureError> {
        let (path, limits) = (path.as_ref(), [Limits::default(), Limits::REDUCED]);
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
    if header.fits(whole) {
        let (image, attributes) = header.decode()?;
        return attributes.into_picture(image, Stage::AsStored);
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
    let (mut image, attributes) = header.decode()?;
    convert(&mut image, &attributes.colors);
    attributes.into_picture(reduce(image, (width, height)), Stage::Reduced)
}

/// Converts the colours of an image to sRGB in its own depth.
fn convert(image: &mut DynamicImage, colors: &FileColors) {
    use DynamicImage::*;
    let conversion = &colors.to_srgb;
    if conversion.is_identity() {
        return;
    }
    let of_u8 = (
        |v: u8| f32::from(v) / 255.0,
        |v: f32| (v * 255.0).round() as u8,
    );
    let of_u16 = (
        |v: u16| f32::from(v) / 65_535.0,
        |v: f32| (v * 65_535.0).round() as u16,
    );
    let of_f32 = (finite, |v: f32| v);
    match image {
        ImageLuma8(image) => convert_samples::<u8, 1>(image, conversion, of_u8),
        ImageLumaA8(image) => convert_samples::<u8, 2>(image, conversion, of_u8),
        ImageRgb8(image) => convert_samples::<u8, 3>(image, conversion, of_u8),
        ImageRgba8(image) => convert_samples::<u8, 4>(image, conversion, of_u8),
        ImageLuma16(image) => convert_samples::<u16, 1>(image, conversion, of_u16),
        ImageLumaA16(image) => convert_samples::<u16, 2>(image, conversion, of_u16),
        ImageRgb16(image) => convert_samples::<u16, 3>(image, conversion, of_u16),
        ImageRgba16(image) => convert_samples::<u16, 4>(image, conversion, of_u16),
        ImageRgb32F(image) => convert_samples::<f32, 3>(image, conversion, of_f32),
        ImageRgba32F(image) => convert_samples::<f32, 4>(image, conversion, of_f32),
        // There is no other kind today.
        _ => {}
    }
}

/// Converts pixels of `N` channels: grey or RGB, perhaps with alpha, which stays.
fn convert_samples<T: Copy, const N: usize>(
    samples: &mut [T],
    conversion: &Conversion,
    (read, write): (impl Fn(T) -> f32, impl Fn(f32) -> T),
) {
    // Green stands for grey: all channels are alike.
    let channels: &[usize] = if N < 3 { &[0, 0, 0] } else { &[0, 1, 2] };
    let mut rgb = Vec::with_capacity(3 * 1024);
    for pixels in samples.as_chunks_mut::<N>().0.chunks_mut(1024) {
        rgb.clear();
        rgb.extend(
            pixels
                .iter()
                .flat_map(|p| channels.iter().map(|&c| read(p[c]))),
        );
        conversion.apply(&mut rgb);
        for (pixel, rgb) in pixels.iter_mut().zip(rgb.as_chunks::<3>().0) {
            let [r, g, b] = rgb.map(|value| write(value.clamp(0.0, 1.0)));
            if N < 3 {
                pixel[0] = g;
            } else {
                pixel[..3].copy_from_slice(&[r, g, b]);
            }
        }
    }
}

/// The size with this longest side, or the size itself if it is no larger.
fn reduced_size(width: u32, height: u32, longest_side: usize) -> (u32, u32) {
    let longest = u64::from(width.max(height).max(1));
    let wanted = (longest_side as u64).clamp(1, longest);
    let scale = |side: u32| ((u64::from(side) * wanted + longest / 2) / longest).max(1) as u32;
    (scale(width), scale(height))
}

/// The image at a smaller size in its own depth, its colours over white.
fn reduce(image: DynamicImage, size: (u32, u32)) -> DynamicImage {
    use DynamicImage::*;
    match image {
        ImageLuma8(image) => ImageLuma8(shrink(&image, size, PixelType::U8)),
        ImageRgb8(image) => ImageRgb8(shrink(&image, size, PixelType::U8x3)),
        ImageLuma16(image) => ImageLuma16(shrink(&image, size, PixelType::U16)),
        ImageRgb16(image) => ImageRgb16(shrink(&image, size, PixelType::U16x3)),
        ImageLumaA8(mut image) => {
            lay_over_white::<u8, 2>(&mut image, u8::MAX.into());
            ImageLumaA8(shrink(&image, size, PixelType::U8x2))
        }
        ImageRgba8(mut image) => {
            lay_over_white::<u8, 4>(&mut image, u8::MAX.into());
            ImageRgba8(shrink(&image, size, PixelType::U8x4))
        }
        ImageLumaA16(mut image) => {
            lay_over_white::<u16, 2>(&mut image, u16::MAX.into());
            ImageLumaA16(shrink(&image, size, PixelType::U16x2))
        }
        ImageRgba16(mut image) => {
            lay_over_white::<u16, 4>(&mut image, u16::MAX.into());
            ImageRgba16(shrink(&image, size, PixelType::U16x4))
        }
        ImageRgb32F(mut image) => {
            // One value that is not a number would spread to all that the filter sees with it.
            image.iter_mut().for_each(|value| *value = finite(*value));
            ImageRgb32F(shrink(&image, size, PixelType::F32x3))
        }
        ImageRgba32F(mut image) => {
            for pixel in image.as_chunks_mut::<4>().0 {
                let alpha = if pixel[3].is_nan() {
                    1.0
                } else {
                    finite(pixel[3])
                };
                let [r, g, b, _] = pixel.map(|value| finite(value) * alpha + (1.0 - alpha));
                *pixel = [r, g, b, alpha];
            }
            ImageRgba32F(shrink(&image, size, PixelType::F32x4))
        }
        // There is no other kind today.
        other => reduce(ImageRgba8(other.into_rgba8()), size),
    }
}

/// In `[0, 1]`; what is not a number becomes 0.
fn finite(value: f32) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        value.clamp(0.0, 1.0)
    }
}

fn shrink<P>(
    image: &ImageBuffer<P, Vec<P::Subpixel>>,
    (width, height): (u32, u32),
    kind: PixelType,
) -> ImageBuffer<P, Vec<P::Subpixel>>
where
    P: Pixel,
    P::Subpixel: Pod,
{
    let mut small = ImageBuffer::new(width, height);
    resample_bytes(
        bytemuck::cast_slice(image.as_raw()),
        image.dimensions(),
        bytemuck::cast_slice_mut(&mut small),
        (width, height),
        kind,
    );
    small
}

#[cfg(test)]
mod tests {
    use super::*;

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
