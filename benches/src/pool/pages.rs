//! Memory from the system, page by page as it is touched: what every pool here that needs an arena gets.

use std::ptr::{self, NonNull};

use fibra_allocators::{AllocError, Allocator, Layout};

/// Memory of its own mapping, given back when it is dropped. Nothing is resident until it is touched, and nothing is
/// reserved, so it may be far more than the machine has.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// At least `bytes`, aligned to a page.
    ///
    /// # Panics
    ///
    /// If there is no room among the addresses.
    pub(crate) fn new(bytes: usize) -> Self {
        let start = map(bytes).expect("room for an arena");
        Mapping { start, len: bytes }
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours alone, mapped with this length, and not used any more.
        unsafe { unmap(self.start, self.len) }
    }
}

// SAFETY: plain memory, owned.
unsafe impl Send for Mapping {}
// SAFETY: a shared mapping gives no access to the memory.
unsafe impl Sync for Mapping {}

/// The parent of fibra's allocators here: each block is a mapping of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages;

// SAFETY: a mapping is nobody else's and stays where it is until it is unmapped; there is no state.
unsafe impl Allocator for Pages {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // Pages are at least that large everywhere.
        if layout.size() == 0 || layout.align() > 4096 {
            return Err(AllocError);
        }
        let block = map(layout.size()).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: by our caller's word it came from `allocate` with this layout.
        unsafe { unmap(block, layout.size()) }
    }
}

fn map(bytes: usize) -> Option<NonNull<u8>> {
    // SAFETY: a new mapping, wherever there is room, touches nothing that exists.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// # Safety
///
/// `start` came from [`map`] with this length, and nobody uses the memory any more.
unsafe fn unmap(start: NonNull<u8>, bytes: usize) {
    // SAFETY: our caller's word.
    unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
}
