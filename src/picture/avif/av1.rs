//! The compressed pictures of AVIF files: AV1.

use image::ImageResult;
use re_rav1d::dav1d::{Decoder, Error, Picture, PixelLayout, PlanarImageComponent, Settings};

use super::heif::{CodePoints, Coded, name};
use crate::picture::decoder_error::damaged;

/// How colours are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Luminance alone.
    Grey,
    /// Three planes; the last two may have half the width, and half the height.
    Color { half_width: bool, half_height: bool },
}

/// What the header of a compressed picture says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub bits: u8,
    pub layout: Layout,
    pub code_points: CodePoints,
}

/// A decoded picture.
pub(super) struct Planes {
    pub width: usize,
    pub height: usize,
    pub bits: u8,
    pub layout: Layout,
    pub planes: Vec<Plane>,
}

#[derive(Clone)]
pub(super) struct Plane {
    pub width: usize,
    pub samples: Vec<u16>,
}

impl Sequence {
    /// Reads the header of compressed data.
    pub(super) fn read(data: &[u8]) -> ImageResult<Self> {
        let header = sequence_header(data);
        header.ok_or_else(|| damaged(name(), "there is no header of an AV1 picture"))
    }
}

/// Looks for the unit with the header (AV1 specification, 5.3).
fn sequence_header(mut data: &[u8]) -> Option<Sequence> {
    const SEQUENCE_HEADER: u8 = 1;
    loop {
        let (&head, mut rest) = data.split_first()?;
        if head & 0b100 != 0 {
            rest = rest.get(1..)?;
        }
        let mut size = rest.len();
        if head & 0b10 != 0 {
            let mut number = 0u64;
            for place in 0.. {
                let (&byte, behind) = rest.split_first()?;
                rest = behind;
                number |= u64::from(byte & 0x7f) << (7 * place);
                if byte < 0x80 {
                    break;
                }
                if place == 7 {
                    return None;
                }
            }
            size = usize::try_from(number).ok()?;
        }
        let unit = rest.get(..size)?;
        if head >> 3 & 15 == SEQUENCE_HEADER {
            return Bits { bytes: unit, at: 0 }.sequence();
        }
        data = &rest[size..];
    }
}

/// Bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    fn number(&mut self, bits: u32) -> Option<u32> {
        (0..bits).try_fold(0, |number, _| Some(number << 1 | u32::from(self.flag()?)))
    }

    fn skip(&mut self, bits: u32) -> Option<()> {
        self.number(bits).map(drop)
    }

    /// A number after as many zeros as it has bits.
    fn skip_variable(&mut self) -> Option<()> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        self.skip(zeros)
    }

    /// The header (AV1 specification, 5.5).
    fn sequence(&mut self) -> Option<Sequence> {
        let profile = self.number(3)?;
        self.skip(1)?;
        let reduced = self.flag()?;
        if reduced {
            self.skip(5)?;
        } else {
            self.skip_operating_points()?;
        }
        let (width_bits, height_bits) = (self.number(4)? + 1, self.number(4)? + 1);
        self.skip(width_bits)?;
        self.skip(height_bits)?;
        if !reduced && self.flag()? {
            self.skip(4 + 3)?;
        }
        self.skip(3)?;
        if !reduced {
            self.skip(4)?;
            let order_hint = self.flag()?;
            if order_hint {
                self.skip(2)?;
            }
            // Chosen by each frame, or here.
            let screen_content = self.flag()? || self.flag()?;
            if screen_content && !self.flag()? {
                self.skip(1)?;
            }
            if order_hint {
                self.skip(3)?;
            }
        }
        self.skip(3)?;
        self.color(profile)
    }

    fn skip_operating_points(&mut self) -> Option<()> {
        let mut delay_bits = None;
        if self.flag()? {
            self.skip(32)?;
            self.skip(32)?;
            if self.flag()? {
                self.skip_variable()?;
            }
            if self.flag()? {
                delay_bits = Some(self.number(5)? + 1);
                self.skip(32)?;
                self.skip(5 + 5)?;
            }
        }
        let display_delay = self.flag()?;
        for _ in 0..=self.number(5)? {
            self.skip(12)?;
            if self.number(5)? > 7 {
                self.skip(1)?;
            }
            if let Some(bits) = delay_bits
                && self.flag()?
            {
                self.skip(bits)?;
                self.skip(bits)?;
                self.skip(1)?;
            }
            if display_delay && self.flag()? {
                self.skip(4)?;
            }
        }
        Some(())
    }

    fn color(&mut self, profile: u32) -> Option<Sequence> {
        let high = self.flag()?;
        let bits = match (high, profile == 2 && high && self.flag()?) {
            (false, _) => 8,
            (true, false) => 10,
            (true, true) => 12,
        };
        let grey = profile != 1 && self.flag()?;
        let described = self.flag()?;
        let mut point = || match described {
            true => self.number(8).map(|number| number as u16),
            false => Some(UNSPECIFIED),
        };
        let (primaries, transfer, matrix) = (point()?, point()?, point()?);
        let mut layout = Layout::Grey;
        let mut full_range = true;
        if grey {
            full_range = self.flag()?;
        } else {
            let is_rgb = (primaries, transfer, matrix) == (1, 13, 0);
            if !is_rgb {
                full_range = self.flag()?;
            }
            let (half_width, half_height) = match (is_rgb, profile, bits) {
                (true, ..) | (_, 1, _) => (false, false),
                (_, 0, _) => (true, true),
                (_, _, 12) => {
                    let half_width = self.flag()?;
                    (half_width, half_width && self.flag()?)
                }
                _ => (true, false),
            };
            layout = Layout::Color {
                half_width,
                half_height,
            };
        }
        Some(Sequence {
            bits,
            layout,
            code_points: CodePoints {
                primaries,
                transfer,
                matrix,
                full_range,
            },
        })
    }
}

const UNSPECIFIED: u16 = 2;

/// Pixels of a tile that is small, whatever it is a part of.
const SMALL: u64 = 1 << 16;

/// Decodes a picture, which must be as its header said.
pub(super) fn decode(coded: Coded, sequence: Sequence) -> ImageResult<Planes> {
    let other = || damaged(name(), "a picture is not what its header says");
    let (width, height) = (coded.width as usize, coded.height as usize);
    let columns = coded.columns as usize;
    let rows = coded.tiles.len() / columns.max(1);
    // A tile covers no more than the picture, or is small.
    let most = u64::from(coded.width) * u64::from(coded.height);
    let most = most.max(if coded.is_grid { SMALL } else { 0 });
    let (mut whole, mut tile_size) = (None, None);
    for (index, tile) in coded.tiles.into_iter().enumerate() {
        let tile = decode_tile(tile, most)?;
        let size = (tile.width, tile.height);
        let fits = match coded.is_grid {
            false => size == (width, height),
            true => width.div_ceil(tile.width) == columns && height.div_ceil(tile.height) == rows,
        };
        let fits = fits && *tile_size.get_or_insert(size) == size;
        if !fits || tile.bits != sequence.bits || tile.layout != sequence.layout {
            return Err(other());
        }
        if !coded.is_grid {
            return Ok(tile);
        }
        let whole = whole.get_or_insert_with(|| Planes::empty(width, height, sequence));
        let (x, y) = (index % columns * tile.width, index / columns * tile.height);
        whole.place(&tile, x, y).ok_or_else(other)?;
    }
    whole.ok_or_else(other)
}

impl Planes {
    fn empty(width: usize, height: usize, sequence: Sequence) -> Self {
        let planes = sequence.layout.sizes(width, height).into_iter();
        let plane = |(width, height)| Plane {
            width,
            samples: vec![0; width * height],
        };
        Self {
            width,
            height,
            bits: sequence.bits,
            layout: sequence.layout,
            planes: planes.map(plane).collect(),
        }
    }

    /// Puts a tile at a place; what is beyond the edge is left out. `None` where planes of half the size
    /// would not meet.
    fn place(&mut self, tile: &Self, x: usize, y: usize) -> Option<()> {
        let (across, down) = self.layout.halves();
        if !x.is_multiple_of(across) || !y.is_multiple_of(down) {
            return None;
        }
        for (index, (plane, from)) in self.planes.iter_mut().zip(&tile.planes).enumerate() {
            let (x, y) = if index == 0 {
                (x, y)
            } else {
                (x / across, y / down)
            };
            let count = from.width.min(plane.width - x);
            let rows = plane.samples.chunks_mut(plane.width).skip(y);
            for (row, from) in rows.zip(from.samples.chunks(from.width)) {
                row[x..x + count].copy_from_slice(&from[..count]);
            }
        }
        Some(())
    }
}

impl Layout {
    /// How many pixels a sample of the later planes stands for, across and down.
    pub(super) fn halves(self) -> (usize, usize) {
        match self {
            Self::Grey => (1, 1),
            Self::Color {
                half_width,
                half_height,
            } => (1 + usize::from(half_width), 1 + usize::from(half_height)),
        }
    }

    /// Of every plane.
    fn sizes(self, width: usize, height: usize) -> Vec<(usize, usize)> {
        let (across, down) = self.halves();
        let small = (width.div_ceil(across), height.div_ceil(down));
        match self {
            Self::Grey => vec![(width, height)],
            Self::Color { .. } => vec![(width, height), small, small],
        }
    }
}

/// Decodes the first picture of some data, of no more pixels than `most`.
fn decode_tile(data: Vec<u8>, most: u64) -> ImageResult<Planes> {
    let failed = |error: Error| damaged(name(), error.to_string());
    let mut settings = Settings::new();
    settings.set_n_threads(1);
    settings.set_max_frame_delay(1);
    settings.set_all_layers(false);
    settings.set_frame_size_limit(u32::try_from(most).unwrap_or(u32::MAX));
    let mut decoder = Decoder::with_settings(&settings).map_err(failed)?;
    let mut sent = decoder.send_data(data, None, None, None);
    loop {
        match decoder.get_picture() {
            Ok(picture) => return copy(&picture),
            Err(Error::Again) => {}
            Err(error) => return Err(failed(error)),
        }
        match sent {
            Ok(()) => return Err(damaged(name(), "there is no picture")),
            Err(Error::Again) => sent = decoder.send_pending_data(),
            Err(error) => return Err(failed(error)),
        }
    }
}

fn copy(picture: &Picture) -> ImageResult<Planes> {
    use PlanarImageComponent::{U, V, Y};
    let color = |half_width, half_height| Layout::Color {
        half_width,
        half_height,
    };
    let layout = match picture.pixel_layout() {
        PixelLayout::I400 => Layout::Grey,
        PixelLayout::I420 => color(true, true),
        PixelLayout::I422 => color(true, false),
        PixelLayout::I444 => color(false, false),
    };
    let bits = picture.bits_per_component().map_or(0, |bits| bits.0 as u8);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let sizes = layout.sizes(width, height).into_iter();
    let planes = sizes.zip([Y, U, V]).map(|((width, height), component)| {
        let stride = picture.stride(component) as usize;
        let bytes = picture.plane(component);
        let mut samples = Vec::with_capacity(width * height);
        for row in bytes.chunks(stride.max(1)).take(height) {
            if bits == 8 {
                samples.extend(row.iter().take(width).copied().map(u16::from));
            } else {
                let pairs = row.as_chunks::<2>().0.iter().take(width);
                samples.extend(pairs.map(|pair| u16::from_ne_bytes(*pair)));
            }
        }
        (samples.len() == width * height).then_some(Plane { width, samples })
    });
    let planes: Option<Vec<Plane>> = planes.collect();
    Ok(Planes {
        width,
        height,
        bits,
        layout,
        planes: planes.ok_or_else(|| damaged(name(), "a plane is too small"))?,
    })
}
