//! What happens when a class is exhausted, and that every block finds its way home.

mod support;

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use allocator_api2::boxed::Box as PoolBox;
use allocator_api2::vec::Vec as PoolVec;
use fibra_allocators::{
    AllocError, Allocator, Borrowed, Elastic, Exhausted, Layout, MemReq, NoFallback, Policy, Relief, SizeClasses,
    Source, SpinLock, Table, fixup, table,
};
use proptest::prelude::*;
use support::{Expect, Guarded, Live, Parent, Spec, drain, forever, layout, release, run, steps};

const SIZES: Table<3> = table([MemReq::new(32, 2), MemReq::new(64, 2), MemReq::new(256, 1)]);

fn with_pools<P: Policy, A: Source>(
    policy: P,
    fallback: A,
    test: impl FnOnce(&Elastic<3, Borrowed<'_>, P, A>, Range<usize>),
) {
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let range = guarded.range();
    let pools = Elastic::new(SizeClasses::new(&SIZES, guarded.memory()).unwrap(), policy, fallback);
    test(&pools, range);
    assert_eq!(pools.system().verify(), Ok(()));
    assert!(pools.system().classes().all(|class| class.live == 0), "all went home");
    drop(pools);
    guarded.assert_guards();
}

fn live<P: Policy, A: Source>(pools: &Elastic<3, Borrowed<'_>, P, A>) -> [usize; 3] {
    let mut live = [0; 3];
    live.iter_mut().zip(pools.system().classes()).for_each(|(live, class)| *live = class.live);
    live
}

#[test]
fn fail_is_what_classes_do_by_themselves() {
    with_pools(Relief::Fail, NoFallback, |pools, _| {
        let all = drain(pools, layout(20, 8));
        assert_eq!(all.len(), 2);
        all.into_iter().for_each(|block| release(pools, block, layout(20, 8)));
    });
}

#[test]
fn the_next_class_that_has_room() {
    with_pools(Relief::NextClass, NoFallback, |pools, _| {
        let all = drain(pools, layout(20, 8));
        assert_eq!(all.iter().map(|block| block.len()).collect::<Vec<_>>(), [32, 32, 64, 64, 256]);
        assert_eq!(live(pools), [2, 2, 1]);
        // Released with any size up to the block's, as a container may.
        for (block, size) in all.into_iter().zip([20, 32, 64, 20, 200]) {
            release(pools, block, layout(size, 8));
        }
        let of_256 = pools.allocate(layout(200, 8)).unwrap();
        assert_eq!(pools.allocate(layout(200, 8)), Err(AllocError), "there is no next one");
        release(pools, of_256, layout(200, 8));
    });
}

#[test]
fn the_next_class_has_to_be_aligned() {
    let sizes = table([MemReq::new(64, 1), MemReq::new(96, 1), MemReq::new(128, 1)]);
    let mut memory = vec![MaybeUninit::uninit(); sizes.arena_size() + 16];
    let pools = Elastic::new(SizeClasses::new(&sizes, &mut memory).unwrap(), Relief::NextClass, NoFallback);
    let aligned = layout(64, 64);
    let blocks = drain(&pools, aligned);
    assert_eq!(blocks.iter().map(|block| block.len()).collect::<Vec<_>>(), [64, 128], "96 is a multiple of 32");
    assert!(blocks.iter().all(|block| block.cast::<u8>().addr().get() % 64 == 0));
    blocks.into_iter().for_each(|block| release(&pools, block, aligned));
    assert!(pools.system().classes().all(|class| class.live == 0));
}

#[test]
fn the_fallback_serves_and_gets_back() {
    let parent = Parent::default();
    with_pools(Relief::Fallback, &parent, |pools, _| {
        let (small, huge) = (layout(20, 8), layout(5000, 4096));
        let blocks: Vec<_> = (0..5).map(|_| pools.allocate(small).unwrap()).collect();
        let large = pools.allocate(huge).unwrap();
        assert_eq!((parent.given(), live(pools)), (4, [2, 0, 0]));
        release(pools, large, huge);
        blocks.into_iter().rev().for_each(|block| release(pools, block, small));
        assert_eq!(parent.live(), []);
        let nothing = pools.allocate(layout(0, 16)).unwrap();
        release(pools, nothing, layout(0, 16));
        assert_eq!(parent.given(), 4, "no bytes, no block");
    });
}

#[test]
fn the_next_class_or_the_fallback() {
    let parent = Parent::default();
    with_pools(Relief::NextClassOrFallback, &parent, |pools, _| {
        let blocks: Vec<_> = (0..7).map(|_| pools.allocate(layout(20, 8)).unwrap()).collect();
        assert_eq!((parent.given(), live(pools)), (2, [2, 2, 1]));
        blocks.into_iter().for_each(|block| release(pools, block, layout(20, 8)));
        assert_eq!(parent.live(), []);
    });
}

#[test]
fn every_class_has_its_own_policy() {
    let parent = Parent::default();
    with_pools([Relief::NextClass, Relief::Fallback, Relief::Fail], &parent, |pools, _| {
        let small: Vec<_> = (0..2).map(|_| pools.allocate(layout(20, 8)).unwrap()).collect();
        let middle: Vec<_> = (0..3).map(|_| pools.allocate(layout(60, 8)).unwrap()).collect();
        assert_eq!(parent.given(), 1);
        let large = pools.allocate(layout(200, 8)).unwrap();
        assert_eq!(pools.allocate(layout(200, 8)), Err(AllocError));
        assert_eq!(pools.allocate(layout(20, 8)), Err(AllocError), "the next ones are exhausted, too");
        assert_eq!(pools.allocate(layout(9999, 8)), Err(AllocError), "too large: as the last class");
        release(pools, large, layout(200, 8));
        small.into_iter().for_each(|block| release(pools, block, layout(20, 8)));
        middle.into_iter().for_each(|block| release(pools, block, layout(60, 8)));
    });
}

#[test]
fn a_callback_is_told_what_is_missing_and_may_make_room() {
    let asked = RefCell::new(Vec::new());
    let hoard = RefCell::new(Vec::new());
    thread_local!(static DROPPED: Cell<usize> = const { Cell::new(0) });
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).unwrap();
    let policy = |exhausted: &Exhausted| {
        asked.borrow_mut().push((exhausted.class, exhausted.retries, exhausted.layout.size()));
        // Releases through the very allocator that asks.
        match hoard.borrow_mut().pop() {
            Some(boxed) => {
                drop::<Box<dyn std::any::Any>>(boxed);
                DROPPED.set(DROPPED.get() + 1);
                Relief::Retry
            }
            None => Relief::Fail,
        }
    };
    let pools = Elastic::new(system, policy, NoFallback);
    let first = pools_box(&pools);
    let second = pools_box(&pools);
    assert!(PoolBox::try_new_in([0_u8; 30], &pools).is_err());
    assert_eq!(asked.take(), [(Some(0), 0, 30)]);

    // The hoard holds something of no use first, and what is needed then.
    hoard.borrow_mut().push(Box::new(()));
    hoard.borrow_mut().push(Box::new(()));
    assert!(PoolBox::try_new_in([0_u8; 30], &pools).is_err());
    assert_eq!(asked.take(), [(Some(0), 0, 30), (Some(0), 1, 30), (Some(0), 2, 30)]);
    assert_eq!(DROPPED.get(), 2);

    assert!((&pools).allocate(layout(9999, 1)).is_err());
    assert_eq!(asked.take(), [(None, 0, 9999)]);
    drop((first, second));
    assert!(pools.system().classes().all(|class| class.live == 0));
}

fn pools_box<A: Allocator>(pools: A) -> PoolBox<[u8; 30], A> {
    PoolBox::new_in([1; 30], pools)
}

#[test]
fn a_callback_releases_what_the_request_then_gets() {
    let mut memory = vec![MaybeUninit::uninit(); SIZES.arena_size() + 16];
    let spare: Cell<Option<NonNull<[u8]>>> = Cell::new(None);
    let system = SizeClasses::with_form::<SpinLock>(&SIZES, &mut memory).unwrap();
    // Two blocks at once, to the classes behind the policy's back.
    let home: Cell<Option<&dyn Fn(NonNull<[u8]>)>> = Cell::new(None);
    let policy = |_: &Exhausted| match spare.take() {
        Some(block) => {
            home.get().unwrap()(block);
            Relief::Retry
        }
        None => Relief::Fail,
    };
    let pools = Elastic::new(system, policy, NoFallback);
    let give = |block| release(&pools, block, layout(32, 8));
    let (a, b) = ((&pools).allocate(layout(32, 8)).unwrap(), (&pools).allocate(layout(32, 8)).unwrap());
    spare.set(Some(a));
    // SAFETY: the closure is used as long as it lives only, below.
    home.set(Some(unsafe { &*std::ptr::from_ref::<dyn Fn(NonNull<[u8]>)>(&give) }));
    assert_eq!((&pools).allocate(layout(32, 8)).unwrap(), a);
    give(a);
    give(b);
    home.set(None);
}

#[test]
fn a_vector_grows_through_the_classes_and_out_of_them() {
    let parent = Parent::default();
    with_pools(Relief::Fallback, &parent, |pools, range| {
        let mut bytes = PoolVec::new_in(pools);
        for n in 0..2000_usize {
            bytes.push(n as u8);
            let inside = range.contains(&bytes.as_ptr().addr());
            assert_eq!(inside, bytes.capacity() <= 256);
        }
        bytes.truncate(10);
        bytes.shrink_to_fit();
        assert!((0..10).eq(bytes.iter().copied()));
    });
    assert_eq!(parent.live(), []);
}

#[test]
fn a_spilled_block_stays_when_there_is_no_smaller_one() {
    with_pools(Relief::NextClass, NoFallback, |pools, _| {
        let small: Vec<_> = (0..4).map(|_| pools.allocate(layout(30, 8)).unwrap()).collect();
        let large = pools.allocate(layout(250, 8)).unwrap();
        // SAFETY: allocated with that layout; the new one is smaller.
        let shrunk = unsafe { pools.shrink(large.cast(), layout(250, 8), layout(10, 8)) }.unwrap();
        assert_eq!((shrunk.cast::<u8>(), shrunk.len()), (large.cast(), 256));
        release(pools, small[0], layout(30, 8));
        // SAFETY: as above.
        let moved = unsafe { pools.shrink(shrunk.cast(), layout(250, 8), layout(10, 8)) }.unwrap();
        assert_eq!(moved.len(), 32);
        release(pools, moved, layout(10, 8));
        small[1..].iter().for_each(|&block| release(pools, block, layout(30, 8)));
    });
}

/// A fallback that has its memory from what it stands in for.
#[test]
fn a_fallback_inside_is_not_taken_for_the_classes() {
    use fibra_allocators::{Arena, Bump, DynAlloc, Extent, Lazy};
    type Inside = Bump<Extent<DynAlloc<'static>>>;
    type Pools = Elastic<2, Borrowed<'static>, Relief, Lazy<Inside>, SpinLock>;
    const SIZES: Table<2> = table([MemReq::new(32, 1), MemReq::new(4096, 1)]);
    static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
    thread_local!(static POOLS: Cell<Option<DynAlloc<'static>>> = const { Cell::new(None) });

    let system = SizeClasses::with_form::<SpinLock>(&SIZES, MEMORY.take().unwrap()).unwrap();
    let inside = Lazy::new(|| Bump::in_parent(POOLS.take()?, 4000).ok());
    let pools: &'static Pools = forever(Elastic::new(system, Relief::Fallback, inside));
    POOLS.set(Some(DynAlloc::root(pools)));
    let first = pools.allocate(layout(32, 8)).unwrap();
    assert_eq!(pools.allocate(layout(32, 8)), Err(AllocError));
    release(pools, first, layout(32, 8));
    assert_eq!(pools.system().classes().map(|class| class.live).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn what_grows_out_of_the_fallback_comes_to_the_classes() {
    let parent = Parent::default();
    with_pools(Relief::Fallback, &parent, |pools, range| {
        let small: Vec<_> = (0..3).map(|_| pools.allocate(layout(20, 8)).unwrap()).collect();
        parent.grants.set(Some(0));
        // SAFETY: allocated with that layout; the new one is larger.
        let moved = unsafe { pools.grow(small[2].cast(), layout(20, 8), layout(200, 8)) }.unwrap();
        assert!(range.contains(&moved.cast::<u8>().addr().get()));
        assert_eq!(parent.live(), []);
        release(pools, moved, layout(200, 8));
        small[..2].iter().for_each(|&block| release(pools, block, layout(20, 8)));
    });
}

/// A fallback that grows a block into one that it was told of, once.
#[derive(Default)]
struct Mover {
    to: Cell<Option<NonNull<[u8]>>>,
    /// That one, as long as it is given out.
    moved: Cell<Option<NonNull<u8>>>,
    parent: Parent,
}

// SAFETY: blocks are the parent's, but for the one that it was told of, which is its own.
unsafe impl Allocator for &Mover {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&self.parent).allocate(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if self.moved.get() == Some(block) {
            self.moved.set(None);
        } else {
            // SAFETY: passed on to the caller.
            unsafe { (&self.parent).deallocate(block, layout) }
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let to = self.to.take().filter(|to| to.len() >= new.size()).ok_or(AllocError)?;
        // SAFETY: it is long enough; the old one was the parent's.
        unsafe {
            to.cast::<u8>().copy_from_nonoverlapping(block, old.size());
            (&self.parent).deallocate(block, old);
        }
        self.moved.set(Some(to.cast()));
        Ok(to)
    }
}

/// Grows a block of the fallback, which that moves into the largest class, while all classes are exhausted.
fn grows_into_the_classes(policy: impl Fn() -> Relief) {
    let mover = Mover::default();
    with_pools(
        |_: &Exhausted| policy(),
        &mover,
        |pools, _| {
            let of_32 = drain(pools.system(), layout(20, 8));
            let of_256 = pools.allocate(layout(200, 8)).expect("one");
            let block = pools.allocate(layout(20, 8)).expect("the fallback's");
            support::fill(block, 7);
            mover.to.set(Some(of_256));
            // SAFETY: allocated with that layout; the new one is larger.
            let grown = unsafe { pools.grow(block.cast(), layout(20, 8), layout(200, 8)) }.expect("moved on");
            assert_eq!(support::bytes(grown)[..20], [7; 20]);
            assert_eq!(mover.parent.live(), [layout(200, 8)]);
            release(pools, grown, layout(200, 8));
            release(pools, of_256, layout(200, 8));
            of_32.into_iter().for_each(|block| release(pools, block, layout(20, 8)));
        },
    );
    assert_eq!((mover.moved.get(), mover.parent.live()), (None, vec![]));
}

#[test]
fn what_the_fallback_moves_into_the_classes_is_moved_on() {
    grows_into_the_classes(|| Relief::Fallback);
}

/// Whoever asked for the block to grow would go on with the old one.
#[test]
fn a_policy_that_panics_when_a_block_has_moved_ends_the_program() {
    const ROLE: &str = "FIBRA_TEST_PANICKING_POLICY";
    if std::env::var_os(ROLE).is_some() {
        let asked = Cell::new(0);
        let policy = || {
            asked.set(asked.get() + 1);
            assert!(asked.get() < 2, "as it was told");
            Relief::Fallback
        };
        let grow = || grows_into_the_classes(policy);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(grow));
        println!("went on");
        return;
    }
    let name = "a_policy_that_panics_when_a_block_has_moved_ends_the_program";
    let this = std::env::current_exe().expect("a test knows itself");
    let child = std::process::Command::new(this)
        .args([name, "--exact", "--nocapture"])
        .env(ROLE, "1")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(said.contains("as it was told") && said.contains("must not unwind here"), "{said}");
    assert!(!child.status.success() && !String::from_utf8_lossy(&child.stdout).contains("went on"));
}

/// The documentation of `Elastic` with `NextClassOrFallback`, where the fallback has no end.
struct Model<'a> {
    rows: &'a [MemReq],
    arena: Range<usize>,
    parent: &'a Parent,
}

impl Model<'_> {
    fn class(&self, layout: Layout) -> usize {
        let holds = |row: &MemReq| self.holds(row, layout);
        self.rows.iter().position(holds).unwrap_or(self.rows.len())
    }

    fn holds(&self, row: &MemReq, layout: Layout) -> bool {
        layout.size() <= row.block_size && row.block_size.is_multiple_of(layout.align()) && layout.align() <= 4096
    }

    /// Its address and its length say where a block is from.
    fn home(&self, block: &Live) -> Option<usize> {
        let from_class = block.layout.size() != 0 && self.arena.contains(&block.addr());
        from_class.then(|| self.rows.iter().position(|row| row.block_size == block.block.len()).expect("a class"))
    }
}

impl Spec for Model<'_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let has_room = |&class: &usize| {
            let used = live.iter().filter(|block| self.home(block) == Some(class)).count();
            self.holds(&self.rows[class], layout) && used < self.rows[class].n_blocks
        };
        match (self.class(layout)..self.rows.len()).find(has_room) {
            Some(class) => Expect::Fresh(self.rows[class].block_size),
            None => Expect::Fresh(layout.size()),
        }
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        if block.layout.size() == 0 || layout.size() == 0 {
            return self.on_allocate(layout, live);
        }
        match self.home(block) {
            Some(class) => {
                let stays = match layout.size() >= block.layout.size() {
                    true => self.holds(&self.rows[class], layout),
                    false => self.class(layout) == class,
                };
                if stays { Expect::Same(block.block.len()) } else { self.on_allocate(layout, live) }
            }
            None => Expect::Fresh(layout.size()),
        }
    }

    fn assert_counts(&self, live: &[Live]) {
        let outside = live.iter().filter(|block| block.layout.size() != 0 && self.home(block).is_none()).count();
        assert_eq!(self.parent.live().len(), outside);
    }
}

proptest! {
    #[test]
    fn every_block_finds_its_way_home(
        rows in prop::array::uniform5(((1..400_usize), (1..5_usize))),
        skew in 0..64_usize,
        steps in steps(600),
    ) {
        let sizes = fixup(rows.map(|(size, n)| MemReq::new(size, n))).unwrap();
        let mut guarded = Guarded::new(skew * 16, sizes.arena_size());
        let arena = guarded.range();
        let parent = Parent::default();
        let system = SizeClasses::new(&sizes, guarded.memory()).unwrap();
        let pools = Elastic::new(system, Relief::NextClassOrFallback, &parent);
        run(&pools, 0..usize::MAX, &Model { rows: sizes.rows(), arena, parent: &parent }, &steps);
        prop_assert!(pools.system().classes().all(|class| class.live == 0));
        prop_assert_eq!(parent.live(), []);
        guarded.assert_guards();
    }
}
