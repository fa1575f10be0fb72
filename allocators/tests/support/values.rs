//! Values that keep count of themselves, and a parent that several threads use.

use std::cell::Cell;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Mutex;

use allocator_api2::alloc::Global;
use fibra_allocators::{AllocError, Allocator, Layout};

/// Counts what is made and dropped on one thread.
#[derive(Default)]
pub struct Census {
    made: Cell<usize>,
    dropped: Cell<usize>,
}

impl Census {
    /// One more, to be known by its number.
    pub fn one(&self, number: u32) -> One<'_> {
        self.made.set(self.made.get() + 1);
        One { census: self, number, panics: false }
    }

    /// One more, whose destructor panics.
    pub fn bomb(&self) -> One<'_> {
        let mut bomb = self.one(0);
        bomb.panics = true;
        bomb
    }

    pub fn dropped(&self) -> usize {
        self.dropped.get()
    }

    pub fn alive(&self) -> usize {
        self.made.get().checked_sub(self.dropped.get()).expect("each is dropped once")
    }
}

pub struct One<'c> {
    census: &'c Census,
    pub number: u32,
    panics: bool,
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.census.dropped.set(self.census.dropped.get() + 1);
        // A box that was released before its value is dropped, or twice, would most likely show here.
        assert_ne!(mem::replace(&mut self.number, u32::MAX), u32::MAX, "dropped twice");
        assert!(!self.panics, "as it was told");
    }
}

impl std::fmt::Debug for One<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "One({})", self.number)
    }
}

pub fn panics<R>(action: impl FnOnce() -> R) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

/// A parent that keeps accounts for all threads: each block must come back, once, with the layout it was asked for.
#[derive(Default)]
pub struct SyncParent(Mutex<Vec<(usize, Layout)>>);

impl SyncParent {
    pub fn live(&self) -> usize {
        self.0.lock().expect("no panic inside").len()
    }
}

// SAFETY: it is `Global`, with accounts.
unsafe impl Allocator for &SyncParent {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = Global.allocate(layout)?;
        self.0.lock().expect("no panic inside").push((block.addr().get(), layout));
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let mut live = self.0.lock().expect("no panic inside");
        let at = live.iter().position(|entry| *entry == (block.addr().get(), layout));
        match at {
            Some(at) => live.swap_remove(at),
            None => std::process::abort(), // and not a poisoned lock, which hides the cause
        };
        // SAFETY: it is on the account, so it came from `Global` with this layout and was not released since.
        unsafe { Global.deallocate(block, layout) }
    }
}
