//! GPUs as their drivers describe them.

use serde::Serialize;

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use super::Device;

/// A GPU, or a CPU that plays the part of one, as its driver describes it.
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu")),
    allow(dead_code, reason = "a build without GPUs makes none")
)]
#[derive(Debug, Serialize)]
pub struct Adapter {
    /// The name for `--device`.
    pub device: String,
    pub name: String,
    /// `discrete GPU`, `integrated GPU`, `virtual GPU`, `CPU` or `other`.
    pub kind: &'static str,
    /// `CUDA`, `Vulkan` or `Metal`.
    pub api: &'static str,
    pub driver: String,
    /// In bytes, where the API tells.
    pub memory: Option<Memory>,
    /// How many bytes a single tensor can have, where the API limits it.
    pub largest_tensor: Option<u64>,
    /// Of NVIDIA GPUs, such as `9.0`.
    pub compute_capability: Option<String>,
    pub abilities: Vec<&'static str>,
    /// Whether it is the one that is taken where no number is given.
    pub default: bool,
}

#[cfg_attr(
    not(feature = "cuda"),
    allow(dead_code, reason = "only CUDA tells of it")
)]
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    pub total: u64,
    /// What other programs leave of it.
    pub free: Option<u64>,
}

/// GPUs and, where they cannot be used, the reason.
pub type Survey = (Vec<Adapter>, Option<String>);

/// What to say where there is no GPU of that number.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
pub fn no_such_adapter(device: Device, adapters: &[Adapter]) -> String {
    let names = adapters
        .iter()
        .map(|adapter| format!("{} ({})", adapter.device, adapter.name));
    format!(
        "there is no {device} on this machine, which has {}",
        names.collect::<Vec<_>>().join(", ")
    )
}
