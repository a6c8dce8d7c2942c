//! Commands that only print.

use clap::CommandFactory;
use impasto::Recipe;
use impasto::encoder::{LayerFacts, architecture};
use impasto::transfer::StyleLoss;

use super::args::Arguments;
use super::device::Device;
use super::print;

/// All recipes.
pub fn recipes() {
    for recipe in Recipe::all() {
        print(&format!("{}\n  {}\n", recipe.name, recipe.source));
        for (key, value) in describe(&recipe) {
            print(&format!("  {key:16} {value}\n"));
        }
        print("\n");
    }
}

/// The numbers of a recipe, in words.
pub fn describe(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let scales: Vec<String> = recipe
        .scales()
        .iter()
        .map(|scale| format!("{} px × {} steps", scale.size, scale.iterations))
        .collect();
    let mut sizes = format!("{}, {:?}", scales.join(", "), recipe.measure);
    if !recipe.enlarge_content {
        sizes.push_str(", never enlarged");
    }
    let mut styles = match recipe.style_size {
        None => format!("{} × the result", recipe.style_scale),
        Some(size) => format!("{} × {size} px", recipe.style_scale),
    };
    if !recipe.enlarge_styles {
        styles.push_str(", never enlarged");
    }
    let mut optimizer = format!("{:?}", recipe.optimizer);
    for (chosen, words) in [
        (recipe.carry_moments, ", moments carried to the next scale"),
        (recipe.clamp, ", each step clamped"),
    ] {
        if chosen {
            optimizer.push_str(words);
        }
    }
    let layers: Vec<String> = recipe
        .weighted_style_layers()
        .iter()
        .map(|(layer, weight)| match weight {
            1.0 => layer.to_string(),
            weight => format!("{layer}:{weight:.3e}"),
        })
        .collect();
    let content: Vec<String> = recipe
        .content_layers
        .iter()
        .map(|l| l.to_string())
        .collect();
    vec![
        ("scales", sizes),
        (
            "content",
            format!(
                "{} × {} ({:?})",
                recipe.content_weight,
                content.join(" "),
                recipe.content_normalization
            ),
        ),
        (
            "style",
            format!(
                "{} × {} ({})",
                recipe.style_weight,
                layers.join(" "),
                match recipe.style_loss {
                    StyleLoss::Gram => format!("Gram matrices {:?}", recipe.gram),
                    other => format!("{other:?}"),
                }
            ),
        ),
        ("style pictures", styles),
        (
            "total variation",
            format!("{} × {:?}", recipe.tv_weight, recipe.tv),
        ),
        (
            "errors",
            match recipe.relative {
                true => "relative to no response",
                false => "absolute",
            }
            .to_string(),
        ),
        ("colours", recipe.colors.to_string()),
        (
            "network",
            format!(
                "pooling {}, padding {}",
                or_as_set(recipe.pooling),
                or_as_set(recipe.padding)
            ),
        ),
        ("start", format!("{:?}", recipe.init)),
        ("optimiser", optimizer),
        (
            "result",
            match recipe.averaging {
                None => "the last step or a better one".to_string(),
                Some(decay) => format!("mean over the steps of a scale, decay {decay}"),
            },
        ),
        ("pixel values", format!("0 to {}", recipe.range)),
    ]
}

fn or_as_set<T: std::fmt::Debug>(choice: Option<T>) -> String {
    choice.map_or("as set".to_string(), |choice| format!("{choice:?}"))
}

/// VGG19's layers, for an image of `size` × `size` pixels.
pub fn layers(size: usize, json: bool) {
    let layers = architecture(size, size);
    if json {
        let text = serde_json::to_string_pretty(&layers).unwrap_or_default();
        return print(&format!("{text}\n"));
    }
    let million = |value: u64| value as f64 / 1e6;
    let row = |name: &str, size: &str, parameters, field: &str, work, memory| {
        print(&format!(
            "{name:8} {size:>14} {parameters:>12} {field:>10} {work:>12.1} {memory:>10.2}\n"
        ));
    };
    print(&format!(
        "{:8} {:>14} {:>12} {:>10} {:>12} {:>10}\n",
        "layer", "output", "parameters", "sees px", "10⁶ products", "memory MB"
    ));
    for facts in &layers {
        row(
            &facts.layer.to_string(),
            &format!("{}×{}×{}", facts.channels, facts.width, facts.height),
            facts.parameters,
            &facts.receptive_field.to_string(),
            million(facts.multiplications),
            million(facts.memory),
        );
    }
    let sum = |value: fn(&LayerFacts) -> u64| layers.iter().map(value).sum::<u64>();
    row(
        "all",
        "",
        sum(|facts| facts.parameters),
        "",
        million(sum(|facts| facts.multiplications)),
        million(sum(|facts| facts.memory)),
    );
}

/// All devices and whether this build can use them.
pub fn devices() {
    for (device, feature) in Device::ALL {
        let note = match device.is_built_in() {
            true => "available".to_string(),
            false => format!("not in this build (feature `{feature}`)"),
        };
        print(&format!("{:8} {note}\n", device.to_string()));
    }
}

/// The completion script of a shell.
pub fn completions(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "impasto", &mut script);
    print(&String::from_utf8_lossy(&script));
}
