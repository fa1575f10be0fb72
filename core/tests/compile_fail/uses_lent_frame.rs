//! A frame that was lent to a call must not be used before the step has returned.

use core::task::{Context, Poll};
use fibra_core::{AllocRef, Continuation, Frame, Next};

struct Callee;
impl Continuation for Callee {
    type Step = ();
    type Return = u8;
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(1)
    }
}

struct Caller<A: AllocRef>(Option<Frame<Callee, A>>);
impl<A: AllocRef> Continuation for Caller<A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let next = Next::call(self.0.as_mut().unwrap(), ());
        self.0 = None;
        next
    }
}

fn main() {}
