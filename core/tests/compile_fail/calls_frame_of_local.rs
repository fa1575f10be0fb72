//! A callee must not borrow a local of the step that calls it, not even in a frame that is leaked.

use core::task::{Context, Poll};
use fibra_core::{AllocRef, Continuation, Frame, Next};

struct Callee<'a>(&'a mut u8);
impl Continuation for Callee<'_> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        *self.0 += 1;
        Next::finish(())
    }
}

struct Caller<A: AllocRef>(A);
impl<A: AllocRef> Continuation for Caller<A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        let mut local = 1;
        let frame = Frame::new_in(Callee(&mut local), self.0.clone()).unwrap();
        Next::call(Box::leak(Box::new(frame)), ())
    }
}

fn main() {}
