//! The backward pass of every operation, for `Autodiff` around any [`ConvOps`].

use std::collections::VecDeque;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor, TensorPrimitive};

use super::{
    BackwardMask, ConvOps, CurvaturePair, Epilogue, PackedConv2d, Pooling, Precision, SamplePoints,
    StyleBackend, channel_means, is_whole, strips,
};
use crate::rect::Rect;

impl<B: ConvOps, C: CheckpointStrategy> StyleBackend for Autodiff<B, C> {
    fn pack(weight: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 1> {
        Tensor::from_inner(B::pack(weight.inner(), precision))
    }

    fn precision(device: &Self::Device, least: Precision) -> Precision {
        B::precision(device, least)
    }

    fn device_memory(device: &Self::Device) -> Option<u64> {
        B::device_memory(device)
    }

    fn convolve(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        epilogue: Epilogue,
    ) -> Tensor<Self, 4> {
        let convolution = inner(convolution);
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let output = match ConvolveBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (y, mask) = B::convolve(x, &convolution, epilogue, true);
                let state = (convolution, epilogue, mask, [height, width]);
                prepared.finish(state, y.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                let (y, _) = B::convolve(x, &convolution, epilogue, false);
                prepared.finish(y.into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn has_strips(size: [usize; 2]) -> bool {
        strips::are_several(size, B::STRIP_PIXELS)
    }

    fn convolve_block(
        x: Tensor<Self, 4>,
        convolutions: [&PackedConv2d<Self>; 2],
        epilogue: Epilogue,
    ) -> Tensor<Self, 4> {
        let [first, second] = convolutions.map(inner);
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let output = match BlockBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (y, masks) = strips::block(x, [&first, &second], epilogue, true);
                let state = ([first, second], epilogue, masks, [height, width]);
                prepared.finish(state, y.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                let (y, _) = strips::block(x, [&first, &second], epilogue, false);
                prepared.finish(y.into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn convolve_gram(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        area: Rect,
    ) -> Tensor<Self, 3> {
        let convolution = inner(convolution);
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let gram = strips::gram(&x, &convolution, area);
        let gram = gram.into_primitive().tensor();
        let output = match ConvolveGramBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish((x, convolution, area), gram),
            OpsKind::UnTracked(prepared) => prepared.finish(gram),
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn convolve_mean(
        x: Tensor<Self, 4>,
        convolution: &PackedConv2d<Self>,
        area: Rect,
    ) -> Tensor<Self, 3> {
        let features = Self::convolve(x, convolution, Epilogue::Relu);
        channel_means(Self::crop(features, area))
    }

    fn crop(x: Tensor<Self, 4>, area: Rect) -> Tensor<Self, 4> {
        if is_whole(&x, area) {
            return x;
        }
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let y = B::crop(x.inner(), area).into_primitive().tensor();
        let output = match CropBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((area, [height, width]), y),
            OpsKind::UnTracked(prepared) => prepared.finish(y),
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn crop_backward(
        gradient: Tensor<Self, 4>,
        area: Rect,
        size: [usize; 2],
        sum: Option<Tensor<Self, 4>>,
    ) -> Tensor<Self, 4> {
        let sum = sum.map(Tensor::inner);
        Tensor::from_inner(B::crop_backward(gradient.inner(), area, size, sum))
    }

    fn pool(x: Tensor<Self, 4>, pooling: Pooling) -> Tensor<Self, 4> {
        let [_, _, height, width] = x.dims();
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let output = match PoolBackward.prepare::<C>([node]).compute_bound().stateful() {
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
        let output = match Conv1x1Backward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
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

    fn gram(features: Tensor<Self, 4>, precision: Precision) -> Tensor<Self, 3> {
        let node = features.clone().into_primitive().tensor().node;
        let features = features.inner();
        let output = match GramBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let gram = B::gram(features.clone(), precision);
                prepared.finish((features, precision), gram.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::gram(features, precision).into_primitive().tensor())
            }
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn sample(features: Tensor<Self, 4>, points: &SamplePoints) -> Tensor<Self, 3> {
        let node = features.clone().into_primitive().tensor().node;
        let samples = B::sample(features.inner(), points);
        let samples = samples.into_primitive().tensor();
        let output = match SampleBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(points.clone(), samples),
            OpsKind::UnTracked(prepared) => prepared.finish(samples),
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn column_products(columns: Tensor<Self, 3>, target: Tensor<Self, 3>) -> Tensor<Self, 3> {
        let node = columns.clone().into_primitive().tensor().node;
        let (columns, target) = (columns.inner(), target.inner());
        let products = B::column_products(columns.clone(), target.clone());
        let products = products.into_primitive().tensor();
        let output = match ColumnProductsBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish([columns, target], products),
            OpsKind::UnTracked(prepared) => prepared.finish(products),
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn nearest(
        queries: Tensor<Self, 2>,
        candidates: Tensor<Self, 2>,
    ) -> (Tensor<Self, 1, Int>, Tensor<Self, 1>) {
        let (indices, products) = B::nearest(queries.inner(), candidates.inner());
        (Tensor::from_inner(indices), Tensor::from_inner(products))
    }

    fn squared_distances(
        x: Tensor<Self, 2>,
        target: Tensor<Self, 2>,
        scale: f64,
    ) -> Tensor<Self, 1> {
        let node = x.clone().into_primitive().tensor().node;
        let (x, target) = (x.inner(), target.inner());
        let distances = B::squared_distances(x.clone(), target.clone(), scale);
        let distances = distances.into_primitive().tensor();
        let output = match SquaredDistancesBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish((x, target, scale), distances),
            OpsKind::UnTracked(prepared) => prepared.finish(distances),
        };
        Tensor::from_primitive(TensorPrimitive::Float(output))
    }

    fn curvature(
        gradient: Tensor<Self, 4>,
        previous: Tensor<Self, 4>,
        step: &Tensor<Self, 4>,
    ) -> (Tensor<Self, 4>, Tensor<Self, 1>) {
        let step = step.clone().inner();
        let (y, measures) = B::curvature(gradient.inner(), previous.inner(), &step);
        (Tensor::from_inner(y), Tensor::from_inner(measures))
    }

    fn two_loop(
        gradient: Tensor<Self, 4>,
        pairs: &VecDeque<CurvaturePair<Self>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        let pairs = pairs.iter().map(|pair| CurvaturePair {
            s: pair.s.clone().inner(),
            y: pair.y.clone().inner(),
            rho: pair.rho,
        });
        Tensor::from_inner(B::two_loop(gradient.inner(), &pairs.collect(), scale))
    }
}

/// The same weights without autodiff.
fn inner<B: ConvOps, C: CheckpointStrategy>(
    convolution: &PackedConv2d<Autodiff<B, C>>,
) -> PackedConv2d<B> {
    let PackedConv2d {
        weight,
        bias,
        packed,
        projection,
        precision,
    } = convolution.clone();
    PackedConv2d {
        weight: weight.inner(),
        bias: bias.inner(),
        packed: packed.inner(),
        projection: projection.map(Tensor::inner),
        precision,
    }
}

fn tensor<B: burn::tensor::backend::Backend, const D: usize>(
    primitive: B::FloatTensorPrimitive,
) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

#[derive(Debug)]
struct ConvolveBackward;

impl<B: ConvOps> Backward<B, 1> for ConvolveBackward {
    type State = (
        PackedConv2d<B>,
        Epilogue,
        Option<BackwardMask<B>>,
        [usize; 2],
    );

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (convolution, epilogue, mask, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = tensor(gradient);
            let gradient = B::convolve_backward(gradient, &convolution, epilogue, mask, size);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct BlockBackward;

impl<B: ConvOps> Backward<B, 1> for BlockBackward {
    type State = (
        [PackedConv2d<B>; 2],
        Epilogue,
        strips::BlockMasks<B>,
        [usize; 2],
    );

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let ([first, second], epilogue, masks, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let convolutions = [&first, &second];
            let gradient = tensor(gradient);
            let gradient = strips::block_backward(gradient, convolutions, epilogue, masks, size);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct ConvolveGramBackward;

impl<B: ConvOps> Backward<B, 1> for ConvolveGramBackward {
    type State = (Tensor<B, 4>, PackedConv2d<B>, Rect);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, convolution, area) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = strips::gram_backward(tensor(gradient), &x, &convolution, area);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct CropBackward;

impl<B: ConvOps> Backward<B, 1> for CropBackward {
    type State = (Rect, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor::<B, 4>(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &gradient);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let (area, size) = ops.state;
        let sum = B::crop_backward(gradient, area, size, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

#[derive(Debug)]
struct PoolBackward;

impl<B: ConvOps> Backward<B, 1> for PoolBackward {
    type State = (Pooling, Option<BackwardMask<B>>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (pooling, mask, size) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = B::pool_backward(tensor(gradient), pooling, mask, size);
            gradient.into_primitive().tensor()
        });
    }
}

/// Removes the parent's gradient so far, from other uses of it, so that the next one is added in
/// place: features of large images are large, and a separate sum would be a third such tensor. `any`
/// tensor will do; its values are not used.
fn take_gradient<B: ConvOps, S, const D: usize>(
    grads: &mut Gradients,
    ops: &Ops<S, 1>,
    any: &Tensor<B, D>,
) -> Option<Tensor<B, 4>> {
    let parent = ops.parents[0].as_ref()?;
    let mut known = Autodiff::<B>::from_inner(any.clone().into_primitive().tensor());
    known.node = parent.clone();
    grads.remove(&known).map(tensor)
}

#[derive(Debug)]
struct Conv1x1Backward;

impl<B: ConvOps> Backward<B, 1> for Conv1x1Backward {
    type State = Tensor<B, 2>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor::<B, 4>(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &gradient);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let sum = B::conv1x1_backward(gradient, ops.state, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

#[derive(Debug)]
struct GramBackward;

impl<B: ConvOps> Backward<B, 1> for GramBackward {
    type State = (Tensor<B, 4>, Precision);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &ops.state.0);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let (features, precision) = ops.state;
        let sum = B::gram_backward(features, gradient, sum, precision);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

#[derive(Debug)]
struct SampleBackward;

impl<B: ConvOps> Backward<B, 1> for SampleBackward {
    type State = SamplePoints;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor::<B, 3>(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &gradient);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let sum = B::sample_backward(gradient, &ops.state, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

#[derive(Debug)]
struct ColumnProductsBackward;

impl<B: ConvOps> Backward<B, 1> for ColumnProductsBackward {
    /// Columns and target.
    type State = [Tensor<B, 3>; 2];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [columns, target] = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = B::column_products_backward(tensor(gradient), columns, target);
            gradient.into_primitive().tensor()
        });
    }
}

#[derive(Debug)]
struct SquaredDistancesBackward;

impl<B: ConvOps> Backward<B, 1> for SquaredDistancesBackward {
    /// `x`, target and scale.
    type State = (Tensor<B, 2>, Tensor<B, 2>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (x, target, scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |gradient| {
            let gradient = B::squared_distances_backward(tensor(gradient), x, target, scale);
            gradient.into_primitive().tensor()
        });
    }
}
