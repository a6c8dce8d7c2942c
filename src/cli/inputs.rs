//! The pictures that a command names: contents, styles, masks and maps of regions.

use std::path::{Path, PathBuf};

use impasto::{Picture, Region, Style};

use super::args::StyleArgs;
use super::failure::Failure;

/// Reads a picture.
pub fn open(path: &Path) -> Result<Picture, Failure> {
    Picture::open(path).map_err(Failure::usage)
}

/// Reads the style pictures, each with its weight, its scale and its regions.
pub fn styles(args: &StyleArgs, paths: &[PathBuf]) -> Result<Vec<Style>, Failure> {
    let count = paths.len();
    let pictures = paths
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let weights = one_each("--style-blend", "weight", &args.style_blend, count)?;
    let scales = match args.style_scale.as_deref() {
        // One for all is the recipe's.
        Some([_]) | None => vec![1.0; count],
        Some(_) => one_each("--style-scale", "scale", &args.style_scale, count)?,
    };
    let regions = regions(args, count)?;
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

/// Where each style is painted: everywhere if `None`, else in these regions.
fn regions(args: &StyleArgs, styles: usize) -> Result<Vec<Option<Vec<Region>>>, Failure> {
    if let Some(map) = &args.regions {
        let maps = one_picture_each("--style-regions", &args.style_regions, styles)?;
        let regions = Region::by_color(&open(map)?, &maps).map_err(Failure::usage)?;
        return Ok(regions.into_iter().map(Some).collect());
    }
    if args.mask.is_empty() {
        return Ok(vec![None; styles]);
    }
    let contents = one_picture_each("--mask", &args.mask, styles)?;
    let sources = match args.style_mask.is_empty() {
        true => vec![None; styles],
        false => one_picture_each("--style-mask", &args.style_mask, styles)?
            .into_iter()
            .map(Some)
            .collect(),
    };
    let regions = contents.into_iter().zip(sources);
    let region = |(content, style)| Some(vec![Region { content, style }]);
    Ok(regions.map(region).collect())
}

/// Reads one picture for each style.
fn one_picture_each(
    option: &str,
    paths: &[PathBuf],
    styles: usize,
) -> Result<Vec<Picture>, Failure> {
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
