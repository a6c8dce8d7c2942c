//! Pictures in inks: JPEG and TIFF files in CMYK that carry a profile, read as sRGB.

use std::io::{BufRead, Seek};

use image::error::{DecodingError, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageFormat, ImageResult};
use tiff::decoder::{Decoder as TiffDecoder, DecodingResult, Limits};
use tiff::tags::Tag;
use zune_core::colorspace::ColorSpace;

use super::alpha::StoredAlpha;
use super::decoder_error::unsupported;
use super::jpeg;
use super::profile_table::ProfileTable;

/// A decoder that gives RGB in 8 or 16 bits, as the file has, converted by its profile.
pub(super) struct Decoder<R: BufRead + Seek> {
    source: Source<R>,
    size: (u32, u32),
    orientation: Orientation,
    to_srgb: ProfileTable,
}

enum Source<R: BufRead + Seek> {
    /// The bytes of the file.
    Jpeg(Vec<u8>),
    Tiff {
        decoder: Box<TiffDecoder<R>>,
        sixteen: bool,
    },
}

impl<R: BufRead + Seek> Decoder<R> {
    /// Of a JPEG file's bytes, with what its header says.
    pub(super) fn jpeg(
        bytes: Vec<u8>,
        size: (u32, u32),
        orientation: Orientation,
        to_srgb: ProfileTable,
    ) -> Self {
        Self {
            source: Source::Jpeg(bytes),
            size,
            orientation,
            to_srgb,
        }
    }

    /// Of a TIFF file in inks; the decoder may allocate `max_alloc` bytes.
    pub(super) fn tiff(
        file: R,
        sixteen: bool,
        to_srgb: ProfileTable,
        max_alloc: u64,
    ) -> ImageResult<Self> {
        let bytes = usize::try_from(max_alloc).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = bytes;
        limits.intermediate_buffer_size = bytes;
        let mut decoder = TiffDecoder::new(file)
            .map_err(from_tiff)?
            .with_limits(limits);
        let size = decoder.dimensions().map_err(from_tiff)?;
        let turned = decoder.find_tag_unsigned::<u8>(Tag::Orientation);
        let turned = turned.ok().flatten().and_then(Orientation::from_exif);
        Ok(Self {
            source: Source::Tiff {
                decoder: Box::new(decoder),
                sixteen,
            },
            size,
            orientation: turned.unwrap_or(Orientation::NoTransforms),
            to_srgb,
        })
    }
}

/// What the header of a TIFF file says that the `image` crate does not tell.
pub(super) struct TiffFacts {
    pub profile: Option<Vec<u8>>,
    pub grey: bool,
    /// Whether the pixels are inks, and then whether in 16 bits.
    pub inks: Option<bool>,
    pub alpha: StoredAlpha,
}

impl TiffFacts {
    pub(super) fn read(file: &mut (impl BufRead + Seek)) -> Self {
        let mut facts = Self {
            profile: None,
            grey: false,
            inks: None,
            alpha: StoredAlpha::Undeclared,
        };
        // What is wrong with the file is told when its pixels are read.
        let decoder = file
            .rewind()
            .ok()
            .and_then(|()| TiffDecoder::new(file).ok());
        let Some(mut decoder) = decoder else {
            return facts;
        };
        facts.profile = decoder.get_tag_u8_vec(Tag::IccProfile).ok();
        match decoder.colortype() {
            Ok(tiff::ColorType::Gray(_) | tiff::ColorType::GrayA(_)) => facts.grey = true,
            Ok(tiff::ColorType::CMYK(8)) => facts.inks = Some(false),
            Ok(tiff::ColorType::CMYK(16)) => facts.inks = Some(true),
            _ => {}
        }
        let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples);
        facts.alpha = match extra.ok().flatten().as_deref() {
            Some([1, ..]) => StoredAlpha::Premultiplied,
            Some([2, ..]) => StoredAlpha::Opacity,
            _ => StoredAlpha::Undeclared,
        };
        facts
    }
}

impl<R: BufRead + Seek> ImageDecoder for Decoder<R> {
    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn color_type(&self) -> ColorType {
        match self.source {
            Source::Tiff { sixteen: true, .. } => ColorType::Rgb16,
            _ => ColorType::Rgb8,
        }
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        Ok(self.orientation)
    }

    fn read_image(self, rgb: &mut [u8]) -> ImageResult<()> {
        let table = &self.to_srgb;
        let read_u8 = |ink: u8| f32::from(ink) / 255.0;
        let write_u8 = |value: f32| (value * 255.0).round() as u8;
        let mut decoder = match self.source {
            Source::Jpeg(bytes) => {
                convert(&jpeg_inks(&bytes)?, rgb, table, read_u8, write_u8);
                return Ok(());
            }
            Source::Tiff { decoder, .. } => decoder,
        };
        let mut inks = DecodingResult::U8(Vec::new());
        let layout = decoder.read_image_to_buffer(&mut inks).map_err(from_tiff)?;
        match inks {
            _ if layout.planes > 1 => Err(unsupported(ImageFormat::Tiff, "CMYK in planes")),
            DecodingResult::U8(inks) => {
                convert(&inks, rgb, table, read_u8, write_u8);
                Ok(())
            }
            DecodingResult::U16(inks) => {
                let rgb = bytemuck::try_cast_slice_mut(rgb);
                let rgb = rgb.map_err(|_| unsupported(ImageFormat::Tiff, "unaligned samples"))?;
                let read = |ink| f32::from(ink) / 65_535.0;
                convert(&inks, rgb, table, read, |value| {
                    (value * 65_535.0).round() as u16
                });
                Ok(())
            }
            _ => Err(unsupported(ImageFormat::Tiff, "CMYK of this depth")),
        }
    }

    fn read_image_boxed(self: Box<Self>, rgb: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(rgb)
    }
}

/// Converts amounts of ink, four by four, to RGB.
fn convert<T: Copy>(
    inks: &[T],
    rgb: &mut [T],
    table: &ProfileTable,
    read: impl Fn(T) -> f32,
    write: impl Fn(f32) -> T,
) {
    let pixels = inks.as_chunks::<4>().0.iter();
    for (&inks, rgb) in pixels.zip(rgb.as_chunks_mut::<3>().0) {
        *rgb = table.srgb_of(inks.map(&read)).map(&write);
    }
}

/// The amounts of ink of a JPEG. Adobe's programs, and all others after them, store how little there is
/// of each.
fn jpeg_inks(bytes: &[u8]) -> ImageResult<Vec<u8>> {
    let mut decoder = jpeg::decoder(bytes);
    let failed = |error: zune_jpeg::errors::DecodeErrors| {
        ImageError::Decoding(DecodingError::new(
            ImageFormat::Jpeg.into(),
            error.to_string(),
        ))
    };
    decoder.decode_headers().map_err(failed)?;
    let stored = decoder.input_colorspace();
    let stored = stored.ok_or_else(|| unsupported(ImageFormat::Jpeg, "CMYK without a header"))?;
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(stored));
    let mut samples = decoder.decode().map_err(failed)?;
    for [c, m, y, k] in samples.as_chunks_mut::<4>().0 {
        *k = 255 - *k;
        if stored == ColorSpace::YCCK {
            // Luminance and colour differences of RGB (JFIF), which is what is left of white beside the
            // stored complement: the amount of ink.
            let [luminance, blue, red] = [*c, *m, *y].map(f32::from);
            let (blue, red) = (blue - 128.0, red - 128.0);
            let rgb = [
                luminance + 1.402 * red,
                luminance - 0.344_136 * blue - 0.714_136 * red,
                luminance + 1.772 * blue,
            ];
            [*c, *m, *y] = rgb.map(|value| value.round() as u8);
        } else {
            [*c, *m, *y] = [255 - *c, 255 - *m, 255 - *y];
        }
    }
    Ok(samples)
}

fn from_tiff(error: tiff::TiffError) -> ImageError {
    match error {
        tiff::TiffError::IoError(error) => ImageError::IoError(error),
        tiff::TiffError::LimitsExceeded => {
            ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        error => ImageError::Decoding(DecodingError::new(ImageFormat::Tiff.into(), error)),
    }
}
