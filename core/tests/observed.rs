//! C11: nothing vanishes unseen: names, dumps, reports, essential fibres.

mod common;

use std::cell::{Cell, RefCell};
use std::future::pending;

use common::{Checking, OnDrop, Trace, assert_outcome, failure, hub, rounds, run};
use fibra_core::{Cause, Direction, Fate, Setup, yield_now};

#[test]
fn a_dump_shows_who_waits_where() {
    let checking = Checking::new();
    let seen = Trace::new();
    run(&checking, |p| {
        let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
        let (mut wb, rb) = p.channel_named::<u8>("b").unwrap();
        let (mut e, f) = p.two_way_named::<u8>("both").unwrap();
        let seen = &seen;
        p.fibre().name("reader").spawn(async move { while ra.read().await > 0 {} }).unwrap();
        p.fibre().name("writer").spawn(async move { wb.write(1).await }).unwrap();
        p.fibre().name("server").spawn(async move { while e.read().await > 0 {} }).unwrap();
        p.fibre()
            .name("observer")
            .spawn(async move {
                p.dump(|wait| seen.push(wait.to_string()));
                drop((wa, rb, f));
            })
            .unwrap();
        p.fibre().name("ready").spawn(rounds(1)).unwrap();
    });
    assert_eq!(
        seen.take(),
        [
            "fibre `reader` waits to read from channel `a`",
            "fibre `writer` waits to write to channel `b`",
            "fibre `server` waits to read from channel `both`",
        ]
    );
}

#[test]
fn a_dump_shows_each_wait_of_a_fibre() {
    let checking = Checking::new();
    let seen = Trace::new();
    run(&checking, |p| {
        let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
        let (wb, mut rb) = p.channel_named::<u8>("b").unwrap();
        let seen = &seen;
        p.fibre()
            .name("two")
            .spawn(async move {
                futures::future::join(ra.read(), rb.read()).await;
            })
            .unwrap();
        p.spawn(async move {
            p.dump(|wait| seen.push((wait.fibre(), wait.channel(), wait.direction())));
            drop((wa, wb));
        })
        .unwrap();
    });
    let read = Some(Direction::Read);
    assert_eq!(seen.take(), [("two", Some("a"), read), ("two", Some("b"), read)]);
}

#[test]
fn a_dump_shows_the_waiters_in_their_order() {
    let checking = Checking::new();
    let seen = Trace::new();
    run(&checking, |p| {
        let (w, r) = p.channel::<u8>().unwrap();
        let seen = &seen;
        for name in ["first", "second", "third"] {
            let mut r = r.dup().unwrap();
            p.fibre().name(name).spawn(async move { while r.read().await > 0 {} }).unwrap();
        }
        p.spawn(async move {
            p.dump(|wait| seen.push(wait.fibre()));
            drop(w);
        })
        .unwrap();
    });
    assert_eq!(seen.take(), ["first", "second", "third"]);
}

#[test]
fn a_dump_shows_fibres_that_only_a_waker_can_wake() {
    let checking = Checking::new();
    let seen = Trace::new();
    let (_, outcome) = Setup::new(&checking)
        .hub(hub!(2))
        .run(|p| {
            let seen = &seen;
            let kept = std::rc::Rc::new(RefCell::new(None));
            let keep = kept.clone();
            p.fibre()
                .name("sleeper")
                .waker()
                .spawn(async move {
                    let mut keep = Some(keep);
                    std::future::poll_fn(|cx| {
                        if let Some(keep) = keep.take() {
                            *keep.borrow_mut() = Some(cx.waker().clone());
                        }
                        std::task::Poll::<()>::Pending
                    })
                    .await;
                })
                .unwrap();
            p.fibre()
                .name("observer")
                .waker()
                .spawn(async move {
                    p.dump(|wait| seen.push(wait.to_string()));
                    kept.borrow_mut().take();
                })
                .unwrap();
        })
        .unwrap();
    checking.assert_empty();
    assert_eq!(seen.take(), ["fibre `sleeper` waits for no channel"]);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

#[test]
fn a_dump_within_a_dump_shows_nothing() {
    let checking = Checking::new();
    let seen = Cell::new((0, 0));
    run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let seen = &seen;
        p.spawn(async move { while r.read().await > 0 {} }).unwrap();
        p.spawn(async move {
            for n in 1..4 {
                p.dump(|_| {
                    seen.set((seen.get().0 + 1, seen.get().1));
                    p.dump(|_| seen.set((seen.get().0, seen.get().1 + 1)));
                });
                assert_eq!(seen.get(), (n, 0));
            }
            drop(w);
        })
        .unwrap();
    });
}

/// The visitor drops ends, so that channels go and change places in the process's list, in all orders.
#[test]
fn a_visitor_drops_channels() {
    for drop_at in 0..5 {
        for which in 0..5 {
            let checking = Checking::new();
            let seen = Trace::new();
            let outcome = run(&checking, |p| {
                let seen = &seen;
                let ends = std::rc::Rc::new(RefCell::new(Vec::new()));
                let spare = std::rc::Rc::new(RefCell::new(Vec::new()));
                for name in ["a", "b", "c", "d", "e"] {
                    spare.borrow_mut().push(Some(p.channel::<u8>().unwrap()));
                    let (w, mut r) = p.channel_named::<u8>(name).unwrap();
                    ends.borrow_mut().push(Some(w));
                    p.fibre().name(name).spawn(async move { while r.read().await > 0 {} }).unwrap();
                }
                p.spawn(async move {
                    let mut nth = 0;
                    p.dump(|wait| {
                        seen.push(wait.fibre());
                        if nth == drop_at {
                            // The first dissolves a channel, the second frees one, the third adds one.
                            drop(ends.borrow_mut()[which].take());
                            drop(spare.borrow_mut()[which].take());
                            spare.borrow_mut().push(Some(p.channel::<u8>().unwrap()));
                        }
                        nth += 1;
                    });
                    assert!(nth <= 6);
                })
                .unwrap();
            });
            let seen = seen.take();
            let mut unique = seen.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), seen.len(), "nobody is shown twice: {seen:?}");
            assert!(seen.len() >= 4, "at most the one whose channel moved is missed: {seen:?}");
            assert_outcome(outcome, [1, 5, 0, 0, 0]);
        }
    }
}

/// The visitor serves those that wait, in the ring that it is being shown.
#[test]
fn a_visitor_reads_and_writes() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<u8>().unwrap();
        for _ in 0..4 {
            let mut r = r.dup().unwrap();
            p.spawn(async move { assert_eq!(r.read().await, 1) }).unwrap();
        }
        drop(r);
        p.spawn(async move {
            let mut visits = 0;
            p.dump(|_| {
                visits += 1;
                w.try_write(1).unwrap();
            });
            assert_eq!(visits, 2, "each visit serves one in front");
            w.try_write(1).unwrap();
            w.try_write(1).unwrap();
        })
        .unwrap();
    });
    assert_outcome(outcome, [5, 0, 0, 0, 0]);
}

#[test]
fn a_visitor_panics_and_the_next_dump_works() {
    let checking = Checking::new();
    run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        p.spawn(async move { while r.read().await > 0 {} }).unwrap();
        p.spawn(async move {
            assert_eq!(common::panic_of(|| p.dump(|_| panic!("visitor"))), "visitor");
            let mut seen = 0;
            p.dump(|_| seen += 1);
            assert_eq!(seen, 1);
            drop(w);
        })
        .unwrap();
    });
}

#[test]
fn a_dump_in_the_closure_and_while_closing_shows_nobody() {
    let checking = Checking::new();
    let seen = Cell::new(0);
    let count = || seen.set(seen.get() + 1);
    run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let _w = w;
            let _guard = OnDrop(|| p.dump(|_| count()));
            r.read().await;
        })
        .unwrap();
        p.dump(|_| count());
    });
    assert_eq!(seen.get(), 0);
}

#[test]
fn collapses_are_reported_when_they_happen() {
    let checking = Checking::new();
    let seen = RefCell::new(Vec::new());
    let mut visit = |report: &fibra_core::Report| seen.borrow_mut().push(report.to_string());
    let (_, outcome) = Setup::new(&checking)
        .report(&mut visit)
        .run(|p| {
            let (w, mut ra) = p.channel_named::<u8>("in").unwrap();
            let (wb, mut rb) = p.channel_named::<u8>("out").unwrap();
            let seen = &seen;
            p.fibre()
                .name("stage")
                .spawn(async move {
                    let _wb = wb;
                    ra.read().await;
                })
                .unwrap();
            p.fibre().name("sink").spawn(async move { while rb.read().await > 0 {} }).unwrap();
            p.spawn(async move {
                yield_now().await;
                drop(w);
                assert!(seen.borrow().is_empty());
                rounds(3).await;
                assert_eq!(seen.borrow().len(), 2, "at once, not at the end");
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(
        seen.into_inner(),
        [
            "fibre `stage` collapsed while reading from channel `in`: no other end was left",
            "fibre `sink` collapsed while reading from channel `out`: no other end was left",
        ]
    );
    assert_outcome(outcome, [1, 2, 0, 0, 0]);
}

/// The wait that a fibre collapsed in is its own and its last: not an earlier one, and not another fibre's.
#[test]
fn a_collapse_without_a_wait_is_reported_without_one() {
    common::with_pool(|pool| {
        let mut seen = Vec::new();
        let mut visit = |report: &fibra_core::Report| {
            seen.push((report.fate(), report.wait().fibre(), report.wait().channel()));
        };
        Setup::new(pool)
            .report(&mut visit)
            .run(|p| {
                let (w, mut r) = p.channel_named::<u8>("over").unwrap();
                drop(w);
                // This one meets a dead wait, is told, and finishes.
                p.fibre().name("finishes").spawn(async move { assert_eq!(r.read_or_end().await, None) }).unwrap();
                p.spawn(async move {
                    yield_now().await;
                    // This one probably has its block, and never used a channel.
                    p.fibre().name("waits for nothing").spawn(pending()).unwrap();
                })
                .unwrap();
                let (w, mut r) = p.channel_named::<u8>("over too").unwrap();
                drop(w);
                p.fibre()
                    .name("goes on")
                    .spawn(async move {
                        assert_eq!(r.read_or_end().await, None);
                        drop(r);
                        rounds(3).await;
                        pending::<()>().await;
                    })
                    .unwrap();
            })
            .unwrap();
        let collapsed = |name| (Fate::Collapsed, name, None);
        assert_eq!(seen, [collapsed("waits for nothing"), collapsed("goes on")]);
    });
}

#[test]
fn an_essential_fibre_that_collapses_fails_the_run() {
    let checking = Checking::new();
    let result = fibra_core::run(&checking, |p| {
        let (w, mut r) = p.channel_named::<u8>("orders").unwrap();
        p.spawn(async move {
            rounds(2).await;
            drop(w);
        })
        .unwrap();
        p.fibre().name("cook").essential().spawn(async move { while r.read().await > 0 {} }).unwrap();
        "value"
    });
    checking.assert_empty();
    let failure = failure(result);
    assert_eq!(failure.value, Some("value"));
    assert_eq!(
        failure.to_string(),
        "an essential fibre was lost: \
         fibre `cook` collapsed while reading from channel `orders`: no other end was left"
    );
    let Cause::Lost(report) = failure.cause else { panic!("{:?}", failure.cause) };
    assert_eq!(report.fate(), Fate::Collapsed);
    assert_outcome(failure.outcome, [1, 1, 0, 0, 0]);
}

#[test]
fn an_essential_fibre_that_deadlocks_fails_the_run() {
    let checking = Checking::new();
    let result = fibra_core::run(&checking, |p| {
        let (mut w, r) = p.channel_named::<u8>("plates").unwrap();
        let options = p.fibre().name("waiter").essential();
        options
            .spawn(async move {
                let _r = r;
                w.write(1).await;
            })
            .unwrap();
    });
    checking.assert_empty();
    assert_eq!(
        failure(result).to_string(),
        "an essential fibre was lost: fibre `waiter` deadlocked while writing to channel \
         `plates`: the other end was held by fibre `waiter`"
    );
}

#[test]
fn the_first_essential_fibre_that_is_lost_is_named() {
    let checking = Checking::new();
    let result = fibra_core::run(&checking, |p| {
        for name in ["first", "second"] {
            p.fibre().name(name).essential().spawn(pending()).unwrap();
        }
    });
    let Cause::Lost(report) = failure(result).cause else { panic!("it was lost") };
    assert_eq!(report.wait().fibre(), "first");
    assert_eq!(report.to_string(), "fibre `first` collapsed");
}

#[test]
fn an_essential_fibre_may_finish_and_may_be_stopped() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        p.fibre().essential().spawn(rounds(1)).unwrap();
        p.fibre().essential().spawn(rounds(100)).unwrap();
        p.spawn(async move {
            rounds(5).await;
            p.stop();
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 1, 0]);
}

#[test]
fn an_outcome_says_what_it_counts() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        p.spawn(rounds(1)).unwrap();
        p.spawn(pending()).unwrap();
        p.spawn(async move {
            let (_w, mut r) = p.channel::<u8>().unwrap();
            r.read().await;
        })
        .unwrap();
    });
    assert_eq!(outcome.to_string(), "1 finished, 1 collapsed, 1 deadlocked");
    let outcome = run(&checking, |p| {
        p.spawn(rounds(1)).unwrap();
        p.stop();
    });
    assert_eq!(outcome.to_string(), "0 finished, 0 collapsed, 1 stopped");
}
