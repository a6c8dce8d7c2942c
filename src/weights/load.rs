//! Files of weights of any kind, from their first byte to [`Vgg19Weights`].

use std::path::Path;

use bytes::Bytes;

use super::assemble::assemble;
use super::error::WeightsError;
use super::file;
use super::safetensors::Header;
use super::tensor::ParsedFile;
use super::vgg19::Vgg19Weights;
use crate::normalization::Normalization;

impl Vgg19Weights {
    /// Reads a file of weights; its contents, not its name, tell of which kind it is.
    ///
    /// - **safetensors** with torchvision's names (`features.0.weight` …), f32, f16, bf16 or f64;
    ///   memory-mapped.
    /// - **ONNX** (feature `onnx`): the convolutions are found by the order of the graph and by
    ///   their shapes, whatever their names; fully connected layers are ignored. Data may lie in a
    ///   second file beside it.
    /// - **PyTorch** `.pth` (feature `pytorch`): a state dictionary in either of its two formats.
    /// - any of these compressed with gzip.
    ///
    /// The first 1 to 16 convolutions may be present; a file that ends early serves the layers
    /// that it reaches. The normalisation is read from the file's metadata (`normalization.mean`,
    /// `normalization.std`, `input.range`, `input.channels`); without metadata it is
    /// [`Normalization::TORCHVISION`], except for the published Caffe file `vgg19-d01eb7cb.pth`,
    /// which is recognised by name. Set the field to decide otherwise.
    ///
    /// # Errors
    /// [`WeightsError`] naming the file, the tensor and what was expected.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        load(path, None)
    }

    /// Reads a file whose normalisation is `assumed` unless it states its own.
    #[cfg(feature = "pretrained")]
    pub(crate) fn load_assuming(
        path: &Path,
        assumed: Option<Normalization>,
    ) -> Result<Self, WeightsError> {
        load(path, assumed)
    }

    /// Weights of a safetensors file of which only parts are here: `data` returns the bytes of a
    /// range of the file. `path` is for messages only.
    #[cfg(feature = "pretrained")]
    pub(crate) fn from_parts(
        header: &Header,
        data: impl Fn(std::ops::Range<u64>) -> Option<Bytes>,
        assumed: Option<Normalization>,
        path: &Path,
    ) -> Result<Self, WeightsError> {
        let parsed = header.parse(data).map_err(|problem| WeightsError::Format {
            path: path.into(),
            problem,
        })?;
        finish(parsed, assumed, path)
    }
}

fn load(path: &Path, assumed: Option<Normalization>) -> Result<Vgg19Weights, WeightsError> {
    let bytes = file::read(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    finish(parse(bytes, path)?, assumed, path)
}

/// Weights out of the bytes of a file; `path` is where they are from.
#[cfg(any(feature = "builtin", test))]
pub(super) fn from_bytes(bytes: Bytes, path: &Path) -> Result<Vgg19Weights, WeightsError> {
    finish(parse(bytes, path)?, None, path)
}

fn finish(
    parsed: ParsedFile,
    assumed: Option<Normalization>,
    path: &Path,
) -> Result<Vgg19Weights, WeightsError> {
    let normalization = match parsed.normalization.or(assumed) {
        Some(normalization) => normalization,
        None if is_published_caffe_file(path) => Normalization::CAFFE_BGR,
        None => Normalization::TORCHVISION,
    };
    assemble(parsed.tensors, normalization, path)
}

/// The conversion of the Caffe weights that neural-style-pt and pystiche distribute carries no
/// metadata, but its published name ends in the start of its SHA-256.
pub(crate) fn is_published_caffe_file(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("vgg19-d01eb7cb"))
}

/// Finds the tensors in a file, whose first bytes tell its format.
fn parse(bytes: Bytes, path: &Path) -> Result<ParsedFile, WeightsError> {
    let format = |problem| WeightsError::Format {
        path: path.into(),
        problem,
    };
    match Format::of(&bytes) {
        Some(Format::Safetensors) => parse_safetensors(&bytes).map_err(format),
        #[cfg(feature = "onnx")]
        Some(Format::Onnx) => super::onnx::parse(bytes, path).map_err(format),
        #[cfg(feature = "pytorch")]
        Some(Format::Pytorch) => super::pytorch::parse(bytes).map_err(format),
        #[cfg(not(feature = "onnx"))]
        Some(Format::Onnx) => Err(WeightsError::FeatureMissing {
            path: path.into(),
            kind: "an ONNX model",
            feature: "onnx",
        }),
        #[cfg(not(feature = "pytorch"))]
        Some(Format::Pytorch) => Err(WeightsError::FeatureMissing {
            path: path.into(),
            kind: "a PyTorch file",
            feature: "pytorch",
        }),
        None if bytes.is_empty() => Err(format("the file is empty".into())),
        None => Err(format(
            "this is no file of weights: expected ONNX, safetensors or a PyTorch state dictionary"
                .into(),
        )),
    }
}

fn parse_safetensors(bytes: &Bytes) -> Result<ParsedFile, String> {
    let header = Header::of_whole_file(bytes)?;
    #[cfg(feature = "pretrained")]
    super::compact::check(&header, bytes)?;
    header.parse(|range| Some(bytes.slice(range.start as usize..range.end as usize)))
}

/// Formats, told apart by how a file begins.
enum Format {
    Safetensors,
    Onnx,
    Pytorch,
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            // A zip archive, or the first pickle of the older format (protocol 2).
            [b'P', b'K', 3, 4, ..] | [0x80, 2, 0x8a, 10, ..] => Some(Format::Pytorch),
            _ if Header::begins(bytes) => Some(Format::Safetensors),
            // Field 1 of the protobuf, `ir_version`, a small number.
            [0x08, 1..=0x7f, ..] => Some(Format::Onnx),
            _ => None,
        }
    }
}
