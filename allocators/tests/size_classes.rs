//! The size classes: which class serves what, alignment, exhaustion and recovery, counts, growth in place, its arena.

mod support;

use fibra_allocators::{Allocator, ArenaTooSmall, GRANULE, Layout, MemReq, SizeClasses, Table, table};
use support::{Guarded, Parent, bytes, drain, fill, layout, release};

const SIZES: Table<6> = table([
    MemReq::new(32, 3),
    MemReq::new(48, 4),
    MemReq::new(64, 5),
    MemReq::new(1024, 2),
    MemReq::new(4096, 3),
    MemReq::new(12288, 2),
]);

/// Runs a test over a fresh system.
fn with_system(test: impl FnOnce(&SizeClasses<6, fibra_allocators::Borrowed<'_>>)) {
    let mut guarded = Guarded::new(16, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).expect("the size that the table asks for");
    test(&system);
    guarded.assert_guards();
}

/// The block size of the class that serves this request.
fn served_by(allocator: impl Allocator, request: Layout) -> Option<usize> {
    let block = allocator.allocate(request).ok()?;
    release(allocator, block, request);
    Some(block.len())
}

#[test]
fn the_smallest_class_that_fits() {
    with_system(|system| {
        let mut wanted = 1..=12288_usize;
        for MemReq { block_size, .. } in SIZES.rows() {
            for size in wanted.by_ref().take_while(|size| size < block_size) {
                assert_eq!(served_by(system, layout(size, 1)), Some(*block_size), "{size}");
            }
            assert_eq!(served_by(system, layout(*block_size, 1)), Some(*block_size));
        }
        assert_eq!(served_by(system, layout(12289, 1)), None);
    });
}

#[test]
fn over_aligned_requests_go_to_the_smallest_class_of_that_alignment() {
    with_system(|system| {
        for (size, align, class) in [
            (1, GRANULE, Some(32)),
            (1, 32, Some(32)),
            (33, 32, Some(64)), // 48 is no multiple of 32
            (1, 64, Some(64)),
            (65, 64, Some(1024)),
            (1, 128, Some(1024)),
            (1, 1024, Some(1024)),
            (1, 2048, Some(4096)),
            (4096, 4096, Some(4096)),
            (4097, 4096, Some(12288)),
            (4097, 1, Some(12288)),
            (12288, 4096, Some(12288)),
            (12289, 4096, None),
            (1, 8192, None),
            (1, 1 << 20, None),
        ] {
            assert_eq!(served_by(system, layout(size, align)), class, "{size} bytes aligned to {align}");
        }
    });
}

#[test]
fn every_block_of_every_class_is_aligned_to_its_lowest_bit() {
    for skew in [0, 16, 32, 1024, 4096 - 16] {
        let mut guarded = Guarded::new(skew, SIZES.arena_size());
        let system = SizeClasses::new(&SIZES, guarded.memory()).expect("16-aligned is enough");
        for MemReq { block_size, n_blocks } in SIZES.rows() {
            let align = (block_size & block_size.wrapping_neg()).min(4096);
            let blocks = drain(&system, layout(*block_size, align));
            assert_eq!(blocks.len(), *n_blocks);
            assert!(blocks.iter().all(|block| block.cast::<u8>().addr().get().is_multiple_of(align)), "{block_size}");
        }
    }
}

#[test]
fn exhaustion_of_each_class_leaves_the_others_alone_and_is_recovered_from() {
    with_system(|system| {
        let mut held = Vec::new();
        for MemReq { block_size, n_blocks } in SIZES.rows() {
            let request = layout(*block_size, 1);
            let blocks = drain(system, request);
            assert_eq!(blocks.len(), *n_blocks);
            held.extend(blocks.iter().map(|block| (*block, request)));
        }
        assert!(system.classes().all(|class| class.live == class.reserved));
        for (block, request) in held {
            assert!(system.allocate(request).is_err(), "{request:?}");
            release(system, block, request);
            assert_eq!(system.allocate(request), Ok(block), "the one that became free");
            release(system, block, request);
            // Kept free, so that each block has its turn as the only one.
            let taken = system.allocate(request).expect("it is free");
            assert_eq!(taken, block);
        }
    });
}

#[test]
fn last_in_first_out() {
    with_system(|system| {
        let request = layout(64, 8);
        let blocks: Vec<_> = (0..4).map(|_| system.allocate(request).expect("room")).collect();
        for i in [2, 0, 3, 1] {
            release(system, blocks[i], request);
        }
        for i in [1, 3, 0, 2] {
            assert_eq!(system.allocate(request), Ok(blocks[i]));
        }
    });
}

#[test]
fn counts_of_each_class() {
    with_system(|system| {
        let counts = || system.classes().map(|class| (class.peak, class.live)).collect::<Vec<_>>();
        let a = system.allocate(layout(64, 8)).expect("room");
        let b = system.allocate(layout(50, 8)).expect("room");
        let c = system.allocate(layout(5000, 8)).expect("room");
        assert_eq!(counts(), [(0, 0), (0, 0), (2, 2), (0, 0), (0, 0), (1, 1)]);
        release(system, a, layout(64, 8));
        release(system, c, layout(5000, 8));
        assert_eq!(counts(), [(0, 0), (0, 0), (2, 1), (0, 0), (0, 0), (1, 0)]);
        release(system, b, layout(50, 8));
        assert!(system.classes().all(|class| class.live == 0));
        let sizes: Vec<_> = system.classes().map(|class| MemReq::new(class.block_size, class.reserved)).collect();
        assert_eq!(sizes, SIZES.rows());
    });
}

#[test]
fn the_report_is_a_table() {
    let mut guarded = Guarded::new(0, 4096);
    let table = table([MemReq::new(64, 10), MemReq::new(1024, 2)]);
    let system = SizeClasses::new(&table, guarded.memory()).expect("room");
    let block = (&system).allocate(layout(1000, 1)).expect("room");
    let _ = (&system).allocate(layout(64, 1)).expect("room");
    release(&system, block, layout(1000, 1));
    assert_eq!(
        system.report().to_string(),
        concat!(
            "block size   reserved       peak       live\n",
            "        64         10          1          1\n",
            "      1024          2          1          0\n",
            "       all         12          2          1\n",
        )
    );
    let debug = format!("{system:?}");
    assert!(debug.contains("ClassStats { block_size: 64, reserved: 10, peak: 1, live: 1 }"), "{debug}");
}

#[test]
fn grows_and_shrinks_in_place_within_the_class() {
    with_system(|system| {
        let block = system.allocate(layout(33, 1)).expect("room");
        assert_eq!(block.len(), 48);
        fill(block, 5);
        // SAFETY: the block is in use, these are its layouts in turn, and the sizes go the right way.
        unsafe {
            assert_eq!(system.grow(block.cast(), layout(33, 1), layout(48, 8)), Ok(block));
            assert_eq!(system.shrink(block.cast(), layout(48, 8), layout(34, 2)), Ok(block));
            assert_eq!(system.grow_zeroed(block.cast(), layout(34, 2), layout(40, 2)), Ok(block));
            assert_eq!(bytes(block)[..40], [[5; 34].as_slice(), &[0; 6]].concat());

            // To a larger class for its size, and to one for its alignment.
            let moved = system.grow(block.cast(), layout(40, 2), layout(49, 2)).expect("room");
            assert_eq!((moved.len(), &bytes(moved)[..34]), (64, &[5; 34][..]));
            let aligned = system.shrink(moved.cast(), layout(49, 2), layout(48, 1024)).expect("room");
            assert_eq!((aligned.len(), &bytes(aligned)[..34]), (1024, &[5; 34][..]));
            assert!(aligned.cast::<u8>().addr().get().is_multiple_of(1024));
            release(system, aligned, layout(48, 1024));
        }
        assert!(system.classes().all(|class| class.live == 0), "each move released what it left");
    });
}

#[test]
fn a_move_that_finds_no_room_changes_nothing() {
    with_system(|system| {
        let block = system.allocate(layout(40, 1)).expect("room");
        fill(block, 6);
        let (larger, smaller) = (drain(system, layout(64, 1)), drain(system, layout(32, 1)));
        // SAFETY: the block is in use, this is its layout, and the sizes go the right way.
        unsafe {
            assert!(system.grow(block.cast(), layout(40, 1), layout(64, 1)).is_err());
            assert!(system.grow_zeroed(block.cast(), layout(40, 1), layout(64, 1)).is_err());
            assert!(system.shrink(block.cast(), layout(40, 1), layout(32, 1)).is_err());
            assert!(system.grow(block.cast(), layout(40, 1), layout(20_000, 1)).is_err());
            assert!(bytes(block).iter().all(|byte| *byte == 6));
            release(system, larger[0], layout(64, 1));
            let moved = system.grow(block.cast(), layout(40, 1), layout(64, 1)).expect("now there is room");
            assert_eq!(moved.cast::<u8>(), larger[0].cast());
        }
        assert_eq!(smaller.len(), 3);
    });
}

#[test]
fn from_nothing_to_a_block_and_back() {
    with_system(|system| {
        let none = layout(0, 64);
        let nothing = system.allocate(none).expect("always");
        // SAFETY: the block is in use, these are its layouts in turn, and the sizes go the right way.
        unsafe {
            let block = system.grow_zeroed(nothing.cast(), none, layout(64, 64)).expect("room");
            assert_eq!(bytes(block), [0; 64]);
            assert_eq!(system.classes().map(|class| class.live).sum::<usize>(), 1);
            let nothing = system.shrink(block.cast(), layout(64, 64), none).expect("always");
            assert_eq!(nothing.len(), 0);
            assert!(system.classes().all(|class| class.live == 0));
            let nothing = system.grow(nothing.cast(), none, layout(0, 8192)).expect("always");
            assert!(nothing.cast::<u8>().addr().get().is_multiple_of(8192));
        }
    });
}

#[test]
fn making_it_touches_no_byte_of_the_arena() {
    let mut guarded = Guarded::new(16, SIZES.arena_size());
    let system = SizeClasses::new(&SIZES, guarded.memory()).expect("room");
    assert!(system.classes().all(|class| class.peak == 0 && class.live == 0));
    guarded.assert_untouched();
}

#[test]
fn memory_that_was_never_needed_is_never_touched() {
    let table = table([MemReq::new(64, 100)]);
    let mut guarded = Guarded::new(0, table.arena_size());
    let unused = guarded.memory().as_mut_ptr().cast::<u8>();
    let system = SizeClasses::new(&table, guarded.memory()).expect("room");
    for _ in 0..1000 {
        let block = (&system).allocate(layout(64, 8)).expect("room");
        fill(block, 0);
        release(&system, block, layout(64, 8));
    }
    // The memory begins on a page, so the one block that was used is the first.
    assert_eq!(unused.addr() % 4096, 0);
    let (_, rest) = guarded.memory().split_at_mut(64);
    let untouched = |byte: &std::mem::MaybeUninit<u8>| {
        // SAFETY: the guarded memory was filled when it was made.
        unsafe { byte.assume_init() == 0xA5 }
    };
    assert!(rest.iter().all(untouched));
}

#[test]
fn an_arena_that_is_too_small() {
    let exact = SIZES.block_bytes();
    for (skew, padding) in [(0, 0), (16, 4080), (4095, 1), (1, 4095)] {
        let needed = exact + padding;
        let made = |len| SizeClasses::new(&SIZES, Guarded::new(skew, len).memory()).map(|_| ());
        assert_eq!(made(needed), Ok(()), "{skew} bytes off");
        assert_eq!(made(needed - 1), Err(ArenaTooSmall { needed, got: needed - 1 }));
        assert_eq!(made(0), Err(ArenaTooSmall { needed, got: 0 }));
    }
    let error = ArenaTooSmall { needed: 100, got: 99 };
    assert_eq!(error.to_string(), "the size classes need 100 bytes and the arena has 99");
    fn is_error(_: impl std::error::Error) {}
    is_error(error);
}

#[test]
fn the_size_that_the_table_asks_for_is_the_least_that_always_does() {
    let at_worst = |len| SizeClasses::new(&SIZES, Guarded::new(16, len).memory()).is_ok();
    assert!(at_worst(SIZES.arena_size()));
    assert!(!at_worst(SIZES.arena_size() - 1));
}

#[test]
fn the_parent_gets_everything_back() {
    let parent = Parent::default();
    let system = SizeClasses::in_parent(&SIZES, &parent).expect("the parent has memory");
    assert_eq!(parent.live(), [layout(SIZES.block_bytes(), 4096)], "exact, without padding");
    let all: usize = SIZES.rows().iter().map(|row| drain(&system, layout(row.block_size, 1)).len()).sum();
    assert_eq!(all, 19);
    drop(system);
    assert_eq!(parent.live(), [], "even with blocks still out");
}

#[test]
fn equal_sizes_share_a_class() {
    let merged = table([MemReq::new(64, 2), MemReq::new(50, 3), MemReq::new(128, 1)]);
    let mut guarded = Guarded::new(0, merged.arena_size());
    let system = SizeClasses::new(&merged, guarded.memory()).expect("room");
    assert_eq!(system.classes().count(), 2);
    assert_eq!(drain(&system, layout(64, 1)).len(), 5);
    assert_eq!(drain(&system, layout(65, 1)).len(), 1);
    assert_eq!(served_by(&system, layout(129, 1)), None, "the place that the merging left is no class");
}

#[test]
fn as_many_classes_as_can_be() {
    let most: Table<255> = table(core::array::from_fn::<_, 255, _>(|i| MemReq::new((i + 1) * GRANULE, 1)));
    let mut guarded = Guarded::new(0, most.arena_size());
    let system = SizeClasses::new(&most, guarded.memory()).expect("room");
    for MemReq { block_size, .. } in most.rows() {
        assert_eq!(drain(&system, layout(*block_size, 1)).len(), 1);
    }
    assert!((&system).allocate(layout(255 * GRANULE + 1, 1)).is_err());
    // More rows than classes can be told apart, but few sizes.
    let merged: Table<300> = table([MemReq::new(64, 1); 300]);
    let mut guarded = Guarded::new(0, merged.arena_size());
    let system = SizeClasses::new(&merged, guarded.memory()).expect("room");
    assert_eq!(drain(&system, layout(64, 1)).len(), 300);
    assert_eq!(served_by(&system, layout(65, 1)), None);
    assert_eq!(served_by(&system, layout(5000, 1)), None);
}
