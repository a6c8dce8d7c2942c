//! Loss and gradient in tiles beside those of the whole image.

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use impasto::eval::{EvalError, Evaluator, add, add_to_window};
use impasto::loss::{
    ContentNormalization, ContentTerm, Distance, GramNormalization, Guide, Hypercolumns, Loss,
    MomentsDistance, MomentsTerm, NeighborsTerm, Part, Reduction, RelativeTerm, Stencil, StyleTerm,
    Term, TotalVariation, VariationNorm, sum_per_image,
};
use impasto::{Layer, Padding, Picture, Pooling, Vgg19, Vgg19Config};
use proptest::prelude::*;

use crate::data;
use crate::transfer::waves;

type B = Autodiff<Flex>;

fn encoder() -> Vgg19<B> {
    Vgg19::load(data("small.safetensors"), &Default::default()).unwrap()
}

/// Different values everywhere, within `[0, 1]`.
fn image(batch: usize, height: usize, width: usize, seed: u64) -> Tensor<Flex, 4> {
    let mut state = seed.wrapping_mul(2) + 1;
    let values: Vec<f32> = (0..batch * 3 * height * width)
        .map(|index| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let noise = (state >> 40) as f32 / (1 << 24) as f32;
            let (x, y) = (index % width, index / width);
            0.5 + 0.3 * (x as f32 / 9.0 + y as f32 / 7.0).sin() + 0.2 * (noise - 0.5)
        })
        .collect();
    Tensor::<Flex, 1>::from_floats(&values[..], &Default::default())
        .reshape([batch, 3, height, width])
}

/// A term of a user's own: mean product of each pixel with the one three rows below.
#[derive(Debug)]
struct Echo;

impl<B: burn::tensor::backend::Backend> Term<B> for Echo {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
    fn margin(&self) -> usize {
        3
    }
    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let (area, [height, width]) = (part.area(), part.size());
        let rows = area.height.min((height - 3).saturating_sub(area.top));
        if rows == 0 {
            return Tensor::zeros([part.batch(), 1], &part.image().device());
        }
        let here = part.pixels(impasto::loss::Rect {
            height: rows,
            ..area
        });
        let there = impasto::loss::Rect {
            top: area.top + 3,
            height: rows,
            ..area
        };
        sum_per_image(here * part.pixels(there)) / (3 * height * width) as f64
    }
    fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
        sums.powi_scalar(2).squeeze_dim(1)
    }
    fn describe(&self) -> String {
        "echo".to_string()
    }
}

/// Hypercolumns with targets that differ everywhere.
fn neighbors(
    encoder: &Vgg19<B>,
    distance: Distance,
    height: usize,
    width: usize,
) -> NeighborsTerm<B> {
    let layers = [
        Layer::RELU1_2,
        Layer::RELU2_1,
        Layer::RELU3_3,
        Layer::RELU4_1,
    ];
    let hypercolumns = Hypercolumns::new(encoder, &layers, [height, width]).unwrap();
    let count = hypercolumns.count();
    let targets = layers.iter().zip(0..).map(|(&layer, seed)| {
        let channels = encoder.channels(layer).unwrap();
        let values = image(1, channels, count.div_ceil(3), seed).reshape([-1]);
        let values = values.narrow(0, 0, channels * count);
        Tensor::from_inner(values.reshape([channels, count]))
    });
    let weights = Tensor::ones([count], &Default::default());
    NeighborsTerm::new(hypercolumns, distance, &Default::default())
        .with_targets(targets.collect(), weights)
}

/// Every term that can be computed in tiles, with masks and without, each of a size that shows in the sum.
fn every_term(encoder: &Vgg19<B>, height: usize, width: usize) -> Loss<B> {
    let device = Default::default();
    let style = image(1, 48, 56, 99);
    let layers = [
        Layer::RELU1_1,
        Layer::RELU2_1,
        Layer::RELU3_1,
        Layer::RELU4_1,
    ];
    let features = encoder.valid().features(style, &layers).unwrap();
    let rgb = (0..width * height).flat_map(|i| [(i % width) as f32 / width as f32; 3]);
    let mask = Picture::from_rgb(width, height, rgb.collect()).unwrap();
    let guide = Guide::<B>::new(&mask, (width, height), &layers, &device).unwrap();
    let gram = |layer| Tensor::from_inner(features.gram(layer));
    let mean = |layer| Tensor::from_inner(features.mean(layer));
    let channels = |layer| encoder.channels(layer).unwrap();
    let style =
        |layer, normalization| StyleTerm::new(layer, channels(layer), normalization, gram(layer));
    let moments = |layer, distance| {
        MomentsTerm::new(layer, channels(layer), distance, mean(layer), gram(layer))
    };
    let content = image(1, height, width, 5);
    let content = |layer| {
        let features = encoder.valid().features(content.clone(), &[layer]).unwrap();
        let target = Tensor::from_inner(features.get(layer).clone());
        ContentTerm::new(layer, channels(layer), target)
    };
    let variation = |norm, reduction, stencil| TotalVariation {
        norm,
        reduction,
        stencil,
        range: 1.0,
    };
    let sum = ContentNormalization::HalfOfSum;
    let relative = content(Layer::RELU4_1);
    let unit = relative.zero_feature_loss();
    Loss::sum(
        "total",
        1.0,
        vec![
            Loss::term(
                "gram 1",
                1.0,
                style(Layer::RELU1_1, GramNormalization::PerPosition),
            ),
            Loss::term(
                "gram 4",
                1.0,
                style(Layer::RELU4_1, GramNormalization::Paper),
            ),
            Loss::term(
                "gram within",
                1.0,
                style(Layer::RELU3_1, GramNormalization::PerPosition).within(&guide),
            ),
            Loss::term(
                "deviations",
                0.3,
                moments(Layer::RELU2_1, MomentsDistance::MeanStd),
            ),
            Loss::term(
                "wasserstein",
                0.3,
                moments(Layer::RELU3_1, MomentsDistance::Wasserstein).within(&guide),
            ),
            Loss::term("content", 0.1, content(Layer::RELU4_1)),
            Loss::term(
                "content sum",
                1e-4,
                content(Layer::RELU2_1).with_normalization(sum),
            ),
            Loss::term(
                "content within",
                0.1,
                content(Layer::RELU3_1).within(&guide),
            ),
            Loss::term("relative", 0.1, RelativeTerm::new(relative, unit)),
            Loss::term(
                "tv",
                1e-4,
                variation(VariationNorm::L1, Reduction::Sum, Stencil::Axes),
            ),
            Loss::term(
                "tv nine",
                0.5,
                variation(
                    VariationNorm::L2,
                    Reduction::MeanOfEach,
                    Stencil::NinePoints,
                ),
            ),
            Loss::term(
                "tv mean",
                0.5,
                variation(VariationNorm::L2, Reduction::Mean, Stencil::NinePoints),
            ),
            Loss::term(
                "neighbors",
                0.5,
                neighbors(encoder, Distance::Cosine, height, width),
            ),
            Loss::term(
                "neighbors squared",
                1e-2,
                neighbors(encoder, Distance::Squared, height, width),
            ),
            Loss::term("echo", 0.5, Echo),
        ],
    )
}

/// The largest difference, in units of the largest value.
fn off(found: &Tensor<Flex, 4>, expected: &Tensor<Flex, 4>) -> f32 {
    let largest: f32 = expected.clone().abs().max().into_scalar();
    let difference: f32 = (found.clone() - expected.clone()).abs().max().into_scalar();
    difference / largest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any image, any size of tiles, every term, padding and pooling; a batch too.
    #[test]
    fn the_gradient_in_tiles_is_that_of_the_whole_image(
        height in 16usize..90, width in 16usize..90, side in 1usize..70, batch in 1usize..3,
        padding in 0usize..3, average in any::<bool>(), seed in any::<u32>(),
    ) {
        let padding = [Padding::Zero, Padding::Replicate, Padding::Reflect][padding];
        let pooling = if average { Pooling::Average } else { Pooling::Max };
        let encoder = encoder().with_padding(padding).with_pooling(pooling);
        let image = image(batch, height, width, seed.into());
        let whole = Evaluator::new(encoder.clone(), every_term(&encoder, height, width));
        let expected = whole.evaluate(&image).unwrap();
        let tiled = whole.with_tile_size(Some(side)).unwrap();
        let tiles = tiled.tiles(&image);
        let found = tiled.evaluate(&image).unwrap();
        for (found, expected) in found.losses.parts.iter().zip(&expected.losses.parts) {
            let error = (found.value - expected.value).abs();
            // This distance is what is left of traces that nearly cancel: its error is theirs, up to 2e-6
            // in 300 cases, however small it is.
            let least = if found.name == "wasserstein" { 0.1 } else { 1e-6 };
            prop_assert!(
                error <= 1e-4 * expected.value.abs().max(least),
                "{} is {}, expected {}", found.name, found.value, expected.value
            );
        }
        let off = off(&found.gradient, &expected.gradient);
        prop_assert!(off < 1e-4, "{off} with {} tiles", tiles.len());
        let alone = tiled.loss_only(&image).unwrap();
        prop_assert_eq!(alone, found.losses);
    }
}

/// In segments: of Gram matrices, moments and distances within them, and of
/// features that are there as a whole.
#[test]
fn the_gradient_in_segments_is_that_of_the_whole_image() {
    let encoder = Vgg19Config::new()
        .with_width(16)
        .init::<B>(&Default::default());
    for (height, width) in [(300, 271), (100, 630)] {
        let target = image(1, height, width, 5);
        let layers = [Layer::RELU1_1, Layer::RELU2_1, Layer::RELU3_2];
        let targets = encoder.valid().features(target, &layers).unwrap();
        let [first, second, third] = layers;
        let channels = |layer| encoder.channels(layer).unwrap();
        let gram = |layer| Tensor::from_inner(targets.gram(layer));
        let features = |layer| Tensor::from_inner(targets.get(layer).clone());
        let evaluate = |segment_values| {
            let per_position = GramNormalization::PerPosition;
            let style = StyleTerm::new(first, channels(first), per_position, gram(first));
            let mean = Tensor::from_inner(targets.mean(second));
            let distance = MomentsDistance::MeanStd;
            let moments = MomentsTerm::new(second, channels(second), distance, mean, gram(second));
            let within = ContentTerm::new(second, channels(second), features(second));
            let content = ContentTerm::new(third, channels(third), features(third));
            let terms = vec![
                Loss::term("style", 1.0, style),
                Loss::term("moments", 1.0, moments),
                Loss::term("within", 1.0, within),
                Loss::term("content", 1.0, content),
            ];
            let evaluator = Evaluator::new(encoder.clone(), Loss::sum("total", 1.0, terms));
            let image = image(1, height, width, 6);
            let evaluator = evaluator.with_segments(segment_values);
            evaluator.evaluate(&image).unwrap()
        };
        let (expected, found) = (evaluate(None), evaluate(Some(1 << 17)));
        for (found, expected) in found.losses.parts.iter().zip(&expected.losses.parts) {
            let (a, b) = (expected.value, found.value);
            assert!(
                (a - b).abs() < 1e-3 * a,
                "{}: {b} instead of {a}",
                found.name
            );
        }
        let off = off(&found.gradient, &expected.gradient);
        assert!(off > 0.0 && off < 1e-4, "{off}");
    }
}

/// A batch counts as the mean of its images, for every term.
#[test]
fn the_loss_of_a_batch_is_the_mean_of_its_images() {
    let encoder = encoder();
    let (height, width) = (40, 52);
    let evaluator = Evaluator::new(encoder.clone(), every_term(&encoder, height, width));
    let images = [image(1, height, width, 1), image(1, height, width, 2)];
    let alone = images
        .clone()
        .map(|image| evaluator.evaluate(&image).unwrap());
    let batch = evaluator
        .evaluate(&Tensor::cat(images.to_vec(), 0))
        .unwrap();
    for (index, part) in batch.losses.parts.iter().enumerate() {
        let mean = alone
            .iter()
            .map(|one| one.losses.parts[index].value)
            .sum::<f64>()
            / 2.0;
        let error = (part.value - mean).abs();
        assert!(
            error <= 1e-5 * mean.abs().max(1e-6),
            "{}: {} {mean}",
            part.name,
            part.value
        );
    }
    for (index, one) in alone.iter().enumerate() {
        let gradient = batch.gradient.clone().narrow(0, index, 1) * 2.0;
        assert!(off(&gradient, &one.gradient) < 1e-4);
    }
}

/// Tiles may be computed by anyone, in any order: added up in theirs, the bytes are the same.
#[test]
fn who_computes_which_tile_does_not_show() {
    let encoder = encoder();
    let (height, width) = (70, 83);
    let evaluator = Evaluator::new(encoder.clone(), every_term(&encoder, height, width));
    let evaluator = evaluator.with_tile_size(Some(24)).unwrap();
    let image = image(1, height, width, 3);
    let expected = evaluator.evaluate(&image).unwrap();
    let tiles = evaluator.tiles(&image);
    assert!(tiles.len() > 4);
    for workers in 1..=3 {
        // Each worker has an evaluator of its own, as another machine would.
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let loss = every_term(&encoder, height, width);
                let evaluator = Evaluator::new(encoder.clone(), loss);
                evaluator.with_tile_size(Some(24)).unwrap()
            })
            .collect();
        let owner = |index: usize| &workers[index % workers.len()];
        // The last tile first.
        let mut sums: Vec<_> = (0..tiles.len())
            .rev()
            .map(|index| owner(index).tile_sums(&image, &tiles[index]).unwrap())
            .collect();
        sums.reverse();
        let total = sums.into_iter().reduce(add).unwrap();
        let (evaluated, derivatives) = evaluator.differentiate(total);
        let mut gradients: Vec<_> = (0..tiles.len())
            .rev()
            .map(|index| {
                let owner = owner(index);
                owner
                    .tile_gradient(&image, &tiles[index], &derivatives)
                    .unwrap()
            })
            .collect();
        gradients.reverse();
        let start = image.zeros_like();
        let pairs = tiles.iter().zip(gradients);
        let gradient = pairs.fold(start, |gradient, (tile, added)| {
            add_to_window(gradient, tile, added)
        });
        assert_eq!(evaluated.read(), expected.losses);
        assert_eq!(gradient.into_data(), expected.gradient.clone().into_data());
    }
}

#[test]
fn a_term_that_needs_the_whole_image_says_so_in_tiles() {
    #[derive(Debug)]
    struct Brightest;
    impl<B: burn::tensor::backend::Backend> Term<B> for Brightest {
        fn layers(&self) -> Vec<Layer> {
            Vec::new()
        }
        fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
            part.image().max().reshape([1, 1])
        }
        fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
            sums.squeeze_dim(1)
        }
        fn describe(&self) -> String {
            "largest value".to_string()
        }
        fn needs_whole_image(&self) -> bool {
            true
        }
    }
    let loss = Loss::sum("total", 1.0, vec![Loss::term("brightest", 1.0, Brightest)]);
    let evaluator = Evaluator::new(encoder(), loss);
    let image = waves(40, 30, 1.0).to_tensor(&Default::default());
    assert!(evaluator.evaluate(&image).unwrap().losses.weighted() > 0.8);
    let error = evaluator.with_tile_size(Some(16)).unwrap_err();
    assert_eq!(
        error,
        EvalError::NeedsWholeImage {
            term: "brightest".to_string()
        }
    );
    assert!(
        error
            .to_string()
            .contains("`brightest` needs the whole image")
    );
}

/// What runs on another thread, and what a run is made of.
#[test]
fn terms_losses_encoders_and_runs_are_send() {
    fn assert_send<T: Send>() {}
    assert_send::<Box<dyn Term<B>>>();
    assert_send::<Loss<B>>();
    assert_send::<Vgg19<B>>();
    assert_send::<Evaluator<B>>();
    assert_send::<impasto::Run<B>>();
}
