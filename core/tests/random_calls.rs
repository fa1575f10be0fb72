//! Random scripts: routines that do at random whatever safe code can do to frames and calls, against a model.

mod common;
#[path = "common/scripts.rs"]
mod scripts;

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use scripts::{Done, be_quiet, follow_script};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn calls_do_what_the_model_says(script in prop::collection::vec(any::<u8>(), 0..600)) {
        be_quiet();
        follow_script(&script);
    }
}

/// The scripts reach what they are meant to test.
#[test]
fn random_scripts_do_something() {
    be_quiet();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut all = Done::default();
    for _ in 0..300 {
        let tree = prop::collection::vec(any::<u8>(), 400).new_tree(&mut runner).unwrap();
        let done = follow_script(&tree.current());
        all.calls += done.calls;
        all.routines += done.routines;
        all.panics += done.panics;
        all.collapsed += done.collapsed;
        all.deadlocked += done.deadlocked;
        all.deepest = all.deepest.max(done.deepest);
    }
    assert!(all.calls > 3000 && all.routines > 3000 && all.deepest > 6, "{all:?}");
    assert!(all.panics > 20 && all.collapsed > 10 && all.deadlocked > 10, "{all:?}");
}
