//! Every setting of a recipe: its key, what it means and what it can be.
//!
//! The one source of the checks of values, of the comments in recipe files, of the hints in errors
//! and of the table in `docs/recipe.md`.

use serde_json::Value;

use super::Recipe;
use crate::encoder::Layer;

/// A setting of a [`Recipe`]: its key in a file, what it means, and what it can be.
///
/// ```
/// use impasto::Recipe;
///
/// let mut settings = Recipe::settings().iter();
/// let ratio = settings.find(|setting| setting.key() == "ratio").unwrap();
/// assert_eq!(ratio.values(), "a number above 1");
/// ```
#[derive(Debug)]
pub struct Setting {
    key: &'static str,
    help: &'static str,
    pub(super) kind: Kind,
    /// What `"none"` means, if it is allowed.
    none: Option<&'static str>,
}

/// What a setting can be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    Flag,
    Number(Range),
    /// A whole number.
    Count(Range),
    /// At least one whole number.
    Counts(Range),
    Numbers(Range),
    Layers,
    /// One of these names. Some have settings of their own, or a value, under their key.
    Choice(&'static [&'static str]),
}

/// Numbers from `least` to `most`, each included unless it is open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    least: f64,
    open_below: bool,
    most: f64,
    open_above: bool,
}

impl Range {
    const fn between(least: f64, most: f64) -> Self {
        Self {
            least,
            open_below: false,
            most,
            open_above: false,
        }
    }

    const fn at_least(least: f64) -> Self {
        Self::between(least, f64::MAX)
    }

    const fn above(least: f64) -> Self {
        Self {
            open_below: true,
            ..Self::at_least(least)
        }
    }

    /// 0 or more, and below 1.
    const DECAY: Self = Self {
        open_above: true,
        ..Self::between(0.0, 1.0)
    };
    const WEIGHT: Self = Self::at_least(0.0);
    const POSITIVE: Self = Self::above(0.0);
    const PIXELS: Self = Self::between(1.0, 65536.0);

    /// Whether a number lies within; NaN does not.
    fn contains(self, number: f64) -> bool {
        let below = number < self.least || (self.open_below && number == self.least);
        let above = number > self.most || (self.open_above && number == self.most);
        !number.is_nan() && !below && !above
    }

    fn words(self) -> String {
        match (self.open_below, self.most == f64::MAX, self.open_above) {
            (true, true, _) => format!("above {}", self.least),
            (_, true, _) => format!("of {} or more", self.least),
            (_, _, true) => format!("from {} to below {}", self.least, self.most),
            _ => format!("from {} to {}", self.least, self.most),
        }
    }
}

impl Kind {
    /// Whether a value, in the form that JSON has it, is of this kind.
    pub fn accepts(self, value: &Value) -> bool {
        let number = |range: Range, value: &Value| {
            let number = value.as_f64();
            number.is_some_and(|number| range.contains(number))
        };
        let count = |range: Range, value: &Value| value.is_u64() && number(range, value);
        let all = |accepts: &dyn Fn(&Value) -> bool| {
            let list = value.as_array();
            list.is_some_and(|list| list.iter().all(accepts))
        };
        match self {
            Kind::Text => value.is_string(),
            Kind::Flag => value.is_boolean(),
            Kind::Number(range) => number(range, value),
            Kind::Count(range) => count(range, value),
            Kind::Counts(range) => {
                all(&|value| count(range, value)) && *value != Value::Array(vec![])
            }
            Kind::Numbers(range) => all(&|value| number(range, value)),
            Kind::Layers => all(&|value| {
                let name = value.as_str();
                name.is_some_and(|name| name.parse::<Layer>().is_ok())
            }),
            Kind::Choice(names) => value.as_str().is_some_and(|name| names.contains(&name)),
        }
    }

    /// What it can be, in words.
    pub fn words(self) -> String {
        match self {
            Kind::Text => "text".to_string(),
            Kind::Flag => "true or false".to_string(),
            Kind::Number(range) => format!("a number {}", range.words()),
            Kind::Count(range) => format!("a whole number {}", range.words()),
            Kind::Counts(range) => format!("a list of whole numbers {}", range.words()),
            Kind::Numbers(range) => format!("a list of numbers {}", range.words()),
            Kind::Layers => "a list of layers, such as [\"relu4_2\"]".to_string(),
            Kind::Choice(names) => one_of(names),
        }
    }
}

/// `a, b or c`.
fn one_of(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => name.to_string(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

impl Setting {
    /// The key in a recipe file; dots lead into groups.
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// What it means, on one line.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// What it can be, in words.
    pub fn values(&self) -> String {
        let values = self.kind.words();
        match (self.none, self.kind) {
            (None, _) => values,
            (Some(meaning), Kind::Choice(names)) => {
                format!("{}, or none: {meaning}", names.join(", "))
            }
            (Some(meaning), _) => format!("{values}, or none: {meaning}"),
        }
    }

    /// Whether it can be `"none"`.
    pub(super) fn is_optional(&self) -> bool {
        self.none.is_some()
    }

    /// Whether a value, in the form that JSON has it, is allowed.
    pub(super) fn accepts(&self, value: &Value) -> bool {
        (self.is_optional() && value.is_null()) || self.kind.accepts(value)
    }

    /// Its value in a recipe; `None` if it belongs to a choice that the recipe does not make.
    pub(super) fn value_in<'a>(&self, recipe: &'a Value) -> Option<&'a Value> {
        self.key
            .split('.')
            .try_fold(recipe, |value, key| value.get(key))
    }

    /// The setting of this key.
    pub(super) fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// The next parts of the keys that begin with `group`, in their order.
    pub(super) fn keys_in(group: &str) -> Vec<&'static str> {
        let mut keys = Vec::new();
        for setting in SETTINGS {
            let rest = match group {
                "" => Some(setting.key),
                _ => setting
                    .key
                    .strip_prefix(group)
                    .and_then(|rest| rest.strip_prefix('.')),
            };
            let key = rest.map(|rest| rest.split('.').next().unwrap_or(rest));
            keys.extend(key.filter(|key| !keys.contains(key)));
        }
        keys
    }
}

impl Recipe {
    /// All settings, in the order in which a recipe file has them.
    pub fn settings() -> &'static [Setting] {
        SETTINGS
    }
}

const fn setting(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting {
        key,
        help,
        kind,
        none: None,
    }
}

const fn optional(
    key: &'static str,
    kind: Kind,
    none: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        none: Some(none),
        ..setting(key, kind, help)
    }
}

/// Groups of settings that a recipe file has under a heading of their own, with what they are.
pub(super) const GROUPS: &[(&str, &str)] = &[
    (
        "neighbors",
        "Style by nearest neighbours: each place of the result has the most similar place of the style as its target.",
    ),
    (
        "transport",
        "Style by optimal transport between sampled pixels, and content by self-similarity (STROTSS).",
    ),
    ("tv", "Kind of total variation, which is smoothness."),
    (
        "optimizer.lbfgs",
        "The optimiser of every scale: L-BFGS here; [optimizer.adam] would be Adam.",
    ),
    (
        "optimizer.adam",
        "The optimiser of every scale: Adam here; [optimizer.lbfgs] would be L-BFGS.",
    ),
];

use Kind::{Choice, Count, Counts, Flag, Layers, Number, Numbers, Text};

#[rustfmt::skip]
const SETTINGS: &[Setting] = &[
    setting("name", Text, "Name of the recipe."),
    setting("source", Text, "Where its numbers come from."),
    setting("size", Count(Range::PIXELS), "Size of the result in pixels, as `measure` says."),
    setting("measure", Choice(&["longest-side", "shortest-side", "width", "height", "square-root-of-area"]),
        "Which side of a picture `size` is; square-root-of-area: the side of a square with as many pixels."),
    setting("coarsest", Count(Range::at_least(0.0)),
        "Coarse to fine: the first scale is the smallest of at least this many pixels; `size` or more gives a single scale."),
    setting("ratio", Number(Range::above(1.0)), "How many times as large each scale is as the one before."),
    setting("iterations", Count(Range::at_least(1.0)), "Optimiser steps at the last scale."),
    setting("coarse_iterations", Counts(Range::at_least(1.0)),
        "Optimiser steps at the scales before the last, coarsest first; the last number serves for all further ones."),
    setting("enlarge_content", Flag, "Whether a content picture smaller than `size` is enlarged; else it keeps its own size."),
    setting("enlarge_styles", Flag, "Whether a style picture smaller than asked for is enlarged."),
    setting("content_weight", Number(Range::WEIGHT), "Weight of the content: a higher one keeps more of it; 0 leaves it out."),
    setting("content_layers", Layers, "Layers whose responses the result shares with the content picture."),
    setting("content_normalization", Choice(&["mean", "half-of-sum", "root-of-elements"]),
        "How squared errors of the content are added up; root-of-elements: the sum over twice the root of their number."),
    setting("style_weight", Number(Range::WEIGHT), "Weight of the style's statistics: a higher one paints more freely; 0 leaves them out."),
    setting("style_layers", Layers, "Layers whose statistics the result shares with the style pictures."),
    setting("layer_weights", Choice(&["one", "mean", "inverse-square-of-channels", "each"]),
        "How the style layers weigh: 1 each, one over their number, one over their channels squared, or a list of your own."),
    setting("layer_weights.each", Numbers(Range::WEIGHT), "Weights of the style layers, in their order."),
    setting("style_loss", Choice(&["gram", "mean-std", "wasserstein"]),
        "The statistics of the style layers: Gram matrices, mean and deviation of each channel, or Gaussians."),
    setting("gram", Choice(&["per-element", "per-position", "paper"]),
        "What Gram matrices are divided by: channels and pixels, pixels, or as Gatys et al. (2016) have it."),
    setting("relative", Flag, "Whether the error of a layer counts relative to that of an image without any response."),
    setting("neighbors.weight", Number(Range::WEIGHT), "Weight of the nearest neighbours; 0 leaves them out."),
    setting("neighbors.layers", Layers, "Layers that are compared together."),
    setting("neighbors.distance", Choice(&["cosine", "squared"]),
        "How responses are compared with their targets: cosine leaves contrast free, squared keeps the style's."),
    setting("neighbors.content_share", Number(Range::between(0.0, 1.0)),
        "Share of the content in the image whose neighbours are searched; the rest is what the coarser scale painted."),
    setting("neighbors.rotations", Flag, "Whether the style is also searched turned by 90, 180 and 270 degrees."),
    setting("neighbors.search", Choice(&["exact", "projected"]),
        "How neighbours are searched: in all values, or in the directions in which the style varies most."),
    setting("neighbors.search.projected.dimensions", Count(Range::between(1.0, 1024.0)), "How many directions."),
    setting("neighbors.final_iterations", Count(Range::at_least(0.0)),
        "Steps of a last pass at the full size that matches each layer by itself; 0 for none."),
    setting("transport.weight", Number(Range::WEIGHT), "Weight of optimal transport; 0 leaves it out."),
    setting("transport.layers", Layers, "Layers that are compared, beside the colours."),
    setting("transport.content", Number(Range::WEIGHT), "Weight of the content at the first scale."),
    setting("transport.content_ratio", Number(Range::between(0.0, 1000.0)), "What that weight is multiplied with from scale to scale."),
    setting("transport.samples", Count(Range::PIXELS), "Pixels of the image that are drawn for each step."),
    setting("transport.style_samples", Count(Range::PIXELS), "Pixels of each style picture that are drawn for each scale."),
    optional("style_size", Count(Range::PIXELS), "as large as the result",
        "Size of the style pictures at the last scale, as `measure` says, whatever the size of the result."),
    setting("style_scale", Number(Range::between(0.001, 1000.0)), "Factor for the size of the style pictures: a larger one makes larger strokes."),
    setting("tv_weight", Number(Range::WEIGHT), "Weight of smoothness (total variation): a higher one removes more fine noise."),
    setting("tv.norm", Choice(&["l1", "l2"]), "Absolute or squared differences of neighbouring pixels."),
    setting("tv.reduction", Choice(&["sum", "mean", "mean-of-each"]), "Whether they are added up, averaged, or averaged in each direction."),
    setting("tv.stencil", Choice(&["axes", "nine-points"]), "Whether diagonal neighbours count too (nine-points)."),
    setting("tv.range", Number(Range::POSITIVE), "Value of a full channel: 1, or 255 as some programs have it."),
    setting("colors", Choice(&["style", "luminance-yuv", "luminance-lab", "cholesky", "pca", "symmetric", "histogram"]),
        "Whose colours the result has: the style's, the content's (luminance-…), or the style recoloured like the content."),
    optional("pooling", Choice(&["max", "average"]), "as the encoder is set", "How the network pools: max as it was trained, average for smoother pictures."),
    optional("padding", Choice(&["zero", "replicate", "reflect"]), "as the encoder is set", "What the network sees beyond the border of the picture."),
    setting("init", Choice(&["content", "noise", "style", "style-color"]), "What the first scale starts from."),
    setting("init.noise.deviation", Number(Range::WEIGHT), "Standard deviation of the noise, for values from 0 to 1."),
    setting("content_detail", Flag, "Whether the start of every scale but the last gets the content's finest details."),
    setting("optimizer", Choice(&["lbfgs", "adam"]), "The optimiser of every scale."),
    setting("optimizer.lbfgs.history", Count(Range::between(0.0, 10_000.0)), "Pairs of steps and gradient changes that are remembered."),
    setting("optimizer.lbfgs.half_precision", Flag, "Whether they are kept in half precision, in half of the memory."),
    setting("optimizer.lbfgs.learning_rate", Number(Range::POSITIVE), "Length of a step as a multiple of the quasi-Newton step."),
    setting("optimizer.lbfgs.line_search", Choice(&["none", "strong-wolfe"]), "How the length of a step is found."),
    setting("optimizer.lbfgs.tolerance", Number(Range::WEIGHT), "A scale ends early where no value of the gradient is larger than this."),
    setting("optimizer.adam.learning_rate", Number(Range::POSITIVE), "Length of a step, in units of `range`."),
    setting("optimizer.adam.beta1", Number(Range::DECAY), "Decay of the mean gradient."),
    setting("optimizer.adam.beta2", Number(Range::DECAY), "Decay of the mean squared gradient."),
    setting("optimizer.adam.epsilon", Number(Range::POSITIVE), "What keeps the division finite."),
    setting("optimizer.adam.bias_correction", Flag, "Whether the means are corrected for having begun at zero; false with beta1 = 0 is RMSprop."),
    optional("optimizer.adam.clamp", Number(Range::POSITIVE), "not clamped", "After each step, values are clamped to 0 to this."),
    setting("optimizer.adam.carry_moments", Flag, "Whether a scale goes on with the means of the one before."),
    setting("last_rate", Number(Range::POSITIVE), "What the learning rate is multiplied with at the last of several scales."),
    setting("pyramid", Count(Range::between(0.0, 32.0)), "Levels of the Laplacian pyramid whose coefficients are optimised; 0 for the pixels themselves."),
    optional("averaging", Number(Range::DECAY), "the last step or a better one", "The result is a running mean of the steps with this decay, which has less grain."),
    setting("range", Number(Range::POSITIVE), "The optimiser works on pixel values from 0 to this."),
];

/// A value for a message.
pub(super) fn shorten(value: &Value) -> String {
    let text = match value {
        Value::Null => "not a number".to_string(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(values) if values.is_empty() => "an empty list".to_string(),
        Value::Object(map) => {
            let keys: Vec<&str> = map.keys().map(String::as_str).collect();
            format!("a group ({})", keys.join(", "))
        }
        value => value.to_string(),
    };
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::optim::{AdamConfig, OptimizerConfig};
    use crate::transfer::{Init, LayerWeights, Search};

    /// Recipes that make every choice with settings of its own.
    fn recipes() -> [Recipe; 2] {
        let mut first = Recipe::gram();
        first.neighbors.search = Search::Projected { dimensions: 8 };
        first.init = Init::NOISE;
        first.layer_weights = LayerWeights::Each(vec![1.0; 5]);
        let mut second = first.clone();
        second.optimizer = OptimizerConfig::Adam(AdamConfig::default());
        [first, second]
    }

    /// The keys of all values that are no objects.
    fn keys(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let dot = if prefix.is_empty() { "" } else { "." };
                    keys(value, &format!("{prefix}{dot}{key}"), found);
                }
            }
            _ => {
                found.insert(prefix.to_string());
            }
        }
    }

    #[test]
    fn every_field_of_a_recipe_has_a_setting_and_every_setting_a_field() {
        let mut fields = BTreeSet::new();
        for recipe in recipes() {
            keys(&serde_json::to_value(recipe).unwrap(), "", &mut fields);
        }
        // Choices with settings of their own, which have no value themselves.
        let choices = ["layer_weights", "neighbors.search", "init", "optimizer"];
        fields.extend(choices.map(str::to_string));
        let settings: BTreeSet<String> = SETTINGS.iter().map(|s| s.key.to_string()).collect();
        assert_eq!(fields, settings);
        assert_eq!(settings.len(), SETTINGS.len(), "a key occurs twice");
    }

    #[test]
    fn every_setting_has_a_short_help() {
        for Setting { key, help, .. } in SETTINGS {
            assert!(help.ends_with('.') && !help.contains('\n'), "{key}: {help}");
            assert!(
                (10..=125).contains(&help.len()),
                "{key}: {} letters",
                help.len()
            );
        }
    }

    /// The names that serde's error for an unknown one lists.
    fn variants(error: &str) -> BTreeSet<String> {
        let listed = error.split("expected").nth(1).unwrap_or_default();
        let names = listed.split('`').skip(1).step_by(2);
        names.map(str::to_string).collect()
    }

    #[test]
    fn choices_are_those_of_the_code() {
        for setting in SETTINGS {
            let Kind::Choice(names) = setting.kind else {
                continue;
            };
            let recipe = recipes().into_iter().find_map(|recipe| {
                let recipe = serde_json::to_value(recipe).unwrap();
                setting.value_in(&recipe).is_some().then_some(recipe)
            });
            let mut recipe = recipe.unwrap();
            let pointer = format!("/{}", setting.key.replace('.', "/"));
            *recipe.pointer_mut(&pointer).unwrap() = "nonsense".into();
            let error = serde_json::from_value::<Recipe>(recipe)
                .unwrap_err()
                .to_string();
            let names: BTreeSet<String> = names.iter().map(|name| name.to_string()).collect();
            assert_eq!(variants(&error), names, "{}: {error}", setting.key);
        }
    }

    #[test]
    fn ranges_and_kinds_hold_their_borders() {
        let accepts = |key: &str, value: Value| Setting::find(key).unwrap().accepts(&value);
        for (key, value, expected) in [
            ("ratio", Value::from(1.0), false),
            ("ratio", Value::from(2), true),
            ("averaging", Value::from(0.0), true),
            ("averaging", Value::from(1.0), false),
            ("averaging", Value::Null, true),
            ("size", Value::from(65536), true),
            ("size", Value::from(65537), false),
            ("size", Value::from(1.5), false),
            ("size", Value::Null, false),
            ("iterations", Value::from(u64::MAX), true),
            ("coarse_iterations", Value::Array(vec![]), false),
            ("style_layers", Value::from(vec!["relu9_1"]), false),
            ("style_layers", Value::Array(vec![]), true),
            ("init", Value::from("contents"), false),
            ("content_weight", Value::from(-0.5), false),
        ] {
            assert_eq!(accepts(key, value.clone()), expected, "{key} {value}");
        }
        assert!(!Range::WEIGHT.contains(f64::NAN));
        assert!(!Range::WEIGHT.contains(f64::INFINITY));
    }
}
