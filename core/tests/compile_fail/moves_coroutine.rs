//! A coroutine stays where it is once it is polled: a callee may borrow from its caller.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use fibra_core::{Continuation, Next, coroutine};

struct Waits;
impl Continuation for Waits {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Poll::Pending
    }
}

fn main() {
    let mut waits = coroutine(Waits);
    let _ = Pin::new(&mut waits).poll(&mut Context::from_waker(Waker::noop()));
    let _moved = waits;
}
