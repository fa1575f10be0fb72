//! Any allocator for all threads: one lock around every operation.

use std::ptr::NonNull;

use fibra_allocators::{AllocError, Allocator, Layout, Lock, Owns, Source, SpinLock};

pub struct Locked<S> {
    lock: SpinLock,
    inner: S,
}

// SAFETY: the inner allocator is used inside the lock only, by one thread at a time.
unsafe impl<S: Send> Sync for Locked<S> {}

impl<S> Locked<S> {
    pub const fn new(inner: S) -> Self {
        Locked { lock: SpinLock::NEW, inner }
    }

    pub fn with<T: Send>(&self, look: impl FnOnce(&S) -> T) -> T {
        self.lock.with(|| look(&self.inner))
    }
}

// SAFETY: it is the inner allocator.
unsafe impl<S: Source> Allocator for &Locked<S> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.lock.with(|| self.inner.handle().allocate(layout))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { self.inner.handle().deallocate(block, layout) })
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { self.inner.handle().grow(block, old, new) })
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { self.inner.handle().shrink(block, old, new) })
    }
}

// SAFETY: it is the inner allocator, which looks only at its arena's place to answer.
unsafe impl<S: Owns> Owns for Locked<S> {
    fn owns(&self, block: NonNull<u8>) -> bool {
        self.inner.owns(block)
    }
}
