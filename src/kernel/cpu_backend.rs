//! The CPU kernels on tensors, for backends whose tensors lie in this machine's memory.

pub(super) mod optimizers;

use std::ops::Deref;

use burn::tensor::{DType, Int, Tensor, TensorData, backend};
use half::bf16;

use super::cpu::buffer_pool::PooledBuffer;
use super::cpu::conv1x1::PackedMatrix;
use super::cpu::convolution::{self, Geometry, Weights};
use super::cpu::runs::Runs;
use super::cpu::{
    columns, crop as crops, distances, gram as grams, nearest, pool as pools, sample,
    variation as variations, winograd,
};
use super::{
    BackwardMask, Epilogue, PackedConv2d, PixelPairs, Pooling, SamplePoints, VariationNorm,
    reference,
};
use crate::rect::Rect;
use optimizers::Kept;

/// A backend whose tensors the CPU kernels can read and make.
pub(super) trait CpuBackend: backend::Backend {
    /// The values of a contiguous tensor.
    type Floats: Deref<Target = [f32]>;
    /// The bytes of a mask.
    type MaskBytes: Deref<Target = [u8]>;

    /// The values of a tensor in row-major order, if they are `f32`.
    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Self::Floats>;

    /// The values of a contiguous tensor in half precision.
    type Halves: Deref<Target = [bf16]>;

    /// The values of a tensor in row-major order, if they are `f32` or `bf16`.
    fn kept<const D: usize>(x: &Tensor<Self, D>) -> Option<Kept<Self::Floats, Self::Halves>>;

    /// A tensor of the `f32` in a buffer.
    fn from_buffer<const D: usize>(buffer: PooledBuffer, shape: [usize; D]) -> Tensor<Self, D>;

    /// The tensor with its values modified, in place unless other tensors share them.
    fn modify<const D: usize>(
        x: Tensor<Self, D>,
        modify: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D>;

    /// The bytes of a mask made by [`mask_from_buffer`](Self::mask_from_buffer).
    fn mask_bytes(mask: &BackwardMask<Self>) -> Self::MaskBytes;

    /// A mask of the bytes in a buffer.
    fn mask_from_buffer(buffer: PooledBuffer) -> BackwardMask<Self>;
}

/// Implements [`ConvOps`](super::ConvOps) for a [`CpuBackend`].
macro_rules! impl_conv_ops {
    ([$($generics:tt)*] $backend:ty, $($bounds:tt)*) => {
        impl<$($generics)*> $crate::kernel::ConvOps for $backend $($bounds)* {
            fn pack(weight: Tensor<Self, 4>, _: $crate::kernel::Precision) -> Tensor<Self, 1> {
                $crate::kernel::cpu_backend::pack(weight)
            }

            fn convolve(
                x: Tensor<Self, 4>,
                convolution: &$crate::kernel::PackedConv2d<Self>,
                epilogue: $crate::kernel::Epilogue,
                save_mask: bool,
            ) -> (Tensor<Self, 4>, Option<$crate::kernel::BackwardMask<Self>>) {
                $crate::kernel::cpu_backend::convolve(x, convolution, epilogue, save_mask)
            }

            fn convolve_backward(
                gradient: Tensor<Self, 4>,
                convolution: &$crate::kernel::PackedConv2d<Self>,
                epilogue: $crate::kernel::Epilogue,
                mask: Option<$crate::kernel::BackwardMask<Self>>,
                size: [usize; 2],
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::convolve_backward(gradient, convolution, epilogue, mask, size)
            }

            fn pool(
                x: Tensor<Self, 4>,
                pooling: $crate::kernel::Pooling,
                save_mask: bool,
            ) -> (Tensor<Self, 4>, Option<$crate::kernel::BackwardMask<Self>>) {
                $crate::kernel::cpu_backend::pool(x, pooling, save_mask)
            }

            fn pool_backward(
                gradient: Tensor<Self, 4>,
                pooling: $crate::kernel::Pooling,
                mask: Option<$crate::kernel::BackwardMask<Self>>,
                size: [usize; 2],
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::pool_backward(gradient, pooling, mask, size)
            }

            fn crop(x: Tensor<Self, 4>, area: $crate::rect::Rect) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::crop(x, area)
            }

            fn crop_backward(
                gradient: Tensor<Self, 4>,
                area: $crate::rect::Rect,
                size: [usize; 2],
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::crop_backward(gradient, area, size, sum)
            }

            fn conv1x1(
                x: Tensor<Self, 4>,
                matrix: Tensor<Self, 2>,
                bias: Option<Tensor<Self, 1>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::conv1x1(x, matrix, bias)
            }

            fn conv1x1_backward(
                gradient: Tensor<Self, 4>,
                matrix: Tensor<Self, 2>,
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::conv1x1_backward(gradient, matrix, sum)
            }

            fn gram(
                features: Tensor<Self, 4>,
                area: $crate::rect::Rect,
                _: $crate::kernel::Precision,
            ) -> Tensor<Self, 3> {
                $crate::kernel::cpu_backend::gram(features, area)
            }

            fn gram_backward(
                features: Tensor<Self, 4>,
                area: $crate::rect::Rect,
                gradient: Tensor<Self, 3>,
                sum: Option<Tensor<Self, 4>>,
                _: $crate::kernel::Precision,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::gram_backward(features, area, gradient, sum)
            }

            fn sample(
                features: Tensor<Self, 4>,
                points: &$crate::kernel::SamplePoints,
            ) -> Tensor<Self, 3> {
                $crate::kernel::cpu_backend::sample(features, points)
            }

            fn sample_backward(
                gradient: Tensor<Self, 3>,
                points: &$crate::kernel::SamplePoints,
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::sample_backward(gradient, points, sum)
            }

            fn column_products(
                columns: Tensor<Self, 3>,
                target: Tensor<Self, 3>,
            ) -> Tensor<Self, 3> {
                $crate::kernel::cpu_backend::column_products(columns, target)
            }

            fn column_products_backward(
                gradient: Tensor<Self, 3>,
                columns: Tensor<Self, 3>,
                target: Tensor<Self, 3>,
            ) -> Tensor<Self, 3> {
                $crate::kernel::cpu_backend::column_products_backward(gradient, columns, target)
            }

            fn nearest(
                queries: Tensor<Self, 2>,
                candidates: Tensor<Self, 2>,
            ) -> (Tensor<Self, 1, Int>, Tensor<Self, 1>) {
                $crate::kernel::cpu_backend::nearest(queries, candidates)
            }

            fn squared_distances(
                x: Tensor<Self, 2>,
                target: Tensor<Self, 2>,
                scale: f64,
            ) -> Tensor<Self, 1> {
                $crate::kernel::cpu_backend::squared_distances(x, target, scale)
            }

            fn squared_distances_backward(
                gradient: Tensor<Self, 1>,
                x: Tensor<Self, 2>,
                target: Tensor<Self, 2>,
                scale: f64,
            ) -> Tensor<Self, 2> {
                $crate::kernel::cpu_backend::squared_distances_backward(gradient, x, target, scale)
            }

            fn variation(
                x: Tensor<Self, 4>,
                pairs: &[$crate::kernel::PixelPairs],
                norm: $crate::kernel::VariationNorm,
            ) -> Tensor<Self, 1> {
                $crate::kernel::cpu_backend::variation(x, pairs, norm)
            }

            fn variation_backward(
                gradient: Tensor<Self, 1>,
                x: Tensor<Self, 4>,
                pairs: &[$crate::kernel::PixelPairs],
                norm: $crate::kernel::VariationNorm,
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::variation_backward(gradient, x, pairs, norm, sum)
            }

            fn curvature(
                gradient: Tensor<Self, 4>,
                previous: Tensor<Self, 4>,
                step: &Tensor<Self, 4>,
            ) -> (Tensor<Self, 4>, Tensor<Self, 1>) {
                $crate::kernel::cpu_backend::optimizers::curvature(gradient, previous, step)
            }

            fn two_loop(
                gradient: Tensor<Self, 4>,
                pairs: &std::collections::VecDeque<$crate::kernel::CurvaturePair<Self>>,
                scale: f64,
            ) -> Tensor<Self, 4> {
                $crate::kernel::cpu_backend::optimizers::two_loop(gradient, pairs, scale)
            }

            fn adam(
                image: Tensor<Self, 4>,
                gradient: Tensor<Self, 4>,
                moments: [Tensor<Self, 4>; 2],
                step: $crate::kernel::AdamStep,
            ) -> (Tensor<Self, 4>, [Tensor<Self, 4>; 2]) {
                $crate::kernel::cpu_backend::optimizers::adam(image, gradient, moments, step)
            }
        }
    };
}
pub(super) use impl_conv_ops;

/// A tensor of `f32`, all of which `fill` must write.
fn filled<B: CpuBackend, const D: usize>(
    shape: [usize; D],
    fill: impl FnOnce(&mut [f32]),
) -> Tensor<B, D> {
    let mut buffer = PooledBuffer::new(4 * shape.iter().product::<usize>());
    fill(buffer.values_mut());
    B::from_buffer(buffer, shape)
}

fn geometry<B: CpuBackend>(
    convolution: &PackedConv2d<B>,
    batch: usize,
    size: [usize; 2],
) -> Geometry {
    let [channels_out, channels_in, ..] = convolution.weight.dims();
    Geometry {
        batch,
        channels_in,
        channels_out,
        channels_projected: convolution
            .projection
            .as_ref()
            .map(|projection| projection.dims()[0]),
        height: size[0],
        width: size[1],
    }
}

pub(super) fn pack<B: CpuBackend>(weight: Tensor<B, 4>) -> Tensor<B, 1> {
    let [channels_out, channels_in, ..] = weight.dims();
    let Some(values) = B::floats(&weight) else {
        return reference::pack(weight);
    };
    let length = winograd::packed_len(channels_out, channels_in);
    filled([length], |packed| {
        winograd::pack(&values, channels_out, channels_in, packed);
    })
}

/// The values of a convolution's weights, if all of them are `f32`.
fn weights<B: CpuBackend>(convolution: &PackedConv2d<B>) -> Option<Weights<B::Floats>> {
    Some(Weights {
        packed: B::floats(&convolution.packed)?,
        bias: B::floats(&convolution.bias)?,
        projection: match &convolution.projection {
            Some(projection) => Some(B::floats(projection)?),
            None => None,
        },
    })
}

pub(super) fn convolve<B: CpuBackend>(
    x: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    epilogue: Epilogue,
    save_mask: bool,
) -> (Tensor<B, 4>, Option<BackwardMask<B>>) {
    let (Some(values), Some(weights)) = (B::floats(&x), weights(convolution)) else {
        return reference::convolve(x, convolution, epilogue, save_mask);
    };
    let [batch, _, height, width] = x.dims();
    let geometry = geometry(convolution, batch, [height, width]);
    let save_mask = save_mask && epilogue != Epilogue::None;
    let mut masks = save_mask.then(|| PooledBuffer::new(2 * geometry.mask_count()));
    let (height, width) = geometry.output_size(epilogue);
    let channels = geometry.output_channels();
    let output = filled([batch, channels, height, width], |output| {
        let masks = masks.as_mut().map(PooledBuffer::values_mut);
        convolution::forward(geometry, &values, &weights, epilogue, output, masks);
    });
    (output, masks.map(B::mask_from_buffer))
}

pub(super) fn convolve_backward<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    epilogue: Epilogue,
    mask: Option<BackwardMask<B>>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let (Some(values), Some(weights)) = (B::floats(&gradient), weights(convolution)) else {
        return reference::convolve_backward(gradient, convolution, epilogue, mask, size);
    };
    let [batch, ..] = gradient.dims();
    let geometry = geometry(convolution, batch, size);
    let masks = mask.as_ref().map(B::mask_bytes);
    let masks = masks.as_ref().map(|masks| bytemuck::cast_slice(masks));
    filled([batch, geometry.channels_in, size[0], size[1]], |output| {
        convolution::backward(geometry, &values, &weights, epilogue, masks, output);
    })
}

pub(super) fn pool<B: CpuBackend>(
    x: Tensor<B, 4>,
    pooling: Pooling,
    save_mask: bool,
) -> (Tensor<B, 4>, Option<BackwardMask<B>>) {
    let Some(values) = B::floats(&x) else {
        return reference::pool(x, pooling, save_mask);
    };
    let [batch, channels, height, width] = x.dims();
    let save_mask = save_mask && pooling == Pooling::Max;
    let mut argmax = save_mask.then(|| {
        PooledBuffer::new(batch * channels * pools::argmax_len((height / 2) * (width / 2)))
    });
    let output = filled([batch, channels, height / 2, width / 2], |output| {
        let argmax = argmax.as_deref_mut();
        pools::forward(&values, (height, width), pooling, output, argmax);
    });
    (output, argmax.map(B::mask_from_buffer))
}

pub(super) fn pool_backward<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    pooling: Pooling,
    mask: Option<BackwardMask<B>>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let Some(values) = B::floats(&gradient) else {
        return reference::pool_backward(gradient, pooling, mask, size);
    };
    let [batch, channels, ..] = gradient.dims();
    let argmax = mask.as_ref().map(B::mask_bytes);
    filled([batch, channels, size[0], size[1]], |output| {
        pools::backward(&values, (size[0], size[1]), argmax.as_deref(), output);
    })
}

pub(super) fn crop<B: CpuBackend>(x: Tensor<B, 4>, area: Rect) -> Tensor<B, 4> {
    let [batch, channels, height, width] = x.dims();
    let values = match batch * channels * area.count() {
        0 => None,
        _ => B::floats(&x),
    };
    let Some(values) = values else {
        return reference::crop(x, area);
    };
    filled([batch, channels, area.height, area.width], |output| {
        crops::forward(&values, [height, width], area, output);
    })
}

pub(super) fn crop_backward<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    area: Rect,
    size: [usize; 2],
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let Some(values) = some_floats(&gradient) else {
        return reference::crop_backward(gradient, area, size, sum);
    };
    let [batch, channels, ..] = gradient.dims();
    let backward = |planes: &mut [f32], add| crops::backward(&values, size, area, planes, add);
    match sum {
        Some(sum) => B::modify(sum, |planes| backward(planes, true)),
        None => filled([batch, channels, size[0], size[1]], |planes| {
            backward(planes, false);
        }),
    }
}

pub(super) fn conv1x1<B: CpuBackend>(
    x: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let (Some(values), Some(entries)) = (B::floats(&x), B::floats(&matrix)) else {
        return reference::conv1x1(x, matrix, bias);
    };
    let offsets = match bias.as_ref().map(B::floats) {
        Some(None) => return reference::conv1x1(x, matrix, bias),
        Some(offsets) => offsets,
        None => None,
    };
    let [batch, channels, height, width] = x.dims();
    let [rows, _] = matrix.dims();
    let entry = |row, channel| entries[row * channels + channel];
    let matrix = PackedMatrix::new(rows, channels, entry, offsets.as_deref());
    filled([batch, rows, height, width], |output| {
        matrix.apply(&values, output, Runs::whole(height * width), false);
    })
}

pub(super) fn conv1x1_backward<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let (Some(values), Some(entries)) = (B::floats(&gradient), B::floats(&matrix)) else {
        return reference::conv1x1_backward(gradient, matrix, sum);
    };
    let [batch, rows, height, width] = gradient.dims();
    let [_, channels] = matrix.dims();
    let entry = |channel, row| entries[row * channels + channel];
    let matrix = PackedMatrix::new(channels, rows, entry, None);
    let positions = Runs::whole(height * width);
    match sum {
        Some(sum) => B::modify(sum, |output| matrix.apply(&values, output, positions, true)),
        None => filled([batch, channels, height, width], |output| {
            matrix.apply(&values, output, positions, false);
        }),
    }
}

pub(super) fn gram<B: CpuBackend>(features: Tensor<B, 4>, area: Rect) -> Tensor<B, 3> {
    let values = match area.count() {
        0 => None,
        _ => some_floats(&features),
    };
    let Some(values) = values else {
        return reference::gram(features, area);
    };
    let [batch, channels, height, width] = features.dims();
    let area = Runs::new([height, width], area);
    let scale = 1.0 / area.positions() as f32;
    filled([batch, channels, channels], |output| {
        let images = values.chunks_exact(channels * area.plane);
        for (features, output) in images.zip(output.chunks_exact_mut(channels * channels)) {
            grams::gram(features, channels, area, scale, output);
        }
    })
}

pub(super) fn gram_backward<B: CpuBackend>(
    features: Tensor<B, 4>,
    area: Rect,
    gradient: Tensor<B, 3>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let values = match area.count() {
        0 => None,
        _ => some_floats(&features),
    };
    let (Some(values), Some(gradients)) = (values, B::floats(&gradient)) else {
        return reference::gram_backward(features, area, gradient, sum);
    };
    let [batch, channels, height, width] = features.dims();
    let area = Runs::new([height, width], area);
    let backward = |output: &mut [f32], add: bool| {
        let images = values.chunks_exact(channels * area.plane);
        let matrices = gradients.chunks_exact(channels * channels);
        let outputs = output.chunks_exact_mut(channels * area.plane);
        for ((features, matrix), output) in images.zip(matrices).zip(outputs) {
            grams::backward(matrix, features, channels, area, output, add);
        }
    };
    match sum {
        Some(sum) => B::modify(sum, |output| backward(output, true)),
        None => filled([batch, channels, height, width], |output| {
            if area.positions() < area.plane {
                output.fill(0.0);
            }
            backward(output, false);
        }),
    }
}

/// The values of a tensor, if they are `f32` and there are any.
fn some_floats<B: CpuBackend, const D: usize>(x: &Tensor<B, D>) -> Option<B::Floats> {
    match x.shape().num_elements() {
        0 => None,
        _ => B::floats(x),
    }
}

pub(super) fn sample<B: CpuBackend>(features: Tensor<B, 4>, points: &SamplePoints) -> Tensor<B, 3> {
    let values = match points.is_empty() {
        true => None,
        false => some_floats(&features),
    };
    let Some(values) = values else {
        return reference::sample(features, points);
    };
    let [batch, channels, height, width] = features.dims();
    assert_eq!([height, width], points.size());
    filled([batch, channels, points.len()], |output| {
        sample::forward(&values, height * width, points.corners(), output);
    })
}

pub(super) fn sample_backward<B: CpuBackend>(
    gradient: Tensor<B, 3>,
    points: &SamplePoints,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let Some(values) = some_floats(&gradient) else {
        return reference::sample_backward(gradient, points, sum);
    };
    let [batch, channels, _] = gradient.dims();
    let [height, width] = points.size();
    let backward = |planes: &mut [f32], add| {
        sample::backward(&values, points.corners(), planes, height * width, add);
    };
    match sum {
        Some(sum) => B::modify(sum, |planes| backward(planes, true)),
        None => filled([batch, channels, height, width], |planes| {
            backward(planes, false);
        }),
    }
}

pub(super) fn column_products<B: CpuBackend>(
    columns: Tensor<B, 3>,
    target: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let (Some(values), Some(targets)) = (some_floats(&columns), some_floats(&target)) else {
        return reference::column_products(columns, target);
    };
    let [batch, channels, samples] = columns.dims();
    assert_eq!(target.dims(), [1, channels, samples]);
    filled([batch, 2, samples], |output| {
        columns::products(&values, &targets, samples, output);
    })
}

pub(super) fn column_products_backward<B: CpuBackend>(
    gradient: Tensor<B, 3>,
    columns: Tensor<B, 3>,
    target: Tensor<B, 3>,
) -> Tensor<B, 3> {
    let gradients = some_floats(&gradient);
    let (Some(gradients), Some(values), Some(targets)) =
        (gradients, some_floats(&columns), some_floats(&target))
    else {
        return reference::column_products_backward(gradient, columns, target);
    };
    let [batch, channels, samples] = columns.dims();
    assert_eq!(gradient.dims(), [batch, 2, samples]);
    assert_eq!(target.dims(), [1, channels, samples]);
    filled(columns.dims(), |output| {
        columns::backward(&gradients, &values, &targets, samples, output);
    })
}

pub(super) fn nearest<B: CpuBackend>(
    queries: Tensor<B, 2>,
    candidates: Tensor<B, 2>,
) -> (Tensor<B, 1, Int>, Tensor<B, 1>) {
    let (Some(columns), Some(others)) = (some_floats(&queries), some_floats(&candidates)) else {
        return reference::nearest(queries, candidates);
    };
    let [values, n] = queries.dims();
    assert_eq!(candidates.dims()[0], values);
    let mut indices = vec![0; n];
    let products = filled([n], |products| {
        nearest::nearest(&columns, &others, values, &mut indices, products);
    });
    let indices = TensorData::new(indices, [n]);
    (Tensor::from_data(indices, &queries.device()), products)
}

pub(super) fn squared_distances<B: CpuBackend>(
    x: Tensor<B, 2>,
    target: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 1> {
    let (Some(values), Some(targets)) = (some_floats(&x), some_floats(&target)) else {
        return reference::squared_distances(x, target, scale);
    };
    let [batch, _] = x.dims();
    filled([batch], |output| {
        distances::forward(&values, &targets, scale as f32, output);
    })
}

pub(super) fn squared_distances_backward<B: CpuBackend>(
    gradient: Tensor<B, 1>,
    x: Tensor<B, 2>,
    target: Tensor<B, 2>,
    scale: f64,
) -> Tensor<B, 2> {
    let (gradients, targets) = (some_floats(&gradient), some_floats(&target));
    // That all is `f32` is known before anything of it is modified.
    let (Some(gradients), Some(targets), DType::F32) = (gradients, targets, x.dtype()) else {
        return reference::squared_distances_backward(gradient, x, target, scale);
    };
    B::modify(x, |x| {
        distances::backward(&gradients, &targets, scale as f32, x)
    })
}

pub(super) fn variation<B: CpuBackend>(
    x: Tensor<B, 4>,
    pairs: &[PixelPairs],
    norm: VariationNorm,
) -> Tensor<B, 1> {
    let Some(values) = some_floats(&x) else {
        return reference::variation(x, pairs, norm);
    };
    let [batch, channels, height, width] = x.dims();
    filled([batch], |output| {
        variations::forward(&values, channels, [height, width], pairs, norm, output);
    })
}

pub(super) fn variation_backward<B: CpuBackend>(
    gradient: Tensor<B, 1>,
    x: Tensor<B, 4>,
    pairs: &[PixelPairs],
    norm: VariationNorm,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [_, channels, height, width] = x.dims();
    let is_f32 = sum.as_ref().is_none_or(|sum| sum.dtype() == DType::F32);
    let (Some(gradients), Some(values), true) = (some_floats(&gradient), some_floats(&x), is_f32)
    else {
        return reference::variation_backward(gradient, x, pairs, norm, sum);
    };
    let size = [height, width];
    let add = |output: &mut [f32]| {
        variations::backward(&gradients, &values, channels, size, (pairs, norm), output);
    };
    match sum {
        Some(sum) => B::modify(sum, add),
        None => filled(x.dims(), |output| {
            output.fill(0.0);
            add(output);
        }),
    }
}
