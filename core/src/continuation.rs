//! Routines written as explicit state machines, and what their steps say comes next.
//!
//! ```text
//!                  .------------------ go, give_way --------------.
//!                  v                                              |
//!   START ----> resume(step) ---- Pending: the same step again ---+   when the fibre is woken
//!                  |   |                                          |
//!                  |   `--- call(frame, then) --> the callee ----- '   at `then`, when it has returned
//!                  |
//!                  |--- finish(value) --> the caller goes on; a coroutine, which has none, ends its fibre
//!                  `--- end_fibre ------> all routines of the coroutine are destroyed, the topmost first
//! ```

use core::fmt;
use core::future::Future;
use core::task::{Context, Poll};

use fibra_allocators::AllocRef;

use crate::frame::{Callee, Frame, FrameRef};
use crate::spawn::{SpawnError, SpawnNext};

/// A suspended routine, written as an explicit state machine.
///
/// What an `async fn` would keep in local variables is the struct. Where it stands is a [`Step`](Self::Step), most often an
/// enum. [`resume`](Self::resume) runs one step, and says what comes [`Next`]. There is nothing else to it: no macro writes
/// code behind your back, so a debugger stops in each step and shows where a routine stands; and a compiler, or whoever
/// writes state machines by hand, has all that an `async` block has, at the same cost.
///
/// One trait serves the three kinds of routine:
///
/// | | its caller | its memory | when it finishes |
/// | --- | --- | --- | --- |
/// | coroutine: [`coroutine(routine)`](crate::coroutine), then [`spawn`](crate::Process::spawn) | none | is the fibre's | the fibre ends |
/// | subroutine: a [`Frame`], then [`Next::call`] | gets the result | a block for each call | goes with the frame |
/// | curried subroutine: a frame that its maker keeps, [`Curried`](crate::Curried) | gets the result | the same block for all calls | stays, with its state, and can be called again |
///
/// They mix with `async` routines, in one fibre and in one process: an `async` routine awaits [`Frame::call`], an explicit
/// one calls a [`Frame`] made by [`Process::frame_async`](crate::Process::frame_async).
///
/// The idea is that of the Felix language's run-time system, in which a fibre is a stack of continuations.
///
/// ```
/// use core::task::{Context, Poll, ready};
/// use fibra_core::{Continuation, Frame, Next, Reader, SizeClasses, Writer, coroutine};
/// # use fibra_core::{MemReq, table};
///
/// /// A subroutine of one step.
/// struct Square(u64);
///
/// impl Continuation for Square {
///     type Step = ();
///     type Return = u64;
///     const START: () = ();
///
///     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         Next::finish(self.0 * self.0)
///     }
/// }
///
/// /// A coroutine: squares what it reads, until nobody writes or nobody reads any more.
/// struct Squares<'p, A: fibra_core::AllocRef> {
///     from: Reader<'p, u64>,
///     to: Writer<'p, u64>,
///     pool: A,
///     square: Option<Frame<Square, A>>,
/// }
///
/// #[derive(Clone, Copy)]
/// enum Step {
///     Read,
///     Squared,
///     Write,
/// }
///
/// impl<A: fibra_core::AllocRef> Continuation for Squares<'_, A> {
///     type Step = Step;
///     type Return = ();
///     const START: Step = Step::Read;
///
///     fn resume(&mut self, step: Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         match step {
///             Step::Read => {
///                 let n = ready!(self.from.poll_read(cx));
///                 let Ok(frame) = Frame::new_in(Square(n), self.pool.clone()) else { return Next::end_fibre() };
///                 Next::call(self.square.insert(frame), Step::Squared)
///             }
///             Step::Squared => {
///                 let square = self.square.take().and_then(Frame::into_result).expect("it has returned");
///                 self.to.begin_write(square);
///                 Next::go(Step::Write)
///             }
///             Step::Write => {
///                 ready!(self.to.poll_write(cx));
///                 Next::go(Step::Read)
///             }
///         }
///     }
/// }
///
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let pool = &pool;
/// let mut sum = 0;
/// let (_, outcome) = fibra_core::run(pool, |p| {
///     let (mut numbers, from) = p.channel().unwrap();
///     let (to, mut squares) = p.channel().unwrap();
///     p.spawn(coroutine(Squares { from, to, pool, square: None })).unwrap();
///     p.spawn(async move {
///         for n in 1..=4 {
///             numbers.write(n).await;
///         }
///     })
///     .unwrap();
///     let sum = &mut sum;
///     p.spawn(async move {
///         loop {
///             *sum += squares.read().await;
///         }
///     })
///     .unwrap();
/// })?;
/// assert_eq!(sum, 1 + 4 + 9 + 16);
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Continuation {
    /// The places where the routine can be resumed. What a step needs to know may be in it, if it is `Copy`.
    type Step: Copy;
    /// What it returns to its caller; `()` if it is to be a coroutine.
    type Return;
    /// The step with which it begins.
    const START: Self::Step;

    /// Runs one step, and says what comes [`Next`].
    ///
    /// `Pending` says that the step cannot be taken yet: something was polled with `cx` and will wake the fibre, and then
    /// the same step is resumed from its beginning. So a step first makes sure that it can be taken,
    /// `let n = ready!(self.from.poll_read(cx))`, and does the rest after that.
    ///
    /// It is called by whoever runs the routine, never after it has ended and never while a callee runs. In a routine that
    /// spends its time communicating, `#[inline(always)]` on this method is worth it.
    ///
    /// # Blocking
    /// A step runs on until it returns: whatever takes long should now and then [give way](Next::give_way).
    ///
    /// # Collapse
    /// A step that gives `Pending` without having polled anything that can wake the fibre collapses it.
    fn resume(&mut self, step: Self::Step, cx: &mut Context<'_>) -> Poll<Next<'_, Self>>;
}

/// What comes after a step of a [`Continuation`].
///
/// Its functions give the whole answer of [`resume`](Continuation::resume), so that they are a step's last line.
///
/// There is no request for reading or writing: a step polls an end of a channel, and waits by giving `Pending`. Nor is
/// there one for spawning: [`Process::spawn`](crate::Process::spawn) does it at once.
///
/// ```
/// use core::task::{Context, Poll};
/// use fibra_core::{Continuation, Next, coroutine};
/// # use fibra_core::{MemReq, SizeClasses, table};
///
/// /// Counts down, and lets others run in between.
/// struct Countdown<'a>(u32, &'a std::cell::RefCell<Vec<u32>>);
///
/// impl Continuation for Countdown<'_> {
///     type Step = ();
///     type Return = ();
///     const START: () = ();
///
///     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         self.1.borrow_mut().push(self.0);
///         match self.0.checked_sub(10) {
///             None => Next::finish(()),
///             Some(less) => {
///                 self.0 = less;
///                 Next::give_way(())
///             }
///         }
///     }
/// }
///
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let seen = Default::default();
/// fibra_core::run(&pool, |p| {
///     p.spawn(coroutine(Countdown(20, &seen))).unwrap();
///     p.spawn(coroutine(Countdown(11, &seen))).unwrap();
/// })?;
/// assert_eq!(seen.into_inner(), [20, 11, 10, 1, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a step returns what comes next"]
pub struct Next<'a, C: Continuation + ?Sized>(Action<'a, C>);

/// Private, so that a callee is always lent.
enum Action<'a, C: Continuation + ?Sized> {
    Go(C::Step),
    GiveWay(C::Step),
    Call(Callee<'a>, C::Step),
    Finish(C::Return),
    EndFibre,
}

impl<'a, C: Continuation + ?Sized> Next<'a, C> {
    /// Goes on with another step, at once. (A jump: it costs no more than one.)
    #[inline(always)]
    pub fn go(step: C::Step) -> Poll<Self> {
        Poll::Ready(Next(Action::Go(step)))
    }

    /// Lets all other ready fibres run once, and then goes on.
    #[inline(always)]
    pub fn give_way(then: C::Step) -> Poll<Self> {
        Poll::Ready(Next(Action::GiveWay(then)))
    }

    /// Spawns a fibre that runs before all other ready ones, and goes on after all of them, as
    /// [`Process::spawn_next`](crate::Process::spawn_next) does for those who can await it.
    ///
    /// # Errors
    /// As [`Process::spawn`](crate::Process::spawn).
    ///
    /// ```
    /// use core::task::{Context, Poll};
    /// use fibra_core::{AllocRef, Continuation, Next, Process, coroutine};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    ///
    /// struct Parent<'p, 'env, A>(&'p Process<'p, 'env, A>);
    ///
    /// impl<A: AllocRef> Continuation for Parent<'_, '_, A> {
    ///     type Step = &'static str;
    ///     type Return = ();
    ///     const START: &'static str = "before";
    ///
    ///     fn resume(&mut self, step: &'static str, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
    ///         if step == "after" {
    ///             println!("parent");
    ///             return Next::finish(());
    ///         }
    ///         let child = async { println!("child") };
    ///         Next::spawn_next(self.0.spawn_next(child), "after").unwrap_or_else(|_| Next::finish(()))
    ///     }
    /// }
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| p.spawn(coroutine(Parent(p))).is_ok())?;
    /// assert_eq!(outcome.finished, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn spawn_next<'p, F, A>(mut child: SpawnNext<'p, '_, F, A>, then: C::Step) -> Result<Poll<Self>, SpawnError<F>>
    where
        F: Future<Output = ()> + 'p,
        A: AllocRef,
    {
        child.start()?;
        Ok(Self::give_way(then))
    }

    /// Calls a subroutine from its beginning, and goes on when it has returned: at `then`, where the result is to be had
    /// from the frame ([`Frame::into_result`], or [`Frame::result`] for a frame that is kept). What the subroutine held is
    /// dropped then, unless it is [curried](Frame::curried).
    ///
    /// The frame is lent until then, and with it the whole routine, which is what makes a call safe. Takes constant time,
    /// allocates nothing and does not nest: calls may be as deep as there are frames. A result that nobody took from the
    /// frame after an earlier call is dropped.
    ///
    /// # Panics
    /// If the subroutine has returned and is not curried, or was destroyed in the middle of an earlier call.
    #[inline(always)]
    pub fn call<S: Continuation, A: AllocRef, const KEPT: bool>(
        subroutine: &'a mut Frame<S, A, KEPT>,
        then: C::Step,
    ) -> Poll<Self> {
        Poll::Ready(Next(Action::Call(subroutine.begin(), then)))
    }

    /// Ends the routine and returns a value to its caller. A coroutine has no caller: its fibre ends.
    #[inline(always)]
    pub fn finish(value: C::Return) -> Poll<Self> {
        Poll::Ready(Next(Action::Finish(value)))
    }

    /// Ends the coroutine, however deep in calls: the routines are destroyed, the topmost first, and their frames
    /// released. Where an `async` routine has [called](Frame::call), that call ends, and never returns.
    #[inline(always)]
    pub fn end_fibre() -> Poll<Self> {
        Poll::Ready(Next(Action::EndFibre))
    }
}

/// Where a routine stands.
#[derive(Clone, Copy)]
pub(crate) enum State<S> {
    /// Nowhere: it was not called yet, or it has ended, or a step has panicked.
    Idle,
    /// Before this step.
    Called(S),
    /// In a frame: it has ended, and its value is there.
    Returned,
    /// In a frame: it is destroyed.
    Gone,
    /// In a frame: it is being destroyed, while somebody may own the frame.
    Going,
    /// In a frame: the same, and nobody does any more.
    Orphan,
}

/// How a routine has come to rest.
pub(crate) enum Rest<V> {
    Waits,
    GivesWay,
    Calls(FrameRef),
    Returned(V),
    EndsFibre,
}

/// Runs a routine, step by step, until it comes to rest: if it is to be resumed, in `Called`, otherwise in `Idle`.
#[inline(always)]
pub(crate) fn advance<C: Continuation>(
    state: &mut State<C::Step>,
    routine: &mut C,
    cx: &mut Context<'_>,
) -> Rest<C::Return> {
    /// Has the routine stand nowhere once it has ended, also if a step panics.
    struct Ends<'a, S>(&'a mut State<S>);
    impl<S> Ends<'_, S> {
        #[inline(always)]
        fn not_before(self, step: S) {
            *self.0 = State::Called(step);
            core::mem::forget(self);
        }
    }
    impl<S> Drop for Ends<'_, S> {
        #[inline(always)]
        fn drop(&mut self) {
            *self.0 = State::Idle;
        }
    }

    let State::Called(mut step) = *state else { has_ended::<C>() };
    let ends = Ends(state);
    loop {
        match routine.resume(step, cx) {
            Poll::Pending => {
                ends.not_before(step);
                return Rest::Waits;
            }
            Poll::Ready(Next(Action::Go(next))) => step = next,
            Poll::Ready(Next(Action::GiveWay(next))) => {
                ends.not_before(next);
                return Rest::GivesWay;
            }
            Poll::Ready(Next(Action::Call(callee, next))) => {
                ends.not_before(next);
                return Rest::Calls(callee.into_frame());
            }
            Poll::Ready(Next(Action::Finish(value))) => return Rest::Returned(value),
            Poll::Ready(Next(Action::EndFibre)) => return Rest::EndsFibre,
        }
    }
}

#[cold]
#[inline(never)]
pub(crate) fn has_ended<C>() -> ! {
    panic!("routine `{}` was resumed after it had ended or panicked", core::any::type_name::<C>())
}

impl<C: Continuation> fmt::Debug for Next<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Action::Go(_) => "Next::go",
            Action::GiveWay(_) => "Next::give_way",
            Action::Call(..) => "Next::call",
            Action::Finish(_) => "Next::finish",
            Action::EndFibre => "Next::end_fibre",
        })
    }
}
