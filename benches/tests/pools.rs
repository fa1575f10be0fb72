//! Each pool does what the workloads count on.

use std::collections::BTreeSet;

use fibra_benches::pool::{self, Family, LIVE};

#[test]
fn no_block_has_two_users() {
    for pool in pool::ALL {
        println!("{}", pool.name);
        (pool.check)();
    }
}

#[test]
fn operations_are_timed_singly() {
    for pool in pool::ALL {
        let latencies = (pool.latencies)(500);
        assert_eq!(latencies.take.len(), 500 + LIVE as usize, "{}", pool.name);
        assert_eq!(latencies.give_back.len(), 500, "{}", pool.name);
    }
}

#[test]
fn pools_can_be_filled() {
    for pool in pool::ALL {
        let start = (pool.start)(5000);
        assert!(!start.fill.is_zero(), "{}", pool.name);
    }
}

#[test]
fn names_are_unique_and_found() {
    let names: BTreeSet<&str> = pool::ALL.iter().map(|pool| pool.name).collect();
    assert_eq!(names.len(), pool::ALL.len());
    for name in names {
        assert_eq!(pool::named(name).map(|pool| pool.name), Some(name));
    }
    assert!(pool::named("no such pool").is_none());
}

#[test]
fn ours_are_named_after_us() {
    for pool in pool::ALL {
        assert_eq!(pool.family == Family::Ours, pool.name.starts_with("fibra"), "{}", pool.name);
        assert_eq!(pool.family == Family::Floor, pool.name.starts_with("floor"), "{}", pool.name);
    }
}
