//! What a recipe says of losses by matching.

use serde::{Deserialize, Serialize};

use crate::encoder::Layer;
use crate::loss::Distance;

/// Style by nearest neighbours: each place of the result has the most similar place of the style as its
/// target (Kolkin et al., arXiv 2203.13215). See [`NeighborsTerm`](crate::loss::NeighborsTerm).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbors {
    /// Weight of the loss; 0 leaves it out.
    pub weight: f64,
    /// Layers of the hypercolumns that are compared.
    pub layers: Vec<Layer>,
    /// How hypercolumns are compared with their targets.
    pub distance: Distance,
    /// How much of the content picture is in the image whose neighbours are searched, 0 to 1: the rest
    /// is what the coarser scale painted. More keeps more of the content.
    pub content_share: f64,
    /// Whether the style is also searched turned by 90°, 180° and 270°.
    pub rotations: bool,
    /// How neighbours are searched.
    pub search: Search,
    /// Steps of a last pass at the full size, in which each layer is matched by itself, anew at each
    /// step; 0 for none. See [`LayerNeighborsTerm`](crate::loss::LayerNeighborsTerm).
    pub final_iterations: usize,
}

/// How the nearest neighbours of a scale's hypercolumns are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Search {
    /// All values of the hypercolumns are compared.
    Exact,
    /// The hypercolumns are compared in the directions in which those of the style vary the most.
    Projected {
        /// How many directions.
        #[serde(default = "Search::dimensions")]
        dimensions: usize,
    },
}

impl Search {
    /// As many as the default recipe has, where a recipe file does not say.
    fn dimensions() -> usize {
        64
    }
}

/// Style by relaxed optimal transport between sampled pixels, content by self-similarity (Kolkin et al.,
/// STROTSS, arXiv 1904.12785): `(α·content + transport + moments + palette/max(α, 1)) / (α + 2)`. See
/// [`TransportTerm`](crate::loss::TransportTerm), [`SampledMomentsTerm`](crate::loss::SampledMomentsTerm),
/// [`PaletteTerm`](crate::loss::PaletteTerm) and
/// [`SelfSimilarityTerm`](crate::loss::SelfSimilarityTerm).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transport {
    /// Weight of the loss; 0 leaves it out.
    pub weight: f64,
    /// Layers that are compared, beside the colours.
    pub layers: Vec<Layer>,
    /// Weight α of the content at the first scale.
    pub content: f64,
    /// What α is multiplied with from scale to scale.
    pub content_ratio: f64,
    /// Pixels of the image that are drawn for each step.
    pub samples: usize,
    /// Pixels of each style picture that are drawn for each scale.
    pub style_samples: usize,
}

impl Transport {
    /// α at a scale, counted from 0.
    pub fn content_at(&self, scale: usize) -> f64 {
        self.content * self.content_ratio.powi(scale as i32)
    }
}

/// The layers of blocks 1 to 4 that VGG16 has too, which neural neighbours are defined on.
const NEIGHBOR_LAYERS: [Layer; 10] = [
    Layer::RELU1_1,
    Layer::RELU1_2,
    Layer::RELU2_1,
    Layer::RELU2_2,
    Layer::RELU3_1,
    Layer::RELU3_2,
    Layer::RELU3_3,
    Layer::RELU4_1,
    Layer::RELU4_2,
    Layer::RELU4_3,
];

/// Layers of STROTSS.
const TRANSPORT_LAYERS: [Layer; 9] = [
    Layer::RELU1_1,
    Layer::RELU1_2,
    Layer::RELU2_1,
    Layer::RELU2_2,
    Layer::RELU3_1,
    Layer::RELU3_2,
    Layer::RELU3_3,
    Layer::RELU4_3,
    Layer::RELU5_3,
];

impl Default for Neighbors {
    /// No weight; all else as in nkolkin13/NeuralNeighborStyleTransfer, without the last pass.
    fn default() -> Self {
        Self {
            weight: 0.0,
            layers: NEIGHBOR_LAYERS.to_vec(),
            distance: Distance::Cosine,
            content_share: 0.75,
            rotations: true,
            search: Search::Exact,
            final_iterations: 0,
        }
    }
}

impl Default for Transport {
    /// No weight; all else as in nkolkin13/STROTSS.
    fn default() -> Self {
        Self {
            weight: 0.0,
            layers: TRANSPORT_LAYERS.to_vec(),
            content: 16.0,
            content_ratio: 0.5,
            samples: 1024,
            style_samples: 5000,
        }
    }
}
