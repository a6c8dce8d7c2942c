//! Draws the sheets of `docs/gallery.md` from the pictures of `assets/`, with the built-in encoder.
//!
//! `cargo run --release --features views --example gallery -- [FOLDER]`

use std::error::Error;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use impasto::optim::{AdamConfig, OptimizerConfig};
use impasto::picture::{ColorTransfer, SaveOptions};
use impasto::transfer::{Measure, StyleLoss};
use impasto::view::{self, Curves, Evolution, FigureOptions, Scaling};
use impasto::{Layer, Padding, Picture, Pooling, Recipe, Region, Style, StyleTransfer, Vgg19};

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
    gallery.row("style-weight", [10.0, 50.0, 200.0, 1000.0], |recipe| {
        &mut recipe.style_weight
    })?;
    gallery.row("style-scale", [0.5, 1.0, 2.0, 3.0], |recipe| {
        &mut recipe.style_scale
    })?;
    gallery.colors()?;
    gallery.losses()?;
    gallery.sizes()?;
    gallery.regions()?;
    gallery.averaging()?;
    gallery.recipes()?;
    gallery.network()?;
    gallery.course()
}

/// A part of a picture; place of its corner and length of its sides as shares of the whole.
fn crop(picture: &Picture, [x, y]: [f64; 2], share: f64) -> Result<Picture, Failure> {
    let (width, height) = (picture.width(), picture.height());
    let scaled = |length: usize, share: f64| (length as f64 * share) as usize;
    let (left, top) = (scaled(width, x), scaled(height, y));
    let (columns, rows) = (scaled(width, share), scaled(height, share));
    let pixels = (top..top + rows).flat_map(|row| {
        let start = 3 * (row * width + left);
        picture.rgb()[start..start + 3 * columns].to_vec()
    });
    Ok(Picture::from_rgb(columns, rows, pixels.collect())?)
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

    /// The scene with one number of the recipe changed, a picture for each value.
    fn row(
        &self,
        option: &str,
        values: [f64; 4],
        number: fn(&mut Recipe) -> &mut f64,
    ) -> Result<(), Failure> {
        let mut row = Vec::new();
        for value in values {
            let picture = self.with("swirls", |recipe| *number(recipe) = value)?;
            row.push((format!("--{option} {value}"), picture));
        }
        self.sheet(&format!("{option}.jpg"), &[row])
    }

    fn colors(&self) -> Result<(), Failure> {
        let mut cells = vec![("content".to_string(), self.scene.clone())];
        for colors in ColorTransfer::ALL {
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

    /// The same pair at growing sizes, whole and in a detail: the larger result has the same forms and
    /// strokes, seen closer. Without coarse scales it has not.
    fn sizes(&self) -> Result<(), Failure> {
        let mut rows = vec![Vec::new(), Vec::new()];
        for (name, size, coarsest) in [
            ("--size 512", 512, 128),
            ("--size 1024", 1024, 128),
            ("--size 2048", 2048, 128),
            ("2048, one scale", 2048, 2048),
        ] {
            let picture = self.with("swirls", |recipe| {
                recipe.size = size;
                recipe.coarsest = coarsest;
                if coarsest == size {
                    recipe.iterations = 110;
                }
            })?;
            let detail = crop(&picture, [0.3, 0.4], 0.25)?;
            rows[0].push((name.to_string(), picture));
            rows[1].push(("a quarter of it".to_string(), detail));
        }
        self.sheet("sizes.jpg", &rows)
    }

    /// Two styles, each in its regions of a map.
    fn regions(&self) -> Result<(), Failure> {
        let (width, height) = (self.scene.width(), self.scene.height());
        let (sky, land) = ([0.2, 0.5, 1.0], [0.2, 0.8, 0.2]);
        let map = |edge: &dyn Fn(f32) -> f32| {
            let color = |i: usize| {
                let (x, y) = (i % width, i / width);
                let edge = edge(x as f32 / width as f32) * height as f32;
                if (y as f32) < edge { sky } else { land }
            };
            Picture::from_rgb(width, height, (0..width * height).flat_map(color).collect())
        };
        // The scene's sky ends along a wave; the styles are used whole.
        let content = map(&|x| 0.45 - 0.1 * (6.0 * x).sin())?;
        let (above, below) = (map(&|_| 1.0)?, map(&|_| 0.0)?);
        let mut row = vec![("--regions".to_string(), content.clone())];
        for (first, second) in [("swirls", "woodcut"), ("dots", "swirls")] {
            let mut transfer = StyleTransfer::new(&self.encoder)
                .content(self.scene.clone())
                .recipe(Recipe::default().with_size(SIZE));
            let maps = [above.clone(), below.clone()];
            let regions = Region::by_color(&content, &maps)?;
            for (name, regions) in [first, second].into_iter().zip(regions) {
                for region in regions {
                    transfer = transfer.add_style(Style::new(self.style(name)?).within(region));
                }
            }
            let picture = transfer.run()?.picture;
            row.push((format!("{first} above, {second} below"), picture));
        }
        self.sheet("regions.jpg", &[row])
    }

    /// Adam's last step and the mean over its steps.
    fn averaging(&self) -> Result<(), Failure> {
        let mut rows = vec![Vec::new(), Vec::new()];
        for (name, averaging, carry) in [
            ("adam, last step", 0.0, false),
            ("--averaging 0.9", 0.9, false),
            ("and --carry-moments", 0.9, true),
        ] {
            let picture = self.with("swirls", |recipe| {
                recipe.optimizer = OptimizerConfig::Adam(AdamConfig {
                    learning_rate: 0.04 * recipe.range,
                    carry_moments: carry,
                    ..AdamConfig::default()
                });
                recipe.iterations = 60;
                recipe.averaging = Some(averaging);
            })?;
            let detail = crop(&picture, [0.3, 0.4], 0.25)?;
            rows[0].push((name.to_string(), picture));
            rows[1].push(("a quarter of it".to_string(), detail));
        }
        self.sheet("averaging.jpg", &rows)
    }

    /// The recipes of other programs, at one size and with fewer steps where theirs would take long.
    fn recipes(&self) -> Result<(), Failure> {
        let mut cells = Vec::new();
        for mut recipe in Recipe::all() {
            // conv4_2 before its ReLU is VGG19's alone.
            recipe.content_layers = vec![Layer::RELU4_2];
            recipe.measure = Measure::LongestSide;
            recipe.coarsest = recipe.coarsest.min(SIZE);
            recipe.size = SIZE;
            recipe.enlarge_content = true;
            for count in recipe
                .coarse_iterations
                .iter_mut()
                .chain([&mut recipe.iterations])
            {
                *count = (*count).min(200);
            }
            let name = recipe.name.clone();
            cells.push((name, self.paint(&self.encoder, "swirls", recipe)?));
        }
        let rows: Vec<_> = cells.chunks(4).map(<[_]>::to_vec).collect();
        self.sheet("recipes.jpg", &rows)
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
