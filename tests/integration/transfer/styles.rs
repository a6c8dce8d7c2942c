//! What is taken from styles: how much of each, in which colours and sizes, and where.

use std::ops::ControlFlow;

use burn::backend::Flex;
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use impasto::loss::{Guide, Part, gram_matrix};
use impasto::picture::ColorTransfer;
use impasto::transfer::{LayerWeights, StyleCache, StyleLoss};
use impasto::{Layer, Picture, Recipe, Region, Style, StyleTransfer, TransferError};

use super::{encoder, recipe, transfer, waves};

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
    let (style, _) = paint(ColorTransfer::Style);
    let (luminance, step) = paint(ColorTransfer::LuminanceYuv);
    assert!(far(&style) > 0.2, "{}", far(&style));
    assert!(far(&luminance) < 0.1, "{}", far(&luminance));
    assert!(far(&step) < 0.1, "{}", far(&step));
    for colors in [
        ColorTransfer::LuminanceLab,
        ColorTransfer::Symmetric,
        ColorTransfer::Histogram,
    ] {
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
    let features = encoder.features(image.clone(), &[layer]).unwrap();
    let guide = Guide::new(&left(24, 18, 7), (24, 18), &[layer], &device).unwrap();
    let part = Part::whole(image, features.clone());
    let region = features.get(layer).clone().narrow(3, 0, 7);
    let close = |found: Tensor<Flex, 3>, expected: Tensor<Flex, 3>| {
        let largest: f32 = expected.clone().abs().max().into_scalar();
        let error: f32 = (found - expected).abs().max().into_scalar();
        assert!(error < 1e-5 * largest, "{error} of {largest}");
    };
    close(
        part.gram_sum(layer, guide.get(layer)),
        gram_matrix(region.clone()),
    );
    let [_, channels, ..] = region.dims();
    let mean = region
        .reshape([1, channels as i32, -1])
        .mean_dim(2)
        .transpose();
    close(part.mean_sum(layer, guide.get(layer)), mean);
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

#[test]
fn styles_seen_before_give_the_same_picture() {
    let encoder = encoder();
    let seen = StyleCache::default();
    let contents = [waves(44, 33, 1.0), waves(33, 44, 3.0)];
    for content in contents {
        let run = || transfer(&encoder).content(content.clone());
        let alone = run().run().unwrap();
        let shared = run().share(&seen).run().unwrap();
        assert!(shared.picture == alone.picture);
        // Statistics of both scales, however many contents there were.
        assert_eq!(format!("{seen:?}"), "StyleCache(2)");
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
    assert!(matches!(run.plan(), Err(TransferError::StyleScale(_))));
}
