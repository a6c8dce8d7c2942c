//! Draws the sheets of `docs/gallery.md` from the pictures of `assets/`, with the built-in encoder.
//!
//! `cargo run --release --features views --example gallery -- [FOLDER]`

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use impasto::picture::{Colors, SaveOptions};
use impasto::transfer::StyleLoss;
use impasto::view::{self, Curves, Evolution, FigureOptions, Scaling};
use impasto::{Layer, Padding, Picture, Pooling, Recipe, StyleTransfer, Vgg19};

type Failure = Box<dyn Error>;
type Encoder = Vgg19<Autodiff<Flex>>;

/// Longest side of each picture on a sheet.
const SIZE: usize = 256;

fn main() -> Result<(), Failure> {
    let folder = std::env::args()
        .nth(1)
        .unwrap_or("docs/gallery".to_string());
    let gallery = Gallery {
        folder: folder.into(),
        encoder: Vgg19::builtin(&Default::default()),
        scene: Picture::open("assets/scene.jpg")?,
    };
    std::fs::create_dir_all(&gallery.folder)?;
    gallery.styles()?;
    gallery.weights()?;
    gallery.scales()?;
    gallery.colors()?;
    gallery.losses()?;
    gallery.sizes()?;
    gallery.network()?;
    gallery.course()
}

struct Gallery {
    folder: PathBuf,
    encoder: Encoder,
    scene: Picture,
}

impl Gallery {
    fn style(&self, name: &str) -> Result<Picture, Failure> {
        Ok(Picture::open(format!("assets/{name}.jpg"))?)
    }

    fn paint(&self, encoder: &Encoder, style: &str, recipe: Recipe) -> Result<Picture, Failure> {
        let outcome = StyleTransfer::new(encoder)
            .content(self.scene.clone())
            .style(self.style(style)?, 1.0)
            .recipe(recipe)
            .run()?;
        Ok(outcome.picture)
    }

    /// The scene in one style with one thing changed.
    fn with(&self, style: &str, change: impl FnOnce(&mut Recipe)) -> Result<Picture, Failure> {
        let mut recipe = Recipe::default().with_size(SIZE);
        change(&mut recipe);
        self.paint(&self.encoder, style, recipe)
    }

    fn save(&self, name: &str, picture: &Picture) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let options = SaveOptions {
            jpeg_quality: 85,
            ..SaveOptions::default()
        };
        picture.save_with(&path, options)?;
        eprintln!(
            "{}: {}×{}",
            path.display(),
            picture.width(),
            picture.height()
        );
        Ok(())
    }

    fn sheet(&self, name: &str, rows: &[Vec<(String, Picture)>]) -> Result<(), Failure> {
        let (width, height) = Recipe::default().dimensions(&self.scene, SIZE);
        self.save(name, &view::sheet(rows, width, height))
    }

    fn styles(&self) -> Result<(), Failure> {
        let names = ["swirls", "glass", "woodcut", "dots"];
        let mut rows = vec![Vec::new(), Vec::new()];
        for name in names {
            rows[0].push((name.to_string(), self.style(name)?));
            rows[1].push((format!("scene in {name}"), self.with(name, |_| ())?));
        }
        self.sheet("styles.jpg", &rows)
    }

    fn weights(&self) -> Result<(), Failure> {
        let mut row = Vec::new();
        for weight in [10.0, 50.0, 200.0, 1000.0] {
            let picture = self.with("swirls", |recipe| recipe.style_weight = weight)?;
            row.push((format!("--style-weight {weight}"), picture));
        }
        self.sheet("style-weight.jpg", &[row])
    }

    fn scales(&self) -> Result<(), Failure> {
        let mut row = Vec::new();
        for scale in [0.5, 1.0, 2.0, 3.0] {
            let picture = self.with("swirls", |recipe| recipe.style_scale = scale)?;
            row.push((format!("--style-scale {scale}"), picture));
        }
        self.sheet("style-scale.jpg", &[row])
    }

    fn colors(&self) -> Result<(), Failure> {
        let mut cells = vec![("content".to_string(), self.scene.clone())];
        for colors in Colors::ALL {
            let picture = self.with("glass", |recipe| recipe.colors = colors)?;
            cells.push((format!("--colors {colors}"), picture));
        }
        let rows: Vec<_> = cells.chunks(4).map(<[_]>::to_vec).collect();
        self.sheet("colors.jpg", &rows)
    }

    fn losses(&self) -> Result<(), Failure> {
        let mut losses = Vec::new();
        for (name, loss, weight) in [
            ("gram", StyleLoss::Gram, 200.0),
            ("wasserstein", StyleLoss::Wasserstein, 200.0),
            ("mean-std", StyleLoss::MeanStd, 200.0),
        ] {
            let picture = self.with("swirls", |recipe| {
                recipe.style_loss = loss;
                recipe.style_weight = weight;
            })?;
            losses.push((format!("--style-loss {name}"), picture));
        }
        let recipe = || Recipe::default().with_size(SIZE);
        let average = self.encoder.clone().with_pooling(Pooling::Average);
        let picture = self.paint(&average, "swirls", recipe())?;
        losses.push(("--pooling average".to_string(), picture));
        let mut borders = Vec::new();
        for (name, padding) in [
            ("zero", Padding::Zero),
            ("replicate", Padding::Replicate),
            ("reflect", Padding::Reflect),
        ] {
            let encoder = self.encoder.clone().with_padding(padding);
            let picture = self.paint(&encoder, "woodcut", recipe())?;
            borders.push((format!("--padding {name}"), picture));
        }
        self.sheet("losses.jpg", &[losses, borders])
    }

    /// The same picture at two sizes: the larger one has the same strokes, seen closer.
    fn sizes(&self) -> Result<(), Failure> {
        let mut row = Vec::new();
        for size in [256, 512, 1024] {
            let picture = self.with("swirls", |recipe| recipe.size = size)?;
            row.push((format!("--size {size}"), picture));
        }
        self.sheet("sizes.jpg", &[row])
    }

    fn network(&self) -> Result<(), Failure> {
        let options = FigureOptions {
            size: SIZE,
            ..FigureOptions::default()
        };
        let style = self.style("swirls")?;
        let figure = view::figure(&self.encoder, &self.scene, &style, options, |_, _| {
            ControlFlow::Continue(())
        })?;
        self.save("figure.jpg", &figure)?;
        let encoder = self.encoder.valid();
        let (width, height) = Recipe::default().dimensions(&self.scene, 512);
        let scene = self.scene.resize(width, height);
        let maps = view::feature_sheet(&encoder, &scene, Layer::RELU3_1, 16, Scaling::Each, 160)?;
        self.save("features.jpg", &maps)?;
        let all = view::feature_sheet_of_all_layers(&encoder, &scene, 4, Scaling::Each, 128)?;
        self.save("layers.jpg", &all)
    }

    fn course(&self) -> Result<(), Failure> {
        let (mut evolution, mut curves) = (Evolution::new(), Curves::new());
        let outcome = StyleTransfer::new(&self.encoder)
            .content(self.scene.clone())
            .style(self.style("swirls")?, 1.0)
            .recipe(Recipe::default().with_size(SIZE))
            .on_step(|step| {
                curves.record(step);
                match evolution.record(step) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })
            .run()?;
        evolution.finish(outcome.evaluations, &outcome.picture);
        let strip = evolution.strip().ok_or("nothing was recorded")?;
        self.save("evolution.jpg", &strip)?;
        curves.save(Path::new(&self.folder).join("curves.svg"))?;
        Ok(())
    }
}
