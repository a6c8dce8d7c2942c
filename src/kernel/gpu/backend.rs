//! [`ConvOps`] for Burn's GPU backends.

use std::collections::VecDeque;

use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::ops::{self, Weighted};
use crate::kernel::{
    BackwardMask, ConvOps, CurvaturePair, Epilogue, PackedConv2d, Pooling, Precision, reference,
};

type Backend<R, F, I, T> = CubeBackend<R, F, I, T>;

impl<R, F, I, T> ConvOps for Backend<R, F, I, T>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    fn pack(weight: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 1> {
        match takes(&weight) {
            true => wrap(ops::pack(unwrap(weight), precision)),
            false => reference::pack(weight),
        }
    }

    fn precision(device: &Self::Device, least: Precision) -> Precision {
        match ops::factors(&R::client(device), least) {
            Some(_) => least,
            None => Precision::F32,
        }
    }

    fn device_memory(device: &Self::Device) -> Option<u64> {
        let usage = R::client(device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
        save_mask: bool,
    ) -> (Tensor<Self, 4>, Option<BackwardMask<Self>>) {
        if !takes_all(&x, convolution) {
            return reference::convolve(x, convolution, epilogue, save_mask);
        }
        let (y, mask) = ops::convolve(unwrap(x), weighted(convolution), epilogue, save_mask);
        (wrap(y), mask.map(Tensor::from_primitive))
    }

    fn convolve_backward(
        gradient: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
        mask: Option<BackwardMask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        if !takes_all(&gradient, convolution) {
            return reference::convolve_backward(gradient, convolution, epilogue, mask, size);
        }
        let mask = mask.map(Tensor::into_primitive);
        let weights = weighted(convolution);
        wrap(ops::convolve_backward(
            unwrap(gradient),
            weights,
            epilogue,
            mask,
            size,
        ))
    }

    fn pool(
        x: Tensor<Self, 4>,
        pooling: Pooling,
        save_mask: bool,
    ) -> (Tensor<Self, 4>, Option<BackwardMask<Self>>) {
        if !takes(&x) {
            return reference::pool(x, pooling, save_mask);
        }
        let (y, mask) = ops::pool(unwrap(x), pooling, save_mask);
        (wrap(y), mask.map(Tensor::from_primitive))
    }

    fn pool_backward(
        gradient: Tensor<Self, 4>,
        pooling: Pooling,
        mask: Option<BackwardMask<Self>>,
        size: [usize; 2],
    ) -> Tensor<Self, 4> {
        if !takes(&gradient) {
            return reference::pool_backward(gradient, pooling, mask, size);
        }
        let mask = mask.map(Tensor::into_primitive);
        wrap(ops::pool_backward(unwrap(gradient), pooling, mask, size))
    }

    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        match takes(&x) && takes(&matrix) {
            true => wrap(ops::conv1x1(
                unwrap(x),
                unwrap(matrix),
                bias.map(unwrap),
                Precision::F32,
            )),
            false => reference::conv1x1(x, matrix, bias),
        }
    }

    fn conv1x1_backward(
        gradient: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        match takes(&gradient) && takes(&matrix) {
            true => {
                let sum = sum.map(unwrap);
                wrap(ops::conv1x1_backward(
                    unwrap(gradient),
                    unwrap(matrix),
                    sum,
                    Precision::F32,
                ))
            }
            false => reference::conv1x1_backward(gradient, matrix, sum),
        }
    }

    fn gram(features: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 3> {
        match takes(&features) && features.shape().num_elements() > 0 {
            true => wrap(ops::gram(unwrap(features), precision)),
            false => reference::gram(features),
        }
    }

    fn gram_backward(
        features: Tensor<Self, 4>,
        gradient: Tensor<Self, 3>,
        sum: Option<Tensor<Self, 4>>,
        precision: Precision,
    ) -> Tensor<Self, 4> {
        match takes(&features) {
            true => {
                let (sum, gradient) = (sum.map(unwrap), unwrap(gradient));
                wrap(ops::gram_backward(
                    unwrap(features),
                    gradient,
                    sum,
                    precision,
                ))
            }
            false => reference::gram_backward(features, gradient, sum),
        }
    }

    fn squared_distances(
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 1> {
        match takes(&x) && x.dtype() == target.dtype() && x.shape().num_elements() > 0 {
            true => wrap(ops::squared_distances(unwrap(x), unwrap(target), scale)),
            false => reference::squared_distances(x, target, scale),
        }
    }

    fn squared_distances_backward(
        gradient: Tensor<Self, 1>,
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 2> {
        match takes(&x) && x.dtype() == target.dtype() && x.shape().num_elements() > 0 {
            true => {
                let (gradient, x, target) = (unwrap(gradient), unwrap(x), unwrap(target));
                wrap(ops::squared_distances_backward(gradient, x, target, scale))
            }
            false => reference::squared_distances_backward(gradient, x, target, scale),
        }
    }

    fn curvature(
        gradient: Tensor<Self, 4>,
        previous: Tensor<Self, 4>,
        step: &Tensor<Self, 4>,
    ) -> (Tensor<Self, 4>, Tensor<Self, 1>) {
        if !takes(&gradient) {
            return reference::curvature(gradient, previous, step);
        }
        let step = unwrap(step.clone());
        let (y, measures) = ops::curvature(unwrap(gradient), unwrap(previous), step);
        (wrap(y), wrap(measures))
    }

    fn two_loop(
        gradient: Tensor<Self, 4>,
        pairs: &VecDeque<CurvaturePair<Self>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        if !takes(&gradient) {
            return reference::two_loop(gradient, pairs, scale);
        }
        let pairs = pairs
            .iter()
            .map(|CurvaturePair { s, y, rho }| ([unwrap(s.clone()), unwrap(y.clone())], *rho));
        wrap(ops::two_loop(unwrap(gradient), pairs.collect(), scale))
    }
}

fn takes<R, F, I, T, const D: usize>(x: &Tensor<Backend<R, F, I, T>, D>) -> bool
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    ops::takes(x.dtype())
}

/// Whether the kernels take a tensor and weights: both have one type.
fn takes_all<R, F, I, T>(
    x: &Tensor<Backend<R, F, I, T>, 4>,
    convolution: &PackedConv2d<Backend<R, F, I, T>>,
) -> bool
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    takes(x) && x.dtype() == convolution.weight.dtype()
}

fn unwrap<R, F, I, T, const D: usize>(x: Tensor<Backend<R, F, I, T>, D>) -> CubeTensor<R>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    x.into_primitive().tensor()
}

fn wrap<R, F, I, T, const D: usize>(x: CubeTensor<R>) -> Tensor<Backend<R, F, I, T>, D>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

fn weighted<R, F, I, T>(convolution: &PackedConv2d<Backend<R, F, I, T>>) -> Weighted<R>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    let [channels_out, channels_in, ..] = convolution.weight.dims();
    Weighted {
        packed: unwrap(convolution.packed.clone()),
        bias: unwrap(convolution.bias.clone()),
        projection: convolution.projection.clone().map(unwrap),
        precision: convolution.precision,
        channels_out,
        channels_in,
    }
}
