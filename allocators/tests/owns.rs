//! Whether an address is an allocator's own.

mod support;

use std::ptr::NonNull;

use fibra_allocators::{Arena, Bump, Fallback, FixedBlock, Lazy, MemReq, Owns, SizeClasses, Table, table};
use support::{Guarded, Parent, drain, layout};

const SIZES: Table<2> = table([MemReq::new(64, 10), MemReq::new(256, 4)]);

fn owns(allocator: &impl Owns, address: usize) -> bool {
    allocator.owns(NonNull::new(std::ptr::without_provenance_mut(address)).expect("not null"))
}

fn assert_owns_just(allocator: &impl Owns, range: std::ops::Range<usize>) {
    assert!(range.clone().all(|address| owns(allocator, address)));
    for outside in [1, 16, 4096, range.start - 1, range.end, range.end + 1, usize::MAX / 2, usize::MAX] {
        assert!(!owns(allocator, outside), "{outside:#x} is not in {range:#x?}");
    }
}

#[test]
fn an_allocator_in_lent_memory_owns_that_memory() {
    for skew in [0, 1, 40] {
        let mut guarded = Guarded::new(skew, SIZES.arena_size() + 16);
        let range = guarded.range();
        assert_owns_just(&Bump::new(guarded.memory()), range.clone());
        assert_owns_just(&FixedBlock::new(layout(64, 8), guarded.memory()), range.clone());
        assert_owns_just(&SizeClasses::new(&SIZES, guarded.memory()).expect("room"), range);
        guarded.assert_untouched();
    }
}

#[test]
fn an_allocator_in_a_parent_owns_its_extent() {
    let parent = Parent::default();
    let bump = Bump::in_parent(&parent, 100).expect("memory");
    assert_owns_just(&bump, parent.range());
    drop(bump);
    let blocks = FixedBlock::in_parent(layout(48, 16), 3, &parent).expect("memory");
    assert_owns_just(&blocks, parent.range());
    drop(blocks);
    let classes = SizeClasses::in_parent(&SIZES, &parent).expect("memory");
    assert_owns_just(&classes, parent.range());
}

#[test]
fn an_allocator_without_memory_owns_nothing() {
    let empty = Bump::new(&mut []);
    assert!([1, 2, 16, 4096, usize::MAX].into_iter().all(|address| !owns(&empty, address)));
    assert!(!empty.owns(NonNull::from(&mut [0_u8; 0]).cast()));
}

#[test]
fn every_block_is_owned_by_its_allocator_only() {
    let mut one = Guarded::new(0, SIZES.arena_size());
    let mut other = Guarded::new(0, SIZES.arena_size());
    let one = SizeClasses::new(&SIZES, one.memory()).expect("room");
    let other = SizeClasses::new(&SIZES, other.memory()).expect("room");
    for layout in [layout(64, 8), layout(200, 8)] {
        assert!(drain(&one, layout).into_iter().all(|block| one.owns(block.cast()) && !other.owns(block.cast())));
        assert!(drain(&other, layout).into_iter().all(|block| other.owns(block.cast()) && !one.owns(block.cast())));
    }
}

#[test]
fn two_own_what_either_owns() {
    let (mut one, mut other) = (Guarded::new(0, 64), Guarded::new(0, 128));
    let ranges = [one.range(), other.range()];
    let both = Fallback::new(Bump::new(one.memory()), Bump::new(other.memory()));
    for range in ranges {
        assert!(range.clone().all(|address| owns(&both, address)));
        assert!(!owns(&both, range.start - 1) && !owns(&both, range.end));
    }
}

#[test]
fn what_is_not_made_yet_owns_nothing() {
    static MEMORY: Arena<64> = Arena::new();
    let whole = &raw const MEMORY;
    let lazy = Lazy::new(|| Some(Bump::new(MEMORY.take()?)));
    assert!((whole.addr()..whole.addr() + 64).all(|address| !owns(&lazy, address)));
    assert!(format!("{MEMORY:?}").contains("taken: false"), "asking made it");
    assert_eq!(lazy.get().map(Bump::capacity), Some(64));
    assert_owns_just(&lazy, whole.addr()..whole.addr() + 64);
}
