//! 1×1 convolutions, Gram matrices and their gradients.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{MAX_CUBES, array, cubes, empty, one_each, optional, vector};
use super::tensor_cores::{Factors, Layout, Mma, launch_mma, product_factors};
use crate::kernel::gpu::gemm::{self, Product, SizesLaunch};
use crate::kernel::gpu::pack::{self, Order, Weights};
use crate::kernel::gpu::{gram_async, gram_mma, product_async};
use crate::kernel::{Epilogue, Precision};

/// Planes that fill a GPU, between which a Gram matrix divides its positions. The same on all, so that
/// results do not depend on it.
const GRAM_PLANES: usize = 2048;

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
    let is_plain = matches!(multiply.kind, Product::Plain | Product::Transposed);
    let is_few = multiply.rows <= gemm::FEW && terms <= gemm::FEW;
    if is_plain && is_few && matrix.dtype == x.dtype {
        debug_assert!(scale == 1.0 && multiply.matrix_stride == 0);
        let size = vector(columns, 4);
        let vectors = columns / size;
        let (count, dim) = one_each(images * vectors);
        // SAFETY: units beyond the last vector do nothing.
        unsafe {
            gemm::multiply_few::launch_unchecked::<R>(
                &x.client,
                count,
                dim,
                size,
                array(&matrix),
                array(&x),
                optional(bias.as_ref()),
                array(&y),
                vectors,
                images,
                multiply.rows,
                terms,
                multiply.kind == Product::Transposed,
                accumulate,
                x.dtype.into(),
            );
        }
        return y;
    }
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
                Order::Fragments,
                kind,
                types,
            );
        }
        if is_async(factors, &x) {
            launch_async(
                &packed,
                &x,
                bias.as_ref(),
                &y,
                Async {
                    matrix_len: if matrices > 1 { image_len / 4 } else { 0 },
                    all_fragments: layout.padded() / 16,
                    rows: multiply.rows,
                    accumulate,
                },
            );
            return y;
        }
        launch_mma(Mma {
            factors,
            x: &x,
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

/// Whether kernels with asynchronous copies, of 16 bytes, take a tensor.
fn is_async<R: CubeRuntime>(factors: Factors, x: &CubeTensor<R>) -> bool {
    let [_, _, height, width] = x.meta.shape().dims::<4>();
    factors == Factors::Tf32 && x.dtype == DType::F32 && (height * width).is_multiple_of(4)
}

/// Sizes of [`product_async::multiply_async`] that its tensors do not tell.
struct Async {
    matrix_len: usize,
    all_fragments: usize,
    rows: usize,
    accumulate: bool,
}

fn launch_async<R: CubeRuntime>(
    packed: &CubeTensor<R>,
    x: &CubeTensor<R>,
    bias: Option<&CubeTensor<R>>,
    y: &CubeTensor<R>,
    sizes: Async,
) {
    let [images, terms, height, width] = x.meta.shape().dims::<4>();
    let positions = height * width;
    let fragments = sizes.all_fragments.min(product_async::FRAGMENTS);
    let [_, factor] = Factors::Tf32.types();
    // SAFETY: rows and positions beyond the last are neither read nor written.
    unsafe {
        product_async::multiply_async::launch_unchecked::<R>(
            &x.client,
            cubes([
                positions.div_ceil(product_async::POSITIONS),
                sizes.all_fragments.div_ceil(fragments),
                images,
            ]),
            CubeDim::new_1d(32 * product_async::PLANES as u32),
            array(packed),
            array(x),
            optional(bias),
            array(y),
            sizes.matrix_len,
            sizes.all_fragments,
            sizes.rows,
            terms,
            positions,
            fragments,
            sizes.accumulate,
            factor,
        );
    }
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
    let is_async = factors.is_some_and(|factors| is_async(factors, &features));
    let (wanted, least) = match factors {
        Some(_) if is_async => (GRAM_PLANES / gram_async::PLANES, 4 * gram_async::STEP),
        Some(_) => (
            GRAM_PLANES / gram_mma::PLANES,
            gram_mma::STEP * gram_mma::PLANES,
        ),
        None => (GRAM_PLANES / 2, 16 * gemm::DEPTH),
    };
    let splits = (wanted / (tiles * (tiles + 1) / 2)).clamp(1, positions.div_ceil(least));
    let split = positions.div_ceil(splits).next_multiple_of(if is_async {
        gram_async::STEP
    } else {
        gemm::DEPTH
    });
    let splits = positions.div_ceil(split);
    let partial = empty(&features, [splits, images, channels, channels], DType::F32);
    let sums = grams.meta.num_elements().div_ceil(gemm::SUMMED);
    let dtype = features.dtype.into();
    // SAFETY: nothing is written outside of `partial` and `grams`; what is not written is not read.
    unsafe {
        match factors {
            Some(factors) if is_async => gram_async::gram_async::launch_unchecked::<R>(
                &features.client,
                cubes([tiles, tiles, splits * images]),
                CubeDim::new_1d(32 * gram_async::PLANES as u32),
                array(&features),
                array(&partial),
                channels,
                positions,
                split,
                splits,
                tiles == 1,
                factors.types()[1],
            ),
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
            cubes([sums.clamp(1, MAX_CUBES), sums.div_ceil(MAX_CUBES), 1]),
            CubeDim::new_1d(gemm::SUM_UNITS as u32),
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
