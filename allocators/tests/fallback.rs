//! Two allocators as one.

mod support;

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::process::Command;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::thread;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as InVec;
use fibra_allocators::{
    AllocError, Allocator, Borrowed, Bump, Extent, Fallback, FixedBlock, FromGlobal, Layout, MemReq, Owns, SizeClasses,
    Table, table,
};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::locked::Locked;
use support::recorder::{Log, Recorder};
use support::{Expect, Guarded, Live, Parent, Spec, bytes, drain, fill, layout, release, run, steps};

type Lent = Borrowed<'static>;
assert_impl_all!(&'static Fallback<Bump<Lent>, Bump<Lent>>: Allocator, Copy);
assert_not_impl_any!(Fallback<Bump<Lent>, Bump<Lent>>: Allocator, Sync);
assert_impl_all!(Fallback<Locked<Bump<Lent>>, FromGlobal<std::alloc::System>>: Send, Sync);
assert_not_impl_any!(Fallback<Locked<Bump<Lent>>, Bump<Lent>>: Sync);
assert_not_impl_any!(Fallback<Bump<Lent>, FromGlobal<std::alloc::System>>: Sync);

/// A first that has two blocks of 64 bytes, and a second that writes down what is asked of it.
fn with_two(log: &Log, test: impl FnOnce(&Fallback<FixedBlock<Borrowed<'_>>, Recorder>)) {
    let mut guarded = Guarded::new(0, 128);
    let both = Fallback::new(FixedBlock::new(layout(64, 64), guarded.memory()), Recorder::new("second", log));
    test(&both);
    assert_eq!(both.first().live(), 0, "all went home");
    guarded.assert_guards();
}

#[test]
fn what_the_first_can_serve_never_reaches_the_second() {
    let log = Log::default();
    with_two(&log, |both| {
        for _ in 0..10 {
            let one = Box::new_in([1_u8; 64], both);
            let other = Box::new_in([2_u8; 1], both);
            assert_eq!(both.first().live(), 2);
            drop((one, other));
        }
        assert_eq!(log.take(), [""; 0]);
    });
}

#[test]
fn what_the_first_refuses_goes_to_the_second_and_home_again() {
    let log = Log::default();
    with_two(&log, |both| {
        let blocks = [(); 3].map(|()| both.allocate(layout(40, 8)).expect("room"));
        let large = both.allocate(layout(65, 1)).expect("room");
        let aligned = both.allocate_zeroed(layout(64, 128)).expect("room");
        assert_eq!(log.take(), ["second allocate 40", "second allocate 65", "second allocate_zeroed 64"]);
        release(both, blocks[2], layout(40, 8));
        release(both, large, layout(65, 1));
        assert_eq!(both.first().live(), 2);
        release(both, aligned, layout(64, 128));
        assert_eq!(log.take(), ["second deallocate 40", "second deallocate 65", "second deallocate 64"]);
        for block in &blocks[..2] {
            release(both, *block, layout(40, 8));
        }
        assert_eq!(log.take(), [""; 0]);
    });
}

#[test]
fn requests_for_no_bytes_are_made_to_neither() {
    let log = Log::default();
    with_two(&log, |both| {
        let nothing = both.allocate(layout(0, 4096)).expect("no bytes");
        assert_eq!((nothing.len(), nothing.cast::<u8>().addr().get() % 4096), (0, 0));
        release(both, nothing, layout(0, 4096));
        let nothing = both.allocate_zeroed(layout(0, 1)).expect("no bytes");
        release(both, nothing, layout(0, 1));
        assert_eq!((both.first().live(), log.take()), (0, vec![]));
    });
}

#[test]
fn nothing_is_served_from_a_dangling_pointer_into_the_first() {
    // Memory whose address is what a request for no bytes gets.
    let log = Log::default();
    with_two(&log, |both| {
        // SAFETY: what a request for no bytes got may grow, and shrink to nothing again.
        unsafe {
            let nothing = both.allocate(layout(0, 64)).expect("no bytes");
            let block = both.grow(nothing.cast(), layout(0, 64), layout(64, 64)).expect("room");
            assert!(both.first().owns(block.cast()));
            let nothing = both.shrink(block.cast(), layout(64, 64), layout(0, 64)).expect("no bytes");
            assert_eq!((nothing.len(), both.first().live()), (0, 0));
            let block = both.grow_zeroed(nothing.cast(), layout(0, 64), layout(100, 1)).expect("room");
            assert_eq!(bytes(block)[..100], [0; 100]);
            let nothing = both.shrink(block.cast(), layout(100, 1), layout(0, 1)).expect("no bytes");
            assert_eq!(nothing.len(), 0);
            both.grow(nothing.cast(), layout(0, 1), layout(0, 16)).expect("no bytes");
        }
        assert_eq!(log.take(), ["second allocate 100", "second deallocate 100"]);
    });
}

#[test]
fn blocks_stay_where_they_are_as_long_as_they_can() {
    let log = Log::default();
    with_two(&log, |both| {
        let block = both.allocate(layout(10, 8)).expect("room");
        fill(block, 5);
        // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
        unsafe {
            let grown = both.grow(block.cast(), layout(10, 8), layout(64, 8)).expect("in place");
            assert_eq!(grown.cast::<u8>(), block.cast());
            let shrunk = both.shrink(grown.cast(), layout(64, 8), layout(1, 1)).expect("in place");
            assert_eq!(shrunk.cast::<u8>(), block.cast());
            assert_eq!(log.take(), [""; 0]);

            let moved = both.grow(shrunk.cast(), layout(10, 8), layout(65, 8)).expect("room");
            assert_eq!((&bytes(moved)[..10], both.first().live()), (&[5; 10][..], 0));
            let moved = both.grow_zeroed(moved.cast(), layout(65, 8), layout(130, 8)).expect("room");
            assert_eq!((&bytes(moved)[..10], &bytes(moved)[65..130]), (&[5; 10][..], &[0; 65][..]));
            let moved = both.shrink(moved.cast(), layout(130, 8), layout(20, 8)).expect("room");
            assert_eq!(bytes(moved)[..10], [5; 10]);
            both.deallocate(moved.cast(), layout(20, 8));
        }
        let expected = ["second allocate 65", "second grow 130", "second shrink 20", "second deallocate 20"];
        assert_eq!(log.take(), expected);
    });
}

#[test]
fn a_block_of_the_second_comes_back_where_the_second_has_no_more() {
    let (mut first, mut second) = (Guarded::new(0, 256), Guarded::new(0, 64));
    let both = Fallback::new(FixedBlock::new(layout(256, 8), first.memory()), Bump::new(second.memory()));
    let both = &both;
    let kept = both.allocate(layout(256, 8)).expect("room");
    let block = both.allocate(layout(60, 1)).expect("room");
    fill(block, 9);
    // SAFETY: each block is this allocator's, with this layout, and the next one takes its place.
    unsafe {
        assert!(both.grow(block.cast(), layout(60, 1), layout(70, 1)).is_err(), "neither has room");
        assert_eq!(bytes(block), [9; 60]);
        both.deallocate(kept.cast(), layout(256, 8));
        let home = both.grow(block.cast(), layout(60, 1), layout(70, 1)).expect("room now");
        assert!(both.first().owns(home.cast()));
        assert_eq!(bytes(home)[..60], [9; 60]);
        both.deallocate(home.cast(), layout(70, 1));
    }
    assert_eq!(both.first().live(), 0);
}

#[test]
fn a_block_that_cannot_shrink_in_the_first_moves_to_the_second() {
    const SIZES: Table<2> = table([MemReq::new(64, 1), MemReq::new(256, 1)]);
    let (mut first, second) = (Guarded::new(0, SIZES.arena_size()), Parent::default());
    let both = Fallback::new(SizeClasses::new(&SIZES, first.memory()).expect("room"), &second);
    let both = &both;
    let small = both.allocate(layout(64, 8)).expect("room");
    let large = both.allocate(layout(256, 8)).expect("room");
    fill(large, 4);
    // SAFETY: the block is this allocator's, with this layout, and the next one takes its place.
    let moved = unsafe { both.shrink(large.cast(), layout(256, 8), layout(50, 8)) }.expect("the second has room");
    assert_eq!((bytes(moved), second.live()), (&[4; 50][..], vec![layout(50, 8)]));
    assert_eq!(both.first().classes().map(|class| class.live).collect::<Vec<_>>(), [1, 0]);
    release(both, moved, layout(50, 8));
    release(both, small, layout(64, 8));
    assert_eq!(second.live(), []);
}

#[test]
fn refusal_by_both_changes_nothing() {
    let (mut first, second) = (Guarded::new(0, 128), Parent::granting(0));
    let both = Fallback::new(FixedBlock::new(layout(64, 8), first.memory()), &second);
    let both = &both;
    let blocks = drain(both, layout(64, 8));
    assert_eq!(blocks.len(), 2);
    fill(blocks[0], 3);
    // SAFETY: the block is this allocator's, with this layout; it stays ours after an error.
    unsafe {
        assert!(both.grow(blocks[0].cast(), layout(64, 8), layout(65, 8)).is_err());
        assert!(both.grow_zeroed(blocks[0].cast(), layout(64, 8), layout(65, 8)).is_err());
        assert!(both.shrink(blocks[0].cast(), layout(64, 8), layout(64, 4096)).is_err());
    }
    assert_eq!(bytes(blocks[0]), [3; 64]);
    assert_eq!((both.first().live(), second.given()), (2, 0));
}

#[test]
fn three_go_one_inside_another() {
    let (mut one, mut two) = (Guarded::new(0, 64), Guarded::new(0, 64));
    let three = Parent::default();
    let rest = Fallback::new(FixedBlock::new(layout(64, 8), two.memory()), &three);
    let all = Fallback::new(FixedBlock::new(layout(64, 8), one.memory()), rest);
    {
        let boxes = [1_u8, 2, 3, 4].map(|n| Box::new_in([n; 64], &all));
        assert_eq!((all.first().live(), all.second().first().live(), three.live().len()), (1, 1, 2));
        assert!(boxes.iter().zip(1..).all(|(boxed, n)| **boxed == [n; 64]));
    }
    assert_eq!((all.first().live(), all.second().first().live(), three.live().len()), (0, 0, 0));

    let left = Fallback::new(Fallback::new(Bump::new(&mut []), Bump::new(&mut [])), &three);
    drop(Box::new_in(7, &left));
    assert_eq!(three.given(), 3);
}

#[test]
fn containers_spill_over() {
    const SIZES: Table<3> = table([MemReq::new(32, 20), MemReq::new(128, 10), MemReq::new(1024, 2)]);
    let (mut first, second) = (Guarded::new(0, SIZES.arena_size()), Parent::default());
    let both = Fallback::new(SizeClasses::new(&SIZES, first.memory()).expect("room"), &second);
    {
        let mut map = hashbrown::HashMap::with_hasher_in(hashbrown::DefaultHashBuilder::default(), &both);
        for n in 0..200_u64 {
            let mut numbers = InVec::new_in(&both);
            numbers.extend((0..n).map(|i| i * n));
            map.insert(n, numbers);
        }
        assert!(map.iter().all(|(n, numbers)| numbers.iter().copied().eq((0..*n).map(|i| i * n))));
        assert!(second.live().len() > 100);
        for n in 0..200 {
            map.get_mut(&n).expect("inserted").truncate(1);
            map.get_mut(&n).expect("inserted").shrink_to_fit();
        }
        map.retain(|n, _| n % 2 == 0);
        map.shrink_to_fit();
        assert!(map.iter().all(|(n, numbers)| numbers.len() == usize::from(*n > 0)));
    }
    assert_eq!(second.live(), []);
    assert!(both.first().classes().all(|class| class.live == 0));
}

#[test]
fn threads_share_it() {
    let (mut first, host) = (Guarded::new(0, 64 * 50), FromGlobal::new(std::alloc::System));
    let both = Fallback::new(Locked::new(FixedBlock::new(layout(64, 8), first.memory())), host);
    thread::scope(|scope| {
        for n in 0..4_u8 {
            let both = &both;
            scope.spawn(move || {
                for _ in 0..20 {
                    let boxes: Vec<_> = (0..30).map(|_| Box::new_in([n; 64], both)).collect();
                    thread::yield_now();
                    assert!(boxes.iter().all(|boxed| **boxed == [n; 64]));
                }
            });
        }
    });
    assert_eq!(both.first().with(FixedBlock::live), 0);
}

// A second that is in the first.

/// Goes to the parent, or to an inner allocator once it has been told of one.
#[derive(Default)]
struct Switch {
    inner: Cell<Option<&'static Inner>>,
    /// Addresses of the inner allocator's blocks.
    in_inner: RefCell<Vec<NonNull<u8>>>,
    /// Panics at the n-th allocation from now; 0 is never.
    fuse: Cell<usize>,
    parent: Parent,
}

type Inner = Bump<Extent<&'static SizeClasses<1, Lent>>>;

// SAFETY: blocks are the parent's or the inner allocator's, and return there.
unsafe impl Allocator for &Switch {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let left = self.fuse.replace(self.fuse.get().saturating_sub(1));
        assert_ne!(left, 1, "as it was told");
        let Some(inner) = self.inner.get() else { return (&self.parent).allocate(layout) };
        let block = inner.allocate(layout)?;
        self.in_inner.borrow_mut().push(block.cast());
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let mut in_inner = self.in_inner.borrow_mut();
        match in_inner.iter().position(|inner| *inner == block) {
            Some(at) => drop(in_inner.swap_remove(at)), // and nothing else, as it bumps
            // SAFETY: so it is the parent's, with this layout.
            None => unsafe { (&self.parent).deallocate(block, layout) },
        }
    }
}

impl Switch {
    fn assert_empty(&self) {
        assert_eq!((self.parent.live(), self.in_inner.borrow().len()), (vec![], 0), "a block did not return");
    }
}

/// Keeps a value for ever, where leak checkers find it.
fn kept<T>(value: T) -> &'static mut T {
    static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    let value = std::boxed::Box::leak(std::boxed::Box::new(value));
    KEPT.lock().expect("no panic").push((&raw const *value).expose_provenance());
    value
}

/// One class of four blocks of 4096 bytes. The second's inner allocator, when it is told to use it, is in one of them.
fn in_itself() -> (&'static Fallback<SizeClasses<1, Lent>, &'static Switch>, &'static Switch, &'static Inner) {
    const SIZES: Table<1> = table([MemReq::new(4096, 4)]);
    let memory = kept([MaybeUninit::uninit(); SIZES.arena_size() + 4096]);
    let switch: &Switch = kept(Switch::default());
    let both = Fallback::new(SizeClasses::new(&SIZES, memory).expect("room"), switch);
    let both = kept(both);
    let inner = Bump::in_parent(both.first(), 4096).expect("a block");
    (both, switch, kept(inner))
}

#[test]
fn a_second_inside_the_first_is_noticed_and_refused() {
    let (both, switch, inner) = in_itself();
    let kept = drain(both.first(), layout(4096, 8));
    assert_eq!(kept.len(), 3);
    switch.inner.set(Some(inner));
    assert!(both.allocate(layout(64, 8)).is_err(), "its release would go to the first");
    assert!(both.allocate_zeroed(layout(64, 8)).is_err());
    switch.inner.set(None);
    let block = both.allocate(layout(64, 8)).expect("the host has memory");
    release(both, block, layout(64, 8));
    assert_eq!(switch.parent.given(), 1);
    switch.assert_empty();
}

#[test]
fn a_block_that_the_second_moves_into_the_first_is_moved_on() {
    let (both, switch, inner) = in_itself();
    // Larger than the first's blocks, so the second's.
    let block = both.allocate(layout(5000, 8)).expect("the host has memory");
    fill(block, 6);
    switch.inner.set(Some(inner));
    // SAFETY: the block is this allocator's, with this layout, and the next one takes its place.
    let moved = unsafe { both.shrink(block.cast(), layout(5000, 8), layout(1000, 8)) }.expect("room");
    assert_eq!(moved.len(), 4096, "a whole block of the first");
    assert_eq!(bytes(moved)[..1000], [6; 1000]);
    switch.assert_empty();
    release(both, moved, layout(1000, 8));
    assert_eq!(both.first().classes().next().map(|class| class.live), Some(1), "the inner allocator's");
}

/// Runs the test of this name once more, as a program of its own, in which `section` is to end by abortion.
fn assert_aborts(name: &str, section: impl FnOnce(), complaint: &str) {
    if std::env::var_os("FIBRA_ALONE").is_some() {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(section));
        return;
    }
    let alone = Command::new(std::env::current_exe().expect("a path"))
        .args([name, "--exact", "--nocapture"])
        .env("FIBRA_ALONE", "")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&alone.stderr);
    assert!(said.contains(complaint), "{said}");
    assert_ne!(alone.status.code(), Some(0));
    assert_ne!(alone.status.code(), Some(101), "not a panic that could be caught: {said}");
}

/// A block that the second shrinks into the first, with no block left there, after `arm`.
fn shrinks_into_the_first(arm: impl FnOnce(&Switch)) {
    let (both, switch, inner) = in_itself();
    drain(both.first(), layout(4096, 8));
    let block = both.allocate(layout(5000, 8)).expect("the host has memory");
    switch.inner.set(Some(inner));
    arm(switch);
    // SAFETY: the block is this allocator's, with this layout.
    let _ = unsafe { both.shrink(block.cast(), layout(5000, 8), layout(1000, 8)) };
}

#[test]
fn a_block_that_has_no_other_place_ends_the_program() {
    let name = "a_block_that_has_no_other_place_ends_the_program";
    assert_aborts(name, || shrinks_into_the_first(|_| {}), "moved a block into what it stands in for");
}

/// Whoever asked for it to shrink would go on with the old one.
#[test]
fn a_panic_when_a_block_has_moved_ends_the_program() {
    let name = "a_panic_when_a_block_has_moved_ends_the_program";
    // At the first one it is the second's own shrinking that asks.
    assert_aborts(name, || shrinks_into_the_first(|switch| switch.fuse.set(2)), "must not unwind here");
}

// Random operations, against a model.

const FIRST: Table<3> = table([MemReq::new(32, 6), MemReq::new(128, 3), MemReq::new(1024, 2)]);
const SECOND: Table<3> = table([MemReq::new(48, 4), MemReq::new(160, 3), MemReq::new(2048, 2)]);

type Both<'m> = Fallback<SizeClasses<3, Borrowed<'m>>, SizeClasses<3, Borrowed<'m>>>;

struct Model<'a, 'm> {
    both: &'a Both<'m>,
    boundary: usize,
    peaks: RefCell<[[usize; 3]; 2]>,
}

impl Model<'_, '_> {
    fn rows(which: usize) -> &'static [MemReq] {
        const TABLES: [Table<3>; 2] = [FIRST, SECOND];
        TABLES[which].rows()
    }

    /// The smallest class of one of the two that holds a layout, and is aligned to it.
    fn class(which: usize, layout: Layout) -> Option<usize> {
        Self::rows(which).iter().position(|row| {
            row.block_size >= layout.size() && (layout.align() <= 16 || row.block_size.is_multiple_of(layout.align()))
        })
    }

    fn home(&self, block: &Live) -> usize {
        usize::from(block.addr() >= self.boundary)
    }

    fn live(&self, which: usize, class: usize, live: &[Live]) -> usize {
        let there = |block: &&Live| {
            block.layout.size() != 0 && self.home(block) == which && Self::class(which, block.layout) == Some(class)
        };
        live.iter().filter(there).count()
    }

    fn fresh(&self, which: usize, layout: Layout, live: &[Live]) -> Option<Expect> {
        let class = Self::class(which, layout)?;
        let MemReq { block_size, n_blocks } = Self::rows(which)[class];
        let now = self.live(which, class, live);
        if now == n_blocks {
            return None;
        }
        let peak = &mut self.peaks.borrow_mut()[which][class];
        *peak = (*peak).max(now + 1);
        Some(Expect::Fresh(block_size))
    }
}

impl Spec for Model<'_, '_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        // No size of the one is a size of the other, so the length tells which it was.
        self.fresh(0, layout, live).or_else(|| self.fresh(1, layout, live)).unwrap_or(Expect::Refused)
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        if block.layout.size() == 0 || layout.size() == 0 {
            return self.on_allocate(layout, live);
        }
        let home = self.home(block);
        let class = Self::class(home, layout);
        if class.is_some() && class == Self::class(home, block.layout) {
            return Expect::Same(block.block.len());
        }
        self.fresh(home, layout, live).or_else(|| self.fresh(1 - home, layout, live)).unwrap_or(Expect::Refused)
    }

    fn assert_counts(&self, live: &[Live]) {
        for (which, system) in [self.both.first(), self.both.second()].into_iter().enumerate() {
            for (class, stats) in system.classes().enumerate() {
                assert_eq!(stats.live, self.live(which, class, live), "class {class} of {which}");
                assert_eq!(stats.peak, self.peaks.borrow()[which][class], "class {class} of {which}");
            }
        }
    }
}

proptest! {
    #[test]
    fn two_systems_are_what_the_model_says(steps in steps(3000)) {
        let mut guarded = Guarded::new(0, FIRST.arena_size() + SECOND.arena_size() + 4096);
        let range = guarded.range();
        let memory = guarded.memory();
        let (low, high) = memory.split_at_mut(FIRST.arena_size().next_multiple_of(2048));
        let boundary = high.as_ptr().addr();
        let both = Fallback::new(SizeClasses::new(&FIRST, low).unwrap(), SizeClasses::new(&SECOND, high).unwrap());
        run(&both, range, &Model { both: &both, boundary, peaks: RefCell::default() }, &steps);
        guarded.assert_guards();
    }
}
