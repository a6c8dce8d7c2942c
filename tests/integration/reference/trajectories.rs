//! Steps of the optimisers.

use std::convert::Infallible;
use std::fs;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use impasto::kernel::StyleBackend;
use impasto::loss::{GramNormalization, Loss, Reduction, VariationNorm};
use impasto::optim::{Adam, AdamConfig, Evaluation, Lbfgs, LbfgsConfig, LineSearch, Optimizer};
use serde_json::Value;

use crate::data;

use super::{
    Reference, TOLERANCE, Targets, assert_all_close, assert_image, assert_number, gradient, small,
    variation,
};

/// Images after 20 steps, relative in the L2 norm; losses on the way, relative.
pub(super) const TRAJECTORY: f64 = 1e-2;

/// Takes 20 steps; returns the last image and the losses of all evaluations.
pub(super) fn trajectory<B: StyleBackend>(
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

pub(super) fn adam(learning_rate: f64, beta2: f64) -> Adam<Flex> {
    Adam::new(AdamConfig {
        learning_rate,
        beta2,
        ..AdamConfig::default()
    })
}

pub(super) fn lbfgs(history: usize, learning_rate: f64, line_search: LineSearch) -> Lbfgs<Flex> {
    Lbfgs::new(LbfgsConfig {
        history,
        learning_rate,
        line_search,
        ..LbfgsConfig::default()
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
