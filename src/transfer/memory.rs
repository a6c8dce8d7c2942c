//! How much memory a run needs, before it is begun.

use crate::kernel::AutodiffBackend;

use super::StyleTransfer;
use crate::encoder::{Layer, LayerKind};
use crate::optim::OptimizerConfig;

/// The program, its threads and the pictures.
const BASE: u64 = 100 << 20;

/// Tensors of the largest size that come on top of what is kept while a gradient passes: the gradients
/// themselves, and the copies and columns of the convolutions (fitted to the measurements in
/// `BENCHMARKS.md`).
const ON_TOP: u64 = 8;

impl<B: AutodiffBackend> StyleTransfer<'_, B> {
    /// About how many bytes an evaluation at this many pixels needs at its peak, with everything
    /// that is kept between evaluations.
    ///
    /// Autodiff keeps what every convolution, ReLU and pool put out (pools also where their maxima
    /// were, in eight bytes each); on the way back [`ON_TOP`] tensors of the largest size are added.
    ///
    /// The targets of the largest style, of `style_pixels`, are computed without autodiff; that is
    /// counted where it needs more.
    pub(super) fn memory(&self, pixels: usize, style_pixels: usize) -> u64 {
        let (convolutions, width) = self.encoder.size();
        let (pixels, style_pixels) = (pixels as u64, style_pixels as u64);
        let deepest = self.layers().into_iter().max().unwrap_or(Layer::CONV1_1);
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
            OptimizerConfig::Lbfgs(config) => {
                2 * config.history.min(self.recipe.iterations) as u64 + 8
            }
            OptimizerConfig::Adam(_) => 8,
        };
        let originals: u64 = [&self.content, &self.start]
            .into_iter()
            .flatten()
            .chain(self.styles.iter().map(|(style, _)| style))
            .map(|picture| 4 * picture.rgb().len() as u64)
            .sum();
        // Without autodiff no more than a block's input, output and the taps are there at once.
        let style = 4 * width as u64 * style_pixels * 5;
        BASE + weights + originals + images * 12 * pixels + (kept + ON_TOP * largest).max(style)
    }
}
