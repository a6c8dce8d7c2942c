//! `impasto stylize`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::picture::check_output;
use impasto::transfer::Checkpoint;
use impasto::{Picture, Region};

use super::Failure;
pub use super::args::Stylize;
use super::paint::Painting;

/// Checks everything, then paints; from a checkpoint of the same command if one is given.
pub fn run(arguments: &Stylize, checkpoint: Option<Checkpoint>) -> Result<ExitCode, Failure> {
    let choices = &arguments.choices;
    let (recipe, start) = choices.resolve().map_err(Failure::usage)?;
    let save = choices.save_options();
    check_output(&arguments.output, save).map_err(Failure::usage)?;
    let open = |path: &Path| Picture::open(path).map_err(Failure::usage);
    let content = open(&arguments.content)?;
    let styles = arguments
        .styles
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let blend = match &choices.style_blend {
        None => vec![1.0; styles.len()],
        Some(blend) if blend.len() == styles.len() => blend.clone(),
        Some(blend) => {
            return Err(Failure::usage(format!(
                "--style-blend has {} weights for {} styles; give one for each",
                blend.len(),
                styles.len()
            )));
        }
    };
    let start = start.map(open).transpose()?;
    let masks = |option, paths: &[PathBuf]| match paths.len() {
        0 => Ok(vec![None; styles.len()]),
        count if count == styles.len() => paths.iter().map(|path| open(path).map(Some)).collect(),
        count => Err(Failure::usage(format!(
            "{option} is given {count} times for {} styles; give one mask for each",
            styles.len()
        ))),
    };
    let contents = masks("--mask", &choices.mask)?;
    let regions = contents
        .into_iter()
        .zip(masks("--style-mask", &choices.style_mask)?);
    let regions = regions.map(|(content, style)| content.map(|content| Region { content, style }));
    let regions: Vec<Option<Region>> = regions.collect();
    Painting {
        output: &arguments.output,
        save,
        engine: &arguments.engine,
        reports: &arguments.reports,
        recipe,
        content,
        styles: styles.into_iter().zip(blend).zip(regions).collect(),
        start,
        seed: choices.seed,
        checkpoint,
    }
    .run()
}
