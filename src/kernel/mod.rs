//! The operations that nearly all of the time goes into, in forms made for style transfer.
//!
//! - a 3×3 convolution (stride 1, padding 1) with bias, ReLU, 2×2 pool ([`Epilogue`]) and a matrix times the
//!   channels (a 1×1 convolution) in one
//! - the 2×2 pool alone
//! - a matrix times the channels of every position alone
//! - the Gram matrix
//!
//! Their weights are frozen, so the way back needs no features: the gradient of a convolution with
//! respect to its input is a convolution with the kernel rotated by 180° and its channels swapped,
//! prepared once; what is kept for it is one bit for each value before the pool (whether it passes a
//! gradient on), and for a pool alone two bits for each value after it (where the largest was). Only
//! the Gram matrix keeps its features.
//!
//! An [`ConvOps`] computes these on a concrete backend. Its methods have defaults made of ordinary
//! Burn operations, so that `impl ConvOps for MyBackend {}` is enough for any backend. `Flex` and
//! `NdArray` use an engine of their own for `f32`: Winograd's F(4×4, 3×3) on AVX-512, AVX2 or NEON
//! vectors, on all threads of rayon's pool, with results that do not depend on their number.
//!
//! [`StyleBackend`] is what the rest of the crate asks for: an engine, or `Autodiff` around one.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod host;
#[cfg(feature = "ndarray")]
mod ndarray;
pub mod plain;
#[cfg(all(test, feature = "flex"))]
pub(crate) mod tests;

use burn::tensor::{Int, Tensor, backend};
use serde::{Deserialize, Serialize};

/// How the 2×2 windows that end each block are reduced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pooling {
    /// The largest value, as VGG19 was trained.
    #[default]
    Max,
    /// The mean, which Gatys et al. (2015) found to give slightly smoother pictures.
    Average,
}

/// What follows a convolution and its bias in the same operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    None,
    /// `max(x, 0)`.
    Relu,
    /// The same, and a pool of 2×2 windows with stride 2. An odd last row or column is left out.
    ReluPool(Pooling),
}

/// The weights of a 3×3 convolution, with what an engine prepared from them.
#[derive(Clone, Debug)]
pub struct PackedConv2d<B: backend::Backend> {
    /// The kernel, `[channels_out, channels_in, 3, 3]`.
    pub weight: Tensor<B, 4>,
    /// The bias, `[channels_out]`.
    pub bias: Tensor<B, 1>,
    /// What [`ConvOps::pack`] made of the kernel.
    pub packed: Tensor<B, 1>,
    /// A matrix `[rows, channels_out]` that the channels are mixed with at last, after the pool where
    /// there is one: a 1×1 convolution without bias.
    pub projection: Option<Tensor<B, 2>>,
}

impl<B: StyleBackend> PackedConv2d<B> {
    /// Prepares weights for use.
    pub fn new(weight: Tensor<B, 4>, bias: Tensor<B, 1>) -> Self {
        let packed = B::pack(weight.clone());
        Self {
            weight,
            bias,
            packed,
            projection: None,
        }
    }
}

/// What an operation keeps for its way back: bits, packed as the engine likes.
pub type Mask<B> = Tensor<B, 1, Int>;

/// The operations on a concrete backend, forward and backward.
///
/// All defaults are those of [`plain`].
pub trait ConvOps: backend::Backend {
    /// Prepares a kernel `[channels_out, channels_in, 3, 3]`, once for all passes.
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        plain::pack(weight)
    }

    /// The convolution of `x`, `[batch, channels_in, height, width]`, with what follows it, mixed where
    /// the weights say so, and with `keep` the mask for the way back (none for [`Epilogue::None`], which
    /// needs none).
    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        then: Epilogue,
        keep: bool,
    ) -> (Tensor<Self, 4>, Option<Mask<Self>>) {
        plain::convolve(x, convolution, then, keep)
    }

    /// The gradient with respect to an `x` of `size` (height and width), from that with respect to
    /// the output.
    fn convolve_backward(
        gradient: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        then: Epilogue,
        mask: Option<Mask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        plain::convolve_backward(gradient, convolution, then, mask, size)
    }

    /// The 2×2 pool with stride 2 of `x`, `[batch, channels, height, width]`, and with `keep` the
    /// mask for the way back (none for [`Pooling::Average`]).
    fn pool(
        x: Tensor<Self, 4>,
        pooling: Pooling,
        keep: bool,
    ) -> (Tensor<Self, 4>, Option<Mask<Self>>) {
        plain::pool(x, pooling, keep)
    }

    /// The gradient with respect to an `x` of `size` (height and width).
    fn pool_backward(
        gradient: Tensor<Self, 4>,
        pooling: Pooling,
        mask: Option<Mask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        plain::pool_backward(gradient, pooling, mask, size)
    }

    /// A matrix `[rows, channels]` times the channels of `x`, `[batch, channels, height, width]`, at
    /// every position, plus a bias for each row: a 1×1 convolution.
    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        plain::conv1x1(x, matrix, bias)
    }

    /// The gradient with respect to `x`, `matrixᵀ · gradient`, added to `sum`, what other uses of `x`
    /// gave already.
    fn conv1x1_backward(
        gradient: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        plain::conv1x1_backward(gradient, matrix, sum)
    }

    /// The Gram matrices of features `[batch, channels, height, width]`:
    /// `G[b,i,j] = Σ_p F[b,i,p]·F[b,j,p] / (height·width)`.
    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3> {
        plain::gram(features)
    }

    /// The gradient with respect to the features, `(dG + dGᵀ)·F / (height·width)`, added to `sum`,
    /// what other uses of the features gave already.
    fn gram_backward(
        features: Tensor<Self, 4>,
        gradient: Tensor<Self, 3>,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        plain::gram_backward(features, gradient, sum)
    }
}

/// A backend that the crate runs on: an [`ConvOps`], or `Autodiff` around one.
///
/// Gradients flow to features and images, never to weights.
pub trait StyleBackend: backend::Backend {
    /// See [`ConvOps::pack`].
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1>;

    /// See [`ConvOps::convolve`].
    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        then: Epilogue,
    ) -> Tensor<Self, 4>;

    /// See [`ConvOps::pool`].
    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4>;

    /// See [`ConvOps::conv1x1`].
    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4>;

    /// See [`ConvOps::gram`].
    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3>;
}

impl<B: ConvOps> StyleBackend for B {
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        <B as ConvOps>::pack(weight)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        then: Epilogue,
    ) -> Tensor<Self, 4> {
        <B as ConvOps>::convolve(x, convolution, then, false).0
    }

    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4> {
        <B as ConvOps>::pool(x, pooling, false).0
    }

    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        <B as ConvOps>::conv1x1(x, matrix, bias)
    }

    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3> {
        <B as ConvOps>::gram(features)
    }
}

/// A [`StyleBackend`] with autodiff, on the inside of which the crate runs as well.
pub trait AutodiffStyleBackend:
    StyleBackend + backend::AutodiffBackend<InnerBackend: StyleBackend>
{
}

impl<B> AutodiffStyleBackend for B where
    B: StyleBackend + backend::AutodiffBackend<InnerBackend: StyleBackend>
{
}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::backend::Cuda;

    impl super::ConvOps for Cuda {}
    impl super::ConvOps for Cuda<half::f16> {}
    impl super::ConvOps for Cuda<half::bf16> {}
}

#[cfg(feature = "wgpu")]
impl<F, I, B> ConvOps for burn::backend::Wgpu<F, I, B>
where
    F: burn::backend::wgpu::FloatElement,
    I: burn::backend::wgpu::IntElement,
    B: burn::backend::wgpu::BoolElement,
{
}

/// The sum of all elements, shape `[1]`, in an order that does not depend on the number of threads:
/// along each axis in turn.
pub(crate) fn sum<B: backend::Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 1> {
    (0..D).rev().fold(x, Tensor::sum_dim).reshape([1])
}
