//! Runs with losses by matching.

use std::ops::ControlFlow;

use impasto::eval::EvalError;
use impasto::loss::{Distance, LossValues};
use impasto::optim::{AdamConfig, LbfgsConfig, OptimizerConfig};
use impasto::transfer::{Checkpoint, End, LayerWeights, Neighbors, Search, Status, Transport};
use impasto::{
    Layer, Picture, Recipe, Region, Style, StyleTransfer, TransferError, Vgg19, Vgg19Weights,
};

use super::{encoder, transfer, waves};

fn layers() -> Vec<Layer> {
    vec![Layer::RELU1_1, Layer::RELU2_2, Layer::RELU3_1]
}

/// Both distances with both kinds of search are used by the tests.
fn neighbors() -> Recipe {
    Recipe {
        content_weight: 0.0,
        style_weight: 0.0,
        neighbors: Neighbors {
            weight: 1.0,
            layers: layers(),
            distance: Distance::Squared,
            ..Neighbors::default()
        },
        ..super::recipe()
    }
}

/// Small versions of the published programs, and a mixture of everything.
fn recipes() -> Vec<Recipe> {
    let recipes = [
        Recipe {
            neighbors: Neighbors {
                final_iterations: 4,
                layers: layers(),
                ..Recipe::nnst().neighbors
            },
            ..Recipe::nnst()
        },
        Recipe {
            transport: Transport {
                layers: layers(),
                samples: 100,
                style_samples: 300,
                ..Recipe::strotss().transport
            },
            ..Recipe::strotss()
        },
        Recipe {
            content_layers: vec![Layer::RELU3_2],
            style_layers: layers(),
            content_weight: 1.0,
            style_weight: 1e3,
            neighbors: Neighbors {
                weight: 10.0,
                layers: layers(),
                search: Search::Projected { dimensions: 6 },
                ..Neighbors::default()
            },
            layer_weights: LayerWeights::One,
            range: 1.0,
            averaging: Some(0.5),
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig::default()),
            pyramid: 3,
            ..Recipe::gram()
        },
    ];
    let small = recipes.map(|recipe| Recipe {
        size: 40,
        coarsest: 20,
        iterations: 5,
        coarse_iterations: vec![4],
        ..recipe
    });
    small.to_vec()
}

/// The first losses of a run.
fn first(transfer: StyleTransfer<'_, super::B>) -> LossValues {
    let mut losses = None;
    let outcome = transfer.on_step(|step| {
        losses = Some(step.losses.clone());
        ControlFlow::Break(())
    });
    outcome.run().unwrap();
    losses.unwrap()
}

#[test]
fn every_scale_and_the_last_pass_lower_their_losses() {
    let encoder = encoder();
    for recipe in recipes() {
        // Pixels that are drawn differ from step to step.
        let sampled = recipe.transport.weight > 0.0;
        let scales = recipe.scales();
        let mut seen: Vec<Vec<f64>> = vec![Vec::new(); scales.len()];
        let outcome = transfer(&encoder)
            .recipe(recipe)
            .on_step(|step| {
                assert_eq!(step.iterations, scales[step.scale].iterations);
                seen[step.scale].push(step.losses.weighted());
                ControlFlow::Continue(())
            })
            .run()
            .unwrap();
        assert_eq!(outcome.end, End::Finished);
        assert_eq!(
            (outcome.picture.width(), outcome.picture.height()),
            (40, 30)
        );
        for (losses, scale) in seen.iter().zip(&scales) {
            assert_eq!(losses.len(), scale.iterations);
            let (first, last) = (losses[0], losses[losses.len() - 1]);
            assert!(last < first || sampled, "{scale:?}: {losses:?}");
        }
    }
}

/// Targets are made of the image that a scale started from, pixels are drawn by the number of the step:
/// a run goes on to the same bytes wherever it was kept.
#[test]
fn resumed_runs_have_the_same_bytes() {
    let encoder = encoder();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    for recipe in recipes() {
        let prepare = || transfer(&encoder).recipe(recipe.clone());
        let mut run = prepare().prepare().unwrap();
        let mut checkpoints = Vec::new();
        while let Status::Running(_) = run.step().unwrap() {
            checkpoints.push(run.checkpoint().unwrap());
        }
        let expected = run.finish().unwrap().picture;
        for (steps, checkpoint) in checkpoints.into_iter().enumerate() {
            checkpoint.save(&path).unwrap();
            let resumed = prepare().resume(Checkpoint::load(&path).unwrap());
            let picture = resumed.run().unwrap().picture;
            assert!(
                picture == expected,
                "{}, kept after {steps} steps",
                recipe.name
            );
        }
    }
}

/// A picture is its own nearest neighbour, turned or not, in all values or in the main ones.
#[test]
fn a_picture_in_its_own_style_has_no_loss() {
    let encoder = encoder();
    // Places in the same direction count as the same, whatever their length, and in the main values
    // alone places that are nearly the same.
    for (search, most) in [
        (Search::Exact, 1e-3),
        (Search::Projected { dimensions: 12 }, 5e-3),
    ] {
        for rotations in [false, true] {
            let recipe = neighbors();
            let recipe = Recipe {
                neighbors: Neighbors {
                    search,
                    rotations,
                    ..recipe.neighbors
                },
                coarsest: usize::MAX,
                ..recipe
            };
            let transfer = StyleTransfer::new(&encoder)
                .content(waves(40, 30, 1.0))
                .style(waves(40, 30, 1.0), 1.0)
                .recipe(recipe);
            let loss = first(transfer).weighted();
            assert!(loss.abs() < most, "{loss}");
        }
    }
}

#[test]
fn in_all_dimensions_the_search_is_exact() {
    let encoder = encoder();
    let found = [Search::Exact, Search::Projected { dimensions: 1000 }].map(|search| {
        let mut recipe = neighbors();
        recipe.neighbors.search = search;
        first(transfer(&encoder).recipe(recipe)).weighted()
    });
    assert!((found[0] - found[1]).abs() < 1e-5 * found[0], "{found:?}");
}

#[test]
fn tiles_have_the_same_targets_and_losses() {
    let encoder = encoder();
    for size in [40, 53] {
        let recipe = Recipe {
            coarsest: usize::MAX,
            ..neighbors().with_size(size)
        };
        let start = || waves(size, size * 3 / 4, 5.0);
        let whole = first(transfer(&encoder).start(start()).recipe(recipe.clone()));
        let tiled = transfer(&encoder)
            .start(start())
            .recipe(recipe)
            .tile_size(16);
        let tiled = first(tiled);
        let (whole, tiled) = (whole.weighted(), tiled.weighted());
        assert!((whole - tiled).abs() < 1e-5 * whole, "{whole} {tiled}");
    }
}

#[test]
fn what_cannot_be_tiled_says_so() {
    let encoder = encoder();
    for (recipe, name) in recipes().into_iter().zip(["neighbors", "transport"]) {
        let error = transfer(&encoder).recipe(recipe).tile_size(16).plan();
        let term = name.to_string();
        assert!(matches!(
            error,
            Err(TransferError::Eval(EvalError::NeedsWholeImage { term: found })) if found == term
        ));
    }
}

#[test]
fn styles_are_blended_by_their_weights() {
    let encoder = encoder();
    let loss = |styles: &[(f32, f64)]| {
        let mut transfer = StyleTransfer::new(&encoder)
            .content(waves(44, 33, 1.0))
            .recipe(neighbors());
        for &(phase, weight) in styles {
            transfer = transfer.style(waves(30, 36, phase), weight);
        }
        first(transfer).weighted()
    };
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b;
    let (one, other) = (loss(&[(2.0, 1.0)]), loss(&[(4.0, 1.0)]));
    assert!(!close(one, other));
    assert!(close(loss(&[(2.0, 7.0), (4.0, 0.0)]), one));
    assert!(close(loss(&[(2.0, 1.0), (2.0, 3.0)]), one));
    assert!(close(
        loss(&[(2.0, 1.0), (4.0, 3.0)]),
        0.25 * one + 0.75 * other
    ));
}

/// White where `inside` says so.
fn mask(inside: impl Fn(usize, usize) -> bool) -> Picture {
    let rgb = (0..40 * 30).flat_map(|i| [f32::from(u8::from(inside(i % 40, i / 40))); 3]);
    Picture::from_rgb(40, 30, rgb.collect()).unwrap()
}

/// A style confined to the left leaves the right as it is; one taken from a part of its picture does not
/// look at the rest.
#[test]
fn styles_keep_to_their_regions() {
    let encoder = encoder();
    let recipe = Recipe {
        coarsest: usize::MAX,
        iterations: 2,
        ..neighbors()
    };
    let left = || mask(|x, _| x < 16);
    let paint = |style: Picture, style_mask: Option<Picture>| {
        let region = Region {
            content: left(),
            style: style_mask,
        };
        let transfer = StyleTransfer::new(&encoder)
            .content(waves(40, 30, 1.0))
            .add_style(Style::new(style).within(region))
            .recipe(recipe.clone());
        transfer.run().unwrap().picture
    };
    let content = waves(40, 30, 1.0);
    let painted = paint(waves(40, 30, 2.0), None);
    let changed = |x: usize| {
        let values = painted.rgb().iter().zip(content.rgb()).enumerate();
        let values = values.filter(|(index, _)| index / 3 % 40 == x);
        values.fold(0.0f32, |most, (_, (a, b))| most.max((a - b).abs()))
    };
    assert!(changed(4) > 1e-3, "{}", changed(4));
    assert!(changed(39) < 1e-5, "{}", changed(39));

    // Two styles that are the same in the upper half, as far as features reach.
    let mixed = |phase: f32| {
        let (one, other) = (waves(40, 30, 2.0), waves(40, 30, phase));
        let rgb = one.rgb().iter().zip(other.rgb()).enumerate();
        let rgb = rgb.map(|(index, (one, other))| if index / 120 < 26 { *one } else { *other });
        Picture::from_rgb(40, 30, rgb.collect()).unwrap()
    };
    let apart = |style_mask: fn() -> Option<Picture>| {
        let (a, b) = (
            paint(mixed(3.0), style_mask()),
            paint(mixed(4.0), style_mask()),
        );
        let pairs = a.rgb().iter().zip(b.rgb());
        pairs.fold(0.0f32, |most, (a, b)| most.max((a - b).abs()))
    };
    let (upper, all) = (apart(|| Some(mask(|_, y| y < 10))), apart(|| None));
    assert!(upper < 1e-3 && all > 1e-2, "{upper} {all}");
}

/// Whatever mask the plan lets through is painted: grey, thin, or smaller than the grids that are read.
#[test]
fn any_mask_with_white_in_it_is_painted() {
    let encoder = encoder();
    let (grey, thin) = (
        Picture::from_rgb(40, 30, vec![0.4; 3600]).unwrap(),
        mask(|x, y| (7..10).contains(&x) && (11..14).contains(&y)),
    );
    for recipe in recipes() {
        for small in [&grey, &thin] {
            let region = |content: &Picture, style: &Picture| Region {
                content: content.clone(),
                style: Some(style.clone()),
            };
            let whole = mask(|_, _| true);
            let outcome = StyleTransfer::new(&encoder)
                .content(waves(40, 30, 1.0))
                .add_style(Style::new(waves(40, 30, 2.0)).within(region(small, &whole)))
                .add_style(Style::new(waves(40, 30, 3.0)).within(region(&whole, small)))
                .recipe(Recipe {
                    coarsest: usize::MAX,
                    iterations: 2,
                    ..recipe.clone()
                })
                .run()
                .unwrap();
            assert_eq!(outcome.end, End::Finished);
        }
    }
}

/// Pictures with a side of hardly any positions, and styles smaller than the grid's spacing.
#[test]
fn long_and_small_pictures_are_painted() {
    let encoder = encoder();
    for recipe in recipes() {
        for (content, style) in [((40, 4), (40, 4)), ((40, 30), (200, 20)), ((6, 40), (5, 5))] {
            let outcome = StyleTransfer::new(&encoder)
                .content(waves(content.0, content.1, 1.0))
                .style(waves(style.0, style.1, 2.0), 1.0)
                .recipe(Recipe {
                    coarsest: usize::MAX,
                    iterations: 2,
                    ..recipe.clone()
                })
                .run()
                .unwrap();
            assert_eq!(outcome.end, End::Finished, "{content:?} {style:?}");
        }
    }
}

/// The last pass and neighbours can be steered, but not left out or put in.
#[test]
fn matching_is_steered_while_it_runs() {
    let encoder = encoder();
    let mut run = transfer(&encoder)
        .recipe(recipes().swap_remove(0))
        .prepare()
        .unwrap();
    run.step().unwrap();
    let known = run.recipe().clone();
    let mut longer = known.clone();
    longer.neighbors.final_iterations = 6;
    run.set_recipe(longer).unwrap();
    run.set_recipe(run.recipe().clone().with_strength(0.9))
        .unwrap();
    for (words, change) in [
        (
            "last pass",
            (|recipe| recipe.neighbors.final_iterations = 0) as fn(&mut Recipe),
        ),
        ("pyramid", |recipe| recipe.pyramid = 0),
    ] {
        let mut recipe = known.clone();
        change(&mut recipe);
        let error = run.set_recipe(recipe).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let mut steps = 1;
    while let Status::Running(_) = run.step().unwrap() {
        steps += 1;
    }
    assert_eq!(steps, 4 + 5 + 6);
}

#[test]
fn an_empty_part_of_a_style_is_an_error() {
    let encoder = encoder();
    let region = Region {
        content: mask(|_, _| true),
        style: Some(mask(|_, _| false)),
    };
    let transfer = StyleTransfer::new(&encoder)
        .content(waves(40, 30, 1.0))
        .add_style(Style::new(waves(40, 30, 2.0)).within(region))
        .recipe(neighbors());
    let error = transfer.run().unwrap_err();
    assert!(
        matches!(error, TransferError::Region { style: 1, .. }),
        "{error}"
    );
}

#[test]
fn coefficients_have_no_range_to_be_kept_in() {
    let clamped = OptimizerConfig::Adam(AdamConfig {
        clamp: Some(1.0),
        ..AdamConfig::default()
    });
    let recipe = Recipe {
        optimizer: clamped,
        pyramid: 4,
        ..neighbors()
    };
    let error = recipe.check().unwrap_err().to_string();
    assert!(error.contains("works on pixels only"), "{error}");
}

#[test]
fn the_size_of_the_features_does_not_change_the_transport_loss() {
    let weights = Vgg19Weights::random(4, 7);
    let mut large = weights.clone();
    // Without biases all features grow with the input.
    large.normalization.std = large.normalization.std.map(|std| std / 50.0);
    let [_, transport, _] = <[Recipe; 3]>::try_from(recipes()).unwrap();
    let losses = [weights, large].map(|weights| {
        let encoder = Vgg19::from_weights(weights, &Default::default());
        first(transfer(&encoder).recipe(transport.clone())).weighted()
    });
    let [small, large] = losses;
    assert!((small - large).abs() < 1e-4 * small, "{small} {large}");
}
