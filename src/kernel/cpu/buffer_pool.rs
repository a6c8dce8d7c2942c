//! A pool of buffers: the memory of a dropped tensor is used again for the next one of its size.
//!
//! Fresh memory costs more than its allocation, since the system clears every page at the first
//! touch. The results of the CPU kernels are therefore allocated here, and their memory returns to
//! the pool when the tensor is dropped.
//!
//! In unit tests each buffer is a heap allocation of its exact size, filled with NaN: a memory checker
//! sees its ends, and a result that is not written whole is noticed.

use std::cmp::Reverse;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// A buffer that was not used again during this many requests (a few evaluations of a loss) is
/// returned to the system.
const MAX_IDLE_REQUESTS: u64 = 200;

/// For a new buffer of at least this size, as many idle bytes are returned to the system first, those that
/// wait longest, so that they do not add to the peak.
const LARGE: usize = 4 << 20;

/// A buffer may be larger than the request that it serves by this share of it, one over as many.
const MAX_EXCESS: usize = 4;

/// The pool of all results of the CPU kernels.
static POOL: BufferPool = BufferPool::new();

/// Returns all idle buffers of the pool to the system.
pub fn release_idle() {
    POOL.release_idle();
}

/// Buffers that wait to be used again.
#[derive(Debug)]
struct BufferPool(Mutex<State>);

#[derive(Debug)]
struct State {
    idle: Vec<Idle>,
    requests: u64,
}

/// An idle buffer, with the number of requests when it returned to the pool.
#[derive(Debug)]
struct Idle {
    memory: MmapMut,
    since: u64,
}

impl BufferPool {
    const fn new() -> Self {
        Self(Mutex::new(State {
            idle: Vec::new(),
            requests: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the smallest idle buffer of at least `bytes`, unless it is much too large.
    fn take(&self, bytes: usize) -> Option<MmapMut> {
        let mut state = self.lock();
        state.requests += 1;
        let now = state.requests;
        let fits = |idle: &Idle| (bytes..=bytes + bytes / MAX_EXCESS).contains(&idle.memory.len());
        let best = (0..state.idle.len())
            .filter(|&index| fits(&state.idle[index]))
            .min_by_key(|&index| state.idle[index].memory.len());
        let found = best.map(|index| state.idle.swap_remove(index).memory);
        state
            .idle
            .retain(|idle| idle.since + MAX_IDLE_REQUESTS > now);
        if found.is_none() && bytes >= LARGE {
            state.release_oldest(bytes);
        }
        found
    }

    fn put_back(&self, memory: MmapMut) {
        let mut state = self.lock();
        let since = state.requests;
        state.idle.push(Idle { memory, since });
    }

    fn release_idle(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        drop(idle);
    }

    /// Total size of the idle buffers.
    #[cfg(test)]
    fn idle_bytes(&self) -> usize {
        let idle = &self.lock().idle;
        idle.iter().map(|idle| idle.memory.len()).sum()
    }
}

impl State {
    /// Returns at least `bytes` to the system, or all if there are less.
    fn release_oldest(&mut self, bytes: usize) {
        self.idle.sort_by_key(|idle| Reverse(idle.since));
        let mut released = 0;
        while released < bytes
            && let Some(idle) = self.idle.pop()
        {
            released += idle.memory.len();
        }
    }
}

/// Page-aligned bytes that return to the pool when dropped. A new buffer has arbitrary but
/// initialised content.
#[derive(Debug)]
pub struct PooledBuffer {
    /// `None` if there are no bytes.
    memory: Option<Memory>,
    bytes: usize,
}

#[derive(Debug)]
enum Memory {
    /// Memory that returns to this pool.
    Pooled(MmapMut, &'static BufferPool),
    #[cfg(test)]
    Heap(Vec<u8>),
}

impl Memory {
    fn from_pool(pool: &'static BufferPool, bytes: usize) -> Self {
        let memory = pool.take(bytes).unwrap_or_else(|| allocate(bytes));
        Self::Pooled(memory, pool)
    }
}

impl PooledBuffer {
    /// A buffer of this size, from the pool if there is one that fits.
    ///
    /// # Panics
    /// If the system has no memory left, like every allocation.
    pub fn new(bytes: usize) -> Self {
        #[cfg(not(test))]
        let allocate = || Memory::from_pool(&POOL, bytes);
        #[cfg(test)]
        let allocate = || Memory::Heap(vec![0xFF; bytes]);
        let memory = (bytes > 0).then(allocate);
        Self { memory, bytes }
    }

    /// The buffer as numbers of type `T`.
    pub fn values_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self)
    }
}

fn allocate(bytes: usize) -> MmapMut {
    let memory = MmapMut::map_anon(bytes)
        .unwrap_or_else(|error| panic!("out of memory: {bytes} bytes: {error}"));
    // Huge pages are cleared faster; a refusal does no harm.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    memory
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        match self.memory.take() {
            Some(Memory::Pooled(memory, pool)) => pool.put_back(memory),
            #[cfg(test)]
            Some(Memory::Heap(_)) => {}
            None => {}
        }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Some(Memory::Pooled(memory, _)) => &memory[..self.bytes],
            #[cfg(test)]
            Some(Memory::Heap(memory)) => memory,
            // Aligned for any number, like the pages.
            None => bytemuck::cast_slice::<u64, u8>(&[]),
        }
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(Memory::Pooled(memory, _)) => &mut memory[..self.bytes],
            #[cfg(test)]
            Some(Memory::Heap(memory)) => memory,
            None => bytemuck::cast_slice_mut::<u64, u8>(&mut []),
        }
    }
}

/// Makes it the storage of a tensor of Flex.
#[cfg(feature = "flex")]
impl burn_std::AllocationController for PooledBuffer {
    fn alloc_align(&self) -> usize {
        match self.memory {
            #[cfg(test)]
            Some(Memory::Heap(_)) => 1,
            // Pages are aligned to more than this.
            _ => 64,
        }
    }

    fn property(&self) -> burn_std::AllocationProperty {
        burn_std::AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self) -> &mut [std::mem::MaybeUninit<u8>] {
        let bytes: &mut [u8] = self;
        // SAFETY: the same size and alignment; the caller promises to write initialised bytes only.
        unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [std::mem::MaybeUninit<u8>]) }
    }

    fn memory(&self) -> &[std::mem::MaybeUninit<u8>] {
        let bytes: &[u8] = self;
        // SAFETY: the same size and alignment, and every byte is initialised.
        unsafe { &*(std::ptr::from_ref(bytes) as *const [std::mem::MaybeUninit<u8>]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pooled(pool: &'static BufferPool, bytes: usize) -> PooledBuffer {
        PooledBuffer {
            memory: Some(Memory::from_pool(pool, bytes)),
            bytes,
        }
    }

    #[test]
    fn dropped_buffers_are_used_again() {
        static OWN: BufferPool = BufferPool::new();
        let size = 123_457_000;
        let first = pooled(&OWN, size);
        let address = first.as_ptr();
        drop(first);
        let again = pooled(&OWN, size - 1000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), size - 1000);
        let other = pooled(&OWN, size);
        assert_ne!(other.as_ptr(), address);
        drop(again);
        // Much too large for this one.
        let small = pooled(&OWN, LARGE / 2);
        assert_ne!(small.as_ptr(), address);
        assert!(PooledBuffer::new(0).values_mut::<f32>().is_empty());
    }

    #[test]
    fn a_new_buffer_takes_the_place_of_the_oldest() {
        static OWN: BufferPool = BufferPool::new();
        let buffers = [3 * LARGE, 2 * LARGE, LARGE].map(|bytes| pooled(&OWN, bytes));
        for buffer in buffers {
            drop(buffer);
            // Time is counted in requests.
            let _counted = OWN.take(1);
        }
        assert_eq!(OWN.idle_bytes(), 6 * LARGE);
        let large = pooled(&OWN, 5 * LARGE);
        assert_eq!(OWN.idle_bytes(), LARGE);
        drop(large);
        // A small one is no reason to.
        drop(pooled(&OWN, LARGE / 2));
        assert_eq!(OWN.idle_bytes(), 6 * LARGE + LARGE / 2);
    }

    #[test]
    fn idle_buffers_are_released() {
        static OWN: BufferPool = BufferPool::new();
        let [idle, mut used] = [8192, 65536].map(|bytes| pooled(&OWN, bytes));
        drop(idle);
        assert_eq!(OWN.idle_bytes(), 8192);
        OWN.release_idle();
        assert_eq!(OWN.idle_bytes(), 0);
        // Buffers in use stay usable, and return to the pool later.
        used.fill(7);
        assert!(used.iter().all(|&byte| byte == 7));
        drop(used);
        assert_eq!(OWN.idle_bytes(), 65536);
    }

    /// No other test uses the shared pool.
    #[test]
    fn the_public_function_releases_the_shared_pool() {
        drop(pooled(&POOL, 8192));
        assert_eq!(POOL.idle_bytes(), 8192);
        crate::kernel::release_idle_memory();
        assert_eq!(POOL.idle_bytes(), 0);
    }
}
