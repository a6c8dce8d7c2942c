//! The operations that take nearly all of the time, in forms made for style transfer.
//!
//! - a 3×3 convolution (stride 1, padding 1) fused with bias, ReLU, 2×2 pool ([`Epilogue`]) and a
//!   projection of the channels (a 1×1 convolution)
//! - for large images tile by tile: a segment of several such convolutions, with what is read of each
//! - a 2×2 pool
//! - a rectangle of the positions
//! - a 1×1 convolution
//! - the Gram matrix
//! - features at [`SamplePoints`], between positions by bilinear interpolation
//! - for columns of features, inner products with those of a target and squared norms
//! - the column with the largest inner product, among many
//!
//! Weights are frozen, so backward keeps no activations: the gradient of a convolution with respect to
//! its input is a convolution with the kernel rotated by 180° and its channels swapped, which is packed
//! once. For a convolution, backward keeps one bit for each value before the pool (whether it passes
//! its gradient on), for a max pool two bits for each value after it (which pixel was the largest).
//! Only the Gram matrix and the products of columns keep their features.
//!
//! [`ConvOps`] has these operations on a concrete backend. Its methods have defaults in ordinary Burn
//! operations ([`mod@reference`]), so that `impl ConvOps for MyBackend {}` is enough for any backend. For
//! `f32`, `Flex` and `NdArray` use CPU kernels: Winograd's F(4×4, 3×3) on AVX-512, AVX2 or NEON vectors,
//! on all threads of rayon's pool, with results that do not depend on the number of threads. `Cuda` and
//! `Wgpu` use kernels written in CubeCL: direct convolutions in single precision, or on tensor cores
//! ([`Precision`]).
//!
//! [`StyleBackend`] is what the rest of the crate requires: a backend with [`ConvOps`], or `Autodiff`
//! around one.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu_backend;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(feature = "ndarray")]
mod ndarray;
mod precision;
pub mod reference;
mod sample_points;
mod segment;
#[cfg(all(test, feature = "flex"))]
pub(crate) mod tests;
mod variation;

use std::collections::VecDeque;

use burn::tensor::{Int, Tensor, TensorData, backend};
use serde::{Deserialize, Serialize};

use crate::rect::Rect;

pub use precision::{Precision, UnknownPrecision};
pub use sample_points::SamplePoints;
pub use segment::{Pointwise, Read, Stage, StageShape, Target};
pub(crate) use segment::{channel_means, largest_response, tiles as segment_tiles};
pub use variation::{PixelPairs, VariationNorm};

/// How a 2×2 pool reduces its windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The largest value, with which VGG19 was trained.
    #[default]
    Max,
    /// The mean, which gives slightly smoother pictures (Gatys et al. 2015).
    Average,
}

/// What follows a convolution and its bias in the same operation, before the projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// ReLU, then a pool of 2×2 windows with stride 2. An odd last row or column is left out.
    ReluPool(Pooling),
}

impl Epilogue {
    /// Pixels along a side of the input for each of the output.
    fn stride(self) -> usize {
        match self {
            Epilogue::None | Epilogue::Relu => 1,
            Epilogue::ReluPool(_) => 2,
        }
    }
}

/// What is read of features, where that is nothing but means over positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moments {
    /// The Gram matrix.
    Gram,
    /// The Gram matrix, and the mean of each channel.
    GramAndMean,
}

/// The weights of a 3×3 convolution, and the same packed for the backend.
#[derive(Clone, Debug)]
pub struct PackedConv2d<B: backend::Backend> {
    /// The kernel, `[channels_out, channels_in, 3, 3]`.
    pub weight: Tensor<B, 4>,
    /// The bias, `[channels_out]`.
    pub bias: Tensor<B, 1>,
    /// The kernel as [`ConvOps::pack`] packs it.
    pub packed: Tensor<B, 1>,
    /// A projection of the channels after the epilogue: a 1×1 convolution without bias, whose matrix
    /// is `[channels_projected, channels_out]`.
    pub projection: Option<Tensor<B, 2>>,
    /// The precision that the kernel is packed for.
    pub precision: Precision,
}

impl<B: StyleBackend> PackedConv2d<B> {
    /// Packs weights; without a projection.
    pub fn new(weight: Tensor<B, 4>, bias: Tensor<B, 1>, precision: Precision) -> Self {
        let packed = B::pack(weight.clone(), precision);
        Self {
            weight,
            bias,
            packed,
            projection: None,
            precision,
        }
    }
}

/// A step `s` of L-BFGS, the change `y` of the gradient along it, and `1 / yᵀs`.
#[derive(Clone, Debug)]
pub struct CurvaturePair<B: backend::Backend> {
    /// The step.
    pub s: Tensor<B, 4>,
    /// The change of the gradient.
    pub y: Tensor<B, 4>,
    /// `1 / yᵀs`.
    pub rho: f64,
}

/// A step of Adam, of a number of steps, see [`ConvOps::adam`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// What the mean gradient is multiplied with: the step size and the correction for the mean's start.
    pub mean_scale: f64,
    /// What the mean squared gradient is multiplied with.
    pub square_scale: f64,
    /// What keeps the division finite.
    pub epsilon: f64,
    /// Clamps the image to 0 to this.
    pub clamp: Option<f64>,
}

/// What an operation keeps for its backward pass: bits, packed in any way the backend chooses.
pub type BackwardMask<B> = Tensor<B, 1, Int>;

/// The operations on a concrete backend, forward and backward.
///
/// All defaults are those in [`mod@reference`].
pub trait ConvOps: backend::Backend {
    /// About how many values a response has within a tile of a [segment](StyleBackend::convolve_segment):
    /// enough to keep the device busy.
    const SEGMENT_VALUES: usize = if cfg!(test) { 1 << 12 } else { 1 << 23 };

    /// Packs a kernel `[channels_out, channels_in, 3, 3]`, once for all passes, for a precision that
    /// the backend need not make use of.
    fn pack(weight: Tensor<Self, 4>, _precision: Precision) -> Tensor<Self, 1> {
        reference::pack(weight)
    }

    /// The precision of convolutions on a device for which at least `least` is asked.
    fn precision(_device: &Self::Device, _least: Precision) -> Precision {
        Precision::F32
    }

    /// The bytes of a device's memory that the backend holds now, in use or idle; `None` if it cannot tell.
    fn device_memory(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// The convolution of `x`, `[batch, channels_in, height, width]`, with its epilogue and, if there is
    /// one, its projection. With `save_mask` also the mask for the backward pass (for
    /// [`Epilogue::None`] there is none).
    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
        save_mask: bool,
    ) -> (Tensor<Self, 4>, Option<BackwardMask<Self>>) {
        reference::convolve(x, convolution, epilogue, save_mask)
    }

    /// The gradient with respect to an `x` of `size` (height and width), from that with respect to
    /// the output and the mask of [`convolve`](Self::convolve).
    fn convolve_backward(
        gradient: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
        mask: Option<BackwardMask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        reference::convolve_backward(gradient, convolution, epilogue, mask, size)
    }

    /// The 2×2 pool with stride 2 of `x`, `[batch, channels, height, width]`. With `save_mask` also the
    /// mask for the backward pass (for [`Pooling::Average`] there is none).
    fn pool(
        x: Tensor<Self, 4>,
        pooling: Pooling,
        save_mask: bool,
    ) -> (Tensor<Self, 4>, Option<BackwardMask<Self>>) {
        reference::pool(x, pooling, save_mask)
    }

    /// The gradient with respect to an `x` of `size` (height and width), from that with respect to
    /// the output and the mask of [`pool`](Self::pool).
    fn pool_backward(
        gradient: Tensor<Self, 4>,
        pooling: Pooling,
        mask: Option<BackwardMask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        reference::pool_backward(gradient, pooling, mask, size)
    }

    /// The values of a rectangle of `x`, `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If it reaches beyond `x`.
    fn crop(x: Tensor<Self, 4>, area: Rect) -> Tensor<Self, 4> {
        reference::crop(x, area)
    }

    /// The gradient with respect to an `x` of `size` (height and width), zero outside of the rectangle,
    /// added to `sum`, the gradient so far from other uses of `x`.
    fn crop_backward(
        gradient: Tensor<Self, 4>,
        area: Rect,
        size: [usize; 2],
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        reference::crop_backward(gradient, area, size, sum)
    }

    /// The 1×1 convolution of `x`, `[batch, channels, height, width]`: `matrix`, `[rows, channels]`,
    /// times the channels of every position, plus `bias`, `[rows]`.
    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        reference::conv1x1(x, matrix, bias)
    }

    /// The gradient with respect to `x`, `matrixᵀ · gradient`, added to `sum`, the gradient so far from
    /// other uses of `x`.
    fn conv1x1_backward(
        gradient: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        reference::conv1x1_backward(gradient, matrix, sum)
    }

    /// The Gram matrices of features `[batch, channels, height, width]` at the `n` positions of a
    /// rectangle: `G[b,i,j] = Σ_p F[b,i,p]·F[b,j,p] / n`, with factors of at least a precision.
    ///
    /// # Panics
    /// If the rectangle reaches beyond the features.
    fn gram(features: Tensor<Self, 4>, area: Rect, _precision: Precision) -> Tensor<Self, 3> {
        reference::gram(features, area)
    }

    /// The gradient with respect to the features, `(dG + dGᵀ)·F / n` within the rectangle and zero
    /// elsewhere, added to `sum`, the gradient so far from other uses of the features; with factors of the
    /// precision of [`gram`](Self::gram).
    fn gram_backward(
        features: Tensor<Self, 4>,
        area: Rect,
        gradient: Tensor<Self, 3>,
        sum: Option<Tensor<Self, 4>>,
        _precision: Precision,
    ) -> Tensor<Self, 4> {
        reference::gram_backward(features, area, gradient, sum)
    }

    /// The features, `[batch, channels, height, width]`, at some points:
    /// `[batch, channels, samples]`.
    ///
    /// # Panics
    /// If the points are those of a layer of another size.
    fn sample(features: Tensor<Self, 4>, points: &SamplePoints) -> Tensor<Self, 3> {
        reference::sample(features, points)
    }

    /// The gradient with respect to the features, from that with respect to the samples, added to
    /// `sum`, the gradient so far from other uses of the features.
    fn sample_backward(
        gradient: Tensor<Self, 3>,
        points: &SamplePoints,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        reference::sample_backward(gradient, points, sum)
    }

    /// For columns `[batch, channels, samples]` and those of a target, `[1, channels, samples]`:
    /// `[batch, 2, samples]`, the inner products `Σ_c X[b,c,p]·T[c,p]` and the squared norms
    /// `Σ_c X[b,c,p]²`.
    ///
    /// Sums over channels in parts are sums of the results.
    fn column_products(columns: Tensor<Self, 3>, target: Tensor<Self, 3>) -> Tensor<Self, 3> {
        reference::column_products(columns, target)
    }

    /// The gradient with respect to the columns, `dA[b,p]·T[c,p] + 2·dB[b,p]·X[b,c,p]`, from that with
    /// respect to both results of [`column_products`](Self::column_products), `[batch, 2, samples]`.
    fn column_products_backward(
        gradient: Tensor<Self, 3>,
        columns: Tensor<Self, 3>,
        target: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        reference::column_products_backward(gradient, columns, target)
    }

    /// For each column of `queries`, `[values, n]`, the index of the column of `candidates`,
    /// `[values, m]`, with the largest inner product, the smallest index if several are equal, and that
    /// product; both `[n]`. The n×m products are never stored.
    ///
    /// Products that are NaN have no order: where there are some, any candidate may be found.
    ///
    /// # Panics
    /// If there are queries, but no candidates.
    fn nearest(
        queries: Tensor<Self, 2>,
        candidates: Tensor<Self, 2>,
    ) -> (Tensor<Self, 1, Int>, Tensor<Self, 1>) {
        reference::nearest(queries, candidates)
    }

    /// For each row of `x`, `[batch, values]`, `Σ (scale · (x − target))²`, `[batch]`; the target has as many
    /// rows, or one for all.
    fn squared_distances(
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 1> {
        reference::squared_distances(x, target, scale)
    }

    /// The gradient with respect to `x`, `2 · scale² · gradient · (x − target)`.
    fn squared_distances_backward(
        gradient: Tensor<Self, 1>,
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 2> {
        reference::squared_distances_backward(gradient, x, target, scale)
    }

    /// For each image of `x`, `[batch, channels, height, width]`, `Σ weight · |second − first|ᵖ` over pairs of
    /// pixels, `[batch]`: total variation.
    fn variation(x: Tensor<Self, 4>, pairs: &[PixelPairs], norm: VariationNorm) -> Tensor<Self, 1> {
        reference::variation(x, pairs, norm)
    }

    /// The gradient with respect to `x`, added to `sum`, the gradient so far from other uses of `x`.
    fn variation_backward(
        gradient: Tensor<Self, 1>,
        x: Tensor<Self, 4>,
        pairs: &[PixelPairs],
        norm: VariationNorm,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        reference::variation_backward(gradient, x, pairs, norm, sum)
    }

    /// The change `y` of the gradient since `previous`, along a step `s` of L-BFGS, and `[3]`: the largest
    /// absolute value of the gradient, `yᵀs` and `yᵀy`.
    fn curvature(
        gradient: Tensor<Self, 4>,
        previous: Tensor<Self, 4>,
        step: &Tensor<Self, 4>,
    ) -> (Tensor<Self, 4>, Tensor<Self, 1>) {
        reference::curvature(gradient, previous, step)
    }

    /// Minus an approximate inverse Hessian times the gradient: the two-loop recursion of L-BFGS
    /// (Nocedal and Wright, *Numerical Optimization*, algorithm 7.4) over `pairs`, oldest first, from
    /// `scale` times the identity.
    fn two_loop(
        gradient: Tensor<Self, 4>,
        pairs: &VecDeque<CurvaturePair<Self>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        reference::two_loop(gradient, pairs, scale)
    }

    /// A step of Adam: an image and its moments after a gradient, `m ← β₁m + (1−β₁)g`,
    /// `v ← β₂v + (1−β₂)g²`, `x ← x − a·m / (√(b·v) + ε)` for the scales `a` and `b` of the mean and of the
    /// square.
    fn adam(
        image: Tensor<Self, 4>,
        gradient: Tensor<Self, 4>,
        moments: [Tensor<Self, 4>; 2],
        step: AdamStep,
    ) -> (Tensor<Self, 4>, [Tensor<Self, 4>; 2]) {
        reference::adam(image, gradient, moments, step)
    }
}

/// A backend that the crate runs on: one with [`ConvOps`], or `Autodiff` around one.
///
/// Features and images have gradients, weights never.
pub trait StyleBackend: backend::Backend {
    /// See [`ConvOps::SEGMENT_VALUES`].
    const SEGMENT_VALUES: usize;

    /// See [`ConvOps::pack`].
    fn pack(weight: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 1>;

    /// See [`ConvOps::precision`].
    fn precision(device: &Self::Device, least: Precision) -> Precision;

    /// See [`ConvOps::device_memory`].
    fn device_memory(device: &Self::Device) -> Option<u64>;

    /// See [`ConvOps::convolve`].
    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
    ) -> Tensor<Self, 4>;

    /// Several convolutions one after another, as so many [`convolve`](Self::convolve), of what `before`
    /// makes of `x`, tile by tile: what lies between them is never there as a whole. Also what is
    /// [read](Read) of each response, of the positions in `area` (of `x`). For its gradient the responses are
    /// computed once more. No response within a tile has many more than `values`.
    fn convolve_segment(
        x: Tensor<Self, 4>,
        before: Option<Pointwise<Self>>,
        stages: Vec<Stage<Self>>,
        area: Rect,
        values: usize,
    ) -> (Tensor<Self, 4>, Vec<Read<Self>>);

    /// See [`ConvOps::pool`].
    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4>;

    /// See [`ConvOps::crop`]. The rectangle of all is `x` itself.
    fn crop(x: Tensor<Self, 4>, area: Rect) -> Tensor<Self, 4>;

    /// See [`ConvOps::crop_backward`]. The result is a constant; the rectangle of all without a sum is the
    /// gradient itself.
    fn crop_backward(
        gradient: Tensor<Self, 4>,
        area: Rect,
        size: [usize; 2],
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4>;

    /// See [`ConvOps::conv1x1`].
    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4>;

    /// See [`ConvOps::gram`].
    fn gram(features: Tensor<Self, 4>, area: Rect, precision: Precision) -> Tensor<Self, 3>;

    /// See [`ConvOps::sample`].
    fn sample(features: Tensor<Self, 4>, points: &SamplePoints) -> Tensor<Self, 3>;

    /// See [`ConvOps::column_products`]. The target is a constant: it has no gradient.
    fn column_products(columns: Tensor<Self, 3>, target: Tensor<Self, 3>) -> Tensor<Self, 3>;

    /// See [`ConvOps::nearest`]. The result is a constant: there is no gradient.
    fn nearest(
        queries: Tensor<Self, 2>,
        candidates: Tensor<Self, 2>,
    ) -> (Tensor<Self, 1, Int>, Tensor<Self, 1>);

    /// See [`ConvOps::variation`].
    fn variation(x: Tensor<Self, 4>, pairs: &[PixelPairs], norm: VariationNorm) -> Tensor<Self, 1>;

    /// See [`ConvOps::squared_distances`]. The target is a constant: it has no gradient.
    fn squared_distances(
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 1>;

    /// See [`ConvOps::curvature`]. The results are constants.
    fn curvature(
        gradient: Tensor<Self, 4>,
        previous: Tensor<Self, 4>,
        step: &Tensor<Self, 4>,
    ) -> (Tensor<Self, 4>, Tensor<Self, 1>);

    /// See [`ConvOps::two_loop`]. The result is a constant.
    fn two_loop(
        gradient: Tensor<Self, 4>,
        pairs: &VecDeque<CurvaturePair<Self>>,
        scale: f64,
    ) -> Tensor<Self, 4>;

    /// See [`ConvOps::adam`]. The results are constants.
    fn adam(
        image: Tensor<Self, 4>,
        gradient: Tensor<Self, 4>,
        moments: [Tensor<Self, 4>; 2],
        step: AdamStep,
    ) -> (Tensor<Self, 4>, [Tensor<Self, 4>; 2]);
}

impl<B: ConvOps> StyleBackend for B {
    const SEGMENT_VALUES: usize = <B as ConvOps>::SEGMENT_VALUES;

    fn pack(weight: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 1> {
        <B as ConvOps>::pack(weight, precision)
    }

    fn precision(device: &Self::Device, least: Precision) -> Precision {
        <B as ConvOps>::precision(device, least)
    }

    fn device_memory(device: &Self::Device) -> Option<u64> {
        <B as ConvOps>::device_memory(device)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
    ) -> Tensor<Self, 4> {
        <B as ConvOps>::convolve(x, convolution, epilogue, false).0
    }

    fn convolve_segment(
        x: Tensor<Self, 4>,
        before: Option<Pointwise<Self>>,
        stages: Vec<Stage<Self>>,
        area: Rect,
        values: usize,
    ) -> (Tensor<Self, 4>, Vec<Read<Self>>) {
        let (output, _) = segment::forward(x, before, stages, area, values, false);
        (output.response, output.read)
    }

    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4> {
        <B as ConvOps>::pool(x, pooling, false).0
    }

    fn crop(x: Tensor<Self, 4>, area: Rect) -> Tensor<Self, 4> {
        match area == all_positions(&x) {
            true => x,
            false => <B as ConvOps>::crop(x, area),
        }
    }

    fn crop_backward(
        gradient: Tensor<Self, 4>,
        area: Rect,
        size: [usize; 2],
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        match sum.is_none() && area == Rect::whole(size) {
            true => gradient,
            false => <B as ConvOps>::crop_backward(gradient, area, size, sum),
        }
    }

    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        <B as ConvOps>::conv1x1(x, matrix, bias)
    }

    fn gram(features: Tensor<Self, 4>, area: Rect, precision: Precision) -> Tensor<Self, 3> {
        <B as ConvOps>::gram(features, area, precision)
    }

    fn sample(features: Tensor<Self, 4>, points: &SamplePoints) -> Tensor<Self, 3> {
        <B as ConvOps>::sample(features, points)
    }

    fn column_products(columns: Tensor<Self, 3>, target: Tensor<Self, 3>) -> Tensor<Self, 3> {
        <B as ConvOps>::column_products(columns, target)
    }

    fn nearest(
        queries: Tensor<Self, 2>,
        candidates: Tensor<Self, 2>,
    ) -> (Tensor<Self, 1, Int>, Tensor<Self, 1>) {
        <B as ConvOps>::nearest(queries, candidates)
    }

    fn squared_distances(
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 1> {
        <B as ConvOps>::squared_distances(x, target, scale)
    }

    fn variation(x: Tensor<Self, 4>, pairs: &[PixelPairs], norm: VariationNorm) -> Tensor<Self, 1> {
        <B as ConvOps>::variation(x, pairs, norm)
    }

    fn curvature(
        gradient: Tensor<Self, 4>,
        previous: Tensor<Self, 4>,
        step: &Tensor<Self, 4>,
    ) -> (Tensor<Self, 4>, Tensor<Self, 1>) {
        <B as ConvOps>::curvature(gradient, previous, step)
    }

    fn two_loop(
        gradient: Tensor<Self, 4>,
        pairs: &VecDeque<CurvaturePair<Self>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        <B as ConvOps>::two_loop(gradient, pairs, scale)
    }

    fn adam(
        image: Tensor<Self, 4>,
        gradient: Tensor<Self, 4>,
        moments: [Tensor<Self, 4>; 2],
        step: AdamStep,
    ) -> (Tensor<Self, 4>, [Tensor<Self, 4>; 2]) {
        <B as ConvOps>::adam(image, gradient, moments, step)
    }
}

/// A [`StyleBackend`] with autodiff, whose inner backend is a [`StyleBackend`] too.
pub trait AutodiffStyleBackend:
    StyleBackend + backend::AutodiffBackend<InnerBackend: StyleBackend>
{
}

impl<B> AutodiffStyleBackend for B where
    B: StyleBackend + backend::AutodiffBackend<InnerBackend: StyleBackend>
{
}

/// Returns the idle memory of the CPU kernels to the system.
///
/// The memory of a dropped tensor is kept for the next one of its size, so after a run a program still
/// holds about as much memory as the run needed at its peak. A program that lives on can call this when
/// its runs are done. Memory in use is not affected, and later runs allocate what they need. Without a
/// CPU backend (feature `flex` or `ndarray`) this does nothing.
pub fn release_idle_memory() {
    #[cfg(any(feature = "flex", feature = "ndarray"))]
    cpu::buffer_pool::release_idle();
}

/// All of a tensor's height and width.
pub(crate) fn all_positions<B: backend::Backend>(x: &Tensor<B, 4>) -> Rect {
    let [_, _, height, width] = x.dims();
    Rect::whole([height, width])
}

/// Indices on the device.
pub(crate) fn indices<B: backend::Backend>(
    indices: &[usize],
    device: &B::Device,
) -> Tensor<B, 1, Int> {
    let indices: Vec<i32> = indices.iter().map(|&index| index as i32).collect();
    let count = indices.len();
    Tensor::from_data(TensorData::new(indices, [count]), device)
}

/// The sum of all elements, shape `[1]`, in an order that does not depend on the number of threads:
/// along one axis after the other.
pub(crate) fn sum<B: backend::Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 1> {
    (0..D).rev().fold(x, Tensor::sum_dim).reshape([1])
}
