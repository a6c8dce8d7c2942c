//! A pool of memory: what a dropped tensor leaves serves the next ones, whatever their sizes.
//!
//! Fresh memory costs more than its allocation, since the system clears every page at the first
//! touch. The results of the CPU kernels are therefore allocated here. The pool holds regions of memory; a
//! buffer is a block of one, the smallest free one that is large enough, and free neighbours are one block
//! again. So a loss that is evaluated again and again soon needs nothing new from the system.
//!
//! In unit tests each buffer is a heap allocation of its exact size, filled with NaN: a memory checker
//! sees its ends, and a result that is not written whole is noticed.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::system_memory::SystemMemory;

/// A region of which nothing was used during this many requests (a few evaluations of a loss) is
/// returned to the system.
const MAX_IDLE_REQUESTS: u64 = 200;

/// Blocks begin and end at whole pages of the system, which are no larger: on ARM they have 4, 16 or 64 KiB.
const PAGE: usize = if cfg!(any(target_arch = "x86_64", target_family = "wasm")) {
    4 << 10
} else {
    64 << 10
};

/// Blocks of at least this size are whole huge pages, which the system can take back undivided.
const LARGE: usize = 8 << 20;
const HUGE_PAGE: usize = 2 << 20;

/// What is held may exceed the most that was used by this share of it, one over as many. Without it, memory would go
/// back to the system and return in each evaluation, since blocks of different sizes do not fit without gaps.
const MAX_EXCESS: usize = 16;

/// Least size of a region. What is not touched of it costs nothing where the system maps memory; in a large one, free
/// blocks become one again.
const LEAST_REGION: usize = if cfg!(target_family = "wasm") {
    8 << 20
} else {
    64 << 20
};

/// The pool of all results of the CPU kernels.
static POOL: BufferPool = BufferPool::new();

/// Returns all memory of the pool that is not used to the system.
pub fn release_idle() {
    POOL.lock().release_idle();
}

/// Regions of memory, in blocks that are used or free.
#[derive(Debug)]
struct BufferPool(Mutex<State>);

#[derive(Debug)]
struct State {
    regions: Vec<Region>,
    requests: u64,
    /// Bytes in use, and the most since all that was free was released.
    used: usize,
    most_used: usize,
}

/// Memory of the system.
#[derive(Debug)]
struct Region {
    memory: SystemMemory,
    /// Free blocks by their first byte; no two are neighbours.
    free: BTreeMap<usize, Free>,
    /// The number of requests when something was last returned to it.
    since: u64,
}

#[derive(Clone, Copy, Debug)]
struct Free {
    bytes: usize,
    /// How many of the bytes the system holds memory for, about.
    touched: usize,
}

impl BufferPool {
    const fn new() -> Self {
        Self(Mutex::new(State {
            regions: Vec::new(),
            requests: 0,
            used: 0,
            most_used: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A block of at least `bytes` (not none), from here on in use: the free one that asks least of the system, of
    /// these the smallest, or one of a new region. What it asks is returned to the system from what is free, so that
    /// little more is held than the most that is used.
    fn take(&mut self, bytes: usize) -> NonNull<u8> {
        let bytes = block_size(bytes);
        self.requests += 1;
        self.used += bytes;
        self.most_used = self.most_used.max(self.used);
        let now = self.requests;
        self.regions
            .retain(|region| !region.is_idle() || region.since + MAX_IDLE_REQUESTS > now);
        let blocks = self.regions.iter().enumerate().flat_map(|(index, region)| {
            let large = region.free.iter().filter(|(_, free)| free.bytes >= bytes);
            large.map(move |(&at, free)| {
                let asked = bytes.saturating_sub(free.touched);
                (asked, free.bytes, index, at)
            })
        });
        if let Some((_, _, index, at)) = blocks.min() {
            let block = self.regions[index].take(at, bytes);
            self.release_excess();
            return block;
        }
        self.release_excess();
        let mut region = Region::new(bytes.max(LEAST_REGION));
        let block = region.take(0, bytes);
        self.regions.push(region);
        block
    }

    /// Makes a block that [`take`](Self::take) gave for `bytes` free again.
    fn put_back(&mut self, block: NonNull<u8>, bytes: usize) {
        let bytes = block_size(bytes);
        self.used -= bytes;
        let (address, now) = (block.addr().get(), self.requests);
        for region in &mut self.regions {
            let at = address.wrapping_sub(region.memory.start().addr().get());
            if at < region.memory.bytes() {
                region.since = now;
                return region.put_back(at, bytes);
            }
        }
    }

    fn release_idle(&mut self) {
        self.release(usize::MAX);
        self.most_used = self.used;
    }

    /// Returns to the system what is held beyond the most that was used and a little.
    fn release_excess(&mut self) {
        let held = self.used + self.idle_bytes();
        self.release(held.saturating_sub(self.most_used + self.most_used / MAX_EXCESS));
    }

    /// Returns at least `bytes` to the system, or all that is free: whole regions, those that wait longest, then
    /// the largest blocks.
    fn release(&mut self, bytes: usize) {
        let mut released = 0;
        self.regions.sort_by_key(|region| Reverse(region.since));
        for index in (0..self.regions.len()).rev() {
            if released < bytes && self.regions[index].is_idle() {
                released += self.regions.remove(index).idle_bytes();
            }
        }
        let blocks = self.regions.iter_mut().flat_map(|region| {
            let memory = &region.memory;
            let touched = region.free.iter_mut().filter(|(_, free)| free.touched > 0);
            touched.map(move |(&at, free)| (memory, at, free))
        });
        let mut blocks: Vec<_> = blocks.collect();
        blocks.sort_by_key(|(_, _, free)| Reverse(free.bytes));
        for (memory, at, free) in blocks {
            if released >= bytes {
                break;
            }
            // SAFETY: the block is free, so no reference to its bytes exists.
            if unsafe { memory.release(at, free.bytes) } {
                released += free.touched;
                free.touched = 0;
            }
        }
    }

    /// Total size of the memory that is held and not used.
    fn idle_bytes(&self) -> usize {
        self.regions.iter().map(Region::idle_bytes).sum()
    }
}

/// The size of the block for so many bytes.
fn block_size(bytes: usize) -> usize {
    bytes.next_multiple_of(if bytes < LARGE { PAGE } else { HUGE_PAGE })
}

impl Region {
    fn new(bytes: usize) -> Self {
        let free = Free { bytes, touched: 0 };
        Self {
            memory: SystemMemory::new(bytes),
            free: BTreeMap::from([(0, free)]),
            since: 0,
        }
    }

    fn is_idle(&self) -> bool {
        self.free
            .get(&0)
            .is_some_and(|free| free.bytes == self.memory.bytes())
    }

    fn idle_bytes(&self) -> usize {
        self.free.values().map(|free| free.touched).sum()
    }

    /// Takes the front of the free block at `at`.
    fn take(&mut self, at: usize, bytes: usize) -> NonNull<u8> {
        if let Some(free) = self.free.remove(&at)
            && free.bytes > bytes
        {
            let rest = Free {
                bytes: free.bytes - bytes,
                touched: free.touched.saturating_sub(bytes),
            };
            self.free.insert(at + bytes, rest);
        }
        // SAFETY: the block lies within the region.
        unsafe { self.memory.start().add(at) }
    }

    /// Makes a block free, one with the free blocks beside it.
    fn put_back(&mut self, mut at: usize, bytes: usize) {
        let touched = bytes;
        let mut block = Free { bytes, touched };
        if let Some(after) = self.free.remove(&(at + bytes)) {
            block.bytes += after.bytes;
            block.touched += after.touched;
        }
        if let Some((&start, before)) = self.free.range(..at).next_back()
            && start + before.bytes == at
        {
            at = start;
            block.bytes += before.bytes;
            block.touched += before.touched;
        }
        self.free.insert(at, block);
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
    /// A block of this pool.
    Pooled(NonNull<u8>, &'static BufferPool),
    #[cfg(test)]
    Heap(Vec<u8>),
}

// SAFETY: the block belongs to this buffer alone until it is dropped, and the pool is behind a lock; all access to
// its bytes goes through references to the buffer.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn from_pool(pool: &'static BufferPool, bytes: usize) -> Self {
        Self::Pooled(pool.lock().take(bytes), pool)
    }
}

impl PooledBuffer {
    /// A buffer of this size, from the pool if there is room.
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

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        match self.memory.take() {
            Some(Memory::Pooled(block, pool)) => pool.lock().put_back(block, self.bytes),
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
            // SAFETY: the block has this many bytes, all initialised by the system or by who had them before, and
            // belongs to this buffer; its region stays mapped while it is in use.
            Some(Memory::Pooled(block, _)) => unsafe {
                std::slice::from_raw_parts(block.as_ptr(), self.bytes)
            },
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
            // SAFETY: as above, and the buffer is borrowed exclusively.
            Some(Memory::Pooled(block, _)) => unsafe {
                std::slice::from_raw_parts_mut(block.as_ptr(), self.bytes)
            },
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
    use proptest::prelude::*;

    /// A multiple of all block sizes, and beyond the least size of a region.
    const UNIT: usize = 2 * LEAST_REGION;

    fn pooled(pool: &'static BufferPool, bytes: usize) -> PooledBuffer {
        PooledBuffer {
            memory: Some(Memory::from_pool(pool, bytes)),
            bytes,
        }
    }

    #[test]
    fn memory_is_used_again_in_other_sizes() {
        static OWN: BufferPool = BufferPool::new();
        let first = pooled(&OWN, UNIT + 1);
        let address = first.as_ptr().addr();
        drop(first);
        let front = pooled(&OWN, UNIT / 4);
        assert_eq!((front.as_ptr().addr(), front.len()), (address, UNIT / 4));
        let rest = pooled(&OWN, UNIT / 2);
        assert_eq!(rest.as_ptr().addr(), address + UNIT / 4);
        // No room is left for a third, until both are free and one block again.
        let third = pooled(&OWN, UNIT / 2).as_ptr().addr();
        assert!(!(address..=address + UNIT).contains(&third));
        drop((front, rest));
        assert_eq!(pooled(&OWN, UNIT).as_ptr().addr(), address);
        assert!(PooledBuffer::new(0).values_mut::<f32>().is_empty());
    }

    #[test]
    fn little_more_is_held_than_was_used() {
        static OWN: BufferPool = BufferPool::new();
        let held = || {
            let pool = OWN.lock();
            (pool.used + pool.idle_bytes()) / LEAST_REGION
        };
        let buffers = [6, 4, 2].map(|count| pooled(&OWN, count * LEAST_REGION));
        for buffer in buffers {
            drop(buffer);
            // Time is counted in requests.
            drop(pooled(&OWN, 1));
        }
        assert_eq!(held(), 12);
        // A new region takes the place of the two that wait longest.
        let large = pooled(&OWN, 8 * LEAST_REGION);
        assert_eq!(OWN.lock().regions.len(), 2);
        assert_eq!(held(), 10);
        drop(large);
        assert_eq!(held(), 10);
        assert_eq!(OWN.lock().most_used, 12 * LEAST_REGION);
    }

    #[test]
    fn idle_memory_is_released() {
        static OWN: BufferPool = BufferPool::new();
        let [idle, mut used] = [UNIT, PAGE].map(|bytes| pooled(&OWN, bytes));
        drop(idle);
        let part = pooled(&OWN, LEAST_REGION);
        // In a region of which a part is used, free pages are released where the system can do that.
        assert_eq!(OWN.lock().idle_bytes(), UNIT - LEAST_REGION);
        OWN.lock().release_idle();
        let left = match cfg!(target_os = "linux") {
            true => 0,
            false => UNIT - LEAST_REGION,
        };
        assert_eq!(OWN.lock().idle_bytes(), left);
        assert_eq!(OWN.lock().most_used, LEAST_REGION + PAGE);
        // Buffers in use stay usable, and return to the pool later.
        used.fill(7);
        assert!(used.iter().all(|&byte| byte == 7));
        drop((part, used));
        OWN.lock().release_idle();
        assert_eq!(OWN.lock().idle_bytes(), 0);
        assert!(OWN.lock().regions.is_empty());
    }

    /// No other test uses the shared pool.
    #[test]
    fn the_public_function_releases_the_shared_pool() {
        drop(pooled(&POOL, 8192));
        assert_ne!(POOL.lock().idle_bytes(), 0);
        crate::kernel::release_idle_memory();
        assert_eq!(POOL.lock().idle_bytes(), 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Buffers do not overlap, keep what is written to them whatever else is taken, put back and
        /// released, and leave nothing used behind.
        #[test]
        fn buffers_are_apart(orders in prop::collection::vec((0u8..8, 1..2 * UNIT), 1..60)) {
            let own: &'static BufferPool = Box::leak(Box::new(BufferPool::new()));
            let mut held: Vec<(u8, PooledBuffer)> = Vec::new();
            for (number, (order, size)) in orders.into_iter().enumerate() {
                let number = number as u8;
                match order {
                    0..4 => {
                        let size = if order < 2 { size / 512 + 1 } else { size };
                        let mut buffer = pooled(own, size);
                        buffer[0] = number;
                        buffer[size - 1] = number;
                        held.push((number, buffer));
                    }
                    4..7 if !held.is_empty() => {
                        let (number, buffer) = held.swap_remove(size % held.len());
                        prop_assert_eq!((buffer[0], buffer[buffer.len() - 1]), (number, number));
                    }
                    _ => own.lock().release(size),
                }
            }
            for (number, buffer) in held {
                prop_assert_eq!((buffer[0], buffer[buffer.len() - 1]), (number, number));
            }
            prop_assert!(own.lock().regions.iter().all(Region::is_idle));
            own.lock().release_idle();
        }
    }
}
