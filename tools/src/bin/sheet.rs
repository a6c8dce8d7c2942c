//! Paints the scene of `assets/` in each of its styles and puts all on one sheet, as in the README:
//! the styles above, the results below.
//!
//! `cargo run --release --package impasto-tools --bin sheet -- [OUTPUT] [SIZE]`
//!
//! Takes VGG19 if `IMPASTO_WEIGHTS` names its weights, else the built-in encoder.

use std::error::Error;
use std::ops::ControlFlow;

use burn::backend::{Autodiff, Flex};
use image::{Rgb32FImage, RgbImage, imageops};
use impasto::{Picture, Recipe, StyleTransfer, Vgg19};

const STYLES: [&str; 4] = ["swirls", "glass", "woodcut", "dots"];
/// White space between the pictures, in pixels.
const GAP: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let output = arguments.next().unwrap_or("assets/sheet.jpg".to_string());
    let size: usize = arguments.next().map_or(Ok(288), |size| size.parse())?;

    let device = Default::default();
    let encoder = match std::env::var_os("IMPASTO_WEIGHTS") {
        Some(path) => Vgg19::<Autodiff<Flex>>::load(path, &device)?,
        None => Vgg19::builtin(&device),
    };
    let scene = Picture::open("assets/scene.jpg")?;
    let recipe = Recipe::default().with_size(size);
    let (width, height) = recipe.dimensions(&scene, size);
    let columns = STYLES.len();
    let mut sheet = RgbImage::from_pixel(
        (columns * (width + GAP) - GAP) as u32,
        (2 * height + GAP) as u32,
        image::Rgb([255; 3]),
    );
    for (column, name) in STYLES.into_iter().enumerate() {
        let style = Picture::open(format!("assets/{name}.jpg"))?;
        let outcome = StyleTransfer::new(&encoder)
            .content(scene.clone())
            .style(style.clone(), 1.0)
            .recipe(recipe.clone())
            .on_step(|step| {
                eprint!(
                    "\r{name}: {}/{} {}  ",
                    step.scale + 1,
                    step.scales,
                    step.iteration
                );
                ControlFlow::Continue(())
            })
            .run()?;
        let x = (column * (width + GAP)) as i64;
        imageops::replace(&mut sheet, &fitted(&style, width, height)?, x, 0);
        let result = fitted(&outcome.picture, width, height)?;
        imageops::replace(&mut sheet, &result, x, (height + GAP) as i64);
    }
    eprintln!();
    let mut file = std::io::BufWriter::new(std::fs::File::create(output)?);
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut file, 90);
    Ok(sheet.write_with_encoder(encoder)?)
}

/// The middle of a picture, as large as fits, at the given size.
fn fitted(picture: &Picture, width: usize, height: usize) -> Result<RgbImage, Box<dyn Error>> {
    let scale =
        (width as f64 / picture.width() as f64).max(height as f64 / picture.height() as f64);
    let scaled = |side: usize| ((side as f64 * scale).round() as usize).max(1);
    let picture = picture.resize(scaled(picture.width()), scaled(picture.height()));
    let (w, h) = (picture.width() as u32, picture.height() as u32);
    let colors = Rgb32FImage::from_raw(w, h, picture.rgb().to_vec()).ok_or("wrong size")?;
    let colors = image::DynamicImage::from(colors).into_rgb8();
    let (x, y) = ((w - width as u32) / 2, (h - height as u32) / 2);
    Ok(imageops::crop_imm(&colors, x, y, width as u32, height as u32).to_image())
}
