//! The root over a global allocator.

mod support;

use std::alloc::{GlobalAlloc, System};
use std::cell::{Cell, RefCell};

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as InVec;
use fibra_allocators::{AllocRef, Allocator, Bump, ByRef, FixedBlock, FromGlobal, Layout};
use static_assertions::{assert_eq_size, assert_impl_all, assert_not_impl_any};
use support::{bytes, fill, layout, release};

assert_impl_all!(FromGlobal<System>: AllocRef, Copy, Default, Send, Sync);
assert_eq_size!(FromGlobal<System>, ());
assert_eq_size!(FromGlobal<ByRef<'static, Noted>>, usize);
assert_not_impl_any!(FromGlobal<Noted>: Allocator); // clones of it would not be one allocator
assert_not_impl_any!(FromGlobal<ByRef<'static, Noted>>: Send, Sync); // as it is not `Sync`

/// `System`, which writes down what it is asked, and refuses when told to.
#[derive(Default)]
struct Noted {
    events: RefCell<Vec<String>>,
    refuses: Cell<bool>,
}

impl Noted {
    fn note(&self, event: &str, size: usize) -> bool {
        self.events.borrow_mut().push(format!("{event} {size}"));
        self.refuses.get()
    }
}

// SAFETY: it is `System`, or nothing.
unsafe impl GlobalAlloc for Noted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.note("alloc", layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if self.note("alloc_zeroed", layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: passed on to the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        self.note("dealloc", layout.size());
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if self.note("realloc", new_size) {
            return std::ptr::null_mut();
        }
        // SAFETY: passed on to the caller.
        unsafe { System.realloc(block, layout, new_size) }
    }
}

#[test]
fn every_operation_is_the_global_allocators_own() {
    let noted = Noted::default();
    let root = FromGlobal::by_ref(&noted);
    // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
    unsafe {
        let block = root.allocate(layout(10, 8)).unwrap();
        assert_eq!(block.len(), 10);
        fill(block, 1);
        let block = root.grow(block.cast(), layout(10, 8), layout(20, 8)).unwrap();
        assert_eq!((block.len(), &bytes(block)[..10]), (20, &[1; 10][..]));
        let block = root.grow_zeroed(block.cast(), layout(10, 8), layout(30, 8)).unwrap();
        assert_eq!((&bytes(block)[..10], &bytes(block)[10..]), (&[1; 10][..], &[0; 20][..]));
        let block = root.shrink(block.cast(), layout(30, 8), layout(5, 8)).unwrap();
        assert_eq!(bytes(block), [1; 5]);
        root.deallocate(block.cast(), layout(5, 8));
        let zeroed = root.allocate_zeroed(layout(40, 8)).unwrap();
        assert_eq!(bytes(zeroed), [0; 40]);
        root.deallocate(zeroed.cast(), layout(40, 8));
    }
    let expected = ["alloc 10", "realloc 20", "realloc 30", "realloc 5", "dealloc 5", "alloc_zeroed 40", "dealloc 40"];
    assert_eq!(noted.events.into_inner(), expected);
}

#[test]
fn another_alignment_is_another_block() {
    let noted = Noted::default();
    let root = FromGlobal::by_ref(&noted);
    // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
    unsafe {
        let block = root.allocate(layout(10, 1)).unwrap();
        fill(block, 1);
        let block = root.grow(block.cast(), layout(10, 1), layout(20, 256)).unwrap();
        assert!(block.cast::<u8>().addr().get().is_multiple_of(256));
        assert_eq!(bytes(block)[..10], [1; 10]);
        let block = root.shrink(block.cast(), layout(20, 256), layout(8, 2)).unwrap();
        assert_eq!(bytes(block), [1; 8]);
        root.deallocate(block.cast(), layout(8, 2));
    }
    let expected = ["alloc 10", "alloc 20", "dealloc 10", "alloc 8", "dealloc 20", "dealloc 8"];
    assert_eq!(noted.events.into_inner(), expected);
}

#[test]
fn requests_for_no_bytes_are_not_made_to_it() {
    let noted = Noted::default();
    let root = FromGlobal::by_ref(&noted);
    // SAFETY: what a request for no bytes got may grow, and shrink to nothing again.
    unsafe {
        let nothing = root.allocate(layout(0, 128)).unwrap();
        assert_eq!((nothing.len(), nothing.cast::<u8>().addr().get() % 128), (0, 0));
        release(root, root.allocate_zeroed(layout(0, 1)).unwrap(), layout(0, 1));
        let block = root.grow(nothing.cast(), layout(0, 128), layout(10, 128)).unwrap();
        let nothing = root.shrink(block.cast(), layout(10, 128), layout(0, 128)).unwrap();
        let block = root.grow_zeroed(nothing.cast(), layout(0, 128), layout(20, 1)).unwrap();
        assert_eq!(bytes(block), [0; 20]);
        let nothing = root.shrink(block.cast(), layout(20, 1), layout(0, 1)).unwrap();
        root.deallocate(nothing.cast(), layout(0, 1));
    }
    assert_eq!(noted.events.into_inner(), ["alloc 10", "dealloc 10", "alloc_zeroed 20", "dealloc 20"]);
}

#[test]
fn null_is_an_error_and_the_block_stays() {
    let noted = Noted::default();
    let root = FromGlobal::by_ref(&noted);
    let block = root.allocate(layout(10, 8)).unwrap();
    fill(block, 2);
    noted.refuses.set(true);
    assert!(root.allocate(layout(8, 8)).is_err());
    assert!(root.allocate_zeroed(layout(8, 8)).is_err());
    // SAFETY: the block is this allocator's, with this layout; it stays ours after an error.
    unsafe {
        assert!(root.grow(block.cast(), layout(10, 8), layout(20, 8)).is_err());
        assert!(root.grow(block.cast(), layout(10, 8), layout(20, 64)).is_err());
        assert!(root.grow_zeroed(block.cast(), layout(10, 8), layout(20, 8)).is_err());
        assert!(root.shrink(block.cast(), layout(10, 8), layout(5, 8)).is_err());
    }
    assert_eq!(bytes(block), [2; 10]);
    release(root, block, layout(10, 8));
}

#[test]
fn allocators_are_made_in_it() {
    let host = FromGlobal::<System>::default();
    let bump = Bump::in_parent(host, 1000).expect("memory");
    let words = FixedBlock::in_parent(Layout::new::<u64>(), 10, &bump).expect("room");
    let mut numbers = InVec::new_in(host);
    numbers.extend((0..10_u64).map(|n| Box::new_in(n, &words)));
    assert_eq!(numbers.iter().map(|n| **n).sum::<u64>(), 45);
    assert_eq!(format!("{host:?}"), "FromGlobal(System)");
}
