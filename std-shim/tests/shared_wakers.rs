//! Wakers that are cloned, woken and dropped on other threads and workers, while their fibres run, park, collapse, move, and
//! while the process ends.

mod common;

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;

use common::{Checked, Random, counts, number, on_workers, on_workers_times};
use fibra_std::{Shared, yield_now};

/// Parks once, after it handed out a clone of its waker.
async fn park(mut hand_out: impl FnMut(Waker)) {
    let mut parked = false;
    poll_fn(|cx| {
        if parked {
            return Poll::Ready(());
        }
        parked = true;
        hand_out(cx.waker().clone());
        Poll::Pending
    })
    .await;
}

/// A fibre that was woken for nothing, and has nothing left to wait for, collapses at once, whichever worker heard of it.
#[test]
fn a_fibre_that_wakes_itself_in_vain_collapses() {
    let fibres = number("FIBRA_FIBRES", 2_000);
    on_workers_times(3, |workers| {
        let random = Random::new(5);
        let (_, outcome) = Shared::new()
            .workers(workers)
            .run(|p| {
                let random = &random;
                p.spawn(async move {
                    for _ in 0..fibres {
                        let (w, mut r) = p.channel::<u8>().unwrap();
                        p.fibre()
                            .waker()
                            .spawn(async move {
                                let _w = w;
                                for _ in 0..random.below(3) {
                                    poll_fn(|cx| {
                                        let waker = cx.waker().clone();
                                        waker.wake();
                                        random.spin();
                                        Poll::Ready(())
                                    })
                                    .await;
                                }
                                std::future::pending::<()>().await;
                            })
                            .unwrap();
                        // Collapses when the other one has.
                        p.spawn(async move { _ = r.read().await }).unwrap();
                        if random.below(8) == 0 {
                            yield_now().await;
                        }
                    }
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(counts(outcome), [1, 2 * fibres, 0, 0, 0], "{workers} workers");
    });
}

/// Each of many fibres parks often, and is woken each time by a thread outside; each time it goes on. Then its last waker is
/// dropped out there, and it collapses.
#[test]
fn threads_outside_wake_fibres_that_move() {
    const TIMES: usize = 50;
    on_workers(|workers| {
        let (checked, random, woken) = (Checked::new(), Random::new(8), AtomicUsize::new(0));
        let outcome = thread::scope(|scope| {
            let (random, woken) = (&random, &woken);
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (to, from) = mpsc::channel::<(usize, Waker)>();
                    scope.spawn(move || {
                        for (nth, waker) in from {
                            random.spin();
                            match nth {
                                TIMES => drop(waker),
                                _ if nth % 2 == 0 => waker.wake(),
                                _ => {
                                    let clone = waker.clone();
                                    drop(waker);
                                    clone.wake_by_ref();
                                }
                            }
                        }
                    });
                    to
                })
                .collect();
            let (_, outcome) = Shared::with_allocator(&checked)
                .workers(workers)
                .run(|p| {
                    for nth in 0..10 {
                        let to = senders[nth % 2].clone();
                        let (keep, mut r) = p.channel::<u8>().unwrap();
                        p.fibre()
                            .waker()
                            .spawn(async move {
                                let _keep = keep;
                                for nth in 0..TIMES {
                                    park(|waker| to.send((nth, waker)).unwrap()).await;
                                    woken.fetch_add(1, Ordering::Relaxed);
                                }
                                let mut last = Some(to);
                                poll_fn(|cx| {
                                    if let Some(to) = last.take() {
                                        to.send((TIMES, cx.waker().clone())).unwrap();
                                    }
                                    Poll::<()>::Pending
                                })
                                .await;
                            })
                            .unwrap();
                        // Goes with the other.
                        p.spawn(async move { _ = r.read().await }).unwrap();
                    }
                    p.spawn(async {
                        for _ in 0..100 {
                            yield_now().await;
                        }
                    })
                    .unwrap();
                })
                .unwrap();
            outcome
        });
        assert_eq!(counts(outcome), [1, 20, 0, 0, 0], "{workers} workers");
        assert_eq!(woken.into_inner(), 10 * TIMES);
        checked.assert_empty();
    });
}

/// Wakers are used and dropped while the process ends, and after it.
#[test]
fn wakers_that_outlive_the_process() {
    on_workers(|workers| {
        let (checked, wakers) = (Checked::new(), Mutex::new(Vec::new()));
        let outcome = thread::scope(|scope| {
            let wakers = &wakers;
            let (go, gone) = mpsc::channel::<()>();
            scope.spawn(move || {
                gone.recv().unwrap();
                // Until the process is over, and once more.
                let mut is_over = false;
                while !std::mem::replace(&mut is_over, matches!(gone.try_recv(), Err(mpsc::TryRecvError::Disconnected)))
                {
                    let all: Vec<Waker> = wakers.lock().unwrap().clone();
                    all.iter().for_each(Waker::wake_by_ref);
                }
            });
            let (_, outcome) = Shared::with_allocator(&checked)
                .workers(workers)
                .run(|p| {
                    for _ in 0..20 {
                        p.fibre()
                            .waker()
                            .spawn(async move {
                                poll_fn(|cx| {
                                    wakers.lock().unwrap().push(cx.waker().clone());
                                    Poll::<()>::Pending
                                })
                                .await
                            })
                            .unwrap();
                    }
                    let go = go.clone();
                    p.spawn(async move {
                        go.send(()).unwrap();
                        for _ in 0..200 {
                            yield_now().await;
                        }
                        p.stop();
                    })
                    .unwrap();
                })
                .unwrap();
            drop(go);
            outcome
        });
        assert_eq!(counts(outcome), [1, 0, 0, 20, 0], "{workers} workers");
        wakers.into_inner().unwrap().into_iter().for_each(Waker::wake);
        checked.assert_empty();
    });
}

/// Several workers ask for wake cells at once: there is always one more.
#[test]
fn there_is_a_wake_cell_for_each_fibre() {
    let fibres = number("FIBRA_FIBRES", 2_000);
    for workers in [2, 4] {
        let (_, outcome) = Shared::new()
            .workers(workers)
            .run(|p| {
                for _ in 0..8 {
                    p.spawn(async move {
                        for nth in 0..fibres {
                            p.fibre().waker().spawn(async {}).expect("a wake cell");
                            if nth % 32 == 31 {
                                yield_now().await;
                            }
                        }
                    })
                    .unwrap();
                }
            })
            .unwrap();
        assert_eq!(outcome.finished, 8 + 8 * fibres);
    }
}
