//! Two walks through calls within calls, and what becomes of them.

use std::ops::Range;
use std::thread;

use fibra_allocators::{Bump, Extent};
use fibra_core::{Outcome, SizeClasses, run};
use fibra_examples::same_fringe::{self, FRAME_SIZE, OutOfFrames, Verdict};
use fibra_examples::tree::{Built, Tree};
use fibra_std::Malloc;

type Memory = Bump<Extent<Malloc>>;
type Found = Result<Verdict, OutOfFrames>;

/// What the comparison finds, the outcome, and how many frames it took at the most. All memory has come back.
fn compare(left: Option<&Tree<'_>>, right: Option<&Tree<'_>>, frames: usize) -> (Found, Outcome, usize) {
    let pool = SizeClasses::in_parent(&same_fringe::sizes(frames).unwrap(), Malloc).unwrap();
    let mut found = None;
    let (spawned, outcome) = run(&pool, |p| same_fringe::spawn(p, left, right, &mut found)).unwrap();
    assert_eq!(spawned, Ok(()));
    assert!(pool.classes().all(|class| class.live == 0));
    let frames = pool.classes().find(|class| class.block_size == FRAME_SIZE).unwrap();
    (found.expect("the third fibre always finds something"), outcome, frames.peak)
}

/// Memory for so many leaves.
fn memory(leaves: usize) -> Memory {
    Bump::in_parent(Malloc, Tree::bytes(leaves)).unwrap()
}

/// Builds two trees that lean to different sides, and compares them.
fn compare_lists(left: &[u32], right: &[u32]) -> (Verdict, [usize; 3]) {
    let memory = memory(left.len() + right.len());
    let left = Tree::leaning_left(left.iter().copied(), &memory).unwrap();
    let right = Tree::leaning_right(right.iter().copied(), &memory).unwrap();
    let (found, Outcome { finished, collapsed, deadlocked, .. }, _) = compare(left, right, 100);
    (found.unwrap(), [finished, collapsed, deadlocked])
}

#[test]
fn the_same_leaves_in_trees_of_all_shapes_are_the_same() {
    for leaves in [1, 2, 3, 4, 7, 8, 9, 29, 30, 1000] {
        let memory = memory(4 * leaves as usize);
        let shapes: [Built<'_>; 4] = [
            Tree::balanced(0..leaves, &memory),
            Tree::ragged(0..leaves, &memory),
            Tree::leaning_left(0..leaves, &memory),
            Tree::leaning_right(0..leaves, &memory),
        ];
        assert_eq!(memory.used(), 4 * Tree::bytes(leaves as usize), "whatever the shape");
        for left in &shapes {
            for right in &shapes {
                let (found, outcome, _) = compare(*left.as_ref().unwrap(), *right.as_ref().unwrap(), 2000);
                assert_eq!(found, Ok(Verdict::Same { leaves: leaves as usize }));
                assert_eq!((outcome.finished, outcome.collapsed, outcome.deadlocked), (3, 0, 0));
            }
        }
    }
}

#[test]
fn the_first_difference_ends_it_wherever_it_is() {
    let same: Vec<u32> = (0..20).collect();
    for place in 0..20 {
        let mut other = same.clone();
        other[place] = 99;
        let (verdict, outcome) = compare_lists(&same, &other);
        assert_eq!(verdict, Verdict::Different { alike: place, left: Some(place as u32), right: Some(99) });
        // Both walks have more to say, unless that was their last leaf.
        assert_eq!(outcome, if place == 19 { [3, 0, 0] } else { [1, 2, 0] }, "at {place}");
    }
}

#[test]
fn a_beginning_is_not_the_whole() {
    let (verdict, outcome) = compare_lists(&[1, 2, 3], &[1, 2, 3, 4, 5]);
    assert_eq!(verdict, Verdict::Different { alike: 3, left: None, right: Some(4) });
    assert_eq!(outcome, [2, 1, 0], "the longer one is abandoned");

    let (verdict, outcome) = compare_lists(&[1, 2, 3, 4], &[1, 2, 3]);
    assert_eq!(verdict, Verdict::Different { alike: 3, left: Some(4), right: None });
    assert_eq!(outcome, [3, 0, 0], "both had said everything");
}

#[test]
fn an_empty_tree_has_no_leaves() {
    assert_eq!(compare_lists(&[], &[]), (Verdict::Same { leaves: 0 }, [1, 0, 0]));
    assert_eq!(compare_lists(&[], &[7, 8]), (Verdict::Different { alike: 0, left: None, right: Some(7) }, [1, 1, 0]));
    assert_eq!(compare_lists(&[7], &[]), (Verdict::Different { alike: 0, left: Some(7), right: None }, [2, 0, 0]));
}

#[test]
fn a_level_takes_a_frame_and_a_subtree_that_was_walked_none() {
    let memory = memory(2 * 1024);
    let shallow = Tree::balanced(0..1024, &memory).unwrap();
    let (_, _, frames) = compare(shallow, None, 10);
    assert_eq!(frames, 10);
    let (found, _, frames) = compare(shallow, shallow, 20);
    assert_eq!((found, frames), (Ok(Verdict::Same { leaves: 1024 }), 20));

    // The last leaf of this one is its deepest, so until then it takes as many frames as leaves were read.
    let deep = Tree::leaning_right(0..1024, &memory).unwrap();
    assert_eq!(compare(deep, shallow, 1033).2, 1033);
}

const DEEP: u32 = 100_000;

/// Compares two lists of [`DEEP`] leaves, one of which has another leaf at `place`, on a thread with a stack of 256 KiB.
fn compare_deep_lists(place: u32) -> (Found, Outcome, usize) {
    let comparing = || {
        let memory = memory(2 * DEEP as usize);
        let left = Tree::leaning_left(0..DEEP, &memory).unwrap();
        let right =
            Tree::leaning_right((0..DEEP).map(|leaf| if leaf == place { DEEP } else { leaf }), &memory).unwrap();
        compare(left, right, DEEP as usize + 10)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(256 * 1024).spawn_scoped(scope, comparing).unwrap();
        thread.join().expect("no panic")
    })
}

#[test]
fn a_hundred_thousand_levels_need_no_deeper_stack() {
    let (found, outcome, frames) = compare_deep_lists(DEEP);
    assert_eq!(found, Ok(Verdict::Same { leaves: DEEP as usize }));
    assert_eq!((outcome.finished, outcome.collapsed), (3, 0));
    assert!(frames >= DEEP as usize - 1, "{frames}");
}

#[test]
fn a_hundred_thousand_calls_are_abandoned_on_no_deeper_stack() {
    // One walk is at its deepest at the first leaf, the other at the last but one; between, both are half way.
    for place in [0, DEEP / 2, DEEP - 2] {
        let (found, outcome, frames) = compare_deep_lists(place);
        let (alike, left) = (place as usize, Some(place));
        assert_eq!(found, Ok(Verdict::Different { alike, left, right: Some(DEEP) }));
        assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
        assert!(frames >= DEEP as usize - 1, "{frames}");
    }
}

#[test]
fn too_few_frames_are_an_error_and_leave_nothing() {
    let memory = memory(2 * 64);
    let tree = Tree::leaning_left(0..64, &memory).unwrap();
    let leaf = Tree::balanced(0..1, &memory).unwrap();
    for frames in 1..63 {
        for (left, right) in [(tree, None), (None, tree), (leaf, tree), (tree, leaf)] {
            let (found, outcome, peak) = compare(left, right, frames);
            assert_eq!((found, peak), (Err(OutOfFrames { depth: frames + 1 }), frames));
            // The walk that has no frame says so and ends its fibre, however deep in calls; the other has its leaf read or
            // is abandoned.
            assert_eq!(outcome.deadlocked, 0);
            assert!(outcome.finished >= 2, "{outcome}");
        }
    }
    assert_eq!(compare(tree, None, 63).0, Ok(Verdict::Different { alike: 0, left: Some(0), right: None }));
}

#[test]
fn too_few_frames_for_both_end_both() {
    let memory = memory(2 * 1000);
    let left = Tree::leaning_left(0..1000, &memory).unwrap();
    let right = Tree::leaning_left(0..1000, &memory).unwrap();
    let (found, outcome, peak) = compare(left, right, 1500);
    // The left walk is all the way down, so 501 of the levels that the right one needs are left.
    assert_eq!((found, peak), (Err(OutOfFrames { depth: 502 }), 1500));
    assert_eq!((outcome.finished, outcome.collapsed), (2, 1));
}

#[test]
fn what_the_comparison_says_can_be_read() {
    let verdicts = [
        (Verdict::Same { leaves: 3 }, "the same 3 leaves"),
        (
            Verdict::Different { alike: 2, left: Some(5), right: Some(6) },
            "2 leaves alike, then 5 on the left and 6 on the right",
        ),
        (
            Verdict::Different { alike: 2, left: None, right: Some(6) },
            "2 leaves alike, then none on the left and 6 on the right",
        ),
    ];
    for (verdict, text) in verdicts {
        assert_eq!(verdict.to_string(), text);
    }
    let error = OutOfFrames { depth: 12 }.to_string();
    assert!(error.contains("level 12") && error.contains(&format!("{FRAME_SIZE} bytes")), "{error}");
}

#[test]
fn every_shortage_of_memory_at_the_beginning_is_an_error() {
    use fibra_std::{MemReq, table};
    let memory = memory(2);
    let tree = Tree::balanced(0..1, &memory).unwrap();
    for n_blocks in 1..5 {
        let pool = SizeClasses::in_parent(&table([MemReq::new(1024, n_blocks)]), Malloc).unwrap();
        let mut found = None;
        let (spawned, outcome) = run(&pool, |p| same_fringe::spawn(p, tree, tree, &mut found)).unwrap();
        assert!(spawned.is_err(), "{n_blocks} blocks do for two channels and three fibres");
        assert_eq!((found, outcome.deadlocked), (None, 0));
        assert!(pool.classes().all(|class| class.live == 0));
    }
}

#[test]
fn a_tree_that_the_memory_cannot_hold_is_an_error() {
    let builders: [fn(Range<u32>, &Memory) -> bool; 4] = [
        |leaves, memory| Tree::balanced(leaves, memory).is_ok(),
        |leaves, memory| Tree::ragged(leaves, memory).is_ok(),
        |leaves, memory| Tree::leaning_left(leaves, memory).is_ok(),
        |leaves, memory| Tree::leaning_right(leaves, memory).is_ok(),
    ];
    for build in builders {
        for leaves in 1..40_u32 {
            let memory = Bump::in_parent(Malloc, Tree::bytes(leaves as usize) - 1).unwrap();
            assert!(!build(0..leaves, &memory));
        }
    }
}
