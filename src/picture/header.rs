//! The header of a picture file, and its pixels as they are stored.

use std::cell::Cell;
use std::io::{BufRead, Cursor, ErrorKind, Read, Seek};
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use image::codecs::jpeg::JpegDecoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use moxcms::ColorProfile;

use super::alpha::{self, StoredAlpha};
#[cfg(feature = "avif")]
use super::avif;
use super::cmyk;
use super::color_profile::{FileColors, cmyk_to_srgb};
use super::end_watch::EndWatch;
use super::error::PictureError;
use super::ifd::is_adobe_rgb;
use super::input::{CONVERTED, Limits};
use super::jpeg::{Structure, pixels_are_there};
#[cfg(feature = "jxl")]
use super::jxl;
use super::png_color;
use super::raster::Picture;
#[cfg(not(all(feature = "jxl", feature = "avif")))]
use super::recognize::not_built_in;
use super::recognize::{Kind, recognize};
use super::samples::to_picture;

/// What the values of a picture stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Colours, which are converted to sRGB.
    Colors,
    /// Data, such as a mask's, which stay as they are.
    Data,
}

/// A file whose header has been read.
pub(super) struct Header<'a> {
    decoder: Box<dyn ImageDecoder + 'a>,
    path: &'a Path,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    meaning: Meaning,
    colors: FileColors,
    alpha: StoredAlpha,
    /// Whether anything was looked for beyond the end of the file.
    passed_end: Rc<Cell<bool>>,
    /// A JPEG file without the mark of its end.
    unended: Option<(Vec<u8>, Structure)>,
}

/// What a file says beside its pixels.
pub(super) struct Attributes<'a> {
    path: &'a Path,
    orientation: Option<Orientation>,
    meaning: Meaning,
    /// What the colours mean.
    pub colors: FileColors,
}

/// Reads the header of a file; the decoder may allocate `max_alloc` bytes.
pub(super) fn read_header<'a, R: BufRead + Seek + 'a>(
    mut file: R,
    path: &'a Path,
    max_alloc: u64,
    meaning: Meaning,
) -> Result<Header<'a>, PictureError> {
    // The name is no evidence: a renamed text file must not reach a decoder.
    let format = match recognize(&mut file, path)? {
        Kind::Image(format) => format,
        #[cfg(feature = "jxl")]
        Kind::JpegXl => {
            let decoder = jxl::Decoder::new(file, max_alloc);
            let decoder = decoder.map_err(|error| told(path, error))?;
            let colors = decoder.colors();
            return Ok(Header::told(Box::new(decoder), path, meaning, colors));
        }
        #[cfg(feature = "avif")]
        Kind::Avif => {
            let decoder = avif::Decoder::new(file, max_alloc);
            let decoder = decoder.map_err(|error| told(path, error))?;
            let colors = decoder.colors();
            return Ok(Header::told(Box::new(decoder), path, meaning, colors));
        }
        #[cfg(not(all(feature = "jxl", feature = "avif")))]
        kind => return Err(not_built_in(path, kind)),
    };
    let (mut file, passed_end) = EndWatch::new(file);
    let as_colors = meaning == Meaning::Colors;
    let (mut unended, mut alpha) = (None, StoredAlpha::Opacity);
    let mut colors = None;
    let mut inks: Option<Box<dyn ImageDecoder + 'a>> = None;
    match format {
        ImageFormat::Jpeg => {
            let structure = Structure::read(&mut file).map_err(|source| read(path, source))?;
            let is_inks = structure.channels == 4 && as_colors;
            if is_inks || !structure.ended {
                let mut bytes = Vec::new();
                file.rewind().map_err(|source| read(path, source))?;
                let all = file.read_to_end(&mut bytes);
                all.map_err(|source| read(path, source))?;
                if is_inks {
                    inks = jpeg_inks(&bytes);
                }
                unended = (!structure.ended).then_some((bytes, structure));
            }
        }
        ImageFormat::Png if as_colors => {
            file.rewind().map_err(|source| read(path, source))?;
            colors = Some(png_color::file_colors(&mut file, max_alloc));
            passed_end.set(false);
        }
        ImageFormat::Tiff => {
            let facts = cmyk::TiffFacts::read(&mut file);
            passed_end.set(false);
            alpha = facts.alpha;
            let table = facts.profile.as_deref().filter(|_| as_colors);
            if let Some(sixteen) = facts.inks
                && let Some(to_srgb) = table.and_then(cmyk_to_srgb)
            {
                file.rewind().map_err(|source| read(path, source))?;
                let decoder = cmyk::Decoder::tiff(file, sixteen, to_srgb, max_alloc);
                let decoder = decoder.map_err(|error| failed(path, error, &passed_end))?;
                return Ok(Header::new(Box::new(decoder), path, meaning, passed_end));
            }
            colors = facts
                .profile
                .map(|icc| FileColors::from_icc(icc, facts.grey));
        }
        ImageFormat::Bmp => alpha = StoredAlpha::Undeclared,
        _ => {}
    }
    // A decoder of JPEG reads to the end anyway; of the others those that miss something.
    let passed_end = match format {
        ImageFormat::Jpeg => Rc::new(Cell::new(unended.is_some())),
        _ => passed_end,
    };
    file.rewind().map_err(|source| read(path, source))?;
    let mut decoder = match inks {
        Some(decoder) => decoder,
        None => {
            let mut reader = ImageReader::with_format(file, format);
            let mut bounds = image::Limits::default();
            bounds.max_alloc = Some(max_alloc);
            reader.limits(bounds);
            let decoder = reader.into_decoder();
            Box::new(decoder.map_err(|error| failed(path, error, &passed_end))?)
        }
    };
    let colors = match (as_colors, colors) {
        (false, _) => FileColors::SRGB,
        (true, Some(colors)) => colors,
        (true, None) => colors_of(&mut decoder),
    };
    Ok(Header {
        colors,
        alpha,
        unended,
        ..Header::new(decoder, path, meaning, passed_end)
    })
}

/// A decoder for a JPEG in inks, if it has a profile that tells what they are.
fn jpeg_inks<'a>(bytes: &[u8]) -> Option<Box<dyn ImageDecoder + 'a>> {
    let mut plain = JpegDecoder::new(Cursor::new(bytes)).ok()?;
    let to_srgb = cmyk_to_srgb(&plain.icc_profile().ok()??)?;
    let orientation = plain.orientation().unwrap_or(Orientation::NoTransforms);
    let (bytes, size) = (bytes.to_vec(), plain.dimensions());
    let decoder = cmyk::Decoder::<Cursor<Vec<u8>>>::jpeg(bytes, size, orientation, to_srgb);
    Some(Box::new(decoder))
}

/// What the ICC profile says, else EXIF. A damaged profile or block is no reason to refuse the pixels.
fn colors_of(decoder: &mut impl ImageDecoder) -> FileColors {
    if let Ok(Some(icc)) = decoder.icc_profile() {
        return FileColors::from_icc(icc, decoder.color_type().channel_count() < 3);
    }
    let exif = decoder.exif_metadata().ok().flatten();
    if exif.is_some_and(|exif| is_adobe_rgb(&mut Cursor::new(exif))) {
        let adobe = FileColors::from_made(&ColorProfile::new_adobe_rgb(), true);
        return adobe.unwrap_or(FileColors::SRGB);
    }
    FileColors::SRGB
}

impl<'a> Header<'a> {
    fn new(
        decoder: Box<dyn ImageDecoder + 'a>,
        path: &'a Path,
        meaning: Meaning,
        passed_end: Rc<Cell<bool>>,
    ) -> Self {
        let (width, height) = decoder.dimensions();
        Self {
            decoder,
            path,
            width,
            height,
            meaning,
            colors: FileColors::SRGB,
            alpha: StoredAlpha::Opacity,
            passed_end,
            unended: None,
        }
    }

    /// Of a decoder that tells itself whether the file ends too early.
    #[cfg(any(feature = "jxl", feature = "avif"))]
    fn told(
        decoder: Box<dyn ImageDecoder + 'a>,
        path: &'a Path,
        meaning: Meaning,
        colors: FileColors,
    ) -> Self {
        let mut header = Self::new(decoder, path, meaning, Rc::default());
        if meaning == Meaning::Colors {
            header.colors = colors;
        }
        header
    }

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

    /// Decodes the samples as they are stored, with opacity only where the file means it.
    pub fn decode(mut self) -> Result<(DynamicImage, Attributes<'a>), PictureError> {
        let path = self.path;
        if let Some((bytes, structure)) = &self.unended
            && !pixels_are_there(bytes, *structure)
        {
            return Err(PictureError::EndsTooEarly { path: path.into() });
        }
        let attributes = Attributes {
            path,
            orientation: self.decoder.orientation().ok(),
            meaning: self.meaning,
            colors: self.colors,
        };
        let image = DynamicImage::from_decoder(self.decoder);
        let image = image.map_err(|error| failed(path, error, &self.passed_end))?;
        Ok((alpha::resolve(image, self.alpha), attributes))
    }
}

impl Attributes<'_> {
    /// The picture, upright, as f32, in sRGB over white.
    ///
    /// # Errors
    /// [`PictureError::Invisible`] if nothing of its colours can be seen.
    pub fn into_picture(self, image: DynamicImage) -> Result<Picture, PictureError> {
        let image = self.upright(image)?;
        let mut picture = self.convert(&image, 0..image.height())?;
        picture.icc_profile = self.colors.profile;
        Ok(picture)
    }

    /// The image, turned upright.
    ///
    /// # Errors
    /// See [`into_picture`](Self::into_picture).
    pub fn upright(&self, mut image: DynamicImage) -> Result<DynamicImage, PictureError> {
        if self.meaning == Meaning::Colors && alpha::is_transparent(&image) {
            return Err(PictureError::Invisible {
                path: self.path.into(),
            });
        }
        if let Some(orientation) = self.orientation {
            image.apply_orientation(orientation);
        }
        Ok(image)
    }

    /// Some rows of an image as f32, in sRGB over white, with alpha if any pixel is not opaque.
    pub fn convert(&self, image: &DynamicImage, rows: Range<u32>) -> Result<Picture, PictureError> {
        to_picture(image, rows, &self.colors.to_srgb)
    }
}

fn read(path: &Path, source: std::io::Error) -> PictureError {
    PictureError::Read {
        path: path.into(),
        source,
    }
}

/// The error of a decoder that tells itself whether the file ends too early.
#[cfg(any(feature = "jxl", feature = "avif"))]
fn told(path: &Path, error: ImageError) -> PictureError {
    failed(path, error, &Cell::new(false))
}

fn failed(path: &Path, error: ImageError, passed_end: &Cell<bool>) -> PictureError {
    match error {
        ImageError::IoError(source) if source.kind() == ErrorKind::UnexpectedEof => {
            PictureError::EndsTooEarly { path: path.into() }
        }
        ImageError::IoError(source) => read(path, source),
        ImageError::Decoding(_) if passed_end.get() => {
            PictureError::EndsTooEarly { path: path.into() }
        }
        source => PictureError::Decode {
            path: path.into(),
            source,
        },
    }
}
