//! A picture in memory, and its way to a tensor and back.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData, backend::Backend};

use super::error::PictureError;
use super::format::Depth;
use super::metadata::Metadata;

/// A picture in memory: sRGB values in `[0, 1]` (no linearisation), with what else its file said.
///
/// Files in other colour spaces are converted when they are read, and results into the content's space
/// when they are written.
/// Transparent pictures are laid over white; their alpha is kept beside the colours and written
/// again where the output format has a place for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Interleaved, row by row from the top; shared by copies.
    pub(super) rgb: Arc<Vec<f32>>,
    pub(super) alpha: Option<Vec<f32>>,
    pub(super) icc_profile: Option<Vec<u8>>,
    pub(super) depth: Depth,
    pub(super) metadata: Option<Metadata>,
}

impl Picture {
    /// A picture from interleaved sRGB values in `[0, 1]`, row by row from the top. Values outside
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
            metadata: None,
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

    /// The colours as a tensor `[1, 3, height, width]`, sRGB in `[0, 1]`.
    pub fn to_tensor<B: Backend>(&self, device: &B::Device) -> Tensor<B, 4> {
        let planes: Vec<f32> = (0..3)
            .flat_map(|channel| self.rgb.iter().skip(channel).step_by(3).copied())
            .collect();
        Tensor::from_data(
            TensorData::new(planes, [1, 3, self.height, self.width]),
            device,
        )
    }

    /// The mean of red, green and blue at each pixel, row by row: how white a mask is.
    pub(crate) fn mean_of_channels(&self) -> Vec<f32> {
        let colors = self.rgb.chunks_exact(3);
        colors.map(|rgb| (rgb[0] + rgb[1] + rgb[2]) / 3.0).collect()
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Interleaved sRGB values in `[0, 1]`, row by row from the top.
    pub fn rgb(&self) -> &[f32] {
        &self.rgb
    }

    /// Opacity of each pixel in `[0, 1]`, if any pixel is not opaque.
    pub fn alpha(&self) -> Option<&[f32]> {
        self.alpha.as_deref()
    }

    /// The ICC profile that a saved picture gets, and into which its colours are then converted: the
    /// file's, if it is one for RGB that can be converted into, or one made from what else the file said
    /// of its colours. [`Picture::rgb`] is in sRGB whatever it is.
    pub fn icc_profile(&self) -> Option<&[u8]> {
        self.icc_profile.as_deref()
    }

    /// Bits in which the file stored a channel.
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// The same picture, in whose file it will say how it was made.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.metadata = Some(metadata);
        self
    }

    /// What its file will say of how it was made. What the file that it was read from says is not
    /// kept; see [`Metadata::read`].
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// The same picture with other colours, as many; values outside `[0, 1]` are clamped.
    pub(super) fn with_rgb(mut self, mut rgb: Vec<f32>) -> Self {
        debug_assert_eq!(rgb.len(), self.rgb.len());
        for value in &mut rgb {
            *value = value.clamp(0.0, 1.0);
        }
        self.rgb = Arc::new(rgb);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
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
