//! What a picture is painted from, as the page says it.

use impasto::Recipe;
use impasto::picture::ColorTransfer;
use serde::{Deserialize, Serialize};

use crate::words;

/// What changes a recipe, and the seed; the pictures come beside it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The name of a recipe.
    pub recipe: String,
    #[serde(default)]
    pub options: Options,
}

/// What is left out is as the recipe has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub size: Option<usize>,
    pub iterations: Option<usize>,
    pub strength: Option<f64>,
    pub content_weight: Option<f64>,
    pub style_weight: Option<f64>,
    pub neighbors_weight: Option<f64>,
    pub tv_weight: Option<f64>,
    pub colors: Option<ColorTransfer>,
    pub seed: Option<u64>,
}

impl Settings {
    /// Settings from JSON.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(words)
    }

    /// The recipe with all that overrides it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn recipe(&self) -> Result<Recipe, String> {
        let mut recipe = Recipe::named(&self.recipe).map_err(words)?;
        let options = &self.options;
        let set = |field: &mut f64, option: Option<f64>| *field = option.unwrap_or(*field);
        set(&mut recipe.content_weight, options.content_weight);
        set(&mut recipe.style_weight, options.style_weight);
        set(&mut recipe.tv_weight, options.tv_weight);
        set(&mut recipe.neighbors.weight, options.neighbors_weight);
        if let Some(strength) = options.strength {
            if recipe.neighbors.weight == 0.0 || !(0.0..=1.0).contains(&strength) {
                let text = "a strength is a number from 0 to 1, for recipes that match neighbours";
                return Err(text.to_string());
            }
            recipe = recipe.with_strength(strength);
        }
        if let Some(size) = options.size {
            recipe = recipe.with_longest_side(size);
        }
        recipe.colors = options.colors.unwrap_or(recipe.colors);
        recipe.iterations = options.iterations.unwrap_or(recipe.iterations);
        recipe.check().map_err(words)?;
        Ok(recipe)
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
