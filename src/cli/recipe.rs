//! The recipe that the options of a command ask for.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use impasto::optim::{AdamConfig, LbfgsConfig, OptimizerConfig};
use impasto::transfer::{LayerWeights, Provenance};
use impasto::{Init, Recipe};

use super::args::values::WeightedLayer;
use super::args::{DeviceArgs, OptimizerArg, ReconstructionArgs, StyleArgs};
use super::failure::Failure;

/// The named recipe with all options that override it, and the picture to start from if one was
/// named.
pub fn from_style_args<'a>(
    args: &'a StyleArgs,
    device: &DeviceArgs,
) -> Result<(Recipe, Option<&'a Path>), Failure> {
    let mut recipe = find(&args.recipe)?;
    let mut start = None;
    if let Some(init) = args.init.as_deref() {
        match init.to_str() {
            Some("content") => recipe.init = Init::Content,
            Some("style") => recipe.init = Init::Style,
            // A recipe that starts from noise knows how much of it.
            Some("noise") if matches!(recipe.init, Init::Noise { .. }) => {}
            Some("noise") => recipe.init = Init::NOISE,
            _ => start = Some(init),
        }
    }
    if let Some(layers) = &args.style_layers {
        set_style_layers(&mut recipe, layers);
    }
    set_optimizer(&mut recipe, args)?;
    let set = |field: &mut f64, option: Option<f64>| *field = option.unwrap_or(*field);
    set(&mut recipe.content_weight, args.content_weight);
    set(&mut recipe.style_weight, args.style_weight);
    set(&mut recipe.tv_weight, args.tv_weight);
    set(&mut recipe.neighbors.weight, args.neighbors_weight);
    if let Some(strength) = args.strength {
        if recipe.neighbors.weight == 0.0 {
            return Err(Failure::usage(
                "--strength works with recipes that match neighbours, such as impasto; with this one \
                 use --style-weight and --content-weight, or add --neighbors-weight",
            ));
        }
        if !(0.0..=1.0).contains(&strength) {
            let message = format!("--strength is {strength}, expected 0 to 1");
            return Err(Failure::usage(message));
        }
        recipe = recipe.with_strength(strength);
    }
    if let Some([scale]) = args.style_scale.as_deref() {
        recipe.style_scale = *scale;
    }
    if let Some(size) = args.size {
        recipe = recipe.with_longest_side(size);
    }
    if let Some(size) = args.style_size {
        recipe.style_size = Some(size);
        recipe.enlarge_styles = true;
    }
    recipe.averaging = args.averaging.or(recipe.averaging);
    if let Some(counts) = &args.coarse_iterations {
        recipe.coarse_iterations = counts.clone();
    }
    recipe.style_loss = args.style_loss.map_or(recipe.style_loss, Into::into);
    recipe.colors = args.colors.unwrap_or(recipe.colors);
    recipe.iterations = args.iterations.unwrap_or(recipe.iterations);
    if let Some(layers) = &args.content_layers {
        recipe.content_layers = layers.clone();
    }
    set_network(&mut recipe, device);
    check_weights(&recipe, args)?;
    recipe.check().map_err(Failure::usage)?;
    Ok((recipe, start))
}

/// Refuses what is said of a loss that has no weight.
fn check_weights(recipe: &Recipe, args: &StyleArgs) -> Result<(), Failure> {
    let (content, style) = (recipe.content_weight, recipe.style_weight);
    let unused = [
        (
            "--content-layers",
            args.content_layers.is_some(),
            content,
            "--content-weight",
        ),
        (
            "--style-layers",
            args.style_layers.is_some(),
            style,
            "--style-weight",
        ),
        (
            "--style-loss",
            args.style_loss.is_some(),
            style,
            "--style-weight",
        ),
    ];
    let mut unused = unused.into_iter();
    match unused.find(|(_, given, weight, _)| *given && *weight == 0.0) {
        None => Ok(()),
        Some((option, _, _, needed)) => Err(Failure::usage(format!(
            "{option} has no effect, since this loss has no weight in the recipe `{}`; add {needed}, \
             or choose another one, such as --recipe gram",
            recipe.name
        ))),
    }
}

/// The most bytes of a recipe file.
const LARGEST_FILE: u64 = 1 << 20;

/// The recipe of this name, or the one in the file of this name. A recipe of this crate goes before a
/// file; `./gram` is the file.
pub fn find(name: &Path) -> Result<Recipe, Failure> {
    let named = name.to_str().map(Recipe::named);
    let is_file = name.exists() || name.extension().is_some() || name.components().count() > 1;
    match named {
        Some(Ok(recipe)) => Ok(recipe),
        Some(Err(error)) if !is_file => Err(Failure::usage(format!(
            "{error}; there is no file of this name either"
        ))),
        _ => in_file(name),
    }
}

/// The recipe in a file: TOML, JSON, or a picture that says how it was made.
fn in_file(path: &Path) -> Result<Recipe, Failure> {
    let problem = |error: &dyn Display| {
        let path = path.display();
        Failure::usage(format!("{path}: cannot read the recipe: {error}"))
    };
    let file = File::open(path).map_err(|error| problem(&error))?;
    // The file may be a pipe, which can be read once.
    let mut file = file.take(LARGEST_FILE + 1);
    let mut bytes = Vec::new();
    let mut read = |count: u64, bytes: &mut Vec<u8>| {
        let mut part = file.by_ref().take(count);
        part.read_to_end(bytes).map_err(|error| problem(&error))
    };
    read(16, &mut bytes)?;
    if image::guess_format(&bytes).is_ok() {
        return match Provenance::read(path).map_err(Failure::usage)? {
            Some(provenance) => Ok(provenance.recipe),
            None => Err(problem(&NO_PROVENANCE)),
        };
    }
    read(LARGEST_FILE, &mut bytes)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(problem(&"it is larger than a megabyte"));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|_| problem(&"it is neither text (TOML or JSON) nor a picture"))?;
    Recipe::from_text(&text).map_err(|error| {
        let path = path.display();
        Failure::usage(format!("{path}: {error}"))
    })
}

/// What is said of a picture that does not say how it was made.
pub const NO_PROVENANCE: &str = "the file does not say how it was made: impasto did not write it, wrote \
                                 it with --no-metadata, or another program has changed it since";

/// A recipe of a reconstruction with the options that override it.
pub fn from_reconstruction_args(
    recipe: Recipe,
    args: &ReconstructionArgs,
) -> Result<Recipe, Failure> {
    let mut recipe = Recipe {
        size: args.size,
        iterations: args.iterations,
        coarse_iterations: vec![args.iterations],
        tv_weight: args.tv_weight.unwrap_or(recipe.tv_weight),
        ..recipe
    };
    set_network(&mut recipe, &args.device);
    recipe.check().map_err(Failure::usage)?;
    Ok(recipe)
}

/// Sets the optimiser, and what only one of them has.
fn set_optimizer(recipe: &mut Recipe, args: &StyleArgs) -> Result<(), Failure> {
    match (args.optimizer, recipe.optimizer) {
        (Some(OptimizerArg::Lbfgs), OptimizerConfig::Adam(_)) => {
            recipe.optimizer = OptimizerConfig::Lbfgs(LbfgsConfig::default());
        }
        (Some(OptimizerArg::Adam), OptimizerConfig::Lbfgs(_)) => {
            // The rate is in the units that the recipe optimises in.
            let config = AdamConfig::default();
            recipe.optimizer = OptimizerConfig::Adam(AdamConfig {
                learning_rate: config.learning_rate * recipe.range,
                ..config
            });
        }
        _ => {}
    }
    match (&mut recipe.optimizer, args.carry_moments) {
        (OptimizerConfig::Adam(config), Some(carry)) => config.carry_moments = carry,
        (OptimizerConfig::Lbfgs(_), Some(true)) => {
            return Err(Failure::usage(
                "--carry-moments works with Adam only, and L-BFGS has no moments; add --optimizer \
                 adam",
            ));
        }
        _ => {}
    }
    match (&mut recipe.optimizer, args.learning_rate) {
        (OptimizerConfig::Adam(config), Some(rate)) => config.learning_rate = rate,
        (OptimizerConfig::Lbfgs(_), Some(_)) => {
            return Err(Failure::usage(
                "--learning-rate works with Adam only, since L-BFGS finds the length of its steps \
                 itself; add --optimizer adam",
            ));
        }
        _ => {}
    }
    match (&mut recipe.optimizer, args.history) {
        (OptimizerConfig::Lbfgs(config), Some(history)) => config.history = history,
        (OptimizerConfig::Adam(_), Some(_)) => {
            return Err(Failure::usage(
                "--history works with L-BFGS only, and Adam remembers no steps; add --optimizer lbfgs",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// Sets how the network pools and what it sees beyond the border, where an option says so.
fn set_network(recipe: &mut Recipe, args: &DeviceArgs) {
    recipe.pooling = args.pooling.map(Into::into).or(recipe.pooling);
    recipe.padding = args.padding.map(Into::into).or(recipe.padding);
}

/// Makes these the style layers of a recipe, with weights if any were named.
///
/// Without, layers that the recipe has keep the weights that it gives them; with others among them
/// all count the same.
pub fn set_style_layers(recipe: &mut Recipe, layers: &[WeightedLayer]) {
    let known = recipe.weighted_style_layers();
    let weight_in_recipe = |entry: &WeightedLayer| {
        let mut known = known.iter();
        let found = known.find(|(layer, _)| *layer == entry.layer);
        found.map(|(_, weight)| *weight)
    };
    if let LayerWeights::Each(_) = recipe.layer_weights {
        let weights: Option<Vec<f64>> = layers.iter().map(weight_in_recipe).collect();
        recipe.layer_weights = weights.map_or(LayerWeights::Mean, LayerWeights::Each);
    }
    recipe.style_layers = layers.iter().map(|entry| entry.layer).collect();
    if layers.iter().any(|entry| entry.weight.is_some()) {
        let weight = |entry: &WeightedLayer| entry.weight.unwrap_or(1.0);
        recipe.layer_weights = LayerWeights::Each(layers.iter().map(weight).collect());
    }
}
