//! What safe callers of explicit continuations might reach when it is gone, and do not.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::*;
use fibra_core::{Async, Continuation, Frame, Next, coroutine};

/// A future that is sound because of `Pin`'s promise: what was pinned is dropped before its memory is used again.
mod intrusive {
    use std::cell::Cell;
    use std::future::Future;
    use std::marker::PhantomPinned;
    use std::pin::Pin;
    use std::ptr::NonNull;
    use std::task::{Context, Poll};

    #[derive(Default)]
    pub struct Bell(Cell<Option<NonNull<Cell<u32>>>>);

    pub struct Listens<'b> {
        rung: Cell<u32>,
        bell: &'b Bell,
        _pinned: PhantomPinned,
    }

    impl Bell {
        pub fn listen(&self) -> Listens<'_> {
            Listens { rung: Cell::new(0), bell: self, _pinned: PhantomPinned }
        }

        pub fn ring(&self) {
            if let Some(listener) = self.0.get() {
                // SAFETY: a listener enters itself when it is pinned, and takes itself out when it is dropped.
                let rung = unsafe { listener.as_ref() };
                rung.set(rung.get() + 1);
            }
        }
    }

    impl Future for Listens<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            self.bell.0.set(Some(NonNull::from(&self.rung)));
            Poll::Pending
        }
    }

    impl Drop for Listens<'_> {
        fn drop(&mut self) {
            self.bell.0.set(None);
        }
    }
}

/// A forgotten frame would leave a pinned future in a local allocator's memory, which is then used again.
#[test]
fn a_pinned_future_is_dropped_before_its_process_memory_is_used_again() {
    let bell = intrusive::Bell::default();
    {
        let mut memory = vec![std::mem::MaybeUninit::uninit(); 4096];
        let pool = fibra_core::SizeClasses::new(
            &fibra_core::table([fibra_core::MemReq { block_size: 512, n_blocks: 4 }]),
            &mut memory,
        )
        .unwrap();
        let bell = &bell;
        fibra_core::run(&pool, |p| {
            p.spawn(async move {
                let mut frame = p.frame_async(bell.listen()).unwrap();
                poll_and_forget(frame.call()).await;
                std::mem::forget(frame);
            })
            .unwrap();
        })
        .unwrap();
    }
    bell.ring();
}

/// Calls a routine that ends the fibre, and whose destructor panics.
#[allow(dead_code, reason = "only dropped")]
struct Ends<'a>(OnDrop<Box<dyn FnMut() + 'a>>);
impl Continuation for Ends<'_> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::end_fibre()
    }
}
struct CallsEnds<'a> {
    callee: Frame<Ends<'a>, &'a Checking>,
    went_on: &'a std::cell::Cell<bool>,
}
impl Continuation for CallsEnds<'_> {
    type Step = bool;
    type Return = ();
    const START: bool = false;
    fn resume(&mut self, called: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if called {
            self.went_on.set(true);
            return Next::finish(());
        }
        Next::call(&mut self.callee, true)
    }
}

#[test]
fn a_coroutine_that_was_ended_does_not_go_on_after_a_destructors_panic() {
    let checking = Checking::new();
    let went_on = std::cell::Cell::new(false);
    let bomb = Ends(OnDrop(Box::new(|| panic!("destructor"))));
    let callee = Frame::new_in(bomb, &checking).unwrap();
    let mut coroutine = Box::pin(coroutine(CallsEnds { callee, went_on: &went_on }));
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(panic_of(|| coroutine.as_mut().poll(&mut cx)), "destructor");
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| coroutine.as_mut().poll(&mut cx)));
    assert!(!went_on.get());
}

struct Counts(u32);
impl Continuation for Counts {
    type Step = ();
    type Return = u32;
    const START: () = ();
    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        self.0 += 1;
        Next::finish(self.0)
    }
}

#[test]
fn a_call_that_was_not_awaited_leaves_the_routine_alone() {
    let checking = Checking::new();
    let mut frame = Frame::new_in(Counts(0), &checking).unwrap().curried();
    drop(frame.call());
    assert_eq!(frame.0, 0);
}

/// Keeps the frame of its callee, as a curried subroutine is kept.
struct Descends<'c> {
    depth: u32,
    checking: &'c Checking,
    callee: Option<Frame<Descends<'c>, &'c Checking>>,
}
impl Continuation for Descends<'_> {
    type Step = bool;
    type Return = ();
    const START: bool = false;
    fn resume(&mut self, called: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if called || self.depth == 0 {
            return Next::finish(());
        }
        let next = Descends { depth: self.depth - 1, checking: self.checking, callee: None };
        Next::call(self.callee.insert(Frame::new_in(next, self.checking).unwrap()), true)
    }
}

#[test]
fn frames_that_were_kept_are_dropped_on_a_small_stack() {
    on_small_stack(|| {
        let checking = Checking::new();
        let mut caller = Box::pin(coroutine(Descends { depth: 20_000, checking: &checking, callee: None }));
        assert!(caller.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        drop(caller);
        checking.assert_empty();
    });
}

/// `read_or_end` looks anew, `poll_read_or_end` believes an old finding.
#[test]
fn a_poll_looks_anew_whether_the_stream_has_ended() {
    let checking = Checking::new();
    run(&checking, |p| {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, other) = p.two_way::<u8>().unwrap();
        drop(other);
        assert!(one.poll_read(&mut cx).is_pending()); // nobody could come
        let mut two = one.dup().unwrap();
        two.begin_write(1);
        assert!(two.poll_write(&mut cx).is_pending());
        assert_eq!(one.poll_read_or_end(&mut cx), Poll::Ready(Some(1)));
    });
}

/// A write that another operation took back is no write any more.
#[test]
fn there_is_nothing_to_complete_once_a_write_was_taken_back() {
    let checking = Checking::new();
    let tally = Tally::default();
    run(&checking, |p| {
        let mut cx = Context::from_waker(Waker::noop());
        let (mut one, mut other) = p.two_way().unwrap();
        one.begin_write(tally.token());
        assert!(one.poll_read(&mut cx).is_pending());
        assert_eq!(tally.alive(), 0);
        assert!(one.poll_write(&mut cx).is_ready());
        assert!(other.try_read().is_none());
    });
}

#[allow(dead_code, reason = "only dropped")]
struct Returns<'t>(Token<'t>);
impl Continuation for Returns<'_> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(())
    }
}

/// Makes a frame a curried one when it has returned, and its routine is gone.
struct Curries<'t>(Option<Frame<Returns<'t>, &'t Checking>>);
impl Continuation for Curries<'_> {
    type Step = bool;
    type Return = ();
    const START: bool = false;
    fn resume(&mut self, returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if returned {
            drop(self.0.take().unwrap().curried());
            return Next::finish(());
        }
        Next::call(self.0.as_mut().unwrap(), true)
    }
}

#[test]
fn a_frame_that_has_returned_has_no_routine_to_keep() {
    let checking = Checking::new();
    let tally = Tally::default();
    let frame = Frame::new_in(Returns(tally.token()), &checking).unwrap();
    let mut main = Box::pin(coroutine(Curries(Some(frame))));
    assert!(main.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

type Slot<'p, 'c> = Rc<RefCell<Option<Frame<Async<Pin<Box<dyn Future<Output = ()> + 'p>>>, &'p &'c Checking>>>>;

/// The end of the process destroys a forgotten routine, which owns its own frame, and so releases the block that it is in.
#[test]
fn an_async_routine_may_own_its_own_frame() {
    let checking = Checking::new();
    run(&checking, |p| {
        let slot: Slot<'_, '_> = Rc::default();
        let own = slot.clone();
        let routine = Box::pin(async move {
            let _own = own;
            pending().await
        });
        *slot.borrow_mut() = Some(p.frame_async(routine as Pin<Box<dyn Future<Output = ()>>>).unwrap());
    });
}
