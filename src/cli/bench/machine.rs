//! Facts on the machine, where the operating system tells them.

use std::fs;

use crate::cli::device::Device;

/// What a device is called by its maker.
pub fn name(device: Device) -> Option<String> {
    match device {
        Device::Cpu | Device::Ndarray => field("/proc/cpuinfo", "model name"),
        Device::Cuda(_) | Device::Wgpu(_) => device.adapter().map(|adapter| adapter.name),
    }
}

/// The most memory that the process has held until now.
pub fn peak_resident_bytes() -> Option<u64> {
    let peak = field("/proc/self/status", "VmHWM")?;
    let kibibytes: u64 = peak.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The first value of this name in a file of lines `name : value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_string())
}
