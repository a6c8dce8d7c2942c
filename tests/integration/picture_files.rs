//! Files that are cut short, odd variants of the formats that are read, and files in other formats.

use std::fs;
use std::io::Cursor;
use std::path::PathBuf;

use image::{DynamicImage, GrayImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use impasto::picture::{Depth, Limits};
use impasto::{Picture, PictureError};
use proptest::prelude::*;
use proptest::sample::Index;

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// A file that `tests/reference/pictures.py` has made.
fn stored(name: &str) -> PathBuf {
    crate::repository("tests/data/pictures").join(name)
}

/// A scene with detail everywhere, so that no part of a file is dispensable.
fn scene() -> RgbaImage {
    RgbaImage::from_fn(61, 47, |x, y| {
        let noise = (x * 7919 + y * 104_729 + x * y * 31) % 97;
        Rgba([
            (x * 4) as u8,
            (y * 5) as u8,
            (noise + 60) as u8,
            255 - (x + y) as u8,
        ])
    })
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// A PNG by the `png` crate, for what the `image` crate does not write.
fn png(
    size: (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
    set: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, size.0, size.1);
    encoder.set_color(color);
    encoder.set_depth(depth);
    set(&mut encoder);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    drop(writer);
    file
}

/// A TIFF with compression.
fn tiff(compression: tiff::encoder::Compression) -> Vec<u8> {
    use tiff::encoder::{TiffEncoder, colortype};
    let rgb = DynamicImage::from(scene()).into_rgb8();
    let mut file = Cursor::new(Vec::new());
    let encoder = TiffEncoder::new(&mut file).unwrap();
    let mut encoder = encoder.with_compression(compression);
    encoder
        .write_image::<colortype::RGB8>(61, 47, &rgb)
        .unwrap();
    file.into_inner()
}

/// Whole files of every kind, with the name of the kind.
fn whole_files() -> Vec<(String, Vec<u8>)> {
    let common = common_files().into_iter();
    let files = common.map(|(kind, file)| (kind.to_string(), file));
    #[cfg(feature = "jxl")]
    let files = files.chain(crate::jxl::files());
    #[cfg(feature = "avif")]
    let files = files.chain(crate::avif::files());
    files.collect()
}

/// Those that every build reads.
fn common_files() -> Vec<(&'static str, Vec<u8>)> {
    use tiff::encoder::Compression;
    let scene = DynamicImage::from(scene());
    let made = |name: &str| fs::read(stored(name)).unwrap();
    vec![
        ("PNG", encoded(scene.to_rgba8(), ImageFormat::Png)),
        (
            "PNG of 16 bits",
            encoded(scene.to_rgb16(), ImageFormat::Png),
        ),
        ("grey PNG", encoded(scene.to_luma8(), ImageFormat::Png)),
        ("baseline JPEG", encoded(scene.to_rgb8(), ImageFormat::Jpeg)),
        ("grey JPEG", encoded(scene.to_luma8(), ImageFormat::Jpeg)),
        ("progressive JPEG", made("progressive.jpg")),
        ("JPEG with restarts", made("restarts.jpg")),
        ("interlaced PNG", made("interlaced.png")),
        ("lossy WebP", made("lossy.webp")),
        ("animated WebP", made("animated.webp")),
        ("lossy WebP with alpha", made("lossy-alpha.webp")),
        ("tiled TIFF", made("tiled.tiff")),
        (
            "lossless WebP",
            encoded(scene.to_rgba8(), ImageFormat::WebP),
        ),
        ("TIFF", encoded(scene.to_rgb8(), ImageFormat::Tiff)),
        (
            "TIFF of 16 bits",
            encoded(scene.to_rgba16(), ImageFormat::Tiff),
        ),
        ("TIFF of f32", encoded(scene.to_rgb32f(), ImageFormat::Tiff)),
        ("LZW TIFF", tiff(Compression::Lzw)),
        (
            "Deflate TIFF",
            tiff(Compression::Deflate(Default::default())),
        ),
        ("PackBits TIFF", tiff(Compression::Packbits)),
        ("BMP", encoded(scene.to_rgb8(), ImageFormat::Bmp)),
        (
            "BMP with alpha",
            encoded(scene.to_rgba8(), ImageFormat::Bmp),
        ),
        ("GIF", encoded(scene.to_rgba8(), ImageFormat::Gif)),
        ("animated GIF", made("animated.gif")),
    ]
}

/// Opens the first bytes of a file: the error, or whether the picture is that of the whole file.
fn open_cut(files: &Files, whole: &[u8], length: usize) -> Result<bool, PictureError> {
    let expected = Picture::open(files.write("whole", whole)).unwrap();
    let cut = Picture::open(files.write("cut", &whole[..length]))?;
    Ok(cut == expected)
}

#[test]
fn a_file_that_ends_too_early_is_refused() {
    let files = Files::new();
    for (kind, whole) in whole_files() {
        for percent in [25, 50, 75, 90] {
            let length = whole.len() * percent / 100;
            match open_cut(&files, &whole, length) {
                // What follows the first picture is not needed.
                Ok(same) => assert!(same && kind.contains("animated"), "{kind}, {percent} %"),
                Err(PictureError::EndsTooEarly { .. }) => {}
                Err(error) => panic!("{kind}, {percent} %: {error:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_cut_goes_unnoticed(which in any::<Index>(), cut in any::<Index>(), from_end in any::<bool>()) {
        let all = whole_files();
        let (kind, whole) = which.get(&all);
        // As often near the end as anywhere.
        let length = match from_end {
            true => whole.len() - 1 - cut.index(whole.len().min(40)),
            false => cut.index(whole.len()),
        };
        if let Ok(same) = open_cut(&Files::new(), whole, length) {
            prop_assert!(same, "{}: {} of {} bytes", kind, length, whole.len());
        }
    }
}

#[test]
fn what_follows_a_jpeg_and_a_missing_mark_of_its_end_do_no_harm() {
    let files = Files::new();
    let whole = encoded(DynamicImage::from(scene()).to_rgb8(), ImageFormat::Jpeg);
    let expected = Picture::open(files.write("whole.jpg", &whole)).unwrap();
    assert_eq!(whole[whole.len() - 2..], [0xff, 0xd9]);
    let more = [
        &whole[..],
        b"filler of a camera, or a film",
        &[0xff, 0xff, 0x00],
    ]
    .concat();
    assert_eq!(
        Picture::open(files.write("more.jpg", &more)).unwrap(),
        expected
    );
    for missing in 1..=2 {
        let path = files.write("less.jpg", &whole[..whole.len() - missing]);
        assert_eq!(Picture::open(path).unwrap(), expected, "{missing}");
    }
    // A preview in the header ends before the picture does.
    let preview = encoded(GrayImage::new(8, 8), ImageFormat::Jpeg);
    let length = (preview.len() as u16 + 2).to_be_bytes();
    let with_preview = [&whole[..2], &[0xff, 0xe2], &length, &preview, &whole[2..]].concat();
    let path = files.write("preview.jpg", &with_preview);
    assert_eq!(Picture::open(path).unwrap(), expected);
    let cut = files.write("cut.jpg", &with_preview[..with_preview.len() / 2]);
    let error = Picture::open(cut).unwrap_err();
    assert!(matches!(error, PictureError::EndsTooEarly { .. }));
    assert!(
        error
            .to_string()
            .contains("cut.jpg: the file ends too early"),
        "{error}"
    );
}

#[test]
fn a_damaged_file_is_told_from_one_that_ends_too_early() {
    let files = Files::new();
    let mut file = encoded(scene(), ImageFormat::Png);
    let middle = file.len() / 2;
    file[middle] ^= 0x55;
    let error = Picture::open(files.write("d.png", &file)).unwrap_err();
    assert!(matches!(error, PictureError::Decode { .. }), "{error:?}");
}

/// A BMP with a channel for alpha.
fn bmp_with_alpha(alpha: u8) -> Vec<u8> {
    let pixels: Vec<u8> = (0..64 * 48u32)
        .flat_map(|i| [i as u8, (i / 64) as u8, 90, alpha])
        .collect();
    let mut file = b"BM".to_vec();
    file.extend((138 + pixels.len() as u32).to_le_bytes());
    file.extend([0; 4]);
    file.extend(138u32.to_le_bytes());
    for number in [124u32, 64, 48] {
        file.extend(number.to_le_bytes());
    }
    file.extend([1, 0, 32, 0]);
    // By masks, the last of which is alpha's.
    for number in [
        3,
        pixels.len() as u32,
        2835,
        2835,
        0,
        0,
        0xff_0000,
        0xff00,
        0xff,
        0xff00_0000,
    ] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"BGRs");
    file.resize(138, 0);
    file.extend(pixels);
    file
}

#[test]
fn a_fourth_channel_of_zeros_is_no_opacity_unless_the_file_says_so() {
    use tiff::encoder::{TiffEncoder, colortype};
    use tiff::tags::{ExtraSamples, Tag};
    let files = Files::new();
    let picture = Picture::open(files.write("zero.bmp", &bmp_with_alpha(0))).unwrap();
    assert!(picture.alpha().is_none());
    let solid = Picture::open(files.write("solid.bmp", &bmp_with_alpha(255))).unwrap();
    assert_eq!(picture, solid);
    let half = Picture::open(files.write("half.bmp", &bmp_with_alpha(128))).unwrap();
    assert!(half.alpha().is_some());
    // Read reduced, too.
    let few = Limits {
        pixels: 500,
        ..Limits::default()
    };
    let reduced =
        Picture::open_reduced_with(files.0.path().join("zero.bmp"), 16, few, Limits::REDUCED);
    assert!(reduced.unwrap().alpha().is_none());

    let rgba = [[10, 20, 30, 0], [40, 50, 60, 0]].concat();
    let write = |samples: &[u8], extra: Option<ExtraSamples>| {
        let mut file = Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap();
        let mut image = encoder.new_image::<colortype::RGBA8>(2, 1).unwrap();
        if let Some(extra) = extra {
            image
                .encoder()
                .write_tag(Tag::ExtraSamples, &[extra][..])
                .unwrap();
        }
        image.write_data(samples).unwrap();
        files.write("p.tiff", &file.into_inner())
    };
    let picture = Picture::open(write(&rgba, None)).unwrap();
    assert!(picture.alpha().is_none());
    assert!((picture.rgb()[3] - 40.0 / 255.0).abs() < 1e-6);
    let error = Picture::open(write(&rgba, Some(ExtraSamples::UnassociatedAlpha))).unwrap_err();
    assert!(matches!(error, PictureError::Invisible { .. }), "{error:?}");
    // Colours that are multiplied by their opacity already.
    let premultiplied = [[50, 100, 25, 128], [0, 0, 0, 0]].concat();
    let path = write(&premultiplied, Some(ExtraSamples::AssociatedAlpha));
    let picture = Picture::open(path).unwrap();
    for (found, stored) in picture.rgb().iter().zip([50.0, 100.0, 25.0, 0.0, 0.0, 0.0]) {
        let white = [127.0, 255.0][usize::from(stored == 0.0)];
        // Divided in steps of 8 bits, of which half remain.
        assert!((found * 255.0 - stored - white).abs() < 0.6, "{found}");
    }
}

#[test]
fn a_picture_of_which_nothing_can_be_seen_is_refused() {
    let files = Files::new();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let clear = encoded(RgbaImage::from_pixel(9, 9, Rgba([5, 6, 7, 0])), format);
        let error = Picture::open(files.write("clear", &clear)).unwrap_err();
        assert!(
            matches!(error, PictureError::Invisible { .. }),
            "{format:?}"
        );
        assert!(error.to_string().contains("alpha channel"), "{error}");
    }
}

#[test]
fn png_of_all_depths_and_palettes() {
    use png::BitDepth::{Eight, Four, One, Two};
    use png::ColorType::{Grayscale, Indexed};
    let files = Files::new();
    let open = |bytes: Vec<u8>| Picture::open(files.write("p.png", &bytes)).unwrap();
    let close =
        |found: f32, value: f32| assert!((found - value).abs() < 1e-6, "{found} for {value}");
    // 1, 2 and 4 bits: the last pixel of two is white, the first black.
    for (depth, byte) in [(One, 0b0100_0000), (Two, 0b0011_0000), (Four, 0b0000_1111)] {
        let grey = open(png((2, 1), Grayscale, depth, &[byte], |_| {}));
        assert_eq!(grey.rgb(), [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(grey.depth(), Depth::Eight);
    }
    let two_thirds = open(png((1, 1), Grayscale, Two, &[0b1000_0000], |_| {}));
    close(two_thirds.rgb()[0], 170.0 / 255.0);
    // A palette, of which one colour is half opaque.
    let palette = |encoder: &mut png::Encoder<&mut Vec<u8>>| {
        encoder.set_palette(vec![255, 0, 0, 0, 0, 255]);
        encoder.set_trns(vec![255, 51]);
    };
    for (depth, data) in [
        (One, vec![0b0100_0000]),
        (Four, vec![0b0000_0001]),
        (Eight, vec![0, 1]),
    ] {
        let picture = open(png((2, 1), Indexed, depth, &data, palette));
        assert_eq!(picture.alpha(), Some(&[1.0, 0.2][..]));
        assert_eq!(picture.rgb()[..3], [1.0, 0.0, 0.0]);
        close(picture.rgb()[3], 0.8);
        close(picture.rgb()[5], 1.0);
    }
}

#[test]
fn of_an_animation_the_first_frame_is_read() {
    for name in ["animated.webp", "animated.gif", "animated.png"] {
        let picture = Picture::open(stored(name)).unwrap();
        assert_eq!((picture.width(), picture.height()), (40, 30), "{name}");
        // The first is red, the second blue.
        let [r, _, b] = picture.rgb()[..3] else {
            unreachable!()
        };
        assert!(r > 0.9 && b < 0.1, "{name}: {r}, {b}");
    }
}

#[test]
fn orientation_is_followed_in_all_formats_and_ways() {
    use tiff::encoder::{TiffEncoder, colortype};
    use tiff::tags::Tag;
    let files = Files::new();
    // Red left, blue right; to be turned clockwise.
    let image = RgbImage::from_fn(80, 40, |x, _| {
        Rgb([[255, 0, 0], [0, 0, 255]][usize::from(x >= 40)])
    });
    let mut tiff = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut tiff).unwrap();
    let mut written = encoder.new_image::<colortype::RGB8>(80, 40).unwrap();
    written.encoder().write_tag(Tag::Orientation, 6u16).unwrap();
    written.write_data(&image).unwrap();
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    let mut png = encoded(image, ImageFormat::Png);
    // After the header, which is 33 bytes long.
    let mut chunk = (exif.len() as u32).to_be_bytes().to_vec();
    let contents = [b"eXIf", &exif[..]].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&contents);
    chunk.extend(contents);
    chunk.extend(crc.sum().to_be_bytes());
    png.splice(33..33, chunk);
    let few = Limits {
        pixels: 2_000,
        ..Limits::default()
    };
    for (name, bytes) in [("t.tiff", tiff.into_inner()), ("t.png", png)] {
        let path = files.write(name, &bytes);
        for picture in [
            Picture::open(&path).unwrap(),
            Picture::open_reduced_with(&path, 40, few, Limits::REDUCED).unwrap(),
        ] {
            let (width, height) = (picture.width(), picture.height());
            assert_eq!(2 * width, height, "{name}");
            assert_eq!(picture.rgb()[..3], [1.0, 0.0, 0.0], "{name}");
            assert_eq!(
                picture.rgb()[3 * (width * height - 1)..],
                [0.0, 0.0, 1.0],
                "{name}"
            );
        }
    }
}

/// Opens bytes; the message of the error.
fn message(files: &Files, bytes: &[u8]) -> (PictureError, String) {
    let error = Picture::open(files.write("photo.jpg", bytes)).unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn pictures_in_other_formats_are_named_with_what_to_do() {
    let files = Files::new();
    let brand = |brand: &[u8; 4], other: &[u8; 4]| {
        [
            &[0, 0, 0, 24][..],
            b"ftyp",
            brand,
            &[0; 4],
            other,
            b"miaf",
            &[0; 40],
        ]
        .concat()
    };
    for (bytes, words) in [
        (brand(b"heic", b"mif1"), ["HEIC", "heif-convert"]),
        (brand(b"mif1", b"heic"), ["HEIC", "heif-convert"]),
        #[cfg(not(feature = "avif"))]
        (
            brand(b"avif", b"mif1"),
            ["an AVIF picture", "with `avifdec in.avif out.png`"],
        ),
        #[cfg(not(feature = "avif"))]
        (brand(b"mif1", b"avif"), ["AVIF", "--features cli,avif"]),
        (
            brand(b"crx ", b"isom"),
            ["Canon camera (CR3)", "16-bit TIFF"],
        ),
        (brand(b"isom", b"mp42"), ["a video", "ffmpeg"]),
        (brand(b"qt  ", b"qt  "), ["a video", "ffmpeg"]),
        #[cfg(not(feature = "jxl"))]
        (b"\xff\x0a\xfa\x1f".to_vec(), ["JPEG XL", "djxl"]),
        #[cfg(not(feature = "jxl"))]
        (
            b"\0\0\0\x0cJXL \r\n\x87\n\0\0".to_vec(),
            ["with `djxl in.jxl out.png`", "--features cli,jxl"],
        ),
        (b"8BPS\0\x01\0\0".to_vec(), ["Photoshop", "PNG or JPEG"]),
        (b"%PDF-1.7\n".to_vec(), ["PDF", "pdftoppm"]),
        (
            b"<svg xmlns=\"http://www.w3.org/2000/svg\">".to_vec(),
            ["SVG", "rsvg-convert"],
        ),
        (
            b"<?xml version=\"1.0\"?>\n<!-- x -->\n<svg>".to_vec(),
            ["SVG", "rsvg-convert"],
        ),
        (b"FUJIFILMCCD-RAW 0201".to_vec(), ["Fujifilm", "darktable"]),
        (b"IIRO\x08\0\0\0\0\0".to_vec(), ["Olympus", "darktable"]),
        (b"IIU\0\x18\0\0\0".to_vec(), ["Panasonic", "darktable"]),
        (
            b"II*\0\x10\0\0\0CR\x02\0\0\0\0\0\0\0".to_vec(),
            ["Canon camera (CR2)", "darktable"],
        ),
        (b"\x1aE\xdf\xa3\0\0\0\0".to_vec(), ["a video", "ffmpeg"]),
        (b"RIFF\0\0\0\0AVI LIST".to_vec(), ["a video", "ffmpeg"]),
        (b"v/1\x01\x02\0\0\0".to_vec(), ["OpenEXR", "PNG or JPEG"]),
    ] {
        let (error, text) = message(&files, &bytes);
        assert!(
            matches!(error, PictureError::UnsupportedFormat { .. }),
            "{text}"
        );
        assert!(
            words.iter().all(|word| text.contains(word)),
            "{words:?}: {text}"
        );
        assert!(text.contains("photo.jpg"), "{text}");
    }
}

/// A TIFF of one small picture, with more entries and a second directory behind it.
fn tiff_with(entries: &[(u16, u16, u32)], inner: &[(u16, u16, u32)]) -> Vec<u8> {
    let directory = |entries: &[(u16, u16, u32)]| {
        let mut bytes = (entries.len() as u16).to_le_bytes().to_vec();
        for &(tag, kind, value) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(kind.to_le_bytes());
            bytes.extend(1u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend([0; 4]);
        bytes
    };
    let mut plain = vec![
        (256, 3, 2),
        (257, 3, 1),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 2),
    ];
    plain.retain(|(tag, ..)| entries.iter().all(|(other, ..)| other != tag));
    plain.extend(entries);
    plain.sort();
    let behind = 10 + 2 + 12 * plain.len() as u32 + 4;
    for (tag, _, value) in &mut plain {
        if *tag == 330 {
            *value = behind;
        }
    }
    [
        &b"II*\0\x0a\0\0\0"[..],
        &[7, 9],
        &directory(&plain),
        &directory(inner),
    ]
    .concat()
}

#[test]
fn raw_files_that_look_like_tiff_are_recognised() {
    let files = Files::new();
    let plain = tiff_with(&[], &[]);
    assert_eq!(
        Picture::open(files.write("plain.tiff", &plain))
            .unwrap()
            .width(),
        2
    );
    let sensor = [(262, 3, 32_803)];
    for (bytes, name) in [
        (tiff_with(&[(50_706, 4, 1)], &[]), "DNG"),
        // A preview, and the values of the sensor in a directory of their own: Nikon, Sony, Pentax.
        (
            tiff_with(&[(254, 4, 1), (330, 4, 0)], &[(254, 4, 0)]),
            "raw file",
        ),
        (tiff_with(&[(330, 4, 0)], &sensor), "raw file"),
        (tiff_with(&sensor, &[]), "raw file"),
    ] {
        let (error, text) = message(&files, &bytes);
        assert!(
            matches!(error, PictureError::UnsupportedFormat { .. }),
            "{text}"
        );
        assert!(text.contains(name) && text.contains("darktable"), "{text}");
    }
    // Small versions of the picture may be in a TIFF that is one.
    let pyramid = tiff_with(&[(330, 4, 0)], &[(254, 4, 1), (262, 3, 1)]);
    Picture::open(files.write("pyramid.tiff", &pyramid)).unwrap();
}

#[test]
fn what_is_no_picture_is_named() {
    let files = Files::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n";
    for (bytes, words) in [
        (&b""[..], "the file is empty"),
        (pointer.as_bytes(), "git lfs pull"),
        (b"PK\x03\x04\x14\0", "ZIP archive"),
        (b"\x1f\x8b\x08\0", "archive"),
        (b"<!DOCTYPE html>\n<html><body><svg></svg>", "web page"),
        (b"Dear friend,\nhere is the picture.", "this is text"),
        (
            "{\"error\": \"kein Zugang: gesperrt für dich\"}".as_bytes(),
            "this is text",
        ),
        (&[0; 5000], "nothing but zeros"),
        (b"\x01\x02\x03\x04\x99\x98", "no picture"),
    ] {
        let (error, text) = message(&files, bytes);
        assert!(matches!(error, PictureError::NotAPicture { .. }), "{text}");
        assert!(text.contains(words), "{words}: {text}");
        assert!(text.contains("PNG, JPEG, WebP, TIFF, BMP"), "{text}");
    }
}
