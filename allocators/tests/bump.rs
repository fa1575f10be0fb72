//! The bump allocator: order, reset, growth at the end, its extent.

mod support;

use fibra_allocators::{Allocator, Bump, GRANULE};
use support::{Guarded, Parent, bytes, fill, layout, release};

#[test]
fn blocks_follow_one_another() {
    let mut guarded = Guarded::new(0, 64);
    let bump = &Bump::new(guarded.memory());
    let addr = |size, align| bump.allocate(layout(size, align)).expect("room").cast::<u8>().addr().get();
    let first = addr(3, 1);
    assert_eq!(addr(1, 1), first + 3);
    assert_eq!(addr(8, 8), first + 8);
    assert_eq!(addr(1, 32), first + 32);
    assert_eq!(bump.used(), 33);
    assert_eq!(bump.capacity(), 64);
}

#[test]
fn release_frees_nothing_and_reset_everything() {
    let mut guarded = Guarded::new(0, 64);
    let mut bump = Bump::new(guarded.memory());
    let block = (&bump).allocate(layout(64, 1)).expect("room");
    release(&bump, block, layout(64, 1));
    assert_eq!(bump.used(), 64);
    assert!((&bump).allocate(layout(1, 1)).is_err());
    bump.reset();
    assert_eq!(bump.used(), 0);
    assert_eq!((&bump).allocate(layout(64, 1)).expect("all is free again").cast::<u8>(), block.cast());
}

#[test]
fn the_last_block_grows_in_place_and_others_move() {
    let mut guarded = Guarded::new(0, 64);
    let bump = &Bump::new(guarded.memory());
    let (small, large) = (layout(8, 8), layout(16, 8));
    let first = bump.allocate(small).expect("room");
    fill(first, 1);
    // SAFETY: the block is in use and this is its layout.
    let grown = unsafe { bump.grow(first.cast(), small, large) }.expect("room");
    assert_eq!(grown.cast::<u8>(), first.cast());
    assert_eq!(bump.used(), 16);

    let second = bump.allocate(small).expect("room");
    fill(grown, 2);
    // SAFETY: the block is in use and this is its layout.
    let moved = unsafe { bump.grow_zeroed(grown.cast(), large, layout(24, 8)) }.expect("room");
    assert!(moved.cast::<u8>() > second.cast());
    assert_eq!(bytes(moved), [[2; 8], [2; 8], [0; 8]].concat());
    assert_eq!(bump.used(), 48);

    // SAFETY: as before.
    let refused = unsafe { bump.grow(moved.cast(), layout(24, 8), layout(41, 8)) };
    assert!(refused.is_err(), "one byte past the end");
    assert_eq!(bump.used(), 48);
    // SAFETY: as before; a refusal changed nothing.
    let filled = unsafe { bump.grow(moved.cast(), layout(24, 8), layout(40, 8)) }.expect("up to the end");
    assert_eq!(filled.cast::<u8>(), moved.cast());
}

#[test]
fn a_block_moves_when_it_must_be_better_aligned() {
    let mut guarded = Guarded::new(0, 256);
    let bump = &Bump::new(guarded.memory());
    bump.allocate(layout(8, 8)).expect("room");
    for (from, to) in [(layout(8, 8), layout(16, 64)), (layout(8, 8), layout(4, 64))] {
        let block = bump.allocate(from).expect("room");
        fill(block, 9);
        // SAFETY: the block is in use, this is its layout, and the sizes go the right way.
        let moved = unsafe {
            if to.size() > from.size() {
                bump.grow(block.cast(), from, to)
            } else {
                bump.shrink(block.cast(), from, to)
            }
        };
        let moved = moved.expect("room");
        assert!(moved.cast::<u8>().addr().get().is_multiple_of(64));
        assert_eq!(&bytes(moved)[..4], [9; 4]);
    }
}

#[test]
fn making_one_touches_nothing() {
    let mut guarded = Guarded::new(5, 1000);
    let _ = Bump::new(guarded.memory());
    guarded.assert_untouched();
}

#[test]
fn the_parent_gets_its_block_back() {
    let parent = Parent::default();
    let bump = Bump::in_parent(&parent, 1000).expect("the parent has memory");
    assert_eq!(parent.live(), [layout(1000, GRANULE)]);
    let _ = (&bump).allocate(layout(10, 1)).expect("room");
    drop(bump);
    assert_eq!(parent.live(), []);
}

#[test]
fn of_no_bytes_in_a_parent() {
    let parent = Parent::default();
    let bump = Bump::in_parent(&parent, 0).expect("nothing is to be had");
    assert!((&bump).allocate(layout(1, 1)).is_err());
}

#[test]
fn debug_says_how_full_it_is() {
    let mut guarded = Guarded::new(0, 64);
    let bump = Bump::new(guarded.memory());
    let _ = (&bump).allocate(layout(10, 1)).expect("room");
    assert_eq!(format!("{bump:?}"), "Bump { used: 10, capacity: 64 }");
}
