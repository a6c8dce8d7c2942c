//! The steps of optimisers on tensors.

use std::collections::VecDeque;
use std::ops::Deref;

use burn::tensor::{DType, Tensor};
use half::bf16;

use super::{CpuBackend, filled, some_floats};
use crate::kernel::cpu::vectors;
use crate::kernel::{AdamStep, CurvaturePair, reference};

pub(in crate::kernel) fn curvature<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    previous: Tensor<B, 4>,
    step: &Tensor<B, 4>,
) -> (Tensor<B, 4>, Tensor<B, 1>) {
    let (values, steps) = (some_floats(&gradient), some_floats(step));
    let (Some(values), Some(steps), DType::F32) = (values, steps, previous.dtype()) else {
        return reference::curvature(gradient, previous, step);
    };
    let y = B::modify(previous, |y| vectors::update(y, &values, |y, g| g - y));
    let changes = B::floats(&y).expect("as before");
    let measures = [
        vectors::largest(&values),
        vectors::dot(&changes, &steps) as f32,
        vectors::dot(&changes, &changes) as f32,
    ];
    drop(changes);
    let measures = filled([3], |output| output.copy_from_slice(&measures));
    (y, measures)
}

pub(in crate::kernel) fn two_loop<B: CpuBackend>(
    gradient: Tensor<B, 4>,
    pairs: &VecDeque<CurvaturePair<B>>,
    scale: f64,
) -> Tensor<B, 4> {
    let kept = |tensor: &Tensor<B, 4>| B::kept(tensor);
    let found = pairs
        .iter()
        .map(|pair| Some((kept(&pair.s)?, kept(&pair.y)?, pair.rho)));
    let found: Option<Vec<_>> = found.collect();
    let (Some(values), Some(found)) = (some_floats(&gradient), found) else {
        return reference::two_loop(gradient, pairs, scale);
    };
    filled(gradient.dims(), |q| {
        let scale = scale as f32;
        vectors::update(q, &values, |_, g| -g);
        // Each product is of what the pass before has changed, and is summed in that pass.
        let mut product = match found.last() {
            Some((s, ..)) => s.dot(q),
            None => return vectors::update(q, &values, |q, _| q * scale),
        };
        let mut alphas = vec![0.0; found.len()];
        for (index, (_, y, rho)) in found.iter().enumerate().rev() {
            alphas[index] = product * rho;
            let factor = -alphas[index] as f32;
            product = match found[..index].last() {
                Some((older, ..)) => y.update_and_dot(q, older, |q, y| q + factor * y),
                None => y.update_and_dot(q, y, |q, y| (q + factor * y) * scale),
            };
        }
        for (index, (s, _, rho)) in found.iter().enumerate() {
            let factor = (alphas[index] - product * rho) as f32;
            match found.get(index + 1) {
                Some((_, newer, _)) => {
                    product = s.update_and_dot(q, newer, |q, s| q + factor * s);
                }
                None => s.update(q, |q, s| q + factor * s),
            }
        }
    })
}

/// The values of a tensor that is kept in single or in half precision.
pub(in crate::kernel) enum Kept<F, H> {
    Single(F),
    Half(H),
}

impl<F: Deref<Target = [f32]>, H: Deref<Target = [bf16]>> Kept<F, H> {
    fn dot(&self, x: &[f32]) -> f64 {
        match self {
            Self::Single(values) => vectors::dot(values, x),
            Self::Half(values) => vectors::dot(values, x),
        }
    }

    /// `x ← change(x, self)`.
    fn update(&self, x: &mut [f32], change: impl Fn(f32, f32) -> f32 + Sync) {
        match self {
            Self::Single(values) => vectors::update(x, values, change),
            Self::Half(values) => vectors::update(x, values, change),
        }
    }

    /// `x ← change(x, self)`; the product of `other` and what comes out.
    fn update_and_dot(
        &self,
        x: &mut [f32],
        other: &Self,
        change: impl Fn(f32, f32) -> f32 + Sync,
    ) -> f64 {
        match (self, other) {
            (Self::Single(a), Self::Single(b)) => vectors::update_and_dot(x, a, b, change),
            (Self::Single(a), Self::Half(b)) => vectors::update_and_dot(x, a, b, change),
            (Self::Half(a), Self::Single(b)) => vectors::update_and_dot(x, a, b, change),
            (Self::Half(a), Self::Half(b)) => vectors::update_and_dot(x, a, b, change),
        }
    }
}

pub(in crate::kernel) fn adam<B: CpuBackend>(
    image: Tensor<B, 4>,
    gradient: Tensor<B, 4>,
    [mean, square]: [Tensor<B, 4>; 2],
    step: AdamStep,
) -> (Tensor<B, 4>, [Tensor<B, 4>; 2]) {
    let others = [image.dtype(), mean.dtype(), square.dtype()];
    let (Some(gradients), [DType::F32, DType::F32, DType::F32]) = (some_floats(&gradient), others)
    else {
        return reference::adam(image, gradient, [mean, square], step);
    };
    let [beta1, beta2] = [step.beta1 as f32, step.beta2 as f32];
    let [rest1, rest2] = [(1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32];
    let mean = B::modify(mean, |mean| {
        vectors::update(mean, &gradients, |m, g| m * beta1 + g * rest1);
    });
    let square = B::modify(square, |square| {
        vectors::update(square, &gradients, |v, g| v * beta2 + g * g * rest2);
    });
    drop((gradients, gradient));
    let [mean_scale, square_scale] = [step.mean_scale as f32, step.square_scale as f32];
    let (epsilon, clamp) = (step.epsilon as f32, step.clamp.map(|most| most as f32));
    let means = B::floats(&mean).expect("as before");
    let squares = B::floats(&square).expect("as before");
    let image = B::modify(image, |image| {
        vectors::update_by_two(image, &means, &squares, |x, m, v| {
            let x = x - m * mean_scale / ((v * square_scale).sqrt() + epsilon);
            match clamp {
                Some(most) => x.clamp(0.0, most),
                None => x,
            }
        });
    });
    drop((means, squares));
    (image, [mean, square])
}
