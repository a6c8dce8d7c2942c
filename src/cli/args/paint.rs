//! `impasto stylize` and `impasto batch`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use impasto::picture::{ColorTransfer, Depth, SaveColors};
use impasto::transfer::StyleLoss;
use impasto::{Layer, Recipe};

use super::computation::{DeviceArgs, MemoryArgs};
use super::report::{CheckpointArgs, ReportArgs};
use super::values::{WeightedLayer, parse_depth};
use crate::cli::shard::ShardArg;

#[derive(Debug, Args)]
pub struct StylizeArgs {
    /// The picture to paint
    pub content: PathBuf,
    /// The pictures whose style to use
    #[arg(required = true, value_name = "STYLE")]
    pub styles: Vec<PathBuf>,
    /// Where to write the result: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    #[command(flatten)]
    pub style: StyleArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub reports: ReportArgs,
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
}

#[derive(Debug, Args)]
pub struct BatchArgs {
    /// The pictures to paint
    #[arg(required = true, value_name = "CONTENT")]
    pub contents: Vec<PathBuf>,
    /// A picture whose style to use; repeat the option for several styles
    #[arg(short, long = "style", required = true, value_name = "FILE")]
    pub styles: Vec<PathBuf>,
    /// Where to write the results: {name} stands for the name of each content picture without its
    /// extension, in this and in the names of all reports
    #[arg(short, long, value_name = "PATTERN")]
    pub output: PathBuf,
    /// Skip pictures whose result already exists, to continue an interrupted batch, or that another process with
    /// this option paints, so that several share a batch
    #[arg(long)]
    pub skip_existing: bool,
    /// Paint only every Nth picture, from the Ith on, as one of N processes or jobs; auto asks mpirun, srun or a
    /// job array of Slurm which
    #[arg(long, value_name = "I/N|auto")]
    pub shard: Option<ShardArg>,

    #[command(flatten)]
    pub style: StyleArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub reports: ReportArgs,
}

/// What the result is to look like.
#[derive(Debug, Args)]
#[command(next_help_heading = "Picture")]
pub struct StyleArgs {
    /// Start from this recipe, which may also be a file: one that `impasto recipes show` printed, or a
    /// picture that impasto painted. `impasto recipes` lists the names. The options below override it
    #[arg(long, value_name = "NAME|FILE", default_value_os_t = PathBuf::from(Recipe::default().name))]
    pub recipe: PathBuf,
    /// Longest side of the result in pixels [default: the recipe's, 512 in most]
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,
    /// Optimiser steps at the last scale, or at the only one [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
    /// Optimiser steps at the scales before the last, coarsest first; the last number also holds for
    /// all further ones [default: the recipe's]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    pub coarse_iterations: Option<Vec<usize>>,
    /// What to start from: content, noise, style, or a picture [default: the recipe's]
    #[arg(long, value_name = "content|noise|style|FILE")]
    pub init: Option<PathBuf>,
    /// Seed of the noise; the same seed gives the same picture
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// How much of the style, from 0 (the scene as it is, in the style's colours and strokes) to 1 (forms
    /// are painted freely), with recipes that match neighbours, such as impasto. It acts from the second scale on, so not
    /// on results under 128 pixels [default: the recipe's, 0.5]
    #[arg(long, value_name = "0..1", allow_negative_numbers = true)]
    pub strength: Option<f64>,
    /// Weight of the content: a higher one keeps more of it [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub content_weight: Option<f64>,
    /// Weight of the style's statistics: a higher one paints more freely [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub style_weight: Option<f64>,
    /// Weight of the nearest neighbours in the style: a higher one puts each stroke in its place [default:
    /// the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub neighbors_weight: Option<f64>,
    /// Weight of smoothness (total variation): a higher one removes more fine noise [default: the
    /// recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub tv_weight: Option<f64>,
    /// Layers that keep the content, such as relu4_2 [default: the recipe's]
    #[arg(long, value_name = "LAYER,…", value_delimiter = ',')]
    pub content_layers: Option<Vec<Layer>>,
    /// Layers that carry the style, each with an optional weight: relu1_1,relu3_1:0.5 [default: the
    /// recipe's]
    #[arg(long, value_name = "LAYER[:X],…", value_delimiter = ',')]
    pub style_layers: Option<Vec<WeightedLayer>>,
    /// Which statistics of the style layers are compared: gram (correlations), mean-std (each
    /// channel on its own: colours and grain only) or wasserstein (Gaussians). Each has its own
    /// units: adjust --style-weight [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    pub style_loss: Option<StyleLossArg>,
    /// Weight of each style, in the order of the styles [default: all the same]
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
    /// Which part of a style's picture to use: white there, black elsewhere. Once for each style, in
    /// their order
    #[arg(long, value_name = "FILE", requires = "mask")]
    pub style_mask: Vec<PathBuf>,
    /// Which parts of the content are painted like which parts of the styles: a map of the content
    /// in flat colours, one for each region. Very thin parts are ignored
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
    /// Factor for the size of the style pictures, one for all or one for each in their order: a
    /// larger one gives larger strokes [default: the recipe's]
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
    /// The optimiser [default: the recipe's]
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<OptimizerArg>,
    /// Adam's step size, in the recipe's units of brightness: 0 to 1 in most, 0 to 255 in some [default:
    /// the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// How many steps L-BFGS remembers; each takes the memory of two pictures [default: the recipe's]
    #[arg(long, value_name = "N")]
    pub history: Option<usize>,
    /// Make the result a running mean of the steps with this decay, such as 0.99, which has less
    /// grain than the last step; 0 for the last step [default: the recipe's]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub averaging: Option<f64>,
    /// Whether Adam keeps its moments from one scale to the next [default: the recipe's]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub carry_moments: Option<bool>,
    /// Bits per channel of the result [default: those of the content picture, if the format allows]
    #[arg(long, value_name = "8|16", value_parser = parse_depth)]
    pub bits: Option<Depth>,
    /// Colour space of the result: the content's, with its ICC profile (sRGB where the content has none, or
    /// one that cannot be written), or srgb
    #[arg(long, value_name = "NAME", default_value = "content")]
    pub color_space: ColorSpaceArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorSpaceArg {
    Content,
    Srgb,
}

impl From<ColorSpaceArg> for SaveColors {
    fn from(name: ColorSpaceArg) -> Self {
        match name {
            ColorSpaceArg::Content => Self::Profile,
            ColorSpaceArg::Srgb => Self::Srgb,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptimizerArg {
    Lbfgs,
    Adam,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StyleLossArg {
    Gram,
    MeanStd,
    Wasserstein,
}

impl From<StyleLossArg> for StyleLoss {
    fn from(name: StyleLossArg) -> Self {
        match name {
            StyleLossArg::Gram => Self::Gram,
            StyleLossArg::MeanStd => Self::MeanStd,
            StyleLossArg::Wasserstein => Self::Wasserstein,
        }
    }
}
