//! Blocks set aside: later allocations cannot fail, nothing is lost, and each block goes home.

mod support;

use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;

use allocator_api2::alloc::Global;
use allocator_api2::vec::Vec as PoolVec;
use fibra_allocators::{
    AllocError, Allocator, Bump, Counted, FixedBlock, Layout, MemReq, NoRoom, PoolBox, PoolRc, Reserve, SizeClasses,
    table,
};
use proptest::prelude::*;
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::values::{Census, One, SyncParent, panics};
use support::{Guarded, Parent, layout, release};

assert_impl_all!(Reserve<Global>: Send);
assert_not_impl_any!(Reserve<Global>: Sync);
assert_not_impl_any!(Reserve<&'static Parent>: Send, Sync);
assert_not_impl_any!(&'static Reserve<Global>: Send);

const OF_ONE: Layout = Layout::new::<One<'static>>();

#[test]
fn puts_succeed_after_the_allocator_is_exhausted() {
    let (parent, census) = (Parent::granting(3), Census::default());
    let reserve = Reserve::new(&parent, OF_ONE, 3).expect("granted");
    assert!(PoolBox::new_in(census.one(0), &parent).is_err());
    let boxes: Vec<_> = (0..3)
        .map(|n| {
            assert_eq!(reserve.left(), 3 - n as usize);
            reserve.put(census.one(n)).expect("reserved")
        })
        .collect();
    assert!(boxes.iter().map(|one| one.number).eq(0..3));
    let NoRoom { value } = reserve.put(census.one(9)).expect_err("used up");
    assert_eq!((value.number, reserve.left(), census.alive()), (9, 0, 4));
    drop((boxes, value));
    assert_eq!((census.alive(), parent.live(), reserve.left()), (0, vec![], 0), "they went home, not to the reserve");
}

#[test]
fn what_is_left_goes_back_and_what_was_made_stays() {
    let (parent, census) = (Parent::default(), Census::default());
    let reserve = Reserve::new(&parent, OF_ONE, 5).expect("room");
    let boxed = reserve.put(census.one(7)).expect("reserved");
    assert_eq!(parent.live().len(), 5);
    drop(reserve);
    assert_eq!((boxed.number, parent.live()), (7, vec![OF_ONE]));
    drop(boxed);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_reserve_that_cannot_be_had_whole_is_not_kept() {
    for granted in 0..4 {
        let parent = Parent::granting(granted);
        assert_eq!(Reserve::new(&parent, OF_ONE, 4).map(|reserve| reserve.left()), Err(AllocError));
        assert_eq!((parent.given(), parent.live()), (granted, vec![]));
    }
    assert!(Reserve::new(&Parent::default(), layout(isize::MAX as usize, 1), 1).is_err());
}

#[test]
fn a_reserve_of_none() {
    let parent = Parent::default();
    let reserve = Reserve::new(&parent, OF_ONE, 0).expect("nothing is asked for");
    assert_eq!((reserve.left(), parent.given(), reserve.take()), (0, 0, None));
    assert_eq!(reserve.put(7).expect_err("none").value, 7);
}

#[test]
fn a_forgotten_reserve_keeps_its_blocks() {
    let mut guarded = Guarded::new(0, 64);
    let words = FixedBlock::new(layout(8, 8), guarded.memory());
    mem::forget(Reserve::new(&words, layout(8, 8), 5).expect("room"));
    assert_eq!((words.live(), Reserve::new(&words, layout(8, 8), 4).is_err(), words.live()), (5, true, 5));
}

#[test]
fn what_does_not_fit_comes_back_and_takes_no_block() {
    #[derive(Debug, PartialEq)]
    #[repr(align(64))]
    struct Aligned;
    #[derive(Debug, PartialEq)]
    #[repr(align(64))]
    struct AlignedByte(u8);
    let parent = Parent::default();
    let reserve = Reserve::new(&parent, layout(16, 8), 1).expect("room");
    assert_eq!(reserve.put([7_u64; 3]).expect_err("too large").value, [7; 3]);
    assert_eq!(reserve.put(Aligned).expect_err("too aligned").value, Aligned);
    assert_eq!(reserve.put(AlignedByte(7)).expect_err("too aligned and too large").value, AlignedByte(7));
    assert_eq!((reserve.left(), *reserve.put([7_u64; 2]).expect("just so")), (1, [7; 2]));
}

#[test]
fn smaller_values_go_back_with_their_own_layout() {
    let parent = Parent::default();
    let reserve = Reserve::new(&parent, layout(32, 16), 4).expect("room");
    let boxes = (
        reserve.put([1_u8; 32]).expect("fits"),
        reserve.put(2_u64).expect("fits"),
        reserve.put(3_u8).expect("fits"),
        reserve.put(()).expect("fits"),
    );
    assert_eq!((*boxes.0, *boxes.1, *boxes.2, reserve.left()), ([1; 32], 2, 3, 0));
    let mut live = parent.live();
    live.sort_by_key(|layout| layout.size());
    assert_eq!(live, [layout(0, 1), layout(1, 1), Layout::new::<u64>(), layout(32, 1)]);
    drop(boxes);
    assert_eq!(parent.live(), [], "the parent checks the layouts");
}

#[test]
fn a_smaller_value_whose_class_is_exhausted_comes_back_and_the_block_stays() {
    let mut guarded = Guarded::new(0, 320);
    let system = SizeClasses::new(&table([MemReq::new(64, 1), MemReq::new(128, 2)]), guarded.memory()).expect("room");
    let live = || system.classes().map(|class| class.live).collect::<Vec<_>>();
    let reserve = Reserve::new(&system, layout(128, 8), 2).expect("room");
    let other = PoolBox::new_in(0_u8, &system).expect("room");
    assert_eq!(reserve.put(7_u64).expect_err("its class is exhausted").value, 7);
    assert_eq!((reserve.left(), live()), (2, vec![1, 2]));
    drop(other);
    let moved = reserve.put(7_u64).expect("there is one now");
    assert_eq!((*moved, reserve.left(), live()), (7, 1, vec![1, 1]));
    drop((moved, reserve));
    assert_eq!(live(), [0, 0]);
}

#[test]
fn blocks_smaller_or_less_aligned_than_a_link() {
    for (size, align) in [(0, 1), (1, 1), (3, 1), (7, 1), (9, 1), (13, 1), (6, 2), (12, 4), (0, 64)] {
        let parent = Parent::default();
        let reserve = Reserve::new(&parent, layout(size, align), 5).expect("room");
        assert_eq!(reserve.block(), layout(size.max(size_of::<usize>()), align));
        let blocks: Vec<_> = std::iter::from_fn(|| reserve.take()).collect();
        assert_eq!(blocks.len(), 5);
        for block in blocks {
            release(&parent, NonNull::slice_from_raw_parts(block, 0), reserve.block());
        }
    }
    // Blocks at odd addresses, so the links lie there too.
    let mut guarded = Guarded::new(1, 45);
    let bump = Bump::new(guarded.memory());
    let reserve = Reserve::new(&bump, layout(9, 1), 5).expect("just so");
    let boxes: Vec<_> = (0..5_u8).map(|n| reserve.put([n; 9]).expect("reserved")).collect();
    assert!(boxes.iter().zip(0..).all(|(boxed, n)| **boxed == [n; 9]));
    assert_eq!(reserve.left(), 0);
    drop((boxes, reserve));
    guarded.assert_guards();
}

#[test]
fn bytes_are_put_into_blocks_of_a_word() {
    let mut guarded = Guarded::new(0, 3 * size_of::<usize>());
    let words = FixedBlock::new(layout(1, 1), guarded.memory());
    let reserve = Reserve::new(&words, layout(1, 1), 3).expect("room");
    let boxes = [1_u8, 2, 3].map(|n| reserve.put(n).expect("reserved"));
    assert_eq!((boxes.each_ref().map(|boxed| **boxed), words.live()), ([1, 2, 3], 3));
    drop(boxes);
    assert_eq!(words.live(), 0);
}

#[test]
fn containers_allocate_through_the_reference() {
    let parent = Parent::default();
    let reserve = Reserve::new(&parent, layout(64, 8), 3).expect("room");
    {
        let mut bytes = PoolVec::with_capacity_in(10, &reserve);
        bytes.extend(0..10_u8);
        bytes.try_reserve(20).expect("another block");
        assert!(bytes.try_reserve(65).is_err(), "larger than the blocks");
        assert!(bytes.iter().copied().eq(0..10));
        assert_eq!((reserve.left(), parent.live().len()), (1, 2), "the first went home");
        bytes.truncate(3);
        bytes.shrink_to_fit();
        assert_eq!((bytes.as_slice(), bytes.capacity(), reserve.left()), (&[0, 1, 2][..], 3, 1), "in place");
        let units = PoolBox::new_in((), &reserve).expect("no bytes");
        let last = PoolBox::new_in(7_u8, &reserve).expect("the last block");
        assert_eq!((*units, *last, reserve.left()), ((), 7, 0));
        assert_eq!(PoolBox::new_in(8_u8, &reserve).expect_err("used up").value, 8);
        bytes.clear();
        bytes.shrink_to_fit();
        assert_eq!(parent.live().len(), 1, "a container of nothing has no block");
    }
    assert_eq!((parent.live(), reserve.left()), (vec![], 0));
}

#[test]
fn a_reserved_value_can_be_shared() {
    let (parent, census) = (Parent::default(), Census::default());
    let reserve = Reserve::new(&parent, Layout::new::<Counted<One<'_>>>(), 1).expect("room");
    let shared = PoolRc::from(reserve.put(Counted::new(census.one(7))).expect("reserved"));
    let NoRoom { value } = reserve.put(Counted::new(census.one(8))).expect_err("used up");
    assert_eq!((shared.clone().number, Counted::into_inner(value).number), (7, 8));
    drop((reserve, shared));
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}

/// A handle that can be told to panic when it is cloned, or to refuse to shrink, or to panic then.
#[derive(Default)]
struct Fickle {
    parent: Parent,
    clone_panics: Cell<bool>,
    refuses: Cell<bool>,
    shrink_panics: Cell<bool>,
}

struct Handle<'f>(&'f Fickle);

impl Clone for Handle<'_> {
    fn clone(&self) -> Self {
        assert!(!self.0.clone_panics.get(), "as it was told");
        Handle(self.0)
    }
}

// SAFETY: it is `Parent`.
unsafe impl Allocator for Handle<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&self.0.parent).allocate(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on.
        unsafe { (&self.0.parent).deallocate(block, layout) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        assert!(!self.0.shrink_panics.get(), "as it was told");
        if self.0.refuses.get() {
            return Err(AllocError);
        }
        // SAFETY: passed on.
        unsafe { (&self.0.parent).shrink(block, old, new) }
    }
}

#[test]
fn a_handle_that_panics_or_refuses_to_shrink_loses_nothing() {
    let (fickle, census) = (Fickle::default(), Census::default());
    let reserve = Reserve::new(Handle(&fickle), OF_ONE, 2).expect("room");
    fickle.clone_panics.set(true);
    assert!(panics(|| reserve.put(census.one(1))));
    assert_eq!((reserve.left(), census.alive()), (2, 0));
    fickle.clone_panics.set(false);
    fickle.refuses.set(true);
    assert_eq!(reserve.put(7_u8).expect_err("refused").value, 7);
    assert_eq!(reserve.left(), 2);
    fickle.shrink_panics.set(true);
    assert!(panics(|| reserve.put(7_u8)));
    assert_eq!(reserve.left(), 2);
    assert_eq!(reserve.put(census.one(1)).expect("nothing to shrink").number, 1);
    drop(reserve);
    assert_eq!((census.alive(), fickle.parent.live()), (0, vec![]));
}

#[test]
fn a_reserve_moves_to_another_thread_and_its_blocks_go_home_from_there() {
    let parent = SyncParent::default();
    let reserve = Reserve::new(&parent, layout(8, 8), 10).expect("room");
    let first = reserve.put(1_u64).expect("reserved");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let second = reserve.put(2_u64).expect("reserved");
            assert_eq!(*first + *second, 3);
        });
    });
    assert_eq!(parent.live(), 0);
}

#[test]
fn debug_says_what_is_left() {
    let reserve = Reserve::new(Global, layout(8, 8), 2).expect("room");
    let text = format!("{reserve:?}");
    assert!(text.starts_with("Reserve { block: Layout") && text.ends_with("left: 2 }"), "{text}");
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Take,
    Through(usize),
    Drop(prop::sample::Index),
}

proptest! {
    #[test]
    fn blocks_are_given_out_once_and_all_go_home(
        n in 0..10_usize,
        steps in prop::collection::vec(
            prop_oneof![
                3 => any::<u8>().prop_map(Step::Put),
                1 => Just(Step::Take),
                2 => (0..40_usize).prop_map(Step::Through),
                2 => any::<prop::sample::Index>().prop_map(Step::Drop),
            ],
            0..40,
        ),
    ) {
        enum Held<'r> {
            Own(PoolBox<[u8; 32], &'r Parent>, u8),
            Bare(NonNull<u8>),
            Through(PoolBox<[u8], &'r Reserve<&'r Parent>>),
        }
        let parent = Parent::default();
        let reserve = Reserve::new(&parent, layout(32, 1), n).expect("room");
        {
            let mut held = Vec::new();
            for step in steps {
                let left = reserve.left();
                match step {
                    Step::Put(byte) => match reserve.put([byte; 32]) {
                        Ok(boxed) => held.push(Held::Own(boxed, byte)),
                        Err(NoRoom { value }) => assert_eq!((value, left), ([byte; 32], 0)),
                    },
                    Step::Take => match reserve.take() {
                        Some(block) => held.push(Held::Bare(block)),
                        None => assert_eq!(left, 0),
                    },
                    Step::Through(len) => match PoolBox::from_fn_in(len, |i| i as u8, &reserve) {
                        Ok(slice) if len == 0 => drop(slice),
                        Ok(slice) => held.push(Held::Through(slice)),
                        Err(AllocError) => assert!(left == 0 || len > 32),
                    },
                    Step::Drop(which) if !held.is_empty() => {
                        if let Held::Bare(block) = held.swap_remove(which.index(held.len())) {
                            release(&parent, NonNull::slice_from_raw_parts(block, 32), layout(32, 1));
                        }
                    }
                    Step::Drop(_) => {}
                }
                assert_eq!(parent.live().len(), reserve.left() + held.len());
                for one in &held {
                    match one {
                        Held::Own(boxed, byte) => assert_eq!(**boxed, [*byte; 32]),
                        Held::Through(slice) => assert!(slice.iter().copied().eq(0..slice.len() as u8)),
                        Held::Bare(_) => {}
                    }
                }
            }
            for one in held {
                if let Held::Bare(block) = one {
                    release(&parent, NonNull::slice_from_raw_parts(block, 32), layout(32, 1));
                }
            }
        }
        assert_eq!(parent.live().len(), reserve.left());
        drop(reserve);
        assert_eq!(parent.live(), []);
    }
}
