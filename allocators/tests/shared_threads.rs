//! One value, many threads: dropped once, by the last, after all others have finished with it.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use fibra_allocators::PoolArc;
use support::values::SyncParent;

const THREADS: usize = 4;
const ROUNDS: usize = 300;

/// Counts its own drops, and says what it saw: the marks are plain reads and relaxed writes, so that the drop finds all of
/// them only if the count orders it behind them.
struct Marked<'t> {
    marks: [AtomicUsize; THREADS],
    expected: [usize; THREADS],
    drops: &'t AtomicUsize,
}

impl<'t> Marked<'t> {
    fn new(expected: [usize; THREADS], drops: &'t AtomicUsize) -> Self {
        Marked { marks: Default::default(), expected, drops }
    }
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        let seen = self.marks.each_mut().map(|mark| *mark.get_mut());
        assert_eq!(seen, self.expected, "somebody had not finished");
        assert_eq!(self.drops.fetch_add(1, Ordering::Relaxed), 0, "dropped twice");
    }
}

#[test]
fn the_last_of_many_threads_drops_it_once() {
    let parent = SyncParent::default();
    for round in 1..=ROUNDS {
        let drops = AtomicUsize::new(0);
        let start = Barrier::new(THREADS);
        let shared = PoolArc::new_in(Marked::new([round; THREADS], &drops), &parent).expect("room");
        thread::scope(|scope| {
            for (thread, shared) in [shared.clone(), shared.clone(), shared.clone(), shared].into_iter().enumerate() {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..round {
                        let copy = shared.clone();
                        copy.marks[thread].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!((drops.into_inner(), parent.live()), (1, 0));
    }
}

#[test]
fn of_all_who_give_it_up_one_gets_it() {
    let parent = SyncParent::default();
    for _ in 0..ROUNDS {
        let start = Barrier::new(THREADS);
        let first = PoolArc::new_in(String::from("the one"), &parent).expect("room");
        let mut handles = vec![first; THREADS];
        let winners = thread::scope(|scope| {
            let give_up = |shared| {
                start.wait();
                PoolArc::into_inner(shared).inspect(|text| assert_eq!(text, "the one")).is_some()
            };
            let threads: Vec<_> = handles.drain(..).map(|shared| scope.spawn(move || give_up(shared))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).filter(|won| *won).count()
        });
        assert_eq!((winners, parent.live()), (1, 0));
    }
}

#[test]
fn who_finds_itself_alone_sees_what_the_others_did() {
    let parent = SyncParent::default();
    for round in 0..ROUNDS {
        let mut shared = PoolArc::new_in((AtomicUsize::new(0), 0), &parent).expect("room");
        thread::scope(|scope| {
            for _ in 1..THREADS {
                let shared = shared.clone();
                scope.spawn(move || shared.0.store(round, Ordering::Relaxed));
            }
            let mut alone = loop {
                match PoolArc::try_unwrap(shared) {
                    Ok(value) => break value,
                    Err(others) => {
                        shared = others;
                        match PoolArc::get_mut(&mut shared) {
                            Some(value) => value.1 += 1, // alone since the last look
                            None => thread::yield_now(),
                        }
                    }
                }
            };
            assert_eq!(*alone.0.get_mut(), round);
        });
        assert_eq!(parent.live(), 0);
    }
}
