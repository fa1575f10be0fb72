//! What a handle may and may not do, and allocators inside allocators.

mod support;

use std::thread;

use allocator_api2::boxed::Box;
use fibra_allocators::{
    AllocRef, Allocator, Arena, Backing, Borrowed, Bump, Extent, FixedBlock, MemReq, SizeClasses, Table, table,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{Guarded, Parent, drain, layout, release};

type Lent = Borrowed<'static>;

// A single-threaded allocator does not reach another thread while blocks of it are about: the handle stays.
assert_not_impl_any!(&'static Bump<Lent>: Send, Sync);
assert_not_impl_any!(&'static FixedBlock<Lent>: Send, Sync);
assert_not_impl_any!(&'static SizeClasses<3, Lent>: Send, Sync);
assert_not_impl_any!(Box<u8, &'static SizeClasses<3, Lent>>: Send, Sync);

// As a whole, with nothing borrowed from it, it may move there,
assert_impl_all!(Bump<Lent>: Send);
assert_impl_all!(FixedBlock<Lent>: Send);
assert_impl_all!(SizeClasses<3, Lent>: Send);
assert_not_impl_any!(Bump<Lent>: Sync);
assert_not_impl_any!(FixedBlock<Lent>: Sync);
assert_not_impl_any!(SizeClasses<3, Lent>: Sync);

// unless it would give its extent back to a parent that has to stay.
type InSystem = Extent<&'static SizeClasses<3, Lent>>;
assert_not_impl_any!(Bump<InSystem>: Send);
assert_not_impl_any!(FixedBlock<InSystem>: Send);
assert_not_impl_any!(SizeClasses<3, InSystem>: Send);

// The handle allocates, never the allocator by value: moving that would move it from under its blocks.
assert_impl_all!(&'static Bump<Lent>: AllocRef, Allocator, Copy);
assert_impl_all!(&'static FixedBlock<Lent>: AllocRef, Allocator, Copy);
assert_impl_all!(&'static SizeClasses<3, Lent>: AllocRef, Allocator, Copy);
assert_not_impl_any!(Bump<Lent>: Allocator);
assert_not_impl_any!(FixedBlock<Lent>: Allocator);
assert_not_impl_any!(SizeClasses<3, Lent>: Allocator);

assert_impl_all!(Arena<64>: Send, Sync);
assert_impl_all!(Lent: Backing, Send, Sync);
assert_not_impl_any!(Extent<&'static Parent>: Send, Sync);

const SIZES: Table<3> = table([MemReq::new(32, 10), MemReq::new(256, 4), MemReq::new(2048, 2)]);

#[test]
fn an_allocator_moves_to_another_thread_as_a_whole() {
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).expect("room");
    let kept = drain(&system, layout(32, 8));
    for block in kept {
        release(&system, block, layout(32, 8));
    }
    let system = thread::scope(|scope| {
        let there = move || {
            assert_eq!(drain(&system, layout(32, 8)).len(), 10, "the free list came along");
            system
        };
        scope.spawn(there).join().expect("no panic")
    });
    assert_eq!(system.classes().next().map(|class| class.live), Some(10));
}

#[test]
fn an_allocator_moves_while_nothing_is_borrowed_from_it() {
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let mut systems = Vec::from([SizeClasses::new(&SIZES, guarded.memory()).expect("room")]);
    let blocks = drain(&systems[0], layout(256, 8));
    for block in &blocks {
        release(&systems[0], *block, layout(256, 8));
    }
    let moved = systems.pop().expect("there is one");
    let mut again = drain(&moved, layout(256, 8));
    again.reverse();
    assert_eq!(again, blocks, "the blocks stayed where they were");
}

#[test]
fn all_clones_of_a_handle_are_one_allocator() {
    fn through_two(one: impl AllocRef) {
        let other = one.clone();
        let block = one.allocate(layout(32, 8)).expect("room");
        release(&other, block, layout(32, 8));
        assert_eq!(other.allocate(layout(32, 8)), Ok(block));
        release(one, block, layout(32, 8));
    }
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).expect("room");
    through_two(&system);
    let blocks = FixedBlock::in_parent(layout(32, 8), 3, &system).expect("room");
    through_two(&blocks);
}

#[test]
fn allocators_nest_and_each_parent_gets_its_block_back() {
    let root = Parent::default();
    {
        let outer = SizeClasses::in_parent(&SIZES, &root).expect("the root has memory");
        {
            let inner = table([MemReq::new(64, 10), MemReq::new(128, 10)]);
            let middle = SizeClasses::in_parent(&inner, &outer).expect("2048 bytes hold it");
            let bump = Bump::in_parent(&middle, 100).expect("128 bytes hold it");
            let nodes = FixedBlock::in_parent(layout(16, 8), 6, &bump).expect("100 bytes hold it");
            assert_eq!(drain(&nodes, layout(16, 8)).len(), 6);
            let live = |system: &mut dyn Iterator<Item = fibra_allocators::ClassStats>| {
                system.map(|class| class.live).collect::<Vec<_>>()
            };
            assert_eq!(live(&mut outer.classes()), [0, 0, 1]);
            assert_eq!(live(&mut middle.classes()), [0, 1]);
            drop(nodes);
            drop(bump);
            assert_eq!(live(&mut middle.classes()), [0, 0]);
        }
        assert!(outer.classes().all(|class| class.live == 0));
        assert_eq!(root.given(), 1);
    }
    assert_eq!(root.live(), []);
}

#[test]
fn a_child_that_does_not_fit_leaves_the_parent_as_it_was() {
    let root = Parent::default();
    let outer = SizeClasses::in_parent(&SIZES, &root).expect("the root has memory");
    assert!(Bump::in_parent(&outer, 2049).is_err());
    assert!(FixedBlock::in_parent(layout(64, 8), 33, &outer).is_err());
    assert!(SizeClasses::in_parent(&table([MemReq::new(64, 33)]), &outer).is_err());
    assert!(outer.classes().all(|class| class.peak == 0));
}
