//! Whom a process waits for, and workers that nobody wakes.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use fibra_std::{Shared, System, yield_now};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};

fn on_a_thread<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> R {
    thread::spawn(f).join().unwrap()
}

#[test]
fn a_read_that_changed_its_waker_is_not_waited_for_any_more() {
    let outcome = on_a_thread(|| {
        System::run(|system| {
            let (to, from) = system.asynchronous::<u32>().unwrap();
            system
                .spawn_process(move |p| {
                    let (mut to, mut from) = (to.inside(p), from.inside(p));
                    let read = async move {
                        {
                            let mut read = pin!(from.read());
                            // With this fibre's own waker first, then with one of another kind.
                            poll_fn(|cx| {
                                assert!(read.as_mut().poll_unpin(cx).is_pending());
                                Poll::Ready(())
                            })
                            .await;
                            let mut all: FuturesUnordered<_> = [read].into_iter().collect();
                            assert_eq!(all.next().await, Some(7));
                        }
                        // From now on it waits for a thread.
                        let (is_done, mut waits) = (std::sync::Arc::new(AtomicBool::new(false)), false);
                        poll_fn(|cx| {
                            if !std::mem::replace(&mut waits, true) {
                                let (waker, is_done) = (cx.waker().clone(), is_done.clone());
                                thread::spawn(move || {
                                    thread::sleep(Duration::from_millis(100));
                                    is_done.store(true, Ordering::Release);
                                    waker.wake();
                                });
                            }
                            if is_done.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await;
                    };
                    p.fibre().waker().spawn(read).unwrap();
                    let write = async move {
                        for _ in 0..3 {
                            yield_now().await;
                        }
                        to.write(7).await;
                    };
                    p.fibre().waker().spawn(write).unwrap();
                })
                .unwrap();
        })
        .1
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.deadlocked), (2, 0));
}

#[test]
fn a_read_that_a_finished_fibre_has_forgotten_is_not_waited_for() {
    let outcome = on_a_thread(|| {
        System::run(|system| {
            let (to, from) = system.asynchronous::<u32>().unwrap();
            system
                .spawn_process(move |p| {
                    let (to, mut from) = (to.inside(p), from.inside(p));
                    let leaves = async move {
                        poll_fn(|cx| {
                            assert!(from.poll_read(cx).is_pending());
                            Poll::Ready(())
                        })
                        .await;
                        std::mem::forget(from);
                    };
                    p.fibre().waker().spawn(leaves).unwrap();
                    let waits = async move {
                        let (is_done, mut waits) = (std::sync::Arc::new(AtomicBool::new(false)), false);
                        poll_fn(|cx| {
                            if !std::mem::replace(&mut waits, true) {
                                let (waker, is_done) = (cx.waker().clone(), is_done.clone());
                                thread::spawn(move || {
                                    thread::sleep(Duration::from_millis(100));
                                    is_done.store(true, Ordering::Release);
                                    waker.wake();
                                });
                            }
                            if is_done.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
                        })
                        .await;
                        drop(to);
                    };
                    p.fibre().waker().spawn(waits).unwrap();
                })
                .unwrap();
        })
        .1
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.deadlocked), (2, 0));
}

/// Two workers are stuck in long turns, in which each waits for a fibre that is ready; the third has nothing to do.
#[test]
fn a_worker_with_nothing_to_do_helps_another_that_is_stuck() {
    for _ in 0..20 {
        on_a_thread(|| {
            let (one, two, three) = (AtomicBool::new(false), AtomicBool::new(false), AtomicBool::new(false));
            let until = |flag: &AtomicBool| {
                while !flag.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            };
            let until = &until;
            let (one, two, three) = (&one, &two, &three);
            Shared::new()
                .workers(3)
                .run(|p| {
                    thread::sleep(Duration::from_millis(5));
                    p.spawn(async move {
                        p.spawn(async move {
                            one.store(true, Ordering::Release);
                            p.spawn(async move { two.store(true, Ordering::Release) }).unwrap();
                            until(two);
                            three.store(true, Ordering::Release);
                        })
                        .unwrap();
                        until(one);
                        until(three);
                    })
                    .unwrap();
                })
                .unwrap();
        });
    }
}
