//! C4: one queue, first in, first out. A single-threaded process is deterministic, and nothing that is ready starves.

mod common;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use common::{Checking, OnDrop, Trace, assert_outcome, rounds, run};
use fibra_core::{SpawnErrorKind, yield_now};

#[test]
fn fibres_start_in_the_order_of_their_spawning() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let trace = &trace;
        for n in 0..10 {
            p.spawn(async move { trace.push(n) }).unwrap();
        }
        trace.push(100);
    });
    assert_eq!(trace.take(), [100, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn a_child_is_queued_and_its_parent_runs_on() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let trace = &trace;
        p.spawn(async move {
            p.spawn(async { trace.push("child") }).unwrap();
            p.spawn_with(|| async { trace.push("second child") }).unwrap();
            trace.push("parent");
        })
        .unwrap();
        p.spawn(async { trace.push("bystander") }).unwrap();
    });
    assert_eq!(trace.take(), ["parent", "bystander", "child", "second child"]);
}

#[test]
fn a_child_that_runs_next_runs_before_its_parent_and_all_others() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let trace = &trace;
        p.spawn(async move {
            p.spawn_next(async { trace.push("first child") }).await.unwrap();
            trace.push("parent");
            let options = p.fibre().name("second");
            options.spawn_next(async { trace.push("second child") }).await.unwrap();
            trace.push("parent again");
        })
        .unwrap();
        p.spawn(async {
            trace.push("bystander");
            yield_now().await;
            trace.push("bystander again");
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["first child", "bystander", "parent", "second child", "bystander again", "parent again"]);
}

/// Next means next, for each of a nest of children; nothing is polled inside another poll.
#[test]
fn children_that_run_next_do_not_nest() {
    common::on_small_stack(|| {
        const DEPTH: u32 = 20_000;
        type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
        fn nest<'p>(
            p: &'p common::P<'p, '_, '_>,
            depth: u32,
            polling: &'p Cell<bool>,
            order: &'p Trace<u32>,
        ) -> Boxed<'p> {
            let mut body: Boxed<'p> = Box::pin(async move {
                order.push(depth);
                if depth < DEPTH {
                    p.spawn_next(nest(p, depth + 1, polling, order)).await.unwrap();
                }
            });
            Box::pin(std::future::poll_fn(move |cx| {
                assert!(!polling.replace(true), "a poll within a poll");
                let polled = body.as_mut().poll(cx);
                polling.set(false);
                polled
            }))
        }
        let checking = Checking::new();
        let (polling, order) = (Cell::new(false), Trace::new());
        let outcome = fibra_core::run(&checking, |p| {
            let (polling, order) = (&polling, &order);
            p.spawn(nest(p, 0, polling, order)).unwrap();
        });
        checking.assert_empty();
        assert_eq!(order.take(), (0..=DEPTH).collect::<Vec<_>>());
        assert_outcome(outcome.unwrap().1, [DEPTH as usize + 1, 0, 0, 0, 0]);
    });
}

#[test]
fn spawning_next_runs_out_of_memory_at_once() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        p.spawn(async move {
            p.allocator().fail_all();
            let error = p.spawn_next(rounds(1)).await.unwrap_err();
            p.allocator().fail_none();
            assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
            p.spawn(error.future).unwrap();
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// What completes at once goes on at once: the running fibre runs until it parks.
#[test]
fn the_running_fibre_runs_until_it_parks() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let trace = &trace;
        p.spawn(async move {
            r.read().await;
            trace.push("reader has one");
            r.read().await;
            trace.push("reader has two");
        })
        .unwrap();
        p.spawn(async move {
            w.write(1).await;
            trace.push("writer goes on");
            w.write(2).await;
            trace.push("writer was read");
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["writer goes on", "reader has one", "reader has two", "writer was read"]);
}

/// A pair that communicates for ever: a bystander runs once in each round of the ready fibres.
#[test]
fn a_pair_does_not_starve_a_bystander() {
    let checking = Checking::new();
    let transfers = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u64>().unwrap();
        let transfers = &transfers;
        p.spawn(async move {
            for n in 0.. {
                w.write(n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                r.read().await;
                transfers.set(transfers.get() + 1);
            }
        })
        .unwrap();
        p.spawn(async move {
            assert!(transfers.get() <= 2, "its first turn comes in the first round");
            for _ in 0..100 {
                let before = transfers.get();
                yield_now().await;
                assert!(transfers.get() - before <= 3, "and its next one in the next round");
                // Of the pair, one at a time is ready.
                yield_now().await;
                assert!(transfers.get() > before, "and the pair is not starved either");
            }
            p.stop();
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 2, 0]);
}

#[test]
fn yielding_lets_each_ready_fibre_run_once() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let trace = &trace;
        for name in ["a", "b", "c"] {
            p.spawn(async move {
                for round in 0..3 {
                    trace.push((round, name));
                    yield_now().await;
                }
            })
            .unwrap();
        }
    });
    let expected: Vec<_> = (0..3).flat_map(|round| ["a", "b", "c"].map(|name| (round, name))).collect();
    assert_eq!(trace.take(), expected);
}

/// Being made ready twice before it runs is being ready once.
#[test]
fn a_fibre_is_in_the_queue_once() {
    let checking = Checking::new();
    let polls = Cell::new(0);
    run(&checking, |p| {
        let (mut wa, mut ra) = p.channel::<u8>().unwrap();
        let (mut wb, mut rb) = p.channel::<u8>().unwrap();
        let polls = &polls;
        p.spawn(async move {
            let mut both = std::pin::pin!(futures::future::join(ra.read(), rb.read()));
            std::future::poll_fn(|cx| {
                polls.set(polls.get() + 1);
                both.as_mut().poll(cx)
            })
            .await;
        })
        .unwrap();
        p.spawn(async move {
            wa.try_write(1).unwrap();
            wb.try_write(1).unwrap();
        })
        .unwrap();
    });
    assert_eq!(polls.get(), 2);
}

/// A wake-up during the poll, by whichever means, brings exactly one more.
#[test]
fn waking_oneself_brings_one_more_turn() {
    let checking = Checking::new();
    let polls = Cell::new(0);
    let outcome = run(&checking, |p| {
        let polls = &polls;
        p.spawn(std::future::poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if polls.get() == 4 {
                return Poll::Ready(());
            }
            for _ in 0..polls.get() {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }))
        .unwrap();
    });
    assert_eq!(polls.get(), 4);
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// A wake-up does not carry over: a fibre that was woken, ran, and then waits for nothing collapses.
#[test]
fn a_wake_up_is_used_up() {
    let checking = Checking::new();
    let polls = Cell::new(0);
    let outcome = run(&checking, |p| {
        let polls = &polls;
        p.spawn(std::future::poll_fn(move |cx| {
            polls.set(polls.get() + 1);
            if polls.get() < 3 {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }))
        .unwrap();
    });
    assert_eq!(polls.get(), 3);
    assert_outcome(outcome, [0, 1, 0, 0, 0]);
}

/// What one fibre does to its context is no matter to the others.
#[test]
fn a_context_is_of_one_poll_only() {
    let checking = Checking::new();
    let done = Cell::new(false);
    let outcome = run(&checking, |p| {
        let done = &done;
        p.spawn(std::future::poll_fn(|cx| {
            *cx = std::task::Context::from_waker(std::task::Waker::noop());
            Poll::Ready(())
        }))
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            done.set(true);
        })
        .unwrap();
    });
    assert!(done.get(), "the second fibre was polled with what the first one left behind");
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A network with everything in it, twice: the same trace.
#[test]
fn the_same_program_has_the_same_trace() {
    fn once() -> Vec<(usize, usize)> {
        let checking = Checking::new();
        let trace = Trace::new();
        run(&checking, |p| {
            let trace = &trace;
            let (w, r) = p.channel::<usize>().unwrap();
            for id in 0..4 {
                let mut w = w.dup().unwrap();
                p.spawn(async move {
                    for n in 0..id + 2 {
                        w.write(n).await;
                        trace.push((id, n));
                        if n % 2 == 0 {
                            yield_now().await;
                        }
                    }
                })
                .unwrap();
            }
            drop(w);
            for id in 10..13 {
                let mut r = r.dup().unwrap();
                p.spawn(async move {
                    let _guard = OnDrop(|| trace.push((id, 999)));
                    loop {
                        let n = r.read().await;
                        trace.push((id, n));
                        if n == 1 {
                            p.spawn(async move { trace.push((id, 100)) }).unwrap();
                        }
                        if n == 2 {
                            let child = async move { trace.push((id, 200)) };
                            p.spawn_next(child).await.unwrap();
                        }
                    }
                })
                .unwrap();
            }
        });
        trace.take()
    }
    let first = once();
    assert!(first.len() > 30);
    assert_eq!(first, once());
}
