//! Recipes with a name: this crate's own, those of well-known programs, and those of the reconstructions.

use super::{
    Init, LayerWeights, Measure, Neighbors, Recipe, RecipeError, Search, StyleLoss, Transport,
};
use crate::encoder::{Layer, Padding, Pooling};
use crate::loss::{
    ContentNormalization, Distance, GramNormalization, Reduction, Stencil, TotalVariation,
    VariationNorm,
};
use crate::optim::{AdamConfig, LbfgsConfig, LineSearch, OptimizerConfig};
use crate::picture::ColorTransfer;
use crate::suggest;

impl Default for Recipe {
    /// What this crate recommends: hypercolumns of ten layers, each with the nearest of the style as its
    /// target, in squared distance, coarse to fine from the content picture with L-BFGS. See the page
    /// `docs/recipe.md` of the repository for how the numbers were chosen.
    fn default() -> Self {
        Self {
            name: "impasto".to_string(),
            source: "this crate; chosen by looking at results, see docs/recipe.md".to_string(),
            coarsest: 64,
            iterations: 20,
            coarse_iterations: vec![40, 40, 30],
            content_weight: 0.0,
            style_weight: 0.0,
            neighbors: Neighbors {
                weight: 1.0,
                distance: Distance::Squared,
                content_share: 0.5,
                search: Search::Projected { dimensions: 64 },
                ..Neighbors::default()
            },
            range: 1.0,
            ..Self::plain()
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
    /// What most recipes have in common.
    fn plain() -> Self {
        Self {
            name: String::new(),
            source: String::new(),
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
            neighbors: Neighbors::default(),
            transport: Transport::default(),
            style_size: None,
            style_scale: 1.0,
            tv_weight: 0.0,
            tv: TotalVariation {
                norm: VariationNorm::L1,
                reduction: Reduction::Sum,
                stencil: Stencil::Axes,
                range: 255.0,
            },
            colors: ColorTransfer::Style,
            pooling: None,
            padding: None,
            init: Init::Content,
            content_detail: false,
            optimizer: OptimizerConfig::Lbfgs(LbfgsConfig {
                history: 20,
                ..LbfgsConfig::default()
            }),
            last_rate: 1.0,
            pyramid: 0,
            averaging: None,
            range: 255.0,
        }
    }

    /// This crate's recipe for Gram matrices: coarse to fine in steps of 2 from the content picture, with
    /// L-BFGS; layer weights that fall 2:1 with depth, average pooling, and a little total variation. See
    /// the page `docs/recipe.md` of the repository for how the numbers were chosen.
    pub fn gram() -> Self {
        Self {
            name: "gram".to_string(),
            source: "this crate; chosen by looking at results, see docs/recipe.md".to_string(),
            iterations: 25,
            coarse_iterations: vec![60],
            style_weight: 7500.0,
            layer_weights: LayerWeights::Each(
                [16.0, 8.0, 4.0, 2.0, 1.0].map(|w| w / 31.0).to_vec(),
            ),
            pooling: Some(Pooling::Average),
            ..Self::smoothed()
        }
    }

    /// This crate's recipe for Gaussians' Wasserstein distances: like [`gram`](Self::gram), with layer
    /// weights that fall 4:1 with depth, as in crowsonkb/style-transfer-pytorch.
    pub fn wasserstein() -> Self {
        Self {
            name: "wasserstein".to_string(),
            source: "this crate; chosen by looking at results, see docs/recipe.md".to_string(),
            style_loss: StyleLoss::Wasserstein,
            style_weight: 1500.0,
            layer_weights: LayerWeights::Each(
                [256.0, 64.0, 16.0, 4.0, 1.0].map(|w| w / 341.0).to_vec(),
            ),
            ..Self::smoothed()
        }
    }

    /// A little total variation, against coloured fringes.
    fn smoothed() -> Self {
        Self {
            tv_weight: 5e6,
            tv: TotalVariation {
                norm: VariationNorm::L2,
                reduction: Reduction::MeanOfEach,
                stencil: Stencil::Axes,
                range: 1.0,
            },
            ..Self::plain()
        }
    }

    /// The same recipe with more or less of the style, 0 to 1: the share of what the coarser scale painted
    /// in the image whose nearest neighbours are searched, instead of the content picture. It is 0.5 in
    /// the default recipe. A run of a single scale has nothing coarser, and looks for the content's.
    pub fn with_strength(mut self, strength: f64) -> Self {
        self.neighbors.content_share = 1.0 - strength;
        self
    }

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
            coarsest: 1 << 16,
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
                half_precision: false,
            }),
            ..Self::plain()
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
                clamp: Some(1.0),
                carry_moments: true,
                ..AdamConfig::default()
            }),
            averaging: Some(0.99),
            range: 1.0,
            ..Self::plain()
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
                ..AdamConfig::default()
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

    /// nkolkin13/NeuralNeighborStyleTransfer, defaults of `styleTransfer.py` (Kolkin et al., arXiv
    /// 2203.13215): hypercolumns of ten layers with fixed targets at 64, 128, 256 and 512 pixels, 200
    /// steps of Adam (0.002) each on the coefficients of a Laplacian pyramid of 8 levels, then 200 steps
    /// with each layer matched by itself. VGG16 with torchvision's weights there; its layers exist in
    /// VGG19. The colours there are the content's, moved to the style's mean and covariance; here they
    /// are those that were painted.
    pub fn nnst() -> Self {
        Self {
            name: "nnst".to_string(),
            source: "nkolkin13/NeuralNeighborStyleTransfer, styleTransfer.py; for torchvision's \
                     weights"
                .to_string(),
            coarsest: 64,
            iterations: 200,
            coarse_iterations: vec![200],
            content_weight: 0.0,
            style_weight: 0.0,
            neighbors: Neighbors {
                weight: 1.0,
                final_iterations: 200,
                ..Neighbors::default()
            },
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 2e-3,
                beta2: 0.999,
                ..AdamConfig::default()
            }),
            pyramid: 8,
            range: 1.0,
            ..Self::plain()
        }
    }

    /// nkolkin13/STROTSS, defaults of `styleTransfer.py` (Kolkin et al., arXiv 1904.12785): relaxed earth
    /// mover's distance, moments and palette of 1,024 sampled pixels against 5,000 of the style, content
    /// by self-similarity with α = 16, halved at each scale; 64, 128, 256 and 512 pixels, 250 steps of
    /// RMSprop (0.002, at the last scale 0.001) each on a Laplacian pyramid of 5 levels. VGG16 with
    /// torchvision's weights there; its layers exist in VGG19. A style pixel is read between positions
    /// of the layers here, at the nearest before it there. Features of Caffe's weights, and of the built-in
    /// encoder, are some fifty times those of torchvision's, for which it was made; they are brought to
    /// that size ([`Vgg19::feature_scale`](crate::Vgg19::feature_scale)), or the moments,
    /// which grow with their square, would outweigh all else.
    pub fn strotss() -> Self {
        Self {
            name: "strotss".to_string(),
            source: "nkolkin13/STROTSS, styleTransfer.py".to_string(),
            coarsest: 64,
            iterations: 250,
            coarse_iterations: vec![250],
            content_weight: 0.0,
            style_weight: 0.0,
            transport: Transport {
                weight: 1.0,
                ..Transport::default()
            },
            init: Init::StyleColor,
            content_detail: true,
            optimizer: OptimizerConfig::Adam(AdamConfig {
                learning_rate: 2e-3,
                beta1: 0.0,
                bias_correction: false,
                ..AdamConfig::default()
            }),
            last_rate: 0.5,
            pyramid: 5,
            range: 1.0,
            ..Self::plain()
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
            coarsest: 1 << 16,
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
            ..Self::plain()
        }
    }

    /// All recipes, the default first.
    pub fn all() -> Vec<Self> {
        vec![
            Self::default(),
            Self::gram(),
            Self::wasserstein(),
            Self::neural_style(),
            Self::gatys(),
            Self::crowsonkb(),
            Self::anishathalye(),
            Self::cysmith(),
            Self::pystiche(),
            Self::gordicaleksa(),
            Self::nnst(),
            Self::strotss(),
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
        let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        Err(RecipeError::Unknown {
            name: name.to_string(),
            nearest: suggest::nearest(name, names.iter().copied()).map(str::to_string),
            known: names.join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_makes_sense_and_is_found_by_its_name() {
        for recipe in Recipe::all() {
            recipe.check().unwrap();
            assert_eq!(Recipe::named(&recipe.name).unwrap(), recipe);
        }
        let error = Recipe::named("neural_style").unwrap_err().to_string();
        assert!(error.contains("did you mean `neural-style`"), "{error}");
    }
}
