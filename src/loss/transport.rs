//! Style by relaxed optimal transport between sampled pixels (Kolkin, Salavon and Shakhnarovich, "Style
//! Transfer by Relaxed Optimal Transport and Self-Similarity", arXiv 1904.12785).

use burn::tensor::{Tensor, backend::Backend};

use super::neighbors::{cosine_distance, normalized};
use super::pixel_sample::{PixelColumns, PixelSample, images, pixel_colors, sampled_term};
use super::{Part, Term};
use crate::kernel::StyleBackend;
use crate::layer::Layer;

/// The relaxed earth mover's distance between the columns of the image's sampled pixels, `x`, and those
/// of the style, `y`: `max(mean_i min_j D_ij, mean_j min_i D_ij)` with the cosine distance
/// `D_ij = 1 − x_i·y_j / (‖x_i‖‖y_j‖)`. Columns are those of [`PixelColumns`].
#[derive(Debug)]
pub struct TransportTerm<B: Backend> {
    columns: PixelColumns,
    sample: PixelSample,
    /// `[3 + channels, pixels]`, of length 1.
    style: Tensor<B, 2>,
}

impl<B: Backend> TransportTerm<B> {
    /// Compares with columns of the style, `[3 + channels, pixels]`.
    pub fn new(columns: PixelColumns, sample: PixelSample, style: Tensor<B, 2>) -> Self {
        Self {
            columns,
            sample,
            style: normalized(style),
        }
    }
}

impl<B: StyleBackend> Term<B> for TransportTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        self.columns.layers().to_vec()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let columns = self.columns.at(part, &self.sample.pixels());
        let distances = images(columns).map(|columns| {
            let columns = normalized(columns);
            let constant = columns.clone().detach();
            let (nearest, _) = B::nearest(constant.clone(), self.style.clone());
            let target = self.style.clone().select(1, nearest);
            let to_style = cosine_distance(columns.clone(), target).mean_dim(1);
            let (nearest, _) = B::nearest(self.style.clone(), constant);
            let from_style = cosine_distance(columns.select(1, nearest), self.style.clone());
            to_style.max_pair(from_style.mean_dim(1))
        });
        Tensor::cat(distances.collect(), 0)
    }

    sampled_term!();

    fn describe(&self) -> String {
        "relaxed earth mover's distance of sampled features".to_string()
    }
}

/// Mean absolute differences of mean and covariance between the columns of sampled pixels and those of
/// the style: `mean|μx − μy| + mean|Σx − Σy|`. Keeps the size of the features, which a cosine distance
/// does not see.
#[derive(Debug)]
pub struct SampledMomentsTerm<B: Backend> {
    columns: PixelColumns,
    sample: PixelSample,
    mean: Tensor<B, 2>,
    covariance: Tensor<B, 2>,
}

impl<B: Backend> SampledMomentsTerm<B> {
    /// Compares with columns of the style, `[3 + channels, pixels]`.
    pub fn new(columns: PixelColumns, sample: PixelSample, style: Tensor<B, 2>) -> Self {
        let (mean, covariance) = moments(style);
        Self {
            columns,
            sample,
            mean,
            covariance,
        }
    }
}

/// Mean, `[values, 1]`, and covariance, `[values, values]`, of columns.
fn moments<B: Backend>(columns: Tensor<B, 2>) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let [_, count] = columns.dims();
    let mean = columns.clone().mean_dim(1);
    let columns = columns - mean.clone();
    let covariance = columns.clone().matmul(columns.transpose());
    (mean, covariance.div_scalar(count as f64))
}

impl<B: StyleBackend> Term<B> for SampledMomentsTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        self.columns.layers().to_vec()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let columns = self.columns.at(part, &self.sample.pixels());
        let distances = images(columns).map(|columns| {
            let (mean, covariance) = moments(columns);
            let mean = (mean - self.mean.clone()).abs().mean();
            let covariance = (covariance - self.covariance.clone()).abs().mean();
            (mean + covariance).unsqueeze::<2>()
        });
        Tensor::cat(distances.collect(), 0)
    }

    sampled_term!();

    fn describe(&self) -> String {
        "mean absolute error of mean and covariance of sampled features".to_string()
    }
}

/// From RGB to three axes of which the first is brightness.
const DECORRELATED: [[f32; 3]; 3] = [
    [0.577350, 0.577350, 0.577350],
    [-0.577350, 0.788675, -0.211325],
    [-0.577350, -0.211325, 0.788675],
];

/// The palette: the relaxed earth mover's distance between the colours of sampled pixels and those of the
/// style, in decorrelated axes, with the sum of cosine distance and `‖x − y‖ / √3` as distance.
#[derive(Debug)]
pub struct PaletteTerm<B: Backend> {
    sample: PixelSample,
    /// `[3, pixels]`, decorrelated.
    style: Tensor<B, 2>,
}

impl<B: Backend> PaletteTerm<B> {
    /// Compares with colours of the style, RGB in `[0, 1]`, `[3, pixels]`.
    pub fn new(sample: PixelSample, style: Tensor<B, 2>) -> Self {
        Self {
            sample,
            style: decorrelated(style),
        }
    }
}

fn decorrelated<B: Backend>(colors: Tensor<B, 2>) -> Tensor<B, 2> {
    Tensor::<B, 2>::from_floats(DECORRELATED, &colors.device()).matmul(colors)
}

impl<B: StyleBackend> Term<B> for PaletteTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let colors = pixel_colors(part, &self.sample.pixels());
        let distances = images(colors).map(|colors| {
            let (x, y) = (decorrelated(colors), self.style.clone());
            // Each axis by itself: as differences of squares they would lose half of their digits.
            let axis = |axis: usize| {
                let (x, y) = (x.clone().narrow(0, axis, 1), y.clone().narrow(0, axis, 1));
                (x.transpose() - y).powi_scalar(2)
            };
            let euclidean = (axis(0) + axis(1) + axis(2)).clamp(1e-5, 1e5);
            let cosine = normalized(x).transpose().matmul(normalized(y));
            let distance = euclidean.div_scalar(3.0).sqrt() - cosine + 1.0;
            let to_style = distance.clone().min_dim(1).mean();
            let from_style = distance.min_dim(0).mean();
            to_style.max_pair(from_style).unsqueeze::<2>()
        });
        Tensor::cat(distances.collect(), 0)
    }

    sampled_term!();

    fn describe(&self) -> String {
        "relaxed earth mover's distance of sampled colours".to_string()
    }
}
