//! Commands that only print.

use std::process::ExitCode;

use clap::CommandFactory;
use impasto::Recipe;
use impasto::encoder::{LayerFacts, architecture};

use super::args::{Arguments, RecipesArgs, RecipesCommand};
use super::console::print;
use super::describe::gigabytes;
use super::device::{Adapter, Device};
use super::failure::Failure;
use super::json::print_json;
use super::{describe, recipe};

/// All recipes on a line each, one in words, or one as a file for `--recipe`.
pub fn recipes(args: &RecipesArgs) -> Result<ExitCode, Failure> {
    match (&args.command, &args.name) {
        (Some(RecipesCommand::Show { name, json: false }), _) => {
            let text = recipe::find(name)?.to_toml().map_err(Failure::usage)?;
            print(&text);
        }
        (Some(RecipesCommand::Show { name, json: true }), _) => print_json(&recipe::find(name)?)?,
        (None, Some(name)) if args.json => print_json(&recipe::find(name)?)?,
        (None, Some(name)) => explain(&recipe::find(name)?),
        (None, None) if args.json => print_json(&Recipe::all())?,
        (None, None) => {
            for recipe in Recipe::all() {
                print(&format!("{:14} {}\n", recipe.name, recipe.summary()));
                print(&format!("{:14} {}\n", "", recipe.source));
            }
            print(
                "\n`impasto recipes NAME` explains one; `impasto recipes show NAME > mine.toml` makes a \
                 file of it to change, for `--recipe mine.toml`.\n",
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A recipe in words.
fn explain(recipe: &Recipe) {
    print(&format!("{}\n  {}\n", recipe.name, recipe.source));
    for (key, value) in describe::recipe(recipe) {
        print(&format!("  {key:16} {value}\n"));
    }
}

/// VGG19's layers, for an image of `size` × `size` pixels.
pub fn layers(size: usize, json: bool) -> Result<ExitCode, Failure> {
    let layers = architecture(size, size);
    if json {
        print_json(&layers)?;
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

/// All devices: whether they can be used here, and the GPUs that they consist of.
pub fn devices(json: bool) -> Result<ExitCode, Failure> {
    let devices = Device::ALL.map(|(device, feature)| device.facts(feature));
    if json {
        print_json(&devices)?;
        return Ok(ExitCode::SUCCESS);
    }
    for device in devices {
        let note = device.reason.as_deref().unwrap_or("available");
        print(&format!("{:8} {note}\n", device.device));
        for gpu in &device.adapters {
            print(&format!("  {:8} {}\n", gpu.device, adapter(gpu)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A GPU on a line.
fn adapter(gpu: &Adapter) -> String {
    let mut facts = vec![gpu.kind.to_string(), gpu.api.to_string()];
    if !gpu.driver.is_empty() {
        facts.push(format!("driver {}", gpu.driver));
    }
    if let Some(capability) = &gpu.compute_capability {
        facts.push(format!("compute capability {capability}"));
    }
    if let Some(memory) = gpu.memory {
        let free = memory
            .free
            .map(|free| format!(", {} free", gigabytes(free)));
        facts.push(gigabytes(memory.total) + &free.unwrap_or_default());
    }
    if let Some(bytes) = gpu.largest_tensor {
        facts.push(format!("tensors up to {}", gigabytes(bytes)));
    }
    facts.extend(gpu.abilities.iter().map(ToString::to_string));
    let default = if gpu.default { " (default)" } else { "" };
    format!("{}{default}: {}", gpu.name, facts.join(", "))
}

/// The completion script of a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "impasto", &mut script);
    print(&String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}
