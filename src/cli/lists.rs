//! Commands that only print.

use std::process::ExitCode;

use clap::CommandFactory;
use impasto::Recipe;
use impasto::encoder::{LayerFacts, architecture};

use super::args::Arguments;
use super::console::print;
use super::describe;
use super::device::Device;
use super::failure::Failure;

/// All recipes, or the one of this name; as JSON, one as `--recipe` reads it.
pub fn recipes(name: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let recipes = match name {
        Some(name) => vec![Recipe::named(name).map_err(Failure::usage)?],
        None => Recipe::all(),
    };
    if json {
        let text = match &recipes[..] {
            [recipe] => serde_json::to_string_pretty(recipe),
            recipes => serde_json::to_string_pretty(recipes),
        };
        print(&format!("{}\n", text.map_err(Failure::other)?));
        return Ok(ExitCode::SUCCESS);
    }
    for recipe in recipes {
        print(&format!("{}\n  {}\n", recipe.name, recipe.source));
        for (key, value) in describe::recipe(&recipe) {
            print(&format!("  {key:16} {value}\n"));
        }
        print("\n");
    }
    Ok(ExitCode::SUCCESS)
}

/// VGG19's layers, for an image of `size` × `size` pixels.
pub fn layers(size: usize, json: bool) -> Result<ExitCode, Failure> {
    let layers = architecture(size, size);
    if json {
        let text = serde_json::to_string_pretty(&layers).map_err(Failure::other)?;
        print(&format!("{text}\n"));
        return Ok(ExitCode::SUCCESS);
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
    Ok(ExitCode::SUCCESS)
}

/// All devices and whether this build can use them.
pub fn devices() -> Result<ExitCode, Failure> {
    for (device, feature) in Device::ALL {
        let note = match device.is_built_in() {
            true => "available".to_string(),
            false => format!("not in this build (feature `{feature}`)"),
        };
        print(&format!("{:8} {note}\n", device.to_string()));
    }
    Ok(ExitCode::SUCCESS)
}

/// The completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "impasto", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
