//! How much memory a run needs, before it is begun.

use burn::tensor::backend::AutodiffBackend;

use super::StyleTransfer;
use crate::encoder::{Layer, LayerKind};
use crate::optim::OptimizerConfig;

/// The program, its threads and the pictures.
const BASE: u64 = 60 << 20;

impl<B: AutodiffBackend> StyleTransfer<'_, B> {
    /// About how many bytes an evaluation at this many pixels needs at its peak, with everything
    /// that is kept between evaluations.
    ///
    /// Autodiff keeps what every convolution, ReLU and pool put out (pools also where their maxima
    /// were, in eight bytes each); on the way back three tensors of the largest size come on top.
    /// `BENCHMARKS.md` compares this with measurements.
    pub(super) fn memory(&self, pixels: usize, layers: &[Layer]) -> u64 {
        let (convolutions, width) = self.encoder.size();
        let pixels = pixels as u64;
        let deepest = layers.iter().max().copied().unwrap_or(Layer::CONV1_1);
        let mut kept = 0;
        let mut largest = 0;
        for layer in Layer::all().take_while(|&layer| layer <= deepest) {
            let stride = layer.stride() as u64;
            let values = layer.channels(width) as u64 * pixels.div_ceil(stride * stride);
            let bytes = match layer.kind() {
                LayerKind::Pool => 12 * values,
                _ => 4 * values,
            };
            kept += bytes;
            largest = bytes.max(largest);
        }
        let weights: u64 = (0..convolutions)
            .map(|index| {
                let channels = |index: usize| Layer::convolution(index).channels(width) as u64;
                36 * channels(index) * if index == 0 { 3 } else { channels(index - 1) }
            })
            .sum();
        let images = match self.recipe.optimizer {
            OptimizerConfig::Lbfgs(config) => 2 * config.history as u64 + 8,
            OptimizerConfig::Adam(_) => 8,
        };
        BASE + kept + 3 * largest + weights + images * 12 * pixels
    }
}
