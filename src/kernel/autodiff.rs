//! The way back of every operation, for any engine.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorPrimitive};

use super::{Backend, Convolution, Engine, Mask, Pooling, Then};

impl<B: Engine, C: CheckpointStrategy> Backend for Autodiff<B, C> {
    fn pack(weight: Tensor<Self, 4>) -> Tensor<Self, 1> {
        Tensor::from_inner(B::pack(weight.inner()))
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &Convolution<Self>,
        then: Then,
    ) -> Tensor<Self, 4> {
        let Convolution {
            weight,
            bias,
            packed,
        } = convolution.clone();
        let convolution = Convolution {
            weight: weight.inner(),
            bias: bias.inner(),
            packed: packed.inner(),
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

impl<B: Engine> Backward<B, 1> for Convolve {
    type State = (Convolution<B>, Then, Option<Mask<B>>, [usize; 2]);

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

impl<B: Engine> Backward<B, 1> for Pool {
    type State = (Pooling, Option<Mask<B>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (pooling, mask, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = B::pool_backward(tensor(gradient), pooling, mask, size);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct Gram;

impl<B: Engine> Backward<B, 1> for Gram {
    type State = Tensor<B, 4>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let features = ops.state;
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let [Some(parent)] = ops.parents else {
            return;
        };
        // The features of large images are large: what the layers behind gave already is added to in
        // place, where otherwise two tensors of that size would become a third.
        let mut known = Autodiff::<B>::from_inner(features.clone().into_primitive().tensor());
        known.node = parent.clone();
        let sum = grads.remove(&known).map(tensor);
        drop(known);
        let sum = B::gram_backward(features, gradient, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}
