//! How much memory a run needs, before it is begun.

use super::matching::POOL_SIDE;
use super::{Computation, Recipe, Request};
use crate::encoder::Reading;
use crate::eval::Tile;
use crate::kernel::AutodiffStyleBackend;
use crate::layer::{Layer, LayerKind};
use crate::loss::Hypercolumns;
use crate::optim::OptimizerConfig;

/// The program, its threads and the pictures.
const BASE: u64 = 30 << 20;

/// Tensors of the largest size that come on top of what is kept: input and output of a convolution or of
/// its gradient, and memory that waits to be used again (fitted to the measurements in `BENCHMARKS.md`).
const ON_TOP: f64 = 2.5;

/// Bytes of a value of the first block's widest layer where it is computed in strips, of as many pixels.
const STRIP: u64 = 32 << 17;

/// Sets of hypercolumns that are there together while neighbours are searched: of the style, the
/// targets so far, and what they become (fitted to measurements).
const COLUMNS: u64 = 3;

/// Bytes that a weight needs: itself, and its transform by Winograd's F(4×4, 3×3).
const WEIGHT: u64 = 4 + 4 * 36 / 9;

impl<B: AutodiffStyleBackend> Request<B> {
    /// About how many bytes an evaluation of an image of `size` (height and width) needs at its peak,
    /// with everything that is kept between evaluations; or the targets of the largest style, of
    /// `styles` (widths and heights), where they need more.
    pub fn memory(
        &self,
        recipe: &Recipe,
        size: [usize; 2],
        styles: &[(usize, usize)],
        how: Computation,
    ) -> u64 {
        let widths = self.encoder.widths();
        let inputs = std::iter::once(3).chain(widths.iter().map(|width| width.projected));
        let weights: u64 = inputs
            .zip(&widths)
            .map(|(channels_in, width)| 9 * (channels_in * width.channels_out) as u64)
            .sum();
        let history = match recipe.optimizer {
            OptimizerConfig::Lbfgs(config) => {
                let history = how.history.unwrap_or(config.history);
                2 * history.min(recipe.iterations) as u64
            }
            OptimizerConfig::Adam(_) => 0,
        };
        let images = history + if recipe.pyramid > 0 { 10 } else { 8 };
        let originals: u64 = [&self.content, &self.start]
            .into_iter()
            .flatten()
            .chain(self.styles.iter().map(|style| &style.picture))
            .map(|picture| 4 * picture.rgb().len() as u64)
            .sum();
        let layers = self.layers(recipe);
        let largest = |size| {
            let tiles = self.tiles(recipe, size, &layers, how.tile_size);
            Tile::largest(&tiles)
        };
        let pixels = (size[0] * size[1]) as u64;
        let (tile, kept) = (largest(size), self.kept_layers(recipe));
        let targets = match tile.window.count() < size[0] * size[1] {
            true => self.targets(recipe, pixels),
            // Among the features of the whole image.
            false => 0,
        };
        let strips = how.strips || how.tile_size.is_some();
        let features = self.features(&layers, strips.then_some(&kept[..]), tile);
        let style_features = styles.iter().map(|&(width, height)| {
            let tile = largest([height, width]);
            self.features(&layers, strips.then_some(&kept[..]), tile)
        });
        let features = style_features.fold(features, u64::max);
        let styles = styles.iter().map(|&(width, height)| width * height);
        let columns = self.columns(recipe, styles.fold(size[0] * size[1], usize::max));
        BASE + WEIGHT * weights + originals + images * 12 * pixels + targets + features + columns
    }

    /// The columns of losses by matching, for a picture of this many pixels.
    fn columns(&self, recipe: &Recipe, pixels: usize) -> u64 {
        let widths = self.encoder.widths();
        let channels = |layers: &[Layer]| -> usize {
            let widths = layers
                .iter()
                .filter_map(|layer| widths.get(layer.depth() - 1));
            widths.map(|width| width.projected).sum()
        };
        let (neighbors, transport) = (&recipe.neighbors, &recipe.transport);
        let mut bytes = 0;
        if neighbors.weight > 0.0 {
            let channels = channels(&neighbors.layers);
            bytes += COLUMNS * values(Hypercolumns::GRID_LAYER, 4 * channels, pixels as u64);
        }
        if transport.weight > 0.0 {
            let known = pixels.min(POOL_SIDE * POOL_SIDE) + 2 * transport.style_samples;
            let drawn = transport.samples.min(pixels);
            let pairs = drawn * (transport.style_samples + drawn);
            bytes += 4 * (channels(&transport.layers) * (known + 4 * drawn) + 6 * pairs) as u64;
        }
        bytes
    }

    /// The features that the losses read of a tile, one bit for each other ReLU output, and the tensors that
    /// are being computed; in strips if only these layers are kept.
    fn features(&self, taps: &[Layer], kept: Option<&[Layer]>, tile: Tile) -> u64 {
        let widths = self.encoder.widths();
        let window = [tile.window.height, tile.window.width];
        let area = Some(tile.area);
        let reading = Reading { taps, kept, area };
        let strips = self.encoder.reads_in_strips(window, reading);
        let deepest = taps.iter().max().copied().unwrap_or(Layer::CONV1_1);
        let (window, area) = (tile.window.count() as u64, tile.area.count() as u64);
        let (mut bytes, mut largest) = (0, 0);
        for layer in Layer::all().take_while(|&layer| layer <= deepest) {
            let Some(width) = widths.get(layer.depth() - 1) else {
                break;
            };
            let (projected, own) = (width.projected, width.channels_out);
            if layer.kind() == LayerKind::Relu {
                bytes += values(layer, own, window) / 8;
            }
            if strips && layer < Layer::POOL1 {
                continue;
            }
            largest = largest.max(4 * values(layer, projected, window));
            if taps.contains(&layer) {
                bytes += 4 * values(layer, projected, area);
            }
        }
        if strips {
            let widest = widths.first().map_or(0, |width| width.channels_out);
            bytes += STRIP * widest as u64;
        }
        bytes + (ON_TOP * largest as f64) as u64
    }

    /// The features of the content picture that an image of this many pixels is compared with.
    fn targets(&self, recipe: &Recipe, pixels: u64) -> u64 {
        let widths = self.encoder.widths();
        let layers = recipe.used_content_layers().into_iter();
        let bytes = layers.filter_map(|layer| {
            let width = widths.get(layer.depth() - 1)?;
            Some(4 * values(layer, width.projected, pixels))
        });
        bytes.sum()
    }
}

/// Values of a layer's response to an image of this many pixels.
fn values(layer: Layer, channels: usize, pixels: u64) -> u64 {
    let stride = layer.stride() as u64;
    channels as u64 * pixels.div_ceil(stride * stride)
}
