//! Everything that is chosen before a run, in one place.

use serde::{Deserialize, Serialize};

use crate::encoder::Layer;
use crate::loss::{GramNormalization, MomentsDistance, Reduction, TotalVariation, VariationNorm};
use crate::optim::{LbfgsConfig, LineSearch, OptimizerConfig};
use crate::picture::{Colors, Picture};

/// All hyper-parameters of a run.
///
/// [`Recipe::default`] is what this crate recommends; [`Recipe::named`] finds it and those of the
/// well-known implementations. Change what you like:
///
/// ```
/// use impasto::Recipe;
///
/// let recipe = Recipe { style_weight: 3e3, ..Recipe::default() }.with_size(768);
/// assert_eq!(recipe.scales().last().unwrap().size, 768);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Steps at each scale before the last.
    pub coarse_iterations: usize,
    /// Weight α of the content loss.
    pub content_weight: f64,
    /// Layers whose responses the result shares with the content picture.
    pub content_layers: Vec<Layer>,
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
    /// Size of the style pictures relative to that of the result: larger makes larger strokes.
    pub style_scale: f64,
    /// Weight of the total variation.
    pub tv_weight: f64,
    /// Kind of total variation.
    pub tv: TotalVariation,
    /// Whose colours the result has.
    pub colors: Colors,
    /// What the first scale starts from.
    pub init: Init,
    /// The optimiser of every scale.
    pub optimizer: OptimizerConfig,
    /// The optimiser works on pixel values from 0 to this; its step sizes are in these units.
    pub range: f64,
}

/// What a size in pixels means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The longer side.
    LongestSide,
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
    /// Mean and deviation of each channel, [`MomentsDistance::MeanStd`].
    MeanStd,
    /// Gaussians with the same moments, [`MomentsDistance::Wasserstein`].
    Wasserstein,
}

impl StyleLoss {
    /// How moments are compared, if they are.
    pub(crate) fn moments(self) -> Option<MomentsDistance> {
        match self {
            Self::Gram => None,
            Self::MeanStd => Some(MomentsDistance::MeanStd),
            Self::Wasserstein => Some(MomentsDistance::Wasserstein),
        }
    }
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
        deviation: f64,
    },
    /// The first style picture, stretched to the size of the result.
    Style,
}

impl Init {
    /// Noise that covers most of the range, for recipes that do not start from noise themselves.
    pub const NOISE: Self = Self::Noise { deviation: 0.1 };
}

/// One scale of the pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Size in pixels, measured as in the recipe.
    pub size: usize,
    /// Steps of the optimiser.
    pub iterations: usize,
}

/// A choice that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A number outside its range.
    #[error("{name} is {value}, expected {expected}")]
    Number {
        /// Which number.
        name: &'static str,
        /// What it is.
        value: String,
        /// What it can be.
        expected: &'static str,
    },
    /// A weight without layers to apply it to.
    #[error("{name} has a weight but no layers; name some or set the weight to 0")]
    NoLayers {
        /// Content or style.
        name: &'static str,
    },
    /// Nothing to optimise.
    #[error("content, style and total variation all have weight 0: there is nothing to optimise")]
    NothingToDo,
    /// No recipe of this name.
    #[error("there is no recipe `{name}`; did you mean `{nearest}`? (recipes: {known})")]
    Unknown {
        /// The name as given.
        name: String,
        /// The nearest name that exists.
        nearest: String,
        /// All names.
        known: String,
    },
}

impl Default for Recipe {
    /// Coarse to fine in steps of 2 from the content picture, with L-BFGS; see the page
    /// `docs/recipe.md` of the repository for how the numbers were chosen.
    fn default() -> Self {
        Self {
            name: "impasto".to_string(),
            source: "this crate; chosen by looking at results, see docs/recipe.md".to_string(),
            size: 512,
            measure: Measure::LongestSide,
            coarsest: 128,
            ratio: 2.0,
            iterations: 30,
            coarse_iterations: 80,
            content_weight: 5.0,
            content_layers: vec![Layer::RELU4_2],
            style_weight: 200.0,
            style_layers: STYLE_LAYERS.to_vec(),
            layer_weights: LayerWeights::One,
            style_loss: StyleLoss::Gram,
            gram: GramNormalization::PerElement,
            relative: false,
            style_scale: 1.0,
            tv_weight: 0.0,
            tv: TotalVariation {
                norm: VariationNorm::L1,
                reduction: Reduction::Sum,
                range: 255.0,
            },
            colors: Colors::Style,
            init: Init::Content,
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 20,
                ..LbfgsConfig::default()
            }),
            range: 255.0,
        }
    }
}

/// The style layers of nearly every implementation since Gatys et al. (2016).
const STYLE_LAYERS: [Layer; 5] = [
    Layer::RELU1_1,
    Layer::RELU2_1,
    Layer::RELU3_1,
    Layer::RELU4_1,
    Layer::RELU5_1,
];

impl Recipe {
    /// jcjohnson/neural-style and its port ProGamerGov/neural-style-pt, defaults of
    /// `neural_style.py`: one scale, Gram matrices ÷ CHW, weights 5 / 100 / 0.001, L-BFGS without
    /// line search on values of 0 to 255, from faint noise around the mean colour. One iteration is
    /// one evaluation. The total variation is the port's (L1).
    pub fn neural_style() -> Self {
        Self {
            name: "neural-style".to_string(),
            source: "ProGamerGov/neural-style-pt, neural_style.py; jcjohnson/neural-style"
                .to_string(),
            size: 512,
            coarsest: usize::MAX,
            iterations: 1000,
            content_weight: 5.0,
            style_weight: 100.0,
            tv_weight: 1e-3,
            init: Init::Noise {
                deviation: 0.001 / 255.0,
            },
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 100,
                learning_rate: 1.0,
                line_search: LineSearch::None,
                tolerance: 0.0,
            }),
            ..Self::default()
        }
    }

    /// Gatys' own notebooks (leongatys/PytorchNeuralStyleTransfer and
    /// leongatys/NeuralImageSynthesis): Gram matrices ÷ HW, weights 1 and 1000 ÷ C² for a layer of C
    /// channels, L-BFGS from the content picture, 500 steps at an area of 512² pixels, then 200 at
    /// 1024².
    pub fn gatys() -> Self {
        Self {
            name: "gatys".to_string(),
            source: "leongatys/NeuralImageSynthesis, BasicStyleTransfer.ipynb".to_string(),
            size: 1024,
            measure: Measure::SquareRootOfArea,
            coarsest: 512,
            ratio: 2.0,
            iterations: 200,
            coarse_iterations: 500,
            content_weight: 1.0,
            style_weight: 1e3,
            layer_weights: LayerWeights::InverseSquareOfChannels,
            gram: GramNormalization::PerPosition,
            tv_weight: 0.0,
            init: Init::Content,
            ..Self::neural_style()
        }
    }

    /// Rebuilds a picture, given as content, from the responses of one layer alone, from noise
    /// (Mahendran and Vedaldi, arXiv 1412.0035; Gatys et al., arXiv 1508.06576): relative error of
    /// the responses, and as much total variation as keeps noise out that the layer does not see.
    pub fn content_reconstruction(layer: Layer) -> Self {
        Self {
            name: "content-reconstruction".to_string(),
            content_weight: 1.0,
            content_layers: vec![layer],
            style_weight: 0.0,
            ..Self::reconstruction()
        }
    }

    /// Synthesises a texture with the Gram matrices that a picture, given as style, has at these
    /// layers, from noise (Gatys et al., arXiv 1505.07376): relative errors, all layers alike.
    pub fn style_reconstruction(layers: &[Layer]) -> Self {
        Self {
            name: "style-reconstruction".to_string(),
            content_weight: 0.0,
            style_weight: 1.0,
            style_layers: layers.to_vec(),
            coarsest: 128,
            tv_weight: 0.01,
            ..Self::reconstruction()
        }
    }

    fn reconstruction() -> Self {
        Self {
            source: "this crate; chosen by looking at results, see docs/recipe.md".to_string(),
            size: 256,
            coarsest: usize::MAX,
            iterations: 200,
            coarse_iterations: 200,
            relative: true,
            tv_weight: 0.5,
            tv: TotalVariation {
                norm: VariationNorm::L1,
                reduction: Reduction::Mean,
                range: 1.0,
            },
            init: Init::NOISE,
            range: 1.0,
            // From noise the first steps lead through regions without curvature to learn from.
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 20,
                line_search: LineSearch::StrongWolfe,
                ..LbfgsConfig::default()
            }),
            ..Self::default()
        }
    }

    /// All recipes, the default first.
    pub fn all() -> Vec<Self> {
        vec![Self::default(), Self::neural_style(), Self::gatys()]
    }

    /// The recipe of this name.
    ///
    /// # Errors
    /// [`RecipeError::Unknown`] with the nearest name that exists.
    pub fn named(name: &str) -> Result<Self, RecipeError> {
        let mut recipes = Self::all();
        if let Some(index) = recipes.iter().position(|recipe| recipe.name == name) {
            return Ok(recipes.swap_remove(index));
        }
        let names: Vec<String> = recipes.into_iter().map(|recipe| recipe.name).collect();
        let nearest = names
            .iter()
            .min_by_key(|known| strsim::damerau_levenshtein(known, name))
            .cloned();
        Err(RecipeError::Unknown {
            name: name.to_string(),
            nearest: nearest.unwrap_or_default(),
            known: names.join(", "),
        })
    }

    /// The same recipe for a result of another size.
    pub fn with_size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Checks that all numbers make sense.
    ///
    /// # Errors
    /// [`RecipeError`] naming the first that does not.
    pub fn check(&self) -> Result<(), RecipeError> {
        let number = |ok: bool, name, value: &dyn ToString, expected| {
            if ok {
                return Ok(());
            }
            Err(RecipeError::Number {
                name,
                value: value.to_string(),
                expected,
            })
        };
        let at_least_one = "at least 1";
        let weights = [
            ("the content weight", self.content_weight),
            ("the style weight", self.style_weight),
            ("the total variation weight", self.tv_weight),
        ];
        for (name, weight) in weights {
            let ok = weight.is_finite() && weight >= 0.0;
            number(ok, name, &weight, "a number of 0 or more")?;
        }
        let sizes = 1..=1 << 16;
        number(
            sizes.contains(&self.size),
            "the size",
            &self.size,
            "1 to 65536 pixels",
        )?;
        number(
            self.iterations >= 1,
            "the number of iterations",
            &self.iterations,
            at_least_one,
        )?;
        number(
            self.coarse_iterations >= 1,
            "the number of iterations at coarse scales",
            &self.coarse_iterations,
            at_least_one,
        )?;
        number(
            self.ratio > 1.0,
            "the ratio of scales",
            &self.ratio,
            "more than 1",
        )?;
        let positive = |value: f64| value.is_finite() && value > 0.0;
        number(
            positive(self.range),
            "the range",
            &self.range,
            "a positive number",
        )?;
        number(
            (1e-3..=1e3).contains(&self.style_scale),
            "the style scale",
            &self.style_scale,
            "0.001 to 1000",
        )?;
        if let Init::Noise { deviation } = self.init {
            let ok = deviation.is_finite() && deviation >= 0.0;
            number(ok, "the noise", &deviation, "a number of 0 or more")?;
        }
        let rate = match self.optimizer {
            OptimizerConfig::Lbfgs(config) => {
                let history = &config.history;
                number(
                    *history <= 10_000,
                    "the history",
                    history,
                    "10000 pairs at most",
                )?;
                let ok = config.tolerance.is_finite() && config.tolerance >= 0.0;
                number(
                    ok,
                    "the tolerance",
                    &config.tolerance,
                    "a number of 0 or more",
                )?;
                config.learning_rate
            }
            OptimizerConfig::Adam(config) => {
                for beta in [config.beta1, config.beta2] {
                    number(
                        (0.0..1.0).contains(&beta),
                        "a decay of Adam",
                        &beta,
                        "0 to below 1",
                    )?;
                }
                number(
                    positive(config.epsilon),
                    "epsilon",
                    &config.epsilon,
                    "a positive number",
                )?;
                config.learning_rate
            }
        };
        number(
            positive(self.tv.range),
            "the range",
            &self.tv.range,
            "a positive number",
        )?;
        number(
            positive(rate),
            "the learning rate",
            &rate,
            "a positive number",
        )?;
        for (name, weight, layers) in [
            ("content", self.content_weight, &self.content_layers),
            ("style", self.style_weight, &self.style_layers),
        ] {
            if weight > 0.0 && layers.is_empty() {
                return Err(RecipeError::NoLayers { name });
            }
        }
        if let LayerWeights::Each(weights) = &self.layer_weights {
            let count = weights.len();
            let expected = "one for each style layer";
            number(
                count == self.style_layers.len(),
                "the number of layer weights",
                &count,
                expected,
            )?;
            for weight in weights {
                let ok = weight.is_finite() && *weight >= 0.0;
                number(
                    ok,
                    "a style layer's weight",
                    weight,
                    "a number of 0 or more",
                )?;
            }
        }
        if self.content_weight == 0.0 && self.style_weight == 0.0 && self.tv_weight == 0.0 {
            return Err(RecipeError::NothingToDo);
        }
        Ok(())
    }

    /// The scales from coarse to fine: `size / ratioⁱ` as long as that is at least `coarsest`, and
    /// always `size` itself.
    pub fn scales(&self) -> Vec<Scale> {
        let mut scales = vec![Scale {
            size: self.size,
            iterations: self.iterations,
        }];
        for step in 1.. {
            let size = (self.size as f64 / self.ratio.powi(step)).round() as usize;
            if size < self.coarsest.max(1) || scales.len() == 32 {
                break;
            }
            scales.push(Scale {
                size,
                iterations: self.coarse_iterations,
            });
        }
        scales.reverse();
        scales
    }

    /// Width and height of a picture at a size; the proportions are kept, no side vanishes.
    pub fn dimensions(&self, picture: &Picture, size: usize) -> (usize, usize) {
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let measured = match self.measure {
            Measure::LongestSide => width.max(height),
            Measure::SquareRootOfArea => (width * height).sqrt(),
        };
        let scaled = |side: f64| ((side * size as f64 / measured).round() as usize).max(1);
        (scaled(width), scaled(height))
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
            coarse_iterations: 7,
            iterations: 5,
            ..Recipe::default()
        };
        assert_eq!(sizes(&recipe), [(128, 7), (256, 7), (512, 5)]);
        assert_eq!(sizes(&recipe.clone().with_size(255)), [(128, 7), (255, 5)]);
        assert_eq!(sizes(&recipe.with_size(64)), [(64, 5)]);
        assert_eq!(sizes(&Recipe::neural_style()), [(512, 1000)]);
        assert_eq!(sizes(&Recipe::gatys()), [(512, 500), (1024, 200)]);
    }

    #[test]
    fn dimensions_keep_the_proportions() {
        let picture = Picture::from_rgb(40, 30, vec![0.0; 3600]).unwrap();
        let recipe = Recipe::default();
        assert_eq!(recipe.dimensions(&picture, 512), (512, 384));
        assert_eq!(recipe.dimensions(&picture, 1), (1, 1));
        assert_eq!(Recipe::gatys().dimensions(&picture, 512), (591, 443));
    }

    #[test]
    fn senseless_numbers_are_refused() {
        let recipe = Recipe::default();
        for broken in [
            Recipe {
                style_weight: -1.0,
                ..recipe.clone()
            },
            Recipe {
                content_weight: f64::NAN,
                ..recipe.clone()
            },
            Recipe {
                size: 0,
                ..recipe.clone()
            },
            Recipe {
                iterations: 0,
                ..recipe.clone()
            },
            Recipe {
                ratio: 1.0,
                ..recipe.clone()
            },
            Recipe {
                style_layers: vec![],
                ..recipe.clone()
            },
            Recipe {
                layer_weights: LayerWeights::Each(vec![1.0]),
                ..recipe.clone()
            },
            Recipe {
                content_weight: 0.0,
                style_weight: 0.0,
                tv_weight: 0.0,
                ..recipe.clone()
            },
        ] {
            assert!(broken.check().is_err(), "{broken:?}");
        }
        for recipe in Recipe::all() {
            recipe.check().unwrap();
            assert_eq!(Recipe::named(&recipe.name).unwrap(), recipe);
        }
        let error = Recipe::named("neural_style").unwrap_err().to_string();
        assert!(error.contains("did you mean `neural-style`"), "{error}");
    }

    #[test]
    fn recipes_survive_serialisation() {
        for recipe in Recipe::all() {
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        }
    }
}
