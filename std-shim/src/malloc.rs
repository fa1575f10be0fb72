use std::alloc::{Layout, System};
use std::ptr::NonNull;

use fibra_allocators::{AllocError, Allocator};

/// The host's memory: the root that pools and processes are made in when there is an operating system.
///
/// It is the system allocator of the standard library (`malloc` and `free` on most hosts), whatever the program's global
/// allocator is. It has no parent, takes no space, and may be used from any thread.
///
/// # Errors
/// [`AllocError`] where the host refuses. A request for no bytes succeeds and asks the host nothing.
///
/// ```
/// use fibra_std::{Malloc, MemReq, SizeClasses, table};
///
/// let pool = SizeClasses::in_parent(&table([MemReq::new(256, 1000)]), Malloc)?;
/// let (_, outcome) = fibra_std::run_in(&pool, |p| p.spawn(async {}).is_ok())?;
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Malloc;

// SAFETY: every operation is that of `System`, which keeps the contract; all values of this type are the same allocator.
unsafe impl Allocator for Malloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        System.allocate(layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        System.allocate_zeroed(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.deallocate(block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { System.grow(block, old, new) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { System.grow_zeroed(block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { System.shrink(block, old, new) }
    }
}
