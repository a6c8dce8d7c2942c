//! What can be wrong with a file of weights.

use std::path::PathBuf;

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
