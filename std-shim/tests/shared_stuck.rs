//! A fibre that does not end its turn holds up nobody but itself.

use std::hint;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fibra_std::{Shared, WriteBlocking, asynchronous, yield_now};

fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        hint::spin_loop();
    }
}

/// Turns are short for some time, and then all workers rest until something comes from outside.
fn wake_up_to_a_long_turn(is_disturbed: bool) {
    let (mut wake, woken) = asynchronous::<u8>().unwrap();
    let (mut disturb, disturbed) = asynchronous::<u8>().unwrap();
    let (is_warm, has_run, is_over) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
    let disturbances = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            spin_until(|| is_warm.load(Ordering::Relaxed));
            // Now they come to rest.
            thread::sleep(Duration::from_millis(20));
            wake.write_blocking(1).unwrap();
            while !is_over.load(Ordering::Relaxed) {
                // More often than a nap takes.
                thread::sleep(Duration::from_micros(200));
                if is_disturbed {
                    disturb.write_blocking(1).unwrap();
                }
            }
            drop((wake, disturb));
        });
        let (_, outcome) = Shared::new()
            .workers(2)
            .run(|p| {
                let (mut to, mut from) = p.channel::<u8>().unwrap();
                let (mut woken, mut disturbed) = (woken.inside(p), disturbed.inside(p));
                let (is_warm, has_run, is_over, disturbances) = (&is_warm, &has_run, &is_over, &disturbances);
                p.spawn(async move {
                    for _ in 0..100_000 {
                        yield_now().await;
                    }
                    is_warm.store(true, Ordering::Relaxed);
                })
                .unwrap();
                p.spawn(async move {
                    from.read().await;
                    has_run.store(true, Ordering::Relaxed);
                })
                .unwrap();
                p.fibre()
                    .waker()
                    .spawn(async move {
                        loop {
                            disturbed.read().await;
                            disturbances.fetch_add(1, Ordering::Relaxed);
                        }
                    })
                    .unwrap();
                p.fibre()
                    .waker()
                    .spawn(async move {
                        woken.read().await;
                        if is_disturbed {
                            spin_until(|| disturbances.load(Ordering::Relaxed) > 3);
                        }
                        to.write(1).await;
                        spin_until(|| has_run.load(Ordering::Relaxed));
                        is_over.store(true, Ordering::Relaxed);
                    })
                    .unwrap();
            })
            .unwrap();
        assert_eq!((outcome.finished, outcome.collapsed), (3, 1));
    });
}

#[test]
fn what_a_long_turn_after_a_rest_makes_ready_is_run_by_another_worker() {
    wake_up_to_a_long_turn(false);
}

#[test]
fn what_comes_from_outside_meanwhile_is_heard_by_another_worker() {
    wake_up_to_a_long_turn(true);
}
