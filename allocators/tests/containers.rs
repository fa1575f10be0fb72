//! The containers of the ecosystem over our handles.

mod support;

use std::cell::Cell;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use fibra_allocators::{AllocRef, Bump, FixedBlock, Layout, MemReq, SizeClasses, Table, table};
use hashbrown::{DefaultHashBuilder, HashMap};
use proptest::prelude::*;
use support::Guarded;

const SIZES: Table<8> = table([
    MemReq::new(16, 200),
    MemReq::new(32, 200),
    MemReq::new(64, 20),
    MemReq::new(128, 10),
    MemReq::new(256, 10),
    MemReq::new(1024, 10),
    MemReq::new(4096, 10),
    MemReq::new(16384, 10),
]);

fn with_system(test: impl FnOnce(&SizeClasses<8, fibra_allocators::Borrowed<'_>>)) {
    let mut guarded = Guarded::new(0, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).expect("room");
    test(&system);
    assert!(system.classes().all(|class| class.live == 0), "{}", system.report());
    guarded.assert_guards();
}

#[test]
fn boxes_of_values_and_of_trait_objects() {
    with_system(|system| {
        let drops = Cell::new(0);
        struct Counted<'a>(&'a Cell<u32>, [u8; 40]);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                assert_eq!(self.1, [7; 40]);
                self.0.set(self.0.get() + 1);
            }
        }
        let boxed = Box::new_in(Counted(&drops, [7; 40]), system);
        assert_eq!(boxed.1[39], 7);
        drop(boxed);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_box_that_went_through_a_raw_pointer() {
    with_system(|system| {
        let (raw, handle) = Box::into_raw_with_allocator(Box::new_in(1_u8, system));
        // SAFETY: just taken out of a box with that handle.
        drop(unsafe { Box::from_raw_in(raw, handle) });
        // The same block, all of it.
        let whole = Box::new_in([2_u8; 16], system);
        assert_eq!(*whole, [2; 16]);
    });
}

#[test]
fn zero_sized_and_over_aligned_values() {
    #[repr(align(1024))]
    struct Aligned(u8);
    #[repr(align(256))]
    struct Nothing;
    with_system(|system| {
        let aligned = Box::new_in(Aligned(3), system);
        assert!((&raw const *aligned).addr().is_multiple_of(1024));
        assert_eq!(aligned.0, 3);
        let nothing = Box::new_in(Nothing, system);
        assert!((&raw const *nothing).addr().is_multiple_of(256));
        let mut units = Vec::new_in(system);
        units.extend([(); 1000]);
        assert_eq!(units.len(), 1000);
        assert_eq!(system.classes().map(|class| class.live).sum::<usize>(), 1);
    });
}

#[test]
fn vectors_grow_through_the_classes() {
    with_system(|system| {
        let mut numbers = Vec::new_in(system);
        numbers.extend(0..2000_u64);
        assert!(numbers.iter().copied().eq(0..2000));
        numbers.truncate(3);
        numbers.shrink_to_fit();
        assert_eq!(numbers.as_slice(), [0, 1, 2]);
        assert_eq!(numbers.capacity(), 3);
    });
}

#[test]
fn a_vector_that_cannot_grow_says_so_and_stays() {
    with_system(|system| {
        let mut bytes = Vec::new_in(system);
        bytes.try_reserve_exact(16384).expect("the largest class");
        bytes.resize(16384, 1_u8);
        assert!(bytes.try_reserve(1).is_err());
        assert!(bytes.iter().all(|byte| *byte == 1));
    });
}

#[test]
fn a_vector_fills_a_bump_without_leaving_anything_behind() {
    let mut guarded = Guarded::new(0, 1000);
    let bump = Bump::new(guarded.memory());
    let mut bytes = Vec::new_in(&bump);
    for i in 0..1000_u32 {
        bytes.try_reserve_exact(1).expect("it grows where it is");
        bytes.push(i as u8);
    }
    assert_eq!(bump.used(), 1000);
    assert!(bytes.try_reserve_exact(1).is_err());
    assert!(bytes.iter().copied().eq((0..1000_u32).map(|i| i as u8)));
}

#[test]
fn hash_maps_use_the_whole_block_and_give_it_back() {
    with_system(|system| {
        let mut map = HashMap::with_hasher_in(DefaultHashBuilder::default(), system);
        for i in 0..400_u64 {
            map.insert(i, i * i);
        }
        for i in (0..400).step_by(2) {
            assert_eq!(map.remove(&i), Some(i * i));
        }
        map.shrink_to_fit();
        assert_eq!(map.len(), 200);
        assert!((0..400).all(|i| map.get(&i).copied() == (i % 2 == 1).then_some(i * i)));
    });
}

#[test]
fn a_list_of_fixed_nodes() {
    struct Node<A: AllocRef> {
        value: u32,
        next: Option<Box<Node<A>, A>>,
    }
    fn list<A: AllocRef>(allocator: A, n: u32) -> Option<Box<Node<A>, A>> {
        (0..n).fold(None, |next, value| Some(Box::new_in(Node { value, next }, allocator.clone())))
    }
    type Handle<'a> = &'a Bump<fibra_allocators::Borrowed<'a>>;
    let node = Layout::new::<Node<Handle<'_>>>();
    let mut guarded = Guarded::new(0, 100 * node.size());
    let nodes = FixedBlock::new(node, guarded.memory());
    {
        let head = list(&nodes, 100);
        let mut at = head.as_ref();
        for expected in (0..100).rev() {
            let node = at.expect("as long as it was made");
            assert_eq!(node.value, expected);
            at = node.next.as_ref();
        }
        assert!(at.is_none());
        assert_eq!((nodes.live(), nodes.capacity()), (100, 100));
    }
    assert_eq!(nodes.live(), 0);
}

proptest! {
    #[test]
    fn a_map_of_vectors_is_what_the_heap_would_hold(
        edits in prop::collection::vec((0..20_u8, 0..100_u16, any::<bool>()), 0..300),
    ) {
        with_system(|system| {
            let mut ours = HashMap::with_hasher_in(DefaultHashBuilder::default(), system);
            let mut heaps = std::collections::HashMap::<u8, std::vec::Vec<u16>>::new();
            for (key, value, remove) in edits {
                if remove {
                    let (ours, heaps) = (ours.remove(&key), heaps.remove(&key));
                    assert_eq!(ours.is_some(), heaps.is_some());
                    assert!(ours.iter().flatten().eq(heaps.iter().flatten()));
                } else {
                    ours.entry(key).or_insert_with(|| Vec::new_in(system)).push(value);
                    heaps.entry(key).or_default().push(value);
                }
            }
            assert_eq!(ours.len(), heaps.len());
            assert!(heaps.iter().all(|(key, values)| ours[key].iter().eq(values)));
        });
    }
}
