//! The CPU engine on tensors: for backends whose values lie in this machine's memory.

use std::ops::Deref;

use burn::tensor::{Tensor, backend};

use super::cpu::convolution::{self, Geometry, Weights};
use super::cpu::memory::Recycled;
use super::cpu::{gram as grams, mix as mixes, pool as pools, winograd};
use super::{Epilogue, Mask, PackedConv2d, Pooling, plain};

/// How a backend's tensors are read and made.
pub(super) trait Host: backend::Backend {
    /// The values of a tensor one after another.
    type Floats: Deref<Target = [f32]>;
    /// The bytes of a mask.
    type Bytes: Deref<Target = [u8]>;

    /// The values of a tensor, if they are `f32`.
    fn floats<const D: usize>(x: &Tensor<Self, D>) -> Option<Self::Floats>;

    /// A tensor of these `f32`.
    fn tensor<const D: usize>(memory: Recycled, shape: [usize; D]) -> Tensor<Self, D>;

    /// The tensor with its values changed, in place if nobody else holds it.
    fn change<const D: usize>(
        x: Tensor<Self, D>,
        change: impl FnOnce(&mut [f32]),
    ) -> Tensor<Self, D>;

    /// The bytes that [`mask`](Self::mask) was made of.
    fn bytes(mask: &Mask<Self>) -> Self::Bytes;

    /// A tensor of bytes.
    fn mask(memory: Recycled) -> Mask<Self>;
}

/// Implements [`ConvOps`](super::ConvOps) for a [`Host`].
macro_rules! host_engine {
    ([$($generics:tt)*] $backend:ty, $($bounds:tt)*) => {
        impl<$($generics)*> $crate::kernel::ConvOps for $backend $($bounds)* {
            fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
                $crate::kernel::host::pack(weight)
            }

            fn convolve(
                x: Tensor<Self, 4>,
                convolution: &$crate::kernel::PackedConv2d<Self>,
                then: $crate::kernel::Epilogue,
                keep: bool,
            ) -> (Tensor<Self, 4>, Option<Mask<Self>>) {
                $crate::kernel::host::convolve(x, convolution, then, keep)
            }

            fn convolve_backward(
                gradient: Tensor<Self, 4>,
                convolution: &$crate::kernel::PackedConv2d<Self>,
                then: $crate::kernel::Epilogue,
                mask: Option<Mask<Self>>,
                size: [usize; 2],
            ) -> Tensor<Self, 4> {
                $crate::kernel::host::convolve_backward(gradient, convolution, then, mask, size)
            }

            fn pool(
                x: Tensor<Self, 4>,
                pooling: $crate::kernel::Pooling,
                keep: bool,
            ) -> (Tensor<Self, 4>, Option<Mask<Self>>) {
                $crate::kernel::host::pool(x, pooling, keep)
            }

            fn pool_backward(
                gradient: Tensor<Self, 4>,
                pooling: $crate::kernel::Pooling,
                mask: Option<Mask<Self>>,
                size: [usize; 2],
            ) -> Tensor<Self, 4> {
                $crate::kernel::host::pool_backward(gradient, pooling, mask, size)
            }

            fn conv1x1(
                x: Tensor<Self, 4>,
                matrix: Tensor<Self, 2>,
                bias: Option<Tensor<Self, 1>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::host::conv1x1(x, matrix, bias)
            }

            fn conv1x1_backward(
                gradient: Tensor<Self, 4>,
                matrix: Tensor<Self, 2>,
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::host::conv1x1_backward(gradient, matrix, sum)
            }

            fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3> {
                $crate::kernel::host::gram(features)
            }

            fn gram_backward(
                features: Tensor<Self, 4>,
                gradient: Tensor<Self, 3>,
                sum: Option<Tensor<Self, 4>>,
            ) -> Tensor<Self, 4> {
                $crate::kernel::host::gram_backward(features, gradient, sum)
            }
        }
    };
}
pub(super) use host_engine;

/// A tensor of `f32` that `fill` overwrites whole.
fn filled<B: Host, const D: usize>(
    shape: [usize; D],
    fill: impl FnOnce(&mut [f32]),
) -> Tensor<B, D> {
    let mut memory = Recycled::new(4 * shape.iter().product::<usize>());
    fill(memory.values_mut());
    B::tensor(memory, shape)
}

fn geometry<B: Host>(convolution: &PackedConv2d<B>, batch: usize, size: [usize; 2]) -> Geometry {
    let [channels_out, channels_in, ..] = convolution.weight.dims();
    Geometry {
        batch,
        channels_in,
        channels_out,
        mixed: convolution.projection.as_ref().map(|mix| mix.dims()[0]),
        height: size[0],
        width: size[1],
    }
}

pub(super) fn pack<B: Host>(weight: Tensor<B, 4>) -> Tensor<B, 1> {
    let [channels_out, channels_in, ..] = weight.dims();
    let Some(values) = B::floats(&weight) else {
        return plain::pack(weight);
    };
    let length = winograd::packed_len(channels_out, channels_in);
    filled([length], |packed| {
        winograd::pack(&values, channels_out, channels_in, packed);
    })
}

/// The values of a convolution's weights.
struct Values<B: Host> {
    packed: B::Floats,
    bias: B::Floats,
    mix: Option<B::Floats>,
}

impl<B: Host> Values<B> {
    /// Those of `convolution`, if all of them are for the engine.
    fn of(convolution: &PackedConv2d<B>) -> Option<Self> {
        Some(Self {
            packed: B::floats(&convolution.packed)?,
            bias: B::floats(&convolution.bias)?,
            mix: match &convolution.projection {
                Some(mix) => Some(B::floats(mix)?),
                None => None,
            },
        })
    }

    fn weights(&self) -> Weights<'_> {
        Weights {
            packed: &self.packed,
            bias: &self.bias,
            mix: self.mix.as_deref().unwrap_or(&[]),
        }
    }
}

pub(super) fn convolve<B: Host>(
    x: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    then: Epilogue,
    keep: bool,
) -> (Tensor<B, 4>, Option<Mask<B>>) {
    let (Some(values), Some(weights)) = (B::floats(&x), Values::of(convolution)) else {
        return plain::convolve(x, convolution, then, keep);
    };
    let [batch, _, height, width] = x.dims();
    let geometry = geometry(convolution, batch, [height, width]);
    let keep = keep && then != Epilogue::None;
    let mut masks = keep.then(|| Recycled::new(2 * geometry.masks()));
    let (height, width) = geometry.after(then);
    let weights = weights.weights();
    let channels = geometry.channels_after();
    let output = filled([batch, channels, height, width], |output| {
        let masks = masks.as_mut().map(Recycled::values_mut);
        convolution::forward(geometry, &values, weights, then, output, masks);
    });
    (output, masks.map(B::mask))
}

pub(super) fn convolve_backward<B: Host>(
    gradient: Tensor<B, 4>,
    convolution: &PackedConv2d<B>,
    then: Epilogue,
    mask: Option<Mask<B>>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let (Some(values), Some(weights)) = (B::floats(&gradient), Values::of(convolution)) else {
        return plain::convolve_backward(gradient, convolution, then, mask, size);
    };
    let [batch, ..] = gradient.dims();
    let geometry = geometry(convolution, batch, size);
    let masks = mask.as_ref().map(B::bytes);
    let masks = masks.as_ref().map(|masks| bytemuck::cast_slice(masks));
    filled([batch, geometry.channels_in, size[0], size[1]], |output| {
        convolution::backward(geometry, &values, weights.weights(), then, masks, output);
    })
}

pub(super) fn pool<B: Host>(
    x: Tensor<B, 4>,
    pooling: Pooling,
    keep: bool,
) -> (Tensor<B, 4>, Option<Mask<B>>) {
    let Some(values) = B::floats(&x) else {
        return plain::pool(x, pooling, keep);
    };
    let [batch, channels, height, width] = x.dims();
    let keep = keep && pooling == Pooling::Max;
    let mut winners = keep
        .then(|| Recycled::new(batch * channels * pools::winners_len((height / 2) * (width / 2))));
    let output = filled([batch, channels, height / 2, width / 2], |output| {
        let winners = winners.as_deref_mut();
        pools::forward(&values, (height, width), pooling, output, winners);
    });
    (output, winners.map(B::mask))
}

pub(super) fn pool_backward<B: Host>(
    gradient: Tensor<B, 4>,
    pooling: Pooling,
    mask: Option<Mask<B>>,
    size: [usize; 2],
) -> Tensor<B, 4> {
    let Some(values) = B::floats(&gradient) else {
        return plain::pool_backward(gradient, pooling, mask, size);
    };
    let [batch, channels, ..] = gradient.dims();
    let winners = mask.as_ref().map(B::bytes);
    filled([batch, channels, size[0], size[1]], |output| {
        pools::backward(&values, (size[0], size[1]), winners.as_deref(), output);
    })
}

pub(super) fn conv1x1<B: Host>(
    x: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 4> {
    let (Some(values), Some(entries)) = (B::floats(&x), B::floats(&matrix)) else {
        return plain::conv1x1(x, matrix, bias);
    };
    let offsets = match bias.as_ref().map(B::floats) {
        Some(None) => return plain::conv1x1(x, matrix, bias),
        Some(offsets) => offsets,
        None => None,
    };
    let [batch, channels, height, width] = x.dims();
    let [rows, _] = matrix.dims();
    let entry = |row, channel| entries[row * channels + channel];
    let matrix = mixes::Matrix::new(rows, channels, entry, offsets.as_deref());
    filled([batch, rows, height, width], |output| {
        matrix.apply(&values, output, height * width, false);
    })
}

pub(super) fn conv1x1_backward<B: Host>(
    gradient: Tensor<B, 4>,
    matrix: Tensor<B, 2>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let (Some(values), Some(entries)) = (B::floats(&gradient), B::floats(&matrix)) else {
        return plain::conv1x1_backward(gradient, matrix, sum);
    };
    let [batch, rows, height, width] = gradient.dims();
    let [_, channels] = matrix.dims();
    let entry = |channel, row| entries[row * channels + channel];
    let matrix = mixes::Matrix::new(channels, rows, entry, None);
    let positions = height * width;
    match sum {
        Some(sum) => B::change(sum, |output| matrix.apply(&values, output, positions, true)),
        None => filled([batch, channels, height, width], |output| {
            matrix.apply(&values, output, positions, false);
        }),
    }
}

pub(super) fn gram<B: Host>(features: Tensor<B, 4>) -> Tensor<B, 3> {
    let [batch, channels, height, width] = features.dims();
    let positions = height * width;
    let values = match channels * positions {
        0 => None,
        _ => B::floats(&features),
    };
    let Some(values) = values else {
        return plain::gram(features);
    };
    let scale = 1.0 / positions as f32;
    filled([batch, channels, channels], |output| {
        let images = values.chunks_exact(channels * positions);
        for (features, output) in images.zip(output.chunks_exact_mut(channels * channels)) {
            grams::gram(features, channels, positions, scale, output);
        }
    })
}

pub(super) fn gram_backward<B: Host>(
    features: Tensor<B, 4>,
    gradient: Tensor<B, 3>,
    sum: Option<Tensor<B, 4>>,
) -> Tensor<B, 4> {
    let [batch, channels, height, width] = features.dims();
    let positions = height * width;
    let values = match channels * positions {
        0 => None,
        _ => B::floats(&features),
    };
    let (Some(values), Some(gradients)) = (values, B::floats(&gradient)) else {
        return plain::gram_backward(features, gradient, sum);
    };
    let add = |output: &mut [f32]| {
        let images = values.chunks_exact(channels * positions);
        let matrices = gradients.chunks_exact(channels * channels);
        let outputs = output.chunks_exact_mut(channels * positions);
        for ((features, matrix), output) in images.zip(matrices).zip(outputs) {
            grams::backward(matrix, features, channels, positions, output);
        }
    };
    match sum {
        Some(sum) => B::change(sum, add),
        None => filled([batch, channels, height, width], |output| {
            output.fill(0.0);
            add(output);
        }),
    }
}
