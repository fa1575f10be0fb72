//! C2 and C3: a fibre that nothing can ever wake is destroyed, and its neighbours may follow, in turns and not in depth.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use common::{Checking, OnDrop, P, Tally, Trace, assert_outcome, run};
use fibra_core::{Allocator, Process, Reader, Writer, yield_now};
use futures::future::{Either, join, select};

async fn pass_on<T>(mut from: Reader<'_, T>, mut to: Writer<'_, T>) {
    loop {
        to.write(from.read().await).await;
    }
}

/// Makes a line of `n` stages and gives its outer ends.
fn line<'p, A: Allocator + Clone>(p: &'p Process<'p, '_, A>, n: usize) -> (Writer<'p, usize>, Reader<'p, usize>) {
    let (first, mut from) = p.channel().unwrap();
    for _ in 0..n {
        let (to, next) = p.channel().unwrap();
        p.spawn(pass_on(std::mem::replace(&mut from, next), to)).unwrap();
    }
    (first, from)
}

#[test]
fn a_line_dissolves_when_its_source_ends() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = line(p, 20);
        p.spawn(async move { w.write(7).await }).unwrap();
        p.spawn(async move {
            loop {
                assert_eq!(r.read().await, 7);
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 21, 0, 0, 0]);
}

#[test]
fn a_line_dissolves_when_its_sink_ends() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = line(p, 20);
        p.spawn(async move {
            for n in 0.. {
                w.write(n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            for n in 0..5 {
                assert_eq!(r.read().await, n);
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 21, 0, 0, 0]);
}

#[test]
fn a_line_dissolves_both_ways_from_its_middle() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut middle_in) = line(p, 10);
        let (mut middle_out, mut r) = line(p, 10);
        p.spawn(async move {
            for n in 0.. {
                w.write(n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            for _ in 0..3 {
                middle_out.write(middle_in.read().await).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                r.read().await;
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 22, 0, 0, 0]);
}

/// The values that are on their way in a line are dropped with it.
#[test]
fn values_on_their_way_are_dropped() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w, mut from) = p.channel().unwrap();
        for _ in 0..5 {
            let (to, next) = p.channel().unwrap();
            p.spawn(pass_on(std::mem::replace(&mut from, next), to)).unwrap();
        }
        let tally = &tally;
        p.spawn(async move {
            loop {
                w.write(tally.token()).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            common::rounds(30).await;
            assert_eq!(tally.dropped(), 0, "nobody has read one yet");
            drop(from.read().await);
            assert_eq!(tally.dropped(), 1);
        })
        .unwrap();
    });
    assert!(tally.made() >= 6);
    assert_eq!(tally.alive(), 0);
    assert_outcome(outcome, [1, 6, 0, 0, 0]);
}

#[test]
fn a_fibre_that_waits_for_nothing_collapses() {
    let checking = Checking::new();
    let dropped = Cell::new(false);
    let outcome = run(&checking, |p| {
        let dropped = &dropped;
        p.spawn(async move {
            let _guard = OnDrop(|| dropped.set(true));
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            assert!(dropped.get(), "it collapses at once, not at the end");
        })
        .unwrap();
    });
    assert!(dropped.get());
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// The decision is made after the poll: the end is still there while it runs.
#[test]
fn a_fibre_is_not_collapsed_while_it_runs() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let mut w = Some(w);
            let first = poll_fn(|cx| {
                let mut read = r.read();
                assert!(Pin::new(&mut read).poll(cx).is_pending());
                drop(read);
                w = None;
                assert!(Pin::new(&mut r.read()).poll(cx).is_pending());
                Poll::Ready(1)
            });
            assert_eq!(first.await, 1);
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

#[test]
fn a_fibre_that_joins_collapses_when_all_its_waits_are_dead() {
    let checking = Checking::new();
    let trace = Trace::new();
    let outcome = run(&checking, |p| {
        let (wa, mut ra) = p.channel::<u8>().unwrap();
        let (wb, mut rb) = p.channel::<u8>().unwrap();
        let trace = &trace;
        p.spawn(async move {
            let _guard = OnDrop(|| trace.push("collapsed"));
            join(ra.read(), rb.read()).await;
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(wa);
            common::rounds(3).await;
            trace.push("one is dead");
            drop(wb);
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["one is dead", "collapsed"]);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

#[test]
fn a_fibre_that_selects_goes_on_with_the_wait_that_lives() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (wa, mut ra) = p.channel::<u8>().unwrap();
        let (mut wb, mut rb) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            let Either::Right((value, _)) = select(ra.read(), rb.read()).await else {
                panic!("nobody writes to the first");
            };
            assert_eq!(value, 5);
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(wa);
            common::rounds(3).await;
            wb.write(5).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A read that is dead from the start, and one that lives.
#[test]
fn a_dead_wait_does_not_hide_a_live_one() {
    for live_first in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (dead, mut ra) = p.channel::<u8>().unwrap();
            let (mut wb, mut rb) = p.channel::<u8>().unwrap();
            drop(dead);
            p.spawn(async move {
                if live_first {
                    drop(select(rb.read(), ra.read()).await);
                } else {
                    drop(select(ra.read(), rb.read()).await);
                }
            })
            .unwrap();
            p.spawn(async move { wb.write(5).await }).unwrap();
        });
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }
}

#[test]
fn a_write_without_a_reader_collapses_and_drops_its_value() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel().unwrap();
        drop(r);
        let tally = &tally;
        p.spawn(async move { w.write(tally.token()).await }).unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
    assert_outcome(outcome, [0, 1, 0, 0, 0]);
}

#[test]
fn a_duplicate_keeps_the_others_alive_wherever_it_is() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let mut other = w.dup().unwrap();
        p.spawn(async move { assert_eq!(r.read().await, 1) }).unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(w);
            common::rounds(4).await;
            other.write(1).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

mod two_way {
    use super::*;

    #[test]
    fn the_last_endpoint_is_alone() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (a, mut b) = p.two_way::<u8>().unwrap();
            p.spawn(async move {
                b.read().await;
            })
            .unwrap();
            p.spawn(async move {
                yield_now().await;
                drop(a);
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 1, 0, 0, 0]);
    }

    #[test]
    fn endpoints_that_all_read_collapse() {
        for n in 2..6 {
            let checking = Checking::new();
            let outcome = run(&checking, |p| {
                let (a, mut b) = p.two_way::<u8>().unwrap();
                for _ in 2..n {
                    let mut c = a.dup().unwrap();
                    p.spawn(async move {
                        c.read().await;
                    })
                    .unwrap();
                }
                let mut a = a;
                p.spawn(async move {
                    a.read().await;
                })
                .unwrap();
                p.spawn(async move {
                    b.read().await;
                })
                .unwrap();
            });
            assert_outcome(outcome, [0, n, 0, 0, 0]);
        }
    }

    #[test]
    fn endpoints_that_all_write_collapse() {
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way().unwrap();
            let tally = &tally;
            p.spawn(async move { a.write(tally.token()).await }).unwrap();
            p.spawn(async move { b.write(tally.token()).await }).unwrap();
        });
        assert_eq!((tally.made(), tally.alive()), (2, 0));
        assert_outcome(outcome, [0, 2, 0, 0, 0]);
    }

    /// One of the fibres also waits for something that comes: then it writes, and all is well.
    #[test]
    fn a_fibre_that_waits_for_more_keeps_the_others_alive() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            let (mut go, mut gone) = p.channel::<()>().unwrap();
            p.spawn(async move { assert_eq!(a.read().await, 1) }).unwrap();
            p.spawn(async move {
                drop(select(b.read(), gone.read()).await);
                b.write(1).await;
            })
            .unwrap();
            p.spawn(async move {
                common::rounds(5).await;
                go.write(()).await;
            })
            .unwrap();
        });
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }

    /// The same, but what the second fibre also waits for dies: now nobody can ever write.
    #[test]
    fn they_collapse_when_the_other_wait_dies() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            let (go, mut gone) = p.channel::<()>().unwrap();
            p.spawn(async move {
                a.read().await;
            })
            .unwrap();
            p.spawn(async move { drop(select(b.read(), gone.read()).await) }).unwrap();
            p.spawn(async move {
                common::rounds(5).await;
                drop(go);
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, 2, 0, 0, 0]);
    }

    #[test]
    fn the_end_is_told_where_a_read_would_collapse() {
        let checking = Checking::new();
        let seen = Cell::new(None);
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            let seen = &seen;
            p.spawn(async move { seen.set(Some(a.read_or_end().await)) }).unwrap();
            p.spawn(async move {
                b.read().await;
            })
            .unwrap();
        });
        assert_eq!(seen.get(), Some(None));
        assert_outcome(outcome, [1, 1, 0, 0, 0]);
    }

    /// Whoever was told of the end is not parked any more, so it can be a counterpart again: a write is read.
    #[test]
    fn endpoints_work_again_after_all_were_told_of_the_end() {
        let checking = Checking::new();
        let seen = Trace::new();
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            let seen = &seen;
            p.spawn(async move {
                seen.push(a.read_or_end().await);
                a.write(1).await;
            })
            .unwrap();
            p.spawn(async move {
                if let Some(value) = b.read_or_end().await {
                    return seen.push(Some(value));
                }
                seen.push(None);
                seen.push(b.read_or_end().await);
            })
            .unwrap();
        });
        let seen = seen.take();
        assert_eq!(seen.last(), Some(&Some(1)), "{seen:?}");
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    /// The first of three that are stuck collapses, and its destructor writes to the second, which can then write to the
    /// third: the third is not dead any more.
    #[test]
    #[expect(clippy::await_holding_refcell_ref, reason = "nobody else borrows it before the drop")]
    fn a_destructor_revives_those_that_were_stuck() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (a, mut b) = p.two_way::<u8>().unwrap();
            let mut c = a.dup().unwrap();
            let a = Rc::new(RefCell::new(Some(a)));
            p.spawn(async move {
                let guard = a.clone();
                let _guard = OnDrop(move || {
                    guard.borrow_mut().as_mut().unwrap().try_write(1).unwrap();
                });
                let mut a = a.borrow_mut();
                a.as_mut().unwrap().read().await;
            })
            .unwrap();
            p.spawn(async move {
                let n = b.read().await;
                b.write(n + 1).await;
            })
            .unwrap();
            p.spawn(async move { assert_eq!(c.read().await, 2) }).unwrap();
        });
        assert_outcome(outcome, [2, 1, 0, 0, 0]);
    }

    /// All three are stuck. The first one's endpoint outlives it, in the hands of a fibre that then writes to the second, which
    /// passes it on: those two are not dead any more.
    #[test]
    #[expect(clippy::await_holding_refcell_ref, reason = "whoever borrows it next does so when this fibre is gone")]
    fn an_endpoint_that_outlives_its_fibre_revives_the_others() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (a, mut b) = p.two_way::<u8>().unwrap();
            let mut c = a.dup().unwrap();
            let a = Rc::new(RefCell::new(a));
            let (bell, mut ring) = p.channel::<()>().unwrap();
            let heir = a.clone();
            p.spawn(async move {
                let mut bell = bell;
                let _guard = OnDrop(move || bell.try_write(()).unwrap());
                let mut a = a.borrow_mut();
                a.read().await;
            })
            .unwrap();
            p.spawn(async move {
                let n = b.read().await;
                b.write(n + 1).await;
            })
            .unwrap();
            p.spawn(async move { assert_eq!(c.read().await, 2) }).unwrap();
            p.spawn(async move {
                ring.read().await;
                for _ in 0..5 {
                    yield_now().await;
                }
                assert!(heir.borrow_mut().try_write(1).is_ok(), "somebody still waits");
            })
            .unwrap();
        });
        assert_outcome(outcome, [3, 1, 0, 0, 0]);
    }

    /// One fibre holds two endpoints and reads from both: it is parked on that channel, in the same direction, and on
    /// nothing else, so neither endpoint is a counterpart of the other.
    #[test]
    fn one_fibre_that_reads_from_all_endpoints_collapses() {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut a, mut b) = p.two_way::<u8>().unwrap();
            p.spawn(async move {
                join(a.read(), b.read()).await;
            })
            .unwrap();
        });
        assert_outcome(outcome, [0, 1, 0, 0, 0]);
    }
}

#[test]
fn a_destructor_spawns() {
    let checking = Checking::new();
    let ran = Cell::new(0);
    let outcome = run(&checking, |p| {
        let ran = &ran;
        for _ in 0..3 {
            p.spawn(async move {
                let _guard = OnDrop(|| p.spawn(async move { ran.set(ran.get() + 1) }).unwrap());
                pending::<()>().await;
            })
            .unwrap();
        }
    });
    assert_eq!(ran.get(), 3);
    assert_outcome(outcome, [3, 3, 0, 0, 0]);
}

#[test]
fn a_destructor_makes_channels_and_fibres_that_talk() {
    let checking = Checking::new();
    let seen = Cell::new(0);
    let outcome = run(&checking, |p| {
        let seen = &seen;
        p.spawn(async move {
            let _guard = OnDrop(|| {
                let (mut w, mut r) = p.channel::<u8>().unwrap();
                p.spawn(async move { w.write(9).await }).unwrap();
                p.spawn(async move { seen.set(r.read().await) }).unwrap();
            });
            pending::<()>().await;
        })
        .unwrap();
    });
    assert_eq!(seen.get(), 9);
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

#[test]
fn a_destructor_writes_its_last_word() {
    let checking = Checking::new();
    let seen = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let seen = &seen;
        p.spawn(async move { seen.set(r.read().await) }).unwrap();
        p.spawn(async move {
            let _guard = OnDrop(|| w.try_write(42).unwrap());
            pending::<()>().await;
        })
        .unwrap();
    });
    assert_eq!(seen.get(), 42);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// Each collapse drops the ends of several others, of both directions, by a destructor.
#[test]
fn a_destructor_drops_the_ends_of_others() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let ends = Rc::new(RefCell::new(Vec::new()));
        for _ in 0..10 {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let (mut w2, r2) = p.channel::<u8>().unwrap();
            ends.borrow_mut().push((w, r2));
            p.spawn(async move {
                r.read().await;
            })
            .unwrap();
            p.spawn(async move { w2.write(1).await }).unwrap();
        }
        p.spawn(async move {
            let _guard = OnDrop(|| ends.borrow_mut().clear());
            pending::<()>().await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [0, 21, 0, 0, 0]);
}

/// The destructor of a fibre that collapses dissolves a channel while another one is being dissolved.
#[test]
fn channels_dissolve_while_another_does() {
    let checking = Checking::new();
    let outcome = run(&checking, |p: &P<'_, '_, '_>| {
        let (w, r) = p.channel::<u8>().unwrap();
        for _ in 0..5 {
            let mut r = r.dup().unwrap();
            let (w2, r2) = p.channel::<u8>().unwrap();
            for _ in 0..3 {
                let mut r2 = r2.dup().unwrap();
                p.spawn(async move {
                    r2.read().await;
                })
                .unwrap();
            }
            p.spawn(async move {
                r.read().await;
                drop(w2);
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
    assert_outcome(outcome, [1, 20, 0, 0, 0]);
}

/// A channel that is being dissolved goes before its turn comes.
#[test]
fn a_channel_goes_while_it_is_to_be_dissolved() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let (mut stop, mut stopped) = p.channel::<()>().unwrap();
        p.spawn(async move {
            let _ = select(pin!(r.read()), pin!(stopped.read())).await;
            drop(r);
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            // The reader is woken, and is in the queue in front of the scheduler's own turn.
            stop.try_write(()).unwrap();
            drop(w);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

const MILLION: usize = 1_000_000;

fn collapse_many(n: usize, from_the_source: bool) {
    common::on_small_stack(move || {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (w, r) = line(p, n);
            p.spawn(async move {
                // The whole line is parked by now.
                yield_now().await;
                if from_the_source {
                    drop(w);
                    drop(r);
                } else {
                    drop(r);
                    drop(w);
                }
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, n, 0, 0, 0]);
    });
}

#[test]
fn a_million_fibres_collapse_from_the_source_on_a_small_stack() {
    collapse_many(MILLION, true);
}

#[test]
fn a_million_fibres_collapse_from_the_sink_on_a_small_stack() {
    collapse_many(MILLION, false);
}

/// A million fibres that all write, and whose one reader goes.
#[test]
fn a_line_full_of_writers_collapses_on_a_small_stack() {
    common::on_small_stack(|| {
        let checking = Checking::new();
        let n = MILLION / 4;
        let outcome = run(&checking, |p| {
            let (mut first, mut from) = p.channel::<usize>().unwrap();
            p.spawn(async move { first.write(0).await }).unwrap();
            for nth in 1..n {
                let (mut to, next) = p.channel().unwrap();
                let from = std::mem::replace(&mut from, next);
                p.spawn(async move {
                    to.write(nth).await;
                    drop(from);
                })
                .unwrap();
            }
            p.spawn(async move {
                yield_now().await;
                drop(from);
            })
            .unwrap();
        });
        assert_outcome(outcome, [1, n, 0, 0, 0]);
    });
}

#[test]
fn a_star_of_many_readers_collapses_on_a_small_stack() {
    common::on_small_stack(|| {
        let checking = Checking::new();
        let n = MILLION / 4;
        let outcome = run(&checking, |p| {
            let (w, r) = p.channel::<u8>().unwrap();
            for _ in 0..n {
                let mut r = r.dup().unwrap();
                p.spawn(async move {
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
        assert_outcome(outcome, [1, n, 0, 0, 0]);
    });
}

/// Other fibres go on between the steps of a long collapse.
#[test]
fn a_long_collapse_takes_turns() {
    let checking = Checking::new();
    let rounds = Cell::new(0);
    let done = Cell::new(0);
    let outcome = run(&checking, |p| {
        let rounds = &rounds;
        let done = &done;
        let (w, mut from) = p.channel::<()>().unwrap();
        for _ in 0..100 {
            let (to, next) = p.channel().unwrap();
            let mut from = std::mem::replace(&mut from, next);
            p.spawn(async move {
                let _to = to;
                let _guard = OnDrop(|| done.set(done.get() + 1));
                from.read().await;
            })
            .unwrap();
        }
        drop(from);
        p.spawn(async move {
            yield_now().await;
            drop(w);
            while done.get() < 100 {
                rounds.set(rounds.get() + 1);
                yield_now().await;
            }
        })
        .unwrap();
    });
    assert!((90..=110).contains(&rounds.get()), "one fibre in each turn: {}", rounds.get());
    assert_outcome(outcome, [1, 100, 0, 0, 0]);
}
