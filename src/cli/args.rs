//! The command line, as written and as resolved into library options.

use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};
use impasto::optim::{AdamConfig, LbfgsConfig, OptimizerConfig};
use impasto::picture::{ColorTransfer, Depth, SaveOptions};
use impasto::transfer::{self, LayerWeights, Measure};
use impasto::{Init, Layer, Recipe, RecipeError};

use super::device::Device;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Green.on_default());

/// Paints a picture in the style of others.
#[derive(Debug, Parser)]
#[command(version, styles = STYLES, max_term_width = 100, args_override_self = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Paint CONTENT in the style of one or more pictures
    #[command(
        after_help = "Example:\n  impasto stylize photo.jpg painting.jpg -o out.png --size 768"
    )]
    Stylize(Box<Stylize>),
    /// Paint many pictures in the same style, without computing it anew for each
    #[command(
        after_help = "Example:\n  impasto batch photos/*.jpg --style painting.jpg -o 'painted/{name}.png'"
    )]
    Batch(Box<Batch>),
    /// Rebuild a picture from what the network keeps of it
    #[command(subcommand)]
    Reconstruct(Reconstruct),
    /// Draw the figure of Gatys et al. (2015): what each depth keeps of a content and of a style
    Figure(Box<Figure>),
    /// Draw what the channels of a layer respond to
    Features(Box<Features>),
    /// Go on with a run from its checkpoint, to the same result as without the interruption
    Resume {
        /// The file that --checkpoint wrote
        checkpoint: PathBuf,
    },
    /// Get VGG19's weights: download, import, verify
    #[command(subcommand)]
    Weights(super::weights::Weights),
    /// Print VGG19's architecture: what each layer is, sees and costs
    Layers {
        /// Width and height of the image in pixels
        #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
        size: u16,
        /// Print a list of JSON objects instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the recipes, with all their numbers and where these come from
    Recipes,
    /// List the devices that this build can use
    Devices,
    /// Print the completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct Stylize {
    /// The picture to paint
    pub content: PathBuf,
    /// The pictures whose style to use
    #[arg(required = true, value_name = "STYLE")]
    pub styles: Vec<PathBuf>,
    /// Where to write the result: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub choices: Choices,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub reports: Reports,
    #[command(flatten)]
    pub checkpoints: Checkpoints,
}

#[derive(Debug, Args)]
pub struct Batch {
    /// The pictures to paint
    #[arg(required = true, value_name = "CONTENT")]
    pub contents: Vec<PathBuf>,
    /// The pictures whose style to use: once for each
    #[arg(short, long = "style", required = true, value_name = "FILE")]
    pub styles: Vec<PathBuf>,
    /// Where to write the results: {name} stands for the name of each content picture without its
    /// extension, in this and in all files of reports
    #[arg(short, long, value_name = "PATTERN")]
    pub output: PathBuf,
    /// Leave out pictures whose result exists already, to go on with a batch that was interrupted
    #[arg(long)]
    pub skip_existing: bool,

    #[command(flatten)]
    pub choices: Choices,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub reports: Reports,
}

#[derive(Debug, Subcommand)]
pub enum Reconstruct {
    /// Rebuild IMAGE from the responses of one layer alone, from noise
    #[command(
        after_help = "Example:\n  impasto reconstruct content photo.jpg --layer relu3_1 -o out.png"
    )]
    Content(Box<ReconstructContent>),
    /// Make a texture with the correlations between channels that IMAGE has, from noise
    #[command(
        after_help = "Example:\n  impasto reconstruct style painting.jpg --layers relu1_1,relu2_1 \
                      --canvas 512x256 -o out.png"
    )]
    Style(Box<ReconstructStyle>),
}

#[derive(Debug, Args)]
pub struct ReconstructContent {
    /// The layer to rebuild it from
    #[arg(long, value_name = "LAYER", default_value = "relu4_2")]
    pub layer: Layer,
    #[command(flatten)]
    pub rebuild: Rebuild,
}

#[derive(Debug, Args)]
pub struct ReconstructStyle {
    /// The layers whose correlations to keep, each with a weight if you like [default: relu1_1 to
    /// relu5_1]
    #[arg(long, value_name = "LAYER[:X],…", value_delimiter = ',')]
    pub layers: Option<Vec<WeightedLayer>>,
    /// Size of the texture in pixels [default: the picture's at --size]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_canvas)]
    pub canvas: Option<(usize, usize)>,
    #[command(flatten)]
    pub rebuild: Rebuild,
}

/// What all reconstructions are asked for.
#[derive(Debug, Args)]
pub struct Rebuild {
    /// The picture to rebuild
    pub image: PathBuf,
    /// Where to write the result: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub effort: Effort,
    #[command(flatten)]
    pub engine: Engine,
    #[command(flatten)]
    pub reports: Reports,
    #[command(flatten)]
    pub checkpoints: Checkpoints,
}

/// How a reconstruction is made.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct Effort {
    /// Longest side of the picture as the network sees it, in pixels
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub size: usize,
    /// Optimiser steps at each scale
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub iterations: usize,
    /// How much smoothness counts (total variation): more removes noise that the layers do not see
    /// [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub tv_weight: Option<f64>,
    /// Seed of the noise that it starts from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

#[derive(Debug, Args)]
pub struct Figure {
    /// The picture whose contents to rebuild
    pub content: PathBuf,
    /// The picture whose style to rebuild
    pub style: PathBuf,
    /// Where to write the sheet: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Longest side of each of the twelve pictures in pixels
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub size: usize,
    /// Optimiser steps at each scale [default: the reconstructions']
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
    /// Seed of the noise that every picture starts from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub engine: Engine,
}

#[derive(Debug, Args)]
pub struct Features {
    /// The picture that the network looks at
    pub image: PathBuf,
    /// The layer whose channels to show, strongest first
    #[arg(long, value_name = "LAYER", default_value = "relu3_1")]
    pub layer: Layer,
    /// Show the first channels of every ReLU output instead, a row for each
    #[arg(long, conflicts_with = "layer")]
    pub all: bool,
    /// How many channels to show [default: 36, or 6 of each layer with --all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: Option<u16>,
    /// What is white: the largest response of each map, or of all that are shown
    #[arg(long, value_name = "NAME", default_value = "each")]
    pub scaling: Scaling,
    /// Longest side of the picture as the network sees it, in pixels
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub size: usize,
    /// Longest side of each map on the sheet in pixels
    #[arg(long, value_name = "N", default_value_t = 160, value_parser = clap::value_parser!(u16).range(8..=2048))]
    pub cell: u16,
    /// Where to write the sheet: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub engine: Engine,
}

/// What the result shall look like.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct Choices {
    /// Start from this recipe; `impasto recipes` lists them. The options below override it
    #[arg(long, value_name = "NAME", default_value_t = Recipe::default().name)]
    pub recipe: String,
    /// Longest side of the result in pixels [default: the recipe's, 512 in most]
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,
    /// Optimiser steps at the last scale, or in all where there is one scale [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
    /// Optimiser steps at the scales before the last, coarsest first; the last number serves for all
    /// further ones [default: the recipe's]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub coarse_iterations: Option<Vec<usize>>,
    /// What to start from: content, noise, style, or a picture [default: the recipe's]
    #[arg(long, value_name = "content|noise|style|FILE")]
    pub init: Option<String>,
    /// Seed of the noise; the same seed gives the same picture
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How much the contents count: more keeps more of them [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub content_weight: Option<f64>,
    /// How much the style counts: more paints more freely [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub style_weight: Option<f64>,
    /// How much smoothness counts (total variation): more removes fine noise [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub tv_weight: Option<f64>,
    /// Layers that keep the contents, such as relu4_2 [default: the recipe's]
    #[arg(long, value_name = "LAYER,…", value_delimiter = ',')]
    pub content_layers: Option<Vec<Layer>>,
    /// Layers that carry the style, each with a weight if you like: relu1_1,relu3_1:0.5 [default:
    /// the recipe's]
    #[arg(long, value_name = "LAYER[:X],…", value_delimiter = ',')]
    pub style_layers: Option<Vec<WeightedLayer>>,
    /// What of the style layers is compared: gram (correlations), mean-std (each channel on its own:
    /// colours and grain only) or wasserstein (Gaussians). Each is in units of its own: adjust
    /// --style-weight [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    pub style_loss: Option<StyleLoss>,
    /// How much each style counts, in their order [default: all the same]
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub style_blend: Option<Vec<f64>>,
    /// Where a style is painted: a picture that is white there and black elsewhere. Once for each
    /// style, in their order
    #[arg(long, value_name = "FILE")]
    pub mask: Vec<PathBuf>,
    /// Which part of a style's picture to use: white there. Once for each style, in their order
    #[arg(long, value_name = "FILE", requires = "mask")]
    pub style_mask: Vec<PathBuf>,
    /// Which parts of the content are painted like which parts of the styles: a map of the content
    /// in flat colours, one for each region. Parts too thin to have an inside are none
    #[arg(
        long,
        value_name = "FILE",
        requires = "style_regions",
        conflicts_with = "mask"
    )]
    pub regions: Option<PathBuf>,
    /// The map of a style's picture, in the same colours. Once for each style, in their order
    #[arg(long, value_name = "FILE", requires = "regions")]
    pub style_regions: Vec<PathBuf>,
    /// Size of the style pictures in pixels, whatever the size of the result: the longest side,
    /// unless the recipe measures otherwise [default: as large as the result]
    #[arg(long, value_name = "N")]
    pub style_size: Option<usize>,
    /// Multiplies the size of the style pictures, of all or of each in their order: more gives larger
    /// strokes [default: the recipe's]
    #[arg(
        long,
        value_name = "X,…",
        value_delimiter = ',',
        allow_negative_numbers = true
    )]
    pub style_scale: Option<Vec<f64>>,
    /// Whose colours the result has: style; luminance-yuv or luminance-lab (the content's, only
    /// brightness is painted); cholesky, pca, symmetric or histogram (the style recoloured to the
    /// content's palette) [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    pub colors: Option<ColorTransfer>,
    /// How to optimise [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<Optimizer>,
    /// Decay of a mean over the steps, which is the result instead of the last step and has less
    /// grain: such as 0.99; 0 for the last step [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub averaging: Option<f64>,
    /// Whether Adam goes on at each scale with its moments of the scale before [default: the
    /// recipe's]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub carry_moments: Option<bool>,
    /// Bits of a channel in the result [default: the content picture's, where the format has them]
    #[arg(long, value_name = "8|16", value_parser = parse_depth)]
    pub bits: Option<Depth>,
}

/// What computes it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Engine")]
pub struct Engine {
    /// The network that looks at the pictures: auto takes VGG19 where its weights are at hand,
    /// else the small built-in encoder
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub encoder: Encoder,
    /// VGG19's weights: an ONNX, safetensors or PyTorch file [default: those in the cache]
    #[arg(long, value_name = "FILE", env = "IMPASTO_WEIGHTS")]
    pub weights: Option<PathBuf>,
    /// How the network's blocks are pooled: max as it was trained, average for smoother pictures
    /// [default: the recipe's, max in most]
    #[arg(long, value_name = "NAME")]
    pub pooling: Option<Pooling>,
    /// What lies beyond the border of the picture: zero as it was trained, replicate or reflect to
    /// keep dark seams from it [default: the recipe's, zero in most]
    #[arg(long, value_name = "NAME")]
    pub padding: Option<Padding>,
    /// Where to compute: cpu, ndarray, cuda[:N] or wgpu; `impasto devices` lists what this build has
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: Device,
    /// Threads on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// What is told and kept along the way, and refused before it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct Reports {
    /// Also write the picture after every N evaluations, as FILE-00N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub save_every: Option<u32>,
    /// Write one JSON object for each evaluation, a line each
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Write how the picture came about: a labelled strip, or an animation if the name ends in .gif
    #[arg(long, value_name = "FILE")]
    pub evolution: Option<PathBuf>,
    /// Write the curves of all loss terms, as .svg
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Refuse to begin where more memory would be needed, such as 4GB
    #[arg(long, help_heading = "Engine", value_name = "SIZE", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Check everything and print what would be done, without doing it
    #[arg(long)]
    pub dry_run: bool,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

/// How a run can be interrupted.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Reports")]
pub struct Checkpoints {
    /// Keep the state of the run in this file, for `impasto resume`
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Seconds between two checkpoints; 0 for one after every iteration
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60,
        requires = "checkpoint"
    )]
    pub checkpoint_every: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Optimizer {
    Lbfgs,
    Adam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StyleLoss {
    Gram,
    MeanStd,
    Wasserstein,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pooling {
    Max,
    Average,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Padding {
    Zero,
    Replicate,
    Reflect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scaling {
    Each,
    Shared,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Encoder {
    Auto,
    Builtin,
    Vgg19,
}

/// A layer with an optional weight: `relu3_1` or `relu3_1:0.5`.
#[derive(Clone, Copy, Debug)]
pub struct WeightedLayer {
    layer: Layer,
    weight: Option<f64>,
}

impl WeightedLayer {
    /// Makes these the style layers of a recipe, with weights if any were named.
    ///
    /// Without, layers that the recipe has keep the weights that it gives them; with others among them
    /// all count the same.
    pub fn choose(layers: &[Self], recipe: &mut Recipe) {
        let known = recipe.weighted_style_layers();
        let own = |entry: &Self| {
            let mut known = known.iter();
            let found = known.find(|(layer, _)| *layer == entry.layer);
            found.map(|(_, weight)| *weight)
        };
        if let LayerWeights::Each(_) = recipe.layer_weights {
            let own = layers.iter().map(own).collect();
            recipe.layer_weights = Option::map_or(own, LayerWeights::Mean, LayerWeights::Each);
        }
        recipe.style_layers = layers.iter().map(|entry| entry.layer).collect();
        if layers.iter().any(|entry| entry.weight.is_some()) {
            let weight = |entry: &Self| entry.weight.unwrap_or(1.0);
            recipe.layer_weights = LayerWeights::Each(layers.iter().map(weight).collect());
        }
    }
}

impl std::str::FromStr for WeightedLayer {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (layer, weight) = match text.split_once(':') {
            Some((layer, weight)) => (layer, Some(weight)),
            None => (text, None),
        };
        let weight = weight
            .map(|weight| {
                weight
                    .parse()
                    .map_err(|_| format!("`{weight}` is no weight; expected a number such as 0.5"))
            })
            .transpose()?;
        Ok(Self {
            layer: layer.parse()?,
            weight,
        })
    }
}

/// `512x256`.
fn parse_canvas(text: &str) -> Result<(usize, usize), String> {
    let side = |side: &str| {
        side.parse()
            .ok()
            .filter(|side| (1..=1 << 16).contains(side))
    };
    let sides = text.split_once(['x', '×']);
    let sides = sides.and_then(|(width, height)| side(width).zip(side(height)));
    sides.ok_or("expected a size such as 512x256".to_string())
}

fn parse_depth(text: &str) -> Result<Depth, String> {
    match text {
        "8" => Ok(Depth::Eight),
        "16" => Ok(Depth::Sixteen),
        _ => Err("expected 8 or 16".to_string()),
    }
}

/// `4GB`, `512MB`, `2GiB` or a number of bytes.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let split = text
        .find(|c: char| c.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "m" | "mb" => 1e6,
        "mib" => f64::from(1 << 20),
        "g" | "gb" => 1e9,
        "gib" => f64::from(1 << 30),
        _ => return Err("expected a size such as 4GB or 512MB".to_string()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok((number * factor) as u64),
        _ => Err("expected a size such as 4GB or 512MB".to_string()),
    }
}

impl Choices {
    /// The recipe with all overrides, and the picture to start from if one was named.
    pub fn resolve(&self) -> Result<(Recipe, Option<&Path>), RecipeError> {
        let mut recipe = Recipe::named(&self.recipe)?;
        let mut start = None;
        match self.init.as_deref() {
            None => {}
            Some("content") => recipe.init = Init::Content,
            Some("style") => recipe.init = Init::Style,
            // A recipe that starts from noise knows how much of it.
            Some("noise") if matches!(recipe.init, Init::Noise { .. }) => {}
            Some("noise") => recipe.init = Init::NOISE,
            Some(file) => start = Some(Path::new(file)),
        }
        if let Some(layers) = &self.style_layers {
            WeightedLayer::choose(layers, &mut recipe);
        }
        match (self.optimizer, recipe.optimizer) {
            (Some(Optimizer::Lbfgs), OptimizerConfig::Adam(_)) => {
                recipe.optimizer = OptimizerConfig::Lbfgs(LbfgsConfig::default());
                // What goes with Adam only.
                (recipe.clamp, recipe.carry_moments) = (false, false);
            }
            (Some(Optimizer::Adam), OptimizerConfig::Lbfgs(_)) => {
                // The rate is in the units that the recipe optimises in.
                let config = AdamConfig::default();
                recipe.optimizer = OptimizerConfig::Adam(AdamConfig {
                    learning_rate: config.learning_rate * recipe.range,
                    ..config
                });
            }
            _ => {}
        }
        let set = |field: &mut f64, option: Option<f64>| *field = option.unwrap_or(*field);
        set(&mut recipe.content_weight, self.content_weight);
        set(&mut recipe.style_weight, self.style_weight);
        set(&mut recipe.tv_weight, self.tv_weight);
        if let Some([scale]) = self.style_scale.as_deref() {
            recipe.style_scale = *scale;
        }
        if let Some(size) = self.size {
            recipe.size = size;
            recipe.measure = Measure::LongestSide;
            recipe.enlarge_content = true;
        }
        if let Some(size) = self.style_size {
            recipe.style_size = Some(size);
            recipe.enlarge_styles = true;
        }
        recipe.averaging = self.averaging.or(recipe.averaging);
        recipe.carry_moments = self.carry_moments.unwrap_or(recipe.carry_moments);
        if let Some(counts) = &self.coarse_iterations {
            recipe.coarse_iterations = counts.clone();
        }
        recipe.style_loss = match self.style_loss {
            None => recipe.style_loss,
            Some(StyleLoss::Gram) => transfer::StyleLoss::Gram,
            Some(StyleLoss::MeanStd) => transfer::StyleLoss::MeanStd,
            Some(StyleLoss::Wasserstein) => transfer::StyleLoss::Wasserstein,
        };
        recipe.colors = self.colors.unwrap_or(recipe.colors);
        recipe.iterations = self.iterations.unwrap_or(recipe.iterations);
        if let Some(layers) = &self.content_layers {
            recipe.content_layers = layers.clone();
        }
        recipe.check()?;
        Ok((recipe, start))
    }

    /// How the result is written.
    pub fn save_options(&self) -> SaveOptions {
        SaveOptions {
            depth: self.bits,
            ..SaveOptions::default()
        }
    }
}
