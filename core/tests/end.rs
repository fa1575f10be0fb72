//! C5: a process ends when nothing in it can run; who is still parked then is reported, and nothing is left.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{Checking, OnDrop, P, Tally, Trace, assert_outcome, rounds, run};
use fibra_core::{Direction, Fate, Outcome, Setup, SpawnErrorKind, yield_now};

/// Runs with a visitor, and gives the reports as text.
#[track_caller]
fn reports(checking: &Checking, setup: impl for<'p, 'env> FnOnce(&'p P<'p, 'env, '_>)) -> (Vec<String>, Outcome) {
    let mut seen = Vec::new();
    let result = Setup::new(checking).report(&mut |report| seen.push(report.to_string())).run(setup);
    checking.assert_empty();
    (seen, result.unwrap().1)
}

#[test]
fn an_empty_process_ends() {
    let checking = Checking::new();
    let (value, outcome) = fibra_core::run(&checking, |_| 42).unwrap();
    assert_eq!(value, 42);
    assert_eq!(outcome, Outcome::default());
    assert_eq!(checking.calls(), 0, "and takes no memory");
}

#[test]
fn a_cycle_is_reported_with_who_held_what() {
    let checking = Checking::new();
    let (seen, outcome) = reports(&checking, |p| {
        let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
        let (mut wb, rb) = p.channel_named::<u8>("b").unwrap();
        let (wc, mut rc) = p.channel_named::<u8>("c").unwrap();
        p.fibre()
            .name("one")
            .spawn(async move {
                let _rb = rb;
                let _wc = wc;
                ra.read().await;
            })
            .unwrap();
        p.fibre()
            .name("two")
            .spawn(async move {
                let _wa = wa;
                wb.write(1).await;
            })
            .unwrap();
        p.fibre().name("three").spawn(async move { while rc.read().await > 0 {} }).unwrap();
    });
    assert_eq!(
        seen,
        [
            "fibre `one` deadlocked while reading from channel `a`: \
             the other end was held by fibre `two`",
            "fibre `two` deadlocked while writing to channel `b`: \
             the other end was held by fibre `one`",
            "fibre `three` deadlocked while reading from channel `c`: \
             the other end was held by fibre `one`",
        ]
    );
    assert_outcome(outcome, [0, 0, 3, 0, 0]);
}

#[test]
fn a_fibre_that_holds_both_ends_deadlocks_with_itself() {
    let checking = Checking::new();
    let (seen, outcome) = reports(&checking, |p| {
        let (w, mut r) = p.channel_named::<u8>("self").unwrap();
        p.fibre()
            .name("narcissus")
            .spawn(async move {
                let _w = w;
                r.read().await;
            })
            .unwrap();
        let (mut w, r) = p.channel_named::<u8>("echo").unwrap();
        p.fibre()
            .name("nymph")
            .spawn(async move {
                let _r = r;
                w.write(1).await;
            })
            .unwrap();
    });
    assert_eq!(
        seen,
        [
            "fibre `narcissus` deadlocked while reading from channel `self`: \
             the other end was held by fibre `narcissus`",
            "fibre `nymph` deadlocked while writing to channel `echo`: \
             the other end was held by fibre `nymph`",
        ]
    );
    assert_outcome(outcome, [0, 0, 2, 0, 0]);
}

#[test]
fn an_end_that_was_forgotten_was_held_outside() {
    let checking = Checking::new();
    let mut held_by = Vec::new();
    let mut visit = |report: &fibra_core::Report| {
        assert_eq!(report.fate(), Fate::Deadlocked);
        assert_eq!(report.wait().direction(), Some(Direction::Read));
        assert_eq!(report.wait().channel(), Some("lost"));
        assert_eq!(report.wait().fibre(), "waiting");
        held_by.push(report.held_by());
    };
    let (_, outcome) = Setup::new(&checking)
        .report(&mut visit)
        .run(|p| {
            let (w, mut r) = p.channel_named::<u8>("lost").unwrap();
            std::mem::forget(w);
            p.fibre().name("waiting").spawn(async move { while r.read().await > 0 {} }).unwrap();
        })
        .unwrap();
    assert_eq!(held_by, [None]);
    assert_outcome(outcome, [0, 0, 1, 0, 0]);
    assert_eq!(checking.live(), 1, "the channel of the forgotten end, and nothing else");
    checking.leak();
}

/// A fibre that waits for several things is counted once and shown with each wait.
#[test]
fn each_wait_of_a_deadlocked_fibre_is_reported() {
    let checking = Checking::new();
    let (seen, outcome) = reports(&checking, |p| {
        let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
        let (mut wb, rb) = p.channel_named::<u8>("b").unwrap();
        p.fibre()
            .name("both")
            .spawn(async move {
                let _held = (wa, rb);
                futures::future::join(ra.read(), wb.write(1)).await;
            })
            .unwrap();
    });
    assert_eq!(seen.len(), 2);
    assert!(seen[0].contains("reading from channel `a`") && seen[1].contains("writing to channel `b`"));
    assert_outcome(outcome, [0, 0, 1, 0, 0]);
}

/// Unnamed things are called by their types.
#[test]
fn unnamed_fibres_and_channels_are_named_by_their_types() {
    async fn waits(mut r: fibra_core::Reader<'_, u32>) {
        r.read().await;
    }
    let checking = Checking::new();
    let (seen, _) = reports(&checking, |p| {
        let (w, r) = p.channel::<u32>().unwrap();
        p.spawn(waits(r)).unwrap();
        p.spawn(async move {
            rounds(2).await;
            drop(w);
        })
        .unwrap();
    });
    assert_eq!(
        seen,
        ["fibre `end::unnamed_fibres_and_channels_are_named_by_their_types::waits` collapsed \
          while reading from channel `u32`: no other end was left"]
    );
}

#[test]
fn nothing_is_allocated_for_the_end_and_its_report() {
    let checking = Checking::new();
    let mut seen = 0;
    let calls = Cell::new(0);
    let (_, outcome) = Setup::new(&checking)
        .report(&mut |_| seen += 1)
        .run(|p| {
            for _ in 0..10 {
                let (w, mut r) = p.channel::<u8>().unwrap();
                p.spawn(async move {
                    let _w = w;
                    r.read().await;
                })
                .unwrap();
            }
            calls.set(checking.calls());
            checking.fail_all();
        })
        .unwrap();
    assert_eq!(seen, 10);
    assert_eq!(checking.calls(), calls.get());
    assert_outcome(outcome, [0, 0, 10, 0, 0]);
    checking.assert_empty();
}

#[test]
fn a_deadlock_drops_the_values_in_it() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (w, r) = p.channel().unwrap();
        let r = Rc::new(r);
        for _ in 0..4 {
            let (mut w, r) = (w.dup().unwrap(), r.clone());
            let tally = &tally;
            p.spawn(async move {
                let _r = r;
                w.write(tally.token()).await;
            })
            .unwrap();
        }
    });
    assert_eq!((tally.made(), tally.alive()), (4, 0));
    assert_outcome(outcome, [0, 0, 4, 0, 0]);
}

/// The set is frozen before the first of it is destroyed: a destructor cannot wake another one.
#[test]
fn a_destructor_cannot_wake_a_deadlocked_fibre() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (wa, mut ra) = p.channel::<u8>().unwrap();
        let (mut wb, mut rb) = p.channel::<u8>().unwrap();
        let trace = &trace;
        p.spawn(async move {
            let mut wa = wa;
            let _guard = OnDrop(|| {
                trace.push(wa.try_write(1));
            });
            rb.read().await;
            unreachable!("nobody writes to it");
        })
        .unwrap();
        p.spawn(async move {
            let _guard = OnDrop(|| {
                trace.push(wb.try_write(2));
            });
            ra.read().await;
            unreachable!("it was parked when the process ended");
        })
        .unwrap();
    });
    assert_eq!(trace.take().len(), 2);
    assert_outcome(outcome, [0, 0, 2, 0, 0]);
}

/// A destructor cannot take a value out of a deadlocked write, which drops it itself.
#[test]
fn a_destructor_cannot_read_from_a_deadlocked_fibre() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut wa, mut ra) = p.channel().unwrap();
        let (mut wb, mut rb) = p.channel().unwrap();
        let tally = &tally;
        p.spawn(async move {
            let _guard = OnDrop(|| assert!(rb.try_read().is_none()));
            wa.write(tally.token()).await;
        })
        .unwrap();
        p.spawn(async move {
            let _guard = OnDrop(|| assert!(ra.try_read().is_none()));
            wb.write(tally.token()).await;
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (2, 0));
    assert_outcome(outcome, [0, 0, 2, 0, 0]);
}

#[test]
fn spawning_while_closing_gives_the_future_back() {
    let checking = Checking::new();
    let (refused, dropped) = (Cell::new(0), Cell::new(0));
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let (refused, dropped) = (&refused, &dropped);
        let mut reservation = p.reserve(1).unwrap();
        p.spawn(async move {
            let _guard = OnDrop(|| {
                let token = OnDrop(|| dropped.set(dropped.get() + 1));
                let future = async move { drop(token) };
                let error = p.spawn(future).unwrap_err();
                assert_eq!(error.kind, SpawnErrorKind::Closing);
                assert_eq!(dropped.get(), 0, "the future is in the error");
                let error = p.fibre().name("late").spawn(error.future).unwrap_err();
                assert_eq!(error.kind, SpawnErrorKind::Closing);
                let error = reservation.spawn(error.future).unwrap_err();
                assert_eq!(error.kind, SpawnErrorKind::Closing);
                drop(error);
                assert_eq!(dropped.get(), 1);
                let error = p.spawn_with(|| rounds(1)).unwrap_err();
                assert_eq!(error.kind, SpawnErrorKind::Closing);
                refused.set(refused.get() + 1);
            });
            let _w = w;
            r.read().await;
        })
        .unwrap();
    });
    assert_eq!(refused.get(), 1);
    assert_outcome(outcome, [0, 0, 1, 0, 0]);
}

/// Channels that a destructor makes while the process is closing, kept, moved and dropped in all ways.
#[test]
fn channels_made_while_closing_go_too() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let shared = Rc::new(RefCell::new(Vec::new()));
        for n in 0..4 {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let shared = shared.clone();
            p.spawn(async move {
                let _guard = OnDrop(|| {
                    let (mut w, r) = p.channel::<u8>().unwrap();
                    assert_eq!(w.try_write(1), Err(1));
                    let another = w.dup().unwrap();
                    let (a, b) = p.two_way::<u8>().unwrap();
                    let c = b.dup().unwrap();
                    match n {
                        0 => shared.borrow_mut().push((w, r, a, b)),
                        1 => drop((w, r, another, a, b)),
                        2 => drop((c, b, a, r)),
                        _ => shared.borrow_mut().clear(),
                    }
                });
                let _w = w;
                r.read().await;
            })
            .unwrap();
        }
    });
    assert_outcome(outcome, [0, 0, 4, 0, 0]);
}

/// Ends of frozen channels are moved to another dying fibre, duplicated and dropped there.
#[test]
fn ends_move_between_dying_fibres() {
    for take_back in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let shared = Rc::new(RefCell::new(Vec::new()));
            for n in 0..5 {
                let (w, mut r) = p.channel::<u8>().unwrap();
                let shared = shared.clone();
                let mut ends = Some((w.dup().unwrap(), r.dup().unwrap(), w));
                p.spawn(async move {
                    let _guard = OnDrop(|| {
                        let (a, mut b, c) = ends.take().unwrap();
                        assert_eq!(b.try_read(), None);
                        let d = b.dup().unwrap();
                        if n % 2 == 0 || !take_back {
                            shared.borrow_mut().push((a, d, c));
                        } else {
                            shared.borrow_mut().pop();
                        }
                    });
                    r.read().await;
                })
                .unwrap();
            }
        });
        assert_outcome(outcome, [0, 0, 5, 0, 0]);
    }
}

#[test]
fn two_way_channels_freeze_with_many_endpoints() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (a, b) = p.two_way::<String>().unwrap();
        for n in 0..3 {
            let (mut c, d) = (a.dup().unwrap(), b.dup().unwrap());
            // The fibre's second endpoint keeps the others' waits alive.
            p.spawn(async move {
                let _d = d;
                if n == 0 {
                    c.read().await;
                }
                c.read().await;
            })
            .unwrap();
        }
    });
    assert_eq!(outcome.deadlocked + outcome.collapsed, 3);
    assert_eq!(outcome.finished, 0);
}

mod stop {
    use super::*;

    #[test]
    fn in_the_closure_nothing_runs() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            for _ in 0..3 {
                p.spawn(async { unreachable!("the process was stopped") }).unwrap();
            }
            p.stop();
        });
        assert_outcome(outcome, [0, 0, 0, 3, 0]);
    }

    #[test]
    fn in_a_fibre_the_others_are_destroyed_ready_or_parked() {
        let checking = Checking::new();
        let dropped = Cell::new(0);
        let outcome = run(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let dropped = &dropped;
            let guard = move || OnDrop(move || dropped.set(dropped.get() + 1));
            p.spawn(async move {
                let _guard = guard();
                r.read().await;
            })
            .unwrap();
            p.spawn(async move {
                let _guard = guard();
                loop {
                    yield_now().await;
                }
            })
            .unwrap();
            p.spawn(async move {
                yield_now().await;
                p.stop();
                p.stop();
                assert_eq!(dropped.get(), 0, "it runs on until it parks");
                p.spawn(async { unreachable!("it comes too late") }).unwrap();
                let _w = w;
                yield_now().await;
                unreachable!("nor does this fibre itself");
            })
            .unwrap();
        });
        assert_eq!(dropped.get(), 2);
        assert_outcome(outcome, [0, 0, 0, 4, 0]);
    }

    #[test]
    fn in_a_destructor() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            p.spawn(async move {
                let _guard = OnDrop(|| p.stop());
                std::future::pending::<()>().await;
            })
            .unwrap();
            p.spawn(async { unreachable!("the collapse before it stops the process") }).unwrap();
        });
        assert_outcome(outcome, [0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_destructor_of_a_stopped_fibre_stops_and_spawns_in_vain() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            p.spawn(async move {
                let _guard = OnDrop(|| {
                    p.stop();
                    assert!(p.spawn(rounds(1)).is_err());
                });
                rounds(9).await;
            })
            .unwrap();
            p.spawn(async move {
                p.stop();
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 0, 0, 1, 0]);
    }

    #[test]
    fn nothing_is_reported_as_deadlocked() {
        let checking = Checking::new();
        let (seen, outcome) = reports(&checking, |p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            p.spawn(async move { while r.read().await > 0 {} }).unwrap();
            p.spawn(async move {
                let _w = w;
                p.stop();
                yield_now().await;
            })
            .unwrap();
        });
        assert!(seen.is_empty(), "{seen:?}");
        assert_outcome(outcome, [0, 0, 0, 2, 0]);
    }

    /// Waits that are to be ended, and fibres that are to be collapsed, when the process is stopped.
    #[test]
    fn in_the_midst_of_a_collapse() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, r) = p.channel::<u8>().unwrap();
            for _ in 0..5 {
                let mut r = r.dup().unwrap();
                p.spawn(async move { while r.read().await > 0 {} }).unwrap();
            }
            drop(r);
            p.spawn(async move {
                drop(w);
                p.stop();
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 0, 0, 5, 0]);
    }
}
