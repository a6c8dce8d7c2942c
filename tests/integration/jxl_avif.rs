//! What the tests of JPEG XL and AVIF have in common: pictures that the reference decoders have decoded.

use std::fs;

use image::ImageEncoder;
use impasto::{Picture, PictureError};
use safetensors::SafeTensors;

use crate::data;

pub struct Reference(Vec<u8>);

impl Reference {
    /// Those for a format.
    pub fn load(format: &str) -> Self {
        Self(fs::read(data(&format!("{format}.reference.safetensors"))).unwrap())
    }

    #[cfg(feature = "avif")]
    pub fn names(&self) -> Vec<String> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.names().iter().map(ToString::to_string).collect()
    }

    /// A tensor with its height, width and channels.
    pub fn tensor(&self, name: &str) -> (Vec<u8>, [usize; 3]) {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        (tensor.data().to_vec(), tensor.shape().try_into().unwrap())
    }

    /// As read from a PNG of these values, of 8 or 16 bits, in the colours of BT.2100, by its cICP.
    pub fn as_hdr_png(&self, name: &str, transfer: u8) -> Picture {
        let (values, [height, width, _]) = self.tensor(name);
        let (width, height) = (width as u32, height as u32);
        let color = match values.len() == (width * height * 3) as usize {
            true => image::ExtendedColorType::Rgb8,
            false => image::ExtendedColorType::Rgb16,
        };
        let mut png = Vec::new();
        image::codecs::png::PngEncoder::new(&mut png)
            .write_image(&values, width, height, color)
            .unwrap();
        // After the header, which is 33 bytes long.
        let mut chunk = 4u32.to_be_bytes().to_vec();
        let contents = [&b"cICP"[..], &[9, transfer, 0, 1]].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&contents);
        chunk.extend(contents);
        chunk.extend(crc.sum().to_be_bytes());
        png.splice(33..33, chunk);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        fs::write(&path, png).unwrap();
        Picture::open(path).unwrap()
    }
}

/// Asserts that a picture is what a tensor of RGB or RGBA says, within so many steps of 8 bits.
#[track_caller]
pub fn assert_shows(picture: &Picture, reference: &Reference, name: &str, most: f32) {
    let (expected, [height, width, channels]) = reference.tensor(name);
    assert_eq!(
        (picture.width(), picture.height()),
        (width, height),
        "{name}"
    );
    assert_eq!(picture.alpha().is_some(), channels == 4, "{name}");
    for (index, stored) in expected.chunks(channels).enumerate() {
        let opacity = stored.get(3).map_or(1.0, |&alpha| f32::from(alpha) / 255.0);
        let found = picture.alpha().map_or(1.0, |alpha| alpha[index]);
        assert!(
            (found - opacity).abs() * 255.0 < 1.01,
            "{name}: opacity {found} for {opacity}"
        );
        let found = &picture.rgb()[3 * index..];
        for (channel, (found, &color)) in found.iter().zip(&stored[..3]).enumerate() {
            let found = found * 255.0;
            let expected = f32::from(color) * opacity + 255.0 * (1.0 - opacity);
            assert!(
                (found - expected).abs() < most,
                "{name}, value {index}.{channel}: {found} for {expected}"
            );
        }
    }
}

/// Asserts that a file without its last byte ends too early, and that it is damaged where other bytes stand
/// from a place on.
#[track_caller]
pub fn assert_damage_is_told(mut file: Vec<u8>, place: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged");
    let last = file.pop();
    fs::write(&path, &file).unwrap();
    let error = Picture::open(&path).unwrap_err();
    let told = matches!(error, PictureError::EndsTooEarly { .. });
    assert!(told, "{error:?}");
    file.extend(last);
    file[place..].fill(0x55);
    fs::write(&path, file).unwrap();
    let error = Picture::open(&path).unwrap_err();
    assert!(matches!(error, PictureError::Decode { .. }), "{error:?}");
}
