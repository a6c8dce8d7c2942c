//! What a picture is painted from, as the page says it.

use impasto::page::Options;
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

/// The options that are given, by the names of the program's.
pub fn named(options: &Options) -> impl Iterator<Item = (&'static str, String)> {
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let whole = |value: Option<usize>| value.map(|value| value.to_string());
    [
        ("size", whole(options.size)),
        ("iterations", whole(options.iterations)),
        ("strength", number(options.strength)),
        ("content-weight", number(options.content_weight)),
        ("style-weight", number(options.style_weight)),
        ("neighbors-weight", number(options.neighbors_weight)),
        ("tv-weight", number(options.tv_weight)),
        ("colors", options.colors.map(|colors| colors.to_string())),
        ("seed", options.seed.map(|seed| seed.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}
