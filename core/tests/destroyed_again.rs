//! `async` routines in frames that reach, while they are destroyed at the end of their process, whoever called them.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use common::routines::assert_waits;
use common::{Checking, Tally};
use fibra_core::{AllocRef, Async, Continuation, Frame, Next, coroutine};

struct Caller<F: Future, A: AllocRef>(Frame<Async<F>, A>);

impl<F: Future<Output = ()>, A: AllocRef> Continuation for Caller<F, A> {
    type Step = bool;
    type Return = ();
    const START: bool = false;

    fn resume(&mut self, called: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        if called { Next::finish(()) } else { Next::call(&mut self.0, true) }
    }
}

type Slot<'p> = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()> + 'p>>>>>;

/// The routine owns the coroutine that calls it, and that coroutine owns its frame.
#[test]
fn an_async_routine_may_own_the_coroutine_that_calls_it() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let result = fibra_core::run(&checking, |p| {
        let slot: Slot<'_> = Rc::default();
        let (before, caller, after) = (tally.token(), slot.clone(), tally.token());
        let callee = async move {
            let _held = (before, caller, after);
            pending::<()>().await;
        };
        let callee = p.frame_async(callee).unwrap();
        *slot.borrow_mut() = Some(Box::pin(coroutine(Caller(callee))));
        assert_waits(slot.borrow_mut().as_mut().unwrap().as_mut());
    });
    result.unwrap();
    assert_eq!(tally.alive(), 0);
    checking.assert_empty();
}

/// The same with an `async` caller.
#[test]
fn an_async_routine_may_own_its_async_caller() {
    let (checking, tally) = (Checking::new(), Tally::default());
    let result = fibra_core::run(&checking, |p| {
        let slot: Slot<'_> = Rc::default();
        let (before, caller, after) = (tally.token(), slot.clone(), tally.token());
        let callee = async move {
            let _held = (before, caller, after);
            pending::<()>().await;
        };
        let mut callee = p.frame_async(callee).unwrap();
        *slot.borrow_mut() = Some(Box::pin(async move { callee.call().await }));
        assert_waits(slot.borrow_mut().as_mut().unwrap().as_mut());
    });
    result.unwrap();
    assert_eq!(tally.alive(), 0);
    checking.assert_empty();
}
