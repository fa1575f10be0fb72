//! C7: dropping or forgetting a pending operation at any moment loses no value that was handed over, and leaves nothing
//! dangling.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::{Checking, Tally, Token, Trace, assert_outcome, poll_and_forget, poll_once, rounds, run};
use fibra_core::yield_now;
use futures::future::{Either, select};

#[test]
fn a_write_that_is_never_polled_writes_nothing() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        drop(w.write(tally.token()));
        assert_eq!(tally.dropped(), 1);
        assert!(r.try_read().is_none());
        // What was forgotten before its first poll may leak, but is never read.
        let (mut w8, mut r8) = p.channel::<u8>().unwrap();
        std::mem::forget(w8.write(1));
        assert_eq!(r8.try_read(), None);
        assert_eq!(w8.write(2).cancel(), Some(2));
        assert_eq!(r8.try_read(), None);
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
}

#[test]
fn a_forgotten_write_that_waits_can_still_be_read() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let tally = &tally;
        p.spawn(async move {
            poll_and_forget(w.write(tally.token())).await;
            rounds(3).await;
            // It was read meanwhile; the next write is another one.
            w.write(tally.token()).await;
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            assert_eq!(r.read().await.id, 0);
            rounds(3).await;
            assert_eq!(r.read().await.id, 1);
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (2, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_forgotten_write_is_taken_back_by_the_next_operation() {
    for operation in 0..4 {
        let checking = Checking::new();
        let tally = Tally::default();
        run(&checking, |p| {
            let (mut w, mut r) = p.channel().unwrap();
            let tally = &tally;
            p.spawn(async move {
                poll_and_forget(w.write(tally.token())).await;
                match operation {
                    0 => drop(w.write(tally.token())),
                    1 => drop(w.try_write(tally.token())),
                    2 => assert_eq!(w.write(tally.token()).cancel().unwrap().id, 1),
                    _ => drop(w),
                }
                assert_eq!(tally.alive(), 0);
            })
            .unwrap();
            p.spawn(async move {
                yield_now().await;
                assert!(r.try_read().is_none());
            })
            .unwrap();
        });
        assert_eq!(tally.alive(), 0);
    }
}

#[test]
fn a_write_that_is_dropped_while_it_waits_is_not_delivered() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let tally = &tally;
        p.spawn(async move {
            {
                let mut write = w.write(tally.token());
                assert!(poll_once(&mut write).await.is_pending());
                yield_now().await;
            }
            assert_eq!(tally.dropped(), 1);
            w.write(tally.token()).await;
        })
        .unwrap();
        p.spawn(async move {
            rounds(2).await;
            assert_eq!(r.read().await.id, 1);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
    assert_eq!(tally.alive(), 0);
}

/// Cancelling says which it was, at each moment of a write's life.
#[test]
fn cancelling_a_write_says_whether_it_was_delivered() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let (mut ask, mut asked) = p.channel::<()>().unwrap();
        let tally = &tally;
        p.spawn(async move {
            assert_eq!(w.write(tally.token()).cancel().map(|token| token.id), Some(0));

            let mut write = w.write(tally.token());
            assert!(poll_once(&mut write).await.is_pending());
            assert_eq!(write.cancel().map(|token| token.id), Some(1));

            let mut write = w.write(tally.token());
            assert!(poll_once(&mut write).await.is_pending());
            ask.write(()).await;
            yield_now().await;
            assert!(write.cancel().is_none(), "it was read meanwhile, and not yet polled again");

            let mut write = w.write(tally.token());
            ask.write(()).await;
            yield_now().await;
            assert!(poll_once(&mut write).await.is_ready());
            assert!(write.cancel().is_none());

            let mut write = w.write(tally.token());
            drop(ask);
            rounds(3).await;
            assert!(poll_once(&mut write).await.is_pending(), "there is no reader any more");
            assert_eq!(write.cancel().map(|token| token.id), Some(4));
        })
        .unwrap();
        p.spawn(async move {
            let mut ids = Vec::new();
            while asked.read_or_end().await.is_some() {
                ids.push(r.read().await.id);
            }
            assert_eq!(ids, [2, 3]);
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (5, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_cancelled_write_to_a_channel_that_died_gives_its_value() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<String>().unwrap();
        let (mut go, mut gone) = p.channel::<()>().unwrap();
        p.spawn(async move {
            let mut write = w.write("kept".to_owned());
            assert!(poll_once(&mut write).await.is_pending());
            gone.read().await;
            assert_eq!(write.cancel().as_deref(), Some("kept"));
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(r);
            rounds(2).await;
            go.write(()).await;
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A value that was given to a read which is then dropped, or forgotten, comes from the endpoint's next read.
#[test]
fn a_delivered_value_survives_its_read() {
    for forget in [false, true] {
        for way in 0..4 {
            let checking = Checking::new();
            let tally = Tally::default();
            let outcome = run(&checking, |p| {
                let (mut w, mut r) = p.channel::<Token<'_>>().unwrap();
                let tally = &tally;
                p.spawn(async move {
                    let mut read = r.read();
                    assert!(poll_once(&mut read).await.is_pending());
                    rounds(2).await;
                    if forget {
                        std::mem::forget(read);
                    } else {
                        drop(read);
                    }
                    assert_eq!(tally.dropped(), 0);
                    rounds(3).await;
                    let token = match way {
                        0 => r.read().await,
                        1 => r.read_or_end().await.unwrap(),
                        2 => r.try_read().unwrap(),
                        _ => {
                            drop(r.read());
                            std::mem::forget(r.read_or_end());
                            r.read().await
                        }
                    };
                    assert_eq!(token.id, 0);
                    assert_eq!(r.read_or_end().await.map(|token| token.id), None);
                })
                .unwrap();
                p.spawn(async move {
                    w.write(tally.token()).await;
                    // All writers are gone when the value is claimed.
                })
                .unwrap();
            });
            assert_eq!((tally.made(), tally.alive()), (1, 0));
            assert_outcome(outcome, [2, 0, 0, 0, 0]);
        }
    }
}

#[test]
fn a_delivered_value_that_is_never_claimed_goes_with_its_reader() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let tally = &tally;
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            rounds(2).await;
            assert_eq!(tally.alive(), 1);
            drop(r);
            assert_eq!(tally.alive(), 0);
        })
        .unwrap();
        p.spawn(async move { w.write(tally.token()).await }).unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
}

/// Two selects in a row over the same two reads; both channels deliver in the same round, and nothing is lost.
#[test]
fn the_losing_branch_of_a_select_loses_no_value() {
    let checking = Checking::new();
    let tally = Tally::default();
    let seen = Trace::new();
    run(&checking, |p| {
        let (mut wa, mut ra) = p.channel::<Token<'_>>().unwrap();
        let (mut wb, mut rb) = p.channel::<Token<'_>>().unwrap();
        let (seen, tally) = (&seen, &tally);
        p.spawn(async move {
            loop {
                match select(pin!(ra.read()), pin!(rb.read())).await {
                    Either::Left((token, _)) => seen.push(('a', token.id)),
                    Either::Right((token, _)) => seen.push(('b', token.id)),
                }
            }
        })
        .unwrap();
        p.spawn(async move {
            for _ in 0..10 {
                // Both are delivered before the reader runs.
                assert!(wa.try_write(tally.token()).is_ok());
                assert!(wb.try_write(tally.token()).is_ok());
                rounds(3).await;
            }
        })
        .unwrap();
    });
    let seen = seen.take();
    assert_eq!(seen.iter().map(|(_, id)| *id).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert_eq!((tally.made(), tally.alive()), (20, 0));
}

/// A timeout that fires in the very round in which the value comes.
#[test]
fn a_timeout_at_the_same_moment_loses_nothing() {
    for delay in 0..6 {
        let checking = Checking::new();
        let seen = Trace::new();
        run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            let seen = &seen;
            p.spawn(async move {
                for timeout in 0..6 {
                    let read = pin!(r.read());
                    let timeout = pin!(rounds(timeout));
                    if let Either::Right((value, _)) = select(timeout, read).await {
                        seen.push(value);
                    }
                }
                loop {
                    seen.push(r.read().await);
                }
            })
            .unwrap();
            p.spawn(async move {
                for n in 0..10 {
                    rounds(delay).await;
                    w.write(n).await;
                }
            })
            .unwrap();
        });
        assert_eq!(seen.take(), (0..10).collect::<Vec<_>>(), "with a delay of {delay}");
    }
}

/// A pending read is forgotten, its endpoint moves to another fibre through a cell, the first fibre ends; then a write.
#[test]
fn an_endpoint_moves_to_another_fibre_with_a_forgotten_read() {
    for claims_before in [false, true] {
        let checking = Checking::new();
        let got = Cell::new(0);
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            let cell = Rc::new(Cell::new(None));
            let other = cell.clone();
            let got = &got;
            p.spawn(async move {
                poll_and_forget(r.read()).await;
                cell.set(Some(r));
            })
            .unwrap();
            p.spawn(async move {
                if !claims_before {
                    rounds(4).await;
                }
                got.set(other.take().unwrap().read().await);
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                w.write(7).await;
            })
            .unwrap();
        });
        assert_eq!(got.get(), 7);
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }
}

#[test]
fn an_endpoint_moves_to_another_fibre_with_a_forgotten_write() {
    for reads_before in [false, true] {
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel().unwrap();
            let cell = Rc::new(Cell::new(None));
            let other = cell.clone();
            let tally = &tally;
            p.spawn(async move {
                poll_and_forget(w.write(tally.token())).await;
                cell.set(Some(w));
            })
            .unwrap();
            p.spawn(async move {
                rounds(if reads_before { 4 } else { 1 }).await;
                other.take().unwrap().write(tally.token()).await;
            })
            .unwrap();
            p.spawn(async move {
                rounds(2).await;
                assert_eq!(r.read().await.id, if reads_before { 0 } else { 1 });
                if reads_before {
                    assert_eq!(r.read().await.id, 1);
                }
            })
            .unwrap();
        });
        assert_eq!((tally.made(), tally.alive()), (2, 0));
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }
}

/// The endpoint is sent over another channel while its read is pending.
#[test]
fn an_endpoint_is_sent_with_a_forgotten_read() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u32>().unwrap();
        let (mut send, mut receive) = p.channel().unwrap();
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            send.write(r).await;
        })
        .unwrap();
        p.spawn(async move {
            let mut r = receive.read().await;
            rounds(2).await;
            assert_eq!(r.try_read(), Some(5));
        })
        .unwrap();
        p.spawn(async move { w.write(5).await }).unwrap();
    });
    assert_outcome(outcome, [3, 0, 0, 0, 0]);
}

/// Each direction of a two-way endpoint has a slot: a value that was delivered survives a write.
#[test]
fn a_two_way_endpoint_keeps_a_delivered_value_while_it_writes() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut a, mut b) = p.two_way().unwrap();
        let tally = &tally;
        p.spawn(async move {
            poll_and_forget(a.read()).await;
            rounds(2).await;
            a.write(tally.token()).await;
            assert_eq!(a.read().await.id, 0);
        })
        .unwrap();
        p.spawn(async move {
            b.write(tally.token()).await;
            assert_eq!(b.read().await.id, 1);
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (2, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_two_way_endpoint_goes_with_a_value_in_each_slot() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let (mut a, mut b) = p.two_way().unwrap();
        let tally = &tally;
        p.spawn(async move {
            poll_and_forget(a.read()).await;
            rounds(2).await;
            poll_and_forget(a.write(tally.token())).await;
            assert_eq!(tally.alive(), 2);
            drop(a);
            assert_eq!(tally.alive(), 0);
        })
        .unwrap();
        p.spawn(async move { b.write(tally.token()).await }).unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (2, 0));
}

/// A read or a write that was forgotten does not meet the other operation of the same endpoint.
#[test]
fn a_two_way_endpoint_takes_its_forgotten_operation_back() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let (mut a, mut b) = p.two_way().unwrap();
        let tally = &tally;
        p.spawn(async move {
            poll_and_forget(a.write(tally.token())).await;
            poll_and_forget(a.read()).await;
            assert_eq!(tally.alive(), 0, "the write was taken back");
            poll_and_forget(a.write(tally.token())).await;
            rounds(3).await;
            assert!(a.write(tally.token()).cancel().is_some());
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            assert_eq!(b.read().await.id, 1);
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (3, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A two-way endpoint changes direction while another one waits in the ring.
#[test]
fn the_ring_of_a_two_way_channel_changes_direction() {
    let checking = Checking::new();
    let seen = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut a, mut b) = p.two_way::<u8>().unwrap();
        let seen = &seen;
        p.spawn(async move {
            poll_and_forget(a.read()).await;
            yield_now().await;
            a.write(1).await;
            seen.push(a.read().await);
        })
        .unwrap();
        p.spawn(async move {
            rounds(2).await;
            seen.push(b.read().await);
            b.write(2).await;
        })
        .unwrap();
    });
    assert_eq!(seen.take(), [1, 2]);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// An endpoint is dropped in the same poll that posted its node, in the ring alone, first, last and in between.
#[test]
fn an_endpoint_goes_in_the_poll_that_posted_its_node() {
    for position in 0..3 {
        let checking = Checking::new();
        let seen = Trace::new();
        let outcome = run(&checking, |p| {
            let (mut w, r) = p.channel::<u8>().unwrap();
            let seen = &seen;
            for n in 0..3 {
                let mut r = r.dup().unwrap();
                p.spawn(async move {
                    if n == position {
                        poll_and_forget(r.read()).await;
                        drop(r);
                    } else {
                        seen.push((n, r.read().await));
                    }
                })
                .unwrap();
            }
            p.spawn(async move {
                w.write(1).await;
                w.write(2).await;
                assert_eq!(w.try_write(3), Err(3));
            })
            .unwrap();
        });
        let order: Vec<_> = (0..3).filter(|n| *n != position).zip(1..).collect();
        assert_eq!(seen.take(), order);
        assert_outcome(outcome, [4, 0, 0, 0, 0]);
    }
}

#[test]
fn both_ends_meet_in_one_join() {
    for read_first in [false, true] {
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            let tally = &tally;
            p.spawn(async move {
                let (mut w, mut r) = p.channel().unwrap();
                for id in 0..5 {
                    let token = if read_first {
                        futures::join!(r.read(), w.write(tally.token())).0
                    } else {
                        futures::join!(w.write(tally.token()), r.read()).1
                    };
                    assert_eq!(token.id, id);
                }
            })
            .unwrap();
        });
        assert_eq!((tally.made(), tally.alive()), (5, 0));
        assert_outcome(outcome, [1, 0, 0, 0, 0]);
    }
}

/// In the setup closure, nobody polls with the process's waker: operations by hand with a foreign one.
#[test]
fn operations_are_polled_by_hand_in_the_setup_closure() {
    let checking = Checking::new();
    let tally = Tally::default();
    let outcome = run(&checking, |p| {
        let cx = &mut Context::from_waker(Waker::noop());
        let tally = &tally;
        let (mut w, mut r) = p.channel().unwrap();
        assert!(pin!(r.read()).poll(cx).is_pending());
        assert!(r.try_read().is_none());

        let mut read = r.read();
        assert!(Pin::new(&mut read).poll(cx).is_pending());
        assert!(pin!(w.write(tally.token())).poll(cx).is_ready());
        let Poll::Ready(token) = Pin::new(&mut read).poll(cx) else { panic!("it was written") };
        assert_eq!(token.id, 0);
        drop(read);

        let mut write = w.write(tally.token());
        assert!(Pin::new(&mut write).poll(cx).is_pending());
        assert_eq!(r.try_read().unwrap().id, 1);
        assert!(Pin::new(&mut write).poll(cx).is_ready());
        drop(write);

        // One is left pending, and moves into a fibre.
        let mut write = w.write(tally.token());
        assert!(Pin::new(&mut write).poll(cx).is_pending());
        std::mem::forget(write);
        p.spawn(async move { assert_eq!(r.read().await.id, 2) }).unwrap();
        p.spawn(async move {
            yield_now().await;
            drop(w);
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (3, 0));
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// An operation that completed has nothing to do with its endpoint any more: polled again, dropped, or cancelled.
#[test]
fn operations_are_polled_again_after_they_completed() {
    for reader_first in [false, true] {
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            let (mut w, mut r) = p.channel::<Token<'_>>().unwrap();
            let tally = &tally;
            let reader = async move {
                let mut read = r.read();
                assert_eq!((&mut read).await.id, 0);
                assert!(poll_once(&mut read).await.is_pending());
                drop(read);
                let mut read = r.read_or_end();
                assert_eq!((&mut read).await.unwrap().id, 1);
                assert!(!matches!(poll_once(&mut read).await, Poll::Ready(Some(_))));
                drop(read);
                assert!(r.read_or_end().await.is_none());
            };
            let writer = async move {
                let mut write = w.write(tally.token());
                (&mut write).await;
                (&mut write).await;
                assert!(poll_once(&mut write).await.is_ready());
                assert!(write.cancel().is_none());
                w.write(tally.token()).await;
            };
            if reader_first {
                p.spawn(reader).unwrap();
                p.spawn(writer).unwrap();
            } else {
                p.spawn(writer).unwrap();
                p.spawn(reader).unwrap();
            }
        });
        assert_eq!((tally.made(), tally.alive()), (2, 0));
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }
}

/// A plain read and one that is told of the end follow one another while the same node is in the ring.
#[test]
fn the_last_poll_decides_whether_the_end_is_told() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (w, mut r) = p.channel::<u8>().unwrap();
        let (w2, mut r2) = p.channel::<u8>().unwrap();
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            assert_eq!(r.read_or_end().await, None);
        })
        .unwrap();
        p.spawn(async move {
            poll_and_forget(r2.read_or_end()).await;
            r2.read().await;
            unreachable!("it collapses");
        })
        .unwrap();
        p.spawn(async move {
            rounds(2).await;
            drop((w, w2));
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 1, 0, 0, 0]);
}

/// A fibre that forgot a read and waits for something dead collapses once the forgotten wait is gone too.
#[test]
fn a_forgotten_wait_is_one_of_its_fibres_waits() {
    let checking = Checking::new();
    let woken = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let woken = &woken;
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            std::future::poll_fn(|_| {
                woken.set(woken.get() + 1);
                Poll::<()>::Pending
            })
            .await;
            drop(r);
        })
        .unwrap();
        p.spawn(async move {
            rounds(3).await;
            w.write(1).await;
        })
        .unwrap();
    });
    assert_eq!(woken.get(), 2);
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// A whole endpoint is forgotten while it waits: the channel stays, nothing dangles, and its fibre's block is not lost.
#[test]
fn a_forgotten_endpoint_leaves_only_its_channel() {
    for served in [false, true] {
        let checking = Checking::new();
        let (result, outcome) = fibra_core::run(&checking, |p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            p.spawn(async move {
                poll_and_forget(r.read()).await;
                std::mem::forget(r);
            })
            .unwrap();
            p.spawn(async move {
                yield_now().await;
                if served {
                    w.write(1).await;
                }
            })
            .unwrap();
        })
        .unwrap();
        let () = result;
        assert_eq!(checking.live(), 1, "the channel");
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
        checking.leak();
    }
}

/// A forgotten write keeps being offered by its forgotten endpoint.
#[test]
fn a_forgotten_writer_is_read_from() {
    let checking = Checking::new();
    let tally = Tally::default();
    let got = RefCell::new(Vec::new());
    fibra_core::run(&checking, |p| {
        let (mut w, mut r) = p.channel().unwrap();
        let (tally, got) = (&tally, &got);
        p.spawn(async move {
            poll_and_forget(w.write(tally.token())).await;
            std::mem::forget(w);
            pending::<()>().await;
        })
        .unwrap();
        p.spawn(async move {
            yield_now().await;
            let token = r.read().await;
            got.borrow_mut().push(token.id);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(got.into_inner(), [0]);
    assert_eq!(tally.alive(), 0);
    assert_eq!(checking.live(), 1, "the channel");
    checking.leak();
}
