//! Continuations as futures: a coroutine, which has no caller, and a call from an `async` routine.

use core::fmt;
use core::future::Future;
use core::marker::PhantomPinned;
use core::pin::Pin;
use core::task::{Context, Poll};

use fibra_allocators::AllocRef;

use crate::continuation::{Continuation, Rest, State, advance};
use crate::frame::Frame;
use crate::stack::{Ran, Stack};

/// A routine without a caller: a future, to be spawned as a fibre. Made by [`coroutine`].
///
/// Dropping it in the middle of calls destroys the routines, the topmost first, one after the other and not in depth, and
/// releases their frames. Reports and dumps call its fibre by the name of the routine.
///
/// It may be awaited anywhere, on other executors too: it needs nothing but what its routine asks for.
///
/// # Panics
/// If it is polled after it has ended or panicked; the message names the routine.
///
/// ```
/// use core::task::{Context, Poll};
/// use fibra_core::{Continuation, Next, coroutine};
///
/// struct Hello;
///
/// impl Continuation for Hello {
///     type Step = ();
///     type Return = ();
///     const START: () = ();
///
///     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         println!("Hello World");
///         Next::finish(())
///     }
/// }
/// futures::executor::block_on(coroutine(Hello));
/// ```
#[must_use = "a coroutine does nothing until it is spawned"]
pub struct Coroutine<C: Continuation<Return = ()>> {
    stack: Stack,
    state: State<C::Step>,
    routine: C,
    /// A callee may borrow from its caller, so the routine stays where it is.
    _pinned: PhantomPinned,
}

/// Makes a coroutine of a routine: a future, to be spawned as a fibre. See [`Continuation`] for an example.
///
/// It takes a word more than the routine and its step.
#[inline]
pub fn coroutine<C: Continuation<Return = ()>>(routine: C) -> Coroutine<C> {
    Coroutine { stack: Stack::EMPTY, state: State::Called(C::START), routine, _pinned: PhantomPinned }
}

impl<C: Continuation<Return = ()>> Future for Coroutine<C> {
    type Output = ();

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: nothing is moved out of it.
        let this = unsafe { self.get_unchecked_mut() };
        // A step may put another context in its place.
        let waker = cx.waker();
        let mut ran = if this.stack.is_empty() { Ran::Returned } else { this.stack.run(waker) };
        loop {
            match ran {
                Ran::Waits => return Poll::Pending,
                Ran::Returned => {}
                Ran::Ended => {
                    // Before the destructors, of which one may panic.
                    this.state = State::Idle;
                    this.stack.clear();
                    return Poll::Ready(());
                }
            }
            match advance(&mut this.state, &mut this.routine, cx) {
                Rest::Waits => return Poll::Pending,
                Rest::GivesWay => {
                    waker.wake_by_ref();
                    return Poll::Pending;
                }
                Rest::Calls(frame) => {
                    this.stack.push(frame);
                    ran = this.stack.run_briefly(waker);
                }
                Rest::Returned(()) | Rest::EndsFibre => return Poll::Ready(()),
            }
        }
    }
}

impl<C: Continuation<Return = ()>> Drop for Coroutine<C> {
    /// Destroys the callees before the routine: they may borrow from it.
    #[inline]
    fn drop(&mut self) {
        self.stack.clear();
    }
}

/// A call of a subroutine by an `async` routine. Made by [`Frame::call`].
///
/// Dropped before it has returned, it destroys the subroutine and those that it called. Polled again afterwards, it waits
/// for ever.
#[must_use = "nothing is called until this is awaited"]
pub struct Call<'a, C: Continuation, A: AllocRef, const KEPT: bool> {
    stack: Stack,
    has_begun: bool,
    frame: &'a mut Frame<C, A, KEPT>,
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> Frame<C, A, KEPT> {
    /// Calls the subroutine from its beginning, in an `async` routine: gives what it returns.
    ///
    /// # Blocking
    /// Suspends the fibre as long as the subroutine waits.
    ///
    /// # Collapse
    /// May never return: if the subroutine waits for what cannot come any more, or ends the fibre, and the fibre waits for
    /// nothing else, it is destroyed.
    ///
    /// # Panics
    /// If the subroutine has returned and is not curried, or was destroyed in the middle of an earlier call.
    ///
    /// ```
    /// use core::task::{Context, Poll};
    /// use fibra_core::{Continuation, Next};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    ///
    /// /// How often it was called.
    /// struct Counter(u32);
    ///
    /// impl Continuation for Counter {
    ///     type Step = ();
    ///     type Return = u32;
    ///     const START: () = ();
    ///
    ///     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
    ///         self.0 += 1;
    ///         Next::finish(self.0)
    ///     }
    /// }
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     p.spawn(async move {
    ///         let mut counter = p.frame(Counter(0)).unwrap().curried();
    ///         assert_eq!(counter.call().await, 1);
    ///         assert_eq!(counter.call().await, 2); // it has stayed
    ///     })
    ///     .unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn call(&mut self) -> Call<'_, C, A, KEPT> {
        Call { stack: Stack::EMPTY, has_begun: false, frame: self }
    }
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> Future for Call<'_, C, A, KEPT> {
    type Output = C::Return;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Return> {
        let this = self.get_mut();
        let ran = if this.has_begun {
            this.stack.run(cx.waker())
        } else {
            this.has_begun = true;
            this.stack.push(this.frame.begin().into_frame());
            this.stack.run_briefly(cx.waker())
        };
        match ran {
            Ran::Waits => Poll::Pending,
            Ran::Returned => match this.frame.result() {
                Some(value) => Poll::Ready(value),
                // It was taken already.
                None => Poll::Pending,
            },
            Ran::Ended => {
                this.stack.clear();
                Poll::Pending
            }
        }
    }
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> Drop for Call<'_, C, A, KEPT> {
    #[inline]
    fn drop(&mut self) {
        self.stack.clear();
    }
}

impl<C: Continuation<Return = ()>> fmt::Debug for Coroutine<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Coroutine(`{}`)", core::any::type_name::<C>())
    }
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> fmt::Debug for Call<'_, C, A, KEPT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call(`{}`)", core::any::type_name::<C>())
    }
}
