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
use super::lbfgs::{self, Turn};
use super::mma::{self, MmaTile};
use super::pack::{self, Weights};
use super::{conv, distance, gram_mma, pool, scale};
use crate::kernel::{Epilogue, Pooling, Precision};

/// Units of cubes that have one unit for each value.
const UNITS: usize = 256;
/// Cubes along one axis, which every GPU can launch.
const MAX_CUBES: usize = 32768;
/// Planes that fill a GPU, between which a Gram matrix divides its positions. The same on all, so that
/// results do not depend on it.
const GRAM_PLANES: usize = 2048;

/// How tensor cores multiply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// In f16, each tensor with a scale: the bits of TF32.
    Half,
    /// In bfloat16.
    Bf16,
    /// In TF32.
    Tf32,
    /// As sums of two in TF32: nearly single precision.
    Split,
}

impl Factors {
    /// The type in which they are stored, and that of the factors.
    fn types(self) -> [StorageType; 2] {
        let types = match self {
            Self::Half => [FloatKind::F16, FloatKind::F16],
            Self::Bf16 => [FloatKind::BF16, FloatKind::BF16],
            Self::Tf32 => [FloatKind::TF32, FloatKind::TF32],
            Self::Split => [FloatKind::F32, FloatKind::TF32],
        };
        types.map(|kind| ElemType::Float(kind).into())
    }

    /// Input channels of a step of a convolution.
    fn depth(self) -> usize {
        match self {
            Self::Split | Self::Tf32 => 16,
            Self::Half | Self::Bf16 => 32,
        }
    }
}

/// Whether the kernels take values of a type.
pub fn takes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// The weights of a convolution, packed for a kernel.
#[derive(Clone, Copy)]
struct Layout {
    /// The type of the factors on tensor cores, if they are used.
    factors: Option<Factors>,
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
            Some(factors) => {
                self.padded() / 16 * self.channels_in.div_ceil(factors.depth()) * taps * 256
            }
            None => self.padded() * self.channels_in * taps,
        }
    }
}

/// How the device's tensor cores multiply in 3×3 convolutions, if it has some that do for a precision.
pub fn factors<R: CubeRuntime>(client: &ComputeClient<R>, precision: Precision) -> Option<Factors> {
    supported(
        client,
        match precision {
            Precision::F32 => Factors::Split,
            Precision::Tf32 => Factors::Half,
            Precision::Bf16 => Factors::Bf16,
        },
    )
}

/// The same of other products, most of whose time goes to memory: they need no type that is shorter.
fn product_factors<R: CubeRuntime>(
    client: &ComputeClient<R>,
    precision: Precision,
) -> Option<Factors> {
    supported(
        client,
        match precision {
            Precision::F32 => Factors::Split,
            Precision::Tf32 | Precision::Bf16 => Factors::Tf32,
        },
    )
}

/// These, if the device has tensor cores for them.
fn supported<R: CubeRuntime>(client: &ComputeClient<R>, factors: Factors) -> Option<Factors> {
    let [_, factor] = factors.types();
    let config = MmaConfig {
        a_type: factor,
        b_type: factor,
        cd_type: ElemType::Float(FloatKind::F32).into(),
        m: 16,
        n: 8,
        k: factors.depth() as u32 / 2,
    };
    let properties = client.properties();
    let hardware = &properties.hardware;
    let fits = hardware.plane_size_min == 32 && hardware.plane_size_max == 32;
    (fits && properties.features.matmul.mma.contains(&config)).then_some(factors)
}

/// Output channels of a cube of a tensor-core convolution.
fn mma_channels(channels_out: usize) -> usize {
    channels_out.next_power_of_two().clamp(16, 128)
}

/// The tile of a tensor-core convolution.
fn mma_tile<R: CubeRuntime>(
    client: &ComputeClient<R>,
    factors: Factors,
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
    // From the fastest where there are enough cubes to those that give every multiprocessor work, with how
    // many cubes each multiprocessor must have; as measured on an H200. The parts of split factors take
    // registers.
    let candidates = match (mma_channels(channels_out), factors) {
        (128, Factors::Split) => vec![(tile(4, 1, 2, 4), 0.0)],
        (64, Factors::Split) => vec![(tile(2, 1, 2, 4), 0.0)],
        (128, _) => vec![(tile(4, 2, 2, 4), 1.4), (tile(2, 2, 2, 2), 0.0)],
        (64, _) => vec![(tile(2, 2, 2, 2), 0.0)],
        (32, _) => vec![(tile(2, 1, 1, 4), 0.0)],
        _ => vec![(tile(1, 2, 1, 4), 0.0)],
    };
    let processors = client
        .properties()
        .hardware
        .num_streaming_multiprocessors
        .unwrap_or(64);
    let fills = |(tile, least): &(MmaTile, f64)| {
        let cubes: usize = tile.count(channels_out, height, width).iter().product();
        (cubes * images) as f64 >= least * f64::from(processors)
    };
    let found = candidates.into_iter().find(fills);
    found.expect("the last asks for none").0
}

/// Largest absolute values of the parts of a tensor, for the scale of half precision.
fn magnitudes<R: CubeRuntime>(x: &CubeTensor<R>) -> CubeTensor<R> {
    let parts = empty(x, [lbfgs::CUBES], DType::F32);
    let values = x.meta.num_elements();
    let size = vector(values, 4);
    // SAFETY: units take no vector beyond the last.
    unsafe {
        scale::magnitudes::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(lbfgs::CUBES as u32, 1, 1),
            CubeDim::new_1d(lbfgs::CUBES as u32),
            size,
            array(x),
            array(&parts),
            values / size,
            x.dtype.into(),
        );
    }
    parts
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
    // Undone once where several cubes would read the same values, and for tensor cores always.
    let is_reread = channels_out > conv::Tile::new(channels_out).channels();
    let (x, undo_mask, undo, magnitudes) = match undo {
        Epilogue::Relu | Epilogue::ReluPool(_) if is_reread || layout.factors.is_some() => {
            let measure = layout.factors == Some(Factors::Half);
            let (x, magnitudes) = undone(x, undo_mask.as_ref(), undo, [height, width], measure);
            (x, None, Epilogue::None, magnitudes)
        }
        _ => (x, undo_mask, undo, None),
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
        Some(factors) => launch_mma(Mma {
            factors,
            x: &x,
            magnitudes,
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

/// A launch of a tensor-core convolution.
struct Mma<'a, R: CubeRuntime> {
    factors: Factors,
    x: &'a CubeTensor<R>,
    /// Those of `x`, if they are known.
    magnitudes: Option<CubeTensor<R>>,
    packed: &'a CubeTensor<R>,
    bias: Option<&'a CubeTensor<R>>,
    y: &'a CubeTensor<R>,
    mask: Option<&'a CubeTensor<R>>,
    /// The first word of the packed weights.
    start: usize,
    /// Words of packed weights from one image to the next; 0 for the same for all.
    image_len: usize,
    channels_in: usize,
    channels_out: usize,
    /// Height and width without a pool.
    size: [usize; 2],
    taps: usize,
    epilogue: Epilogue,
    accumulate: bool,
}

fn launch_mma<R: CubeRuntime>(launch: Mma<'_, R>) {
    let [height, width] = launch.size;
    let [images, _, _, columns] = launch.y.meta.shape().dims::<4>();
    let channels_out = launch.channels_out;
    let client = &launch.x.client;
    let tile = mma_tile(client, launch.factors, channels_out, images, height, width);
    let [across, down, blocks] = tile.count(channels_out, height, width);
    let widest = match launch.epilogue {
        Epilogue::ReluPool(_) => 1,
        _ => 2,
    };
    let [stored, factor] = launch.factors.types();
    let magnitudes = (launch.factors == Factors::Half)
        .then(|| launch.magnitudes.unwrap_or_else(|| magnitudes(launch.x)));
    let inverse_at = launch.packed.meta.num_elements() - 4;
    // SAFETY: `tile.count` covers the result, and the kernel writes nothing outside of it.
    unsafe {
        mma::convolve_mma::launch_unchecked::<R>(
            client,
            cubes([across, down, blocks * images]),
            CubeDim::new_1d(tile.units() as u32),
            vector(columns, widest),
            array(launch.x),
            optional(magnitudes.as_ref()),
            array(launch.packed),
            optional(launch.bias),
            array(launch.y),
            optional(launch.mask),
            launch.start / 4,
            launch.image_len / 4,
            inverse_at,
            launch.channels_in,
            channels_out,
            height,
            width,
            launch.taps,
            launch.epilogue,
            launch.accumulate,
            tile,
            launch.factors == Factors::Split,
            [launch.x.dtype.into(), stored, factor],
        );
    }
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
    undone(
        gradient,
        mask.as_ref(),
        Epilogue::ReluPool(pooling),
        size,
        false,
    )
    .0
}

/// The gradient that an epilogue passes on to its input, of `height` × `width`, and with `measure` its
/// magnitudes.
fn undone<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    mask: Option<&CubeTensor<R>>,
    epilogue: Epilogue,
    [height, width]: [usize; 2],
    measure: bool,
) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
    let [images, channels, ..] = gradient.meta.shape().dims::<4>();
    let x = empty(&gradient, [images, channels, height, width], gradient.dtype);
    let parts = measure.then(|| empty(&gradient, [lbfgs::CUBES], DType::F32));
    // Without a window no value exists, and this is not read.
    let gradient = match gradient.meta.num_elements() {
        0 => empty(&gradient, [4], gradient.dtype),
        _ => gradient,
    };
    let values = x.meta.num_elements();
    let size = match width.is_multiple_of(4) {
        true => 4,
        false => 1,
    };
    let of_gradient = match epilogue {
        Epilogue::ReluPool(_) => size.div_ceil(2),
        _ => size,
    };
    // SAFETY: units take no vector beyond the last.
    unsafe {
        pool::undo::launch_unchecked::<R>(
            &x.client,
            CubeCount::Static(lbfgs::CUBES as u32, 1, 1),
            CubeDim::new_1d(lbfgs::CUBES as u32),
            of_gradient,
            size,
            array(&gradient),
            optional(mask),
            array(&x),
            optional(parts.as_ref()),
            values / size,
            height,
            width,
            epilogue,
            gradient.dtype.into(),
        );
    }
    (x, parts)
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
    precision: Precision,
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
    let scale = multiply.scale;
    if let Some(factors) = product_factors(&x.client, multiply.precision) {
        let layout = Layout {
            factors: Some(factors),
            channels_out: multiply.rows,
            channels_in: terms,
        };
        let kind = match multiply.kind {
            Product::Transposed => Weights::Backward,
            Product::Symmetric => Weights::Symmetric,
            Product::Plain | Product::Gram => Weights::Forward,
        };
        let matrices = match multiply.matrix_stride {
            0 => 1,
            _ => images,
        };
        let image_len = layout.len(1);
        let packed = empty(&x, [matrices * image_len], DType::F32);
        let (count, dim) = one_each(matrices * image_len);
        let types = [matrix.dtype.into(), factors.types()[0]];
        // SAFETY: units beyond the last word do nothing.
        unsafe {
            pack::pack_fragments::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                array(&matrix),
                ComptimeOptionArgs::None,
                array(&packed),
                0,
                matrices * image_len,
                multiply.rows,
                terms,
                image_len,
                0,
                scale,
                1,
                kind,
                types,
            );
        }
        launch_mma(Mma {
            factors,
            x: &x,
            magnitudes: None,
            packed: &packed,
            bias: bias.as_ref(),
            y: &y,
            mask: None,
            start: 0,
            image_len: if matrices > 1 { image_len } else { 0 },
            channels_in: terms,
            channels_out: multiply.rows,
            size: [height, width],
            taps: 1,
            epilogue: Epilogue::None,
            accumulate,
        });
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
            scale,
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
    precision: Precision,
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
        precision,
    })
}

/// See [`ConvOps::conv1x1_backward`](crate::kernel::ConvOps::conv1x1_backward).
pub fn conv1x1_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    matrix: CubeTensor<R>,
    sum: Option<CubeTensor<R>>,
    precision: Precision,
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
        precision,
    })
}

/// See [`ConvOps::gram`](crate::kernel::ConvOps::gram).
pub fn gram<R: CubeRuntime>(features: CubeTensor<R>, precision: Precision) -> CubeTensor<R> {
    let features = into_contiguous(features);
    let [images, channels, height, width] = features.meta.shape().dims::<4>();
    let positions = height * width;
    let grams = empty(&features, [images, channels, channels], features.dtype);
    let factors = product_factors(&features.client, precision);
    let tiles = channels.div_ceil(gemm::SIDE);
    let (wanted, least) = match factors {
        Some(_) => (
            GRAM_PLANES / gram_mma::PLANES,
            gram_mma::STEP * gram_mma::PLANES,
        ),
        None => (GRAM_PLANES / 2, 16 * gemm::DEPTH),
    };
    let splits = (wanted / (tiles * (tiles + 1) / 2)).clamp(1, positions.div_ceil(least));
    let split = positions.div_ceil(splits).next_multiple_of(gemm::DEPTH);
    let splits = positions.div_ceil(split);
    let partial = empty(&features, [splits, images, channels, channels], DType::F32);
    let (count, dim) = one_each(grams.meta.num_elements());
    let dtype = features.dtype.into();
    // SAFETY: nothing is written outside of `partial` and `grams`; what is not written is not read.
    unsafe {
        match factors {
            Some(factors) => gram_mma::gram_mma::launch_unchecked::<R>(
                &features.client,
                cubes([
                    channels.div_ceil(gram_mma::ROWS),
                    channels.div_ceil(gram_mma::COLUMNS),
                    splits * images,
                ]),
                CubeDim::new_1d(32 * gram_mma::PLANES as u32),
                vector(positions, 4),
                array(&features),
                array(&partial),
                channels,
                positions,
                split,
                splits,
                factors == Factors::Split,
                [dtype, factors.types()[1]],
            ),
            None => gemm::multiply::launch_unchecked::<R>(
                &features.client,
                cubes([tiles, 1, tiles * splits * images]),
                CubeDim::new_1d(gemm::UNITS as u32),
                array(&features),
                array(&features),
                ComptimeOptionArgs::None,
                array(&partial),
                SizesLaunch::new(
                    channels,
                    channels,
                    positions,
                    split,
                    splits,
                    channels * positions,
                ),
                1.0,
                Product::Gram,
                false,
                [dtype, DType::F32.into()],
            ),
        }
        gemm::sum_gram::launch_unchecked::<R>(
            &features.client,
            count,
            dim,
            array(&partial),
            array(&grams),
            channels,
            splits,
            1.0 / positions as f32,
            dtype,
        );
    }
    grams
}

/// See [`ConvOps::gram_backward`](crate::kernel::ConvOps::gram_backward).
pub fn gram_backward<R: CubeRuntime>(
    features: CubeTensor<R>,
    gradient: CubeTensor<R>,
    sum: Option<CubeTensor<R>>,
    precision: Precision,
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
        precision,
    })
}

/// Values of a target from one row to the next; 0 for one row for all.
fn target_stride<R: CubeRuntime>(target: &CubeTensor<R>) -> usize {
    let [rows, columns] = target.meta.shape().dims::<2>();
    if rows == 1 { 0 } else { columns }
}

/// See [`ConvOps::squared_distances`](crate::kernel::ConvOps::squared_distances).
pub fn squared_distances<R: CubeRuntime>(
    x: CubeTensor<R>,
    target: CubeTensor<R>,
    scale: f64,
) -> CubeTensor<R> {
    let [x, target] = [x, target].map(into_contiguous);
    let [rows, columns] = x.meta.shape().dims::<2>();
    let across = columns.div_ceil(4 * lbfgs::CUBES).clamp(1, lbfgs::CUBES);
    let parts = empty(&x, [rows, across], DType::F32);
    let total = empty(&x, [rows], x.dtype);
    let dim = CubeDim::new_1d(lbfgs::CUBES as u32);
    // SAFETY: units take no value beyond the last.
    unsafe {
        distance::distances::launch_unchecked::<R>(
            &x.client,
            cubes([across, rows, 1]),
            dim,
            array(&x),
            array(&target),
            array(&parts),
            columns,
            target_stride(&target),
            scale as f32,
            x.dtype.into(),
        );
        distance::distances_total::launch_unchecked::<R>(
            &x.client,
            cubes([rows, 1, 1]),
            dim,
            array(&parts),
            array(&total),
            across,
            x.dtype.into(),
        );
    }
    total
}

/// See [`ConvOps::squared_distances_backward`](crate::kernel::ConvOps::squared_distances_backward).
pub fn squared_distances_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    x: CubeTensor<R>,
    target: CubeTensor<R>,
    scale: f64,
) -> CubeTensor<R> {
    let [gradient, x, target] = [gradient, x, target].map(into_contiguous);
    let [rows, columns] = x.meta.shape().dims::<2>();
    let y = empty(&x, [rows, columns], x.dtype);
    let (count, dim) = one_each(rows * columns);
    // SAFETY: units beyond the last value do nothing.
    unsafe {
        distance::distances_backward::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            array(&gradient),
            array(&x),
            array(&target),
            array(&y),
            columns,
            target_stride(&target),
            scale as f32,
            x.dtype.into(),
        );
    }
    y
}

/// See [`ConvOps::curvature`](crate::kernel::ConvOps::curvature).
pub fn curvature<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    previous: CubeTensor<R>,
    step: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [gradient, previous, step] = [gradient, previous, step].map(into_contiguous);
    let y = empty(&gradient, gradient.meta.shape().clone(), gradient.dtype);
    let parts = empty(&gradient, [3 * lbfgs::CUBES], DType::F32);
    let total = empty(&gradient, [3], gradient.dtype);
    let client = &gradient.client;
    let cubes = CubeCount::Static(lbfgs::CUBES as u32, 1, 1);
    let dim = CubeDim::new_1d(lbfgs::CUBES as u32);
    let dtype = gradient.dtype.into();
    // SAFETY: units take no value beyond the last.
    unsafe {
        lbfgs::curvature::launch_unchecked::<R>(
            client,
            cubes,
            dim,
            array(&gradient),
            array(&previous),
            array(&step),
            array(&y),
            array(&parts),
            dtype,
        );
        let cube = CubeCount::Static(1, 1, 1);
        lbfgs::curvature_total::launch_unchecked::<R>(
            client,
            cube,
            dim,
            array(&parts),
            array(&total),
            dtype,
        );
    }
    (y, total)
}

/// See [`ConvOps::two_loop`](crate::kernel::ConvOps::two_loop).
pub fn two_loop<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    pairs: Vec<([CubeTensor<R>; 2], f64)>,
    scale: f64,
) -> CubeTensor<R> {
    let gradient = into_contiguous(gradient);
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(pair, rho)| (pair.map(into_contiguous), rho as f32))
        .collect();
    let client = &gradient.client;
    let q = empty(&gradient, gradient.meta.shape().clone(), gradient.dtype);
    // Each launch writes the parts that the next one reads.
    let parts = [(); 2].map(|()| empty(&gradient, [lbfgs::CUBES], DType::F32));
    let alphas = empty(&gradient, [pairs.len().max(1)], DType::F32);
    let mut launches = 0;
    let mut launch =
        |turn, v: &CubeTensor<R>, w: Option<&CubeTensor<R>>, index, rho, scale: f64| {
            let [sums, next] = [&parts[launches % 2], &parts[(launches + 1) % 2]];
            launches += 1;
            // SAFETY: units take no value beyond the last.
            unsafe {
                lbfgs::recursion::launch_unchecked::<R>(
                    client,
                    CubeCount::Static(lbfgs::CUBES as u32, 1, 1),
                    CubeDim::new_1d(lbfgs::CUBES as u32),
                    array(&q),
                    array(v),
                    optional(w),
                    array(sums),
                    array(next),
                    array(&alphas),
                    index,
                    rho,
                    scale as f32,
                    turn,
                    gradient.dtype.into(),
                );
            }
        };
    let s = |index: usize| pairs.get(index).map(|([s, _], _)| s);
    let y = |index: usize| pairs.get(index).map(|([_, y], _)| y);
    launch(
        Turn::Begin,
        &gradient,
        s(pairs.len().wrapping_sub(1)),
        0,
        0.0,
        1.0,
    );
    for (index, ([_, change], rho)) in pairs.iter().enumerate().rev() {
        match index {
            0 => launch(Turn::Down, change, y(0), 0, *rho, scale),
            _ => launch(Turn::Down, change, s(index - 1), index, *rho, 1.0),
        }
    }
    for (index, ([step, _], rho)) in pairs.iter().enumerate() {
        launch(Turn::Up, step, y(index + 1), index, *rho, 1.0);
    }
    q
}
