//! What each device of the build consists of on this machine.

use serde::Serialize;

use super::Device;
use super::adapters::{Adapter, Survey};

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
