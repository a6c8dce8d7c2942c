//! Content as self-similarity: which places of the picture resemble each other.

use burn::tensor::{Tensor, backend::Backend};

use super::neighbors::normalized;
use super::pixel_sample::{PixelColumns, PixelSample, images, sampled_term};
use super::{Part, Term};
use crate::kernel::{StyleBackend, indices};
use crate::layer::Layer;

/// The mean absolute difference between the cosine distances among the sampled pixels of the image, `X`,
/// and among the same pixels of the content, `C`, each divided by the sum of its column:
/// `n · mean_ij |X_ij / Σ_i X_ij − C_ij / Σ_i C_ij|` for `n` pixels (Kolkin et al., arXiv 1904.12785). It
/// keeps the arrangement and leaves the appearance free.
#[derive(Debug)]
pub struct SelfSimilarityTerm<B: Backend> {
    columns: PixelColumns,
    sample: PixelSample,
    /// `[3 + channels, pixels]` of all pixels that can be drawn, of length 1.
    content: Tensor<B, 2>,
}

impl<B: Backend> SelfSimilarityTerm<B> {
    /// Compares with the columns of the content, `[3 + channels, pixels]`, at all pixels from which the
    /// sample is drawn.
    ///
    /// # Panics
    /// If there are not as many columns as pixels.
    pub fn new(columns: PixelColumns, sample: PixelSample, content: Tensor<B, 2>) -> Self {
        assert_eq!(content.dims()[1], sample.pool().len(), "columns and pixels");
        Self {
            columns,
            sample,
            content: normalized(content),
        }
    }
}

/// Cosine distances among columns of length 1, divided by the sums of their columns.
fn distances<B: Backend>(columns: Tensor<B, 2>) -> Tensor<B, 2> {
    let distances = columns.clone().transpose().matmul(columns).neg() + 1.0;
    let sums = distances.clone().sum_dim(0);
    // Where all pixels are alike there is nothing to tell apart.
    distances / sums.clamp_min(1e-6)
}

impl<B: StyleBackend> Term<B> for SelfSimilarityTerm<B> {
    fn layers(&self) -> Vec<Layer> {
        self.columns.layers().to_vec()
    }

    fn sums(&self, part: &Part<B>) -> Tensor<B, 2> {
        let drawn = self.sample.drawn();
        let chosen = indices(drawn, &self.content.device());
        let target = distances(self.content.clone().select(1, chosen));
        let columns = self.columns.at(part, &self.sample.pixels());
        let differences = images(columns).map(|columns| {
            let difference = distances(normalized(columns)) - target.clone();
            let mean = difference.abs().mean();
            mean.mul_scalar(drawn.len() as f64).unsqueeze::<2>()
        });
        Tensor::cat(differences.collect(), 0)
    }

    sampled_term!();

    fn describe(&self) -> String {
        "difference of the self-similarities of sampled features".to_string()
    }
}
