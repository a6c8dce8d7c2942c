//! What a dry run prints.

use std::path::Path;

use impasto::kernel::AutodiffStyleBackend;
use impasto::transfer::Plan;
use impasto::{Layer, Recipe, Run};
use serde_json::json;

use super::console::print;
use super::describe::{self, gigabytes};
use super::device::Device;
use super::failure::Failure;
use super::job::Job;

/// Prints what a run would do: in words, or as JSON on one line.
pub fn report<B: AutodiffStyleBackend>(
    job: &Job,
    run: &Run<B>,
    device: Device,
    seconds: f64,
) -> Result<(), Failure> {
    let text = match job.reports.json {
        true => as_json(job, run, device, seconds)? + "\n",
        false => describe::table(&in_words(job, run, device, seconds)),
    };
    print(&text);
    Ok(())
}

fn in_words<B: AutodiffStyleBackend>(
    job: &Job,
    run: &Run<B>,
    device: Device,
    seconds: f64,
) -> Vec<(String, String)> {
    let start = job.start.as_ref().map(|start| start.path.as_path());
    let mut lines = plan(run.recipe(), start, run.plan());
    let mut line = |key: &str, value: String| lines.push((key.to_string(), value));
    if let Some(pixels) = job.memory.tile {
        line("tile", format!("about {pixels} px on a side"));
    }
    line("time", format!("about {}", describe::duration(seconds)));
    line("seed", job.seed.to_string());
    line("encoder", run.provenance().encoder.name);
    line("device", device.to_string());
    line("output", job.output.display().to_string());
    lines
}

fn as_json<B: AutodiffStyleBackend>(
    job: &Job,
    run: &Run<B>,
    device: Device,
    seconds: f64,
) -> Result<String, Failure> {
    let (provenance, plan) = (run.provenance(), run.plan());
    let start = job.start.as_ref().map(|start| start.path.to_string_lossy());
    let object = json!({
        "recipe": run.recipe(),
        "seed": job.seed,
        "encoder": provenance.encoder,
        "device": device.to_string(),
        "content": provenance.content,
        "styles": provenance.styles,
        "start": start,
        "width": provenance.width,
        "height": provenance.height,
        "scales": plan.scales,
        "memory": plan.scales.iter().map(|scale| scale.memory).max(),
        "seconds": seconds,
        "tile_size": job.memory.tile,
        "layers": plan.layers,
        "coverage": plan.coverage,
        "output": job.output.to_string_lossy(),
    });
    serde_json::to_string(&object).map_err(Failure::other)
}

/// A recipe and what follows from it for the pictures of a run. `start` is the file to start from,
/// if one was named.
fn plan(recipe: &Recipe, start: Option<&Path>, plan: &Plan) -> Vec<(String, String)> {
    let mut lines = vec![("recipe".to_string(), recipe.name.clone())];
    for (key, mut value) in describe::recipe(recipe) {
        if let ("start", Some(file)) = (key, start) {
            value = file.display().to_string();
        }
        lines.push((key.to_string(), value));
    }
    for (index, scale) in plan.scales.iter().enumerate() {
        let how = describe::computation(scale).map_or(String::new(), |how| format!(" {how}"));
        let pass = if scale.final_pass { ", last pass" } else { "" };
        lines.push((
            format!("scale {}", index + 1),
            format!(
                "{}×{} pixels{how}{pass}, {} steps, about {} of memory",
                scale.width,
                scale.height,
                scale.iterations,
                gigabytes(scale.memory)
            ),
        ));
    }
    for (index, coverage) in plan.coverage.iter().enumerate() {
        if let Some(coverage) = coverage {
            let percent = 100.0 * coverage;
            lines.push((
                format!("region {}", index + 1),
                format!("{percent:.1} % of the picture"),
            ));
        }
    }
    let layers: Vec<String> = plan.layers.iter().map(Layer::to_string).collect();
    lines.push(("layers".to_string(), layers.join(" ")));
    lines
}
