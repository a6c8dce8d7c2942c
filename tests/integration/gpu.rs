//! The whole network on a GPU, through `wgpu`, beside the CPU. Mesa's llvmpipe is enough.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::module::AutodiffModule;
use burn::tensor::{Tensor, TensorData};
use impasto::kernel::{AutodiffStyleBackend, Precision, StyleBackend};
use impasto::loss::{ContentTerm, GramNormalization, Loss, StyleTerm};
use impasto::optim::{Evaluation, Lbfgs, LbfgsConfig, Optimizer};
use impasto::{Evaluator, Layer, Picture, Vgg19};

use crate::repository;

const STYLE: [Layer; 5] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
];

/// An odd size, so that every pool leaves out a row or a column.
const SIZE: (usize, usize) = (53, 37);

fn picture(name: &str) -> Picture {
    let picture = Picture::open(repository(&format!("assets/{name}.jpg"))).unwrap();
    picture.resize(SIZE.0, SIZE.1)
}

/// Gram matrices of five layers, and the content of one, as in Gatys et al.
fn evaluator<B: AutodiffStyleBackend>() -> Evaluator<B> {
    let device = Default::default();
    let encoder = Vgg19::<B>::builtin(&device).with_precision(Precision::F32);
    let plain = encoder.valid();
    let style = plain
        .features(picture("swirls").to_tensor(&device), &STYLE)
        .unwrap();
    let style = STYLE.map(|layer| {
        let target = Tensor::from_inner(style.gram(layer));
        let channels = encoder.channels(layer).unwrap();
        let term = StyleTerm::new(layer, channels, GramNormalization::PerElement, target);
        Loss::term(layer.to_string(), 100.0, term)
    });
    let layer = Layer::RELU4_2;
    let content = plain
        .features(picture("scene").to_tensor(&device), &[layer])
        .unwrap();
    let target = Tensor::from_inner(content.get(layer).clone());
    let channels = encoder.channels(layer).unwrap();
    let content = Loss::term("content", 5.0, ContentTerm::new(layer, channels, target));
    let style = Loss::sum("style", 1.0, style.into());
    Evaluator::new(encoder, Loss::sum("total", 1.0, vec![content, style]))
}

fn start<B: StyleBackend>() -> Tensor<B, 4> {
    picture("swirls").to_tensor(&Default::default())
}

/// Loss and gradient at the start.
fn evaluate<B: AutodiffStyleBackend>() -> (f64, Vec<f32>) {
    let found = evaluator::<B>().evaluate(&start()).unwrap();
    let gradient = found.gradient.into_data();
    (found.losses.weighted(), gradient.iter().collect())
}

/// The image after some steps of L-BFGS.
fn descend<B: AutodiffStyleBackend>() -> TensorData {
    let evaluator = evaluator::<B>();
    let mut optimizer = Lbfgs::new(LbfgsConfig::default());
    let mut image = start::<B::InnerBackend>();
    for _ in 0..4 {
        let step = optimizer.step(image, |image| {
            let found = evaluator
                .evaluate(&image)
                .map_err(|error| error.to_string())?;
            let loss = found.losses.weighted();
            Ok::<_, String>(Evaluation {
                loss,
                gradient: found.gradient,
            })
        });
        image = step.unwrap();
    }
    image.into_data()
}

#[test]
fn loss_and_gradient_are_those_of_the_cpu() {
    let (loss, gradient) = evaluate::<Autodiff<Wgpu>>();
    let (wanted_loss, wanted) = evaluate::<Autodiff<Flex>>();
    assert!(
        (loss - wanted_loss).abs() < 1e-5 * wanted_loss,
        "{loss} instead of {wanted_loss}"
    );
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let error = norm(&mut gradient.iter().zip(&wanted).map(|(a, b)| a - b));
    let error = error / norm(&mut wanted.iter().copied());
    assert!(error < 1e-4, "{error:e}");
}

#[test]
fn steps_of_lbfgs_are_those_of_the_cpu() {
    let found = descend::<Autodiff<Wgpu>>();
    let wanted = descend::<Autodiff<Flex>>();
    let pairs = found.iter::<f32>().zip(wanted.iter::<f32>());
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    // Half a level of 255.
    assert!(largest < 0.5 / 255.0, "{largest}");
}
