//! Which network analyses the pictures, and where its weights are.

use std::path::{Path, PathBuf};

use burn::tensor::backend::Backend;
use impasto::pretrained::Cache;
use impasto::{Vgg19, Vgg19Weights};

use super::args::{DeviceArgs, EncoderArg, NormalizationArg};
use super::console::say;
use super::failure::Failure;

/// A network with its weights.
pub enum Encoder {
    /// VGG19 with the weights in this file.
    Vgg19(PathBuf),
    /// The small one inside the program.
    Builtin,
}

/// The file of VGG19's weights that commands take: the one that `--weights` or the environment
/// names, else the cache's.
pub fn vgg19_file(named: Option<&Path>) -> Option<PathBuf> {
    let cached = || Cache::open().ok()?.find();
    named.map(Path::to_path_buf).or_else(cached)
}

/// Loads a file of VGG19's weights, with the normalisation that an option states.
pub fn load_vgg19(
    path: &Path,
    normalization: Option<NormalizationArg>,
) -> Result<Vgg19Weights, Failure> {
    let weights = Vgg19Weights::load(path).map_err(Failure::usage)?;
    Ok(match normalization {
        Some(stated) => weights.with_normalization(stated.into()),
        None => weights,
    })
}

/// Says what had to be guessed about weights, and how to decide it.
pub fn say_doubt(path: &Path, weights: &Vgg19Weights) {
    if let Some(doubt) = weights.normalization_doubt() {
        say(&format!(
            "{}: {doubt}. Decide it with --normalization (`impasto weights import` keeps it).",
            path.display()
        ));
    }
}

impl Encoder {
    /// VGG19 where it is asked for, or left open and its weights are found, else the built-in encoder.
    pub fn choose(args: &DeviceArgs) -> Result<Self, Failure> {
        let file = || vgg19_file(args.weights.as_deref());
        match args.encoder {
            EncoderArg::Builtin => Ok(Self::Builtin),
            EncoderArg::Auto => Ok(file().map_or(Self::Builtin, Self::Vgg19)),
            EncoderArg::Vgg19 => file().map(Self::Vgg19).ok_or_else(|| {
                Failure::usage(
                    "--encoder vgg19 needs its weights: get them with `impasto weights download`, \
                     or name a file with --weights or IMPASTO_WEIGHTS",
                )
            }),
        }
    }

    /// Loads the weights; says so where the built-in encoder was not asked for.
    pub fn load(&self, args: &DeviceArgs, quiet: bool) -> Result<Vgg19Weights, Failure> {
        match self {
            Self::Vgg19(path) => {
                let weights = load_vgg19(path, args.normalization)?;
                if !quiet {
                    say_doubt(path, &weights);
                }
                Ok(weights)
            }
            Self::Builtin if args.normalization.is_some() => Err(Failure::usage(
                "--normalization is for VGG19's weights, and this run takes the built-in encoder, \
                 which has its own; name the weights with --weights",
            )),
            Self::Builtin => {
                if args.encoder == EncoderArg::Auto && cfg!(feature = "builtin") && !quiet {
                    say(
                        "Using the small built-in encoder. For the full quality of VGG19, get its \
                         weights once with `impasto weights download`, or name a file of them \
                         (ONNX, safetensors or .pth) with --weights or IMPASTO_WEIGHTS.",
                    );
                }
                builtin()
            }
        }
    }
}

#[cfg(feature = "builtin")]
fn builtin() -> Result<Vgg19Weights, Failure> {
    Ok(Vgg19Weights::builtin())
}

#[cfg(not(feature = "builtin"))]
fn builtin() -> Result<Vgg19Weights, Failure> {
    Err(Failure::usage(
        "this build has no built-in encoder: get VGG19's weights with `impasto weights download`, \
         or name them with --weights or IMPASTO_WEIGHTS",
    ))
}

/// The network on a device, with precision, pooling and padding as asked for.
pub fn build<B: Backend>(weights: Vgg19Weights, args: &DeviceArgs, device: &B::Device) -> Vgg19<B> {
    let encoder = Vgg19::from_weights(weights, device);
    let (pooling, padding) = (encoder.pooling(), encoder.padding());
    encoder
        .with_precision(args.precision)
        .with_pooling(args.pooling.map_or(pooling, Into::into))
        .with_padding(args.padding.map_or(padding, Into::into))
}
