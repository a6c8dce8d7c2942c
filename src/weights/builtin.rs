//! The slim encoder inside the crate.

use bytes::Bytes;

use super::vgg19::Vgg19Weights;

/// Made by `assets/builtin.py`; see `assets/builtin.md`.
static FILE: &[u8] = include_bytes!("../../assets/builtin.safetensors");

impl Vgg19Weights {
    /// The slim encoder that is part of the crate: VGG19 compressed layer by layer, with linear
    /// projections that stand for VGG19's own content and Gram losses.
    pub fn builtin() -> Self {
        Self::from_bytes(Bytes::from_static(FILE), "builtin.safetensors")
            .expect("the file inside the crate is whole, as a test asserts")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_file_is_whole() {
        let weights = Vgg19Weights::builtin();
        assert_eq!(weights.convolutions.len(), 13);
        assert_eq!(weights.projections.len(), 13);
        assert_eq!(weights.normalization.range, 255.0);
    }
}
