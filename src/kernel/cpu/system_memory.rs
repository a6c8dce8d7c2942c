//! Memory of the system, in whole pages.

use std::ptr::NonNull;

#[cfg(target_family = "wasm")]
use heap::Block as Owner;
#[cfg(not(target_family = "wasm"))]
use memmap2::MmapMut as Owner;

/// Memory that is returned to the system when it is dropped.
#[derive(Debug)]
pub struct SystemMemory {
    owner: Owner,
    /// Where it begins. Kept, since a reference to all of the memory must not be made while parts are in use.
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the pointer is to memory that belongs to this value.
unsafe impl Send for SystemMemory {}

impl SystemMemory {
    /// So many zeros, which begin at a page.
    ///
    /// # Panics
    /// If there is no memory left.
    #[cfg(not(target_family = "wasm"))]
    pub fn new(bytes: usize) -> Self {
        let mut owner = Owner::map_anon(bytes)
            .unwrap_or_else(|error| panic!("out of memory: {bytes} bytes: {error}"));
        // Huge pages are cleared faster; a refusal does no harm.
        #[cfg(target_os = "linux")]
        let _ = owner.advise(memmap2::Advice::HugePage);
        let start = NonNull::from_mut(&mut owner[..]).cast();
        Self {
            owner,
            start,
            bytes,
        }
    }

    /// So many zeros, which begin at a page.
    ///
    /// # Panics
    /// If there is no memory left.
    #[cfg(target_family = "wasm")]
    pub fn new(bytes: usize) -> Self {
        let owner = Owner::new(bytes).unwrap_or_else(|| panic!("out of memory: {bytes} bytes"));
        let start = owner.start();
        Self {
            owner,
            start,
            bytes,
        }
    }

    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns pages to the system, where that can be done with a part; they are zeros when they are touched
    /// again. Whether it did.
    ///
    /// # Safety
    /// They are whole pages of the system within the memory, and no reference to their bytes exists.
    pub unsafe fn release(&self, at: usize, bytes: usize) -> bool {
        #[cfg(target_os = "linux")]
        {
            use memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: as promised by the caller; the pages stay mapped.
            unsafe { self.owner.unchecked_advise_range(DontNeed, at, bytes) }.is_ok()
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (&self.owner, at, bytes);
            false
        }
    }
}

/// WebAssembly has one memory, in which the allocator gives out blocks.
#[cfg(target_family = "wasm")]
mod heap {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ptr::NonNull;

    #[derive(Debug)]
    pub struct Block {
        start: NonNull<u8>,
        layout: Layout,
    }

    impl Block {
        /// `bytes` zeros, at least one; `None` if there is no memory left.
        pub fn new(bytes: usize) -> Option<Self> {
            let layout = Layout::from_size_align(bytes.max(1), 4096).ok()?;
            // SAFETY: the size is not zero.
            let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
            Some(Self { start, layout })
        }

        pub fn start(&self) -> NonNull<u8> {
            self.start
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout by `new`.
            unsafe { dealloc(self.start.as_ptr(), self.layout) }
        }
    }
}
