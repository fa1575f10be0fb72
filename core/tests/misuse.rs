//! What a hostile or unlucky program does around the edges: hooks that lie, wakers that panic, stops that race with spawns,
//! reports of fibres that share a block.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use common::*;
use fibra_core::{Process, Reader, Report, Setup, yield_now};

type P<'p, 'env, 'c> = Process<'p, 'env, &'c Checking>;

struct Bomb;
impl Wake for Bomb {
    fn wake(self: Arc<Self>) {
        panic!("wake panics")
    }
}

#[test]
fn a_write_is_delivered_once_even_if_the_readers_waker_panics() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let (mut w, mut r1) = p.channel().unwrap();
        let mut r2 = r1.dup().unwrap();
        let bomb = Waker::from(Arc::new(Bomb));
        let (mut bad, mut good) = (Context::from_waker(&bomb), Context::from_waker(Waker::noop()));
        let (mut first, mut second) = (pin!(r1.read()), pin!(r2.read()));
        assert!(first.as_mut().poll(&mut bad).is_pending());
        assert!(second.as_mut().poll(&mut good).is_pending());
        let mut write = pin!(w.write(tally.token()));
        assert!(catch_unwind(AssertUnwindSafe(|| write.as_mut().poll(&mut good))).is_err());
        assert!(write.as_mut().poll(&mut good).is_ready());
        assert!(first.as_mut().poll(&mut good).is_ready());
        assert!(second.as_mut().poll(&mut good).is_pending());
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
}

#[test]
fn a_fibre_that_writes_survives_its_readers_waker() {
    let checking = Checking::new();
    let tally = Tally::default();
    let mut texts = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| texts.catch(f);
    Setup::new(&checking)
        .catch(&mut catch)
        .isolate_panics()
        .run(|p| {
            let (mut w, mut r) = p.channel().unwrap();
            let bomb = Waker::from(Arc::new(Bomb));
            let mut read = Box::pin(async move { r.read().await });
            assert!(read.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
            let token = tally.token();
            p.spawn(async move { w.write(token).await }).unwrap();
            p.spawn(async move {
                yield_now().await;
                drop(read);
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(texts.0, ["wake panics"]);
    assert_eq!((tally.made(), tally.alive()), (1, 0));
}

#[test]
fn a_hook_that_hides_a_panic_leaks_nothing() {
    let checking = Checking::new();
    let tally = Tally::default();
    let mut catch = |f: &mut dyn FnMut()| {
        let _ = catch_unwind(AssertUnwindSafe(f));
        false
    };
    let _ = Setup::new(&checking).catch(&mut catch).run(|p| {
        let token = tally.token();
        p.spawn(poll_fn(move |_| -> Poll<()> {
            let _ = &token;
            panic!("hidden")
        }))
        .unwrap();
    });
    assert_eq!((tally.made(), tally.alive()), (1, 0));
    checking.assert_empty();
}

#[test]
fn a_hook_that_calls_twice_keeps_the_value() {
    let checking = Checking::new();
    let mut catch = |f: &mut dyn FnMut()| {
        f();
        f();
        false
    };
    assert_eq!(Setup::new(&checking).catch(&mut catch).run(|_| 7).unwrap().0, 7);
}

#[test]
fn a_hook_that_always_says_panicked_does_not_hang() {
    let checking = Checking::new();
    for calls in [0, 1] {
        let mut catch = |f: &mut dyn FnMut()| {
            (0..calls).for_each(|_| f());
            true
        };
        let failure = Setup::new(&checking).catch(&mut catch).run(|p| p.spawn(async {}).unwrap()).unwrap_err();
        assert_eq!(failure.value.is_some(), calls == 1);
        checking.assert_empty();
    }
}

/// The wait that is reported is one that the fibre still had.
#[test]
fn a_wait_that_was_given_up_is_not_reported() {
    let checking = Checking::new();
    for dead in [false, true] {
        let mut seen = Vec::new();
        let mut visit = |report: &Report| seen.push(report.to_string());
        Setup::new(&checking)
            .report(&mut visit)
            .run(|p| {
                let (w, mut r) = p.channel_named::<u8>("c").unwrap();
                drop(w);
                p.fibre()
                    .name("f")
                    .spawn(async move {
                        if dead {
                            assert!(poll_once(&mut r.read()).await.is_pending());
                        } else {
                            assert!(r.read_or_end().await.is_none());
                        }
                        pending::<()>().await;
                    })
                    .unwrap();
            })
            .unwrap();
        assert_eq!(seen, ["fibre `f` collapsed"]);
    }
}

/// The second fibre gets the block that the first one had.
#[test]
fn a_report_is_not_of_an_earlier_fibre_in_the_same_block() {
    async fn wait(r: Option<Reader<'_, u8>>) {
        match r {
            Some(mut r) => {
                let mut read = r.read();
                assert!(poll_once(&mut read).await.is_pending());
                yield_now().await;
                std::mem::forget(read);
            }
            None => pending().await,
        }
    }
    with_pool(|pool| {
        let mut seen = Vec::new();
        let mut visit = |report: &Report| seen.push(report.to_string());
        Setup::new(pool)
            .report(&mut visit)
            .run(|p| {
                let (w, r) = p.channel_named::<u8>("c").unwrap();
                drop(w);
                p.fibre().name("first").spawn(wait(Some(r))).unwrap();
                p.spawn(async move {
                    yield_now().await;
                    yield_now().await;
                    p.fibre().name("second").spawn(wait(None)).unwrap();
                })
                .unwrap();
            })
            .unwrap();
        assert_eq!(seen, ["fibre `second` collapsed"]);
    });
}

#[test]
#[expect(clippy::await_holding_refcell_ref, reason = "the await is forgotten at once")]
fn a_fibre_that_finished_is_not_deadlocked() {
    let checking = Checking::new();
    let mut seen = Vec::new();
    let mut visit = |report: &Report| seen.push(report.to_string());
    let result = Setup::new(&checking).report(&mut visit).run(|p| {
        let (w, r) = p.channel_named::<u8>("c").unwrap();
        let r = Rc::new(RefCell::new(r));
        let also = r.clone();
        p.fibre()
            .name("done")
            .essential()
            .spawn(async move {
                let mut r = also.borrow_mut();
                poll_and_forget(r.read()).await;
            })
            .unwrap();
        p.fibre()
            .name("stuck")
            .spawn(async move {
                let (_w, mut own) = p.channel_named::<u8>("own").unwrap();
                let _kept = (w, r);
                own.read().await;
            })
            .unwrap();
    });
    checking.assert_empty();
    assert_outcome(result.unwrap().1, [1, 0, 1, 0, 0]);
    assert_eq!(
        seen,
        ["fibre `stuck` deadlocked while reading from channel `own`: the other end was held by fibre `stuck`"]
    );
}

#[test]
fn a_stop_comes_before_a_fibre_that_runs_next() {
    fn chain<'p>(p: &'p P<'p, '_, '_>, n: &'p Cell<u32>) -> Pin<Box<dyn Future<Output = ()> + 'p>> {
        Box::pin(async move {
            n.set(n.get() + 1);
            if n.get() < 100 {
                let _ = p.spawn_next(chain(p, n)).await;
            }
        })
    }
    let checking = Checking::new();
    let n = Cell::new(0);
    let outcome = run(&checking, |p| {
        let n = &n;
        p.spawn(async move {
            p.stop();
            let _ = p.spawn_next(chain(p, n)).await;
        })
        .unwrap();
    });
    assert_eq!(n.get(), 0);
    assert_outcome(outcome, [0, 0, 0, 2, 0]);
    let outcome = run(&checking, |p| {
        let n = &n;
        p.stop();
        let mut next = p.spawn_next(async move { n.set(1) });
        assert!(Pin::new(&mut next).poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
    assert_eq!(n.get(), 0);
    assert_outcome(outcome, [0, 0, 0, 1, 0]);
}

#[test]
fn each_fibre_that_panics_at_the_end_is_told_once() {
    let checking = Checking::new();
    for stop in [true, false] {
        let mut texts = Caught::default();
        let mut catch = |f: &mut dyn FnMut()| texts.catch(f);
        let mut seen = Vec::new();
        let mut visit = |report: &Report| seen.push(report.to_string());
        let result = Setup::new(&checking).report(&mut visit).catch(&mut catch).isolate_panics().run(|p| {
            for name in ["one", "two"] {
                p.fibre()
                    .name(name)
                    .essential()
                    .spawn(async move {
                        let (_w, mut r) = p.channel_named::<u8>("c").unwrap();
                        let _guard = OnDrop(|| panic!("at the end"));
                        if stop {
                            yield_now().await;
                        }
                        r.read().await;
                    })
                    .unwrap();
            }
            if stop {
                p.spawn(async move { p.stop() }).unwrap();
            }
        });
        checking.assert_empty();
        let failure = result.unwrap_err();
        assert_eq!(failure.outcome.panicked, 2);
        seen.sort();
        assert_eq!(seen, ["fibre `one` panicked", "fibre `two` panicked"]);
    }
}
