//! `impasto weights`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use impasto::Layer;

use super::computation::{NormalizationArg, WEIGHTS_VARIABLE};
use super::values::parse_checksum;

#[derive(Debug, Subcommand)]
pub enum WeightsCommand {
    /// List who publishes VGG19's weights, on what terms, and which of them are in the cache
    List {
        /// Print a list of JSON objects instead
        #[arg(long)]
        json: bool,
    },
    /// Download VGG19's weights into the cache, where every command finds them
    #[command(after_help = "Example:\n  impasto weights download --until relu5_1")]
    Download(DownloadArgs),
    /// Convert an ONNX, safetensors or PyTorch file, or an archive of one, to a compact one in the cache
    Import(ImportArgs),
    /// Check whether a file of weights behaves as VGG19 should
    Verify {
        /// The file [default: the one that --encoder auto would take]
        #[arg(env = WEIGHTS_VARIABLE, hide_env = true)]
        file: Option<PathBuf>,
        /// What the weights want their input brought to, where their file does not tell
        #[arg(long, value_name = "NAME")]
        normalization: Option<NormalizationArg>,
        /// Print a JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the name of the file that --encoder auto would take
    Path {
        // Only the environment names it: an option would be printed back.
        #[arg(long = "weights", hide = true, value_name = "FILE", env = WEIGHTS_VARIABLE)]
        named: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub struct DownloadArgs {
    /// Whose weights: `impasto weights list` lists them
    #[arg(default_value = "torchvision", conflicts_with = "url")]
    pub name: String,
    /// Only the layers up to this one: relu5_1 is enough for most recipes
    #[arg(long, value_name = "LAYER")]
    pub until: Option<Layer>,
    /// Another file of weights, of any kind that --weights takes
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// The SHA-256 of that file, or its first digits
    #[arg(long, value_name = "HEX", requires = "url", value_parser = parse_checksum)]
    pub sha256: Option<String>,
    /// Allow addresses without encryption
    #[arg(long)]
    pub allow_http: bool,
    /// Keep 32 bits of each value; the file is twice as large
    #[arg(long)]
    pub f32: bool,
    /// Write to this file instead of the cache
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The file to convert
    pub file: PathBuf,
    /// Write to this file instead of the cache
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Keep 32 bits of each value; the file is twice as large
    #[arg(long)]
    pub f32: bool,
    /// Only the layers up to this one
    #[arg(long, value_name = "LAYER")]
    pub until: Option<Layer>,
    /// What the weights want their input brought to, where their file does not tell
    #[arg(long, value_name = "NAME")]
    pub normalization: Option<NormalizationArg>,
}
