//! Tests of the crate from outside, through its public interface only. One binary, so that it links
//! once.

#[cfg(feature = "avif")]
mod avif;
#[cfg(feature = "cli")]
mod batch;
#[cfg(all(feature = "cli", feature = "flex", feature = "builtin"))]
mod bench;
#[cfg(all(feature = "builtin", feature = "flex"))]
mod bytes;
#[cfg(all(unix, feature = "studio", feature = "flex", feature = "builtin"))]
mod chromium;
#[cfg(feature = "cli")]
mod cli;
mod colors;
#[cfg(all(unix, feature = "cli", feature = "flex", feature = "builtin"))]
mod command_lines;
#[cfg(feature = "flex")]
mod encoder;
#[cfg(feature = "flex")]
mod eval;
#[cfg(all(unix, feature = "cli"))]
mod files;
#[cfg(all(feature = "builtin", feature = "flex", feature = "wgpu"))]
mod gpu;
#[cfg(all(
    feature = "archives",
    feature = "flex",
    feature = "onnx",
    feature = "pytorch"
))]
mod hostile;
#[cfg(feature = "jxl")]
mod jxl;
#[cfg(any(feature = "jxl", feature = "avif"))]
mod jxl_avif;
#[cfg(feature = "flex")]
mod kernels;
#[cfg(all(feature = "builtin", feature = "cli", feature = "flex"))]
mod memory;
mod picture_files;
#[cfg(feature = "flex")]
mod pictures;
#[cfg(all(feature = "cli", feature = "flex"))]
mod pretrained;
#[cfg(feature = "cli")]
mod provenance;
#[cfg(feature = "cli")]
mod recipe_files;
#[cfg(feature = "flex")]
mod reference;
#[cfg(feature = "cli")]
mod resume;
#[cfg(all(feature = "cli", feature = "flex"))]
mod server;
#[cfg(all(unix, feature = "studio", feature = "flex", feature = "builtin"))]
mod studio;
#[cfg(feature = "flex")]
mod transfer;
#[cfg(feature = "cli")]
mod views;
#[cfg(all(unix, feature = "studio", feature = "flex", feature = "builtin"))]
mod web;
#[cfg(all(feature = "flex", feature = "onnx", feature = "pytorch"))]
mod weights;
#[cfg(all(
    feature = "archives",
    feature = "flex",
    feature = "onnx",
    feature = "pytorch"
))]
mod wrapped;

use std::path::{Path, PathBuf};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file of `tests/data`.
fn data(name: &str) -> PathBuf {
    repository("tests/data").join(name)
}

/// VGG19's ImageNet weights, if they are at hand: `IMPASTO_WEIGHTS`, or the folder `../shared` beside
/// the repository. Says so where they are not.
#[cfg(all(feature = "flex", feature = "onnx", feature = "pytorch"))]
fn imagenet_weights(test: &str) -> Option<PathBuf> {
    let shared = repository("../shared/weights/vgg19-features-caffe.onnx.gz");
    let named = std::env::var_os("IMPASTO_WEIGHTS").map(PathBuf::from);
    let found = named.unwrap_or(shared);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED {test}: needs VGG19's ImageNet weights; name them in IMPASTO_WEIGHTS");
    None
}
