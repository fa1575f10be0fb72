//! Each mistake, made on purpose, is named for what it is, with the block's address, size and number; and nothing else is.

mod support;

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use allocator_api2::alloc::Global;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_allocators::{
    AllocError, Allocator, Borrowed, Bump, CheckedBlock, Checking, FixedBlock, Layout, MemReq, Mistake, NoLock, Poison,
    SizeClasses, Table, checking_arena_size, table,
};
use support::{Guarded, Parent, bytes, fill, forever, layout, release};

const SIZES: Table<4> = table([MemReq::new(32, 40), MemReq::new(64, 20), MemReq::new(256, 10), MemReq::new(2048, 4)]);
const RECORDS: usize = 60;

type Checked<'a> = Checking<&'a dyn Allocator, Borrowed<'a>, NoLock, &'a dyn Fn(&Mistake)>;

/// Runs the test over each kind of allocator. Mistakes go to the list; at the end it must be what the test returns.
fn over_each(test: impl Fn(&Checked<'_>, &RefCell<Vec<Mistake>>)) {
    let check = |inner: &dyn Allocator| {
        let mistakes = RefCell::new(Vec::new());
        let handler = |mistake: &Mistake| mistakes.borrow_mut().push(*mistake);
        let mut records = Guarded::new(3, checking_arena_size(RECORDS));
        let checking = Checking::new(inner, records.memory()).on_mistake(&handler as &dyn Fn(&Mistake));
        assert_eq!(checking.capacity(), RECORDS);
        test(&checking, &mistakes);
        assert_eq!(checking.verify(), 0, "the test has made all its mistakes");
        assert_eq!(mistakes.take(), [], "mistakes that the test does not know of");
        drop(checking);
        assert_eq!(mistakes.take(), [], "mistakes that the test does not know of");
        records.assert_guards();
    };
    let mut memory = Guarded::new(0, 64 * 1024);
    check(&&Bump::new(memory.memory()));
    check(&&FixedBlock::new(layout(512, 64), memory.memory()));
    check(&&SizeClasses::new(&SIZES, memory.memory()).expect("room"));
    memory.assert_guards();
}

fn named(block: NonNull<[u8]>, layout: Layout, sequence: u64) -> CheckedBlock {
    CheckedBlock { address: block.cast::<u8>().addr().get(), layout, sequence }
}

fn get(allocator: impl Allocator, layout: Layout) -> NonNull<[u8]> {
    let block = allocator.allocate(layout).expect("the inner allocator has memory");
    assert_eq!(block.len(), layout.size());
    assert!(block.cast::<u8>().addr().get().is_multiple_of(layout.align()));
    block
}

/// Writes a byte of a block, or behind it, whoever it belongs to. The memory is that of the inner allocator in any case.
fn poke(block: NonNull<[u8]>, offset: usize) {
    // SAFETY: the tests stay within the red zone, and within blocks that are in quarantine.
    unsafe {
        let byte = block.cast::<u8>().add(offset);
        byte.write(!byte.read());
    }
}

#[test]
fn what_is_right_is_not_reported() {
    over_each(|checking, _| {
        let (a, b) = (layout(24, 8), layout(100, 4));
        let (one, two) = (get(checking, a), get(checking, b));
        assert_eq!(checking.live(), 2);
        assert!(bytes(one).iter().all(|byte| *byte == Poison::Fresh as u8));
        fill(one, 1);
        fill(two, 2);
        assert_eq!(checking.verify(), 0);
        release(checking, one, a);
        assert_eq!((checking.live(), checking.quarantined()), (1, 1));
        assert!(bytes(one).iter().all(|byte| *byte == Poison::Freed as u8));
        let zeroed = checking.allocate_zeroed(b).expect("room");
        assert!(bytes(zeroed).iter().all(|byte| *byte == 0));
        release(checking, zeroed, b);
        release(checking, two, b);
        assert_eq!((checking.live(), checking.mistakes()), (0, 0));
    });
}

#[test]
fn a_double_free() {
    over_each(|checking, mistakes| {
        let shape = layout(24, 8);
        release(checking, get(checking, layout(8, 8)), layout(8, 8));
        let block = get(checking, shape);
        release(checking, block, shape);
        let expected = Mistake::DoubleFree { block: named(block, shape, 2) };
        release(checking, block, shape);
        assert_eq!(mistakes.take(), [expected]);
        // By way of a layout that it never had, or by being resized, too.
        release(checking, block, layout(4, 4));
        assert_eq!(mistakes.take(), [expected]);
        // SAFETY: it is not followed; that is what is tested.
        unsafe {
            assert_eq!(checking.grow(block.cast(), shape, layout(48, 8)), Err(AllocError));
            assert_eq!(checking.grow_zeroed(block.cast(), shape, layout(48, 8)), Err(AllocError));
            assert_eq!(checking.shrink(block.cast(), shape, layout(8, 8)), Err(AllocError));
            assert_eq!(checking.shrink(block.cast(), shape, layout(0, 8)), Err(AllocError));
        }
        assert_eq!(mistakes.take(), [expected; 4]);
        assert_eq!((checking.quarantined(), checking.mistakes()), (2, 6));
    });
}

#[test]
fn a_double_free_long_after_the_block_went_back() {
    let mut memory = Guarded::new(0, 64 * 1024);
    let bump = Bump::new(memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(50));
    let checking = Checking::new(&bump, records.memory())
        .quarantine(2, 1000)
        .on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let shape = layout(24, 8);
    let first = get(&checking, shape);
    release(&checking, first, shape);
    for n in 2..=50 {
        release(&checking, get(&checking, shape), shape);
        assert_eq!(checking.quarantined(), 2.min(n));
    }
    release(&checking, first, shape);
    assert_eq!(mistakes.take(), [Mistake::DoubleFree { block: named(first, shape, 1) }]);
    // One more, and the oldest record has to make room.
    release(&checking, get(&checking, shape), shape);
    release(&checking, first, shape);
    let address = first.cast::<u8>().addr().get();
    assert_eq!(mistakes.take(), [Mistake::ForeignPointer { address, layout: shape }]);
}

#[test]
fn an_address_that_was_given_out_again_is_the_new_block() {
    let mut memory = Guarded::new(0, 1024);
    let blocks = FixedBlock::new(layout(64, 8), memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(4));
    let checking = Checking::new(&blocks, records.memory())
        .quarantine(0, 0)
        .on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let shape = layout(24, 8);
    for sequence in 1..=1000 {
        let block = get(&checking, shape);
        release(&checking, block, shape);
        release(&checking, block, shape);
        assert_eq!(mistakes.take(), [Mistake::DoubleFree { block: named(block, shape, sequence) }]);
    }
    let block = get(&checking, shape);
    release(&checking, block, layout(23, 1));
    let block = named(block, shape, 1001);
    assert_eq!(mistakes.take(), [Mistake::WrongLayout { block, given: layout(23, 1) }]);
    drop(checking);
    assert_eq!(mistakes.take(), [Mistake::Leak { block, nth: 1, of: 1 }]);
}

#[test]
fn a_foreign_pointer() {
    over_each(|checking, mistakes| {
        let shape = layout(24, 8);
        let ours = get(checking, shape);
        let local = [0_u64; 3];
        let at = |address: usize| {
            // SAFETY: none of them is followed; that is what is tested.
            unsafe {
                checking.deallocate(NonNull::<u8>::dangling().with_addr(address.try_into().expect("not null")), shape)
            };
            assert_eq!(mistakes.take(), [Mistake::ForeignPointer { address, layout: shape }]);
        };
        at(local.as_ptr().addr());
        at(ours.cast::<u8>().addr().get() + 8);
        at(1);
        at(usize::MAX);
        let nowhere = NonNull::<u8>::dangling();
        // SAFETY: as above.
        assert_eq!(unsafe { checking.grow(nowhere, shape, layout(48, 8)) }, Err(AllocError));
        assert!(matches!(mistakes.take()[..], [Mistake::ForeignPointer { address: 1, .. }]));
        release(checking, ours, shape);
    });
}

#[test]
fn a_wrong_layout() {
    over_each(|checking, mistakes| {
        let shape = layout(24, 8);
        let block = get(checking, shape);
        for given in [layout(23, 8), layout(25, 8), layout(24, 4), layout(24, 16), layout(0, 8), layout(0, 1)] {
            let expected = [Mistake::WrongLayout { block: named(block, shape, 1), given }];
            release(checking, block, given);
            assert_eq!(mistakes.take(), expected, "at release");
            // SAFETY: nothing is done; that is what is tested.
            unsafe {
                assert_eq!(checking.grow(block.cast(), given, layout(48, 8)), Err(AllocError));
                assert_eq!(mistakes.take(), expected, "when it grows");
                assert_eq!(checking.shrink(block.cast(), given, layout(0, 8)), Err(AllocError));
                assert_eq!(mistakes.take(), expected, "when it shrinks");
            }
            assert_eq!(checking.live(), 1);
        }
        release(checking, block, shape);
    });
}

#[test]
fn growing_to_less_and_shrinking_to_more() {
    over_each(|checking, mistakes| {
        let shape = layout(24, 8);
        let block = get(checking, shape);
        fill(block, 7);
        let wrong = |wanted| [Mistake::WrongResize { block: named(block, shape, 1), wanted }];
        // SAFETY: nothing is done; that is what is tested.
        unsafe {
            assert_eq!(checking.grow(block.cast(), shape, layout(23, 8)), Err(AllocError));
            assert_eq!(mistakes.take(), wrong(layout(23, 8)));
            assert_eq!(checking.shrink(block.cast(), shape, layout(25, 8)), Err(AllocError));
            assert_eq!(mistakes.take(), wrong(layout(25, 8)));
        }
        assert_eq!(bytes(block), [7; 24]);
        release(checking, block, shape);
    });
}

#[test]
fn a_write_after_the_release_found_by_verifying() {
    over_each(|checking, mistakes| {
        let shape = layout(200, 8);
        let blocks: Vec<_> = (0..5).map(|_| get(checking, shape)).collect();
        for block in &blocks {
            release(checking, *block, shape);
        }
        for (n, offset) in [(1, 0), (3, 199)] {
            poke(blocks[n], offset);
            assert_eq!(checking.verify(), 1);
            let block = named(blocks[n], shape, n as u64 + 1);
            assert_eq!(mistakes.take(), [Mistake::WriteAfterFree { block, offset }]);
            assert_eq!(checking.verify(), 0, "it is told once");
        }
        // They stay out of use, and are still known.
        assert_eq!(checking.quarantined(), 3);
        release(checking, blocks[1], shape);
        assert_eq!(mistakes.take(), [Mistake::DoubleFree { block: named(blocks[1], shape, 2) }]);
    });
}

#[test]
fn a_write_after_the_release_found_when_the_block_leaves_and_then_it_does_not() {
    let mut memory = Guarded::new(0, 4096);
    let blocks = FixedBlock::new(layout(128, 8), memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let checking = Checking::new(&blocks, records.memory())
        .quarantine(2, 1000)
        .on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let shape = layout(100, 8);
    let kept = [get(&checking, shape), get(&checking, shape), get(&checking, shape)];
    release(&checking, kept[0], shape);
    release(&checking, kept[1], shape);
    poke(kept[0], 64);
    assert_eq!(mistakes.take(), []);
    release(&checking, kept[2], shape);
    assert_eq!(mistakes.take(), [Mistake::WriteAfterFree { block: named(kept[0], shape, 1), offset: 64 }]);
    assert_eq!(blocks.live(), 3, "it was not given back, because it may be written to again");
    for _ in 0..10 {
        let block = get(&checking, shape);
        assert_ne!(block, kept[0]);
        release(&checking, block, shape);
    }
    poke(kept[0], 65);
    assert_eq!(checking.verify(), 0);
    drop(checking);
    assert_eq!(mistakes.take(), []);
    assert_eq!(blocks.live(), 1);
}

#[test]
fn a_write_after_the_release_found_at_drop() {
    let mistakes = RefCell::new(Vec::new());
    let parent = Parent::default();
    let checking =
        Checking::in_parent(&parent, &parent, 20).expect("memory").on_mistake(|m| mistakes.borrow_mut().push(*m));
    let shape = layout(100, 8);
    let kept = [get(&checking, shape), get(&checking, shape)];
    release(&checking, kept[0], shape);
    release(&checking, kept[1], shape);
    poke(kept[1], 3);
    drop(checking);
    assert_eq!(mistakes.take(), [Mistake::WriteAfterFree { block: named(kept[1], shape, 2), offset: 3 }]);
    let [withheld] = parent.live()[..] else { panic!("one block, and not the records") };
    assert_eq!(withheld, layout(116, 8));
    release(&parent, kept[1], withheld);
}

#[test]
fn a_write_behind_the_end() {
    over_each(|checking, mistakes| {
        for (sequence, (size, align, beyond)) in
            (1..).zip([(24, 8, 0), (24, 8, 7), (1, 1, 0), (100, 4, 15), (17, 1, 3), (64, 64, 0)])
        {
            let shape = layout(size, align);
            let block = get(checking, shape);
            let expected = Mistake::Overrun { block: named(block, shape, sequence), offset: size + beyond };
            assert_eq!(checking.verify(), 0);
            poke(block, size + beyond);
            assert_eq!((checking.verify(), checking.verify()), (1, 0), "it is told once");
            assert_eq!(mistakes.take(), [expected]);
            poke(block, size + beyond);
            let live = checking.live();
            release(checking, block, shape);
            assert_eq!(mistakes.take(), [expected]);
            assert_eq!(checking.live(), live - 1, "the release is done all the same");
        }
    });
}

#[test]
fn a_write_behind_the_end_found_when_the_block_is_resized() {
    over_each(|checking, mistakes| {
        let (small, large) = (layout(24, 8), layout(100, 8));
        let block = get(checking, small);
        fill(block, 9);
        poke(block, 24);
        // SAFETY: the block is live and this is its layout.
        let grown = unsafe { checking.grow(block.cast(), small, large) }.expect("room");
        assert_eq!(mistakes.take(), [Mistake::Overrun { block: named(block, small, 1), offset: 24 }]);
        assert_eq!(&bytes(grown)[..24], [9; 24]);
        assert!(bytes(grown)[24..].iter().all(|byte| *byte == Poison::Fresh as u8));
        poke(grown, 101);
        // SAFETY: as above.
        let shrunk = unsafe { checking.shrink(grown.cast(), large, small) }.expect("room");
        assert_eq!(mistakes.take(), [Mistake::Overrun { block: named(grown, large, 1), offset: 101 }]);
        poke(shrunk, 24);
        // SAFETY: as above.
        let nothing = unsafe { checking.shrink(shrunk.cast(), small, layout(0, 8)) }.expect("no bytes need no room");
        assert_eq!(mistakes.take(), [Mistake::Overrun { block: named(shrunk, small, 1), offset: 24 }]);
        assert_eq!((nothing.len(), checking.live()), (0, 0));
    });
}

#[test]
fn the_former_address_of_a_block_that_moved_is_a_double_free() {
    let mut memory = Guarded::new(0, 4096);
    let bump = Bump::new(memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let checking = Checking::new(&bump, records.memory()).on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let (small, large) = (layout(24, 8), layout(100, 8));
    let (one, two) = (get(&checking, small), get(&checking, small));
    // SAFETY: live blocks with their layouts.
    let (moved, in_place) = unsafe {
        let moved = (&checking).grow(one.cast(), small, large).expect("room");
        (moved, (&checking).grow_zeroed(moved.cast(), large, layout(200, 8)).expect("room"))
    };
    assert_ne!(one.cast::<u8>(), moved.cast::<u8>());
    assert_eq!(moved.cast::<u8>(), in_place.cast::<u8>(), "the last block of a bump grows where it is");
    assert_eq!(bytes(in_place)[100..], [0; 100], "also where the red zone was");
    release(&checking, one, small);
    release(&checking, in_place, large);
    assert_eq!(
        mistakes.take(),
        [
            Mistake::DoubleFree { block: named(one, small, 1) },
            Mistake::WrongLayout { block: named(in_place, layout(200, 8), 1), given: large },
        ]
    );
    release(&checking, in_place, layout(200, 8));
    release(&checking, two, small);
    assert_eq!((checking.live(), checking.verify(), checking.mistakes()), (0, 0, 2));
}

#[test]
fn without_red_zones_what_the_inner_block_has_more_is_one() {
    let mut memory = Guarded::new(0, 4096);
    let blocks = FixedBlock::new(layout(64, 8), memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let checking =
        Checking::new(&blocks, records.memory()).red_zone(0).on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let shape = layout(60, 4);
    let block = get(&checking, shape);
    poke(block, 63);
    release(&checking, block, shape);
    assert_eq!(mistakes.take(), [Mistake::Overrun { block: named(block, shape, 1), offset: 63 }]);
}

#[test]
fn a_block_that_has_no_room_for_a_red_zone_is_served_without() {
    let mut memory = Guarded::new(0, 64 * 10);
    let blocks = FixedBlock::new(layout(64, 8), memory.memory());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let checking = Checking::new(&blocks, records.memory());
    let shape = layout(64, 8);
    let all: Vec<_> = (0..10).map(|_| get(&checking, shape)).collect();
    assert_eq!((&checking).allocate(shape), Err(AllocError));
    for block in &all {
        fill(*block, 5);
    }
    assert_eq!(checking.verify(), 0);
    for block in all {
        assert_eq!(bytes(block), [5; 64]);
        release(&checking, block, shape);
    }
}

#[test]
fn leaks_are_all_told_and_stay_out_of_use() {
    let mistakes = RefCell::new(Vec::new());
    let parent = Parent::default();
    let checking =
        Checking::in_parent(&parent, &parent, 20).expect("memory").on_mistake(|m| mistakes.borrow_mut().push(*m));
    let (a, b, c) = (layout(8, 8), layout(24, 4), layout(100, 64));
    let leaks = [get(&checking, a), get(&checking, b), get(&checking, c)];
    release(&checking, get(&checking, a), a);
    fill(leaks[1], 7);
    poke(leaks[0], 8);
    drop(checking);
    let (first, second, third) = (named(leaks[0], a, 1), named(leaks[1], b, 2), named(leaks[2], c, 3));
    assert_eq!(
        mistakes.take(),
        [
            Mistake::Overrun { block: first, offset: 8 },
            Mistake::Leak { block: first, nth: 1, of: 3 },
            Mistake::Leak { block: second, nth: 2, of: 3 },
            Mistake::Leak { block: third, nth: 3, of: 3 },
        ]
    );
    assert_eq!(bytes(leaks[1]), [7; 24], "something may still point to it");
    assert_eq!(parent.live().len(), 3);
    for (leak, shape) in leaks.into_iter().zip([layout(24, 8), layout(40, 4), layout(116, 64)]) {
        release(&parent, leak, shape);
    }
}

#[test]
fn no_bytes_need_no_record() {
    let mut memory = Guarded::new(0, 64);
    let bump = Bump::new(memory.memory());
    let checking = Checking::new(&bump, &mut []);
    assert_eq!(checking.capacity(), 0);
    for align in [1, 8, 4096] {
        let nothing = get(&checking, layout(0, align));
        release(&checking, nothing, layout(0, align));
        // SAFETY: a block of no bytes, of this layout.
        let still = unsafe { (&checking).grow(nothing.cast(), layout(0, align), layout(0, align)) };
        assert_eq!(still.map(|block| block.len()), Ok(0));
    }
    assert_eq!((&checking).allocate(layout(1, 1)), Err(AllocError), "and one byte does");
    assert_eq!(bump.used(), 17, "asked for and given back");
    assert_eq!(checking.mistakes(), 0);
}

#[test]
fn from_nothing_to_something_and_back() {
    over_each(|checking, mistakes| {
        let (none, some) = (layout(0, 8), layout(40, 8));
        let nothing = get(checking, none);
        // SAFETY: live blocks, of these layouts.
        unsafe {
            let block = checking.grow(nothing.cast(), none, some).expect("room");
            assert!(bytes(block).iter().all(|byte| *byte == Poison::Fresh as u8));
            let nothing = checking.shrink(block.cast(), some, none).expect("no room needed");
            assert_eq!((checking.live(), checking.quarantined()), (0, 1));
            assert!(bytes(block).iter().all(|byte| *byte == Poison::Freed as u8));
            let zeroed = checking.grow_zeroed(nothing.cast(), none, some).expect("room");
            assert_eq!(bytes(zeroed), [0; 40]);
            release(checking, zeroed, some);
            release(checking, zeroed, some);
            assert_eq!(mistakes.take(), [Mistake::DoubleFree { block: named(zeroed, some, 2) }]);
        }
    });
}

#[test]
fn records_run_out_and_come_back() {
    let mut memory = Guarded::new(0, 64 * 1024);
    let bump = Bump::new(memory.memory());
    let mut records = Guarded::new(0, checking_arena_size(7));
    let checking = Checking::new(&bump, records.memory());
    let shape = layout(24, 8);
    for _ in 0..5 {
        let blocks: Vec<_> = (0..7).map(|_| get(&checking, shape)).collect();
        let used = bump.used();
        assert_eq!((&checking).allocate(shape), Err(AllocError));
        assert!(bump.used() > used, "a bump takes nothing back");
        // SAFETY: a live block of this layout: growing takes no record more.
        let grown = unsafe { (&checking).grow(blocks[0].cast(), shape, layout(48, 8)) }.expect("room");
        release(&checking, grown, layout(48, 8));
        for block in &blocks[1..] {
            release(&checking, *block, shape);
        }
        assert_eq!(checking.quarantined(), 7, "which make room for the next");
    }
}

#[test]
fn a_short_inner_allocator_gets_the_quarantine_back_before_a_request_fails() {
    let mut memory = Guarded::new(0, 64 * 8);
    let blocks = FixedBlock::new(layout(64, 8), memory.memory());
    let mut records = Guarded::new(0, checking_arena_size(100));
    let checking = Checking::new(&blocks, records.memory());
    let shape = layout(40, 8);
    for _ in 0..100 {
        let all: Vec<_> = (0..8).map(|_| get(&checking, shape)).collect();
        assert_eq!((&checking).allocate(shape), Err(AllocError));
        all.into_iter().for_each(|block| release(&checking, block, shape));
    }
    assert_eq!(checking.mistakes(), 0);
}

#[test]
fn the_quarantine_is_bounded_in_blocks_and_in_bytes() {
    let mut memory = Guarded::new(0, 64 * 1024);
    let bump = Bump::new(memory.memory());
    let mut records = Guarded::new(0, checking_arena_size(100));
    let checking = Checking::new(&bump, records.memory()).quarantine(5, 1000).red_zone(0);
    let turn = |size| release(&checking, get(&checking, layout(size, 1)), layout(size, 1));
    (0..10).for_each(|_| turn(10));
    assert_eq!(checking.quarantined(), 5);
    turn(970);
    assert_eq!(checking.quarantined(), 4, "970 and three of 10");
    turn(1001);
    assert_eq!(checking.quarantined(), 4, "larger than the whole, so it went back at once");
    turn(1000);
    assert_eq!(checking.quarantined(), 1);
    let checking = checking.quarantine(0, 1000);
    release(&checking, get(&checking, layout(8, 8)), layout(8, 8));
    assert_eq!(checking.quarantined(), 0, "and the former inmates went, too");
}

#[test]
fn everything_goes_back_with_the_layout_it_was_asked_for() {
    let parent = Parent::default();
    let checking = Checking::in_parent(&parent, &parent, 1000).expect("memory").quarantine(10, 10_000);
    let mut vectors: Vec<VecIn<u32, _>> = (0..10).map(|_| VecIn::new_in(&checking)).collect();
    for n in 0..1000 {
        vectors[n % 10].push(n as u32);
        if n % 100 == 99 {
            vectors[n % 7].shrink_to_fit();
        }
    }
    drop(vectors);
    assert_eq!(checking.live(), 0);
    drop(checking);
    assert_eq!(parent.live(), []);
}

#[test]
fn a_parent_that_has_no_memory_for_the_records() {
    let parent = Parent::granting(0);
    assert!(Checking::in_parent(&parent, &parent, 10).is_err());
    assert!(Checking::in_parent(Global, Global, usize::MAX).is_err());
    assert!(Checking::in_parent(Global, Global, usize::MAX / 100).is_err());
}

#[test]
fn any_amount_of_memory_for_records_is_used_and_not_overrun() {
    for size in 0..700 {
        let mut records = Guarded::new(size % 13, size);
        {
            let checking = Checking::new(Global, records.memory());
            let capacity = checking.capacity();
            assert!(checking_arena_size(capacity) <= size + 7 || capacity == 0, "{capacity} in {size}");
            assert!(checking_arena_size(capacity + 1) + 8 > size, "{capacity} in {size}");
            let all: Vec<_> = std::iter::from_fn(|| Box::try_new_in(1_u8, &checking).ok()).collect();
            assert_eq!(all.len(), capacity);
        }
        records.assert_guards();
    }
}

#[test]
fn the_handler_may_allocate_and_release() {
    type Reentrant = Checking<&'static Bump<Borrowed<'static>>, Borrowed<'static>>;
    thread_local! {
        static CHECKING: Cell<Option<&'static Reentrant>> = const { Cell::new(None) };
        static TOLD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    fn handler(mistake: &Mistake) {
        let checking = CHECKING.get().expect("set before the first mistake");
        let mut copy = VecIn::new_in(checking);
        copy.extend(mistake.to_string().bytes());
        let boxed = Box::new_in(copy, checking);
        let text = std::str::from_utf8(&boxed).expect("it was text").to_owned();
        TOLD.with_borrow_mut(|told| told.push(text));
        // A mistake of the handler's own is told to it as any other.
        if matches!(mistake, Mistake::DoubleFree { .. }) {
            release(checking, NonNull::slice_from_raw_parts(NonNull::dangling(), 8), layout(8, 1));
        }
    }
    let bump = forever(Bump::new(forever([MaybeUninit::uninit(); 64 * 1024])));
    let checking = Checking::new(&*bump, forever([MaybeUninit::uninit(); 10_000]));
    let checking = &*forever(checking.quarantine(3, 1000).on_mistake(handler as fn(&Mistake)));
    CHECKING.set(Some(checking));
    let shape = layout(24, 8);
    let block = get(checking, shape);
    release(checking, block, shape);
    release(checking, block, shape);
    let told = TOLD.take();
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("double free: the block at 0x"), "{}", told[0]);
    assert!(told[1].starts_with("foreign pointer: 0x1, released as 8 bytes aligned to 1,"), "{}", told[1]);
    // Found in the middle of a release, an allocation and a look through everything.
    let written = get(checking, shape);
    release(checking, written, shape);
    poke(written, 0);
    for _ in 0..5 {
        release(checking, get(checking, shape), shape);
    }
    let overrun = get(checking, shape);
    poke(overrun, 24);
    assert_eq!(checking.verify(), 1);
    release(checking, overrun, shape);
    let told = TOLD.take();
    assert_eq!(told.len(), 2);
    assert!(told[0].starts_with("write after free: byte 0 of the block"), "{}", told[0]);
    assert!(told[1].starts_with("overrun: byte 24 of the block"), "{}", told[1]);
    assert_eq!((checking.live(), checking.mistakes()), (0, 4));
}

/// Runs something that is to panic, and returns with which words.
fn words(section: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(section)).expect_err("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).expect("a panic with words")
}

#[test]
fn by_default_it_panics_and_stays_in_order() {
    let parent = Parent::default();
    let checking = Checking::in_parent(&parent, &parent, 30).expect("memory").quarantine(4, 1000);
    let shape = layout(24, 8);
    let (one, two, three) = (get(&checking, shape), get(&checking, shape), get(&checking, shape));
    assert!(words(|| release(&checking, one, layout(16, 8))).starts_with("wrong layout: the block at 0x"));
    poke(two, 24);
    assert!(words(|| release(&checking, two, shape)).starts_with("overrun: byte 24 of the block at 0x"));
    assert_eq!(checking.live(), 2, "that release is done");
    assert!(words(|| release(&checking, two, shape)).contains("double free"));
    poke(three, 30);
    // SAFETY: a live block of this layout.
    let grow = || unsafe { (&checking).grow(three.cast(), shape, layout(200, 8)) };
    assert!(words(|| assert!(grow().is_err())).starts_with("overrun: byte 30"));
    let grown = grow().expect("it is still what it was");
    poke(two, 5);
    assert!(words(|| assert_eq!(checking.verify(), 1)).starts_with("write after free: byte 5"));
    assert_eq!(checking.verify(), 0);
    release(&checking, grown, layout(200, 8));
    release(&checking, one, shape);
    for _ in 0..10 {
        release(&checking, get(&checking, shape), shape);
    }
    assert_eq!((checking.live(), checking.quarantined(), checking.mistakes()), (0, 4, 5));
    drop(checking);
    assert_eq!(parent.live(), [layout(40, 8)], "the one that was written to");
    release(&parent, two, layout(40, 8));
}

#[test]
fn a_panic_at_drop_comes_after_all_was_given_back() {
    let parent = Parent::default();
    let shape = layout(24, 8);
    let checking = Checking::in_parent(&parent, &parent, 30).expect("memory");
    let leaks = [get(&checking, shape), get(&checking, shape)];
    release(&checking, get(&checking, shape), shape);
    let told = words(|| drop(checking));
    assert!(told.starts_with("leak 2 of 2: the block at 0x"), "{told}");
    assert!(told.contains("of 24 bytes aligned to 8 (allocation 2) was never released"), "{told}");
    assert_eq!(parent.live().len(), 2, "neither the records nor what was in quarantine");
    leaks.iter().for_each(|leak| release(&parent, *leak, layout(40, 8)));
}

#[test]
fn a_mistake_that_unwinds_through_the_drop_panics_once() {
    let mut memory = Guarded::new(0, 4096);
    let bump = Bump::new(memory.memory());
    let mut records = Guarded::new(0, 4096);
    let told = words(|| {
        let checking = Checking::new(&bump, records.memory());
        let block = get(&checking, layout(24, 8));
        release(&checking, block, layout(16, 8)); // panics; what is now a leak does not panic on top of it
    });
    assert!(told.starts_with("wrong layout"), "{told}");
}

#[test]
fn an_inner_allocator_that_gives_a_block_out_twice() {
    struct Forgetful<'a>(&'a Bump<Borrowed<'a>>, Cell<Option<NonNull<[u8]>>>);
    // SAFETY: it is not one, and the test does not use what it gives.
    unsafe impl Allocator for Forgetful<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            let block = self.1.take().map_or_else(|| self.0.allocate(layout), Ok)?;
            self.1.set(Some(block));
            Ok(block)
        }
        unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
    }
    let mut memory = Guarded::new(0, 4096);
    let bump = Bump::new(memory.memory());
    let mistakes = RefCell::new(Vec::new());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let checking = Checking::new(Forgetful(&bump, Cell::new(None)), records.memory())
        .on_mistake(|mistake| mistakes.borrow_mut().push(*mistake));
    let shape = layout(24, 8);
    let block = get(&checking, shape);
    assert_eq!((&checking).allocate(shape), Err(AllocError));
    assert_eq!(mistakes.take(), [Mistake::HandedOutTwice { block: named(block, shape, 1) }]);
    release(&checking, block, shape);
    assert_eq!((&checking).allocate(shape), Err(AllocError), "it has not got it back yet");
    assert_eq!(mistakes.take(), [Mistake::HandedOutTwice { block: named(block, shape, 1) }]);
}

#[test]
fn an_inner_allocator_that_panics() {
    struct Panicking<'a>(&'a Bump<Borrowed<'a>>, Cell<bool>);
    // SAFETY: it is the bump, which panics now and then before it does anything.
    unsafe impl Allocator for Panicking<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            assert!(!self.1.get(), "no more");
            self.0.allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            assert!(!self.1.get(), "no more");
            // SAFETY: passed on to the caller.
            unsafe { self.0.deallocate(block, layout) }
        }
    }
    let mut memory = Guarded::new(0, 4096);
    let bump = Bump::new(memory.memory());
    let mut records = Guarded::new(0, checking_arena_size(20));
    let inner = Panicking(&bump, Cell::new(false));
    let checking = Checking::new(&inner, records.memory()).quarantine(1, 1000);
    let shape = layout(24, 8);
    let (one, two) = (get(&checking, shape), get(&checking, shape));
    release(&checking, get(&checking, shape), shape);
    inner.1.set(true);
    assert_eq!(words(|| assert!((&checking).allocate(shape).is_err())), "no more");
    // SAFETY: a live block of this layout.
    let grow = || unsafe { (&checking).grow(one.cast(), shape, layout(48, 8)) };
    assert_eq!(words(|| assert!(grow().is_err())), "no more");
    assert_eq!(words(|| release(&checking, two, shape)), "no more");
    inner.1.set(false);
    assert_eq!((checking.live(), checking.mistakes()), (1, 0));
    release(&checking, one, shape);
    drop(checking);
}

/// What another thread may do: it gets an address the moment that the inner allocator frees it, while the one who released it,
/// or let it grow, has not come back yet.
#[test]
fn an_address_has_a_new_owner_before_the_former_one_returns() {
    type Eager = Checking<&'static Blocks, Borrowed<'static>>;
    struct Blocks {
        small: FixedBlock<Borrowed<'static>>,
        large: FixedBlock<Borrowed<'static>>,
        /// Whom to ask for a block after the next release.
        other: Cell<Option<&'static Eager>>,
        given: Cell<Option<NonNull<[u8]>>>,
    }
    impl Blocks {
        fn of(&self, layout: Layout) -> &FixedBlock<Borrowed<'static>> {
            if layout.size() <= 64 { &self.small } else { &self.large }
        }
    }
    // SAFETY: it is two allocators, one for each range of sizes.
    unsafe impl Allocator for Blocks {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.of(layout).allocate(layout)
        }
        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: passed on to the caller.
            unsafe { self.of(layout).deallocate(block, layout) }
            if let Some(checking) = self.other.take() {
                self.given.set(Some(get(checking, SHAPE)));
            }
        }
    }
    const SHAPE: Layout = Layout::new::<[u64; 3]>();
    let blocks = &*forever(Blocks {
        small: FixedBlock::new(layout(64, 8), forever([MaybeUninit::uninit(); 640])),
        large: FixedBlock::new(layout(256, 8), forever([MaybeUninit::uninit(); 2560])),
        other: Cell::new(None),
        given: Cell::new(None),
    });
    let checking = Checking::new(blocks, forever([MaybeUninit::uninit(); 4000])).quarantine(0, 0);
    let checking: &'static Eager = forever(checking);

    let block = get(checking, SHAPE);
    blocks.other.set(Some(checking));
    release(checking, block, SHAPE);
    assert_eq!(blocks.given.take(), Some(block), "the other has it now");
    assert_eq!(checking.live(), 1);

    let large = layout(200, 8);
    fill(block, 7);
    blocks.other.set(Some(checking));
    // SAFETY: a live block of this layout.
    let moved = unsafe { checking.grow(block.cast(), SHAPE, large) }.expect("room");
    assert_eq!(blocks.given.take(), Some(block), "the other has it now");
    assert_eq!(bytes(moved)[..24], [7; 24]);
    assert_eq!((checking.live(), checking.verify()), (2, 0));
    release(checking, block, SHAPE);
    blocks.other.set(Some(checking));
    release(checking, moved, large);
    release(checking, blocks.given.take().expect("it was asked"), SHAPE);
    assert_eq!((checking.live(), checking.mistakes()), (0, 0));
}

#[test]
fn what_it_says() {
    let block = CheckedBlock { address: 0xABC0, layout: layout(24, 8), sequence: 7 };
    let say = |mistake: Mistake| mistake.to_string();
    let whole = "the block at 0xabc0 of 24 bytes aligned to 8 (allocation 7)";
    for (mistake, begin) in [
        (Mistake::DoubleFree { block }, format!("double free: {whole} was released before; ")),
        (
            Mistake::WrongLayout { block, given: layout(16, 4) },
            format!("wrong layout: {whole} was released as 16 bytes aligned to 4; "),
        ),
        (
            Mistake::WrongResize { block, wanted: layout(16, 4) },
            format!("wrong resize: {whole} was to become one of 16 bytes aligned to 4; "),
        ),
        (
            Mistake::WriteAfterFree { block, offset: 3 },
            format!("write after free: byte 3 of {whole} was changed after its release; "),
        ),
        (Mistake::Overrun { block, offset: 30 }, format!("overrun: byte 30 of {whole} was written, behind its end; ")),
        (Mistake::Leak { block, nth: 2, of: 3 }, format!("leak 2 of 3: {whole} was never released; ")),
        (Mistake::HandedOutTwice { block }, format!("handed out twice: the inner allocator gave out {whole} again ")),
    ] {
        assert!(say(mistake).starts_with(&begin), "{mistake}");
        assert_eq!(mistake.block(), Some(&block));
        let error: &dyn std::error::Error = &mistake;
        assert_eq!(error.to_string(), say(mistake));
    }
    let foreign = Mistake::ForeignPointer { address: 0xABC0, layout: layout(24, 8) };
    assert!(
        say(foreign).starts_with("foreign pointer: 0xabc0, released as 24 bytes aligned to 8, is not where a block")
    );
    assert_eq!(foreign.block(), None);
}
