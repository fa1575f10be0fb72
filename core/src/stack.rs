//! The calls in progress in one coroutine.

use core::task::{Context, Waker};

use crate::continuation::Rest;
use crate::frame::FrameRef;

/// The frames of the calls in progress, each linked to the one below.
///
/// Invariant: each frame in here is allocated, and was called ([`Callee`](crate::frame::Callee)); nobody else runs it, and
/// whoever owns it does not run before it has left the stack: to call it, a routine lent it for as long as it lends itself,
/// and it is not resumed, moved or dropped before the callee has returned or is being destroyed.
///
/// Whoever has a stack clears it when it is dropped. A destructor here would not do: it would know nothing of what the frames
/// borrow, which the compiler would then let go before.
pub(crate) struct Stack {
    top: Option<FrameRef>,
}

/// How a stack has come to rest.
pub(crate) enum Ran {
    /// The topmost routine waits.
    Waits,
    /// The lowest one has returned.
    Returned,
    /// The topmost one has ended the fibre, and all are to be destroyed.
    Ended,
}

impl Stack {
    pub const EMPTY: Self = Stack { top: None };

    #[inline(always)]
    pub fn push(&mut self, frame: FrameRef) {
        frame.link.set(self.top);
        self.top = Some(frame);
    }

    #[inline(always)]
    fn pop(&mut self) -> Option<FrameRef> {
        let top = self.top?;
        self.top = top.link.get();
        Some(top)
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.top.is_none()
    }

    /// Runs the topmost routine, and those that it calls or returns to, until all have come to rest.
    ///
    /// A function of its own, with a context of its own: then a coroutine need not make ready for it at each poll.
    #[inline(never)]
    pub fn run(&mut self, waker: &Waker) -> Ran {
        let mut cx = Context::from_waker(waker);
        while let Some(top) = self.top {
            // SAFETY: the type's invariant: a frame on the stack is run by nobody else.
            match unsafe { top.resume(&mut cx) } {
                Rest::Calls(frame) => self.push(frame),
                Rest::Returned(()) => self.top = top.link.get(),
                rest => return Self::come_to_rest(rest, waker),
            }
        }
        Ran::Returned
    }

    /// The same. What is usual after a call comes without another function: the topmost routine returns at once, and there
    /// is no other.
    #[inline(always)]
    pub fn run_briefly(&mut self, waker: &Waker) -> Ran {
        let Some(top) = self.top else { return Ran::Returned };
        // SAFETY: as in `run`.
        let rest = unsafe { top.resume(&mut Context::from_waker(waker)) };
        if let Rest::Returned(()) = rest
            && top.link.get().is_none()
        {
            self.top = None;
            return Ran::Returned;
        }
        self.run_on(top, rest, waker)
    }

    #[inline(never)]
    fn run_on(&mut self, top: FrameRef, rest: Rest<()>, waker: &Waker) -> Ran {
        match rest {
            Rest::Calls(frame) => self.push(frame),
            Rest::Returned(()) => self.top = top.link.get(),
            rest => return Self::come_to_rest(rest, waker),
        }
        self.run(waker)
    }

    /// What neither calls nor returns. Apart, so that the loop goes without a table of jumps.
    #[inline(never)]
    fn come_to_rest(rest: Rest<()>, waker: &Waker) -> Ran {
        match rest {
            Rest::EndsFibre => return Ran::Ended,
            Rest::GivesWay => waker.wake_by_ref(),
            Rest::Waits | Rest::Calls(_) | Rest::Returned(()) => {}
        }
        Ran::Waits
    }

    /// Destroys the routines, the topmost first, one after the other. Their blocks go with their owners: the routines
    /// below, mostly. If a destructor panics, the others are destroyed all the same.
    #[inline]
    pub fn clear(&mut self) {
        if self.top.is_some() {
            self.destroy_all();
        }
    }

    #[cold]
    #[inline(never)]
    fn destroy_all(&mut self) {
        struct Others<'a>(&'a mut Stack);
        impl Drop for Others<'_> {
            fn drop(&mut self) {
                self.0.clear();
            }
        }
        let others = Others(self);
        while let Some(top) = others.0.pop() {
            // SAFETY: nothing will run the frame any more, and its owner, if it is a routine below, is there still.
            unsafe { top.destroy() };
        }
        core::mem::forget(others);
    }
}
