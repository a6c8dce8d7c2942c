//! Reference implementations in ordinary Burn operations: the defaults of [`ConvOps`](super::ConvOps),
//! which fast ones are tested against.
//!
//! A mask is packed 32 bits to an integer.

use std::collections::VecDeque;

use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::module::{avg_pool2d, conv2d, max_pool2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Bool, IndexingUpdateOp, Int, Tensor, TensorData};

use super::variation::view;
use super::{
    AdamStep, BackwardMask, CurvaturePair, Epilogue, PackedConv2d, PixelPairs, Pooling,
    SamplePoints, VariationNorm, sum,
};
use crate::rect::Rect;

/// Bits in an element of a mask, whatever the width of the backend's integers.
const BITS: usize = 32;

/// Queries and candidates whose products are in memory at once, for [`nearest`].
const BLOCK: [usize; 2] = [1024, 8192];

/// The kernel of the backward convolution: rotated by 180°, channels swapped.
pub fn pack<B: Backend>(weight: Tensor<B, 4>) -> Tensor<B, 1> {
    weight.flip([2, 3]).swap_dims(0, 1).flatten(0, 3)
}

fn padded<B: Backend>(
    x: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    conv2d(x, weight, bias, ConvOptions::new([1, 1], [1, 1], [1, 1], 1))
}

/// See [`ConvOps::convolve`](super::ConvOps::convolve).
pub fn convolve<B: Backend>(
    x: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    epilogue: Epilogue,
    save_mask: bool,
) -> (Tensor<B, 4>, Option<BackwardMask<B>>) {
    let PackedConv2d {
        weight,
        bias,
        projection,
        ..
    } = convolution;
    let x = padded(x, weight.clone(), Some(bias.clone()));
    let (x, mask) = match epilogue {
        Epilogue::None => (x, None),
        Epilogue::Relu => {
            let x = relu(x);
            let mask = save_mask.then(|| pack_bits(x.clone().greater_elem(0)));
            (x, mask)
        }
        Epilogue::ReluPool(pooling) => {
            let x = relu(x);
            let (pooled, _) = pool(x.clone(), pooling, false);
            let mask = save_mask.then(|| {
                let active = x.clone().greater_elem(0);
                pack_bits(match pooling {
                    Pooling::Average => active,
                    Pooling::Max => active.bool_and(is_argmax(&x)),
                })
            });
            (pooled, mask)
        }
    };
    match projection {
        Some(matrix) => (conv1x1(x, matrix.clone(), None), mask),
        None => (x, mask),
    }
}

/// See [`ConvOps::convolve_backward`](super::ConvOps::convolve_backward).
pub fn convolve_backward<B: Backend>(
    gradient: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    epilogue: Epilogue,
    mask: Option<BackwardMask<B>>,
    [height, width]: [usize; 2],
) -> Tensor<B, 4> {
    let [channels_out, channels_in, ..] = convolution.weight.dims();
    let gradient = match &convolution.projection {
        Some(matrix) => conv1x1_backward(gradient, matrix.clone(), None),
        None => gradient,
    };
    let gradient = match epilogue {
        Epilogue::ReluPool(Pooling::Average) => upsample(gradient, [height, width]) * 0.25,
        Epilogue::ReluPool(Pooling::Max) => upsample(gradient, [height, width]),
        _ => gradient,
    };
    let gradient = match mask {
        Some(mask) => {
            let active = unpack_bits(mask, gradient.dims());
            gradient.mask_fill(active.bool_not(), 0.0)
        }
        None => gradient,
    };
    let packed = convolution.packed.clone();
    padded(
        gradient,
        packed.reshape([channels_in, channels_out, 3, 3]),
        None,
    )
}

/// See [`ConvOps::pool`](super::ConvOps::pool).
pub fn pool<B: Backend>(
    x: Tensor<B, 4>,
    pooling: Pooling,
    save_mask: bool,
) -> (Tensor<B, 4>, Option<BackwardMask<B>>) {
    let [batch, channels, height, width] = x.dims();
    match pooling {
        _ if height < 2 || width < 2 => {
            let shape = [batch, channels, height / 2, width / 2];
            (Tensor::zeros(shape, (&x.device(), x.dtype())), None)
        }
        Pooling::Average => (avg_pool2d(x, [2, 2], [2, 2], [0, 0], false, false), None),
        Pooling::Max => {
            let mask = save_mask.then(|| {
                let [_, b, c, d] = corners(is_argmax(&x));
                let (right, lower) = (b.bool_or(d.clone()), c.bool_or(d));
                pack_bits(Tensor::cat(vec![right, lower], 0))
            });
            let pooled = max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], false);
            (pooled, mask)
        }
    }
}

/// See [`ConvOps::pool_backward`](super::ConvOps::pool_backward).
pub fn pool_backward<B: Backend>(
    gradient: Tensor<B, 4>,
    pooling: Pooling,
    mask: Option<BackwardMask<B>>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = gradient.dims();
    let (Pooling::Max, Some(mask)) = (pooling, mask) else {
        return upsample(gradient, size) * 0.25;
    };
    let bits: Tensor<B, 4, Bool> = unpack_bits(mask, [2 * batch, channels, height, width]);
    let right = bits.clone().narrow(0, 0, batch);
    let lower = bits.narrow(0, batch, batch);
    let (left, upper) = (right.clone().bool_not(), lower.clone().bool_not());
    let is_argmax = merge([
        upper.clone().bool_and(left.clone()),
        upper.bool_and(right.clone()),
        lower.clone().bool_and(left),
        lower.bool_and(right),
    ]);
    let is_argmax = pad(is_argmax.float(), size).greater_elem(0.5);
    upsample(gradient, size).mask_fill(is_argmax.bool_not(), 0.0)
}

/// See [`ConvOps::crop`](super::ConvOps::crop).
pub fn crop<B: Backend>(x: Tensor<B, 4>, area: Rect) -> Tensor<B, 4> {
    let rows = x.narrow(2, area.top, area.height);
    rows.narrow(3, area.left, area.width)
}

/// See [`ConvOps::crop_backward`](super::ConvOps::crop_backward).
pub fn crop_backward<B: Backend>(
    gradient: Tensor<B, 4>,
    area: Rect,
    size: [usize; 2],
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [batch, channels, ..] = gradient.dims();
    let ranges = [
        0..batch,
        0..channels,
        area.top..area.bottom(),
        area.left..area.right(),
    ];
    match sum {
        Some(sum) => {
            let known = crop(sum.clone(), area);
            sum.slice_assign(ranges, known + gradient)
        }
        None => {
            let shape = [batch, channels, size[0], size[1]];
            let zeros = Tensor::zeros(shape, (&gradient.device(), gradient.dtype()));
            zeros.slice_assign(ranges, gradient)
        }
    }
}

/// See [`ConvOps::conv1x1`](super::ConvOps::conv1x1).
pub fn conv1x1<B: Backend>(
    x: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let [rows, _] = matrix.dims();
    if height * width == 0 {
        let shape = [batch, rows, height, width];
        return Tensor::zeros(shape, (&x.device(), x.dtype()));
    }
    let flat = x.reshape([batch, channels, height * width]);
    let product = matrix.unsqueeze::<3>().matmul(flat);
    let product = product.reshape([batch, rows, height, width]);
    match bias {
        Some(bias) => product + bias.reshape([1, rows, 1, 1]),
        None => product,
    }
}

/// See [`ConvOps::conv1x1_backward`](super::ConvOps::conv1x1_backward).
pub fn conv1x1_backward<B: Backend>(
    gradient: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let product = conv1x1(gradient, matrix.transpose(), None);
    match sum {
        Some(sum) => sum + product,
        None => product,
    }
}

/// See [`ConvOps::gram`](super::ConvOps::gram).
pub fn gram<B: Backend>(features: Tensor<B, 4>, area: Rect) -> Tensor<B, 3> {
    let [batch, channels, ..] = features.dims();
    let rows = crop(features, area).reshape([batch, channels, area.count()]);
    rows.clone()
        .matmul(rows.swap_dims(1, 2))
        .div_scalar(area.count() as f64)
}

/// See [`ConvOps::gram_backward`](super::ConvOps::gram_backward).
pub fn gram_backward<B: Backend>(
    features: Tensor<B, 4>,
    area: Rect,
    gradient: Tensor<B, 3>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = features.dims();
    let rows = crop(features, area).reshape([batch, channels, area.count()]);
    let symmetric = gradient.clone() + gradient.swap_dims(1, 2);
    let product = symmetric
        .div_scalar(area.count() as f64)
        .matmul(rows)
        .reshape([batch, channels, area.height, area.width]);
    crop_backward(product, area, [height, width], sum)
}

/// See [`ConvOps::sample`](super::ConvOps::sample).
pub fn sample<B: Backend>(features: Tensor<B, 4>, points: &SamplePoints) -> Tensor<B, 3> {
    let [batch, channels, height, width] = features.dims();
    assert_eq!([height, width], points.size());
    let samples = Tensor::zeros(
        [batch, channels, points.len()],
        (&features.device(), features.dtype()),
    );
    let rows = features.reshape([batch, channels, height * width]);
    corners_of(points, &rows)
        .into_iter()
        .fold(samples, |samples, (positions, weights)| {
            samples + rows.clone().select(2, positions) * weights
        })
}

/// See [`ConvOps::sample_backward`](super::ConvOps::sample_backward).
pub fn sample_backward<B: Backend>(
    gradient: Tensor<B, 3>,
    points: &SamplePoints,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [batch, channels, _] = gradient.dims();
    let [height, width] = points.size();
    let flat = [batch, channels, height * width];
    let start = match sum {
        Some(sum) => sum.reshape(flat),
        None => Tensor::zeros(flat, (&gradient.device(), gradient.dtype())),
    };
    let sum = corners_of(points, &gradient)
        .into_iter()
        .fold(start, |sum, (positions, weights)| {
            let parts = gradient.clone() * weights;
            sum.select_assign(2, positions, parts, IndexingUpdateOp::Add)
        });
    sum.reshape([batch, channels, height, width])
}

/// For each of the four corners its positions and its weights, `[1, 1, samples]`, on the device and of
/// the type of a tensor. No corners if there are no points.
fn corners_of<B: Backend>(
    points: &SamplePoints,
    like: &Tensor<B, 3>,
) -> Vec<(Tensor<B, 1, Int>, Tensor<B, 3>)> {
    let device = like.device();
    let count = points.len();
    let corners = points.corners();
    let ways = if count == 0 { 0..0 } else { 0..4 };
    ways.map(|way| {
        let positions = corners.iter().map(|corner| corner[way].position as i32);
        let weights = corners.iter().map(|corner| corner[way].weight);
        let positions = TensorData::new(positions.collect::<Vec<_>>(), [count]);
        let weights = TensorData::new(weights.collect::<Vec<_>>(), [1, 1, count]);
        (
            Tensor::from_data(positions, &device),
            Tensor::from_data(weights, (&device, like.dtype())),
        )
    })
    .collect()
}

/// See [`ConvOps::column_products`](super::ConvOps::column_products).
pub fn column_products<B: Backend>(columns: Tensor<B, 3>, target: Tensor<B, 3>) -> Tensor<B, 3> {
    let products = (columns.clone() * target).sum_dim(1);
    let norms = (columns.clone() * columns).sum_dim(1);
    Tensor::cat(vec![products, norms], 1)
}

/// See [`ConvOps::column_products_backward`](super::ConvOps::column_products_backward).
pub fn column_products_backward<B: Backend>(
    gradient: Tensor<B, 3>,
    columns: Tensor<B, 3>,
    target: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let products = gradient.clone().narrow(1, 0, 1);
    let norms = gradient.narrow(1, 1, 1);
    target * products + columns * norms * 2.0
}

/// See [`ConvOps::nearest`](super::ConvOps::nearest).
pub fn nearest<B: Backend>(
    queries: Tensor<B, 2>,
    candidates: Tensor<B, 2>,
) -> (Tensor<B, 1, Int>, Tensor<B, 1>) {
    let [_, n] = queries.dims();
    let [_, m] = candidates.dims();
    let device = queries.device();
    if n == 0 {
        let none = Tensor::zeros([0], (&device, queries.dtype()));
        return (Tensor::zeros([0], &device), none);
    }
    assert_ne!(m, 0, "no candidates");
    let blocks = |count: usize, block: usize| {
        (0..count)
            .step_by(block)
            .map(move |first| (first, block.min(count - first)))
    };
    let (indices, products) = blocks(n, BLOCK[0])
        .map(|(first, count)| {
            let queries = queries.clone().narrow(1, first, count).transpose();
            blocks(m, BLOCK[1])
                .map(|(first, count)| {
                    let candidates = candidates.clone().narrow(1, first, count);
                    let products = queries.clone().matmul(candidates);
                    let (largest, index) = products.max_dim_with_indices(1);
                    (index + first as i64, largest)
                })
                .reduce(|(index, largest), (later_index, later)| {
                    let larger = later.clone().greater(largest.clone());
                    (
                        index.mask_where(larger.clone(), later_index),
                        largest.mask_where(larger, later),
                    )
                })
                .expect("at least one block of candidates")
        })
        .unzip();
    (
        Tensor::cat(indices, 0).squeeze_dim(1),
        Tensor::cat(products, 0).squeeze_dim(1),
    )
}

/// See [`ConvOps::squared_distances`](super::ConvOps::squared_distances).
pub fn squared_distances<B: Backend>(
    x: Tensor<B, 2>,
    target: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 1> {
    // Scaled before squaring, where the largest values are.
    let squares = (x - target).mul_scalar(scale).powi_scalar(2);
    squares.sum_dim(1).squeeze_dim(1)
}

/// See [`ConvOps::squared_distances_backward`](super::ConvOps::squared_distances_backward).
pub fn squared_distances_backward<B: Backend>(
    gradient: Tensor<B, 1>,
    x: Tensor<B, 2>,
    target: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 2> {
    let factor = gradient.mul_scalar(2.0 * scale).unsqueeze_dim(1);
    (x - target).mul_scalar(scale) * factor
}

/// See [`ConvOps::variation`](super::ConvOps::variation).
pub fn variation<B: Backend>(
    x: Tensor<B, 4>,
    pairs: &[PixelPairs],
    norm: VariationNorm,
) -> Tensor<B, 1> {
    let [batch, ..] = x.dims();
    let mut total = Tensor::zeros([batch, 1], (&x.device(), x.dtype()));
    for pairs in pairs {
        let differences = view(&x, pairs.second) - view(&x, pairs.first);
        let sizes = match norm {
            VariationNorm::L1 => differences.abs(),
            VariationNorm::L2 => differences.powi_scalar(2),
        };
        // Along one axis after the other, so that the order does not depend on the number of threads.
        let sums = sizes.sum_dim(3).sum_dim(2).sum_dim(1).reshape([batch, 1]);
        total = total + sums.mul_scalar(pairs.weight);
    }
    total.squeeze_dim(1)
}

/// See [`ConvOps::variation_backward`](super::ConvOps::variation_backward).
pub fn variation_backward<B: Backend>(
    gradient: Tensor<B, 1>,
    x: Tensor<B, 4>,
    pairs: &[PixelPairs],
    norm: VariationNorm,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [batch, _, height, width] = x.dims();
    let gradient = gradient.reshape([batch, 1, 1, 1]);
    let mut sum = sum.unwrap_or_else(|| x.zeros_like());
    for pairs in pairs {
        let differences = view(&x, pairs.second) - view(&x, pairs.first);
        let derivatives = match norm {
            VariationNorm::L1 => differences.sign(),
            VariationNorm::L2 => differences.mul_scalar(2.0),
        };
        let derivatives = derivatives * gradient.clone().mul_scalar(pairs.weight);
        for (area, derivatives) in [
            (pairs.second, derivatives.clone()),
            (pairs.first, derivatives.neg()),
        ] {
            sum = crop_backward(derivatives, area, [height, width], Some(sum));
        }
    }
    sum
}

/// See [`ConvOps::curvature`](super::ConvOps::curvature).
pub fn curvature<B: Backend>(
    gradient: Tensor<B, 4>,
    previous: Tensor<B, 4>,
    step: &Tensor<B, 4>,
) -> (Tensor<B, 4>, Tensor<B, 1>) {
    let largest = gradient.clone().abs().max();
    let y = gradient - previous;
    let measures = vec![largest, dot(&y, step), dot(&y, &y)];
    (y, Tensor::cat(measures, 0))
}

/// See [`ConvOps::two_loop`](super::ConvOps::two_loop).
pub fn two_loop<B: Backend>(
    gradient: Tensor<B, 4>,
    pairs: &VecDeque<CurvaturePair<B>>,
    scale: f64,
) -> Tensor<B, 4> {
    let spread = |scalar: Tensor<B, 1>| scalar.reshape([1, 1, 1, 1]);
    let mut q = gradient.neg();
    let dtype = q.dtype();
    // Kept in half precision, perhaps.
    let read = |kept: &Tensor<B, 4>| kept.clone().cast(dtype);
    let mut alphas = Vec::with_capacity(pairs.len());
    for CurvaturePair { s, y, rho } in pairs.iter().rev() {
        let alpha = spread(dot(&read(s), &q) * *rho);
        q = q - read(y) * alpha.clone();
        alphas.push(alpha);
    }
    q = q * scale;
    for (CurvaturePair { s, y, rho }, alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = spread(dot(&read(y), &q) * *rho);
        q = q + read(s) * (alpha - beta);
    }
    q
}

/// See [`ConvOps::adam`](super::ConvOps::adam).
pub fn adam<B: Backend>(
    image: Tensor<B, 4>,
    gradient: Tensor<B, 4>,
    [mean, square]: [Tensor<B, 4>; 2],
    step: AdamStep,
) -> (Tensor<B, 4>, [Tensor<B, 4>; 2]) {
    let mean = mean * step.beta1 + gradient.clone() * (1.0 - step.beta1);
    let square = square * step.beta2 + gradient.powi_scalar(2) * (1.0 - step.beta2);
    let deviation = (square.clone() * step.square_scale).sqrt() + step.epsilon;
    let image = image - mean.clone() * step.mean_scale / deviation;
    let image = match step.clamp {
        Some(largest) => image.clamp(0.0, largest),
        None => image,
    };
    (image, [mean, square])
}

/// Sum of the products of corresponding elements, shape `[1]`.
fn dot<B: Backend>(a: &Tensor<B, 4>, b: &Tensor<B, 4>) -> Tensor<B, 1> {
    sum(a.clone() * b.clone())
}

/// Whether a pixel is the first largest of its 2×2 window; false in an odd last row or column.
fn is_argmax<B: Backend>(x: &Tensor<B, 4>) -> Tensor<B, 4, Bool> {
    let [_, _, height, width] = x.dims();
    if height < 2 || width < 2 {
        return x.zeros_like().greater_elem(1);
    }
    let even = x.clone().narrow(2, 0, height / 2 * 2);
    let even = even.narrow(3, 0, width / 2 * 2);
    let [a, b, c, d] = corners(even);
    let largest = a
        .clone()
        .max_pair(b.clone())
        .max_pair(c.clone().max_pair(d.clone()));
    let first = a.equal(largest.clone());
    let second = b.equal(largest.clone()).bool_and(first.clone().bool_not());
    let found = first.clone().bool_or(second.clone());
    let third = c.equal(largest.clone()).bool_and(found.clone().bool_not());
    let found = found.bool_or(third.clone());
    let fourth = d.equal(largest).bool_and(found.bool_not());
    let is_argmax = merge([first, second, third, fourth]);
    pad(is_argmax.float(), [height, width]).greater_elem(0.5)
}

/// The four pixels of each window: upper left, upper right, lower left, lower right.
fn corners<B: Backend, K: burn::tensor::BasicOps<B>>(x: Tensor<B, 4, K>) -> [Tensor<B, 4, K>; 4] {
    let [batch, channels, height, width] = x.dims();
    let (height, width) = (height / 2, width / 2);
    let windows = x.narrow(2, 0, 2 * height).narrow(3, 0, 2 * width).reshape([
        batch * channels,
        height,
        2,
        width,
        2,
    ]);
    [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| {
        let corner = windows.clone().narrow(2, i, 1).narrow(4, j, 1);
        corner.reshape([batch, channels, height, width])
    })
}

/// The inverse of [`corners`].
fn merge<B: Backend, K: burn::tensor::BasicOps<B>>(
    corners: [Tensor<B, 4, K>; 4],
) -> Tensor<B, 4, K> {
    let [batch, channels, height, width] = corners[0].dims();
    let [a, b, c, d] = corners.map(|x| x.reshape([batch * channels, height, 1, width, 1]));
    let (upper, lower) = (Tensor::cat(vec![a, b], 4), Tensor::cat(vec![c, d], 4));
    let windows: Tensor<B, 5, K> = Tensor::cat(vec![upper, lower], 2);
    windows.reshape([batch, channels, 2 * height, 2 * width])
}

/// Each value four times, as a 2×2 window, and zeros in an odd last row or column.
fn upsample<B: Backend>(x: Tensor<B, 4>, size: [usize; 2]) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    if height * width == 0 {
        let shape = [batch, channels, size[0], size[1]];
        return Tensor::zeros(shape, (&x.device(), x.dtype()));
    }
    pad(merge([x.clone(), x.clone(), x.clone(), x]), size)
}

/// Zeros below and right, up to `size`.
fn pad<B: Backend>(x: Tensor<B, 4>, size: [usize; 2]) -> Tensor<B, 4> {
    size.into_iter().zip([2, 3]).fold(x, |x, (size, axis)| {
        let mut shape = x.dims();
        shape[axis] = size - shape[axis];
        match shape[axis] {
            0 => x,
            _ => {
                let zeros = Tensor::zeros(shape, (&x.device(), x.dtype()));
                Tensor::cat(vec![x, zeros], axis)
            }
        }
    })
}

/// 32 elements to an integer.
pub(super) fn pack_bits<B: Backend>(bits: Tensor<B, 4, Bool>) -> BackwardMask<B> {
    let device = bits.device();
    let count = bits.shape().num_elements();
    let bits = bits.int().reshape([count]);
    let missing = count.next_multiple_of(BITS) - count;
    let bits = match missing {
        0 => bits,
        _ => Tensor::cat(vec![bits, Tensor::zeros([missing], &device)], 0),
    };
    let words = bits.reshape([-1, BITS as i32]) * places(&device);
    words.sum_dim(1).flatten(0, 1)
}

/// The inverse of [`pack_bits`].
fn unpack_bits<B: Backend>(mask: BackwardMask<B>, shape: [usize; 4]) -> Tensor<B, 4, Bool> {
    let device = mask.device();
    let words: Tensor<B, 2, Int> = mask.unsqueeze_dim(1);
    let bits = words.bitwise_and(places(&device)).not_equal_elem(0);
    let count = shape.iter().product();
    bits.flatten::<1>(0, 1).narrow(0, 0, count).reshape(shape)
}

/// The values of the bits, `[1, 32]`; the last one negative, as 32-bit integers have it.
fn places<B: Backend>(device: &B::Device) -> Tensor<B, 2, Int> {
    let places: Vec<i32> = (0..BITS).map(|bit| 1 << bit).collect();
    Tensor::from_data(TensorData::new(places, [1, BITS]), device)
}
