//! Draws the sheets of `docs/gallery.md` from the pictures of `assets/`, with the built-in encoder.
//!
//! `cargo run --release --package impasto-tools --bin gallery -- [FOLDER [SHEET…]]`

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

/// What draws a sheet.
type Draw = fn(&Gallery) -> Result<(), Failure>;

/// The sheets, in the order of the page.
const SHEETS: [(&str, Draw); 13] = [
    ("styles", Gallery::styles),
    ("matching", Gallery::matching),
    ("strength", Gallery::strength),
    ("style-scale", Gallery::style_scale),
    ("style-weight", Gallery::style_weight),
    ("colors", Gallery::colors),
    ("losses", Gallery::losses),
    ("sizes", Gallery::sizes),
    ("regions", Gallery::regions),
    ("averaging", Gallery::averaging),
    ("recipes", Gallery::recipes),
    ("network", Gallery::network),
    ("course", Gallery::course),
];

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().unwrap_or("docs/gallery".to_string());
    let wanted: Vec<String> = arguments.collect();
    let names = SHEETS.map(|(name, _)| name);
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!(
            "there is no sheet {unknown}; there are {}",
            names.join(", ")
        )
        .into());
    }
    let gallery = Gallery {
        folder: folder.into(),
        encoder: Vgg19::builtin(&Default::default()),
        scene: Picture::open("assets/scene.jpg")?,
    };
    std::fs::create_dir_all(&gallery.folder)?;
    for (name, draw) in SHEETS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            draw(&gallery)?;
        }
    }
    Ok(())
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

/// The default recipe at the size of the sheets.
fn base() -> Recipe {
    Recipe::default().with_size(SIZE)
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

    /// The scene in one style.
    fn paint(&self, style: &str, recipe: Recipe) -> Result<Picture, Failure> {
        let outcome = StyleTransfer::new(&self.encoder)
            .content(self.scene.clone())
            .style(self.style(style)?, 1.0)
            .recipe(recipe)
            .run()?;
        Ok(outcome.picture)
    }

    fn save(&self, name: &str, picture: &Picture) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let options = SaveOptions {
            jpeg_quality: 78,
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
            rows[1].push((format!("scene in {name}"), self.paint(name, base())?));
        }
        self.sheet("styles.jpg", &rows)
    }

    /// Gram matrices beside nearest neighbours, whole and in a detail.
    fn matching(&self) -> Result<(), Failure> {
        let mut rows = vec![Vec::new(); 4];
        for style in ["swirls", "glass", "woodcut", "dots"] {
            for (index, recipe) in [Recipe::gram(), Recipe::default()].into_iter().enumerate() {
                let label = format!("{style}, {}", recipe.name);
                let picture = self.paint(style, recipe.with_size(2 * SIZE))?;
                let detail = crop(&picture, [0.3, 0.3], 0.5)?;
                rows[2 * index].push((label, picture));
                rows[2 * index + 1].push(("a detail".to_string(), detail));
            }
        }
        self.sheet("matching.jpg", &rows)
    }

    /// The scene with one number of a recipe changed, a picture for each value.
    fn row(
        &self,
        option: &str,
        recipe: Recipe,
        values: [f64; 4],
        change: fn(Recipe, f64) -> Recipe,
    ) -> Result<(), Failure> {
        let mut row = Vec::new();
        for value in values {
            let recipe = change(recipe.clone().with_size(SIZE), value);
            row.push((format!("--{option} {value}"), self.paint("swirls", recipe)?));
        }
        self.sheet(&format!("{option}.jpg"), &[row])
    }

    fn colors(&self) -> Result<(), Failure> {
        let mut cells = vec![("content".to_string(), self.scene.clone())];
        for colors in ColorTransfer::ALL {
            let picture = self.paint("glass", Recipe { colors, ..base() })?;
            cells.push((format!("--colors {colors}"), picture));
        }
        let rows: Vec<_> = cells.chunks(4).map(<[_]>::to_vec).collect();
        self.sheet("colors.jpg", &rows)
    }

    fn losses(&self) -> Result<(), Failure> {
        let gram = Recipe::gram().with_size(SIZE);
        let mean_std = Recipe {
            style_loss: StyleLoss::MeanStd,
            ..gram.clone()
        };
        let max = Recipe {
            pooling: Some(Pooling::Max),
            ..gram.clone()
        };
        let mut losses = Vec::new();
        for (name, recipe) in [
            ("--recipe gram", gram.clone()),
            (
                "--recipe wasserstein",
                Recipe::wasserstein().with_size(SIZE),
            ),
            ("--style-loss mean-std", mean_std),
            ("--pooling max", max),
        ] {
            losses.push((name.to_string(), self.paint("swirls", recipe)?));
        }
        let mut borders = Vec::new();
        for (name, padding) in [
            ("zero", Padding::Zero),
            ("replicate", Padding::Replicate),
            ("reflect", Padding::Reflect),
        ] {
            let recipe = Recipe {
                padding: Some(padding),
                ..gram.clone()
            };
            let picture = self.paint("woodcut", recipe)?;
            borders.push((format!("--padding {name}"), picture));
        }
        self.sheet("losses.jpg", &[losses, borders])
    }

    /// The same pair at growing sizes, whole and in a detail: the larger result has the same forms and
    /// strokes, seen closer. Without coarse scales it has not.
    fn sizes(&self) -> Result<(), Failure> {
        let mut rows = vec![Vec::new(), Vec::new()];
        for (name, size, coarsest) in [
            ("--size 256", 256, base().coarsest),
            ("--size 512", 512, base().coarsest),
            ("--size 1024", 1024, base().coarsest),
            ("1024, one scale", 1024, 1024),
        ] {
            let mut recipe = Recipe {
                coarsest,
                ..base().with_size(size)
            };
            if coarsest == size {
                recipe.iterations = 80;
            }
            let picture = self.paint("swirls", recipe)?;
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
                .recipe(base());
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
            let recipe = Recipe {
                optimizer: OptimizerConfig::Adam(AdamConfig {
                    carry_moments: carry,
                    ..AdamConfig::default()
                }),
                coarse_iterations: vec![60],
                iterations: 60,
                averaging: Some(averaging),
                ..base()
            };
            let picture = self.paint("swirls", recipe)?;
            let detail = crop(&picture, [0.3, 0.4], 0.25)?;
            rows[0].push((name.to_string(), picture));
            rows[1].push(("a quarter of it".to_string(), detail));
        }
        self.sheet("averaging.jpg", &rows)
    }

    /// The one dial of the default recipe.
    fn strength(&self) -> Result<(), Failure> {
        let values = [0.0, 0.25, 0.5, 1.0];
        self.row("strength", Recipe::default(), values, Recipe::with_strength)
    }

    fn style_scale(&self) -> Result<(), Failure> {
        let values = [0.5, 1.0, 2.0, 3.0];
        self.row(
            "style-scale",
            Recipe::default(),
            values,
            |recipe, style_scale| Recipe {
                style_scale,
                ..recipe
            },
        )
    }

    fn style_weight(&self) -> Result<(), Failure> {
        let values = [500.0, 2000.0, 7500.0, 30000.0];
        self.row(
            "style-weight",
            Recipe::gram(),
            values,
            |recipe, style_weight| Recipe {
                style_weight,
                ..recipe
            },
        )
    }

    /// All recipes, at one size and with fewer steps where theirs would take long.
    fn recipes(&self) -> Result<(), Failure> {
        let mut cells = Vec::new();
        for mut recipe in Recipe::all() {
            // conv4_2 before its ReLU and relu5_3 are VGG19's alone.
            recipe.content_layers = vec![Layer::RELU4_2];
            if let Some(deepest) = recipe.transport.layers.last_mut() {
                *deepest = Layer::RELU5_1;
            }
            recipe.measure = Measure::LongestSide;
            recipe.coarsest = recipe.coarsest.min(SIZE);
            recipe.size = SIZE;
            recipe.enlarge_content = true;
            let gram = recipe.style_weight > 0.0;
            let most = if gram { 200 } else { 100 };
            for count in recipe.coarse_iterations.iter_mut().chain([
                &mut recipe.iterations,
                &mut recipe.neighbors.final_iterations,
            ]) {
                *count = (*count).min(most);
            }
            let name = recipe.name.clone();
            cells.push((name, self.paint("swirls", recipe)?));
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

    /// The image in the course of a run, and the losses of one that has several.
    fn course(&self) -> Result<(), Failure> {
        let (mut evolution, mut curves) = (Evolution::new(), Curves::new());
        let transfer = |recipe| -> Result<_, Failure> {
            Ok(StyleTransfer::new(&self.encoder)
                .content(self.scene.clone())
                .style(self.style("swirls")?, 1.0)
                .recipe(recipe))
        };
        let outcome = transfer(base())?
            .on_step(|step| match evolution.record(step) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            })
            .run()?;
        evolution.finish(outcome.evaluations, &outcome.picture);
        let strip = evolution.strip().ok_or("nothing was recorded")?;
        self.save("evolution.jpg", &strip)?;
        transfer(Recipe::gram().with_size(SIZE))?
            .on_step(|step| {
                curves.record(step);
                ControlFlow::Continue(())
            })
            .run()?;
        curves.save(Path::new(&self.folder).join("curves.svg"))?;
        Ok(())
    }
}
