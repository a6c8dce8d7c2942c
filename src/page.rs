//! What the studio's page says and is told, whatever paints: the program, or the module in the browser.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

use crate::picture::{ColorTransfer, Format, Picture, PictureError, SaveOptions};
use crate::transfer::{Recipe, Speed, Step};

/// Longest side of what a page shows of a picture, in pixels.
pub const SHOWN: usize = 1024;

/// What changes a recipe, and the seed. What is left out is as the recipe has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(
    missing_docs,
    reason = "named as the fields of a recipe and the program's options"
)]
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

/// A recipe as the page shows it.
#[derive(Clone, Debug, Serialize)]
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

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which scale, from 1.
    pub scale: usize,
    /// How many scales there are.
    pub scales: usize,
    /// Width of the image in pixels.
    pub width: usize,
    /// Height of the image in pixels.
    pub height: usize,
    /// Which step at this scale, from 1.
    pub iteration: usize,
    /// How many steps there are at this scale.
    pub iterations: usize,
    /// How many evaluations there have been.
    pub evaluation: usize,
    /// How long it has taken so far.
    pub seconds: f64,
    /// Seconds to the end, once that can be told.
    pub left: Option<f64>,
}

impl Progress {
    /// At an evaluation of a run that goes at this speed.
    pub fn at<B: Backend>(step: &Step<'_, B>, speed: Speed) -> Self {
        Self {
            scale: step.scale + 1,
            scales: step.scales,
            width: step.width,
            height: step.height,
            iteration: step.iteration,
            iterations: step.iterations,
            evaluation: step.evaluation,
            seconds: step.elapsed.as_secs_f64(),
            left: speed.left,
        }
    }
}

/// A point of the curves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Point {
    /// How many evaluations there have been.
    pub evaluation: usize,
    /// Which scale, from 1.
    pub scale: usize,
    /// The loss.
    pub total: f64,
    /// What each term adds to it.
    pub terms: BTreeMap<String, f64>,
}

impl Point {
    /// At an evaluation.
    pub fn at<B: Backend>(step: &Step<'_, B>) -> Self {
        let total = step.losses.weight;
        let terms = step.losses.parts.iter();
        Self {
            evaluation: step.evaluation,
            scale: step.scale + 1,
            total: step.losses.weighted(),
            terms: terms
                .map(|part| (part.name.clone(), total * part.weighted()))
                .collect(),
        }
    }
}

/// A picture no longer than so many pixels, in 8 bits of sRGB and without anything else of its file.
pub fn shrunk(picture: &Picture, longest: usize) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let longest = longest.min(width.max(height));
    let side = |side: usize| (side * longest / width.max(height)).max(1);
    let resized = picture.resize(side(width), side(height));
    let rgb = resized.rgb().to_vec();
    Picture::from_rgb(resized.width(), resized.height(), rgb).unwrap_or(resized)
}

/// A picture no longer than so many pixels as a JPEG, to look at.
///
/// # Errors
/// See [`Picture::to_bytes`].
pub fn preview(picture: &Picture, longest: usize) -> Result<Vec<u8>, PictureError> {
    let options = SaveOptions {
        jpeg_quality: 90,
        ..SaveOptions::default()
    };
    shrunk(picture, longest).to_bytes(Format::Jpeg, options)
}
