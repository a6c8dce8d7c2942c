//! The common ground of all file formats: named tensors that point into the file's bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use half::{bf16, f16};

use super::WeightsError;
use crate::normalization::Normalization;

/// Largest file that is unpacked into memory: the whole of VGG19 with its classifier is 575 MB.
const MAX_UNPACKED: u64 = 1 << 30;

/// Element types that weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dtype {
    F16,
    Bf16,
    F32,
    F64,
}

impl Dtype {
    /// Bytes of a value.
    pub(super) fn size(self) -> usize {
        match self {
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 => 8,
        }
    }
}

/// A tensor in row-major order whose little-endian bytes lie in the file.
#[derive(Clone, Debug)]
pub(crate) struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    pub data: Bytes,
}

impl NamedTensor {
    /// All values, as f32.
    pub fn values(&self) -> Vec<f32> {
        fn read<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks()
                .0
                .iter()
                .map(|&bytes| value(bytes))
                .collect()
        }
        match self.dtype {
            Dtype::F16 => read(&self.data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => read(&self.data, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F32 => read(&self.data, f32::from_le_bytes),
            Dtype::F64 => read(&self.data, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

/// A kernel and its bias.
pub(crate) struct Pair {
    pub weight: NamedTensor,
    pub bias: Option<NamedTensor>,
}

/// What a file holds: convolutions from first to last, read-outs of a slim encoder, and the
/// normalisation if the file states it.
pub(crate) struct Source {
    pub convolutions: Vec<Pair>,
    pub readouts: Vec<NamedTensor>,
    pub normalization: Option<Normalization>,
}

/// Positions of the convolutions in torchvision's `features`, which counts ReLUs and pools too.
pub(super) const TORCHVISION_INDICES: [usize; 16] =
    [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34];

impl Source {
    /// Maps a file into memory and reads its table of contents.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let io = |source| WeightsError::Io {
            path: path.into(),
            source,
        };
        let mut file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.is_dir() {
            return Err(io(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
        }
        let mut magic = [0; 2];
        let compressed = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        let bytes = if compressed {
            unpack(path).map_err(io)?
        } else {
            // SAFETY: the map is read-only and private. Should another process cut the file short
            // while it is read, the operating system ends this one (SIGBUS) rather than letting it
            // read other memory; that is the usual price of mapping, paid to load 575 MB at once.
            let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io)?;
            Bytes::from_owner(map)
        };
        Self::parse(bytes, path)
    }

    /// Reads a table of contents, telling the format from the first bytes.
    pub fn parse(bytes: Bytes, path: &Path) -> Result<Self, WeightsError> {
        let format = |problem| WeightsError::Format {
            path: path.into(),
            problem,
        };
        match Kind::of(&bytes) {
            Some(Kind::Safetensors) => super::safetensors::read(&bytes).map_err(format),
            #[cfg(feature = "onnx")]
            Some(Kind::Onnx) => super::onnx::read(bytes, path).map_err(format),
            #[cfg(feature = "pytorch")]
            Some(Kind::Pytorch) => super::pytorch::read(bytes).map_err(format),
            #[cfg(not(feature = "onnx"))]
            Some(Kind::Onnx) => Err(WeightsError::FeatureMissing {
                path: path.into(),
                kind: "an ONNX model",
                feature: "onnx",
            }),
            #[cfg(not(feature = "pytorch"))]
            Some(Kind::Pytorch) => Err(WeightsError::FeatureMissing {
                path: path.into(),
                kind: "a PyTorch file",
                feature: "pytorch",
            }),
            None if bytes.is_empty() => Err(format("the file is empty".into())),
            None => Err(format(
                "this is no file of weights: expected ONNX, safetensors or a PyTorch state \
                 dictionary"
                    .into(),
            )),
        }
    }

    /// Picks the convolutions out of tensors with torchvision's names; others are ignored.
    pub fn from_names(mut tensors: BTreeMap<String, NamedTensor>) -> Result<Self, String> {
        let mut convolutions = Vec::new();
        for index in TORCHVISION_INDICES {
            let Some(weight) = tensors.remove(&format!("features.{index}.weight")) else {
                break;
            };
            let bias = tensors.remove(&format!("features.{index}.bias"));
            if bias.is_none() {
                return Err(format!("`features.{index}.bias` is missing"));
            }
            convolutions.push(Pair { weight, bias });
        }
        // VGG16 has other indices, VGG with batch normalisation too: what is left tells.
        if let Some(name) = tensors.keys().find(|name| name.starts_with("features.")) {
            return Err(format!(
                "found `{name}`, but the convolutions of torchvision's VGG19 are features.0, 2, \
                 5, 7, 10, …, 34 and here they end after {}; is it another network?",
                convolutions.len()
            ));
        }
        if convolutions.is_empty() {
            return Err(match tensors.keys().next() {
                Some(name) => format!(
                    "found tensors such as `{name}`, expected torchvision's names \
                     (`features.0.weight` …)"
                ),
                None => "it holds no tensors".to_string(),
            });
        }
        let readouts = (0..16)
            .map_while(|index| tensors.remove(&format!("readout.{index}.weight")))
            .collect();
        Ok(Self {
            convolutions,
            readouts,
            normalization: None,
        })
    }
}

/// Kinds of files, told apart by how they begin.
enum Kind {
    Safetensors,
    Onnx,
    Pytorch,
}

impl Kind {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            // A zip archive, or the first pickle of the older format (protocol 2).
            [b'P', b'K', 3, 4, ..] | [0x80, 2, 0x8a, 10, ..] => Some(Kind::Pytorch),
            // The length of the header, then JSON.
            [_, _, _, _, _, 0, 0, 0, b'{', ..] => Some(Kind::Safetensors),
            // Field 1 of the protobuf, `ir_version`, a small number.
            [0x08, 1..=0x7f, ..] => Some(Kind::Onnx),
            _ => None,
        }
    }
}

/// The contents of a gzip file.
fn unpack(path: &Path) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    let decoder = flate2::read::MultiGzDecoder::new(File::open(path)?);
    decoder.take(MAX_UNPACKED + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_UNPACKED {
        return Err(std::io::Error::other("it unpacks to more than 1 GiB"));
    }
    Ok(bytes.into())
}

/// A normalisation as written in a file's metadata, if it is complete.
///
/// `normalization.mean` and `normalization.std` are three numbers in the order R, G, B, in units of
/// `input.range` (`0-255` or `0-1`); `input.channels` is `RGB` or `BGR`.
pub(super) fn normalization_from<'a>(
    metadata: impl Fn(&str) -> Option<&'a str>,
) -> Option<Normalization> {
    let triple = |key| -> Option<[f32; 3]> {
        let numbers: Vec<f32> = metadata(key)?
            .split(|c: char| !(c.is_ascii_alphanumeric() || ".-+".contains(c)))
            .filter(|word| !word.is_empty())
            .map(|word| word.parse().ok().filter(|number: &f32| number.is_finite()))
            .collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let mean = triple("normalization.mean")?;
    let std = triple("normalization.std")?;
    if std.iter().any(|&std| std <= 0.0) {
        return None;
    }
    let range = match metadata("input.range") {
        Some(range) if range.contains("255") => 255.0,
        Some(_) => 1.0,
        None if mean.iter().all(|&mean| mean <= 1.0) => 1.0,
        None => 255.0,
    };
    Some(Normalization {
        range,
        mean,
        std,
        bgr: metadata("input.channels").is_some_and(|order| order.eq_ignore_ascii_case("bgr")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn element_types_convert_to_f32() {
        let tensor = |dtype, data: Vec<u8>| NamedTensor {
            name: String::new(),
            shape: vec![1],
            dtype,
            data: data.into(),
        };
        let values = |dtype, data| tensor(dtype, data).values();
        assert_eq!(values(Dtype::F32, 1.5f32.to_le_bytes().into()), [1.5]);
        assert_eq!(values(Dtype::F64, (-2.5f64).to_le_bytes().into()), [-2.5]);
        assert_eq!(values(Dtype::F16, vec![0x00, 0x3e]), [1.5]);
        assert_eq!(values(Dtype::Bf16, vec![0xc0, 0x3f]), [1.5]);
    }

    #[test]
    fn metadata_states_the_normalisation() {
        let caffe = |key: &str| match key {
            "normalization.mean" => Some("[123.68, 116.779, 103.939]"),
            "normalization.std" => Some("1,1,1"),
            "input.range" => Some("0-255"),
            _ => None,
        };
        assert_eq!(normalization_from(caffe), Some(Normalization::CAFFE));
        assert_eq!(normalization_from(|_| None), None);
        assert_eq!(normalization_from(|_| Some("1,nan,2")), None);
        assert_eq!(normalization_from(|_| Some("0,0,0")), None);
    }
}
