//! The lock that sleeps, and the allocators behind it.

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec as VecIn;
use fibra_std::allocators::{Bump, Checking, Debugging, Locked};
use fibra_std::{Lock, Malloc, SleepLock};
use static_assertions::assert_impl_all;

assert_impl_all!(SleepLock: Send, Sync);

struct Counter {
    lock: SleepLock,
    count: Cell<u64>,
}

// SAFETY: the count is used inside the lock only.
unsafe impl Sync for Counter {}

#[test]
fn one_at_a_time() {
    static COUNTER: Counter = Counter { lock: SleepLock::NEW, count: Cell::new(0) };
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    COUNTER.lock.with(|| {
                        let before = COUNTER.count.get();
                        if before.is_multiple_of(100) {
                            thread::yield_now();
                        }
                        COUNTER.count.set(before + 1);
                    });
                }
            });
        }
    });
    assert_eq!(COUNTER.count.get(), 16_000);
}

#[test]
fn a_panic_frees_it_and_spoils_nothing() {
    let lock = SleepLock::NEW;
    for _ in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| lock.with(|| panic!("inside")))).is_err());
        assert_eq!(thread::scope(|scope| scope.spawn(|| lock.with(|| 7)).join().expect("it is free")), 7);
    }
    assert_eq!(format!("{lock:?}"), "SleepLock");
}

#[test]
fn who_is_inside_may_enter_again_and_others_still_wait() {
    let counter = Counter { lock: SleepLock::NEW, count: Cell::new(0) };
    let counter = &counter;
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            counter.lock.with(|| {
                start.wait();
                counter.lock.with(|| counter.count.set(1));
                // Still inside, after the inner section: the other cannot have been here.
                for _ in 0..100 {
                    thread::yield_now();
                    assert_eq!(counter.count.get(), 1);
                }
                counter.count.set(2);
            });
        });
        scope.spawn(|| {
            start.wait();
            counter.lock.with(|| {
                assert_eq!(counter.count.get(), 2);
                counter.count.set(3);
            });
        });
    });
    assert_eq!(counter.count.get(), 3);
}

#[test]
fn two_locks_know_nothing_of_each_other() {
    let (one, two) = (SleepLock::NEW, SleepLock::NEW);
    assert_eq!(one.with(|| two.with(|| one.with(|| two.with(|| 7)))), 7);
    thread::scope(|scope| {
        one.with(|| scope.spawn(|| two.with(|| 7)).join().expect("two is free"));
    });
}

#[test]
fn all_wrappers_behind_it() {
    let bump = Locked::<_, SleepLock>::new(Bump::in_parent(Malloc, 1 << 20).expect("memory"));
    let log = Debugging::new(&bump, "bump", String::new()).with_lock::<SleepLock>();
    let checking = Checking::in_parent(&log, Malloc, 2000).expect("memory").with_lock::<SleepLock>();
    thread::scope(|scope| {
        for n in 0..4_u64 {
            let checking = &checking;
            scope.spawn(move || {
                for _ in 0..100 {
                    let mut numbers = VecIn::new_in(checking);
                    numbers.extend([n; 10]);
                    assert_eq!(numbers.iter().sum::<u64>(), 10 * n);
                }
            });
        }
    });
    assert_eq!((checking.live(), checking.mistakes()), (0, 0));
    drop(checking);
    assert_eq!(log.failures(), 0);
    assert_eq!(log.into_writer().lines().count(), 800);
}

/// A writer that allocates from the log it writes.
struct Reentrant;

type Log = Debugging<Malloc, Reentrant, SleepLock>;
static LOG: std::sync::LazyLock<Log> =
    std::sync::LazyLock::new(|| Debugging::new(Malloc, "log", Reentrant).with_lock::<SleepLock>());

impl fmt::Write for Reentrant {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let mut copy = VecIn::new_in(&*LOG);
        copy.extend_from_slice(s.as_bytes());
        assert_eq!(copy, s.as_bytes());
        Ok(())
    }
}

#[test]
fn a_writer_that_allocates_from_its_own_log_does_not_wait_for_itself() {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..50).for_each(|n| assert_eq!(*Box::new_in(n, &*LOG), n)));
        }
    });
    assert!(LOG.failures() > 0, "its own lines are counted as left out");
}
