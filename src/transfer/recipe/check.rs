//! What makes no sense in a recipe.

use super::settings::shorten;
use super::{LayerWeights, Recipe};
use crate::optim::{LineSearch, OptimizerConfig};
use crate::suggest::question;

/// A choice that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// A value that a setting cannot have.
    #[error(
        "{}`{key}` is {value}, expected {expected}{}",
        place(line),
        question(nearest)
    )]
    Value {
        /// The setting's key.
        key: String,
        /// The line of the recipe file, where there is one.
        line: Option<usize>,
        /// What it is.
        value: String,
        /// What it can be.
        expected: String,
        /// The nearest name that it can be, if it is one.
        nearest: Option<String>,
    },
    /// A setting that does not exist.
    #[error("{}there is no setting `{key}`{}", place(line), question(nearest))]
    UnknownSetting {
        /// The key as given.
        key: String,
        /// The line of the recipe file, where it is known.
        line: Option<usize>,
        /// The nearest key that exists, if one is near.
        nearest: Option<String>,
    },
    /// A setting that a recipe file has twice.
    #[error("{}`{key}` is given twice", place(line))]
    Repeated {
        /// The setting's key.
        key: String,
        /// The line of the recipe file, where it is known.
        line: Option<usize>,
    },
    /// A recipe file that cannot be parsed.
    #[error("line {line}: this is not {format}: {problem}")]
    Syntax {
        /// What it should be.
        format: &'static str,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A weight without layers to apply it to.
    #[error(
        "`{weight}` is not 0, but `{layers}` is empty: name some layers, or set the weight to 0"
    )]
    NoLayers {
        /// Key of the weight.
        weight: &'static str,
        /// Key of the layers.
        layers: &'static str,
    },
    /// Another number of weights than of style layers.
    #[error(
        "`layer_weights.each` has {weights} numbers for {layers} style layers: give one for each"
    )]
    LayerWeights {
        /// How many weights there are.
        weights: usize,
        /// How many layers there are.
        layers: usize,
    },
    /// A line search along a loss that changes from step to step.
    #[error(
        "a line search needs a loss that is the same at each step, but `neighbors.final_iterations` and \
         `transport.weight` draw other positions each time: choose Adam, or L-BFGS without a line search"
    )]
    LineSearch,
    /// Moments that are carried to a scale with another learning rate.
    #[error(
        "`optimizer.adam.carry_moments` needs the same learning rate at every scale: set `last_rate` to 1, \
         or do not carry the moments"
    )]
    CarriedRate,
    /// Something that makes sense for pixels but not for coefficients of a pyramid.
    #[error("`{key}` works on pixels only: leave it out, or set `pyramid` to 0")]
    PixelsOnly {
        /// The setting's key.
        key: &'static str,
    },
    /// Nothing to optimise.
    #[error("the weights of all losses are 0: set one of them")]
    NothingToDo,
    /// No recipe of this name.
    #[error("there is no recipe `{name}`{} (recipes: {known})", question(nearest))]
    Unknown {
        /// The name as given.
        name: String,
        /// The nearest name that exists, if one is near.
        nearest: Option<String>,
        /// All names.
        known: String,
    },
}

/// `line 3: `, or nothing.
fn place(line: &Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!("line {line}: "))
}

impl Recipe {
    /// Checks that all settings make sense, each by itself and together.
    ///
    /// # Errors
    /// [`RecipeError`] naming the first that does not.
    pub fn check(&self) -> Result<(), RecipeError> {
        self.check_values()?;
        for (weight, layers, value, count) in [
            (
                "content_weight",
                "content_layers",
                self.content_weight,
                self.content_layers.len(),
            ),
            (
                "style_weight",
                "style_layers",
                self.style_weight,
                self.style_layers.len(),
            ),
            (
                "neighbors.weight",
                "neighbors.layers",
                self.neighbors.weight,
                self.neighbors.layers.len(),
            ),
            (
                "transport.weight",
                "transport.layers",
                self.transport.weight,
                self.transport.layers.len(),
            ),
        ] {
            if value > 0.0 && count == 0 {
                return Err(RecipeError::NoLayers { weight, layers });
            }
        }
        if let LayerWeights::Each(weights) = &self.layer_weights
            && weights.len() != self.style_layers.len()
        {
            return Err(RecipeError::LayerWeights {
                weights: weights.len(),
                layers: self.style_layers.len(),
            });
        }
        self.check_optimizer()?;
        if self.content_weight == 0.0 && !self.needs_style() && self.tv_weight == 0.0 {
            return Err(RecipeError::NothingToDo);
        }
        Ok(())
    }

    /// Checks each setting by itself.
    fn check_values(&self) -> Result<(), RecipeError> {
        let recipe = self.to_value();
        let clamp = match self.optimizer {
            OptimizerConfig::Adam(config) => config.clamp,
            OptimizerConfig::Lbfgs(_) => None,
        };
        // JSON has no such numbers, and would take them for none.
        let absent = |key: &str| match key {
            "averaging" => self.averaging.is_none_or(f64::is_finite),
            "optimizer.adam.clamp" => clamp.is_none_or(f64::is_finite),
            _ => true,
        };
        for setting in Self::settings() {
            let key = setting.key();
            // The rest are choices that are not made, or have settings of their own.
            let Some(value) = setting.value_in(&recipe).filter(|value| !value.is_object()) else {
                continue;
            };
            if !setting.accepts(value) || !absent(key) {
                return Err(RecipeError::Value {
                    key: key.to_string(),
                    line: None,
                    value: shorten(value),
                    expected: setting.values(),
                    nearest: None,
                });
            }
        }
        Ok(())
    }

    /// Checks that the optimiser suits the losses and what it changes.
    fn check_optimizer(&self) -> Result<(), RecipeError> {
        match self.optimizer {
            OptimizerConfig::Lbfgs(config) => {
                let sampled = self.has_final_pass() || self.transport.weight > 0.0;
                match config.line_search != LineSearch::None && sampled {
                    true => Err(RecipeError::LineSearch),
                    false => Ok(()),
                }
            }
            OptimizerConfig::Adam(config) => {
                if config.carry_moments && self.last_rate != 1.0 {
                    return Err(RecipeError::CarriedRate);
                }
                let key = match (self.pyramid > 0, config.clamp, config.carry_moments) {
                    (true, Some(_), _) => "optimizer.adam.clamp",
                    (true, _, true) => "optimizer.adam.carry_moments",
                    _ => return Ok(()),
                };
                Err(RecipeError::PixelsOnly { key })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamConfig;

    #[test]
    fn senseless_numbers_are_refused() {
        let recipe = Recipe::gram();
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
                optimizer: OptimizerConfig::Adam(AdamConfig {
                    clamp: Some(0.0),
                    ..AdamConfig::default()
                }),
                ..recipe.clone()
            },
            Recipe {
                averaging: Some(f64::NAN),
                ..recipe.clone()
            },
            Recipe {
                optimizer: OptimizerConfig::Adam(AdamConfig {
                    clamp: Some(f64::INFINITY),
                    ..AdamConfig::default()
                }),
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
    }

    #[test]
    fn errors_name_the_setting() {
        let recipe = Recipe {
            style_scale: f64::NAN,
            ..Recipe::gram()
        };
        assert_eq!(
            recipe.check().unwrap_err().to_string(),
            "`style_scale` is not a number, expected a number from 0.001 to 1000"
        );
        let mut recipe = Recipe::default();
        recipe.neighbors.layers.clear();
        assert_eq!(
            recipe.check().unwrap_err().to_string(),
            "`neighbors.weight` is not 0, but `neighbors.layers` is empty: name some layers, or set the \
             weight to 0"
        );
    }
}
