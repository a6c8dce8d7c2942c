//! Weights in the safetensors format.
//!
//! The table of contents is read here by itself, so that it is bounded, so that a name that occurs
//! twice is refused rather than the later one taken, and so that it can be read before the rest of
//! the file has arrived.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use safetensors::Dtype as Stored;
use safetensors::tensor::Metadata;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

#[cfg(feature = "pretrained")]
use super::find;
use super::metadata;
use super::source::NormalizationSource;
use super::tensor::{Contents, Dtype, Listed, NamedTensor, ParsedFile};

/// Longest table of contents that is read, in bytes. VGG19's is under 10 kB.
pub(crate) const MAX_HEADER: u64 = 1 << 20;

/// The table of contents at the start of a file, and where the values begin.
pub(crate) struct Header {
    pub table: Metadata,
    /// Bytes before the first value.
    pub length: u64,
}

impl Header {
    /// Whether a file that begins with these bytes is one in this format.
    pub fn begins(start: &[u8]) -> bool {
        // The length of the table of contents, then JSON.
        matches!(start, [_, _, _, _, _, 0, 0, 0, b'{', ..])
    }

    /// Bytes of the table of contents with the eight that state its length, once these are there.
    ///
    /// # Errors
    /// If the file states a length that no file of weights has.
    pub fn length(start: &[u8]) -> Result<Option<u64>, String> {
        let Some(&stated) = start.first_chunk() else {
            return Ok(None);
        };
        match u64::from_le_bytes(stated) {
            length @ 2..=MAX_HEADER => Ok(Some(8 + length)),
            length => Err(format!(
                "damaged safetensors file: its table of contents would be {length} bytes long; \
                 get it again"
            )),
        }
    }

    /// Reads the table of contents from the start of a file.
    ///
    /// # Errors
    /// If it is incomplete, damaged, or leaves it open where a tensor lies.
    pub fn read(start: &[u8]) -> Result<Self, String> {
        let incomplete = || "incomplete safetensors file; get it again".to_string();
        let length = Self::length(start)?.ok_or_else(incomplete)?;
        let json = start.get(8..length as usize).ok_or_else(incomplete)?;
        let damaged = |error| format!("damaged safetensors file ({error}); get it again");
        serde_json::from_slice::<DistinctKeys>(json).map_err(damaged)?;
        let table = serde_json::from_slice(json).map_err(damaged)?;
        Ok(Self { table, length })
    }

    /// Reads the table of contents of a file that is here from its first byte to its last.
    ///
    /// # Errors
    /// As [`Header::read`], and if the file has another length than its tensors need.
    pub fn of_whole_file(bytes: &[u8]) -> Result<Self, String> {
        let header = Self::read(bytes)?;
        let (found, expected) = (bytes.len(), header.file_length());
        match found as u64 == expected {
            true => Ok(header),
            false => Err(format!(
                "incomplete safetensors file: it has {found} bytes, expected {expected}; \
                 get it again"
            )),
        }
    }

    /// Where the tensor lies in the file.
    pub fn place(&self, name: &str) -> Option<Range<u64>> {
        let (start, end) = self.table.info(name)?.data_offsets;
        let place = |offset: usize| self.length.saturating_add(offset as u64);
        Some(place(start)..place(end))
    }

    /// Length of the whole file in bytes.
    pub fn file_length(&self) -> u64 {
        self.length.saturating_add(self.table.data_len() as u64)
    }

    /// The tensors, with the bytes that `data` returns for each place in the file. Tensors for
    /// which it has no bytes are left out.
    pub fn parse(&self, data: impl Fn(Range<u64>) -> Option<Bytes>) -> ParsedFile {
        let mut listed = Vec::new();
        for (name, info) in self.table.tensors() {
            let Some(data) = self.place(&name).and_then(&data) else {
                continue;
            };
            let dtype = match info.dtype {
                Stored::F16 => Ok(Dtype::F16),
                Stored::BF16 => Ok(Dtype::Bf16),
                Stored::F32 => Ok(Dtype::F32),
                Stored::F64 => Ok(Dtype::F64),
                // Of no concern unless it is a kernel.
                other => Err(format!(
                    "`{name}` holds values of type {other}, expected 16, 32 or 64 bits of floating \
                     point"
                )),
            };
            listed.push(Listed {
                shape: info.shape.clone(),
                tensor: dtype.map(|dtype| NamedTensor {
                    name: name.clone(),
                    shape: info.shape.clone(),
                    strides: None,
                    dtype,
                    data,
                }),
                name,
            });
        }
        let entries = self.table.metadata().as_ref();
        let normalization = metadata::read(|key| Some(entries?.get(key)?.as_str()));
        ParsedFile {
            contents: Contents::Tensors(listed),
            normalization: normalization.map(|stated| (stated, NormalizationSource::File)),
        }
    }

    /// The places in the file of the first `depth` convolutions' tensors.
    ///
    /// # Errors
    /// If VGG19's tensors are not there, with what is.
    #[cfg(feature = "pretrained")]
    pub fn first_convolutions(&self, depth: usize) -> Result<Vec<Range<u64>>, String> {
        let tensors = self.table.tensors();
        let named: Vec<_> = tensors
            .iter()
            .map(|(name, info)| (name.as_str(), &info.shape[..]))
            .collect();
        let places = find::locate(&named, |_, _| false)?;
        let pairs = places.weights.iter().zip(&places.biases).take(depth);
        let names = pairs.flat_map(|(&weight, &bias)| [named[weight].0, named[bias].0]);
        Ok(names.filter_map(|name| self.place(name)).collect())
    }
}

/// A JSON object, read only to see that no key occurs twice in it, nor in its metadata.
struct DistinctKeys;

impl<'de> Deserialize<'de> for DistinctKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for DistinctKeys {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                map.next_value::<Option<DistinctKeys>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("`{key}` occurs twice")));
            }
            seen.insert(key);
        }
        Ok(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::weights::tensor::tests::{assert_views, number};
    use proptest::prelude::*;
    use proptest::sample::select;

    /// A safetensors file with a made-up table of contents.
    pub fn table() -> impl Strategy<Value = Vec<u8>> {
        let name = select(vec![
            "features.0.weight",
            "features.0.bias",
            "features.2.weight",
            "features.2.bias",
            "readout.0.weight",
            "head.weight",
            "__metadata__",
            "",
        ]);
        let dtype = select(vec!["F32", "F16", "BF16", "F64", "I8", "F4", "none"]);
        let size = prop_oneof![select(vec![0u64, 1, 3, 4, 64, 108, 432]), number()];
        let entry = (
            name,
            dtype,
            prop::collection::vec(size.clone(), 0..6),
            size.clone(),
            size,
        );
        let entries = prop::collection::vec(entry, 0..8);
        (entries, prop::option::weighted(0.2, number()), 0usize..2000).prop_map(
            |(entries, length, rest)| {
                let entries = entries.iter().map(|(name, dtype, shape, start, end)| {
                    format!(
                        "\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\
                         \"data_offsets\":[{start},{end}]}}"
                    )
                });
                let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
                let length = length.unwrap_or(json.len() as u64);
                [&length.to_le_bytes()[..], json.as_bytes(), &vec![0; rest]].concat()
            },
        )
    }

    proptest! {
        /// Every tensor of a table that is accepted lies in the file, and is as long as its shape.
        #[test]
        fn accepted_tables_stay_in_their_file(bytes in table()) {
            let _ = Header::length(&bytes);
            if let Ok(header) = Header::of_whole_file(&bytes) {
                let bytes = Bytes::from(bytes);
                let slice = |r: Range<u64>| Some(bytes.slice(r.start as usize..r.end as usize));
                let Contents::Tensors(listed) = header.parse(slice).contents else {
                    unreachable!("a table has no graph");
                };
                assert_views(&listed, bytes.len());
            }
        }
    }

    #[test]
    fn sizes_at_the_end_of_all_numbers_do_not_overflow() {
        // Eight tensors of nearly 2⁶¹ bytes, the most that the table may state.
        let count = (1u64 << 58) - 1;
        let entries = (0..8).map(|i| {
            let (start, end) = (8 * count * i, 8 * count * (i + 1));
            format!(
                "\"features.{i}.weight\":{{\"dtype\":\"F64\",\"shape\":[{count}],\
                 \"data_offsets\":[{start},{end}]}}"
            )
        });
        let json = format!("{{{}}}", entries.collect::<Vec<_>>().join(","));
        let bytes = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
        let header = Header::read(&bytes).unwrap();
        assert_eq!(header.file_length(), u64::MAX);
        assert_eq!(header.place("features.7.weight").unwrap().end, u64::MAX);
        assert!(Header::of_whole_file(&bytes).is_err());
    }
}
