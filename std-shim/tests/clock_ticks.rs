//! Ticks: that they do not drift, count what was missed, and lose nothing.

mod support;

use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fibra_std::{Tick, Ticks, chips, run};
use futures::executor::block_on;
use futures::future::ready;
use futures::{FutureExt, select_biased};
use static_assertions::assert_impl_all;
use support::{MS, clock, counts, spawn};

assert_impl_all!(Ticks<'static>: Send, Sync);

#[test]
fn a_pipeline_dissolves_when_its_ticking_source_leaves() {
    let clock = clock();
    let sum = Cell::new(0);
    let (_, outcome) = run(|p| {
        let (mut w, r) = p.channel::<u64>().unwrap();
        let (clock, sum) = (&clock, &sum);
        spawn(p, async move {
            let mut ticks = clock.tick(MS);
            for n in 0..10 {
                ticks.next().await;
                w.write(n).await;
            }
        });
        p.spawn(chips::sink(|n| sum.set(sum.get() + n), r)).unwrap();
    })
    .unwrap();
    assert_eq!((sum.get(), counts(outcome)), (45, (1, 1, 0, 0)));
}

#[test]
fn ticks_are_multiples_of_the_period_however_late_they_are_served() {
    let clock = clock();
    let before = Instant::now();
    let mut ticks = clock.tick(3 * MS);
    let after = Instant::now();
    block_on(async {
        let mut last: Option<Tick> = None;
        for n in 0..30 {
            let tick = ticks.next().await;
            let now = Instant::now();
            assert!(tick.due <= now);
            let distance = 3 * MS * (1 + tick.missed as u32);
            match last {
                None => assert!(before + distance <= tick.due && tick.due <= after + distance),
                Some(last) => assert_eq!(tick.due - last.due, distance),
            }
            if n == 10 {
                thread::sleep(20 * MS);
            }
            if n == 11 {
                assert!(tick.missed >= 5, "{tick:?}");
            }
            last = Some(tick);
        }
    });
}

#[test]
fn a_tick_that_was_not_waited_for_comes_next() {
    let clock = clock();
    let start = Instant::now();
    let mut ticks = clock.tick(20 * MS);
    let after = Instant::now();
    block_on(async {
        assert_eq!(ticks.next().now_or_never(), None);
        for _ in 0..3 {
            // Biased, so that the tick is polled and dropped each time.
            let mut next = pin!(ticks.next().fuse());
            select_biased! {
                _ = next => {}
                () = ready(()).fuse() => {}
            }
        }
        // It counts those that came due meanwhile, and no others.
        let first = ticks.next().await;
        assert!(first.due - start >= 20 * MS * (1 + first.missed as u32));
        assert!(first.due - after <= 20 * MS * (1 + first.missed as u32));
    });
}

#[test]
fn ticks_that_are_always_late_let_the_others_run() {
    let clock = clock();
    let is_stopped = AtomicBool::new(false);
    let (_, outcome) = run(|p| {
        let (clock, is_stopped) = (&clock, &is_stopped);
        for period in [Duration::ZERO, Duration::from_nanos(1)] {
            p.spawn(async move {
                let mut ticks = clock.tick(period);
                while !is_stopped.load(Ordering::Relaxed) {
                    let tick = ticks.next().await;
                    assert!(tick.missed == 0 || !period.is_zero());
                }
            })
            .unwrap();
        }
        p.spawn(async { is_stopped.store(true, Ordering::Relaxed) }).unwrap();
    })
    .unwrap();
    assert_eq!(counts(outcome), (3, 0, 0, 0));
}

#[test]
fn a_period_that_never_ends_ticks_never() {
    let clock = clock();
    let mut ticks = clock.tick(Duration::MAX);
    assert!(format!("{ticks:?}").contains("due: None"));
    let (_, outcome) = run(|p| {
        spawn(p, async { unreachable!("{:?}", ticks.next().await) });
        spawn(p, async {
            clock.sleep_for(2 * MS).await;
            p.stop();
        });
    })
    .unwrap();
    assert_eq!(counts(outcome), (1, 0, 0, 1));
}
