//! Check sums that tell whether pictures, weights and choices are those of before.

use burn::tensor::TensorData;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::picture::Picture;

/// A sum over whatever is added, in order: XXH3 with 128 bits.
#[derive(Default)]
pub(super) struct Fingerprint(Xxh3);

impl Fingerprint {
    /// Adds a value in its serialised form, which names every field.
    pub fn add(&mut self, value: &impl Serialize) {
        // Numbers, names and lists of them always have one.
        let text = serde_json::to_vec(value).unwrap_or_default();
        self.bytes(&text);
    }

    /// Adds a picture's size and colours.
    pub fn picture(&mut self, picture: &Picture) {
        self.0.update(&(picture.width() as u64).to_le_bytes());
        self.bytes(bytemuck::cast_slice(picture.rgb()));
    }

    /// Adds the values of a tensor.
    pub fn tensor(&mut self, data: &TensorData) {
        self.bytes(&data.bytes);
    }

    /// Adds bytes with their count, so that what follows cannot be taken for them.
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub fn sum(&self) -> u128 {
        self.0.digest128()
    }
}

/// The fingerprint of a picture.
pub(super) fn of_picture(picture: &Picture) -> u128 {
    let mut fingerprint = Fingerprint::default();
    fingerprint.picture(picture);
    fingerprint.sum()
}
