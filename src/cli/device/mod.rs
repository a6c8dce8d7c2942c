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
use super::failure::{Failure, describe_causes};

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

/// Devices of one kind, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// The first, which leads the others.
    pub fn first(&self) -> Device {
        self.0[0]
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Device> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One of them alone, for the process of that number on its machine.
    pub fn for_process(&self, number: usize) -> Self {
        Self(vec![self.0[number % self.0.len()]])
    }
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
    if args.devices.count() > 1 {
        return Err(Failure::usage(
            "several devices share a picture only with stylize, reconstruct and resume; name one",
        ));
    }
    // This thread is one of those that compute, instead of waking them and being woken by them at
    // every operation.
    rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads.map_or(0, usize::from))
        .use_current_thread()
        .build_global()
        .map_err(Failure::other)?;
    args.device().run(quiet, task)
}

/// Does a task on each of the devices that the arguments name, as many as there are tasks, in a thread each: on
/// the CPU with an equal part of the threads. The first is done in this thread and gives the result. Can be called
/// once in the life of the program.
pub fn run_on_all<Task: BackendTask + Send>(
    args: &DeviceArgs,
    #[allow(unused_variables)] quiet: bool,
    tasks: Vec<Task>,
) -> Result<Task::Output, Failure> {
    let all = args.threads.map_or(0, usize::from);
    let all = if all == 0 {
        rayon::current_num_threads()
    } else {
        all
    };
    let threads = (all / tasks.len()).max(1);
    #[allow(unused_variables)]
    let devices = &args.devices.0;
    match args.device() {
        #[cfg(feature = "flex")]
        Device::Cpu => on_each::<Autodiff<burn::backend::Flex>, _>(
            tasks.into_iter().map(|task| (task, Default::default())),
            threads,
        ),
        #[cfg(feature = "ndarray")]
        Device::Ndarray => on_each::<Autodiff<burn::backend::NdArray>, _>(
            tasks.into_iter().map(|task| (task, Default::default())),
            threads,
        ),
        #[cfg(feature = "cuda")]
        first @ Device::Cuda(_) => {
            let indices = devices.iter().filter_map(|device| match device {
                Device::Cuda(index) => Some(*index),
                _ => None,
            });
            let checked = indices.map(|index| cuda::check(index).map(|adapter| (index, adapter)));
            let checked: Vec<_> = checked.collect::<Result<_, _>>().map_err(Failure::usage)?;
            let _kernels = kernel_cache::open(&checked[0].1, quiet);
            let devices = checked.iter().map(|(index, _)| *index);
            let devices = devices.map(burn::backend::cuda::CudaDevice::new);
            let tasks = tasks.into_iter().zip(devices);
            panics::as_failures(first, || {
                on_each::<Autodiff<burn::backend::Cuda>, _>(tasks, threads)
            })
        }
        #[cfg(feature = "wgpu")]
        first @ Device::Wgpu(_) => {
            let indices = devices.iter().filter_map(|device| match device {
                Device::Wgpu(index) => Some(*index),
                _ => None,
            });
            let checked: Result<Vec<_>, _> = indices.map(wgpu::check).collect();
            let checked = checked.map_err(Failure::usage)?;
            let _kernels = kernel_cache::open(&checked[0].0, quiet);
            let devices = checked.iter().map(|(_, device)| device.clone());
            let tasks = tasks.into_iter().zip(devices);
            panics::as_failures(first, || {
                on_each::<Autodiff<burn::backend::Wgpu>, _>(tasks, threads)
            })
        }
        #[allow(unreachable_patterns)]
        device => Err(Failure::usage(format!(
            "this build does not support {device}"
        ))),
    }
}

/// Does tasks on devices of their own, each with a number of threads.
fn on_each<B: AutodiffStyleBackend, Task: BackendTask + Send>(
    tasks: impl IntoIterator<Item = (Task, B::Device)>,
    threads: usize,
) -> Result<Task::Output, Failure> {
    let enter = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.use_current_thread().build().map_err(Failure::other)
    };
    std::thread::scope(|scope| {
        let mut tasks = tasks.into_iter();
        let (leader, device) = tasks.next().expect("there is a device");
        let others: Vec<_> = tasks
            .map(|(task, device)| {
                scope.spawn(move || {
                    let done = enter().and_then(|_pool| task.run::<B>(device));
                    done.err()
                        .filter(|failure| !failure.is_lost_rank())
                        .map(|failure| describe_causes(failure.cause()))
                })
            })
            .collect();
        let result = enter().and_then(|_pool| leader.run::<B>(device));
        let causes = others.into_iter().filter_map(|other| match other.join() {
            Ok(cause) => cause,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let causes: Vec<String> = causes.collect();
        match (result, causes.into_iter().next()) {
            // What the leader lost is the cause.
            (Err(failure), Some(cause)) if failure.is_lost_rank() => Err(Failure::other(cause)),
            (result, _) => result,
        }
    })
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
