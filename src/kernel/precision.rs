//! The precision of convolutions on tensor cores.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The least precision of the factors in a convolution and in products of features: Gram matrices, their
/// gradients and projections, which have TF32 also where convolutions have bfloat16. Sums, all other
/// operations and what lies in memory keep the precision of the backend (single, by default).
///
/// Tensor cores multiply shorter numbers several times as fast. A device without tensor cores for a
/// precision computes in single precision; so do all CPUs, and GPUs through `wgpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision, 24 bits.
    F32,
    /// 11 bits, as TF32 has, which PyTorch uses for convolutions by default; for 3×3 convolutions as f16
    /// with a scale for each tensor. The relative error of a convolution is about 2e-4.
    #[default]
    Tf32,
    /// bfloat16, 8 bits. The relative error of a convolution is about 2e-3.
    Bf16,
}

impl Precision {
    /// All, from the most precise to the fastest.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        })
    }
}

/// A name that is no [`Precision`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no precision `{0}`: expected f32, tf32 or bf16")]
pub struct UnknownPrecision(pub String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    /// Parses `f32`, `tf32` or `bf16`.
    ///
    /// # Errors
    /// [`UnknownPrecision`] for anything else.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Precision::ALL
            .into_iter()
            .find(|precision| precision.to_string() == name)
            .ok_or_else(|| UnknownPrecision(name.to_string()))
    }
}
