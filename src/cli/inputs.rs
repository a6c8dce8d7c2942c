//! The pictures that a command names: contents, styles, masks and maps of regions. Huge ones are read
//! at the size that is needed.

use std::path::{Path, PathBuf};

use impasto::transfer::Measure;
use impasto::{Picture, Recipe, Region, Style};

use super::args::StyleArgs;
use super::failure::Failure;

/// Reads a picture of which no more than `longest_side` pixels along the longest side are needed.
pub fn open(path: &Path, longest_side: usize) -> Result<Picture, Failure> {
    Picture::open_reduced(path, longest_side).map_err(Failure::usage)
}

/// Reads a mask or a map of regions, whose values are data and no colours.
fn open_mask(path: &Path, longest_side: usize) -> Result<Picture, Failure> {
    Picture::open_mask(path, longest_side).map_err(Failure::usage)
}

/// The most pixels along a side of the content that a recipe needs.
pub fn content_side(recipe: &Recipe) -> usize {
    longest_side(recipe, recipe.size as f64)
}

/// The most pixels along a side of a style that a recipe needs, at a scale of its own.
fn style_side(recipe: &Recipe, scale: f64) -> usize {
    let size = recipe.style_size.unwrap_or(recipe.size) as f64;
    longest_side(recipe, size * recipe.style_scale * scale)
}

/// The longest side of a picture of this size. What is measured otherwise depends on its proportions:
/// then all of it is needed.
fn longest_side(recipe: &Recipe, size: f64) -> usize {
    match recipe.measure {
        Measure::LongestSide => size.round() as usize,
        _ => usize::MAX,
    }
}

/// Reads the style pictures, each with its weight, its scale and its regions.
pub fn styles(args: &StyleArgs, recipe: &Recipe, paths: &[PathBuf]) -> Result<Vec<Style>, Failure> {
    let count = paths.len();
    let weights = one_each("--style-blend", "weight", &args.style_blend, count)?;
    let scales = match args.style_scale.as_deref() {
        // One for all is the recipe's.
        Some([_]) | None => vec![1.0; count],
        Some(_) => one_each("--style-scale", "scale", &args.style_scale, count)?,
    };
    let sides: Vec<usize> = scales
        .iter()
        .map(|&scale| style_side(recipe, scale))
        .collect();
    let pictures = paths
        .iter()
        .zip(&sides)
        .map(|(path, &side)| open(path, side));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let regions = regions(args, content_side(recipe), &sides)?;
    let styles = pictures
        .into_iter()
        .zip(weights)
        .zip(scales)
        .zip(regions)
        .flat_map(|(((picture, weight), scale), regions)| {
            let style = Style::new(picture).weight(weight).scale(scale);
            match regions {
                None => vec![style],
                Some(regions) => regions
                    .into_iter()
                    .map(|region| style.clone().within(region))
                    .collect(),
            }
        });
    Ok(styles.collect())
}

/// Where each style is painted: everywhere if `None`, else in these regions. Content and styles need
/// so many pixels along their longest sides.
fn regions(
    args: &StyleArgs,
    content_side: usize,
    style_sides: &[usize],
) -> Result<Vec<Option<Vec<Region>>>, Failure> {
    let styles = style_sides.len();
    if let Some(map) = &args.regions {
        // Whole, since a filter would mix their colours.
        let maps = one_mask_each(
            "--style-regions",
            &args.style_regions,
            &vec![usize::MAX; styles],
        )?;
        let map = open_mask(map, usize::MAX)?;
        let regions = Region::by_color(&map, &maps).map_err(Failure::usage)?;
        return Ok(regions.into_iter().map(Some).collect());
    }
    if args.mask.is_empty() {
        return Ok(vec![None; styles]);
    }
    let contents = one_mask_each("--mask", &args.mask, &vec![content_side; styles])?;
    let sources = match args.style_mask.is_empty() {
        true => vec![None; styles],
        false => one_mask_each("--style-mask", &args.style_mask, style_sides)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let regions = contents.into_iter().zip(sources);
    let region = |(content, style)| Some(vec![Region { content, style }]);
    Ok(regions.map(region).collect())
}

/// Reads one mask or map for each style, of which so many pixels along the longest side are needed.
fn one_mask_each(
    option: &str,
    paths: &[PathBuf],
    sides: &[usize],
) -> Result<Vec<Picture>, Failure> {
    match (paths.len(), sides.len()) {
        (count, styles) if count == styles => {
            let masks = paths.iter().zip(sides);
            masks.map(|(path, &side)| open_mask(path, side)).collect()
        }
        (count, styles) => Err(Failure::usage(format!(
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
