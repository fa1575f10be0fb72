//! Models of a fibre's status: those who wake it, take waits off it, run it and destroy it, on several threads.

use std::sync::Arc;
use std::vec::Vec;

use loom::cell::Cell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::fibre::{HAS_CELL, LIVE, Lost, QUEUED, RUNNING, Status, Woken};
use crate::modelled::model;

/// A fibre, as far as its status goes.
struct Fibre {
    status: Status,
    /// What others have told it.
    told: [AtomicUsize; 3],
    /// What it has seen of that: only who runs it uses this.
    seen: Cell<usize>,
    queued: AtomicUsize,
    collapsed: AtomicUsize,
    released: AtomicUsize,
}

// SAFETY: the model checker watches the cell.
unsafe impl Send for Fibre {}
// SAFETY: as above.
unsafe impl Sync for Fibre {}

impl Fibre {
    fn new(status: u32) -> Arc<Self> {
        let zero = || AtomicUsize::new(0);
        let (queued, collapsed, released) = (zero(), zero(), zero());
        let told = [zero(), zero(), zero()];
        Arc::new(Fibre { status: Status::new(status), told, seen: Cell::new(0), queued, collapsed, released })
    }

    fn tell(&self, nth: usize) {
        self.told[nth].store(1, Ordering::Relaxed);
    }

    /// What its poll does: looks at everything that it may have been woken for.
    fn look(&self) {
        self.seen.set(self.told.iter().map(|told| told.load(Ordering::Relaxed)).sum());
    }

    /// What the worker does that has queued it, until it parks or collapses. `has_waker`: it may be woken even if it waits in no
    /// node.
    fn run(&self, has_waker: bool) {
        loop {
            self.queued.fetch_add(1, Ordering::Relaxed);
            self.status.begin_to_run();
            self.look();
            if !self.settle(has_waker) {
                return;
            }
        }
    }

    /// The end of a poll. Says whether the fibre is queued again.
    fn settle(&self, has_waker: bool) -> bool {
        let may_be_woken = self.status.get() & LIVE != 0 || has_waker;
        let again = self.status.end_run(false, may_be_woken);
        if !again && !may_be_woken {
            self.collapsed.fetch_add(1, Ordering::Relaxed);
        }
        again
    }

    fn wake_up(&self, has_left_node: bool, has_waker: bool) {
        match self.status.wake_up(has_left_node) {
            Woken::Ready => self.run(has_waker),
            Woken::NotNow => {}
            Woken::Unused => self.release(),
        }
    }

    fn lose_wait(&self, is_stuck: bool) {
        match self.status.lose_wait(is_stuck) {
            Lost::All => {
                self.look();
                self.collapsed.fetch_add(1, Ordering::Relaxed);
            }
            Lost::One(Woken::Ready) => self.run(false),
            Lost::One(Woken::NotNow) => {}
            Lost::One(Woken::Unused) => self.release(),
        }
    }

    fn release(&self) {
        self.look();
        self.released.fetch_add(1, Ordering::Relaxed);
    }

    fn released(&self) -> usize {
        self.released.load(Ordering::Relaxed)
    }

    fn collapsed(&self) -> usize {
        self.collapsed.load(Ordering::Relaxed)
    }
}

/// Runs these on threads of their own, except the last.
fn all(fibre: &Arc<Fibre>, what: &[fn(&Fibre)]) {
    let (last, others) = what.split_last().unwrap();
    let spawn = |what: &fn(&Fibre)| {
        let (fibre, what) = (fibre.clone(), *what);
        thread::spawn(move || what(&fibre))
    };
    let threads: Vec<_> = others.iter().map(spawn).collect();
    last(fibre);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn of_those_who_wake_a_parked_fibre_one_queues_it_and_it_sees_what_all_have_done() {
    model(3, || {
        let fibre = Fibre::new(HAS_CELL | 2);
        all(
            &fibre,
            &[
                |fibre| {
                    fibre.tell(0);
                    fibre.wake_up(true, true);
                },
                |fibre| {
                    fibre.tell(1);
                    fibre.wake_up(true, true);
                },
                |fibre| {
                    fibre.tell(2);
                    fibre.wake_up(false, true);
                },
            ],
        );
        assert_eq!(fibre.seen.get(), 3, "a wake-up was lost");
        assert_eq!(fibre.status.get(), HAS_CELL);
    });
}

#[test]
fn a_running_fibre_that_is_woken_runs_again() {
    model(4, || {
        let fibre = Fibre::new(RUNNING | 2);
        all(
            &fibre,
            &[
                |fibre| {
                    fibre.tell(0);
                    fibre.wake_up(true, true);
                },
                |fibre| {
                    fibre.tell(1);
                    fibre.wake_up(true, true);
                },
                |fibre| {
                    fibre.tell(2);
                    fibre.look();
                    if fibre.settle(true) {
                        fibre.run(true);
                    }
                },
            ],
        );
        assert_eq!(fibre.seen.get(), 3, "a wake-up was lost");
        assert_eq!(fibre.status.get(), 0);
    });
}

#[test]
fn a_second_wait_begins_while_the_first_may_end() {
    model(4, || {
        // It has parked in one node, by itself.
        let fibre = Fibre::new(0);
        fibre.status.add_wait_running();
        all(
            &fibre,
            &[
                |fibre| {
                    fibre.tell(0);
                    fibre.wake_up(true, false);
                },
                |fibre| {
                    fibre.tell(1);
                    fibre.look();
                    fibre.status.add_wait_running();
                    if fibre.settle(false) {
                        fibre.run(false);
                    }
                },
            ],
        );
        assert_eq!((fibre.seen.get(), fibre.collapsed(), fibre.status.get()), (2, 0, 1));
    });
}

#[test]
fn a_fibre_whose_waits_are_all_lost_collapses_once() {
    for status in [2, RUNNING | 2] {
        model(4, move || {
            let fibre = Fibre::new(status);
            let lose: fn(&Fibre) = |fibre| fibre.lose_wait(false);
            let settle: fn(&Fibre) = |fibre| {
                if fibre.status.get() & RUNNING != 0 && fibre.settle(false) {
                    fibre.run(false);
                }
            };
            if status & RUNNING != 0 {
                all(&fibre, &[lose, lose, settle]);
            } else {
                all(&fibre, &[lose, lose]);
            }
            assert_eq!(fibre.collapsed(), 1);
        });
    }
}

#[test]
fn a_stuck_fibre_collapses_once_and_is_not_polled_for_it() {
    model(4, || {
        let fibre = Fibre::new(2);
        all(&fibre, &[|fibre| fibre.lose_wait(true), |fibre| fibre.lose_wait(true)]);
        assert_eq!((fibre.collapsed(), fibre.queued.load(Ordering::Relaxed)), (1, 0));
    });
}

#[test]
fn a_fibre_with_a_wake_cell_that_loses_its_waits_finds_out_for_itself() {
    model(4, || {
        let fibre = Fibre::new(HAS_CELL | 2);
        let lose: fn(&Fibre) = |fibre| match fibre.status.lose_wait(false) {
            Lost::All => panic!("its waker may be live"),
            Lost::One(Woken::Ready) => fibre.run(true),
            Lost::One(_) => {}
        };
        all(&fibre, &[lose, lose]);
        assert_ne!(fibre.queued.load(Ordering::Relaxed), 0);
        assert_eq!(fibre.status.get(), HAS_CELL);
    });
}

#[test]
fn a_lost_wait_and_a_wake_up_do_not_collapse_it() {
    model(4, || {
        let fibre = Fibre::new(3);
        let wake: fn(&Fibre) = |fibre| {
            fibre.tell(0);
            fibre.wake_up(true, false);
        };
        all(&fibre, &[wake, |fibre| fibre.lose_wait(false)]);
        assert_eq!((fibre.collapsed(), fibre.seen.get(), fibre.status.get()), (0, 1, 1));
    });
}

#[test]
fn a_destroyed_fibre_is_released_once_by_who_names_it_last() {
    let others: [fn(&Fibre); 3] = [
        |fibre| fibre.wake_up(true, false),
        |fibre| fibre.lose_wait(false),
        |fibre| {
            if fibre.status.leave_node() {
                fibre.release();
            }
        },
    ];
    for nth in 0..3 {
        model(4, move || {
            // It runs, and has come to its end while two nodes name it.
            let fibre = Fibre::new(RUNNING | 2);
            let destroy: fn(&Fibre) = |fibre| {
                fibre.status.begin_to_finish();
                fibre.look();
                if fibre.status.end_finish() {
                    fibre.release();
                }
            };
            all(&fibre, &[others[nth], others[(nth + 1) % 3], destroy]);
            assert_eq!((fibre.released(), fibre.queued.load(Ordering::Relaxed)), (1, 0));
        });
    }
}

#[test]
fn a_queued_fibre_is_not_queued_again() {
    model(4, || {
        let fibre = Fibre::new(QUEUED | HAS_CELL | 1);
        let run: fn(&Fibre) = |fibre| fibre.run(true);
        let wake: fn(&Fibre) = |fibre| {
            fibre.tell(0);
            fibre.wake_up(true, true);
        };
        all(&fibre, &[wake, run]);
        assert_eq!((fibre.seen.get(), fibre.status.get()), (1, HAS_CELL));
    });
}
