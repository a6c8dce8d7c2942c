//! Numbers against PyTorch: features, losses, gradients and optimiser trajectories that
//! `tests/reference/make.py` computed. All of it on Flex, all but the trajectories on NdArray too.

use std::convert::Infallible;
use std::fs;
use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use impasto::kernel::{AutodiffBackend, Backend};
use impasto::loss::{
    ContentTerm, GramNormalization, Loss, MomentsDistance, MomentsTerm, Reduction, Stencil,
    StyleTerm, TotalVariation, VariationNorm, gram_matrix,
};
use impasto::optim::{Adam, AdamConfig, Evaluation, Lbfgs, LbfgsConfig, LineSearch, Optimizer};
use impasto::transfer::Measure;
use impasto::{Layer, Normalization, Picture, Pooling, Recipe, StyleTransfer, Vgg19, Vgg19Weights};
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
/// Images after 20 steps, relative in the L2 norm; losses on the way, relative.
const TRAJECTORY: f64 = 1e-2;

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

    fn tensor<B: Backend>(&self, name: &str) -> Tensor<B, 4> {
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
    fn assert_close<B: Backend, const D: usize>(&self, name: &str, found: Tensor<B, D>) {
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
fn assert_image<B: Backend>(name: &str, found: Tensor<B, 4>, expected: &[f64], tolerance: f64) {
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

fn small<B: Backend>() -> Vgg19<B> {
    Vgg19::load(data("small.safetensors"), &Default::default()).unwrap()
}

/// Targets of the reference's content and style pictures.
struct Targets<B: Backend> {
    content: Tensor<B, 4>,
    grams: Vec<(Layer, Tensor<B, 3>)>,
    means: Vec<Tensor<B, 3>>,
}

impl<B: Backend> Targets<B> {
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
            let term = MomentsTerm::new(*layer, distance, mean.clone(), gram.clone());
            Loss::term(layer.to_string(), 1.0, term)
        };
        Loss::sum("style", 1.0, targets.map(term).collect())
    }

    fn content(&self, weight: f64) -> Loss<B> {
        let term = ContentTerm::new(Layer::RELU4_2, self.content.clone());
        Loss::term("content", weight, term)
    }

    fn style(&self, weight: f64, normalization: GramNormalization) -> Loss<B> {
        let term = |(layer, gram): &(Layer, Tensor<B, 3>)| {
            let term = StyleTerm::new(*layer, normalization, gram.clone());
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

fn gradient<B: AutodiffBackend>(
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

fn features_match<B: Backend>() {
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

fn losses_match<B: Backend>() {
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

fn gradients_match<B: AutodiffBackend>() {
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

/// Takes 20 steps; returns the last image and the losses of all evaluations.
fn trajectory<B: Backend>(
    mut optimizer: impl Optimizer<B>,
    steps: usize,
    mut image: Tensor<B, 4>,
    mut evaluate: impl FnMut(Tensor<B, 4>) -> (f64, Tensor<B, 4>),
) -> (Tensor<B, 4>, Vec<f64>) {
    let mut losses = Vec::new();
    for _ in 0..steps {
        let step = optimizer.step(image, |image| {
            let (loss, gradient) = evaluate(image);
            losses.push(loss);
            Ok::<_, Infallible>(Evaluation { loss, gradient })
        });
        image = step.unwrap();
    }
    (image, losses)
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
    #[ignore = "needs a Vulkan, Metal or DirectX driver"]
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

fn adam(learning_rate: f64, beta2: f64) -> Adam<Flex> {
    Adam::new(AdamConfig {
        learning_rate,
        beta2,
        ..AdamConfig::default()
    })
}

fn lbfgs(history: usize, learning_rate: f64, line_search: LineSearch) -> Lbfgs<Flex> {
    Lbfgs::new(LbfgsConfig {
        history,
        learning_rate,
        line_search,
        tolerance: 0.0,
    })
}

#[test]
fn trajectories_follow_pytorch() {
    let reference = Reference::load("small");
    let encoder = small::<Autodiff<Flex>>();
    let targets = Targets::new(&reference, &encoder);
    let weight = |name: &str| reference.number(&format!("/trajectories/objective_weights/{name}"));
    let loss = Loss::sum(
        "total",
        1.0,
        vec![
            targets.content(weight("content")),
            targets.style(weight("style_gram_chw_sum"), GramNormalization::PerElement),
            Loss::term(
                "tv",
                weight("tv_l2_sum"),
                variation(VariationNorm::L2, Reduction::Sum, 1.0),
            ),
        ],
    );
    let evaluate = |image| gradient(&encoder, &loss, image);
    let start = || reference.tensor::<Flex>("start");
    for (name, (image, losses)) in [
        ("adam", trajectory(adam(0.02, 0.99), 20, start(), evaluate)),
        (
            "lbfgs",
            trajectory(lbfgs(100, 1.0, LineSearch::None), 20, start(), evaluate),
        ),
        (
            "lbfgs5",
            trajectory(lbfgs(5, 1.0, LineSearch::None), 20, start(), evaluate),
        ),
        (
            "lbfgs_wolfe",
            trajectory(
                lbfgs(100, 1.0, LineSearch::StrongWolfe),
                20,
                start(),
                evaluate,
            ),
        ),
    ] {
        let expected = reference.numbers(&format!("/trajectories/{name}/losses"));
        assert_eq!(losses.len(), expected.len(), "{name}: evaluations");
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            assert_number(
                &format!("{name}, step {step}"),
                *found,
                *expected,
                TRAJECTORY,
            );
        }
        let (_, expected) = reference.values(&format!("{name}.image"));
        assert_image(name, image, &expected, TRAJECTORY);
    }
}

/// L-BFGS on a valley that a network's loss does not have, so that the history and the line search
/// are tried hard.
#[test]
fn lbfgs_follows_pytorch_on_rosenbrock() {
    let reference = Reference::load("small");
    let rosenbrock = |image: Tensor<Flex, 4>| {
        let x: Vec<f32> = image.clone().into_data().to_vec().unwrap();
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let mut loss = 0.0;
        let mut gradient = vec![0.0; x.len()];
        for i in (0..x.len()).step_by(2) {
            let (a, b) = (x[i], x[i + 1]);
            loss += 100.0 * (b - a * a).powi(2) + (1.0 - a).powi(2);
            gradient[i] += -400.0 * a * (b - a * a) - 2.0 * (1.0 - a);
            gradient[i + 1] += 200.0 * (b - a * a);
        }
        let data = TensorData::new(gradient, [1, 1, 2, 3]).convert::<f32>();
        (loss, Tensor::from_data(data, &image.device()))
    };
    for (name, optimizer) in [
        ("lbfgs", lbfgs(100, 0.5, LineSearch::None)),
        ("lbfgs5", lbfgs(5, 0.5, LineSearch::None)),
        ("lbfgs_wolfe", lbfgs(100, 1.0, LineSearch::StrongWolfe)),
    ] {
        let start = reference.tensor::<Flex>("rosenbrock.start");
        let (image, losses) = trajectory(optimizer, 20, start, rosenbrock);
        let expected = reference.numbers(&format!("/rosenbrock/{name}/losses"));
        assert_eq!(losses.len(), expected.len(), "{name}: evaluations");
        // The reference is in float64; its own float32 run strays by 1.2% in the last losses.
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            assert_number(&format!("{name}, step {step}"), *found, *expected, 5e-2);
        }
        let (_, expected) = reference.values(&format!("rosenbrock.{name}"));
        assert_image(name, image, &expected, TRAJECTORY);
    }
}

/// The first evaluation of every recipe is what its source defines, as `tests/reference/recipes.py`
/// spells it out.
#[test]
fn recipes_have_the_losses_of_their_sources() {
    let json = fs::read_to_string(data("recipes.reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&json).unwrap();
    let small = Reference::load("small");
    let picture = |name| Picture::from_tensor(small.tensor::<Flex>(name)).unwrap();
    let (content, style) = (picture("content"), picture("style"));
    let known = reference["recipes"].as_object().unwrap();
    for recipe in Recipe::all() {
        let name = recipe.name.clone();
        if name == "impasto" {
            continue;
        }
        let expected = known.get(&name).unwrap_or_else(|| panic!("{name}"));
        let mut weights = Vgg19Weights::load(data("small.safetensors")).unwrap();
        weights.normalization = match expected["normalisation"].as_str() {
            Some("caffe") => Normalization::CAFFE,
            _ => Normalization::TORCHVISION,
        };
        let encoder = Vgg19::<Autodiff<Flex>>::from_weights(weights, &Default::default());
        // At their own sizes, pictures are not resized.
        let measured = |width: f64, height: f64| match recipe.measure {
            Measure::LongestSide => width.max(height),
            Measure::ShortestSide => width.min(height),
            Measure::Width => width,
            Measure::Height => height,
            Measure::SquareRootOfArea => (width * height).sqrt(),
        };
        let own = |picture: &Picture| {
            measured(picture.width() as f64, picture.height() as f64).round() as usize
        };
        let recipe = Recipe {
            size: own(&content),
            style_size: Some(own(&style)),
            coarsest: usize::MAX,
            ..recipe
        };
        let mut first = None;
        StyleTransfer::new(&encoder)
            .content(content.clone())
            .style(style.clone(), 1.0)
            .start(picture("start"))
            .recipe(recipe)
            .on_step(|step| {
                assert_eq!((step.width, step.height), (46, 37), "{name}");
                first = Some(step.losses.clone());
                ControlFlow::Break(())
            })
            .run()
            .unwrap();
        let losses = first.unwrap();
        let total = expected["total"].as_f64().unwrap();
        assert_number(
            &format!("{name}, total"),
            losses.weighted(),
            total,
            TOLERANCE,
        );
        for (term, value) in expected["weighted"].as_object().unwrap() {
            let found = losses.get(term).unwrap_or_else(|| panic!("{name}, {term}"));
            let label = format!("{name}, {term}");
            assert_number(&label, found.weighted(), value.as_f64().unwrap(), TOLERANCE);
        }
    }
}

/// Adam's moments at the next scale are those of `torch.nn.functional.interpolate`.
#[test]
fn moments_are_resized_as_by_pytorch() {
    let json = fs::read_to_string(data("recipes.reference.json")).unwrap();
    let reference: Value = serde_json::from_str(&json).unwrap();
    let content = Reference::load("small").tensor::<Flex>("content");
    let mut optimizer = adam(0.1, 0.5);
    // One step leaves a tenth of the gradient and half of its square.
    let gradient = content.clone();
    let step = optimizer.step(content.clone(), |_| {
        let gradient = gradient.clone();
        Ok::<_, Infallible>(Evaluation {
            loss: 0.0,
            gradient,
        })
    });
    step.unwrap();
    let state = optimizer.resized(65, 52).state();
    assert_eq!(state.numbers["steps"], 1);
    let resized = &reference["resized_to_52_by_65_every_97th"];
    let expected = |mode: &str| -> Vec<f64> {
        let list = resized[mode].as_array().unwrap();
        list.iter().map(|v| v.as_f64().unwrap()).collect()
    };
    let found = |name: &str| -> Vec<f64> {
        let tensor = state.tensors[name].clone();
        assert_eq!(tensor.dims(), [1, 3, 52, 65]);
        let values: Vec<f64> = tensor.into_data().iter().collect();
        values.into_iter().step_by(97).collect()
    };
    let mean: Vec<f64> = found("mean").iter().map(|v| v / 0.1).collect();
    assert_all_close("bicubic", &mean, &expected("bicubic"), TOLERANCE);
    // The square of the gradient, resized, is close to the square of the resized gradient.
    let square: Vec<f64> = found("square").iter().map(|v| (v / 0.5).sqrt()).collect();
    assert_all_close("bilinear", &square, &expected("bilinear"), 2e-2);
}

/// The same checks on the real network, in samples.
#[cfg(all(feature = "onnx", feature = "pytorch"))]
#[test]
fn imagenet_weights_match() {
    let Some(path) = crate::imagenet_weights("imagenet_weights_match") else {
        return;
    };
    type B = Autodiff<Flex>;
    let reference = Reference::load("imagenet");
    let encoder = Vgg19::<B>::load(path, &Default::default()).unwrap();
    assert_eq!(encoder.normalization(), Normalization::CAFFE);

    let relus: Vec<Layer> = Layer::all()
        .filter(|layer| layer.to_string().starts_with("relu"))
        .collect();
    let features = encoder.features(reference.tensor("start"), &relus).unwrap();
    let sample = |values: Vec<f64>, stride: f64| -> Vec<f64> {
        values.into_iter().step_by(stride as usize).collect()
    };
    for (layer, response) in features.iter() {
        let values: Vec<f64> = response.clone().into_data().iter().collect();
        let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
        let expected = reference.number(&format!("/norms/{layer}"));
        assert_number(&format!("norm of {layer}"), norm, expected, TOLERANCE);
        let stride = reference.number(&format!("/strides/features/{layer}"));
        let (_, expected) = reference.values(&format!("features.{layer}"));
        let found = sample(values, stride);
        assert_all_close(
            &layer.to_string(),
            &found[..expected.len()],
            &expected,
            TOLERANCE,
        );
    }
    for layer in STYLE_LAYERS {
        let response = features.get(layer).clone();
        let channels = response.dims()[1] as f64;
        let values = (gram_matrix(response) / channels)
            .into_data()
            .iter()
            .collect();
        let stride = reference.number(&format!("/strides/gram_chw/{layer}"));
        let (_, expected) = reference.values(&format!("gram.chw.{layer}"));
        let found = sample(values, stride);
        assert_all_close(
            &layer.to_string(),
            &found[..expected.len()],
            &expected,
            TOLERANCE,
        );
    }

    let targets = Targets::new(&reference, &encoder);
    let tv = variation(VariationNorm::L1, Reduction::Sum, 255.0);
    let loss = Loss::sum(
        "total",
        1.0,
        vec![
            targets.content(5.0),
            targets.style(100.0, GramNormalization::PerElement),
            Loss::term("tv", 1e-3, tv),
        ],
    );
    let (total, found) = gradient(&encoder, &loss, reference.tensor("start"));
    assert_number("total", total, reference.number("/losses/total"), TOLERANCE);
    reference.assert_close("gradient.total", found);

    // Ten of the twenty L-BFGS steps are compared: later ones amplify rounding, see the deviations
    // of PyTorch's own float32 run in the reference.
    let evaluate = |image: Tensor<Flex, 4>| {
        let (loss, gradient) = gradient(&encoder, &loss, image / 255.0);
        (loss, gradient / 255.0)
    };
    let start = || reference.tensor::<Flex>("start") * 255.0;
    for (name, (image, losses)) in [
        ("adam", trajectory(adam(1.0, 0.999), 20, start(), evaluate)),
        (
            "lbfgs10",
            trajectory(lbfgs(100, 1.0, LineSearch::None), 10, start(), evaluate),
        ),
    ] {
        let expected = reference.numbers(&format!("/trajectories/{name}/losses"));
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            assert_number(
                &format!("{name}, step {step}"),
                *found,
                *expected,
                TRAJECTORY,
            );
        }
        let (_, expected) = reference.values(&format!("{name}.image"));
        assert_image(name, image / 255.0, &expected, TRAJECTORY);
    }
}
