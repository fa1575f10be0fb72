use core::alloc::GlobalAlloc;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::request::{dangling, grow_zeroed, relocate};

/// The root over a global allocator: that of the host (`std::alloc::System`), or of any crate that brings one.
///
/// A handle, an [`AllocRef`](crate::AllocRef), which takes as much space as `G`: usually none. `G` has to be `Copy`, so
/// that nothing in it can change and all clones are the same allocator; one that is not is taken
/// [by reference](FromGlobal::by_ref).
///
/// # Errors
///
/// [`AllocError`] where the global allocator returns null. A request for no bytes succeeds and is not made to it.
///
/// # Examples
///
/// ```
/// use std::alloc::System;
/// use fibra_allocators::{FromGlobal, MemReq, SizeClasses, table};
///
/// const HOST: FromGlobal<System> = FromGlobal::new(System);
/// assert_eq!(size_of_val(&HOST), 0);
/// let system = SizeClasses::in_parent(&table([MemReq::new(64, 1000)]), HOST)?;
/// assert_eq!(*allocator_api2::boxed::Box::new_in(7, &system), 7);
/// # Ok::<(), fibra_allocators::AllocError>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct FromGlobal<G>(G);

impl<G: GlobalAlloc + Copy> FromGlobal<G> {
    /// The root over `global`.
    ///
    /// For an example see [`FromGlobal`].
    #[must_use]
    pub const fn new(global: G) -> Self {
        FromGlobal(global)
    }
}

impl<'g, G: GlobalAlloc> FromGlobal<ByRef<'g, G>> {
    /// The root over the global allocator that `global` refers to. One word.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::alloc::{GlobalAlloc, Layout, System};
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    /// use fibra_allocators::FromGlobal;
    ///
    /// #[derive(Default)]
    /// struct Counting(AtomicUsize);
    ///
    /// // SAFETY: it is `System`.
    /// unsafe impl GlobalAlloc for Counting {
    ///     unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///         // SAFETY: passed on to the caller.
    ///         unsafe { System.alloc(layout) }
    ///     }
    ///     unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
    ///         // SAFETY: passed on to the caller.
    ///         unsafe { System.dealloc(block, layout) }
    ///     }
    /// }
    ///
    /// let counting = Counting::default();
    /// drop(allocator_api2::boxed::Box::new_in(7, FromGlobal::by_ref(&counting)));
    /// assert_eq!(counting.0.into_inner(), 1);
    /// ```
    #[must_use]
    pub const fn by_ref(global: &'g G) -> Self {
        FromGlobal(ByRef(global))
    }
}

// SAFETY: each operation is one of `G`, whose blocks live until they are released. Clones are bitwise the same, and nothing in
// them changes, because there is no interior mutability in what is `Copy`. Requests for no bytes, which `G` does not serve,
// do not reach it, on allocation as on release.
unsafe impl<G: GlobalAlloc + Copy> Allocator for FromGlobal<G> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        // SAFETY: it has bytes.
        sized(unsafe { self.0.alloc(layout) }, layout)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        // SAFETY: it has bytes.
        sized(unsafe { self.0.alloc_zeroed(layout) }, layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: it has bytes, so the block came from there with this very size: a block is as long as was asked for.
            unsafe { self.0.dealloc(block.as_ptr(), layout) }
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate_zeroed(new);
        }
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new) }
    }
}

impl<G: GlobalAlloc + Copy> FromGlobal<G> {
    /// # Safety
    ///
    /// As for [`Allocator::grow`] or [`Allocator::shrink`], whichever `new` asks for.
    #[inline]
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 || new.size() == 0 || old.align() != new.align() {
            // SAFETY: passed on to our caller.
            return unsafe { relocate(self, block, old, new) };
        }
        // SAFETY: both have bytes and the same alignment; the rest is passed on to our caller.
        sized(unsafe { self.0.realloc(block.as_ptr(), old, new.size()) }, new)
    }
}

#[inline]
fn sized(block: *mut u8, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    let block = NonNull::new(block).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(block, layout.size()))
}

/// A reference to a global allocator, which is one too: see [`FromGlobal::by_ref`].
///
/// ```
/// use std::alloc::System;
/// use fibra_allocators::{ByRef, FromGlobal};
///
/// static HOST: System = System;
/// const ROOT: FromGlobal<ByRef<'static, System>> = FromGlobal::by_ref(&HOST);
/// assert_eq!(size_of_val(&ROOT), size_of::<usize>());
/// ```
#[derive(Debug)]
pub struct ByRef<'g, G>(&'g G);

impl<G> Clone for ByRef<'_, G> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<G> Copy for ByRef<'_, G> {}

// SAFETY: it is the one that is referred to.
unsafe impl<G: GlobalAlloc> GlobalAlloc for ByRef<'_, G> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on to our caller.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on to our caller.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to our caller.
        unsafe { self.0.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: passed on to our caller.
        unsafe { self.0.realloc(block, layout, new_size) }
    }
}
