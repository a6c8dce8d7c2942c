//! Masks resized to the positions of layers.

use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};

use crate::layer::Layer;
use crate::picture::Picture;

/// How much each position of some layers counts: a mask resized to each of them.
///
/// At every layer the mask `m` is resized to the layer's positions, and features are multiplied by
/// `√(m / mean(m))`; a guided Gram matrix is then the mean of `f·fᵀ` over the region, comparable between
/// regions and pictures of any size (Gatys et al., "Controlling Perceptual Factors in Neural Style
/// Transfer", arXiv 1611.07865).
#[derive(Clone, Debug)]
pub struct Guide<B: Backend> {
    layers: Vec<(Layer, Tensor<B, 4>)>,
}

/// A region of which nothing is left at some layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no position of {layer} lies in the region: it is black, or too small for so deep a layer")]
pub struct EmptyRegion {
    /// The shallowest such layer.
    pub layer: Layer,
}

/// A region with less than this of its positions counts as empty.
const LEAST: f32 = 1e-5;

impl<B: Backend> Guide<B> {
    /// Resizes a mask, white inside and black outside, to the layers of an image of `width` × `height`
    /// pixels. Masks of other sizes are stretched.
    ///
    /// # Errors
    /// [`EmptyRegion`] if nothing of the mask is left at a layer.
    pub fn new(
        mask: &Picture,
        (width, height): (usize, usize),
        layers: &[Layer],
        device: &B::Device,
    ) -> Result<Self, EmptyRegion> {
        let resize = |&layer: &Layer| {
            let stride = layer.stride();
            let (width, height) = ((width / stride).max(1), (height / stride).max(1));
            let mut values = mask.resize(width, height).mean_of_channels();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            if mean < LEAST {
                return Err(EmptyRegion { layer });
            }
            for value in &mut values {
                *value = (*value / mean).sqrt();
            }
            let guide = Tensor::<B, 1>::from_floats(&values[..], device);
            Ok((layer, guide.reshape([1, 1, height, width])))
        };
        let layers = layers.iter().map(resize).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// The same guide with autodiff, through which no gradient flows.
    pub(crate) fn from_inner<A>(guide: &Self) -> Guide<A>
    where
        A: AutodiffBackend<InnerBackend = B>,
    {
        let layers = guide.layers.iter();
        let layers = layers.map(|(layer, guide)| (*layer, Tensor::from_inner(guide.clone())));
        Guide {
            layers: layers.collect(),
        }
    }

    /// `√(m / mean(m))` at a layer that the guide was made for.
    ///
    /// # Panics
    /// If it was not.
    pub(super) fn of(&self, layer: Layer) -> Tensor<B, 4> {
        match self.get(layer) {
            Some(guide) => guide.clone(),
            None => panic!("the guide was not made for {layer}"),
        }
    }

    /// `√(m / mean(m))` at a layer, `[1, 1, height, width]`.
    pub fn get(&self, layer: Layer) -> Option<&Tensor<B, 4>> {
        let found = self.layers.iter().find(|(known, _)| *known == layer);
        found.map(|(_, guide)| guide)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use burn::backend::Flex;

    #[test]
    fn masks_are_carried_to_every_depth() {
        let device = Default::default();
        // The left quarter of the picture is white.
        let rgb = (0..32 * 16).flat_map(|i| [if i % 32 < 8 { 1.0 } else { 0.0 }; 3]);
        let mask = Picture::from_rgb(32, 16, rgb.collect()).unwrap();
        let layers = [Layer::RELU1_1, Layer::RELU3_1];
        let guide = Guide::<Flex>::new(&mask, (64, 32), &layers, &device).unwrap();
        assert!(guide.get(Layer::RELU2_1).is_none());
        for (layer, [height, width]) in layers.into_iter().zip([[32, 64], [8, 16]]) {
            let guide = guide.get(layer).unwrap();
            assert_eq!(guide.dims(), [1, 1, height, width]);
            let mean: f32 = guide.clone().powi_scalar(2).mean().into_scalar();
            assert!((mean - 1.0).abs() < 1e-5);
            let inside: f32 = guide.clone().narrow(3, 0, 1).min().into_scalar();
            let outside: f32 = guide
                .clone()
                .narrow(3, width / 2, width / 2)
                .max()
                .into_scalar();
            assert!(
                (inside - 2.0).abs() < 0.1 && outside < 0.05,
                "{inside} {outside}"
            );
        }
        let black = Picture::from_rgb(4, 4, vec![0.0; 48]).unwrap();
        let empty = Guide::<Flex>::new(&black, (64, 32), &layers, &device);
        assert_eq!(empty.unwrap_err().layer, Layer::RELU1_1);
    }
}
