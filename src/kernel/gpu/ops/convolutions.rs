//! Convolutions with their epilogues, forward and backward, and pools.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::halves::{Halves, launch_halves, pack_pixels};
use super::launch::{array, cubes, empty, input_vectors, one_each, optional, readable, vector};
use super::products::{conv1x1, conv1x1_backward};
use super::tensor_cores::{Factors, Layout, Mma, launch_mma, magnitudes};
use crate::kernel::gpu::input::mask_len;
use crate::kernel::gpu::pack::{self, Weights};
use crate::kernel::gpu::{conv, pool};
use crate::kernel::{Epilogue, Pooling, Precision};

/// Weights of both directions, `[channels_out, channels_in, 3, 3]`, packed one after the other.
pub fn pack<R: CubeRuntime>(weight: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
    let weight = into_contiguous(weight);
    let [channels_out, channels_in, ..] = weight.meta.shape().dims::<4>();
    let client = &weight.client;
    let forward = Layout::new(client, precision, channels_out, channels_in);
    let backward = Layout::new(client, precision, channels_in, channels_out);
    let dtype = match forward.factors {
        Some(_) => DType::F32,
        None => weight.dtype,
    };
    let lens = forward.len(9) + backward.len(9);
    // Behind both, the inverse of their scale.
    let packed = empty(&weight, [lens + 4], dtype);
    let magnitudes = (forward.factors == Some(Factors::Half)).then(|| magnitudes(&weight));
    for (layout, start, kind) in [
        (forward, 0, Weights::Forward),
        (backward, forward.len(9), Weights::Backward),
    ] {
        let len = layout.len(9);
        let (count, dim) = one_each(len);
        let (outputs, inputs) = (layout.channels_out, layout.channels_in);
        // SAFETY: units beyond `len` do nothing, and the sizes are those of the tensors.
        match layout.factors {
            Some(factors) => unsafe {
                let types = [weight.dtype.into(), factors.types()[0]];
                pack::pack_fragments::launch_unchecked::<R>(
                    client,
                    count,
                    dim,
                    array(&weight),
                    optional(magnitudes.as_ref()),
                    array(&packed),
                    start,
                    len,
                    outputs,
                    inputs,
                    len,
                    lens,
                    1.0,
                    9,
                    layout.order(factors),
                    kind,
                    types,
                );
            },
            None => unsafe {
                let block = conv::Tile::new(outputs).channels();
                pack::pack_blocks::launch_unchecked::<R>(
                    client,
                    count,
                    dim,
                    array(&weight),
                    array(&packed),
                    start,
                    len,
                    outputs,
                    inputs,
                    block,
                    9,
                    kind,
                    weight.dtype.into(),
                );
            },
        }
    }
    packed
}

/// One direction of a convolution.
#[derive(Clone, Copy)]
struct Direction {
    precision: Precision,
    channels_in: usize,
    channels_out: usize,
    height: usize,
    width: usize,
    undo: Epilogue,
    epilogue: Epilogue,
    is_backward: bool,
}

/// Launches a convolution of either direction; the result and its mask.
fn convolve_to<R: CubeRuntime>(
    x: CubeTensor<R>,
    undo_mask: Option<CubeTensor<R>>,
    packed: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    direction: Direction,
    save_mask: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let Direction {
        precision,
        channels_in,
        channels_out,
        height,
        width,
        undo,
        epilogue,
        is_backward,
    } = direction;
    let (x, packed) = (into_contiguous(x), into_contiguous(packed));
    let bias = bias.map(into_contiguous);
    let client = x.client.clone();
    let layout = Layout::new(&client, precision, channels_out, channels_in);
    // Undone before where several cubes would read the same values. Packing halves undoes it as well.
    let is_before = match layout.factors {
        Some(factors) => !factors.is_half(),
        None => channels_out > conv::Tile::new(channels_out).channels(),
    };
    let (x, undo_mask, undo) = match undo {
        Epilogue::Relu | Epilogue::ReluPool(_) if is_before => {
            let x = undone(x, undo_mask.as_ref(), undo, [height, width]);
            (x, None, Epilogue::None)
        }
        _ => (x, undo_mask, undo),
    };
    let [images, ..] = x.meta.shape().dims::<4>();
    let [rows, columns] = match epilogue {
        Epilogue::ReluPool(_) => [height / 2, width / 2],
        _ => [height, width],
    };
    let y = empty(&x, [images, channels_out, rows, columns], x.dtype);
    let mask = (save_mask && epilogue != Epilogue::None).then(|| {
        let len = mask_len(images * channels_out, height, width);
        empty(&x, [len], DType::U32)
    });
    if images * channels_out * height * width == 0 {
        return (y, mask);
    }
    let start = match is_backward {
        true => Layout::new(&client, precision, channels_in, channels_out).len(9),
        false => 0,
    };
    match layout.factors {
        Some(factors) if factors.is_half() => {
            let pixels = pack_pixels(
                x.clone(),
                undo_mask.as_ref(),
                undo,
                [height, width],
                factors,
            );
            launch_halves(Halves {
                factors,
                x: &pixels,
                packed: &packed,
                bias: bias.as_ref(),
                y: &y,
                mask: mask.as_ref(),
                start,
                channels_in,
                channels_out,
                size: [height, width],
                epilogue,
            });
        }
        Some(factors) => launch_mma(Mma {
            factors,
            x: &x,
            packed: &packed,
            bias: bias.as_ref(),
            y: &y,
            mask: mask.as_ref(),
            start,
            image_len: 0,
            channels_in,
            channels_out,
            size: [height, width],
            taps: 9,
            epilogue,
            accumulate: false,
        }),
        None => {
            let tile = conv::Tile::new(channels_out);
            let [across, down, blocks] = tile.count(channels_out, height, width);
            // SAFETY: as above.
            unsafe {
                conv::convolve::launch_unchecked::<R>(
                    &client,
                    cubes([across, down, blocks * images]),
                    CubeDim::new_1d(tile.units() as u32),
                    vector(columns, 4),
                    array(&x),
                    optional(undo_mask.as_ref()),
                    array(&packed),
                    optional(bias.as_ref()),
                    array(&y),
                    optional(mask.as_ref()),
                    start,
                    channels_in,
                    channels_out,
                    height,
                    width,
                    undo,
                    epilogue,
                    tile,
                    x.dtype.into(),
                );
            }
        }
    }
    (y, mask)
}

/// The weights of a convolution as the launches need them.
pub struct Weighted<R: CubeRuntime> {
    /// See [`pack`].
    pub packed: CubeTensor<R>,
    /// `[channels_out]`.
    pub bias: CubeTensor<R>,
    /// `[channels_projected, channels_out]`.
    pub projection: Option<CubeTensor<R>>,
    /// That of the packing.
    pub precision: Precision,
    /// Channels before the projection.
    pub channels_out: usize,
    /// Channels of the input.
    pub channels_in: usize,
}

/// See [`ConvOps::convolve`](crate::kernel::ConvOps::convolve).
pub fn convolve<R: CubeRuntime>(
    x: CubeTensor<R>,
    weights: Weighted<R>,
    epilogue: Epilogue,
    save_mask: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let [_, _, height, width] = x.meta.shape().dims::<4>();
    let precision = weights.precision;
    let direction = Direction {
        precision,
        channels_in: weights.channels_in,
        channels_out: weights.channels_out,
        height,
        width,
        undo: Epilogue::None,
        epilogue,
        is_backward: false,
    };
    let (y, mask) = convolve_to(
        x,
        None,
        weights.packed,
        Some(weights.bias),
        direction,
        save_mask,
    );
    match weights.projection {
        Some(matrix) => (conv1x1(y, matrix, None, precision), mask),
        None => (y, mask),
    }
}

/// See [`ConvOps::convolve_backward`](crate::kernel::ConvOps::convolve_backward).
pub fn convolve_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    weights: Weighted<R>,
    epilogue: Epilogue,
    mask: Option<CubeTensor<R>>,
    [height, width]: [usize; 2],
) -> CubeTensor<R> {
    let gradient = match weights.projection {
        Some(matrix) => conv1x1_backward(gradient, matrix, None, weights.precision),
        None => gradient,
    };
    let direction = Direction {
        precision: weights.precision,
        channels_in: weights.channels_out,
        channels_out: weights.channels_in,
        height,
        width,
        undo: epilogue,
        epilogue: Epilogue::None,
        is_backward: true,
    };
    convolve_to(gradient, mask, weights.packed, None, direction, false).0
}

/// See [`ConvOps::pool`](crate::kernel::ConvOps::pool).
pub fn pool<R: CubeRuntime>(
    x: CubeTensor<R>,
    pooling: Pooling,
    save_mask: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let x = into_contiguous(x);
    let [images, channels, height, width] = x.meta.shape().dims::<4>();
    let y = empty(&x, [images, channels, height / 2, width / 2], x.dtype);
    let planes = images * channels;
    let mask = (save_mask && pooling == Pooling::Max)
        .then(|| empty(&x, [mask_len(planes, height, width)], DType::U32));
    if planes * height * width > 0 {
        let (count, dim) = one_each(mask_len(planes, height, width));
        // SAFETY: units beyond the last block do nothing.
        unsafe {
            pool::pool::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                array(&x),
                array(&y),
                optional(mask.as_ref()),
                planes,
                height,
                width,
                pooling,
                x.dtype.into(),
            );
        }
    }
    (y, mask)
}

/// See [`ConvOps::pool_backward`](crate::kernel::ConvOps::pool_backward).
pub fn pool_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    pooling: Pooling,
    mask: Option<CubeTensor<R>>,
    size: [usize; 2],
) -> CubeTensor<R> {
    let gradient = into_contiguous(gradient);
    undone(gradient, mask.as_ref(), Epilogue::ReluPool(pooling), size)
}

/// The gradient that an epilogue passes on to its input, of `height` × `width`.
fn undone<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    mask: Option<&CubeTensor<R>>,
    epilogue: Epilogue,
    [height, width]: [usize; 2],
) -> CubeTensor<R> {
    let [images, channels, ..] = gradient.meta.shape().dims::<4>();
    let x = empty(&gradient, [images, channels, height, width], gradient.dtype);
    let gradient = readable(gradient);
    let [of_gradient, size] = input_vectors(epilogue, width);
    let vectors = x.meta.num_elements() / size;
    let (count, dim) = one_each(vectors);
    // SAFETY: units beyond the last vector do nothing.
    unsafe {
        pool::undo::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            of_gradient,
            size,
            array(&gradient),
            optional(mask),
            array(&x),
            vectors,
            height,
            width,
            epilogue,
            gradient.dtype.into(),
        );
    }
    x
}
