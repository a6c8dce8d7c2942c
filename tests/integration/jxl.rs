//! JPEG XL, against libjxl: `tests/reference/jxl.py` has made the files, and says what they show.

use std::fs;
use std::path::PathBuf;

use image::{ImageEncoder, RgbImage};
use impasto::picture::{Depth, Limits};
use impasto::{Picture, PictureError};
use safetensors::SafeTensors;

use crate::data;

/// The files whose colours libjxl and LittleCMS have converted to sRGB.
const IN_SRGB: [&str; 18] = [
    "lossless",
    "lossy",
    "container",
    "grey",
    "grey-lossy",
    "grey-alpha",
    "alpha",
    "alpha-lossy",
    "sixteen",
    "sixteen-lossy",
    "jpeg",
    "jpeg-444",
    "jpeg-turned",
    "p3",
    "p3-lossy",
    "linear",
    "icc",
    "icc-lossy",
];

fn stored(name: &str) -> PathBuf {
    data("jxl").join(format!("{name}.jxl"))
}

/// All files, with their names.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let more = ["pq", "hlg", "float", "half", "animated"];
    let names = IN_SRGB.iter().chain(&more);
    let read = |name: &&str| (format!("JPEG XL, {name}"), fs::read(stored(name)).unwrap());
    names.map(read).collect()
}

/// A tensor with its height, width and channels.
fn reference(name: &str) -> (Vec<u8>, [usize; 3]) {
    let file = fs::read(data("jxl.reference.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    (tensor.data().to_vec(), tensor.shape().try_into().unwrap())
}

#[test]
fn pictures_are_what_libjxl_makes_of_them() {
    for name in IN_SRGB {
        let picture = Picture::open(stored(name)).unwrap();
        let (expected, [height, width, channels]) = reference(&format!("{name}.jxl"));
        assert_eq!(
            (picture.width(), picture.height()),
            (width, height),
            "{name}"
        );
        let depth = [Depth::Eight, Depth::Sixteen]
            [usize::from(name.starts_with("sixteen") || name == "icc-lossy")];
        assert_eq!(picture.depth(), depth, "{name}");
        assert_eq!(picture.alpha().is_some(), channels == 4, "{name}");
        // Of lossy files decoders may differ by a step of 8 bits, in the opacity too and in the file's own
        // colours, of which a step can be several of sRGB where a channel is dark.
        let most = match channels {
            4 => 2.01,
            _ if name == "p3-lossy" => 4.01,
            _ => 1.01,
        };
        for (index, stored) in expected.chunks(channels).enumerate() {
            let opacity = stored.get(3).map_or(1.0, |&alpha| f32::from(alpha) / 255.0);
            let found = picture.alpha().map_or(1.0, |alpha| alpha[index]);
            assert!(
                (found - opacity).abs() * 255.0 < 1.01,
                "{name}: {found} for {opacity}"
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
}

#[test]
fn a_result_keeps_the_colours_of_its_content() {
    for (name, keeps) in [
        ("lossless", false),
        ("grey", false),
        ("p3", true),
        ("p3-lossy", true),
        ("linear", true),
        ("icc", true),
        ("icc-lossy", true),
        ("pq", false),
    ] {
        let picture = Picture::open(stored(name)).unwrap();
        assert_eq!(picture.icc_profile().is_some(), keeps, "{name}");
    }
    let profiles = ["icc", "icc-lossy"].map(|name| {
        let picture = Picture::open(stored(name)).unwrap();
        picture.icc_profile().map(<[u8]>::to_vec)
    });
    assert_eq!(profiles[0], profiles[1]);
}

/// As a PNG of the same values that describes its colours in the same way.
#[test]
fn high_dynamic_range_is_that_of_png() {
    let folder = tempfile::tempdir().unwrap();
    for (name, transfer) in [("pq", 16), ("hlg", 18)] {
        let (values, [height, width, _]) = reference(&format!("{name}.jxl.stored"));
        let mut png = Vec::new();
        let image = RgbImage::from_raw(width as u32, height as u32, values).unwrap();
        image::codecs::png::PngEncoder::new(&mut png)
            .write_image(
                &image,
                image.width(),
                image.height(),
                image::ExtendedColorType::Rgb8,
            )
            .unwrap();
        // After the header, which is 33 bytes long.
        let mut chunk = 4u32.to_be_bytes().to_vec();
        let contents = [&b"cICP"[..], &[9, transfer, 0, 1]].concat();
        let mut crc = flate2::Crc::new();
        crc.update(&contents);
        chunk.extend(contents);
        chunk.extend(crc.sum().to_be_bytes());
        png.splice(33..33, chunk);
        let path = folder.path().join("p.png");
        fs::write(&path, png).unwrap();
        let expected = Picture::open(path).unwrap();
        let picture = Picture::open(stored(name)).unwrap();
        for (found, expected) in picture.rgb().iter().zip(expected.rgb()) {
            assert!(
                (found - expected).abs() < 1e-3,
                "{name}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn light_in_floating_point_keeps_its_depth() {
    let encoded = |light: f32| match light {
        ..=0.003_130_8 => light * 12.92,
        _ => 1.055 * light.powf(1.0 / 2.4) - 0.055,
    };
    for name in ["float", "half"] {
        let picture = Picture::open(stored(name)).unwrap();
        let (values, [height, width, _]) = reference(&format!("{name}.jxl.float"));
        assert_eq!((picture.width(), picture.height()), (width, height));
        assert_eq!(picture.depth(), Depth::Sixteen);
        let values = values.as_chunks::<4>().0.iter();
        for (found, &light) in picture.rgb().iter().zip(values) {
            let expected = encoded(f32::from_le_bytes(light));
            assert!(
                (found - expected).abs() < 1e-4,
                "{name}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    let picture = Picture::open(stored("animated")).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 30));
    assert_eq!(picture.rgb()[..3], [1.0, 0.0, 0.0]);
}

#[test]
fn bounds_hold_before_pixels_are_decoded() {
    let few = Limits {
        pixels: 279,
        ..Limits::default()
    };
    let error = Picture::open_with(stored("lossy"), few).unwrap_err();
    assert!(
        matches!(
            error,
            PictureError::TooLarge {
                width: 20,
                height: 14,
                ..
            }
        ),
        "{error}"
    );
    let reduced = Picture::open_reduced_with(stored("lossy"), 10, few, Limits::REDUCED).unwrap();
    assert_eq!((reduced.width(), reduced.height()), (10, 7));
}

#[test]
fn a_damaged_file_is_told_from_one_that_ends_too_early() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.jxl");
    let whole = fs::read(stored("lossless")).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let error = Picture::open(&path).unwrap_err();
    assert!(
        matches!(error, PictureError::EndsTooEarly { .. }),
        "{error:?}"
    );
    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0x55);
    fs::write(&path, damaged).unwrap();
    let error = Picture::open(&path).unwrap_err();
    assert!(matches!(error, PictureError::Decode { .. }), "{error:?}");
}
