//! What makes no sense in a recipe.

use super::{Init, LayerWeights, Recipe, Search};
use crate::optim::{LineSearch, OptimizerConfig};

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
        /// Which loss.
        name: &'static str,
    },
    /// A line search along a loss that changes from step to step.
    #[error(
        "a line search needs a loss that is the same at each step; the last pass and optimal transport \
         look at other positions each time: choose Adam, or L-BFGS without a line search"
    )]
    LineSearch,
    /// Moments that are carried to a scale with another learning rate.
    #[error("Adam's moments cannot be carried to a last scale with another learning rate")]
    CarriedRate,
    /// Something that makes sense for pixels but not for coefficients of a pyramid.
    #[error("{name} works on pixels only; set the levels of the pyramid to 0")]
    PixelsOnly {
        /// What.
        name: &'static str,
    },
    /// Nothing to optimise.
    #[error("all losses have weight 0: there is nothing to optimise")]
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

impl Recipe {
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
            ("the weight of nearest neighbours", self.neighbors.weight),
            ("the weight of optimal transport", self.transport.weight),
            (
                "the content weight of optimal transport",
                self.transport.content,
            ),
            ("the ratio of content weights", self.transport.content_ratio),
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
        number(
            self.ratio.is_finite() && self.ratio > 1.0,
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
        let share = self.neighbors.content_share;
        let name = "the share of the content";
        number((0.0..=1.0).contains(&share), name, &share, "0 to 1")?;
        if let Search::Projected { dimensions } = &self.neighbors.search {
            let name = "the number of dimensions of the search";
            let ok = (1..=1024).contains(dimensions);
            number(ok, name, dimensions, "1 to 1024")?;
        }
        for (name, count) in [
            ("the number of sampled pixels", &self.transport.samples),
            (
                "the number of sampled style pixels",
                &self.transport.style_samples,
            ),
        ] {
            let ok = (1..=1 << 16).contains(count);
            number(ok, name, count, "1 to 65536")?;
        }
        let name = "the ratio of content weights";
        let ratio = &self.transport.content_ratio;
        number(*ratio <= 1e3, name, ratio, "0 to 1000")?;
        let name = "the number of levels of the pyramid";
        number(self.pyramid <= 32, name, &self.pyramid, "32 at most")?;
        let name = "the factor of the last learning rate";
        number(
            positive(self.last_rate),
            name,
            &self.last_rate,
            "a positive number",
        )?;
        if let OptimizerConfig::Lbfgs(config) = self.optimizer
            && config.line_search != LineSearch::None
            && (self.has_final_pass() || self.transport.weight > 0.0)
        {
            return Err(RecipeError::LineSearch);
        }
        if let OptimizerConfig::Adam(config) = self.optimizer
            && config.carry_moments
            && self.last_rate != 1.0
        {
            return Err(RecipeError::CarriedRate);
        }
        if let OptimizerConfig::Adam(config) = self.optimizer
            && self.pyramid > 0
        {
            if config.clamp.is_some() {
                return Err(RecipeError::PixelsOnly {
                    name: "keeping values in range",
                });
            }
            if config.carry_moments {
                return Err(RecipeError::PixelsOnly {
                    name: "carrying moments from scale to scale",
                });
            }
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
                if let Some(largest) = &config.clamp {
                    let name = "the largest value of a step";
                    number(positive(*largest), name, largest, "a positive number")?;
                }
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
            (
                "nearest neighbours",
                self.neighbors.weight,
                &self.neighbors.layers,
            ),
            (
                "optimal transport",
                self.transport.weight,
                &self.transport.layers,
            ),
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
        if self.content_weight == 0.0 && !self.needs_style() && self.tv_weight == 0.0 {
            return Err(RecipeError::NothingToDo);
        }
        Ok(())
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
}
