//! The way back of every operation, for any engine.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorPrimitive};

use super::{ConvOps, Epilogue, Mask, PackedConv2d, Pooling, StyleBackend};

impl<B: ConvOps, C: CheckpointStrategy> StyleBackend for Autodiff<B, C> {
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        Tensor::from_inner(B::pack(weight.inner()))
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        then: Epilogue,
    ) -> Tensor<Self, 4> {
        let PackedConv2d {
            weight,
            bias,
            packed,
            projection,
        } = convolution.clone();
        let convolution = PackedConv2d {
            weight: weight.inner(),
            bias: bias.inner(),
            packed: packed.inner(),
            projection: projection.map(Tensor::inner),
        };
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let output = match Convolve.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, mask) = B::convolve(x, &convolution, then, true);
                let state = (convolution, then, mask, [height, width]);
                prepared.finish(state, y.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                let (y, _) = B::convolve(x, &convolution, then, false);
                prepared.finish(y.into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4> {
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let output = match Pool.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (y, mask) = B::pool(x, pooling, true);
                prepared.finish(
                    (pooling, mask, [height, width]),
                    y.into_primitive().tensor(),
                )
            }
            OpsKind::UnTracked(prepared) => {
                let (y, _) = B::pool(x, pooling, false);
                prepared.finish(y.into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn conv1x1(
        x: Tensor<Self, 4>,
        matrix: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 4> {
        let node = x.clone().into_primitive().tensor().node;
        let (x, matrix, bias) = (x.inner(), matrix.inner(), bias.map(Tensor::inner));
        let output = match Mix.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let y = B::conv1x1(x, matrix.clone(), bias);
                prepared.finish(matrix, y.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::conv1x1(x, matrix, bias).into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn gram(features: Tensor<Self, 4>) -> Tensor<Self, 3> {
        let node = features.clone().into_primitive().tensor().node;
        let features = features.inner();
        let output = match Gram.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let gram = B::gram(features.clone());
                prepared.finish(features, gram.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::gram(features).into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }
}

fn tensor<B: burn::tensor::backend::Backend, const D: usize>(
    primitive: B::FloatTensorPrimitive,
) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[derive(Debug)]
struct Convolve;

impl<B: ConvOps> Backward<B, 1> for Convolve {
    type State = (PackedConv2d<B>, Epilogue, Option<Mask<B>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (convolution, then, mask, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = tensor(gradient);
            let gradient = B::convolve_backward(gradient, &convolution, then, mask, size);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct Pool;

impl<B: ConvOps> Backward<B, 1> for Pool {
    type State = (Pooling, Option<Mask<B>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (pooling, mask, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = B::pool_backward(tensor(gradient), pooling, mask, size);
            gradient.into_primitive().tensor()
        });
    }
}

/// What other uses of the parent gave already, taken out of the gradients, so that it is added to in
/// place: the features of large images are large, and two such tensors would become a third. Of
/// `any` tensor nothing is used.
fn take<B: ConvOps, S>(
    grads: &mut Gradients,
    ops: &Ops<S, 1>,
    any: &Tensor<B, 4>,
) -> Option<Tensor<B, 4>> {
    let parent = ops.parents[0].as_ref()?;
    let mut known = Autodiff::<B>::from_inner(any.clone().into_primitive().tensor());
    known.node = parent.clone();
    grads.remove(&known).map(tensor)
}

#[derive(Debug)]
struct Mix;

impl<B: ConvOps> Backward<B, 1> for Mix {
    type State = Tensor<B, 2>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let sum = take(grads, &ops, &gradient);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let sum = B::conv1x1_backward(gradient, ops.state, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

#[derive(Debug)]
struct Gram;

impl<B: ConvOps> Backward<B, 1> for Gram {
    type State = Tensor<B, 4>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let sum = take(grads, &ops, &ops.state);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let sum = B::gram_backward(ops.state, gradient, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}
