//! Where the parameters of the encoder come from.
//!
//! Each format is parsed to named tensors that are views of the file's bytes. The convolutions
//! among them are then found, checked and converted to [`Vgg19Weights`] one at a time. Nothing in
//! a file is ever executed.

mod assemble;
#[cfg(feature = "builtin")]
mod builtin;
#[cfg(feature = "pretrained")]
pub(crate) mod compact;
mod error;
mod file;
#[cfg(test)]
mod hostile;
mod load;
pub(crate) mod metadata;
pub(crate) mod names;
#[cfg(feature = "onnx")]
mod onnx;
#[cfg(feature = "pytorch")]
mod pickle;
#[cfg(feature = "pytorch")]
mod pytorch;
pub(crate) mod safetensors;
mod tensor;
mod vgg19;

#[cfg(feature = "pretrained")]
pub use compact::Precision;
pub use error::WeightsError;
#[cfg(feature = "pretrained")]
pub(crate) use load::is_published_caffe_file;
pub use vgg19::{Convolution, Vgg19Weights};
