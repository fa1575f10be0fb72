//! A frame in a cell that others can open is not lent by a guard that the step drops.

use core::cell::RefCell;
use core::task::{Context, Poll};
use fibra_core::{AllocRef, Continuation, Frame, Next};

struct Callee;
impl Continuation for Callee {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(())
    }
}

struct Caller<'a, A: AllocRef>(&'a RefCell<Frame<Callee, A>>);
impl<A: AllocRef> Continuation for Caller<'_, A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let mut frame = self.0.borrow_mut();
        Next::call(&mut frame, ())
    }
}

fn main() {}
