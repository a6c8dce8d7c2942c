//! Runs that are stepped, steered, kept and resumed by their owner.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use impasto::loss::{Part, ScaleView, Term, sum_per_image};
use impasto::optim::{AdamConfig, LbfgsConfig, LineSearch, OptimizerConfig};
use impasto::transfer::{Checkpoint, CheckpointError, End};
use impasto::{Layer, Picture, Recipe, Run, Status, StyleTransfer, TransferError, Vgg19};

use super::{B, encoder, recipe, transfer, waves};

/// Steps a run to its end.
fn to_the_end(mut run: Run<B>) -> Picture {
    while let Status::Running(_) = run.step().unwrap() {}
    let outcome = run.finish().unwrap();
    assert_eq!(outcome.end, End::Finished);
    outcome.picture
}

/// Through a file, as after another start of the program.
fn through_a_file(checkpoint: &Checkpoint) -> Checkpoint {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    checkpoint.save(&path).unwrap();
    Checkpoint::load(&path).unwrap()
}

#[test]
fn a_stepped_run_is_the_run() {
    let encoder = encoder();
    let expected = transfer(&encoder).run().unwrap();
    let mut run = transfer(&encoder).prepare().unwrap();
    let start = run.picture().unwrap();
    assert_eq!((start.width(), start.height()), (20, 15));
    assert!(run.checkpoint().is_none());
    let mut places = Vec::new();
    while let Status::Running(step) = run.step().unwrap() {
        places.push((step.scale, step.iteration, step.evaluations));
        assert_eq!(run.evaluations(), step.evaluations);
        assert!(step.losses.weighted().is_finite());
    }
    let scales = (1..=4)
        .map(|i| (0, i, i))
        .chain((1..=6).map(|i| (1, i, 4 + i)));
    assert!(places.into_iter().eq(scales));
    assert_eq!(run.step().unwrap(), Status::Ended(End::Finished));
    assert_eq!(run.picture().unwrap(), expected.picture);
    let outcome = run.finish().unwrap();
    assert_eq!(outcome.picture, expected.picture);
    assert_eq!(outcome.losses, expected.losses);
    assert_eq!(outcome.evaluations, expected.evaluations);
}

#[test]
fn a_run_finished_early_gives_its_best_picture() {
    let encoder = encoder();
    let mut run = transfer(&encoder).prepare().unwrap();
    run.step().unwrap();
    let outcome = run.finish().unwrap();
    assert_eq!(outcome.end, End::Stopped);
    // The only image that was evaluated.
    assert_eq!(outcome.picture, waves(44, 33, 1.0).resize(20, 15));
    let outcome = transfer(&encoder).prepare().unwrap().finish().unwrap();
    assert_eq!(outcome.end, End::Stopped);
    assert_eq!(outcome.evaluations, 0);
}

/// Stopped within a step, the run stands where it stood before, and can go on.
#[test]
fn a_stopped_step_is_undone() {
    let encoder = encoder();
    let expected = transfer(&encoder).run().unwrap().picture;
    let mut run = transfer(&encoder).prepare().unwrap();
    for _ in 0..3 {
        run.step().unwrap();
    }
    let before = run.checkpoint().unwrap();
    let status = run.step_with(|_| ControlFlow::Break(())).unwrap();
    assert_eq!(status, Status::Stopped);
    assert_eq!(run.evaluations(), 3);
    assert_eq!(
        run.checkpoint().unwrap().evaluations(),
        before.evaluations()
    );
    assert!(to_the_end(run) == expected);
}

/// L-BFGS without history: along the gradient, as far as the line search finds good.
const STEEPEST_DESCENT: OptimizerConfig = OptimizerConfig::Lbfgs(LbfgsConfig {
    history: 0,
    learning_rate: 1.0,
    line_search: LineSearch::StrongWolfe,
    tolerance: 0.0,
    half_precision: false,
});

fn optimizers() -> [OptimizerConfig; 4] {
    [
        recipe().optimizer,
        OptimizerConfig::Lbfgs(LbfgsConfig {
            half_precision: true,
            ..LbfgsConfig::default()
        }),
        OptimizerConfig::Lbfgs(LbfgsConfig {
            line_search: LineSearch::StrongWolfe,
            ..LbfgsConfig::default()
        }),
        OptimizerConfig::Adam(AdamConfig {
            carry_moments: true,
            clamp: Some(1.0),
            ..AdamConfig::default()
        }),
    ]
}

/// Stepped, steered, kept and resumed, whenever it was kept: the same bytes.
#[test]
fn a_steered_run_is_resumed_to_the_same_bytes() {
    let encoder = encoder();
    for (optimizer, averaging, tile) in optimizers()
        .into_iter()
        .zip([None, None, Some(0.9)])
        .flat_map(|(optimizer, averaging)| {
            [
                (optimizer, averaging, None),
                (optimizer, averaging, Some(16)),
            ]
        })
    {
        let prepare = |resume: Option<Checkpoint>| {
            let recipe = Recipe {
                optimizer,
                averaging,
                ..recipe()
            };
            let mut transfer = transfer(&encoder).recipe(recipe);
            if let Some(tile) = tile {
                transfer = transfer.tile_size(tile);
            }
            if let Some(checkpoint) = resume {
                transfer = transfer.resume(checkpoint);
            }
            transfer.prepare().unwrap()
        };
        // After the second step more style, after the sixth another layer and more steps.
        let steer = |run: &mut Run<B>, steps: usize| {
            let mut recipe = run.recipe().clone();
            match steps {
                2 => recipe.style_weight *= 1.1,
                6 => {
                    recipe.content_layers = vec![Layer::RELU2_2];
                    recipe.iterations += 2;
                }
                _ => return,
            }
            run.set_recipe(recipe).unwrap();
        };
        let mut checkpoints = Vec::new();
        let mut run = prepare(None);
        let mut steps = 0;
        while let Status::Running(_) = run.step().unwrap() {
            steps += 1;
            steer(&mut run, steps);
            checkpoints.push((steps, run.checkpoint().unwrap()));
        }
        assert_eq!(steps, 12);
        let expected = run.finish().unwrap().picture;
        let straight = prepare(None);
        assert!(to_the_end(straight) != expected);
        for (mut steps, checkpoint) in checkpoints {
            let kept = steps;
            let mut run = prepare(Some(through_a_file(&checkpoint)));
            assert_eq!(run.checkpoint().unwrap(), checkpoint);
            while let Status::Running(_) = run.step().unwrap() {
                steps += 1;
                steer(&mut run, steps);
            }
            let picture = run.finish().unwrap().picture;
            assert!(picture == expected, "kept after {kept} steps, {tile:?}");
        }
    }
}

/// More steps are no other loss: the optimiser goes on with what it knows.
#[test]
fn steps_can_be_added_without_starting_anew() {
    let encoder = encoder();
    let longer = Recipe {
        iterations: 9,
        ..recipe()
    };
    let expected = transfer(&encoder).recipe(longer).run().unwrap().picture;
    let mut run = transfer(&encoder).prepare().unwrap();
    for _ in 0..6 {
        run.step().unwrap();
    }
    let mut recipe = run.recipe().clone();
    recipe.iterations = 9;
    run.set_recipe(recipe).unwrap();
    assert!(to_the_end(run) == expected);
}

#[test]
fn what_cannot_be_steered_says_so_and_the_run_goes_on() {
    let encoder = encoder();
    let expected = transfer(&encoder).run().unwrap().picture;
    let mut run = transfer(&encoder).prepare().unwrap();
    run.step().unwrap();
    let known = run.recipe().clone();
    for (recipe, words) in [
        (known.clone().with_size(50), "the size cannot be changed"),
        (
            Recipe {
                range: 255.0,
                ..known.clone()
            },
            "the range cannot be changed",
        ),
        (
            Recipe {
                style_weight: -1.0,
                ..known.clone()
            },
            "`style_weight` is -1",
        ),
        (
            Recipe {
                content_layers: vec![Layer::RELU5_1],
                ..known.clone()
            },
            "the set of scales",
        ),
    ] {
        let error = run.set_recipe(recipe).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert_eq!(run.recipe(), &known);
    assert!(to_the_end(run) == expected);
}

/// Before the first step they are those that the run was asked for; later a checkpoint keeps them.
#[test]
fn the_blend_of_styles_can_be_changed_while_it_paints() {
    let encoder = encoder();
    let prepare = |weights: [f64; 2], resume: Option<Checkpoint>| {
        let transfer = StyleTransfer::new(&encoder)
            .content(waves(20, 15, 0.3))
            .style(waves(24, 18, 0.7), weights[0])
            .style(waves(18, 24, 1.9), weights[1])
            .recipe(recipe());
        let transfer = match resume {
            Some(checkpoint) => transfer.resume(checkpoint),
            None => transfer,
        };
        transfer.prepare().unwrap()
    };
    let [even, uneven] = [[1.0, 1.0], [1.0, 3.0]];
    let mut run = prepare(even, None);
    run.set_style_weights(&uneven).unwrap();
    let expected = to_the_end(prepare(uneven, None));
    assert!(to_the_end(run) == expected);
    assert!(to_the_end(prepare(even, None)) != expected);

    // At both scales, and between them.
    for steps in [2, 4, 7] {
        let mut run = prepare(even, None);
        for _ in 0..steps {
            run.step().unwrap();
        }
        run.set_style_weights(&uneven).unwrap();
        let weights: Vec<f64> = run.provenance().styles.iter().map(|s| s.weight).collect();
        assert_eq!(weights, uneven);
        let kept = through_a_file(&run.checkpoint().unwrap());
        let steered = to_the_end(run);
        assert!(to_the_end(prepare(even, Some(kept))) == steered, "{steps}");
        assert!(steered != expected);
    }

    let mut run = prepare(even, None);
    run.step().unwrap();
    for wrong in [&[1.0][..], &[1.0, -1.0], &[0.0, 0.0], &[1.0, f64::NAN]] {
        let refused = run.set_style_weights(wrong);
        assert!(matches!(refused, Err(TransferError::StyleWeights)));
    }
    while let Status::Running(_) = run.step().unwrap() {}
    assert!(run.set_style_weights(&uneven).is_err());
    assert!(run.finish().unwrap().picture == to_the_end(prepare(even, None)));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let encoder = encoder();
    let mut run = transfer(&encoder).prepare().unwrap();
    run.step().unwrap();
    let checkpoint = run.checkpoint().unwrap();
    let other_style = transfer(&encoder).style(waves(9, 9, 5.0), 1.0);
    let other_recipe = transfer(&encoder).recipe(Recipe {
        style_weight: 1.0,
        ..recipe()
    });
    let other_term = transfer(&encoder).term("copy", 1.0, Copy::default());
    let other_tiles = transfer(&encoder).tile_size(16);
    for other in [other_style, other_recipe, other_term, other_tiles] {
        let error = other.resume(checkpoint.clone()).prepare().unwrap_err();
        let other_run = TransferError::Checkpoint(CheckpointError::OtherRun);
        assert_eq!(error.to_string(), other_run.to_string());
    }
    // What a recipe is called makes no difference.
    let renamed = Recipe {
        name: "mine".to_string(),
        source: "me".to_string(),
        ..recipe()
    };
    let renamed = transfer(&encoder).recipe(renamed).resume(checkpoint);
    assert!(renamed.prepare().is_ok());
}

/// Pulls the image towards the content picture as it is at the scale.
#[derive(Debug, Default)]
struct Copy<B: Backend> {
    target: Option<Tensor<B, 4>>,
    begun: Arc<Mutex<Vec<(usize, usize, usize)>>>,
}

impl<B: Backend> Term<B> for Copy<B> {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let [height, width] = part.size();
        let area = part.area();
        let target = self.target.clone().expect("made when the scale began");
        let target = target.narrow(2, area.top, area.height);
        let target = target.narrow(3, area.left, area.width);
        let squares = (part.image() - target).powi_scalar(2);
        sum_per_image(squares) / (3 * height * width) as f64
    }
    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }
    fn describe(&self) -> String {
        "mean squared error of the pixels".to_string()
    }
    fn begin_scale(
        &mut self,
        view: &ScaleView<'_, B>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let [_, _, height, width] = view.start.dims();
        self.begun.lock().unwrap().push((view.scale, height, width));
        if view.scales == 1 {
            return Err("no target".into());
        }
        self.target = Some(view.content.to_tensor(&view.start.device()));
        Ok(())
    }
}

#[test]
fn a_term_of_ones_own_makes_its_target_at_each_scale() {
    let encoder = encoder();
    for tile in [None, Some(16)] {
        let copy = Copy::default();
        let begun = Arc::clone(&copy.begun);
        let mut transfer = transfer(&encoder).term("copy", 1e9, copy);
        if let Some(tile) = tile {
            transfer = transfer.tile_size(tile);
        }
        let mut run = transfer.prepare().unwrap();
        let mut steps = 0;
        while let Status::Running(step) = run.step().unwrap() {
            assert!(step.losses.get("copy").is_some());
            steps += 1;
            if steps == 5 {
                let recipe = run.recipe().clone();
                let style_weight = 1.0;
                run.set_recipe(Recipe {
                    style_weight,
                    ..recipe
                })
                .unwrap();
            }
        }
        // Again when the recipe changed.
        let expected = [(0, 15, 20), (1, 30, 40), (1, 30, 40)];
        assert_eq!(*begun.lock().unwrap(), expected);
        let picture = run.finish().unwrap().picture;
        let content = waves(44, 33, 1.0).resize(40, 30);
        let pairs = picture.rgb().iter().zip(content.rgb());
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 0.02, "{largest}");
    }
    let single = Recipe {
        coarsest: 40,
        ..recipe()
    };
    let run = transfer(&encoder)
        .recipe(single)
        .term("copy", 1.0, Copy::default());
    let error = run.run().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the loss term `copy` cannot begin a scale"
    );
}

/// Refuses to begin when it is told to.
#[derive(Debug)]
struct Fussy(Arc<Mutex<bool>>);

impl<B: Backend> Term<B> for Fussy {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        sum_per_image(part.image())
    }
    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.squeeze_dim(1)
    }
    fn describe(&self) -> String {
        "sum of the pixels".to_string()
    }
    fn begin_scale(
        &mut self,
        _: &ScaleView<'_, B>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        match *self.0.lock().unwrap() {
            true => Err("not now".into()),
            false => Ok(()),
        }
    }
}

/// Whatever a term refuses, once it gives way the run goes on to the same bytes.
#[test]
fn what_a_term_refuses_costs_nothing() {
    let encoder = encoder();
    let refuse = Arc::new(Mutex::new(false));
    let prepare = |resume: Option<Checkpoint>| {
        let term = Fussy(Arc::clone(&refuse));
        let transfer = transfer(&encoder).term("fussy", 1e-3, term);
        let transfer = match resume {
            Some(checkpoint) => transfer.resume(checkpoint),
            None => transfer,
        };
        transfer.prepare().unwrap()
    };
    let set = |value: bool| *refuse.lock().unwrap() = value;
    let expected = to_the_end(prepare(None));
    let brighter = |run: &Run<B>| Recipe {
        style_weight: 7.0,
        ..run.recipe().clone()
    };

    // A change during a scale.
    let mut run = prepare(None);
    for _ in 0..3 {
        run.step().unwrap();
    }
    let (known, kept) = (run.recipe().clone(), run.checkpoint().unwrap());
    set(true);
    let refused = run.set_recipe(brighter(&run));
    assert!(matches!(refused, Err(TransferError::Term(_))));
    assert_eq!(run.recipe(), &known);
    set(false);
    assert!(to_the_end(run) == expected);

    // The first scale, the second, and one that is resumed.
    let mut run = prepare(None);
    for steps in [0, 4] {
        for _ in 0..steps {
            run.step().unwrap();
        }
        set(true);
        assert!(matches!(run.step(), Err(TransferError::Term(_))));
        assert!(matches!(run.step(), Err(TransferError::Term(_))));
        set(false);
    }
    assert!(to_the_end(run) == expected);
    let mut run = prepare(Some(kept.clone()));
    set(true);
    assert!(matches!(run.step(), Err(TransferError::Term(_))));
    assert_eq!(run.checkpoint().unwrap().evaluations(), kept.evaluations());
    set(false);
    assert!(to_the_end(run) == expected);

    // A change before a resumed run goes on is one after the step before.
    let mut changed = prepare(None);
    for _ in 0..3 {
        changed.step().unwrap();
    }
    changed.set_recipe(brighter(&changed)).unwrap();
    let mut resumed = prepare(Some(kept));
    resumed.set_recipe(brighter(&resumed)).unwrap();
    let changed = to_the_end(changed);
    assert!(to_the_end(resumed) == changed);
    assert!(changed != expected);
}

#[test]
fn a_scale_cut_short_is_resumed_where_it_was_cut() {
    let encoder = encoder();
    let shortened = || {
        let mut run = transfer(&encoder).prepare().unwrap();
        for _ in 0..8 {
            run.step().unwrap();
        }
        let recipe = run.recipe().clone();
        // Two steps less than were taken.
        run.set_recipe(Recipe {
            iterations: 2,
            ..recipe
        })
        .unwrap();
        run
    };
    let checkpoint = through_a_file(&shortened().checkpoint().unwrap());
    let expected = to_the_end(shortened());
    let resumed = transfer(&encoder).resume(checkpoint).prepare().unwrap();
    assert!(to_the_end(resumed) == expected);
}

#[test]
fn a_scale_that_has_converged_is_resumed_as_converged() {
    let encoder = encoder();
    for line_search in [LineSearch::None, LineSearch::StrongWolfe] {
        let recipe = Recipe {
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                line_search,
                // So large that the second step finds nothing left to improve.
                tolerance: 1e3,
                ..LbfgsConfig::default()
            }),
            ..recipe()
        };
        let prepare = || transfer(&encoder).recipe(recipe.clone());
        let mut run = prepare().prepare().unwrap();
        let mut checkpoints = Vec::new();
        while let Status::Running(step) = run.step().unwrap() {
            assert_eq!(step.iteration, 1);
            checkpoints.push(run.checkpoint().unwrap());
        }
        let expected = run.finish().unwrap();
        assert_eq!(checkpoints.len(), 2);
        for checkpoint in checkpoints {
            let resumed = prepare().resume(through_a_file(&checkpoint));
            let outcome = resumed.run().unwrap();
            assert!(outcome.picture == expected.picture);
            assert_eq!(outcome.evaluations, expected.evaluations);
        }
    }
}

/// Several styles, one of them in a region, with the encoder that is part of the crate: in tiles as
/// well as whole.
#[cfg(feature = "builtin")]
#[test]
fn styles_and_regions_are_painted_in_tiles_too() {
    use impasto::{Region, Style};
    let encoder = Vgg19::<B>::builtin(&Default::default());
    let rgb = (0..120 * 90).flat_map(|i| [f32::from(i % 120 < 50); 3]);
    let mask = Picture::from_rgb(120, 90, rgb.collect()).unwrap();
    let region = Region {
        content: mask,
        style: None,
    };
    let painted = |tile: Option<usize>| {
        let mut transfer = StyleTransfer::new(&encoder)
            .content(waves(120, 90, 1.0))
            .style(waves(100, 110, 2.0), 1.0)
            .style(waves(110, 100, 3.0), 0.5)
            .add_style(Style::new(waves(90, 120, 4.0)).within(region.clone()))
            .recipe(Recipe {
                size: 120,
                coarsest: 120,
                iterations: 2,
                // Where the gradient is nearly zero, nothing moves by rounding alone.
                optimizer: OptimizerConfig::Adam(AdamConfig {
                    epsilon: 1e5,
                    ..AdamConfig::default()
                }),
                range: 1.0,
                ..Recipe::gram()
            });
        if let Some(tile) = tile {
            transfer = transfer.tile_size(tile);
        }
        assert_eq!(transfer.plan().unwrap().scales[0].tiles > 1, tile.is_some());
        transfer.run().unwrap().picture
    };
    let (whole, tiled) = (painted(None), painted(Some(64)));
    assert!(whole != waves(120, 90, 1.0));
    let pairs = whole.rgb().iter().zip(tiled.rgb());
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= 2.0 / 255.0, "{largest}");
}

/// After ten steps of steepest descent no pixel differs by more than 2 of 255, so nothing shows where
/// tiles meet.
///
/// L-BFGS and Adam magnify rounding: the one takes its first curvature from a step so short that
/// rounding is most of it, the other divides by gradients that are nearly zero. Two of their runs part
/// as soon as one bit differs, whether by tiles or by a start that differs in one value; their first
/// losses must agree all the same.
#[test]
fn a_run_in_tiles_paints_the_same_picture() {
    let encoder = encoder();
    let with = |optimizer| Recipe {
        size: 96,
        coarsest: 96,
        iterations: 10,
        style_weight: 100.0,
        optimizer,
        ..recipe()
    };
    let painted = |recipe: &Recipe, tile: Option<usize>| {
        let mut losses = Vec::new();
        let mut transfer = StyleTransfer::new(&encoder)
            .content(waves(96, 75, 1.0))
            .style(waves(70, 90, 2.0), 1.0)
            .recipe(recipe.clone())
            .on_step(|step| {
                losses.push(step.losses.weighted());
                ControlFlow::Continue(())
            });
        if let Some(tile) = tile {
            transfer = transfer.tile_size(tile);
        }
        let picture = transfer.run().unwrap().picture;
        (picture, losses)
    };
    let difference = |a: &Picture, b: &Picture| {
        let pairs = a.rgb().iter().zip(b.rgb());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    let steady = with(STEEPEST_DESCENT);
    let (whole, _) = painted(&steady, None);
    assert!(difference(&whole, &waves(96, 75, 1.0)) > 0.05);
    for tile in [16, 40] {
        let largest = difference(&whole, &painted(&steady, Some(tile)).0);
        assert!(largest <= 2.0 / 255.0, "{largest} in tiles of {tile}");
        for optimizer in optimizers() {
            let (_, expected) = painted(&with(optimizer), None);
            let (_, losses) = painted(&with(optimizer), Some(tile));
            for (found, expected) in losses.iter().zip(&expected).take(2) {
                let error = (found - expected).abs() / expected;
                assert!(error < 1e-5, "{found} for {expected} in tiles of {tile}");
            }
        }
    }
}

/// A picture much longer than wide starts at the first scale that is large enough for the layers.
#[test]
fn scales_too_small_for_the_layers_are_left_out() {
    let encoder = encoder();
    let recipe = Recipe {
        size: 160,
        coarsest: 20,
        ..recipe()
    };
    // At 20 and 40 pixels in length it would be 2 and 4 pixels high, where relu3_2 needs 4.
    let banner = || {
        transfer(&encoder)
            .content(waves(300, 30, 1.0))
            .recipe(recipe.clone())
    };
    let plan = banner().plan().unwrap();
    let sizes: Vec<_> = plan.scales.iter().map(|s| (s.width, s.height)).collect();
    assert_eq!(sizes, [(40, 4), (80, 8), (160, 16)]);
    let picture = banner().run().unwrap().picture;
    assert_eq!((picture.width(), picture.height()), (160, 16));
}

/// Any limit, any size: the plan keeps it or says what is needed, and what is said to fit does.
#[test]
fn plans_keep_to_the_memory_limit() {
    use proptest::prelude::*;
    let encoder = encoder();
    let cases = ProptestConfig::with_cases(200);
    proptest!(cases, |(
        limit in 20_000_000u64..400_000_000, size in 16usize..1500, kind in 0usize..3,
        iterations in 1usize..200,
    )| {
        let optimizer = match kind {
            0 => OptimizerConfig::Adam(AdamConfig::default()),
            _ => OptimizerConfig::Lbfgs(LbfgsConfig::default()),
        };
        let recipe = if kind == 2 { Recipe::default() } else { recipe() };
        let recipe = Recipe { iterations, optimizer, coarsest: 64, ..recipe }.with_size(size);
        let limited = || transfer(&encoder).recipe(recipe.clone()).memory_limit(limit);
        match limited().plan() {
            Ok(plan) => {
                for scale in &plan.scales {
                    prop_assert!(scale.memory <= limit, "{scale:?} for {limit}");
                    prop_assert_eq!(scale.computation.tile_size.is_some(), scale.tiles > 1);
                }
            }
            Err(TransferError::Memory { needed, limit: told, size, .. }) => {
                prop_assert!(needed > limit && told == limit);
                let smaller = limited().recipe(recipe.clone().with_size(size));
                prop_assert!(size <= 16 || smaller.plan().is_ok(), "{size} does not fit {limit}");
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
        let free = transfer(&encoder).recipe(recipe.clone()).plan().unwrap();
        prop_assert!(free.scales.iter().all(|scale| scale.tiles == 1));
    });
}

/// A scale that was begun in tiles, or with a short history, to fit the memory goes on so, whatever is free
/// by then.
#[test]
fn a_resumed_run_is_computed_as_it_was_begun() {
    let encoder = encoder();
    for optimizer in [
        OptimizerConfig::Adam(AdamConfig::default()),
        OptimizerConfig::Lbfgs(LbfgsConfig::default()),
    ] {
        let recipe = Recipe {
            optimizer,
            iterations: 8,
            ..recipe()
        }
        .with_size(500);
        let free = || transfer(&encoder).recipe(recipe.clone());
        let whole = free().plan().unwrap().scales.last().unwrap().memory;
        let limited = || free().memory_limit(whole / 20 * 21);
        let plan = limited().plan().unwrap();
        let last = plan.scales.last().unwrap();
        assert!(last.computation != Default::default(), "{last:?}");
        let expected = to_the_end(limited().prepare().unwrap());
        let mut run = limited().prepare().unwrap();
        let scales = plan.scales.len();
        while let Status::Running(step) = run.step().unwrap()
            && (step.scale + 1, step.iteration) != (scales, 4)
        {}
        let checkpoint = through_a_file(&run.checkpoint().unwrap());
        let resumed = free().resume(checkpoint).prepare().unwrap();
        assert_eq!(resumed.plan().scales, plan.scales);
        assert_eq!(to_the_end(resumed), expected);
    }
}
