//! C1: a write completes with exactly one read, and the value is moved.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use common::{Checking, Tally, Trace, assert_outcome, run};
use fibra_core::yield_now;

#[test]
fn twenty_values_arrive_as_twenty_values() {
    let checking = Checking::new();
    let seen = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut to_square, mut numbers) = p.channel::<u32>().unwrap();
        let (mut to_sink, mut squares) = p.channel::<u32>().unwrap();
        let seen = &seen;
        p.spawn(async move {
            for n in 1..=20 {
                to_square.write(n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                let n = numbers.read().await;
                to_sink.write(n * n).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                seen.push(squares.read().await);
            }
        })
        .unwrap();
    });
    assert_eq!(seen.take(), (1..=20).map(|n| n * n).collect::<Vec<u32>>());
    assert_outcome(outcome, [1, 2, 0, 0, 0]);
}

#[test]
fn a_write_waits_until_it_is_read() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let trace = &trace;
        p.spawn(async move {
            trace.push("writing");
            w.write(1).await;
            trace.push("written");
        })
        .unwrap();
        p.spawn(async move {
            common::rounds(3).await;
            trace.push("reading");
            r.read().await;
            trace.push("read");
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["writing", "reading", "read", "written"]);
}

#[test]
fn a_read_waits_until_it_is_written_to() {
    let checking = Checking::new();
    let trace = Trace::new();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let trace = &trace;
        p.spawn(async move {
            trace.push("reading");
            r.read().await;
            trace.push("read");
        })
        .unwrap();
        p.spawn(async move {
            common::rounds(3).await;
            trace.push("writing");
            w.write(1).await;
            trace.push("written");
        })
        .unwrap();
    });
    assert_eq!(trace.take(), ["reading", "writing", "written", "read"]);
}

/// The value has no `Clone`, is counted, and arrives by both ways: the reader first, and the writer first.
#[test]
fn values_are_moved_and_dropped_once() {
    for reader_first in [false, true] {
        let checking = Checking::new();
        let tally = Tally::default();
        run(&checking, |p| {
            let tally = &tally;
            let (mut w, mut r) = p.channel().unwrap();
            let write = async move {
                for id in 0..10 {
                    let token = tally.token();
                    assert_eq!(token.id, id);
                    w.write(token).await;
                }
            };
            let read = async move {
                for id in 0..10 {
                    let token = r.read().await;
                    assert_eq!(token.id, id);
                    assert_eq!(tally.dropped(), id, "only those that were read before are gone");
                }
            };
            if reader_first {
                p.spawn(read).unwrap();
                p.spawn(write).unwrap();
            } else {
                p.spawn(write).unwrap();
                p.spawn(read).unwrap();
            }
        });
        assert_eq!((tally.made(), tally.alive()), (10, 0));
    }
}

#[test]
fn waiting_writers_are_served_in_order() {
    let checking = Checking::new();
    let seen = Trace::new();
    run(&checking, |p| {
        let (w, mut r) = p.channel::<usize>().unwrap();
        for n in 0..5 {
            let mut w = w.dup().unwrap();
            p.spawn(async move {
                w.write(n).await;
                w.write(n + 10).await;
            })
            .unwrap();
        }
        drop(w);
        let seen = &seen;
        p.spawn(async move {
            loop {
                seen.push(r.read().await);
            }
        })
        .unwrap();
    });
    assert_eq!(seen.take(), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
}

#[test]
fn waiting_readers_are_served_in_order() {
    let checking = Checking::new();
    let seen = Trace::new();
    run(&checking, |p| {
        let (mut w, r) = p.channel::<usize>().unwrap();
        let seen = &seen;
        for reader in 0..4 {
            let mut r = r.dup().unwrap();
            p.spawn(async move {
                loop {
                    seen.push((reader, r.read().await));
                }
            })
            .unwrap();
        }
        drop(r);
        p.spawn(async move {
            for n in 0..8 {
                w.write(n).await;
                yield_now().await;
            }
        })
        .unwrap();
    });
    let expected: Vec<_> = (0..8).map(|n| (n % 4, n)).collect();
    assert_eq!(seen.take(), expected);
}

/// One in the middle of the ring leaves; the order of the others stays.
#[test]
fn a_waiter_that_leaves_does_not_disturb_the_order() {
    for leaves in 0..4 {
        let checking = Checking::new();
        let seen = Trace::new();
        run(&checking, |p| {
            let (mut w, r) = p.channel::<usize>().unwrap();
            let (mut go, mut gone) = p.channel::<()>().unwrap();
            let seen = &seen;
            let mut gone = Some(async move { gone.read().await });
            for reader in 0..4 {
                let mut r = r.dup().unwrap();
                if reader == leaves {
                    let gone = gone.take().unwrap();
                    p.spawn(async move {
                        let read = std::pin::pin!(r.read());
                        let gone = std::pin::pin!(gone);
                        let first = futures::future::select(read, gone).await;
                        assert!(matches!(first, futures::future::Either::Right(_)));
                    })
                    .unwrap();
                } else {
                    p.spawn(async move {
                        let value = r.read().await;
                        seen.push((reader, value));
                    })
                    .unwrap();
                }
            }
            drop(r);
            p.spawn(async move {
                go.write(()).await;
                common::rounds(2).await;
                for n in 0..3 {
                    w.write(n).await;
                }
            })
            .unwrap();
        });
        let order: Vec<_> = (0..4).filter(|reader| *reader != leaves).collect();
        let expected: Vec<_> = order.into_iter().zip(0..).collect();
        assert_eq!(seen.take(), expected, "reader {leaves} left");
    }
}

#[test]
fn each_value_goes_to_one_of_several_readers() {
    let checking = Checking::new();
    let got = RefCell::new(vec![0; 30]);
    run(&checking, |p| {
        let (w, r) = p.channel::<usize>().unwrap();
        let got = &got;
        for _ in 0..3 {
            let mut r = r.dup().unwrap();
            p.spawn(async move {
                loop {
                    let n = r.read().await;
                    got.borrow_mut()[n] += 1;
                }
            })
            .unwrap();
        }
        for first in [0, 10, 20] {
            let mut w = w.dup().unwrap();
            p.spawn(async move {
                for n in first..first + 10 {
                    w.write(n).await;
                }
            })
            .unwrap();
        }
    });
    assert_eq!(got.into_inner(), vec![1; 30]);
}

#[test]
fn the_end_of_a_stream_is_none_once_all_is_read() {
    let checking = Checking::new();
    let seen = Trace::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let seen = &seen;
        p.spawn(async move {
            w.write(1).await;
            w.write(2).await;
        })
        .unwrap();
        p.spawn(async move {
            for _ in 0..4 {
                seen.push(r.read_or_end().await);
            }
        })
        .unwrap();
    });
    assert_eq!(seen.take(), [Some(1), Some(2), None, None]);
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn all_readers_are_told_of_the_end() {
    let checking = Checking::new();
    let ends = Cell::new(0);
    let outcome = run(&checking, |p| {
        let (w, r) = p.channel::<u8>().unwrap();
        let ends = &ends;
        for n in 0..5 {
            let mut r = r.dup().unwrap();
            p.spawn(async move {
                // One of them reads where the others look for the end: it alone collapses.
                if n == 2 {
                    r.read().await;
                } else {
                    assert_eq!(r.read_or_end().await, None);
                }
                ends.set(ends.get() + 1);
            })
            .unwrap();
        }
        p.spawn(async move {
            common::rounds(1).await;
            drop(w);
        })
        .unwrap();
    });
    assert_eq!(ends.get(), 4);
    assert_outcome(outcome, [5, 1, 0, 0, 0]);
}

#[test]
fn try_operations_never_wait() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<u8>().unwrap();
        let (mut w2, mut r2) = p.channel::<u8>().unwrap();
        assert_eq!(r.try_read(), None);
        assert_eq!(w.try_write(1), Err(1));
        assert_eq!(r.try_read(), None, "a write that failed left nothing behind");
        p.spawn(async move {
            assert_eq!(r.read().await, 2);
            w2.write(3).await;
        })
        .unwrap();
        p.spawn(async move {
            assert_eq!(r2.try_read(), None);
            assert_eq!(w.try_write(2), Ok(()));
            assert_eq!(w.try_write(2), Err(2), "the reader has been served");
            yield_now().await;
            assert_eq!(r2.try_read(), Some(3));
            assert_eq!(r2.try_read(), None);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

#[test]
fn a_failed_try_write_gives_the_same_value_back() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let (mut w, _r) = p.channel().unwrap();
        let token = w.try_write(tally.token()).err().unwrap();
        assert_eq!((token.id, tally.dropped()), (0, 0));
    });
    assert_eq!(tally.alive(), 0);
}

#[test]
fn a_two_way_channel_carries_both_directions() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut client, mut server) = p.two_way::<u32>().unwrap();
        p.spawn(async move {
            for n in 0..10 {
                client.write(n).await;
                assert_eq!(client.read().await, n + 100);
            }
        })
        .unwrap();
        p.spawn(async move {
            loop {
                let n = server.read().await;
                server.write(n + 100).await;
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

#[test]
fn endpoints_of_a_two_way_channel_share_the_work() {
    let checking = Checking::new();
    let served = RefCell::new([0; 3]);
    let outcome = run(&checking, |p| {
        let (mut client, server) = p.two_way::<u32>().unwrap();
        for nth in 0..3 {
            let mut server = server.dup().unwrap();
            let served = &served;
            p.spawn(async move {
                loop {
                    server.read().await;
                    served.borrow_mut()[nth] += 1;
                }
            })
            .unwrap();
        }
        drop(server);
        p.spawn(async move {
            for n in 0..9 {
                client.write(n).await;
                yield_now().await;
            }
        })
        .unwrap();
    });
    assert_eq!(served.into_inner(), [3, 3, 3]);
    assert_outcome(outcome, [1, 3, 0, 0, 0]);
}

/// An endpoint of a two-way channel never meets itself.
#[test]
fn an_endpoint_does_not_match_itself() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut a, mut b) = p.two_way::<u32>().unwrap();
        p.spawn(async move {
            common::poll_and_forget(a.write(1)).await;
            assert_eq!(a.try_read(), None, "the forgotten write was taken back first");
            common::poll_and_forget(a.read()).await;
            assert_eq!(a.try_write(2), Err(2));
            b.try_write(3).unwrap_err();
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

/// A dining table: five philosophers, five forks, no value that could be cloned.
#[test]
fn a_ring_passes_one_token_round() {
    const N: usize = 50;
    const ROUNDS: usize = 20;
    let checking = Checking::new();
    let tally = Tally::default();
    let hops = Rc::new(Cell::new(0));
    let outcome = run(&checking, |p| {
        let (mut first, mut from) = p.channel().unwrap();
        for _ in 1..N {
            let (mut to, next) = p.channel().unwrap();
            let mut from = std::mem::replace(&mut from, next);
            let hops = hops.clone();
            p.spawn(async move {
                loop {
                    let token = from.read().await;
                    hops.set(hops.get() + 1);
                    to.write(token).await;
                }
            })
            .unwrap();
        }
        let tally = &tally;
        p.spawn(async move {
            first.write(tally.token()).await;
            for _ in 1..ROUNDS {
                let token = from.read().await;
                assert_eq!(tally.dropped(), 0);
                first.write(token).await;
            }
            from.read().await;
        })
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
    assert_eq!(hops.get(), ROUNDS * (N - 1));
    assert_outcome(outcome, [1, N - 1, 0, 0, 0]);
}
