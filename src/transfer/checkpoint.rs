//! The state of a run between two steps, so that it can go on later, bit for bit.
//!
//! A checkpoint is a safetensors file: the image and the optimiser's tensors, and in the metadata
//! everything else. It does not hold the pictures or the weights, but a fingerprint of them.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Error as IoError, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::de::DeserializeOwned;

use super::{Computation, Recipe};
use crate::atomic;
use crate::optim::OptimizerState;

/// The state of a run between two steps of the optimiser.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    pub(super) scale: usize,
    pub(super) iterations: usize,
    pub(super) evaluations: usize,
    pub(super) elapsed: Duration,
    /// What the run was asked for: pictures, weights, seed and the recipe that it began with.
    pub(super) fingerprint: u128,
    /// The recipe in force, which may have been changed during the run.
    pub(super) recipe: Recipe,
    /// The weights of the styles in force, which may have been changed too.
    pub(super) style_weights: Vec<f64>,
    /// How the scales are computed, on which their last bits depend.
    pub(super) computations: Vec<Computation>,
    /// The image that the scale started from.
    pub(super) start: TensorData,
    /// What the optimiser has changed so far: pixels or coefficients.
    pub(super) variables: TensorData,
    /// Those of least loss at the scale, with their loss.
    pub(super) best: (f64, TensorData),
    /// The mean of the scale's variables: the power of its decay, and its sum; see
    /// [`Ema::parts`](super::ema::Ema::parts).
    pub(super) average: Option<(f64, TensorData)>,
    pub(super) optimizer: OptimizerState<TensorData>,
    /// Free text of the calling program, saved and loaded unchanged. A run leaves it empty.
    pub note: String,
}

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file cannot be read or written.
    #[error("{}: cannot access the checkpoint", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: IoError,
    },
    /// The contents are no checkpoint, or a damaged one.
    #[error("{}: this is no checkpoint of impasto, or a damaged one ({problem})", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found.
        problem: String,
    },
    /// The run that is to go on is another one.
    #[error(
        "the checkpoint belongs to another run: the pictures, the weights or the recipe have \
         changed since"
    )]
    OtherRun,
}

/// Metadata keys of what is kept as text.
const VERSION: &str = "impasto.checkpoint";
const NOTE: &str = "note";
const FINGERPRINT: &str = "fingerprint";
const RECIPE: &str = "recipe";
const STYLE_WEIGHTS: &str = "style weights";
const COMPUTATIONS: &str = "computations";

impl Checkpoint {
    /// How many evaluations of loss and gradient the run has made.
    pub fn evaluations(&self) -> usize {
        self.evaluations
    }

    /// Whether it belongs to the run with this fingerprint.
    pub(super) fn belongs_to(&self, fingerprint: u128) -> bool {
        self.fingerprint == fingerprint
    }

    /// Whether its image and its variables have these shapes.
    pub(super) fn fits(&self, image: [usize; 4], variables: [usize; 4]) -> bool {
        let mut tensors = self.tensors();
        tensors.all(|(name, data)| match &name[..] {
            "start" => data.shape.to_vec() == image,
            _ => data.shape.to_vec() == variables,
        })
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), CheckpointError> {
        let path = path.as_ref();
        let written = self.to_bytes().and_then(|bytes| {
            let written = atomic::write(path, |writer| writer.write_all(&bytes));
            written.map_err(IoError::other)
        });
        written.map_err(|source| CheckpointError::Io {
            path: path.into(),
            source,
        })
    }

    /// The bytes of the file that [`save`](Self::save) writes.
    ///
    /// # Errors
    /// An error of the format, which does not happen with a checkpoint of a run.
    pub fn to_bytes(&self) -> Result<Vec<u8>, IoError> {
        let mut metadata = HashMap::from([
            (VERSION.to_string(), "6".to_string()),
            (NOTE.to_string(), self.note.clone()),
            (
                FINGERPRINT.to_string(),
                format!("{:032x}", self.fingerprint),
            ),
        ]);
        let texts = [
            (RECIPE, serde_json::to_string(&self.recipe)),
            (STYLE_WEIGHTS, serde_json::to_string(&self.style_weights)),
            (COMPUTATIONS, serde_json::to_string(&self.computations)),
        ];
        for (key, text) in texts {
            metadata.insert(key.to_string(), text?);
        }
        for (key, value) in self.numbers() {
            metadata.insert(key, value.to_string());
        }
        let views = self.tensors().map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape.to_vec(), &data.bytes);
            view.map(|view| (name, view))
        });
        let views: Result<Vec<_>, _> = views.collect();
        let bytes = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        bytes.map_err(IoError::other)
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] or [`CheckpointError::Format`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| CheckpointError::Io {
            path: path.into(),
            source,
        })?;
        Self::from_bytes(&bytes, path)
    }

    /// [`load`](Self::load) for the bytes of a file that is in memory; errors name it as `name`.
    ///
    /// # Errors
    /// [`CheckpointError::Format`].
    pub fn from_bytes(bytes: &[u8], name: impl AsRef<Path>) -> Result<Self, CheckpointError> {
        Self::parse(bytes).map_err(|problem| CheckpointError::Format {
            path: name.as_ref().into(),
            problem,
        })
    }

    fn numbers(&self) -> BTreeMap<String, u64> {
        let mut numbers: BTreeMap<String, u64> = self
            .optimizer
            .numbers
            .iter()
            .map(|(key, value)| (format!("optimizer.{key}"), *value))
            .collect();
        numbers.insert("best.loss".into(), self.best.0.to_bits());
        if let Some((decay_power, _)) = &self.average {
            numbers.insert("average.decay_power".into(), decay_power.to_bits());
        }
        numbers.insert("scale".into(), self.scale as u64);
        numbers.insert("iterations".into(), self.iterations as u64);
        numbers.insert("evaluations".into(), self.evaluations as u64);
        numbers.insert("elapsed".into(), self.elapsed.as_nanos() as u64);
        numbers
    }

    fn tensors(&self) -> impl Iterator<Item = (String, &TensorData)> {
        let optimizer = self.optimizer.tensors.iter();
        let average = self.average.iter();
        [
            ("start".to_string(), &self.start),
            ("variables".to_string(), &self.variables),
            ("best".to_string(), &self.best.1),
        ]
        .into_iter()
        .chain(average.map(|(_, data)| ("average".to_string(), data)))
        .chain(optimizer.map(|(name, data)| (format!("optimizer.{name}"), data)))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
        let metadata = header.metadata().as_ref().ok_or("it has no metadata")?;
        if metadata.get(VERSION).map(String::as_str) != Some("6") {
            return Err("it is of another kind or version".to_string());
        }
        let text = |key: &str| match metadata.get(key) {
            Some(value) => Ok(value.as_str()),
            None => Err(format!("`{key}` is missing")),
        };
        let number = |key: &str| {
            let number = text(key)?.parse::<u64>();
            number.map_err(|_| format!("`{key}` is damaged"))
        };
        let mut images = BTreeMap::new();
        let mut optimizer = OptimizerState::default();
        for (name, view) in file.tensors() {
            let values: Vec<f32> = view
                .data()
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect();
            if view.dtype() != Dtype::F32 || view.shape().len() != 4 {
                return Err(format!("`{name}` is no image"));
            }
            let data = TensorData::new(values, view.shape().to_vec());
            match name.strip_prefix("optimizer.") {
                Some(name) => {
                    optimizer.tensors.insert(name.to_string(), data);
                }
                None => {
                    images.insert(name, data);
                }
            }
        }
        for (key, value) in metadata {
            if let (Some(key), Ok(value)) = (key.strip_prefix("optimizer."), value.parse()) {
                optimizer.numbers.insert(key.to_string(), value);
            }
        }
        Ok(Self {
            scale: number("scale")? as usize,
            iterations: number("iterations")? as usize,
            evaluations: number("evaluations")? as usize,
            elapsed: Duration::from_nanos(number("elapsed")?),
            fingerprint: u128::from_str_radix(text(FINGERPRINT)?, 16)
                .map_err(|_| format!("`{FINGERPRINT}` is damaged"))?,
            recipe: json(RECIPE, text(RECIPE)?)?,
            style_weights: json(STYLE_WEIGHTS, text(STYLE_WEIGHTS)?)?,
            computations: json(COMPUTATIONS, text(COMPUTATIONS)?)?,
            start: images.remove("start").ok_or("`start` is missing")?,
            variables: images.remove("variables").ok_or("`variables` is missing")?,
            best: (
                f64::from_bits(number("best.loss")?),
                images.remove("best").ok_or("`best` is missing")?,
            ),
            average: match images.remove("average") {
                Some(data) => Some((f64::from_bits(number("average.decay_power")?), data)),
                None => None,
            },
            optimizer,
            note: metadata.get(NOTE).cloned().unwrap_or_default(),
        })
    }
}

/// The value that a key has, in JSON.
fn json<T: DeserializeOwned>(key: &str, text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| format!("`{key}` is damaged: {error}"))
}

/// A tensor's values in single precision.
pub(super) fn to_data<B: Backend>(tensor: Tensor<B, 4>) -> TensorData {
    tensor.into_data().convert::<f32>()
}
