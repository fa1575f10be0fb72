//! How much faster two threads can be here than one, whatever they run.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::thread;

use crate::contenders;
use crate::measure::pin;

/// Two copies of fibra's single-threaded one-to-one: one after the other, or each in a thread. Answers with both sums.
pub(super) fn two_copies(n: u64) -> u64 {
    let copy = contenders::ALL[0].one_to_one;
    match super::number() {
        1 => copy(n) + copy(n),
        _ => thread::scope(|s| {
            let other = s.spawn(move || copy(n));
            copy(n) + other.join().expect("it sums up")
        }),
    }
}

/// Two threads on processors of their own hand a cache line to and fro, one step each. Answers with the steps.
pub(super) fn cache_line(n: u64) -> u64 {
    #[repr(align(128))]
    struct Line(AtomicU64);

    let (line, start) = (Line(AtomicU64::new(0)), Barrier::new(2));
    let turns = |mine: u64| {
        pin(mine as usize);
        start.wait();
        for i in (mine..n).step_by(2) {
            while line.0.load(Acquire) != i {
                std::hint::spin_loop();
            }
            line.0.store(i + 1, Release);
        }
    };
    thread::scope(|s| {
        s.spawn(|| turns(0));
        s.spawn(|| turns(1));
    });
    line.0.fetch_add(0, AcqRel)
}
