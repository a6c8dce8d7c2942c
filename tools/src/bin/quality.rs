//! How well a slim encoder stands in for VGG19, on pictures that its training never saw.
//!
//! ```sh
//! cargo run --release --package impasto-tools --bin quality -- \
//!     VGG19 STUDENT SHEET CONTENT,… STYLE,… [SIZE,… [MORE,…]]
//! ```
//!
//! STUDENT is a file of weights, or `builtin`. For every content, style and size, both encoders paint
//! with the default recipe; then VGG19's loss is evaluated on both results. Then, for each style layer
//! and for the content layer, the losses between all pairs of pictures are compared: two squares of each
//! content, style and picture MORE; then of those and of all results, whose losses are far smaller and
//! which the student's own gradient has led. SHEET is written: contents, VGG19's results, the student's.

use std::error::Error;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::Path;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use image::{Rgb32FImage, RgbImage, imageops};
use impasto::{Features, Picture, Recipe, StyleTransfer, Vgg19};

type Failure = Box<dyn Error>;
type Encoder = Vgg19<Autodiff<Flex>>;

/// White space between the pictures of the sheet, in pixels.
const GAP: u32 = 6;
/// Side of the squares that are compared pair by pair.
const SQUARE: usize = 256;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [vgg19, student, sheet, contents, styles, rest @ ..] = &arguments[..] else {
        return Err(
            "usage: quality VGG19 STUDENT SHEET CONTENT,… STYLE,… [SIZE,… [MORE,…]]".into(),
        );
    };
    let device = Default::default();
    let vgg19 = Encoder::load(vgg19, &device)?;
    let student = match student.as_str() {
        "builtin" => Vgg19::builtin(&device),
        file => Vgg19::load(file, &device)?,
    };
    let (contents, styles) = (open_all(contents)?, open_all(styles)?);
    let sizes: Vec<usize> = match rest {
        [] => vec![256, 512],
        [sizes, ..] => sizes.split(',').map(str::parse).collect::<Result<_, _>>()?,
    };
    let more = match rest {
        [_, more, ..] => open_all(more)?,
        _ => Vec::new(),
    };

    let mut rows: Vec<[Picture; 3]> = Vec::new();
    println!(
        "| content × style | size | VGG19's loss: of its own result | of the student's | ratio | content | style |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let mut ratios = Vec::new();
    for &size in &sizes {
        for (content_name, content) in &contents {
            for (style_name, style) in &styles {
                let transfer = |encoder| {
                    StyleTransfer::new(encoder)
                        .content(content.clone())
                        .style(style.clone(), 1.0)
                };
                let recipe = Recipe::gram().with_size(size);
                let paint = |encoder| transfer(encoder).recipe(recipe.clone()).run();
                let results = [paint(&vgg19)?.picture, paint(&student)?.picture];
                let mut losses = Vec::new();
                for result in &results {
                    let recipe = Recipe {
                        coarsest: usize::MAX,
                        ..recipe.clone()
                    };
                    transfer(&vgg19)
                        .start(result.clone())
                        .recipe(recipe)
                        .on_step(|step| {
                            let part = |name| {
                                step.losses
                                    .get(name)
                                    .map_or(f64::NAN, |part| part.weighted())
                            };
                            losses.push([step.losses.weighted(), part("content"), part("style")]);
                            ControlFlow::Break(())
                        })
                        .run()?;
                }
                let ratio = |part: usize| losses[1][part] / losses[0][part];
                println!(
                    "| {content_name} × {style_name} | {size} | {:.4e} | {:.4e} | {:.2} | {:.2} | {:.2} |",
                    losses[0][0],
                    losses[1][0],
                    ratio(0),
                    ratio(1),
                    ratio(2)
                );
                std::io::stdout().flush()?;
                ratios.push(ratio(0));
                let [own, other] = results;
                rows.push([content.clone(), own, other]);
            }
        }
    }
    println!(
        "\nlargest ratio {:.2}, mean {:.2}\n",
        ratios.iter().fold(0.0, |a, &b| f64::max(a, b)),
        mean(&ratios)
    );

    write_sheet(Path::new(sheet), &rows)?;
    let given = [contents, styles, more].concat();
    let mut pictures: Vec<&Picture> = given.iter().map(|(_, picture)| picture).collect();
    println!("{} pictures:\n", pictures.len());
    compare_pairs(&vgg19, &student, &pictures)?;
    pictures.extend(rows.iter().flat_map(|[_, own, other]| [own, other]));
    println!("\nThese and the results:\n");
    compare_pairs(&vgg19, &student, &pictures)
}

fn open_all(list: &str) -> Result<Vec<(String, Picture)>, Failure> {
    list.split(',')
        .map(|file| {
            let name = Path::new(file).file_stem().unwrap_or_default();
            Ok((name.to_string_lossy().into_owned(), Picture::open(file)?))
        })
        .collect()
}

/// Contents, VGG19's results and the student's, a column for each, cut to squares of 256 pixels.
fn write_sheet(path: &Path, rows: &[[Picture; 3]]) -> Result<(), Failure> {
    let side = 256;
    let columns = rows.len() as u32;
    let (width, height) = (columns * (side + GAP) - GAP, 3 * (side + GAP) - GAP);
    let mut sheet = RgbImage::from_pixel(width, height, image::Rgb([255; 3]));
    for (column, row) in (0..).zip(rows) {
        for (line, picture) in (0..).zip(row) {
            let square = to_image(&square(picture, side as usize, 0.5))?;
            let (x, y) = (column * (side + GAP), line * (side + GAP));
            imageops::replace(&mut sheet, &square, x.into(), y.into());
        }
    }
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90);
    Ok(sheet.write_with_encoder(encoder)?)
}

fn to_image(picture: &Picture) -> Result<RgbImage, Failure> {
    let (width, height) = (picture.width() as u32, picture.height() as u32);
    let image = Rgb32FImage::from_raw(width, height, picture.rgb().to_vec());
    Ok(image::DynamicImage::from(image.ok_or("wrong size")?).into_rgb8())
}

/// A square of the picture's shorter side, at `place` from 0 to 1 along the longer one, resized.
fn square(picture: &Picture, side: usize, place: f64) -> Picture {
    let (width, height) = (picture.width(), picture.height());
    let shorter = width.min(height);
    let at = |length: usize| ((length - shorter) as f64 * place) as usize;
    let (x, y) = (at(width), at(height));
    let rows = (y..y + shorter).map(|row| 3 * (row * width + x));
    let rgb = rows.flat_map(|start| picture.rgb()[start..start + 3 * shorter].iter().copied());
    Picture::from_rgb(shorter, shorter, rgb.collect())
        .expect("as many values as pixels")
        .resize(side, side)
}

/// Gram and content losses between all pairs of pictures, the student's against VGG19's.
fn compare_pairs(vgg19: &Encoder, student: &Encoder, pictures: &[&Picture]) -> Result<(), Failure> {
    let recipe = Recipe::gram();
    let layers = [&recipe.style_layers[..], &recipe.content_layers].concat();
    let squares: Vec<Picture> = pictures
        .iter()
        .flat_map(|picture| [0.0, 1.0].map(|place| square(picture, SQUARE, place)))
        .collect();
    let encode = |encoder: &Encoder| -> Result<Vec<Features<Flex>>, Failure> {
        let encoder = encoder.valid();
        let features = |square: &Picture| {
            Ok(encoder.features(square.to_tensor(&Default::default()), &layers)?)
        };
        squares.iter().map(features).collect()
    };
    let (theirs, mine) = (encode(vgg19)?, encode(student)?);
    println!(
        "| loss | pairs | correlation | of logarithms | median ratio | median relative error |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    let rows = recipe.style_layers.iter().map(|&layer| (layer, true));
    for (layer, style) in rows.chain(recipe.content_layers.iter().map(|&layer| (layer, false))) {
        let distances = |features: &[Features<Flex>]| -> Vec<f64> {
            let values: Vec<Tensor<Flex, 1>> = features
                .iter()
                .map(|features| match style {
                    true => features.gram(layer).flatten(0, 2),
                    false => features.get(layer).clone().flatten(0, 3),
                })
                .collect();
            let mut distances = Vec::new();
            for (index, a) in values.iter().enumerate() {
                for b in &values[..index] {
                    let squared = (a.clone() - b.clone()).powi_scalar(2).sum();
                    distances.push(f64::from(squared.into_scalar()));
                }
            }
            distances
        };
        // Of square pictures both squares are the same.
        let pairs = distances(&theirs).into_iter().zip(distances(&mine));
        let (theirs, mine): (Vec<f64>, Vec<f64>) =
            pairs.filter(|(theirs, _)| *theirs > 0.0).unzip();
        let logarithms = |values: &[f64]| -> Vec<f64> { values.iter().map(|v| v.ln()).collect() };
        let ratios = || mine.iter().zip(&theirs).map(|(mine, theirs)| mine / theirs);
        println!(
            "| {layer} {} | {} | {:.3} | {:.3} | {:.2} | {:.2} |",
            if style { "style" } else { "content" },
            mine.len(),
            correlation(&mine, &theirs),
            correlation(&logarithms(&mine), &logarithms(&theirs)),
            median(ratios().collect()),
            median(ratios().map(|ratio| (ratio - 1.0).abs()).collect()),
        );
    }
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Pearson's.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |a: &[f64], b: &[f64], mean_a: f64, mean_b: f64| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    product(a, b, mean_a, mean_b)
        / (product(a, a, mean_a, mean_a) * product(b, b, mean_b, mean_b)).sqrt()
}
