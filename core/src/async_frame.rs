//! Frames of `async` routines, which explicit ones call.

use core::cell::Cell;
use core::fmt;
use core::future::Future;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use fibra_allocators::AllocRef;

use crate::continuation::{Continuation, Next};
use crate::frame::{Frame, FrameRef, NoFrame};
use crate::process::{Process, ProcessRef};

/// An `async` routine in a [`Frame`], to be called by an explicit one. Made by [`Process::frame_async`], and only there: in
/// its frame it is pinned.
///
/// See there for an example.
pub struct Async<F> {
    /// Before the future, so that it is dropped before.
    entry: Entry,
    future: F,
    /// For the sake of the future, and because the list points into this.
    _pinned: PhantomPinned,
}

/// A place in the process's list of `async` routines in frames.
///
/// What is pinned has to be dropped before its memory is used for anything else, and whoever has a frame may forget it. So
/// the process destroys at its end those that are left.
///
/// Invariant: entered, and so in the list, from when its frame is made until it is dropped. It does not move in between.
pub(crate) struct Entry {
    process: ProcessRef,
    frame: Cell<Option<FrameRef>>,
    next: Cell<Option<NonNull<Entry>>>,
    prev: Cell<Option<NonNull<Entry>>>,
}

impl Entry {
    fn enter(&self, frame: FrameRef) {
        self.frame.set(Some(frame));
        let this = NonNull::from(self);
        let next = self.process.async_frames.replace(Some(this));
        self.next.set(next);
        if let Some(next) = next {
            // SAFETY: the type's invariant: what is in the list is there.
            unsafe { next.as_ref() }.prev.set(Some(this));
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if self.frame.get().is_none() {
            return;
        }
        let (prev, next) = (self.prev.get(), self.next.get());
        if let Some(next) = next {
            // SAFETY: the type's invariant: what is in the list is there.
            unsafe { next.as_ref() }.prev.set(prev);
        }
        match prev {
            // SAFETY: as above.
            Some(prev) => unsafe { prev.as_ref() }.next.set(next),
            None => self.process.async_frames.set(next),
        }
    }
}

impl ProcessRef {
    /// Destroys the `async` routines in frames that were forgotten.
    pub fn destroy_async_frames(self) {
        while let Some(first) = self.async_frames.get() {
            // SAFETY: what is in the list is there.
            if let Some(frame) = unsafe { first.as_ref() }.frame.get() {
                // SAFETY: all fibres are gone, so nothing runs in the frame now, and what would run it later finds it gone. Its
                // entry leaves the list before its future's destructor runs.
                unsafe { frame.destroy() };
            }
        }
    }
}

impl<F: Future> Continuation for Async<F> {
    type Step = ();
    type Return = F::Output;
    const START: () = ();

    #[inline(always)]
    fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
        // SAFETY: it is in a frame, where it stays until it is dropped, at the end of the process at the latest; nobody else
        // gets a mutable reference to it, because it is not `Unpin` (`Frame::deref_mut`).
        match unsafe { Pin::new_unchecked(&mut self.future) }.poll(cx) {
            Poll::Ready(value) => Next::finish(value),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<'p, A: AllocRef> Process<'p, '_, A> {
    /// Puts an `async` routine into a frame from the process's allocator, so that explicit ones can call it, once.
    ///
    /// # Errors
    /// [`NoFrame`], with the future in it, if the allocator has no block of
    /// [`frame_layout::<Async<F>, &A>()`](crate::frame_layout), or if the process is ending.
    ///
    /// ```
    /// use core::future::Future;
    /// use core::task::{Context, Poll};
    /// use fibra_core::{AllocRef, Async, Continuation, Frame, Next, coroutine, yield_now};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    ///
    /// async fn square(n: u64) -> u64 {
    ///     yield_now().await;
    ///     n * n
    /// }
    ///
    /// /// Calls a future.
    /// struct Caller<F: Future, A: AllocRef>(Frame<Async<F>, A>);
    ///
    /// impl<F: Future<Output = u64>, A: AllocRef> Continuation for Caller<F, A> {
    ///     type Step = bool; // whether it has returned
    ///     type Return = ();
    ///     const START: bool = false;
    ///
    ///     fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
    ///         if !has_returned {
    ///             return Next::call(&mut self.0, true);
    ///         }
    ///         assert_eq!(self.0.result(), Some(49));
    ///         Next::finish(())
    ///     }
    /// }
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let square = p.frame_async(square(7)).unwrap();
    ///     p.spawn(coroutine(Caller(square))).unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn frame_async<F: Future + 'p>(&'p self, future: F) -> Result<Frame<Async<F>, &'p A>, NoFrame<F>> {
        let process = self.core.this();
        if process.closing.get() {
            return Err(NoFrame { routine: future });
        }
        let none = || Cell::new(None);
        let entry = Entry { process, frame: Cell::new(None), next: none(), prev: none() };
        match self.frame(Async { entry, future, _pinned: PhantomPinned }) {
            Ok(frame) => {
                // SAFETY: a new frame's routine is there, where it stays.
                unsafe { &(*frame.routine()).entry }.enter(frame.as_ref());
                Ok(frame)
            }
            Err(NoFrame { routine: Async { future, .. } }) => Err(NoFrame { routine: future }),
        }
    }
}

impl<F> fmt::Debug for Async<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Async")
    }
}
