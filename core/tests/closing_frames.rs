//! What destructors do to frames while their process ends: make others, call them by hand, let go of their own.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use common::routines::{assert_waits, poll};
use common::{Checking, OnDrop, Tally, Token};
use fibra_core::{Async, Continuation, Curried, Frame, Next, Setup};

#[allow(dead_code, reason = "only dropped")]
/// A future that is Unpin, has a destructor that takes `&mut self`, and owns its own frame.
struct Own<'p, 'c, 't> {
    token: Token<'t>,
    slot: Rc<RefCell<Option<Frame<Async<Own<'p, 'c, 't>>, &'p &'c Checking>>>>,
    kept: Rc<RefCell<Option<Curried<Async<Own<'p, 'c, 't>>, &'p &'c Checking>>>>,
    how: u8,
    last: Token<'t>,
}
impl Future for Own<'_, '_, '_> {
    type Output = ();
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
fn touch(how: &mut u8) -> u8 {
    let was = *how;
    *how = was + 100;
    was
}
impl Drop for Own<'_, '_, '_> {
    fn drop(&mut self) {
        let Some(mut frame) = self.slot.borrow_mut().take() else { return };
        match touch(&mut self.how) {
            0 => drop(frame),
            1 => drop(frame.curried()),
            2 => *self.kept.borrow_mut() = Some(frame.curried()),
            3 => {
                assert!(catch_unwind(AssertUnwindSafe(|| poll(Box::pin(frame.call()).as_mut()))).is_err());
                assert!(frame.result().is_none());
                assert!(frame.into_result().is_none());
            }
            4 => {
                let kept = frame.curried();
                assert!(catch_unwind(AssertUnwindSafe(|| size_of_val(&*kept))).is_err());
                drop(kept);
            }
            5 => {
                drop(frame);
                panic!("on purpose");
            }
            _ => std::mem::forget(frame),
        }
        self.how += 1;
    }
}

#[test]
fn forgotten_routines_own_their_frames() {
    for how in 0..7 {
        for called in [false, true] {
            let (checking, tally) = (Checking::new(), Tally::default());
            let mut catch = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();
            let _ = Setup::new(&checking).catch(&mut catch).run(|p| {
                let slot = Rc::default();
                let own =
                    Own { token: tally.token(), slot: Rc::clone(&slot), kept: Rc::default(), how, last: tally.token() };
                let mut frame = p.frame_async(own).unwrap();
                if called {
                    let mut call = Box::pin(frame.call());
                    assert_waits(call.as_mut());
                    std::mem::forget(call);
                }
                *slot.borrow_mut() = Some(frame);
            });
            assert_eq!(tally.alive(), 0, "{how}");
            checking.assert_no_faults();
            if how < 6 { assert_eq!(checking.live(), 0, "{how}") } else { checking.leak() }
        }
    }
}

#[repr(align(256))]
struct Big<'t>(#[allow(dead_code)] Token<'t>);

/// Async frames whose destructors try to make others, call others by hand, drop others, in any order; over-aligned results.
#[test]
fn forgotten_routines_use_others_while_they_go() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let tally = &tally;
    fn make<'p, 'env, 'a>(p: &'p common::P<'p, 'env, 'a>, tally: &'env Tally) {
        let token = tally.token();
        let other = p.frame_async(async move {
            let _token = token;
            pending::<()>().await
        });
        let ready = p.frame_async(async move { Big(tally.token()) }).unwrap();
        let (token, mut ready) = (tally.token(), Some(ready.curried()));
        let on_drop = OnDrop(move || {
            let _token = &token;
            assert!(p.spawn(async {}).is_err());
            let mut ready = ready.take().unwrap();
            drop(poll(Box::pin(ready.call()).as_mut()));
            assert!(catch_unwind(AssertUnwindSafe(|| poll(Box::pin(ready.call()).as_mut()).is_ready())).is_err());
            std::mem::forget(ready);
            // Or the process would never come to its end.
            let refused = p.frame_async(async { tally.token() }).unwrap_err();
            drop(refused.routine);
        });
        let x = p
            .frame_async(async move {
                let _on_drop = on_drop;
                let _other = other;
                pending::<()>().await
            })
            .unwrap();
        std::mem::forget(x);
    }
    fibra_core::run(&checking, |p| {
        make(p, tally);
        p.spawn(async move {
            make(p, tally);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(tally.alive(), 0);
    checking.assert_no_faults();
    checking.leak();
}

/// A frame that is being polled makes and drops its neighbours in the list.
#[test]
fn neighbours_in_the_list_come_and_are_forgotten() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let tally = &tally;
    fibra_core::run(&checking, |p| {
        p.spawn(async move {
            let mut a = p
                .frame_async(async move {
                    let _t = tally.token();
                    let b = p.frame_async(async move { tally.token() }).unwrap();
                    let mut c = p
                        .frame_async(async move {
                            let d = p.frame_async(async move { tally.token() }).unwrap();
                            fibra_core::yield_now().await;
                            drop(d);
                            tally.token()
                        })
                        .unwrap();
                    let t = c.call().await;
                    drop(b);
                    let e = p.frame_async(pending::<()>()).unwrap();
                    drop(c);
                    fibra_core::yield_now().await;
                    std::mem::forget(e);
                    drop(t);
                })
                .unwrap()
                .curried();
            a.call().await;
            std::mem::forget(a);
        })
        .unwrap();
    })
    .unwrap();
    assert_eq!(tally.alive(), 0);
    checking.assert_no_faults();
    checking.leak();
}

/// Zero-sized routine, over-aligned value, explicit; forgotten calls, curried in the middle, called again.
#[test]
fn forgotten_calls_are_curried_and_made_again() {
    #[derive(Default)]
    struct Zst;
    impl Continuation for Zst {
        type Step = u8;
        type Return = u128;
        const START: u8 = 0;
        fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if step < 2 { Next::give_way(step + 1) } else { Next::finish(7) }
        }
    }
    let checking = Checking::new();
    let mut frame = Frame::new_in(Zst, &checking).unwrap();
    let mut call = Box::pin(frame.call());
    assert_waits(call.as_mut());
    std::mem::forget(call);
    let mut frame = frame.curried();
    let mut other = Frame::new_in(Zst, &checking).unwrap().curried();
    std::mem::swap(&mut *frame, &mut *other);
    for _ in 0..3 {
        let mut call = Box::pin(frame.call());
        assert_waits(call.as_mut());
        assert_waits(call.as_mut());
        assert!(matches!(poll(call.as_mut()), Poll::Ready(7)));
    }
    std::mem::swap(&mut frame, &mut other);
    drop(frame);
    drop(other);
    checking.assert_empty();
}
