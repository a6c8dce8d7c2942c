//! Colour profiles, against LittleCMS: `tests/reference/colors.py` has made them, and says what colours in
//! them are in sRGB and back.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageBuffer, ImageEncoder, ImageFormat, Rgb, Rgba};
use impasto::picture::{Depth, Limits, SaveColors, SaveOptions};
use impasto::{Picture, PictureError};
use proptest::prelude::*;
use proptest::sample::Index;
use safetensors::SafeTensors;

use crate::repository;

/// Profiles for RGB by a matrix, by tables, and those for grey.
const MATRIX: [&str; 7] = [
    "display-p3",
    "adobe-rgb",
    "linear",
    "pro-photo",
    "sampled-p3",
    "uneven",
    "png-gamma",
];
const TABLES: [&str; 2] = ["lut-v2", "lut-v4"];
const GREY: [&str; 2] = ["grey-gamma", "grey-table"];

struct Reference(Vec<u8>);

impl Reference {
    fn load() -> Self {
        Self(fs::read(repository("tests/data/colors.reference.safetensors")).unwrap())
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        tensors.tensor(name).unwrap().data().to_vec()
    }
}

/// One of the profiles.
pub fn profile(name: &str) -> Vec<u8> {
    Reference::load().bytes(&format!("{name}.icc"))
}

/// A folder with files of any bytes.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// A PNG with an ICC profile.
fn png(image: impl Into<DynamicImage>, icc: &[u8]) -> Vec<u8> {
    let image = image.into();
    let mut file = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut file);
    encoder.set_icc_profile(icc.to_vec()).unwrap();
    let (width, height, color) = (image.width(), image.height(), image.color());
    encoder
        .write_image(image.as_bytes(), width, height, color.into())
        .unwrap();
    file
}

/// One row of colours.
fn row(rgb: Vec<u8>) -> image::RgbImage {
    ImageBuffer::from_raw(rgb.len() as u32 / 3, 1, rgb).unwrap()
}

/// The values of a picture in steps of 8 bits.
fn steps(picture: &Picture) -> Vec<u8> {
    let values = picture.rgb().iter();
    values.map(|value| (value * 255.0).round() as u8).collect()
}

/// Asserts that values are alike within some steps of 255.
#[track_caller]
fn assert_near(found: &[u8], expected: &[u8], most: u8, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found_value, value)) in found.iter().zip(expected).enumerate() {
        assert!(
            found_value.abs_diff(*value) <= most,
            "{what}, value {index}: {found_value} for {value}"
        );
    }
}

#[test]
fn colours_are_what_littlecms_makes_of_them() {
    let (reference, files) = (Reference::load(), Files::new());
    for name in MATRIX.iter().chain(&TABLES).chain(&GREY) {
        let stored = reference.bytes(&format!("{name}.stored"));
        let icc = reference.bytes(&format!("{name}.icc"));
        let file = match GREY.contains(name) {
            true => png(image::GrayImage::from_raw(256, 1, stored).unwrap(), &icc),
            false => png(row(stored), &icc),
        };
        let path = files.write("p.png", &file);
        let expected = reference.bytes(&format!("{name}.srgb"));
        let picture = Picture::open(&path).unwrap();
        assert_near(&steps(&picture), &expected, 1, name);
        assert_eq!(
            picture.icc_profile().is_some(),
            !GREY.contains(name),
            "{name}"
        );
    }
}

#[test]
fn pictures_that_are_reduced_are_converted_too() {
    let (reference, files) = (Reference::load(), Files::new());
    let color = DynamicImage::from(image::Rgba32FImage::from_pixel(
        90,
        60,
        Rgba([0.7, 0.3, 0.5, 1.0]),
    ));
    for (name, image) in [
        ("adobe-rgb", color.to_rgb8().into()),
        ("lut-v4", color.to_rgba8().into()),
        ("pro-photo", DynamicImage::from(color.to_rgb16())),
        ("grey-gamma", color.to_luma8().into()),
        ("grey-table", color.to_luma16().into()),
        // Grey may have a profile for RGB.
        ("linear", color.to_luma_alpha8().into()),
    ] {
        let icc = reference.bytes(&format!("{name}.icc"));
        let path = files.write("p.png", &png(image, &icc));
        let whole = Picture::open(&path).unwrap();
        let few = Limits {
            pixels: 2_000,
            ..Limits::default()
        };
        let reduced = Picture::open_reduced_with(&path, 30, few, Limits::REDUCED).unwrap();
        assert_eq!((reduced.width(), reduced.height()), (30, 20));
        assert_eq!(reduced.icc_profile(), whole.icc_profile(), "{name}");
        // One colour.
        for (found, expected) in reduced.rgb().iter().zip(&whole.rgb()[..3]) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{name}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn results_are_written_in_the_contents_colours() {
    let (reference, files) = (Reference::load(), Files::new());
    for name in MATRIX.iter().chain(&TABLES) {
        let icc = reference.bytes(&format!("{name}.icc"));
        let content = Picture::open(files.write("c.png", &png(row(vec![9; 9]), &icc))).unwrap();
        let colors = reference.bytes(&format!("{name}.back.srgb"));
        let rgb: Vec<f32> = colors.iter().map(|&v| f32::from(v) / 255.0).collect();
        let result = Picture::from_rgb(rgb.len() / 3, 1, rgb).unwrap();
        let result = result.with_attributes_of(&content);
        assert_eq!(result.icc_profile(), Some(&icc[..]), "{name}");
        let expected = reference.bytes(&format!("{name}.back.stored"));
        for output in ["o.png", "o.tiff", "o.webp"] {
            let path = files.path(output);
            result.save(&path).unwrap();
            let written = image::open(&path).unwrap().into_rgb8();
            assert_near(&written, &expected, 1, &format!("{name} as {output}"));
            let back = Picture::open(&path).unwrap();
            assert_eq!(back.icc_profile(), Some(&icc[..]), "{name} as {output}");
        }
        let srgb = SaveOptions {
            colors: SaveColors::Srgb,
            ..SaveOptions::default()
        };
        let path = files.path("srgb.png");
        result.save_with(&path, srgb).unwrap();
        assert_eq!(
            image::open(&path).unwrap().into_rgb8().into_raw(),
            colors,
            "{name}"
        );
        assert_eq!(Picture::open(&path).unwrap().icc_profile(), None, "{name}");
    }
}

#[test]
fn colours_go_there_and_back() {
    let (reference, files) = (Reference::load(), Files::new());
    for name in MATRIX {
        let icc = reference.bytes(&format!("{name}.icc"));
        let stored = reference.bytes(&format!("{name}.stored"));
        let seen = reference.bytes(&format!("{name}.srgb"));
        let path = files.write("p.png", &png(row(stored.clone()), &icc));
        let copy = files.path("copy.png");
        Picture::open(&path).unwrap().save(&copy).unwrap();
        let written = image::open(&copy).unwrap().into_rgb8();
        let mut inside = 0;
        let pixels = stored.chunks(3).zip(written.chunks(3)).zip(seen.chunks(3));
        for ((stored, written), seen) in pixels {
            let grey = stored[0] == stored[1] && stored[1] == stored[2];
            // Those that sRGB shows without clipping.
            if grey || seen.iter().all(|&value| value > 0 && value < 255) {
                assert_near(written, stored, 1, &format!("{name}: {stored:?}"));
                inside += 1;
            }
        }
        assert!(inside >= 100, "{name}: {inside}");
    }
}

#[test]
fn sixteen_bits_stay_sixteen_bits() {
    let (reference, files) = (Reference::load(), Files::new());
    for name in ["display-p3", "adobe-rgb", "sampled-p3"] {
        let icc = reference.bytes(&format!("{name}.icc"));
        // Around grey, all within sRGB; none is a multiple of 257.
        let deep = ImageBuffer::from_fn(64, 64, |x, y| {
            let grey = 8_000 + 700 * x as u16;
            Rgb([grey + 11 * y as u16, grey + 40, grey + 3 * y as u16])
        });
        let path = files.write(
            "deep.png",
            &png(DynamicImage::ImageRgb16(deep.clone()), &icc),
        );
        let picture = Picture::open(&path).unwrap();
        assert_eq!(picture.depth(), Depth::Sixteen);
        let copy = files.path("copy.png");
        picture.save(&copy).unwrap();
        let written = image::open(&copy).unwrap();
        let written = written.as_rgb16().expect("16 bits");
        for (found, stored) in written.iter().zip(deep.iter()) {
            // f32 has 24 bits; two curves and two matrices lose a few of them.
            assert!(found.abs_diff(*stored) <= 2, "{name}: {found} for {stored}");
        }
    }
}

#[test]
fn profiles_of_srgb_change_nothing() {
    let (reference, files) = (Reference::load(), Files::new());
    for name in ["srgb", "srgb-sampled"] {
        let icc = reference.bytes(&format!("{name}.icc"));
        let stored = reference.bytes(&format!("{name}.stored"));
        let picture = Picture::open(files.write("p.png", &png(row(stored.clone()), &icc))).unwrap();
        let exact: Vec<f32> = stored.iter().map(|&v| f32::from(v) / 255.0).collect();
        assert_eq!(picture.rgb(), exact, "{name}");
        assert_eq!(picture.icc_profile(), Some(&icc[..]));
        // LittleCMS thinks so, too.
        assert_near(&stored, &reference.bytes(&format!("{name}.srgb")), 1, name);
        let copy = files.path("copy.png");
        picture.save(&copy).unwrap();
        assert_eq!(image::open(&copy).unwrap().into_rgb8().into_raw(), stored);
    }
}

#[test]
fn opacity_is_applied_to_colours_in_srgb() {
    let (reference, files) = (Reference::load(), Files::new());
    let icc = reference.bytes("display-p3.icc");
    let color = [180, 90, 110];
    let [r, g, b] = color;
    let solid = Picture::open(files.write("s.png", &png(row(color.to_vec()), &icc))).unwrap();
    let glass = image::RgbaImage::from_fn(90, 60, |_, _| Rgba([r, g, b, 51]));
    let path = files.write("g.png", &png(glass.clone(), &icc));
    let few = Limits {
        pixels: 2_000,
        ..Limits::default()
    };
    let reduced = Picture::open_reduced_with(&path, 30, few, Limits::REDUCED).unwrap();
    for glass in [Picture::open(&path).unwrap(), reduced] {
        for (seen, solid) in glass.rgb().iter().zip(solid.rgb().iter().cycle()) {
            let expected = 0.2 * solid + 0.8;
            assert!((seen - expected).abs() < 1e-5, "{seen} for {expected}");
        }
        let copy = files.path("copy.png");
        glass.save(&copy).unwrap();
        let copied = image::open(&copy).unwrap().into_rgba8();
        if glass.width() == 90 {
            assert_near(&copied, &glass_bytes(color), 1, "beside alpha");
        }
    }
    fn glass_bytes([r, g, b]: [u8; 3]) -> Vec<u8> {
        [r, g, b, 51].repeat(90 * 60)
    }
}

#[test]
fn inks_are_converted_by_their_profile() {
    use tiff::encoder::{TiffEncoder, colortype};
    use tiff::tags::Tag;
    let (reference, files) = (Reference::load(), Files::new());
    let icc = reference.bytes("cmyk.icc");
    let stored = reference.bytes("cmyk.stored");
    let expected = reference.bytes("cmyk.srgb");
    let width = stored.len() as u32 / 4;
    for sixteen in [false, true] {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        if sixteen {
            let deep: Vec<u16> = stored.iter().map(|&v| u16::from(v) * 257).collect();
            let mut image = encoder.new_image::<colortype::CMYK16>(width, 1).unwrap();
            image
                .encoder()
                .write_tag(Tag::IccProfile, &icc[..])
                .unwrap();
            image.write_data(&deep).unwrap();
        } else {
            let mut image = encoder.new_image::<colortype::CMYK8>(width, 1).unwrap();
            image
                .encoder()
                .write_tag(Tag::IccProfile, &icc[..])
                .unwrap();
            image.write_data(&stored).unwrap();
        }
        let path = files.write("inks.tiff", file.get_ref());
        let picture = Picture::open(&path).unwrap();
        assert_near(&steps(&picture), &expected, 1, "TIFF");
        assert_eq!(picture.icc_profile(), None);
        assert_eq!(picture.depth() == Depth::Sixteen, sixteen);
        // As a mask the inks are turned into light as if they had no profile.
        let mask = Picture::open_mask(&path, 10_000).unwrap();
        for (inks, mask) in stored.chunks(4).zip(steps(&mask).chunks(3)) {
            let ink = |i: usize| 1.0 - f32::from(inks[i]) / 255.0;
            let plain = [0, 1, 2].map(|i| (255.0 * ink(i) * ink(3)) as u8);
            assert_near(mask, &plain, 1, "mask");
        }
    }
    // Flat blocks of 16 pixels, in inks and in luminance and differences of colour.
    for name in ["cmyk.jpeg", "ycck.jpeg"] {
        let path = files.write("inks.jpg", &reference.bytes(name));
        let picture = Picture::open(&path).unwrap();
        assert_eq!((picture.width(), picture.height()), (96, 64));
        let values = steps(&picture);
        let middles = (0..24).flat_map(|block| {
            let (x, y) = (16 * (block % 6) + 8, 16 * (block / 6) + 8);
            values[3 * (96 * y + x)..][..3].to_vec()
        });
        let expected = reference.bytes(&format!("{name}.srgb"));
        // A step more, since the decoders may differ by one in the inks.
        assert_near(&middles.collect::<Vec<_>>(), &expected, 2, name);
    }
}

/// A PNG of one row with chunks that tell its colours.
fn chunked(rgb: &[u8], chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    row(rgb.to_vec())
        .write_to(&mut file, ImageFormat::Png)
        .unwrap();
    let mut bytes = Vec::new();
    for (kind, data) in chunks {
        let mut crc = flate2::Crc::new();
        crc.update(*kind);
        crc.update(data);
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(*kind);
        bytes.extend(data);
        bytes.extend(crc.sum().to_be_bytes());
    }
    let mut file = file.into_inner();
    // After the header, which is 33 bytes long.
    file.splice(33..33, bytes);
    file
}

/// Numbers of a chunk, which are stored 100,000 times as large.
fn hundred_thousandths(numbers: &[f64]) -> Vec<u8> {
    let scaled = numbers.iter().map(|number| (number * 1e5).round() as u32);
    scaled.flat_map(u32::to_be_bytes).collect()
}

fn compressed(icc: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut zlib =
        flate2::write::ZlibEncoder::new(b"name\0\0".to_vec(), flate2::Compression::default());
    zlib.write_all(icc).unwrap();
    zlib.finish().unwrap()
}

#[test]
fn chunks_of_a_png_tell_its_colours() {
    let (reference, files) = (Reference::load(), Files::new());
    let gamma = |gamma| (b"gAMA", hundred_thousandths(&[gamma]));
    // White, red, green, blue.
    let adobe = [0.3127, 0.3290, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06];
    let adobe = || (b"cHRM", hundred_thousandths(&adobe));
    let linear = || (b"iCCP", compressed(&reference.bytes("linear.icc")));
    let points = |primaries, transfer| (b"cICP", vec![primaries, transfer, 0, 1]);
    let open = |stored: &[u8], chunks: &[(&[u8; 4], Vec<u8>)]| {
        let picture = Picture::open(files.write("p.png", &chunked(stored, chunks))).unwrap();
        let written = files.path("w.png");
        picture.save(&written).unwrap();
        let written = image::open(&written).unwrap().into_rgb8();
        (picture, written)
    };
    let stored = reference.bytes("png-gamma.stored");
    let (picture, _) = open(&stored, &[gamma(0.55556), adobe()]);
    assert_near(
        &steps(&picture),
        &reference.bytes("png-gamma.srgb"),
        1,
        "gAMA and cHRM",
    );
    // Its result says the same by a profile.
    assert!(picture.icc_profile().is_some());
    let grey: Vec<u8> = (0..=255).flat_map(|v| [v; 3]).collect();
    let (picture, written) = open(&grey, &[gamma(0.55556), adobe()]);
    assert_near(&written, &grey, 1, "gAMA and cHRM");
    let again = Picture::open(files.path("w.png")).unwrap();
    assert_near(&steps(&again), &steps(&picture), 1, "gAMA and cHRM");

    // cICP before iCCP before sRGB before gAMA.
    let stored = reference.bytes("display-p3.stored");
    let (picture, written) = open(&stored, &[points(12, 13), gamma(1.0), linear()]);
    assert_near(
        &steps(&picture),
        &reference.bytes("display-p3.srgb"),
        1,
        "cICP",
    );
    assert!(picture.icc_profile().is_some() && written.len() == stored.len());
    let stored = reference.bytes("linear.stored");
    // These code points say nothing.
    let (picture, _) = open(&stored, &[points(2, 2), gamma(0.3), adobe(), linear()]);
    assert_near(&steps(&picture), &reference.bytes("linear.srgb"), 1, "iCCP");
    let (picture, _) = open(&stored, &[(b"sRGB", vec![0]), gamma(0.3), adobe()]);
    assert_eq!(
        (steps(&picture), picture.icc_profile()),
        (stored.clone(), None)
    );
    // gAMA alone; 1/2.2 is how PNG writes the curve of sRGB.
    let (picture, _) = open(&stored, &[gamma(1.0)]);
    assert_near(&steps(&picture), &reference.bytes("linear.srgb"), 1, "gAMA");
    let (picture, _) = open(&stored, &[gamma(0.45455)]);
    assert_eq!(steps(&picture), stored);
}

#[test]
fn a_camera_says_adobe_rgb_by_exif() {
    let (reference, files) = (Reference::load(), Files::new());
    // IFD0 → EXIF → interoperability, which names its rule "R03".
    let entry = |tag: u16, kind: u16, count: u32, value: [u8; 4]| {
        [
            &[1, 0][..],
            &tag.to_le_bytes(),
            &kind.to_le_bytes(),
            &count.to_le_bytes(),
            &value,
            &[0; 4],
        ]
        .concat()
    };
    let exif = [
        b"Exif\0\0II*\0\x08\0\0\0".to_vec(),
        entry(0x8769, 4, 1, 26u32.to_le_bytes()),
        entry(0xa005, 4, 1, 44u32.to_le_bytes()),
        entry(1, 2, 4, *b"R03\0"),
    ]
    .concat();
    let stored = image::RgbImage::from_pixel(32, 32, Rgb([200, 90, 40]));
    let mut jpeg = Cursor::new(Vec::new());
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 100)
        .encode_image(&stored)
        .unwrap();
    let jpeg = jpeg.into_inner();
    let plain = Picture::open(files.write("plain.jpg", &jpeg)).unwrap();
    let length = (exif.len() as u16 + 2).to_be_bytes();
    let marked = [&jpeg[..2], &[0xff, 0xe1], &length, &exif, &jpeg[2..]].concat();
    let marked = Picture::open(files.write("marked.jpg", &marked)).unwrap();
    assert_eq!(plain.icc_profile(), None);
    assert!(marked.icc_profile().is_some());
    // The same as with the profile.
    let icc = reference.bytes("adobe-rgb.icc");
    let raw = row(steps(&plain)[..3].to_vec());
    let expected = Picture::open(files.write("p.png", &png(raw, &icc))).unwrap();
    assert_near(&steps(&marked)[..3], &steps(&expected), 1, "R03");
}

#[test]
fn masks_keep_their_values() {
    let (reference, files) = (Reference::load(), Files::new());
    let values: Vec<u8> = (0..=255).collect();
    let grey = image::GrayImage::from_raw(256, 1, values.clone()).unwrap();
    let icc = reference.bytes("grey-gamma.icc");
    let path = files.write("mask.png", &png(grey, &icc));
    assert_ne!(steps(&Picture::open(&path).unwrap())[3 * 100], 100);
    let mask = Picture::open_mask(&path, 1000).unwrap();
    let expected: Vec<u8> = values.iter().flat_map(|&v| [v; 3]).collect();
    assert_eq!(steps(&mask), expected);
    // One in which nothing can be seen may still be a mask.
    let clear = image::GrayAlphaImage::from_pixel(4, 4, image::LumaA([0, 0]));
    clear.save(&path).unwrap();
    assert!(matches!(
        Picture::open(&path),
        Err(PictureError::Invisible { .. })
    ));
    Picture::open_mask(&path, 1000).unwrap();
}

#[test]
fn a_damaged_profile_is_no_reason_to_refuse_the_pixels() {
    let (reference, files) = (Reference::load(), Files::new());
    let stored = vec![10, 100, 200];
    for icc in [
        reference.bytes("display-p3.icc")[..200].to_vec(),
        vec![7; 300],
        // For other channels than the picture has.
        reference.bytes("cmyk.icc"),
        reference.bytes("grey-gamma.icc"),
    ] {
        let picture = Picture::open(files.write("p.png", &png(row(stored.clone()), &icc))).unwrap();
        assert_eq!(steps(&picture), stored);
        assert_eq!(picture.icc_profile(), None);
    }
    // Grey may have a profile for RGB.
    let icc = reference.bytes("linear.icc");
    let grey = image::GrayImage::from_raw(1, 1, vec![100]).unwrap();
    let grey = Picture::open(files.write("p.png", &png(grey, &icc))).unwrap();
    let color = Picture::open(files.write("p.png", &png(row(vec![100; 3]), &icc))).unwrap();
    assert_eq!(steps(&grey), steps(&color));
    assert_eq!(grey.icc_profile(), color.icc_profile());
}

/// What a file's profile says is not to be trusted.
fn survives(name: &str, changes: &[(Index, u8)]) {
    let (reference, files) = (Reference::load(), Files::new());
    let mut icc = reference.bytes(&format!("{name}.icc"));
    for (place, byte) in changes {
        // Header, tags and the heads of tables.
        let place = place.index(icc.len().min(600));
        icc[place] = *byte;
    }
    let file = match name {
        "grey-table" => png(
            image::GrayImage::from_raw(4, 1, vec![0, 99, 200, 255]).unwrap(),
            &icc,
        ),
        _ => png(row(vec![0, 99, 200, 255, 1, 128]), &icc),
    };
    let picture = Picture::open(files.write("p.png", &file)).unwrap();
    assert!(
        picture
            .rgb()
            .iter()
            .all(|value| (0.0..=1.0).contains(value))
    );
    picture.save(files.path("o.png")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn damaged_profiles_are_survived(
        which in 0..5usize,
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        survives(["display-p3", "uneven", "lut-v2", "lut-v4", "grey-table"][which], &changes);
    }
}

#[test]
fn formats_keep_the_profile_of_a_small_picture() {
    let (reference, files) = (Reference::load(), Files::new());
    let icc = reference.bytes("lut-v2.icc");
    let content = Picture::open(files.write("p.png", &png(row(vec![1, 2, 3]), &icc))).unwrap();
    for name in ["o.png", "o.tiff", "o.webp", "o.jpg"] {
        let path = files.path(name);
        content.save(&path).unwrap();
        let format = ImageFormat::from_path(Path::new(name)).unwrap();
        assert_eq!(
            image::ImageReader::open(&path).unwrap().format(),
            Some(format)
        );
        let back = Picture::open(&path).unwrap();
        assert_eq!(back.icc_profile(), Some(&icc[..]), "{name}");
    }
}

#[cfg(all(feature = "cli", feature = "flex"))]
#[test]
fn the_program_writes_in_the_contents_colour_space_or_in_srgb() {
    use crate::cli::{Files, run, stderr};
    let files = Files::new();
    let scene = image::open(&files.scene)
        .unwrap()
        .thumbnail(64, 48)
        .into_rgb8();
    let icc = profile("adobe-rgb");
    let content = files.write("content.png", &png(scene, &icc));
    let paint = |output: &str, options: &[&str]| {
        let output = files.path(output);
        let mut arguments = vec!["stylize", &content, &files.style, "-o", &output];
        arguments.extend(files.quickly());
        // A step of 8 bits in one space can be several in the dark of another.
        arguments.extend(["--bits", "16"]);
        arguments.extend(options);
        let done = run(&arguments);
        assert!(done.status.success(), "{}", stderr(&done));
        (
            Picture::open(&output).unwrap(),
            image::open(&output).unwrap().into_rgb8(),
        )
    };
    let (same, stored) = paint("same.png", &[]);
    let (srgb, plain) = paint("srgb.png", &["--color-space", "srgb"]);
    assert_eq!(same.icc_profile(), Some(&icc[..]));
    assert_eq!(srgb.icc_profile(), None);
    // Other numbers for the same colours, but for rounding.
    assert_ne!(stored, plain);
    assert_near(&steps(&same), &steps(&srgb), 1, "painted");
}
