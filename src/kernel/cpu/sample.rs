//! Features at points, and their gradient.
//!
//! Channels are independent, so each is read or written by one thread, in the order of the points.

use rayon::prelude::*;

use crate::kernel::sample_points::Corner;

/// For each plane of `plane_len` values its value at every point, from those at the four corners.
///
/// # Panics
/// If there are no points, if the slices are not equally many planes, or if a corner lies outside.
pub fn forward(planes: &[f32], plane_len: usize, corners: &[[Corner; 4]], output: &mut [f32]) {
    let count = corners.len();
    assert_eq!(planes.len() * count, output.len() * plane_len);
    let planes = planes.par_chunks_exact(plane_len);
    let outputs = output.par_chunks_exact_mut(count);
    planes.zip(outputs).for_each(|(plane, output)| {
        for (value, corners) in output.iter_mut().zip(corners) {
            let at = |place: usize| {
                let Corner { position, weight } = corners[place];
                plane[position as usize] * weight
            };
            *value = (at(0) + at(1)) + (at(2) + at(3));
        }
    });
}

/// The gradient with respect to the planes; with `add`, this is added to `planes`.
///
/// # Panics
/// See [`forward`].
pub fn backward(
    gradient: &[f32],
    corners: &[[Corner; 4]],
    planes: &mut [f32],
    plane_len: usize,
    add: bool,
) {
    let count = corners.len();
    assert_eq!(planes.len() * count, gradient.len() * plane_len);
    let planes = planes.par_chunks_exact_mut(plane_len);
    let gradients = gradient.par_chunks_exact(count);
    planes.zip(gradients).for_each(|(plane, gradient)| {
        if !add {
            plane.fill(0.0);
        }
        for (value, corners) in gradient.iter().zip(corners) {
            for corner in corners {
                plane[corner.position as usize] += value * corner.weight;
            }
        }
    });
}
