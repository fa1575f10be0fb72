//! A frame must live on while its routine runs: one in a local of the step goes too early.

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

struct Caller<A: AllocRef>(A);
impl<A: AllocRef> Continuation for Caller<A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let mut frame = Frame::new_in(Callee, self.0.clone()).unwrap();
        Next::call(&mut frame, ())
    }
}

fn main() {}
