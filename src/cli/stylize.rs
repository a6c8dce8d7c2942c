//! `impasto stylize`.

use std::path::Path;
use std::process::ExitCode;

use impasto::Picture;
use impasto::picture::check_output;
use impasto::transfer::Checkpoint;

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
    Painting {
        output: &arguments.output,
        save,
        engine: &arguments.engine,
        reports: &arguments.reports,
        recipe,
        content,
        styles: styles.into_iter().zip(blend).collect(),
        start,
        seed: choices.seed,
        checkpoint,
    }
    .run()
}
