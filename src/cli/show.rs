//! `impasto show`: how a picture was made.

use std::path::Path;
use std::process::ExitCode;

use impasto::transfer::Provenance;

use super::console::print;
use super::describe::{self, number};
use super::failure::Failure;
use super::json::print_json;
use super::recipe::NO_PROVENANCE;

/// Prints what a picture's file says.
pub fn run(file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let provenance = Provenance::read(file).map_err(Failure::usage)?;
    let Some(provenance) = provenance else {
        let message = format!("{}: {NO_PROVENANCE}", file.display());
        return Err(Failure::usage(message));
    };
    match json {
        true => print_json(&provenance)?,
        false => print(&describe::table(&in_words(&provenance))),
    }
    Ok(ExitCode::SUCCESS)
}

fn in_words(provenance: &Provenance) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut line = |key: &str, value: String| lines.push((key.to_string(), value));
    line("program", format!("impasto {}", provenance.version));
    let Provenance { width, height, .. } = provenance;
    let unfinished = match provenance.finished {
        true => "",
        false => ", not finished",
    };
    let evaluations = provenance.evaluations;
    line(
        "picture",
        format!("{width}×{height} pixels, {evaluations} evaluations{unfinished}"),
    );
    line("recipe", provenance.recipe.name.clone());
    for (key, value) in describe::recipe(&provenance.recipe) {
        match key {
            "start" if provenance.start_picture => line(key, "a picture of its own".to_string()),
            _ => line(key, value),
        }
    }
    line("seed", provenance.seed.to_string());
    let encoder = &provenance.encoder;
    line(
        "encoder",
        format!(
            "{} (checksum of its weights {})",
            encoder.name, encoder.checksum
        ),
    );
    let [width, height] = provenance.content;
    line("content picture", format!("{width}×{height} pixels"));
    for (index, style) in provenance.styles.iter().enumerate() {
        let mut text = format!("{}×{} pixels", style.width, style.height);
        if style.weight != 1.0 {
            text.push_str(&format!(", weight {}", number(style.weight)));
        }
        if style.scale != 1.0 {
            text.push_str(&format!(", scale {}", number(style.scale)));
        }
        if style.region {
            text.push_str(", in a region");
        }
        line(&format!("style picture {}", index + 1), text);
    }
    if let Some(pixels) = provenance.tile_size {
        line("tile", format!("about {pixels} px on a side"));
    }
    if provenance.own_terms > 0 {
        line("further losses", provenance.own_terms.to_string());
    }
    lines
}
