//! Wake-ups from outside: other threads, the futures of the ecosystem, wakers that outlive what they wake.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::thread;

use fibra_std::{Process, SpawnErrorKind, run, yield_now};
use futures::channel::{mpsc as channel, oneshot};
use futures::stream::{FuturesUnordered, StreamExt};
use futures::{FutureExt, SinkExt, join, select};

/// A clone of the fibre's waker.
async fn waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Parks once, after it handed out a waker.
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

#[test]
fn a_oneshot_from_another_thread_wakes_the_fibre() {
    let mut got = None;
    let out = &mut got;
    thread::scope(|s| {
        let (go, gone) = mpsc::channel();
        let (tx, rx) = oneshot::channel();
        s.spawn(move || {
            gone.recv().unwrap();
            tx.send(42).unwrap();
        });
        let (_, outcome) = run(|p| {
            p.fibre().waker().spawn(async move { *out = rx.await.ok() }).unwrap();
            // Runs after the first fibre has parked.
            p.spawn(async move { go.send(()).unwrap() }).unwrap();
        })
        .unwrap();
        assert_eq!(outcome.finished, 2);
    });
    assert_eq!(got, Some(42));
}

#[test]
fn a_stream_of_values_crosses_in_both_directions() {
    const N: u64 = 2_000;
    let (mut to_thread, mut in_thread) = channel::channel::<u64>(1);
    let (mut to_fibre, mut in_fibre) = channel::channel::<u64>(1);
    let mut sum = 0;
    let total = &mut sum;
    thread::scope(|s| {
        s.spawn(move || {
            futures::executor::block_on(async {
                while let Some(n) = in_thread.next().await {
                    to_fibre.send(n * n).await.unwrap();
                }
            });
        });
        run(|p| {
            let (mut w, mut r) = p.channel::<u64>().unwrap();
            p.fibre()
                .waker()
                .spawn(async move {
                    for n in 0..N {
                        to_thread.send(n).await.unwrap();
                    }
                })
                .unwrap();
            p.fibre()
                .waker()
                .spawn(async move {
                    while let Some(n) = in_fibre.next().await {
                        w.write(n).await;
                    }
                })
                .unwrap();
            p.spawn(async move {
                loop {
                    *total += r.read().await;
                }
            })
            .unwrap();
        })
        .unwrap();
    });
    assert_eq!(sum, (0..N).map(|n| n * n).sum());
}

#[test]
fn wakers_outlive_the_fibre_and_the_process_and_are_used_on_another_thread() {
    let (tx, rx) = mpsc::channel::<Waker>();
    let (_, outcome) = run(|p| {
        for _ in 0..3 {
            let tx = tx.clone();
            p.fibre().waker().spawn(async move { tx.send(waker().await).unwrap() }).unwrap();
        }
        p.spawn(yield_now()).unwrap();
    })
    .unwrap();
    assert_eq!(outcome.finished, 4);
    drop(tx);
    let late = thread::spawn(move || {
        for waker in rx {
            let twin = waker.clone();
            twin.wake_by_ref();
            waker.wake();
            drop(twin.clone());
            twin.wake();
        }
    });
    late.join().unwrap();
    // The cells of those wakers serve again.
    let (_, outcome) = run(|p| p.fibre().waker().spawn(async { drop(waker().await) }).unwrap()).unwrap();
    assert_eq!(outcome.finished, 1);
}

#[test]
fn a_waker_of_an_ended_process_does_not_wake_the_next_one() {
    let kept = Cell::new(None);
    run(|p| p.fibre().waker().spawn(async { kept.set(Some(waker().await)) }).unwrap()).unwrap();
    let stale = kept.take().unwrap();
    let polls = Cell::new(0);
    let (_, outcome) = run(|p| {
        p.fibre()
            .waker()
            .spawn(async {
                poll_fn(|_| {
                    polls.set(polls.get() + 1);
                    Poll::<()>::Pending
                })
                .await;
            })
            .unwrap();
        let stale = &stale;
        p.spawn(async move {
            stale.wake_by_ref();
            yield_now().await;
            stale.wake_by_ref();
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
    assert_eq!(polls.get(), 1);
}

#[test]
fn the_last_waker_dropped_on_another_thread_collapses_the_fibre() {
    let (tx, rx) = mpsc::channel::<Waker>();
    let outcome = thread::scope(|s| {
        s.spawn(move || {
            let waker = rx.recv().unwrap();
            drop(waker.clone());
            drop(waker);
        });
        let (_, outcome) = run(|p| {
            p.fibre()
                .waker()
                .spawn(async move {
                    tx.send(waker().await).unwrap();
                    pending::<()>().await;
                })
                .unwrap();
        })
        .unwrap();
        outcome
    });
    assert_eq!((outcome.finished, outcome.collapsed), (0, 1));
}

#[test]
fn a_waker_kept_by_the_fibre_itself_keeps_the_process_until_it_is_stopped() {
    let (tx, rx) = mpsc::channel();
    let outcome = thread::scope(|s| {
        s.spawn(move || {
            let stop: fibra_std::StopHandle = rx.recv().unwrap();
            stop.stop();
        });
        let (_, outcome) = run(|p| {
            let handle = p.stop_handle().unwrap();
            p.fibre()
                .waker()
                .spawn(async move {
                    let _own = waker().await;
                    // Only from here on can the process be stopped.
                    tx.send(handle).unwrap();
                    pending::<()>().await;
                })
                .unwrap();
        })
        .unwrap();
        outcome
    });
    assert_eq!((outcome.finished, outcome.collapsed, outcome.stopped), (0, 0, 1));
}

#[test]
fn a_stop_handle_ends_a_process_that_is_always_busy() {
    let (tx, rx) = mpsc::channel();
    thread::scope(|s| {
        s.spawn(move || {
            let stop: fibra_std::StopHandle = rx.recv().unwrap();
            stop.stop();
        });
        let (handle, outcome) = run(|p| {
            let handle = p.stop_handle().unwrap();
            for _ in 0..2 {
                p.spawn(async {
                    loop {
                        yield_now().await;
                    }
                })
                .unwrap();
            }
            tx.send(handle).unwrap();
            handle
        })
        .unwrap();
        assert_eq!(outcome.stopped, 2);
        handle.stop(); // too late, and harmless
    });
    let (_, outcome) = run(|p| p.spawn(yield_now()).unwrap()).unwrap();
    assert_eq!((outcome.finished, outcome.stopped), (1, 0));
}

#[test]
fn futures_unordered_inside_one_fibre_hears_every_thread() {
    const N: usize = 50;
    let order = RefCell::new(Vec::new());
    thread::scope(|s| {
        run(|p| {
            p.fibre()
                .waker()
                .spawn(async {
                    let mut all = FuturesUnordered::new();
                    for n in 0..N {
                        let (tx, rx) = oneshot::channel();
                        s.spawn(move || tx.send(n).unwrap());
                        all.push(rx);
                    }
                    while let Some(n) = all.next().await {
                        order.borrow_mut().push(n.unwrap());
                    }
                })
                .unwrap();
        })
        .unwrap();
    });
    let mut order = order.into_inner();
    order.sort_unstable();
    assert_eq!(order, (0..N).collect::<Vec<_>>());
}

#[test]
fn futures_unordered_over_channel_reads_loses_nothing() {
    let got = RefCell::new(Vec::new());
    let (_, outcome) = run(|p| {
        let mut readers = Vec::new();
        for n in 0..10_u32 {
            let (mut w, r) = p.channel::<u32>().unwrap();
            readers.push(r);
            p.spawn(async move {
                yield_now().await;
                w.write(n).await;
            })
            .unwrap();
        }
        p.fibre()
            .waker()
            .spawn(async {
                let mut readers = readers;
                let mut all: FuturesUnordered<_> = readers.iter_mut().map(|r| r.read()).collect();
                while let Some(n) = all.next().await {
                    got.borrow_mut().push(n);
                }
            })
            .unwrap();
    })
    .unwrap();
    assert_eq!(outcome.finished, 11);
    let mut got = got.into_inner();
    got.sort_unstable();
    assert_eq!(got, (0..10).collect::<Vec<_>>());
}

#[test]
fn select_takes_whichever_comes_and_join_waits_for_both() {
    let (tx, rx) = oneshot::channel::<u32>();
    let log = RefCell::new(Vec::new());
    thread::scope(|s| {
        let (go, gone) = mpsc::channel();
        s.spawn(move || {
            gone.recv().unwrap();
            tx.send(3).unwrap();
        });
        run(|p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            let (mut rx, log) = (rx, &log);
            p.fibre()
                .waker()
                .spawn(async move {
                    for _ in 0..3 {
                        select! {
                            n = r.read().fuse() => {
                                log.borrow_mut().push(n);
                                if n == 2 {
                                    go.send(()).unwrap();
                                }
                            }
                            n = &mut rx => log.borrow_mut().push(n.unwrap()),
                        }
                    }
                    let (a, b) = join!(r.read(), async { 5 });
                    log.borrow_mut().extend([a, b]);
                })
                .unwrap();
            p.spawn(async move {
                for n in [1, 2, 4] {
                    w.write(n).await;
                    yield_now().await;
                    // The oneshot's turn is between the second and the third.
                    while n == 2 && log.borrow().len() < 3 {
                        yield_now().await;
                    }
                }
            })
            .unwrap();
        })
        .unwrap();
    });
    assert_eq!(log.into_inner(), [1, 2, 3, 4, 5]);
}

#[test]
fn a_fibre_without_a_cell_cannot_be_woken_from_outside() {
    let (tx, rx) = oneshot::channel::<u8>();
    let (_, outcome) = run(|p| p.spawn(async move { assert!(rx.await.is_ok()) }).unwrap()).unwrap();
    assert_eq!(outcome.collapsed, 1);
    assert_eq!(tx.send(1), Err(1));
}

#[test]
fn as_many_fibres_as_wanted_have_wakers_at_once() {
    const N: usize = 1_000;
    let wakers = RefCell::new(Vec::new());
    let (_, outcome) = run(|p| {
        for _ in 0..N {
            p.fibre().waker().spawn(park(|waker| wakers.borrow_mut().push(waker))).unwrap();
        }
        // Runs after them all.
        p.spawn(async { wakers.take().into_iter().for_each(Waker::wake) }).unwrap();
    })
    .unwrap();
    assert_eq!(outcome.finished, N + 1);
}

#[test]
fn a_process_inside_a_fibre_has_a_hub_of_its_own() {
    let wakers = Rc::new(RefCell::new(Vec::new()));
    let (_, outcome) = run(|p: &Process<'_, '_>| {
        let outer = Rc::clone(&wakers);
        p.fibre().waker().spawn(park(move |waker| outer.borrow_mut().push(waker))).unwrap();
        p.spawn(async {
            let (inner, outcome) = run(|p| {
                let inner = Rc::new(RefCell::new(Vec::new()));
                let kept = Rc::clone(&inner);
                p.fibre().waker().spawn(park(move |waker| kept.borrow_mut().push(waker))).unwrap();
                let waking = Rc::clone(&inner);
                p.spawn(async move { waking.take().into_iter().for_each(Waker::wake) }).unwrap();
                inner
            })
            .unwrap();
            assert_eq!(outcome.finished, 2);
            assert_eq!(inner.borrow().len(), 0);
            wakers.take().into_iter().for_each(Waker::wake);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(outcome.finished, 2);
}

#[test]
fn a_spawn_in_a_destructor_while_the_process_closes_gives_the_future_back() {
    struct SpawnInDrop<'a, 'p>(&'p Process<'p, 'a>, &'a Cell<Option<SpawnErrorKind>>);
    impl Drop for SpawnInDrop<'_, '_> {
        fn drop(&mut self) {
            self.1.set(self.0.fibre().waker().spawn(async {}).err().map(|error| error.kind));
        }
    }
    let kind = Cell::new(None);
    let (_, outcome) = run(|p| {
        let late = SpawnInDrop(p, &kind);
        let (w, mut r) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let (_late, _w) = (late, w);
            r.read().await;
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(outcome.deadlocked, 1);
    assert_eq!(kind.get(), Some(SpawnErrorKind::Closing));
}

#[test]
fn wake_ups_that_race_with_the_end_of_the_process_do_no_harm() {
    for _ in 0..200 {
        let (tx, rx) = mpsc::channel::<Waker>();
        thread::scope(|s| {
            s.spawn(move || {
                for waker in rx {
                    waker.wake_by_ref();
                    drop(waker.clone());
                    waker.wake();
                }
            });
            let (_, outcome) = run_small(tx);
            assert_eq!(outcome, 2);
        });
    }
}

/// Two fibres that hand a waker out and end.
fn run_small(tx: mpsc::Sender<Waker>) -> ((), usize) {
    let pool =
        fibra_std::SizeClasses::in_parent(&fibra_std::table([fibra_std::MemReq::new(512, 8)]), fibra_std::Malloc)
            .unwrap();
    let (value, outcome) = fibra_std::run_in(&pool, |p| {
        for _ in 0..2 {
            let tx = tx.clone();
            p.fibre()
                .waker()
                .spawn(async move {
                    tx.send(waker().await).unwrap();
                    yield_now().await;
                })
                .unwrap();
        }
        drop(tx);
    })
    .unwrap();
    (value, outcome.finished)
}
