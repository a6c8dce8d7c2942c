//! Formats of picture files.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::PictureError;

/// Formats that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 8 or 16 bits, alpha, ICC profile.
    Png,
    /// 8 bits, ICC profile, no alpha.
    Jpeg,
    /// Lossless, 8 bits, alpha, ICC profile.
    WebP,
    /// 8 or 16 bits, alpha, ICC profile.
    Tiff,
}

impl Format {
    /// The format that a file's name asks for.
    ///
    /// # Errors
    /// [`PictureError::UnknownFormat`].
    pub fn from_path(path: &Path) -> Result<Self, PictureError> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("png") => Ok(Format::Png),
            Some("jpg" | "jpeg") => Ok(Format::Jpeg),
            Some("webp") => Ok(Format::WebP),
            Some("tif" | "tiff") => Ok(Format::Tiff),
            _ => Err(PictureError::UnknownFormat { path: path.into() }),
        }
    }

    /// Most pixels that the format has room for along a side.
    pub fn largest_side(self) -> usize {
        match self {
            Format::WebP => 16_383,
            Format::Jpeg => 65_535,
            Format::Png | Format::Tiff => u32::MAX as usize,
        }
    }

    pub(super) fn has_sixteen_bits(self) -> bool {
        matches!(self, Format::Png | Format::Tiff)
    }
}

/// Bits of a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// 8 bits.
    #[default]
    Eight,
    /// 16 bits.
    Sixteen,
}
