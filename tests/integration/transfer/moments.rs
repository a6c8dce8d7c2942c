//! What Adam and its images carry from step to step and from scale to scale.

use std::ops::ControlFlow;

use burn::tensor::Tensor;
use impasto::loss::Part;
use impasto::optim::{AdamConfig, OptimizerConfig};
use impasto::transfer::{Checkpoint, End};
use impasto::{Layer, Picture, Recipe};

use super::{encoder, recipe, transfer, waves};

/// Adam over two scales.
fn adam_recipe() -> Recipe {
    Recipe {
        optimizer: OptimizerConfig::Adam(AdamConfig::default()),
        coarse_iterations: vec![5],
        iterations: 5,
        ..recipe()
    }
}

#[test]
fn the_result_is_the_mean_of_the_images_if_asked_for() {
    let encoder = encoder();
    let paint = |averaging| {
        let mut images = Vec::new();
        let recipe = Recipe {
            averaging,
            coarsest: 40,
            ..adam_recipe()
        };
        let outcome = transfer(&encoder).recipe(recipe).on_step(|step| {
            images.push(step.picture().unwrap());
            ControlFlow::Continue(())
        });
        let result = outcome.run().unwrap().picture;
        (result, images)
    };
    // Without decay the mean is the last image alone, which no step has evaluated.
    let (last, _) = paint(Some(0.0));
    let (mean, images) = paint(Some(0.5));
    assert_eq!(images.len(), 5);
    let images: Vec<&[f32]> = images.iter().chain([&last]).map(Picture::rgb).collect();
    let weights: Vec<f32> = (0..6).map(|i| 0.5f32.powi(5 - i)).collect();
    let total: f32 = weights.iter().sum();
    for (index, &found) in mean.rgb().iter().enumerate() {
        let sum = images
            .iter()
            .zip(&weights)
            .map(|(image, w)| w * image[index]);
        let expected = sum.sum::<f32>() / total;
        // Pictures are clamped, the mean is of what was not.
        if images
            .iter()
            .all(|image| (0.001..0.999).contains(&image[index]))
        {
            assert!(
                (found - expected).abs() < 1e-5,
                "{index}: {found} {expected}"
            );
        }
    }
    assert!(mean != last);
}

#[test]
fn a_mean_that_diverged_is_not_the_result() {
    let encoder = encoder();
    // The first step goes further than numbers reach; whether or not another one follows.
    for iterations in [1, 3] {
        let recipe = Recipe {
            averaging: Some(0.5),
            coarsest: 40,
            iterations,
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 1e38,
                ..AdamConfig::default()
            }),
            ..recipe()
        };
        let start = waves(40, 30, 1.0);
        let run = transfer(&encoder).recipe(recipe).start(start.clone());
        let outcome = run.run().unwrap();
        assert!(matches!(outcome.end, End::Diverged { .. }), "{iterations}");
        assert!(outcome.picture == start, "{iterations}");
    }
}

#[test]
fn moments_are_carried_to_the_next_scale() {
    let encoder = encoder();
    let first_step = |carry_moments| {
        let mut images = Vec::new();
        let recipe = Recipe {
            optimizer: OptimizerConfig::Adam(AdamConfig {
                carry_moments,
                ..AdamConfig::default()
            }),
            ..adam_recipe()
        };
        let run = transfer(&encoder).recipe(recipe).on_step(|step| {
            if step.scale == 1 {
                images.push(step.picture().unwrap());
            }
            ControlFlow::Continue(())
        });
        run.run().unwrap();
        images
    };
    let (fresh, carried) = (first_step(false), first_step(true));
    // The scale starts from the same image; its first step is another.
    assert!(fresh[0] == carried[0]);
    assert!(fresh[1] != carried[1]);
    // Fresh, Adam's first step moves every value by its rate, as long as there is any gradient.
    let moves = |images: &[Picture]| -> Vec<f32> {
        let pairs = images[0].rgb().iter().zip(images[1].rgb());
        pairs.map(|(a, b)| (a - b).abs()).collect()
    };
    let share = |moves: Vec<f32>| {
        let whole = moves.iter().filter(|m| (**m - 0.02).abs() < 1e-4).count();
        whole as f64 / moves.len() as f64
    };
    assert!(share(moves(&fresh)) > 0.9);
    assert!(share(moves(&carried)) < 0.5);
}

#[test]
fn clamped_steps_stay_possible_colours() {
    let encoder = encoder();
    let extremes = |clamp| {
        let recipe = Recipe {
            iterations: 30,
            coarsest: 40,
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 0.2,
                clamp,
                ..AdamConfig::default()
            }),
            ..recipe()
        };
        let mut range = (0.0f64, 1.0f64);
        let run = transfer(&encoder)
            .recipe(recipe)
            .term("largest", 0.0, Extremes);
        let run = run.on_step(|step| {
            let value = step.losses.get("largest").unwrap().value;
            range.1 = range.1.max(value);
            ControlFlow::Continue(())
        });
        run.run().unwrap();
        range.1
    };
    assert!(extremes(None) > 1.01);
    assert!(extremes(Some(1.0)) <= 1.0 + 1e-6);
}

/// The largest value of the image.
#[derive(Debug)]
struct Extremes;

impl<B: burn::tensor::backend::Backend> impasto::loss::Term<B> for Extremes {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        part.image().max().reshape([1, 1])
    }
    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }
    fn needs_whole_image(&self) -> bool {
        true
    }
    fn describe(&self) -> String {
        "largest value".to_string()
    }
}

/// Everything that a run carries from step to step and from scale to scale is in its checkpoints.
#[test]
fn a_run_with_means_and_moments_is_resumed_bit_for_bit() {
    let encoder = encoder();
    let recipe = Recipe {
        averaging: Some(0.9),
        optimizer: OptimizerConfig::Adam(AdamConfig {
            carry_moments: true,
            clamp: Some(1.0),
            ..AdamConfig::default()
        }),
        ..adam_recipe()
    };
    let whole = transfer(&encoder).recipe(recipe.clone()).run().unwrap();
    for stop in [3, 7] {
        let mut checkpoint: Option<Checkpoint> = None;
        let parts = transfer(&encoder)
            .recipe(recipe.clone())
            .on_checkpoint(std::time::Duration::from_secs(1000), |last| {
                checkpoint = Some(last);
            })
            .on_step(|step| match step.evaluation == stop {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
            .run()
            .unwrap();
        assert_eq!(parts.end, End::Stopped);
        // Through a file, as after another start of the program.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        checkpoint.unwrap().save(&path).unwrap();
        let checkpoint = Checkpoint::load(&path).unwrap();
        let run = transfer(&encoder).recipe(recipe.clone());
        let resumed = run.resume(checkpoint).run().unwrap();
        assert!(resumed.picture == whole.picture, "stopped at {stop}");
    }
}
