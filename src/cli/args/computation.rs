//! Options for how a picture is computed: the network, the device, memory.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use impasto::kernel::Precision;
use impasto::picture::Limits;
use impasto::{Normalization, Padding, Pooling};
use serde::{Deserialize, Serialize};

use super::values::parse_bytes;
use crate::cli::device::{Device, Devices};

/// Names the file of VGG19's weights where no option does.
pub const WEIGHTS_VARIABLE: &str = "IMPASTO_WEIGHTS";

/// The network and the device that computes it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Computation")]
pub struct DeviceArgs {
    /// The network that analyses the pictures: auto takes VGG19 if its weights are found, else the
    /// small built-in encoder
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub encoder: EncoderArg,
    /// VGG19's weights: an ONNX, safetensors or PyTorch file [default: those in the cache]
    #[arg(long, value_name = "FILE", env = WEIGHTS_VARIABLE)]
    pub weights: Option<PathBuf>,
    /// What the weights want their input brought to, where their file does not tell
    /// [default: what the file states, or the training whose values it holds]
    #[arg(long, value_name = "NAME")]
    pub normalization: Option<NormalizationArg>,
    /// How the network pools: max as it was trained, average for smoother pictures [default: the
    /// recipe's, max in most]
    #[arg(long, value_name = "NAME")]
    pub pooling: Option<PoolingArg>,
    /// What the network sees beyond the border of the picture: zero as it was trained; replicate or
    /// reflect avoid dark seams along the border [default: the recipe's, zero in most]
    #[arg(long, value_name = "NAME")]
    pub padding: Option<PaddingArg>,
    /// Where to compute: cpu, ndarray, cuda[:N] or wgpu[:N]; `impasto devices` lists what there is. Several of a
    /// kind, such as cuda:0,cuda:1, share the tiles of a picture; cpu,cpu are halves of the cores
    #[arg(long = "device", value_name = "NAME,…", default_value = "cpu")]
    pub devices: Devices,
    /// The least precision of convolutions: f32, tf32 or bf16; what has no tensor cores, as all CPUs,
    /// computes in f32
    #[arg(long, value_name = "NAME", default_value = "tf32")]
    pub precision: Precision,
    /// Threads on the CPU [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

impl DeviceArgs {
    /// The device, or the first of several.
    pub fn device(&self) -> Device {
        self.devices.first()
    }
}

/// How much memory a run may take.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Computation")]
pub struct MemoryArgs {
    /// Take no more memory than this, such as 4GB: a picture that needs more is computed in tiles, or with a
    /// shorter --history [default: most of what is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Compute in tiles of about N pixels on a side: the same gradient but for rounding, in less
    /// memory and more time [default: the whole picture at once, if --memory allows]
    #[arg(long, value_name = "N")]
    pub tile: Option<usize>,
    /// Refuse pictures of more than N million pixels; larger ones than are needed are shrunk while they are
    /// read
    #[arg(long, value_name = "N", default_value = "270", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_megapixels: u32,
}

impl MemoryArgs {
    /// The bounds on a picture that is shrunk while it is read.
    pub fn largest_picture(self) -> Limits {
        let pixels = u64::from(self.max_megapixels) * 1_000_000;
        Limits {
            pixels,
            // As many bytes a pixel as for others.
            bytes: Limits::REDUCED.bytes.max(12 * pixels),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderArg {
    #[default]
    Auto,
    Builtin,
    Vgg19,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NormalizationArg {
    /// RGB from 0 to 1, ImageNet's mean and deviation
    Torchvision,
    /// RGB from 0 to 255, the mean colour subtracted: Caffe's training, its first kernel turned round
    Caffe,
    /// BGR from 0 to 255, the mean colour subtracted: Caffe's training as it was published
    CaffeBgr,
}

impl From<NormalizationArg> for Normalization {
    fn from(name: NormalizationArg) -> Self {
        match name {
            NormalizationArg::Torchvision => Self::TORCHVISION,
            NormalizationArg::Caffe => Self::CAFFE,
            NormalizationArg::CaffeBgr => Self::CAFFE_BGR,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PoolingArg {
    Max,
    Average,
}

impl From<PoolingArg> for Pooling {
    fn from(name: PoolingArg) -> Self {
        match name {
            PoolingArg::Max => Self::Max,
            PoolingArg::Average => Self::Average,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PaddingArg {
    Zero,
    Replicate,
    Reflect,
}

impl From<PaddingArg> for Padding {
    fn from(name: PaddingArg) -> Self {
        match name {
            PaddingArg::Zero => Self::Zero,
            PaddingArg::Replicate => Self::Replicate,
            PaddingArg::Reflect => Self::Reflect,
        }
    }
}
