//! The operations on Burn's GPU tensors: sizes, launches, and the choice between kernels.

use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeRuntime, cubecl};
use cubecl::features::MmaConfig;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;

use super::gemm::{self, Product, SizesLaunch};
use super::input::mask_len;
use super::mma::{self, MmaTile};
use super::pack::{self, Weights};
use super::{conv, pool};
use crate::kernel::{Epilogue, Pooling, Precision};

/// Units of cubes that have one unit for each value.
const UNITS: usize = 256;
/// Cubes along one axis, which every GPU can launch.
const MAX_CUBES: usize = 32768;
/// Cubes that fill a GPU, between which a Gram matrix divides its positions. The same on all, so that
/// results do not depend on it.
const GRAM_CUBES: usize = 1024;

/// Whether the kernels take values of a type.
pub fn takes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The weights of a convolution, packed for a kernel.
#[derive(Clone, Copy)]
struct Layout {
    /// The type of the factors on tensor cores, if they are used.
    factors: Option<FloatKind>,
    channels_out: usize,
    channels_in: usize,
}

impl Layout {
    /// For `channels_out` and `channels_in` of one direction.
    fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        precision: Precision,
        channels_out: usize,
        channels_in: usize,
    ) -> Self {
        Self {
            factors: factors(client, precision),
            channels_out,
            channels_in,
        }
    }

    /// Output channels with those added that fill the last block.
    fn padded(self) -> usize {
        let block = match self.factors {
            Some(_) => mma_channels(self.channels_out),
            None => conv::Tile::new(self.channels_out).channels(),
        };
        self.channels_out.next_multiple_of(block)
    }

    /// Values of packed weights for `taps`: words on tensor cores.
    fn len(self, taps: usize) -> usize {
        match self.factors {
            Some(kind) => self.padded() / 16 * self.channels_in.div_ceil(depth(kind)) * taps * 256,
            None => self.padded() * self.channels_in * taps,
        }
    }
}

/// Input channels of a step of a tensor-core convolution.
fn depth(kind: FloatKind) -> usize {
    match kind {
        FloatKind::TF32 => 16,
        _ => 32,
    }
}

/// The type of the factors on the device's tensor cores that a precision allows.
pub fn factors<R: CubeRuntime>(
    client: &ComputeClient<R>,
    precision: Precision,
) -> Option<FloatKind> {
    let (kind, k) = match precision {
        Precision::F32 => return None,
        Precision::Tf32 => (FloatKind::TF32, 8),
        Precision::Bf16 => (FloatKind::BF16, 16),
    };
    let factor: StorageType = ElemType::Float(kind).into();
    let config = MmaConfig {
        a_type: factor,
        b_type: factor,
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: 16,
        n: 8,
        k,
    };
    let properties = client.properties();
    let hardware = &properties.hardware;
    let fits = hardware.plane_size_min == 32 && hardware.plane_size_max == 32;
    (fits && properties.features.matmul.mma.contains(&config)).then_some(kind)
}

/// Output channels of a cube of a tensor-core convolution.
fn mma_channels(channels_out: usize) -> usize {
    channels_out.next_power_of_two().clamp(16, 128)
}

/// The tile of a tensor-core convolution.
fn mma_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    channels_out: usize,
    images: usize,
    height: usize,
    width: usize,
) -> MmaTile {
    let tile = |fragments, blocks, planes_of_channels, planes_of_rows| MmaTile {
        fragments,
        blocks,
        planes_of_channels,
        planes_of_rows,
    };
    let candidates = match mma_channels(channels_out) {
        128 => [tile(4, 2, 2, 4), tile(4, 1, 2, 4)],
        64 => [tile(2, 2, 2, 4), tile(2, 1, 2, 4)],
        32 => [tile(2, 2, 1, 8), tile(2, 1, 1, 4)],
        _ => [tile(1, 2, 1, 8), tile(1, 1, 1, 4)],
    };
    // Small images take small tiles, so that all multiprocessors have work.
    let processors = client
        .properties()
        .hardware
        .num_streaming_multiprocessors
        .unwrap_or(64) as usize;
    let cubes = |tile: MmaTile| {
        tile.count(channels_out, height, width)
            .iter()
            .product::<usize>()
            * images
    };
    let fills = |tile: &MmaTile| cubes(*tile) >= 2 * processors;
    let [large, small] = candidates;
    Some(large).filter(fills).unwrap_or(small)
}

fn empty<R: CubeRuntime>(
    like: &CubeTensor<R>,
    shape: impl Into<Shape>,
    dtype: DType,
) -> CubeTensor<R> {
    let shape = shape.into();
    let handle = like.client.empty(shape.num_elements() * dtype.size());
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

/// The values of a contiguous tensor.
fn array<R: CubeRuntime>(tensor: &CubeTensor<R>) -> ArrayArg<R> {
    // SAFETY: the length is that of the buffer.
    unsafe { ArrayArg::from_raw_parts(tensor.handle.clone(), tensor.meta.num_elements()) }
}

fn optional<R: CubeRuntime, T: LaunchArg<RuntimeArg<R> = ArrayArg<R>>>(
    tensor: Option<&CubeTensor<R>>,
) -> ComptimeOptionArgs<T, R> {
    tensor.map(array).into()
}

/// Cubes with one unit for each of `count` values.
fn one_each(count: usize) -> (CubeCount, CubeDim) {
    let cubes = count.div_ceil(UNITS).max(1);
    let columns = cubes.min(MAX_CUBES);
    let count = CubeCount::Static(columns as u32, cubes.div_ceil(columns) as u32, 1);
    (count, CubeDim::new_1d(UNITS as u32))
}

fn cubes([x, y, z]: [usize; 3]) -> CubeCount {
    CubeCount::Static(x as u32, y as u32, z as u32)
}

/// The widest vectors, up to `widest`, that divide rows of `width` values.
fn vector(width: usize, widest: usize) -> usize {
    [4, 2, 1]
        .into_iter()
        .find(|&n| n <= widest && width.is_multiple_of(n))
        .unwrap_or(1)
}

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
    let packed = empty(&weight, [forward.len(9) + backward.len(9)], dtype);
    for (layout, start, kind) in [
        (forward, 0, Weights::Forward),
        (backward, forward.len(9), Weights::Backward),
    ] {
        let len = layout.len(9);
        let (count, dim) = one_each(len);
        let (outputs, inputs) = (layout.channels_out, layout.channels_in);
        // SAFETY: units beyond `len` do nothing, and the sizes are those of the tensors.
        match layout.factors {
            Some(factor) => unsafe {
                let types = [weight.dtype.into(), ElemType::Float(factor).into()];
                pack::pack_fragments::launch_unchecked::<R>(
                    client,
                    count,
                    dim,
                    array(&weight),
                    array(&packed),
                    start,
                    len,
                    outputs,
                    inputs,
                    len,
                    1.0,
                    9,
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
    let layout = Layout::new(&client, precision, channels_out, channels_in);
    let start = match is_backward {
        true => Layout::new(&client, precision, channels_in, channels_out).len(9),
        false => 0,
    };
    match layout.factors {
        Some(factor) => {
            let tile = mma_tile(&client, channels_out, images, height, width);
            let [across, down, blocks] = tile.count(channels_out, height, width);
            let widest = if matches!(epilogue, Epilogue::ReluPool(_)) {
                1
            } else {
                2
            };
            let types = [x.dtype.into(), ElemType::Float(factor).into()];
            // SAFETY: `tile.count` covers the result, and the kernel writes nothing outside of it.
            unsafe {
                mma::convolve_mma::launch_unchecked::<R>(
                    &client,
                    cubes([across, down, blocks * images]),
                    CubeDim::new_1d(tile.units() as u32),
                    vector(columns, widest),
                    array(&x),
                    optional(undo_mask.as_ref()),
                    array(&packed),
                    optional(bias.as_ref()),
                    array(&y),
                    optional(mask.as_ref()),
                    start / 4,
                    0,
                    channels_in,
                    channels_out,
                    height,
                    width,
                    9,
                    undo,
                    epilogue,
                    false,
                    tile,
                    types,
                );
            }
        }
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
    let direction = Direction {
        precision: weights.precision,
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
        Some(matrix) => (conv1x1(y, matrix, None), mask),
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
        Some(matrix) => conv1x1_backward(gradient, matrix, None),
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
    [height, width]: [usize; 2],
) -> CubeTensor<R> {
    let gradient = into_contiguous(gradient);
    let [images, channels, ..] = gradient.meta.shape().dims::<4>();
    let x = empty(&gradient, [images, channels, height, width], gradient.dtype);
    let values = x.meta.num_elements();
    if values > 0 {
        let (count, dim) = one_each(values);
        // SAFETY: units beyond the last value do nothing.
        unsafe {
            pool::pool_backward::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                array(&gradient),
                optional(mask.as_ref()),
                array(&x),
                height,
                width,
                pooling,
                x.dtype.into(),
            );
        }
    }
    x
}

/// A product of a matrix and the channels of all positions.
struct Multiply<R: CubeRuntime> {
    matrix: CubeTensor<R>,
    x: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    sum: Option<CubeTensor<R>>,
    rows: usize,
    /// Values of the matrix from one image to the next.
    matrix_stride: usize,
    kind: Product,
    scale: f32,
}

/// `scale · matrix · x`, `[batch, rows, height, width]`, plus a bias or added to `sum`.
fn multiply<R: CubeRuntime>(multiply: Multiply<R>) -> CubeTensor<R> {
    let (matrix, x) = (
        into_contiguous(multiply.matrix),
        into_contiguous(multiply.x),
    );
    let bias = multiply.bias.map(into_contiguous);
    let [images, terms, height, width] = x.meta.shape().dims::<4>();
    let columns = height * width;
    let shape = [images, multiply.rows, height, width];
    let accumulate = multiply.sum.is_some();
    let y = match multiply.sum.map(into_contiguous) {
        Some(sum) if sum.can_mut() => sum,
        Some(sum) => sum.copy(),
        None => empty(&x, shape, x.dtype),
    };
    if images * multiply.rows * columns == 0 {
        return y;
    }
    let across = columns.div_ceil(gemm::SIDE);
    let count = [
        across.min(MAX_CUBES),
        across.div_ceil(MAX_CUBES),
        multiply.rows.div_ceil(gemm::SIDE) * images,
    ];
    let sizes = SizesLaunch::new(
        multiply.rows,
        columns,
        terms,
        terms,
        1,
        multiply.matrix_stride,
    );
    let types = [x.dtype.into(), y.dtype.into()];
    // SAFETY: cubes beyond the last tile do nothing, and nothing is written outside of `y`.
    unsafe {
        gemm::multiply::launch_unchecked::<R>(
            &x.client,
            cubes(count),
            CubeDim::new_1d(gemm::UNITS as u32),
            array(&matrix),
            array(&x),
            optional(bias.as_ref()),
            array(&y),
            sizes,
            multiply.scale,
            multiply.kind,
            accumulate,
            types,
        );
    }
    y
}

/// See [`ConvOps::conv1x1`](crate::kernel::ConvOps::conv1x1).
pub fn conv1x1<R: CubeRuntime>(
    x: CubeTensor<R>,
    matrix: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    multiply(Multiply {
        rows: matrix.meta.shape()[0],
        matrix,
        x,
        bias,
        sum: None,
        matrix_stride: 0,
        kind: Product::Plain,
        scale: 1.0,
    })
}

/// See [`ConvOps::conv1x1_backward`](crate::kernel::ConvOps::conv1x1_backward).
pub fn conv1x1_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    matrix: CubeTensor<R>,
    sum: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    multiply(Multiply {
        rows: matrix.meta.shape()[1],
        matrix,
        x: gradient,
        bias: None,
        sum,
        matrix_stride: 0,
        kind: Product::Transposed,
        scale: 1.0,
    })
}

/// See [`ConvOps::gram`](crate::kernel::ConvOps::gram).
pub fn gram<R: CubeRuntime>(features: CubeTensor<R>) -> CubeTensor<R> {
    let features = into_contiguous(features);
    let [images, channels, height, width] = features.meta.shape().dims::<4>();
    let positions = height * width;
    let grams = empty(&features, [images, channels, channels], features.dtype);
    let tiles = channels.div_ceil(gemm::SIDE);
    let splits = (GRAM_CUBES / (tiles * (tiles + 1) / 2))
        .clamp(1, positions.div_ceil(16 * gemm::DEPTH).max(1));
    let split = positions.div_ceil(splits).next_multiple_of(gemm::DEPTH);
    let splits = positions.div_ceil(split);
    let partial = empty(&features, [splits, images, channels, channels], DType::F32);
    let sizes = SizesLaunch::new(
        channels,
        channels,
        positions,
        split,
        splits,
        channels * positions,
    );
    let types = [features.dtype.into(), DType::F32.into()];
    let (count, dim) = one_each(grams.meta.num_elements());
    // SAFETY: nothing is written outside of `partial` and `grams`; what is not written is not read.
    unsafe {
        gemm::multiply::launch_unchecked::<R>(
            &features.client,
            cubes([tiles, 1, tiles * splits * images]),
            CubeDim::new_1d(gemm::UNITS as u32),
            array(&features),
            array(&features),
            ComptimeOptionArgs::None,
            array(&partial),
            sizes,
            1.0,
            Product::Gram,
            false,
            types,
        );
        gemm::sum_gram::launch_unchecked::<R>(
            &features.client,
            count,
            dim,
            array(&partial),
            array(&grams),
            channels,
            splits,
            1.0 / positions as f32,
            features.dtype.into(),
        );
    }
    grams
}

/// See [`ConvOps::gram_backward`](crate::kernel::ConvOps::gram_backward).
pub fn gram_backward<R: CubeRuntime>(
    features: CubeTensor<R>,
    gradient: CubeTensor<R>,
    sum: Option<CubeTensor<R>>,
) -> CubeTensor<R> {
    let [_, channels, height, width] = features.meta.shape().dims::<4>();
    multiply(Multiply {
        rows: channels,
        matrix: gradient,
        x: features,
        bias: None,
        sum,
        matrix_stride: channels * channels,
        kind: Product::Symmetric,
        scale: 1.0 / (height * width) as f32,
    })
}
