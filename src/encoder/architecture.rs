//! VGG19 in numbers.

use serde::Serialize;

use super::{Layer, LayerKind};

/// What a layer of VGG19 is and costs, for an image of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LayerFacts {
    /// Which layer.
    pub layer: Layer,
    /// Channels of its output.
    pub channels: usize,
    /// Width of its output, in positions.
    pub width: usize,
    /// Height of its output, in positions.
    pub height: usize,
    /// Weights and biases.
    pub parameters: u64,
    /// Pixels of the image, along each axis, that one position sees.
    pub receptive_field: usize,
    /// Multiplications of the direct convolution.
    pub multiplications: u64,
    /// Bytes of the output in 32-bit numbers.
    pub memory: u64,
}

/// All 37 layers of VGG19 (Simonyan and Zisserman, arXiv 1409.1556) for an image of `width` × `height`
/// pixels, in the order in which it passes them.
///
/// ```
/// use impasto::encoder::architecture;
///
/// let layers = architecture(224, 224);
/// // The published 144 million parameters less those of the classifier.
/// let parameters: u64 = layers.iter().map(|facts| facts.parameters).sum();
/// assert_eq!(parameters, 20_024_384);
/// assert_eq!(layers[36].receptive_field, 268);
/// ```
pub fn architecture(width: usize, height: usize) -> Vec<LayerFacts> {
    let mut channels_in = 3;
    let mut receptive_field = 1;
    Layer::all()
        .map(|layer| {
            let kind = layer.kind();
            let channels = layer.channels(64);
            let stride = layer.stride();
            let (width, height) = (width / stride, height / stride);
            let positions = (width * height) as u64;
            let weights = match kind {
                LayerKind::Convolution => 9 * (channels_in * channels) as u64,
                LayerKind::Relu | LayerKind::Pool => 0,
            };
            receptive_field += match kind {
                LayerKind::Convolution => 2 * stride,
                LayerKind::Relu => 0,
                LayerKind::Pool => stride / 2,
            };
            channels_in = channels;
            LayerFacts {
                layer,
                channels,
                width,
                height,
                parameters: match weights {
                    0 => 0,
                    weights => weights + channels as u64,
                },
                receptive_field,
                multiplications: weights * positions,
                memory: 4 * channels as u64 * positions,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receptive_fields_and_sizes_are_those_of_the_literature() {
        let layers = architecture(224, 224);
        let facts = |layer| layers.iter().find(|facts| facts.layer == layer).unwrap();
        // After each convolution, by the usual recursion r += (k - 1)·j.
        for (layer, field, side) in [
            (Layer::CONV1_1, 3, 224),
            (Layer::CONV1_2, 5, 224),
            (Layer::POOL1, 6, 112),
            (Layer::CONV2_1, 10, 112),
            (Layer::RELU3_1, 24, 56),
            (Layer::RELU4_1, 68, 28),
            (Layer::POOL4, 124, 14),
            (Layer::RELU5_1, 156, 14),
            (Layer::POOL5, 268, 7),
        ] {
            assert_eq!(facts(layer).receptive_field, field, "{layer}");
            assert_eq!(facts(layer).width, side, "{layer}");
        }
        assert_eq!(facts(Layer::CONV1_1).parameters, 1792);
        assert_eq!(facts(Layer::RELU1_1).parameters, 0);
        // 19.5 billion, as published for the convolutions of VGG19 at 224².
        let multiplications: u64 = layers.iter().map(|facts| facts.multiplications).sum();
        assert_eq!(multiplications, 19_508_428_800);
        // Odd sizes lose their last row and column at each pool.
        assert_eq!(architecture(65, 33)[36].width, 2);
        assert_eq!(architecture(65, 33)[36].height, 1);
    }
}
