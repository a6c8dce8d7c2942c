//! Pixels drawn at each step, and the features of all layers at them.

use burn::tensor::{Tensor, backend::Backend};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;

use super::Part;
use crate::kernel::{SamplePoints, StyleBackend};
use crate::layer::Layer;

/// A sample of an image's pixels, drawn anew for each step: which ones depends on nothing but the seed,
/// the step, and the pixels to draw from. Terms with equal samples look at the same pixels.
#[derive(Clone, Debug)]
pub struct PixelSample {
    /// Rows and columns.
    pool: Arc<[[usize; 2]]>,
    count: usize,
    seed: u64,
    drawn: Vec<usize>,
}

impl PixelSample {
    /// Draws `count` of the pixels of `pool`, rows and columns, or all of them if there are fewer.
    ///
    /// # Panics
    /// If there are no pixels to draw.
    pub fn new(pool: Vec<[usize; 2]>, count: usize, seed: u64) -> Self {
        assert!(count > 0 && !pool.is_empty(), "no pixels to draw");
        let mut sample = Self {
            pool: pool.into(),
            count,
            seed,
            drawn: Vec::new(),
        };
        sample.draw(0);
        sample
    }

    /// Draws for a step.
    pub fn draw(&mut self, step: usize) {
        let seed = self
            .seed
            .wrapping_add((step as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut random = StdRng::seed_from_u64(seed);
        let count = self.count.min(self.pool.len());
        let drawn = rand::seq::index::sample(&mut random, self.pool.len(), count);
        self.drawn = drawn.into_vec();
        self.drawn.sort_unstable();
    }

    /// The pixels to draw from.
    pub fn pool(&self) -> &[[usize; 2]] {
        &self.pool
    }

    /// Which of the pool are drawn.
    pub fn drawn(&self) -> &[usize] {
        &self.drawn
    }

    /// The pixels that are drawn, as rows and columns.
    pub fn pixels(&self) -> Vec<[usize; 2]> {
        self.drawn.iter().map(|&index| self.pool[index]).collect()
    }
}

/// Colour and features of some layers at pixels of an image, one above the other: what the terms with a
/// sample compare (Kolkin et al., STROTSS, arXiv 1904.12785).
#[derive(Clone, Debug, PartialEq)]
pub struct PixelColumns {
    layers: Vec<Layer>,
    scale: f64,
}

impl PixelColumns {
    /// Columns of the colours, RGB in `[0, 1]`, and of the features of these layers as they are.
    pub fn new(layers: Vec<Layer>) -> Self {
        Self { layers, scale: 1.0 }
    }

    /// The same with features multiplied by `scale`. Features of weights for values from 0 to 255 are
    /// some fifty times those of torchvision's, beside colours that stay what they are:
    /// [`Vgg19::feature_scale`](crate::Vgg19::feature_scale) brings them to one size.
    pub fn with_scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// The layers.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The columns at some pixels, rows and columns: `[batch, 3 + channels, pixels]`. A layer of stride
    /// `s` is read at `pixel / s`, between positions by bilinear interpolation.
    ///
    /// # Panics
    /// If the part is not the whole image, or lacks a layer.
    pub fn at<B: StyleBackend>(&self, part: &Part<B>, pixels: &[[usize; 2]]) -> Tensor<B, 3> {
        let layers = self.layers.iter().map(|&layer| {
            let at = |at: usize| at as f32 / layer.stride() as f32;
            let points: Vec<_> = pixels.iter().map(|pixel| pixel.map(at)).collect();
            part.sample(layer, &points).mul_scalar(self.scale)
        });
        let columns = std::iter::once(pixel_colors(part, pixels)).chain(layers);
        Tensor::cat(columns.collect(), 1)
    }
}

/// The colours of some pixels, `[batch, 3, pixels]`.
///
/// # Panics
/// If the part is not the whole image.
pub fn pixel_colors<B: StyleBackend>(part: &Part<B>, pixels: &[[usize; 2]]) -> Tensor<B, 3> {
    let image = part.image();
    let [_, _, height, width] = image.dims();
    assert_eq!([height, width], part.size(), "pixels of a whole image");
    let points = pixels.iter().map(|pixel| pixel.map(|at| at as f32));
    B::sample(image, &SamplePoints::new([height, width], points.collect()))
}

/// The images of a batch of columns, one after the other.
pub(super) fn images<B: Backend>(columns: Tensor<B, 3>) -> impl Iterator<Item = Tensor<B, 2>> {
    let [batch, ..] = columns.dims();
    (0..batch).map(move |index| columns.clone().narrow(0, index, 1).squeeze_dim(0))
}

/// What all terms with a `sample` have in common, inside their `impl Term`: the value is what they
/// computed from the whole image, and pixels are drawn for each step.
macro_rules! sampled_term {
    () => {
        fn value(&self, sums: Tensor<B, 2>) -> Tensor<B, 1> {
            sums.squeeze_dim(1)
        }

        fn needs_whole_image(&self) -> bool {
            true
        }

        fn is_sampled(&self) -> bool {
            true
        }

        fn begin_step(&mut self, step: usize) {
            self.sample.draw(step);
        }
    };
}
pub(super) use sampled_term;
