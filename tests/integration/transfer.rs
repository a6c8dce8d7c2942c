//! Whole runs on a small network.

use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::{Int, Tensor};
use impasto::encoder::Guide;
use impasto::loss::gram_matrix;
use impasto::optim::{AdamConfig, LbfgsConfig, LineSearch, OptimizerConfig};
use impasto::picture::Colors;
use impasto::transfer::{Checkpoint, End, LayerWeights, SeenStyles, StyleLoss};
use impasto::{Error, Init, Layer, Padding, Picture, Recipe, Region, Style, StyleTransfer, Vgg19};

use crate::data;

type B = Autodiff<Flex>;

fn encoder() -> Vgg19<B> {
    Vgg19::load(data("small.safetensors"), &Default::default()).unwrap()
}

/// Waves of colour; `phase` makes different ones.
fn waves(width: usize, height: usize, phase: f32) -> Picture {
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
        range: 1.0,
        ..Recipe::default()
    }
}

fn transfer(encoder: &Vgg19<B>) -> StyleTransfer<'_, B> {
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

#[test]
fn several_styles_are_blended_by_their_weights() {
    let encoder = encoder();
    let first_style = |styles: &[(f32, f64)]| {
        let mut transfer = StyleTransfer::new(&encoder)
            .content(waves(44, 33, 1.0))
            .recipe(recipe());
        for &(phase, weight) in styles {
            transfer = transfer.style(waves(30, 36, phase), weight);
        }
        let mut value = 0.0;
        transfer
            .on_step(|step| {
                value = step.losses.get("style").unwrap().value;
                ControlFlow::Break(())
            })
            .run()
            .unwrap();
        value
    };
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b;
    let (one, other) = (first_style(&[(2.0, 1.0)]), first_style(&[(4.0, 1.0)]));
    assert!(!close(one, other));
    // Weights are relative; a style without weight does not count; the same style twice is itself.
    assert!(close(first_style(&[(2.0, 7.0), (4.0, 0.0)]), one));
    assert!(close(first_style(&[(2.0, 1.0), (2.0, 3.0)]), one));
    // ‖G − (A+B)/2‖² lies below the mean of ‖G − A‖² and ‖G − B‖².
    let blend = first_style(&[(2.0, 0.5), (4.0, 0.5)]);
    assert!(blend < (one + other) / 2.0);
}

#[test]
fn layer_weights_multiply_their_layers() {
    let encoder = encoder();
    let style = |layer_weights| {
        let recipe = Recipe {
            layer_weights,
            ..recipe()
        };
        let mut values = None;
        transfer(&encoder)
            .recipe(recipe)
            .on_step(|step| {
                values = step.losses.get("style").cloned();
                ControlFlow::Break(())
            })
            .run()
            .unwrap();
        values.unwrap()
    };
    let plain = style(LayerWeights::One);
    let weighted = style(LayerWeights::Each(vec![0.0, 2.0, 0.5]));
    let part = |name: &str| plain.get(name).unwrap().value;
    let expected = 2.0 * part("relu2_1") + 0.5 * part("relu3_1");
    assert!((weighted.value - expected).abs() <= 1e-9 * expected);
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
        fn value(&self, image: &Tensor<B, 4>, _: &impasto::Features<B>) -> Tensor<B, 1> {
            image.clone().powi_scalar(2).mean()
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
        Err(Error::NoContent)
    ));
    assert!(matches!(
        StyleTransfer::new(&encoder)
            .content(waves(20, 20, 1.0))
            .run(),
        Err(Error::NoStyle)
    ));
    let weights = transfer(&encoder).style(waves(20, 20, 1.0), -1.0).run();
    assert!(matches!(weights, Err(Error::StyleWeights)));
    // 1×2000 pixels become 1×40, which the pools cannot halve.
    let thin = Picture::from_rgb(2000, 1, vec![0.5; 6000]).unwrap();
    let error = transfer(&encoder).content(thin).run().unwrap_err();
    assert!(error.to_string().contains("too small for relu"), "{error}");
    let bad = Recipe {
        style_weight: -1.0,
        ..recipe()
    };
    let error = transfer(&encoder).recipe(bad).run().unwrap_err();
    assert!(error.to_string().contains("style weight"), "{error}");
}

#[test]
fn images_of_any_size_pass_the_encoder() {
    let encoder = encoder().with_pooling(Default::default());
    let device = Default::default();
    for (height, width) in [(1, 1), (1, 9), (17, 2), (31, 33)] {
        let image = Tensor::<B, 4>::zeros([1, 3, height, width], &device);
        let features = encoder.features(image.clone(), &[Layer::RELU1_2]).unwrap();
        let dims = features.get(Layer::RELU1_2).dims();
        assert_eq!(dims, [1, 4, height, width]);
        let deep = encoder.features(image, &[Layer::POOL5]);
        assert_eq!(deep.is_ok(), height.min(width) >= 32);
    }
    let grey = Tensor::<B, 4>::zeros([1, 1, 9, 9], &device);
    assert!(encoder.features(grey, &[Layer::RELU1_1]).is_err());
}

/// The slim encoder stands for VGG19 at the same scale: read-outs, nominal channels, fewer layers.
#[cfg(feature = "builtin")]
#[test]
fn the_builtin_encoder_serves_relu_outputs_to_relu5_1() {
    let encoder = Vgg19::<B>::builtin(&Default::default());
    let image = waves(48, 48, 1.0).to_tensor::<B>(&Default::default());
    let layers = [Layer::RELU1_1, Layer::RELU4_2, Layer::RELU5_1];
    let features = encoder.features(image.clone(), &layers).unwrap();
    for layer in layers {
        // So is the mean.
        let mean = features.get(layer).clone().mean_dim(3).mean_dim(2);
        let difference = (mean.flatten::<1>(0, 3) - features.mean(layer).flatten(0, 2)).abs();
        let size: f32 = features.mean(layer).abs().max().into_scalar();
        assert!(difference.max().into_scalar() < 1e-4 * size, "{layer}");
    }
    assert_eq!(features.get(Layer::RELU4_2).dims(), [1, 96, 6, 6]);
    assert_eq!(features.channels(Layer::RELU4_2), 512);
    assert_eq!(features.channels(Layer::RELU1_1), 64);
    // The Gram matrix through the read-out is that of what is read out, and so is its gradient.
    for layer in layers {
        let [found, expected] = [true, false].map(|folded| {
            let image = image.clone().detach().require_grad();
            let features = encoder.features(image.clone(), &[layer]).unwrap();
            let gram = match folded {
                true => features.gram(layer),
                false => gram_matrix(features.get(layer).clone()),
            };
            let gradients = gram.clone().powi_scalar(2).sum().backward();
            [
                gram.inner().into_data().iter().collect::<Vec<f32>>(),
                image.grad(&gradients).unwrap().into_data().iter().collect(),
            ]
        });
        for (found, expected) in found.iter().zip(&expected) {
            let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-4 * largest, "{layer}");
            }
        }
    }
    for layer in [Layer::RELU5_2, Layer::CONV3_1, Layer::POOL2] {
        let error = encoder.features(image.clone(), &[layer]).unwrap_err();
        assert!(error.to_string().contains(&layer.to_string()), "{error}");
    }
}

/// A border mode is what the first convolution sees of a picture that really is one pixel wider.
#[test]
fn the_border_is_padded_as_asked() {
    let device = Default::default();
    for (width, height) in [(9, 6), (5, 5), (1, 3), (1, 1)] {
        let image = waves(width, height, 1.0).to_tensor::<Flex>(&device);
        let wider = |padding| {
            let index = |side: usize| -> Vec<i32> {
                let last = side as i32 - 1;
                let place = |i: i32| match padding {
                    Padding::Reflect if last > 0 => last - (last - i.abs()).abs(),
                    _ => i.clamp(0, last),
                };
                (-1..=last + 1).map(place).collect()
            };
            let select = |image: Tensor<Flex, 4>, axis, side| {
                let index = Tensor::<Flex, 1, Int>::from_ints(&index(side)[..], &device);
                image.select(axis, index)
            };
            select(select(image.clone(), 2, height), 3, width)
        };
        let features = |padding, image: Tensor<Flex, 4>, layer| {
            let encoder = encoder().valid().with_padding(padding);
            assert_eq!(encoder.padding(), padding);
            encoder
                .features(image, &[layer])
                .unwrap()
                .get(layer)
                .clone()
        };
        let layers = [Layer::RELU1_1, Layer::CONV1_1];
        for padding in [Padding::Replicate, Padding::Reflect] {
            for layer in layers {
                let found = features(padding, image.clone(), layer);
                let inner = features(Padding::Zero, wider(padding), layer);
                let expected = inner.narrow(2, 1, height).narrow(3, 1, width);
                let difference: f32 = (found - expected).abs().max().into_scalar();
                assert!(difference < 1e-5, "{padding:?} {layer} {width}×{height}");
            }
        }
    }
}

/// Gradients, runs and pools go through the padded border as well.
#[test]
fn a_run_with_another_border_paints_another_border() {
    let paint = |padding| {
        let encoder = encoder().with_padding(padding);
        transfer(&encoder).run().unwrap().picture
    };
    let [zero, replicate, reflect] =
        [Padding::Zero, Padding::Replicate, Padding::Reflect].map(paint);
    assert!(zero != replicate && replicate != reflect && zero != reflect);
}

#[test]
fn original_colours_survive_a_run() {
    let encoder = encoder();
    let content = waves(44, 33, 1.0);
    let paint = |colors| {
        let recipe = Recipe { colors, ..recipe() };
        let mut seen = None;
        let outcome = transfer(&encoder)
            .recipe(recipe)
            .on_step(|step| {
                seen = Some(step.picture().unwrap());
                ControlFlow::Continue(())
            })
            .run()
            .unwrap();
        (outcome.picture, seen.unwrap())
    };
    // U and V are differences of channels; 8 bits of clamping aside they are the content's.
    let differences = |picture: &Picture| -> Vec<f32> {
        let pixels = picture.rgb().chunks_exact(3);
        pixels
            .flat_map(|color| [color[0] - color[1], color[2] - color[1]])
            .collect()
    };
    let far = |picture: &Picture| {
        let wanted = differences(&content.resize(picture.width(), picture.height()));
        let pairs = differences(picture).into_iter().zip(wanted);
        let far = pairs
            .filter(|(found, wanted)| (found - wanted).abs() > 0.05)
            .count();
        far as f32 / (2 * picture.width() * picture.height()) as f32
    };
    let (style, _) = paint(Colors::Style);
    let (luminance, step) = paint(Colors::LuminanceYuv);
    assert!(far(&style) > 0.2, "{}", far(&style));
    assert!(far(&luminance) < 0.1, "{}", far(&luminance));
    assert!(far(&step) < 0.1, "{}", far(&step));
    for colors in [Colors::LuminanceLab, Colors::Symmetric, Colors::Histogram] {
        assert!(paint(colors).0 != style, "{colors}");
    }
}

/// A mask that is white to the left of a column.
fn left(width: usize, height: usize, column: usize) -> Picture {
    let rgb = (0..width * height).flat_map(|i| [f32::from(i % width < column); 3]);
    Picture::from_rgb(width, height, rgb.collect()).unwrap()
}

#[test]
fn guided_statistics_are_those_of_the_region() {
    let encoder = encoder().valid();
    let device = Default::default();
    let image = waves(24, 18, 1.0).to_tensor::<Flex>(&device);
    let layer = Layer::RELU1_2;
    let features = encoder.features(image, &[layer]).unwrap();
    let guide = Guide::new(&left(24, 18, 7), (24, 18), &[layer], &device).unwrap();
    let guided = features.guided(&guide);
    let region = features.get(layer).clone().narrow(3, 0, 7);
    let close = |found: Tensor<Flex, 3>, expected: Tensor<Flex, 3>| {
        let largest: f32 = expected.clone().abs().max().into_scalar();
        let error: f32 = (found - expected).abs().max().into_scalar();
        assert!(error < 1e-5 * largest, "{error} of {largest}");
    };
    close(guided.gram(layer), gram_matrix(region.clone()));
    let [_, channels, ..] = region.dims();
    let mean = region
        .reshape([1, channels as i32, -1])
        .mean_dim(2)
        .transpose();
    close(guided.mean(layer), mean);
}

#[test]
fn each_region_takes_its_own_style() {
    let encoder = encoder();
    let plain = |color: [f32; 3]| Picture::from_rgb(20, 20, color.repeat(400)).unwrap();
    let (red, blue) = (plain([0.9, 0.1, 0.1]), plain([0.1, 0.1, 0.9]));
    let region = |content| Region {
        content,
        style: None,
    };
    let mask = left(32, 24, 16);
    let opposite: Vec<f32> = mask.rgb().iter().map(|value| 1.0 - value).collect();
    let opposite = Picture::from_rgb(32, 24, opposite).unwrap();
    let recipe = Recipe {
        content_weight: 0.0,
        style_layers: vec![Layer::RELU1_1],
        size: 32,
        coarsest: 32,
        iterations: 40,
        style_loss: StyleLoss::MeanStd,
        ..recipe()
    };
    let transfer = StyleTransfer::new(&encoder)
        .content(plain([0.5; 3]).resize(32, 24))
        .recipe(recipe);
    let transfer = transfer
        .add_style(Style::new(red.clone()).within(region(mask.clone())))
        .add_style(Style::new(blue).within(region(opposite)));
    assert_eq!(transfer.plan().unwrap().coverage, [Some(0.5), Some(0.5)]);
    let picture = transfer.run().unwrap().picture;
    // Red minus blue in the middle of each half.
    let warmth = |columns: std::ops::Range<usize>| -> f32 {
        let places = (0..24).flat_map(|y| columns.clone().map(move |x| 3 * (32 * y + x)));
        let values: Vec<f32> = places
            .map(|i| picture.rgb()[i] - picture.rgb()[i + 2])
            .collect();
        values.iter().sum::<f32>() / values.len() as f32
    };
    let (first, second) = (warmth(2..14), warmth(18..30));
    assert!(first > 0.1 && second < -0.1, "{first} {second}");

    let empty = StyleTransfer::new(&encoder)
        .content(plain([0.5; 3]))
        .add_style(Style::new(red).within(region(left(400, 400, 0))))
        .recipe(self::recipe());
    let error = empty.plan().unwrap_err().to_string();
    assert!(error.contains("region of style 1 is empty"), "{error}");
}

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
            carry_moments,
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
            clamp,
            iterations: 30,
            coarsest: 40,
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 0.2,
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
    assert!(extremes(false) > 1.01);
    assert!(extremes(true) <= 1.0 + 1e-6);
}

/// The largest value of the image.
#[derive(Debug)]
struct Extremes;

impl<B: burn::tensor::backend::Backend> impasto::loss::Term<B> for Extremes {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
    fn value(&self, image: &Tensor<B, 4>, _: &impasto::Features<B>) -> Tensor<B, 1> {
        image.clone().max().reshape([1])
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
        carry_moments: true,
        clamp: true,
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

#[test]
fn styles_seen_before_give_the_same_picture() {
    let encoder = encoder();
    let seen = SeenStyles::default();
    let contents = [waves(44, 33, 1.0), waves(33, 44, 3.0)];
    for content in contents {
        let run = || transfer(&encoder).content(content.clone());
        let alone = run().run().unwrap();
        let shared = run().share(&seen).run().unwrap();
        assert!(shared.picture == alone.picture);
        // Statistics of both scales, however many contents there were.
        assert_eq!(format!("{seen:?}"), "SeenStyles(2)");
    }
    // Other pools see other things.
    let average = Recipe {
        pooling: Some(impasto::Pooling::Average),
        ..recipe()
    };
    let run = || transfer(&encoder).recipe(average.clone());
    let alone = run().run().unwrap();
    assert!(run().share(&seen).run().unwrap().picture == alone.picture);
    assert!(alone.picture != transfer(&encoder).run().unwrap().picture);
}

#[test]
fn every_style_has_a_size_of_its_own() {
    let encoder = encoder();
    let style = waves(40, 40, 2.0);
    let first_loss = |recipe: Recipe, style: Style| {
        let mut loss = None;
        let run = StyleTransfer::new(&encoder)
            .content(waves(44, 33, 1.0))
            .add_style(style)
            .recipe(recipe)
            .on_step(|step| {
                loss = Some(step.losses.weighted());
                ControlFlow::Break(())
            });
        run.run().unwrap();
        loss.unwrap()
    };
    let single = || Recipe {
        coarsest: 40,
        ..recipe()
    };
    let sized = |style_size, style_scale| Recipe {
        style_size,
        style_scale,
        ..single()
    };
    let plain = first_loss(single(), Style::new(style.clone()));
    let half = first_loss(single(), Style::new(style.clone()).scale(0.5));
    assert!(half != plain);
    assert_eq!(
        half,
        first_loss(sized(None, 0.5), Style::new(style.clone()))
    );
    assert_eq!(
        half,
        first_loss(sized(Some(20), 1.0), Style::new(style.clone()))
    );
    let run = transfer(&encoder).add_style(Style::new(style).scale(0.0));
    assert!(matches!(run.plan(), Err(Error::StyleScale(_))));
}
