//! Pictures in files and in memory, and their way to a tensor and back.

mod alpha;
#[cfg(feature = "avif")]
mod avif;
mod cmyk;
mod code_points;
mod color_profile;
mod color_space;
mod color_transfer;
mod decode;
mod decoder_error;
mod encode;
mod end_watch;
mod error;
mod format;
mod header;
mod histogram;
mod ifd;
mod input;
mod jpeg;
#[cfg(feature = "jxl")]
mod jxl;
mod linear_map;
mod metadata;
mod png_color;
mod profile_table;
mod raster;
mod recognize;
mod reduce;
mod resize;
mod samples;
#[cfg(test)]
mod test_picture;
mod tone_curve;

pub use color_transfer::ColorTransfer;
pub use encode::{SaveColors, SaveOptions, check_folder, check_output};
pub use error::PictureError;
pub use format::{Depth, Format};
pub use input::Limits;
pub use metadata::Metadata;
pub use raster::Picture;
