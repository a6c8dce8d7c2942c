//! Memory that is used again: what one evaluation of a loss gives back, the next one takes.
//!
//! Fresh memory costs more than an allocation: the system clears every page of it at the first
//! touch. Results of the engine are therefore taken from here and return when their tensor is
//! dropped.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use memmap2::MmapMut;

/// Requests after which memory that nobody asked for again is given back to the system: a few
/// evaluations of a loss.
const PATIENCE: u64 = 200;

/// From this size on, nothing is kept idle beside a new piece that is as large: pages are filled again
/// sooner than they double the peak.
const LARGE: usize = (64 << 20) + 1;

/// A piece of memory may hold less than it could by this factor.
const SLACK: usize = 2;

/// Memory nobody uses, with the number of the request that it served last.
struct Idle {
    memory: MmapMut,
    last: u64,
}

struct Store {
    idle: Vec<Idle>,
    requests: u64,
}

impl Store {
    /// Gives at least `bytes` back to the system, largest pieces first, or all there is.
    fn give_back(&mut self, bytes: usize) {
        self.idle.sort_by_key(|idle| idle.memory.len());
        let mut freed = 0;
        while freed < bytes
            && let Some(idle) = self.idle.pop()
        {
            freed += idle.memory.len();
        }
    }
}

static STORE: Mutex<Store> = Mutex::new(Store {
    idle: Vec::new(),
    requests: 0,
});

/// Some bytes, page-aligned, with arbitrary but initialised content.
#[derive(Debug)]
pub struct Recycled {
    /// `None` where there are no bytes.
    memory: Option<MmapMut>,
    bytes: usize,
}

impl Recycled {
    /// The smallest idle piece that is large enough but not much too large, or a new one.
    ///
    /// # Panics
    /// If the system has no memory left, as every allocation does.
    pub fn new(bytes: usize) -> Self {
        if bytes == 0 {
            return Self {
                memory: None,
                bytes,
            };
        }
        let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
        store.requests += 1;
        let now = store.requests;
        let fits = |idle: &Idle| (bytes..=SLACK * bytes).contains(&idle.memory.len());
        let best = (0..store.idle.len())
            .filter(|&index| fits(&store.idle[index]))
            .min_by_key(|&index| store.idle[index].memory.len());
        let found = best.map(|index| store.idle.swap_remove(index).memory);
        store.idle.retain(|idle| idle.last + PATIENCE > now);
        if found.is_none() && bytes >= LARGE {
            store.give_back(bytes);
        }
        drop(store);
        let memory = found.unwrap_or_else(|| {
            let memory = MmapMut::map_anon(bytes)
                .unwrap_or_else(|error| panic!("out of memory: {bytes} bytes: {error}"));
            // Large pages are filled in one go; without them it works as well.
            #[cfg(target_os = "linux")]
            let _ = memory.advise(memmap2::Advice::HugePage);
            memory
        });
        Self {
            memory: Some(memory),
            bytes,
        }
    }
}

impl Recycled {
    /// The memory as numbers of some kind.
    pub fn values_mut<T: bytemuck::Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self)
    }
}

impl Drop for Recycled {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            let mut store = STORE.lock().unwrap_or_else(PoisonError::into_inner);
            let last = store.requests;
            store.idle.push(Idle { memory, last });
        }
    }
}

impl Deref for Recycled {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.memory {
            Some(memory) => &memory[..self.bytes],
            // Aligned for any number, as the pages are.
            None => bytemuck::cast_slice::<u64, u8>(&[]),
        }
    }
}

impl DerefMut for Recycled {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(memory) => &mut memory[..self.bytes],
            None => bytemuck::cast_slice_mut::<u64, u8>(&mut []),
        }
    }
}

/// So that it can stand behind a tensor of Flex.
#[cfg(feature = "flex")]
impl burn_std::AllocationController for Recycled {
    fn alloc_align(&self) -> usize {
        // Of a page, at least.
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
    fn what_is_given_back_is_taken_again() {
        // Sizes that no other test uses, since the store is shared.
        let size = 123_457_000;
        let first = Recycled::new(size);
        let address = first.as_ptr();
        drop(first);
        let again = Recycled::new(size - 1000);
        assert_eq!(again.as_ptr(), address);
        assert_eq!(again.len(), size - 1000);
        let other = Recycled::new(size);
        assert_ne!(other.as_ptr(), address);
        drop(again);
        let small = Recycled::new(size / 3);
        assert_ne!(small.as_ptr(), address);
        assert!(Recycled::new(0).values_mut::<f32>().is_empty());
    }
}
