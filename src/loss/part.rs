//! A part of an image with its features: what the terms of a loss read.

use burn::tensor::{Tensor, backend::Backend};

use crate::encoder::{Features, Layer, SquaredDistance};
use crate::kernel::{SamplePoints, StyleBackend, all_positions, channel_means};
use crate::rect::Rect;

/// A rectangle of an image with the features of its positions: the whole image, or one of disjoint
/// parts that cover it.
///
/// What a term reads of a part are sums over the positions that belong to it. A position of a layer of
/// stride `s` belongs to the part that holds the first pixel of the `s × s` pixels it stands for.
#[derive(Clone, Debug)]
pub struct Part<B: Backend> {
    /// The pixels of `window`, `[batch, 3, height, width]`.
    pixels: Tensor<B, 4>,
    /// The features of `window`.
    features: Features<B>,
    /// The part and what surrounds it in the image.
    window: Rect,
    area: Rect,
    /// Height and width of the whole image.
    size: [usize; 2],
}

impl<B: Backend> Part<B> {
    /// The part that covers an image, `[batch, 3, height, width]`, RGB in `[0, 1]`, with its features.
    pub fn whole(image: Tensor<B, 4>, features: Features<B>) -> Self {
        let [_, _, height, width] = image.dims();
        let area = Rect::whole([height, width]);
        Self::within(image, features, area, area, [height, width])
    }

    /// The part `area` of an image of `size` (height and width), given the pixels and the features of
    /// the rectangle `window` around it. Corners of both lie on positions of all layers.
    pub(crate) fn within(
        pixels: Tensor<B, 4>,
        features: Features<B>,
        window: Rect,
        area: Rect,
        size: [usize; 2],
    ) -> Self {
        Self {
            pixels,
            features,
            window,
            area,
            size,
        }
    }

    /// Where the part lies in the image.
    pub fn area(&self) -> Rect {
        self.area
    }

    /// Height and width of the whole image in pixels.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Number of images.
    pub fn batch(&self) -> usize {
        self.pixels.dims()[0]
    }

    /// The pixels of the part, `[batch, 3, height, width]`, RGB in `[0, 1]`.
    pub fn image(&self) -> Tensor<B, 4> {
        self.pixels(self.area)
    }

    /// The pixels of a rectangle of the image, which must lie within the image and not reach beyond the
    /// part by more pixels than the term's [`margin`](super::Term::margin).
    ///
    /// # Panics
    /// If it does.
    pub fn pixels(&self, area: Rect) -> Tensor<B, 4> {
        let rows = (area.top - self.window.top, area.height);
        let columns = (area.left - self.window.left, area.width);
        narrow(self.pixels.clone(), rows, columns)
    }

    /// Height and width of a layer's response to the whole image.
    pub fn layer_size(&self, layer: Layer) -> [usize; 2] {
        self.size.map(|side| side / layer.stride())
    }

    /// The positions of a layer that belong to the part, in the coordinates of its response to the
    /// whole image.
    pub fn positions(&self, layer: Layer) -> Rect {
        self.area.at_stride(layer.stride())
    }

    /// The share of a layer's positions that belong to the part, 0 to 1.
    pub fn share(&self, layer: Layer) -> f64 {
        let [height, width] = self.layer_size(layer);
        let positions = self.positions(layer);
        positions.count() as f64 / (height * width) as f64
    }

    /// The same positions in the coordinates of the response to the window.
    fn positions_in_window(&self, layer: Layer) -> Rect {
        let window = self.window.at_stride(layer.stride());
        self.positions(layer).relative_to(window)
    }
}

impl<B: StyleBackend> Part<B> {
    /// [`pixels`](Self::pixels), copied by all threads.
    pub(super) fn crop_pixels(&self, area: Rect) -> Tensor<B, 4> {
        B::crop(self.pixels.clone(), area.relative_to(self.window))
    }

    /// The features of one layer at the positions that belong to the part,
    /// `[batch, channels, height, width]`.
    ///
    /// # Panics
    /// If the layer is none of the term's [`layers`](super::Term::layers).
    pub fn features(&self, layer: Layer) -> Tensor<B, 4> {
        let features = self.features.get(layer).clone();
        B::crop(features, self.positions_in_window(layer))
    }

    /// Of a tensor with a value for each position of a layer, `[.., .., height, width]` of the whole
    /// image, the positions that belong to the part: a target, for example.
    ///
    /// # Panics
    /// If the tensor has another height or width than the layer's response to the whole image.
    pub fn crop(&self, layer: Layer, whole: &Tensor<B, 4>) -> Tensor<B, 4> {
        let [_, _, height, width] = whole.dims();
        let size = self.layer_size(layer);
        assert!(
            [height, width] == size,
            "{height}×{width} values for {}×{} positions of {layer}: was it made for another size?",
            size[0],
            size[1]
        );
        B::crop(whole.clone(), self.positions(layer))
    }

    /// The features of one layer at some points, each row and column in its response to the whole
    /// image, between positions by bilinear interpolation: `[batch, channels, points]`. Positions that
    /// are read must not lie farther beyond the part than the term's [`margin`](super::Term::margin).
    ///
    /// # Panics
    /// If the layer is none of the term's [`layers`](super::Term::layers).
    pub fn sample(&self, layer: Layer, points: &[[f32; 2]]) -> Tensor<B, 3> {
        let features = self.features.get(layer).clone();
        let [_, _, height, width] = features.dims();
        let first = [self.window.top, self.window.left].map(|at| (at / layer.stride()) as f32);
        let point = |point: &[f32; 2]| [point[0] - first[0], point[1] - first[1]];
        let points = points.iter().map(point).collect();
        B::sample(features, &SamplePoints::new([height, width], points))
    }

    /// `Σ_p f_p·f_pᵀ / (H·W)` over the positions of the part, for the `H·W` positions of the whole
    /// image: `[batch, channels, channels]`. Added up over all parts it is the
    /// [Gram matrix](super::gram_matrix) of the image.
    ///
    /// With a [guide](super::Guide) of the layer, `[1, 1, height, width]`, features are multiplied by
    /// it first.
    pub fn gram_sum(&self, layer: Layer, guide: Option<&Tensor<B, 4>>) -> Tensor<B, 3> {
        let gram = match guide {
            None => {
                let area = self.positions_in_window(layer);
                self.features.gram_of(layer, Some(area))
            }
            Some(guide) => {
                let features = self.features(layer) * self.crop(layer, guide);
                let area = all_positions(&features);
                B::gram(features, area, self.features.precision())
            }
        };
        scaled(gram, self.share(layer))
    }

    /// A squared distance of the part's features from a target, `[batch]`: added up over all parts, that of
    /// the image.
    pub fn distance_sum(&self, distance: &SquaredDistance<B>) -> Tensor<B, 1> {
        self.features.distance(distance).unwrap_or_else(|| {
            let features = self.features(distance.layer);
            let target = self.crop(distance.layer, &distance.target);
            let (features, target) = (features.flatten(1, 3), target.flatten(1, 3));
            B::squared_distances(features, target, distance.scale)
        })
    }

    /// `Σ_p f_p / (H·W)` over the positions of the part, `[batch, 1, channels]`: added up over all
    /// parts, the mean of each channel. With a guide, features are multiplied by its square.
    pub fn mean_sum(&self, layer: Layer, guide: Option<&Tensor<B, 4>>) -> Tensor<B, 3> {
        let mean = match guide {
            None => {
                let area = self.positions_in_window(layer);
                self.features.mean_of(layer, Some(area))
            }
            Some(guide) => {
                let guide = self.crop(layer, guide).powi_scalar(2);
                channel_means(self.features(layer) * guide)
            }
        };
        scaled(mean, self.share(layer))
    }
}

/// The sum of all values of each image of a batch, `[batch, 1]`, in an order that does not depend on
/// the number of threads: along each axis in turn.
pub fn sum_per_image<B: Backend, const D: usize>(values: Tensor<B, D>) -> Tensor<B, 2> {
    let batch = values.dims()[0];
    let sum = (1..D).rev().fold(values, Tensor::sum_dim);
    sum.reshape([batch, 1])
}

/// A tensor times a factor, itself where that is 1.
fn scaled<B: Backend>(tensor: Tensor<B, 3>, factor: f64) -> Tensor<B, 3> {
    match factor {
        1.0 => tensor,
        factor => tensor.mul_scalar(factor),
    }
}

/// Rows and columns of an image, each as first and count; the image itself where these are all.
fn narrow<B: Backend>(
    image: Tensor<B, 4>,
    rows: (usize, usize),
    columns: (usize, usize),
) -> Tensor<B, 4> {
    let mut image = image;
    for (axis, (first, count)) in [(2, rows), (3, columns)] {
        if (first, count) != (0, image.dims()[axis]) {
            image = image.narrow(axis, first, count);
        }
    }
    image
}
