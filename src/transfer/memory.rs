//! How much memory a run needs, before it is begun.

use crate::kernel::AutodiffStyleBackend;

use super::StyleTransfer;
use crate::encoder::{Layer, LayerKind};
use crate::optim::OptimizerConfig;

/// The program, its threads and the pictures.
const BASE: u64 = 30 << 20;

/// Halves of a tensor of the largest size that come on top of what is kept: input and output of a
/// convolution or of its gradient, and memory that waits to be used again (fitted to the measurements
/// in `BENCHMARKS.md`).
const ON_TOP: u64 = 5;

/// Bytes that a weight needs: itself, and what Winograd's F(4×4, 3×3) makes of it.
const WEIGHT: u64 = 4 + 4 * 36 / 9;

impl<B: AutodiffStyleBackend> StyleTransfer<'_, B> {
    /// About how many bytes an evaluation at this many pixels needs at its peak, with everything
    /// that is kept between evaluations; or the targets of the largest style, of `style_pixels`,
    /// where they need more.
    pub(super) fn memory(&self, pixels: usize, style_pixels: usize) -> u64 {
        let widths = self.encoder.widths();
        let inputs = std::iter::once(3).chain(widths.iter().map(|width| width.shown));
        let weights: u64 = inputs
            .zip(&widths)
            .map(|(channels_in, width)| 9 * (channels_in * width.channels_out) as u64)
            .sum();
        let images = match self.recipe.optimizer {
            OptimizerConfig::Lbfgs(config) => {
                2 * config.history.min(self.recipe.iterations) as u64 + 8
            }
            OptimizerConfig::Adam(_) => 8,
        };
        let originals: u64 = [&self.content, &self.start]
            .into_iter()
            .flatten()
            .chain(self.styles.iter().map(|style| &style.picture))
            .map(|picture| 4 * picture.rgb().len() as u64)
            .sum();
        let features = self.features(pixels).max(self.features(style_pixels));
        BASE + WEIGHT * weights + originals + images * 12 * pixels as u64 + features
    }

    /// The features that the losses read, one bit for each other ReLU output, and what is in work.
    fn features(&self, pixels: usize) -> u64 {
        let widths = self.encoder.widths();
        let taps = self.layers();
        let deepest = taps.iter().max().copied().unwrap_or(Layer::CONV1_1);
        let mut kept = 0;
        let mut largest = 0;
        for layer in Layer::all().take_while(|&layer| layer <= deepest) {
            let stride = layer.stride() as u64;
            let width = widths[layer.depth() - 1];
            let values = |channels| channels as u64 * (pixels as u64).div_ceil(stride * stride);
            largest = largest.max(4 * values(width.shown));
            if taps.contains(&layer) {
                kept += 4 * values(width.shown);
            }
            if layer.kind() == LayerKind::Relu {
                kept += values(width.channels_out) / 8;
            }
        }
        kept + ON_TOP * largest / 2
    }
}
