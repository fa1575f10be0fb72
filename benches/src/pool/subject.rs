//! What the workloads ask of a pool, whoever made it.

use std::ptr::NonNull;

use fibra_allocators::{Allocator, Layout};

/// The block sizes of every pool with size classes, ours, the floors' and whoever is given a table, in bytes.
pub(crate) const CLASSES: [usize; 12] = [16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024];

/// The size that pools of one size have, in bytes.
pub(crate) const BLOCK: usize = 64;

/// The alignment of every request, in bytes.
pub(crate) const ALIGN: usize = 8;

/// Blocks of each class besides those that a workload asks for: what caches of two workers may withhold. The number is
/// not round, or classes would begin at the same place of a page, and blocks of different classes have addresses with the
/// same low bits, which processors take for one another.
pub(crate) const SPARE: usize = 4109;

/// A pool under test.
pub(crate) trait Subject: Sized {
    /// Whether it serves requests of 1 to 1024 bytes; otherwise of [`BLOCK`] bytes only.
    const ANY_SIZE: bool;

    /// What one thread uses it through.
    type Worker<'a>: Worker
    where
        Self: 'a;

    /// A pool of which `blocks` blocks of each size can be live at once, besides what workers may withhold in caches.
    fn new(blocks: usize) -> Self;

    /// A worker for the calling thread. Dropping it puts back what it withholds.
    fn worker(&self) -> Self::Worker<'_>;
}

/// A pool that several threads may use at once.
///
/// # Safety
///
/// A block that came from one worker may be given back through another one, on another thread.
pub(crate) unsafe trait Shared: Subject + Sync {}

/// One thread's way to a pool.
///
/// # Safety
///
/// A block is of the size asked for, aligned to [`ALIGN`], and nobody else's, from `take` to `give_back`; and so is the
/// memory at its address.
pub(crate) unsafe trait Worker {
    /// A block in use; dropping it does not have to give it back.
    type Block;

    /// `None` if the pool is exhausted.
    fn take(&self, size: usize) -> Option<Self::Block>;

    /// Where the block's memory begins.
    fn address(&self, block: &Self::Block) -> NonNull<u64>;

    /// # Safety
    ///
    /// The block came from `take` of the same size, on this pool.
    unsafe fn give_back(&self, block: Self::Block, size: usize);
}

/// The worker of everything that is an [`Allocator`].
pub(crate) struct Handle<A>(pub A);

#[inline(always)]
fn layout(size: usize) -> Layout {
    debug_assert!(Layout::from_size_align(size, ALIGN).is_ok());
    // SAFETY: the alignment is a power of two, and the sizes here are small.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

// SAFETY: what `Allocator` promises.
unsafe impl<A: Allocator> Worker for Handle<A> {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        self.0.allocate(layout(size)).ok().map(NonNull::cast)
    }

    #[inline(always)]
    fn address(&self, block: &NonNull<u8>) -> NonNull<u64> {
        block.cast()
    }

    #[inline(always)]
    unsafe fn give_back(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word.
        unsafe { self.0.deallocate(block, layout(size)) }
    }
}

/// The worker of an allocator that the worker owns, such as a cache.
pub(crate) struct Owner<A>(pub A);

// SAFETY: what `Allocator` promises.
unsafe impl<A> Worker for Owner<A>
where
    for<'a> &'a A: Allocator,
{
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        Handle(&self.0).take(size)
    }

    #[inline(always)]
    fn address(&self, block: &NonNull<u8>) -> NonNull<u64> {
        block.cast()
    }

    #[inline(always)]
    unsafe fn give_back(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word.
        unsafe { Handle(&self.0).give_back(block, size) }
    }
}
