use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::{GRANULE, List};

/// A stack whose top is replaced by compare-and-swap, with a count beside it against its being the same by accident
/// (Treiber's). One 64-bit word holds both: 32 bits of count, and the place of the top block in granules, so that no
/// division is needed and 64 GiB can be told apart.
#[repr(align(64))]
pub(in crate::pool) struct Tagged {
    /// The count in the upper half. In the lower one 0 for an empty stack, otherwise 1 + the block's place.
    top: AtomicU64,
    /// Blocks carved; may go beyond their number.
    carved: AtomicUsize,
    start: NonNull<u8>,
    size: usize,
    count: usize,
}

// SAFETY: the words that change are atomic. A link may be read while its block, taken by another thread meanwhile, is
// being written to: the value is then not used, as the compare-and-swap fails. The language has no word for such a read.
unsafe impl Sync for Tagged {}

const PLACE: u64 = u32::MAX as u64;
const ONE_MORE: u64 = 1 << 32;

impl Tagged {
    /// The link in a block.
    ///
    /// # Safety
    ///
    /// It is one of our blocks.
    #[inline(always)]
    unsafe fn link<'a>(block: NonNull<u8>) -> &'a AtomicU32 {
        // SAFETY: our caller's word; blocks are aligned.
        unsafe { block.cast().as_ref() }
    }

    #[cold]
    fn carve(&self) -> Option<NonNull<u8>> {
        let place = self.carved.fetch_add(1, Ordering::Relaxed);
        // SAFETY: a block within the memory.
        (place < self.count).then(|| unsafe { self.start.add(place * self.size) })
    }
}

impl List for Tagged {
    unsafe fn new(start: NonNull<u8>, size: usize, count: usize, _class: usize) -> Self {
        assert!((size * count / GRANULE) as u64 <= PLACE, "too many blocks for the tag");
        Tagged { top: AtomicU64::new(0), carved: AtomicUsize::new(0), start, size, count }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        let mut top = self.top.load(Ordering::Acquire);
        loop {
            let place = (top & PLACE) as usize;
            if place == 0 {
                return self.carve();
            }
            // SAFETY: the place of a block.
            let block = unsafe { self.start.add((place - 1) * GRANULE) };
            // SAFETY: a block of ours, though it may be somebody's by now: see above.
            let next = unsafe { Self::link(block) }.load(Ordering::Relaxed);
            let new = ((top & !PLACE).wrapping_add(ONE_MORE)) | u64::from(next);
            match self.top.compare_exchange_weak(top, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(block),
                Err(now) => top = now,
            }
        }
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>) {
        let place = (block.addr().get() - self.start.addr().get()) / GRANULE + 1;
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: a block of ours.
            unsafe { Self::link(block) }.store(top as u32, Ordering::Relaxed);
            let new = (top & !PLACE) | place as u64;
            match self.top.compare_exchange_weak(top, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }
}
