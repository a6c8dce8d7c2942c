//! How an image is brought to the values that a set of weights was trained on.

use burn::tensor::{DType, Tensor, TensorData, backend::Backend};
use serde::{Deserialize, Serialize};

use crate::kernel::{Pointwise, StyleBackend};

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

    /// The normalisation `(x − mean) / std` of an image `x` whose unit, 0 to 1 or 0 to 255, and whose
    /// order of colours are told by the numbers; `None` if they are none of a normalisation.
    ///
    /// A mean above 1 or a deviation above 2 is one of 0 to 255. ImageNet's mean colours tell the
    /// order: where the largest comes last, the channels are B, G, R.
    pub(crate) fn from_units(mean: [f32; 3], std: [f32; 3]) -> Option<Self> {
        let usable = mean.iter().all(|mean| mean.is_finite())
            && std.iter().all(|&std| std > 0.0 && std.is_finite());
        let large = mean.iter().any(|&mean| mean > 1.0) || std.iter().any(|&std| std > 2.0);
        let range = if large { 255.0 } else { 1.0 };
        let imagenet = |[r, g, b]: [f32; 3]| {
            let known = Self::TORCHVISION.mean;
            [r, g, b]
                .iter()
                .zip(known)
                .all(|(value, known)| (value / range - known).abs() < 0.01)
        };
        let mut found = Self {
            range,
            mean,
            std,
            bgr: false,
        };
        if imagenet([mean[2], mean[1], mean[0]]) {
            found.mean.reverse();
            found.std.reverse();
            found.bgr = true;
        }
        // The same in the unit in which it is usually said.
        if range == 1.0 && std.iter().all(|std| (std * 255.0 - 1.0).abs() < 1e-3) {
            found.range = 255.0;
            found.mean = found.mean.map(|mean| mean * 255.0);
            found.std = [1.0; 3];
        }
        usable.then_some(found)
    }

    /// The mean colour, RGB in `[0, 1]`: what normalises to zero.
    pub fn mean_color(&self) -> [f32; 3] {
        self.mean.map(|mean| mean / self.range)
    }

    /// What brings features of these weights to the size that they have with torchvision's: the ratio of
    /// how far apart black and white are after normalisation, torchvision's over this one's. Rectified
    /// convolutions pass a factor of their input on, but for their biases. 1 for torchvision, 0.017 for
    /// Caffe.
    pub fn feature_scale(&self) -> f64 {
        let spread = |normalization: &Self| {
            let spread = normalization
                .std
                .map(|std| f64::from(normalization.range / std));
            spread.iter().sum::<f64>()
        };
        spread(&Self::TORCHVISION) / spread(self)
    }

    /// Normalises an RGB image in `[0, 1]`, shape `[batch, 3, height, width]`.
    pub fn apply<B: StyleBackend>(&self, image: Tensor<B, 4>) -> Tensor<B, 4> {
        let map = self.pointwise(&image.device(), image.dtype());
        B::conv1x1(image, map.matrix, Some(map.bias))
    }

    /// The same as a map of the channels of every pixel.
    pub(crate) fn pointwise<B: Backend>(&self, device: &B::Device, dtype: DType) -> Pointwise<B> {
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
        Pointwise {
            matrix: Tensor::from_data(matrix, (device, dtype)),
            bias: Tensor::from_data(bias, (device, dtype)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Normalization;

    #[test]
    fn features_of_caffe_are_brought_down() {
        assert_eq!(Normalization::TORCHVISION.feature_scale(), 1.0);
        // The mean of 1 / 0.229, 1 / 0.224 and 1 / 0.225, over 255.
        let scale = Normalization::CAFFE.feature_scale();
        assert!((scale - 4.425_14 / 255.0).abs() < 1e-6, "{scale}");
    }
}
