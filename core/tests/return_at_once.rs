//! What a callee may come to rest for, and what becomes of its frame, its result and its routine: a return at once is
//! the short way through the runtime, everything else the long one.

mod common;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use common::{Checking, P, run};
use fibra_core::{AllocRef, Continuation, Curried, Frame, Next, coroutine};

/// What a routine does in its steps, one after the other.
#[derive(Clone, Copy)]
enum Act {
    Wait,
    GiveWay,
    Call,
    EndFibre,
    Panic,
}

/// Does what it is told, then returns how many steps it took. A callee of its own does `below`.
struct Actor<A: AllocRef> {
    acts: &'static [Act],
    below: &'static [Act],
    done: usize,
    waited: bool,
    pool: A,
    callee: Option<Frame<Self, A>>,
    drops: Rc<Cell<usize>>,
    panics_in_drop: bool,
}

impl<A: AllocRef> Actor<A> {
    fn new(acts: &'static [Act], below: &'static [Act], pool: A, drops: &Rc<Cell<usize>>) -> Self {
        let drops = drops.clone();
        Actor { acts, below, done: 0, waited: false, pool, callee: None, drops, panics_in_drop: false }
    }

    fn frame(acts: &'static [Act], below: &'static [Act], pool: A, drops: &Rc<Cell<usize>>) -> Frame<Self, A> {
        Frame::new_in(Self::new(acts, below, pool.clone(), drops), pool).unwrap()
    }
}

impl<A: AllocRef> Drop for Actor<A> {
    fn drop(&mut self) {
        self.drops.set(self.drops.get() + 1);
        assert!(!self.panics_in_drop, "its destructor panics");
    }
}

/// Tells how often results were dropped.
#[derive(Debug)]
struct Counted(usize, Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 100);
    }
}

impl<A: AllocRef> Continuation for Actor<A> {
    type Step = bool;
    type Return = Counted;
    const START: bool = false;

    fn resume(&mut self, has_called: bool, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if has_called && let Some(callee) = self.callee.take() {
            self.done += callee.into_result().expect("it has returned").0;
        }
        let Some(&act) = self.acts.first() else { return Next::finish(Counted(self.done, self.drops.clone())) };
        if let (Act::Wait, false) = (act, self.waited) {
            self.waited = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        (self.acts, self.waited, self.done) = (&self.acts[1..], false, self.done + 1);
        match act {
            Act::Wait => Next::go(false),
            Act::GiveWay => Next::give_way(false),
            Act::Call => {
                let callee = Self::frame(self.below, &[], self.pool.clone(), &self.drops);
                Next::call(self.callee.insert(callee), true)
            }
            Act::EndFibre => Next::end_fibre(),
            Act::Panic => panic!("a step panics"),
        }
    }
}

/// A coroutine that calls an actor, and says what it returned.
struct Caller<A: AllocRef> {
    callee: Option<Frame<Actor<A>, A>>,
    result: Rc<RefCell<Option<usize>>>,
}

impl<A: AllocRef> Continuation for Caller<A> {
    type Step = bool;
    type Return = ();
    const START: bool = false;

    fn resume(&mut self, has_called: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if !has_called {
            return Next::call(self.callee.as_mut().expect("it was given one"), true);
        }
        *self.result.borrow_mut() = self.callee.take().and_then(Frame::into_result).map(|result| result.0);
        Next::finish(())
    }
}

/// Whether called by a coroutine or from an `async` routine: the result, and how many routines were dropped.
fn both_ways(acts: &'static [Act], below: &'static [Act]) -> (Option<usize>, usize) {
    let call = |by_coroutine: bool| {
        let checking = Checking::new();
        let (result, drops) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
        run(&checking, |p: &P| {
            let mut frame = Actor::frame(acts, below, &checking, &drops);
            let result = result.clone();
            if by_coroutine {
                p.spawn(coroutine(Caller { callee: Some(frame), result })).unwrap();
            } else {
                p.spawn(async move { *result.borrow_mut() = Some(frame.call().await.0) }).unwrap();
            }
        });
        (*result.borrow(), drops.get() % 100)
    };
    let (by_coroutine, from_async) = (call(true), call(false));
    assert_eq!(by_coroutine, from_async);
    by_coroutine
}

#[test]
fn a_callee_returns_at_once_or_later() {
    assert_eq!(both_ways(&[], &[]), (Some(0), 1));
    assert_eq!(both_ways(&[Act::Wait], &[]), (Some(1), 1));
    assert_eq!(both_ways(&[Act::GiveWay, Act::Wait, Act::GiveWay], &[]), (Some(3), 1));
}

#[test]
fn a_callee_calls() {
    assert_eq!(both_ways(&[Act::Call], &[]), (Some(1), 2));
    assert_eq!(both_ways(&[Act::Call, Act::Wait, Act::Call], &[Act::Wait, Act::GiveWay]), (Some(7), 3));
}

#[test]
fn a_callee_ends_the_fibre() {
    assert_eq!(both_ways(&[Act::EndFibre], &[]), (None, 1));
    assert_eq!(both_ways(&[Act::Wait, Act::EndFibre], &[]), (None, 1));
    assert_eq!(both_ways(&[Act::Call], &[Act::EndFibre]), (None, 2));
    assert_eq!(both_ways(&[Act::Call], &[Act::GiveWay, Act::EndFibre]), (None, 2));
}

fn poll<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Calls the same frame again and again, and takes no result.
struct Careless<A: AllocRef> {
    left: usize,
    callee: Curried<Actor<A>, A>,
}

impl<A: AllocRef> Continuation for Careless<A> {
    type Step = ();
    type Return = ();
    const START: () = ();

    fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if self.left == 0 {
            return Next::finish(());
        }
        self.left -= 1;
        Next::call(&mut self.callee, ())
    }
}

#[test]
fn a_result_that_nobody_took_is_dropped_before_another_call() {
    let drops = Rc::new(Cell::new(0));
    let checking = Checking::new();
    let callee = Actor::frame(&[], &[], &checking, &drops).curried();
    let mut coroutine = Box::pin(coroutine(Careless { left: 3, callee }));
    assert!(coroutine.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert_eq!(drops.get(), 200, "all but the last");
    drop(coroutine);
    assert_eq!(drops.get(), 301);
}

#[test]
fn a_routine_that_was_destroyed_in_a_call_is_not_called_again() {
    let drops = Rc::new(Cell::new(0));
    let checking = Checking::new();
    let mut frame = Actor::frame(&[Act::Wait], &[], &checking, &drops).curried();
    assert!(poll(frame.call()).is_pending());
    assert_eq!(drops.get(), 1, "with the call");
    assert!(catch_unwind(AssertUnwindSafe(|| poll(frame.call()).is_ready())).is_err());
    assert!(frame.result().is_none());
    drop(frame);
    assert_eq!(drops.get(), 1);
}

#[test]
fn a_coroutine_whose_step_or_callee_panicked_is_not_resumed() {
    for acts in [&[Act::Panic][..], &[Act::Wait, Act::Panic], &[Act::Call]] {
        let drops = Rc::new(Cell::new(0));
        let checking = Checking::new();
        let callee = Some(Actor::frame(acts, &[Act::Panic], &checking, &drops));
        let result = Rc::new(RefCell::new(None));
        let mut coroutine = Box::pin(coroutine(Caller { callee, result: result.clone() }));
        let mut poll = || coroutine.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        for _ in 1..acts.len() {
            assert!(poll().is_pending());
        }
        assert!(catch_unwind(AssertUnwindSafe(&mut poll)).is_err());
        assert!(catch_unwind(AssertUnwindSafe(&mut poll)).is_err(), "what has panicked is not resumed");
        drop(coroutine);
        assert_eq!(drops.get(), if let Act::Call = acts[0] { 2 } else { 1 });
        assert_eq!(*result.borrow(), None);
    }
}

#[test]
fn a_destructor_that_panics_loses_neither_the_block_nor_the_result() {
    let drops = Rc::new(Cell::new(0));
    let checking = Checking::new();
    let mut frame = Actor::frame(&[], &[], &checking, &drops).curried();
    frame.panics_in_drop = true;
    assert!(poll(frame.call()).is_ready());
    assert_eq!(drops.replace(0), 100);
    assert!(
        catch_unwind(AssertUnwindSafe(|| {
            let _result = frame.result();
            drop(frame);
        }))
        .is_err()
    );
    assert_eq!(drops.get(), 1, "once, and not again with the handle");
}
