//! AVIF: pictures of AV1 ([`av1`]) in the container of HEIF ([`heif`]), whose luminance and colour
//! differences become RGB ([`yuv`]).

mod av1;
mod heif;
mod yuv;

use std::io::{BufRead, Seek};

use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageResult};

use self::av1::{Layout, Sequence, decode};
use self::heif::{CodePoints, Still, name};
use self::yuv::{Matrix, Rows};
use super::code_points::of_code_points;
use super::color_profile::{Conversion, FileColors};
use super::decoder_error::{damaged, unsupported};

/// A decoder of the still picture of a file, with colours that are not multiplied by their opacity.
pub(super) struct Decoder {
    still: Still,
    color: Sequence,
    alpha: Option<Sequence>,
    points: CodePoints,
    matrix: Matrix,
}

impl Decoder {
    /// Reads the headers and the compressed data, of these no more than `max_alloc` bytes.
    pub(super) fn new(mut file: impl BufRead + Seek, max_alloc: u64) -> ImageResult<Self> {
        let still = heif::read(&mut file, max_alloc)?;
        let color = Sequence::read(first(&still.color.tiles)?)?;
        let alpha = match &still.alpha {
            Some(alpha) => Some(Sequence::read(first(&alpha.tiles)?)?),
            None => None,
        };
        // What the container says counts before what the picture says.
        let points = still.code_points.unwrap_or(color.code_points);
        let matrix = Matrix::of_code_point(points.matrix).ok_or_else(|| {
            let what = format!("the matrix coefficients {} of ITU-T H.273", points.matrix);
            unsupported(name(), &what)
        })?;
        if matrix == Matrix::Identity && color.layout.halves() != (1, 1) {
            return Err(damaged(name(), "RGB in planes of different sizes"));
        }
        Ok(Self {
            still,
            color,
            alpha,
            points,
            matrix,
        })
    }

    /// What the decoded colours mean.
    pub(super) fn colors(&self) -> FileColors {
        if let Some(icc) = &self.still.icc {
            return FileColors::from_icc(icc.clone(), self.color.layout == Layout::Grey);
        }
        let [primaries, transfer] = [self.points.primaries, self.points.transfer].map(u8::try_from);
        let (Ok(primaries), Ok(transfer)) = (primaries, transfer) else {
            return FileColors::SRGB;
        };
        match of_code_points(primaries, transfer, "an AVIF file") {
            Some(colors) if !matches!(colors.to_srgb, Conversion::Identity) => colors,
            _ => FileColors::SRGB,
        }
    }

    fn crop(&self) -> [u32; 4] {
        let color = &self.still.color;
        self.still.crop.unwrap_or([0, 0, color.width, color.height])
    }

    fn is_deep(&self) -> bool {
        self.color.bits > 8 || self.alpha.is_some_and(|alpha| alpha.bits > 8)
    }
}

fn first(tiles: &[Vec<u8>]) -> ImageResult<&[u8]> {
    let first = tiles.first().map(Vec::as_slice);
    first.ok_or_else(|| damaged(name(), "a picture has no parts"))
}

impl ImageDecoder for Decoder {
    fn dimensions(&self) -> (u32, u32) {
        let [.., width, height] = self.crop();
        (width, height)
    }

    fn color_type(&self) -> ColorType {
        match (self.color.layout, self.alpha.is_some(), self.is_deep()) {
            (Layout::Grey, false, false) => ColorType::L8,
            (Layout::Grey, true, false) => ColorType::La8,
            (Layout::Grey, false, true) => ColorType::L16,
            (Layout::Grey, true, true) => ColorType::La16,
            (Layout::Color { .. }, false, false) => ColorType::Rgb8,
            (Layout::Color { .. }, true, false) => ColorType::Rgba8,
            (Layout::Color { .. }, false, true) => ColorType::Rgb16,
            (Layout::Color { .. }, true, true) => ColorType::Rgba16,
        }
    }

    fn orientation(&mut self) -> ImageResult<Orientation> {
        Ok(self.still.orientation)
    }

    fn read_image(self, samples: &mut [u8]) -> ImageResult<()> {
        let crop = self.crop();
        let is_deep = self.is_deep();
        let color = decode(self.still.color, self.color)?;
        let alpha = match self.still.alpha.zip(self.alpha) {
            Some((alpha, sequence)) => Some((decode(alpha, sequence)?, sequence.code_points)),
            None => None,
        };
        let rows = Rows::new(&color, self.matrix, self.points);
        let alpha = alpha.as_ref();
        let alpha = alpha.map(|(planes, points)| Rows::new(planes, self.matrix, *points));
        let pixels = Pixels {
            color: rows,
            channels: if color.layout == Layout::Grey { 1 } else { 3 },
            alpha,
            premultiplied: self.still.premultiplied,
            crop,
        };
        if is_deep {
            let samples = bytemuck::try_cast_slice_mut::<u8, u16>(samples);
            let samples = samples.map_err(|_| unsupported(name(), "unaligned samples"))?;
            pixels.write(samples, |value| (value * 65_535.0).round() as u16);
        } else {
            pixels.write(samples, |value| (value * 255.0).round() as u8);
        }
        Ok(())
    }

    fn read_image_boxed(self: Box<Self>, samples: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(samples)
    }
}

/// The shown pixels of a decoded picture.
struct Pixels<'a> {
    color: Rows<'a>,
    /// Of the colour alone.
    channels: usize,
    alpha: Option<Rows<'a>>,
    premultiplied: bool,
    /// Left, top, width and height.
    crop: [u32; 4],
}

impl Pixels<'_> {
    fn write<T>(&self, samples: &mut [T], encode: impl Fn(f32) -> T) {
        let [left, top, width, height] = self.crop.map(|side| side as usize);
        let (mut color, mut opacity) = (Vec::new(), Vec::new());
        let mut samples = samples.iter_mut();
        let mut put = |value| {
            if let Some(sample) = samples.next() {
                *sample = encode(value);
            }
        };
        for y in top..top + height {
            self.color.read(y, &mut color);
            let pixels = color.chunks(self.channels).skip(left).take(width);
            let Some(alpha) = &self.alpha else {
                pixels.flatten().for_each(|&value| put(value));
                continue;
            };
            alpha.read_first(y, &mut opacity);
            for (pixel, &opacity) in pixels.zip(&opacity[left..]) {
                for &value in pixel {
                    let divided = value / opacity.max(f32::MIN_POSITIVE);
                    put(if self.premultiplied {
                        divided.min(1.0)
                    } else {
                        value
                    });
                }
                put(opacity);
            }
        }
    }
}
