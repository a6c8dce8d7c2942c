//! Devices by name; the only place that names concrete backends.

use std::fmt;
use std::str::FromStr;

use impasto::kernel::AutodiffStyleBackend;

use super::failure::Failure;

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Ndarray,
    Cuda(usize),
    Wgpu,
}

/// Work that any backend can do.
pub trait BackendTask {
    /// What it yields.
    type Output;

    /// Does the work.
    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Self::Output;
}

/// Does a task on a device and with a number of threads on the CPU, by default one for each core.
/// Can be called once in the life of the program.
pub fn run_on<T, Task: BackendTask<Output = Result<T, Failure>>>(
    device: Device,
    threads: Option<u16>,
    task: Task,
) -> Result<T, Failure> {
    // This thread is one of those that compute, instead of waking them and being woken by them at
    // every operation.
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.map_or(0, usize::from))
        .use_current_thread()
        .build_global()
        .map_err(Failure::other)?;
    let missing = || {
        Err(Failure::usage(format!(
            "this build does not support {device}"
        )))
    };
    device.run(task).unwrap_or_else(missing)
}

impl Device {
    /// All kinds of devices, with the cargo feature that each needs.
    pub const ALL: [(Device, &str); 4] = [
        (Device::Cpu, "flex"),
        (Device::Ndarray, "ndarray"),
        (Device::Cuda(0), "cuda"),
        (Device::Wgpu, "wgpu"),
    ];

    /// Whether the backend is part of this build.
    pub fn is_built_in(self) -> bool {
        match self {
            Device::Cpu => cfg!(feature = "flex"),
            Device::Ndarray => cfg!(feature = "ndarray"),
            Device::Cuda(_) => cfg!(feature = "cuda"),
            Device::Wgpu => cfg!(feature = "wgpu"),
        }
    }

    /// Does a task on this device; `None` if the backend is not part of this build.
    pub fn run<Task: BackendTask>(self, task: Task) -> Option<Task::Output> {
        #[allow(unused_imports)]
        use burn::backend::Autodiff;
        match self {
            #[cfg(feature = "flex")]
            Device::Cpu => Some(task.run::<Autodiff<burn::backend::Flex>>(Default::default())),
            #[cfg(feature = "ndarray")]
            Device::Ndarray => {
                Some(task.run::<Autodiff<burn::backend::NdArray>>(Default::default()))
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => {
                let device = burn::backend::cuda::CudaDevice::new(index);
                Some(task.run::<Autodiff<burn::backend::Cuda>>(device))
            }
            #[cfg(feature = "wgpu")]
            Device::Wgpu => Some(task.run::<Autodiff<burn::backend::Wgpu>>(Default::default())),
            #[allow(unreachable_patterns)]
            _ => None,
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Ndarray => f.write_str("ndarray"),
            Device::Cuda(0) => f.write_str("cuda"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
            Device::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let device = match name.split_once(':') {
            Some(("cuda", index)) => index.parse().ok().map(Device::Cuda),
            Some(_) => None,
            None => Device::ALL
                .iter()
                .map(|(device, _)| *device)
                .find(|device| device.to_string() == name),
        };
        let device = device.ok_or("expected cpu, ndarray, cuda, cuda:N or wgpu")?;
        let feature = Device::ALL
            .iter()
            .find(|(kind, _)| std::mem::discriminant(kind) == std::mem::discriminant(&device))
            .map_or("", |(_, feature)| feature);
        if !device.is_built_in() {
            return Err(format!(
                "this build does not support {device}; build impasto with the feature `{feature}`"
            ));
        }
        Ok(device)
    }
}
