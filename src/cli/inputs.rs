//! The pictures that a command names: contents, styles, masks and maps of regions. Huge ones are read
//! at the size that is needed.

use std::path::{Path, PathBuf};

use impasto::picture::Limits;
use impasto::transfer::Measure;
use impasto::{Picture, Recipe, Region, Style};

use super::args::StyleArgs;
use super::failure::Failure;

/// Reads a picture of which no more than `longest_side` pixels along the longest side are needed.
pub fn open(path: &Path, longest_side: usize, largest: Limits) -> Result<Picture, Failure> {
    Picture::open_reduced_with(path, longest_side, Limits::default(), largest)
        .map_err(Failure::usage)
}

/// Reads a content picture, or one to start from, for a recipe.
pub fn open_content(path: &Path, recipe: &Recipe, largest: Limits) -> Result<Picture, Failure> {
    open(
        path,
        needed_side(path, recipe, recipe.size as f64)?,
        largest,
    )
}

/// Reads a mask or a map of regions, whose values are data and no colours.
fn open_mask(path: &Path, longest_side: usize, largest: Limits) -> Result<Picture, Failure> {
    Picture::open_mask_with(path, longest_side, Limits::default(), largest).map_err(Failure::usage)
}

/// The most pixels along a side of a style that a recipe needs, at a scale of its own.
fn style_side(path: &Path, recipe: &Recipe, scale: f64) -> Result<usize, Failure> {
    let size = recipe.style_size.unwrap_or(recipe.size) as f64;
    needed_side(path, recipe, size * recipe.style_scale * scale)
}

/// The longest side of the picture in a file at this size.
fn needed_side(path: &Path, recipe: &Recipe, size: f64) -> Result<usize, Failure> {
    if recipe.measure == Measure::LongestSide {
        return Ok(size.round() as usize);
    }
    let stored = Picture::read_size(path).map_err(Failure::usage)?;
    Ok(recipe.longest_side(stored, size).ceil() as usize)
}

/// Reads the style pictures, each with its weight, its scale and its regions.
pub fn styles(
    args: &StyleArgs,
    recipe: &Recipe,
    paths: &[PathBuf],
    largest: Limits,
) -> Result<Vec<Style>, Failure> {
    let count = paths.len();
    let weights = one_each("--style-blend", "weight", &args.style_blend, count)?;
    let scales = match args.style_scale.as_deref() {
        // One for all is the recipe's.
        Some([_]) | None => vec![1.0; count],
        Some(_) => one_each("--style-scale", "scale", &args.style_scale, count)?,
    };
    let scaled = paths.iter().zip(&scales);
    let sides = scaled.map(|(path, &scale)| style_side(path, recipe, scale));
    let sides = sides.collect::<Result<Vec<_>, _>>()?;
    let pictures = paths.iter().zip(&sides);
    let pictures = pictures.map(|(path, &side)| open(path, side, largest));
    let pictures = pictures.collect::<Result<Vec<_>, _>>()?;
    let regions = regions(args, recipe, &sides, largest)?;
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
    recipe: &Recipe,
    style_sides: &[usize],
    largest: Limits,
) -> Result<Vec<Option<Vec<Region>>>, Failure> {
    let styles = style_sides.len();
    if let Some(map) = &args.regions {
        // Whole, since a filter would mix their colours.
        let maps = one_mask_each(
            "--style-regions",
            &args.style_regions,
            &vec![usize::MAX; styles],
            largest,
        )?;
        let map = open_mask(map, usize::MAX, largest)?;
        let regions = Region::by_color(&map, &maps).map_err(Failure::usage)?;
        return Ok(regions.into_iter().map(Some).collect());
    }
    if args.mask.is_empty() {
        return Ok(vec![None; styles]);
    }
    let sides = (0..styles).map(|index| match args.mask.get(index) {
        Some(path) => needed_side(path, recipe, recipe.size as f64),
        // Refused below.
        None => Ok(0),
    });
    let sides = sides.collect::<Result<Vec<_>, _>>()?;
    let contents = one_mask_each("--mask", &args.mask, &sides, largest)?;
    let sources = match args.style_mask.is_empty() {
        true => vec![None; styles],
        false => one_mask_each("--style-mask", &args.style_mask, style_sides, largest)?
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
    largest: Limits,
) -> Result<Vec<Picture>, Failure> {
    match (paths.len(), sides.len()) {
        (count, styles) if count == styles => {
            let masks = paths.iter().zip(sides);
            masks
                .map(|(path, &side)| open_mask(path, side, largest))
                .collect()
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
