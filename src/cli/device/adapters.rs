//! What each device of the build consists of on this machine.

use serde::Serialize;

use super::Device;

/// A device of the build, and whether it can be used here.
#[derive(Debug, Serialize)]
pub struct DeviceFacts {
    /// The name for `--device`.
    pub device: String,
    pub available: bool,
    /// The cargo feature that it needs.
    pub feature: &'static str,
    /// Why it is not available.
    pub reason: Option<String>,
    /// The GPUs that it can use, in the order of their numbers. None for the CPU.
    pub adapters: Vec<Adapter>,
}

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

impl Device {
    /// What this kind of device consists of on this machine. Asks the drivers; computes nothing.
    pub fn facts(self, feature: &'static str) -> DeviceFacts {
        let (adapters, reason) = match self {
            _ if !self.is_built_in() => {
                let reason = format!("not in this build (feature `{feature}`)");
                (Vec::new(), Some(reason))
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => super::cuda::survey(),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(_) => super::wgpu::survey(),
            _ => Survey::default(),
        };
        DeviceFacts {
            device: self.to_string(),
            available: reason.is_none(),
            feature,
            reason,
            adapters,
        }
    }
}

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
