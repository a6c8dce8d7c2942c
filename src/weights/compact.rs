//! The crate's own file of weights: plain safetensors with torchvision's names, in half precision,
//! with the normalisation and the sum of its contents in the metadata.
//!
//! Half precision halves the file, and VGG19's weights lie well inside its range. Every later load
//! compares the contents with the sum.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use half::f16;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::WeightsError;
use super::safetensors::{Header, MAX_HEADER};
use super::source::NormalizationSource;
use super::vgg19::Vgg19Weights;
use super::{metadata, names, training};
use crate::normalization::Normalization;

/// Name of the metadata's entry that holds the sum.
const SUM: &str = "sha256";

/// How the values of a compact file are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// 16 bits: 40 MB for VGG19, with eleven significant bits in each value.
    #[default]
    F16,
    /// 32 bits: 80 MB for VGG19, the values as they are.
    F32,
}

impl Precision {
    fn name(self) -> &'static str {
        match self {
            Precision::F16 => "F16",
            Precision::F32 => "F32",
        }
    }

    fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Precision::F16 => {
                let halves = values.iter().map(|&value| f16::from_f32(value));
                halves.flat_map(|half| half.to_le_bytes()).collect()
            }
            Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

impl Vgg19Weights {
    /// Writes a compact file, whole or not at all: safetensors with torchvision's names, the
    /// normalisation in its metadata (unless it was only guessed), and a SHA-256 that [`Vgg19Weights::load`] checks. The same
    /// weights give the same bytes.
    ///
    /// # Errors
    /// [`WeightsError::Save`] if the file cannot be written; [`WeightsError::Unsaveable`] for slim
    /// networks with projections, and for values that 16 bits cannot hold.
    pub fn save(&self, path: impl AsRef<Path>, precision: Precision) -> Result<(), WeightsError> {
        self.save_from(path.as_ref(), precision, None)
    }

    /// Writes a compact file that says where its values are from.
    pub(crate) fn save_from(
        &self,
        path: &Path,
        precision: Precision,
        source: Option<&str>,
    ) -> Result<(), WeightsError> {
        let unsaveable = |problem| WeightsError::Unsaveable {
            path: path.into(),
            problem,
        };
        if !self.projections.is_empty() {
            return Err(unsaveable(
                "a slim encoder with projections has no compact form; save VGG19's weights".into(),
            ));
        }
        if let Some(problem) = self.out_of_range(precision) {
            return Err(unsaveable(problem));
        }

        let mut entries = metadata::write(&self.normalization);
        if self.is_guessed() {
            // To be guessed again by every load, and said.
            entries.clear();
        } else if metadata::read(|key| Some(entries.get(key)?)) != Some(self.normalization) {
            return Err(unsaveable(format!(
                "the normalisation ({}) cannot be stated in a file: the range must be 1 or 255, \
                 and the deviations greater than 0",
                metadata::describe(&self.normalization)
            )));
        }
        if let Some(source) = source {
            entries.insert("source".into(), source.into());
        }
        let mut sum = Sum::new(entries.iter());
        let mut table: BTreeMap<String, Value> = BTreeMap::new();
        let mut tensors: Vec<&[f32]> = Vec::new();
        let mut place = 0;
        for (index, layer) in self.convolutions.iter().enumerate() {
            let bias = layer.bias.as_deref().unwrap_or_default();
            for (name, shape, values) in [
                (names::weight(index), &layer.shape[..], &layer.weight[..]),
                (names::bias(index), &layer.shape[..1], bias),
            ] {
                let bytes = precision.encode(values);
                let end = place + bytes.len();
                sum.tensor(&name, precision.name(), shape, &bytes);
                let entry = json!({
                    "dtype": precision.name(), "shape": shape, "data_offsets": [place, end],
                });
                table.insert(name, entry);
                tensors.push(values);
                place = end;
            }
        }
        entries.insert(SUM.into(), sum.finish());
        table.insert("__metadata__".into(), json!(entries));

        crate::atomic::write(path, |file| -> std::io::Result<()> {
            let mut header = serde_json::to_vec(&table)?;
            // The values begin at a multiple of eight bytes.
            header.resize(header.len().next_multiple_of(8), b' ');
            file.write_all(&(header.len() as u64).to_le_bytes())?;
            file.write_all(&header)?;
            for values in tensors {
                file.write_all(&precision.encode(values))?;
            }
            Ok(())
        })
        .map_err(|source| WeightsError::Save {
            path: path.into(),
            source,
        })
    }

    /// Whether the normalisation is only what was guessed for these values.
    fn is_guessed(&self) -> bool {
        let guess = match self.normalization_source {
            NormalizationSource::Assumed => Some(Normalization::TORCHVISION),
            NormalizationSource::NearValues(_) => {
                training::recognize(&self.convolutions).map(|known| known.normalization)
            }
            _ => None,
        };
        guess == Some(self.normalization)
    }

    /// Names a value that would become infinite.
    fn out_of_range(&self, precision: Precision) -> Option<String> {
        if precision == Precision::F32 {
            return None;
        }
        let overflows = |&&value: &&f32| f16::from_f32(value).is_infinite();
        let layers = self.convolutions.iter().zip(names::CONVOLUTIONS);
        let mut values = layers.flat_map(|(layer, index)| {
            let values = layer.weight.iter().chain(layer.bias.iter().flatten());
            values.map(move |value| (value, index))
        });
        let (value, index) = values.find(|(value, _)| overflows(value))?;
        Some(format!(
            "`features.{index}` holds {value}, more than 16 bits can; save it with 32 bits"
        ))
    }
}

/// The SHA-256 of what a file means: its metadata in the order of their keys, then its tensors in
/// the order of the file.
struct Sum(Sha256);

impl Sum {
    fn new<'a>(metadata: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let mut hash = Sha256::new();
        for (key, value) in metadata {
            hash.update(format!("{key}={value}\n"));
        }
        Self(hash)
    }

    fn tensor(&mut self, name: &str, dtype: &str, shape: &[usize], bytes: &[u8]) {
        self.0.update(format!("{name} {dtype} {shape:?}\n"));
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares a file with the sum that its metadata state, if they do.
pub(super) fn check(header: &Header, file: &[u8]) -> Result<(), String> {
    let empty = HashMap::new();
    let mut metadata: BTreeMap<_, _> = header
        .table
        .metadata()
        .as_ref()
        .unwrap_or(&empty)
        .iter()
        .collect();
    let Some(expected) = metadata.remove(&SUM.to_string()) else {
        return Ok(());
    };
    let mut sum = Sum::new(metadata.into_iter());
    for name in header.table.offset_keys() {
        if let (Some(info), Some(place)) = (header.table.info(&name), header.place(&name)) {
            let bytes = &file[place.start as usize..place.end as usize];
            sum.tensor(&name, &info.dtype.to_string(), &info.shape, bytes);
        }
    }
    match sum.finish() == *expected {
        true => Ok(()),
        false => Err("the file is damaged; import or download it again".to_string()),
    }
}

/// What a compact file says of itself.
pub(crate) struct CompactInfo {
    /// How many convolutions it holds.
    pub convolutions: usize,
    pub precision: Precision,
    /// Where its values are from.
    pub source: Option<String>,
}

impl CompactInfo {
    /// Reads the start of a file; `None` if it is no compact file.
    pub fn read(path: &Path) -> Option<Self> {
        let mut start = Vec::new();
        let file = File::open(path).ok()?;
        file.take(8 + MAX_HEADER).read_to_end(&mut start).ok()?;
        Self::parse(&start)
    }

    /// Reads the start of a file; `None` if it is no compact file.
    fn parse(start: &[u8]) -> Option<Self> {
        let table = Header::read(start).ok()?.table;
        let metadata = table.metadata().as_ref()?;
        metadata.get(SUM)?;
        let kernel = |index| table.info(&names::weight(index));
        let kernels: Vec<_> = (0..16).map_while(kernel).collect();
        Some(Self {
            convolutions: kernels.len(),
            precision: match kernels.first()?.dtype {
                safetensors::Dtype::F32 => Precision::F32,
                _ => Precision::F16,
            },
            source: metadata.get("source").cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::layer::Layer;

    /// A compact file and where its values begin.
    static FILE: LazyLock<(Vec<u8>, usize)> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("compact");
        let weights = Vgg19Weights::random(1, 0).until(Layer::RELU2_1);
        weights
            .save_from(&path, Precision::F16, Some("a test"))
            .unwrap();
        let bytes = std::fs::read(path).unwrap();
        let values = Header::read(&bytes).unwrap().length as usize;
        (bytes, values)
    });

    #[test]
    fn a_compact_file_says_what_it_is() {
        let (bytes, values) = &*FILE;
        let info = CompactInfo::parse(&bytes[..*values]).unwrap();
        assert_eq!((info.convolutions, info.precision), (3, Precision::F16));
        assert_eq!(info.source.as_deref(), Some("a test"));
        check(&Header::of_whole_file(bytes).unwrap(), bytes).unwrap();
    }

    proptest! {
        /// A damaged file is never taken for a whole one.
        #[test]
        fn damage_is_noticed(
            place in any::<Index>(), bit in 0u8..8, in_the_values in any::<bool>(),
        ) {
            let (mut bytes, values) = FILE.clone();
            let (from, length) = match in_the_values {
                true => (values, bytes.len() - values),
                false => (0, values),
            };
            bytes[from + place.index(length)] ^= 1 << bit;
            let _ = CompactInfo::parse(&bytes);
            if let Ok(header) = Header::of_whole_file(&bytes) {
                let checked = check(&header, &bytes);
                let is_compact = CompactInfo::parse(&bytes).is_some();
                prop_assert!(checked.is_err() || !in_the_values);
                // What is left of the table may mean the same, as with another space in it.
                let same = Header::read(&FILE.0).unwrap().table.metadata() == header.table.metadata();
                prop_assert!(checked.is_err() || !is_compact || same);
            }
        }
    }
}
