//! What a file is, by its contents, and what to do with one that is not read here.

use std::io::{Read, Seek};
use std::path::Path;

use image::ImageFormat;

use super::error::PictureError;
use super::ifd::{Directory, tag};

/// How much of a file is looked at for text.
const HEAD: u64 = 4096;

/// The format of a picture that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One that the `image` crate reads.
    Image(ImageFormat),
    JpegXl,
    Avif,
}

/// What is told of a picture whose decoder is not part of this build.
#[cfg(not(all(feature = "jxl", feature = "avif")))]
pub(super) fn not_built_in(path: &Path, kind: Kind) -> PictureError {
    let (format, advice) = match kind {
        Kind::Image(_) => ("a picture", EXPORT),
        Kind::JpegXl => (
            "a JPEG XL picture",
            "save it as PNG, for example with `djxl in.jxl out.png`, or build with the feature `jxl` \
             (`cargo install impasto --features cli,jxl`)",
        ),
        Kind::Avif => (
            "an AVIF picture",
            "save it as PNG, for example with `avifdec in.avif out.png`, or build with the feature `avif` \
             (`cargo install impasto --features cli,avif`)",
        ),
    };
    PictureError::UnsupportedFormat {
        path: path.into(),
        format,
        advice,
    }
}

/// The format of a file that can be read.
///
/// # Errors
/// [`PictureError::UnsupportedFormat`], [`PictureError::NotAPicture`], or
/// [`PictureError::Read`]; `path` is for messages.
pub(super) fn recognize(file: &mut (impl Read + Seek), path: &Path) -> Result<Kind, PictureError> {
    let mut head = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.by_ref().take(HEAD).read_to_end(&mut head));
    read.map_err(|source| PictureError::Read {
        path: path.into(),
        source,
    })?;
    if brands(&head).is_some_and(|brands| has_brand(brands, &[b"avif", b"avis"])) {
        return Ok(Kind::Avif);
    }
    // Before TIFF, which many raw files are, with a small preview as their first picture.
    let foreign = foreign_picture(&head).or_else(|| raw_tiff(file, &head));
    if let Some(Foreign { format, advice }) = foreign {
        return Err(PictureError::UnsupportedFormat {
            path: path.into(),
            format,
            advice,
        });
    }
    // A bare stream or a container.
    if head.starts_with(b"\xff\x0a") || head.starts_with(b"\0\0\0\x0cJXL \r\n\x87\n") {
        return Ok(Kind::JpegXl);
    }
    let format = match &head[..] {
        [0xff, 0xd8, 0xff, ..] => Some(ImageFormat::Jpeg),
        head if head.starts_with(b"\x89PNG\r\n\x1a\n") => Some(ImageFormat::Png),
        head if head.starts_with(b"GIF8") => Some(ImageFormat::Gif),
        head if head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP") => {
            Some(ImageFormat::WebP)
        }
        // Classic and large files.
        head if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]
            .iter()
            .any(|s| head.starts_with(*s)) =>
        {
            Some(ImageFormat::Tiff)
        }
        head if head.starts_with(b"BM") => Some(ImageFormat::Bmp),
        _ => None,
    };
    let format = format.map(Kind::Image);
    format.ok_or_else(|| PictureError::NotAPicture {
        path: path.into(),
        found: what_it_is(&head),
    })
}

/// A picture, or something with pictures in it, that is not read here.
struct Foreign {
    format: &'static str,
    advice: &'static str,
}

const EXPORT: &str = "save it as PNG or JPEG in the program that it comes from";
const RAW: &str = "develop it first and save it as a 16-bit TIFF or a JPEG, for example with darktable, \
                   RawTherapee or the camera's own program";
const FRAME: &str =
    "save one of its pictures as PNG, for example with `ffmpeg -i FILE -frames:v 1 out.png`";

/// What the box at the front of HEIF, AVIF, MP4 and their like says that the file is.
fn brands(head: &[u8]) -> Option<&[u8]> {
    if head.get(4..8) != Some(b"ftyp") {
        return None;
    }
    let size = u32::from_be_bytes(*head.first_chunk()?) as usize;
    Some(head.get(8..size.min(head.len())).unwrap_or(&head[8..]))
}

fn has_brand(brands: &[u8], names: &[&[u8; 4]]) -> bool {
    let mut brands = brands.as_chunks::<4>().0.iter();
    brands.any(|brand| names.contains(&brand))
}

fn foreign_picture(head: &[u8]) -> Option<Foreign> {
    let starts = |signature: &[u8]| head.starts_with(signature);
    let found = |format, advice| Some(Foreign { format, advice });
    if let Some(brands) = brands(head) {
        let is = |names: &[&[u8; 4]]| has_brand(brands, names);
        return if is(&[b"crx "]) {
            found("a raw file of a Canon camera (CR3)", RAW)
        } else if is(&[
            b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1",
        ]) {
            found(
                "an HEIC picture",
                "save it as JPEG or PNG, for example with `heif-convert in.heic out.png`; iPhones take \
                 JPEGs where Settings > Camera > Formats is Most Compatible",
            )
        } else {
            found("a video", FRAME)
        };
    }
    let signatures: &[(&[u8], &str, &str)] = &[
        (b"8BPS", "a Photoshop file (PSD)", EXPORT),
        (b"gimp xcf", "a GIMP file (XCF)", EXPORT),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture", EXPORT),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 picture", EXPORT),
        (b"v/1\x01", "an OpenEXR picture", EXPORT),
        (b"#?RADIANCE", "a Radiance HDR picture", EXPORT),
        (b"DDS ", "a DirectDraw texture (DDS)", EXPORT),
        (b"qoif", "a QOI picture", EXPORT),
        (b"\0\0\x01\0", "a Windows icon", EXPORT),
        (b"P1\n", "a PBM picture", EXPORT),
        (b"P2\n", "a PGM picture", EXPORT),
        (b"P3\n", "a PPM picture", EXPORT),
        (b"P4\n", "a PBM picture", EXPORT),
        (b"P5\n", "a PGM picture", EXPORT),
        (b"P6\n", "a PPM picture", EXPORT),
        (
            b"%PDF-",
            "a PDF document",
            "save the page as PNG, for example with `pdftoppm -png -r 150`",
        ),
        (b"%!PS", "a PostScript file", EXPORT),
        (
            b"FUJIFILMCCD-RAW",
            "a raw file of a Fujifilm camera (RAF)",
            RAW,
        ),
        (b"IIRO", "a raw file of an Olympus camera (ORF)", RAW),
        (b"IIRS", "a raw file of an Olympus camera (ORF)", RAW),
        (b"MMOR", "a raw file of an Olympus camera (ORF)", RAW),
        (
            b"IIU\0",
            "a raw file of a Panasonic or Leica camera (RW2)",
            RAW,
        ),
        (b"FOVb", "a raw file of a Sigma camera (X3F)", RAW),
        (b"\0MRM", "a raw file of a Minolta camera (MRW)", RAW),
        (b"\x1aE\xdf\xa3", "a video", FRAME),
        (b"\0\0\x01\xba", "a video", FRAME),
    ];
    if let Some(&(_, format, advice)) = signatures.iter().find(|(signature, ..)| starts(signature))
    {
        return found(format, advice);
    }
    if starts(b"RIFF") && head.get(8..12) == Some(b"AVI ") {
        return found("a video", FRAME);
    }
    if head.get(6..14) == Some(b"HEAPCCDR") {
        return found("a raw file of a Canon camera (CRW)", RAW);
    }
    // Before it may stand an XML declaration and comments.
    let text = head.trim_ascii_start();
    if text.starts_with(b"<") && contains(text, b"<svg") && !contains(text, b"<html") {
        return found(
            "an SVG drawing",
            "save it as PNG, for example with `rsvg-convert -w 2048 in.svg -o out.png`",
        );
    }
    None
}

/// Raw files of cameras that are TIFF files by their form.
fn raw_tiff(file: &mut (impl Read + Seek), head: &[u8]) -> Option<Foreign> {
    /// Colour filters in front of the sensor, and their values without them.
    const SENSOR: [u32; 2] = [32_803, 34_892];
    /// A smaller version of another picture of the file.
    const REDUCED: u32 = 1;
    let raw = |format| {
        Some(Foreign {
            format,
            advice: RAW,
        })
    };
    let first = Directory::first(file)?;
    if first.has(tag::DNG_VERSION) {
        return raw("a raw file of a camera (DNG)");
    }
    if head.get(8..10) == Some(b"CR") {
        return raw("a raw file of a Canon camera (CR2)");
    }
    let of_sensor = |directory: &Directory| {
        let kind = directory.number(tag::PHOTOMETRIC);
        kind.is_some_and(|kind| SENSOR.contains(&kind))
    };
    let inner = first.children(file, tag::SUB_IFDS);
    let preview = first
        .number(tag::NEW_SUBFILE_TYPE)
        .is_some_and(|kind| kind & REDUCED != 0);
    (of_sensor(&first) || inner.iter().any(of_sensor) || (preview && !inner.is_empty()))
        .then(|| raw("a raw file of a camera"))
        .flatten()
}

/// What a file that is no picture is, with an article, as far as can be told.
fn what_it_is(head: &[u8]) -> &'static str {
    let starts = |signature: &[u8]| head.starts_with(signature);
    let is_text = || {
        let text = match std::str::from_utf8(head) {
            Err(error) if error.error_len().is_some() => return false,
            _ => head,
        };
        text.iter()
            .all(|&byte| byte >= b' ' || byte.is_ascii_whitespace())
    };
    if head.is_empty() {
        "the file is empty"
    } else if starts(b"version https://git-lfs.github.com/spec/") {
        "this is a Git LFS pointer, which stands for the picture; fetch the picture with `git lfs pull`"
    } else if starts(b"PK\x03\x04") {
        "this is a ZIP archive, or a document in such a form; unpack it and name a picture"
    } else if [
        &b"\x1f\x8b"[..],
        b"7z\xbc\xaf\x27\x1c",
        b"Rar!",
        b"BZh",
        b"\xfd7zXZ",
        b"\x28\xb5\x2f\xfd",
    ]
    .into_iter()
    .any(starts)
    {
        "this is an archive; unpack it and name a picture"
    } else if contains(head, b"<html") || contains(head, b"<!doctype html") {
        "this is a web page; save the picture itself"
    } else if head.iter().all(|&byte| byte == 0) {
        "this holds nothing but zeros, as after a copy that failed; copy it again"
    } else if is_text() {
        "this is text"
    } else {
        "this is no picture"
    }
}

/// Whether some text occurs, in capitals or not.
fn contains(head: &[u8], text: &[u8]) -> bool {
    head.windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text))
}
