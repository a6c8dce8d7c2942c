//! Reading picture files of any origin.

use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

use super::error::PictureError;
use super::header::{Meaning, read_header};
use super::input::{CONVERTED, Limits, open_file};
use super::raster::Picture;

impl Picture {
    /// Reads a PNG, JPEG, WebP, TIFF, BMP or GIF, and with the features of these names JPEG XL and AVIF; of
    /// an animation the first frame. The contents tell the format. The picture is turned upright where the
    /// file says so. Grey, palette and CMYK become RGB.
    ///
    /// Colours become sRGB: by the file's ICC profile (RGB, grey or CMYK), a PNG's cICP, sRGB, gAMA and
    /// cHRM chunks, the numbers that JPEG XL and AVIF have instead, or EXIF's mark for Adobe RGB, with the
    /// relative colorimetric intent and without black point compensation. What sRGB cannot show is clipped
    /// channel by channel, as is what is brighter than the white of HDR pictures (203 cd/m²). Files that
    /// say nothing, or whose profile is damaged, count as sRGB. [`Picture::save`] writes the colours in the
    /// file's space again.
    ///
    /// Alpha is laid over white and kept. A fourth channel that is zero everywhere is ignored where the
    /// file does not declare it as opacity (BMP, some TIFF).
    ///
    /// # Errors
    /// [`PictureError`] naming the file, also if it ends too early or nothing of it can be seen; no file,
    /// however made, exceeds [`Limits::default`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PictureError> {
        Self::open_with(path, Limits::default())
    }

    /// [`Picture::open`] with other bounds.
    ///
    /// # Errors
    /// See [`Picture::open`].
    pub fn open_with(path: impl AsRef<Path>, limits: Limits) -> Result<Self, PictureError> {
        let path = path.as_ref();
        decode(open_file(path)?, path, limits)
    }

    /// [`Picture::open`] for the bytes of a file that is in memory; errors name it as `name`.
    ///
    /// # Errors
    /// See [`Picture::open`].
    pub fn from_bytes(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self, PictureError> {
        decode(Cursor::new(bytes), name.as_ref(), Limits::default())
    }

    /// Width and height of the picture in a file as they are stored, before it is turned upright. Reads no
    /// pixels.
    ///
    /// # Errors
    /// [`PictureError`] naming the file.
    pub fn read_size(path: impl AsRef<Path>) -> Result<(usize, usize), PictureError> {
        let path = path.as_ref();
        let limits = Limits::REDUCED;
        let header = read_header(open_file(path)?, path, limits.bytes, Meaning::Data)?;
        Ok((header.width as usize, header.height as usize))
    }

    /// [`Picture::read_size`] for the bytes of a file that is in memory; errors name it as `name`.
    ///
    /// # Errors
    /// See [`Picture::read_size`].
    pub fn size_from_bytes(
        bytes: &[u8],
        name: impl AsRef<Path>,
    ) -> Result<(usize, usize), PictureError> {
        let limits = Limits::REDUCED;
        let (file, name) = (Cursor::new(bytes), name.as_ref());
        let header = read_header(file, name, limits.bytes, Meaning::Data)?;
        Ok((header.width as usize, header.height as usize))
    }
}

/// Decodes a picture; `path` is for messages.
fn decode<'a>(
    file: impl BufRead + Seek + 'a,
    path: &'a Path,
    limits: Limits,
) -> Result<Picture, PictureError> {
    let header = read_header(file, path, limits.bytes, Meaning::Colors)?;
    if !header.fits(limits) {
        let limit = limits.pixels.min(limits.bytes / (CONVERTED + 8));
        return Err(header.too_large(limit));
    }
    let (image, attributes) = header.decode()?;
    attributes.into_picture(image)
}

#[cfg(test)]
mod tests {
    use image::{ColorType, DynamicImage, ImageFormat};
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;
    use crate::picture::reduce::decode_reduced;

    /// Bounds far above the pictures below, and low enough for a memory checker.
    const BOUNDS: Limits = Limits {
        pixels: 1 << 14,
        bytes: 4 << 20,
    };

    /// A small picture in every format, and PNG and TIFF in several depths.
    fn files() -> Vec<Vec<u8>> {
        use ColorType::{L8, La8, Rgb8, Rgb16, Rgb32F, Rgba8, Rgba16};
        let kinds = [
            (ImageFormat::Png, &[L8, La8, Rgb8, Rgba8, Rgb16, Rgba16][..]),
            (ImageFormat::Tiff, &[Rgb8, Rgba16, Rgb32F]),
            (ImageFormat::Jpeg, &[L8, Rgb8]),
            (ImageFormat::WebP, &[Rgb8, Rgba8]),
            (ImageFormat::Bmp, &[Rgb8, Rgba8]),
            (ImageFormat::Gif, &[Rgba8]),
        ];
        let pictures = kinds.into_iter().flat_map(|(format, colors)| {
            colors.iter().map(move |&color| {
                let noise: Vec<u8> = (0..23 * 17 * 4).map(|i| (i * i % 251) as u8).collect();
                let image = image::RgbaImage::from_raw(23, 17, noise).unwrap();
                let image = DynamicImage::from(image);
                let image = match color {
                    L8 => image.into_luma8().into(),
                    La8 => image.into_luma_alpha8().into(),
                    Rgb8 => image.into_rgb8().into(),
                    Rgb16 => image.into_rgb16().into(),
                    Rgba16 => image.into_rgba16().into(),
                    Rgb32F => image.into_rgb32f().into(),
                    _ => image,
                };
                let mut file = Cursor::new(Vec::new());
                image.write_to(&mut file, format).unwrap();
                file.into_inner()
            })
        });
        pictures.collect()
    }

    /// The files above, and those of formats that are not written here.
    fn all_files() -> Vec<Vec<u8>> {
        let mut all = files();
        for folder in FOLDERS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("tests/data/")
                .join(folder);
            // The published package has no such folder.
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            all.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
        }
        all
    }

    const FOLDERS: &[&str] = &[
        #[cfg(feature = "avif")]
        "avif",
        #[cfg(feature = "jxl")]
        "jxl",
    ];

    /// Decodes the bytes whole and reduced; whatever they are, the result is within the bounds.
    fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
        let path = Path::new("hostile");
        let few = Limits {
            pixels: 64,
            ..BOUNDS
        };
        for (picture, most) in [
            (decode(Cursor::new(bytes), path, BOUNDS), BOUNDS.pixels),
            (
                decode_reduced(Cursor::new(bytes), path, 8, [few, BOUNDS], Meaning::Colors),
                64,
            ),
        ] {
            if let Ok(picture) = picture {
                let pixels = picture.width * picture.height;
                prop_assert!(pixels as u64 <= most);
                prop_assert_eq!(picture.rgb.len(), 3 * pixels);
                prop_assert!(picture.rgb.iter().all(|v| (0.0..=1.0).contains(v)));
                if let Some(alpha) = &picture.alpha {
                    prop_assert_eq!(alpha.len(), pixels);
                    prop_assert!(alpha.iter().all(|v| (0.0..=1.0).contains(v)));
                }
            }
        }
        Ok(())
    }

    #[test]
    fn the_files_below_are_whole() {
        for file in files() {
            let picture = decode(Cursor::new(&file), Path::new("whole"), BOUNDS).unwrap();
            assert_eq!((picture.width, picture.height), (23, 17));
        }
    }

    proptest! {
        #[test]
        fn damaged_pictures_are_survived(
            which in any::<Index>(),
            reach in select(vec![200, 1000]),
            bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
            number in prop::option::of((any::<Index>(), any::<u32>(), any::<bool>())),
            cut in prop::option::weighted(0.2, any::<Index>()),
        ) {
            let mut file = which.get(&all_files()).clone();
            // Most of what can be wrong is near the front.
            let front = |place: &Index, file: &[u8]| place.index(file.len().min(reach));
            for (place, byte) in &bytes {
                let place = front(place, &file);
                file[place] = *byte;
            }
            if let Some((place, number, large)) = number {
                let place = front(&place, &file);
                let end = file.len().min(place + 4);
                let number = if large { number } else { number % 1000 };
                file[place..end].copy_from_slice(&number.to_le_bytes()[..end - place]);
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            survives(&file)?;
        }

        #[test]
        fn any_bytes_after_a_signature_are_survived(
            signature in select(vec![
                &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], b"\xff\xd8\xff", b"GIF89a", b"BM",
                b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"RIFF\xff\0\0\0WEBPVP8L", b"\xff\x0a",
                b"\0\0\0\x10ftypavif\0\0\0\0\0\0\x01\0meta\0\0\0\0\0\0\0\x0epitm\0\0\0\0\0\x01",
                b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl \0\0\0\0jxl \0\0\0\0jxlc\xff\x0a", b"",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            survives(&[signature, &rest].concat())?;
        }
    }
}
