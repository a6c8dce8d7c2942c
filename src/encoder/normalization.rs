//! How an image is brought to the values that a set of weights was trained on.

use burn::tensor::{Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

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
    pub fn apply<B: Backend>(&self, image: Tensor<B, 4>) -> Tensor<B, 4> {
        let options = (&image.device(), image.dtype());
        let channel = |values: [f32; 3]| {
            Tensor::<B, 4>::from_data(TensorData::new(values.to_vec(), [1, 3, 1, 1]), options)
        };
        let scale = self.std.map(|std| self.range / std);
        let shift = [0, 1, 2].map(|c| self.mean[c] / self.std[c]);
        let normalized = image * channel(scale) - channel(shift);
        if self.bgr {
            normalized.flip([1])
        } else {
            normalized
        }
    }
}
