//! How the normalisation of a set of weights was found.

use std::fmt;

/// How the normalisation of a set of weights was found, the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NormalizationSource {
    /// The caller stated it.
    Given,
    /// The file states it, in its metadata or in tensors named `mean` and `std`.
    File,
    /// The ONNX model computes it before its first convolution.
    Graph,
    /// The values are those of a known training.
    Values(Training),
    /// The values are near to those of a known training, as after fine-tuning.
    NearValues(Training),
    /// Whoever publishes the file states it.
    Publisher,
    /// Nothing told it, so [`TORCHVISION`](crate::Normalization::TORCHVISION) was assumed.
    Assumed,
}

/// A published training of VGG19.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Training {
    /// The original one in Caffe, by Simonyan and Zisserman.
    Caffe,
    /// torchvision's own (`IMAGENET1K_V1`), which timm publishes too.
    Torchvision,
}

impl fmt::Display for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Training::Caffe => "the original Caffe training",
            Training::Torchvision => "torchvision's training",
        })
    }
}
