//! The slim encoder inside the crate.

use std::path::Path;

use bytes::Bytes;

use super::Vgg19Weights;
use super::source::Source;

/// Made by `assets/builtin.py`; see `assets/builtin.md`.
static FILE: &[u8] = include_bytes!("../../assets/builtin.safetensors");

pub(super) fn load() -> Vgg19Weights {
    let path = Path::new("builtin.safetensors");
    Source::parse(Bytes::from_static(FILE), path)
        .and_then(|source| source.into_weights(path))
        .expect("the file inside the crate is whole, as a test asserts")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_embedded_file_is_whole() {
        let weights = super::load();
        assert_eq!(weights.convolutions.len(), 13);
        assert_eq!(weights.readouts.len(), 13);
        assert_eq!(weights.normalization.range, 255.0);
    }
}
