//! `impasto reconstruct`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use impasto::Layer;

use super::computation::{DeviceArgs, MemoryArgs};
use super::report::{CheckpointArgs, ReportArgs};
use super::values::{WeightedLayer, parse_canvas};

#[derive(Debug, Subcommand)]
pub enum ReconstructCommand {
    /// Rebuild IMAGE from the responses of one layer alone, from noise
    #[command(
        after_help = "Example:\n  impasto reconstruct content photo.jpg --layer relu3_1 -o out.png"
    )]
    Content(Box<ReconstructContentArgs>),
    /// Make a texture with the same correlations between channels as IMAGE, from noise
    #[command(
        after_help = "Example:\n  impasto reconstruct style painting.jpg --layers relu1_1,relu2_1 \
                      --canvas 512x256 -o out.png"
    )]
    Style(Box<ReconstructStyleArgs>),
}

#[derive(Debug, Args)]
pub struct ReconstructContentArgs {
    /// The layer to rebuild the picture from
    #[arg(long, value_name = "LAYER", default_value = "relu4_2")]
    pub layer: Layer,
    #[command(flatten)]
    pub reconstruction: ReconstructionArgs,
}

#[derive(Debug, Args)]
pub struct ReconstructStyleArgs {
    /// The layers whose correlations to keep, each with an optional weight [default: relu1_1,
    /// relu2_1, relu3_1, relu4_1 and relu5_1]
    #[arg(long, value_name = "LAYER[:X],…", value_delimiter = ',')]
    pub layers: Option<Vec<WeightedLayer>>,
    /// Size of the texture in pixels [default: that of the picture at --size]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = parse_canvas)]
    pub canvas: Option<(usize, usize)>,
    #[command(flatten)]
    pub reconstruction: ReconstructionArgs,
}

/// What both kinds of reconstruction take.
#[derive(Debug, Args)]
pub struct ReconstructionArgs {
    /// The picture to rebuild
    pub image: PathBuf,
    /// Where to write the result: .png, .jpg, .webp or .tiff
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Longest side of the picture as the network sees it, in pixels
    #[arg(
        long,
        help_heading = "Picture",
        value_name = "N",
        default_value_t = 256
    )]
    pub size: usize,
    /// Optimiser steps at each scale
    #[arg(
        long,
        help_heading = "Picture",
        value_name = "N",
        default_value_t = 200
    )]
    pub iterations: usize,
    /// Weight of smoothness (total variation): a higher one removes more of the noise that the
    /// layers do not see [default: the recipe's]
    #[arg(
        long,
        help_heading = "Picture",
        value_name = "X",
        allow_negative_numbers = true
    )]
    pub tv_weight: Option<f64>,
    /// Seed of the noise to start from
    #[arg(long, help_heading = "Picture", value_name = "N", default_value_t = 0)]
    pub seed: u64,

    #[command(flatten)]
    pub device: DeviceArgs,
    #[command(flatten)]
    pub memory: MemoryArgs,
    #[command(flatten)]
    pub reports: ReportArgs,
    #[command(flatten)]
    pub checkpoint: CheckpointArgs,
}
