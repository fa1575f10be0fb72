//! The optimiser: against every choice of classes, against the size classes themselves, and with bad input.

mod support;

use fibra_allocators::{
    Allocator, Demand, GRANULE, MemReq, OptimiseError, Plan, SizeClasses, Table, fixup, optimise, optimise_by,
    optimise_scratch, table,
};
use proptest::prelude::*;
use support::by_force::by_force;
use support::{Guarded, layout};

fn demand(size: usize, align: usize, peak: usize) -> Demand {
    Demand::new(layout(size, align), peak)
}

/// Plans in exactly the memory that is asked for.
fn plan<R>(profile: &[Demand], classes: usize, then: impl FnOnce(Plan<'_>) -> R) -> R {
    let mut scratch = vec![usize::MAX / 3; optimise_scratch(profile.len(), classes)];
    then(optimise(profile.iter().copied(), classes, &mut scratch).expect("a good profile"))
}

fn bytes(rows: impl IntoIterator<Item = MemReq>) -> usize {
    rows.into_iter().map(|row| row.block_size * row.n_blocks).sum()
}

/// A table serves a profile if all its blocks can be live at once.
fn assert_serves(table: &[MemReq], profile: &[Demand]) {
    let mut rows = [MemReq::new(0, 0); 8];
    rows[..table.len()].copy_from_slice(table);
    rows[table.len()..].fill(table[0]);
    let spare = (8 - table.len()) * table[0].n_blocks;
    let fixed = fixup(rows).expect("a good table");
    let mut guarded = Guarded::new(0, fixed.arena_size());
    let system = SizeClasses::new(&fixed, guarded.memory()).expect("room");
    for demand in profile {
        for _ in 0..demand.peak {
            (&system).allocate(layout(demand.size, demand.align)).expect("the plan has a block for it");
        }
    }
    let left: usize = system.classes().map(|class| class.reserved - class.live).sum();
    assert_eq!(left, spare, "the plan reserves no block that the profile does not need");
}

fn profiles(aligned: bool) -> impl Strategy<Value = Vec<Demand>> {
    let size = prop_oneof![3 => 1..300_usize, 2 => 1..5000_usize];
    let log = if aligned { prop_oneof![3 => 0..=4_u32, 1 => 5..=12_u32].boxed() } else { Just(0).boxed() };
    let row = (size, log, 1..20_usize).prop_map(|(size, log, peak)| demand(size, 1 << log, peak));
    prop::collection::vec(row, 1..9)
}

#[test]
fn one_class_is_the_largest_size_for_all() {
    let profile = [demand(40, 1, 3), demand(200, 1, 2), demand(7, 1, 10)];
    plan(&profile, 1, |plan| {
        let block = 200_usize.next_multiple_of(GRANULE);
        assert_eq!(plan.rows(1).collect::<Vec<_>>(), [MemReq::new(block, 15)]);
        assert_eq!((plan.classes(), plan.knee()), (1, 1));
        assert_eq!(plan.asked(), 120 + 400 + 70);
        assert_eq!(plan.bytes(1), Some(15 * block));
        assert_eq!(plan.waste(1), Some(15 * block - 590));
    });
}

#[test]
fn with_a_class_for_each_size_only_the_rounding_is_wasted() {
    let g = GRANULE;
    let profile = [demand(1, 1, 10), demand(3 * g, 1, 2), demand(2 * g + 1, 1, 4), demand(9 * g - 1, 1, 1)];
    plan(&profile, 3, |plan| {
        assert_eq!(plan.classes(), 3, "two of the sizes are of one granule");
        let rows = [MemReq::new(g, 10), MemReq::new(3 * g, 6), MemReq::new(9 * g, 1)];
        assert_eq!(plan.rows(3).collect::<Vec<_>>(), rows);
        assert_eq!(plan.waste(3), Some(10 * (g - 1) + 4 * (g - 1) + 1));
        assert_eq!(plan.waste(255), plan.waste(3));
        assert_eq!(plan.rows(255).collect::<Vec<_>>(), rows);
    });
}

#[test]
fn no_classes_serve_nothing() {
    plan(&[demand(8, 8, 1)], 1, |plan| {
        assert_eq!((plan.bytes(0), plan.waste(0), plan.table::<0>(0)), (None, None, None));
        assert_eq!(plan.rows(0).count(), 0);
    });
}

#[test]
fn a_table_of_fewer_sizes_than_rows() {
    plan(&[demand(64, 8, 2), demand(128, 8, 1)], 8, |plan| {
        let fixed: Table<5> = plan.table(5).expect("it can be addressed");
        assert_eq!(fixed.rows(), [MemReq::new(64, 2), MemReq::new(128, 1)]);
        let fixed_up = table([MemReq::new(128, 1), MemReq::new(64, 2)]);
        assert_eq!(plan.table(2), Some(fixed_up), "as if it were fixed up");
        assert_eq!(plan.table::<1>(1).map(|table| table.block_bytes()), plan.bytes(1));
        assert_eq!((plan.table::<1>(2), plan.table::<0>(1)), (None, None), "more rows than that holds");
    });
}

#[test]
fn an_alignment_makes_the_block_of_its_class_a_multiple() {
    let profile = [demand(64, 64, 1), demand(80, 16, 50)];
    plan(&profile, 2, |plan| {
        assert_eq!(plan.rows(1).collect::<Vec<_>>(), [MemReq::new(128, 51)]);
        assert_eq!(plan.rows(2).collect::<Vec<_>>(), [MemReq::new(64, 1), MemReq::new(80, 50)]);
    });
    // Together the first two would take blocks of 128, which are also large enough for the third.
    let profile = [demand(64, 64, 1), demand(80, 16, 1), demand(96, 16, 1000)];
    plan(&profile, 2, |plan| {
        assert_eq!(plan.rows(2).collect::<Vec<_>>(), [MemReq::new(64, 1), MemReq::new(96, 1001)]);
    });
}

#[test]
fn the_knee_is_where_more_classes_stop_to_help() {
    let groups = |n: usize| -> Vec<Demand> {
        (1..=n).flat_map(|group| (0..3).map(move |i| demand(group * group * 1000 + i * GRANULE, 1, 10))).collect()
    };
    for n in 2..6 {
        plan(&groups(n), 12, |plan| assert!(plan.knee() <= n && plan.knee() > 1, "{n}: {plan:?}"));
    }
    plan(&groups(2), 6, |plan| assert_eq!(plan.knee(), 2));
    // Less than a tenth more, twice, and then a fifth.
    let [g, tenth] = [GRANULE, 10 * GRANULE];
    plan(&[demand(tenth, 1, 10), demand(tenth + g, 1, 100 - 10)], 2, |plan| assert_eq!(plan.knee(), 1));
    plan(&[demand(tenth, 1, 100), demand(tenth + g, 1, 1)], 2, |plan| assert_eq!(plan.knee(), 1));
    plan(&[demand(tenth, 1, 100), demand(tenth + 2 * g, 1, 1)], 2, |plan| assert_eq!(plan.knee(), 2));
    plan(&[demand(64, 1, 1); 9], 6, |plan| assert_eq!(plan.knee(), 1));
}

#[test]
fn bad_rows_are_named() {
    let mut scratch = [0; optimise_scratch(3, 3)];
    let good = Demand { size: 64, align: 8, peak: 1 };
    let mut error = |row: Demand| optimise([good, row, good], 3, &mut scratch).unwrap_err();
    assert_eq!(error(Demand { size: 0, ..good }), OptimiseError::NoBytes { row: 1 });
    assert_eq!(error(Demand { peak: 0, ..good }), OptimiseError::NoBlocks { row: 1 });
    for align in [0, 3, 8192, usize::MAX] {
        assert_eq!(error(Demand { align, ..good }), OptimiseError::Alignment { row: 1 });
    }
    for (size, peak) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX / 2, 1), (1 << 20, usize::MAX >> 20)] {
        assert_eq!(error(Demand { size, peak, ..good }), OptimiseError::Overflow { row: 1 });
    }
}

#[test]
fn other_errors() {
    let mut scratch = [0; optimise_scratch(3, 3)];
    assert_eq!(optimise::<MemReq>([], 3, &mut scratch).unwrap_err(), OptimiseError::Empty);
    for classes in [0, 256, usize::MAX] {
        assert_eq!(optimise([MemReq::new(1, 1)], classes, &mut scratch).unwrap_err(), OptimiseError::Classes);
    }
    let halves = [MemReq::new(1 << 10, usize::MAX >> 12), MemReq::new(1 << 11, usize::MAX >> 13)];
    assert_eq!(optimise(halves, 1, &mut scratch).unwrap_err(), OptimiseError::TooLarge);
    let error = optimise([MemReq::new(64, 1), MemReq::new(64, 0)], 1, &mut scratch).unwrap_err();
    assert_eq!(error, OptimiseError::NoBlocks { row: 1 });
    fn is_error(_: impl std::error::Error) {}
    is_error(error);
}

#[test]
fn errors_say_what_is_wrong() {
    let texts = [
        (OptimiseError::Empty, "the profile has no rows"),
        (OptimiseError::NoBlocks { row: 3 }, "row 3 of the profile needs 0 blocks"),
        (OptimiseError::NoBytes { row: 4 }, "row 4 of the profile needs blocks of 0 bytes"),
        (
            OptimiseError::Alignment { row: 5 },
            "row 5 of the profile has an alignment that is not a power of two up to 4096",
        ),
        (OptimiseError::Overflow { row: 6 }, "row 6 of the profile needs more than can be addressed"),
        (OptimiseError::TooLarge, "every table of so few classes takes more than can be addressed"),
        (OptimiseError::Classes, "the number of classes is not from 1 to 255"),
        (
            OptimiseError::ScratchTooSmall { needed: 7, got: 6 },
            "the optimiser needs 7 words of scratch memory and has 6",
        ),
    ];
    for (error, text) in texts {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn tables_that_can_only_be_addressed_with_enough_classes() {
    let profile = [MemReq::new(GRANULE, usize::MAX / GRANULE / 4), MemReq::new(1 << 20, 1)];
    let mut scratch = [0; optimise_scratch(2, 2)];
    assert_eq!(optimise(profile, 1, &mut scratch).unwrap_err(), OptimiseError::TooLarge);
    let plan = optimise(profile, 2, &mut scratch).expect("two classes will do");
    assert_eq!((plan.bytes(1), plan.waste(1), plan.table::<1>(1)), (None, None, None));
    assert_eq!(plan.rows(1).count(), 0);
    assert_eq!(plan.rows(2).collect::<Vec<_>>(), profile);
    assert_eq!(plan.knee(), 2);
}

#[test]
fn scratch_memory_that_is_too_small() {
    let profile: Vec<MemReq> = (1..=10).map(|i| MemReq::new(i * GRANULE, i)).collect();
    let full = optimise_scratch(10, 4);
    for got in 0..full {
        let mut scratch = vec![0; got];
        let error = optimise(profile.iter().copied(), 4, &mut scratch).unwrap_err();
        assert_eq!(error, OptimiseError::ScratchTooSmall { needed: full, got });
    }
    assert!(optimise(profile.iter().copied(), 4, &mut vec![0; full]).is_ok());
    // Rows that are merged take no room.
    let mut scratch = [0; optimise_scratch(1, 4)];
    assert!(optimise([MemReq::new(GRANULE, 1); 1000], 4, &mut scratch).is_ok());
}

#[test]
fn the_scratch_memory_saturates() {
    assert_eq!(optimise_scratch(usize::MAX, usize::MAX), usize::MAX);
    assert_eq!(optimise_scratch(0, 9), 0);
    assert_eq!(optimise_scratch(3, 100), optimise_scratch(3, 3));
}

#[test]
fn an_answer_of_no_blocks_counts_as_one() {
    let mut scratch = [0; optimise_scratch(2, 2)];
    let plan = optimise_by([MemReq::new(64, 9), MemReq::new(96, 9)], 2, &mut scratch, |_, _| 0).expect("a plan");
    assert_eq!(plan.rows(1).collect::<Vec<_>>(), [MemReq::new(96, 1)]);
    assert_eq!(plan.waste(1), Some(0), "less than was asked for");
}

#[test]
fn answers_that_overflow_are_never_chosen() {
    let mut scratch = [0; optimise_scratch(2, 2)];
    let apart = |smallest, largest| if smallest == largest { 1 } else { usize::MAX };
    let plan = optimise_by([MemReq::new(64, 1), MemReq::new(96, 1)], 2, &mut scratch, apart).expect("a plan");
    assert_eq!((plan.bytes(1), plan.bytes(2)), (None, Some(160)));
}

#[test]
fn a_plan_shows_its_bytes() {
    plan(&[demand(64, 8, 2), demand(128, 8, 1)], 2, |plan| {
        assert_eq!(format!("{plan:?}"), "{1: Some(384), 2: Some(256)}");
    });
}

#[test]
fn many_rows_of_all_sizes() {
    let profile: Vec<Demand> = (1..300).map(|i| demand(i * GRANULE, 1, 1 + i * 7919 % 101)).collect();
    plan(&profile, 40, |plan| {
        for n in 1..=40 {
            assert_eq!(Some(bytes(plan.rows(n))), plan.bytes(n));
            assert!(n == 1 || plan.bytes(n) < plan.bytes(n - 1));
            assert!(plan.rows(n).is_sorted_by(|a, b| a.block_size < b.block_size));
        }
    });
}

proptest! {
    #[test]
    fn no_choice_of_classes_takes_less(profile in profiles(false), classes in 1..9_usize) {
        plan(&profile, classes, |plan| {
            for n in 1..=plan.classes() {
                assert_eq!(plan.bytes(n), Some(by_force(&profile, n, |_, sum| sum)), "{n} classes");
                assert_eq!(plan.bytes(n), Some(bytes(plan.rows(n))));
                assert!(plan.rows(n).count() <= n);
                assert!(n == 1 || plan.bytes(n) <= plan.bytes(n - 1));
            }
        });
    }

    #[test]
    fn nor_with_alignments(profile in profiles(true), classes in 1..9_usize) {
        plan(&profile, classes, |plan| {
            for n in 1..=plan.classes() {
                assert_eq!(plan.bytes(n), Some(by_force(&profile, n, |_, sum| sum)), "{n} classes");
                assert_eq!(plan.bytes(n), Some(bytes(plan.rows(n))));
            }
        });
    }

    #[test]
    fn nor_by_another_count(profile in profiles(true), classes in 1..9_usize, salt in 1..1000_usize) {
        // Any function of the range will do, so long as both are given the same.
        let count = |smallest: usize, largest: usize| 1 + (smallest * 31 + largest * 17 + salt) % 23;
        let mut scratch = vec![0; optimise_scratch(profile.len(), classes)];
        let plan = optimise_by(profile.iter().copied(), classes, &mut scratch, count).expect("a good profile");
        for n in 1..=plan.classes() {
            let least = by_force(&profile, n, |sizes, _| count(*sizes.start(), *sizes.end()));
            prop_assert_eq!(plan.bytes(n), Some(least));
            prop_assert_eq!(plan.bytes(n), Some(bytes(plan.rows(n))));
        }
    }

    #[test]
    fn every_table_serves_the_profile_to_the_last_block(profile in profiles(true), classes in 1..9_usize) {
        plan(&profile, classes, |plan| {
            for n in 1..=plan.classes() {
                assert_serves(&plan.rows(n).collect::<Vec<_>>(), &profile);
            }
        });
    }

    #[test]
    fn the_order_of_the_rows_does_not_matter(profile in profiles(true), classes in 1..9_usize) {
        let rows = |profile: &[Demand]| plan(profile, classes, |plan| plan.rows(classes).collect::<Vec<_>>());
        let mut reversed = profile.clone();
        reversed.reverse();
        prop_assert_eq!(rows(&profile), rows(&reversed));
    }
}
