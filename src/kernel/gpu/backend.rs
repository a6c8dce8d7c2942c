//! [`ConvOps`] for Burn's GPU backends, with and without operator fusion.

use std::collections::VecDeque;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::client::ComputeClient;

use super::ops::{self, Weighted};
use crate::kernel::{
    BackwardMask, ConvOps, CurvaturePair, Epilogue, PackedConv2d, Pooling, Precision, StyleBackend,
    reference,
};
use crate::rect::Rect;

/// A backend whose tensors are those of CubeCL.
trait CubeTensors: Backend {
    type Runtime: CubeRuntime;

    fn client(device: &Self::Device) -> ComputeClient<Self::Runtime>;

    fn unwrap<const D: usize>(x: Tensor<Self, D>) -> CubeTensor<Self::Runtime>;

    fn wrap<const D: usize>(x: CubeTensor<Self::Runtime>) -> Tensor<Self, D>;

    fn unwrap_mask(mask: BackwardMask<Self>) -> CubeTensor<Self::Runtime>;

    fn wrap_mask(mask: CubeTensor<Self::Runtime>) -> BackwardMask<Self>;
}

impl<R, F, I, T> CubeTensors for CubeBackend<R, F, I, T>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    T: BoolElement,
{
    type Runtime = R;

    fn client(device: &Self::Device) -> ComputeClient<R> {
        R::client(device)
    }

    fn unwrap<const D: usize>(x: Tensor<Self, D>) -> CubeTensor<R> {
        x.into_primitive().tensor()
    }

    fn wrap<const D: usize>(x: CubeTensor<R>) -> Tensor<Self, D> {
        Tensor::from_primitive(TensorPrimitive::Float(x))
    }

    fn unwrap_mask(mask: BackwardMask<Self>) -> CubeTensor<R> {
        mask.into_primitive()
    }

    fn wrap_mask(mask: CubeTensor<R>) -> BackwardMask<Self> {
        Tensor::from_primitive(mask)
    }
}

/// Burn's operator fusion queues operations; these are not queued, so that what they need is computed
/// first.
#[cfg(feature = "fusion")]
mod fusion {
    use burn_fusion::stream::OperationStreams;
    use burn_fusion::{Fusion, FusionTensor, NoOp};
    use burn_ir::{InitOperationIr, OperationIr};

    use super::*;

    impl<R, F, I, T> CubeTensors for Fusion<CubeBackend<R, F, I, T>>
    where
        R: CubeRuntime,
        F: FloatElement,
        I: IntElement,
        T: BoolElement,
    {
        type Runtime = R;

        fn client(device: &Self::Device) -> ComputeClient<R> {
            R::client(device)
        }

        fn unwrap<const D: usize>(x: Tensor<Self, D>) -> CubeTensor<R> {
            let x = x.into_primitive().tensor();
            x.client
                .clone()
                .resolve_tensor_float::<CubeBackend<R, F, I, T>>(x)
        }

        fn wrap<const D: usize>(x: CubeTensor<R>) -> Tensor<Self, D> {
            Tensor::from_primitive(TensorPrimitive::Float(register::<R, F, I, T>(x)))
        }

        fn unwrap_mask(mask: BackwardMask<Self>) -> CubeTensor<R> {
            let mask = mask.into_primitive();
            mask.client
                .clone()
                .resolve_tensor_int::<CubeBackend<R, F, I, T>>(mask)
        }

        fn wrap_mask(mask: CubeTensor<R>) -> BackwardMask<Self> {
            Tensor::from_primitive(register::<R, F, I, T>(mask))
        }
    }

    type FusionRuntime<R, F, I, T> =
        <CubeBackend<R, F, I, T> as burn_fusion::FusionBackend>::FusionRuntime;

    /// A tensor that exists already, as an operation without inputs.
    fn register<R, F, I, T>(x: CubeTensor<R>) -> FusionTensor<FusionRuntime<R, F, I, T>>
    where
        R: CubeRuntime,
        F: FloatElement,
        I: IntElement,
        T: BoolElement,
    {
        let client = burn_fusion::get_client::<CubeBackend<R, F, I, T>>(&x.device);
        let (shape, dtype) = (x.meta.shape().clone(), x.dtype);
        let id = || client.register_tensor_handle(x.into());
        let created = OperationIr::Init(InitOperationIr::create(shape, dtype, id));
        let nothing = NoOp::<CubeBackend<R, F, I, T>>::new();
        let mut outputs = client.register(OperationStreams::default(), created, nothing);
        outputs.pop().expect("one output")
    }
}

/// Implements [`ConvOps`] for a backend with [`CubeTensors`].
macro_rules! impl_conv_ops {
    ($backend:ty) => {
        impl<R, F, I, T> ConvOps for $backend
        where
            R: CubeRuntime,
            F: FloatElement,
            I: IntElement,
            T: BoolElement,
        {
            const SEGMENT_VALUES: usize = if cfg!(test) { 1 << 14 } else { 1 << 27 };

            fn pack(weight: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 1> {
                match takes(&weight) {
                    true => Self::wrap(ops::pack(Self::unwrap(weight), precision)),
                    false => reference::pack(weight),
                }
            }

            fn precision(device: &Self::Device, least: Precision) -> Precision {
                match ops::factors(&<Self as CubeTensors>::client(device), least) {
                    Some(_) => least,
                    None => Precision::F32,
                }
            }

            fn device_memory(device: &Self::Device) -> Option<u64> {
                let usage = <Self as CubeTensors>::client(device).memory_usage().ok()?;
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
                let (y, mask) =
                    ops::convolve(Self::unwrap(x), weighted(convolution), epilogue, save_mask);
                (Self::wrap(y), mask.map(Self::wrap_mask))
            }

            fn convolve_backward(
                gradient: Tensor<Self, 4>,
                convolution: &PackedConv2d<Self>,
                epilogue: Epilogue,
                mask: Option<BackwardMask<Self>>,
                size: [usize; 2],
            ) -> Tensor<Self, 4> {
                if !takes_all(&gradient, convolution) {
                    return reference::convolve_backward(
                        gradient,
                        convolution,
                        epilogue,
                        mask,
                        size,
                    );
                }
                let mask = mask.map(Self::unwrap_mask);
                let weights = weighted(convolution);
                Self::wrap(ops::convolve_backward(
                    Self::unwrap(gradient),
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
                let (y, mask) = ops::pool(Self::unwrap(x), pooling, save_mask);
                (Self::wrap(y), mask.map(Self::wrap_mask))
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
                let mask = mask.map(Self::unwrap_mask);
                Self::wrap(ops::pool_backward(
                    Self::unwrap(gradient),
                    pooling,
                    mask,
                    size,
                ))
            }

            fn conv1x1(
                x: Tensor<Self, 4>,
                matrix: Tensor<Self, 2>,
                bias: Option<Tensor<Self, 1>>,
            ) -> Tensor<Self, 4> {
                match takes(&x) && takes(&matrix) {
                    true => Self::wrap(ops::conv1x1(
                        Self::unwrap(x),
                        Self::unwrap(matrix),
                        bias.map(Self::unwrap),
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
                        let sum = sum.map(Self::unwrap);
                        Self::wrap(ops::conv1x1_backward(
                            Self::unwrap(gradient),
                            Self::unwrap(matrix),
                            sum,
                            Precision::F32,
                        ))
                    }
                    false => reference::conv1x1_backward(gradient, matrix, sum),
                }
            }

            fn gram(
                features: Tensor<Self, 4>,
                area: Rect,
                precision: Precision,
            ) -> Tensor<Self, 3> {
                if !takes(&features) || features.shape().num_elements() == 0 || area.count() == 0 {
                    return reference::gram(features, area);
                }
                let features = <Self as StyleBackend>::crop(features, area);
                Self::wrap(ops::gram(Self::unwrap(features), precision))
            }

            fn gram_backward(
                features: Tensor<Self, 4>,
                area: Rect,
                gradient: Tensor<Self, 3>,
                sum: Option<Tensor<Self, 4>>,
                precision: Precision,
            ) -> Tensor<Self, 4> {
                if !takes(&features) {
                    return reference::gram_backward(features, area, gradient, sum);
                }
                let [_, _, height, width] = features.dims();
                let size = [height, width];
                let is_whole = area == Rect::whole(size);
                let features = <Self as StyleBackend>::crop(features, area);
                let (features, gradient) = (Self::unwrap(features), Self::unwrap(gradient));
                match is_whole {
                    true => {
                        let sum = sum.map(Self::unwrap);
                        Self::wrap(ops::gram_backward(features, gradient, sum, precision))
                    }
                    false => {
                        let product = ops::gram_backward(features, gradient, None, precision);
                        reference::crop_backward(Self::wrap(product), area, size, sum)
                    }
                }
            }

            fn squared_distances(
                x: Tensor<Self, 2>,
                target: Tensor<Self, 2>,
                scale: f64,
            ) -> Tensor<Self, 1> {
                match takes(&x) && x.dtype() == target.dtype() && x.shape().num_elements() > 0 {
                    true => Self::wrap(ops::squared_distances(
                        Self::unwrap(x),
                        Self::unwrap(target),
                        scale,
                    )),
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
                        let (gradient, x, target) = (
                            Self::unwrap(gradient),
                            Self::unwrap(x),
                            Self::unwrap(target),
                        );
                        Self::wrap(ops::squared_distances_backward(gradient, x, target, scale))
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
                let step = Self::unwrap(step.clone());
                let (y, measures) =
                    ops::curvature(Self::unwrap(gradient), Self::unwrap(previous), step);
                (Self::wrap(y), Self::wrap(measures))
            }

            fn two_loop(
                gradient: Tensor<Self, 4>,
                pairs: &VecDeque<CurvaturePair<Self>>,
                scale: f64,
            ) -> Tensor<Self, 4> {
                let dtype = gradient.dtype();
                let same = |pair: &CurvaturePair<Self>| pair.s.dtype() == dtype;
                if !takes(&gradient) || !pairs.iter().all(same) {
                    return reference::two_loop(gradient, pairs, scale);
                }
                let pairs = pairs.iter().map(|CurvaturePair { s, y, rho }| {
                    ([Self::unwrap(s.clone()), Self::unwrap(y.clone())], *rho)
                });
                Self::wrap(ops::two_loop(
                    Self::unwrap(gradient),
                    pairs.collect(),
                    scale,
                ))
            }
        }
    };
}

impl_conv_ops!(CubeBackend<R, F, I, T>);
#[cfg(feature = "fusion")]
impl_conv_ops!(burn_fusion::Fusion<CubeBackend<R, F, I, T>>);

fn takes<B: Backend, const D: usize>(x: &Tensor<B, D>) -> bool {
    ops::takes(x.dtype())
}

/// Whether the kernels take a tensor and weights: both have one type.
fn takes_all<B: Backend>(x: &Tensor<B, 4>, convolution: &PackedConv2d<B>) -> bool {
    takes(x) && x.dtype() == convolution.weight.dtype()
}

fn weighted<B: CubeTensors>(convolution: &PackedConv2d<B>) -> Weighted<B::Runtime> {
    let [channels_out, channels_in, ..] = convolution.weight.dims();
    Weighted {
        packed: B::unwrap(convolution.packed.clone()),
        bias: B::unwrap(convolution.bias.clone()),
        projection: convolution.projection.clone().map(B::unwrap),
        precision: convolution.precision,
        channels_out,
        channels_in,
    }
}
