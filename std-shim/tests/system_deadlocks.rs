//! Programs that try to have processes hang, or end too early.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use fibra_std::{Setup, Shared, System, yield_now};
use futures::executor::block_on;

/// Runs `f` on a thread of its own.
fn on_a_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    thread::spawn(f).join().unwrap()
}

#[test]
fn an_idle_shared_process_is_stopped_from_outside() {
    for turns in 1..=3 {
        let outcome = on_a_thread(move || {
            let (_, outcome) = Shared::new()
                .workers(1)
                .run(|p| {
                    let stop = p.stop_handle().unwrap();
                    let wait = async move {
                        for _ in 1..turns {
                            yield_now().await;
                        }
                        let mut kept = None;
                        poll_fn(|cx| {
                            kept = Some(cx.waker().clone());
                            Poll::<()>::Pending
                        })
                        .await;
                    };
                    p.fibre().waker().spawn(wait).unwrap();
                    thread::spawn(move || {
                        thread::sleep(Duration::from_millis(50));
                        stop.stop();
                    });
                })
                .unwrap();
            outcome
        });
        assert_eq!(outcome.stopped, 1, "{turns} turns");
    }
}

#[test]
fn processes_after_a_deadlock_are_not_deadlocked() {
    let outcome = on_a_thread(|| {
        System::run(|system| {
            let sys = system.clone();
            system
                .spawn_process_with("supervisor", move || {
                    let (to, from) = sys.asynchronous::<u32>().unwrap();
                    let (_, first) = Setup::new().run(|p| {
                        let (to, mut from) = (to.inside(p), from.inside(p));
                        p.fibre().waker().spawn(async move { drop((from.read().await, to)) }).unwrap();
                    })?;
                    assert_eq!(first.deadlocked, 1);

                    let (to, from) = sys.asynchronous::<u32>().unwrap();
                    sys.spawn_process_with("writer", move || {
                        Setup::new().run(|p| {
                            let mut to = to.inside(p);
                            let write = async move {
                                thread::sleep(Duration::from_millis(100));
                                to.write(7).await;
                            };
                            p.fibre().waker().spawn(write).unwrap();
                        })
                    })
                    .unwrap();
                    let (_, second) = Setup::new().run(|p| {
                        let mut from = from.inside(p);
                        p.fibre().waker().spawn(async move { assert_eq!(from.read().await, 7) }).unwrap();
                    })?;
                    assert_eq!((second.finished, second.deadlocked), (1, 0));
                    Ok(((), second))
                })
                .unwrap();
        })
        .1
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.deadlocked), (2, 0));
}

#[test]
fn an_end_that_comes_outside_while_its_counterpart_waits_is_no_deadlock() {
    let outcome = on_a_thread(|| {
        System::run(|system| {
            let (to_a, at_a) = system.asynchronous::<u32>().unwrap();
            let (to_b, at_b) = system.asynchronous::<u32>().unwrap();
            system
                .spawn_process(move |p| {
                    let (mut at_a, to_b) = (at_a.inside(p), to_b.inside(p));
                    let wait = async move {
                        assert_eq!(at_a.read().await, 7);
                        drop(to_b);
                    };
                    p.fibre().waker().spawn(wait).unwrap();
                })
                .unwrap();
            system
                .spawn_process(move |p| {
                    let (to_a, mut at_b) = (to_a.inside(p), at_b.inside(p));
                    let wait = async move {
                        // The other process waits by now.
                        thread::sleep(Duration::from_millis(50));
                        let mut to_a = to_a.outside();
                        thread::spawn(move || {
                            thread::sleep(Duration::from_millis(200));
                            block_on(to_a.write(7)).unwrap();
                        });
                        at_b.read().await;
                    };
                    p.fibre().waker().spawn(wait).unwrap();
                })
                .unwrap();
        })
        .1
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.collapsed, outcome.fibres.deadlocked), (1, 1, 0));
}

#[test]
fn a_process_within_a_worker_does_not_wait_for_itself_only() {
    let outcome = on_a_thread(|| {
        System::run(|system| {
            let sys = system.clone();
            system
                .spawn_process_with("outer", move || {
                    let (to, from) = sys.asynchronous::<u32>().unwrap();
                    let inner_waits = AtomicBool::new(false);
                    let inner_waits = &inner_waits;
                    Shared::new().workers(2).run(|p| {
                        let mut to = to.inside(p);
                        let write = async move {
                            while !inner_waits.load(Ordering::Acquire) {
                                thread::yield_now();
                            }
                            thread::sleep(Duration::from_millis(100));
                            to.write(7).await;
                        };
                        p.fibre().waker().spawn(write).unwrap();
                        let (_, inner) = Setup::new()
                            .run(|q| {
                                let mut from = from.inside(q);
                                let read = async move {
                                    inner_waits.store(true, Ordering::Release);
                                    assert_eq!(from.read().await, 7);
                                };
                                q.fibre().waker().spawn(read).unwrap();
                            })
                            .unwrap();
                        assert_eq!((inner.finished, inner.deadlocked), (1, 0));
                    })
                })
                .unwrap();
        })
        .1
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.deadlocked), (1, 0));
}
