//! A coroutine must not outlive a frame that it borrows: dropping it destroys the calls in progress.

use core::mem::MaybeUninit;
use core::future::Future;
use core::task::{Context, Poll};
use fibra_core::{AllocRef, Continuation, Frame, MemReq, Next, SizeClasses, coroutine, table};

struct Waits;
impl Continuation for Waits {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Poll::Pending
    }
}

struct Caller<'a, A: AllocRef>(&'a mut Frame<Waits, A>);
impl<A: AllocRef> Continuation for Caller<'_, A> {
    type Step = ();
    type Return = ();
    const START: () = ();
    fn resume(&mut self, _: (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        Next::call(self.0, ())
    }
}

fn main() {
    let mut memory = [MaybeUninit::uninit(); 1024];
    let sizes = table([MemReq { block_size: 256, n_blocks: 2 }]);
    let pool = SizeClasses::new(&sizes, &mut memory).unwrap();
    let mut calls;
    let mut frame = Frame::new_in(Waits, &pool).unwrap();
    calls = Box::pin(coroutine(Caller(&mut frame)));
    let cx = &mut Context::from_waker(core::task::Waker::noop());
    assert!(calls.as_mut().poll(cx).is_pending());
}
