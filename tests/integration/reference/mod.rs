//! Numbers against PyTorch: features, losses, gradients and optimiser trajectories that
//! `tests/reference/make.py` computed. All of it on Flex, all but the trajectories on NdArray too.

#[cfg(all(feature = "onnx", feature = "pytorch"))]
mod imagenet;
mod matching;
mod recipes;
mod trajectories;

use std::fs;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use impasto::kernel::{AutodiffStyleBackend, StyleBackend};
use impasto::loss::{
    ContentTerm, GramNormalization, Loss, MomentsDistance, MomentsTerm, Reduction, Stencil,
    StyleTerm, TotalVariation, VariationNorm, gram_matrix,
};
use impasto::{Layer, Pooling, Vgg19};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::data;

const STYLE_LAYERS: [Layer; 5] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
];

/// Features and gradients, relative to the largest value of the tensor.
const TOLERANCE: f64 = 1e-4;

/// Tensors and scalars of a reference.
struct Reference {
    tensors: Vec<u8>,
    scalars: Value,
}

impl Reference {
    fn load(name: &str) -> Self {
        let json = fs::read_to_string(data(&format!("{name}.reference.json"))).unwrap();
        Self {
            tensors: fs::read(data(&format!("{name}.reference.safetensors"))).unwrap(),
            scalars: serde_json::from_str(&json).unwrap(),
        }
    }

    fn values(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.tensors).unwrap();
        let view = file.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = view.data();
        let values = match view.dtype() {
            safetensors::Dtype::F64 => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f64::from_le_bytes(b))
                .collect(),
            _ => bytes
                .as_chunks()
                .0
                .iter()
                .map(|&b| f32::from_le_bytes(b).into())
                .collect(),
        };
        (view.shape().to_vec(), values)
    }

    fn tensor<B: StyleBackend>(&self, name: &str) -> Tensor<B, 4> {
        let (shape, values) = self.values(name);
        let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        Tensor::from_data(TensorData::new(values, shape), &Default::default())
    }

    fn number(&self, path: &str) -> f64 {
        self.scalars
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{path}"))
    }

    fn numbers(&self, path: &str) -> Vec<f64> {
        let list = self.scalars.pointer(path).and_then(Value::as_array);
        list.unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
    }

    /// Compares all values with a tensor of the reference.
    #[track_caller]
    fn assert_close<B: StyleBackend, const D: usize>(&self, name: &str, found: Tensor<B, D>) {
        let found: Vec<f64> = found.into_data().iter().collect();
        assert_all_close(name, &found, &self.values(name).1, TOLERANCE);
    }
}

#[track_caller]
fn assert_all_close(name: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1e-12, |m: f64, v| m.max(v.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / scale;
        assert!(
            error <= tolerance,
            "{name}[{index}] is {found}, expected {expected}: off by {error:.1e} of the largest"
        );
    }
}

#[track_caller]
fn assert_number(name: &str, found: f64, expected: f64, tolerance: f64) {
    let error = (found - expected).abs() / expected.abs().max(1e-12);
    assert!(
        error <= tolerance,
        "{name} is {found}, expected {expected}: off by {error:.1e}"
    );
}

/// Relative distance in the L2 norm.
#[track_caller]
fn assert_image<B: StyleBackend>(
    name: &str,
    found: Tensor<B, 4>,
    expected: &[f64],
    tolerance: f64,
) {
    let found: Vec<f64> = found.into_data().iter().collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let distance = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let error = distance / square(&mut expected.iter().copied());
    assert!(
        error <= tolerance,
        "{name}: off by {error:.1e} in the L2 norm"
    );
}

fn small<B: StyleBackend>() -> Vgg19<B> {
    Vgg19::load(data("small.safetensors"), &Default::default()).unwrap()
}

/// Targets of the reference's content and style pictures.
struct Targets<B: StyleBackend> {
    content: Tensor<B, 4>,
    grams: Vec<(Layer, Tensor<B, 3>)>,
    means: Vec<Tensor<B, 3>>,
}

impl<B: StyleBackend> Targets<B> {
    fn new(reference: &Reference, encoder: &Vgg19<B>) -> Self {
        let content = encoder
            .features(reference.tensor("content"), &[Layer::RELU4_2])
            .unwrap();
        let style = encoder
            .features(reference.tensor("style"), &STYLE_LAYERS)
            .unwrap();
        Self {
            content: content.get(Layer::RELU4_2).clone(),
            grams: STYLE_LAYERS
                .map(|layer| (layer, gram_matrix(style.get(layer).clone())))
                .to_vec(),
            means: STYLE_LAYERS.map(|layer| style.mean(layer)).to_vec(),
        }
    }

    fn moments(&self, distance: MomentsDistance) -> Loss<B> {
        let targets = self.grams.iter().zip(&self.means);
        let term = |((layer, gram), mean): (&(Layer, Tensor<B, 3>), &Tensor<B, 3>)| {
            let term =
                MomentsTerm::new(*layer, gram.dims()[1], distance, mean.clone(), gram.clone());
            Loss::term(layer.to_string(), 1.0, term)
        };
        Loss::sum("style", 1.0, targets.map(term).collect())
    }

    fn content(&self, weight: f64) -> Loss<B> {
        let term = ContentTerm::new(Layer::RELU4_2, self.content.dims()[1], self.content.clone());
        Loss::term("content", weight, term)
    }

    fn style(&self, weight: f64, normalization: GramNormalization) -> Loss<B> {
        let term = |(layer, gram): &(Layer, Tensor<B, 3>)| {
            let term = StyleTerm::new(*layer, gram.dims()[1], normalization, gram.clone());
            Loss::term(layer.to_string(), 1.0, term)
        };
        Loss::sum("style", weight, self.grams.iter().map(term).collect())
    }
}

fn variation(norm: VariationNorm, reduction: Reduction, range: f64) -> TotalVariation {
    TotalVariation {
        norm,
        reduction,
        stencil: Stencil::Axes,
        range,
    }
}

fn gradient<B: AutodiffStyleBackend>(
    encoder: &Vgg19<B>,
    loss: &Loss<B>,
    image: Tensor<B::InnerBackend, 4>,
) -> (f64, Tensor<B::InnerBackend, 4>) {
    let image = Tensor::<B, 4>::from_inner(image).require_grad();
    let features = encoder.features(image.clone(), &loss.layers()).unwrap();
    let evaluated = loss.evaluate(&image, &features);
    let gradients = evaluated.total.backward();
    let total = evaluated.read().weighted();
    (total, image.grad(&gradients).unwrap())
}

fn features_match<B: StyleBackend>() {
    let reference = Reference::load("small");
    let encoder = small::<B>();
    let start = reference.tensor::<B>("start");
    let relus: Vec<Layer> = Layer::all()
        .filter(|layer| layer.to_string().starts_with("relu"))
        .collect();
    assert_eq!(relus.len(), 16);
    let others = [Layer::CONV4_2, Layer::POOL4];
    let features = encoder
        .features(start.clone(), &[&relus[..], &others].concat())
        .unwrap();
    for (layer, response) in features.iter() {
        reference.assert_close(&format!("features.{layer}"), response.clone());
    }
    for layer in STYLE_LAYERS {
        let response = features.get(layer).clone();
        let [_, channels, height, width] = response.dims();
        let gram = gram_matrix(response);
        let positions = (height * width) as f64;
        reference.assert_close(&format!("gram.hw.{layer}"), gram.clone());
        reference.assert_close(&format!("gram.none.{layer}"), gram.clone() * positions);
        reference.assert_close(&format!("gram.chw.{layer}"), gram / channels as f64);
    }
    let average = encoder.with_pooling(Pooling::Average);
    let features = average.features(start, &[Layer::RELU5_1]).unwrap();
    let response = features.get(Layer::RELU5_1).clone();
    reference.assert_close("avgpool.relu5_1", response);
}

fn losses_match<B: StyleBackend>() {
    let reference = Reference::load("small");
    let encoder = small::<B>();
    let targets = Targets::new(&reference, &encoder);
    let start = reference.tensor::<B>("start");
    let features = encoder
        .features(
            start.clone(),
            &[&STYLE_LAYERS[..], &[Layer::RELU4_2]].concat(),
        )
        .unwrap();
    let check = |path: &str, loss: Loss<B>| {
        let found = loss.evaluate(&start, &features).read().weighted();
        assert_number(path, found, reference.number(path), TOLERANCE);
    };
    check("/losses/content", targets.content(1.0));
    let gram = |normalization| targets.style(1.0, normalization);
    for (name, style) in [
        ("style_gram_chw", gram(GramNormalization::PerElement)),
        ("style_gram_hw", gram(GramNormalization::PerPosition)),
        ("style_gatys", gram(GramNormalization::Paper)),
        ("style_mean_std", targets.moments(MomentsDistance::MeanStd)),
        (
            "style_wasserstein",
            targets.moments(MomentsDistance::Wasserstein),
        ),
    ] {
        let values = style.evaluate(&start, &features).read();
        for layer in STYLE_LAYERS {
            let expected = reference.number(&format!("/losses/{name}/{layer}"));
            let found = values.get(&layer.to_string()).unwrap().value;
            assert_number(&format!("{name} {layer}"), found, expected, TOLERANCE);
        }
    }
    for (name, norm, reduction) in [
        ("l1_sum", VariationNorm::L1, Reduction::Sum),
        ("l1_mean", VariationNorm::L1, Reduction::Mean),
        ("l2_sum", VariationNorm::L2, Reduction::Sum),
        ("l2_mean", VariationNorm::L2, Reduction::Mean),
    ] {
        let term = variation(norm, reduction, 1.0);
        check(&format!("/losses/tv/{name}"), Loss::term("tv", 1.0, term));
    }
}

fn gradients_match<B: AutodiffStyleBackend>() {
    let reference = Reference::load("small");
    let encoder = small::<B>();
    let targets = Targets::new(&reference, &encoder);
    let style = |weight| targets.style(weight, GramNormalization::PerElement);
    let tv = |norm, range, weight| Loss::term("tv", weight, variation(norm, Reduction::Sum, range));
    let total = Loss::sum(
        "total",
        1.0,
        vec![
            targets.content(5.0),
            style(100.0),
            tv(VariationNorm::L1, 255.0, 1e-3),
        ],
    );
    for (name, loss) in [
        ("content", targets.content(1.0)),
        ("style", style(1.0)),
        ("mean_std", targets.moments(MomentsDistance::MeanStd)),
        ("wasserstein", targets.moments(MomentsDistance::Wasserstein)),
        ("tv_l1", tv(VariationNorm::L1, 1.0, 1.0)),
        ("tv_l2", tv(VariationNorm::L2, 1.0, 1.0)),
        ("total", total),
    ] {
        let (value, gradient) = gradient(&encoder, &loss, reference.tensor("start"));
        reference.assert_close(&format!("gradient.{name}"), gradient);
        if name == "total" {
            assert_number(name, value, reference.number("/losses/total"), TOLERANCE);
        }
    }
}

#[test]
fn features_on_flex() {
    features_match::<Flex>();
}

#[test]
fn losses_on_flex() {
    losses_match::<Flex>();
}

#[test]
fn gradients_on_flex() {
    gradients_match::<Autodiff<Flex>>();
}

#[cfg(feature = "ndarray")]
mod ndarray {
    use burn::backend::{Autodiff, NdArray};

    #[test]
    fn features_on_ndarray() {
        super::features_match::<NdArray>();
    }

    #[test]
    fn losses_on_ndarray() {
        super::losses_match::<NdArray>();
    }

    #[test]
    fn gradients_on_ndarray() {
        super::gradients_match::<Autodiff<NdArray>>();
    }
}

/// What is cheap to run: on whatever GPU the first adapter is, software included.
#[cfg(feature = "wgpu")]
mod wgpu {
    use burn::backend::{Autodiff, Wgpu};

    #[test]
    #[ignore = "needs a Vulkan or Metal driver"]
    fn everything_on_wgpu() {
        super::features_match::<Wgpu>();
        super::losses_match::<Wgpu>();
        super::gradients_match::<Autodiff<Wgpu>>();
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::backend::{Autodiff, Cuda};

    #[test]
    #[ignore = "needs an NVIDIA GPU"]
    fn everything_on_cuda() {
        super::features_match::<Cuda>();
        super::losses_match::<Cuda>();
        super::gradients_match::<Autodiff<Cuda>>();
    }
}
