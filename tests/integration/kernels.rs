//! Features and gradients of the encoder against double precision, and with any choice of layers.

use burn::backend::{Autodiff, Flex};
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use impasto::{Layer, Picture, Pooling, Vgg19, Vgg19Config};

use crate::repository;

type B = Autodiff<Flex>;

/// Error of features and gradients, relative to the largest value.
const TOLERANCE: f64 = 1e-4;

/// Makes all weights double precision, for which the reference operations are used.
struct Double;

impl<B: Backend> ModuleMapper<B> for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        param.map(|weights| weights.cast(DType::F64))
    }
}

fn scene(width: usize, height: usize) -> Tensor<Flex, 4> {
    let scene = Picture::open(repository("assets/scene.jpg")).unwrap();
    scene.resize(width, height).to_tensor(&Default::default())
}

fn numbers<const D: usize>(x: Tensor<Flex, D>) -> Vec<f64> {
    x.into_data().iter().collect()
}

/// The largest error, and that of the whole in the L2 norm, relative.
fn errors(found: &[f64], exact: &[f64]) -> (f64, f64) {
    assert_eq!(found.len(), exact.len());
    let difference = || found.iter().zip(exact).map(|(f, e)| f - e);
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |m, x| x.abs().max(m));
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let exact = || exact.iter().copied();
    (
        largest(&mut difference()) / largest(&mut exact()),
        norm(&mut difference()) / norm(&mut exact()),
    )
}

/// Features at `taps`, and the gradient of their sum weighted with fixed signs.
fn evaluate(encoder: &Vgg19<B>, image: Tensor<Flex, 4>, taps: &[Layer]) -> Vec<Vec<f64>> {
    let dtype = image.dtype();
    let image = Tensor::<B, 4>::from_inner(image).require_grad();
    let features = encoder.features(image.clone(), taps).unwrap();
    let mut all = Vec::new();
    let mut total = None;
    for &tap in taps {
        let feature = features.get(tap).clone();
        all.push(numbers(feature.clone().inner()));
        let count = feature.shape().num_elements();
        // Signs without a pattern, scaled so that no layer drowns another.
        let signs: Vec<f32> = (0..count as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 31) as f32 * 2.0 - 1.0)
            .collect();
        let signs = TensorData::new(signs, feature.dims());
        let signs = Tensor::<B, 4>::from_data(signs, &Default::default()).cast(dtype);
        let norm: f64 = all
            .last()
            .unwrap()
            .iter()
            .map(|x| x * x)
            .sum::<f64>()
            .sqrt();
        let term = (feature * signs).sum() / norm;
        total = Some(match total {
            Some(sum) => sum + term,
            None => term,
        });
    }
    let gradients = total.unwrap().backward();
    all.push(numbers(image.grad(&gradients).unwrap()));
    all
}

fn is_exact(encoder: Vgg19<B>, taps: &[Layer]) {
    let image = scene(100, 75);
    let found = evaluate(&encoder, image.clone(), taps);
    // This also discards the packed weights.
    let double = encoder.map(&mut Double);
    let exact = evaluate(&double, image.cast(DType::F64), taps);
    let names = taps.iter().map(Layer::to_string).chain(["gradient".into()]);
    for ((name, found), exact) in names.zip(&found).zip(&exact) {
        let (largest, l2) = errors(found, exact);
        println!("{name}: largest {largest:.1e}, L2 {l2:.1e}");
        // A ReLU or pool whose input is nearly equal in both may switch; seen in single pixels.
        let limit = if name == "gradient" { l2 } else { largest };
        assert!(limit < TOLERANCE, "{name}: {largest:e}, L2 {l2:e}");
    }
}

const TAPS: [Layer; 6] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
    Layer::RELU5_4,
];

#[test]
fn features_and_gradients_are_those_of_double_precision() {
    let encoder = Vgg19Config::new()
        .with_width(24)
        .with_seed(3)
        .init(&Default::default());
    is_exact(encoder, &TAPS);
    let encoder = Vgg19Config::new()
        .with_width(8)
        .with_pooling(Pooling::Average);
    is_exact(
        encoder.init(&Default::default()),
        &[Layer::POOL5, Layer::CONV4_2, Layer::RELU1_2],
    );
}

#[cfg(all(feature = "onnx", feature = "pytorch"))]
#[test]
fn imagenet_features_and_gradients_are_those_of_double_precision() {
    let Some(weights) = crate::imagenet_weights("double precision") else {
        return;
    };
    is_exact(Vgg19::load(weights, &Default::default()).unwrap(), &TAPS);
}

/// Layers that prevent operations from being fused do not change the features.
#[test]
fn all_layers_at_once_are_each_layer_alone() {
    let encoder = Vgg19Config::new()
        .with_width(4)
        .init::<Flex>(&Default::default());
    let image = scene(70, 52);
    let all: Vec<Layer> = Layer::all().collect();
    let together = encoder.features(image.clone(), &all).unwrap();
    for layer in all {
        let alone = encoder.features(image.clone(), &[layer]).unwrap();
        let (found, expected) = (together.get(layer), alone.get(layer));
        let (largest, _) = errors(&numbers(found.clone()), &numbers(expected.clone()));
        assert!(largest < 1e-6, "{layer}: {largest:e}");
    }
}
