//! Slices in one block.

mod support;

use std::cell::Cell;

use fibra_allocators::{Bump, Layout, PoolBox};
use support::values::{Census, One, panics};
use support::{Parent, layout};

#[test]
fn values_are_made_in_order_and_dropped_once_each() {
    let (parent, census) = (Parent::default(), Census::default());
    let slice = PoolBox::from_fn_in(5, |i| census.one(i as u32), &parent).expect("room");
    assert!(slice.iter().map(|one| one.number).eq(0..5));
    assert_eq!((census.alive(), parent.live()), (5, vec![Layout::new::<[One<'_>; 5]>()]));
    drop(slice);
    assert_eq!((census.alive(), census.dropped(), parent.live()), (0, 5, vec![]));
}

#[test]
fn a_constructor_that_panics_takes_its_predecessors_along() {
    for last in 0..4 {
        let (parent, census) = (Parent::default(), Census::default());
        let make = |i| if i == last { panic!("no value") } else { census.one(i as u32) };
        assert!(panics(|| PoolBox::from_fn_in(4, make, &parent)));
        assert_eq!((census.alive(), census.dropped(), parent.live()), (0, last, vec![]));
    }
}

#[test]
fn a_destructor_that_panics_leaves_nothing_behind() {
    let (parent, census) = (Parent::default(), Census::default());
    let slice = PoolBox::from_fn_in(3, |i| if i == 1 { census.bomb() } else { census.one(i as u32) }, &parent);
    assert!(panics(|| drop(slice)));
    assert_eq!((census.alive(), census.dropped(), parent.live()), (0, 3, vec![]));
}

#[test]
fn without_room_nothing_is_made() {
    let calls = Cell::new(0);
    let make = |_| calls.set(calls.get() + 1);
    assert!(PoolBox::from_fn_in(3, |i| (make(i), 7_u8), &Parent::granting(0)).is_err());
    assert!(PoolBox::from_fn_in(usize::MAX, |i| (make(i), 7_u16), &Parent::default()).is_err(), "more than can exist");
    assert!(PoolBox::<[u64], _>::new_uninit_slice_in(usize::MAX / 8, &Parent::default()).is_err());
    assert_eq!(calls.get(), 0);
}

#[test]
fn slices_of_nothing() {
    let parent = Parent::default();
    let empty = PoolBox::from_fn_in(0, |_| -> u64 { unreachable!() }, &parent).expect("no bytes");
    assert!(empty.is_empty());
    let units = PoolBox::from_fn_in(1000, |_| (), &parent).expect("no bytes");
    assert_eq!((units.len(), parent.live()), (1000, vec![layout(0, 8), layout(0, 1)]));
    drop((empty, units));
    assert_eq!(parent.live(), []);
}

#[test]
fn over_aligned_elements() {
    #[repr(align(256))]
    struct Aligned(usize);
    let parent = Parent::default();
    let slice = PoolBox::from_fn_in(4, Aligned, &parent).expect("room");
    for (i, element) in slice.iter().enumerate() {
        assert!(std::ptr::from_ref(element).addr().is_multiple_of(256) && element.0 == i);
    }
}

#[test]
fn scratch_memory_is_an_arena_and_goes_back() {
    let parent = Parent::default();
    let mut scratch = PoolBox::<[u8], _>::new_uninit_slice_in(100, &parent).expect("room");
    for _ in 0..2 {
        let bump = Bump::new(&mut scratch);
        let inner = PoolBox::from_fn_in(100, |i| i as u8, &bump).expect("room");
        assert_eq!((inner[99], bump.used()), (99, 100));
    }
    drop(scratch);
    assert_eq!(parent.live(), []);
}

#[test]
fn written_scratch_becomes_a_slice() {
    let (parent, census) = (Parent::default(), Census::default());
    let mut scratch = PoolBox::<[One<'_>], _>::new_uninit_slice_in(3, &parent).expect("room");
    for (room, i) in scratch.iter_mut().zip(0..) {
        room.write(census.one(i));
    }
    // SAFETY: all three were written.
    let slice = unsafe { scratch.assume_init() };
    assert!(slice.iter().map(|one| one.number).eq(0..3));
    drop(slice);
    assert_eq!((census.alive(), parent.live()), (0, vec![]));
}
