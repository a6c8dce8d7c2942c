//! Files of weights of any kind, from their first byte to [`Vgg19Weights`].

use std::path::Path;

use bytes::Bytes;

use super::assemble::assemble;
use super::error::WeightsError;
use super::file;
use super::find;
use super::kind::Kind;
use super::safetensors::Header;
use super::source::NormalizationSource;
use super::tensor::{Contents, Listed, ParsedFile};
use super::training;
use super::vgg19::Vgg19Weights;
use crate::normalization::Normalization;

impl Vgg19Weights {
    /// Reads a file of weights; its contents, not its name, tell of which kind it is.
    ///
    /// - **safetensors**; memory-mapped.
    /// - **ONNX** (feature `onnx`): the convolutions are found by the order of the graph and by
    ///   their shapes, whatever their names; fully connected layers are ignored. Data may lie in a
    ///   second file beside it.
    /// - **PyTorch** `.pth` (feature `pytorch`): a state dictionary, a checkpoint that holds one
    ///   anywhere, or a whole module, in either of PyTorch's two formats. Nothing in it is executed.
    /// - any of these compressed with gzip, or alone in a tar or zip archive (feature `archives`).
    ///
    /// Values may be f32, f16, bf16 or f64, in any strides. The convolutions may have torchvision's
    /// names (`features.0.weight` …) behind any prefix, bare positions (`0.weight`), or the layers'
    /// own (`conv1_1.weight`, `block1_conv1/kernel:0`); tensors that VGG19 does not need may be of
    /// any kind. The first 1 to 16 convolutions may be present; a file that ends early serves the
    /// layers that it reaches.
    ///
    /// The normalisation is what the file states, in its metadata (`normalization.mean`,
    /// `normalization.std`, `input.range`, `input.channels`), in tensors named `mean` and `std`, or by
    /// what an ONNX model computes before its first convolution; else that of the training whose
    /// values these are; else [`Normalization::TORCHVISION`] is assumed.
    /// [`Vgg19Weights::normalization_source`] says which it was, and
    /// [`Vgg19Weights::with_normalization`] decides otherwise.
    ///
    /// # Errors
    /// [`WeightsError`] naming the file, the tensor and what was expected, or the other network or
    /// kind of file that it is.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        load(path, None)
    }

    /// [`Vgg19Weights::load`] for the bytes of a file that is in memory; errors name it as `name`. An ONNX
    /// model must have its data within.
    ///
    /// # Errors
    /// See [`Vgg19Weights::load`].
    pub fn from_bytes(
        bytes: impl Into<Bytes>,
        name: impl AsRef<Path>,
    ) -> Result<Self, WeightsError> {
        let (mut bytes, name) = (bytes.into(), name.as_ref());
        if file::is_gzip(&bytes) {
            bytes = file::unpack_gzip(&bytes[..]).map_err(|source| WeightsError::Io {
                path: name.into(),
                source,
            })?;
        }
        finish(parse(bytes, name, Place::Memory)?, None, name)
    }

    /// Reads a file whose publisher states a normalisation, in case that the file does not tell.
    #[cfg(feature = "pretrained")]
    pub(crate) fn load_published(
        path: &Path,
        published: Option<Normalization>,
    ) -> Result<Self, WeightsError> {
        load(path, published)
    }

    /// Weights of a safetensors file of which only parts are here: `data` returns the bytes of a
    /// range of the file. `path` is for messages only.
    #[cfg(feature = "pretrained")]
    pub(crate) fn from_parts(
        header: &Header,
        data: impl Fn(std::ops::Range<u64>) -> Option<Bytes>,
        published: Option<Normalization>,
        path: &Path,
    ) -> Result<Self, WeightsError> {
        finish(header.parse(data), published, path)
    }
}

fn load(path: &Path, published: Option<Normalization>) -> Result<Vgg19Weights, WeightsError> {
    if path.is_dir() {
        return Err(WeightsError::Format {
            path: path.into(),
            problem: "this is a folder; name the file of weights in it".to_string(),
        });
    }
    let bytes = file::read(path).map_err(|source| WeightsError::Io {
        path: path.into(),
        source,
    })?;
    finish(parse(bytes, path, Place::File)?, published, path)
}

/// Where the bytes of a file are from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The file of this name, beside which there may be others.
    File,
    Memory,
    #[cfg(feature = "archives")]
    Archive,
}

fn finish(
    parsed: ParsedFile,
    published: Option<Normalization>,
    path: &Path,
) -> Result<Vgg19Weights, WeightsError> {
    let (network, stated) = match parsed.contents {
        Contents::Network(network) => (network, None),
        Contents::Tensors(listed) => {
            let stated = stated_by_tensors(&listed);
            let network = find::network(listed).map_err(|problem| WeightsError::Unsuitable {
                path: path.into(),
                problem,
            })?;
            (network, stated)
        }
    };
    let (convolutions, projections) = assemble(&network, path)?;
    let (normalization, normalization_source) = parsed
        .normalization
        .or_else(|| Some((stated?, NormalizationSource::File)))
        .or_else(|| {
            let known = training::recognize(&convolutions)?;
            let source = match known.exact {
                true => NormalizationSource::Values(known.training),
                false => NormalizationSource::NearValues(known.training),
            };
            Some((known.normalization, source))
        })
        .or_else(|| Some((published?, NormalizationSource::Publisher)))
        .unwrap_or((Normalization::TORCHVISION, NormalizationSource::Assumed));
    Ok(Vgg19Weights {
        convolutions,
        projections,
        normalization,
        normalization_source,
    })
}

/// The normalisation in tensors named `mean` and `std`, of three values each, as a network that
/// normalises its own input saves them.
fn stated_by_tensors(listed: &[Listed]) -> Option<Normalization> {
    let triples = |wanted: &str| {
        let named = listed.iter().filter(move |tensor| {
            let last = tensor.name.rsplit(['.', '/']).next();
            last == Some(wanted) && tensor.shape.iter().product::<usize>() == 3
        });
        let values = named.filter_map(|listed| listed.tensor.as_ref().ok());
        let values = values.filter(|tensor| tensor.shape.len() <= 4 && tensor.is_whole());
        values.map(|tensor| tensor.values()).collect::<Vec<_>>()
    };
    let [mean]: [Vec<f32>; 1] = triples("mean").try_into().ok()?;
    let [std]: [Vec<f32>; 1] = triples("std").try_into().ok()?;
    Normalization::from_units(mean.try_into().ok()?, std.try_into().ok()?)
}

/// Finds the tensors in a file, whose first bytes tell its format. `path` is for messages, and where a second
/// file with data may lie.
#[cfg_attr(
    not(any(feature = "onnx", feature = "archives")),
    expect(unused_variables)
)]
fn parse(bytes: Bytes, path: &Path, place: Place) -> Result<ParsedFile, WeightsError> {
    let format = |problem| WeightsError::Format {
        path: path.into(),
        problem,
    };
    match Kind::of(&bytes, path) {
        Kind::Safetensors => parse_safetensors(&bytes).map_err(format),
        #[cfg(feature = "onnx")]
        Kind::Onnx => {
            let beside = (place == Place::File).then_some(path);
            super::onnx::parse(bytes, beside).map_err(format)
        }
        #[cfg(not(feature = "onnx"))]
        Kind::Onnx => Err(missing(path, "an ONNX model", "onnx")),
        #[cfg(feature = "pytorch")]
        Kind::Pickle => super::pytorch::parse_legacy(&bytes).map_err(format),
        #[cfg(not(feature = "pytorch"))]
        Kind::Pickle => Err(missing(path, "a PyTorch file", "pytorch")),
        #[cfg(feature = "pytorch")]
        Kind::Zip if super::pytorch::is_zip(&bytes) => {
            super::pytorch::parse_zip(&bytes).map_err(format)
        }
        #[cfg(feature = "archives")]
        Kind::Zip | Kind::Tar if place != Place::Archive => {
            let member = match Kind::of(&bytes, path) {
                Kind::Tar => super::archive::tar_member(&bytes),
                _ => super::archive::zip_member(&bytes),
            };
            let (name, contents) = member.map_err(format)?;
            parse(contents, &path.join(name), Place::Archive)
        }
        #[cfg(feature = "archives")]
        Kind::Zip | Kind::Tar => Err(format(
            "this is an archive in an archive; unpack it and name the file in it".into(),
        )),
        #[cfg(not(feature = "archives"))]
        Kind::Tar => Err(missing(path, "a tar archive", "archives")),
        #[cfg(not(feature = "archives"))]
        Kind::Zip => Err(missing(
            path,
            "a zip archive, as PyTorch's newer files are",
            "archives",
        )),
        Kind::Other(problem) => Err(format(problem)),
    }
}

/// The error for a kind of file that this build cannot read.
#[cfg(not(all(feature = "onnx", feature = "pytorch", feature = "archives")))]
fn missing(path: &Path, kind: &'static str, feature: &'static str) -> WeightsError {
    WeightsError::FeatureMissing {
        path: path.into(),
        kind,
        feature,
    }
}

fn parse_safetensors(bytes: &Bytes) -> Result<ParsedFile, String> {
    let header = Header::of_whole_file(bytes)?;
    #[cfg(feature = "pretrained")]
    super::compact::check(&header, bytes)?;
    Ok(header.parse(|range| Some(bytes.slice(range.start as usize..range.end as usize))))
}
