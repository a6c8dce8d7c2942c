//! What losses and the optimiser sum over a whole image.

use burn::tensor::DType;
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::{array, cubes, empty, one_each, optional};
use crate::kernel::gpu::distance;
use crate::kernel::gpu::lbfgs::{self, Turn};
use crate::kernel::gpu::reduce::CUBES;

/// Values of a target from one row to the next; 0 for one row for all.
fn target_stride<R: CubeRuntime>(target: &CubeTensor<R>) -> usize {
    let [rows, columns] = target.meta.shape().dims::<2>();
    if rows == 1 { 0 } else { columns }
}

/// See [`ConvOps::squared_distances`](crate::kernel::ConvOps::squared_distances).
pub fn squared_distances<R: CubeRuntime>(
    x: CubeTensor<R>,
    target: CubeTensor<R>,
    scale: f64,
) -> CubeTensor<R> {
    let [x, target] = [x, target].map(into_contiguous);
    let [rows, columns] = x.meta.shape().dims::<2>();
    let across = columns.div_ceil(4 * CUBES).clamp(1, CUBES);
    let parts = empty(&x, [rows, across], DType::F32);
    let total = empty(&x, [rows], x.dtype);
    let dim = CubeDim::new_1d(CUBES as u32);
    // SAFETY: units take no value beyond the last.
    unsafe {
        distance::distances::launch_unchecked::<R>(
            &x.client,
            cubes([across, rows, 1]),
            dim,
            array(&x),
            array(&target),
            array(&parts),
            columns,
            target_stride(&target),
            scale as f32,
            x.dtype.into(),
        );
        distance::distances_total::launch_unchecked::<R>(
            &x.client,
            cubes([rows, 1, 1]),
            dim,
            array(&parts),
            array(&total),
            across,
            x.dtype.into(),
        );
    }
    total
}

/// See [`ConvOps::squared_distances_backward`](crate::kernel::ConvOps::squared_distances_backward).
pub fn squared_distances_backward<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    x: CubeTensor<R>,
    target: CubeTensor<R>,
    scale: f64,
) -> CubeTensor<R> {
    let [gradient, x, target] = [gradient, x, target].map(into_contiguous);
    let [rows, columns] = x.meta.shape().dims::<2>();
    let y = empty(&x, [rows, columns], x.dtype);
    let (count, dim) = one_each(rows * columns);
    // SAFETY: units beyond the last value do nothing.
    unsafe {
        distance::distances_backward::launch_unchecked::<R>(
            &x.client,
            count,
            dim,
            array(&gradient),
            array(&x),
            array(&target),
            array(&y),
            columns,
            target_stride(&target),
            scale as f32,
            x.dtype.into(),
        );
    }
    y
}

/// See [`ConvOps::curvature`](crate::kernel::ConvOps::curvature).
pub fn curvature<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    previous: CubeTensor<R>,
    step: CubeTensor<R>,
) -> (CubeTensor<R>, CubeTensor<R>) {
    let [gradient, previous, step] = [gradient, previous, step].map(into_contiguous);
    let y = empty(&gradient, gradient.meta.shape().clone(), gradient.dtype);
    let parts = empty(&gradient, [3 * CUBES], DType::F32);
    let total = empty(&gradient, [3], gradient.dtype);
    let client = &gradient.client;
    let cubes = CubeCount::Static(CUBES as u32, 1, 1);
    let dim = CubeDim::new_1d(CUBES as u32);
    let dtype = gradient.dtype.into();
    // SAFETY: units take no value beyond the last.
    unsafe {
        lbfgs::curvature::launch_unchecked::<R>(
            client,
            cubes,
            dim,
            array(&gradient),
            array(&previous),
            array(&step),
            array(&y),
            array(&parts),
            dtype,
        );
        let cube = CubeCount::Static(1, 1, 1);
        lbfgs::curvature_total::launch_unchecked::<R>(
            client,
            cube,
            dim,
            array(&parts),
            array(&total),
            dtype,
        );
    }
    (y, total)
}

/// See [`ConvOps::two_loop`](crate::kernel::ConvOps::two_loop).
pub fn two_loop<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    pairs: Vec<([CubeTensor<R>; 2], f64)>,
    scale: f64,
) -> CubeTensor<R> {
    let gradient = into_contiguous(gradient);
    let pairs: Vec<_> = pairs
        .into_iter()
        .map(|(pair, rho)| (pair.map(into_contiguous), rho as f32))
        .collect();
    let client = &gradient.client;
    let q = empty(&gradient, gradient.meta.shape().clone(), gradient.dtype);
    // Each launch writes the parts that the next one reads.
    let parts = [(); 2].map(|()| empty(&gradient, [CUBES], DType::F32));
    let alphas = empty(&gradient, [pairs.len().max(1)], DType::F32);
    let mut launches = 0;
    let mut launch =
        |turn, v: &CubeTensor<R>, w: Option<&CubeTensor<R>>, index, rho, scale: f64| {
            let [sums, next] = [&parts[launches % 2], &parts[(launches + 1) % 2]];
            launches += 1;
            // SAFETY: units take no value beyond the last.
            unsafe {
                lbfgs::recursion::launch_unchecked::<R>(
                    client,
                    CubeCount::Static(CUBES as u32, 1, 1),
                    CubeDim::new_1d(CUBES as u32),
                    array(&q),
                    array(v),
                    optional(w),
                    array(sums),
                    array(next),
                    array(&alphas),
                    index,
                    rho,
                    scale as f32,
                    turn,
                    gradient.dtype.into(),
                );
            }
        };
    let s = |index: usize| pairs.get(index).map(|([s, _], _)| s);
    let y = |index: usize| pairs.get(index).map(|([_, y], _)| y);
    // With pairs, the scale comes in where the recursion turns.
    let (newest, first_scale) = match pairs.len() {
        0 => (None, scale),
        count => (s(count - 1), 1.0),
    };
    launch(Turn::Begin, &gradient, newest, 0, 0.0, first_scale);
    for (index, ([_, change], rho)) in pairs.iter().enumerate().rev() {
        match index {
            0 => launch(Turn::Down, change, y(0), 0, *rho, scale),
            _ => launch(Turn::Down, change, s(index - 1), index, *rho, 1.0),
        }
    }
    for (index, ([step, _], rho)) in pairs.iter().enumerate() {
        launch(Turn::Up, step, y(index + 1), index, *rho, 1.0);
    }
    q
}
