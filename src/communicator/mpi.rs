//! Ranks that are processes, on one machine or many, by the system's MPI.

use std::fs;
use std::path::Path;
use std::process;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use ::mpi::Threading;
use ::mpi::request::scope;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, Destination, Source};

use super::{CommunicationError, Communicator};

/// Bytes of a message: MPI counts them in 31 bits.
const CHUNK: usize = 1 << 28;

/// Instead of a length: the rank leaves.
const LEAVING: u64 = u64::MAX;

/// How long a thread that waits for messages asks for them without a pause.
const BUSY: Duration = Duration::from_micros(500);

/// How often it asks then: others may want its core.
const PAUSE: Duration = Duration::from_micros(50);

/// How often a rank that waits for others looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(50);

/// A rank among the processes that `mpirun` or a scheduler started together.
///
/// MPI lives in a thread of its own, which alone calls it, so that a rank whose peers are gone can be stopped. Those
/// on the same machine are looked after (on Linux): launchers end a job within a second after one of its processes
/// has died, and some give no signal in time. Dropping it waits for the others to be done as well, unless one is gone.
pub struct MpiCommunicator {
    rank: usize,
    size: usize,
    requests: Option<Mutex<Sender<Request>>>,
    thread: Option<thread::JoinHandle<()>>,
    is_cancelled: Box<dyn Fn() -> bool + Send + Sync>,
    /// The processes of other ranks on this machine.
    neighbors: Vec<u32>,
    /// Whether the wait for others was given up.
    is_given_up: AtomicBool,
}

/// Bytes to give to all, and where to send those of all.
struct Request {
    own: Vec<u8>,
    reply: Sender<Vec<Vec<u8>>>,
}

impl MpiCommunicator {
    /// Begins MPI; its end is when the value is dropped. Can be called once in the life of the program.
    ///
    /// A rank that waits for others asks `is_cancelled` whether it shall give up: a process whose peer has died is
    /// told to end by a signal and has a second or so for what it has to write.
    ///
    /// # Errors
    /// [`CommunicationError::NoMpi`] if MPI cannot be begun or has been; what [`all_gather`](Communicator::all_gather) may
    /// end with.
    pub fn begin(
        is_cancelled: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Self, CommunicationError> {
        let (requests, incoming) = channel();
        let (ready, facts) = channel();
        let thread = thread::Builder::new()
            .name("mpi".into())
            .spawn(move || serve(&ready, &incoming))
            .map_err(|_| CommunicationError::NoMpi)?;
        let (rank, size) = facts.recv().map_err(|_| CommunicationError::NoMpi)?;
        let mut world = Self {
            rank,
            size,
            requests: Some(Mutex::new(requests)),
            thread: Some(thread),
            is_cancelled: Box::new(is_cancelled),
            neighbors: Vec::new(),
            is_given_up: AtomicBool::new(false),
        };
        world.neighbors = world.meet_neighbors()?;
        Ok(world)
    }

    /// The processes of other ranks that can be seen from here.
    fn meet_neighbors(&self) -> Result<Vec<u32>, CommunicationError> {
        let here = place();
        let own = format!("{} {}", process::id(), here.as_deref().unwrap_or_default());
        let all = self.all_gather(own.into_bytes())?;
        let others = all
            .iter()
            .enumerate()
            .filter(|(rank, _)| *rank != self.rank);
        let seen = others.filter_map(|(_, process)| {
            let (id, place) = str::from_utf8(process).ok()?.split_once(' ')?;
            id.parse().ok().filter(|_| here.as_deref() == Some(place))
        });
        Ok(seen.collect())
    }

    /// Why the wait for others has to be given up, if it has.
    fn trouble(&self) -> Option<CommunicationError> {
        if (self.is_cancelled)() {
            return Some(CommunicationError::Cancelled);
        }
        let is_gone = |id: &u32| !Path::new(&format!("/proc/{id}")).exists();
        let gone = self.neighbors.iter().any(is_gone);
        gone.then_some(CommunicationError::Lost)
    }
}

/// What tells whether two processes see each other's numbers: the machine since its start, and the namespace of
/// processes. `None` where it cannot be told.
fn place() -> Option<String> {
    let machine = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", machine.trim(), namespace.display()))
}

impl std::fmt::Debug for MpiCommunicator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MpiCommunicator")
            .field("rank", &self.rank)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Communicator for MpiCommunicator {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, CommunicationError> {
        let (reply, found) = channel();
        let requests = self.requests.as_ref().ok_or(CommunicationError::Lost)?;
        let requests = requests.lock().map_err(|_| CommunicationError::Lost)?;
        let sent = requests.send(Request { own, reply });
        sent.map_err(|_| CommunicationError::Lost)?;
        loop {
            match found.recv_timeout(LOOK) {
                Ok(all) => return Ok(all),
                Err(RecvTimeoutError::Disconnected) => return Err(CommunicationError::Lost),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(trouble) = self.trouble() {
                        self.is_given_up.store(true, Ordering::Relaxed);
                        return Err(trouble);
                    }
                }
            }
        }
    }
}

impl Drop for MpiCommunicator {
    fn drop(&mut self) {
        self.requests = None;
        // A rank that gave up leaves a thread behind that waits for those who are gone.
        if let Some(thread) = self.thread.take()
            && !self.is_given_up.load(Ordering::Relaxed)
        {
            let _ = thread.join();
        }
    }
}

/// Serves requests until there can be no more; MPI begins and ends with it.
fn serve(ready: &Sender<(usize, usize)>, requests: &Receiver<Request>) {
    let Some((universe, _)) = ::mpi::initialize_with_threading(Threading::Funneled) else {
        return;
    };
    let world = universe.world();
    let (rank, size) = (world.rank() as usize, world.size() as usize);
    if ready.send((rank, size)).is_err() {
        return;
    }
    let exchange_lens = |own: u64| -> Vec<u64> {
        let mut lens = vec![vec![0; 8]; size];
        lens[rank] = own.to_le_bytes().to_vec();
        exchange(&world, &own.to_le_bytes(), &mut lens);
        let len = |bytes: Vec<u8>| bytes.try_into().map_or(LEAVING, u64::from_le_bytes);
        lens.into_iter().map(len).collect()
    };
    for Request { own, reply } in requests {
        let lens = exchange_lens(own.len() as u64);
        if lens.contains(&LEAVING) {
            // Without a reply the rank learns of it. All know it now, and MPI can end.
            return;
        }
        let mut all: Vec<_> = lens.iter().map(|&len| vec![0; len as usize]).collect();
        all[rank] = Vec::new();
        exchange(&world, &own, &mut all);
        all[rank] = own;
        // Nobody takes it if the rank gave up.
        let _ = reply.send(all);
    }
    // MPI ends when all end it: others that still wait for this rank shall know.
    exchange_lens(LEAVING);
}

/// Sends bytes to all others, and fills the buffers with theirs.
fn exchange(world: &SimpleCommunicator, own: &[u8], others: &mut [Vec<u8>]) {
    let (rank, size) = (world.rank(), world.size());
    scope(|scope| {
        let mut pending = Vec::new();
        for (other, bytes) in (0..size).zip(others).filter(|(other, _)| *other != rank) {
            let other = world.process_at_rank(other);
            for chunk in bytes.chunks_mut(CHUNK) {
                pending.push(other.immediate_receive_into(scope, chunk));
            }
        }
        // Each begins with another.
        for step in 1..size {
            let other = world.process_at_rank((rank + step) % size);
            for chunk in own.chunks(CHUNK) {
                pending.push(other.immediate_send(scope, chunk));
            }
        }
        let began = Instant::now();
        loop {
            let tested = pending.into_iter();
            pending = tested.filter_map(|request| request.test().err()).collect();
            match pending.is_empty() {
                true => break,
                false if began.elapsed() < BUSY => thread::yield_now(),
                false => thread::sleep(PAUSE),
            }
        }
    });
}
