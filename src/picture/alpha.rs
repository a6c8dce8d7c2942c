//! Opacity as files store it.

use image::DynamicImage;

/// What a file's fourth channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoredAlpha {
    /// The opacity.
    Opacity,
    /// The opacity, by which the colours are multiplied already.
    Premultiplied,
    /// Perhaps the opacity: many programs leave the channel zero that does not mean anything to them.
    Undeclared,
}

/// The image with colours as they are without their opacity, and with opacity only where the file means
/// it.
pub(super) fn resolve(image: DynamicImage, stored: StoredAlpha) -> DynamicImage {
    use DynamicImage::*;
    match stored {
        StoredAlpha::Opacity => image,
        StoredAlpha::Undeclared if is_transparent(&image) => match image {
            ImageLumaA8(_) => image.into_luma8().into(),
            ImageLumaA16(_) => image.into_luma16().into(),
            ImageRgba16(_) => image.into_rgb16().into(),
            ImageRgba32F(_) => image.into_rgb32f().into(),
            image => image.into_rgb8().into(),
        },
        StoredAlpha::Undeclared => image,
        StoredAlpha::Premultiplied => {
            let mut image = image;
            match &mut image {
                ImageLumaA8(image) => divide::<u8, 2>(image, u8::MAX.into()),
                ImageLumaA16(image) => divide::<u16, 2>(image, u16::MAX.into()),
                ImageRgba8(image) => divide::<u8, 4>(image, u8::MAX.into()),
                ImageRgba16(image) => divide::<u16, 4>(image, u16::MAX.into()),
                ImageRgba32F(image) => {
                    for [rgb @ .., alpha] in image.as_chunks_mut::<4>().0 {
                        let alpha = alpha.max(f32::MIN_POSITIVE);
                        *rgb = rgb.map(|value| (value / alpha).clamp(0.0, 1.0));
                    }
                }
                _ => {}
            }
            image
        }
    }
}

/// Whether the image has a channel of opacity and nothing of it can be seen.
pub(super) fn is_transparent(image: &DynamicImage) -> bool {
    use DynamicImage::*;
    match image {
        ImageLumaA8(image) => image.pixels().all(|pixel| pixel.0[1] == 0),
        ImageLumaA16(image) => image.pixels().all(|pixel| pixel.0[1] == 0),
        ImageRgba8(image) => image.pixels().all(|pixel| pixel.0[3] == 0),
        ImageRgba16(image) => image.pixels().all(|pixel| pixel.0[3] == 0),
        ImageRgba32F(image) => image.pixels().all(|pixel| pixel.0[3] <= 0.0),
        _ => false,
    }
}

/// Divides colours by their opacity, which is the last of `N` channels.
fn divide<T, const N: usize>(samples: &mut [T], white: u64)
where
    T: Copy + Into<u64> + TryFrom<u64>,
{
    for pixel in samples.as_chunks_mut::<N>().0 {
        let alpha: u64 = pixel[N - 1].into();
        for value in &mut pixel[..N - 1] {
            let color = ((*value).into() * white + alpha / 2) / alpha.max(1);
            // Limited to white, which fits.
            *value = T::try_from(color.min(white)).unwrap_or(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn premultiplied_colours_are_divided() {
        let rgba = image::RgbaImage::from_raw(2, 1, vec![100, 50, 0, 128, 9, 9, 9, 0]).unwrap();
        let image = resolve(rgba.into(), StoredAlpha::Premultiplied).into_rgba8();
        assert_eq!(image.as_raw()[..4], [199, 100, 0, 128]);
        assert_eq!(image.as_raw()[7], 0);
    }
}
