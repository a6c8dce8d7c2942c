//! `impasto figure` and `impasto features`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use impasto::Layer;
use impasto::view::Scaling;

use super::computation::{DeviceArgs, MemoryArgs};
#[cfg(feature = "studio")]
use super::report::LiveArgs;

#[derive(Debug, Args)]
pub struct FigureArgs {
    /// The picture whose content to rebuild
    pub content: PathBuf,
    /// The picture whose style to rebuild
    pub style: PathBuf,
    /// Where to write the sheet: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Longest side of each of the twelve pictures in pixels
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub size: usize,
    /// Optimiser steps at each scale [default: as `impasto reconstruct`]
    #[arg(long, value_name = "N")]
    pub iterations: Option<usize>,
    /// Seed of the noise that every picture starts from
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Print errors only
    #[arg(short, long)]
    pub quiet: bool,

    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[cfg(feature = "studio")]
    #[command(flatten)]
    pub live: LiveArgs,
}

#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// The picture that the network looks at
    pub image: PathBuf,
    /// The layer whose channels to show, strongest first
    #[arg(long, value_name = "LAYER", default_value = "relu3_1")]
    pub layer: Layer,
    /// Show the first channels of every ReLU output instead, one row for each
    #[arg(long, conflicts_with = "layer")]
    pub all: bool,
    /// How many channels to show [default: 36, or 6 of each layer with --all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub channels: Option<u16>,
    /// What is shown as white: the largest response of each map, or of all maps
    #[arg(long, value_name = "NAME", default_value = "each")]
    pub scaling: ScalingArg,
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
    pub device: DeviceArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScalingArg {
    Each,
    Shared,
}

impl From<ScalingArg> for Scaling {
    fn from(name: ScalingArg) -> Self {
        match name {
            ScalingArg::Each => Self::Each,
            ScalingArg::Shared => Self::Shared,
        }
    }
}
