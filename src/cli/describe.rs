//! Recipes, plans, sizes and durations in words.

use impasto::loss::{
    ContentNormalization, GramNormalization, Reduction, Stencil, TotalVariation, VariationNorm,
};
use impasto::optim::{AdamConfig, LineSearch, OptimizerConfig};
use impasto::transfer::{Measure, Neighbors, Plan, PlannedScale, Search, StyleLoss, Transport};
use impasto::{Init, Layer, Padding, Pooling, Recipe};

/// The settings of a recipe, each with its name.
pub fn recipe(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let averaging = match recipe.averaging {
        None => "the last step or a better one".to_string(),
        Some(decay) => format!("mean over the steps of a scale, decay {decay}"),
    };
    let errors = match recipe.relative {
        true => "relative to an image without any response",
        false => "absolute",
    };
    vec![
        ("scales", scales(recipe)),
        ("content", content(recipe)),
        ("style", style(recipe)),
        ("neighbours", neighbors(&recipe.neighbors)),
        ("transport", transport(&recipe.transport)),
        ("style pictures", style_pictures(recipe)),
        (
            "total variation",
            format!(
                "{} × {}",
                number(recipe.tv_weight),
                total_variation(recipe.tv)
            ),
        ),
        ("errors", errors.to_string()),
        ("colours", recipe.colors.to_string()),
        ("network", network(recipe)),
        ("start", start(recipe)),
        ("optimiser", optimizer(recipe)),
        ("result", averaging),
        ("variables", variables(recipe)),
    ]
}

fn scales(recipe: &Recipe) -> String {
    let scales = recipe.scales();
    let scales: Vec<String> = scales
        .iter()
        .map(|scale| {
            let pass = if scale.final_pass { " (last pass)" } else { "" };
            format!("{} px × {} steps{pass}", scale.size, scale.iterations)
        })
        .collect();
    let measure = match recipe.measure {
        Measure::LongestSide => "longest side",
        Measure::ShortestSide => "shortest side",
        Measure::Width => "width",
        Measure::Height => "height",
        Measure::SquareRootOfArea => "side of a square of the same area",
    };
    let enlarged = match recipe.enlarge_content {
        true => "",
        false => ", never enlarged",
    };
    format!("{} ({measure}{enlarged})", scales.join(", "))
}

fn content(recipe: &Recipe) -> String {
    if recipe.content_weight == 0.0 {
        return "0".to_string();
    }
    let normalization = match recipe.content_normalization {
        ContentNormalization::Mean => "mean squared error",
        ContentNormalization::HalfOfSum => "sum of squared errors ÷ 2",
        ContentNormalization::RootOfElements => {
            "sum of squared errors ÷ twice the square root of their number"
        }
    };
    let weight = number(recipe.content_weight);
    format!(
        "{weight} × {} ({normalization})",
        names(&recipe.content_layers)
    )
}

fn style(recipe: &Recipe) -> String {
    if recipe.style_weight == 0.0 {
        return "0".to_string();
    }
    let layers = recipe.weighted_style_layers();
    let layers: Vec<String> = layers
        .iter()
        .map(|(layer, weight)| match weight {
            1.0 => layer.to_string(),
            weight => format!("{layer}:{weight:.3e}"),
        })
        .collect();
    let loss = match (recipe.style_loss, recipe.gram) {
        (StyleLoss::Gram, GramNormalization::PerElement) => {
            "Gram matrices ÷ channels ÷ pixels, mean squared error"
        }
        (StyleLoss::Gram, GramNormalization::PerPosition) => {
            "Gram matrices ÷ pixels, mean squared error"
        }
        (StyleLoss::Gram, GramNormalization::Paper) => {
            "Gram matrices ÷ pixels, mean squared error ÷ 4"
        }
        (StyleLoss::MeanStd, _) => "mean and standard deviation of each channel",
        (StyleLoss::Wasserstein, _) => "Wasserstein distance of Gaussians",
    };
    let weight = number(recipe.style_weight);
    format!("{weight} × {} ({loss})", layers.join(" "))
}

fn names(layers: &[Layer]) -> String {
    let layers: Vec<String> = layers.iter().map(Layer::to_string).collect();
    layers.join(" ")
}

fn neighbors(neighbors: &Neighbors) -> String {
    if neighbors.weight == 0.0 {
        return "0".to_string();
    }
    let search = match neighbors.search {
        Search::Exact => "exact search".to_string(),
        Search::Projected { dimensions } => format!("search in {dimensions} dimensions"),
    };
    let rotations = match neighbors.rotations {
        true => ", style turned in four ways",
        false => "",
    };
    format!(
        "{} × {} (hypercolumns, {} distance, {search}{rotations}, {} of the content)",
        number(neighbors.weight),
        names(&neighbors.layers),
        neighbors.distance,
        number(neighbors.content_share),
    )
}

fn transport(transport: &Transport) -> String {
    if transport.weight == 0.0 {
        return "0".to_string();
    }
    format!(
        "{} × {} (relaxed optimal transport of {} pixels to {} of the style, content {}, × {} from \
         scale to scale)",
        number(transport.weight),
        names(&transport.layers),
        transport.samples,
        transport.style_samples,
        number(transport.content),
        number(transport.content_ratio),
    )
}

fn style_pictures(recipe: &Recipe) -> String {
    let scale = recipe.style_scale;
    let size = match recipe.style_size {
        None => format!("{scale} × the size of the result"),
        Some(size) => format!("{scale} × {size} px"),
    };
    match recipe.enlarge_styles {
        true => size,
        false => format!("{size}, never enlarged"),
    }
}

fn total_variation(tv: TotalVariation) -> String {
    let reduction = match tv.reduction {
        Reduction::Sum => "sum",
        Reduction::Mean => "mean",
        Reduction::MeanOfEach => "mean in each direction",
    };
    let norm = match tv.norm {
        VariationNorm::L1 => "absolute differences",
        VariationNorm::L2 => "squared differences",
    };
    let stencil = match tv.stencil {
        Stencil::Axes => "horizontal and vertical neighbours",
        Stencil::NinePoints => "horizontal, vertical and diagonal neighbours",
    };
    format!(
        "{reduction} of {norm} ({stencil}, values from 0 to {})",
        tv.range
    )
}

/// The network as the program sets it where the recipe leaves it open.
fn network(recipe: &Recipe) -> String {
    let pooling = match recipe.pooling.unwrap_or_default() {
        Pooling::Max => "max",
        Pooling::Average => "average",
    };
    let padding = match recipe.padding.unwrap_or_default() {
        Padding::Zero => "zero",
        Padding::Replicate => "replicate",
        Padding::Reflect => "reflect",
    };
    format!("pooling {pooling}, padding {padding}")
}

fn start(recipe: &Recipe) -> String {
    let start = match recipe.init {
        Init::Content => "the content picture".to_string(),
        Init::Style => "the first style picture".to_string(),
        Init::StyleColor => "the mean colour of the first style picture".to_string(),
        Init::Noise { deviation } => format!(
            "noise around the mean colour, standard deviation {} of the range",
            number(deviation)
        ),
    };
    match recipe.content_detail {
        true => format!("{start}, with the content's finest details at all scales but the last"),
        false => start,
    }
}

fn variables(recipe: &Recipe) -> String {
    match recipe.pyramid {
        0 => format!("pixels, values from 0 to {}", recipe.range),
        levels => format!(
            "a Laplacian pyramid of {levels} levels at most, values from 0 to {}",
            recipe.range
        ),
    }
}

fn optimizer(recipe: &Recipe) -> String {
    let text = method(recipe);
    match recipe.last_rate {
        1.0 => text,
        rate => format!("{text}, learning rate × {rate} at the last scale"),
    }
}

fn method(recipe: &Recipe) -> String {
    match recipe.optimizer {
        OptimizerConfig::Lbfgs(config) => {
            let search = match config.line_search {
                LineSearch::None => "no line search",
                LineSearch::StrongWolfe => "strong Wolfe line search",
            };
            let mut text = format!(
                "L-BFGS, history {}{}, learning rate {}, {search}",
                config.history,
                in_half_precision(config.half_precision),
                config.learning_rate
            );
            if config.tolerance > 0.0 {
                text.push_str(&format!(", tolerance {}", number(config.tolerance)));
            }
            text
        }
        OptimizerConfig::Adam(config) => {
            let name = match config {
                AdamConfig {
                    beta1: 0.0,
                    bias_correction: false,
                    ..
                } => "RMSprop (Adam without bias correction)",
                AdamConfig {
                    bias_correction: false,
                    ..
                } => "Adam without bias correction",
                _ => "Adam",
            };
            let mut text = format!(
                "{name}, learning rate {}, β₁ {}, β₂ {}, ε {}",
                config.learning_rate,
                config.beta1,
                config.beta2,
                number(config.epsilon)
            );
            if config.carry_moments {
                text.push_str(", moments carried to the next scale");
            }
            if let Some(largest) = config.clamp {
                text.push_str(&format!(", each step clamped to 0 to {largest}"));
            }
            text
        }
    }
}

/// Names and values in two columns.
pub fn table(lines: &[(String, String)]) -> String {
    lines
        .iter()
        .map(|(key, value)| format!("{key:16} {value}\n"))
        .collect()
}

fn in_half_precision(half: bool) -> &'static str {
    if half { " in half precision" } else { "" }
}

/// A number in at most eight characters, with four digits if more would be needed.
pub fn number(value: f64) -> String {
    let plain = value.to_string();
    if plain.len() <= 8 {
        return plain;
    }
    let text = format!("{value:.3e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let digits = digits.trim_end_matches('0').trim_end_matches('.');
            format!("{digits}e{exponent}")
        }
        None => text,
    }
}

/// How a scale is computed to fit the memory, such as `in 4 tiles, remembering 10 steps`; `None` if it fits
/// anyway.
pub fn computation(scale: &PlannedScale) -> Option<String> {
    let how = &scale.computation;
    let tiles = match scale.tiles {
        1 if how.segment_values.is_some() => Some("in segments".to_string()),
        1 => None,
        count => Some(format!("in {count} tiles")),
    };
    let history = how.history.map(|steps| {
        let half = in_half_precision(how.half_precision);
        format!("remembering {steps} steps{half}")
    });
    let parts: Vec<String> = tiles.into_iter().chain(history).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A line for each scale that is computed in another way to fit the memory.
pub fn computations(plan: &Plan) -> Vec<String> {
    let lines = plan.scales.iter().filter_map(|scale| {
        let (width, height) = (scale.width, scale.height);
        let memory = gigabytes(scale.memory);
        let how = computation(scale)?;
        Some(format!(
            "{width}×{height} pixels are computed {how}: about {memory}"
        ))
    });
    lines.collect()
}

/// `1.25 GB`.
pub fn gigabytes(bytes: u64) -> String {
    format!("{:.2} GB", bytes as f64 / 1e9)
}

/// `42 s`, `3 min 20 s` or `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.max(0.0).round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(-1.0), "0 s");
        assert_eq!(duration(59.6), "1 min 0 s");
        assert_eq!(duration(7505.0), "2 h 5 min");
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (200.0, "200"),
            (0.015, "0.015"),
            (1e-8, "1e-8"),
            (0.001 / 255.0, "3.922e-6"),
            (0.256 / 255.0, "1.004e-3"),
            (1e5, "100000"),
            (1.5e9, "1.5e9"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
