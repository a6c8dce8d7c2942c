//! Everything that is chosen before a run, in one place, and the sizes that follow from it.

mod check;
mod file;
mod layers;
mod matching;
mod presets;
mod settings;

use serde::{Deserialize, Serialize};

use crate::encoder::{Layer, Padding, Pooling};
use crate::loss::{ContentNormalization, GramNormalization, TotalVariation};
use crate::optim::{AdamConfig, LbfgsConfig, OptimizerConfig};
use crate::picture::{ColorTransfer, Picture};

pub use check::RecipeError;
pub use matching::{Neighbors, Search, Transport};
pub use settings::Setting;

/// All hyper-parameters of a run.
///
/// [`Recipe::default`] is what this crate recommends; [`Recipe::named`] finds it and those of the
/// well-known implementations. Change what you like:
///
/// ```
/// use impasto::Recipe;
///
/// let recipe = Recipe { iterations: 40, ..Recipe::default() }.with_size(768);
/// assert_eq!(recipe.scales().last().unwrap().size, 768);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// Name by which the recipe is asked for.
    pub name: String,
    /// Where its numbers come from.
    pub source: String,
    /// Size of the result in pixels, measured by `measure`.
    pub size: usize,
    /// What `size` measures.
    pub measure: Measure,
    /// The run starts at the coarsest scale that is at least this large; `size` or more gives a
    /// single scale.
    pub coarsest: usize,
    /// How much larger each scale is than the one before.
    pub ratio: f64,
    /// Steps of the optimiser at the last scale.
    pub iterations: usize,
    /// Steps at the scales before the last, coarsest first; the last number serves for all further
    /// scales.
    pub coarse_iterations: Vec<usize>,
    /// Whether a content picture smaller than `size` is enlarged to it; else it keeps its own size.
    pub enlarge_content: bool,
    /// Whether a style picture smaller than asked for is enlarged.
    pub enlarge_styles: bool,
    /// Weight α of the content loss.
    pub content_weight: f64,
    /// Layers whose responses the result shares with the content picture.
    pub content_layers: Vec<Layer>,
    /// Scaling of the content loss.
    pub content_normalization: ContentNormalization,
    /// Weight β of the style loss.
    pub style_weight: f64,
    /// Layers whose Gram matrices the result shares with the style pictures.
    pub style_layers: Vec<Layer>,
    /// How the style layers weigh against each other.
    pub layer_weights: LayerWeights,
    /// What of the style layers' features is compared.
    pub style_loss: StyleLoss,
    /// Scaling of the Gram matrices.
    pub gram: GramNormalization,
    /// Whether each layer's error counts relative to what it would be for an image without any
    /// response, so that 1 is all and 0 nothing at any depth.
    pub relative: bool,
    /// Style by nearest neighbours.
    pub neighbors: Neighbors,
    /// Style by relaxed optimal transport.
    pub transport: Transport,
    /// Size of the style pictures at the last scale, in pixels as `measure` has them, whatever the
    /// size of the result; smaller in proportion at the scales before. `None`: as large as the result.
    pub style_size: Option<usize>,
    /// Multiplies the size of the style pictures: larger makes larger strokes.
    pub style_scale: f64,
    /// Weight of the total variation.
    pub tv_weight: f64,
    /// Kind of total variation.
    pub tv: TotalVariation,
    /// Whose colours the result has.
    pub colors: ColorTransfer,
    /// How the encoder's blocks are pooled; `None` leaves it as the encoder is set.
    pub pooling: Option<Pooling>,
    /// What the encoder sees beyond the border; `None` leaves it as the encoder is set.
    pub padding: Option<Padding>,
    /// What the first scale starts from.
    pub init: Init,
    /// Whether the start of the first scale, and of every other but the last, gets the finest band of the
    /// content's Laplacian pyramid, which its size just allows.
    pub content_detail: bool,
    /// The optimiser of every scale.
    pub optimizer: OptimizerConfig,
    /// What its learning rate is multiplied with at the last scale, if there are several.
    pub last_rate: f64,
    /// Levels of the Laplacian pyramid whose coefficients the optimiser changes, see
    /// [`Variables`](crate::optim::Variables); 0 for the pixels themselves.
    pub pyramid: usize,
    /// Decay of the mean over the images of a scale that is its result, instead of the last image:
    /// `m ← d·m + (1−d)·x`, corrected for its start (Kingma and Ba, arXiv 1412.6980, section 7.2).
    /// Grain that comes and goes from step to step is averaged away.
    pub averaging: Option<f64>,
    /// The optimiser works on pixel values from 0 to this; its step sizes are in these units.
    pub range: f64,
}

/// What a size in pixels means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The longer side.
    LongestSide,
    /// The shorter side.
    ShortestSide,
    /// The width.
    Width,
    /// The height.
    Height,
    /// The side of a square with as many pixels.
    SquareRootOfArea,
}

/// Weights of the style layers before the common style weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerWeights {
    /// 1 for each.
    One,
    /// One over the number of layers.
    Mean,
    /// `1 / C²` for the C channels of the layer in VGG19.
    InverseSquareOfChannels,
    /// These, one for each style layer.
    Each(Vec<f64>),
}

/// What of the style layers' features is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StyleLoss {
    /// The Gram matrices, [`StyleTerm`](crate::loss::StyleTerm).
    #[default]
    Gram,
    /// Mean and deviation of each channel, [`MomentsDistance::MeanStd`](crate::loss::MomentsDistance).
    MeanStd,
    /// Gaussians with the same moments, [`MomentsDistance::Wasserstein`](crate::loss::MomentsDistance).
    Wasserstein,
}

/// What a run starts from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// The content picture.
    Content,
    /// The encoder's mean colour with Gaussian noise.
    Noise {
        /// Standard deviation of the noise, for values in `[0, 1]`.
        #[serde(default = "Init::deviation")]
        deviation: f64,
    },
    /// The first style picture, stretched to the size of the result.
    Style,
    /// The mean colour of the first style picture.
    StyleColor,
}

impl Init {
    /// Noise that covers most of the range, for recipes that do not start from noise themselves.
    pub const NOISE: Self = Self::Noise { deviation: 0.1 };

    /// That of [`NOISE`](Self::NOISE), where a recipe file does not say.
    fn deviation() -> f64 {
        0.1
    }
}

/// One scale of the pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Size in pixels, measured as in the recipe.
    pub size: usize,
    /// Steps of the optimiser.
    pub iterations: usize,
    /// Whether this is the last pass of [`Neighbors`], at the size of the scale before.
    pub final_pass: bool,
}

impl Recipe {
    /// The same recipe for a result of another size.
    pub fn with_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// The same recipe for a result whose longest side has so many pixels, to which a smaller content is
    /// enlarged.
    pub fn with_longest_side(mut self, pixels: usize) -> Self {
        self.size = pixels;
        self.measure = Measure::LongestSide;
        self.enlarge_content = true;
        self
    }

    /// The scales from coarse to fine: `size / ratioⁱ` as long as that is at least `coarsest`, and
    /// always `size` itself; then a last pass at that size if the recipe has one.
    pub fn scales(&self) -> Vec<Scale> {
        let mut scales = vec![Scale {
            size: self.size,
            iterations: self.iterations,
            final_pass: false,
        }];
        for step in 1.. {
            let size = (self.size as f64 / self.ratio.powi(step)).round() as usize;
            if size < self.coarsest.max(1) || scales.len() == 32 {
                break;
            }
            scales.push(Scale {
                size,
                iterations: self.iterations,
                final_pass: false,
            });
        }
        scales.reverse();
        let coarse = scales.len() - 1;
        let last = self.coarse_iterations.last();
        let counts = self
            .coarse_iterations
            .iter()
            .chain(last.into_iter().cycle());
        for (scale, count) in scales.iter_mut().take(coarse).zip(counts) {
            scale.iterations = *count;
        }
        if self.has_final_pass() {
            scales.push(Scale {
                size: self.size,
                iterations: self.neighbors.final_iterations,
                final_pass: true,
            });
        }
        scales
    }

    pub(super) fn has_final_pass(&self) -> bool {
        self.neighbors.weight > 0.0 && self.neighbors.final_iterations > 0
    }

    /// Whether anything is taken from a style picture.
    pub(super) fn needs_style(&self) -> bool {
        let weights = [
            self.style_weight,
            self.neighbors.weight,
            self.transport.weight,
        ];
        weights.iter().any(|&weight| weight > 0.0)
    }

    /// The name of a loss that cannot be computed in tiles.
    pub(super) fn needs_whole_image(&self) -> Option<&'static str> {
        match (self.has_final_pass(), self.transport.weight > 0.0) {
            (true, _) => Some("neighbors"),
            (_, true) => Some("transport"),
            _ => None,
        }
    }

    /// The optimiser of a scale, the last or another.
    pub(super) fn optimizer_at(&self, last: bool) -> OptimizerConfig {
        let mut optimizer = self.optimizer;
        if last {
            let (OptimizerConfig::Lbfgs(LbfgsConfig { learning_rate, .. })
            | OptimizerConfig::Adam(AdamConfig { learning_rate, .. })) = &mut optimizer;
            *learning_rate *= self.last_rate;
        }
        optimizer
    }

    /// The same recipe with the size that it gives to this content picture.
    pub(super) fn sized_for(mut self, content: &Picture) -> Self {
        if !self.enlarge_content {
            let own = self.measured(content.width() as f64, content.height() as f64);
            self.size = self.size.min(own.round() as usize);
        }
        self
    }

    /// The settings that a run cannot change, each with whether it is the same in both.
    pub(super) fn fixed_settings(&self, other: &Self) -> [(&'static str, bool); 9] {
        [
            ("the size", self.size == other.size),
            ("what the size measures", self.measure == other.measure),
            ("the coarsest scale", self.coarsest == other.coarsest),
            ("the ratio of scales", self.ratio == other.ratio),
            (
                "whether the content is enlarged",
                self.enlarge_content == other.enlarge_content,
            ),
            ("the start", self.init == other.init),
            ("the range", self.range == other.range),
            ("the pyramid", self.pyramid == other.pyramid),
            (
                "whether there is a last pass",
                self.has_final_pass() == other.has_final_pass(),
            ),
        ]
    }

    fn measured(&self, width: f64, height: f64) -> f64 {
        match self.measure {
            Measure::LongestSide => width.max(height),
            Measure::ShortestSide => width.min(height),
            Measure::Width => width,
            Measure::Height => height,
            Measure::SquareRootOfArea => (width * height).sqrt(),
        }
    }

    /// The longest side of a picture of this width and height at a size, turned by a quarter or not.
    pub fn longest_side(&self, (width, height): (usize, usize), size: f64) -> f64 {
        let longest = |width: usize, height: usize| {
            let (width, height) = (width as f64, height as f64);
            width.max(height) * size / self.measured(width, height)
        };
        longest(width, height).max(longest(height, width))
    }

    /// Width and height of a picture at a size; the proportions are kept, no side vanishes.
    pub fn dimensions(&self, picture: &Picture, size: usize) -> (usize, usize) {
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let measured = self.measured(width, height);
        let scaled = |side: f64| ((side * size as f64 / measured).round() as usize).max(1);
        (scaled(width), scaled(height))
    }

    /// Width and height of a style picture at a scale of this size, `scale` times as large as the
    /// recipe has it, but not too small for the layers.
    pub(super) fn style_dimensions(
        &self,
        style: &Picture,
        size: usize,
        scale: f64,
    ) -> (usize, usize) {
        let largest = self.style_size.unwrap_or(self.size) as f64;
        let size = largest * (size as f64 / self.size as f64) * self.style_scale * scale;
        let (width, height) = self.dimensions(style, (size.round() as usize).max(1));
        let own = (style.width(), style.height());
        let (width, height) = match !self.enlarge_styles && width > own.0 {
            true => own,
            false => (width, height),
        };
        // What is too small for the layers is enlarged until its shorter side has a position at each.
        let strides = self.layers_of_styles().into_iter().map(Layer::stride);
        let least = strides.max().unwrap_or(1);
        let shorter = width.min(height);
        match shorter < least {
            true => {
                let enlarged = |side: usize| (side * least).div_ceil(shorter);
                (enlarged(width), enlarged(height))
            }
            false => (width, height),
        }
    }

    /// The style layers, each with its weight before the common style weight.
    pub fn weighted_style_layers(&self) -> Vec<(Layer, f64)> {
        let weight = |(index, layer): (usize, &Layer)| match &self.layer_weights {
            LayerWeights::One => 1.0,
            LayerWeights::Mean => 1.0 / self.style_layers.len() as f64,
            LayerWeights::InverseSquareOfChannels => (layer.channels(64) as f64).powi(-2),
            LayerWeights::Each(weights) => weights.get(index).copied().unwrap_or(1.0),
        };
        let layers = self.style_layers.iter().enumerate();
        layers.map(|entry| (*entry.1, weight(entry))).collect()
    }

    /// The recipe in a few words: what its style is, its size and its optimiser.
    pub fn summary(&self) -> String {
        let style = match self.style_loss {
            _ if self.neighbors.weight > 0.0 => "nearest neighbours",
            _ if self.transport.weight > 0.0 => "optimal transport",
            StyleLoss::Gram => "Gram matrices",
            StyleLoss::MeanStd => "mean and deviation of channels",
            StyleLoss::Wasserstein => "Wasserstein distances",
        };
        let optimizer = match self.optimizer {
            OptimizerConfig::Lbfgs(_) => "L-BFGS",
            OptimizerConfig::Adam(_) => "Adam",
        };
        let scales = self.scales();
        let size = match (scales.first(), scales.last()) {
            _ if !self.enlarge_content && self.size >= 1 << 16 => "the content's size".to_string(),
            (Some(first), Some(last)) if first.size < last.size => {
                format!("{} to {} pixels", first.size, last.size)
            }
            _ => format!("{} pixels", self.size),
        };
        let steps: usize = scales.iter().map(|scale| scale.iterations).sum();
        format!("{style}, {size}, {steps} steps of {optimizer}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(recipe: &Recipe) -> Vec<(usize, usize)> {
        let scales = recipe.scales();
        scales.iter().map(|s| (s.size, s.iterations)).collect()
    }

    #[test]
    fn scales_go_from_coarse_to_fine() {
        let recipe = Recipe {
            coarsest: 128,
            ratio: 2.0,
            coarse_iterations: vec![7],
            iterations: 5,
            ..Recipe::gram()
        };
        assert_eq!(sizes(&recipe), [(128, 7), (256, 7), (512, 5)]);
        assert_eq!(sizes(&recipe.clone().with_size(255)), [(128, 7), (255, 5)]);
        assert_eq!(sizes(&recipe.with_size(64)), [(64, 5)]);
        assert_eq!(sizes(&Recipe::neural_style()), [(512, 1000)]);
        assert_eq!(sizes(&Recipe::gatys()), [(512, 500), (1024, 200)]);
        let crowsonkb = [(128, 1000), (181, 500), (256, 500), (362, 500), (512, 500)];
        assert_eq!(sizes(&Recipe::crowsonkb()), crowsonkb);
    }

    #[test]
    fn pictures_are_enlarged_only_where_the_recipe_says_so() {
        let picture = Picture::from_rgb(40, 30, vec![0.0; 3600]).unwrap();
        let own = Recipe::anishathalye().sized_for(&picture);
        assert_eq!(own.dimensions(&picture, own.size), (40, 30));
        let reduced = Recipe::cysmith().with_size(20).sized_for(&picture);
        assert_eq!(reduced.dimensions(&picture, reduced.size), (20, 15));
        let recipe = Recipe::default().sized_for(&picture);
        assert_eq!(recipe.dimensions(&picture, recipe.size), (512, 384));

        // Styles follow the scale, whatever their own size at the last one.
        let recipe = Recipe {
            style_size: Some(80),
            ..Recipe::default()
        };
        assert_eq!(recipe.style_dimensions(&picture, 512, 1.0), (80, 60));
        assert_eq!(recipe.style_dimensions(&picture, 256, 0.5), (20, 15));
        let small = Recipe {
            enlarge_styles: false,
            ..recipe
        };
        assert_eq!(small.style_dimensions(&picture, 512, 1.0), (40, 30));
        assert_eq!(small.style_dimensions(&picture, 128, 1.0), (20, 15));
    }

    #[test]
    fn dimensions_keep_the_proportions() {
        let picture = Picture::from_rgb(40, 30, vec![0.0; 3600]).unwrap();
        let recipe = Recipe::default();
        assert_eq!(recipe.dimensions(&picture, 512), (512, 384));
        assert_eq!(recipe.dimensions(&picture, 1), (1, 1));
        assert_eq!(Recipe::gatys().dimensions(&picture, 512), (591, 443));
    }
}
