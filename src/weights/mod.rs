//! Where the parameters of the encoder come from.
//!
//! What a file is counts, not its name. Each format is parsed to named tensors that are views of the
//! file's bytes. The convolutions among them are then found, checked and converted to
//! [`Vgg19Weights`] one at a time, and the normalisation is what the file states, or that of the
//! training whose values these are. Nothing in a file is ever executed.

#[cfg(feature = "archives")]
mod archive;
mod assemble;
#[cfg(feature = "builtin")]
mod builtin;
#[cfg(feature = "pretrained")]
pub(crate) mod compact;
mod error;
mod file;
mod find;
mod foreign;
#[cfg(test)]
mod hostile;
mod kernels;
mod kind;
mod load;
pub(crate) mod metadata;
mod names;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "pytorch")]
mod pickle;
#[cfg(feature = "pytorch")]
mod pytorch;
pub(crate) mod safetensors;
mod source;
mod tensor;
pub(crate) mod training;
mod vgg19;
#[cfg(any(feature = "archives", feature = "pytorch"))]
mod zip_file;

#[cfg(feature = "pretrained")]
pub use compact::Precision;
pub use error::WeightsError;
pub use source::{NormalizationSource, Training};
pub use vgg19::{Convolution, Vgg19Weights};
