//! JPEG XL.

use std::io::{BufRead, Error, IoSliceMut, Seek, SeekFrom};

use image::error::ImageFormatHint;
use image::{ColorType, ImageDecoder, ImageError, ImageResult};
use jxl::api::{
    AlphaMode, Event, ExtraChannel, JxlBasicInfo, JxlBitDepth, JxlBitstreamInput, JxlColorEncoding,
    JxlColorProfile, JxlColorType, JxlDataFormat, JxlDecoder, JxlDecoderOptions, JxlOutputBuffer,
    JxlPixelFormat, JxlTransferFunction, ProfileLevel,
};
use moxcms::{Chromaticity, ColorPrimaries, TransferCharacteristics};

use super::code_points::{Transfer, of_chromaticities};
use super::color_profile::FileColors;
use super::decoder_error::{damaged, ends_too_early, unsupported};

/// Bytes for each sample of a frame while it is decoded, of the picture itself and of the frames that it
/// may refer to.
const BYTES_PER_SAMPLE: u64 = 24;

/// A decoder of the first frame, upright and with colours that are not multiplied by their opacity.
pub(super) struct Decoder<R> {
    file: R,
    size: (u32, u32),
    layout: Layout,
    colors: FileColors,
    max_alloc: u64,
}

/// The form of the decoded samples.
#[derive(Clone)]
struct Layout {
    color_type: ColorType,
    pixels: JxlPixelFormat,
}

impl<R: BufRead + Seek> Decoder<R> {
    /// Reads the header of a file; to decode it may take about `max_alloc` bytes.
    pub(super) fn new(mut file: R, max_alloc: u64) -> ImageResult<Self> {
        let mut decoder = decoder(None);
        let mut input = Input::new(&mut file)?;
        let info = &read_header(&mut decoder, &mut input)?;
        let format = decoder.current_pixel_format();
        let grey = format.is_some_and(|format| format.color_type.is_grayscale());
        let layout = Layout::of(info, grey)?;
        let side = |side| u32::try_from(side).map_err(|_| unsupported(name(), "such a size"));
        let size = (side(info.size.0)?, side(info.size.1)?);
        let colors = colors_of(&mut decoder, &layout)?;
        Ok(Self {
            file,
            size,
            layout,
            colors,
            max_alloc,
        })
    }

    /// What the decoded colours mean.
    pub(super) fn colors(&self) -> FileColors {
        self.colors.clone()
    }
}

impl<R: BufRead + Seek> ImageDecoder for Decoder<R> {
    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn color_type(&self) -> ColorType {
        self.layout.color_type
    }

    fn read_image(mut self, samples: &mut [u8]) -> ImageResult<()> {
        // Frames may be larger than the picture, and there may be any number of channels that are not
        // shown, but within what is allowed.
        let (width, height) = (u64::from(self.size.0), u64::from(self.size.1));
        let channels = self.layout.pixels.extra_channel_format.len() as u64 + 3;
        let own = (width.max(16) * height).saturating_mul(channels) + 1;
        let most = own.min(self.max_alloc / 4 + 1);
        let most = most.max(self.max_alloc / BYTES_PER_SAMPLE);
        let mut decoder = decoder(Some(usize::try_from(most).unwrap_or(usize::MAX)));
        let mut input = Input::new(&mut self.file)?;
        read_header(&mut decoder, &mut input)?;
        let set = decoder.set_pixel_format(self.layout.pixels.clone());
        set.map_err(|error| damaged(name(), error))?;
        let bytes_per_sample = match self.layout.color_type {
            ColorType::Rgb32F | ColorType::Rgba32F => align_of::<f32>(),
            ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => {
                align_of::<u16>()
            }
            _ => 1,
        };
        if samples.as_ptr().align_offset(bytes_per_sample) != 0 {
            return Err(unsupported(name(), "unaligned samples"));
        }
        let rows = self.size.1 as usize;
        let row = samples.len() / rows.max(1);
        let mut output = [JxlOutputBuffer::new(samples, rows, row)];
        loop {
            let event = decoder.process(&mut input, Some(&mut output), None);
            match event.map_err(|error| damaged(name(), error))? {
                Event::FrameHeader => {}
                Event::FrameComplete { .. } => return Ok(()),
                Event::NeedMoreInput { .. } => return Err(ends_too_early()),
                Event::BasicInfo | Event::Complete => {
                    return Err(damaged(name(), "there is no frame"));
                }
            }
        }
    }

    fn read_image_boxed(self: Box<Self>, samples: &mut [u8]) -> ImageResult<()> {
        (*self).read_image(samples)
    }
}

fn name() -> ImageFormatHint {
    ImageFormatHint::Name("JPEG XL".to_string())
}

fn decoder(sample_limit: Option<usize>) -> JxlDecoder {
    let mut options = JxlDecoderOptions::default();
    options.alpha_mode = AlphaMode::Unpremultiplied;
    options.max_profile_level = ProfileLevel::Main10;
    options.sample_limit = sample_limit;
    JxlDecoder::new(options)
}

fn read_header<R: BufRead + Seek>(
    decoder: &mut JxlDecoder,
    input: &mut Input<R>,
) -> ImageResult<JxlBasicInfo> {
    match decoder.process(input, None, None) {
        Ok(Event::BasicInfo) => {}
        Ok(Event::NeedMoreInput { .. }) => return Err(ends_too_early()),
        Ok(_) => return Err(damaged(name(), "there is no header")),
        Err(error) => return Err(damaged(name(), error)),
    }
    let info = decoder.basic_info().cloned();
    info.ok_or_else(|| damaged(name(), "there is no header"))
}

impl Layout {
    fn of(info: &JxlBasicInfo, grey: bool) -> Result<Self, ImageError> {
        let has = |kind| info.extra_channels.iter().any(|of| of.ec_type == kind);
        if has(ExtraChannel::Black) {
            return Err(unsupported(name(), "CMYK"));
        }
        let alpha = has(ExtraChannel::Alpha);
        let endianness = jxl::api::Endianness::native();
        let (eight, sixteen) = (
            JxlDataFormat::U8 { bit_depth: 8 },
            JxlDataFormat::U16 {
                endianness,
                bit_depth: 16,
            },
        );
        let (format, color_type) = match (&info.bit_depth, grey, alpha) {
            // There is no grey of this kind in the `image` crate.
            (JxlBitDepth::Float { .. }, _, false) => (JxlDataFormat::f32(), ColorType::Rgb32F),
            (JxlBitDepth::Float { .. }, _, true) => (JxlDataFormat::f32(), ColorType::Rgba32F),
            (JxlBitDepth::Int { bits_per_sample }, grey, alpha) => {
                match (*bits_per_sample <= 8, grey, alpha) {
                    (true, true, false) => (eight, ColorType::L8),
                    (true, true, true) => (eight, ColorType::La8),
                    (true, false, false) => (eight, ColorType::Rgb8),
                    (true, false, true) => (eight, ColorType::Rgba8),
                    (false, true, false) => (sixteen, ColorType::L16),
                    (false, true, true) => (sixteen, ColorType::La16),
                    (false, false, false) => (sixteen, ColorType::Rgb16),
                    (false, false, true) => (sixteen, ColorType::Rgba16),
                }
            }
        };
        let channels = match color_type.channel_count() {
            1 => JxlColorType::Grayscale,
            2 => JxlColorType::GrayscaleAlpha,
            3 => JxlColorType::Rgb,
            _ => JxlColorType::Rgba,
        };
        Ok(Self {
            color_type,
            pixels: JxlPixelFormat {
                color_type: channels,
                color_data_format: Some(format),
                extra_channel_format: vec![None; info.extra_channels.len()],
            },
        })
    }
}

/// What the decoded values mean, and the profile to write a result with. A lossy file with an ICC profile
/// is decoded to other colours than the profile's.
fn colors_of(decoder: &mut JxlDecoder, layout: &Layout) -> ImageResult<FileColors> {
    let set = decoder.set_pixel_format(layout.pixels.clone());
    set.map_err(|error| damaged(name(), error))?;
    let grey = layout.color_type.channel_count() < 3;
    let of_profile = |profile: Option<&JxlColorProfile>| match profile {
        Some(JxlColorProfile::Icc(icc)) => FileColors::from_icc(icc.clone(), grey),
        Some(JxlColorProfile::Simple(encoding)) => {
            of_encoding(encoding).unwrap_or(FileColors::SRGB)
        }
        None => FileColors::SRGB,
    };
    let decoded = of_profile(decoder.output_color_profile());
    let profile = of_profile(decoder.embedded_color_profile()).profile;
    Ok(FileColors { profile, ..decoded })
}

/// Of colours that are described without an ICC profile; `None` for sRGB.
fn of_encoding(encoding: &JxlColorEncoding) -> Option<FileColors> {
    let (white, primaries, transfer) = match encoding {
        JxlColorEncoding::RgbColorSpace {
            white_point,
            primaries,
            transfer_function,
            ..
        } => (white_point, Some(primaries), transfer_function),
        JxlColorEncoding::GrayscaleColorSpace {
            white_point,
            transfer_function,
            ..
        } => (white_point, None, transfer_function),
        JxlColorEncoding::XYB { .. } => return None,
    };
    let srgb = JxlColorProfile::Simple(JxlColorEncoding::srgb(primaries.is_none()));
    if srgb.same_color_encoding(&JxlColorProfile::Simple(encoding.clone())) {
        return None;
    }
    let at = |(x, y)| Chromaticity { x, y };
    let colors = of_chromaticities(
        at(white.to_xy_coords()),
        match primaries {
            Some(primaries) => {
                let [red, green, blue] = primaries.to_xy_coords().map(at);
                ColorPrimaries { red, green, blue }
            }
            None => ColorPrimaries::BT_709,
        },
        match transfer {
            JxlTransferFunction::BT709 => Transfer::Known(TransferCharacteristics::Bt709),
            JxlTransferFunction::Linear => Transfer::Known(TransferCharacteristics::Linear),
            JxlTransferFunction::SRGB => Transfer::Known(TransferCharacteristics::Srgb),
            JxlTransferFunction::PQ => Transfer::Known(TransferCharacteristics::Smpte2084),
            JxlTransferFunction::HLG => Transfer::Known(TransferCharacteristics::Hlg),
            JxlTransferFunction::DCI => Transfer::Power(2.6),
            JxlTransferFunction::Gamma(exponent) => Transfer::Power(1.0 / exponent),
        },
        "a JPEG XL file",
    )?;
    let profile = colors.profile.filter(|_| primaries.is_some());
    Some(FileColors { profile, ..colors })
}

/// A file and how much of it is left.
struct Input<'a, R> {
    file: &'a mut R,
    left: u64,
}

impl<'a, R: BufRead + Seek> Input<'a, R> {
    fn new(file: &'a mut R) -> Result<Self, Error> {
        let left = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        Ok(Self { file, left })
    }
}

impl<R: BufRead + Seek> JxlBitstreamInput for Input<'_, R> {
    fn available_bytes(&mut self) -> Result<usize, Error> {
        Ok(usize::try_from(self.left).unwrap_or(usize::MAX))
    }

    fn read(&mut self, buffers: &mut [IoSliceMut]) -> Result<usize, Error> {
        let mut total = 0;
        for buffer in buffers {
            let mut rest = &mut buffer[..];
            while !rest.is_empty() {
                let count = self.file.read(rest)?;
                if count == 0 {
                    self.left = 0;
                    return Ok(total);
                }
                total += count;
                self.left = self.left.saturating_sub(count as u64);
                rest = &mut rest[count..];
            }
        }
        Ok(total)
    }

    fn skip(&mut self, bytes: usize) -> Result<usize, Error> {
        let count = self.left.min(bytes as u64);
        self.file.seek_relative(count.cast_signed())?;
        self.left -= count;
        // No more than was asked for.
        Ok(count as usize)
    }
}
