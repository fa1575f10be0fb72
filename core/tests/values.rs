//! Values and futures of every shape: of no size, over-aligned, huge, and with endpoints in them.

mod common;

use std::cell::Cell;
use std::fmt::Debug;
use std::rc::Rc;

use common::{Checking, Tally, assert_outcome, poll_and_forget, rounds, run};
use fibra_core::{Endpoint, Reader, Writer, fibre_layout};

/// Sends values both ways round (the reader first, the writer first), through directional and two-way channels, by
/// duplicated ends, and by a read that was forgotten.
fn travels<T: PartialEq + Debug>(make: impl Fn(usize) -> T) {
    for reader_first in [false, true] {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let make = &make;
            let (w, r) = p.channel::<T>().unwrap();
            let (mut w2, mut r2) = (w.dup().unwrap(), r.dup().unwrap());
            let (mut a, b) = p.two_way::<T>().unwrap();
            let mut b2 = b.dup().unwrap();
            drop((w, r, b));
            let write = async move {
                for n in 0..3 {
                    w2.write(make(n)).await;
                }
                poll_and_forget(w2.write(make(9))).await;
                a.write(make(3)).await;
                assert_eq!(a.read().await, make(4));
                drop(w2);
            };
            let read = async move {
                for n in 0..3 {
                    let value = r2.read().await;
                    assert_eq!(value, make(n));
                    assert_eq!((&raw const value).addr() % align_of::<T>(), 0);
                }
                assert_eq!(b2.read().await, make(3));
                b2.write(make(4)).await;
                // A forgotten write can be read as long as its writer is there.
                if let Some(value) = r2.read_or_end().await {
                    assert_eq!(value, make(9));
                    assert_eq!(r2.read_or_end().await, None);
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
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }
}

#[derive(PartialEq, Debug)]
#[repr(align(64))]
struct Line(u8);

#[derive(PartialEq, Debug)]
#[repr(align(4096))]
struct Page(u8);

#[derive(PartialEq, Debug)]
#[repr(align(64))]
struct Nothing;

#[test]
fn of_no_size() {
    travels(|_| ());
    travels(|_| [0_u64; 0]);
}

#[test]
fn of_no_size_and_over_aligned() {
    travels(|_| Nothing);
}

#[test]
fn over_aligned() {
    travels(|n| Line(n as u8));
    travels(|n| Page(n as u8));
}

#[test]
fn small_and_odd() {
    travels(|n| n as u8);
    travels(|n| [n as u8; 3]);
    travels(|n| (n as u8, n as u32, n % 2 == 0));
    travels(|n| n as u128);
}

#[test]
fn large() {
    travels(|n| [n; 1000]);
}

#[test]
fn with_a_heap_of_their_own() {
    travels(|n| n.to_string());
    travels(|n| vec![Box::new(n); n]);
}

/// Values without a size have destructors all the same.
#[test]
fn values_of_no_size_are_dropped_once() {
    thread_local!(static DROPS: Cell<usize> = const { Cell::new(0) });
    struct Unit;
    impl Drop for Unit {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }
    let checking = Checking::new();
    run(&checking, |p| {
        let (mut w, mut r) = p.channel::<Unit>().unwrap();
        p.spawn(async move {
            for _ in 0..5 {
                w.write(Unit).await;
            }
        })
        .unwrap();
        p.spawn(async move {
            for n in 0..3 {
                drop(r.read().await);
                assert_eq!(DROPS.get(), n + 1);
            }
        })
        .unwrap();
    });
    assert_eq!(DROPS.get(), 4, "three were read, one was on its way, and one was never made");
}

#[test]
fn a_reply_channel_is_sent_with_the_question() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (ask, mut asked) = p.channel::<(u32, Writer<'_, u32>)>().unwrap();
        for n in 0..4 {
            let mut ask = ask.dup().unwrap();
            p.spawn(async move {
                let (reply, mut answer) = p.channel().unwrap();
                ask.write((n, reply)).await;
                assert_eq!(answer.read().await, n * n);
            })
            .unwrap();
        }
        drop(ask);
        p.spawn(async move {
            loop {
                let (n, mut reply) = asked.read().await;
                reply.write(n * n).await;
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [4, 1, 0, 0, 0]);
}

/// The ends in a value that is never read go with it, and their counterparts follow.
#[test]
fn ends_in_a_value_that_is_never_read_are_dropped() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut send, receive) = p.channel::<(Writer<'_, u8>, Reader<'_, u8>)>().unwrap();
        let (wa, mut ra) = p.channel::<u8>().unwrap();
        let (mut wb, rb) = p.channel::<u8>().unwrap();
        p.spawn(async move { while ra.read().await > 0 {} }).unwrap();
        p.spawn(async move { wb.write(1).await }).unwrap();
        p.spawn(async move { send.write((wa, rb)).await }).unwrap();
        p.spawn(async move {
            rounds(2).await;
            drop(receive);
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 3, 0, 0, 0]);
}

/// Channels that carry their own ends.
struct Own<'p>(
    Option<Writer<'p, Own<'p>>>,
    #[expect(dead_code, reason = "held, and never used")] Option<Reader<'p, Own<'p>>>,
);

#[test]
fn a_channel_carries_its_own_ends() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<Own<'_>>().unwrap();
        p.spawn(async move {
            let own = Own(Some(w.dup().unwrap()), None);
            w.write(own).await;
        })
        .unwrap();
        p.spawn(async move {
            let Own(w, _) = r.read().await;
            let mut w = w.unwrap();
            // The last writer writes itself into its own slot, by way of a duplicate, and is forgotten there.
            let own = Own(Some(w.dup().unwrap()), Some(r.dup().unwrap()));
            poll_and_forget(w.write(own)).await;
            assert!(r.try_read().is_some());
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

/// A writer's slot holds the only reader of its channel, in each state of the slot.
#[test]
fn a_slot_holds_the_other_end() {
    for state in 1..4 {
        let checking = Checking::new();
        let outcome = run(&checking, |p| {
            let (mut w, r) = p.channel::<Own<'_>>().unwrap();
            p.spawn(async move {
                match state {
                    1 => poll_and_forget(w.write(Own(None, Some(r)))).await,
                    2 => assert!(w.write(Own(None, Some(r))).cancel().is_some()),
                    _ => w.write(Own(None, Some(r))).await,
                }
                drop(w);
            })
            .unwrap();
        });
        // Who waits to write the reader itself waits for ever.
        let expected = if state == 3 { [0, 0, 1, 0, 0] } else { [1, 0, 0, 0, 0] };
        assert_outcome(outcome, expected);
    }
}

/// A reader's slot holds the last writer of its channel.
#[test]
fn a_readers_slot_holds_the_last_writer() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, mut r) = p.channel::<Own<'_>>().unwrap();
        p.spawn(async move {
            poll_and_forget(r.read()).await;
            let own = Own(Some(w.dup().unwrap()), None);
            w.write(own).await;
            drop(w);
            drop(r);
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 0, 0, 0, 0]);
}

#[test]
fn a_two_way_endpoint_travels_over_its_own_kind() {
    struct Carrier<'p>(Option<Endpoint<'p, Carrier<'p>>>);
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut a, mut b) = p.two_way::<Carrier<'_>>().unwrap();
        p.spawn(async move {
            let c = a.dup().unwrap();
            a.write(Carrier(Some(c))).await;
        })
        .unwrap();
        p.spawn(async move {
            let mut c = b.read().await.0.unwrap();
            assert!(c.try_write(Carrier(None)).is_err());
            poll_and_forget(c.write(Carrier(Some(b)))).await;
            drop(c);
        })
        .unwrap();
    });
    assert_outcome(outcome, [2, 0, 0, 0, 0]);
}

mod futures_of_every_shape {
    use super::*;
    use std::future::{Future, Ready, poll_fn, ready};
    use std::pin::Pin;
    use std::task::{Context, Poll};

    #[test]
    fn of_no_size() {
        let checking = Checking::new();
        assert_eq!(size_of::<Ready<()>>(), 1);
        let nothing = poll_fn(|_| Poll::Ready(()));
        assert_eq!(size_of_val(&nothing), 0);
        let outcome = run(&checking, |p| {
            p.spawn(nothing).unwrap();
            p.spawn(ready(())).unwrap();
            p.spawn_with(|| poll_fn(|_| Poll::Pending)).unwrap();
        });
        assert_outcome(outcome, [2, 1, 0, 0, 0]);
    }

    #[repr(align(4096))]
    struct Page(Cell<u8>);

    impl Future for Page {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            assert_eq!((&raw const *self).addr() % 4096, 0);
            self.0.set(self.0.get() - 1);
            cx.waker().wake_by_ref();
            if self.0.get() == 0 { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    #[test]
    fn over_aligned() {
        let checking = Checking::new();
        assert_eq!(fibre_layout::<Page>().align(), 4096);
        let outcome = run(&checking, |p| {
            p.spawn(Page(Cell::new(3))).unwrap();
            p.spawn_with(|| Page(Cell::new(1))).unwrap();
            p.fibre().name("page").essential().spawn(Page(Cell::new(2))).unwrap();
        });
        assert_outcome(outcome, [3, 0, 0, 0, 0]);
    }

    /// Larger than the stack: made in place by its constructor, never moved.
    #[test]
    #[cfg_attr(debug_assertions, ignore = "an unoptimised build moves it through the stack")]
    fn larger_than_the_stack() {
        async fn huge() -> u8 {
            let buffer = [1_u8; 1024 * 1024];
            rounds(1).await;
            std::hint::black_box(&buffer)[1000]
        }
        common::on_small_stack(|| {
            let checking = Checking::new();
            let outcome = run(&checking, |p| {
                p.spawn_with(|| async { assert_eq!(huge().await, 1) }).unwrap();
            });
            assert_outcome(outcome, [1, 0, 0, 0, 0]);
        });
    }

    #[test]
    fn as_large_as_fits() {
        async fn large(tally: &Tally) {
            let buffer = [7_u8; 64 * 1024];
            let _token = tally.token();
            rounds(2).await;
            assert!(std::hint::black_box(&buffer).iter().all(|byte| *byte == 7));
        }
        let checking = Checking::new();
        let tally = Tally::default();
        let outcome = run(&checking, |p| {
            for _ in 0..5 {
                p.spawn_with(|| large(&tally)).unwrap();
                p.spawn(large(&tally)).unwrap();
            }
        });
        assert_eq!((tally.made(), tally.alive()), (10, 0));
        assert_outcome(outcome, [10, 0, 0, 0, 0]);
    }

    /// What makes a future may use the process meanwhile.
    #[test]
    fn made_by_a_function_that_spawns() {
        let checking = Checking::new();
        let order = common::Trace::new();
        let outcome = run(&checking, |p| {
            let order = &order;
            p.spawn_with(move || {
                p.spawn(async move { order.push("inner") }).unwrap();
                let (w, r) = p.channel::<u8>().unwrap();
                drop((w, r));
                async move { order.push("outer") }
            })
            .unwrap();
        });
        assert_eq!(order.take(), ["inner", "outer"]);
        assert_outcome(outcome, [2, 0, 0, 0, 0]);
    }

    #[test]
    fn kept_alive_by_nothing_but_themselves() {
        let checking = Checking::new();
        let shared = Rc::new(());
        run(&checking, |p| {
            let mine = shared.clone();
            p.spawn(async move {
                let _mine = mine;
                std::future::pending::<()>().await;
            })
            .unwrap();
        });
        assert_eq!(Rc::strong_count(&shared), 1);
    }
}
