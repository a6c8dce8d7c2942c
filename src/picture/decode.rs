//! Reading picture files of any origin.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek};
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader};

use super::error::PictureError;
use super::format::Depth;
use super::raster::Picture;

/// Bytes of a pixel while it is converted: colours and alpha as f32, twice.
pub(super) const CONVERTED: u64 = 32;

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
        decode(open_file(path)?, path, limits)
    }
}

pub(super) fn open_file(path: &Path) -> Result<BufReader<File>, PictureError> {
    let read = |source| PictureError::Read {
        path: path.into(),
        source,
    };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.is_dir() {
        return Err(read(ErrorKind::IsADirectory.into()));
    }
    Ok(BufReader::new(File::open(path).map_err(read)?))
}

/// Decodes a picture; `path` is for messages.
fn decode<'a>(
    file: impl BufRead + Seek + 'a,
    path: &'a Path,
    limits: Limits,
) -> Result<Picture, PictureError> {
    let header = read_header(file, path, limits.bytes)?;
    if !header.fits(limits) {
        let limit = limits.pixels.min(limits.bytes / (CONVERTED + 8));
        return Err(header.too_large(limit));
    }
    let (image, attributes) = header.decode()?;
    attributes.into_picture(image, Alpha::Separate)
}

/// A file whose header has been read.
pub(super) struct Header<'a, D> {
    decoder: D,
    path: &'a Path,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
}

/// What a file says beside its pixels.
pub(super) struct Attributes {
    orientation: Option<Orientation>,
    icc_profile: Option<Vec<u8>>,
}

/// Reads the header of a file; the decoder may allocate `max_alloc` bytes.
pub(super) fn read_header<'a, R: BufRead + Seek + 'a>(
    file: R,
    path: &'a Path,
    max_alloc: u64,
) -> Result<Header<'a, impl ImageDecoder + use<'a, R>>, PictureError> {
    // The name is no evidence: a renamed text file must not reach a decoder.
    let reader = ImageReader::new(file).with_guessed_format();
    let mut reader = reader.map_err(|source| PictureError::Read {
        path: path.into(),
        source,
    })?;
    if reader.format().is_none() {
        return Err(PictureError::NotAPicture { path: path.into() });
    }
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(max_alloc);
    reader.limits(bounds);
    let decoder = reader.into_decoder().map_err(|error| failed(path, error))?;
    let (width, height) = decoder.dimensions();
    Ok(Header {
        decoder,
        path,
        width,
        height,
    })
}

impl<D: ImageDecoder> Header<'_, D> {
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Bytes of the decoded samples.
    pub fn sample_bytes(&self) -> u64 {
        self.decoder.total_bytes()
    }

    /// Whether the picture can be read within these bounds at its full size.
    pub fn fits(&self, limits: Limits) -> bool {
        let bytes = self.pixels().saturating_mul(CONVERTED);
        let bytes = bytes.saturating_add(self.sample_bytes());
        self.pixels() <= limits.pixels && bytes <= limits.bytes
    }

    pub fn too_large(&self, limit: u64) -> PictureError {
        PictureError::TooLarge {
            path: self.path.into(),
            width: self.width,
            height: self.height,
            limit,
        }
    }

    /// Decodes the samples as they are stored.
    pub fn decode(mut self) -> Result<(DynamicImage, Attributes), PictureError> {
        // A damaged profile or EXIF block is no reason to refuse the pixels.
        let icc_profile = self.decoder.icc_profile().ok().flatten();
        let attributes = Attributes {
            orientation: self.decoder.orientation().ok(),
            icc_profile: icc_profile.filter(|profile| is_rgb_profile(profile)),
        };
        let image = DynamicImage::from_decoder(self.decoder);
        let image = image.map_err(|error| failed(self.path, error))?;
        Ok((image, attributes))
    }
}

/// How the colours of an image relate to its alpha.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Alpha {
    /// They are as stored.
    Separate,
    /// They are laid over white already.
    OverWhite,
}

impl Attributes {
    /// The picture, turned upright, as f32, its colours over white.
    pub fn into_picture(
        self,
        mut image: DynamicImage,
        alpha: Alpha,
    ) -> Result<Picture, PictureError> {
        if let Some(orientation) = self.orientation {
            image.apply_orientation(orientation);
        }
        let mut picture = to_picture(image, alpha)?;
        picture.icc_profile = self.icc_profile;
        Ok(picture)
    }
}

/// Colours over white, and alpha if any pixel is not opaque.
fn to_picture(image: DynamicImage, alpha: Alpha) -> Result<Picture, PictureError> {
    let (width, height) = (image.width() as usize, image.height() as usize);
    let depth = match image.color().bytes_per_pixel() / image.color().channel_count() {
        0 | 1 => Depth::Eight,
        _ => Depth::Sixteen,
    };
    let mut picture = if image.color().has_alpha() {
        let rgba = image.into_rgba32f().into_raw();
        let mut rgb = Vec::with_capacity(width * height * 3);
        let mut opacity = Vec::with_capacity(width * height);
        for &[r, g, b, a] in rgba.as_chunks().0 {
            let a = if a.is_nan() { 1.0 } else { a.clamp(0.0, 1.0) };
            rgb.extend(match alpha {
                Alpha::Separate => [r, g, b].map(|value| value * a + (1.0 - a)),
                Alpha::OverWhite => [r, g, b],
            });
            opacity.push(a);
        }
        let mut picture = Picture::from_rgb(width, height, rgb)?;
        picture.alpha = Some(opacity).filter(|opacity| opacity.iter().any(|&a| a < 1.0));
        picture
    } else {
        Picture::from_rgb(width, height, image.into_rgb32f().into_raw())?
    };
    picture.depth = depth;
    Ok(picture)
}

fn failed(path: &Path, error: ImageError) -> PictureError {
    match error {
        ImageError::IoError(source) if source.kind() != ErrorKind::UnexpectedEof => {
            PictureError::Read {
                path: path.into(),
                source,
            }
        }
        source => PictureError::Decode {
            path: path.into(),
            source,
        },
    }
}

/// Whether an ICC profile describes RGB, by the field at byte 16 of its header. One for CMYK or
/// grey would be wrong beside the RGB that is written.
fn is_rgb_profile(profile: &[u8]) -> bool {
    profile.get(16..20) == Some(b"RGB ")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ColorType, ImageFormat};
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

    /// Decodes the bytes whole and reduced; whatever they are, the result is within the bounds.
    fn survives(bytes: &[u8]) -> Result<(), TestCaseError> {
        let path = Path::new("hostile");
        let few = Limits {
            pixels: 64,
            ..BOUNDS
        };
        for (picture, most) in [
            (decode(Cursor::new(bytes), path, BOUNDS), BOUNDS.pixels),
            (decode_reduced(Cursor::new(bytes), path, 8, few, BOUNDS), 64),
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
            bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..4),
            number in prop::option::of((any::<Index>(), any::<u32>(), any::<bool>())),
            cut in prop::option::weighted(0.2, any::<Index>()),
        ) {
            let mut file = which.get(&files()).clone();
            // Most of what can be wrong is near the front.
            let front = |place: &Index, file: &[u8]| place.index(file.len().min(200));
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
                b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"RIFF\xff\0\0\0WEBPVP8L", b"",
            ]),
            rest in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            survives(&[signature, &rest].concat())?;
        }
    }
}
