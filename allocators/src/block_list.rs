//! Blocks of one size: the mechanism under `FixedBlock` and under each class of `SizeClasses`.
//!
//! ```text
//!   start                 virgin              end
//!     |  free  live  free   |    untouched     |
//!        ^            |
//!        |            v
//!      (next) <---- free
//! ```
//!
//! # Invariants
//!
//! 1. `start .. end` is memory that the owner's backing keeps for us, a whole number of blocks, each aligned for a link and
//!    large enough for one; `virgin` lies on a block boundary in it. `virgin` and `end` have the arena's provenance.
//! 2. A block below `virgin` is either live (its user's alone) or on the free list, which then owns it.
//! 3. The first word of a block on the free list is the link to the next one; all links have the arena's provenance.
//!
//! Blocks are carved from `virgin` only when the free list is empty. So at the moment of carving all blocks are live, and
//! the number of carved blocks is the greatest number that was ever live: the peak costs nothing to keep.

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::{self, NonNull};

use crate::request::rederive;

type Link = Option<NonNull<u8>>;

/// What a block has to hold while nobody uses it.
pub(crate) const LINK: Layout = Layout::new::<Link>();

// 32 bytes on a 64-bit machine, so that the n-th of a row is a shift away.
pub(crate) struct BlockList {
    free: Cell<Link>,
    virgin: Cell<NonNull<u8>>,
    end: NonNull<u8>,
    block_size: usize,
}

impl BlockList {
    /// A list that never has a block.
    pub(crate) const fn empty() -> Self {
        let nowhere = NonNull::dangling();
        BlockList { free: Cell::new(None), virgin: Cell::new(nowhere), end: nowhere, block_size: 0 }
    }

    /// Touches none of the memory.
    ///
    /// # Safety
    ///
    /// `n_blocks * block_size` bytes at `start` are ours, with the arena's provenance, until the last use of the list.
    /// `start` and `block_size` are multiples of the alignment of [`LINK`] and `block_size` is not 0.
    pub(crate) unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize) -> Self {
        debug_assert!(block_size >= LINK.size());
        debug_assert!((start.addr().get() | block_size).is_multiple_of(LINK.align()));
        // SAFETY: still within, or one past the end of, the memory that the caller gives.
        let end = unsafe { start.add(n_blocks * block_size) };
        BlockList { free: Cell::new(None), virgin: Cell::new(start), end, block_size }
    }

    /// The size of every block, in bytes; 0 for the empty list.
    #[inline]
    pub(crate) fn block_size(&self) -> usize {
        self.block_size
    }

    /// A block of `block_size` bytes, the most recently released one if there is one.
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        if let Some(block) = self.free.get() {
            // SAFETY: invariant 3, and invariant 1 for its alignment.
            self.free.set(unsafe { block.cast::<Link>().read() });
            return Some(block);
        }
        let block = self.virgin.get();
        if block == self.end {
            return None;
        }
        // SAFETY: invariant 1: at least one whole block lies between `virgin` and `end`.
        self.virgin.set(unsafe { block.add(self.block_size) });
        Some(block)
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// `block` came from `pop` on this list, is not on it, and its user has finished with it.
    #[inline]
    pub(crate) unsafe fn push(&self, block: NonNull<u8>) {
        let block = rederive(self.end, block);
        // SAFETY: the block is ours again (invariant 2) and can hold a link (invariant 1).
        unsafe { block.cast::<Link>().write(self.free.get()) };
        self.free.set(Some(block));
    }

    /// Blocks that were never given out yet.
    pub(crate) fn untouched(&self) -> usize {
        (self.end.addr().get() - self.virgin.get().addr().get()).checked_div(self.block_size).unwrap_or(0)
    }

    /// Blocks that were given out and came back. Walks the free list.
    pub(crate) fn recycled(&self) -> usize {
        let mut count = 0;
        let mut at = self.free.get();
        while let Some(block) = at {
            count += 1;
            // SAFETY: invariant 3.
            at = unsafe { ptr::read(block.cast::<Link>().as_ptr()) };
        }
        count
    }
}
