//! From the samples of a file to colours.

use std::ops::Range;

use image::DynamicImage;

use super::color_profile::Conversion;
use super::error::PictureError;
use super::format::Depth;
use super::raster::Picture;

/// Some rows of an image as f32, in sRGB over white, with alpha if any pixel is not opaque.
pub(super) fn to_picture(
    image: &DynamicImage,
    rows: Range<u32>,
    to_srgb: &Conversion,
) -> Result<Picture, PictureError> {
    use DynamicImage::*;
    const EIGHT: f32 = u8::MAX as f32;
    const SIXTEEN: f32 = u16::MAX as f32;
    let (width, height) = (image.width() as usize, rows.len());
    let part = rows.start as usize * width..rows.end as usize * width;
    let (mut rgb, opacity) = match image {
        ImageLuma8(image) => split::<_, 1>(image, part, EIGHT),
        ImageLumaA8(image) => split::<_, 2>(image, part, EIGHT),
        ImageRgb8(image) => split::<_, 3>(image, part, EIGHT),
        ImageRgba8(image) => split::<_, 4>(image, part, EIGHT),
        ImageLuma16(image) => split::<_, 1>(image, part, SIXTEEN),
        ImageLumaA16(image) => split::<_, 2>(image, part, SIXTEEN),
        ImageRgb16(image) => split::<_, 3>(image, part, SIXTEEN),
        ImageRgba16(image) => split::<_, 4>(image, part, SIXTEEN),
        ImageRgb32F(image) => split::<_, 3>(image, part, 1.0),
        ImageRgba32F(image) => split::<_, 4>(image, part, 1.0),
        // There is no other kind today.
        other => split::<_, 4>(&other.to_rgba32f(), part, 1.0),
    };
    to_srgb.apply(&mut rgb);
    if let Some(opacity) = &opacity {
        for (color, &a) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(opacity) {
            *color = color.map(|value| value * a + (1.0 - a));
        }
    }
    let mut picture = Picture::from_rgb(width, height, rgb)?;
    picture.alpha = opacity.filter(|opacity| opacity.iter().any(|&a| a < 1.0));
    picture.depth = depth_of(image);
    Ok(picture)
}

/// The depth in which a picture of these samples is written.
pub(super) fn depth_of(image: &DynamicImage) -> Depth {
    match image.color().bytes_per_pixel() / image.color().channel_count() {
        0 | 1 => Depth::Eight,
        _ => Depth::Sixteen,
    }
}

/// Colours and opacity of some pixels of `N` channels: grey or RGB, perhaps with alpha.
///
/// As [`DynamicImage::to_rgba32f`] has it, whose conversion of each sample is a call of a function.
fn split<T: Copy + Into<f32>, const N: usize>(
    samples: &[T],
    pixels: Range<usize>,
    white: f32,
) -> (Vec<f32>, Option<Vec<f32>>) {
    let pixels = &samples.as_chunks::<N>().0[pixels];
    let value = |sample: T| sample.into() / white;
    let [r, g, b] = if N < 3 { [0; 3] } else { [0, 1, 2] };
    let mut rgb = vec![0.0; 3 * pixels.len()];
    for (to, from) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        *to = [value(from[r]), value(from[g]), value(from[b])];
    }
    let alpha = |pixel: &[T; N]| match value(pixel[N - 1]) {
        alpha if alpha.is_nan() => 1.0,
        alpha => alpha.clamp(0.0, 1.0),
    };
    let opacity = N.is_multiple_of(2);
    (rgb, opacity.then(|| pixels.iter().map(alpha).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_those_of_the_image_crate() {
        let noise = |i: u32| f32::from((i * i % 251) as u8) / 250.0;
        let image = image::Rgba32FImage::from_fn(7, 5, |x, y| {
            image::Rgba([0, 1, 2, 3].map(|c| noise(28 * y + 4 * x + c)))
        });
        let image = DynamicImage::from(image);
        for image in [
            DynamicImage::from(image.to_luma8()),
            image.to_luma_alpha8().into(),
            image.to_rgb8().into(),
            image.to_rgba8().into(),
            image.to_luma16().into(),
            image.to_luma_alpha16().into(),
            image.to_rgb16().into(),
            image.to_rgba16().into(),
            image.to_rgb32f().into(),
            image.clone(),
        ] {
            let picture = to_picture(&image, 1..4, &Conversion::Identity).unwrap();
            let expected = image.to_rgba32f();
            let expected = &expected.as_chunks::<4>().0[7..28];
            for (index, &[r, g, b, a]) in expected.iter().enumerate() {
                let over_white = [r, g, b].map(|value| value * a + (1.0 - a));
                let found = &picture.rgb[3 * index..][..3];
                for (found, expected) in found.iter().zip(over_white) {
                    let close = (found - expected).abs() < 1e-6;
                    assert!(close, "{:?}: {found} for {expected}", image.color());
                }
                let alpha = picture.alpha.as_ref().map_or(1.0, |alpha| alpha[index]);
                assert!((alpha - a).abs() < 1e-6, "{:?}", image.color());
            }
        }
    }
}
