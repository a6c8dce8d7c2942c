//! The CPU kernels against the reference implementations, on random shapes.

#[cfg(feature = "wgpu")]
mod gpu;
mod samples;
mod segment;

use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Bool, DType, Tensor, TensorData};
use proptest::prelude::*;

use super::{
    AdamStep, BackwardMask, ConvOps, CurvaturePair, Epilogue, PackedConv2d, PixelPairs, Pooling,
    Precision, StyleBackend, VariationNorm, all_positions, reference,
};
use crate::rect::Rect;

/// Relative to the largest value of a tensor.
const TOLERANCE: f32 = 3e-5;

const ALL: [Epilogue; 4] = [
    Epilogue::None,
    Epilogue::Relu,
    Epilogue::ReluPool(Pooling::Max),
    Epilogue::ReluPool(Pooling::Average),
];

/// Seeded numbers between −1 and 1.
pub(crate) fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

fn random<B: burn::tensor::backend::Backend, const D: usize>(
    shape: [usize; D],
    seed: u64,
) -> Tensor<B, D> {
    let mut draw = numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1));
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw()).collect();
    Tensor::from_data(TensorData::new(values, shape), &Default::default())
}

fn convolution<B: StyleBackend>(
    channels_in: usize,
    channels_out: usize,
    seed: u64,
) -> PackedConv2d<B> {
    let weight = random([channels_out, channels_in, 3, 3], seed);
    let scale = (9.0 * channels_in as f64).sqrt();
    let bias = random([channels_out], seed + 1) * 0.1;
    PackedConv2d::new(weight / scale, bias, Precision::F32)
}

/// The Gram matrix of all positions.
fn gram_matrix<B: StyleBackend>(features: Tensor<B, 4>) -> Tensor<B, 3> {
    let area = all_positions(&features);
    <B as StyleBackend>::gram(features, area, Precision::F32)
}

/// Where a rectangle begins and ends, as shares of what there is.
const PLACES: [std::ops::Range<f64>; 2] = [0.0..1.0, 0.0..1.0];

/// A rectangle of at least one position: half of all reach from side to side.
fn part_of(size: [usize; 2], place: [f64; 2]) -> Rect {
    let [rows, columns] = [0, 1].map(|axis| {
        let (at, length) = (place[axis], size[axis]);
        let first = ((at * 2.0 - 1.0).max(0.0) * length as f64) as usize;
        (first, length - (at * (length - first - 1) as f64) as usize)
    });
    Rect::between(rows, columns)
}

#[track_caller]
fn assert_close<const D: usize>(found: &Tensor<Flex, D>, expected: &Tensor<Flex, D>) {
    assert_within(TOLERANCE, found, expected);
}

#[track_caller]
fn assert_within<const D: usize>(
    tolerance: f32,
    found: &Tensor<Flex, D>,
    expected: &Tensor<Flex, D>,
) {
    assert_eq!(found.dims(), expected.dims());
    let found: Vec<f32> = found.to_data().to_vec().unwrap();
    let expected: Vec<f32> = expected.to_data().to_vec().unwrap();
    let largest = expected
        .iter()
        .fold(1e-3f32, |largest, x| largest.max(x.abs()));
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (found - expected).abs() <= tolerance * largest,
            "{found} instead of {expected} at {index}, where the largest is {largest}"
        );
    }
}

/// The bits of a mask of the CPU kernels, which has 16 for each tile of 4×4 pixels.
fn active(
    mask: BackwardMask<Flex>,
    [batch, channels, height, width]: [usize; 4],
) -> Tensor<Flex, 4, Bool> {
    let bytes = mask.into_data();
    let tiles: Vec<u16> = bytes
        .bytes
        .as_chunks()
        .0
        .iter()
        .map(|&b| u16::from_le_bytes(b))
        .collect();
    let (rows, columns) = (height.div_ceil(4), width.div_ceil(4));
    let bit = |plane: usize, y: usize, x: usize| {
        let tile = tiles[(plane * rows + y / 4) * columns + x / 4];
        tile >> (y % 4 * 4 + x % 4) & 1 == 1
    };
    let planes = 0..batch * channels;
    let bits: Vec<bool> = planes
        .flat_map(|plane| (0..height).flat_map(move |y| (0..width).map(move |x| (plane, y, x))))
        .map(|(plane, y, x)| bit(plane, y, x))
        .collect();
    let shape = [batch, channels, height, width];
    Tensor::from_data(TensorData::new(bits, shape), &Default::default())
}

/// One shape with every epilogue, forward and backward.
fn check_convolution(
    batch: usize,
    channels_in: usize,
    channels_out: usize,
    size: [usize; 2],
    channels_projected: Option<usize>,
    seed: u64,
) {
    let [height, width] = size;
    let mut weights = convolution::<Flex>(channels_in, channels_out, seed);
    // Packed as the reference requires.
    let rotated = PackedConv2d {
        packed: reference::pack(weights.weight.clone()),
        ..weights.clone()
    };
    let x = random([batch, channels_in, height, width], seed + 2);
    let before = reference::convolve(x.clone(), &rotated, Epilogue::None, false).0;
    let projection = channels_projected.map(|rows| random([rows, channels_out], seed + 4));
    weights.projection = projection.clone();
    let rotated = PackedConv2d {
        projection,
        ..rotated
    };
    for epilogue in ALL {
        let (found, mask) = <Flex as ConvOps>::convolve(x.clone(), &weights, epilogue, true);
        let (again, none) = <Flex as ConvOps>::convolve(x.clone(), &weights, epilogue, false);
        let (expected, _) = reference::convolve(x.clone(), &rotated, epilogue, false);
        assert_close(&found, &expected);
        assert_eq!(found.to_data(), again.to_data());
        assert!(none.is_none());

        let gradient = random(found.dims(), seed + 3);
        let masked = mask.clone().map(|mask| {
            let active = active(mask, before.dims());
            // The mask says whether a value is positive, unless it is zero up to rounding.
            if epilogue != Epilogue::ReluPool(Pooling::Max) {
                let signs = before.clone().greater_elem(0);
                let wrong = active.clone().float() - signs.float();
                let near = before.clone().abs().greater_elem(1e-5).float();
                assert_eq!((wrong * near).abs().sum().into_scalar(), 0.0);
            }
            reference::pack_bits(active)
        });
        let expected =
            reference::convolve_backward(gradient.clone(), &rotated, epilogue, masked, size);
        let found = <Flex as ConvOps>::convolve_backward(gradient, &weights, epilogue, mask, size);
        assert_close(&found, &expected);
    }
}

/// 64 cases, or as many as the environment variable `PROPTEST_CASES` says.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig {
            cases: 64,
            ..config
        },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn convolutions_of_any_shape(
        batch in 1usize..3, channels_in in 1usize..20, channels_out in 1usize..60,
        height in 1usize..30, width in 1usize..90, projected in prop::option::of(1usize..40),
        seed in any::<u32>(),
    ) {
        let size = [height, width];
        check_convolution(batch, channels_in, channels_out, size, projected, seed.into());
    }

    #[test]
    fn conv1x1_of_any_shape(
        batch in 1usize..3, channels in 1usize..70, rows in 1usize..40, height in 1usize..40,
        width in 1usize..40, seed in any::<u32>(),
    ) {
        let x = random::<Flex, 4>([batch, channels, height, width], seed.into());
        let matrix = random([rows, channels], u64::from(seed) + 1);
        for bias in [None, Some(random([rows], 5))] {
            let found = <Flex as ConvOps>::conv1x1(x.clone(), matrix.clone(), bias.clone());
            assert_close(&found, &reference::conv1x1(x.clone(), matrix.clone(), bias));
        }
        let gradient = random([batch, rows, height, width], u64::from(seed) + 2);
        let whole = random([batch + 1, channels, height, width], u64::from(seed) + 3);
        for sum in [None, Some(whole.narrow(0, 1, batch))] {
            let (gradient, matrix) = (gradient.clone(), matrix.clone());
            let expected = reference::conv1x1_backward(gradient.clone(), matrix.clone(), sum.clone());
            assert_close(&<Flex as ConvOps>::conv1x1_backward(gradient, matrix, sum), &expected);
        }
    }

    #[test]
    fn pools_of_any_shape(
        batch in 1usize..3, channels in 1usize..5, height in 2usize..20, width in 2usize..20,
        seed in any::<u32>(),
    ) {
        let seed = u64::from(seed);
        // Few different values, so that many are equal.
        let x = (random::<Flex, 4>([batch, channels, height, width], seed) * 3.0).round();
        for pooling in [Pooling::Max, Pooling::Average] {
            let (found, mask) = <Flex as ConvOps>::pool(x.clone(), pooling, true);
            let (expected, reference_mask) = reference::pool(x.clone(), pooling, true);
            assert_close(&found, &expected);
            let gradient = random(found.dims(), seed + 1);
            let size = [height, width];
            let found = <Flex as ConvOps>::pool_backward(gradient.clone(), pooling, mask, size);
            assert_close(&found, &reference::pool_backward(gradient.clone(), pooling, reference_mask, size));

            let x = Tensor::<Autodiff<Flex>, 4>::from_inner(x.clone()).require_grad();
            let y = match pooling {
                Pooling::Max => max_pool2d(x.clone(), [2, 2], [2, 2], [0, 0], [1, 1], false),
                Pooling::Average => avg_pool2d(x.clone(), [2, 2], [2, 2], [0, 0], false, false),
            };
            let loss = (y * Tensor::from_inner(gradient)).sum();
            assert_close(&found, &x.grad(&loss.backward()).unwrap());
        }
    }

    #[test]
    fn rectangles_of_any_shape(
        batch in 1usize..3, channels in 1usize..5, height in 1usize..20, width in 1usize..20,
        place in PLACES, seed in any::<u32>(),
    ) {
        let area = part_of([height, width], place);
        let x = random::<Flex, 4>([batch, channels, height, width], seed.into());
        let expected = reference::crop(x.clone(), area);
        prop_assert_eq!(<Flex as ConvOps>::crop(x.clone(), area).into_data(), expected.into_data());
        let gradient = random([batch, channels, area.height, area.width], u64::from(seed) + 1);
        let whole = random([batch + 1, channels, height, width], u64::from(seed) + 2);
        for sum in [None, Some(whole.narrow(0, 1, batch))] {
            let size = [height, width];
            let expected = reference::crop_backward(gradient.clone(), area, size, sum.clone());
            let found = <Flex as ConvOps>::crop_backward(gradient.clone(), area, size, sum);
            prop_assert_eq!(found.into_data(), expected.into_data());
        }
    }

    #[test]
    fn steps_of_optimisers_of_any_shape(
        batch in 1usize..3, height in 1usize..90, width in 1usize..400, pairs in 0usize..4,
        half: bool, clamped: bool, seed in any::<u32>(),
    ) {
        let mut seed = u64::from(seed);
        let mut image = || {
            seed += 1;
            random::<Flex, 4>([batch, 3, height, width], seed)
        };
        let (gradient, previous, step) = (image(), image(), image());
        let expected = reference::curvature(gradient.clone(), previous.clone(), &step);
        let found = <Flex as ConvOps>::curvature(gradient.clone(), previous.clone(), &step);
        assert_close(&found.0, &expected.0);
        let size = (batch * 3 * height * width) as f32;
        for (found, expected) in found.1.into_data().iter::<f32>().zip(expected.1.into_data().iter::<f32>()) {
            prop_assert!((found - expected).abs() < 1e-5 * size.max(expected.abs()), "{found}, {expected}");
        }
        let kept = |x: Tensor<Flex, 4>| if half { x.cast(DType::BF16) } else { x };
        let pairs = (0..pairs).map(|_| CurvaturePair {
            s: kept(image()),
            y: kept(image()),
            rho: 0.3 / f64::from(size),
        });
        let pairs = pairs.collect();
        let expected = reference::two_loop(gradient.clone(), &pairs, 0.7);
        let found = <Flex as ConvOps>::two_loop(gradient.clone(), &pairs, 0.7);
        assert_close(&found, &expected);
        let moments = [image(), image().powi_scalar(2)];
        let step = AdamStep {
            beta1: 0.9,
            beta2: 0.99,
            mean_scale: 0.3,
            square_scale: 2.0,
            epsilon: 1e-3,
            clamp: clamped.then_some(0.4),
        };
        let (x, shared) = (image(), moments.clone().map(|moment| moment.to_data()));
        let expected = reference::adam(x.clone(), gradient.clone(), moments.clone(), step);
        let found = <Flex as ConvOps>::adam(x, gradient, moments.clone(), step);
        assert_close(&found.0, &expected.0);
        for (found, expected) in found.1.iter().zip(&expected.1) {
            assert_close(found, expected);
        }
        // Whoever else holds them keeps what they were.
        prop_assert_eq!(moments.map(Tensor::into_data), shared);
    }

    #[test]
    fn squared_distances_of_any_shape(
        batch in 1usize..4, values in 1usize..40_000, one_target: bool, seed in any::<u32>(),
    ) {
        let x = random::<Flex, 2>([batch, values], seed.into());
        let rows = if one_target { 1 } else { batch };
        let target = random::<Flex, 2>([rows, values], u64::from(seed) + 1);
        let scale = 0.3;
        let expected = reference::squared_distances(x.clone(), target.clone(), scale);
        let found = <Flex as ConvOps>::squared_distances(x.clone(), target.clone(), scale);
        assert_close(&found, &expected);
        let gradient = random([batch], u64::from(seed) + 2);
        let shared = x.to_data();
        let expected =
            reference::squared_distances_backward(gradient.clone(), x.clone(), target.clone(), scale);
        let found = Flex::squared_distances_backward(gradient, x.clone(), target, scale);
        assert_close(&found, &expected);
        prop_assert_eq!(x.into_data(), shared);
    }

    #[test]
    fn variation_of_any_shape(
        batch in 1usize..3, channels in 1usize..4, height in 1usize..60, width in 1usize..60,
        places in prop::collection::vec((0usize..3, 0usize..3, 0usize..3, 0usize..3), 0..4),
        l1: bool, with_sum: bool, seed in any::<u32>(),
    ) {
        let norm = if l1 { VariationNorm::L1 } else { VariationNorm::L2 };
        let pairs: Vec<PixelPairs> = places.into_iter().enumerate().map(|(index, place)| {
            let within = |place: usize, side: usize| place.min(side - 1);
            let [top, below] = [within(place.0, height), within(place.1, height)];
            let [left, beside] = [within(place.2, width), within(place.3, width)];
            let size = [height - top.max(below), width - left.max(beside)];
            let area = |top: usize, left: usize| {
                Rect::between((top, top + size[0]), (left, left + size[1]))
            };
            let weight = 0.3 + index as f64;
            PixelPairs { first: area(top, left), second: area(below, beside), weight }
        }).collect();
        let x = random::<Flex, 4>([batch, channels, height, width], seed.into());
        let expected = reference::variation(x.clone(), &pairs, norm);
        let found = <Flex as ConvOps>::variation(x.clone(), &pairs, norm);
        assert_close(&found, &expected);
        let gradient = random([batch], u64::from(seed) + 2);
        let sum = with_sum.then(|| random(x.dims(), u64::from(seed) + 3));
        let shared = sum.clone().map(|sum| sum.to_data());
        let expected = reference::variation_backward(
            gradient.clone(), x.clone(), &pairs, norm, sum.clone(),
        );
        let found = Flex::variation_backward(gradient, x, &pairs, norm, sum.clone());
        assert_close(&found, &expected);
        prop_assert_eq!(sum.map(Tensor::into_data), shared);
    }

    #[test]
    fn gram_matrices_of_any_shape(
        batch in 1usize..3, channels in 1usize..70, height in 1usize..40, width in 1usize..40,
        place in PLACES, seed in any::<u32>(),
    ) {
        let features = random::<Flex, 4>([batch, channels, height, width], seed.into());
        let area = part_of([height, width], place);
        let gradient = random([batch, channels, channels], u64::from(seed) + 1);
        let whole = random([batch + 1, channels, height, width], u64::from(seed) + 2);
        // Nothing, a tensor of its own, and views of a larger one.
        let view = |first| Some(whole.clone().narrow(0, first, batch));
        for sum in [None, Some(random(features.dims(), 7)), view(0), view(1)] {
            let (features, gradient) = (features.clone(), gradient.clone());
            let expected = reference::gram(features.clone(), area);
            let found = <Flex as ConvOps>::gram(features.clone(), area, Precision::F32);
            assert_close(&found, &expected);
            let expected = reference::gram_backward(features.clone(), area, gradient.clone(), sum.clone());
            let shared = sum.clone();
            let found = <Flex as ConvOps>::gram_backward(features.clone(), area, gradient.clone(), sum, Precision::F32);
            assert_close(&found, &expected);
            prop_assert!(shared.is_none_or(|sum| sum.into_data() != found.into_data()));
        }
    }
}

#[test]
fn convolutions_with_one_or_many_channels_and_edges_of_one_pixel() {
    let cases = [
        (1, 1, [1, 1]),
        (3, 64, [33, 70]),
        (64, 3, [2, 2]),
        (1, 513, [5, 3]),
        (513, 1, [1, 9]),
        (48, 50, [1, 300]),
        (50, 48, [300, 1]),
        // Panels that are read and written in place (within a row, over two rows, over four) and
        // ones that are not.
        (6, 7, [12, 192]),
        (6, 7, [24, 32]),
        (6, 7, [37, 16]),
        (6, 7, [21, 131]),
    ];
    for (seed, (channels_in, channels_out, size)) in cases.into_iter().enumerate() {
        for projected in [None, Some(seed + 1)] {
            check_convolution(1, channels_in, channels_out, size, projected, seed as u64);
        }
    }
}

#[test]
fn convolutions_with_many_channels() {
    for projected in [None, Some(6)] {
        check_convolution(1, 513, 97, [4, 17], projected, 5);
    }
}

/// Gradients are the same as those of Burn's own operations.
#[test]
fn gradients_are_those_of_burn() {
    type B = Autodiff<Flex>;
    let (height, width) = (13, 22);
    let mut weights = convolution::<B>(5, 7, 1);
    let projection: Tensor<B, 2> = random([4, 7], 4);
    weights.projection = Some(projection.clone());
    let (matrix, bias) = (random::<B, 2>([6, 4], 5), random::<B, 1>([6], 6));
    let target = random::<Flex, 4>([2, 5, height, width], 2);
    for epilogue in ALL {
        let gradient = |fast: bool| {
            let x = Tensor::<B, 4>::from_inner(target.clone()).require_grad();
            let y = if fast {
                <B as StyleBackend>::convolve(x.clone(), &weights, epilogue)
            } else {
                let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                let bias = Some(weights.bias.clone());
                let y = conv2d(x.clone(), weights.weight.clone(), bias, options);
                let y = match epilogue {
                    Epilogue::None => y,
                    Epilogue::Relu => relu(y),
                    Epilogue::ReluPool(Pooling::Max) => {
                        max_pool2d(relu(y), [2, 2], [2, 2], [0, 0], [1, 1], false)
                    }
                    Epilogue::ReluPool(Pooling::Average) => {
                        avg_pool2d(relu(y), [2, 2], [2, 2], [0, 0], false, false)
                    }
                };
                reference::conv1x1(y, projection.clone(), None)
            };
            let conv1x1 = match fast {
                true => <B as StyleBackend>::conv1x1,
                false => reference::conv1x1,
            };
            let projected = conv1x1(y.clone(), matrix.clone(), Some(bias.clone()));
            let gram = match fast {
                true => gram_matrix(y.clone()),
                false => reference::gram(y.clone(), all_positions(&y)),
            };
            let factors = Tensor::from_inner(random(y.dims(), 3));
            let loss =
                (y * factors).sum() + gram.powi_scalar(2).sum() + projected.powi_scalar(2).sum();
            x.grad(&loss.backward()).unwrap()
        };
        assert_close(&gradient(true), &gradient(false));
    }
}

/// The gradient of the CPU kernels is the slope of the reference in double precision, along the
/// gradient and along single pixels.
#[test]
fn gradients_are_those_of_finite_differences() {
    type B = Autodiff<Flex>;
    let mut weights = convolution::<B>(5, 7, 1);
    let projection = random([4, 7], 4);
    weights.projection = Some(Tensor::from_inner(projection.clone()));
    let mut exact = PackedConv2d::<Flex>::new(
        weights.weight.clone().inner().cast(DType::F64),
        weights.bias.clone().inner().cast(DType::F64),
        Precision::F32,
    );
    exact.projection = Some(projection.cast(DType::F64));
    // Panels read in place, and one that is copied.
    for (height, width) in [(13, 22), (12, 64)] {
        let start = random::<Flex, 4>([1, 5, height, width], 2);
        for epilogue in ALL {
            let x = Tensor::<B, 4>::from_inner(start.clone()).require_grad();
            let y = <B as StyleBackend>::convolve(x.clone(), &weights, epilogue);
            let factors = random::<Flex, 4>(y.dims(), 3);
            let gram = gram_matrix(y.clone());
            let loss = (y * Tensor::from_inner(factors.clone())).sum() + gram.powi_scalar(2).sum();
            let gradient = x.grad(&loss.backward()).unwrap();

            let factors = factors.cast(DType::F64);
            let value = |x: Tensor<Flex, 4>| -> f64 {
                let (y, _) = <Flex as ConvOps>::convolve(x, &exact, epilogue, false);
                let gram = <Flex as ConvOps>::gram(y.clone(), all_positions(&y), Precision::F32);
                let loss = (y * factors.clone()).sum() + gram.powi_scalar(2).sum();
                loss.into_data().iter().next().unwrap()
            };
            let pixel = |c: usize, y: usize, x: usize| {
                let direction = start.zeros_like();
                let one = Tensor::ones([1, 1, 1, 1], &Default::default());
                direction.slice_assign([0..1, c..c + 1, y..y + 1, x..x + 1], one)
            };
            let directions = [
                gradient.clone(),
                pixel(0, 0, 0),
                pixel(4, height - 1, width - 1),
                pixel(2, 5, 15),
            ];
            let size: f32 = gradient.clone().powi_scalar(2).sum().sqrt().into_scalar();
            for direction in directions {
                let expected: f32 = (gradient.clone() * direction.clone()).sum().into_scalar();
                let step = direction.cast(DType::F64) * 1e-5;
                let here = start.clone().cast(DType::F64);
                let difference = value(here.clone() + step.clone()) - value(here - step);
                let found = difference / 2e-5;
                let error = (found - f64::from(expected)).abs();
                assert!(
                    error < 1e-3 * f64::from(size.max(expected.abs())),
                    "{epilogue:?} {height}×{width}: {found} and {expected}"
                );
            }
        }
    }
}

/// A convolution in double precision uses the reference, and shows how small the error of the CPU
/// kernels is.
#[test]
fn the_error_is_that_of_single_precision() {
    let weights = convolution::<Flex>(256, 64, 5);
    let x = random::<Flex, 4>([1, 256, 16, 16], 6);
    let double = PackedConv2d::new(
        weights.weight.clone().cast(DType::F64),
        weights.bias.clone().cast(DType::F64),
        Precision::F32,
    );
    let (exact, _) =
        <Flex as ConvOps>::convolve(x.clone().cast(DType::F64), &double, Epilogue::Relu, false);
    let (found, _) = <Flex as ConvOps>::convolve(x, &weights, Epilogue::Relu, false);
    let exact: Vec<f64> = exact.into_data().to_vec().unwrap();
    let found: Vec<f32> = found.into_data().to_vec().unwrap();
    let square = |x: f64| x * x;
    let errors: f64 = exact
        .iter()
        .zip(&found)
        .map(|(e, f)| square(e - f64::from(*f)))
        .sum();
    let size: f64 = exact.iter().map(|&e| square(e)).sum();
    assert!(
        (errors / size).sqrt() < 1e-5,
        "{:e}",
        (errors / size).sqrt()
    );
}

/// Loss and gradient of a small network at `image`, with all operations.
fn evaluate(image: &Tensor<Flex, 4>) -> [TensorData; 2] {
    type B = Autodiff<Flex>;
    let mut first = convolution::<B>(3, 40, 1);
    first.projection = Some(random([13, 40], 3));
    let second = convolution::<B>(13, 130, 2);
    let mut third = convolution::<B>(13, 70, 4);
    third.projection = Some(random([9, 70], 5));
    let x = Tensor::<B, 4>::from_inner(image.clone()).require_grad();
    let y = <B as StyleBackend>::convolve(x.clone(), &first, Epilogue::Relu);
    let pooled = <B as StyleBackend>::pool(y.clone(), Pooling::Max);
    let deep = <B as StyleBackend>::convolve(pooled, &second, Epilogue::ReluPool(Pooling::Average));
    let narrow = <B as StyleBackend>::convolve(y.clone(), &third, Epilogue::ReluPool(Pooling::Max));
    let grams = [y, deep, narrow].map(gram_matrix);
    let [a, b, c] = grams.map(|gram| super::sum(gram.powi_scalar(2)));
    let loss = a + b + c;
    let gradient = x.grad(&loss.backward()).unwrap();
    [loss.into_data(), gradient.into_data()]
}

/// Every bit is the same with one thread or several.
#[cfg_attr(target_family = "wasm", ignore = "has one thread")]
#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let image = random::<Flex, 4>([1, 3, 97, 131], 3);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| evaluate(&image))
    };
    let expected = run(1);
    for threads in 2..=5 {
        assert_eq!(run(threads), expected);
    }
}

/// AVX2 and AVX-512 sum in the same order, so every bit is the same. On machines with AVX-512 this is
/// also the test of AVX2.
#[cfg(target_arch = "x86_64")]
#[test]
fn results_do_not_depend_on_the_width_of_the_vectors() {
    use super::cpu::FORCE_AVX2;
    use std::sync::atomic::Ordering::Relaxed;
    for size in [[97, 131], [64, 64], [32, 192], [13, 9]] {
        let image = random::<Flex, 4>([1, 3, size[0], size[1]], 3);
        let wide = evaluate(&image);
        FORCE_AVX2.store(true, Relaxed);
        let narrow = evaluate(&image);
        FORCE_AVX2.store(false, Relaxed);
        assert_eq!(narrow, wide, "{size:?}");
    }
}

/// NdArray uses the same kernels.
#[cfg(feature = "ndarray")]
#[test]
fn ndarray_gives_the_same_bits() {
    use burn::backend::NdArray;

    fn run<B: ConvOps>() -> Vec<TensorData> {
        let mut weights = convolution::<B>(7, 9, 1);
        weights.projection = Some(random([5, 9], 4));
        let x = random::<B, 4>([2, 7, 11, 13], 2);
        let mut all = Vec::new();
        for epilogue in ALL {
            let (y, mask) = <B as ConvOps>::convolve(x.clone(), &weights, epilogue, true);
            let gradient = random(y.dims(), 3);
            all.push(y.to_data());
            let gradient = B::convolve_backward(gradient, &weights, epilogue, mask, [11, 13]);
            all.push(gradient.into_data());
        }
        let (y, mask) = <B as ConvOps>::pool(x.clone(), Pooling::Max, true);
        all.push(y.to_data());
        all.push(B::pool_backward(y, Pooling::Max, mask, [11, 13]).into_data());
        let matrix = random([3, 7], 5);
        all.push(
            B::conv1x1_backward(B::conv1x1(x.clone(), matrix.clone(), None), matrix, None)
                .into_data(),
        );
        let gram = <B as ConvOps>::gram(x.clone(), all_positions(&x), Precision::F32);
        all.push(gram.to_data());
        all.push(
            B::gram_backward(x.clone(), all_positions(&x), gram, Some(x), Precision::F32)
                .into_data(),
        );
        all
    }
    assert_eq!(run::<Flex>(), run::<NdArray>());
}

/// NaN is passed on, not turned into zeros, which would look converged.
#[test]
fn nan_is_passed_on() {
    let weights = convolution::<Flex>(3, 4, 1);
    let x = Tensor::full([1, 3, 8, 8], f32::NAN, &Default::default());
    for epilogue in ALL {
        let (y, _) = <Flex as ConvOps>::convolve(x.clone(), &weights, epilogue, false);
        assert!(y.into_data().iter::<f32>().all(f32::is_nan), "{epilogue:?}");
    }
}
