//! Where the parameters of the encoder come from.
//!
//! A file of any kind is first read as a list of named tensors, without copying; the
//! convolutions among them are then found, checked and converted one at a time. Nothing in a file
//! is ever executed.

#[cfg(feature = "builtin")]
mod builtin;
#[cfg(feature = "pretrained")]
pub(crate) mod compact;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "pytorch")]
mod pytorch;
pub(crate) mod safetensors;
mod source;

use std::path::{Path, PathBuf};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

use crate::layer::Layer;
use crate::normalization::Normalization;
#[cfg(feature = "pretrained")]
pub use compact::Precision;
use source::{NamedTensor, Source};

/// One convolution: values in the order `[out, in, height, width]` and a bias for each output.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// The kernel, `[out, in, height, width]`.
    pub weight: Vec<f32>,
    /// Sizes of `weight`.
    pub shape: [usize; 4],
    /// One value for each output channel.
    pub bias: Option<Vec<f32>>,
}

/// The parameters of a network with VGG19's topology, in memory and independent of any backend.
#[derive(Clone, Debug, PartialEq)]
pub struct Vgg19Weights {
    pub(crate) convolutions: Vec<Convolution>,
    /// The read-outs of a slim network, one for each convolution: 1×1 convolutions behind the ReLU (and
    /// the pool, where one follows), whose few channels stand for VGG19's. They are all that the next
    /// layer sees. Empty for VGG19.
    pub(crate) readouts: Vec<Convolution>,
    /// What the input must be brought to.
    pub normalization: Normalization,
}

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
        Source::open(path)?.into_weights(path)
    }

    /// Reads a file whose normalisation is `assumed` unless it states its own.
    #[cfg(feature = "pretrained")]
    pub(crate) fn load_assuming(
        path: &Path,
        assumed: Option<Normalization>,
    ) -> Result<Self, WeightsError> {
        let mut source = Source::open(path)?;
        source.normalization = source.normalization.or(assumed);
        source.into_weights(path)
    }

    /// Weights out of a file of which only parts are here; `path` is for messages only.
    #[cfg(feature = "pretrained")]
    pub(crate) fn from_header(
        header: &safetensors::Header,
        data: impl Fn(std::ops::Range<u64>) -> Option<bytes::Bytes>,
        assumed: Option<Normalization>,
        path: &Path,
    ) -> Result<Self, WeightsError> {
        let source = header.source(data);
        let mut source = source.map_err(|problem| WeightsError::Format {
            path: path.into(),
            problem,
        })?;
        source.normalization = source.normalization.or(assumed);
        source.into_weights(path)
    }

    /// The slim encoder that is part of the crate: VGG19 compressed layer by layer, with linear
    /// read-outs that stand for VGG19's own content and Gram losses.
    #[cfg(feature = "builtin")]
    pub fn builtin() -> Self {
        builtin::load()
    }

    /// Seeded random weights after He et al. (arXiv 1502.01852): normal with variance
    /// `2 / (9 · in)`, biases zero.
    ///
    /// # Panics
    /// If `width` is zero.
    pub fn random(width: usize, seed: u64) -> Self {
        assert!(width > 0, "the first block needs at least one channel");
        let mut rng = StdRng::seed_from_u64(seed);
        let convolutions: Vec<Convolution> = (0..16)
            .map(|index| {
                let [out, fan_in, ..] = expected_shape(index, width);
                let deviation = (2.0 / (9 * fan_in) as f32).sqrt();
                let mut draw = || -> f32 { StandardNormal.sample(&mut rng) };
                Convolution {
                    weight: (0..out * fan_in * 9).map(|_| deviation * draw()).collect(),
                    shape: [out, fan_in, 3, 3],
                    bias: Some(vec![0.0; out]),
                }
            })
            .collect();
        Self {
            convolutions,
            readouts: Vec::new(),
            normalization: Normalization::TORCHVISION,
        }
    }

    /// The convolutions, first to last.
    pub fn convolutions(&self) -> &[Convolution] {
        &self.convolutions
    }

    /// The same weights without the convolutions that lie behind `layer`, which then cannot be
    /// computed; those of fewer layers stay as they are.
    pub fn until(mut self, layer: Layer) -> Self {
        self.convolutions.truncate(layer.depth());
        self.readouts.truncate(layer.depth());
        self
    }
}

/// Shape of the convolution numbered `index` in a network whose first block has `width` channels.
fn expected_shape(index: usize, width: usize) -> [usize; 4] {
    let channels_in = match index {
        0 => 3,
        _ => Layer::convolution(index - 1).channels(width),
    };
    [Layer::convolution(index).channels(width), channels_in, 3, 3]
}

/// The first size of a tensor, in bounds.
fn rows(tensor: &NamedTensor) -> usize {
    tensor.shape.first().map_or(1, |&rows| rows.clamp(1, 1024))
}

impl Source {
    /// Checks and converts the convolutions that the file holds.
    fn into_weights(self, path: &Path) -> Result<Vgg19Weights, WeightsError> {
        let error = |problem| WeightsError::Unsuitable {
            path: path.into(),
            problem,
        };
        if self.convolutions.is_empty() {
            return Err(error(
                "it holds no convolutions named or arranged as VGG19's".to_string(),
            ));
        }
        let width = self.convolutions[0].weight.shape.first().copied();
        let width = width
            .filter(|width| (1..=1024).contains(width))
            .ok_or_else(|| {
                error(format!(
                    "`{}` has shape {:?}, expected [64, 3, 3, 3]",
                    self.convolutions[0].weight.name, self.convolutions[0].weight.shape
                ))
            })?;
        if self.convolutions.len() > 16 {
            return Err(error(format!(
                "it holds {} convolutions where VGG19 has 16; is it another network?",
                self.convolutions.len()
            )));
        }
        let slim = !self.readouts.is_empty();
        let count = self.convolutions.len();
        if slim && self.readouts.len() != count {
            return Err(error(format!(
                "it holds {} read-outs for {count} convolutions",
                self.readouts.len()
            )));
        }
        let mut convolutions: Vec<Convolution> = Vec::with_capacity(count);
        let mut readouts = Vec::with_capacity(self.readouts.len());
        let mut channels = 3;
        for (index, pair) in self.convolutions.iter().enumerate() {
            let mut expected = expected_shape(index, width);
            if slim {
                // The widths are the file's own choice; they only have to fit each other.
                expected = [rows(&pair.weight), channels, 3, 3];
            }
            let weight = pair.weight.convert(path, &expected)?;
            let bias = match &pair.bias {
                Some(bias) => bias.convert(path, &expected[..1])?,
                None => vec![0.0; expected[0]],
            };
            convolutions.push(Convolution {
                weight,
                shape: expected,
                bias: Some(bias),
            });
            channels = expected[0];
            if let Some(readout) = self.readouts.get(index) {
                let shape = [rows(readout), channels, 1, 1];
                readouts.push(Convolution {
                    weight: readout.convert(path, &shape)?,
                    shape,
                    bias: None,
                });
                channels = shape[0];
            }
        }
        let normalization = match self.normalization {
            Some(normalization) => normalization,
            None if is_published_caffe_file(path) => Normalization::CAFFE_BGR,
            None => Normalization::TORCHVISION,
        };
        Ok(Vgg19Weights {
            convolutions,
            readouts,
            normalization,
        })
    }
}

/// The conversion of the Caffe weights that neural-style-pt and pystiche distribute carries no
/// metadata, but its published name ends in the start of its SHA-256.
pub(crate) fn is_published_caffe_file(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("vgg19-d01eb7cb"))
}

impl NamedTensor {
    /// The values as f32.
    fn convert(&self, path: &Path, expected: &[usize]) -> Result<Vec<f32>, WeightsError> {
        if self.shape != expected {
            return Err(WeightsError::Shape {
                path: path.into(),
                name: self.name.clone(),
                expected: expected.to_vec(),
                found: self.shape.clone(),
            });
        }
        // Before any value is converted: the data may be longer than their shape says.
        let found = self.data.len() / self.dtype.size();
        let count: usize = expected.iter().product();
        if found != count {
            return Err(WeightsError::Unsuitable {
                path: path.into(),
                problem: format!(
                    "`{}` holds {found} values, expected {count}; is the file complete?",
                    self.name
                ),
            });
        }
        let values = self.values();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(index) => Err(WeightsError::NotFinite {
                path: path.into(),
                name: self.name.clone(),
                index,
                value: values[index],
            }),
        }
    }
}

/// What can be wrong with a file of weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{}: cannot read the weights", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is of a kind that nothing here reads, or is damaged.
    #[error("{}: {problem}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// The kind of file was recognised, but the crate was built without the feature that reads it.
    #[error("{}: this is {kind}; build impasto with the feature `{feature}` to read it", path.display())]
    FeatureMissing {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: &'static str,
        /// The cargo feature.
        feature: &'static str,
    },
    /// A readable file whose tensors are not VGG19's.
    #[error("{}: {problem}", path.display())]
    Unsuitable {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },
    /// A tensor of another shape.
    #[error(
        "{}: `{name}` has shape {found:?}, expected {expected:?}; \
         use VGG19 weights with kernels in the order [out, in, height, width]",
        path.display()
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Shape in VGG19.
        expected: Vec<usize>,
        /// Shape in the file.
        found: Vec<usize>,
    },
    /// A NaN or an infinity among the weights.
    #[error("{}: `{name}` holds {value} at index {index}; the file is damaged, get it again", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Place of the first such value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// The file cannot be written; what was there before is still there.
    #[error("{}: cannot write the weights", path.display())]
    Save {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Weights that the compact file has no form for.
    #[error("{}: {problem}", path.display())]
    Unsaveable {
        /// The file that was to be written.
        path: PathBuf,
        /// What does not fit, and what does.
        problem: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_weights_repeat_with_their_seed() {
        let weights = Vgg19Weights::random(4, 7);
        assert_eq!(weights, Vgg19Weights::random(4, 7));
        assert_ne!(weights, Vgg19Weights::random(4, 8));
        assert_eq!(weights.convolutions().len(), 16);
        assert_eq!(weights.convolutions()[15].shape, [32, 32, 3, 3]);
        // The variance that keeps activations at one scale, for the largest kernel.
        let values = &weights.convolutions()[15].weight;
        let mean_square = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
        assert!((mean_square * 9.0 * 32.0 / 2.0 - 1.0).abs() < 0.1);
    }

    #[test]
    fn shapes_are_those_of_vgg19() {
        assert_eq!(expected_shape(0, 64), [64, 3, 3, 3]);
        assert_eq!(expected_shape(2, 64), [128, 64, 3, 3]);
        assert_eq!(expected_shape(8, 64), [512, 256, 3, 3]);
        assert_eq!(expected_shape(15, 64), [512, 512, 3, 3]);
    }
}
