//! The ranks that paint one picture together, and a process's part of its machine.

use std::sync::Arc;

use impasto::TransferError;
use impasto::communicator::{CommunicationError, Communicator, ThreadCommunicator};

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

/// How long the first of several processes waits for the others after it was asked to stop: they stop together after
/// a step, unless one is gone.
#[cfg(feature = "mpi")]
const GRACE: std::time::Duration = std::time::Duration::from_millis(500);

/// The ranks of this process that paint one picture with each other, and with those of other processes; none if it
/// paints alone. Changes the arguments to what they mean for it.
pub fn join(
    args: &mut DeviceArgs,
    #[allow(unused_variables)] interrupt: &Interrupt,
) -> Result<Vec<Arc<dyn Communicator>>, Failure> {
    if let Some(process) = Process::current() {
        // Alone it may also have several devices.
        if cfg!(feature = "mpi") && (process.count > 1 || args.devices.count() == 1) {
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
    // The others stop with the first: together with it, after the step that is under way.
    let is_first = process.number == 0;
    let is_cancelled = move || is_first && interrupt.is_requested_for(GRACE);
    let world = impasto::communicator::MpiCommunicator::begin(is_cancelled);
    let world = world.map_err(|error| run_failure(error.into()))?;
    Ok(vec![Arc::new(world)])
}

#[cfg(not(feature = "mpi"))]
fn join_processes(
    _: &mut DeviceArgs,
    _: Process,
    _: &Interrupt,
) -> Result<Vec<Arc<dyn Communicator>>, Failure> {
    Ok(Vec::new())
}

/// The failure of a run that could not begin: between ranks it is nobody's usage.
pub fn run_failure(error: TransferError) -> Failure {
    match error.communication() {
        Some(CommunicationError::Cancelled) => Failure::interrupted(error),
        Some(_) => Failure::other(error),
        None => Failure::usage(error),
    }
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

/// How many ranks share what this process may take, or what is free on its machine.
pub fn memory_sharers(ranks: &dyn Communicator, device: Device, is_asked: bool) -> u64 {
    let processes = || Process::current().map_or(1, |process| process.local_count);
    let sharers = match device {
        Device::Cpu | Device::Ndarray if ranks.is_in_process() => ranks.size(),
        // What was asked for is for each process.
        Device::Cpu | Device::Ndarray if !is_asked => processes(),
        _ => 1,
    };
    sharers as u64
}

/// Has a process that follows others say nothing but errors. Whether it does.
pub fn follow_first() -> bool {
    let number = Process::current().map_or(0, |process| process.number);
    if number > 0 {
        follow(number);
    }
    number > 0
}
