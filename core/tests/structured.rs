//! C6: `run` returns only after every fibre is destroyed, also on panic; fibres borrow what is around the process.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;

use common::{Checking, OnDrop, assert_outcome, panic_of, rounds, run};
use fibra_core::yield_now;

#[test]
fn fibres_borrow_from_the_frame_around_the_process() {
    let checking = Checking::new();
    let mut numbers = vec![1, 2, 3];
    let text = String::from("shared");
    run(&checking, |p| {
        let (mut w, mut r) = p.channel::<&mut i32>().unwrap();
        let text = &text;
        let numbers = &mut numbers;
        p.spawn(async move {
            for number in numbers {
                assert_eq!(text, "shared");
                w.write(number).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                *r.read().await *= text.len() as i32;
            }
        })
        .unwrap();
    });
    assert_eq!(numbers, [6, 12, 18]);
    assert_eq!(text, "shared");
}

/// However a fibre goes, it is gone when `run` returns.
#[test]
fn all_fibres_are_gone_when_run_returns() {
    for stop in [false, true] {
        let checking = Checking::new();
        let alive = Cell::new(0);
        let outcome = run(&checking, |p| {
            let alive = &alive;
            let guard = move || {
                alive.set(alive.get() + 1);
                OnDrop(move || alive.set(alive.get() - 1))
            };
            let finishes = guard();
            p.spawn(async move {
                rounds(1).await;
                drop(finishes);
            })
            .unwrap();
            let collapses = guard();
            p.spawn(async move {
                let _guard = collapses;
                pending::<()>().await;
            })
            .unwrap();
            let deadlocks = guard();
            p.spawn(async move {
                let _guard = deadlocks;
                let (_w, mut r) = p.channel::<u8>().unwrap();
                r.read().await;
            })
            .unwrap();
            let never_runs = guard();
            p.spawn(async move {
                rounds(3).await;
                if stop {
                    p.stop();
                    p.spawn(async move { drop(never_runs) }).unwrap();
                }
            })
            .unwrap();
        });
        assert_eq!(alive.get(), 0);
        assert_outcome(outcome, if stop { [2, 1, 0, 2, 0] } else { [2, 1, 1, 0, 0] });
    }
}

#[test]
fn all_fibres_are_gone_when_run_panics() {
    let checking = Checking::new();
    let alive = Cell::new(0);
    let text = panic_of(|| {
        fibra_core::run(&checking, |p| {
            let alive = &alive;
            for n in 0..5 {
                alive.set(alive.get() + 1);
                let guard = OnDrop(move || alive.set(alive.get() - 1));
                let (w, mut r) = p.channel::<u8>().unwrap();
                p.spawn(async move {
                    let _all = (guard, w);
                    if n == 3 {
                        yield_now().await;
                        panic!("the fourth");
                    }
                    r.read().await;
                })
                .unwrap();
            }
        })
    });
    assert_eq!(text, "the fourth");
    assert_eq!(alive.get(), 0);
    checking.assert_empty();
}

#[test]
fn the_value_of_the_closure_is_returned() {
    let checking = Checking::new();
    let log = RefCell::new(Vec::new());
    let (value, _) = fibra_core::run(&checking, |p| {
        p.spawn(async { log.borrow_mut().push("fibre") }).unwrap();
        log.borrow_mut().push("closure");
        String::from("value")
    })
    .unwrap();
    assert_eq!(value, "value");
    assert_eq!(log.into_inner(), ["closure", "fibre"]);
}

#[test]
fn a_fibre_spawns_from_a_reference_to_its_process() {
    let checking = Checking::new();
    let count = Cell::new(0);
    let outcome = run(&checking, |p| {
        let count = &count;
        p.spawn(async move {
            for _ in 0..3 {
                p.spawn(async move {
                    p.spawn(async move { count.set(count.get() + 1) }).unwrap();
                })
                .unwrap();
            }
        })
        .unwrap();
    });
    assert_eq!(count.get(), 3);
    assert_outcome(outcome, [7, 0, 0, 0, 0]);
}

#[test]
fn processes_follow_one_another_in_the_same_memory() {
    common::with_pool(|pool| {
        for n in 0..100 {
            let sum = Cell::new(0);
            let (_, outcome) = fibra_core::run(pool, |p| {
                let (mut w, mut r) = p.channel::<u32>().unwrap();
                let sum = &sum;
                p.spawn(async move {
                    for i in 0..n {
                        w.write(i).await;
                    }
                })
                .unwrap();
                p.spawn(async move {
                    loop {
                        sum.set(sum.get() + r.read().await);
                    }
                })
                .unwrap();
            })
            .unwrap();
            assert_eq!(sum.get(), (0..n).sum::<u32>());
            assert_outcome(outcome, [1, 1, 0, 0, 0]);
        }
    });
}

/// Destructors of fibres may use what the fibres borrowed.
#[test]
fn destructors_use_what_was_borrowed() {
    let checking = Checking::new();
    let log = RefCell::new(Vec::new());
    run(&checking, |p| {
        for n in 0..3 {
            let log = &log;
            let (w, mut r) = p.channel::<u8>().unwrap();
            p.spawn(async move {
                let _guard = OnDrop(|| log.borrow_mut().push(n));
                let _w = w;
                r.read().await;
            })
            .unwrap();
        }
    });
    let mut log = log.into_inner();
    log.sort_unstable();
    assert_eq!(log, [0, 1, 2]);
}
