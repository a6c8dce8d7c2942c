//! Pictures in files and in memory, and their way to a tensor and back.

mod colors;
mod decode;
mod encode;

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, backend::Backend};
use fast_image_resize as fir;

pub use colors::ColorTransfer;
pub use decode::Limits;
pub use encode::{Depth, Format, SaveOptions, check_folder, check_output};

/// A picture in memory: RGB in `[0, 1]` as stored (no linearisation), with what else its file said.
///
/// Transparent pictures are laid over white; their alpha is kept beside the colours and written
/// again where the output format has a place for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Interleaved, row by row from the top; shared by copies.
    rgb: Arc<Vec<f32>>,
    alpha: Option<Vec<f32>>,
    icc_profile: Option<Vec<u8>>,
    depth: Depth,
}

impl Picture {
    /// A picture from interleaved RGB values in `[0, 1]`, row by row from the top. Values outside
    /// are clamped.
    ///
    /// # Errors
    /// [`PictureError::Shape`] if a side is zero or `rgb` does not hold `3 · width · height` values.
    pub fn from_rgb(width: usize, height: usize, mut rgb: Vec<f32>) -> Result<Self, PictureError> {
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(3));
        if expected != Some(rgb.len()) || rgb.is_empty() {
            return Err(PictureError::Shape {
                shape: vec![height, width, 3],
                values: rgb.len(),
            });
        }
        for value in &mut rgb {
            // NaN becomes black rather than undefined.
            *value = if value.is_nan() {
                0.0
            } else {
                value.clamp(0.0, 1.0)
            };
        }
        Ok(Self {
            width,
            height,
            rgb: Arc::new(rgb),
            alpha: None,
            icc_profile: None,
            depth: Depth::Eight,
        })
    }

    /// Reads the first image of a tensor `[batch, 3, height, width]`, RGB in `[0, 1]`; other values
    /// are clamped.
    ///
    /// # Errors
    /// [`PictureError::Shape`] if the tensor is empty or has other than three channels.
    pub fn from_tensor<B: Backend>(image: Tensor<B, 4>) -> Result<Self, PictureError> {
        let [batch, channels, height, width] = image.dims();
        let interleaved = image.permute([0, 2, 3, 1]);
        let wrong = || PictureError::Shape {
            shape: vec![batch, channels, height, width],
            values: batch * channels * height * width,
        };
        if channels != 3 || batch == 0 {
            return Err(wrong());
        }
        let data = interleaved.narrow(0, 0, 1).into_data().convert::<f32>();
        Self::from_rgb(width, height, data.into_vec().map_err(|_| wrong())?)
    }

    /// The colours as a tensor `[1, 3, height, width]`, RGB in `[0, 1]`.
    pub fn to_tensor<B: Backend>(&self, device: &B::Device) -> Tensor<B, 4> {
        let planes: Vec<f32> = (0..3)
            .flat_map(|channel| self.rgb.iter().skip(channel).step_by(3).copied())
            .collect();
        Tensor::from_data(
            TensorData::new(planes, [1, 3, self.height, self.width]),
            device,
        )
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Interleaved RGB values in `[0, 1]`, row by row from the top.
    pub fn rgb(&self) -> &[f32] {
        &self.rgb
    }

    /// Opacity of each pixel in `[0, 1]`, if any pixel is not opaque.
    pub fn alpha(&self) -> Option<&[f32]> {
        self.alpha.as_deref()
    }

    /// The colour profile of the file, if it is one for RGB.
    pub fn icc_profile(&self) -> Option<&[u8]> {
        self.icc_profile.as_deref()
    }

    /// Bits in which the file stored a channel.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// The same picture with other colours, as many; values outside `[0, 1]` are clamped.
    fn with_rgb(mut self, mut rgb: Vec<f32>) -> Self {
        debug_assert_eq!(rgb.len(), self.rgb.len());
        for value in &mut rgb {
            *value = value.clamp(0.0, 1.0);
        }
        self.rgb = Arc::new(rgb);
        self
    }

    /// Takes over what belongs to another picture's file rather than to its colours: alpha
    /// (resized), ICC profile and depth.
    pub fn with_attributes_of(mut self, other: &Picture) -> Self {
        self.alpha = other.alpha.as_ref().map(|alpha| {
            let from = (other.width, other.height);
            resample(alpha, from, (self.width, self.height), fir::PixelType::F32)
        });
        self.icc_profile = other.icc_profile.clone();
        self.depth = other.depth;
        self
    }

    /// The picture at another size, by a Lanczos filter (a = 3) whose support grows when shrinking,
    /// so that nothing aliases.
    pub fn resize(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let (from, to) = ((self.width, self.height), (width, height));
        let resized = Self {
            width,
            height,
            rgb: Arc::new(resample(&self.rgb, from, to, fir::PixelType::F32x3)),
            alpha: None,
            icc_profile: None,
            depth: self.depth,
        };
        resized.with_attributes_of(self)
    }
}

/// Resizes interleaved values; the filter's overshoot is clamped to `[0, 1]`.
fn resample(
    values: &[f32],
    (width, height): (usize, usize),
    (new_width, new_height): (usize, usize),
    pixel: fir::PixelType,
) -> Vec<f32> {
    let channels = values.len() / (width * height);
    let mut resized = vec![0.0f32; channels * new_width * new_height];
    let from = fir::images::ImageRef::new(
        width as u32,
        height as u32,
        bytemuck::cast_slice(values),
        pixel,
    )
    .expect("as many values as the picture has");
    let mut to = fir::images::Image::from_slice_u8(
        new_width as u32,
        new_height as u32,
        bytemuck::cast_slice_mut(&mut resized),
        pixel,
    )
    .expect("as many values as the picture gets");
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3))
        .use_alpha(false);
    fir::Resizer::new()
        .resize(&from, &mut to, &options)
        .expect("both sides have the same kind of pixels");
    for value in &mut resized {
        *value = value.clamp(0.0, 1.0);
    }
    resized
}

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
    /// The contents are no picture of a known format.
    #[error(
        "{}: this is no picture; expected PNG, JPEG, WebP, TIFF, BMP or GIF \
         (the contents count, not the name)",
        path.display()
    )]
    NotAPicture {
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
    #[error("{}: the picture is damaged or of an unsupported variant", path.display())]
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
    /// Values that do not make an RGB picture.
    #[error("{values} values of shape {shape:?} are no RGB picture")]
    Shape {
        /// The shape.
        shape: Vec<usize>,
        /// How many values there are.
        values: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Picture {
        let rgb = (0..width * height)
            .flat_map(|i| {
                let x = (i % width) as f32 / width as f32;
                let y = (i / width) as f32 / height as f32;
                [x, y, 0.5]
            })
            .collect();
        Picture::from_rgb(width, height, rgb).unwrap()
    }

    #[test]
    fn resizing_keeps_constant_colours_and_smooth_ramps() {
        let grey = Picture::from_rgb(7, 5, vec![0.25; 105]).unwrap();
        for (width, height) in [(1, 1), (3, 9), (64, 2), (7, 5)] {
            let resized = grey.resize(width, height);
            assert_eq!((resized.width(), resized.height()), (width, height));
            assert!(resized.rgb().iter().all(|v| (v - 0.25).abs() < 1e-5));
        }
        let small = ramp(200, 100).resize(50, 25);
        // Away from the border a ramp stays a ramp: x at the centre of the new pixel, shifted by
        // half an old pixel.
        let value = small.rgb()[3 * (12 * 50 + 25)];
        assert!(
            (value - (25.5 / 50.0 - 0.5 / 200.0)).abs() < 1e-3,
            "{value}"
        );
    }

    #[test]
    fn shrinking_averages_instead_of_picking() {
        // A checkerboard of single pixels becomes grey, not a smaller checkerboard.
        let rgb = (0..64 * 64)
            .flat_map(|i| [((i % 64 + i / 64) % 2) as f32; 3])
            .collect();
        let board = Picture::from_rgb(64, 64, rgb).unwrap().resize(16, 16);
        let middle = board.rgb()[3 * (8 * 16 + 8)];
        assert!((middle - 0.5).abs() < 0.02, "{middle}");
    }

    #[test]
    fn wrong_numbers_of_values_are_refused() {
        assert!(Picture::from_rgb(2, 2, vec![0.0; 11]).is_err());
        assert!(Picture::from_rgb(0, 2, vec![]).is_err());
        let picture = Picture::from_rgb(1, 1, vec![-1.0, f32::NAN, 2.0]).unwrap();
        assert_eq!(picture.rgb(), [0.0, 0.0, 1.0]);
    }

    #[cfg(feature = "flex")]
    #[test]
    fn a_picture_survives_the_way_to_a_tensor_and_back() {
        use burn::backend::Flex;
        let picture = ramp(5, 3);
        let tensor = picture.to_tensor::<Flex>(&Default::default());
        assert_eq!(tensor.dims(), [1, 3, 3, 5]);
        let blue = tensor.clone().slice([0..1, 2..3]).into_data();
        assert!(blue.iter::<f32>().all(|v| v == 0.5));
        assert_eq!(Picture::from_tensor(tensor).unwrap(), picture);
        let two_channels = Tensor::<Flex, 4>::zeros([1, 2, 3, 3], &Default::default());
        assert!(Picture::from_tensor(two_channels).is_err());
    }
}
