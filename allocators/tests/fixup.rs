//! Size-class tables: rounding, sorting, merging, sizes, errors; while running and while compiling.

mod support;

use fibra_allocators::{Arena, FixupError, GRANULE, MemReq, Table, fixup, table};
use proptest::prelude::*;

#[test]
fn the_granule_is_two_words() {
    assert_eq!(GRANULE, 2 * size_of::<*const u8>());
}

#[test]
fn sizes_are_rounded_up_sorted_and_merged() {
    let g = GRANULE;
    let table = fixup([
        MemReq::new(4 * g, 1),
        MemReq::new(g + 1, 2),
        MemReq::new(9 * g, 3),
        MemReq::new(2 * g, 4),
        MemReq::new(1, 5),
        MemReq::new(4 * g - 1, 6),
    ])
    .expect("a good table");
    assert_eq!(table.rows(), [MemReq::new(g, 5), MemReq::new(2 * g, 6), MemReq::new(4 * g, 7), MemReq::new(9 * g, 3)]);
    assert_eq!(table.block_bytes(), g * (5 + 12 + 28 + 27));
}

#[test]
fn equal_tables_compare_equal_however_they_were_written() {
    let a = fixup([MemReq::new(64, 1), MemReq::new(32, 2), MemReq::new(64, 3)]);
    let b = fixup([MemReq::new(32, 1), MemReq::new(32, 1), MemReq::new(64, 4)]);
    assert_eq!(a, b);
}

#[test]
fn the_arena_is_the_blocks_and_the_padding_before_the_most_aligned() {
    let size = |block_size| table([MemReq::new(block_size, 2), MemReq::new(16, 1)]);
    for (block_size, align) in [(48, 16), (32, 32), (96, 32), (64, 64), (1024, 1024), (4096, 4096), (8192, 4096)] {
        let table = size(block_size);
        assert_eq!(table.arena_align(), align);
        assert_eq!(table.arena_size(), 2 * block_size + 16 + align - 16, "{block_size}");
    }
}

#[test]
fn the_first_bad_row_is_named() {
    let good = MemReq::new(64, 1);
    assert_eq!(fixup([good, good, MemReq::new(0, 0), MemReq::new(1, 0)]), Err(FixupError::NoBytes { row: 2 }));
    assert_eq!(fixup([good, MemReq::new(9, 0), MemReq::new(0, 1)]), Err(FixupError::NoBlocks { row: 1 }));
}

#[test]
fn rows_that_are_too_much_only_together() {
    let quarter = MemReq::new(1 << 10, isize::MAX as usize >> 12);
    assert!(fixup([quarter, quarter, quarter]).is_ok());
    assert_eq!(fixup([quarter, quarter, quarter, quarter]), Err(FixupError::Overflow { row: 3 }));
    // Of one size, where it is the counts that are added.
    let fifth = MemReq::new(GRANULE, usize::MAX / GRANULE / 5);
    assert_eq!(fixup([fifth, fifth, fifth]), Err(FixupError::Overflow { row: 2 }));
}

#[test]
fn the_largest_table_has_a_size() {
    let room = isize::MAX as usize - 2 * 4096;
    let most = room / 4096;
    let table = fixup([MemReq::new(4096, most)]).expect("just fits");
    assert!(table.arena_size() <= isize::MAX as usize);
    assert_eq!(fixup([MemReq::new(4096, most + 1)]), Err(FixupError::Overflow { row: 0 }));
}

#[test]
fn at_most_255_classes() {
    let rows = |n: usize| core::array::from_fn::<_, 256, _>(|i| MemReq::new(i.min(n - 1) * GRANULE + 1, 1));
    assert_eq!(fixup(rows(255)).expect("255 sizes").rows().len(), 255);
    assert_eq!(fixup(rows(256)), Err(FixupError::TooManyClasses));
}

#[test]
fn errors_say_what_is_wrong() {
    let texts = [
        (FixupError::Empty, "the size-class table has no rows"),
        (FixupError::NoBlocks { row: 3 }, "row 3 of the size-class table asks for 0 blocks"),
        (FixupError::NoBytes { row: 4 }, "row 4 of the size-class table asks for blocks of 0 bytes"),
        (FixupError::Overflow { row: 5 }, "the size-class table asks for more than can be addressed, from row 5 on"),
        (FixupError::TooManyClasses, "the size-class table has more than 255 different sizes"),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
    fn is_error(_: impl std::error::Error) {}
    is_error(FixupError::Empty);
}

#[test]
fn the_compiler_knows_the_size() {
    const SIZES: Table<3> = table([MemReq::new(100, 3), MemReq::new(64, 10), MemReq::new(50, 5)]);
    static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
    const ROWS: usize = SIZES.rows().len();
    assert_eq!(ROWS, 2);
    assert_eq!(MEMORY.size(), SIZES.arena_size());
}

#[test]
fn table_panics_where_fixup_errs() {
    fn message(make: impl Fn() + std::panic::UnwindSafe) -> String {
        let panic = std::panic::catch_unwind(make).expect_err("a bad table");
        (*panic.downcast::<&str>().expect("a literal message")).to_owned()
    }
    assert!(message(|| _ = table([])).contains("no rows"));
    assert!(message(|| _ = table([MemReq::new(1, 0)])).contains("0 blocks"));
    assert!(message(|| _ = table([MemReq::new(0, 1)])).contains("0 bytes"));
    assert!(message(|| _ = table([MemReq::new(usize::MAX, 1)])).contains("addressed"));
    let many = core::array::from_fn::<_, 256, _>(|i| MemReq::new((i + 1) * GRANULE, 1));
    assert!(message(move || _ = table(many)).contains("255"));
}

proptest! {
    #[test]
    fn a_table_holds_what_was_asked_for(rows in prop::array::uniform10((1..2000_usize, 1..1000_usize))) {
        let rows = rows.map(|(block_size, n_blocks)| MemReq { block_size, n_blocks });
        let table = fixup(rows).expect("a good table");

        prop_assert!(table.rows().is_sorted_by(|a, b| a.block_size < b.block_size));
        for row in table.rows() {
            prop_assert_eq!(row.block_size % GRANULE, 0);
            let merged = |asked: &&MemReq| asked.block_size.next_multiple_of(GRANULE) == row.block_size;
            let asked: usize = rows.iter().filter(merged).map(|asked| asked.n_blocks).sum();
            prop_assert_eq!(row.n_blocks, asked);
        }
        let blocks = |rows: &[MemReq]| rows.iter().map(|row| row.n_blocks).sum::<usize>();
        prop_assert_eq!(blocks(table.rows()), blocks(&rows));
        prop_assert_eq!(table.block_bytes(), table.rows().iter().map(|row| row.block_size * row.n_blocks).sum::<usize>());
        let first = *table.rows().first_chunk::<1>().expect("not empty");
        let again = fixup(first).expect("a good table");
        prop_assert_eq!(again.rows(), first, "nothing is left to fix");
    }
}
