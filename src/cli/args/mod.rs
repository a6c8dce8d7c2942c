//! The command line as written: one struct for each command, and one for each group of options that
//! several commands have.

mod bench;
mod computation;
mod paint;
mod reconstruct;
mod report;
#[cfg(feature = "studio")]
mod studio;
pub mod values;
mod views;
mod weights;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use bench::BenchArgs;
pub use computation::{DeviceArgs, EncoderArg, MemoryArgs, NormalizationArg};
pub use paint::{BatchArgs, OptimizerArg, StyleArgs, StylizeArgs};
pub use reconstruct::{
    ReconstructCommand, ReconstructContentArgs, ReconstructStyleArgs, ReconstructionArgs,
};
#[cfg(feature = "studio")]
pub use report::LiveArgs;
pub use report::{CheckpointArgs, ReportArgs};
#[cfg(feature = "studio")]
pub use studio::StudioArgs;
pub use views::{FeaturesArgs, FigureArgs};
pub use weights::{DownloadArgs, ImportArgs, WeightsCommand};

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

impl Arguments {
    /// Parses a command line, the name of the program first. An environment variable that is empty
    /// counts as one that is not set.
    pub fn from_words(words: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = without_empty_variables(Self::command()).try_get_matches_from(words)?;
        Self::from_arg_matches(&matches)
    }
}

fn without_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    command
        .mut_args(|arg| match arg.get_env().is_some_and(is_empty) {
            true => arg.env(Resettable::Reset),
            false => arg,
        })
        .mut_subcommands(without_empty_variables)
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Paint CONTENT in the style of one or more pictures
    #[command(
        after_help = "Example:\n  impasto stylize photo.jpg painting.jpg -o out.png --size 768"
    )]
    Stylize(Box<StylizeArgs>),
    /// Paint many pictures in the same style
    #[command(
        after_help = "Example:\n  impasto batch photos/*.jpg --style painting.jpg -o 'painted/{name}.png'"
    )]
    Batch(Box<BatchArgs>),
    /// Rebuild a picture from what the network keeps of it
    #[command(subcommand)]
    Reconstruct(ReconstructCommand),
    /// Draw the figure of Gatys et al. (2015): what each layer keeps of a content and of a style
    Figure(Box<FigureArgs>),
    /// Draw what the channels of a layer respond to
    Features(Box<FeaturesArgs>),
    /// Paint on a page in the browser: watch it, steer it, compare
    #[cfg(feature = "studio")]
    #[command(after_help = "Example:\n  impasto studio --open")]
    Studio(Box<StudioArgs>),
    /// Continue an interrupted run from its checkpoint; the result is as if it had never stopped
    Resume {
        /// The file that --checkpoint wrote
        checkpoint: PathBuf,
        #[cfg(feature = "studio")]
        #[command(flatten)]
        live: LiveArgs,
    },
    /// Download, import and verify VGG19's weights
    #[command(subcommand)]
    Weights(WeightsCommand),
    /// Print VGG19's architecture: for each layer its output, parameters, receptive field and cost
    Layers {
        /// Width and height of the image in pixels
        #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u16).range(1..))]
        size: u16,
        /// Print a list of JSON objects instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the recipes, explain one, or print one as a file for --recipe
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  impasto recipes gram\n  impasto recipes show gram > mine.toml"
    )]
    Recipes(RecipesArgs),
    /// Print how impasto made a picture: recipe, seed, network and version, as its file says
    Show {
        /// The picture
        file: PathBuf,
        /// Print a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// List the devices of this build and the GPUs of this machine: names, memory, what each can do
    Devices {
        /// Print a list of JSON objects instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Compare a device's results with those of the CPU, and measure how fast it is
    #[command(
        after_help = "Example:\n  impasto bench --device cuda --size 512,1024 --json bench.json"
    )]
    Bench(Box<BenchArgs>),
    /// Print the completion script for a shell
    Completions {
        /// The shell to complete for
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub struct RecipesArgs {
    #[command(subcommand)]
    pub command: Option<RecipesCommand>,
    /// The recipe to explain, or a file of one [default: list all]
    #[arg(value_name = "NAME|FILE")]
    pub name: Option<PathBuf>,
    /// Print JSON; that of one recipe is a file for --recipe
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum RecipesCommand {
    /// Print a recipe as a file for --recipe: TOML, in which every setting is explained
    #[command(after_help = "Example:\n  impasto recipes show gram > mine.toml\n  \
                      impasto stylize photo.jpg painting.jpg -o out.png --recipe mine.toml")]
    Show {
        /// Its name, or a file: a recipe in TOML or JSON, or a picture that impasto painted
        #[arg(value_name = "NAME|FILE")]
        name: PathBuf,
        /// Print JSON instead of TOML
        #[arg(long)]
        json: bool,
    },
}
