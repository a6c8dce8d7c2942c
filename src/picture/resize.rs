//! Pictures at another size.

use std::ops::Range;
use std::sync::Arc;

use fast_image_resize as fir;
use fir::images::{TypedImage, TypedImageRef};

use super::raster::Picture;

impl Picture {
    /// Takes over what belongs to another picture's file rather than to its colours: alpha
    /// (resized), ICC profile and depth.
    pub fn with_attributes_of(mut self, other: &Picture) -> Self {
        self.alpha = other.alpha.as_ref().map(|alpha| {
            let from = (other.width, other.height);
            resample(alpha, from, (self.width, self.height))
        });
        self.icc_profile = other.icc_profile.clone();
        self.depth = other.depth;
        self
    }

    /// The picture at another size, by a Lanczos filter (a = 3) whose support grows when shrinking,
    /// so that nothing aliases.
    pub fn resize(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.max(1), height.max(1));
        if (width, height) == (self.width, self.height) {
            return self.clone();
        }
        let (from, to) = ((self.width, self.height), (width, height));
        let resized = Self {
            width,
            height,
            rgb: Arc::new(resample(&self.rgb, from, to)),
            alpha: None,
            icc_profile: None,
            depth: self.depth,
            metadata: None,
        };
        resized.with_attributes_of(self)
    }
}

/// Resizes interleaved values; the filter's overshoot is clamped to `[0, 1]`.
fn resample(values: &[f32], from: (usize, usize), to: (usize, usize)) -> Vec<f32> {
    let mut resized = resample_rows(values, from, 0.0..from.1 as f64, to);
    for value in &mut resized {
        *value = value.clamp(0.0, 1.0);
    }
    resized
}

/// Resizes some rows of interleaved values of one or three channels. Rows may begin and end within a
/// pixel, and the filter sees those beside them too.
pub(super) fn resample_rows(
    values: &[f32],
    (width, height): (usize, usize),
    rows: Range<f64>,
    to: (usize, usize),
) -> Vec<f32> {
    let (from, channels) = ((width, height), values.len() / (width * height));
    let mut resized = vec![0.0; channels * to.0 * to.1];
    match channels {
        1 => resample_pixels::<fir::pixels::F32>(values, from, rows, &mut resized, to),
        _ => resample_pixels::<fir::pixels::F32x3>(values, from, rows, &mut resized, to),
    }
    resized
}

/// Resizes from one buffer into another. For one kind of pixels: `Resizer::resize`, which looks at the kind
/// at run time, would compile the filter for all kinds, as long as all of this crate.
fn resample_pixels<P: fir::PixelTrait>(
    values: &[f32],
    (width, height): (usize, usize),
    rows: Range<f64>,
    resized: &mut [f32],
    (new_width, new_height): (usize, usize),
) {
    let values = bytemuck::cast_slice(values);
    let resized = bytemuck::cast_slice_mut(resized);
    let from = TypedImageRef::<P>::from_buffer(width as u32, height as u32, values)
        .expect("as many values as the picture has");
    let mut to = TypedImage::<P>::from_buffer(new_width as u32, new_height as u32, resized)
        .expect("as many values as the picture gets");
    // Rounding must not lead beyond the last row.
    let mut count = rows.end - rows.start;
    while rows.start + count > height as f64 {
        count = count.next_down();
    }
    let options = fir::ResizeOptions::new()
        .resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Lanczos3))
        .crop(0.0, rows.start, width as f64, count)
        .use_alpha(false);
    fir::Resizer::new()
        .resize_typed(&from, &mut to, &options)
        .expect("the rows are those of the picture");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(width: usize, height: usize) -> Picture {
        let rgb = (0..width * height)
            .flat_map(|i| {
                let x = (i % width) as f32 / width as f32;
                let y = (i / width) as f32 / height as f32;
                [x, y, 0.5]
            })
            .collect();
        Picture::from_rgb(width, height, rgb).unwrap()
    }

    #[test]
    fn resizing_keeps_constant_colours_and_smooth_ramps() {
        let grey = Picture::from_rgb(7, 5, vec![0.25; 105]).unwrap();
        for (width, height) in [(1, 1), (3, 9), (64, 2), (7, 5)] {
            let resized = grey.resize(width, height);
            assert_eq!((resized.width(), resized.height()), (width, height));
            assert!(resized.rgb().iter().all(|v| (v - 0.25).abs() < 1e-5));
        }
        let small = ramp(200, 100).resize(50, 25);
        // Away from the border a ramp stays a ramp: x at the centre of the new pixel, shifted by
        // half an old pixel.
        let value = small.rgb()[3 * (12 * 50 + 25)];
        assert!(
            (value - (25.5 / 50.0 - 0.5 / 200.0)).abs() < 1e-3,
            "{value}"
        );
    }

    #[test]
    fn shrinking_averages_instead_of_picking() {
        // A checkerboard of single pixels becomes grey, not a smaller checkerboard.
        let rgb = (0..64 * 64)
            .flat_map(|i| [((i % 64 + i / 64) % 2) as f32; 3])
            .collect();
        let board = Picture::from_rgb(64, 64, rgb).unwrap().resize(16, 16);
        let middle = board.rgb()[3 * (8 * 16 + 8)];
        assert!((middle - 0.5).abs() < 0.02, "{middle}");
    }
}
