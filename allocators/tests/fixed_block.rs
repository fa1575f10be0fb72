//! Fixed blocks: capacity, order of reuse, counts, exhaustion and recovery, growth in place.

mod support;

use fibra_allocators::{Allocator, FixedBlock, Layout};
use support::{Guarded, Parent, bytes, drain, fill, layout, release};

const PTR: usize = size_of::<*const u8>();

#[test]
fn capacity_is_what_fits() {
    let capacity = |block: Layout, skew, len| FixedBlock::new(block, Guarded::new(skew, len).memory()).capacity();
    assert_eq!(capacity(layout(64, 8), 0, 640), 10);
    assert_eq!(capacity(layout(64, 8), 0, 639), 9);
    assert_eq!(capacity(layout(64, 8), 1, 640), 9, "the start has to be aligned");
    assert_eq!(capacity(layout(64, 8), 1, 647), 10);
    assert_eq!(capacity(layout(64, 64), 0, 640), 10);
    assert_eq!(capacity(layout(64, 64), 32, 640), 9);
    assert_eq!(capacity(layout(64, 8), 0, 63), 0);
    assert_eq!(capacity(layout(64, 8), 0, 0), 0);
    assert_eq!(capacity(layout(64, 4096), 1, 64), 0, "not even the padding fits");
}

#[test]
fn a_block_is_rounded_up_to_its_alignment_and_to_hold_a_link() {
    let block = |size, align| FixedBlock::new(layout(size, align), &mut []).block();
    assert_eq!(block(25, 8), layout(32, 8));
    assert_eq!(block(1, 1), layout(PTR, PTR));
    assert_eq!(block(0, 1), layout(PTR, PTR));
    assert_eq!(block(1, 64), layout(64, 64));
}

#[test]
fn a_block_larger_than_any_memory() {
    let immense = layout(isize::MAX as usize, 1);
    assert_eq!(FixedBlock::new(immense, Guarded::new(0, 640).memory()).capacity(), 0);
    for n_blocks in [1, 2, usize::MAX] {
        assert!(FixedBlock::in_parent(immense, n_blocks, &Parent::default()).is_err());
    }
}

#[test]
fn without_a_block_everything_is_refused() {
    let none = FixedBlock::new(layout(64, 8), &mut []);
    assert!((&none).allocate(layout(1, 1)).is_err());
    assert_eq!((none.capacity(), none.peak(), none.live()), (0, 0, 0));
}

#[test]
fn last_in_first_out_and_virgin_blocks_last() {
    let mut guarded = Guarded::new(0, 640);
    let blocks = &FixedBlock::new(layout(64, 8), guarded.memory());
    let get = || blocks.allocate(layout(64, 8)).expect("room");
    let [a, b, c] = [get(), get(), get()];
    release(blocks, a, layout(64, 8));
    release(blocks, c, layout(64, 8));
    release(blocks, b, layout(64, 8));
    assert_eq!([get(), get(), get()], [b, c, a]);
    assert_eq!(blocks.peak(), 3);
    assert!(![a, b, c].contains(&get()), "a new one only now");
    assert_eq!(blocks.peak(), 4);
}

#[test]
fn counts() {
    let mut guarded = Guarded::new(0, 640);
    let blocks = &FixedBlock::new(layout(64, 8), guarded.memory());
    let all = drain(blocks, layout(64, 8));
    assert_eq!((blocks.capacity(), blocks.peak(), blocks.live()), (10, 10, 10));
    for (i, block) in all.into_iter().enumerate() {
        release(blocks, block, layout(64, 8));
        assert_eq!((blocks.peak(), blocks.live()), (10, 9 - i));
    }
}

#[test]
fn exhaustion_and_recovery() {
    let mut guarded = Guarded::new(0, 640);
    let blocks = &FixedBlock::new(layout(64, 8), guarded.memory());
    let mut all = drain(blocks, layout(64, 8));
    for round in 0..3 {
        assert!(blocks.allocate(layout(64, 8)).is_err());
        let freed = all.swap_remove(round);
        release(blocks, freed, layout(64, 8));
        all.push(blocks.allocate(layout(1, 1)).expect("one is free"));
        assert_eq!(all.last(), Some(&freed));
    }
}

#[test]
fn grows_and_shrinks_in_place_and_no_further() {
    let mut guarded = Guarded::new(0, 640);
    let blocks = &FixedBlock::new(layout(64, 8), guarded.memory());
    let block = blocks.allocate(layout(10, 1)).expect("room");
    fill(block, 3);
    // SAFETY: the block is in use, these are its layouts in turn, and the sizes go the right way.
    unsafe {
        let grown = blocks.grow(block.cast(), layout(10, 1), layout(64, 8)).expect("fits the block");
        assert_eq!(grown, block);
        assert!(blocks.grow(block.cast(), layout(64, 8), layout(65, 8)).is_err());
        assert!(blocks.grow(block.cast(), layout(64, 8), layout(64, 16)).is_err());
        let shrunk = blocks.shrink(block.cast(), layout(64, 8), layout(1, 1)).expect("fits the block");
        assert_eq!(shrunk, block);
        let zeroed = blocks.grow_zeroed(block.cast(), layout(1, 1), layout(5, 1)).expect("fits the block");
        assert_eq!(&bytes(zeroed)[..5], [3, 0, 0, 0, 0]);
        assert!(blocks.shrink(block.cast(), layout(5, 1), layout(1, 16)).is_err(), "too aligned");
        assert_eq!(blocks.live(), 1);
        let nothing = blocks.shrink(block.cast(), layout(5, 1), layout(0, 1)).expect("nothing is to be had");
        assert_eq!((nothing.len(), blocks.live()), (0, 0));
        let again = blocks.grow(nothing.cast(), layout(0, 1), layout(5, 1)).expect("room");
        assert_eq!((again, blocks.live()), (block, 1));
    }
}

#[test]
fn making_it_touches_nothing() {
    let mut guarded = Guarded::new(5, 100_000);
    let _ = FixedBlock::new(layout(64, 8), guarded.memory());
    guarded.assert_untouched();
}

#[test]
fn the_parent_gets_its_block_back() {
    let parent = Parent::default();
    let blocks = FixedBlock::in_parent(layout(25, 8), 10, &parent).expect("the parent has memory");
    assert_eq!(parent.live(), [layout(320, 8)], "the extent is exact");
    assert_eq!(drain(&blocks, layout(25, 8)).len(), 10);
    drop(blocks);
    assert_eq!(parent.live(), []);
}

#[test]
fn debug_says_how_full_it_is() {
    let mut guarded = Guarded::new(0, 640);
    let blocks = FixedBlock::new(layout(64, 8), guarded.memory());
    let _ = (&blocks).allocate(layout(1, 1)).expect("room");
    let text = format!("{blocks:?}");
    assert!(text.starts_with("FixedBlock { block: ") && text.ends_with("capacity: 10, peak: 1 }"), "{text}");
}
