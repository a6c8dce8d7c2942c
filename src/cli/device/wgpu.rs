//! GPUs of Vulkan or Metal: which there are, and which of them is which for Burn.

use cubecl::future::block_on;
use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, WgpuDevice};
use wgpu::{
    AdapterInfo, Backend, DeviceType, Features, Instance, InstanceDescriptor, PowerPreference,
    RequestAdapterOptions,
};

use super::Device;
use super::adapters::{Adapter, Survey, no_such_adapter};

/// All GPUs, and why they cannot be used if they cannot.
pub fn survey() -> Survey {
    match adapters() {
        Ok(adapters) => (
            adapters.into_iter().map(|(_, adapter)| adapter).collect(),
            None,
        ),
        Err(reason) => (Vec::new(), Some(reason)),
    }
}

/// The GPU of that number, or the one that is taken without a number; else what to do about it.
pub fn check(index: Option<usize>) -> Result<(Adapter, WgpuDevice), String> {
    let (kinds, mut adapters): (Vec<_>, Vec<_>) = adapters()?.into_iter().unzip();
    let Some(index) = index else {
        let index = adapters.iter().position(|adapter| adapter.default);
        let adapter = adapters.swap_remove(index.unwrap_or(0));
        return Ok((adapter, WgpuDevice::DefaultDevice));
    };
    if index >= adapters.len() {
        return Err(no_such_adapter(Device::Wgpu(Some(index)), &adapters));
    }
    let adapter = adapters.swap_remove(index);
    match burn_device(&kinds, index) {
        Some(device) => Ok((adapter, device)),
        None => Err(format!(
            "wgpu:{index} ({}) cannot be chosen by its number; `--device wgpu` takes the fastest",
            adapter.name
        )),
    }
}

/// How Burn calls the adapter of a number: it counts those of each kind apart, and knows one CPU.
fn burn_device(kinds: &[DeviceType], index: usize) -> Option<WgpuDevice> {
    let kind = kinds[index];
    let before = kinds[..index].iter().filter(|other| **other == kind);
    match (kind, before.count()) {
        (DeviceType::DiscreteGpu, number) => Some(WgpuDevice::DiscreteGpu(number)),
        (DeviceType::IntegratedGpu, number) => Some(WgpuDevice::IntegratedGpu(number)),
        (DeviceType::VirtualGpu, number) => Some(WgpuDevice::VirtualGpu(number)),
        (DeviceType::Cpu, 0) => Some(WgpuDevice::Cpu),
        (DeviceType::Cpu | DeviceType::Other, _) => None,
    }
}

/// All adapters with their kinds, found as Burn will find them.
fn adapters() -> Result<Vec<(DeviceType, Adapter)>, String> {
    let backend = AutoGraphicsApi::backend();
    let instance = Instance::new(InstanceDescriptor {
        backends: backend.into(),
        ..InstanceDescriptor::new_without_display_handle()
    });
    let adapters = block_on(instance.enumerate_adapters(backend.into()));
    if adapters.is_empty() {
        return Err(match backend {
            Backend::Metal => "found no GPU that has Metal".to_string(),
            _ if cfg!(windows) => {
                "found no Vulkan driver: install the driver of the GPU's maker".to_string()
            }
            _ => {
                "found no Vulkan driver: install the one for the GPU (mesa-vulkan-drivers for AMD, \
                  Intel and CPUs; NVIDIA's driver brings its own), or take another --device"
                    .to_string()
            }
        });
    }
    // What Burn asks for where no adapter is named.
    let fastest = block_on(instance.request_adapter(&RequestAdapterOptions {
        power_preference: PowerPreference::HighPerformance,
        ..Default::default()
    }));
    let fastest = fastest.ok().map(|adapter| adapter.get_info());
    let default = adapters
        .iter()
        .position(|adapter| Some(adapter.get_info()) == fastest);
    let described = adapters.iter().enumerate().map(|(index, adapter)| {
        let info = adapter.get_info();
        (
            info.device_type,
            describe(index, adapter, info, default == Some(index)),
        )
    });
    Ok(described.collect())
}

fn describe(index: usize, adapter: &wgpu::Adapter, info: AdapterInfo, default: bool) -> Adapter {
    // Burn's kernels use subgroups on GPUs only.
    let gpu = info.device_type != DeviceType::Cpu;
    let abilities = [
        (Features::SHADER_F16, "f16", true),
        (Features::SUBGROUP, "subgroups", gpu),
    ];
    let features = adapter.features();
    let abilities = abilities
        .into_iter()
        .filter(|(feature, _, used)| *used && features.contains(*feature));
    let limits = adapter.limits();
    Adapter {
        device: format!("wgpu:{index}"),
        name: info.name,
        kind: match info.device_type {
            DeviceType::DiscreteGpu => "discrete GPU",
            DeviceType::IntegratedGpu => "integrated GPU",
            DeviceType::VirtualGpu => "virtual GPU",
            DeviceType::Cpu => "CPU",
            DeviceType::Other => "other",
        },
        api: match info.backend {
            Backend::Vulkan => "Vulkan",
            Backend::Metal => "Metal",
            Backend::Dx12 => "DirectX 12",
            Backend::Gl => "OpenGL",
            Backend::BrowserWebGpu | Backend::Noop => "WebGPU",
        },
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_string(),
        memory: None,
        largest_tensor: Some(
            limits
                .max_buffer_size
                .min(limits.max_storage_buffer_binding_size),
        ),
        compute_capability: None,
        abilities: abilities.map(|(_, name, _)| name).collect(),
        default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_through_all_kinds_of_adapters() {
        use DeviceType::{Cpu, DiscreteGpu, IntegratedGpu, Other};
        let kinds = [DiscreteGpu, IntegratedGpu, DiscreteGpu, Cpu, Cpu, Other];
        let devices: Vec<_> = (0..kinds.len())
            .map(|index| burn_device(&kinds, index))
            .collect();
        assert_eq!(
            devices,
            [
                Some(WgpuDevice::DiscreteGpu(0)),
                Some(WgpuDevice::IntegratedGpu(0)),
                Some(WgpuDevice::DiscreteGpu(1)),
                Some(WgpuDevice::Cpu),
                None,
                None
            ]
        );
    }

    /// Also where there is no driver.
    #[test]
    fn a_survey_never_panics_and_a_missing_gpu_is_named() {
        let (adapters, reason) = survey();
        assert_eq!(adapters.is_empty(), reason.is_some());
        assert!(check(Some(9999)).is_err());
    }
}
