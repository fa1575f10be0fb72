//! What comes next is said of the routine itself: a step cannot pass on what another routine said.

use core::task::{Context, Poll};
use fibra_core::{Continuation, Next};

struct Inner;
impl Continuation for Inner {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::finish(())
    }
}

struct Outer(Inner);
impl Continuation for Outer {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, step: (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        self.0.resume(step, cx)
    }
}

fn main() {}
