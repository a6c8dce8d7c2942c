//! Which network looks at the pictures.

use std::path::PathBuf;

use burn::tensor::backend::Backend;
use impasto::{Padding, Pooling, Vgg19, Vgg19Weights};

use super::Failure;
use super::args::{self, Encoder, Engine};
#[cfg(feature = "builtin")]
use super::say;
use super::weights::cached;

/// The file of weights that would be taken where VGG19 is: the one that is named, else the cache's.
pub fn chosen_weights(engine: &Engine) -> Option<PathBuf> {
    engine.weights.clone().or_else(cached)
}

/// VGG19 where it is wanted and at hand, else the built-in encoder.
#[cfg_attr(not(feature = "builtin"), allow(unused_variables))]
pub fn encoder_weights(engine: &Engine, quiet: bool) -> Result<Vgg19Weights, Failure> {
    let load = |path: &PathBuf| Vgg19Weights::load(path).map_err(Failure::usage);
    match (engine.encoder, chosen_weights(engine)) {
        (Encoder::Auto | Encoder::Vgg19, Some(path)) => load(&path),
        (Encoder::Vgg19, None) => Err(Failure::usage(
            "--encoder vgg19 needs its weights: get them with `impasto weights download`, or name \
             a file with --weights or IMPASTO_WEIGHTS",
        )),
        #[cfg(feature = "builtin")]
        (Encoder::Auto, None) => {
            if !quiet {
                say(
                    "Using the small built-in encoder. For the full quality of VGG19, get its \
                     weights once with `impasto weights download`, or name a file of them (ONNX, \
                     safetensors or .pth) with --weights or IMPASTO_WEIGHTS.",
                );
            }
            Ok(Vgg19Weights::builtin())
        }
        #[cfg(feature = "builtin")]
        (Encoder::Builtin, _) => Ok(Vgg19Weights::builtin()),
        #[cfg(not(feature = "builtin"))]
        _ => Err(Failure::usage(
            "this build has no built-in encoder: get VGG19's weights with `impasto weights \
             download`, or name them with --weights or IMPASTO_WEIGHTS",
        )),
    }
}

/// The network on a device, with pools and border as chosen.
pub fn build<B: Backend>(weights: Vgg19Weights, engine: &Engine, device: &B::Device) -> Vgg19<B> {
    let encoder = Vgg19::from_weights(weights, device);
    let encoder = match engine.pooling {
        None => encoder,
        Some(args::Pooling::Max) => encoder.with_pooling(Pooling::Max),
        Some(args::Pooling::Average) => encoder.with_pooling(Pooling::Average),
    };
    match engine.padding {
        None => encoder,
        Some(args::Padding::Zero) => encoder.with_padding(Padding::Zero),
        Some(args::Padding::Replicate) => encoder.with_padding(Padding::Replicate),
        Some(args::Padding::Reflect) => encoder.with_padding(Padding::Reflect),
    }
}
