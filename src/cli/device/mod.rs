//! Where to compute; the only place that names concrete backends.

mod adapters;
#[cfg(feature = "cuda")]
mod cuda;
mod facts;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod kernel_cache;
mod name;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod panics;
#[cfg(feature = "wgpu")]
mod wgpu;

#[allow(unused_imports)]
use burn::backend::Autodiff;
use impasto::kernel::AutodiffStyleBackend;

pub use adapters::Adapter;

use super::args::DeviceArgs;
use super::failure::Failure;

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Ndarray,
    /// The NVIDIA GPU of that number.
    Cuda(usize),
    /// The GPU of that number among those of Vulkan or Metal, or the fastest.
    Wgpu(Option<usize>),
}

/// Work that any backend can do.
pub trait BackendTask {
    /// What it yields.
    type Output;

    /// Does the work.
    fn run<B: AutodiffStyleBackend>(self, device: B::Device) -> Result<Self::Output, Failure>;
}

/// Does a task on the device that the arguments name, with their number of threads on the CPU, by
/// default one for each core. Can be called once in the life of the program.
pub fn run_on<Task: BackendTask>(
    args: &DeviceArgs,
    quiet: bool,
    task: Task,
) -> Result<Task::Output, Failure> {
    // This thread is one of those that compute, instead of waking them and being woken by them at
    // every operation.
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.map_or(0, usize::from))
        .use_current_thread()
        .build_global()
        .map_err(Failure::other)?;
    args.device.run(quiet, task)
}

impl Device {
    /// All kinds of devices, with the cargo feature that each needs.
    pub const ALL: [(Device, &str); 4] = [
        (Device::Cpu, "flex"),
        (Device::Ndarray, "ndarray"),
        (Device::Cuda(0), "cuda"),
        (Device::Wgpu(None), "wgpu"),
    ];

    /// Whether the backend is part of this build.
    pub fn is_built_in(self) -> bool {
        match self {
            Device::Cpu => cfg!(feature = "flex"),
            Device::Ndarray => cfg!(feature = "ndarray"),
            Device::Cuda(_) => cfg!(feature = "cuda"),
            Device::Wgpu(_) => cfg!(feature = "wgpu"),
        }
    }

    /// The GPU that the device is, if it is one that can be used.
    pub fn adapter(self) -> Option<Adapter> {
        match self {
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => cuda::check(index).ok(),
            #[cfg(feature = "wgpu")]
            Device::Wgpu(index) => wgpu::check(index).ok().map(|(adapter, _)| adapter),
            _ => None,
        }
    }

    /// Does a task on this device, after a check that it can be used. Can be called once in the life
    /// of the program.
    pub fn run<Task: BackendTask>(
        self,
        #[allow(unused_variables)] quiet: bool,
        #[allow(unused_variables)] task: Task,
    ) -> Result<Task::Output, Failure> {
        match self {
            #[cfg(feature = "flex")]
            Device::Cpu => task.run::<Autodiff<burn::backend::Flex>>(Default::default()),
            #[cfg(feature = "ndarray")]
            Device::Ndarray => task.run::<Autodiff<burn::backend::NdArray>>(Default::default()),
            #[cfg(feature = "cuda")]
            Device::Cuda(index) => {
                let adapter = cuda::check(index).map_err(Failure::usage)?;
                let device = burn::backend::cuda::CudaDevice::new(index);
                let _kernels = kernel_cache::open(&adapter, quiet);
                panics::as_failures(self, || task.run::<Autodiff<burn::backend::Cuda>>(device))
            }
            #[cfg(feature = "wgpu")]
            Device::Wgpu(index) => {
                let (adapter, device) = wgpu::check(index).map_err(Failure::usage)?;
                let _kernels = kernel_cache::open(&adapter, quiet);
                panics::as_failures(self, || task.run::<Autodiff<burn::backend::Wgpu>>(device))
            }
            #[allow(unreachable_patterns)]
            device => Err(Failure::usage(format!(
                "this build does not support {device}"
            ))),
        }
    }
}
