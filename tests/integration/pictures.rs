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

/// A JPEG with the EXIF entry "orientation = 6" (turn clockwise).
fn lying_on_its_side(plain: &[u8]) -> Vec<u8> {
    // APP1 with a TIFF header and a single entry.
    let mut exif =
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    let mut bytes = plain[..2].to_vec();
    bytes.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
    bytes.append(&mut exif);
    bytes.extend(&plain[2..]);
    bytes
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
    fs::write(&path, lying_on_its_side(&plain.into_inner())).unwrap();
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
    assert!(matches!(open(&cut), PictureError::EndsTooEarly { .. }));

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

/// Bounds of so many pixels.
fn pixels(pixels: u64) -> Limits {
    Limits {
        pixels,
        ..Limits::default()
    }
}

/// Smooth colours and an edge, with an alpha that varies. Nothing near black or white, where samples of
/// 8 bits cannot overshoot between the two passes of the filter and those of f32 can.
fn scene(width: u32, height: u32) -> image::Rgba32FImage {
    image::Rgba32FImage::from_fn(width, height, |x, y| {
        let (u, v) = (x as f32 / width as f32, y as f32 / height as f32);
        let disc = f32::from(u8::from((u - 0.4).powi(2) + (v - 0.6).powi(2) < 0.06));
        let green = 0.5 + 0.3 * (9.0 * v).sin();
        Rgba([0.2 + 0.6 * u, green, 0.25 + 0.4 * disc, 1.0 - 0.7 * v])
    })
}

#[test]
fn large_pictures_are_reduced_as_if_they_were_whole() {
    let folder = tempfile::tempdir().unwrap();
    let image = DynamicImage::from(scene(310, 200));
    for (name, format, image) in [
        ("rgb8", ImageFormat::Png, image.to_rgb8().into()),
        ("rgba8", ImageFormat::Png, image.to_rgba8().into()),
        ("grey8", ImageFormat::Png, image.to_luma8().into()),
        ("greya8", ImageFormat::Png, image.to_luma_alpha8().into()),
        ("rgb16", ImageFormat::Png, image.to_rgb16().into()),
        ("rgba16", ImageFormat::Png, image.to_rgba16().into()),
        ("grey16", ImageFormat::Png, image.to_luma16().into()),
        ("greya16", ImageFormat::Png, image.to_luma_alpha16().into()),
        ("rgb32", ImageFormat::Tiff, image.to_rgb32f().into()),
        ("rgba32", ImageFormat::Tiff, image.to_rgba32f().into()),
        ("jpeg", ImageFormat::Jpeg, image.to_rgb8().into()),
        ("webp", ImageFormat::WebP, image.to_rgba8().into()),
        ("bmp", ImageFormat::Bmp, image.to_rgb8().into()),
        ("gif", ImageFormat::Gif, image.to_rgba8().into()),
    ] {
        let image: DynamicImage = image;
        let path = folder.path().join(name);
        write(&path, image, format);
        let whole = Picture::open(&path).unwrap();
        // Within the bounds: the same to the last bit, however few pixels are wanted.
        assert_eq!(Picture::open_reduced(&path, 32).unwrap(), whole, "{name}");
        // Beyond them: what resizing the whole picture gives, here a row of the result at a time.
        let reduced =
            Picture::open_reduced_with(&path, 62, pixels(5_000), Limits::REDUCED).unwrap();
        let expected = whole.resize(62, 40);
        assert_eq!((reduced.width(), reduced.height()), (62, 40), "{name}");
        assert_eq!(reduced.depth(), whole.depth(), "{name}");
        let alphas = (reduced.alpha(), expected.alpha());
        assert_eq!(alphas.0.is_some(), alphas.1.is_some(), "{name}");
        let values = reduced.rgb().iter().zip(expected.rgb());
        let alphas = alphas
            .0
            .iter()
            .copied()
            .flatten()
            .zip(alphas.1.iter().copied().flatten());
        for (found, expected) in values.chain(alphas) {
            assert!(
                (found - expected).abs() <= 1e-5,
                "{name}: {found} for {expected}"
            );
        }
    }
}

#[test]
fn a_reduced_picture_is_upright_and_keeps_its_profile() {
    use image::ImageEncoder;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("turned.jpg");
    let mut plain = Cursor::new(Vec::new());
    let profile = crate::colors::profile("srgb");
    let mut encoder = image::codecs::jpeg::JpegEncoder::new(&mut plain);
    encoder.set_icc_profile(profile.clone()).unwrap();
    let stored = DynamicImage::from(scene(320, 160)).to_rgb8();
    encoder
        .write_image(&stored, 320, 160, image::ExtendedColorType::Rgb8)
        .unwrap();
    fs::write(&path, lying_on_its_side(&plain.into_inner())).unwrap();
    let reduced = Picture::open_reduced_with(&path, 64, pixels(5_000), Limits::REDUCED).unwrap();
    assert_eq!((reduced.width(), reduced.height()), (32, 64));
    assert_eq!(reduced.icc_profile(), Some(&profile[..]));
    let expected = Picture::open(&path).unwrap().resize(32, 64);
    for (found, expected) in reduced.rgb().iter().zip(expected.rgb()) {
        assert!(
            (found - expected).abs() <= 1.6 / 255.0,
            "{found} for {expected}"
        );
    }
}

#[test]
fn reducing_has_bounds_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path, longest_side, whole, reduced| {
        let picture = Picture::open_reduced_with(path, longest_side, whole, reduced);
        let error = picture.unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { .. }), "{error}");
        error.to_string()
    };
    let path = folder.path().join("p.png");
    write(&path, sample(60, 40), ImageFormat::Png);
    let most = Limits::REDUCED;
    // What is left of it would be too large, what is read of it is, or its bytes are.
    assert!(refused(&path, 60, pixels(1_000), most).contains("limit of 1000"));
    assert!(refused(&path, 10, pixels(1_000), pixels(2_399)).contains("limit of 2399"));
    let few_bytes = Limits {
        bytes: 20_000,
        ..most
    };
    refused(&path, 10, pixels(1_000), few_bytes);
    Picture::open_reduced_with(&path, 10, pixels(1_000), pixels(2_400)).unwrap();
    // Headers that promise more than any scanner gives are refused before anything is allocated.
    for (width, height) in [(20_000, 20_000), (200_000, 2_000)] {
        fs::write(&path, huge_png(width, height)).unwrap();
        let error = Picture::open_reduced(&path, 256).unwrap_err();
        assert!(matches!(error, PictureError::TooLarge { .. }), "{error}");
    }
    // One that is refused whole and promises what a scanner may give ends early.
    fs::write(&path, huge_png(12_000, 9_000)).unwrap();
    assert!(matches!(
        Picture::open(&path).unwrap_err(),
        PictureError::TooLarge { .. }
    ));
    assert!(matches!(
        Picture::open_reduced(&path, 256).unwrap_err(),
        PictureError::Decode { .. }
    ));
}

/// 108 million pixels, as a scanner gives.
#[test]
fn a_scan_is_read_and_reduced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scan.jpg");
    // Too slow without optimisation.
    let (width, height, whole) = match cfg!(debug_assertions) {
        true => (1_200, 900, pixels(1 << 20)),
        false => (12_000, 9_000, Limits::default()),
    };
    let scan = image::GrayImage::from_fn(width, height, |x, _| {
        image::Luma([(x * 20 / width) as u8 * 12])
    });
    write(&path, scan, ImageFormat::Jpeg);
    assert!(matches!(
        Picture::open_with(&path, whole).unwrap_err(),
        PictureError::TooLarge { .. }
    ));
    let scan = Picture::open_reduced_with(&path, 256, whole, Limits::REDUCED).unwrap();
    assert_eq!((scan.width(), scan.height()), (256, 192));
    for step in 0..20 {
        let x = (256 * (2 * step + 1)) / 40;
        assert_color(pixel(&scan, x, 96), [step as u8 * 12; 3], 2.0);
    }
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
    let profile = crate::colors::profile("adobe-rgb");
    let mut encoder = image::codecs::png::PngEncoder::new(fs::File::create(&input).unwrap());
    encoder.set_icc_profile(profile.clone()).unwrap();
    encoder
        .write_image(&glass, 8, 8, image::ExtendedColorType::Rgba8)
        .unwrap();

    let content = Picture::open(&input).unwrap();
    assert_eq!(content.icc_profile(), Some(&profile[..]));
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
