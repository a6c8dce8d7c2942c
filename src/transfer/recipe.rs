//! Everything that is chosen before a run, in one place.

use serde::{Deserialize, Serialize};

use crate::encoder::{Layer, Padding, Pooling};
use crate::loss::{
    ContentNormalization, GramNormalization, MomentsDistance, Reduction, Stencil, TotalVariation,
    VariationNorm,
};
use crate::optim::{AdamConfig, LbfgsConfig, LineSearch, OptimizerConfig};
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
    pub colors: Colors,
    /// How the encoder's blocks are pooled; `None` leaves it as the encoder is set.
    pub pooling: Option<Pooling>,
    /// What the encoder sees beyond the border; `None` leaves it as the encoder is set.
    pub padding: Option<Padding>,
    /// What the first scale starts from.
    pub init: Init,
    /// The optimiser of every scale.
    pub optimizer: OptimizerConfig,
    /// Whether Adam goes on at the next scale with its moments, resized, and its count of steps,
    /// instead of starting anew.
    pub carry_moments: bool,
    /// Whether each step of Adam is brought back to possible colours before the next.
    pub clamp: bool,
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
    /// Something that L-BFGS cannot do, whose steps build on each other.
    #[error("{name} works with Adam only, not with L-BFGS")]
    NeedsAdam {
        /// What was asked for.
        name: &'static str,
    },
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
            coarse_iterations: vec![80],
            enlarge_content: true,
            enlarge_styles: true,
            content_weight: 5.0,
            content_layers: vec![Layer::RELU4_2],
            content_normalization: ContentNormalization::Mean,
            style_weight: 200.0,
            style_layers: STYLE_LAYERS.to_vec(),
            layer_weights: LayerWeights::One,
            style_loss: StyleLoss::Gram,
            gram: GramNormalization::PerElement,
            relative: false,
            style_size: None,
            style_scale: 1.0,
            tv_weight: 0.0,
            tv: TotalVariation {
                norm: VariationNorm::L1,
                reduction: Reduction::Sum,
                stencil: Stencil::Axes,
                range: 255.0,
            },
            colors: Colors::Style,
            pooling: None,
            padding: None,
            init: Init::Content,
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 20,
                ..LbfgsConfig::default()
            }),
            carry_moments: false,
            clamp: false,
            averaging: None,
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
            coarse_iterations: vec![500],
            content_weight: 1.0,
            style_weight: 1e3,
            layer_weights: LayerWeights::InverseSquareOfChannels,
            gram: GramNormalization::PerPosition,
            tv_weight: 0.0,
            init: Init::Content,
            ..Self::neural_style()
        }
    }

    /// crowsonkb/style-transfer-pytorch, defaults of `style_transfer.py`: Gaussian Wasserstein-2
    /// distances weighted 256 : 64 : 16 : 4 : 1, content 0.015, total variation 2 (squares over nine
    /// points), Adam 0.02 on values of 0 to 1, kept in range, from the content picture; scales in
    /// steps of √2, 1000 steps at the first and 500 at each other (500 if there is only one); Adam's state is carried from one to
    /// the next and the result is a decaying mean, 0.99. Replicated border, styles never enlarged.
    /// Made for torchvision's weights.
    pub fn crowsonkb() -> Self {
        Self {
            name: "crowsonkb".to_string(),
            source:
                "crowsonkb/style-transfer-pytorch, style_transfer.py; for torchvision's weights"
                    .to_string(),
            size: 512,
            coarsest: 128,
            ratio: std::f64::consts::SQRT_2,
            iterations: 500,
            coarse_iterations: vec![1000, 500],
            enlarge_styles: false,
            content_weight: 0.015,
            style_weight: 1.0,
            layer_weights: LayerWeights::Each(
                [256.0, 64.0, 16.0, 4.0, 1.0].map(|w| w / 341.0).to_vec(),
            ),
            style_loss: StyleLoss::Wasserstein,
            tv_weight: 2.0,
            tv: TotalVariation {
                norm: VariationNorm::L2,
                reduction: Reduction::MeanOfEach,
                stencil: Stencil::NinePoints,
                range: 1.0,
            },
            pooling: Some(Pooling::Max),
            padding: Some(Padding::Replicate),
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 0.02,
                beta1: 0.9,
                beta2: 0.99,
                epsilon: 1e-8,
            }),
            carry_moments: true,
            clamp: true,
            averaging: Some(0.99),
            range: 1.0,
            ..Self::default()
        }
    }

    /// anishathalye/neural-style, defaults of `neural_style.py`: Gram matrices ÷ CHW, weights
    /// 5 / 500 / 100, a fifth for each layer, total variation of squares averaged for each direction
    /// on values of 0 to 255, Adam 10, from faint noise, at the content picture's own size with styles
    /// of its width. Several styles have loss terms of their own there; here their Gram matrices are
    /// averaged, which changes the loss by a constant.
    pub fn anishathalye() -> Self {
        Self {
            name: "anishathalye".to_string(),
            source: "anishathalye/neural-style, neural_style.py and stylize.py".to_string(),
            size: 1 << 16,
            measure: Measure::Width,
            enlarge_content: false,
            content_weight: 5.0,
            style_weight: 500.0,
            layer_weights: LayerWeights::Mean,
            tv_weight: 100.0,
            tv: TotalVariation {
                norm: VariationNorm::L2,
                reduction: Reduction::MeanOfEach,
                stencil: Stencil::Axes,
                range: 255.0,
            },
            init: Init::Noise {
                deviation: 0.256 / 255.0,
            },
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 10.0,
                beta1: 0.9,
                beta2: 0.999,
                epsilon: 1e-8,
            }),
            ..Self::neural_style()
        }
    }

    /// cysmith/neural-style-tf, defaults of `neural_style.py`: conv4_2 before its ReLU with
    /// `Σd² / 2√(NM)`, Gram matrices with `Σd² / 4N²M²`, weights 5 / 10⁴ / 0.001, a fifth for each layer
    /// and once more ÷ 5, average pooling, L-BFGS for 1000 steps from the content picture, which is
    /// reduced to 512 pixels but never enlarged. SciPy's L-BFGS-B there, 10 pairs and a line search;
    /// styles are stretched to the content's proportions there and keep their own here. conv4_2 needs
    /// VGG19's weights.
    pub fn cysmith() -> Self {
        Self {
            name: "cysmith".to_string(),
            source: "cysmith/neural-style-tf, neural_style.py".to_string(),
            enlarge_content: false,
            content_weight: 5.0,
            content_layers: vec![Layer::CONV4_2],
            content_normalization: ContentNormalization::RootOfElements,
            style_weight: 1e4 / 5.0,
            layer_weights: LayerWeights::Mean,
            gram: GramNormalization::Paper,
            tv_weight: 1e-3,
            pooling: Some(Pooling::Average),
            init: Init::Content,
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 10,
                line_search: LineSearch::StrongWolfe,
                tolerance: 0.0,
                ..LbfgsConfig::default()
            }),
            ..Self::neural_style()
        }
    }

    /// pystiche's command-line example: Gram matrices ÷ HW, weights 1 and 1000, a fifth for each
    /// layer, L-BFGS without line search for 500 steps from the content picture at 500 pixels of the
    /// shorter side, values of 0 to 1. Made for torchvision's weights.
    pub fn pystiche() -> Self {
        Self {
            name: "pystiche".to_string(),
            source: "pystiche/pystiche, image optimisation on the command line; for torchvision's \
                     weights"
                .to_string(),
            size: 500,
            measure: Measure::ShortestSide,
            iterations: 500,
            content_weight: 1.0,
            style_weight: 1e3,
            layer_weights: LayerWeights::Mean,
            gram: GramNormalization::PerPosition,
            tv_weight: 0.0,
            init: Init::Content,
            range: 1.0,
            ..Self::neural_style()
        }
    }

    /// gordicaleksa/pytorch-neural-style-transfer, defaults of `neural_style_transfer.py`: squared
    /// errors of Gram matrices ÷ CHW summed, weights 10⁵ / 3·10⁴ / 1, a fifth for each layer, L-BFGS
    /// with the strong Wolfe search for 1000 steps from the content picture at a height of 400 pixels,
    /// values of 0 to 255. It feeds torchvision's weights with values of 0 to 255, for which they were
    /// not made; here the normalisation is that of the weights.
    pub fn gordicaleksa() -> Self {
        Self {
            name: "gordicaleksa".to_string(),
            source: "gordicaleksa/pytorch-neural-style-transfer, neural_style_transfer.py"
                .to_string(),
            size: 400,
            measure: Measure::Height,
            content_weight: 1e5,
            style_weight: 3e4,
            layer_weights: LayerWeights::Mean,
            // The mean over C² entries of matrices ÷ HW is the sum over those ÷ CHW.
            gram: GramNormalization::PerPosition,
            tv_weight: 1.0,
            init: Init::Content,
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 100,
                line_search: LineSearch::StrongWolfe,
                ..LbfgsConfig::default()
            }),
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
            coarse_iterations: vec![200],
            relative: true,
            tv_weight: 0.5,
            tv: TotalVariation {
                norm: VariationNorm::L1,
                reduction: Reduction::Mean,
                stencil: Stencil::Axes,
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
        vec![
            Self::default(),
            Self::neural_style(),
            Self::gatys(),
            Self::crowsonkb(),
            Self::anishathalye(),
            Self::cysmith(),
            Self::pystiche(),
            Self::gordicaleksa(),
        ]
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
            !self.coarse_iterations.is_empty(),
            "the list of iterations at coarse scales",
            &"empty",
            "a number at least",
        )?;
        for count in &self.coarse_iterations {
            let name = "the number of iterations at coarse scales";
            number(*count >= 1, name, count, at_least_one)?;
        }
        if let Some(size) = self.style_size {
            let name = "the style size";
            number(sizes.contains(&size), name, &size, "1 to 65536 pixels")?;
        }
        if let Some(decay) = self.averaging {
            let ok = (0.0..1.0).contains(&decay);
            number(ok, "the decay of the mean image", &decay, "0 to below 1")?;
        }
        let adam = matches!(self.optimizer, OptimizerConfig::Adam(_));
        for (name, wanted) in [
            ("carrying moments to the next scale", self.carry_moments),
            ("clamping each step", self.clamp),
        ] {
            if wanted && !adam {
                return Err(RecipeError::NeedsAdam { name });
            }
        }
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
                iterations: self.iterations,
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
        scales
    }

    /// The same recipe with the size that it gives to this content picture.
    pub(super) fn sized_for(mut self, content: &Picture) -> Self {
        if !self.enlarge_content {
            let own = self.measured(content.width() as f64, content.height() as f64);
            self.size = self.size.min(own.round() as usize);
        }
        self
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

    /// Width and height of a picture at a size; the proportions are kept, no side vanishes.
    pub fn dimensions(&self, picture: &Picture, size: usize) -> (usize, usize) {
        let (width, height) = (picture.width() as f64, picture.height() as f64);
        let measured = self.measured(width, height);
        let scaled = |side: f64| ((side * size as f64 / measured).round() as usize).max(1);
        (scaled(width), scaled(height))
    }

    /// Width and height of a style picture at a scale of this size, `scale` times as large as the
    /// recipe has it.
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
        match !self.enlarge_styles && width > own.0 {
            true => own,
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
            ..Recipe::default()
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
                coarse_iterations: vec![],
                ..recipe.clone()
            },
            Recipe {
                clamp: true,
                ..recipe.clone()
            },
            Recipe {
                averaging: Some(1.0),
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
