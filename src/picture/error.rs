//! What can go wrong with a picture or its file.

use std::path::PathBuf;

/// The formats that can be read.
const READABLE: &str = match (cfg!(feature = "jxl"), cfg!(feature = "avif")) {
    (false, false) => "PNG, JPEG, WebP, TIFF, BMP or GIF",
    (true, false) => "PNG, JPEG, WebP, TIFF, BMP, GIF or JPEG XL",
    (false, true) => "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF",
    (true, true) => "PNG, JPEG, WebP, TIFF, BMP, GIF, JPEG XL or AVIF",
};

/// What can go wrong with a picture or its file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be read.
    #[error("{}: cannot read the picture", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The contents are no picture.
    #[error(
        "{}: {found}; expected a picture in {READABLE} (the contents count, not the name)",
        path.display()
    )]
    NotAPicture {
        /// The file.
        path: PathBuf,
        /// What it is instead, as a sentence without its full stop.
        found: &'static str,
    },
    /// The contents are a picture, or hold one, in a format that is not read.
    #[error("{}: this is {format}, which cannot be read here; {advice}", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The format, with an article.
        format: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// The file ends before all of the picture is there.
    #[error(
        "{}: the file ends too early: it was cut off or copied only in part; fetch or save it again",
        path.display()
    )]
    EndsTooEarly {
        /// The file.
        path: PathBuf,
    },
    /// Every pixel is fully transparent.
    #[error(
        "{}: every pixel is fully transparent, so there is nothing to see; save the picture without its \
         alpha channel",
        path.display()
    )]
    Invisible {
        /// The file.
        path: PathBuf,
    },
    /// The header promises more pixels than the limit allows.
    #[error(
        "{}: {width}×{height} pixels are more than the limit of {limit}; shrink the picture first",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit in pixels.
        limit: u64,
    },
    /// The file is damaged or uses what the decoder does not know.
    #[error(
        "{}: the picture is damaged, or of a variant that cannot be read here; open it in another program \
         and save it as an 8-bit PNG",
        path.display()
    )]
    Decode {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: image::ImageError,
    },
    /// The name of an output file does not tell its format.
    #[error(
        "{}: the name must end in .png, .jpg, .webp or .tiff to tell the format to write",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A format without 16-bit channels was asked for them.
    #[error("{}: 16 bits a channel need .png or .tiff", path.display())]
    DepthUnsupported {
        /// The file.
        path: PathBuf,
    },
    /// The output cannot be written; nothing is left at its place.
    #[error("{}: cannot write the picture", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The picture cannot be written in a format.
    #[error("cannot encode the picture")]
    Encode {
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Values that do not make an RGB picture.
    #[error("{values} values of shape {} are no RGB picture", sides(shape))]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// How many values there are.
        values: usize,
    },
}

/// `3×512×512`.
fn sides(shape: &[usize]) -> String {
    let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
    sides.join("×")
}
