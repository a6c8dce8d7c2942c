//! How an image is brought to the values that a set of weights was trained on.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::kernel::StyleBackend;

/// Input normalisation of a set of weights: `(range · x − mean) / std` for each channel of an RGB
/// image `x` in `[0, 1]`, with the channels reversed afterwards where the weights want BGR.
///
/// It belongs to the weights, so that an image gives the features their publisher intended
/// whichever file they came from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Value of a full white channel before the mean is subtracted: 1 or 255.
    pub range: f32,
    /// Mean of each channel, in the order R, G, B.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, in the order R, G, B.
    pub std: [f32; 3],
    /// Whether the first convolution expects its channels as B, G, R.
    pub bgr: bool,
}

impl Normalization {
    /// torchvision, timm and the ONNX model zoo: RGB in `[0, 1]`, ImageNet mean and deviation.
    pub const TORCHVISION: Self = Self {
        range: 1.0,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
        bgr: false,
    };

    /// The original Caffe training (Simonyan and Zisserman) with the first kernel's channels
    /// flipped to RGB: 0–255, mean subtracted, no division.
    pub const CAFFE: Self = Self {
        range: 255.0,
        mean: [123.68, 116.779, 103.939],
        std: [1.0, 1.0, 1.0],
        bgr: false,
    };

    /// The original Caffe weights in their own channel order, B, G, R (`vgg19-d01eb7cb.pth`).
    pub const CAFFE_BGR: Self = Self {
        bgr: true,
        ..Self::CAFFE
    };

    /// The mean colour, RGB in `[0, 1]`: what normalises to zero.
    pub fn mean_color(&self) -> [f32; 3] {
        self.mean.map(|mean| mean / self.range)
    }

    /// Normalises an RGB image in `[0, 1]`, shape `[batch, 3, height, width]`.
    pub fn apply<B: StyleBackend>(&self, image: Tensor<B, 4>) -> Tensor<B, 4> {
        let options = (&image.device(), image.dtype());
        let source = |row: usize| if self.bgr { 2 - row } else { row };
        let mut matrix = [0.0; 9];
        let mut bias = [0.0; 3];
        for row in 0..3 {
            let channel = source(row);
            matrix[3 * row + channel] = self.range / self.std[channel];
            bias[row] = -self.mean[channel] / self.std[channel];
        }
        let matrix = TensorData::new(matrix.to_vec(), [3, 3]);
        let bias = TensorData::new(bias.to_vec(), [3]);
        let bias = Tensor::from_data(bias, options);
        B::conv1x1(image, Tensor::from_data(matrix, options), Some(bias))
    }
}
