//! AVIF, against libavif: `tests/reference/avif.py` has made the files, and says what they show.

use std::fs;
use std::path::PathBuf;

use impasto::picture::{Depth, Limits};
use impasto::{Picture, PictureError};

use crate::data;
use crate::jxl_avif::{Reference, assert_damage_is_told, assert_shows};

fn stored(name: &str) -> PathBuf {
    data("avif").join(format!("{name}.avif"))
}

/// All files that can be read, with their names.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(data("avif")).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| !path.ends_with("unknown-matrix.avif"));
    paths.sort();
    let name = |path: &PathBuf| format!("AVIF, {}", path.file_stem().unwrap().display());
    let read = |path: &PathBuf| (name(path), fs::read(path).unwrap());
    paths.iter().map(read).collect()
}

#[test]
fn pictures_are_what_libavif_makes_of_them() {
    let reference = Reference::load("avif");
    for name in reference.names() {
        if name == "pq.stored" {
            continue;
        }
        let picture = Picture::open(stored(&name)).unwrap();
        let is_deep = ["ten", "twelve", "limited-ten"].contains(&&name[..]);
        assert_eq!(picture.depth() == Depth::Sixteen, is_deep, "{name}");
        // libavif converts to RGB in whole numbers, and divides by the opacity in such.
        let most = match &name[..] {
            "422" | "premultiplied" => 2.01,
            _ => 1.01,
        };
        assert_shows(&picture, &reference, &name, most);
    }
}

#[test]
fn a_result_keeps_the_colours_of_its_content() {
    for (name, keeps) in [
        ("444", false),
        ("grey", false),
        ("p3", true),
        ("icc", true),
        ("pq", false),
    ] {
        let picture = Picture::open(stored(name)).unwrap();
        assert_eq!(picture.icc_profile().is_some(), keeps, "{name}");
    }
}

/// As a PNG of the same values that describes its colours in the same way.
#[test]
fn high_dynamic_range_is_that_of_png() {
    let expected = Reference::load("avif").as_hdr_png("pq.stored", 16);
    let picture = Picture::open(stored("pq")).unwrap();
    for (found, expected) in picture.rgb().iter().zip(expected.rgb()) {
        // libavif rounds them to ten bits, of which a step is 0.02 where the curve is steep.
        assert!((found - expected).abs() < 0.02, "{found} for {expected}");
    }
}

#[test]
fn tiles_are_put_together() {
    let picture = Picture::open(stored("grid")).unwrap();
    assert_eq!((picture.width(), picture.height()), (128, 128));
    for (x, y, color) in [
        (5, 5, [1.0, 0.0, 0.0]),
        (120, 5, [0.0, 1.0, 0.0]),
        (5, 120, [0.0, 0.0, 1.0]),
        (120, 120, [1.0, 1.0, 0.0]),
    ] {
        let found = &picture.rgb()[3 * (y * 128 + x)..][..3];
        for (found, expected) in found.iter().zip(color) {
            assert!(
                (found - expected).abs() < 0.02,
                "{x}, {y}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    let picture = Picture::open(stored("animated")).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 30));
    let [r, _, b] = picture.rgb()[..3] else {
        unreachable!()
    };
    assert!(r > 0.98 && b < 0.02);
}

#[test]
fn bounds_hold_before_pixels_are_decoded() {
    let few = Limits {
        pixels: 215,
        ..Limits::default()
    };
    let error = Picture::open_with(stored("420"), few).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { .. }), "{error}");
    let reduced = Picture::open_reduced_with(stored("turned"), 9, few, Limits::REDUCED).unwrap();
    assert_eq!((reduced.width(), reduced.height()), (6, 9));
}

#[test]
fn what_is_not_read_is_told() {
    let error = Picture::open(stored("unknown-matrix")).unwrap_err();
    let PictureError::Decode { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        source.to_string().contains("matrix coefficients 8"),
        "{source}"
    );
    // A property that must be known, and is not.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.avif");
    let mut file = fs::read(stored("turned")).unwrap();
    let place = file.windows(4).position(|kind| kind == b"irot").unwrap();
    file[place..place + 4].copy_from_slice(b"new!");
    fs::write(&path, &file).unwrap();
    let error = Picture::open(&path).unwrap_err();
    let PictureError::Decode { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(source.to_string().contains("the property new!"), "{source}");
}

#[test]
fn a_damaged_file_is_told_from_one_that_ends_too_early() {
    let whole = fs::read(stored("444")).unwrap();
    let data = whole.windows(4).position(|kind| kind == b"mdat").unwrap();
    assert_damage_is_told(whole, data + 4);
}
