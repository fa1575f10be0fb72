//! A borrowed frame must not be put back into a cell while it is lent to a call.

use core::cell::Cell;
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

struct Caller<'a, A: AllocRef>(&'a Cell<Option<&'a mut Frame<Callee, A>>>);
impl<A: AllocRef> Continuation for Caller<'_, A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let frame = self.0.take().unwrap();
        let next = Next::call(&mut *frame, ());
        self.0.set(Some(frame));
        next
    }
}

fn main() {}
