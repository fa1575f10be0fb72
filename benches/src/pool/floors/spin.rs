use std::hint;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use super::List;

/// A list with a flag that one waits for; each on a cache line of its own.
#[repr(align(64))]
pub(in crate::pool) struct Spin<L> {
    turn: Turn,
    list: L,
}

// SAFETY: the list is used by whoever has the turn.
unsafe impl<L> Sync for Spin<L> {}

impl<L: List> List for Spin<L> {
    unsafe fn new(start: NonNull<u8>, size: usize, count: usize, class: usize) -> Self {
        // SAFETY: our caller's word.
        let list = unsafe { L::new(start, size, count, class) };
        Spin { turn: Turn::new(), list }
    }

    #[inline(always)]
    fn pop(&self) -> Option<NonNull<u8>> {
        self.turn.take();
        let block = self.list.pop();
        self.turn.give();
        block
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>) {
        self.turn.take();
        // SAFETY: our caller's word.
        unsafe { self.list.push(block) };
        self.turn.give();
    }
}

/// The least that a lock can be.
pub(super) struct Turn(AtomicBool);

impl Turn {
    pub(super) fn new() -> Self {
        Turn(AtomicBool::new(false))
    }

    #[inline(always)]
    pub(super) fn take(&self) {
        while self.0.swap(true, Ordering::Acquire) {
            self.wait();
        }
    }

    #[inline(always)]
    pub(super) fn give(&self) {
        self.0.store(false, Ordering::Release);
    }

    #[cold]
    fn wait(&self) {
        while self.0.load(Ordering::Relaxed) {
            hint::spin_loop();
        }
    }
}
