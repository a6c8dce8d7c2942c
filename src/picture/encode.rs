//! Writing picture files, whole or not at all.

use std::borrow::Cow;
use std::io::{Cursor, Seek, Write};
use std::path::{Path, PathBuf};

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, ImageEncoder};
use tiff::encoder::colortype::{ColorType, RGB8, RGB16, RGBA8, RGBA16};
use tiff::encoder::{TiffEncoder, TiffValue};
use tiff::tags::Tag;

use super::color_profile::{Conversion, from_srgb};
use super::error::PictureError;
use super::format::{Depth, Format};
use super::metadata::{JPEG_SIGNATURE, Metadata, PNG_KEYWORD, TIFF_TAG};
use super::raster::Picture;
use crate::atomic;

type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveOptions {
    /// Bits of a channel; `None` keeps those of the picture where the format has them.
    pub depth: Option<Depth>,
    /// Quality of a JPEG, 1 to 100.
    pub jpeg_quality: u8,
    /// The space of the colours that are written.
    pub colors: SaveColors,
}

/// The space of the colours in a file that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SaveColors {
    /// That of the picture's ICC profile ([`Picture::icc_profile`]), which is written too; sRGB if it has
    /// none.
    #[default]
    Profile,
    /// sRGB, without a profile, which every program takes for sRGB.
    Srgb,
}

impl Default for SaveOptions {
    /// The picture's own depth and colour space; JPEG quality 95.
    fn default() -> Self {
        Self {
            depth: None,
            jpeg_quality: 95,
            colors: SaveColors::Profile,
        }
    }
}

/// Checks, before any work is done, that a picture can be written to `path`: the name tells a
/// format, the format has the depth, the folder exists and can be written to.
///
/// # Errors
/// The [`PictureError`] that saving would give.
pub fn check_output(path: &Path, options: SaveOptions) -> Result<(), PictureError> {
    let format = Format::from_path(path)?;
    if options.depth == Some(Depth::Sixteen) && !format.has_sixteen_bits() {
        return Err(PictureError::DepthUnsupported { path: path.into() });
    }
    if path.is_dir() {
        return Err(failed(path, "there is a folder of this name"));
    }
    check_folder(path)
}

/// Checks that a file of this name can be written: its folder exists and accepts files.
///
/// # Errors
/// [`PictureError::Write`].
pub fn check_folder(path: &Path) -> Result<(), PictureError> {
    atomic::check(path).map_err(|source| failed(path, source))
}

impl Picture {
    /// Writes the picture in the format that the name asks for. Values are rounded to the nearest
    /// step.
    ///
    /// # Errors
    /// [`PictureError`]; whatever happens, the file at `path` is either what it was or complete.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), PictureError> {
        self.save_with(path, SaveOptions::default())
    }

    /// [`Picture::save`] with options.
    ///
    /// # Errors
    /// See [`Picture::save`].
    pub fn save_with(
        &self,
        path: impl AsRef<Path>,
        options: SaveOptions,
    ) -> Result<(), PictureError> {
        let path = path.as_ref();
        check_output(path, options)?;
        let format = Format::from_path(path)?;
        atomic::write(path, |writer| self.encode(writer, format, options))
            .map_err(|source| failed(path, source))
    }

    /// The bytes of the file that [`Picture::save_with`] writes, in this format.
    ///
    /// # Errors
    /// [`PictureError::Encode`] for a picture or metadata that the format has no room for, and for 16 bits in
    /// a format without them.
    pub fn to_bytes(&self, format: Format, options: SaveOptions) -> Result<Vec<u8>, PictureError> {
        let encode = |source| PictureError::Encode { source };
        if options.depth == Some(Depth::Sixteen) && !format.has_sixteen_bits() {
            return Err(encode("16 bits a channel need PNG or TIFF".into()));
        }
        let mut file = Cursor::new(Vec::new());
        self.encode(&mut file, format, options).map_err(encode)?;
        Ok(file.into_inner())
    }

    fn encode(
        &self,
        writer: &mut (impl Write + Seek),
        format: Format,
        options: SaveOptions,
    ) -> Result<(), BoxedError> {
        let depth = match format.has_sixteen_bits() {
            true => options.depth.unwrap_or(self.depth),
            false => Depth::Eight,
        };
        let profile = match options.colors {
            SaveColors::Profile => self.icc_profile(),
            SaveColors::Srgb => None,
        };
        // One that cannot be converted into is not written.
        let conversion = profile.and_then(from_srgb);
        let profile = profile.filter(|_| conversion.is_some());
        let conversion = conversion.unwrap_or(Conversion::Identity);
        if self
            .metadata()
            .is_some_and(|metadata| !metadata.fits(format))
        {
            return Err("the metadata are larger than the format has room for".into());
        }
        let packet = self.metadata().map(Metadata::to_xmp);
        let container = Container {
            width: u32::try_from(self.width)?,
            height: u32::try_from(self.height)?,
            alpha: self.alpha.is_some() && format != Format::Jpeg,
            icc_profile: profile,
            packet: packet.as_deref(),
        };
        let alpha = container.alpha;
        let bytes = || self.samples(alpha, &conversion, 255.0, |value| value as u8);
        let words = || self.samples(alpha, &conversion, 65535.0, |value| value as u16);
        match (format, depth) {
            (Format::Png, Depth::Eight) => container.png(writer, png::BitDepth::Eight, &bytes()),
            (Format::Png, Depth::Sixteen) => {
                let words: Vec<u8> = words().into_iter().flat_map(u16::to_be_bytes).collect();
                container.png(writer, png::BitDepth::Sixteen, &words)
            }
            (Format::Tiff, Depth::Eight) if alpha => container.tiff::<RGBA8>(writer, &bytes()),
            (Format::Tiff, Depth::Eight) => container.tiff::<RGB8>(writer, &bytes()),
            (Format::Tiff, Depth::Sixteen) if alpha => container.tiff::<RGBA16>(writer, &words()),
            (Format::Tiff, Depth::Sixteen) => container.tiff::<RGB16>(writer, &words()),
            (Format::WebP, _) => container.webp(writer, &bytes()),
            (Format::Jpeg, _) => container.jpeg(writer, options.jpeg_quality, &bytes()),
        }
    }

    /// Interleaved integer samples, converted and rounded. Beside alpha the colours stand as they were
    /// before they were laid over white.
    fn samples<T>(
        &self,
        alpha: bool,
        conversion: &Conversion,
        maximum: f32,
        convert: impl Fn(f32) -> T,
    ) -> Vec<T> {
        let sample = |value: f32| convert((value.clamp(0.0, 1.0) * maximum).round());
        let opacity = self.alpha.as_deref().filter(|_| alpha);
        let mut samples = Vec::with_capacity(self.width * self.height * if alpha { 4 } else { 3 });
        let mut colors = Vec::with_capacity(3 * CHUNK);
        for (index, chunk) in self.rgb.chunks(3 * CHUNK).enumerate() {
            colors.clear();
            colors.extend_from_slice(chunk);
            let Some(opacity) = opacity else {
                conversion.apply(&mut colors);
                samples.extend(colors.iter().map(|&value| sample(value)));
                continue;
            };
            let opacity = &opacity[index * CHUNK..];
            for (rgb, &a) in colors.as_chunks_mut::<3>().0.iter_mut().zip(opacity) {
                *rgb = rgb.map(|value| match a {
                    0.0 => 0.0,
                    a => ((value - (1.0 - a)) / a).clamp(0.0, 1.0),
                });
            }
            conversion.apply(&mut colors);
            for (&[r, g, b], &a) in colors.as_chunks::<3>().0.iter().zip(opacity) {
                samples.extend([r, g, b, a].map(&sample));
            }
        }
        samples
    }
}

/// Pixels that are converted at a time.
const CHUNK: usize = 4096;
/// What a file says beside its samples.
struct Container<'a> {
    width: u32,
    height: u32,
    alpha: bool,
    icc_profile: Option<&'a [u8]>,
    /// XMP.
    packet: Option<&'a str>,
}

impl Container<'_> {
    /// Samples of 16 bits have the upper byte first.
    fn png(
        &self,
        writer: impl Write,
        depth: png::BitDepth,
        samples: &[u8],
    ) -> Result<(), BoxedError> {
        let mut info = png::Info::with_size(self.width, self.height);
        info.icc_profile = self.icc_profile.map(Cow::Borrowed);
        let mut encoder = png::Encoder::with_info(writer, info)?;
        encoder.set_color(match self.alpha {
            true => png::ColorType::Rgba,
            false => png::ColorType::Rgb,
        });
        encoder.set_depth(depth);
        encoder.set_compression(png::Compression::Fast);
        encoder.set_filter(png::Filter::Adaptive);
        if let Some(packet) = self.packet {
            encoder.add_itxt_chunk(PNG_KEYWORD.to_string(), packet.to_string())?;
        }
        let mut writer = encoder.write_header()?;
        writer.write_image_data(samples)?;
        Ok(writer.finish()?)
    }

    fn webp(&self, writer: impl Write, samples: &[u8]) -> Result<(), BoxedError> {
        let mut encoder = image_webp::WebPEncoder::new(writer);
        if let Some(profile) = self.icc_profile {
            encoder.set_icc_profile(profile.to_vec());
        }
        if let Some(packet) = self.packet {
            encoder.set_xmp_metadata(packet.as_bytes().to_vec());
        }
        let color = match self.alpha {
            true => image_webp::ColorType::Rgba8,
            false => image_webp::ColorType::Rgb8,
        };
        Ok(encoder.encode(samples, self.width, self.height, color)?)
    }

    fn tiff<C: ColorType>(
        &self,
        writer: impl Write + Seek,
        samples: &[C::Inner],
    ) -> Result<(), BoxedError>
    where
        [C::Inner]: TiffValue,
    {
        let mut encoder = TiffEncoder::new(writer)?;
        let mut image = encoder.new_image::<C>(self.width, self.height)?;
        if let Some(profile) = self.icc_profile {
            image.encoder().write_tag(Tag::IccProfile, profile)?;
        }
        if let Some(packet) = self.packet {
            let tag = Tag::Unknown(TIFF_TAG);
            image.encoder().write_tag(tag, packet.as_bytes())?;
        }
        Ok(image.write_data(samples)?)
    }

    /// The encoder has no place for XMP: its segment is put behind the JFIF header.
    fn jpeg(&self, mut writer: impl Write, quality: u8, samples: &[u8]) -> Result<(), BoxedError> {
        let mut file = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut file, quality.clamp(1, 100));
        if let Some(profile) = self.icc_profile {
            encoder.set_icc_profile(profile.to_vec())?;
        }
        encoder.write_image(samples, self.width, self.height, ExtendedColorType::Rgb8)?;
        let Some(packet) = self.packet else {
            return Ok(writer.write_all(&file)?);
        };
        let length = u16::try_from(2 + JPEG_SIGNATURE.len() + packet.len())?;
        let header = match file.get(2..6) {
            Some(&[0xff, 0xe0, high, low]) => 4 + usize::from(u16::from_be_bytes([high, low])),
            _ => 2,
        };
        let (header, rest) = file.split_at(header.min(file.len()));
        let length = length.to_be_bytes();
        let marker = [0xff, 0xe1];
        for part in [
            header,
            &marker,
            &length,
            JPEG_SIGNATURE,
            packet.as_bytes(),
            rest,
        ] {
            writer.write_all(part)?;
        }
        Ok(())
    }
}

fn failed(path: &Path, source: impl Into<BoxedError>) -> PictureError {
    PictureError::Write {
        path: PathBuf::from(path),
        source: source.into(),
    }
}
