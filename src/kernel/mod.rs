//! The operations that nearly all of the time goes into, in forms made for style transfer.
//!
//! - a 3×3 convolution (stride 1, padding 1) with bias, ReLU, 2×2 pool ([`Then`]) and a matrix times the
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
//! An [`Engine`] computes these on a concrete backend. Its methods have defaults made of ordinary
//! Burn operations, so that `impl Engine for MyBackend {}` is enough for any backend. `Flex` and
//! `NdArray` use an engine of their own for `f32`: Winograd's F(4×4, 3×3) on AVX-512, AVX2 or NEON
//! vectors, on all threads of rayon's pool, with results that do not depend on their number.
//!
//! [`Backend`] is what the rest of the crate asks for: an engine, or `Autodiff` around one.

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
pub enum Then {
    /// Nothing.
    Nothing,
    /// `max(x, 0)`.
    Relu,
    /// The same, and a pool of 2×2 windows with stride 2. An odd last row or column is left out.
    ReluPool(Pooling),
}

/// The weights of a 3×3 convolution, with what an engine prepared from them.
#[derive(Clone, Debug)]
pub struct Convolution<B: backend::Backend> {
    /// The kernel, `[channels_out, channels_in, 3, 3]`.
    pub weight: Tensor<B, 4>,
    /// The bias, `[channels_out]`.
    pub bias: Tensor<B, 1>,
    /// What [`Engine::pack`] made of the kernel.
    pub packed: Tensor<B, 1>,
    /// A matrix `[rows, channels_out]` that the channels are mixed with at last, after the pool where
    /// there is one: a 1×1 convolution without bias.
    pub mix: Option<Tensor<B, 2>>,
}

impl<B: Backend> Convolution<B> {
    /// Prepares weights for use.
    pub fn new(weight: Tensor<B, 4>, bias: Tensor<B, 1>) -> Self {
        let packed = B::pack(weight.clone());
        Self {
            weight,
            bias,
            packed,
            mix: None,
        }
    }
}

/// What an operation keeps for its way back: bits, packed as the engine likes.
pub type Mask<B> = Tensor<B, 1, Int>;

/// The operations on a concrete backend, forward and backward.
///
/// All defaults are those of [`plain`].
pub trait Engine: backend::Backend {
    /// Prepares a kernel `[channels_out, channels_in, 3, 3]`, once for all passes.
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        plain::pack(weight)
    }

    /// The convolution of `x`, `[batch, channels_in, height, width]`, with what follows it, mixed where
    /// the weights say so, and with `keep` the mask for the way back (none for [`Then::Nothing`], which
    /// needs none).
    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &Convolution<Self>,
        then: Then,
        keep: bool,
    ) -> (Tensor<Self, 4>, Option<Mask<Self>>) {
        plain::convolve(x, convolution, then, keep)
    }

    /// The gradient with respect to an `x` of `size` (height and width), from that with respect to
    /// the output.
    fn convolve_backward(
        gradient: Tensor<Self, 4>,
        convolution: &Convolution<Self>,
        then: Then,
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
    fn mix(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        plain::mix(x, matrix, bias)
    }

    /// The gradient with respect to `x`, `matrixᵀ · gradient`, added to `sum`, what other uses of `x`
    /// gave already.
    fn mix_backward(
        gradient: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        plain::mix_backward(gradient, matrix, sum)
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

/// A backend that the crate runs on: an [`Engine`], or `Autodiff` around one.
///
/// Gradients flow to features and images, never to weights.
pub trait Backend: backend::Backend {
    /// See [`Engine::pack`].
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1>;

    /// See [`Engine::convolve`].
    fn convolve(x: Tensor<Self, 4>, convolution: &Convolution<Self>, then: Then)
    -> Tensor<Self, 4>;

    /// See [`Engine::pool`].
    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4>;

    /// See [`Engine::mix`].
    fn mix(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4>;

    /// See [`Engine::gram`].
    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3>;
}

impl<B: Engine> Backend for B {
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        <B as Engine>::pack(weight)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &Convolution<Self>,
        then: Then,
    ) -> Tensor<Self, 4> {
        <B as Engine>::convolve(x, convolution, then, false).0
    }

    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4> {
        <B as Engine>::pool(x, pooling, false).0
    }

    fn mix(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        <B as Engine>::mix(x, matrix, bias)
    }

    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3> {
        <B as Engine>::gram(features)
    }
}

/// A [`Backend`] with autodiff, on the inside of which the crate runs as well.
pub trait AutodiffBackend: Backend + backend::AutodiffBackend<InnerBackend: Backend> {}

impl<B> AutodiffBackend for B where B: Backend + backend::AutodiffBackend<InnerBackend: Backend> {}

#[cfg(feature = "cuda")]
mod cuda {
    use burn::backend::Cuda;

    impl super::Engine for Cuda {}
    impl super::Engine for Cuda<half::f16> {}
    impl super::Engine for Cuda<half::bf16> {}
}

#[cfg(feature = "wgpu")]
impl<F, I, B> Engine for burn::backend::Wgpu<F, I, B>
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
