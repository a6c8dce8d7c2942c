//! What a picture is painted from, as the page says it.

use impasto::Recipe;
use impasto::picture::ColorTransfer;
use serde::{Deserialize, Serialize};

use super::ids::PictureId;
use crate::cli::args::EncoderArg;

/// What a picture is painted from. What is left out is as the recipe has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The picture to paint.
    pub content: PictureId,
    pub styles: Vec<StyleSettings>,
    /// The name of a recipe.
    pub recipe: String,
    #[serde(default)]
    pub encoder: EncoderArg,
    /// What else changes the picture, by the names of the options.
    #[serde(default)]
    pub options: Options,
    /// A picture to start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<PictureId>,
}

/// Options of `impasto stylize`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbors_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tv_weight: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub colors: Option<ColorTransfer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// A style of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StyleSettings {
    pub picture: PictureId,
    /// How much it counts beside the others.
    #[serde(default = "one")]
    pub weight: f64,
    /// Where it is painted: a picture that is white there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<PictureId>,
}

fn one() -> f64 {
    1.0
}

impl Options {
    /// Those that are given, by the names of the program's options.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, String)> {
        let number = |value: Option<f64>| value.map(|value| value.to_string());
        let whole = |value: Option<usize>| value.map(|value| value.to_string());
        [
            ("size", whole(self.size)),
            ("iterations", whole(self.iterations)),
            ("strength", number(self.strength)),
            ("content-weight", number(self.content_weight)),
            ("style-weight", number(self.style_weight)),
            ("neighbors-weight", number(self.neighbors_weight)),
            ("tv-weight", number(self.tv_weight)),
            ("colors", self.colors.map(|colors| colors.to_string())),
            ("seed", self.seed.map(|seed| seed.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// A recipe as the page shows it.
#[derive(Serialize)]
pub struct RecipeInfo {
    name: String,
    summary: String,
    source: String,
    size: usize,
    iterations: usize,
    strength: f64,
    content_weight: f64,
    style_weight: f64,
    neighbors_weight: f64,
    tv_weight: f64,
    colors: ColorTransfer,
}

impl From<Recipe> for RecipeInfo {
    fn from(recipe: Recipe) -> Self {
        Self {
            summary: recipe.summary(),
            size: recipe.size,
            iterations: recipe.iterations,
            strength: 1.0 - recipe.neighbors.content_share,
            content_weight: recipe.content_weight,
            style_weight: recipe.style_weight,
            neighbors_weight: recipe.neighbors.weight,
            tv_weight: recipe.tv_weight,
            colors: recipe.colors,
            name: recipe.name,
            source: recipe.source,
        }
    }
}
