//! Any allocator behind a lock.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{
    AllocError, Allocator, Bump, FixedBlock, Layout, Lock, Locked, MemReq, NoLock, SizeClasses, SpinLock, Table, table,
};
use support::{Guarded, bytes, drain, layout, release};

const SIZES: Table<3> = table([MemReq::new(64, 100), MemReq::new(256, 20), MemReq::new(1024, 8)]);

/// Threads that pass what they allocate to each other.
fn share<L: Lock + Sync>() {
    let mut memory = Guarded::new(0, SIZES.arena_size());
    let system = Locked::<_, L>::new(SizeClasses::new(&SIZES, memory.memory()).expect("room"));
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::sync_channel(4);
        for n in 0..3_u8 {
            let (system, send) = (&system, send.clone());
            scope.spawn(move || {
                for round in 0..500 {
                    let mut bytes = VecIn::with_capacity_in(20, system);
                    bytes.extend((0..round % 100).map(|_| n));
                    send.send((n, round % 100, bytes)).expect("somebody listens");
                }
            });
        }
        drop(send);
        scope.spawn(|| {
            for (n, len, mut bytes) in receive {
                assert_eq!(bytes.len(), len);
                assert!(bytes.iter().all(|byte| *byte == n));
                bytes.shrink_to_fit();
            }
        });
    });
    assert!(system.with(|system| system.classes().all(|class| class.live == 0)));
    memory.assert_guards();
}

#[test]
fn threads_share_what_serves_one() {
    share::<SpinLock>();
    #[cfg(feature = "critical-section")]
    share::<fibra_allocators::CriticalSection>();
}

#[test]
fn it_does_what_the_allocator_inside_does() {
    let mut memory = Guarded::new(0, 640);
    let blocks = Locked::<_, NoLock>::new(FixedBlock::new(layout(64, 64), memory.memory()));
    let all = drain(&blocks, layout(33, 8));
    assert_eq!(all.len(), blocks.with(|blocks| blocks.capacity()));
    assert!(all.iter().all(|block| block.len() == 64));
    assert_eq!((&blocks).allocate(layout(65, 1)), Err(AllocError));
    for block in &all {
        // SAFETY: live blocks with the layouts that they have.
        unsafe {
            let grown = (&blocks).grow(block.cast(), layout(33, 8), layout(50, 8)).expect("in place");
            let shrunk = (&blocks).shrink(grown.cast(), layout(50, 8), layout(1, 1)).expect("in place");
            assert_eq!((grown, shrunk), (*block, *block));
            let zeroed = (&blocks).grow_zeroed(shrunk.cast(), layout(1, 1), layout(9, 1)).expect("in place");
            assert!(bytes(zeroed)[1..].iter().all(|byte| *byte == 0));
        }
        release(&blocks, *block, layout(9, 1));
    }
    let zeroed = (&blocks).allocate_zeroed(layout(64, 8)).expect("room");
    assert_eq!(bytes(zeroed), [0; 64]);
    release(&blocks, zeroed, layout(64, 8));
    assert_eq!(blocks.into_inner().live(), 0);
}

#[test]
fn what_forwards_is_forwarded() {
    /// Says which of its operations was called.
    struct Named<'a>(&'a Cell<&'static str>);
    // SAFETY: it never gives anything.
    unsafe impl Allocator for Named<'_> {
        fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.set("allocate");
            Err(AllocError)
        }
        fn allocate_zeroed(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.set("allocate_zeroed");
            Err(AllocError)
        }
        unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {
            self.0.set("deallocate");
        }
        unsafe fn grow(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.set("grow");
            Err(AllocError)
        }
        unsafe fn grow_zeroed(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.set("grow_zeroed");
            Err(AllocError)
        }
        unsafe fn shrink(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.0.set("shrink");
            Err(AllocError)
        }
    }
    let called = Cell::new("");
    let locked = Locked::<_, NoLock>::new(Named(&called));
    let (locked, at, shape) = (&locked, NonNull::dangling(), layout(8, 8));
    assert!(locked.allocate(shape).is_err() && called.get() == "allocate");
    assert!(locked.allocate_zeroed(shape).is_err() && called.get() == "allocate_zeroed");
    // SAFETY: nothing is done to the pointer.
    unsafe {
        assert!(locked.grow(at, shape, shape).is_err() && called.get() == "grow");
        assert!(locked.grow_zeroed(at, shape, shape).is_err() && called.get() == "grow_zeroed");
        assert!(locked.shrink(at, shape, shape).is_err() && called.get() == "shrink");
        locked.deallocate(at, shape);
        assert_eq!(called.get(), "deallocate");
    }
}

#[test]
fn nobody_else_is_inside_meanwhile() {
    struct Alone(AtomicBool);
    impl Alone {
        fn inside<R>(&self, section: impl FnOnce() -> R) -> R {
            assert!(!self.0.swap(true, SeqCst), "two at once");
            thread::yield_now();
            let result = section();
            self.0.store(false, SeqCst);
            result
        }
    }
    // SAFETY: it is `Global`.
    unsafe impl Allocator for Alone {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.inside(|| Global.allocate(layout))
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            self.inside(|| unsafe { Global.deallocate(block, layout) });
        }
    }
    let locked = Locked::<_, SpinLock>::new(Alone(AtomicBool::new(false)));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|n| assert_eq!(*Box::new_in(n, &locked), n)));
        }
    });
}

#[test]
fn a_panic_inside_frees_the_lock() {
    struct Panicking(AtomicBool);
    // SAFETY: it is `Global`, which panics now and then before it does anything.
    unsafe impl Allocator for Panicking {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            assert!(!self.0.load(SeqCst), "no more");
            Global.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { Global.deallocate(block, layout) }
        }
    }
    let locked = Locked::<_, SpinLock>::new(Panicking(AtomicBool::new(true)));
    assert!(catch_unwind(AssertUnwindSafe(|| (&locked).allocate(layout(8, 8)))).is_err());
    assert!(catch_unwind(AssertUnwindSafe(|| locked.with(|_| panic!("while looking")))).is_err());
    locked.with(|inner| inner.0.store(false, SeqCst));
    assert_eq!(*Box::new_in(7, &locked), 7);
}

#[test]
fn the_owner_gets_at_what_is_inside_when_nobody_uses_it() {
    let mut memory = Guarded::new(0, 64);
    let mut bump = Locked::<_, SpinLock>::new(Bump::new(memory.memory()));
    for n in 0..10_u64 {
        let all: Vec<_> = std::iter::from_fn(|| Box::try_new_in(n, &bump).ok()).collect();
        assert!(all.iter().all(|boxed| **boxed == n) && all.len() == 8);
        drop(all);
        bump.get_mut().reset();
    }
    assert_eq!(format!("{bump:?}"), "Locked { .. }");
    assert_eq!(bump.into_inner().used(), 0);
}
