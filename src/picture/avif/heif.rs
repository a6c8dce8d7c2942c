//! The boxes of AVIF files (ISO/IEC 14496-12 and 23008-12, AV1 Image File Format).

use std::collections::BTreeMap;
use std::io::{BufRead, Seek, SeekFrom};

use image::error::{ImageFormatHint, LimitError, LimitErrorKind};
use image::metadata::Orientation;
use image::{ImageError, ImageFormat, ImageResult};

use crate::picture::decoder_error::{damaged, ends_too_early, unsupported};

/// The still picture of a file, its parts as compressed data.
pub(super) struct Still {
    pub color: Coded,
    pub alpha: Option<Coded>,
    /// Whether the colours are multiplied by their opacity.
    pub premultiplied: bool,
    pub code_points: Option<CodePoints>,
    pub icc: Option<Vec<u8>>,
    /// Left, top, width and height of what is shown, before it is turned.
    pub crop: Option<[u32; 4]>,
    pub orientation: Orientation,
}

/// A picture of one channel or of colours, perhaps in tiles.
pub(super) struct Coded {
    pub width: u32,
    pub height: u32,
    /// Row by row.
    pub tiles: Vec<Vec<u8>>,
    pub columns: u32,
    /// Whether tiles may reach beyond the edge.
    pub is_grid: bool,
}

/// What the numbers of a picture mean (ITU-T H.273).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodePoints {
    pub primaries: u16,
    pub transfer: u16,
    pub matrix: u16,
    pub full_range: bool,
}

/// Most bytes of all that is said of the pictures of a file, profiles included.
const LARGEST_META: u64 = 64 << 20;

pub(super) fn name() -> ImageFormatHint {
    ImageFormat::Avif.into()
}

fn broken() -> ImageError {
    damaged(name(), "a box is damaged")
}

/// Reads the picture of a file, of compressed data no more than the file has and `max_alloc` allows.
pub(super) fn read(file: &mut (impl BufRead + Seek), max_alloc: u64) -> ImageResult<Still> {
    let length = file.seek(SeekFrom::End(0))?;
    let meta = read_meta(file, length.min(max_alloc), length)?;
    let meta = Meta::parse(&meta)?;
    let mut source = Source {
        file,
        length,
        left: length.min(max_alloc),
        inside: &meta.inside,
    };
    let main = meta.item(meta.primary)?;
    let color = meta.coded(main, &mut source)?;
    let mut alpha = None;
    let mut premultiplied = false;
    for (&id, item) in &meta.items {
        if item.references(b"auxl", meta.primary) && meta.is_alpha(item)? {
            premultiplied = main.references(b"prem", id);
            alpha = Some(meta.coded(item, &mut source)?);
            break;
        }
    }
    if let Some(alpha) = &alpha
        && (alpha.width, alpha.height) != (color.width, color.height)
    {
        return Err(unsupported(name(), "opacity of another size"));
    }
    let mut still = Still {
        color,
        alpha,
        premultiplied,
        code_points: None,
        icc: None,
        crop: None,
        orientation: Orientation::NoTransforms,
    };
    meta.describe(main, &mut still)?;
    Ok(still)
}

/// The contents of the box `meta`.
fn read_meta(file: &mut (impl BufRead + Seek), most: u64, length: u64) -> ImageResult<Vec<u8>> {
    let (mut place, mut has_frames) = (0, false);
    loop {
        let rest = length.saturating_sub(place);
        if rest < 8 {
            return Err(match has_frames {
                true => unsupported(name(), "an animation without a still picture"),
                false => ends_too_early(),
            });
        }
        file.seek(SeekFrom::Start(place))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        let (size, before) = match u32::from_be_bytes([a, b, c, d]) {
            0 => (rest, 8),
            1 => {
                let mut large = [0; 8];
                file.read_exact(&mut large)?;
                (u64::from_be_bytes(large), 16)
            }
            size => (size.into(), 8),
        };
        if size < before {
            return Err(broken());
        }
        if size > rest {
            return Err(ends_too_early());
        }
        if &kind == b"meta" {
            if size > most.min(LARGEST_META) {
                return Err(too_large());
            }
            let mut contents = vec![0; (size - before) as usize];
            file.read_exact(&mut contents)?;
            return Ok(contents);
        }
        has_frames |= &kind == b"moov";
        place += size;
    }
}

fn too_large() -> ImageError {
    ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
}

/// Where compressed data come from.
struct Source<'a, R> {
    file: &'a mut R,
    length: u64,
    /// How much more may be read.
    left: u64,
    /// Data inside the box `meta`.
    inside: &'a [u8],
}

impl<R: BufRead + Seek> Source<'_, R> {
    fn read(&mut self, item: &Item) -> ImageResult<Vec<u8>> {
        let mut data = Vec::new();
        for &(start, size) in &item.extents {
            // No byte is needed twice, so that a small file cannot grow.
            self.left = self.left.checked_sub(size).ok_or_else(|| {
                let inside = start
                    .checked_add(size)
                    .is_some_and(|end| end <= self.length);
                if inside {
                    too_large()
                } else {
                    ends_too_early()
                }
            })?;
            let end = start.checked_add(size).ok_or_else(broken)?;
            if item.is_inside {
                let bytes = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let bytes = bytes.and_then(|(start, end)| self.inside.get(start..end));
                data.extend(bytes.ok_or_else(broken)?);
                continue;
            }
            if end > self.length {
                return Err(ends_too_early());
            }
            let before = data.len();
            data.resize(before + size as usize, 0);
            self.file.seek(SeekFrom::Start(start))?;
            self.file.read_exact(&mut data[before..])?;
        }
        if data.is_empty() {
            return Err(damaged(name(), "a part has no data"));
        }
        Ok(data)
    }
}

/// Something in the file, mostly a picture.
#[derive(Default)]
struct Item {
    kind: [u8; 4],
    is_protected: bool,
    /// Start and size of its parts.
    extents: Vec<(u64, u64)>,
    /// Whether its data are in the box `meta`.
    is_inside: bool,
    /// Whether its data are where is not looked.
    is_elsewhere: bool,
    /// Which properties it has, and whether one must be known to show it.
    properties: Vec<(usize, bool)>,
    /// Kind and goal.
    references: Vec<([u8; 4], u32)>,
}

impl Item {
    fn references(&self, kind: &[u8; 4], goal: u32) -> bool {
        self.references.iter().any(|to| to == &(*kind, goal))
    }
}

#[derive(Default)]
struct Meta<'a> {
    primary: u32,
    items: BTreeMap<u32, Item>,
    properties: Vec<([u8; 4], &'a [u8])>,
    inside: Vec<u8>,
}

impl<'a> Meta<'a> {
    fn parse(contents: &'a [u8]) -> ImageResult<Self> {
        let mut meta = Self::default();
        meta.parse_boxes(contents).ok_or_else(broken)?;
        Ok(meta)
    }

    fn parse_boxes(&mut self, contents: &'a [u8]) -> Option<()> {
        let mut has_primary = false;
        for (kind, bytes) in boxes(contents.get(4..)?)? {
            match &kind {
                b"pitm" => {
                    let (version, _, mut rest) = full(bytes)?;
                    self.primary = rest.id(version > 0)?;
                    has_primary = true;
                }
                b"iinf" => self.parse_kinds(bytes)?,
                b"iloc" => self.parse_places(bytes)?,
                b"iref" => {
                    let (version, _, rest) = full(bytes)?;
                    for (kind, bytes) in boxes(rest.0)? {
                        let mut rest = Bytes(bytes);
                        let from = rest.id(version > 0)?;
                        let count = rest.u16()?;
                        for _ in 0..count {
                            let to = rest.id(version > 0)?;
                            self.items
                                .entry(from)
                                .or_default()
                                .references
                                .push((kind, to));
                        }
                    }
                }
                b"iprp" => {
                    for (kind, bytes) in boxes(bytes)? {
                        match &kind {
                            b"ipco" => self.properties = boxes(bytes)?,
                            b"ipma" => self.parse_associations(bytes)?,
                            _ => {}
                        }
                    }
                }
                b"idat" => self.inside = bytes.to_vec(),
                _ => {}
            }
        }
        has_primary.then_some(())
    }

    fn parse_kinds(&mut self, bytes: &[u8]) -> Option<()> {
        let (version, _, mut rest) = full(bytes)?;
        // How many follow, which the boxes tell too.
        rest.id(version > 0)?;
        for (kind, bytes) in boxes(rest.0)? {
            let (version, _, mut rest) = full(bytes)?;
            if &kind != b"infe" || version < 2 {
                continue;
            }
            let item = self.items.entry(rest.id(version > 2)?).or_default();
            item.is_protected = rest.u16()? != 0;
            item.kind = rest.array()?;
        }
        Some(())
    }

    fn parse_places(&mut self, bytes: &[u8]) -> Option<()> {
        let (version, _, mut rest) = full(bytes)?;
        let [sizes, more] = rest.array()?;
        let (of_offset, of_length) = (sizes >> 4, sizes & 15);
        let (of_base, of_index) = (more >> 4, if version > 0 { more & 15 } else { 0 });
        for _ in 0..rest.id(version > 1)? {
            let id = rest.id(version > 1)?;
            let method = if version > 0 { rest.u16()? & 15 } else { 0 };
            let other_file = rest.u16()?;
            let base = rest.number(of_base)?;
            let item = self.items.entry(id).or_default();
            item.is_inside = method == 1;
            item.is_elsewhere = method > 1 || (method == 0 && other_file != 0);
            let count = rest.u16()?;
            // Parts that take no bytes here would let a small file ask for any amount of memory.
            if count > 1 && of_index + of_offset + of_length == 0 {
                return None;
            }
            for _ in 0..count {
                rest.number(of_index)?;
                let start = base.checked_add(rest.number(of_offset)?)?;
                item.extents.push((start, rest.number(of_length)?));
            }
        }
        Some(())
    }

    fn parse_associations(&mut self, bytes: &[u8]) -> Option<()> {
        let (version, flags, mut rest) = full(bytes)?;
        for _ in 0..rest.u32()? {
            let id = rest.id(version > 0)?;
            let [count] = rest.array()?;
            for _ in 0..count {
                let (index, essential) = match flags & 1 {
                    0 => {
                        let [byte] = rest.array()?;
                        (usize::from(byte & 0x7f), byte >> 7 != 0)
                    }
                    _ => {
                        let two = rest.u16()?;
                        (usize::from(two & 0x7fff), two >> 15 != 0)
                    }
                };
                // They are counted from one; zero is none.
                if let Some(index) = index.checked_sub(1) {
                    let item = self.items.entry(id).or_default();
                    item.properties.push((index, essential));
                }
            }
        }
        Some(())
    }

    fn item(&self, id: u32) -> ImageResult<&Item> {
        self.items.get(&id).ok_or_else(broken)
    }

    /// Kind, contents and whether it must be known.
    fn properties(&self, item: &Item) -> impl Iterator<Item = ([u8; 4], &'a [u8], bool)> {
        let properties = item.properties.iter();
        properties.filter_map(|&(index, essential)| {
            let &(kind, bytes) = self.properties.get(index)?;
            Some((kind, bytes, essential))
        })
    }

    fn is_alpha(&self, item: &Item) -> ImageResult<bool> {
        for (kind, bytes, _) in self.properties(item) {
            if &kind == b"auxC" {
                let (_, _, rest) = full(bytes).ok_or_else(broken)?;
                let urn = rest.0.split(|&byte| byte == 0).next().unwrap_or_default();
                return Ok(urn == b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha"
                    || urn == b"urn:mpeg:hevc:2015:auxid:1");
            }
        }
        Ok(false)
    }

    /// Width and height.
    fn size(&self, item: &Item) -> ImageResult<(u32, u32)> {
        let size = self.properties(item).find(|(kind, ..)| kind == b"ispe");
        let read = |bytes| {
            let (_, _, mut rest) = full(bytes)?;
            Some((rest.u32()?, rest.u32()?))
        };
        let (width, height) = size
            .and_then(|(_, bytes, _)| read(bytes))
            .ok_or_else(broken)?;
        if width == 0 || height == 0 {
            return Err(broken());
        }
        Ok((width, height))
    }

    /// The compressed data of a picture or of the tiles that it is made of.
    fn coded<R: BufRead + Seek>(&self, item: &Item, source: &mut Source<R>) -> ImageResult<Coded> {
        let (width, height) = self.size(item)?;
        self.check_known(item, true)?;
        match &item.kind {
            b"av01" => Ok(Coded {
                width,
                height,
                tiles: vec![source.read(item)?],
                columns: 1,
                is_grid: false,
            }),
            b"grid" => self.grid(item, source),
            _ => Err(unsupported(name(), "a picture that is made of others")),
        }
    }

    fn grid<R: BufRead + Seek>(&self, item: &Item, source: &mut Source<R>) -> ImageResult<Coded> {
        let data = source.read(item)?;
        let read = || {
            let mut rest = Bytes(&data);
            let [version, flags, rows, columns] = rest.array()?;
            let mut side = || match flags & 1 {
                0 => rest.u16().map(u32::from),
                _ => rest.u32(),
            };
            let size = (side()?, side()?);
            (version == 0).then_some((u32::from(rows) + 1, u32::from(columns) + 1, size))
        };
        let (rows, columns, (width, height)) = read().ok_or_else(broken)?;
        let parts = item.references.iter().filter(|(kind, _)| kind == b"dimg");
        let mut tiles = Vec::new();
        let mut tile_size = None;
        for &(_, id) in parts {
            let tile = self.item(id)?;
            self.check_known(tile, false)?;
            let size = self.size(tile)?;
            if &tile.kind != b"av01" || *tile_size.get_or_insert(size) != size {
                return Err(unsupported(name(), "tiles of different kinds"));
            }
            tiles.push(source.read(tile)?);
        }
        let (tile_width, tile_height) = tile_size.ok_or_else(broken)?;
        // As many tiles as it takes to cover the picture.
        let fits = width.div_ceil(tile_width) == columns && height.div_ceil(tile_height) == rows;
        if !fits || tiles.len() as u64 != u64::from(rows) * u64::from(columns) {
            return Err(broken());
        }
        Ok(Coded {
            width,
            height,
            tiles,
            columns,
            is_grid: true,
        })
    }

    /// That what must be known of an item to show it is known here. A part of another is not turned or
    /// cropped itself.
    fn check_known(&self, item: &Item, whole: bool) -> ImageResult<()> {
        if item.is_protected {
            return Err(unsupported(name(), "an encrypted picture"));
        }
        if item.is_elsewhere {
            return Err(unsupported(name(), "data in another file"));
        }
        for (kind, bytes, essential) in self.properties(item) {
            let known = match &kind {
                b"irot" | b"imir" | b"clap" => whole,
                b"ispe" | b"pixi" | b"av1C" | b"colr" | b"auxC" | b"pasp" | b"a1lx" => true,
                // The first operating point, and all layers.
                b"a1op" => bytes == [0],
                b"lsel" => bytes == [0xff, 0xff],
                _ => !essential,
            };
            if !known {
                let kind = String::from_utf8_lossy(&kind);
                return Err(unsupported(name(), &format!("the property {kind}")));
            }
        }
        Ok(())
    }

    /// The meaning of colours, and how the picture is shown.
    fn describe(&self, item: &Item, still: &mut Still) -> ImageResult<()> {
        let (mut turns, mut mirrored) = (0u8, false);
        for (kind, bytes, _) in self.properties(item) {
            let mut rest = Bytes(bytes);
            match &kind {
                b"colr" => match rest.array().as_ref() {
                    Some(b"nclx") => {
                        let points = rest.code_points().ok_or_else(broken)?;
                        still.code_points = Some(points);
                    }
                    Some(b"prof" | b"rICC") => still.icc = Some(rest.0.to_vec()),
                    _ => {}
                },
                b"clap" => {
                    let size = (still.color.width, still.color.height);
                    let crop = rest.crop(size).filter(|_| turns == 0 && !mirrored);
                    let crop = crop.ok_or_else(|| unsupported(name(), "such a crop"))?;
                    still.crop = Some(crop);
                }
                b"irot" => {
                    // Quarters, anticlockwise.
                    let [byte] = rest.array().ok_or_else(broken)?;
                    let more = if mirrored { 4 - (byte & 3) } else { byte & 3 };
                    turns = (turns + more) & 3;
                }
                b"imir" => {
                    // 0 exchanges top and bottom: left and right, and a half turn.
                    let [axis] = rest.array().ok_or_else(broken)?;
                    turns = (turns + if axis & 1 == 0 { 2 } else { 0 }) & 3;
                    mirrored = !mirrored;
                }
                _ => {}
            }
        }
        // Turned first, then mirrored; clockwise by their names.
        still.orientation = match (turns, mirrored) {
            (0, false) => Orientation::NoTransforms,
            (1, false) => Orientation::Rotate270,
            (2, false) => Orientation::Rotate180,
            (_, false) => Orientation::Rotate90,
            (0, true) => Orientation::FlipHorizontal,
            (1, true) => Orientation::Rotate270FlipH,
            (2, true) => Orientation::FlipVertical,
            (_, true) => Orientation::Rotate90FlipH,
        };
        Ok(())
    }
}

/// The boxes that others are made of: kind and contents.
fn boxes(mut bytes: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let mut rest = Bytes(bytes);
        let size = rest.u32()?;
        let kind = rest.array()?;
        let size = match size {
            0 => bytes.len(),
            1 => usize::try_from(rest.number(8)?).ok()?,
            size => size as usize,
        };
        let before = bytes.len() - rest.0.len();
        found.push((kind, bytes.get(before..size)?));
        bytes = &bytes[size..];
    }
    Some(found)
}

/// Version, flags and contents of a box that begins with them.
fn full(bytes: &[u8]) -> Option<(u8, u32, Bytes<'_>)> {
    let mut rest = Bytes(bytes);
    let [version, a, b, c] = rest.array()?;
    Some((version, u32::from_be_bytes([0, a, b, c]), rest))
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Of 32 bits, or of 16.
    fn id(&mut self, large: bool) -> Option<u32> {
        match large {
            true => self.u32(),
            false => self.u16().map(u32::from),
        }
    }

    /// Of so many bytes.
    fn number(&mut self, size: u8) -> Option<u64> {
        match size {
            0 => Some(0),
            4 => self.u32().map(u64::from),
            8 => self.array().map(u64::from_be_bytes),
            _ => None,
        }
    }

    fn code_points(&mut self) -> Option<CodePoints> {
        let (primaries, transfer, matrix) = (self.u16()?, self.u16()?, self.u16()?);
        let [range] = self.array()?;
        Some(CodePoints {
            primaries,
            transfer,
            matrix,
            full_range: range >> 7 != 0,
        })
    }

    /// A part of whole pixels within a picture of this size. Fractions give its size and how far its
    /// middle is from that of the picture.
    fn crop(&mut self, (width, height): (u32, u32)) -> Option<[u32; 4]> {
        let mut fraction = || {
            let (over, under) = (self.u32()?, self.u32()?);
            Some((i64::from(over.cast_signed()), i64::from(under)))
        };
        let sides = [fraction()?, fraction()?];
        let shifts = [fraction()?, fraction()?];
        let mut part = [0; 4];
        for (index, whole) in [width, height].into_iter().enumerate() {
            let whole_number = |(over, under)| {
                let divides = under > 0 && over % under == 0;
                divides.then(|| over / under)
            };
            let side = whole_number(sides[index])?;
            let (over, under) = shifts[index];
            // Twice the start, which a middle between two pixels makes even.
            let shift = whole_number((over.checked_mul(2)?, under))?;
            let start = i64::from(whole) - side + shift;
            if start % 2 != 0 || start < 0 || side < 1 || start / 2 + side > i64::from(whole) {
                return None;
            }
            part[index] = u32::try_from(start / 2).ok()?;
            part[index + 2] = u32::try_from(side).ok()?;
        }
        Some(part)
    }
}
