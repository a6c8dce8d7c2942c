//! Pictures in files and in memory, and their way to a tensor and back.

mod color_space;
mod color_transfer;
mod decode;
mod encode;
mod error;
mod format;
mod histogram;
mod linear_map;
mod raster;
mod reduce;
mod resize;
#[cfg(test)]
mod test_picture;

pub use color_transfer::ColorTransfer;
pub use decode::Limits;
pub use encode::{SaveOptions, check_folder, check_output};
pub use error::PictureError;
pub use format::{Depth, Format};
pub use raster::Picture;
