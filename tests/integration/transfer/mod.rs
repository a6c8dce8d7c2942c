//! Whole runs on a small network.

mod matching;
mod moments;
mod ranks;
mod run;
mod styles;

use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use impasto::loss::{Part, sum_per_image};
use impasto::optim::{AdamConfig, LbfgsConfig, LineSearch, OptimizerConfig};
use impasto::transfer::{End, LayerWeights};
use impasto::{Init, Layer, Picture, Recipe, StyleTransfer, TransferError, Vgg19};

use crate::data;

pub(crate) type B = Autodiff<Flex>;

pub(crate) fn encoder() -> Vgg19<B> {
    Vgg19::load(data("small.safetensors"), &Default::default()).unwrap()
}

/// Waves of colour; `phase` makes different ones.
pub(crate) fn waves(width: usize, height: usize, phase: f32) -> Picture {
    let rgb = (0..width * height)
        .flat_map(|i| {
            let (x, y) = ((i % width) as f32 / 5.0, (i / width) as f32 / 7.0);
            [x + phase, y * phase, x * y].map(|angle| 0.5 + 0.4 * angle.sin())
        })
        .collect();
    Picture::from_rgb(width, height, rgb).unwrap()
}

fn recipe() -> Recipe {
    Recipe {
        content_layers: vec![Layer::RELU3_2],
        style_layers: vec![Layer::RELU1_1, Layer::RELU2_1, Layer::RELU3_1],
        size: 40,
        coarsest: 20,
        iterations: 6,
        coarse_iterations: vec![4],
        content_weight: 1.0,
        style_weight: 1e4,
        tv_weight: 0.0,
        layer_weights: LayerWeights::One,
        pooling: None,
        range: 1.0,
        ..Recipe::gram()
    }
}

pub(crate) fn transfer(encoder: &Vgg19<B>) -> StyleTransfer<'_, B> {
    StyleTransfer::new(encoder)
        .content(waves(44, 33, 1.0))
        .style(waves(30, 36, 2.0), 1.0)
        .recipe(recipe())
}

#[test]
fn a_run_goes_through_its_plan_and_the_loss_falls() {
    let encoder = encoder();
    let plan = transfer(&encoder).plan().unwrap();
    let sizes: Vec<_> = plan.scales.iter().map(|s| (s.width, s.height)).collect();
    assert_eq!(sizes, [(20, 15), (40, 30)]);
    let mut seen = Vec::new();
    let outcome = transfer(&encoder)
        .on_step(|step| {
            assert_eq!((step.width, step.height), sizes[step.scale]);
            assert_eq!(step.picture().unwrap().width(), step.width);
            seen.push((
                step.scale,
                step.iteration,
                step.evaluation,
                step.losses.weighted(),
            ));
            ControlFlow::Continue(())
        })
        .run()
        .unwrap();
    assert_eq!(outcome.end, End::Finished);
    assert_eq!(
        (outcome.picture.width(), outcome.picture.height()),
        (40, 30)
    );
    assert_eq!(outcome.evaluations, 10);
    let places: Vec<_> = seen.iter().map(|s| (s.0, s.1)).collect();
    let expected = (1..=4).map(|i| (0, i)).chain((1..=6).map(|i| (1, i)));
    assert!(places.into_iter().eq(expected));
    assert!(seen.iter().map(|s| s.2).eq(1..=10));
    for scale in [0, 1] {
        let losses: Vec<f64> = seen.iter().filter(|s| s.0 == scale).map(|s| s.3).collect();
        assert!(losses.last() < losses.first(), "{losses:?}");
    }
    let last = outcome.losses.unwrap();
    let total = last.get("content").unwrap().weighted() + last.get("style").unwrap().weighted();
    assert!((total - last.weighted()).abs() <= 1e-9 * total);
}

#[test]
fn the_same_seed_gives_the_same_picture() {
    let encoder = encoder();
    let noisy = |seed| {
        let recipe = Recipe {
            init: Init::NOISE,
            ..recipe()
        };
        transfer(&encoder)
            .recipe(recipe)
            .seed(seed)
            .run()
            .unwrap()
            .picture
    };
    assert_eq!(noisy(3), noisy(3));
    assert_ne!(noisy(3), noisy(4));
}

#[test]
fn every_start_and_every_optimiser_improves() {
    let encoder = encoder();
    let wolfe = OptimizerConfig::Lbfgs(LbfgsConfig {
        line_search: LineSearch::StrongWolfe,
        ..LbfgsConfig::default()
    });
    let adam = OptimizerConfig::Adam(AdamConfig::default());
    for (init, optimizer) in [
        (Init::Content, adam),
        (Init::Style, recipe().optimizer),
        (Init::NOISE, wolfe),
    ] {
        let recipe = Recipe {
            init,
            optimizer,
            coarsest: 40,
            ..recipe()
        };
        let mut losses = Vec::new();
        transfer(&encoder)
            .recipe(recipe)
            .on_step(|step| {
                losses.push(step.losses.weighted());
                ControlFlow::Continue(())
            })
            .run()
            .unwrap();
        assert!(losses.last() < losses.first(), "{init:?} {losses:?}");
    }
}

#[test]
fn a_run_starts_from_a_picture_if_one_is_given() {
    let encoder = encoder();
    let start = waves(40, 30, 3.0);
    let mut first = None;
    let recipe = Recipe {
        coarsest: 40,
        ..recipe()
    };
    transfer(&encoder)
        .recipe(recipe)
        .start(start.clone())
        .on_step(|step| {
            first = step.picture().ok();
            ControlFlow::Break(())
        })
        .run()
        .unwrap();
    assert_eq!(first.unwrap(), start);
}

#[test]
fn a_stopped_run_returns_its_best_picture() {
    let encoder = encoder();
    let mut pictures = Vec::new();
    let outcome = transfer(&encoder)
        .on_step(|step| {
            pictures.push((step.losses.weighted(), step.picture().unwrap()));
            match step.evaluation {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })
        .run()
        .unwrap();
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!(outcome.evaluations, 3);
    pictures.sort_by(|a, b| a.0.total_cmp(&b.0));
    assert_eq!(outcome.picture, pictures[0].1);
}

#[test]
fn a_diverging_run_keeps_the_last_good_picture() {
    let encoder = encoder();
    let recipe = Recipe {
        coarsest: 40,
        // Steps so long that the next loss is infinite.
        optimizer: OptimizerConfig::Adam(AdamConfig {
            learning_rate: 1e30,
            ..AdamConfig::default()
        }),
        ..recipe()
    };
    let outcome = transfer(&encoder).recipe(recipe).run().unwrap();
    match outcome.end {
        End::Diverged { evaluation, losses } => {
            assert_eq!(evaluation, 2);
            assert!(!losses.weighted().is_finite());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome.picture, waves(44, 33, 1.0).resize(40, 30));
    assert!(outcome.losses.unwrap().weighted().is_finite());
}

/// The result is never worse than an image that the run has seen.
#[test]
fn a_last_step_that_goes_too_far_is_not_the_result() {
    let encoder = encoder();
    let mut seen = Vec::new();
    let outcome = transfer(&encoder)
        .recipe(Recipe {
            coarsest: 40,
            iterations: 2,
            // Steps that grow far beyond the pixels' range, but stay finite.
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 1e3,
                ..AdamConfig::default()
            }),
            ..recipe()
        })
        .on_step(|step| {
            seen.push((step.losses.weighted(), step.picture().unwrap()));
            ControlFlow::Continue(())
        })
        .run()
        .unwrap();
    assert_eq!(outcome.end, End::Finished);
    assert!(seen[1].0 > seen[0].0);
    assert_eq!(outcome.picture, seen[0].1);
}

/// A blow-up along the search line is no end: the search comes back from it.
#[test]
fn the_line_search_recovers_from_infinity() {
    let encoder = encoder();
    let recipe = Recipe {
        coarsest: 40,
        optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
            // The first trial lies where the loss is infinite.
            learning_rate: 1e30,
            line_search: LineSearch::StrongWolfe,
            ..LbfgsConfig::default()
        }),
        iterations: 2,
        ..recipe()
    };
    let outcome = transfer(&encoder).recipe(recipe).run().unwrap();
    assert_eq!(outcome.end, End::Finished);
    assert!(outcome.picture.rgb().iter().all(|v| v.is_finite()));
}

#[test]
fn a_term_of_ones_own_takes_part_in_a_run() {
    #[derive(Debug)]
    struct Darkness;
    impl<B: burn::tensor::backend::Backend> impasto::loss::Term<B> for Darkness {
        fn layers(&self) -> Vec<Layer> {
            Vec::new()
        }
        fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
            let [height, width] = part.size();
            sum_per_image(part.image().powi_scalar(2)) / (3 * height * width) as f64
        }
        fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
            sums.squeeze_dim(1)
        }
        fn describe(&self) -> String {
            "mean square of the pixels".to_string()
        }
    }
    let encoder = encoder();
    let brightness = |picture: &Picture| picture.rgb().iter().sum::<f32>();
    let plain = transfer(&encoder).run().unwrap();
    let dark = transfer(&encoder)
        .term("darkness", 1e4, Darkness)
        .run()
        .unwrap();
    assert!(dark.losses.unwrap().get("darkness").is_some());
    assert!(brightness(&dark.picture) < 0.8 * brightness(&plain.picture));
}

#[test]
fn what_cannot_run_says_so_before_it_begins() {
    let encoder = encoder();
    assert!(matches!(
        StyleTransfer::new(&encoder)
            .style(waves(20, 20, 1.0), 1.0)
            .run(),
        Err(TransferError::NoContent)
    ));
    assert!(matches!(
        StyleTransfer::new(&encoder)
            .content(waves(20, 20, 1.0))
            .run(),
        Err(TransferError::NoStyle)
    ));
    let weights = transfer(&encoder).style(waves(20, 20, 1.0), -1.0).run();
    assert!(matches!(weights, Err(TransferError::StyleWeights)));
    // 1×2000 pixels become 1×40, which the pools cannot halve.
    let thin = Picture::from_rgb(2000, 1, vec![0.5; 6000]).unwrap();
    let error = transfer(&encoder).content(thin).run().unwrap_err();
    assert!(error.to_string().contains("too small for relu"), "{error}");
    let bad = Recipe {
        style_weight: -1.0,
        ..recipe()
    };
    let error = transfer(&encoder).recipe(bad).run().unwrap_err();
    assert!(error.to_string().contains("style_weight"), "{error}");
}
