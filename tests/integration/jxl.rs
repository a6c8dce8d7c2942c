//! JPEG XL, against libjxl: `tests/reference/jxl.py` has made the files, and says what they show.

use std::fs;
use std::path::PathBuf;

use impasto::picture::{Depth, Limits};
use impasto::{Picture, PictureError};

use crate::data;
use crate::jxl_avif::{Reference, assert_damage_is_told, assert_shows};

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

#[test]
fn pictures_are_what_libjxl_makes_of_them() {
    let reference = Reference::load("jxl");
    for name in IN_SRGB {
        let picture = Picture::open(stored(name)).unwrap();
        let is_deep = name.starts_with("sixteen") || name == "icc-lossy";
        assert_eq!(picture.depth() == Depth::Sixteen, is_deep, "{name}");
        let name = format!("{name}.jxl");
        let (_, [.., channels]) = reference.tensor(&name);
        // Of lossy files decoders may differ by a step of 8 bits, in the opacity too and in the file's own
        // colours, of which a step can be several of sRGB where a channel is dark.
        let most = match channels {
            4 => 2.01,
            _ if name == "p3-lossy.jxl" => 4.01,
            _ => 1.01,
        };
        assert_shows(&picture, &reference, &name, most);
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
    let reference = Reference::load("jxl");
    for (name, transfer) in [("pq", 16), ("hlg", 18)] {
        let expected = reference.as_hdr_png(&format!("{name}.jxl.stored"), transfer);
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
        let (values, [height, width, _]) =
            Reference::load("jxl").tensor(&format!("{name}.jxl.float"));
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
        pixels: 215,
        ..Limits::default()
    };
    let error = Picture::open_with(stored("lossy"), few).unwrap_err();
    assert!(
        matches!(
            error,
            PictureError::TooLarge {
                width: 18,
                height: 12,
                ..
            }
        ),
        "{error}"
    );
    let reduced = Picture::open_reduced_with(stored("lossy"), 9, few, Limits::REDUCED).unwrap();
    assert_eq!((reduced.width(), reduced.height()), (9, 6));
}

#[test]
fn a_damaged_file_is_told_from_one_that_ends_too_early() {
    let whole = fs::read(stored("lossless")).unwrap();
    let middle = whole.len() / 2;
    assert_damage_is_told(whole, middle);
}
