//! The directories of TIFF files and EXIF blocks.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};

/// One directory: for each tag its type, its count and its four bytes, which are the value or where it
/// is.
pub(super) struct Directory {
    little_endian: bool,
    entries: BTreeMap<u16, (u16, u32, [u8; 4])>,
}

pub(super) mod tag {
    pub const NEW_SUBFILE_TYPE: u16 = 254;
    pub const PHOTOMETRIC: u16 = 262;
    pub const SUB_IFDS: u16 = 330;
    pub const EXIF_IFD: u16 = 34_665;
    pub const INTEROPERABILITY_IFD: u16 = 40_965;
    pub const DNG_VERSION: u16 = 50_706;
}

/// The tag of the interoperability directory that names the rule a file follows.
const INTEROPERABILITY_INDEX: u16 = 1;

impl Directory {
    /// The first directory of a classic TIFF file, if it is one.
    pub(super) fn first(file: &mut (impl Read + Seek)) -> Option<Self> {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(0)).ok()?;
        file.read_exact(&mut head).ok()?;
        let little_endian = match &head[..4] {
            b"II*\0" => true,
            b"MM\0*" => false,
            _ => return None,
        };
        let place = [head[4], head[5], head[6], head[7]];
        Self::at(file, u32_of(place, little_endian), little_endian)
    }

    /// The directories whose places a tag of this one holds, if they are few.
    pub(super) fn children(&self, file: &mut (impl Read + Seek), tag: u16) -> Vec<Self> {
        let Some(&(_, count, bytes)) = self.entries.get(&tag) else {
            return Vec::new();
        };
        let first = u32_of(bytes, self.little_endian);
        let mut places = vec![first];
        if count > 1 {
            let mut list = [0; 4 * 8];
            let list = &mut list[..4 * count.min(8) as usize];
            let read = file.seek(SeekFrom::Start(first.into()));
            if read.and_then(|_| file.read_exact(list)).is_err() {
                return Vec::new();
            }
            let numbers = list.as_chunks::<4>().0.iter();
            places = numbers.map(|&n| u32_of(n, self.little_endian)).collect();
        }
        let read = |place| Self::at(file, place, self.little_endian);
        places.into_iter().filter_map(read).collect()
    }

    fn at(file: &mut (impl Read + Seek), place: u32, little_endian: bool) -> Option<Self> {
        file.seek(SeekFrom::Start(place.into())).ok()?;
        let mut count = [0; 2];
        file.read_exact(&mut count).ok()?;
        let u16_of = |bytes: [u8; 2]| match little_endian {
            true => u16::from_le_bytes(bytes),
            false => u16::from_be_bytes(bytes),
        };
        let mut entries = BTreeMap::new();
        for _ in 0..u16_of(count) {
            let mut entry = [0; 12];
            if file.read_exact(&mut entry).is_err() {
                break;
            }
            let [a, b, c, d, e, f, g, h, value @ ..] = entry;
            let count = u32_of([e, f, g, h], little_endian);
            entries.insert(u16_of([a, b]), (u16_of([c, d]), count, value));
        }
        Some(Self {
            little_endian,
            entries,
        })
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entries.contains_key(&tag)
    }

    /// The number of a tag, the first one if it has two of 16 bits.
    pub(super) fn number(&self, tag: u16) -> Option<u32> {
        let &(kind, _, bytes) = self.entries.get(&tag)?;
        let [a, b, ..] = bytes;
        match (kind, self.little_endian) {
            (3, true) => Some(u16::from_le_bytes([a, b]).into()),
            (3, false) => Some(u16::from_be_bytes([a, b]).into()),
            (4, little_endian) => Some(u32_of(bytes, little_endian)),
            _ => None,
        }
    }
}

/// Whether an EXIF block says that its picture is in Adobe RGB, as cameras do without a profile ("R03",
/// the DCF optional colour space).
pub(super) fn is_adobe_rgb(exif: &mut (impl Read + Seek)) -> bool {
    let Some(first) = Directory::first(exif) else {
        return false;
    };
    let inner = first.children(exif, tag::EXIF_IFD);
    inner.iter().any(|inner| {
        let rules = inner.children(exif, tag::INTEROPERABILITY_IFD);
        let index = |rules: &Directory| rules.entries.get(&INTEROPERABILITY_INDEX).copied();
        rules
            .iter()
            .filter_map(index)
            .any(|(_, _, name)| &name[..3] == b"R03")
    })
}

fn u32_of(bytes: [u8; 4], little_endian: bool) -> u32 {
    match little_endian {
        true => u32::from_le_bytes(bytes),
        false => u32::from_be_bytes(bytes),
    }
}
