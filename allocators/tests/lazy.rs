//! The allocator that is made when it is first needed.

mod support;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as InVec;
use fibra_allocators::{
    Allocator, Arena, Borrowed, Bump, Fallback, FromGlobal, Lazy, SizeClasses, Source, Table, table,
};
use fibra_allocators::{MemReq, NoLock};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::locked::Locked;
use support::recorder::{Log, Recorder};
use support::{bytes, drain, fill, layout, release};

assert_impl_all!(Lazy<Locked<Bump<Borrowed<'static>>>>: Send, Sync);
assert_impl_all!(Lazy<Bump<Borrowed<'static>>>: Send);
assert_not_impl_any!(Lazy<Bump<Borrowed<'static>>>: Sync);
assert_not_impl_any!(Lazy<std::sync::MutexGuard<'static, ()>>: Send, Sync); // shared by all, dropped by any
assert_not_impl_any!(Lazy<NoLock>: Sync);

thread_local! {
    static MADE: Cell<usize> = const { Cell::new(0) };
}

/// How often one was made on this thread, in this test.
fn made() -> usize {
    MADE.get()
}

fn make() -> Option<Global> {
    MADE.set(MADE.get() + 1);
    Some(Global)
}

#[test]
fn it_is_made_once_by_the_first_request() {
    MADE.set(0);
    let lazy = Lazy::new(make);
    assert_eq!(made(), 0);
    let boxed = Box::new_in(7, &lazy);
    assert_eq!(made(), 1);
    let other = Box::new_in([0; 100], &lazy);
    assert_eq!((made(), lazy.get().is_some()), (1, true));
    drop((boxed, other));
    assert_eq!(made(), 1);
}

#[test]
fn requests_for_no_bytes_need_none() {
    MADE.set(0);
    let lazy = Lazy::new(make);
    let nothing = lazy_nothing(&lazy);
    assert_eq!((nothing, made()), (0, 0));
    let never = Lazy::<Global>::new(|| None);
    assert_eq!(lazy_nothing(&never), 0);
}

fn lazy_nothing(lazy: &Lazy<Global>) -> usize {
    let nothing = lazy.handle().allocate(layout(0, 64)).expect("no bytes");
    assert!(nothing.cast::<u8>().addr().get().is_multiple_of(64));
    release(lazy, nothing, layout(0, 64));
    let nothing = lazy.handle().allocate_zeroed(layout(0, 8)).expect("no bytes");
    release(lazy, nothing, layout(0, 8));
    nothing.len()
}

#[test]
fn blocks_grow_from_nothing_and_shrink_to_nothing() {
    let log = Log::default();
    thread_local!(static LOG: std::cell::OnceCell<Log> = const { std::cell::OnceCell::new() });
    LOG.with(|cell| assert!(cell.set(log.clone()).is_ok()));
    {
        let lazy = Lazy::new(|| LOG.with(|log| Some(Recorder::new("lazy", log.get()?))));
        let allocator = &lazy;
        // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
        unsafe {
            let nothing = allocator.allocate(layout(0, 1)).unwrap();
            let block = allocator.grow(nothing.cast(), layout(0, 1), layout(10, 1)).unwrap();
            fill(block, 3);
            let block = allocator.grow(block.cast(), layout(10, 1), layout(20, 1)).unwrap();
            assert_eq!(bytes(block)[..10], [3; 10]);
            let block = allocator.grow_zeroed(block.cast(), layout(10, 1), layout(30, 1)).unwrap();
            assert_eq!(bytes(block)[10..30], [0; 20]);
            let block = allocator.shrink(block.cast(), layout(30, 1), layout(5, 1)).unwrap();
            assert_eq!(bytes(block)[..5], [3; 5]);
            let nothing = allocator.shrink(block.cast(), layout(5, 1), layout(0, 1)).unwrap();
            let block = allocator.grow_zeroed(nothing.cast(), layout(0, 1), layout(40, 1)).unwrap();
            assert_eq!(bytes(block)[..40], [0; 40]);
            allocator.deallocate(block.cast(), layout(40, 1));
        }
    }
    let expected = [
        "allocate 10",
        "grow 20",
        "grow_zeroed 30",
        "shrink 5",
        "deallocate 5",
        "allocate_zeroed 40",
        "deallocate 40",
        "dropped",
    ];
    assert_eq!(log.take(), expected.map(|event| format!("lazy {event}")));
}

#[test]
fn what_cannot_be_made_is_refused_for_good() {
    MADE.set(0);
    let lazy = Lazy::<Global>::new(|| {
        MADE.set(MADE.get() + 1);
        None
    });
    for _ in 0..3 {
        assert!(lazy.handle().allocate(layout(8, 8)).is_err());
        assert!(lazy.handle().allocate_zeroed(layout(8, 8)).is_err());
        assert!(lazy.get().is_none());
    }
    assert_eq!(made(), 1);
}

#[test]
fn the_function_may_use_the_allocator_that_it_makes() {
    static LAZY: Lazy<Global> = Lazy::new(|| {
        assert!(LAZY.get().is_none());
        assert!(LAZY.handle().allocate(layout(8, 8)).is_err(), "refused while it is being made, not kept waiting");
        Some(Global)
    });
    assert_eq!(*Box::new_in(7, &LAZY), 7);
}

#[test]
fn the_function_may_use_the_allocator_that_it_is_a_part_of() {
    const SIZES: Table<1> = table([MemReq::new(64, 4)]);
    static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
    type Whole = Fallback<Lazy<Locked<SizeClasses<1, Borrowed<'static>>>>, FromGlobal<std::alloc::System>>;
    static WHOLE: Whole = Fallback::new(
        Lazy::new(|| {
            let mut drafts = InVec::new_in(&WHOLE);
            drafts.extend([60, 64]);
            let system = SizeClasses::new(&SIZES, MEMORY.take()?).ok()?;
            KEPT.set(Some(drafts));
            Some(Locked::new(system))
        }),
        FromGlobal::new(std::alloc::System),
    );
    thread_local!(static KEPT: Cell<Option<InVec<i32, &'static Whole>>> = const { Cell::new(None) });

    let boxed = Box::new_in([1_u8; 64], &WHOLE);
    let live = || WHOLE.first().get().unwrap().with(|system| system.classes().next().unwrap().live);
    assert_eq!(live(), 1, "the draft is not in it");
    let mut drafts = KEPT.take().expect("made");
    assert_eq!(drafts.as_slice(), [60, 64]);
    drafts.push(68);
    drop((drafts, boxed));
    assert_eq!(live(), 0, "the draft went home, too");
}

#[test]
fn a_function_that_panics_is_called_again() {
    MADE.set(0);
    let lazy = Lazy::new(|| {
        MADE.set(MADE.get() + 1);
        assert!(MADE.get() > 2, "not yet");
        Some(Global)
    });
    for _ in 0..2 {
        assert!(catch_unwind(AssertUnwindSafe(|| lazy.handle().allocate(layout(8, 8)))).is_err());
    }
    drop(Box::new_in(7, &lazy));
    assert_eq!(made(), 3);
}

#[test]
fn it_goes_with_what_was_made_and_not_with_what_was_not() {
    MADE.set(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            MADE.set(MADE.get() + 10);
        }
    }
    drop(Lazy::new(|| Some(Counts)));
    assert_eq!(made(), 0);
    let lazy = Lazy::new(|| Some(Counts));
    assert!(lazy.get().is_some());
    assert_eq!(made(), 0);
    drop(lazy);
    assert_eq!(made(), 10);
    let never = Lazy::<Counts>::new(|| None);
    assert!(never.get().is_none());
    drop(never);
    assert_eq!(made(), 10);
}

#[test]
fn looking_at_it_does_not_make_it() {
    MADE.set(0);
    let lazy = Lazy::new(make);
    assert_eq!(format!("{lazy:?}"), "Lazy { allocator: None, .. }");
    assert_eq!(made(), 0);
    lazy.get();
    assert_eq!(format!("{lazy:?}"), "Lazy { allocator: Some(Global), .. }");
}

#[test]
fn other_threads_are_refused_while_it_is_made_and_served_then() {
    static BARRIER: Barrier = Barrier::new(2);
    static LAZY: Lazy<Locked<Bump<Borrowed<'static>>>> = Lazy::new(|| {
        static MEMORY: Arena<64> = Arena::new();
        BARRIER.wait(); // the other thread asks now,
        BARRIER.wait(); // and has been answered
        Some(Locked::new(Bump::new(MEMORY.take()?)))
    });
    thread::scope(|scope| {
        scope.spawn(|| assert!(LAZY.handle().allocate(layout(8, 8)).is_ok()));
        BARRIER.wait();
        assert!(LAZY.handle().allocate(layout(8, 8)).is_err());
        assert!(LAZY.get().is_none());
        BARRIER.wait();
    });
    assert_eq!(drain(&LAZY, layout(8, 8)).len(), 7);
}

#[test]
fn of_many_threads_one_makes_it() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    for _ in 0..100 {
        let lazy = Lazy::new(|| {
            MADE.fetch_add(1, Ordering::Relaxed);
            Some(Global)
        });
        let start = Barrier::new(4);
        let served: usize = thread::scope(|scope| {
            let ask = || {
                start.wait();
                // Refused only while another thread is at it, so whoever asks long enough is served.
                while lazy.get().is_none() {
                    thread::yield_now();
                }
                usize::from(*Box::new_in(7, &lazy) == 7)
            };
            [(); 4].map(|()| scope.spawn(ask)).into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(served, 4);
    }
    assert_eq!(MADE.load(Ordering::Relaxed), 100);
}
