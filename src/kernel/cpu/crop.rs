//! Rectangles copied out of planes, and their gradient. Bound by memory: rows are copied as they lie.

use rayon::prelude::*;

use crate::rect::Rect;

/// The values of a rectangle of each plane of `plane` (height and width).
///
/// # Panics
/// If the rectangle is empty or reaches beyond the planes, or if the slices are not equally many.
pub fn forward(planes: &[f32], plane: [usize; 2], area: Rect, output: &mut [f32]) {
    check(planes, plane, area, output);
    let planes = planes.par_chunks_exact(plane[0] * plane[1]);
    let outputs = output.par_chunks_exact_mut(area.count());
    planes.zip(outputs).for_each(|(values, output)| {
        let rows = values.chunks_exact(plane[1]).skip(area.top);
        for (row, output) in rows.zip(output.chunks_exact_mut(area.width)) {
            output.copy_from_slice(&row[area.left..area.right()]);
        }
    });
}

/// The gradient with respect to the planes: zero outside of the rectangle. With `add` it is added to
/// `planes`.
///
/// # Panics
/// See [`forward`].
pub fn backward(gradient: &[f32], plane: [usize; 2], area: Rect, planes: &mut [f32], add: bool) {
    check(planes, plane, area, gradient);
    let planes = planes.par_chunks_exact_mut(plane[0] * plane[1]);
    let gradients = gradient.par_chunks_exact(area.count());
    planes.zip(gradients).for_each(|(values, gradient)| {
        if !add {
            values.fill(0.0);
        }
        let rows = values.chunks_exact_mut(plane[1]).skip(area.top);
        for (row, gradient) in rows.zip(gradient.chunks_exact(area.width)) {
            for (value, gradient) in row[area.left..area.right()].iter_mut().zip(gradient) {
                *value += gradient;
            }
        }
    });
}

fn check(planes: &[f32], plane: [usize; 2], area: Rect, cropped: &[f32]) {
    assert!(area.count() > 0 && area.bottom() <= plane[0] && area.right() <= plane[1]);
    assert_eq!(
        planes.len() * area.count(),
        cropped.len() * plane[0] * plane[1]
    );
}
