//! What a picture's file says of how the picture was made: an XMP packet, in any format.

use std::io::{BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use image::ImageFormat;

use super::error::PictureError;
use super::format::Format;
use super::input::open_file;

/// How a picture was made, as its file keeps it: in an XMP packet (ISO 16684-1), which PNG, JPEG,
/// WebP and TIFF have a place for, and which exiftool and most programs for pictures show.
///
/// ```
/// use impasto::Picture;
/// use impasto::picture::Metadata;
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("grey.jpg");
/// let metadata = Metadata {
///     creator_tool: "my program 1.0".to_string(),
///     provenance: "all greys".to_string(),
/// };
/// let picture = Picture::from_rgb(2, 2, vec![0.5; 12])?.with_metadata(metadata.clone());
/// picture.save(&path)?;
/// assert_eq!(Metadata::read(&path)?, Some(metadata));
/// # Ok::<(), impasto::PictureError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The program that made the picture, with its version: the property `CreatorTool` of XMP.
    pub creator_tool: String,
    /// How it was made: the property `provenance` of the namespace [`NAMESPACE`](Self::NAMESPACE). In
    /// the pictures of a run, [`Provenance`](crate::transfer::Provenance) as JSON.
    pub provenance: String,
}

/// The most bytes of an XMP packet that are read or written.
pub(super) const LARGEST_PACKET: usize = 1 << 20;

/// What a JPEG's segment with an XMP packet begins with.
pub(super) const JPEG_SIGNATURE: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The keyword of the text in a PNG that is an XMP packet.
pub(super) const PNG_KEYWORD: &str = "XML:com.adobe.xmp";

/// The tag of a TIFF that holds an XMP packet.
pub(super) const TIFF_TAG: u16 = 700;

const XMP: &str = "http://ns.adobe.com/xap/1.0/";
const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";

impl Metadata {
    /// The XML namespace of the property `provenance`.
    pub const NAMESPACE: &str = "urn:impasto:1.0/";

    /// Reads what a PNG, JPEG, WebP or TIFF says; `None` if that is nothing, nothing that was written
    /// from here, damaged, or in another kind of file. No pixel is decoded, and no more than a megabyte
    /// is taken for a packet.
    ///
    /// # Errors
    /// [`PictureError::Read`].
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>, PictureError> {
        let path = path.as_ref();
        let mut file = open_file(path)?;
        let read = |source| PictureError::Read {
            path: path.into(),
            source,
        };
        let mut start = Vec::new();
        file.by_ref()
            .take(16)
            .read_to_end(&mut start)
            .map_err(read)?;
        file.rewind().map_err(read)?;
        let format = image::guess_format(&start).ok();
        let packet = format.and_then(|format| packet(file, format));
        Ok(packet.and_then(|packet| Self::from_xmp(&packet)))
    }

    /// Whether it is small enough for a file of this format: 64 KB in a JPEG, else a megabyte.
    pub fn fits(&self, format: Format) -> bool {
        let most = match format {
            // The length of a segment counts its own two bytes.
            Format::Jpeg => usize::from(u16::MAX) - 2 - JPEG_SIGNATURE.len(),
            _ => LARGEST_PACKET,
        };
        self.to_xmp().len() <= most
    }

    /// The XMP packet.
    pub(super) fn to_xmp(&self) -> String {
        let (tool, provenance) = (escape(&self.creator_tool), escape(&self.provenance));
        format!(
            "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n\
             <x:xmpmeta xmlns:x=\"adobe:ns:meta/\">\n\
             <rdf:RDF xmlns:rdf=\"{RDF}\">\n\
             <rdf:Description rdf:about=\"\" xmlns:xmp=\"{XMP}\" xmlns:impasto=\"{}\">\n\
             <xmp:CreatorTool>{tool}</xmp:CreatorTool>\n\
             <impasto:provenance>{provenance}</impasto:provenance>\n\
             </rdf:Description>\n\
             </rdf:RDF>\n\
             </x:xmpmeta>\n\
             <?xpacket end=\"r\"?>",
            Self::NAMESPACE
        )
    }

    /// What an XMP packet says, from whatever program it comes: the properties may be elements or
    /// attributes, in any description.
    fn from_xmp(packet: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(packet).ok()?;
        let text = text.trim_matches(['\u{feff}', '\0', ' ', '\n', '\r', '\t']);
        // Documents with entities of their own are refused, which could be made to grow.
        let document = roxmltree::Document::parse(text).ok()?;
        let property = |namespace: &str, name: &str| {
            let descriptions = document.descendants();
            let mut descriptions = descriptions.filter(|n| n.has_tag_name((RDF, "Description")));
            descriptions.find_map(|description| {
                let attribute = description.attribute((namespace, name));
                let mut children = description.children();
                let element = || {
                    let element = children.find(|n| n.has_tag_name((namespace, name)))?;
                    Some(element.text().unwrap_or_default())
                };
                attribute.or_else(element).map(str::to_string)
            })
        };
        Some(Self {
            provenance: property(Self::NAMESPACE, "provenance")?,
            creator_tool: property(XMP, "CreatorTool").unwrap_or_default(),
        })
    }
}

/// Text in XML. What XML has no place for is replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 64);
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\r' => escaped.push_str("&#13;"),
            '\t' | '\n' => escaped.push(letter),
            '\0'..'\u{20}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(letter),
        }
    }
    escaped
}

/// The XMP packet of a file of this format, if it has one that can be read.
fn packet<R: BufRead + Seek>(file: R, format: ImageFormat) -> Option<Vec<u8>> {
    let packet = match format {
        ImageFormat::Png => png_packet(file),
        ImageFormat::Jpeg => jpeg_packet(file),
        ImageFormat::WebP => webp_packet(file),
        ImageFormat::Tiff => tiff_packet(file),
        _ => None,
    };
    packet.filter(|packet| packet.len() <= LARGEST_PACKET)
}

fn png_packet<R: BufRead + Seek>(file: R) -> Option<Vec<u8>> {
    // Other texts count too, and some programs write long ones.
    let limits = png::Limits {
        bytes: 32 * LARGEST_PACKET,
    };
    let mut decoder = png::Decoder::new_with_limits(file, limits);
    decoder.set_ignore_iccp_chunk(true);
    let reader = decoder.read_info().ok()?;
    let mut texts = reader.info().utf8_text.iter();
    let mut text = texts.find(|text| text.keyword == PNG_KEYWORD)?.clone();
    text.decompress_text_with_limit(LARGEST_PACKET).ok()?;
    text.get_text().ok().map(String::into_bytes)
}

fn webp_packet<R: BufRead + Seek>(file: R) -> Option<Vec<u8>> {
    let mut decoder = image_webp::WebPDecoder::new(file).ok()?;
    decoder.set_memory_limit(LARGEST_PACKET);
    decoder.xmp_metadata().ok()?
}

fn tiff_packet<R: BufRead + Seek>(file: R) -> Option<Vec<u8>> {
    let mut limits = tiff::decoder::Limits::default();
    // A byte of a value takes 32 in memory before it is put with the others.
    limits.decoding_buffer_size = 64 * LARGEST_PACKET;
    let decoder = tiff::decoder::Decoder::new(file).ok()?;
    let mut decoder = decoder.with_limits(limits);
    let tag = tiff::tags::Tag::Unknown(TIFF_TAG);
    decoder.get_tag_u8_vec(tag).ok()
}

/// Goes from segment to segment, up to the pixels.
fn jpeg_packet<R: BufRead + Seek>(mut file: R) -> Option<Vec<u8>> {
    const START: u8 = 0xd8;
    const APP1: u8 = 0xe1;
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut marker = [0; 2];
    file.read_exact(&mut marker).ok()?;
    if marker != [0xff, START] {
        return None;
    }
    loop {
        file.read_exact(&mut marker).ok()?;
        // Markers may be padded.
        while marker == [0xff, 0xff] {
            file.read_exact(&mut marker[1..]).ok()?;
        }
        if marker[0] != 0xff || [END, SCAN].contains(&marker[1]) {
            return None;
        }
        let mut length = [0; 2];
        file.read_exact(&mut length).ok()?;
        let length = u16::from_be_bytes(length).checked_sub(2)?;
        if marker[1] != APP1 {
            file.seek(SeekFrom::Current(length.into())).ok()?;
            continue;
        }
        let mut segment = vec![0; length.into()];
        file.read_exact(&mut segment).ok()?;
        if let Some(packet) = segment.strip_prefix(JPEG_SIGNATURE) {
            return Some(packet.to_vec());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::picture::SaveOptions;
    use crate::picture::raster::Picture;

    fn metadata() -> Metadata {
        Metadata {
            creator_tool: "impasto 0.0".to_string(),
            provenance: "{\"a\": \"<&>'é𝄞\"}".to_string(),
        }
    }

    /// A small picture with metadata in every format.
    fn files() -> Vec<(ImageFormat, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let picture = Picture::from_rgb(3, 2, vec![0.25; 18]).unwrap();
        let picture = picture.with_metadata(metadata());
        let formats = [
            ("a.png", ImageFormat::Png),
            ("a.jpg", ImageFormat::Jpeg),
            ("a.webp", ImageFormat::WebP),
            ("a.tiff", ImageFormat::Tiff),
        ];
        let files = formats.map(|(name, format)| {
            let path = folder.path().join(name);
            picture.save_with(&path, SaveOptions::default()).unwrap();
            (format, std::fs::read(path).unwrap())
        });
        files.to_vec()
    }

    fn read(format: ImageFormat, bytes: &[u8]) -> Option<Metadata> {
        Metadata::from_xmp(&packet(Cursor::new(bytes), format)?)
    }

    #[test]
    fn every_format_keeps_metadata() {
        for (format, bytes) in files() {
            assert_eq!(read(format, &bytes), Some(metadata()), "{format:?}");
        }
    }

    #[test]
    fn packets_of_other_programs_are_understood() {
        let packet = format!(
            "\u{feff}<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='{RDF}'>\
             <r:Description xmlns:q='{}' q:provenance='1 &lt; 2'/>\
             <r:Description xmlns:m='{XMP}'><m:CreatorTool>x</m:CreatorTool></r:Description>\
             </r:RDF></x:xmpmeta>\0\0",
            Metadata::NAMESPACE
        );
        let found = Metadata::from_xmp(packet.as_bytes()).unwrap();
        assert_eq!(
            (&found.provenance[..], &found.creator_tool[..]),
            ("1 < 2", "x")
        );
        let bomb = format!("<!DOCTYPE a [<!ENTITY b 'c'>]>{packet}");
        assert_eq!(Metadata::from_xmp(bomb.as_bytes()), None);
        assert_eq!(Metadata::from_xmp(b"<a/>"), None);
        assert_eq!(Metadata::from_xmp(b"\xff"), None);
    }

    #[test]
    fn a_packet_that_is_too_large_is_not_taken() {
        let large = Metadata {
            provenance: "x".repeat(LARGEST_PACKET),
            ..metadata()
        };
        let mut file = Cursor::new(Vec::new());
        let mut encoder = png::Encoder::new(&mut file, 1, 1);
        encoder
            .add_itxt_chunk(PNG_KEYWORD.into(), large.to_xmp())
            .unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[0]).unwrap();
        writer.finish().unwrap();
        assert_eq!(packet(Cursor::new(file.get_ref()), ImageFormat::Png), None);
    }

    #[test]
    fn a_jpeg_holds_as_much_as_a_segment() {
        let of = |length: usize| Metadata {
            provenance: "x".repeat(length),
            ..metadata()
        };
        let most = usize::from(u16::MAX) - 2 - JPEG_SIGNATURE.len() - of(0).to_xmp().len();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let picture = Picture::from_rgb(1, 1, vec![0.5; 3]).unwrap();
        let save = |length| picture.clone().with_metadata(of(length)).save(&path);
        assert!(of(most).fits(Format::Jpeg) && !of(most + 1).fits(Format::Jpeg));
        assert!(of(most + 1).fits(Format::Png) && !of(LARGEST_PACKET).fits(Format::Png));
        save(most).unwrap();
        assert_eq!(Metadata::read(&path).unwrap(), Some(of(most)));
        assert!(save(most + 1).is_err());
        assert_eq!(Metadata::read(&path).unwrap(), Some(of(most)));
    }

    proptest! {
        #[test]
        fn any_text_survives_xml(creator_tool in any::<String>(), provenance in any::<String>()) {
            let metadata = Metadata { creator_tool, provenance };
            let found = Metadata::from_xmp(metadata.to_xmp().as_bytes()).unwrap();
            let legal = |text: &str| -> String {
                let illegal = |c: char| c < ' ' && !"\t\n\r".contains(c) || "\u{fffe}\u{ffff}".contains(c);
                text.chars().map(|c| if illegal(c) { '\u{fffd}' } else { c }).collect()
            };
            prop_assert_eq!(found.provenance, legal(&metadata.provenance));
            prop_assert_eq!(found.creator_tool, legal(&metadata.creator_tool));
        }

        #[test]
        fn damaged_files_are_survived(
            which in any::<Index>(),
            bytes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
            cut in prop::option::weighted(0.2, any::<Index>()),
        ) {
            let files = files();
            let (format, mut file) = which.get(&files).clone();
            for (place, byte) in &bytes {
                let place = place.index(file.len());
                file[place] = *byte;
            }
            if let Some(cut) = cut {
                file.truncate(cut.index(file.len()));
            }
            // Whatever is read is no larger than the file.
            if let Some(found) = read(format, &file) {
                prop_assert!(found.provenance.len() <= file.len());
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for (format, start) in [
                (ImageFormat::Png, &b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..]),
                (ImageFormat::Jpeg, b"\xff\xd8\xff\xe1"),
                (ImageFormat::WebP, b"RIFF\xff\0\0\0WEBPVP8X"),
                (ImageFormat::Tiff, b"II*\0\x08\0\0\0"),
            ] {
                read(format, &[start, &bytes].concat());
            }
        }
    }
}
