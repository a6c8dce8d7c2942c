//! A pool of buffers: the memory of a dropped tensor is used again for the next one of its size.
//!
//! Fresh memory costs more than its allocation, since the system clears every page at the first
//! touch. The results of the CPU kernels are therefore allocated here, and their memory returns to
//! the pool when the tensor is dropped.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

use memmap2::MmapMut;

/// A buffer that was not used again during this many requests (a few evaluations of a loss) is
/// returned to the system.
const MAX_IDLE_REQUESTS: u64 = 200;

/// For a new buffer of at least this size, as many idle bytes are returned to the system first, so
/// that they do not add to the peak.
const LARGE: usize = (64 << 20) + 1;

/// A buffer may be this many times as large as the request that it serves.
const MAX_EXCESS: usize = 2;

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
        let fits = |idle: &Idle| (bytes..=MAX_EXCESS * bytes).contains(&idle.memory.len());
        let best = (0..state.idle.len())
            .filter(|&index| fits(&state.idle[index]))
            .min_by_key(|&index| state.idle[index].memory.len());
        let found = best.map(|index| state.idle.swap_remove(index).memory);
        state
            .idle
            .retain(|idle| idle.since + MAX_IDLE_REQUESTS > now);
        if found.is_none() && bytes >= LARGE {
            state.release_largest(bytes);
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

    /// Total size of idle buffers with a size in this range.
    #[cfg(test)]
    fn idle_bytes(&self, sizes: impl std::ops::RangeBounds<usize>) -> usize {
        let state = self.lock();
        let sizes = state
            .idle
            .iter()
            .map(|idle| idle.memory.len())
            .filter(|size| sizes.contains(size));
        sizes.sum()
    }
}

impl State {
    /// Returns at least `bytes` to the system, largest buffers first, or all if there are less.
    fn release_largest(&mut self, bytes: usize) {
        self.idle.sort_by_key(|idle| idle.memory.len());
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
    memory: Option<MmapMut>,
    bytes: usize,
    pool: &'static BufferPool,
}

impl PooledBuffer {
    /// A buffer of this size, from the pool if there is one that fits.
    ///
    /// # Panics
    /// If the system has no memory left, like every allocation.
    pub fn new(bytes: usize) -> Self {
        Self::from_pool(&POOL, bytes)
    }

    fn from_pool(pool: &'static BufferPool, bytes: usize) -> Self {
        let memory = (bytes > 0).then(|| pool.take(bytes).unwrap_or_else(|| allocate(bytes)));
        Self {
            memory,
            bytes,
            pool,
        }
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
        if let Some(memory) = self.memory.take() {
            self.pool.put_back(memory);
        }
    }
}

impl Deref for PooledBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Some(memory) => &memory[..self.bytes],
            // Aligned for any number, like the pages.
            None => bytemuck::cast_slice::<u64, u8>(&[]),
        }
    }
}

impl DerefMut for PooledBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(memory) => &mut memory[..self.bytes],
            None => bytemuck::cast_slice_mut::<u64, u8>(&mut []),
        }
    }
}

/// Makes it the storage of a tensor of Flex.
#[cfg(feature = "flex")]
impl burn_std::AllocationController for PooledBuffer {
    fn alloc_align(&self) -> usize {
        // Pages are aligned to more than this.
        64
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

    #[test]
    fn dropped_buffers_are_used_again() {
        // A pool of its own, since other tests use the shared one at the same time.
        static OWN: BufferPool = BufferPool::new();
        let new = |bytes| PooledBuffer::from_pool(&OWN, bytes);
        let size = 123_457_000;
        let first = new(size);
        let address = first.as_ptr();
        drop(first);
        let again = new(size - 1000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), size - 1000);
        let other = new(size);
        assert_ne!(other.as_ptr(), address);
        drop(again);
        let small = new(size / 3);
        assert_ne!(small.as_ptr(), address);
        assert!(new(0).values_mut::<f32>().is_empty());
    }

    #[test]
    fn idle_buffers_are_released() {
        static OWN: BufferPool = BufferPool::new();
        let [idle, mut used] = [8192, 65536].map(|bytes| PooledBuffer::from_pool(&OWN, bytes));
        drop(idle);
        assert_eq!(OWN.idle_bytes(..), 8192);
        OWN.release_idle();
        assert_eq!(OWN.idle_bytes(..), 0);
        // Buffers in use stay usable, and return to the pool later.
        used.fill(7);
        assert!(used.iter().all(|&byte| byte == 7));
        drop(used);
        assert_eq!(OWN.idle_bytes(..), 65536);
    }

    #[test]
    fn the_public_function_releases_the_shared_pool() {
        // A size that no other test uses: others may return buffers at any moment.
        let size = 1_234_567;
        drop(PooledBuffer::new(size));
        crate::kernel::release_idle_memory();
        assert_eq!(POOL.idle_bytes(size..=size), 0);
    }
}
