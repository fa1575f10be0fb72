//! Wakers: cloned, woken and dropped anywhere, at any time; futures of the ecosystem; polls with other wakers than one's
//! own.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use common::{Checking, CountWakes, Tally, Trace, assert_outcome, failure, hub, rounds, run};
use fibra_core::{Cause, Hub, HubCore, Idle, Setup, SpawnErrorKind, WakeCell, WakeHub, yield_now};
use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// Gives a clone of the awaiting fibre's waker.
async fn my_waker() -> Waker {
    poll_fn(|cx| Poll::Ready(cx.waker().clone())).await
}

/// Parks once, until something wakes the fibre.
async fn park() {
    let mut parked = false;
    poll_fn(|_| if std::mem::replace(&mut parked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

mod in_a_closed_process {
    use super::*;

    #[test]
    fn a_fibre_that_keeps_its_own_waker_collapses() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            p.spawn(async {
                let waker = my_waker().await;
                let twin = waker.clone();
                assert!(waker.will_wake(&twin));
                pending::<()>().await;
                drop((waker, twin));
            })
            .unwrap();
        });
        assert_outcome(outcome, [0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_clone_wakes_nobody_and_outlives_all() {
        let kept = RefCell::new(None);
        {
            let checking = Checking::new();
            let outcome = run(&checking, |p| {
                let kept = &kept;
                p.spawn(async move {
                    let waker = my_waker().await;
                    waker.wake_by_ref();
                    *kept.borrow_mut() = Some(waker);
                    park().await;
                })
                .unwrap();
            });
            assert_outcome(outcome, [0, 1, 0, 0, 0]);
        }
        let waker = kept.into_inner().unwrap();
        drop(waker.clone());
        waker.wake_by_ref();
        std::thread::scope(|scope| scope.spawn(|| drop(waker.clone())).join()).unwrap();
        waker.wake();
    }

    #[test]
    fn a_fibre_with_a_waker_needs_a_hub() {
        let checking = Checking::new();
        run(&checking, |p| {
            let error = p.fibre().waker().spawn(rounds(1)).unwrap_err();
            assert_eq!(error.kind, SpawnErrorKind::NoWakeCell);
            assert!(p.stop_handle().is_none());
        });
    }
}

mod ecosystem {
    use super::*;

    #[test]
    fn futures_unordered_reads_from_many_channels() {
        let checking = Checking::new();
        let seen = Trace::new();
        let outcome = run(&checking, |p| {
            let (mut writers, mut readers) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let (w, r) = p.channel::<usize>().unwrap();
                writers.push(w);
                readers.push(r);
            }
            let seen = &seen;
            p.spawn(async move {
                let reads = readers.iter_mut().map(|r| async { r.read().await });
                let mut reads: FuturesUnordered<_> = reads.collect();
                while let Some(value) = reads.next().await {
                    seen.push(value);
                }
            })
            .unwrap();
            p.spawn(async move {
                for nth in [3, 1, 4, 0, 2] {
                    writers[nth].write(nth).await;
                    rounds(2).await;
                }
            })
            .unwrap();
        });
        assert_eq!(seen.take(), [3, 1, 4, 0, 2]);
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    #[test]
    fn futures_unordered_of_dead_reads_collapses() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let channels: Vec<_> = (0..5).map(|_| p.channel::<u8>().unwrap()).collect();
            let (writers, mut readers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
            p.spawn(async move {
                let reads = readers.iter_mut().map(|r| r.read());
                let mut reads: FuturesUnordered<_> = reads.collect();
                while reads.next().await.is_some() {}
                unreachable!("nobody writes");
            })
            .unwrap();
            p.spawn(async move {
                for w in writers {
                    yield_now().await;
                    drop(w);
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn futures_unordered_is_told_of_the_end() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let channels: Vec<_> = (0..4).map(|_| p.channel::<u8>().unwrap()).collect();
            let (writers, mut readers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
            p.spawn(async move {
                let reads = readers.iter_mut().map(|r| r.read_or_end());
                let ends: Vec<_> = reads.collect::<FuturesUnordered<_>>().collect().await;
                assert_eq!(ends, [None; 4]);
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                drop(writers);
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    #[test]
    fn select_and_join_macros() {
        let checking = Checking::new();
        let seen = Trace::new();
        let outcome = run(&checking, |p| {
            let (mut wa, mut ra) = p.channel::<u32>().unwrap();
            let (mut wb, mut rb) = p.channel::<u32>().unwrap();
            let seen = &seen;
            p.spawn(async move {
                use futures::FutureExt;
                for _ in 0..4 {
                    futures::select_biased! {
                        a = ra.read().fuse() => seen.push(('a', a)),
                        b = rb.read().fuse() => seen.push(('b', b)),
                    }
                }
                let (a, b) = futures::join!(ra.read(), rb.read());
                seen.push(('j', a + b));
            })
            .unwrap();
            p.spawn(async move {
                for n in 0..2 {
                    wb.write(n).await;
                    wa.write(n).await;
                }
                futures::join!(wa.write(10), wb.write(20));
            })
            .unwrap();
        });
        let seen = seen.take();
        assert_eq!(seen.iter().filter(|(name, _)| *name == 'a').count(), 2);
        assert_eq!(seen.iter().filter(|(name, _)| *name == 'b').count(), 2);
        assert_eq!(seen.last(), Some(&('j', 30)));
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    #[test]
    fn spawning_and_yielding_inside_a_combinator() {
        let checking = Checking::new();
        let count = Cell::new(0);
        let outcome = run(&checking, |p| {
            let count = &count;
            p.spawn(async move {
                let children = (0..5).map(|_| async move {
                    p.spawn_next(async move { count.set(count.get() + 1) }).await.unwrap();
                    yield_now().await;
                });
                children.collect::<FuturesUnordered<_>>().collect::<Vec<()>>().await;
            })
            .unwrap();
        });
        assert_eq!(count.get(), 5);
        assert_outcome(outcome, [6, 0, 0, 0, 0]);
    }

    #[test]
    fn block_on_in_the_setup_closure() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let both = futures::future::join(w.write(1), r.read());
            assert_eq!(futures::executor::block_on(both).1, 1);
            futures::executor::block_on(yield_now());
            futures::executor::block_on(p.spawn_next(rounds(1))).unwrap();
            let (w, mut r) = p.channel::<u8>().unwrap();
            drop(w);
            assert_eq!(futures::executor::block_on(r.read_or_end()), None);
        });
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }

    /// A boxed read that two fibres take turns to poll, each with its own context.
    #[test]
    fn a_read_is_polled_by_one_fibre_after_the_other() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let read = Box::pin(async move { r.read().await });
            let shared = Rc::new(RefCell::new(read));
            let (first, second) = (shared.clone(), shared);
            p.spawn(async move {
                for _ in 0..3 {
                    poll_fn(|cx| Poll::Ready(first.borrow_mut().as_mut().poll(cx).is_pending())).await;
                    yield_now().await;
                }
            })
            .unwrap();
            p.spawn(async move {
                rounds(1).await;
                poll_fn(|cx| Poll::Ready(second.borrow_mut().as_mut().poll(cx).is_pending())).await;
                rounds(6).await;
                assert_eq!(poll_fn(|cx| second.borrow_mut().as_mut().poll(cx)).await, 5);
            })
            .unwrap();
            p.spawn(async move {
                rounds(9).await;
                w.write(5).await;
            })
            .unwrap();
        });
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }
}

/// A fibre polls its leaf with a foreign waker: the waker is woken, and the fibre too.
#[test]
fn a_leaf_polled_with_a_foreign_waker_wakes_both() {
    let checking = Checking::new();
    let wakes = CountWakes::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let waker = Waker::from(wakes.clone());
        p.spawn(async move {
            let mut read = r.read();
            let value = poll_fn(|_| Pin::new(&mut read).poll(&mut Context::from_waker(&waker))).await;
            assert_eq!(value, 3);
        })
        .unwrap();
        p.spawn(async move { w.write(3).await }).unwrap();
    });
    assert_eq!(wakes.wakes(), 1);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// Polled with one waker, then with another, then with the fibre's own: the last one counts, and none leaks.
#[test]
fn the_last_waker_counts() {
    let checking = Checking::new();
    let (first, second) = (CountWakes::new(), CountWakes::new());
    let outcome = run(&checking, |p| {
        let (first, second) = (Waker::from(first.clone()), Waker::from(second.clone()));
        for own_last in [false, true] {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let (first, second) = (first.clone(), second.clone());
            p.spawn(async move {
                let mut read = r.read();
                for waker in [&first, &first, &second] {
                    let cx = &mut Context::from_waker(waker);
                    assert!(Pin::new(&mut read).poll(cx).is_pending());
                }
                if own_last {
                    read.await;
                } else {
                    poll_fn(|_| Pin::new(&mut read).poll(&mut Context::from_waker(&second))).await;
                }
            })
            .unwrap();
            p.spawn(async move { w.write(3).await }).unwrap();
        }
    });
    assert_eq!((first.wakes(), second.wakes()), (0, 1));
    assert_eq!((std::sync::Arc::strong_count(&first), std::sync::Arc::strong_count(&second)), (1, 1));
    assert_outcome(outcome, [4, 0, 0, 0, 0]);
}

mod with_a_hub {
    use super::*;

    #[test]
    fn a_fibre_is_woken_from_another_thread() {
        let checking = Checking::new();
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || {
                for waker in receiver {
                    let twin = waker.clone();
                    drop(waker);
                    twin.wake();
                }
            });
            let (_, outcome) = Setup::new(&checking)
                .hub(hub!(3))
                .run(|p| {
                    for _ in 0..3 {
                        let sender = sender.clone();
                        p.fibre()
                            .waker()
                            .spawn(async move {
                                for _ in 0..100 {
                                    sender.send(my_waker().await).unwrap();
                                    park().await;
                                }
                            })
                            .unwrap();
                    }
                })
                .unwrap();
            drop(sender);
            outcome
        });
        checking.assert_empty();
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }

    #[test]
    fn a_fibre_collapses_when_its_last_waker_is_dropped_elsewhere() {
        let checking = Checking::new();
        let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || receiver.into_iter().for_each(drop));
            Setup::new(&checking)
                .hub(hub!(1))
                .run(move |p| {
                    p.fibre()
                        .waker()
                        .spawn(async move {
                            sender.send(my_waker().await).unwrap();
                            drop(sender);
                            pending::<()>().await;
                        })
                        .unwrap();
                })
                .unwrap()
                .1
        });
        checking.assert_empty();
        assert_outcome(outcome, [0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_fibre_with_a_cell_and_no_clone_collapses() {
        let checking = Checking::new();
        let (_, outcome) =
            Setup::new(&checking).hub(hub!(1)).run(|p| p.fibre().waker().spawn(pending()).unwrap()).unwrap();
        assert_outcome(outcome, [0, 1, 0, 0, 0]);
    }

    /// Wakers that outlive the fibre, the process and its memory; the cell comes back with the last of them.
    #[test]
    fn wakers_outlive_the_process() {
        let hub = hub!(1);
        let kept = Mutex::new(Vec::new());
        {
            let checking = Checking::new();
            let (_, outcome) = Setup::new(&checking)
                .hub(hub)
                .run(|p| {
                    let kept = &kept;
                    p.fibre()
                        .waker()
                        .spawn(async move {
                            for _ in 0..3 {
                                let waker = my_waker().await;
                                kept.lock().unwrap().push(waker);
                            }
                        })
                        .unwrap();
                })
                .unwrap();
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
        }
        let spawns = |expected: bool| {
            let checking = Checking::new();
            let mut spawned = false;
            Setup::new(&checking).hub(hub).run(|p| spawned = p.fibre().waker().spawn(rounds(1)).is_ok()).unwrap();
            assert_eq!(spawned, expected);
        };
        spawns(false);
        let mut kept = kept.into_inner().unwrap();
        kept.pop().unwrap().wake();
        kept[0].wake_by_ref();
        drop(kept.remove(0).clone());
        spawns(false);
        std::thread::scope(|scope| scope.spawn(move || drop(kept)).join()).unwrap();
        spawns(true);
    }

    #[test]
    fn cells_are_used_up_and_used_again() {
        let checking = Checking::new();
        let (_, outcome) = Setup::new(&checking)
            .hub(hub!(2))
            .run(|p| {
                p.fibre().waker().spawn(rounds(1)).unwrap();
                p.fibre().waker().spawn(rounds(1)).unwrap();
                let error = p.fibre().waker().spawn(rounds(1)).unwrap_err();
                assert_eq!(error.kind, SpawnErrorKind::NoWakeCell);
                p.spawn(async move {
                    rounds(4).await;
                    for _ in 0..10 {
                        p.fibre().waker().spawn(rounds(0)).unwrap();
                        p.fibre().waker().spawn(rounds(0)).unwrap();
                        assert!(p.fibre().waker().spawn(rounds(0)).is_err());
                        rounds(2).await;
                    }
                })
                .unwrap();
            })
            .unwrap();
        checking.assert_empty();
        assert_outcome(outcome, [23, 0, 0, 0, 0]);
    }

    /// A fibre that was woken, and whose process then stops before it looks: its cell is free for the next process.
    #[test]
    fn a_wake_up_that_was_not_heard_does_not_keep_its_cell() {
        let hub = hub!(1);
        for _ in 0..2 {
            let checking = Checking::new();
            let (_, outcome) = Setup::new(&checking)
                .hub(hub)
                .run(|p| {
                    p.fibre()
                        .waker()
                        .spawn(async move {
                            my_waker().await.wake();
                            p.stop();
                            pending::<()>().await;
                        })
                        .expect("nobody else uses the hub");
                })
                .unwrap();
            assert_outcome(outcome, [0, 0, 0, 1, 0]);
        }
    }

    /// The same within one process: the fibre that was woken has finished, so that its cell is free.
    #[test]
    fn a_wake_up_of_a_finished_fibre_does_not_keep_its_cell() {
        let checking = Checking::new();
        let (_, outcome) = Setup::new(&checking)
            .hub(hub!(1))
            .run(|p| {
                p.fibre().waker().spawn(async { my_waker().await.wake() }).unwrap();
                p.spawn(async move {
                    rounds(2).await;
                    p.fibre().waker().spawn(rounds(1)).expect("the cell's fibre has finished");
                })
                .unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }

    #[test]
    fn a_hub_serves_one_process_at_a_time() {
        let hub = hub!(1);
        let checking = &Checking::new();
        let (_, outcome) = Setup::new(checking)
            .hub(hub)
            .run(|p| {
                let result = Setup::new(checking).hub(hub).run(|_| unreachable!("it is taken"));
                let failure = failure::<()>(result);
                assert_eq!((failure.cause, failure.value), (Cause::HubTaken, None));
                p.spawn(async move { assert!(Setup::new(checking).hub(hub).run(|_| ()).is_err()) }).unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
        assert!(Setup::new(checking).hub(hub).run(|_| ()).is_ok(), "and it is free again");
    }

    #[test]
    fn a_hub_is_free_again_after_a_panic() {
        let hub = hub!(1);
        let checking = Checking::new();
        let text = common::panic_of(|| {
            Setup::new(&checking).hub(hub).run(|p| {
                let fibre = p.fibre().waker();
                fibre.spawn(async { panic!("in the fibre") }).unwrap();
            })
        });
        assert_eq!(text, "in the fibre");
        let again = Setup::new(&checking).hub(hub).run(|p| p.fibre().waker().spawn(rounds(1)).is_ok());
        assert!(again.unwrap().0);
    }

    #[test]
    fn a_process_is_stopped_from_another_thread() {
        let checking = Checking::new();
        let hub = hub!(1);
        let (_, outcome) = std::thread::scope(|scope| {
            Setup::new(&checking)
                .hub(hub)
                .run(|p| {
                    let handle = p.stop_handle().unwrap();
                    let sleeper = p.fibre().waker();
                    sleeper
                        .spawn(async move {
                            let _waker = my_waker().await;
                            scope.spawn(move || handle.stop());
                            loop {
                                park().await;
                            }
                        })
                        .unwrap();
                })
                .unwrap()
        });
        assert_outcome(outcome, [0, 0, 0, 1, 0]);
        checking.assert_empty();
    }

    #[test]
    fn a_stop_handle_of_an_old_process_stops_no_new_one() {
        let checking = Checking::new();
        let hub = hub!(1);
        let (old, _) = Setup::new(&checking).hub(hub).run(|p| p.stop_handle().unwrap()).unwrap();
        old.stop();
        let (_, outcome) = Setup::new(&checking)
            .hub(hub)
            .run(|p| {
                old.stop();
                p.spawn(rounds(5)).unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }

    /// A wait on a channel and one on a waker: a fibre is kept by either.
    #[test]
    fn a_fibre_waits_for_a_channel_and_a_waker() {
        let checking = Checking::new();
        let kept = Rc::new(RefCell::new(None::<Waker>));
        let (_, outcome) = Setup::new(&checking)
            .hub(hub!(1))
            .run(|p| {
                let (w, mut r) = p.channel::<u8>().unwrap();
                let (keep, kept) = (kept.clone(), kept.clone());
                p.fibre()
                    .waker()
                    .spawn(async move {
                        *keep.borrow_mut() = Some(my_waker().await);
                        let woken = pin!(park());
                        let read = pin!(r.read());
                        let first = futures::future::select(woken, read).await;
                        assert!(matches!(first, futures::future::Either::Left(_)));
                    })
                    .unwrap();
                p.spawn(async move {
                    rounds(1).await;
                    drop(w);
                    rounds(3).await;
                    kept.take().unwrap().wake();
                })
                .unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    /// Fibre `b` polls its leaf with fibre `a`'s waker: both run when the value comes.
    #[test]
    fn a_leaf_polled_with_another_fibres_waker() {
        let checking = Checking::new();
        let shared = Rc::new(RefCell::new(None::<Waker>));
        let a_polls = Cell::new(0);
        let (_, outcome) = Setup::new(&checking)
            .hub(hub!(2))
            .run(|p| {
                let (mut w, mut r) = p.channel::<u8>().unwrap();
                let (publish, shared) = (shared.clone(), shared.clone());
                let a_polls = &a_polls;
                p.fibre()
                    .waker()
                    .spawn(poll_fn(move |cx| {
                        a_polls.set(a_polls.get() + 1);
                        if a_polls.get() == 1 {
                            *publish.borrow_mut() = Some(cx.waker().clone());
                            return Poll::Pending;
                        }
                        Poll::Ready(())
                    }))
                    .unwrap();
                p.fibre()
                    .waker()
                    .spawn(async move {
                        let waker = shared.take().unwrap();
                        let mut read = r.read();
                        poll_fn(|_| Pin::new(&mut read).poll(&mut Context::from_waker(&waker))).await;
                    })
                    .unwrap();
                p.spawn(async move {
                    rounds(2).await;
                    w.write(1).await;
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(a_polls.get(), 2);
        checking.assert_empty();
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }

    /// Wakes that race with parking, with the end of fibres and with the end of processes, many times.
    #[test]
    fn wakes_race_with_everything() {
        let hub = hub!(4);
        let pool = Mutex::new(Vec::<Waker>::new());
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for seed in 0..3_usize {
                let (pool, done) = (&pool, &done);
                scope.spawn(move || {
                    let mut state = seed + 1;
                    while done.load(Ordering::Acquire) == 0 {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let mut wakers = pool.lock().unwrap();
                        if wakers.is_empty() {
                            drop(wakers);
                            std::thread::yield_now();
                            continue;
                        }
                        let nth = (state >> 33) % wakers.len();
                        let waker = wakers.swap_remove(nth);
                        drop(wakers);
                        match (state >> 40) % 4 {
                            0 => drop(waker),
                            1 => drop(waker.clone()),
                            2 => waker.wake_by_ref(),
                            _ => {
                                let twin = waker.clone();
                                drop(waker);
                                twin.wake();
                            }
                        }
                    }
                });
            }
            for round in 0..200 {
                let checking = Checking::new();
                let (spawned, outcome) = Setup::new(&checking)
                    .hub(hub)
                    .run(|p| {
                        let mut spawned = 0;
                        for n in 0..4 {
                            let pool = &pool;
                            let fibre = async move {
                                for _ in 0..n + round % 3 {
                                    let waker = my_waker().await;
                                    pool.lock().unwrap().push(waker);
                                    park().await;
                                }
                            };
                            // A waker of the last round may still hold a cell.
                            spawned += usize::from(p.fibre().waker().spawn(fibre).is_ok());
                        }
                        spawned
                    })
                    .unwrap();
                assert_eq!(outcome.finished + outcome.collapsed, spawned, "{outcome}");
                checking.assert_empty();
            }
            done.store(1, Ordering::Release);
        });
    }
}

mod borrowed_by_other_threads {
    use super::*;

    /// The reference to the process's waker is used by a scoped thread during the poll.
    #[test]
    fn a_reference_is_cloned_woken_and_dropped() {
        for with_cell in [false, true] {
            let checking = Checking::new();
            let polls = Cell::new(0);
            let (_, outcome) = Setup::new(&checking)
                .hub(hub!(1))
                .run(|p| {
                    let polls = &polls;
                    let fibre = poll_fn(move |cx| {
                        polls.set(polls.get() + 1);
                        if polls.get() == 3 {
                            return Poll::Ready(());
                        }
                        let waker = cx.waker();
                        std::thread::scope(|scope| {
                            scope.spawn(|| {
                                let clone = waker.clone();
                                waker.wake_by_ref();
                                drop(clone);
                            });
                        });
                        Poll::Pending
                    });
                    if with_cell {
                        p.fibre().waker().spawn(fibre).unwrap();
                    } else {
                        p.spawn(fibre).unwrap();
                    }
                })
                .unwrap();
            assert_eq!(polls.get(), 3);
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
        }
    }

    /// A scoped thread polls a future with it, which clones it and keeps the clone until it is woken by yet another.
    #[test]
    fn a_scoped_thread_polls_with_it() {
        let checking = Checking::new();
        let (_, outcome) = Setup::new(&checking)
            .hub(hub!(1))
            .run(|p| {
                p.fibre()
                    .waker()
                    .spawn(async {
                        let (sender, mut receiver) = futures::channel::oneshot::channel::<u8>();
                        let mut sender = Some(sender);
                        let value = poll_fn(|cx| {
                            let waker = cx.waker();
                            let polled = std::thread::scope(|scope| {
                                let poll = || {
                                    let cx = &mut Context::from_waker(waker);
                                    Pin::new(&mut receiver).poll(cx)
                                };
                                scope.spawn(poll).join().unwrap()
                            });
                            if let Some(sender) = sender.take() {
                                std::thread::spawn(move || sender.send(9).unwrap());
                            }
                            polled
                        })
                        .await;
                        assert_eq!(value, Ok(9));
                    })
                    .unwrap();
            })
            .unwrap();
        checking.assert_empty();
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }

    /// Many threads wake the running fibre at once, while it uses its channels.
    #[test]
    fn many_threads_wake_while_the_fibre_communicates() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            p.spawn(async move { while r.read().await < 20 {} }).unwrap();
            p.spawn(async move {
                for n in 0..=20 {
                    let mut write = pin!(w.write(n));
                    poll_fn(|cx| {
                        let waker = cx.waker();
                        let waker = SyncRef(waker);
                        std::thread::scope(|scope| {
                            for _ in 0..2 {
                                scope.spawn(|| {
                                    for _ in 0..10 {
                                        waker.0.wake_by_ref();
                                        drop(waker.0.clone());
                                    }
                                });
                            }
                            write.as_mut().poll(cx)
                        })
                    })
                    .await;
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    struct SyncRef<'a>(&'a Waker);
}

mod hubs_of_other_makes {
    use super::*;

    struct Nothing;
    impl Idle for Nothing {
        fn wait(&self) {}
        fn wake(&self) {}
    }
    static NOTHING: Nothing = Nothing;

    /// A hub is asked once per process for what it shares; one that changed its mind would mix two processes up.
    #[test]
    fn the_core_is_asked_for_once() {
        static CORES: [HubCore; 2] = [const { HubCore::new(&NOTHING) }; 2];
        static CELL: WakeCell = WakeCell::new();
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        struct Fickle;
        impl WakeHub for Fickle {
            fn core(&'static self) -> &'static HubCore {
                &CORES[ASKED.fetch_add(1, Ordering::Relaxed) % 2]
            }

            fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell> {
                (nth == 0).then_some(&CELL)
            }
        }
        static FICKLE: Fickle = Fickle;
        let checking = Checking::new();
        for n in 1..=4 {
            Setup::new(&checking).hub(&FICKLE).run(|_| ()).unwrap();
            assert_eq!(ASKED.load(Ordering::Relaxed), n);
        }
    }

    /// A hub that panics when it is asked for a cell: the fibre's block goes back.
    #[test]
    fn a_hub_panics_when_asked_for_a_cell() {
        static CORE: HubCore = HubCore::new(&NOTHING);
        struct Broken;
        impl WakeHub for Broken {
            fn core(&'static self) -> &'static HubCore {
                &CORE
            }

            fn candidate(&'static self, _: usize) -> Option<&'static WakeCell> {
                panic!("no cells today")
            }
        }
        static BROKEN: Broken = Broken;
        let checking = Checking::new();
        let tally = Tally::default();
        let (_, outcome) = Setup::new(&checking)
            .hub(&BROKEN)
            .run(|p| {
                let token = tally.token();
                let fibre = async move { drop(token) };
                let text = common::panic_of(|| p.fibre().waker().spawn(fibre).is_ok());
                assert_eq!(text, "no cells today");
                assert_eq!(tally.alive(), 0);
            })
            .unwrap();
        assert_outcome(outcome, [0; 5]);
        checking.assert_empty();
    }

    /// Two hubs share their cells: a cell serves one fibre at a time all the same.
    #[test]
    fn hubs_that_share_their_cells() {
        static CORES: [HubCore; 2] = [const { HubCore::new(&NOTHING) }; 2];
        static CELL: WakeCell = WakeCell::new();
        struct Sharing(usize);
        impl WakeHub for Sharing {
            fn core(&'static self) -> &'static HubCore {
                &CORES[self.0]
            }

            fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell> {
                (nth == 0).then_some(&CELL)
            }
        }
        static SHARING: [Sharing; 2] = [Sharing(0), Sharing(1)];
        let checking = Checking::new();
        let (_, outcome) = Setup::new(&checking)
            .hub(&SHARING[0])
            .run(|p| {
                p.fibre()
                    .waker()
                    .spawn(async {
                        let waker = my_waker().await;
                        Setup::new(&checking)
                            .hub(&SHARING[1])
                            .run(|q| assert!(q.fibre().waker().spawn(rounds(1)).is_err()))
                            .unwrap();
                        waker.wake();
                        park().await;
                    })
                    .unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
        checking.assert_empty();
    }

    #[test]
    fn a_hub_of_no_cells() {
        static EMPTY: Hub<0> = Hub::new(&NOTHING);
        let checking = Checking::new();
        let (_, outcome) = Setup::new(&checking)
            .hub(&EMPTY)
            .run(|p| {
                assert!(p.fibre().waker().spawn(rounds(1)).is_err());
                p.spawn(rounds(3)).unwrap();
            })
            .unwrap();
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }
}
