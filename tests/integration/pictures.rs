//! Picture files of all kinds, good and bad.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, Rgb, Rgba};
use impasto::picture::{Depth, Limits, SaveOptions, check_output};
use impasto::{Picture, PictureError};

/// A picture whose channels and corners all differ.
fn sample(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        Rgb([(x * 20) as u8, (y * 30) as u8, 200])
    })
}

fn write(path: &Path, image: impl Into<DynamicImage>, format: ImageFormat) {
    image.into().save_with_format(path, format).unwrap();
}

fn pixel(picture: &Picture, x: usize, y: usize) -> [f32; 3] {
    let index = 3 * (y * picture.width() + x);
    picture.rgb()[index..index + 3].try_into().unwrap()
}

#[track_caller]
fn assert_color(found: [f32; 3], expected: [u8; 3], tolerance: f32) {
    for (found, expected) in found.iter().zip(expected) {
        let error = (found * 255.0 - f32::from(expected)).abs();
        assert!(error <= tolerance, "{found} is not {expected}/255");
    }
}

#[test]
fn every_input_format_is_read_by_its_contents() {
    let folder = tempfile::tempdir().unwrap();
    for (format, tolerance) in [
        (ImageFormat::Png, 0.01),
        (ImageFormat::Bmp, 0.01),
        (ImageFormat::Tiff, 0.01),
        (ImageFormat::WebP, 0.01),
        (ImageFormat::Jpeg, 40.0),
        (ImageFormat::Gif, 40.0),
    ] {
        // The name says nothing of the format.
        let path = folder.path().join("picture.dat");
        write(&path, sample(12, 8), format);
        let picture = Picture::open(&path).unwrap();
        assert_eq!((picture.width(), picture.height()), (12, 8), "{format:?}");
        assert_color(pixel(&picture, 11, 7), [220, 210, 200], tolerance);
    }
}

#[test]
fn grey_alpha_and_sixteen_bits_become_rgb() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.png");
    write(
        &path,
        image::GrayImage::from_pixel(3, 3, image::Luma([77])),
        ImageFormat::Png,
    );
    let grey = Picture::open(&path).unwrap();
    assert_color(pixel(&grey, 1, 1), [77; 3], 0.01);
    assert_eq!(grey.depth(), Depth::Eight);

    let deep = image::ImageBuffer::from_pixel(2, 2, Rgb([1u16, 32768, 65535]));
    write(&path, deep, ImageFormat::Png);
    let deep = Picture::open(&path).unwrap();
    assert_eq!(deep.depth(), Depth::Sixteen);
    assert!((pixel(&deep, 0, 0)[0] - 1.0 / 65535.0).abs() < 1e-7);

    let glass = image::RgbaImage::from_fn(2, 1, |x, _| Rgba([200, 0, 0, [255, 51][x as usize]]));
    write(&path, glass, ImageFormat::Png);
    let glass = Picture::open(&path).unwrap();
    assert_eq!(glass.alpha().unwrap(), [1.0, 0.2]);
    // A fifth of red over four fifths of white.
    assert_color(pixel(&glass, 1, 0), [244, 204, 204], 0.01);
    let opaque = image::RgbaImage::from_pixel(2, 1, Rgba([1, 2, 3, 255]));
    write(&path, opaque, ImageFormat::Png);
    assert!(Picture::open(&path).unwrap().alpha().is_none());
}

#[test]
fn exif_orientation_turns_the_picture_upright() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.jpg");
    let mut plain = Cursor::new(Vec::new());
    // Red left, blue right; stored lying on its side.
    let stored = image::RgbImage::from_fn(32, 16, |x, _| {
        if x < 16 {
            Rgb([255, 0, 0])
        } else {
            Rgb([0, 0, 255])
        }
    });
    stored.write_to(&mut plain, ImageFormat::Jpeg).unwrap();
    let plain = plain.into_inner();
    // APP1 with a TIFF header and the single entry "orientation = 6" (turn clockwise).
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
    bytes.append(&mut exif);
    bytes.extend(&plain[2..]);
    fs::write(&path, bytes).unwrap();
    let picture = Picture::open(&path).unwrap();
    assert_eq!((picture.width(), picture.height()), (16, 32));
    assert_color(pixel(&picture, 8, 2), [255, 0, 0], 6.0);
    assert_color(pixel(&picture, 8, 29), [0, 0, 255], 6.0);
}

/// What is no picture, or one that asks for too much.
#[test]
fn bad_files_give_clear_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, contents: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    };
    let open = |path: &Path| Picture::open(path).unwrap_err();
    assert!(matches!(
        open(&folder.path().join("no.png")),
        PictureError::Read { .. }
    ));
    assert!(matches!(open(folder.path()), PictureError::Read { .. }));
    assert!(matches!(
        open(&file("empty.png", b"")),
        PictureError::NotAPicture { .. }
    ));
    let text = file("text.png", b"This is a letter, not a picture.");
    assert!(matches!(open(&text), PictureError::NotAPicture { .. }));

    let path = folder.path().join("whole.png");
    write(&path, sample(60, 40), ImageFormat::Png);
    let whole = fs::read(&path).unwrap();
    let cut = file("cut.png", &whole[..whole.len() / 2]);
    assert!(matches!(open(&cut), PictureError::Decode { .. }));

    let huge = file("huge.png", &huge_png(20_000, 20_000));
    let error = open(&huge);
    assert!(matches!(error, PictureError::TooLarge { .. }));
    assert!(error.to_string().contains("20000×20000"), "{error}");
    let limits = Limits {
        pixels: 100,
        ..Limits::default()
    };
    let error = Picture::open_with(&path, limits).unwrap_err();
    assert!(matches!(error, PictureError::TooLarge { width: 60, .. }));
}

/// A PNG whose header promises this size and that ends after it.
pub fn huge_png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    let mut chunk = |contents: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(contents);
        bytes.extend((contents.len() as u32 - 4).to_be_bytes());
        bytes.extend(contents);
        bytes.extend(crc.sum().to_be_bytes());
    };
    chunk(&header);
    chunk(b"IDAT\x78\x9c\x03\0\0\0\0\x01");
    chunk(b"IEND");
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let rgb: Vec<f32> = (0..5 * 4 * 3).map(|i| i as f32 / 60.0).collect();
    let picture = Picture::from_rgb(5, 4, rgb).unwrap();
    for (name, depth, step) in [
        ("a.png", Depth::Eight, 255.0),
        ("b.png", Depth::Sixteen, 65535.0),
        ("c.tiff", Depth::Eight, 255.0),
        ("d.tif", Depth::Sixteen, 65535.0),
        ("e.webp", Depth::Eight, 255.0),
    ] {
        let path = folder.path().join(name);
        let options = SaveOptions {
            depth: Some(depth),
            ..SaveOptions::default()
        };
        picture.save_with(&path, options).unwrap();
        let back = Picture::open(&path).unwrap();
        assert_eq!(back.depth(), depth, "{name}");
        for (a, b) in picture.rgb().iter().zip(back.rgb()) {
            // Rounded to the nearest step, not cut off.
            assert!((a - b).abs() <= 0.501 / step, "{name}: {a} became {b}");
        }
    }
    picture.save(folder.path().join("f.jpg")).unwrap();
    assert_eq!(
        Picture::open(folder.path().join("f.jpg")).unwrap().width(),
        5
    );
}

#[test]
fn alpha_and_colour_profile_travel_to_the_output() {
    use image::ImageEncoder;
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.png");
    let glass = image::RgbaImage::from_fn(8, 8, |x, y| Rgba([200, 100, 50, (x * 30 + y) as u8]));
    // Only the field that tells the colour space matters here; the rest is opaque to us.
    let mut profile = vec![7u8; 200];
    profile[16..20].copy_from_slice(b"RGB ");
    let mut encoder = image::codecs::png::PngEncoder::new(fs::File::create(&input).unwrap());
    encoder.set_icc_profile(profile.clone()).unwrap();
    encoder
        .write_image(&glass, 8, 8, image::ExtendedColorType::Rgba8)
        .unwrap();

    let content = Picture::open(&input).unwrap();
    assert_eq!(content.icc_profile(), Some(&profile[..]));
    // The `image` crate reads a TIFF's profile only up to 1/32 of the size of its pixels.
    let painted = Picture::from_rgb(64, 64, vec![0.5; 3 * 64 * 64]).unwrap();
    let painted = painted.with_attributes_of(&content);
    for (name, alpha) in [
        ("o.png", true),
        ("o.tiff", true),
        ("o.webp", true),
        ("o.jpg", false),
    ] {
        let path = folder.path().join(name);
        painted.save(&path).unwrap();
        let back = Picture::open(&path).unwrap();
        assert_eq!(back.icc_profile(), Some(&profile[..]), "{name}");
        assert_eq!(back.alpha().is_some(), alpha, "{name}");
    }
    // Reading lays the colours over white; writing them beside alpha takes that back.
    let copy = folder.path().join("copy.png");
    content.save(&copy).unwrap();
    let copied = image::open(&copy).unwrap().into_rgba8();
    for (a, b) in glass
        .pixels()
        .zip(copied.pixels())
        .filter(|(a, _)| a[3] > 0)
    {
        assert_eq!(a, b);
    }
    // A profile for CMYK would be wrong beside RGB.
    profile[16..20].copy_from_slice(b"CMYK");
    let mut encoder = image::codecs::png::PngEncoder::new(fs::File::create(&input).unwrap());
    encoder.set_icc_profile(profile).unwrap();
    encoder
        .write_image(&glass, 8, 8, image::ExtendedColorType::Rgba8)
        .unwrap();
    assert_eq!(Picture::open(&input).unwrap().icc_profile(), None);
}

#[test]
fn outputs_are_checked_before_any_work() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str| check_output(&folder.path().join(name), SaveOptions::default());
    check("fine.png").unwrap();
    assert!(matches!(
        check("noextension"),
        Err(PictureError::UnknownFormat { .. })
    ));
    assert!(matches!(
        check("picture.psd"),
        Err(PictureError::UnknownFormat { .. })
    ));
    assert!(matches!(
        check("missing/out.png"),
        Err(PictureError::Write { .. })
    ));
    let deep = SaveOptions {
        depth: Some(Depth::Sixteen),
        ..SaveOptions::default()
    };
    let jpeg = check_output(&folder.path().join("x.jpg"), deep);
    assert!(matches!(jpeg, Err(PictureError::DepthUnsupported { .. })));
    // Checking leaves nothing behind.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_failed_save_leaves_the_old_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.png");
    fs::create_dir(&path).unwrap();
    let picture = Picture::from_rgb(1, 1, vec![0.0; 3]).unwrap();
    assert!(picture.save(&path).is_err());
    assert!(path.is_dir());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
