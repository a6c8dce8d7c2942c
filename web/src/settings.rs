//! What a picture is painted from, as the page says it.

use impasto::Recipe;
use impasto::page::Options;
use serde::Deserialize;

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
