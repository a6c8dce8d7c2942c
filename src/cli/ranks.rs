//! The ranks that paint one picture together, and a process's part of its machine.

use std::sync::Arc;

use impasto::communicator::{Communicator, ThreadCommunicator};

use super::args::DeviceArgs;
use super::console::follow;
use super::device::Device;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::launcher::Process;

/// Takes a process's part of the devices and cores of its machine.
pub fn take_part(process: Process, args: &mut DeviceArgs) {
    args.devices = args.devices.for_process(process.local_number);
    args.threads = args.threads.or_else(|| threads(process.local_count));
}

/// The ranks of this process that paint one picture with each other, and with those of other processes; none if it
/// paints alone. Changes the arguments to what they mean for it.
pub fn join(
    args: &mut DeviceArgs,
    #[allow(unused_variables)] interrupt: &Interrupt,
) -> Result<Vec<Arc<dyn Communicator>>, Failure> {
    let process = Process::current();
    if let Some(process) = process {
        if process.number > 0 {
            follow(process.number);
        }
        if cfg!(feature = "mpi") {
            return join_processes(args, process, interrupt);
        }
        if process.count > 1 {
            let count = process.count;
            return Err(Failure::usage(format!(
                "{count} processes were started to paint one picture, for which impasto must be built with the \
                 feature `mpi`; `impasto batch` divides many pictures among them without it"
            )));
        }
    }
    let group = match args.devices.count() {
        1 => return Ok(Vec::new()),
        count => ThreadCommunicator::group(count),
    };
    let erase = |rank| Arc::new(rank) as Arc<dyn Communicator>;
    Ok(group.into_iter().map(erase).collect())
}

#[cfg(feature = "mpi")]
fn join_processes(
    args: &mut DeviceArgs,
    process: Process,
    interrupt: &Interrupt,
) -> Result<Vec<Arc<dyn Communicator>>, Failure> {
    take_part(process, args);
    let interrupt = interrupt.clone();
    let world = impasto::communicator::MpiCommunicator::begin(move || interrupt.is_requested());
    Ok(vec![Arc::new(world.map_err(Failure::other)?)])
}

#[cfg(not(feature = "mpi"))]
fn join_processes(
    _: &mut DeviceArgs,
    _: Process,
    _: &Interrupt,
) -> Result<Vec<Arc<dyn Communicator>>, Failure> {
    Ok(Vec::new())
}

/// The threads of each of so many processes on this machine, where their launcher has not divided its cores.
fn threads(processes: usize) -> Option<u16> {
    let allowed = std::thread::available_parallelism().ok()?.get();
    let cores = sysinfo::System::physical_core_count().unwrap_or(allowed);
    let is_divided = allowed < cores;
    let threads = if is_divided {
        allowed
    } else {
        (allowed / processes).max(1)
    };
    u16::try_from(threads).ok()
}

/// How many ranks take their memory from that of this process.
pub fn memory_sharers(ranks: &dyn Communicator, device: Device) -> u64 {
    let shares = matches!(device, Device::Cpu | Device::Ndarray) && ranks.is_in_process();
    if shares { ranks.size() as u64 } else { 1 }
}
