//! `impasto stylize`, and what `impasto batch` shares with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use impasto::picture::{SaveOptions, check_output};
use impasto::transfer::Checkpoint;
use impasto::{Picture, Recipe, Region, Style};

use super::Failure;
pub use super::args::Stylize;
use super::args::{Choices, Reports};
use super::paint::{Interruptible, Painting};

/// Checks everything, then paints; from a checkpoint of the same command if one is given.
pub fn run(arguments: &Stylize, checkpoint: Option<Checkpoint>) -> Result<ExitCode, Failure> {
    let save = arguments.choices.save_options();
    check_output(&arguments.output, save).map_err(Failure::usage)?;
    let manner = Manner::new(&arguments.choices, &arguments.styles)?;
    let content = open(&arguments.content)?;
    let state = Interruptible {
        checkpoints: &arguments.checkpoints,
        resumed: checkpoint,
    };
    manner
        .painting(content, &arguments.output, &arguments.reports)
        .run(&arguments.engine, state)
}

/// How pictures are to be painted, whatever they are.
pub struct Manner {
    recipe: Recipe,
    styles: Vec<Style>,
    start: Option<Picture>,
    seed: u64,
    save: SaveOptions,
}

impl Manner {
    /// Resolves all options and reads the style pictures, maps and masks.
    pub fn new(choices: &Choices, styles: &[PathBuf]) -> Result<Self, Failure> {
        let (recipe, start) = choices.resolve().map_err(Failure::usage)?;
        let start = start.map(open).transpose()?;
        let count = styles.len();
        let styles = styles
            .iter()
            .map(|path| open(path).map(Style::new))
            .collect::<Result<Vec<_>, _>>()?;
        let blend = one_each("--style-blend", "weight", &choices.style_blend, count)?;
        let scales = match choices.style_scale.as_deref() {
            // One for all is the recipe's.
            Some([_]) | None => vec![1.0; count],
            Some(_) => one_each("--style-scale", "scale", &choices.style_scale, count)?,
        };
        let regions = regions(choices, count)?;
        let styles = styles
            .into_iter()
            .zip(blend)
            .zip(scales)
            .zip(regions)
            .flat_map(|(((style, weight), scale), regions)| {
                let style = style.weight(weight).scale(scale);
                match regions {
                    None => vec![style],
                    Some(regions) => regions
                        .into_iter()
                        .map(|region| style.clone().within(region))
                        .collect(),
                }
            });
        Ok(Self {
            recipe,
            styles: styles.collect(),
            start,
            seed: choices.seed,
            save: choices.save_options(),
        })
    }

    /// A picture to paint in this manner.
    pub fn painting(&self, content: Picture, output: &Path, reports: &Reports) -> Painting {
        Painting {
            output: output.to_path_buf(),
            save: self.save,
            reports: reports.clone(),
            recipe: self.recipe.clone(),
            content,
            styles: self.styles.clone(),
            start: self.start.clone(),
            seed: self.seed,
        }
    }
}

/// Where each style is painted: everywhere if `None`, else in these regions.
fn regions(choices: &Choices, styles: usize) -> Result<Vec<Option<Vec<Region>>>, Failure> {
    if let Some(map) = &choices.regions {
        let maps = pictures("--style-regions", &choices.style_regions, styles)?;
        let regions = Region::by_color(&open(map)?, &maps).map_err(Failure::usage)?;
        return Ok(regions.into_iter().map(Some).collect());
    }
    if choices.mask.is_empty() {
        return Ok(vec![None; styles]);
    }
    let contents = pictures("--mask", &choices.mask, styles)?;
    let sources = match choices.style_mask.is_empty() {
        true => vec![None; styles],
        false => pictures("--style-mask", &choices.style_mask, styles)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let regions = contents.into_iter().zip(sources);
    let region = |(content, style)| Some(vec![Region { content, style }]);
    Ok(regions.map(region).collect())
}

/// Reads one picture for each style.
fn pictures(option: &str, paths: &[PathBuf], styles: usize) -> Result<Vec<Picture>, Failure> {
    match paths.len() {
        count if count == styles => paths.iter().map(|path| open(path)).collect(),
        count => Err(Failure::usage(format!(
            "{option} is given {count} times for {styles} styles; give one for each"
        ))),
    }
}

/// One number for each style; 1 if the option is not given.
fn one_each(
    option: &str,
    what: &str,
    numbers: &Option<Vec<f64>>,
    styles: usize,
) -> Result<Vec<f64>, Failure> {
    match numbers {
        None => Ok(vec![1.0; styles]),
        Some(numbers) if numbers.len() == styles => Ok(numbers.clone()),
        Some(numbers) => Err(Failure::usage(format!(
            "{option} has {} {what}s for {styles} styles; give one for each",
            numbers.len()
        ))),
    }
}

fn open(path: &Path) -> Result<Picture, Failure> {
    Picture::open(path).map_err(Failure::usage)
}
