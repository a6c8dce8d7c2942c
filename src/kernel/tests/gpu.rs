//! The GPU kernels, through `wgpu`, against the reference implementations on the CPU.
//!
//! Mesa's llvmpipe is enough (Debian: `mesa-vulkan-drivers`). Every combination of options is a kernel
//! that takes it a second to compile, so shapes are few, and chosen for their edges.

use burn::backend::{Autodiff, Flex, Wgpu};
use burn::tensor::{DType, Tensor, TensorData};

use super::{ALL, assert_within, convolution, gram_matrix, random};
use crate::kernel::{
    BackwardMask, ConvOps, CurvaturePair, Epilogue, Moments, PackedConv2d, Pointwise, Pooling,
    Precision, Stage, StyleBackend, reference,
};
use crate::rect::Rect;

type Gpu = Wgpu;

/// Each kernel is as close to the reference as single precision lets it be.
#[track_caller]
fn assert_close<const D: usize>(found: &Tensor<Flex, D>, expected: &Tensor<Flex, D>) {
    assert_within(1e-5, found, expected);
}

/// The same values on the GPU.
fn gpu<const D: usize>(x: &Tensor<Flex, D>) -> Tensor<Gpu, D> {
    Tensor::from_data(x.to_data(), &Default::default())
}

fn cpu<const D: usize>(x: Tensor<Gpu, D>) -> Tensor<Flex, D> {
    Tensor::from_data(x.into_data(), &Default::default())
}

/// A mask of the GPU kernels, a word for each block of 4 rows × 8 columns, as the reference has it.
fn reference_mask(mask: &BackwardMask<Gpu>, shape: [usize; 4]) -> BackwardMask<Flex> {
    let [batch, channels, height, width] = shape;
    let words: Vec<u32> = mask.to_data().convert::<u32>().to_vec().unwrap();
    let (rows, columns) = (height.div_ceil(4), width.div_ceil(8));
    assert_eq!(words.len(), batch * channels * rows * columns);
    let mut bits = Vec::new();
    for plane in 0..batch * channels {
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let word = words[(plane * rows + y / 4) * columns + x / 8];
            bits.push(word >> (y % 4 * 8 + x % 8) & 1 == 1);
        }
    }
    let bits = TensorData::new(bits, shape);
    reference::pack_bits(Tensor::from_data(bits, &Default::default()))
}

/// One shape with some epilogues, forward and backward.
fn check_convolution(
    batch: usize,
    channels_in: usize,
    channels_out: usize,
    size: [usize; 2],
    projected: Option<usize>,
    epilogues: &[Epilogue],
) {
    let seed = (channels_in * 1000 + channels_out) as u64;
    let mut expected = convolution::<Flex>(channels_in, channels_out, seed);
    expected.packed = reference::pack(expected.weight.clone());
    expected.projection = projected.map(|rows| random([rows, channels_out], seed + 4));
    let (weight, bias) = (gpu(&expected.weight), gpu(&expected.bias));
    let mut weights = PackedConv2d::new(weight, bias, Precision::F32);
    weights.projection = expected.projection.as_ref().map(gpu);
    let [height, width] = size;
    let x = random([batch, channels_in, height, width], seed + 2);
    for &epilogue in epilogues {
        let (y, mask) = <Gpu as ConvOps>::convolve(gpu(&x), &weights, epilogue, true);
        let (wanted, _) = reference::convolve(x.clone(), &expected, epilogue, false);
        assert_close(&cpu(y), &wanted);

        let gradient = random(wanted.dims(), seed + 3);
        let shape = [batch, channels_out, height, width];
        let bits = mask.as_ref().map(|mask| reference_mask(mask, shape));
        assert_eq!(bits.is_some(), epilogue != Epilogue::None);
        let wanted =
            reference::convolve_backward(gradient.clone(), &expected, epilogue, bits, size);
        let found = Gpu::convolve_backward(gpu(&gradient), &weights, epilogue, mask, size);
        assert_close(&cpu(found), &wanted);
    }
}

#[test]
fn convolutions_with_every_epilogue() {
    check_convolution(2, 3, 5, [9, 13], None, &ALL);
    check_convolution(1, 6, 9, [16, 40], Some(7), &ALL);
    // So many channels that the backward pass undoes the epilogue first.
    check_convolution(2, 66, 3, [9, 12], None, &ALL);
    check_convolution(1, 66, 3, [5, 7], None, &ALL);
}

#[test]
fn convolutions_with_one_or_many_channels_and_edges_of_one_pixel() {
    let relu = [Epilogue::Relu];
    let pool = [Epilogue::ReluPool(Pooling::Max)];
    check_convolution(1, 1, 1, [1, 1], None, &relu);
    check_convolution(1, 5, 2, [1, 9], None, &pool);
    check_convolution(2, 2, 5, [9, 1], None, &relu);
    check_convolution(1, 70, 33, [11, 34], None, &relu);
    check_convolution(1, 33, 130, [5, 66], None, &pool);
}

#[test]
fn conv1x1_with_bias_and_sum() {
    for (batch, channels, rows, size) in [
        (2, 3, 5, [1, 1]),
        (1, 70, 66, [9, 15]),
        (2, 3, 3, [3, 4]),
        (2, 4, 2, [5, 3]),
    ] {
        let x = random::<Flex, 4>([batch, channels, size[0], size[1]], 1);
        let matrix = random([rows, channels], 2);
        for bias in [None, Some(random([rows], 3))] {
            let found = <Gpu as ConvOps>::conv1x1(gpu(&x), gpu(&matrix), bias.as_ref().map(gpu));
            assert_close(
                &cpu(found),
                &reference::conv1x1(x.clone(), matrix.clone(), bias),
            );
        }
        let gradient = random([batch, rows, size[0], size[1]], 4);
        let whole = random::<Flex, 4>([batch + 1, channels, size[0], size[1]], 5);
        // Nothing, a tensor of its own, and one that others share.
        let shared = gpu(&whole).narrow(0, 1, batch);
        let view = whole.narrow(0, 1, batch);
        for (sum, wanted) in [
            (None, None),
            (Some(gpu(&view)), Some(view.clone())),
            (Some(shared.clone()), Some(view.clone())),
        ] {
            let found = Gpu::conv1x1_backward(gpu(&gradient), gpu(&matrix), sum);
            let wanted = reference::conv1x1_backward(gradient.clone(), matrix.clone(), wanted);
            assert_close(&cpu(found), &wanted);
        }
        assert_close(&cpu(shared), &view);
    }
}

#[test]
fn gram_matrices_of_one_position_or_many() {
    for (batch, channels, size) in [
        (2, 3, [1, 1]),
        (2, 70, [5, 7]),
        (1, 130, [31, 33]),
        (1, 4, [70, 70]),
    ] {
        let features = random::<Flex, 4>([batch, channels, size[0], size[1]], 1);
        let [height, width] = size;
        let whole = Rect::whole(size);
        let part = Rect::between((height / 3, height), (width / 4, width.div_ceil(2)));
        let gradient = random([batch, channels, channels], 2);
        let sum = random(features.dims(), 3);
        for (area, sum) in [(whole, None), (whole, Some(sum.clone())), (part, Some(sum))] {
            let found = <Gpu as ConvOps>::gram(gpu(&features), area, Precision::F32);
            assert_close(&cpu(found), &reference::gram(features.clone(), area));
            let found = Gpu::gram_backward(
                gpu(&features),
                area,
                gpu(&gradient),
                sum.as_ref().map(gpu),
                Precision::F32,
            );
            let wanted = reference::gram_backward(features.clone(), area, gradient.clone(), sum);
            assert_close(&cpu(found), &wanted);
        }
    }
}

#[test]
fn pools_of_odd_sizes() {
    for (batch, channels, size) in [
        (2, 3, [9, 13]),
        (1, 2, [2, 2]),
        (1, 3, [16, 33]),
        (2, 2, [7, 12]),
    ] {
        // Few different values, so that many are equal.
        let x = (random::<Flex, 4>([batch, channels, size[0], size[1]], 1) * 3.0).round();
        for pooling in [Pooling::Max, Pooling::Average] {
            let (found, mask) = <Gpu as ConvOps>::pool(gpu(&x), pooling, true);
            let (wanted, bits) = reference::pool(x.clone(), pooling, true);
            assert_close(&cpu(found), &wanted);
            let gradient = random(wanted.dims(), 2);
            let found = Gpu::pool_backward(gpu(&gradient), pooling, mask, size);
            let wanted = reference::pool_backward(gradient, pooling, bits, size);
            assert_close(&cpu(found), &wanted);
        }
    }
}

/// Loss and gradient of the GPU and of the CPU.
fn assert_same([loss, gradient]: [TensorData; 2], [wanted_loss, wanted]: [TensorData; 2]) {
    let device = Default::default();
    let tensor = |data| Tensor::<Flex, 1>::from_data(data, &device);
    assert_close(&tensor(loss), &tensor(wanted_loss));
    let tensor = |data| Tensor::<Flex, 4>::from_data(data, &device);
    assert_close(&tensor(gradient), &tensor(wanted));
}

/// The same network as [`gradients_of_a_network`], as a segment.
#[test]
fn gradients_of_a_segment() {
    fn evaluate<B: ConvOps>(image: TensorData) -> [TensorData; 2] {
        let mut first = convolution::<Autodiff<B>>(3, 20, 1);
        first.projection = Some(random([13, 20], 3));
        let x = Tensor::<Autodiff<B>, 4>::from_data(image, &Default::default()).require_grad();
        let epilogues = [Epilogue::Relu, Epilogue::ReluPool(Pooling::Average)];
        let convolutions = [first, convolution(13, 34, 2)].into_iter().zip(epilogues);
        let stages = convolutions.map(|(convolution, epilogue)| Stage {
            convolution,
            epilogue,
            moments: (epilogue == Epilogue::Relu).then_some(Moments::Gram),
            distances: Vec::new(),
        });
        let area = Rect::between((0, 60), (10, 97));
        let map = Pointwise {
            matrix: random([3, 3], 4),
            bias: random([3], 5),
        };
        let (y, read) = <Autodiff<B> as StyleBackend>::convolve_segment(
            x.clone(),
            Some(map),
            stages.collect(),
            area,
            1 << 14,
        );
        let gram = read[0][0].clone();
        let loss = crate::kernel::sum(gram.powi_scalar(2)) + crate::kernel::sum(y) * 1e-3;
        let gradient = x.grad(&loss.backward()).unwrap();
        [loss.into_data(), gradient.into_data()]
    }
    let image = random::<Flex, 4>([1, 3, 60, 97], 3).into_data();
    assert_same(evaluate::<Gpu>(image.clone()), evaluate::<Flex>(image));
}

/// The loss and gradient of a small network agree with those of the CPU kernels.
#[test]
fn gradients_of_a_network() {
    fn evaluate<B: ConvOps>(image: TensorData) -> [TensorData; 2] {
        let mut first = convolution::<Autodiff<B>>(3, 20, 1);
        first.projection = Some(random([13, 20], 3));
        let second = convolution::<Autodiff<B>>(13, 34, 2);
        let x = Tensor::<Autodiff<B>, 4>::from_data(image, &Default::default()).require_grad();
        let y = <Autodiff<B> as StyleBackend>::convolve(x.clone(), &first, Epilogue::Relu);
        let pooled = <Autodiff<B> as StyleBackend>::pool(y.clone(), Pooling::Max);
        let epilogue = Epilogue::ReluPool(Pooling::Average);
        let deep = <Autodiff<B> as StyleBackend>::convolve(pooled, &second, epilogue);
        let grams = [y, deep].map(gram_matrix);
        let [a, b] = grams.map(|gram| crate::kernel::sum(gram.powi_scalar(2)));
        let loss = a + b;
        let gradient = x.grad(&loss.backward()).unwrap();
        [loss.into_data(), gradient.into_data()]
    }
    let image = random::<Flex, 4>([1, 3, 37, 41], 3).into_data();
    assert_same(evaluate::<Gpu>(image.clone()), evaluate::<Flex>(image));
}

/// The recursion of L-BFGS with an empty history and a long one, on images of one value or many.
#[test]
fn two_loop_recursions() {
    for (pairs, size) in [(0, [1, 1]), (1, [5, 3]), (7, [40, 150])] {
        let shape = [1, 3, size[0], size[1]];
        let draw = |seed| random::<Flex, 4>(shape, seed);
        let history = (0..pairs).map(|i| (draw(2 * i), draw(2 * i + 1), 0.01 * (i + 1) as f64));
        let history: Vec<_> = history.collect();
        let gradient = draw(100);
        let wanted = history.iter().cloned();
        let wanted = wanted
            .map(|(s, y, rho)| CurvaturePair { s, y, rho })
            .collect();
        let wanted = reference::two_loop(gradient.clone(), &wanted, 0.7);
        let found = history.iter();
        let found = found.map(|(s, y, rho)| CurvaturePair {
            s: gpu(s),
            y: gpu(y),
            rho: *rho,
        });
        let found = <Gpu as ConvOps>::two_loop(gpu(&gradient), &found.collect(), 0.7);
        assert_close(&cpu(found), &wanted);

        let (previous, step) = (draw(101), draw(102));
        let (y, measures) =
            <Gpu as ConvOps>::curvature(gpu(&gradient), gpu(&previous), &gpu(&step));
        let (wanted, numbers) = reference::curvature(gradient, previous, &step);
        assert_close(&cpu(y), &wanted);
        assert_close(&cpu(measures), &numbers);
    }
}

/// NaN is passed on, not turned into zeros, which would look converged.
#[test]
fn nan_is_passed_on() {
    let weights = convolution::<Gpu>(3, 4, 1);
    let x = Tensor::full([1, 3, 8, 8], f32::NAN, &Default::default());
    let (y, _) = <Gpu as ConvOps>::convolve(x, &weights, Epilogue::Relu, false);
    assert!(y.into_data().iter::<f32>().all(f32::is_nan));
}

/// Types that the kernels do not take go to the reference.
#[test]
fn integers_of_a_mask_are_words() {
    let weights = convolution::<Gpu>(2, 2, 1);
    let x = random([1, 2, 5, 9], 2);
    let (_, mask) = <Gpu as ConvOps>::convolve(x, &weights, Epilogue::Relu, true);
    let mask = mask.unwrap();
    assert_eq!((mask.dtype(), mask.dims()), (DType::U32, [8]));
}
