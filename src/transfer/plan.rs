//! What a run will do, found out and checked before it begins.

use burn::tensor::backend::Backend;
use serde::Serialize;

use super::computation::{Computation, Fit};
use super::request::check_style_weights;
use super::{Recipe, Request, Style, StyleLoss, TransferError};
use crate::encoder::{EncoderError, Moments, Tap, Vgg19};
use crate::eval::{EvalError, Tile};
use crate::kernel::AutodiffStyleBackend;
use crate::layer::Layer;
use crate::loss::{Guide, Hypercolumns};
use crate::optim::OptimizerConfig;
use crate::picture::Picture;

/// Most pixels along a side of a resized picture.
const LARGEST_SIDE: usize = 1 << 16;

/// What a run will do.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The scales, coarse to fine. Those of the recipe at which the pictures would be too small for
    /// its layers are left out.
    pub scales: Vec<PlannedScale>,
    /// The layers of the encoder that are read.
    pub layers: Vec<Layer>,
    /// The share of the picture that each style's region covers, 0 to 1; `None` for styles without
    /// a region.
    pub coverage: Vec<Option<f64>>,
}

impl Plan {
    /// Whether a scale, or the last pass, has the size of the result, and there are coarser ones.
    pub(super) fn is_finest_of_several(&self, index: usize) -> bool {
        let size = |scale: Option<&PlannedScale>| scale.map(|scale| (scale.width, scale.height));
        let (first, last) = (size(self.scales.first()), size(self.scales.last()));
        first != last && size(self.scales.get(index)) == last
    }

    /// How the scales are computed.
    pub(super) fn computations(&self) -> Vec<Computation> {
        let scales = self.scales.iter();
        scales.map(|scale| scale.computation).collect()
    }

    /// The optimiser of a scale, with a history that fits the memory.
    pub(super) fn optimizer_at(&self, recipe: &Recipe, index: usize) -> OptimizerConfig {
        let mut optimizer = recipe.optimizer_at(self.is_finest_of_several(index));
        let how = self.scales.get(index).map(|scale| scale.computation);
        let how = how.unwrap_or_default();
        if let (OptimizerConfig::Lbfgs(config), Some(history)) = (&mut optimizer, how.history) {
            config.history = history;
            config.half_precision |= how.half_precision;
        }
        optimizer
    }
}

/// One scale of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedScale {
    /// The size of the scale as the recipe measures it.
    pub size: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Steps of the optimiser.
    pub iterations: usize,
    /// Whether this is the last pass of [`Neighbors`](super::Neighbors), at the size of the scale before.
    pub final_pass: bool,
    /// How it is computed.
    pub computation: Computation,
    /// How many tiles the image is computed in; 1 is the whole image at once.
    pub tiles: usize,
    /// The pixels of all tiles with their halos.
    pub window_pixels: usize,
    /// About how many bytes the process needs on a CPU, give or take a fifth.
    pub memory: u64,
}

/// The masks of one style, resized to the style layers at one scale.
#[derive(Clone, Debug)]
pub(super) struct RegionGuides<B: Backend> {
    pub content: Guide<B>,
    pub style: Option<Guide<B>>,
}

/// The guides of every style at every scale, where it has a region.
pub(super) type Guides<B> = Vec<Vec<Option<RegionGuides<B>>>>;

impl<B: AutodiffStyleBackend> Request<B> {
    /// Checks everything about a run that can be checked without running it, but for the masks.
    pub fn plan(&self, recipe: &Recipe) -> Result<Plan, TransferError> {
        recipe.check()?;
        self.content()?;
        self.check_styles(recipe)?;
        self.check_tiles(recipe)?;
        let mut scales = self.scales(recipe);
        if let Err(TransferError::Memory { size, .. }) = &mut scales {
            *size = self.fitting_size(recipe);
        }
        let coverage = |style: &Style| {
            let rgb = style.region.as_ref()?.content.rgb();
            Some(rgb.iter().map(|&value| f64::from(value)).sum::<f64>() / rgb.len() as f64)
        };
        Ok(Plan {
            scales: scales?,
            layers: self.layers(recipe),
            coverage: self.styles.iter().map(coverage).collect(),
        })
    }

    /// The scales, each computed in a way that fits the memory. An error says nothing of the size that would.
    pub(super) fn scales(&self, recipe: &Recipe) -> Result<Vec<PlannedScale>, TransferError> {
        let (content, layers) = (self.content()?, self.layers(recipe));
        let mut scales: Vec<PlannedScale> = Vec::new();
        for scale in &recipe.scales() {
            let last = scale.size == recipe.size;
            let (width, height) = recipe.dimensions(content, scale.size);
            if width.max(height) > LARGEST_SIDE {
                return Err(TransferError::TooLarge { width, height });
            }
            let styles = self.style_sizes(recipe, scale.size)?;
            let fits = check_sizes(&self.encoder, (width, height), &styles, &layers, recipe);
            match fits {
                Err(EncoderError::ImageTooSmall { .. }) if !last => continue,
                fits => fits?,
            }
            let planned = self.computations.get(scales.len());
            let size = [height, width];
            let left = scales.last().map_or(0, |scale| left_behind(recipe, scale));
            // The history grows with the steps of the scale.
            let recipe = &Recipe {
                iterations: scale.iterations,
                ..recipe.clone()
            };
            let (computation, memory) = match planned {
                Some(&planned) => {
                    let memory = self.memory(recipe, size, &styles, planned);
                    (planned, left + memory)
                }
                None => match self.computation(recipe, size, &styles, left) {
                    Fit::Found(computation, memory) => (computation, left + memory),
                    Fit::Needs(needed) => {
                        return Err(TransferError::Memory {
                            width,
                            height,
                            needed,
                            limit: self.memory_limit.unwrap_or_default(),
                            size: 0,
                        });
                    }
                },
            };
            let tiles = self.tiles(recipe, size, &layers, computation.tile_size);
            scales.push(PlannedScale {
                size: scale.size,
                width,
                height,
                iterations: scale.iterations,
                final_pass: scale.final_pass,
                computation,
                tiles: tiles.len(),
                window_pixels: tiles.iter().map(|tile| tile.window.count()).sum(),
                memory,
            });
        }
        Ok(scales)
    }

    /// The tiles of an image of `size` (height and width), about as large as given.
    pub fn tiles(
        &self,
        recipe: &Recipe,
        size: [usize; 2],
        layers: &[Layer],
        tile_size: Option<usize>,
    ) -> Vec<Tile> {
        // Total variation looks one pixel further.
        let mut margin = self.own_terms.margin.max(1);
        if recipe.neighbors.weight > 0.0 {
            margin = margin.max(Hypercolumns::margin_of(&recipe.neighbors.layers));
        }
        Tile::grid(size, tile_size, layers, margin)
    }

    fn check_styles(&self, recipe: &Recipe) -> Result<(), TransferError> {
        if self.styles.is_empty() && recipe.needs_style() {
            return Err(TransferError::NoStyle);
        }
        check_style_weights(&self.style_weights())?;
        let sensible = |style: &&Style| (1e-3..=1e3).contains(&style.scale);
        match self.styles.iter().find(|style| !sensible(style)) {
            Some(style) => Err(TransferError::StyleScale(style.scale)),
            None => Ok(()),
        }
    }

    fn check_tiles(&self, recipe: &Recipe) -> Result<(), TransferError> {
        match (self.tile_size, self.needs_whole_image(recipe)) {
            (Some(0), _) => Err(EvalError::NoTileSize.into()),
            (_, Some(term)) if self.communicator.is_some() => {
                Err(TransferError::CannotShare { term })
            }
            (Some(_), Some(term)) => Err(EvalError::NeedsWholeImage { term }.into()),
            _ => Ok(()),
        }
    }

    /// Width and height of every style picture at a scale of this size.
    pub(super) fn style_sizes(
        &self,
        recipe: &Recipe,
        size: usize,
    ) -> Result<Vec<(usize, usize)>, TransferError> {
        let size = |style: &Style| {
            let (width, height) = recipe.style_dimensions(&style.picture, size, style.scale);
            match width.max(height) > LARGEST_SIDE {
                true => Err(TransferError::StyleTooLarge { width, height }),
                false => Ok((width, height)),
            }
        };
        self.styles.iter().map(size).collect()
    }

    /// The masks of all styles, resized to the style layers at every scale.
    pub fn guides(
        &self,
        recipe: &Recipe,
        plan: &Plan,
    ) -> Result<Guides<B::InnerBackend>, TransferError> {
        let scales = plan.scales.iter();
        scales.map(|scale| self.guides_at(recipe, scale)).collect()
    }

    fn guides_at(
        &self,
        recipe: &Recipe,
        scale: &PlannedScale,
    ) -> Result<Vec<Option<RegionGuides<B::InnerBackend>>>, TransferError> {
        let (mut layers, device) = (recipe.used_style_layers(), self.encoder.device());
        if recipe.neighbors.weight > 0.0 && !layers.contains(&Hypercolumns::GRID_LAYER) {
            layers.push(Hypercolumns::GRID_LAYER);
        }
        let sizes = self.style_sizes(recipe, scale.size)?;
        let numbered = self.styles.iter().zip(sizes).enumerate();
        let guides = numbered.map(|(index, (style, size))| {
            let Some(region) = &style.region else {
                return Ok(None);
            };
            let guide = |mask: &Picture, size| {
                let guide = Guide::new(mask, size, &layers, &device);
                guide.map_err(|source| {
                    let style = index + 1;
                    TransferError::Region { style, source }
                })
            };
            let mask = region.style.as_ref();
            Ok(Some(RegionGuides {
                content: guide(&region.content, (scale.width, scale.height))?,
                style: mask.map(|mask| guide(mask, size)).transpose()?,
            }))
        });
        guides.collect()
    }

    /// The layers that the loss reads, with what it reads of each.
    pub fn taps(&self, recipe: &Recipe) -> Vec<Tap> {
        let masked = self.styles.iter().any(|style| style.region.is_some());
        let only = match recipe.style_loss {
            _ if masked => None,
            StyleLoss::Gram => Some(Moments::Gram),
            StyleLoss::MeanStd | StyleLoss::Wasserstein => Some(Moments::GramAndMean),
        };
        let style = recipe.used_style_layers().into_iter();
        let style = style.map(|layer| match only {
            Some(moments) => Tap::moments(layer, moments),
            None => Tap::features(layer),
        });
        let content = recipe.used_content_layers().into_iter().map(Tap::distances);
        let matched = recipe.matched_layers().into_iter().map(Tap::features);
        let own = self.own_terms.taps.iter().copied();
        Tap::merged(style.chain(content).chain(matched).chain(own).collect())
    }

    /// All layers that the loss reads.
    pub fn layers(&self, recipe: &Recipe) -> Vec<Layer> {
        let taps = self.taps(recipe).into_iter();
        taps.map(|tap| tap.layer).collect()
    }
}

/// What of the memory of a scale's history is not there for the next scale: pieces between others, of a heap
/// (fitted to measurements).
fn left_behind(recipe: &Recipe, scale: &PlannedScale) -> u64 {
    let OptimizerConfig::Lbfgs(config) = recipe.optimizer else {
        return 0;
    };
    let how = &scale.computation;
    let history = how.history.unwrap_or(config.history);
    let bytes = if how.half_precision || config.half_precision {
        6
    } else {
        12
    };
    let images = 2 * history.min(scale.iterations) as u64;
    images * bytes * (scale.width * scale.height) as u64 * 2 / 5
}

/// Checks that the encoder reaches all layers at all of these sizes (width and height).
fn check_sizes<B: Backend>(
    encoder: &Vgg19<B>,
    (width, height): (usize, usize),
    styles: &[(usize, usize)],
    layers: &[Layer],
    recipe: &Recipe,
) -> Result<(), EncoderError> {
    encoder.check(width, height, layers)?;
    let layers = recipe.layers_of_styles();
    let mut styles = styles.iter();
    styles.try_for_each(|&(width, height)| encoder.check(width, height, &layers))
}
