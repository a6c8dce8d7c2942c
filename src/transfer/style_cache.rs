//! Statistics of style pictures, shared between runs.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Tensor, backend::Backend};

use super::fingerprint;
use crate::encoder::{EncoderError, Moments, Padding, Pooling, Tap, Vgg19};
use crate::eval::{PartReading, Tile, parts};
use crate::kernel::StyleBackend;
use crate::layer::Layer;
use crate::loss::{Guide, Part};
use crate::picture::Picture;

/// The moments of one layer's features over a style picture or within a mask.
#[derive(Clone, Debug)]
pub(super) struct Statistics<B: Backend> {
    /// `[1, 1, channels]`.
    pub mean: Tensor<B, 3>,
    /// Per position, `[1, channels, channels]`.
    pub gram: Tensor<B, 3>,
}

impl<B: StyleBackend> Statistics<B> {
    fn of(part: &Part<B>, layer: Layer, guide: Option<&Guide<B>>) -> Self {
        let guide = guide.and_then(|guide| guide.get(layer));
        Self {
            mean: part.mean_sum(layer, guide),
            gram: part.gram_sum(layer, guide),
        }
    }
}

impl<B: Backend> Statistics<B> {
    /// `weight · self`.
    pub fn times(self, weight: f64) -> Self {
        Self {
            mean: self.mean * weight,
            gram: self.gram * weight,
        }
    }

    /// `self + other`.
    pub fn plus(self, other: Self) -> Self {
        Self {
            mean: self.mean + other.mean,
            gram: self.gram + other.gram,
        }
    }
}

/// What the statistics of a style picture are computed from.
#[derive(Clone, Copy)]
pub(super) struct StyleInputs<'a, B: Backend> {
    pub picture: &'a Picture,
    pub mask: Option<&'a Picture>,
    /// The mask carried to the layers.
    pub guide: Option<&'a Guide<B>>,
    /// Width and height at which the encoder sees the picture.
    pub size: (usize, usize),
    pub layers: &'a [Layer],
    pub tile_size: Option<usize>,
}

/// Everything that the statistics of a style picture depend on but the encoder's weights.
#[derive(PartialEq)]
struct StyleKey {
    picture: u128,
    mask: Option<u128>,
    size: (usize, usize),
    layers: Vec<Layer>,
    tile_size: Option<usize>,
    pooling: Pooling,
    padding: Padding,
}

/// Shares style statistics between runs; see [`StyleTransfer::share`](super::StyleTransfer::share). A
/// clone is the same cache. All runs must have the same encoder; what else the statistics depend on is
/// checked.
#[derive(Clone)]
pub struct StyleCache<B: Backend>(Arc<Mutex<Entries<B>>>);

struct Entries<B: Backend> {
    entries: Vec<Entry<B>>,
    /// Number of the run that uses the cache.
    run: usize,
}

struct Entry<B: Backend> {
    key: StyleKey,
    /// One for each layer.
    statistics: Vec<Statistics<B>>,
    /// Number of the last run that asked for them.
    run: usize,
}

impl<B: Backend> Default for StyleCache<B> {
    fn default() -> Self {
        let (entries, run) = (Vec::new(), 0);
        Self(Arc::new(Mutex::new(Entries { entries, run })))
    }
}

impl<B: Backend> std::fmt::Debug for StyleCache<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(f, "StyleCache({})", entries.entries.len())
    }
}

impl<B: Backend> StyleCache<B> {
    /// Removes what the run before did not ask for, such as styles recoloured to its content.
    pub(super) fn begin_run(&self) {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = cache.run;
        cache.entries.retain(|entry| entry.run == last);
        cache.run += 1;
    }
}

impl<B: StyleBackend> StyleCache<B> {
    /// The statistics at each layer, computed unless they are known.
    pub(super) fn statistics(
        &self,
        encoder: &Vgg19<B>,
        inputs: StyleInputs<'_, B>,
    ) -> Result<Vec<Statistics<B>>, EncoderError> {
        let key = StyleKey {
            picture: fingerprint::of_picture(inputs.picture),
            mask: inputs.mask.map(fingerprint::of_picture),
            size: inputs.size,
            layers: inputs.layers.to_vec(),
            tile_size: inputs.tile_size,
            pooling: encoder.pooling(),
            padding: encoder.padding(),
        };
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let run = cache.run;
        if let Some(entry) = cache.entries.iter_mut().find(|entry| entry.key == key) {
            entry.run = run;
            return Ok(entry.statistics.clone());
        }
        let statistics = compute(encoder, inputs)?;
        cache.entries.push(Entry {
            key,
            statistics: statistics.clone(),
            run,
        });
        Ok(statistics)
    }
}

/// The statistics at each layer, added up over tiles.
fn compute<B: StyleBackend>(
    encoder: &Vgg19<B>,
    inputs: StyleInputs<'_, B>,
) -> Result<Vec<Statistics<B>>, EncoderError> {
    let (width, height) = inputs.size;
    let image = inputs.picture.resize(width, height);
    let image = image.to_tensor(&encoder.device());
    let tiles = Tile::grid([height, width], inputs.tile_size, inputs.layers, 0);
    // Masked features are read as such.
    let taps = inputs.layers.iter().map(|&layer| match inputs.guide {
        Some(_) => Tap::features(layer),
        None => Tap::moments(layer, Moments::GramAndMean),
    });
    let taps = Tap::merged(taps.collect());
    let mut total: Option<Vec<Statistics<B>>> = None;
    let reading = PartReading {
        taps: &taps,
        distances: &[],
        margin: 0,
    };
    for part in parts(encoder, &image, reading, &tiles) {
        let part = part?;
        let layers = inputs.layers.iter();
        let statistics = layers.map(|&layer| Statistics::of(&part, layer, inputs.guide));
        total = Some(match total {
            None => statistics.collect(),
            Some(total) => {
                let pairs = total.into_iter().zip(statistics);
                pairs.map(|(total, added)| total.plus(added)).collect()
            }
        });
    }
    Ok(total.unwrap_or_default())
}
