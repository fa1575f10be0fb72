//! Inputs on which a pool without checks crashes or hands out one block twice: here each is an error, or just works.

mod support;

use fibra_allocators::{AllocError, Allocator, Bump, FixedBlock, FixupError, Layout, MemReq, SizeClasses, fixup};
use support::{Guarded, Parent, bytes, drain, fill, layout, release};

/// The error, and everything that was live is what it was.
fn assert_refused(allocator: impl Allocator, request: Layout) {
    assert_eq!(allocator.allocate(request), Err(AllocError), "{request:?}");
    assert_eq!(allocator.allocate_zeroed(request), Err(AllocError), "{request:?}");
}

fn two_classes() -> fibra_allocators::Table<2> {
    fixup([MemReq::new(64, 3), MemReq::new(256, 3)]).expect("a good table")
}

#[test]
fn one_block_more_than_reserved() {
    let table = two_classes();
    let mut guarded = Guarded::new(0, table.arena_size());
    let system = SizeClasses::new(&table, guarded.memory()).expect("room");
    let blocks = drain(&system, layout(64, 8));
    assert_eq!(blocks.len(), 3);
    for (i, block) in blocks.iter().enumerate() {
        fill(*block, i as u8);
    }
    assert_refused(&system, layout(64, 8));
    assert_eq!(drain(&system, layout(256, 8)).len(), 3, "the larger class was not raided");
    for (i, block) in blocks.iter().enumerate() {
        assert!(bytes(*block).iter().all(|byte| *byte == i as u8), "block {i} was touched");
    }

    let mut guarded = Guarded::new(0, 3 * 64);
    let fixed = FixedBlock::new(layout(64, 8), guarded.memory());
    assert_eq!(drain(&fixed, layout(64, 8)).len(), 3);
    assert_refused(&fixed, layout(64, 8));
}

#[test]
fn larger_than_the_largest_class() {
    let table = two_classes();
    let mut guarded = Guarded::new(0, table.arena_size());
    let system = SizeClasses::new(&table, guarded.memory()).expect("room");
    for size in [257, 272, 4096, 4097, 1 << 20, isize::MAX as usize - 7] {
        assert_refused(&system, layout(size, 8));
    }
    guarded.assert_untouched();
}

#[test]
fn an_empty_table() {
    assert_eq!(fixup([]), Err(FixupError::Empty));
}

#[test]
fn larger_than_a_fixed_block() {
    let mut guarded = Guarded::new(0, 1024);
    let fixed = &FixedBlock::new(layout(64, 8), guarded.memory());
    assert_refused(fixed, layout(65, 8));
    assert_refused(fixed, layout(64, 16));
    assert_refused(fixed, layout(isize::MAX as usize, 1));
    assert!(fixed.allocate(layout(64, 8)).is_ok());
}

#[test]
fn bump_past_the_end() {
    let mut guarded = Guarded::new(0, 100);
    let bump = &Bump::new(guarded.memory());
    assert!(bump.allocate(layout(60, 1)).is_ok());
    assert_refused(bump, layout(41, 1));
    assert_refused(bump, layout(40, 64));
    assert_refused(bump, layout(isize::MAX as usize, 1));
    assert_eq!(bump.used(), 60, "a refusal takes nothing");
    assert!(bump.allocate(layout(40, 1)).is_ok(), "the last byte is usable");
    assert_refused(bump, layout(1, 1));
}

#[test]
fn size_0() {
    let table = two_classes();
    let mut guarded = Guarded::new(0, table.arena_size());
    {
        let system = SizeClasses::new(&table, guarded.memory()).expect("room");
        no_bytes_of(&system);
        assert!(system.classes().all(|class| class.peak == 0), "a block was spent on nothing");
    }
    {
        let fixed = FixedBlock::new(layout(64, 8), guarded.memory());
        no_bytes_of(&fixed);
        assert_eq!(fixed.peak(), 0);
    }
    {
        let bump = Bump::new(guarded.memory());
        no_bytes_of(&bump);
        assert_eq!(bump.used(), 0);
    }
    guarded.assert_untouched();

    let nothing = Bump::new(&mut []);
    no_bytes_of(&nothing);
}

fn no_bytes_of(allocator: impl Allocator) {
    for align in (0..=16).map(|log| 1_usize << log) {
        let request = layout(0, align);
        for block in [allocator.allocate(request), allocator.allocate_zeroed(request)] {
            let block = block.expect("there is always room for nothing");
            assert_eq!(block.len(), 0);
            assert!(block.cast::<u8>().addr().get().is_multiple_of(align));
            release(&allocator, block, request);
        }
    }
}

#[test]
fn table_rows_that_cannot_be() {
    let good = MemReq::new(64, 1);
    assert_eq!(fixup([good, MemReq::new(64, 0)]), Err(FixupError::NoBlocks { row: 1 }));
    assert_eq!(fixup([MemReq::new(0, 64), good]), Err(FixupError::NoBytes { row: 0 }));
    let too_large = [
        MemReq::new(usize::MAX, 1),
        MemReq::new(usize::MAX / 2, 3),
        MemReq::new(isize::MAX as usize, 1),
        MemReq::new(1 << 20, usize::MAX >> 10),
        MemReq::new(16, usize::MAX),
    ];
    for row in too_large {
        assert_eq!(fixup([good, row]), Err(FixupError::Overflow { row: 1 }), "{row:?}");
    }
}

#[test]
fn block_size_25_alignment_8() {
    let table = fixup([MemReq::new(25, 4)]).expect("a good table");
    let mut guarded = Guarded::new(0, table.arena_size());
    let system = SizeClasses::new(&table, guarded.memory()).expect("room");
    let fixed_memory = &mut Guarded::new(8, 4 * 32);
    let fixed = FixedBlock::new(layout(25, 8), fixed_memory.memory());
    let request = layout(25, 8);
    for blocks in [drain(&system, request), drain(&fixed, request)] {
        assert_eq!(blocks.len(), 4);
        for block in blocks {
            assert!(block.cast::<u8>().addr().get().is_multiple_of(8));
            assert!(block.len() >= 25);
        }
    }
}

#[test]
fn the_parent_is_out_of_memory() {
    let parent = Parent::granting(0);
    assert_eq!(Bump::in_parent(&parent, 64).err(), Some(AllocError));
    assert_eq!(FixedBlock::in_parent(layout(64, 8), 4, &parent).err(), Some(AllocError));
    assert_eq!(SizeClasses::in_parent(&two_classes(), &parent).err(), Some(AllocError));

    let parent = Parent::default();
    assert_eq!(Bump::in_parent(&parent, usize::MAX).err(), Some(AllocError), "can never be");
    assert_eq!(FixedBlock::in_parent(layout(64, 8), usize::MAX / 8, &parent).err(), Some(AllocError));
    assert_eq!(FixedBlock::in_parent(layout(64, 8), isize::MAX as usize / 64 + 1, &parent).err(), Some(AllocError));
    assert_eq!(parent.given(), 0, "the parent was not even asked");
}
