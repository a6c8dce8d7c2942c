//! Errors of the decoders here, as those of the `image` crate.

use image::ImageError;
use image::error::{ImageFormatHint, UnsupportedError, UnsupportedErrorKind};

/// The file uses what is not read here.
pub(super) fn unsupported(format: impl Into<ImageFormatHint>, what: &str) -> ImageError {
    let kind = UnsupportedErrorKind::GenericFeature(what.to_string());
    ImageError::Unsupported(UnsupportedError::from_format_and_kind(format.into(), kind))
}

/// The file is damaged.
#[cfg(any(feature = "jxl", feature = "avif"))]
pub(super) fn damaged(
    format: impl Into<ImageFormatHint>,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ImageError {
    ImageError::Decoding(image::error::DecodingError::new(format.into(), why))
}

/// The file ends before all of the picture is there.
#[cfg(any(feature = "jxl", feature = "avif"))]
pub(super) fn ends_too_early() -> ImageError {
    ImageError::IoError(std::io::ErrorKind::UnexpectedEof.into())
}
