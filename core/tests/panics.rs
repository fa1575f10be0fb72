//! C10: a panic takes its process down in order, or its fibre alone; nothing leaks, and nothing is destroyed twice.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};

use common::{Caught, Checking, OnDrop, P, Tally, Trace, assert_outcome, counts, failure, panic_of, rounds, run};
use fibra_core::{Cause, Failure, Outcome, Setup, yield_now};

type Run<R> = Result<(R, Outcome), Failure<R>>;

/// Runs with the host's way of catching panics.
fn caught<'env, R>(
    checking: &'env Checking,
    isolate: bool,
    setup: impl for<'p> FnOnce(&'p P<'p, 'env, 'env>) -> R,
) -> (Run<R>, Vec<String>) {
    let mut caught = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
    let process = Setup::new(checking).catch(&mut catch);
    let process = if isolate { process.isolate_panics() } else { process };
    let result = process.run(setup);
    checking.assert_empty();
    (result, caught.0)
}

/// Spawns a fibre of each kind: one that waits to read, to write, for itself; one that is ready; one that has finished.
fn spawn_company<'p>(p: &'p P<'p, '_, '_>, tally: &'p Tally) {
    let (w, mut r) = p.channel::<u8>().unwrap();
    let token = tally.token();
    p.spawn(async move {
        let _mine = (token, w);
        r.read().await;
    })
    .unwrap();
    let (mut w, r) = p.channel().unwrap();
    let token = tally.token();
    p.spawn(async move {
        let _r = r;
        w.write(token).await;
    })
    .unwrap();
    let token = tally.token();
    p.spawn(async move {
        let _token = token;
        loop {
            yield_now().await;
        }
    })
    .unwrap();
    let token = tally.token();
    p.spawn(async move { drop(token) }).unwrap();
}

mod without_a_hook {
    use super::*;

    #[test]
    fn a_fibre_panics() {
        for after in 0..4 {
            let checking = Checking::new();
            let tally = Tally::default();
            let text = panic_of(|| {
                fibra_core::run(&checking, |p| {
                    spawn_company(p, &tally);
                    p.spawn(async move {
                        rounds(after).await;
                        panic!("after {after} rounds");
                    })
                    .unwrap();
                    spawn_company(p, &tally);
                })
            });
            assert_eq!(text, format!("after {after} rounds"));
            assert_eq!(tally.alive(), 0);
            checking.assert_empty();
        }
    }

    #[test]
    fn the_closure_panics() {
        let checking = Checking::new();
        let tally = Tally::default();
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| -> () {
                spawn_company(p, &tally);
                let _channel = p.channel::<u8>().unwrap();
                panic!("in the closure");
            })
        });
        assert_eq!(text, "in the closure");
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }

    #[test]
    fn a_destructor_panics_while_its_fibre_collapses() {
        let checking = Checking::new();
        let tally = Tally::default();
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| {
                spawn_company(p, &tally);
                let token = tally.token();
                p.spawn(async move {
                    let _token = token;
                    let _guard = OnDrop(|| panic!("in a destructor"));
                    pending::<()>().await;
                })
                .unwrap();
            })
        });
        assert_eq!(text, "in a destructor");
        assert_eq!(tally.alive(), 0, "what else the fibre had is dropped too");
        checking.assert_empty();
    }

    #[test]
    fn a_destructor_panics_while_the_process_closes() {
        let checking = Checking::new();
        let tally = Tally::default();
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| {
                for n in 0..5 {
                    let (w, mut r) = p.channel::<u8>().unwrap();
                    let token = tally.token();
                    p.spawn(async move {
                        let _mine = (token, w);
                        let _guard = OnDrop(move || assert!(n != 2, "the third destructor"));
                        r.read().await;
                    })
                    .unwrap();
                }
            })
        });
        assert_eq!(text, "the third destructor");
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }

    #[test]
    fn a_destructor_panics_in_a_fibre_that_was_ready() {
        let checking = Checking::new();
        let tally = Tally::default();
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| {
                spawn_company(p, &tally);
                let token = tally.token();
                p.spawn(async move {
                    let _token = token;
                    let _guard = OnDrop(|| panic!("of a ready fibre"));
                    rounds(10).await;
                })
                .unwrap();
                p.spawn(async move { p.stop() }).unwrap();
                spawn_company(p, &tally);
            })
        });
        assert_eq!(text, "of a ready fibre");
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }

    /// The future is dropped after its last poll, by the scheduler.
    #[test]
    fn a_destructor_panics_after_its_fibre_finished() {
        let checking = Checking::new();
        let tally = Tally::default();
        let text = panic_of(|| {
            fibra_core::run(&checking, |p| {
                spawn_company(p, &tally);
                let guard = OnDrop(|| panic!("after the end"));
                let token = tally.token();
                p.spawn(poll_fn(move |_| {
                    let _ = (&guard, &token);
                    Poll::Ready(())
                }))
                .unwrap();
            })
        });
        assert_eq!(text, "after the end");
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }

    #[test]
    fn the_visitor_panics() {
        for deadlocks in [false, true] {
            let checking = Checking::new();
            let tally = Tally::default();
            let text = panic_of(|| {
                Setup::new(&checking).report(&mut |report| panic!("{}", report.fate() as u8)).run(|p| {
                    for _ in 0..3 {
                        let token = tally.token();
                        let (w, mut r) = p.channel::<u8>().unwrap();
                        p.spawn(async move {
                            let _mine = (token, deadlocks.then_some(w));
                            r.read().await;
                        })
                        .unwrap();
                    }
                })
            });
            assert_eq!(text, if deadlocks { "1" } else { "0" });
            assert_eq!(tally.alive(), 0);
            checking.assert_empty();
        }
    }

    #[test]
    fn a_constructor_panics() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let before = checking.live();
            let text = panic_of(|| {
                let _ = p.spawn_with(|| -> std::future::Ready<()> { panic!("making") });
            });
            assert_eq!(text, "making");
            let text = panic_of(|| {
                let options = p.fibre().name("never");
                let _ = options.spawn_with(|| -> std::future::Ready<()> { panic!("making too") });
            });
            assert_eq!(text, "making too");
            assert_eq!(checking.live(), before);
            p.spawn(rounds(1)).unwrap();
        });
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }
}

mod with_a_hook {
    use super::*;

    #[test]
    fn a_fibre_panics_and_the_others_are_stopped_in_order() {
        let checking = Checking::new();
        let tally = Tally::default();
        let (result, texts) = caught(&checking, false, |p| {
            spawn_company(p, &tally);
            p.spawn(async {
                yield_now().await;
                panic!("boom");
            })
            .unwrap();
            7
        });
        let failure = failure(result);
        assert_eq!(texts, ["boom"]);
        assert_eq!(failure.cause, Cause::Panicked);
        assert_eq!(failure.value, Some(7));
        assert_outcome(failure.outcome, [1, 0, 0, 3, 1]);
        assert_eq!(tally.alive(), 0);
    }

    #[test]
    fn the_closure_panics() {
        let checking = Checking::new();
        let tally = Tally::default();
        let (result, texts) = caught(&checking, false, |p| -> u8 {
            spawn_company(p, &tally);
            panic!("early");
        });
        let failure = failure(result);
        assert_eq!(texts, ["early"]);
        assert_eq!((failure.cause, failure.value), (Cause::Panicked, None));
        assert_outcome(failure.outcome, [0, 0, 0, 4, 0]);
        assert_eq!(tally.alive(), 0);
    }

    /// Each destructor panics; each panic is caught, and the next fibre is destroyed.
    #[test]
    fn many_destructors_panic_while_closing() {
        for stop in [false, true] {
            let checking = Checking::new();
            let tally = Tally::default();
            let (result, texts) = caught(&checking, false, |p| {
                for n in 0..5 {
                    let (w, mut r) = p.channel::<u8>().unwrap();
                    let token = tally.token();
                    p.spawn(async move {
                        let _mine = (token, w);
                        let _guard = OnDrop(move || panic!("{n}"));
                        r.read().await;
                    })
                    .unwrap();
                }
                if stop {
                    p.spawn(async move { p.stop() }).unwrap();
                }
            });
            let failure = failure(result);
            assert_eq!(failure.cause, Cause::Panicked);
            assert_eq!(texts.len(), 5);
            let fibres = counts(failure.outcome).iter().sum::<usize>();
            assert_eq!(fibres, if stop { 6 } else { 5 });
            assert_eq!(tally.alive(), 0);
        }
    }

    #[test]
    fn the_visitor_panics_and_the_rest_is_released() {
        let checking = Checking::new();
        let mut texts = Caught::default();
        let mut catch = |f: &mut dyn FnMut()| texts.catch(f);
        let result = Setup::new(&checking).catch(&mut catch).report(&mut |_| panic!("visitor")).run(|p| {
            for _ in 0..3 {
                let (w, mut r) = p.channel::<u8>().unwrap();
                p.spawn(async move {
                    let _w = w;
                    r.read().await;
                })
                .unwrap();
            }
        });
        assert_eq!(failure(result).cause, Cause::Panicked);
        assert!(!texts.0.is_empty());
        checking.assert_empty();
    }

    /// A hook that never calls what it is given: nothing runs, and nothing leaks.
    #[test]
    fn a_hook_that_does_nothing() {
        let checking = Checking::new();
        let mut catch = |_: &mut dyn FnMut()| false;
        let result = Setup::new(&checking).catch(&mut catch).run(|_| ());
        let failure = failure(result);
        assert_eq!((failure.cause, failure.value), (Cause::Panicked, None));
        checking.assert_empty();
    }

    /// A hook that calls everything twice.
    #[test]
    fn a_hook_that_calls_twice() {
        let checking = Checking::new();
        let tally = Tally::default();
        let mut texts = Caught::default();
        let mut catch = |f: &mut dyn FnMut()| texts.catch(f) | texts.catch(f);
        let _ = Setup::new(&checking).catch(&mut catch).isolate_panics().run(|p| {
            spawn_company(p, &tally);
            p.spawn(async {
                yield_now().await;
                p.stop();
            })
            .unwrap();
        });
        assert_eq!(tally.alive(), 0);
        checking.assert_empty();
    }
}

mod isolated {
    use super::*;

    #[test]
    fn a_fibre_panics_alone() {
        let checking = Checking::new();
        let tally = Tally::default();
        let (result, texts) = caught(&checking, true, |p| {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let tally = &tally;
            for n in 0..3 {
                let token = tally.token();
                p.spawn(async move {
                    let _token = token;
                    rounds(n).await;
                    panic!("worker {n}");
                })
                .unwrap();
            }
            p.spawn(async move {
                rounds(6).await;
                w.write(1).await;
            })
            .unwrap();
            p.spawn(async move {
                assert_eq!(r.read().await, 1);
                assert_eq!(tally.alive(), 0);
            })
            .unwrap();
        });
        assert_eq!(texts, ["worker 0", "worker 1", "worker 2"]);
        assert_outcome(result.unwrap().1, [2, 0, 0, 0, 3]);
    }

    /// A panicking fibre's ends go: its neighbours collapse.
    #[test]
    fn the_neighbours_of_a_fibre_that_panicked_collapse() {
        let checking = Checking::new();
        let (result, _) = caught(&checking, true, |p| {
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            let (mut w2, mut r2) = p.channel::<u8>().unwrap();
            p.spawn(async move {
                loop {
                    w.write(1).await;
                }
            })
            .unwrap();
            p.spawn(async move {
                r.read().await;
                w2.write(1).await;
                panic!("in the middle");
            })
            .unwrap();
            p.spawn(async move {
                loop {
                    r2.read().await;
                }
            })
            .unwrap();
        });
        assert_outcome(result.unwrap().1, [0, 2, 0, 0, 1]);
    }

    #[test]
    fn destructors_panic_while_their_fibres_collapse() {
        let checking = Checking::new();
        let tally = Tally::default();
        let (result, texts) = caught(&checking, true, |p| {
            let (w, r) = p.channel::<u8>().unwrap();
            for n in 0..6 {
                let mut r = r.dup().unwrap();
                let token = tally.token();
                p.spawn(async move {
                    let _token = token;
                    let _guard = OnDrop(move || assert!(n % 2 == 0, "fibre {n}"));
                    r.read().await;
                })
                .unwrap();
            }
            drop(r);
            p.spawn(async move {
                yield_now().await;
                drop(w);
            })
            .unwrap();
        });
        assert_eq!(texts, ["fibre 1", "fibre 3", "fibre 5"]);
        assert_outcome(result.unwrap().1, [1, 3, 0, 0, 3]);
        assert_eq!(tally.alive(), 0);
    }

    /// A fibre that finished, and whose destructor then panics, is one fibre.
    #[test]
    fn each_fibre_is_counted_once() {
        let checking = Checking::new();
        let (result, texts) = caught(&checking, true, |p| {
            let guard = OnDrop(|| panic!("after the end"));
            p.spawn(poll_fn(move |_| {
                let _ = &guard;
                Poll::Ready(())
            }))
            .unwrap();
            p.spawn(rounds(1)).unwrap();
        });
        assert_eq!(texts, ["after the end"]);
        let (_, outcome) = result.unwrap();
        assert_eq!(counts(outcome).iter().sum::<usize>(), 2, "{outcome}");
    }

    /// The visitor's panic is not a fibre's: the collapses are counted all the same.
    #[test]
    fn the_visitor_panics_and_the_process_goes_on() {
        let checking = Checking::new();
        let mut texts = Caught::default();
        let mut calls = 0;
        let mut catch = |f: &mut dyn FnMut()| texts.catch(f);
        let mut visit = |_: &fibra_core::Report| {
            calls += 1;
            assert!(calls != 1, "the first report");
        };
        let result = Setup::new(&checking).catch(&mut catch).report(&mut visit).isolate_panics().run(|p| {
            for _ in 0..3 {
                p.spawn(pending()).unwrap();
            }
        });
        checking.assert_empty();
        let (_, outcome) = result.unwrap();
        assert_eq!(texts.0, ["the first report"]);
        assert!(calls >= 1);
        assert_outcome(outcome, [0, 3, 0, 0, 0]);
    }

    #[test]
    fn a_fibre_that_was_made_ready_in_its_poll_panics() {
        let checking = Checking::new();
        let (result, _) = caught(&checking, true, |p| {
            p.spawn(async move {
                let (mut w, mut r) = p.channel::<u8>().unwrap();
                futures::future::join(w.write(1), r.read()).await;
                panic!("it is in the queue now");
            })
            .unwrap();
            p.spawn(rounds(3)).unwrap();
        });
        assert_outcome(result.unwrap().1, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn a_fibre_that_woke_itself_panics() {
        let checking = Checking::new();
        let (result, _) = caught(&checking, true, |p| {
            p.spawn(poll_fn(|cx| {
                cx.waker().wake_by_ref();
                panic!("awake")
            }))
            .unwrap();
            p.spawn(rounds(3)).unwrap();
        });
        assert_outcome(result.unwrap().1, [1, 0, 0, 0, 1]);
    }

    /// The first panic unwinds through a guard that uses the runtime.
    #[test]
    fn a_guard_uses_the_process_while_a_panic_unwinds() {
        let checking = Checking::new();
        let trace = Trace::new();
        let (result, _) = caught(&checking, true, |p| {
            let trace = &trace;
            let (mut w, mut r) = p.channel::<u8>().unwrap();
            p.spawn(async move { trace.push(r.read().await) }).unwrap();
            p.spawn(async move {
                let _guard = OnDrop(|| {
                    w.try_write(1).unwrap();
                    p.spawn(async move { trace.push(2) }).unwrap();
                });
                yield_now().await;
                panic!("unwinding");
            })
            .unwrap();
        });
        assert_eq!(trace.take(), [1, 2]);
        assert_outcome(result.unwrap().1, [2, 0, 0, 0, 1]);
    }
}

/// A value whose destructor panics, in each place where the runtime drops values.
#[test]
fn a_values_destructor_panics_in_each_place() {
    for place in 0..6 {
        let checking = Checking::new();
        let (tally, armed) = (Tally::default(), Cell::new(true));
        let (result, texts) = caught(&checking, true, |p| {
            let (tally, armed) = (&tally, &armed);
            // Only the first one that is dropped panics.
            let bomb = move || OnDrop(move || assert!(!armed.replace(false), "a value"));
            let value = move || (bomb(), tally.token());
            let (mut w, mut r) = p.channel().unwrap();
            let (mut a, mut b) = p.two_way().unwrap();
            p.spawn(async move {
                match place {
                    // An unpolled write; one that waits; a forgotten one that the next operation takes back.
                    0 => drop(w.write(value())),
                    1 => {
                        let mut write = w.write(value());
                        assert!(common::poll_once(&mut write).await.is_pending());
                    }
                    2 => {
                        common::poll_and_forget(w.write(value())).await;
                        drop(w.write(value()));
                    }
                    // A value that was delivered and not claimed, and its endpoint goes.
                    3 => {
                        common::poll_and_forget(r.read()).await;
                        assert!(w.try_write(value()).is_ok());
                        drop(r);
                    }
                    4 => {
                        common::poll_and_forget(a.read()).await;
                        assert!(b.try_write(value()).is_ok());
                        drop(a);
                    }
                    _ => {
                        common::poll_and_forget(a.write(value())).await;
                        drop(a.read());
                    }
                }
            })
            .unwrap();
            p.spawn(rounds(4)).unwrap();
        });
        assert_eq!(texts, ["a value"], "place {place}");
        assert_outcome(result.unwrap().1, [1, 0, 0, 0, 1]);
        assert_eq!(tally.alive(), 0, "place {place}");
    }
}

mod foreign_wakers {
    use super::*;

    thread_local! {
        static PANIC_IN: Cell<&'static str> = const { Cell::new("") };
        static ALIVE: Cell<isize> = const { Cell::new(0) };
    }

    fn enter(what: &'static str) {
        if PANIC_IN.get() == what {
            PANIC_IN.set("");
            panic!("{what}");
        }
    }

    /// A waker that panics where it is told to, and counts its clones.
    fn bomb() -> Waker {
        static TABLE: RawWakerVTable = RawWakerVTable::new(
            |_| {
                enter("clone");
                ALIVE.set(ALIVE.get() + 1);
                RawWaker::new(std::ptr::null(), &TABLE)
            },
            |_| {
                ALIVE.set(ALIVE.get() - 1);
                enter("wake");
            },
            |_| enter("wake by reference"),
            |_| {
                ALIVE.set(ALIVE.get() - 1);
                enter("drop");
            },
        );
        ALIVE.set(ALIVE.get() + 1);
        // SAFETY: the table's functions use no data; they may be called in any order. (They are not to be called from
        // other threads, where they would count elsewhere and do no harm.)
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
    }

    #[test]
    fn a_clone_panics_and_nothing_is_posted() {
        ALIVE.set(0);
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            let waker = bomb();
            let cx = &mut Context::from_waker(&waker);
            let (mut w, mut r) = p.channel().unwrap();
            PANIC_IN.set("clone");
            let text = panic_of(|| pin!(r.read()).poll(cx).is_pending());
            assert_eq!(text, "clone");
            assert!(w.try_write(tally.token()).is_err(), "nobody waits");
            PANIC_IN.set("clone");
            let text = panic_of(|| pin!(w.write(tally.token())).poll(cx).is_pending());
            assert_eq!(text, "clone");
            assert!(r.try_read().is_none());
        });
        assert_eq!((tally.made(), tally.alive(), ALIVE.get()), (2, 0, 0));
        assert_outcome(outcome, [0; 5]);
    }

    #[test]
    fn a_wake_panics_and_the_value_is_not_lost() {
        ALIVE.set(0);
        for reads in [false, true] {
            let checking = Checking::new();
            let tally = Tally::default();
            run(&checking, |p| {
                let waker = bomb();
                let cx = &mut Context::from_waker(&waker);
                let (mut w, mut r) = p.channel().unwrap();
                if reads {
                    // The reader waits; the writer's hand-over wakes it.
                    let mut read = r.read();
                    assert!(std::pin::Pin::new(&mut read).poll(cx).is_pending());
                    PANIC_IN.set("wake");
                    let text = panic_of(|| w.try_write(tally.token()).is_ok());
                    assert_eq!(text, "wake");
                    drop(read);
                    assert_eq!(r.try_read().unwrap().id, 0, "the value was delivered");
                } else {
                    let mut write = w.write(tally.token());
                    assert!(std::pin::Pin::new(&mut write).poll(cx).is_pending());
                    PANIC_IN.set("wake");
                    let text = panic_of(|| r.try_read().is_some());
                    assert_eq!(text, "wake");
                    assert!(write.cancel().is_none(), "the value was taken");
                    assert_eq!(r.try_read().unwrap().id, 0, "and stays with the reader");
                }
            });
            assert_eq!((tally.made(), tally.alive(), ALIVE.get()), (1, 0, 0));
        }
    }

    #[test]
    fn a_drop_panics_in_each_place() {
        ALIVE.set(0);
        for place in 0..7 {
            let checking = Checking::new();
            let tally = Tally::default();
            run(&checking, |p| {
                let waker = bomb();
                let cx = &mut Context::from_waker(&waker);
                let (mut w, mut r) = p.channel().unwrap();
                if place < 4 {
                    let mut read = r.read();
                    assert!(std::pin::Pin::new(&mut read).poll(cx).is_pending());
                    PANIC_IN.set("drop");
                    let text = match place {
                        0 => panic_of(|| drop(read)),
                        1 => {
                            std::mem::forget(read);
                            panic_of(|| drop(r))
                        }
                        2 => {
                            std::mem::forget(read);
                            panic_of(|| r.try_read().is_some())
                        }
                        // Polled again with another waker.
                        _ => panic_of(|| {
                            let cx = &mut Context::from_waker(Waker::noop());
                            std::pin::Pin::new(&mut read).poll(cx).is_pending()
                        }),
                    };
                    assert_eq!(text, "drop");
                    assert!(w.try_write(tally.token()).is_err(), "nobody waits any more");
                } else {
                    let mut write = w.write(tally.token());
                    assert!(std::pin::Pin::new(&mut write).poll(cx).is_pending());
                    PANIC_IN.set("drop");
                    let text = match place {
                        4 => panic_of(|| drop(write)),
                        5 => panic_of(|| drop(write.cancel())),
                        _ => {
                            std::mem::forget(write);
                            panic_of(|| drop(w))
                        }
                    };
                    assert_eq!(text, "drop");
                    assert!(r.try_read().is_none(), "nobody waits any more");
                }
            });
            assert_eq!((tally.made(), tally.alive(), ALIVE.get()), (1, 0, 0), "place {place}");
        }
    }

    /// The wakers in a frozen ring are dropped after the fibres, and one of them panics.
    #[test]
    fn a_drop_panics_while_the_process_closes() {
        ALIVE.set(0);
        let checking = Checking::new();
        let (result, texts) = caught(&checking, false, |p| {
            let (w, r) = p.channel::<u8>().unwrap();
            for _ in 0..3 {
                let mut r = r.dup().unwrap();
                let w = w.dup().unwrap();
                p.spawn(async move {
                    let _w = w;
                    poll_fn(|_| {
                        let waker = bomb();
                        let cx = &mut Context::from_waker(&waker);
                        let mut read = r.read();
                        assert!(std::pin::Pin::new(&mut read).poll(cx).is_pending());
                        std::mem::forget(read);
                        Poll::<()>::Pending
                    })
                    .await;
                })
                .unwrap();
            }
            p.spawn(async move { PANIC_IN.set("drop") }).unwrap();
        });
        assert_eq!(texts, ["drop"]);
        assert_eq!(failure(result).outcome.deadlocked, 3);
        assert_eq!(ALIVE.get(), 0);
    }

    /// The wake-up of a foreign waker, when the end of a stream is told, panics.
    #[test]
    fn a_wake_panics_while_a_channel_dissolves() {
        ALIVE.set(0);
        let checking = Checking::new();
        let ends = Cell::new(0);
        let (result, texts) = caught(&checking, true, |p| {
            let (w, r) = p.channel::<u8>().unwrap();
            let ends = &ends;
            for _ in 0..3 {
                let mut r = r.dup().unwrap();
                p.spawn(async move {
                    let mut read = r.read_or_end();
                    poll_fn(|_| {
                        let waker = bomb();
                        let cx = &mut Context::from_waker(&waker);
                        std::pin::Pin::new(&mut read).poll(cx)
                    })
                    .await;
                    ends.set(ends.get() + 1);
                })
                .unwrap();
            }
            drop(r);
            p.spawn(async move {
                yield_now().await;
                PANIC_IN.set("wake");
                drop(w);
            })
            .unwrap();
        });
        assert_eq!(texts, ["wake"]);
        assert_eq!(ends.get(), 3, "all are told all the same");
        assert_eq!(result.unwrap().1.finished, 4);
        assert_eq!(ALIVE.get(), 0);
    }
}

/// A foreign waker whose clone, wake and drop use the process: by a reference in a thread-local that lives long enough.
#[test]
fn foreign_wakers_run_code_that_wakes_others() {
    struct Chain(RefCellWaker);
    type RefCellWaker = std::sync::Mutex<Option<Waker>>;
    impl Wake for Chain {
        fn wake(self: Arc<Self>) {
            if let Some(next) = self.0.lock().unwrap().take() {
                next.wake();
            }
        }
    }
    let checking = Checking::new();
    let count = RefCell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let count = &count;
        p.spawn(async move {
            let mut waker = Waker::noop().clone();
            for _ in 0..1000 {
                waker = Waker::from(Arc::new(Chain(std::sync::Mutex::new(Some(waker)))));
            }
            let mut read = r.read();
            poll_fn(|_| {
                *count.borrow_mut() += 1;
                std::pin::Pin::new(&mut read).poll(&mut Context::from_waker(&waker))
            })
            .await;
        })
        .unwrap();
        p.spawn(async move { w.write(1).await }).unwrap();
    });
    assert_eq!(count.into_inner(), 2);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}
