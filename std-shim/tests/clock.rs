//! Sleeping: who wakes, in which order, and that nothing is left in the clock. Orders are asked for only of sleeps that all
//! began before the first deadline; where the machine was too slow for that, they are asked for again.

mod support;

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use fibra_std::{Clock, ClockError, Sleep, run};
use futures::executor::block_on;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, join, select};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{HOUR, MS, calls, clock, counts, in_time, poll_with, sleeping, spawn};

assert_impl_all!(Clock: Clone, Send, Sync);
assert_impl_all!(ClockError: std::error::Error, Send, Sync);
assert_impl_all!(Sleep<'static>: Send, Sync);
assert_not_impl_any!(Sleep<'static>: Unpin);

#[test]
fn a_sleep_takes_its_time() {
    let clock = clock();
    let start = Instant::now();
    let (_, outcome) = run(|p| spawn(p, async { clock.sleep_for(200 * MS).await })).unwrap();
    assert!(start.elapsed() >= 200 * MS);
    assert_eq!(counts(outcome), (1, 0, 0, 0));
}

#[test]
fn a_sleep_for_counts_from_the_call() {
    let clock = clock();
    let sleep = clock.sleep_for(50 * MS);
    thread::sleep(60 * MS);
    // Over when it is first polled, so it has not been in the clock.
    let mut sleep = pin!(sleep);
    assert_eq!(poll_with(sleep.as_mut(), Waker::noop()), Poll::Pending);
    assert_eq!(poll_with(sleep.as_mut(), Waker::noop()), Poll::Ready(()));
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn wake_ups_come_in_order_of_deadlines() {
    const N: usize = 100;
    let clock = clock();
    in_time(|distance| {
        let (tx, rx) = mpsc::channel();
        let soon = Instant::now() + distance;
        // Neither in order nor against it.
        let mut sleeps: Vec<_> =
            (0..N).map(|n| n * 37 % N).map(|n| (n, Box::pin(clock.sleep_until(soon + MS / 10 * n as u32)))).collect();
        for (n, sleep) in &mut sleeps {
            let (n, tx) = (*n, tx.clone());
            let polled = poll_with(sleep.as_mut(), &calls(move || tx.send(n).unwrap()));
            assert_eq!(polled, Poll::Pending);
        }
        drop(tx);
        let was_in_time = Instant::now() < soon;
        let order: Vec<usize> = rx.iter().collect();
        was_in_time.then(|| assert_eq!(order, (0..N).collect::<Vec<_>>()))
    });
}

#[test]
fn ties_are_served_in_the_order_of_the_first_polls() {
    const N: usize = 300; // more than are woken at once
    let clock = clock();
    in_time(|distance| {
        let (tx, rx) = mpsc::channel();
        let soon = Instant::now() + distance;
        let mut sleeps: Vec<_> = (0..N).map(|_| Box::pin(clock.sleep_until(soon))).collect();
        for (n, sleep) in sleeps.iter_mut().rev().enumerate() {
            let tx = tx.clone();
            let _ = poll_with(sleep.as_mut(), &calls(move || tx.send(n).unwrap()));
        }
        // A second poll, with another waker, is no new turn.
        let tx_again = tx.clone();
        let _ = poll_with(sleeps[N - 1].as_mut(), &calls(move || tx_again.send(0).unwrap()));
        drop(tx);
        // Others before and after are moved about by leaving.
        let mut others: Vec<_> = (0..50).map(|n| Box::pin(clock.sleep_until(soon + MS * n))).collect();
        others.iter_mut().for_each(|other| assert!(poll_with(other.as_mut(), Waker::noop()).is_pending()));
        drop(others);
        let was_in_time = Instant::now() < soon;
        let order: Vec<usize> = rx.iter().collect();
        was_in_time.then(|| assert_eq!(order, (0..N).collect::<Vec<_>>()))
    });
}

#[test]
fn fibres_run_in_order_of_their_deadlines() {
    const N: u32 = 50;
    let clock = clock();
    in_time(|distance| {
        let order = RefCell::new(Vec::new());
        let soon = Instant::now() + distance;
        let was_in_time = Cell::new(false);
        let (_, outcome) = run(|p| {
            for n in (0..N).rev() {
                let (clock, order) = (&clock, &order);
                spawn(p, async move {
                    clock.sleep_until(soon + MS / 10 * n).await;
                    order.borrow_mut().push(n);
                });
            }
            // Runs when all of them sleep.
            spawn(p, async { was_in_time.set(Instant::now() < soon) });
        })
        .unwrap();
        assert_eq!(counts(outcome), (N as usize + 1, 0, 0, 0));
        was_in_time.get().then(|| assert_eq!(order.into_inner(), (0..N).collect::<Vec<_>>()))
    });
}

#[test]
fn a_sooner_deadline_wakes_the_thread_from_a_longer_wait() {
    let clock = clock();
    let mut later = pin!(clock.sleep_for(HOUR));
    assert_eq!(poll_with(later.as_mut(), Waker::noop()), Poll::Pending);
    thread::sleep(20 * MS); // by now it waits for the later one, or else the test shows less
    block_on(clock.sleep_for(2 * MS));
    block_on(clock.sleep_for(MS));
    assert_eq!(poll_with(later, Waker::noop()), Poll::Pending);
}

#[test]
fn a_deadline_that_has_passed_takes_a_turn_and_no_waker() {
    let clock = clock();
    let long_ago = Instant::now();
    let is_stopped = Cell::new(false);
    let (_, outcome) = run(|p| {
        // Neither fibre has a wake cell. The first would run for ever if it kept the second from running.
        p.spawn(async {
            while !is_stopped.get() {
                clock.sleep_until(long_ago).await;
                clock.sleep_for(Duration::ZERO).await;
            }
        })
        .unwrap();
        p.spawn(async { is_stopped.set(true) }).unwrap();
    })
    .unwrap();
    assert_eq!(counts(outcome), (2, 0, 0, 0));
}

#[test]
fn a_sleep_for_ever_lasts_until_the_process_is_stopped() {
    let clock = clock();
    let (_, outcome) = run(|p| {
        for duration in [Duration::MAX, Duration::MAX / 2, HOUR * 24 * 366 * 1000] {
            let clock = &clock;
            spawn(p, async move { clock.sleep_for(duration).await });
        }
        let stop = p.stop_handle().unwrap();
        let clock = &clock;
        spawn(p, async move {
            clock.sleep_for(2 * MS).await;
            assert_eq!(sleeping(clock), 3);
            stop.stop();
        });
    })
    .unwrap();
    assert_eq!(counts(outcome), (1, 0, 0, 3));
    assert_eq!(sleeping(&clock), 0);
    assert_eq!(format!("{:?}", clock.sleep_for(Duration::MAX)), "Sleep { deadline: None, .. }");
}

#[test]
fn without_a_wake_cell_a_sleeping_fibre_collapses() {
    let clock = clock();
    let (_, outcome) = run(|p| p.spawn(async { clock.sleep_for(HOUR).await }).unwrap()).unwrap();
    assert_eq!(counts(outcome), (0, 1, 0, 0));
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn the_process_ends_with_its_last_sleeper() {
    let clock = clock();
    let start = Instant::now();
    let ends = Cell::new(0);
    let (_, outcome) = run(|p| {
        for n in [30, 10, 20] {
            let (clock, ends) = (&clock, &ends);
            spawn(p, async move {
                clock.sleep_for(n * MS).await;
                ends.set(ends.get() + 1);
            });
        }
        // What waits for nothing that could come does not keep it.
        p.spawn(pending()).unwrap();
    })
    .unwrap();
    assert!(start.elapsed() >= 30 * MS);
    assert_eq!((ends.get(), counts(outcome)), (3, (3, 1, 0, 0)));
}

#[test]
fn a_dropped_sleep_is_out_of_the_clock_at_once_and_wakes_nobody() {
    let clock = clock();
    in_time(|distance| {
        let woken = Arc::new(AtomicUsize::new(0));
        let soon = Instant::now() + distance;
        let mut sleep = Box::pin(clock.sleep_until(soon));
        let count = Arc::clone(&woken);
        let waker = calls(move || count.store(1, Ordering::SeqCst));
        let _ = poll_with(sleep.as_mut(), &waker);
        drop(waker);
        let before = (Arc::strong_count(&woken), sleeping(&clock));
        drop(sleep);
        let after = (Arc::strong_count(&woken), sleeping(&clock));
        if Instant::now() >= soon {
            return None;
        }
        assert_eq!((before, after), ((2, 1), (1, 0)));
        block_on(clock.sleep_until(soon + MS));
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        Some(())
    });
}

#[test]
fn cancelled_in_any_order_the_others_are_served() {
    const N: usize = 200;
    let clock = clock();
    let mut waiting = FuturesUnordered::new();
    let mut cancelled = Vec::new();
    for n in 0..N {
        let sleep = Box::pin(clock.sleep_for(MS * (n * 71 % 100) as u32));
        if n % 3 == 0 { waiting.push(sleep.map(move |()| n)) } else { cancelled.push(sleep) }
    }
    for sleep in &mut cancelled {
        let _ = poll_with(sleep.as_mut(), Waker::noop());
    }
    let mut over: Vec<usize> = block_on(async {
        let mut over = Vec::new();
        while let Some(n) = waiting.next().await {
            over.push(n);
            // One from the middle each time.
            if !cancelled.is_empty() {
                drop(cancelled.swap_remove(cancelled.len() / 2));
            }
        }
        over
    });
    over.sort_unstable();
    assert_eq!(over, (0..N).step_by(3).collect::<Vec<_>>());
    drop(cancelled);
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn a_fibre_that_is_destroyed_leaves_nothing_in_the_clock() {
    let clock = clock();
    let (_, outcome) = run(|p| {
        let (mut w, mut r) = p.channel::<()>().unwrap();
        let clock = &clock;
        for _ in 0..10 {
            spawn(p, async { clock.sleep_for(HOUR).await });
        }
        // It sleeps and reads; what it reads stops everything.
        spawn(p, async move {
            let mut sleep = pin!(clock.sleep_for(HOUR).fuse());
            select! {
                () = sleep => unreachable!("an hour has not passed"),
                () = r.read().fuse() => p.stop(),
            }
        });
        p.spawn(async move { w.write(()).await }).unwrap();
    })
    .unwrap();
    assert_eq!(outcome.stopped + outcome.finished, 12);
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn a_panic_leaves_nothing_in_the_clock() {
    let clock = clock();
    let result = catch_unwind(AssertUnwindSafe(|| {
        run(|p| {
            spawn(p, async { clock.sleep_for(HOUR).await });
            spawn(p, async {
                clock.sleep_for(MS).await;
                panic!("as an example");
            });
        })
    }));
    assert!(result.is_err());
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn whichever_comes_first_is_taken() {
    let clock = clock();
    let log = RefCell::new(Vec::new());
    let (_, outcome) = run(|p| {
        let (mut w, mut r) = p.channel::<u32>().unwrap();
        let (log, clock) = (&log, &clock);
        spawn(p, async move {
            for patience in [HOUR, MS, HOUR] {
                let mut timeout = pin!(clock.sleep_for(patience).fuse());
                select! {
                    n = r.read().fuse() => log.borrow_mut().push(Some(n)),
                    () = timeout => log.borrow_mut().push(None),
                }
            }
            // The process would not end for an hour if a sleep that lost were still in the clock.
        });
        spawn(p, async move {
            w.write(1).await;
            while log.borrow().len() < 2 {
                clock.sleep_for(MS).await;
            }
            w.write(2).await;
        });
    })
    .unwrap();
    assert_eq!(counts(outcome), (2, 0, 0, 0));
    assert_eq!(log.into_inner(), [Some(1), None, Some(2)]);
}

#[test]
fn a_sleep_in_a_join_keeps_a_fibre_whose_read_is_dead() {
    let clock = clock();
    let slept = Cell::new(false);
    let (_, outcome) = run(|p| {
        let (w, mut r) = p.channel::<u32>().unwrap();
        let (clock, slept) = (&clock, &slept);
        spawn(p, async move {
            join!(r.read(), async {
                clock.sleep_for(5 * MS).await;
                slept.set(true);
            });
            unreachable!("nobody writes");
        });
        drop(w);
    })
    .unwrap();
    // Once nothing is left but the read, it goes.
    assert_eq!((slept.get(), counts(outcome)), (true, (0, 1, 0, 0)));
}

#[test]
fn as_many_fibres_as_wanted_sleep_at_once() {
    const N: usize = 5_000;
    let clock = clock();
    let slept = Cell::new(0);
    let (_, outcome) = run(|p| {
        for n in 0..N {
            let (clock, slept) = (&clock, &slept);
            spawn(p, async move {
                for round in 0..3 {
                    clock.sleep_for(MS * ((n * 7 + round) % 13) as u32).await;
                }
                slept.set(slept.get() + 1);
            });
        }
    })
    .unwrap();
    assert_eq!((slept.get(), counts(outcome)), (N, (N, 0, 0, 0)));
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn processes_and_tasks_on_many_threads_share_a_clock() {
    let clock = clock();
    let done = AtomicUsize::new(0);
    thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| {
                let (_, outcome) = run(|p| {
                    for n in 0..50 {
                        let clock = &clock;
                        spawn(p, async move {
                            for _ in 0..10 {
                                // Half of them are dropped before their time.
                                let mut patience = pin!(clock.sleep_for(MS * (n % 3)).fuse());
                                let mut sleep = pin!(clock.sleep_for(MS * (n % 5)).fuse());
                                select! { () = patience => {}, () = sleep => {} }
                            }
                        });
                    }
                })
                .unwrap();
                done.fetch_add(outcome.finished, Ordering::Relaxed);
            });
            s.spawn(|| {
                let clock = clock.clone();
                let all = block_on(join_all((0..50).map(|n| clock.sleep_for(MS * (n % 7)))));
                done.fetch_add(all.len(), Ordering::Relaxed);
            });
        }
    });
    assert_eq!(done.into_inner(), 400);
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn a_fibre_with_a_clone_goes_on_when_the_first_handle_is_dropped() {
    let (outer, slept) = (clock(), Cell::new(false));
    let (_, outcome) = run(|p| {
        let (clock, slept) = (outer.clone(), &slept);
        spawn(p, async move {
            for _ in 0..3 {
                clock.sleep_for(2 * MS).await;
            }
            slept.set(true);
            // Here goes the last handle, and with it the thread.
        });
        drop(outer);
    })
    .unwrap();
    assert_eq!((slept.get(), counts(outcome)), (true, (1, 0, 0, 0)));
}

#[test]
fn handles_are_made_and_dropped_in_any_order() {
    for _ in 0..50 {
        let first = clock();
        let second = first.clone();
        thread::scope(|s| {
            s.spawn(move || block_on(second.sleep_for(Duration::from_micros(100))));
            s.spawn(move || drop(first));
        });
    }
}
