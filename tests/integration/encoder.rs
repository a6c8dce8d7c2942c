//! What the encoder makes of images of any size, at their borders, and in its small form.

use burn::backend::Flex;
use burn::module::AutodiffModule;
use burn::tensor::{Int, Tensor};
use impasto::{Layer, Padding, Vgg19};

use crate::transfer::{B, encoder, transfer, waves};

#[test]
fn images_of_any_size_pass_the_encoder() {
    let encoder = encoder().with_pooling(Default::default());
    let device = Default::default();
    for (height, width) in [(1, 1), (1, 9), (17, 2), (31, 33)] {
        let image = Tensor::<B, 4>::zeros([1, 3, height, width], &device);
        let features = encoder.features(image.clone(), &[Layer::RELU1_2]).unwrap();
        let dims = features.get(Layer::RELU1_2).dims();
        assert_eq!(dims, [1, 4, height, width]);
        let deep = encoder.features(image, &[Layer::POOL5]);
        assert_eq!(deep.is_ok(), height.min(width) >= 32);
    }
    let grey = Tensor::<B, 4>::zeros([1, 1, 9, 9], &device);
    assert!(encoder.features(grey, &[Layer::RELU1_1]).is_err());
}

/// The slim encoder stands for VGG19 at the same scale: read-outs, nominal channels, fewer layers.
#[cfg(feature = "builtin")]
#[test]
fn the_builtin_encoder_serves_relu_outputs_to_relu5_1() {
    let encoder = Vgg19::<B>::builtin(&Default::default());
    let image = waves(48, 48, 1.0).to_tensor::<B>(&Default::default());
    let layers = [Layer::RELU1_1, Layer::RELU4_2, Layer::RELU5_1];
    let features = encoder.features(image.clone(), &layers).unwrap();
    let [_, channels, height, width] = features.get(Layer::RELU4_2).dims();
    assert!(channels < 256);
    assert_eq!([height, width], [6, 6]);
    assert_eq!(encoder.channels(Layer::RELU4_2).unwrap(), 512);
    assert_eq!(encoder.channels(Layer::RELU1_1).unwrap(), 64);
    // Looking at a layer in between, where a pool follows, changes nothing behind it.
    let more = [Layer::RELU1_2, Layer::RELU2_2, Layer::RELU4_2];
    let again = encoder.features(image.clone(), &more).unwrap();
    let [_, _, height, width] = again.get(Layer::RELU2_2).dims();
    assert_eq!([height, width], [24, 24]);
    let (expected, found) = (features.get(Layer::RELU4_2), again.get(Layer::RELU4_2));
    let difference = (expected.clone() - found.clone()).abs().max().into_scalar();
    assert!(difference < 1e-4 * expected.clone().abs().max().into_scalar());
    for layer in [Layer::RELU5_2, Layer::CONV3_1, Layer::POOL2] {
        let error = encoder.features(image.clone(), &[layer]).unwrap_err();
        assert!(error.to_string().contains(&layer.to_string()), "{error}");
    }
}

/// A border mode is what the first convolution sees of a picture that really is one pixel wider.
#[test]
fn the_border_is_padded_as_asked() {
    let device = Default::default();
    for (width, height) in [(9, 6), (5, 5), (1, 3), (1, 1)] {
        let image = waves(width, height, 1.0).to_tensor::<Flex>(&device);
        let wider = |padding| {
            let index = |side: usize| -> Vec<i32> {
                let last = side as i32 - 1;
                let place = |i: i32| match padding {
                    Padding::Reflect if last > 0 => last - (last - i.abs()).abs(),
                    _ => i.clamp(0, last),
                };
                (-1..=last + 1).map(place).collect()
            };
            let select = |image: Tensor<Flex, 4>, axis, side| {
                let index = Tensor::<Flex, 1, Int>::from_ints(&index(side)[..], &device);
                image.select(axis, index)
            };
            select(select(image.clone(), 2, height), 3, width)
        };
        let features = |padding, image: Tensor<Flex, 4>, layer| {
            let encoder = encoder().valid().with_padding(padding);
            assert_eq!(encoder.padding(), padding);
            encoder
                .features(image, &[layer])
                .unwrap()
                .get(layer)
                .clone()
        };
        let layers = [Layer::RELU1_1, Layer::CONV1_1];
        for padding in [Padding::Replicate, Padding::Reflect] {
            for layer in layers {
                let found = features(padding, image.clone(), layer);
                let inner = features(Padding::Zero, wider(padding), layer);
                let expected = inner.narrow(2, 1, height).narrow(3, 1, width);
                let difference: f32 = (found - expected).abs().max().into_scalar();
                assert!(difference < 1e-5, "{padding:?} {layer} {width}×{height}");
            }
        }
    }
}

/// Gradients, runs and pools go through the padded border as well.
#[test]
fn a_run_with_another_border_paints_another_border() {
    let paint = |padding| {
        let encoder = encoder().with_padding(padding);
        transfer(&encoder).run().unwrap().picture
    };
    let [zero, replicate, reflect] =
        [Padding::Zero, Padding::Replicate, Padding::Reflect].map(paint);
    assert!(zero != replicate && replicate != reflect && zero != reflect);
}
