//! Writing picture files, whole or not at all.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, tiff::TiffEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder};

use super::error::PictureError;
use super::format::{Depth, Format};
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
}

impl Default for SaveOptions {
    /// The picture's own depth; JPEG quality 95.
    fn default() -> Self {
        Self {
            depth: None,
            jpeg_quality: 95,
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
        let mut depth = options.depth.unwrap_or(self.depth);
        if !format.has_sixteen_bits() {
            depth = Depth::Eight;
        }
        atomic::write(path, |writer| {
            self.encode(writer, format, depth, options.jpeg_quality)
        })
        .map_err(|source| failed(path, source))
    }

    fn encode(
        &self,
        writer: &mut BufWriter<tempfile::NamedTempFile>,
        format: Format,
        depth: Depth,
        quality: u8,
    ) -> Result<(), BoxedError> {
        let alpha = self.alpha.is_some() && format != Format::Jpeg;
        let color = match (depth, alpha) {
            (Depth::Eight, false) => ExtendedColorType::Rgb8,
            (Depth::Eight, true) => ExtendedColorType::Rgba8,
            (Depth::Sixteen, false) => ExtendedColorType::Rgb16,
            (Depth::Sixteen, true) => ExtendedColorType::Rgba16,
        };
        let samples = match depth {
            Depth::Eight => self.samples(alpha, 255.0, |value| value as u8),
            Depth::Sixteen => {
                let samples = self.samples(alpha, 65535.0, |value| value as u16);
                bytemuck::cast_slice(&samples).to_vec()
            }
        };
        let size = (self.width as u32, self.height as u32);
        match format {
            Format::Png => self.write(PngEncoder::new(writer), &samples, size, color),
            Format::WebP => self.write(WebPEncoder::new_lossless(writer), &samples, size, color),
            Format::Jpeg => {
                let encoder = JpegEncoder::new_with_quality(writer, quality.clamp(1, 100));
                self.write(encoder, &samples, size, color)
            }
            Format::Tiff => self.write(TiffEncoder::new(writer), &samples, size, color),
        }
    }

    fn write(
        &self,
        mut encoder: impl ImageEncoder,
        samples: &[u8],
        (width, height): (u32, u32),
        color: ExtendedColorType,
    ) -> Result<(), BoxedError> {
        if let Some(profile) = &self.icc_profile {
            encoder.set_icc_profile(profile.clone())?;
        }
        Ok(encoder.write_image(samples, width, height, color)?)
    }

    /// Interleaved integer samples, rounded. Beside alpha the colours stand as they were before they
    /// were laid over white.
    fn samples<T>(&self, alpha: bool, maximum: f32, convert: impl Fn(f32) -> T) -> Vec<T> {
        let sample = |value: f32| convert((value * maximum).round());
        let colors = self.rgb.as_chunks::<3>().0.iter();
        match &self.alpha {
            Some(opacity) if alpha => colors
                .zip(opacity)
                .flat_map(|(rgb, &a)| {
                    let [r, g, b] = rgb.map(|value| match a {
                        0.0 => 0.0,
                        a => ((value - (1.0 - a)) / a).clamp(0.0, 1.0),
                    });
                    [r, g, b, a].map(&sample)
                })
                .collect(),
            _ => colors.flat_map(|rgb| rgb.map(&sample)).collect(),
        }
    }
}

fn failed(path: &Path, source: impl Into<BoxedError>) -> PictureError {
    PictureError::Write {
        path: PathBuf::from(path),
        source: source.into(),
    }
}
