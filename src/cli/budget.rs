//! How much memory a run may take: what was asked for, or what is free.

use std::fs;

use sysinfo::{MemoryRefreshKind, Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::args::MemoryArgs;
use super::describe::gigabytes;
use super::device::Device;

/// The share of what is free that a run may take: the estimate may be wrong, and others want memory too.
const SHARE: f64 = 0.85;

/// How many times the memory of a CPU a run takes on a GPU, measured with VGG19.
const GPU: f64 = 1.3;

/// A limit on memory, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: u64,
    asked: bool,
}

impl Budget {
    /// The limit of a run on a device; `None` where nothing is known of its memory.
    pub fn new(args: MemoryArgs, device: Device) -> Option<Self> {
        if let Some(bytes) = args.memory {
            return Some(Self { bytes, asked: true });
        }
        let free = match device {
            Device::Cpu | Device::Ndarray => available()?,
            Device::Cuda(_) | Device::Wgpu(_) => {
                let memory = device.adapter()?.memory?;
                memory.free.unwrap_or(memory.total) as f64 / GPU
            }
        };
        Some(Self {
            bytes: (SHARE * free) as u64,
            asked: false,
        })
    }

    /// The limit in words.
    pub fn describe(self) -> String {
        let bytes = gigabytes(self.bytes);
        match self.asked {
            true => format!("--memory {bytes}"),
            false => format!("the {bytes} that are free"),
        }
    }
}

/// The bytes that this process may hold: those that it holds, and what the machine, its control group and
/// the limit of its address space leave. Estimates of runs count the program and its weights too.
fn available() -> Option<f64> {
    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let pid = Pid::from_u32(std::process::id());
    let this = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, this);
    let mut free = system.available_memory();
    let process = system.process(pid);
    if let Some(group) = process.and_then(|process| process.cgroup_limits()) {
        free = free.min(group.free_memory);
    }
    if let (Some(process), Some(limit)) = (process, address_space()) {
        free = free.min(limit.saturating_sub(process.virtual_memory()));
    }
    let held = process.map_or(0, |process| process.memory());
    (free > 0).then_some((free + held) as f64)
}

/// The limit of the address space (`ulimit -v`) in bytes, if there is one.
fn address_space() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max address space"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
