//! What a run spends its time on: the encoder, the loss with its gradient, the optimiser's own work,
//! pictures. Random weights of VGG19's size, so that nothing needs to be downloaded.
//!
//! `cargo bench --package impasto-tools` (all), `cargo bench --package impasto-tools -- gradient` (some).

use std::convert::Infallible;
use std::hint::black_box;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::{Distribution, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use impasto::loss::{ContentTerm, GramNormalization, Loss, StyleTerm};
use impasto::optim::{Evaluation, Lbfgs, LbfgsConfig, Optimizer};
use impasto::{Evaluator, Layer, Picture, Recipe, Vgg19, Vgg19Config};

type B = Autodiff<Flex>;

fn image(size: usize) -> Tensor<Flex, 4> {
    let shape = [1, 3, size, size];
    Tensor::random(shape, Distribution::Uniform(0.0, 1.0), &Default::default())
}

/// The loss of the Gram recipe, with random targets.
fn loss(encoder: &Vgg19<B>, size: usize) -> Loss<B> {
    let recipe = Recipe::gram();
    let layers = [&recipe.style_layers[..], &recipe.content_layers].concat();
    let features = encoder.valid().features(image(size), &layers).unwrap();
    let channels = |layer| encoder.channels(layer).unwrap();
    let mut terms: Vec<Loss<B>> = recipe
        .style_layers
        .iter()
        .map(|&layer| {
            let gram = Tensor::from_inner(features.gram(layer));
            let term = StyleTerm::new(layer, channels(layer), GramNormalization::PerElement, gram);
            Loss::term(layer.to_string(), 1.0, term)
        })
        .collect();
    let target = Tensor::from_inner(features.get(Layer::RELU4_2).clone());
    terms.push(Loss::term(
        "content",
        1.0,
        ContentTerm::new(Layer::RELU4_2, channels(Layer::RELU4_2), target),
    ));
    Loss::sum("total", 1.0, terms)
}

fn encoder_forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward_to_relu5_1");
    let encoder = Vgg19Config::new().init::<Flex>(&Default::default());
    for size in [128, 256] {
        let image = image(size);
        group.sample_size(10);
        group.throughput(Throughput::Elements((size * size) as u64));
        group.bench_function(BenchmarkId::new("flex", size), |b| {
            b.iter(|| encoder.features(image.clone(), &[Layer::RELU5_1]).unwrap());
        });
    }
}

fn loss_and_gradient(c: &mut Criterion) {
    let mut group = c.benchmark_group("loss_and_gradient");
    let encoder = Vgg19Config::new().init::<B>(&Default::default());
    for size in [128, 256] {
        let evaluator = Evaluator::new(encoder.clone(), loss(&encoder, size));
        let image = image(size);
        group.sample_size(10);
        group.throughput(Throughput::Elements((size * size) as u64));
        group.bench_function(BenchmarkId::new("flex", size), |b| {
            b.iter(|| black_box(evaluator.evaluate(&image).unwrap()));
        });
    }
}

/// A step with a full history, on a function that costs nothing to evaluate.
fn lbfgs_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("lbfgs_step");
    for (size, history) in [(256, 20), (512, 20), (512, 100)] {
        let mut optimizer = Lbfgs::new(LbfgsConfig {
            history,
            // Slow enough that the gradient does not vanish before the history is full.
            learning_rate: 0.1,
            ..LbfgsConfig::default()
        });
        let curvature = image(size) + 0.5;
        let mut current = image(size);
        let mut step = || {
            let evaluate = |image: Tensor<Flex, 4>| {
                Ok::<_, Infallible>(Evaluation {
                    loss: 0.0,
                    gradient: image * curvature.clone() + 1e-3,
                })
            };
            current = optimizer.step(current.clone(), evaluate).unwrap();
        };
        (0..history + 2).for_each(|_| step());
        group.sample_size(10);
        group.bench_function(BenchmarkId::new(format!("history_{history}"), size), |b| {
            b.iter(&mut step);
        });
    }
}

fn pictures(c: &mut Criterion) {
    let mut group = c.benchmark_group("picture");
    let scene = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/scene.jpg");
    group.bench_function("open/640x480_jpeg", |b| {
        b.iter(|| Picture::open(scene).unwrap())
    });
    let picture = Picture::open(scene).unwrap().resize(2048, 1536);
    group.bench_function("resize/2048x1536_to_512x384", |b| {
        b.iter(|| picture.resize(512, 384))
    });
    group.bench_function("to_tensor/2048x1536", |b| {
        b.iter(|| picture.to_tensor::<Flex>(&Default::default()));
    });
}

criterion_group!(
    benches,
    encoder_forward,
    loss_and_gradient,
    lbfgs_step,
    pictures
);
criterion_main!(benches);
