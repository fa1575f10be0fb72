use std::cell::Cell;
use std::ptr::NonNull;

use super::{Link, List};

/// The links in the blocks themselves, last in, first out; blocks are carved when the list is empty.
pub(in crate::pool) struct FreeList {
    free: Cell<Link>,
    virgin: Cell<NonNull<u8>>,
    end: NonNull<u8>,
    size: usize,
}

impl List for FreeList {
    unsafe fn new(start: NonNull<u8>, size: usize, count: usize, _class: usize) -> Self {
        // SAFETY: the end of the memory that our caller gives.
        let end = unsafe { start.add(size * count) };
        FreeList { free: Cell::new(None), virgin: Cell::new(start), end, size }
    }

    #[inline(always)]
    fn pop(&self) -> Link {
        if let Some(block) = self.free.get() {
            // SAFETY: it is on the list, and so begins with a link.
            self.free.set(unsafe { block.cast::<Link>().read() });
            return Some(block);
        }
        let block = self.virgin.get();
        if block == self.end {
            return None;
        }
        // SAFETY: one more block lies before the end.
        self.virgin.set(unsafe { block.add(self.size) });
        Some(block)
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>) {
        // SAFETY: the block is ours again, and has room for a link.
        unsafe { block.cast::<Link>().write(self.free.get()) };
        self.free.set(Some(block));
    }
}
