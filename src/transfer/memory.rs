//! How much memory a run needs, before it is begun.

use super::matching::POOL_SIDE;
use super::{Computation, Recipe, Request};
use crate::encoder::{Step, Tap, steps_to};
use crate::eval::Tile;
use crate::kernel::AutodiffStyleBackend;
use crate::layer::Layer;
use crate::loss::Hypercolumns;
use crate::optim::OptimizerConfig;

/// The program, its threads and the pictures.
const BASE: u64 = 52 << 20;

/// Memory that waits to be used again, beside the features: as many times what they take (fitted to the
/// measurements in `BENCHMARKS.md`).
const IDLE: f64 = 1.05;

/// Images of the size of a tile of the image that are there, or wait to be used again, beside its features
/// (fitted to measurements).
const TILE_IMAGES: u64 = 4;

/// Tensors of the size of a tile of a segment that are there at once (fitted to measurements).
const SEGMENT_TILES: u64 = 5;

/// Sets of hypercolumns that are there together while neighbours are searched: of the style, the
/// targets so far, and what they become (fitted to measurements).
const COLUMNS: u64 = 4;

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
        let originals: u64 = [&self.content, &self.start]
            .into_iter()
            .flatten()
            .chain(self.styles.iter().map(|style| &style.picture))
            .map(|picture| 4 * picture.rgb().len() as u64)
            .sum();
        let (layers, taps) = (self.layers(recipe), self.taps(recipe));
        let features = |size: [usize; 2]| {
            let tiles = self.tiles(recipe, size, &layers, how.tile_size);
            let values = match tiles.len() {
                1 => how.segment_values,
                _ => Some(B::SEGMENT_VALUES),
            };
            self.features(&taps, values, Tile::largest(&tiles))
        };
        let pixels = (size[0] * size[1]) as u64;
        let styles = styles.iter();
        let style_features = styles
            .clone()
            .map(|&(width, height)| features([height, width]));
        let features = style_features.fold(features(size), u64::max);
        let largest = styles.map(|&(width, height)| width * height);
        let columns = self.columns(recipe, largest.fold(size[0] * size[1], usize::max));
        let [evaluating, updating] =
            images(recipe, how).map(|images| (images * 12.0 * pixels as f64) as u64);
        // What a rank receives of the others, while no features are there: the gradients of all windows.
        let received = self.communicator.as_ref().map_or(0, |_| {
            let tiles = self.tiles(recipe, size, &layers, how.tile_size);
            let windows = tiles.iter().map(|tile| tile.window.count() as u64);
            12 * windows.sum::<u64>()
        });
        let steps = updating.max(evaluating + features.max(received));
        BASE + WEIGHT * weights + originals + self.targets(recipe, pixels) + steps + columns
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

    /// What is there at once while loss and gradient of a tile are computed: what forward keeps for backward,
    /// and input and output of a step or their gradients.
    fn features(&self, taps: &[Tap], segment_values: Option<usize>, tile: Tile) -> u64 {
        let size = [tile.window.height, tile.window.width];
        let window = tile.window.count() as u64;
        let widths = self.encoder.widths();
        let mut steps = steps_to(taps.last().map(|tap| tap.layer));
        steps.truncate(widths.len());
        let segments = self.encoder.segments(size, &steps, taps, segment_values);
        let tapped = |layer: Layer| taps.iter().any(|tap| tap.layer == layer);
        let reads = |steps: &[Step]| steps.iter().any(|step| tapped(step.response()));
        // What is kept of the steps so far, and whether the input of the next is among it.
        let (mut kept, mut peak) = (0, 0);
        // A segment takes the image itself; else, and of tiles, there is another.
        let is_image = segments.first().is_some_and(|first| first.steps.start == 0);
        let is_tile = tile.window != tile.area;
        let (mut input, mut is_kept) = match is_image && !is_tile {
            true => (0, false),
            false => (12 * window, false),
        };
        let mut first = 0;
        while first < steps.len() {
            let segment = segments.iter().find(|segment| segment.steps.start == first);
            let end = segment.map_or(first + 1, |segment| segment.steps.end);
            // Masks up to the last step of a segment that is read are made anew.
            let within = &steps[first..end - 1];
            let last_read = within.iter().rposition(|step| tapped(step.response()));
            let kept_from = first + last_read.map_or(0, |last| last + 1);
            let own = steps[kept_from..end].iter().zip(&widths[kept_from..end]);
            let bits =
                own.map(|(step, width)| values(step.convolution, width.channels_out, window));
            let (last, width) = (steps[end - 1], widths[end - 1]);
            let output = 4 * values(last.response(), width.projected, window);
            let (within, largest) = match segment {
                Some(segment) => (SEGMENT_TILES * 4 * segment.tile_values as u64, output),
                // The response before the pool too, if it is read.
                None => match last.relu.is_some_and(tapped) {
                    true => (0, 4 * values(last.convolution, width.projected, window)),
                    false => (0, output),
                },
            };
            if !is_kept && reads(&steps[first..end - 1]) {
                kept += input;
            }
            kept += bits.sum::<u64>() / 8;
            peak = peak.max(kept + input + largest + within);
            (input, is_kept) = (output, reads(&steps[end - 1..end]));
            if is_kept {
                kept += output;
                peak = peak.max(kept + output);
            }
            first = end;
        }
        let images = if is_tile {
            TILE_IMAGES * 12 * window
        } else {
            0
        };
        images + (IDLE * peak as f64) as u64
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

/// Images that are there while a loss is evaluated, and while the optimiser makes a step of it.
fn images(recipe: &Recipe, how: Computation) -> [f64; 2] {
    // The variables, the best so far and the gradient.
    let common = if recipe.averaging.is_some() { 4.0 } else { 3.0 };
    // Variables that are not the image itself; those of a pyramid are put together.
    let others = match (recipe.pyramid, recipe.range) {
        (0, 1.0) => 0.0,
        (0, _) => 1.0,
        _ => 3.0,
    };
    match recipe.optimizer {
        OptimizerConfig::Lbfgs(config) => {
            let history = how.history.unwrap_or(config.history);
            let half = how.half_precision || config.half_precision;
            let images = |steps: usize| history.min(steps) as f64 * if half { 1.0 } else { 2.0 };
            // The last step and the gradient before it, and the pairs of the steps before; then direction and
            // new variables.
            let before = images(recipe.iterations.saturating_sub(1));
            [
                common + others + 2.0 + before,
                common + 3.0 + images(recipe.iterations),
            ]
        }
        // The moments; then the new variables.
        OptimizerConfig::Adam(_) => [common + others + 2.0, common + 3.0],
    }
}

/// Values of a layer's response to an image of this many pixels.
fn values(layer: Layer, channels: usize, pixels: u64) -> u64 {
    let stride = layer.stride() as u64;
    channels as u64 * pixels.div_ceil(stride * stride)
}
