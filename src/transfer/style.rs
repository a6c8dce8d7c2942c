//! The pictures that give the style, where each is painted, and what was seen in them.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};

use burn::tensor::{Tensor, backend::Backend};

use super::Region;
use crate::Error;
use crate::encoder::{Features, Guide, Layer, Padding, Pooling, Vgg19};
use crate::kernel;
use crate::picture::Picture;

/// A style picture with its weight and size, for the whole result or a region of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Style {
    pub(super) picture: Picture,
    pub(super) weight: f64,
    pub(super) scale: f64,
    pub(super) region: Option<Region>,
}

impl Style {
    /// A style of weight 1, as large as the recipe says, for the whole result.
    pub fn new(picture: Picture) -> Self {
        Self {
            picture,
            weight: 1.0,
            scale: 1.0,
            region: None,
        }
    }

    /// How much the style counts beside others.
    pub fn weight(mut self, weight: f64) -> Self {
        self.weight = weight;
        self
    }

    /// Multiplies the size that the recipe gives to style pictures: more gives larger strokes.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Confines the style to a region. It has loss terms of its own, multiplied by its weight relative
    /// to the mean of all, and sees nothing outside its region (see
    /// [`Guide`](crate::encoder::Guide)); styles without a region are painted everywhere.
    pub fn within(mut self, region: Region) -> Self {
        self.region = Some(region);
        self
    }
}

/// What the encoder saw in a style picture at one layer, over all of it or within a mask.
#[derive(Clone, Debug)]
pub(super) struct Statistics<B: Backend> {
    /// `[1, 1, channels]`.
    pub mean: Tensor<B, 3>,
    /// Per position, `[1, channels, channels]`.
    pub gram: Tensor<B, 3>,
    /// As in [`Features::channels`].
    pub channels: usize,
}

impl<B: kernel::StyleBackend> Statistics<B> {
    fn new(features: &Features<B>, layer: Layer) -> Self {
        Self {
            mean: features.mean(layer),
            gram: features.gram(layer),
            channels: features.channels(layer),
        }
    }
}

impl<B: Backend> Statistics<B> {
    /// `self + weight · other`, or the other's share alone.
    pub fn add(sum: Option<Self>, weight: f64, other: Self) -> Self {
        let (mean, gram) = (other.mean * weight, other.gram * weight);
        match sum {
            None => Self {
                mean,
                gram,
                ..other
            },
            Some(sum) => Self {
                mean: sum.mean + mean,
                gram: sum.gram + gram,
                ..other
            },
        }
    }
}

/// A look at a style picture: everything that its outcome depends on but the weights.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub picture: &'a Picture,
    pub mask: Option<&'a Picture>,
    /// Width and height at which the encoder sees the picture.
    pub size: (usize, usize),
    pub layers: &'a [Layer],
}

#[derive(PartialEq)]
struct Key {
    picture: u64,
    mask: Option<u64>,
    size: (usize, usize),
    layers: Vec<Layer>,
    pooling: Pooling,
    padding: Padding,
}

/// What the encoder saw in the styles of a run, for the runs after it; see
/// [`StyleTransfer::share`](super::StyleTransfer::share). All runs must have the same encoder; what
/// else the statistics depend on is checked.
pub struct StyleCache<B: Backend>(RefCell<Seen<B>>);

struct Seen<B: Backend> {
    entries: Vec<Entry<B>>,
    run: usize,
}

struct Entry<B: Backend> {
    key: Key,
    /// One for each layer.
    statistics: Vec<Statistics<B>>,
    run: usize,
}

impl<B: Backend> Default for StyleCache<B> {
    fn default() -> Self {
        let (entries, run) = (Vec::new(), 0);
        Self(RefCell::new(Seen { entries, run }))
    }
}

impl<B: Backend> std::fmt::Debug for StyleCache<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StyleCache({})", self.0.borrow().entries.len())
    }
}

impl<B: Backend> StyleCache<B> {
    /// Forgets what the run before did not ask for, such as styles that take on a content's colours.
    pub(super) fn begin_run(&self) {
        let mut seen = self.0.borrow_mut();
        let last = seen.run;
        seen.entries.retain(|entry| entry.run == last);
        seen.run += 1;
    }
}

impl<B: kernel::StyleBackend> StyleCache<B> {
    /// What the encoder sees at each layer, computed unless it is known.
    pub(super) fn look(
        &self,
        encoder: &Vgg19<B>,
        look: Look<'_>,
        guide: impl FnOnce(&Picture) -> Result<Guide<B>, Error>,
    ) -> Result<Vec<Statistics<B>>, Error> {
        let key = Key {
            picture: fingerprint(look.picture),
            mask: look.mask.map(fingerprint),
            size: look.size,
            layers: look.layers.to_vec(),
            pooling: encoder.pooling(),
            padding: encoder.padding(),
        };
        let mut seen = self.0.borrow_mut();
        let run = seen.run;
        if let Some(entry) = seen.entries.iter_mut().find(|entry| entry.key == key) {
            entry.run = run;
            return Ok(entry.statistics.clone());
        }
        let (width, height) = look.size;
        let image = look.picture.resize(width, height);
        let mut features = encoder.features(image.to_tensor(&encoder.device()), look.layers)?;
        if let Some(mask) = look.mask {
            features = features.guided(&guide(mask)?);
        }
        let layers = look.layers.iter();
        let statistics: Vec<_> = layers
            .map(|&layer| Statistics::new(&features, layer))
            .collect();
        seen.entries.push(Entry {
            key,
            statistics: statistics.clone(),
            run,
        });
        Ok(statistics)
    }
}

fn fingerprint(picture: &Picture) -> u64 {
    let mut hasher = DefaultHasher::new();
    picture.width().hash(&mut hasher);
    hasher.write(bytemuck::cast_slice(picture.rgb()));
    hasher.finish()
}
