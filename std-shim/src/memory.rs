//! The memory that a process gets by default.
//!
//! Invariant: `shared` is a leaked box from [`Malloc`]; `handles` is the number of [`Memory`] values that point at it. The
//! last one frees it. None can leave its thread, so the count needs no atomics.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::ptr::NonNull;

use allocator_api2::boxed::Box;
use fibra_allocators::{AllocError, Allocator, Extent, Layout, MemReq, SizeClasses, Table, table};

use crate::Malloc;

pub(crate) const N_CLASSES: usize = 11;

/// The pool behind [`Memory`].
///
/// For an example see [`Memory`].
pub type Pool = SizeClasses<N_CLASSES, Extent<Malloc>>;

/// Blocks of the most wanted sizes: what a fibre or a channel usually takes. A host with a small address space gets less.
const MANY: usize = if usize::BITS >= 64 { 1 << 20 } else { 1 << 14 };

/// Reserves 1.8 GB on a 64-bit host, all of it virtual until it is used.
pub(crate) const SIZES: Table<N_CLASSES> = table([
    MemReq::new(64, MANY),
    MemReq::new(128, MANY),
    MemReq::new(192, 2 * MANY),
    MemReq::new(256, MANY),
    MemReq::new(384, MANY / 2),
    MemReq::new(512, MANY / 4),
    MemReq::new(1024, MANY / 8),
    MemReq::new(2048, MANY / 16),
    MemReq::new(4096, MANY / 32),
    MemReq::new(16_384, MANY / 128),
    MemReq::new(65_536, MANY / 1024),
]);

/// The memory that [`run`](crate::run) gives a process: size classes from 64 bytes to 64 KiB, with room for about a
/// million small fibres and their channels, in one extent from [`Malloc`].
///
/// The extent is reserved, not used: a page costs memory once a block in it was handed out. A clone is another handle to
/// the same pool; the extent goes back to the host with the last one.
///
/// It dereferences to the [`SizeClasses`], for instance to see how much was used:
///
/// ```
/// let (most, _) = fibra_std::run(|p| {
///     p.spawn(async {}).unwrap();
///     p.allocator().classes().map(|class| class.peak).max()
/// })?;
/// assert_eq!(most, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Memory {
    shared: NonNull<Shared>,
    owns: PhantomData<Shared>,
}

struct Shared {
    pool: Pool,
    handles: Cell<usize>,
}

impl Memory {
    /// A pool of its own.
    ///
    /// # Errors
    /// [`AllocError`] if the host refuses so much memory at once (a limit on address space, or no overcommitment).
    ///
    /// Takes one request to the host, and touches none of the memory.
    ///
    /// ```
    /// use fibra_std::{Memory, run_in};
    ///
    /// let memory = Memory::new()?;
    /// for _ in 0..3 {
    ///     run_in(memory.clone(), |p| p.spawn(async {}).is_ok())?; // three processes, one after the other, in one pool
    /// }
    /// assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> Result<Self, AllocError> {
        Self::with_table(&SIZES)
    }

    fn with_table(sizes: &Table<N_CLASSES>) -> Result<Self, AllocError> {
        let pool = SizeClasses::in_parent(sizes, Malloc)?;
        let shared = Box::try_new_in(Shared { pool, handles: Cell::new(1) }, Malloc)?;
        Ok(Memory { shared: NonNull::from(Box::leak(shared)), owns: PhantomData })
    }

    fn shared(&self) -> &Shared {
        // SAFETY: allocated as long as a handle exists, and never borrowed mutably.
        unsafe { self.shared.as_ref() }
    }
}

impl Clone for Memory {
    fn clone(&self) -> Self {
        let handles = &self.shared().handles;
        // So many handles can only be forgotten ones, and a wrapped count would be unsound.
        handles.set(handles.get().checked_add(1).expect("no more handles than bytes of memory"));
        Memory { shared: self.shared, owns: PhantomData }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let handles = &self.shared().handles;
        handles.set(handles.get() - 1);
        if handles.get() == 0 {
            // SAFETY: it was leaked from a box of this type, and this was the last handle.
            drop(unsafe { Box::from_raw_in(self.shared.as_ptr(), Malloc) });
        }
    }
}

impl Deref for Memory {
    type Target = Pool;

    #[inline]
    fn deref(&self) -> &Pool {
        &self.shared().pool
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Memory").field(&**self).finish()
    }
}

// SAFETY: every operation is that of the pool, which stays where it is, with its blocks, until the last handle is
// dropped; clones are handles to the same pool.
unsafe impl Allocator for Memory {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&**self).allocate(layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { (&**self).deallocate(block, layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { (&**self).grow(block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        unsafe { (&**self).shrink(block, old, new) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_that_the_host_refuses_is_an_error() {
        let mut rows = [MemReq::new(64, 1); N_CLASSES];
        rows[0].n_blocks = usize::MAX / 256;
        assert!(Memory::with_table(&table(rows)).is_err());
    }

    #[test]
    fn the_last_handle_keeps_the_blocks() {
        let first = Memory::new().unwrap();
        let second = first.clone();
        let kept = Box::new_in([7_u8; 100], second);
        assert_eq!(first.classes().nth(1).unwrap().live, 1);
        drop(first);
        assert_eq!(kept[99], 7);
    }

    #[test]
    fn containers_grow_and_shrink_in_it() {
        let memory = Memory::new().unwrap();
        let mut bytes = allocator_api2::vec::Vec::new_in(memory.clone());
        bytes.extend(0..200_u8);
        bytes.truncate(10);
        bytes.shrink_to_fit();
        assert_eq!(*bytes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        drop(bytes);
        assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
    }
}
