//! The backward pass of every operation, for `Autodiff` around any [`ConvOps`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor, TensorPrimitive};

use super::segment::ReadGradients;
use super::{
    AdamStep, BackwardMask, ConvOps, CurvaturePair, Epilogue, PackedConv2d, PixelPairs, Pointwise,
    Pooling, Precision, Read, SamplePoints, Stage, StyleBackend, Target, VariationNorm,
    all_positions, segment,
};
use crate::rect::Rect;

impl<B: ConvOps, C: CheckpointStrategy> StyleBackend for Autodiff<B, C> {
    const SEGMENT_VALUES: usize = B::SEGMENT_VALUES;

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

    fn convolve_segment(
        x: Tensor<Self, 4>,
        before: Option<Pointwise<Self>>,
        stages: Vec<Stage<Self>>,
        area: Rect,
        values: usize,
    ) -> (Tensor<Self, 4>, Vec<Read<Self>>) {
        let stages = stages.iter().map(|stage| Stage {
            convolution: inner(&stage.convolution),
            epilogue: stage.epilogue,
            moments: stage.moments,
            distances: stage.distances.iter().map(inner_target).collect(),
        });
        let stages: Vec<_> = stages.collect();
        let before = before.map(|map| Pointwise {
            matrix: map.matrix.inner(),
            bias: map.bias.inner(),
        });
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let later = Arc::new(Mutex::new(Vec::new()));
        let (response, read) = match SegmentBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (output, saved) = segment::forward(x, before, stages, area, values, true);
                let saved = saved.expect("what was asked for");
                let response = output.response.into_primitive().tensor();
                let response = prepared.finish((saved, later.clone()), response);
                (response, output.read)
            }
            OpsKind::UnTracked(prepared) => {
                let (output, _) = segment::forward(x, before, stages, area, values, false);
                let response = output.response.into_primitive().tensor();
                (prepared.finish(response), output.read)
            }
        };
        *lock(&later) = read.iter().map(|read| vec![None; read.len()]).collect();
        // Children of the response, though their gradients go past it: so that they come before its own.
        let child = |place: [usize; 2], value: Tensor<B, 3>| {
            let value = value.into_primitive().tensor();
            let child = match SegmentReadBackward
                .prepare::<C>([response.node.clone()])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prepared) => prepared.finish((later.clone(), place), value),
                OpsKind::UnTracked(prepared) => prepared.finish(value),
            };
            Tensor::from_primitive(TensorPrimitive::Float(child))
        };
        let read = read.into_iter().enumerate().map(|(stage, read)| {
            let read = read.into_iter().enumerate();
            read.map(|(index, value)| child([stage, index], value))
                .collect()
        });
        let read = read.collect();
        let response = Tensor::from_primitive(TensorPrimitive::Float(response));
        (response, read)
    }

    fn crop(x: Tensor<Self, 4>, area: Rect) -> Tensor<Self, 4> {
        if area == all_positions(&x) {
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
        let (gradient, sum) = (gradient.inner(), sum.map(Tensor::inner));
        Tensor::from_inner(<B as StyleBackend>::crop_backward(
            gradient, area, size, sum,
        ))
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

    fn gram(features: Tensor<Self, 4>, area: Rect, precision: Precision) -> Tensor<Self, 3> {
        let node = features.clone().into_primitive().tensor().node;
        let features = features.inner();
        let output = match GramBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let gram = B::gram(features.clone(), area, precision);
                prepared.finish((features, area, precision), gram.into_primitive().tensor())
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(B::gram(features, area, precision).into_primitive().tensor())
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

    fn variation(x: Tensor<Self, 4>, pairs: &[PixelPairs], norm: VariationNorm) -> Tensor<Self, 1> {
        let node = x.clone().into_primitive().tensor().node;
        let x = x.inner();
        let sums = B::variation(x.clone(), pairs, norm);
        let sums = sums.into_primitive().tensor();
        let output = match VariationBackward
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish((x, pairs.to_vec(), norm), sums),
            OpsKind::UnTracked(prepared) => prepared.finish(sums),
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

    fn adam(
        image: Tensor<Self, 4>,
        gradient: Tensor<Self, 4>,
        moments: [Tensor<Self, 4>; 2],
        step: AdamStep,
    ) -> (Tensor<Self, 4>, [Tensor<Self, 4>; 2]) {
        let moments = moments.map(Tensor::inner);
        let (image, moments) = B::adam(image.inner(), gradient.inner(), moments, step);
        (Tensor::from_inner(image), moments.map(Tensor::from_inner))
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

/// The same target without autodiff.
fn inner_target<B: ConvOps, C: CheckpointStrategy>(target: &Target<Autodiff<B, C>>) -> Target<B> {
    Target {
        values: target.values.clone().inner(),
        scale: target.scale,
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

/// The gradients with respect to what is read of a segment's stages, until that of its response is there.
type GradientsOfRead<B> = Arc<Mutex<Vec<ReadGradients<B>>>>;

#[derive(Debug)]
struct SegmentBackward;

impl<B: ConvOps> Backward<B, 1> for SegmentBackward {
    type State = (segment::Saved<B>, GradientsOfRead<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let any = ops.state.0.any();
        let gradient = own_gradient(grads, &ops, any);
        let sum = take_gradient(grads, &ops, any);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let (saved, read) = ops.state;
        let read = std::mem::take(&mut *lock(&read));
        let sum = segment::backward(gradient, read, saved, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
    }
}

/// Gives the gradient to the [`SegmentBackward`] whose response is the parent.
#[derive(Debug)]
struct SegmentReadBackward;

impl<B: ConvOps> Backward<B, 1> for SegmentReadBackward {
    type State = (GradientsOfRead<B>, [usize; 2]);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let (later, [stage, index]) = ops.state;
        lock(&later)[stage][index] = Some(gradient);
    }
}

/// A panic of another thread has changed nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Removes the gradient with respect to an operation's own result, which may be none if that was not used.
fn own_gradient<B: ConvOps, S, const D: usize>(
    grads: &mut Gradients,
    ops: &Ops<S, 1>,
    any: &Tensor<B, D>,
) -> Option<Tensor<B, 4>> {
    let mut known = Autodiff::<B>::from_inner(any.clone().into_primitive().tensor());
    known.node = ops.node.clone();
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
    type State = (Tensor<B, 4>, Rect, Precision);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &ops.state.0);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let (features, area, precision) = ops.state;
        let sum = B::gram_backward(features, area, gradient, sum, precision);
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
struct VariationBackward;

impl<B: ConvOps> Backward<B, 1> for VariationBackward {
    type State = (Tensor<B, 4>, Vec<PixelPairs>, VariationNorm);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = tensor(grads.consume::<B>(&ops.node));
        let sum = take_gradient(grads, &ops, &ops.state.0);
        let [Some(parent)] = ops.parents else {
            return;
        };
        let (x, pairs, norm) = ops.state;
        let sum = B::variation_backward(gradient, x, &pairs, norm, sum);
        grads.register::<B>(parent.id, sum.into_primitive().tensor());
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
