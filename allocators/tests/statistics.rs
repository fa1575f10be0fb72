//! What is counted, in which row, around which allocators, and from how many threads.

mod support;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::thread;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{
    AllocError, AllocRef, Allocator, Borrowed, Bump, Counting, Counts, Demand, FixedBlock, GRANULE, Layout, Lock,
    MemReq, NoLock, SizeClasses, SpinLock, Statistics, Table, optimise, optimise_scratch, table,
};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{Expect, Guarded, Live, Parent, Spec, layout, release, steps};

type System = SizeClasses<3, Borrowed<'static>>;
type Single<A> = Statistics<A>;
type Shared<A> = Statistics<A, SpinLock>;

assert_impl_all!(&'static Single<System>: AllocRef, Copy);
assert_impl_all!(&'static Single<&'static System>: AllocRef, Copy);
assert_impl_all!(&'static Single<Counting<Single<System>>>: AllocRef, Copy);
assert_impl_all!(&'static Shared<Global>: AllocRef, Send, Sync);
assert_impl_all!(&'static Counting<Global, SpinLock>: AllocRef, Send, Sync);
assert_impl_all!(Single<System>: Send);
// Neither without a lock, nor with one around what cannot be shared.
assert_not_impl_any!(Single<Global>: Sync);
assert_not_impl_any!(Counting<Global>: Sync);
assert_not_impl_any!(Shared<System>: Sync);
assert_not_impl_any!(Shared<&'static System>: Sync, Send);
// By value it would move from under its blocks.
assert_not_impl_any!(Single<Global>: Allocator);

const SIZES: Table<3> = table([MemReq::new(64, 4), MemReq::new(256, 3), MemReq::new(4096, 2)]);

fn with_system(test: impl FnOnce(SizeClasses<3, Borrowed<'_>>)) {
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    test(SizeClasses::new(&SIZES, guarded.memory()).expect("room"));
    guarded.assert_guards();
}

fn take(allocator: impl Allocator, size: usize) -> NonNull<[u8]> {
    allocator.allocate(layout(size, 1)).expect("room")
}

/// (size, live, peak, total) of each row.
fn rows<A, L: Lock, const ROWS: usize>(stats: &Statistics<A, L, ROWS>) -> Vec<(usize, usize, usize, u64)> {
    stats.rows().map(|row| (row.size, row.counts.live, row.counts.peak, row.counts.total)).collect()
}

#[test]
fn nothing_was_asked_yet() {
    let stats = Statistics::new(Global);
    assert_eq!(stats.counts(), Counts::default());
    assert_eq!((stats.rows().count(), stats.profile().count()), (0, 0));
}

#[test]
fn requests_and_releases() {
    with_system(|system| {
        let stats = Statistics::new(system);
        let [a, b] = [take(&stats, 40), take(&stats, 50)];
        let c = take(&stats, 200);
        assert!((&stats).allocate(layout(5000, 1)).is_err());
        let full = Counts {
            live: 3,
            peak: 3,
            total: 3,
            failed: 1,
            live_bytes: 290,
            peak_bytes: 290,
            total_bytes: 290,
            wasted_bytes: 24 + 14 + 56,
        };
        assert_eq!(stats.counts(), full);
        release(&stats, b, layout(50, 1));
        release(&stats, c, layout(200, 1));
        let c = take(&stats, 201);
        assert_eq!(
            stats.counts(),
            Counts { live: 2, total: 4, live_bytes: 241, total_bytes: 491, wasted_bytes: 94 + 55, ..full }
        );
        release(&stats, a, layout(40, 1));
        release(&stats, c, layout(201, 1));
        assert_eq!((stats.counts().live, stats.counts().live_bytes), (0, 0));
        assert!(stats.inner().classes().all(|class| class.live == 0), "all went through to the pool");
    });
}

#[test]
fn a_block_has_the_length_that_was_asked_for() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        assert_eq!(take(&system, 40).len(), 64);
        let block = take(&stats, 40);
        assert_eq!(block.len(), 40);
        // SAFETY: the block is in use, and these are its layouts in turn.
        unsafe {
            assert_eq!((&stats).grow(block.cast(), layout(40, 1), layout(50, 1)).unwrap().len(), 50);
            assert_eq!((&stats).grow_zeroed(block.cast(), layout(50, 1), layout(60, 1)).unwrap().len(), 60);
            assert_eq!((&stats).shrink(block.cast(), layout(60, 1), layout(10, 1)).unwrap().len(), 10);
        }
        assert_eq!((&stats).allocate_zeroed(layout(33, 1)).unwrap().len(), 33);
    });
}

#[test]
fn a_row_is_a_granule() {
    let g = GRANULE;
    let stats = Statistics::new(Global);
    for size in [1, g, g + 1, 2 * g - 1, 2 * g, 255 * g, 255 * g + 1, 256 * g] {
        release(&stats, take(&stats, size), layout(size, 1));
    }
    assert_eq!(rows(&stats), [(g, 0, 1, 2), (2 * g, 0, 1, 3), (255 * g, 0, 1, 1), (256 * g, 0, 1, 2)]);
}

#[test]
fn large_sizes_have_eight_rows_for_each_doubling() {
    let stats = Statistics::new(Global);
    let first = 256 * GRANULE;
    for doubling in 0..8 {
        let step = (first << doubling) / 8;
        for i in 0..8 {
            // The least and the greatest of a row, and one between.
            let end = (first << doubling) + (i + 1) * step;
            for size in [end - step + 1, end - step / 2, end] {
                release(&stats, take(&stats, size), layout(size, 1));
            }
        }
    }
    let sizes: Vec<_> = (0..64).map(|row| (first << (row / 8)) / 8 * (8 + row % 8 + 1)).collect();
    assert_eq!(rows(&stats), sizes.iter().map(|size| (*size, 0, 1, 3)).collect::<Vec<_>>());
}

#[test]
fn the_last_row_takes_all_that_is_larger() {
    let stats = Statistics::<_, NoLock, 4>::over(Global);
    for size in [2 * GRANULE, 4 * GRANULE, 5 * GRANULE, 100_000, 1 << 22] {
        release(&stats, take(&stats, size), layout(size, 1));
    }
    assert_eq!(rows(&stats), [(2 * GRANULE, 0, 1, 1), (1 << 22, 0, 1, 4)]);
    let last: Statistics<_> = Statistics::new(Global);
    let huge = layout(isize::MAX as usize, 1);
    assert!((&last).allocate(huge).is_err());
    assert!((&last).allocate(layout(1 << 30, 1 << 29)).is_ok_and(|block| {
        release(&last, block, layout(1 << 30, 1 << 29));
        true
    }));
    assert_eq!(rows(&last), [(1 << 30, 0, 1, 1)], "what was served, not what was refused");
}

#[test]
fn without_rows_all_is_counted_nevertheless() {
    let stats = Statistics::<_, NoLock, 0>::over(Global);
    let block = take(&stats, 100);
    assert_eq!((stats.counts().live, stats.rows().count()), (1, 0));
    release(&stats, block, layout(100, 1));
    assert_eq!(stats.counts().live, 0);
}

#[test]
fn requests_for_no_bytes_are_not_counted() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        let none = layout(0, 64);
        let nothing = (&stats).allocate(none).expect("always");
        assert_eq!(stats.counts(), Counts::default());
        // SAFETY: the block is in use, and these are its layouts in turn.
        unsafe {
            let block = (&stats).grow(nothing.cast(), none, layout(64, 64)).expect("room");
            assert_eq!((stats.counts().live, stats.counts().total), (1, 1));
            let nothing = (&stats).shrink(block.cast(), layout(64, 64), none).expect("always");
            assert_eq!((stats.counts().live, stats.counts().total), (0, 1));
            release(&stats, NonNull::slice_from_raw_parts(nothing.cast(), 0), none);
        }
        assert_eq!(stats.counts().live, 0);
        assert_eq!(rows(&stats), [(64, 0, 1, 1)]);
    });
}

#[test]
fn a_request_that_is_more_aligned_counts_where_it_can_be_served() {
    let stats = Statistics::new(Global);
    for (size, align) in [(40, 1), (40, 64), (5000, 4096)] {
        release(&stats, (&stats).allocate(layout(size, align)).expect("room"), layout(size, align));
    }
    let profile: Vec<_> = stats.profile().collect();
    let demand = |size, align| Demand { size, align, peak: 1 };
    assert_eq!(profile, [demand(40, 1), demand(64, 64), demand(8192, 4096)]);
    assert_eq!(stats.counts().total_bytes, 40 + 40 + 5000, "as it was asked for");
}

#[test]
fn a_refusal_makes_a_row_but_no_demand() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        assert!((&stats).allocate(layout(9000, 1)).is_err());
        assert!((&stats).allocate(layout(9001, 8)).is_err());
        let rows: Vec<_> = stats.rows().map(|row| (row.size, row.align, row.counts.failed)).collect();
        assert_eq!(rows, [(9001, 8, 2)]);
        assert_eq!(stats.profile().count(), 0);
    });
    // Of one row, what was served tells the size, whichever came first.
    let parent = Parent::granting(0);
    let stats = Statistics::new(&parent);
    let refused = layout(10 * GRANULE, GRANULE);
    assert!((&stats).allocate(refused).is_err());
    parent.grants.set(None);
    let block = take(&stats, 10 * GRANULE - 3);
    parent.grants.set(Some(0));
    assert!((&stats).allocate(refused).is_err());
    let only = stats.rows().next().expect("a row");
    assert_eq!((only.size, only.align, only.counts.failed), (10 * GRANULE - 3, 1, 2));
    release(&stats, block, layout(10 * GRANULE - 3, 1));
}

#[test]
fn in_place_is_forwarded_and_two_blocks_are_never_live() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        let block = take(&stats, 10);
        // SAFETY: the block is in use, and these are its layouts in turn.
        unsafe {
            let grown = (&stats).grow(block.cast(), layout(10, 1), layout(60, 1)).expect("room");
            assert_eq!(grown.cast::<u8>(), block.cast(), "the pool's own way was used");
            assert_eq!(rows(&stats), [(10, 0, 1, 1), (60, 1, 1, 1)]);
            let shrunk = (&stats).shrink(block.cast(), layout(60, 1), layout(58, 1)).expect("room");
            assert_eq!(shrunk.cast::<u8>(), block.cast());
            assert_eq!(rows(&stats), [(10, 0, 1, 1), (60, 1, 1, 2)]);
        }
        let counts = stats.counts();
        assert_eq!((counts.live, counts.peak, counts.total), (1, 1, 3));
        assert_eq!((counts.live_bytes, counts.peak_bytes, counts.total_bytes), (58, 60, 128));
        assert_eq!(counts.wasted_bytes, 54 + 4 + 6);
    });
}

#[test]
fn a_move_has_two_blocks_live_for_a_moment() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        let block = take(&stats, 60);
        // SAFETY: the block is in use, and these are its layouts in turn.
        unsafe {
            let grown = (&stats).grow_zeroed(block.cast(), layout(60, 1), layout(200, 1)).expect("room");
            assert_ne!(grown.cast::<u8>(), block.cast());
            (&stats).shrink(grown.cast(), layout(200, 1), layout(40, 1)).expect("room");
        }
        assert_eq!(rows(&stats), [(40, 1, 1, 1), (60, 0, 1, 1), (200, 0, 1, 1)]);
        let counts = stats.counts();
        assert_eq!((counts.live, counts.peak, counts.live_bytes, counts.peak_bytes), (1, 2, 40, 260));
    });
}

#[test]
fn a_change_that_is_refused_changes_nothing_but_the_failures() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        let block = take(&stats, 60);
        // SAFETY: the block is in use, with this layout, since nothing changed.
        unsafe {
            assert!((&stats).grow(block.cast(), layout(60, 1), layout(5000, 1)).is_err());
            assert!((&stats).grow_zeroed(block.cast(), layout(60, 1), layout(5000, 1)).is_err());
        }
        let counts = stats.counts();
        assert_eq!((counts.live, counts.total, counts.failed, counts.live_bytes), (1, 1, 2, 60));
        let failed: Vec<_> = stats.rows().map(|row| (row.size, row.counts.failed)).collect();
        assert_eq!(failed, [(60, 0), (5000, 2)], "where it would have gone");
        release(&stats, block, layout(60, 1));
    });
}

#[test]
fn counts_stop_at_nothing() {
    with_system(|system| {
        let stats = Statistics::new(&system);
        let block = take(&system, 40);
        release(&stats, block, layout(40, 1));
        assert_eq!(stats.counts(), Counts::default());
        assert_eq!(stats.rows().count(), 0);
        let block = take(&system, 200);
        let small = take(&stats, 50);
        release(&stats, block, layout(200, 1));
        assert_eq!((stats.counts().live, stats.counts().live_bytes), (0, 0));
        assert_eq!(rows(&stats), [(50, 1, 1, 1)], "the other row is as it was");
        release(&stats, small, layout(50, 1));
    });
}

#[test]
fn wrappers_stack_by_value_and_by_handle() {
    with_system(|system| {
        let stacked = Statistics::new(Counting::new(Statistics::new(system)));
        let words = VecIn::<u64, _>::with_capacity_in(8, &stacked);
        let inner = stacked.inner().inner();
        assert_eq!(inner.inner().classes().map(|class| class.live).sum::<usize>(), 1);
        assert_eq!((stacked.counts().live, stacked.inner().counts().live, inner.counts().live), (1, 1, 1));
        drop(words);
        // What a wrapper gives has no waste left in it for the next one to see.
        let _odd = take(&stacked, 50);
        assert_eq!((stacked.counts().wasted_bytes, inner.counts().wasted_bytes), (0, 14));
    });
    let parent = Parent::default();
    let counting = Counting::new(&parent);
    let stats = Statistics::new(&counting);
    let fixed = FixedBlock::in_parent(Layout::new::<u64>(), 10, &stats).expect("room");
    drop(Box::new_in(7_u64, &fixed));
    assert_eq!((stats.counts().live, counting.counts().live_bytes), (1, 80));
    drop(fixed);
    assert_eq!((stats.counts().live, counting.counts().live, parent.live().len()), (0, 0, 0));
}

#[test]
fn a_wrapper_moves_with_its_pool_until_it_is_used_and_after() {
    with_system(|system| {
        let stats = std::boxed::Box::new(Statistics::new(system));
        let block = take(&*stats, 40);
        release(&*stats, block, layout(40, 1));
        let moved = *stats;
        assert_eq!(*Box::new_in(7, &moved), 7);
        assert_eq!(moved.counts().total, 2);
    });
}

#[test]
fn counting_counts_as_the_statistics_do() {
    with_system(|system| {
        let counting = Counting::new(Statistics::new(&system));
        let block = (&counting).allocate_zeroed(layout(60, 1)).expect("room");
        // SAFETY: the block is in use, and these are its layouts in turn.
        unsafe {
            let block = (&counting).grow(block.cast(), layout(60, 1), layout(100, 1)).expect("room");
            let block = (&counting).grow_zeroed(block.cast(), layout(100, 1), layout(120, 1)).expect("room");
            (&counting).shrink(block.cast(), layout(120, 1), layout(10, 1)).expect("room");
        }
        assert!((&counting).allocate(layout(9000, 1)).is_err());
        // But for the waste, which the inner one has hidden.
        assert_eq!(Counts { wasted_bytes: 0, ..counting.inner().counts() }, counting.counts());
        assert!(format!("{counting:?}").contains("failed: 1"));
    });
}

#[test]
fn several_threads_are_all_counted() {
    const EACH: usize = 2000;
    static STATS: Statistics<Global, SpinLock> = Statistics::over(Global);
    static COUNTING: Counting<&Statistics<Global, SpinLock>, SpinLock> = Counting::over(&STATS);
    thread::scope(|scope| {
        for thread in 1..=4 {
            scope.spawn(move || {
                for i in 0..EACH {
                    let size = thread * 100;
                    let block = take(&COUNTING, size);
                    if i % 2 == 0 {
                        // SAFETY: the block is in use, and this is its layout.
                        let block = unsafe { (&COUNTING).grow(block.cast(), layout(size, 1), layout(size + 1, 1)) };
                        release(&COUNTING, block.expect("room"), layout(size + 1, 1));
                    } else {
                        release(&COUNTING, block, layout(size, 1));
                    }
                }
            });
        }
        // Meanwhile somebody looks.
        for _ in 0..100 {
            let counts = COUNTING.counts();
            assert!(counts.live <= 8 && counts.live <= counts.peak && counts.peak as u64 <= counts.total, "{counts:?}");
            let mut text = String::new();
            STATS.report().write_csv(&mut text).expect("a string takes all");
        }
    });
    for counts in [STATS.counts(), COUNTING.counts()] {
        assert_eq!((counts.live, counts.live_bytes, counts.failed), (0, 0, 0));
        assert_eq!(counts.total, 4 * (EACH + EACH / 2) as u64);
        assert!((1..=8).contains(&counts.peak));
    }
}

#[test]
fn a_table_made_from_the_profile_serves_the_same_run_again() {
    fn program(allocator: impl AllocRef) -> Result<(), AllocError> {
        let mut words = VecIn::new_in(allocator.clone());
        for i in 0..500_u32 {
            words.try_reserve(1).map_err(|_| AllocError)?;
            words.push(Box::try_new_in([i; 7], allocator.clone())?);
            if i % 3 == 0 {
                drop(Box::try_new_in([0_u8; 333], allocator.clone())?);
            }
        }
        Ok(())
    }
    let stats = Statistics::new(Global);
    program(&stats).expect("the test machine has memory");
    for classes in 1..=6 {
        let mut scratch = vec![0; optimise_scratch(320, classes)];
        let plan = optimise(stats.profile(), classes, &mut scratch).expect("a good profile");
        let fixed: Table<6> = plan.table(classes).expect("it can be addressed");
        let system = SizeClasses::in_parent(&fixed, Global).expect("the test machine has memory");
        assert_eq!(program(&system), Ok(()), "{classes} classes");
    }
}

/// What the documentation says, written as plainly as possible: a map of sizes.
struct Model<'a> {
    stats: &'a Statistics<SizeClasses<3, Borrowed<'a>>>,
    seen: RefCell<HashMap<usize, (usize, u64)>>,
}

impl Model<'_> {
    fn row(layout: Layout) -> usize {
        let size = if layout.align() > GRANULE { layout.pad_to_align().size() } else { layout.size() };
        size.div_ceil(GRANULE)
    }

    /// What the pool inside will say.
    fn expect(&self, layout: Layout, live: &[Live]) -> Expect {
        let class = |layout: Layout| {
            let size = layout.size().next_multiple_of(layout.align());
            SIZES.rows().iter().position(|row| {
                size <= row.block_size && row.block_size % layout.align() == 0 && layout.align() <= 4096
            })
        };
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let of_class = |block: &&Live| block.layout.size() != 0 && class(block.layout) == class(layout);
        match class(layout) {
            Some(found) if live.iter().filter(of_class).count() < SIZES.rows()[found].n_blocks => {
                Expect::Fresh(layout.size())
            }
            _ => Expect::Refused,
        }
    }
}

impl Spec for Model<'_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        let expected = self.expect(layout, live);
        if layout.size() != 0 && expected != Expect::Refused {
            self.seen.borrow_mut().entry(Self::row(layout)).or_default().1 += 1;
        }
        expected
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        let same = |layout: Layout| {
            let size = layout.size().next_multiple_of(layout.align());
            SIZES.rows().iter().find(|row| size <= row.block_size && row.block_size % layout.align() == 0)
        };
        if block.layout.size() != 0
            && layout.size() != 0
            && layout.align() <= 4096
            && same(block.layout) == same(layout)
        {
            self.seen.borrow_mut().entry(Self::row(layout)).or_default().1 += 1;
            return Expect::Same(layout.size());
        }
        self.on_allocate(layout, live)
    }

    fn assert_counts(&self, live: &[Live]) {
        let live: Vec<_> = live.iter().filter(|block| block.layout.size() != 0).collect();
        let counts = self.stats.counts();
        assert_eq!(counts.live, live.len());
        assert_eq!(counts.live_bytes, live.iter().map(|block| block.layout.size()).sum::<usize>());
        let mut seen = self.seen.borrow_mut();
        for row in self.stats.rows().filter(|row| row.counts.total != 0) {
            let of_row = live.iter().filter(|block| Self::row(block.layout) == row.size.div_ceil(GRANULE)).count();
            let (peak, total) = seen.get_mut(&row.size.div_ceil(GRANULE)).expect("a row that was asked for");
            *peak = (*peak).max(of_row);
            assert_eq!((row.counts.live, row.counts.total), (of_row, *total));
            // A move within the row has one block more for a moment.
            assert!((*peak..=*peak + 1).contains(&row.counts.peak));
        }
        let in_pool: usize = self.stats.inner().classes().map(|class| class.live).sum();
        assert_eq!(in_pool, counts.live);
    }
}

proptest! {
    #[test]
    fn random_operations_are_counted_right(steps in steps(4096)) {
        let mut guarded = Guarded::new(0, SIZES.arena_size());
        let range = guarded.range();
        let stats = Statistics::new(SizeClasses::new(&SIZES, guarded.memory()).expect("room"));
        support::run(&stats, range, &Model { stats: &stats, seen: RefCell::default() }, &steps);
        prop_assert_eq!((stats.counts().live, stats.counts().live_bytes), (0, 0));
        prop_assert!(stats.rows().all(|row| row.counts.live == 0 && row.counts.live_bytes == 0));
        let sums = stats.rows().fold((0, 0, 0), |(total, failed, bytes), row| {
            (total + row.counts.total, failed + row.counts.failed, bytes + row.counts.total_bytes)
        });
        let all = stats.counts();
        prop_assert_eq!(sums, (all.total, all.failed, all.total_bytes));
        guarded.assert_guards();
    }
}

#[test]
fn a_bump_in_it_grows_in_place() {
    let mut memory = [std::mem::MaybeUninit::uninit(); 256];
    let stats = Statistics::new(Bump::new(&mut memory));
    let mut bytes = VecIn::<u8, _>::with_capacity_in(10, &stats);
    bytes.reserve_exact(200);
    assert!(stats.inner().used() < 220);
    assert_eq!(stats.counts().peak, 1);
}
