//! What else safe code can do to frames, calls and coroutines: throw them away, forget them, reach them in roundabout ways,
//! run steps by hand. Nothing is lost that was not forgotten, nothing runs or goes twice.

#![allow(clippy::only_used_in_recursion, clippy::await_holding_refcell_ref, reason = "this is misuse")]

mod common;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomPinned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use common::routines::{InMemory, Routine, assert_waits, poll, routine};
use common::{Caught, Checking, OnDrop, Tally, Token, Trace, assert_outcome, panic_of, poll_and_forget, rounds, run};
use fibra_core::{Async, Continuation, Coroutine, Curried, Frame, Next, Reader, Setup, coroutine, yield_now};
use futures::executor::block_on;

/// Counts its calls and returns their number, after it has waited that often.
struct Counter<'a> {
    calls: u32,
    waits: u8,
    _token: Token<'a>,
}

impl Continuation for Counter<'_> {
    type Step = u8;
    type Return = u32;
    const START: u8 = 0;

    fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if step == 0 {
            self.calls += 1;
        }
        if step < self.waits { Next::give_way(step + 1) } else { Next::finish(self.calls) }
    }
}

type Counting<'a> = Curried<Counter<'a>, &'a Checking>;

fn counter<'a>(waits: u8, tally: &'a Tally, frames: &'a Checking) -> Counting<'a> {
    Frame::new_in(Counter { calls: 0, waits, _token: tally.token() }, frames).unwrap().curried()
}

/// Runs a coroutine of one routine by hand to its end, and looks that nothing is left.
#[track_caller]
fn run_by_hand<C: Continuation<Return = ()>>(coroutine: Coroutine<C>) {
    let mut coroutine = Box::pin(coroutine);
    for _ in 0..1000 {
        if poll(coroutine.as_mut()).is_ready() {
            return;
        }
    }
    panic!("it does not end");
}

/// A call that no step returns is no call.
#[test]
fn a_call_is_thrown_away() {
    let (frames, tally) = (Checking::new(), Tally::default());
    run_by_hand(coroutine(routine(counter(1, &tally, &frames), |frame, step, _| match step {
        0 => {
            for _ in 0..3 {
                let _: Poll<Next<'_, Routine<(), ()>>> = Next::call(frame, 7);
                assert_eq!((frame.calls, frame.result()), (0, None));
            }
            Next::go(1)
        }
        1 => Next::call(frame, 2),
        2 => {
            assert_eq!(frame.result(), Some(1));
            let _: Poll<Next<'_, Routine<(), ()>>> = Next::call(frame, 7);
            assert_eq!(frame.result(), None);
            Next::finish(())
        }
        _ => unreachable!("nobody called it"),
    })));
    assert_eq!(tally.alive(), 0);
    frames.assert_empty();
}

/// A result that nobody took goes with the next call, even if that is not made in the end.
#[test]
fn a_call_that_is_thrown_away_drops_the_last_result() {
    let (frames, tally) = (Checking::new(), Tally::default());
    let callee = routine(&tally, |tally, _, _| Next::finish(tally.token()));
    let frame = Frame::new_in(callee, &frames).unwrap().curried();
    run_by_hand(coroutine(routine((frame, &tally), |(frame, tally), step, _| match step {
        0 => Next::call(frame, 1),
        _ => {
            assert_eq!(tally.alive(), 1);
            let _: Poll<Next<'_, Routine<(), ()>>> = Next::call(frame, 7);
            assert_eq!((tally.made(), tally.alive()), (1, 0));
            Next::finish(())
        }
    })));
    frames.assert_empty();
}

/// Two calls are made in one step; only the one that is returned counts.
#[test]
fn a_step_changes_its_mind() {
    let (frames, tally) = (Checking::new(), Tally::default());
    let pair = [counter(0, &tally, &frames), counter(1, &tally, &frames)];
    run_by_hand(coroutine(routine(pair, |[one, other], step, _| match step {
        0 => {
            let _: Poll<Next<'_, Routine<(), ()>>> = Next::call(one, 9);
            Next::call(other, 1)
        }
        1 => {
            assert_eq!((one.result(), other.result()), (None, Some(1)));
            Next::call(one, 2)
        }
        _ => {
            assert_eq!((one.result(), other.result()), (Some(1), None));
            Next::finish(())
        }
    })));
    assert_eq!(tally.alive(), 0);
    frames.assert_empty();
}

/// Steps run by hand are the caller's business: the frame knows nothing of them.
#[test]
fn steps_are_run_by_hand() {
    let (frames, tally) = (Checking::new(), Tally::default());
    let mut frame = counter(2, &tally, &frames);
    let cx = &mut Context::from_waker(Waker::noop());
    assert_eq!(format!("{:?}", frame.resume(0, cx)), "Ready(Next::give_way)");
    assert_eq!(format!("{:?}", frame.resume(7, cx)), "Ready(Next::finish)");
    assert_eq!((frame.calls, frame.result()), (1, None));
    assert_eq!(block_on(frame.call()), 2);
    // One that calls: what it lent is lent to nobody.
    let mut caller = routine(frame, |frame, step, _| match step {
        0 => Next::call(frame, 1),
        _ => Next::finish(frame.result()),
    });
    assert_eq!(format!("{:?}", caller.resume(0, cx)), "Ready(Next::call)");
    assert!(matches!(caller.resume(1, cx), Poll::Ready(_)));
    let mut caller = Frame::new_in(caller, &frames).unwrap();
    assert_eq!(block_on(caller.call()), Some(3));
    drop(caller);
    assert_eq!(tally.alive(), 0);
    frames.assert_empty();
}

/// A routine runs a step of another of its own type, and returns what that said as if it were its own.
#[test]
fn a_routine_passes_on_what_another_said() {
    struct Twin<'a> {
        name: &'static str,
        trace: &'a Trace<&'static str>,
        frame: Counting<'a>,
        other: Option<Box<Self>>,
    }
    impl Continuation for Twin<'_> {
        type Step = u8;
        type Return = ();
        const START: u8 = 0;
        fn resume(&mut self, step: u8, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            match (&mut self.other, step) {
                (Some(other), 0..2) => other.resume(step, cx),
                (_, 0) => Next::call(&mut self.frame, 1),
                (_, 1) => {
                    assert_eq!(self.frame.result(), Some(1));
                    Next::go(2)
                }
                _ => {
                    self.trace.push(self.name);
                    Next::finish(())
                }
            }
        }
    }
    let (frames, tally, trace) = (Checking::new(), Tally::default(), Trace::new());
    let twin = |name, other| Twin { name, trace: &trace, frame: counter(1, &tally, &frames), other };
    run_by_hand(coroutine(twin("one", Some(Box::new(twin("other", None))))));
    assert_eq!(trace.take(), ["one"]);
    assert_eq!(tally.alive(), 0);
    frames.assert_empty();
}

/// Frames that a routine reaches in roundabout ways, called while the way there is held, and destroyed at each of its waits.
mod reached {
    use super::*;

    /// Makes a coroutine that calls, and destroys it after so many polls.
    fn at_each_wait<'a, C: Continuation<Return = ()> + 'a>(mut make: impl FnMut() -> C, waits: usize) {
        for polls in 0..=waits {
            let mut coroutine = Box::pin(coroutine(make()));
            for _ in 0..polls {
                assert_waits(coroutine.as_mut());
            }
            if polls == waits {
                assert!(poll(coroutine.as_mut()).is_ready());
            }
        }
    }

    #[test]
    fn by_reference() {
        let (frames, tally) = (Checking::new(), Tally::default());
        let mut frame = counter(3, &tally, &frames);
        {
            let mut coroutine = Box::pin(coroutine(routine(&mut frame, |frame, step, _| match step {
                0 => Next::call(frame, 1),
                1 => Next::call(frame, 2),
                _ => Next::finish(()),
            })));
            for _ in 0..6 {
                assert_waits(coroutine.as_mut());
            }
            assert!(poll(coroutine.as_mut()).is_ready());
        }
        assert_eq!((frame.result(), frame.calls), (Some(2), 2));
        let mut coroutine = Box::pin(coroutine(routine(&mut frame, |frame, _, _| Next::call(frame, 1))));
        assert_waits(coroutine.as_mut());
        drop(coroutine);
        assert_eq!(tally.alive(), 0, "it was in the middle of a call");
        for _ in 0..2 {
            assert!(panic_of(|| frame.calls).contains("destroyed in the middle of a call"));
            assert!(panic_of(|| frame.calls = 1).contains("destroyed in the middle of a call"));
            assert!(panic_of(|| poll(Box::pin(frame.call()).as_mut())).contains("destroyed in the middle of a call"));
            assert!(frame.result().is_none());
        }
        drop(frame);
        frames.assert_empty();
    }

    #[test]
    fn in_a_counted_pointer() {
        let (frames, tally) = (Checking::new(), Tally::default());
        at_each_wait(
            || {
                routine(Rc::new(counter(2, &tally, &frames)), |frame, step, _| match step {
                    0 => Next::call(Rc::get_mut(frame).unwrap(), 1),
                    _ => {
                        assert_eq!(Rc::get_mut(frame).unwrap().result(), Some(1));
                        Next::finish(())
                    }
                })
            },
            2,
        );
        assert_eq!((tally.made(), tally.alive()), (3, 0));
        frames.assert_empty();
    }

    #[test]
    fn through_a_guard() {
        let (frames, tally) = (Checking::new(), Tally::default());
        for polls in 0..3 {
            let cell = RefCell::new(counter(2, &tally, &frames));
            {
                let state: (RefMut<'_, Counting<'_>>, _) = (cell.borrow_mut(), &cell);
                let mut coroutine = Box::pin(coroutine(routine(state, |(frame, cell), step, _| {
                    assert!(cell.try_borrow().is_err(), "it is in the middle of a call");
                    if step == 0 { Next::call(frame, 1) } else { Next::finish(()) }
                })));
                for _ in 0..polls {
                    assert_waits(coroutine.as_mut());
                    assert!(cell.try_borrow().is_err());
                }
                if polls == 2 {
                    assert!(poll(coroutine.as_mut()).is_ready());
                }
            }
            let mut frame = cell.into_inner();
            match polls {
                0 => assert_eq!(block_on(frame.call()), 1),
                1 => assert!(catch_unwind(AssertUnwindSafe(|| frame.calls)).is_err()),
                _ => assert_eq!(frame.result(), Some(1)),
            }
        }
        assert_eq!((tally.made(), tally.alive()), (3, 0));
        frames.assert_empty();
    }

    #[test]
    fn in_boxes_and_collections() {
        let (frames, tally) = (Checking::new(), Tally::default());
        at_each_wait(
            || {
                let queue: VecDeque<_> = (0..3).map(|_| Box::new(Some(counter(1, &tally, &frames)))).collect();
                routine(queue, |queue, step, _| {
                    if step > 0 {
                        let mut frame = queue.pop_front().and_then(|frame| *frame).unwrap();
                        assert_eq!(frame.result(), Some(1));
                        // Moves the others about.
                        queue.make_contiguous().reverse();
                        queue.shrink_to_fit();
                    }
                    match queue.front_mut().and_then(|frame| (**frame).as_mut()) {
                        Some(frame) => Next::call(frame, 1),
                        None => Next::finish(()),
                    }
                })
            },
            3,
        );
        assert_eq!((tally.made(), tally.alive()), (12, 0));
        frames.assert_empty();
    }

    /// Leaked: nobody has it any more, and its block stays; but its routine goes with the fibre, if it is called.
    #[test]
    fn forgotten_in_a_box() {
        for polls in 0..3 {
            let (frames, tally) = (Checking::new(), Tally::default());
            let mut coroutine =
                Box::pin(coroutine(routine((&tally, &frames), |(tally, frames), step, _| match step {
                    0 => Next::call(Box::leak(Box::new(counter(2, tally, frames))), 1),
                    _ => Next::finish(()),
                })));
            for _ in 0..polls {
                assert_waits(coroutine.as_mut());
            }
            if polls == 2 {
                assert!(poll(coroutine.as_mut()).is_ready());
            }
            drop(coroutine);
            assert_eq!((tally.alive(), frames.live()), [(0, 0), (0, 1), (1, 1)][polls]);
            frames.leak();
        }
    }

    /// A callee in a leaked frame that borrows its caller's own state.
    #[test]
    fn forgotten_with_a_borrow_of_the_caller() {
        struct Adds<'a>(&'a mut Vec<u8>);
        impl Continuation for Adds<'_> {
            type Step = u8;
            type Return = ();
            const START: u8 = 0;
            fn resume(&mut self, step: u8, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
                self.0.push(step);
                if step < 3 { Next::give_way(step + 1) } else { Next::finish(()) }
            }
        }
        impl Drop for Adds<'_> {
            fn drop(&mut self) {
                self.0.push(99);
            }
        }
        let frames = Checking::new();
        for polls in 0..=3 {
            let seen = Trace::new();
            let state = (vec![7], &frames, OnDrop(|| seen.push(())));
            let mut coroutine = Box::pin(coroutine(routine(state, |(bytes, frames, _), step, _| match step {
                0 => Next::call(Box::leak(Box::new(Frame::new_in(Adds(bytes), *frames).unwrap())), 1),
                _ => {
                    assert_eq!(*bytes, [7, 0, 1, 2, 3, 99]);
                    bytes.clear();
                    Next::finish(())
                }
            })));
            for _ in 0..polls {
                assert_waits(coroutine.as_mut());
            }
            if polls == 3 {
                assert!(poll(coroutine.as_mut()).is_ready());
            }
            drop(coroutine);
            assert_eq!(seen.len(), 1);
        }
        frames.leak();
    }
}

/// A coroutine is forgotten at each of its waits; what it borrowed is its owner's again, in the middle of a call.
#[test]
fn a_coroutine_is_forgotten() {
    for polls in 0..4 {
        let (frames, tally) = (Checking::new(), Tally::default());
        let mut outer = {
            let inner = counter(3, &tally, &frames);
            Frame::new_in(
                routine(inner, |inner, step, _| match step {
                    0 => Next::call(inner, 1),
                    _ => Next::finish(inner.result().unwrap()),
                }),
                &frames,
            )
            .unwrap()
            .curried()
        };
        let mut forgotten = Box::pin(coroutine(routine(&mut outer, |outer, step, _| match step {
            0 => Next::call(outer, 1),
            _ => Next::finish(()),
        })));
        for _ in 0..polls {
            let _ = poll(forgotten.as_mut());
        }
        // Its memory is not used again, as it was pinned.
        Box::leak(Box::new(forgotten));
        assert_eq!((tally.alive(), frames.live()), (1, 2));
        if polls > 0 {
            assert_eq!(outer.state.calls, 1, "it can be looked at");
            // In the middle of its call, or after it.
            outer.state.calls = 5;
        }
        let result = outer.result();
        assert_eq!(result, (polls == 4).then_some(1));
        assert_eq!(block_on(outer.call()), if polls > 0 { 6 } else { 1 });
        drop(outer);
        assert_eq!(tally.alive(), 0);
        frames.assert_empty();
    }
}

/// Calls are forgotten at each point, on top of each other; the frame is used, dropped, or forgotten.
#[test]
fn calls_are_forgotten_at_each_point() {
    for points in 0..64_usize {
        let (frames, tally) = (Checking::new(), Tally::default());
        let mut frame = counter(2, &tally, &frames);
        let mut calls = 0;
        for round in 0..3 {
            let polls = points >> (2 * round) & 3;
            let mut call = Box::pin(frame.call());
            for _ in 0..polls.min(2) {
                assert_waits(call.as_mut());
            }
            if polls == 3 {
                assert!(poll(call.as_mut()).is_ready());
            }
            calls += u32::from(polls > 0);
            // The box goes, what is in it is forgotten.
            std::mem::forget(*Pin::into_inner(call));
            assert_eq!((frame.calls, frame.result()), (calls, None));
        }
        if points % 2 == 0 {
            assert_eq!(block_on(frame.call()), calls + 1);
        }
        drop(frame);
        assert_eq!(tally.alive(), 0);
        frames.assert_empty();
    }
}

/// A read that was forgotten in a call is served all the same; the value is the reader's next one.
#[test]
fn a_call_is_forgotten_with_a_read_in_it() {
    let checking = Checking::new();
    let outcome = run(&checking, |p| {
        let (mut w, r) = p.channel::<u32>().unwrap();
        p.spawn(async move {
            let reads = routine(r, |r: &mut Reader<'_, u32>, _, cx| Next::finish(ready!(r.poll_read(cx))));
            let mut frame = p.frame(reads).unwrap().curried();
            poll_and_forget(frame.call()).await;
            rounds(6).await;
            assert_eq!(frame.state.try_read(), Some(1));
            poll_and_forget(frame.call()).await;
            rounds(4).await;
            assert_eq!(frame.call().await, 2);
            poll_and_forget(frame.call()).await;
            drop(frame);
            rounds(4).await;
        })
        .unwrap();
        p.spawn(async move {
            for n in 1.. {
                rounds(4).await;
                w.write(n).await;
            }
        })
        .unwrap();
    });
    assert_outcome(outcome, [1, 1, 0, 0, 0]);
}

/// A frame is forgotten, whatever state it is in: its block and its routine stay, and nothing else.
#[test]
fn frames_are_forgotten() {
    for polls in 0..4 {
        let (frames, tally) = (Checking::new(), Tally::default());
        let mut frame = counter(2, &tally, &frames);
        let mut call = Box::pin(frame.call());
        for _ in 0..polls {
            let _ = poll(call.as_mut());
        }
        std::mem::forget(*Pin::into_inner(call));
        std::mem::forget(frame);
        assert_eq!((tally.alive(), frames.live()), (1, 1));
        frames.leak();
    }
}

/// Routines are swapped between frames, in the middle of calls that were forgotten and between others.
#[test]
fn routines_are_swapped() {
    let (frames, tally) = (Checking::new(), Tally::default());
    let (mut one, mut other) = (counter(0, &tally, &frames), counter(3, &tally, &frames));
    assert_eq!(block_on(one.call()), 1);
    let mut call = Box::pin(other.call());
    assert_waits(call.as_mut());
    std::mem::forget(*Pin::into_inner(call));
    other.calls = 10;
    std::mem::swap(&mut *one, &mut *other);
    assert_eq!((one.calls, other.calls), (10, 1));
    assert_eq!((block_on(one.call()), block_on(other.call())), (11, 2));
    std::mem::swap(&mut one, &mut other);
    assert_eq!((block_on(one.call()), block_on(other.call())), (3, 12));
    let old = std::mem::replace(&mut *one, Counter { calls: 100, waits: 0, _token: tally.token() });
    assert_eq!((old.calls, block_on(one.call())), (3, 101));
    drop((one, other, old));
    assert_eq!((tally.made(), tally.alive()), (3, 0));
    frames.assert_empty();
}

/// A routine replaces itself, and all that it has, in the middle of its step.
#[test]
fn a_routine_replaces_itself() {
    let (frames, tally) = (Checking::new(), Tally::default());
    struct Replaces<'a>(Option<Counting<'a>>, Vec<Option<Counting<'a>>>);
    impl Continuation for Replaces<'_> {
        type Step = bool;
        type Return = ();
        const START: bool = false;
        fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
            if has_returned {
                assert_eq!(self.0.as_mut().unwrap().result(), Some(1));
            }
            let Some(next) = self.1.pop() else { return Next::finish(()) };
            let rest = std::mem::take(&mut self.1);
            *self = Replaces(next, rest);
            Next::call(self.0.as_mut().unwrap(), true)
        }
    }
    let mut kept: Vec<_> = (0..4).map(|_| Some(counter(1, &tally, &frames))).collect();
    run_by_hand(coroutine(Replaces(kept.pop().unwrap(), kept)));
    assert_eq!((tally.made(), tally.alive()), (4, 0));
    frames.assert_empty();
}

/// A coroutine whose routine polls another, which has its own calls; and which drops it half-way.
#[test]
fn a_routine_runs_a_coroutine_of_its_own() {
    let (frames, tally, trace) = (Checking::new(), Tally::default(), Trace::new());
    type Inner<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
    for drops_at in 0..4 {
        let frame = counter(2, &tally, &frames);
        let inner: Inner<'_> = Box::pin(coroutine(routine((frame, &trace), |(frame, trace), step, _| match step {
            0 => Next::call(frame, 1),
            _ => {
                trace.push(frame.result());
                Next::finish(())
            }
        })));
        run_by_hand(coroutine(routine((Some(inner), drops_at), |(inner, drops_at), step, cx| {
            if step == *drops_at {
                *inner = None;
            }
            let waits = inner.as_mut().is_some_and(|inner| inner.as_mut().poll(cx).is_pending());
            if waits { Next::give_way(step + 1) } else { Next::finish(()) }
        })));
    }
    assert_eq!(trace.take(), [Some(1)]);
    assert_eq!((tally.made(), tally.alive()), (4, 0));
    frames.assert_empty();
}

/// The destructor of a callee destroys another coroutine, in the middle of its calls, whose callee destroys a third.
#[test]
fn destructors_destroy_coroutines() {
    let (frames, tally) = (Checking::new(), Tally::default());
    type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
    let mut next: Option<Waiting<'_>> = None;
    for _ in 0..10 {
        let mut earlier = next.take();
        let guard = OnDrop(move || drop(earlier.take()));
        let waits: InMemory<'_, _> =
            Frame::new_in(routine((tally.token(), guard), |_, _, _| Poll::Pending), &frames).unwrap();
        let mut all: Waiting<'_> = Box::pin(coroutine(routine(waits, |frame, _, _| Next::call(frame, 1))));
        assert_waits(all.as_mut());
        next = Some(all);
    }
    assert_eq!((tally.alive(), frames.live()), (10, 10));
    drop(next);
    assert_eq!((tally.alive(), frames.live()), (0, 0));
}

/// The destructor of a callee that reaches for the coroutine that is being destroyed finds it gone.
#[test]
fn a_destructor_reaches_for_its_own_coroutine() {
    let (frames, trace) = (Checking::new(), Trace::new());
    type Waiting<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;
    let own: Rc<RefCell<Option<Waiting<'_>>>> = Rc::default();
    let (reaches, trace_it) = (Rc::downgrade(&own), &trace);
    let guard = OnDrop(move || {
        let found = reaches.upgrade().map(|own| own.try_borrow_mut().map(|own| own.is_some()).ok());
        trace_it.push(found);
    });
    let waits: InMemory<'_, _> = Frame::new_in(routine(guard, |_, _, _| Poll::Pending), &frames).unwrap();
    let mut all: Waiting<'_> = Box::pin(coroutine(routine(waits, |frame, _, _| Next::call(frame, 1))));
    assert_waits(all.as_mut());
    *own.borrow_mut() = Some(all);
    let taken = own.borrow_mut().take();
    drop(taken);
    assert_eq!(trace.take(), [Some(Some(false))]);
    drop(own);
    frames.assert_empty();
}

/// A waker that runs code when it is woken, which is when a callee gives way: all is in order by then.
#[test]
fn a_waker_panics_when_a_routine_gives_way() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: std::sync::Arc<Self>) {
            panic!("in a waker");
        }
    }
    let (frames, tally) = (Checking::new(), Tally::default());
    let waker = Waker::from(std::sync::Arc::new(Panics));
    let mut frame = counter(2, &tally, &frames);
    let mut call = Box::pin(frame.call());
    assert_eq!(panic_of(|| call.as_mut().poll(&mut Context::from_waker(&waker))), "in a waker");
    // It had given way, and goes on.
    assert_waits(call.as_mut());
    assert_eq!(poll(call.as_mut()), Poll::Ready(1));
    drop(call);
    let mut base = Box::pin(coroutine(routine(0, |n, step, _| {
        *n += 1;
        if step < 2 { Next::give_way(step + 1) } else { Next::finish(()) }
    })));
    assert_eq!(panic_of(|| base.as_mut().poll(&mut Context::from_waker(&waker))), "in a waker");
    assert_waits(base.as_mut());
    assert!(poll(base.as_mut()).is_ready());
}

/// An `async` routine is polled where it lies, whatever happens to the frame's handle.
#[test]
fn an_async_routine_stays_where_it_is() {
    let checking = Checking::new();
    let place = Cell::new(0);
    struct Where<'a>(&'a Cell<usize>, PhantomPinned, u8);
    impl Future for Where<'_> {
        type Output = ();
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            // SAFETY: nothing is moved out.
            let this = unsafe { self.get_unchecked_mut() };
            let here = std::ptr::from_ref(this).addr();
            assert!(this.0.get() == 0 || this.0.get() == here, "it was moved");
            this.0.set(here);
            this.2 += 1;
            cx.waker().wake_by_ref();
            if this.2 < 5 { Poll::Pending } else { Poll::Ready(()) }
        }
    }
    impl Drop for Where<'_> {
        fn drop(&mut self) {
            assert_eq!(self.0.get(), std::ptr::from_ref(self).addr());
        }
    }
    run(&checking, |p| {
        type In<'p, 'a> = Frame<Async<Where<'a>>, &'p &'a Checking>;
        let frame: In<'_, '_> = p.frame_async(Where(&place, PhantomPinned, 0)).unwrap();
        let mut boxed = Box::new(frame);
        for _ in 0..2 {
            let mut call = Box::pin(boxed.call());
            assert_waits(call.as_mut());
            std::mem::forget(*Pin::into_inner(call));
            // Somewhere else.
            let moved = [*boxed];
            boxed = Box::from(moved.into_iter().next().unwrap());
        }
        run_by_hand(coroutine(routine(vec![*boxed], |frames, step, _| match step {
            0 => Next::call(&mut frames[0], 1),
            _ => {
                frames.reserve(100);
                Next::finish(())
            }
        })));
    });
}

/// The result's destructor panics, where the frame drops it: at the next call, or with the frame. The rest goes on.
#[test]
fn the_destructor_of_a_result_panics() {
    let (frames, tally) = (Checking::new(), Tally::default());
    for calls_again in [false, true] {
        type Bomb<'a> = (Token<'a>, OnDrop<fn()>);
        let bomb: fn() = || panic!("of a result");
        let callee = routine((&tally, bomb, tally.token()), |(tally, bomb, _), _, _| {
            Next::finish((tally.token(), OnDrop(*bomb)))
        });
        let mut frame: Curried<Routine<_, Bomb<'_>>, _> = Frame::new_in(callee, &frames).unwrap().curried();
        run_by_hand(coroutine(routine(&mut frame, |frame, step, _| match step {
            0 => Next::call(frame, 1),
            _ => Next::finish(()),
        })));
        assert_eq!(tally.alive(), 2);
        if calls_again {
            assert_eq!(panic_of(|| drop(poll(Box::pin(frame.call()).as_mut()))), "of a result");
            assert_eq!(tally.alive(), 1, "the result is gone");
            assert!(frame.result().is_none());
            let token = block_on(frame.call());
            std::mem::forget(token.1);
            drop((token.0, frame));
        } else {
            assert_eq!(panic_of(|| drop(frame)), "of a result");
        }
        assert_eq!(tally.alive(), 0);
        frames.assert_empty();
    }
}

/// Both the routine and its fibre are in the middle of everything when a panic comes: while a process isolates panics,
/// what is left of a frame that others can reach is an error, not a routine.
#[test]
fn a_panicking_callee_is_gone_for_those_who_still_have_its_frame() {
    let (checking, frames) = (Checking::new(), Checking::new());
    let trace = Trace::new();
    let mut caught = Caught::default();
    let mut catch = |f: &mut dyn FnMut()| caught.catch(f);
    let (_, outcome) = Setup::new(&checking)
        .catch(&mut catch)
        .isolate_panics()
        .run(|p| {
            let (frames, trace) = (&frames, &trace);
            let callee = routine((), |(), step, _| if step == 0 { Next::give_way(1) } else { panic!("in the callee") });
            let frame: InMemory<'_, _> = Frame::new_in(callee, frames).unwrap();
            let shared = Rc::new(RefCell::new(frame));
            let other = shared.clone();
            p.spawn(async move {
                shared.borrow_mut().call().await;
            })
            .unwrap();
            p.spawn(async move {
                trace.push(other.try_borrow().is_err());
                rounds(3).await;
                let text = panic_of(|| poll(Box::pin(other.borrow_mut().call()).as_mut()));
                trace.push(text.contains("destroyed in the middle of a call"));
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(caught.0, ["in the callee"]);
    assert_eq!(trace.take(), [true, true]);
    assert_outcome(outcome, [1, 0, 0, 0, 1]);
    checking.assert_empty();
    frames.assert_empty();
}

/// What is pinned is dropped before its memory is used for anything else: others may have pointers to it until then. So the
/// process destroys what was forgotten, whatever state it is in, and in whatever frame.
#[test]
fn a_pinned_future_goes_before_its_memory_even_if_forgotten() {
    let checking = Checking::new();
    let (tally, trace) = (Tally::default(), Trace::new());
    let result = fibra_core::run(&checking, |p| {
        for n in 0..8 {
            let (token, trace) = (tally.token(), &trace);
            let mut frame = p
                .frame_async(async move {
                    let _guards = (token, OnDrop(|| trace.push(n)), PhantomPinned);
                    yield_now().await;
                    std::future::pending::<()>().await;
                })
                .unwrap();
            let mut call = Box::pin(frame.call());
            for _ in 0..n % 4 {
                assert_waits(call.as_mut());
            }
            std::mem::forget(*Pin::into_inner(call));
            match n {
                0..4 => std::mem::forget(frame),
                4..6 => std::mem::forget(frame.curried()),
                _ => drop(frame),
            }
        }
        assert_eq!(tally.alive(), 6);
    });
    assert_outcome(result.unwrap().1, [0; 5]);
    assert_eq!(tally.alive(), 0);
    assert_eq!(checking.live(), 6, "the blocks are forgotten for good");
    checking.leak();
}

/// It has returned, nobody took its result, and then it is to be kept: there is nothing left to keep.
#[test]
fn a_routine_is_curried_when_it_has_returned() {
    for kept in [false, true] {
        let (frames, tally) = (Checking::new(), Tally::default());
        let callee = routine((tally.token(), &tally), |(_, tally), _, _| Next::finish(tally.token()));
        let mut frame: InMemory<'_, _, Token<'_>> = Frame::new_in(callee, &frames).unwrap();
        run_by_hand(coroutine(routine(&mut frame, |frame, step, _| match step {
            0 => Next::call(frame, 1),
            _ => Next::finish(()),
        })));
        assert_eq!(tally.alive(), 1, "the result");
        let mut curried = frame.curried();
        assert_eq!(tally.alive(), 0);
        assert!(curried.result().is_none());
        if kept {
            assert!(panic_of(|| curried.state.0.id).contains("has returned and is not curried"));
        }
        drop(curried);
        assert_eq!((tally.made(), tally.alive()), (2, 0));
        frames.assert_empty();
    }
}
