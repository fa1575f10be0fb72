//! The frames of subroutines.
//!
//! ```text
//!   new_in --> IDLE --- begin (a call) --> CALLED --- finish --> RETURNED --- result --> GONE, or, if it is curried, IDLE
//!                ^                           |
//!                | a step panics             | the coroutine is destroyed, or ends its fibre
//!                '---------------------------+--------------------------------------------> GONE
//! ```
//!
//! The routine is destroyed when it returns, unless it is curried: there in `IDLE` and `CALLED`, and in `RETURNED` if it is
//! curried. In `GONE` only the block is left. On the way there through a destruction it is `GOING`; if it lets go of its own
//! frame meanwhile, `ORPHAN`.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop, MaybeUninit, needs_drop};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::task::Context;

use fibra_allocators::{AllocError, AllocRef, Layout};

#[cfg(doc)]
use crate::Next;
use crate::continuation::{Continuation, Rest, State, advance, has_ended};
use crate::process::Process;

/// The untyped front of every frame.
pub(crate) struct Front {
    table: &'static Table,
    /// On a stack: the frame below.
    pub link: Cell<Option<FrameRef>>,
}

struct Table {
    resume: unsafe fn(FrameRef, &mut Context<'_>) -> Rest<()>,
    destroy: unsafe fn(FrameRef),
}

/// A pointer to a frame's front that may reach the whole block.
///
/// Invariant: the block is allocated, and its front initialised.
#[derive(Clone, Copy)]
pub(crate) struct FrameRef(NonNull<Front>);

impl Deref for FrameRef {
    type Target = Front;

    #[inline(always)]
    fn deref(&self) -> &Front {
        // SAFETY: the type's invariant; a front is only ever changed through its cell.
        unsafe { self.0.as_ref() }
    }
}

impl FrameRef {
    /// Runs the routine until it comes to rest.
    ///
    /// # Safety
    /// The frame was called, and nobody else runs it or uses its routine meanwhile.
    #[inline(always)]
    pub unsafe fn resume(self, cx: &mut Context<'_>) -> Rest<()> {
        // SAFETY: passed on to the caller.
        unsafe { (self.table.resume)(self, cx) }
    }

    /// Destroys the routine, and its result if there is one. The block is its owner's.
    ///
    /// # Safety
    /// Nobody runs it any more.
    pub unsafe fn destroy(self) {
        // SAFETY: passed on to the caller.
        unsafe { (self.table.destroy)(self) }
    }
}

/// A frame that is to be called. Whoever holds this has lent the frame, and with it everything on the way to it.
pub(crate) struct Callee<'a> {
    frame: FrameRef,
    lent: PhantomData<&'a mut ()>,
}

impl Callee<'_> {
    #[inline(always)]
    pub fn into_frame(self) -> FrameRef {
        self.frame
    }
}

#[repr(C)]
struct Block<C: Continuation, A> {
    front: Front,
    body: Body<C, A>,
}

struct Body<C: Continuation, A> {
    /// Where it is in the diagram above.
    state: State<C::Step>,
    allocator: A,
    /// There in `Returned`.
    value: MaybeUninit<C::Return>,
    /// There as the diagram says.
    routine: MaybeUninit<C>,
}

/// A subroutine in a frame of its own: a block from an allocator, most often the process's.
///
/// Made by [`Process::frame`] or [`Frame::new_in`]; called by [`Next::call`] in an explicit routine, by [`Frame::call`] in
/// an `async` one. When the subroutine returns, what it holds is dropped, and only its result is left; dropping the frame
/// releases the block. A [curried](Frame::curried) one stays, and can be called again.
///
/// Recursion goes as deep as there are blocks: a call does not use the stack of the thread, and neither does tearing down a
/// chain of calls. A block takes [`frame_layout`].
///
/// While it is called, a frame is lent. If the call ends midway (its fibre is destroyed or [ended](Next::end_fibre), the
/// [`Call`](crate::Call) is dropped), the routine in it is destroyed. Whoever has such a frame back, or one that has
/// returned, can only drop it: calling it again, or looking at a curried routine that is gone, panics and names the routine.
///
/// A chain of curried frames in which each keeps the next, or one whose call was forgotten, is dropped as a chain of boxes is:
/// one inside the other.
///
/// ```
/// use core::task::{Context, Poll};
/// use fibra_core::{AllocRef, Continuation, Frame, Next};
/// # use fibra_core::{MemReq, SizeClasses, table};
///
/// /// Adds 1 to n, the slow way.
/// struct Sum<A: AllocRef> {
///     n: u64,
///     pool: A,
///     rest: Option<Frame<Sum<A>, A>>,
/// }
///
/// impl<A: AllocRef> Continuation for Sum<A> {
///     type Step = bool; // whether the rest has returned
///     type Return = Option<u64>; // none: out of frames
///     const START: bool = false;
///
///     fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         if has_returned {
///             let rest = self.rest.take().and_then(Frame::into_result).flatten();
///             return Next::finish(rest.map(|rest| self.n + rest));
///         }
///         if self.n == 0 {
///             return Next::finish(Some(0));
///         }
///         match Frame::new_in(Sum { n: self.n - 1, pool: self.pool.clone(), rest: None }, self.pool.clone()) {
///             Ok(rest) => Next::call(self.rest.insert(rest), true),
///             Err(_) => Next::finish(None),
///         }
///     }
/// }
///
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 32 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 192, n_blocks: 102 }]), &mut memory)?;
/// let pool = &pool;
/// fibra_core::run(pool, |p| {
///     p.spawn(async move {
///         let sum = |n| p.frame(Sum { n, pool, rest: None }).expect("one is left");
///         assert_eq!(sum(100).call().await, Some(5050));
///         assert_eq!(sum(1_000_000).call().await, None); // not as many frames; all are back
///         assert_eq!(sum(100).call().await, Some(5050));
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Frame<C: Continuation, A: AllocRef, const KEPT: bool = false> {
    /// Invariant: allocated from the allocator in it, initialised, and this handle's alone, except while it is called, and but
    /// for the process's list of `async` ones. Its table is that of the handle's type.
    block: NonNull<Block<C, A>>,
    owns: PhantomData<Block<C, A>>,
}

/// A subroutine that stays in its frame when it returns, and can be called again. Made by [`Frame::curried`]; it derefs to
/// the routine. See [`Process::frame`] for an example.
pub type Curried<C, A> = Frame<C, A, true>;

/// The routine does not move with its frame's handle.
impl<C: Continuation, A: AllocRef, const KEPT: bool> Unpin for Frame<C, A, KEPT> {}

impl<C: Continuation, A: AllocRef> Frame<C, A> {
    /// Puts a subroutine into a frame. Takes one block of [`frame_layout::<C, A>()`](crate::frame_layout).
    ///
    /// # Errors
    /// [`NoFrame`], with the routine in it, if the allocator has no such block.
    ///
    /// See [`Frame`] for an example.
    #[inline]
    pub fn new_in(routine: C, allocator: A) -> Result<Self, NoFrame<C>> {
        let Ok(block) = allocator.allocate(Self::LAYOUT) else { return Err(NoFrame { routine }) };
        let block = block.cast::<Block<C, A>>();
        let front = Front { table: Self::TABLE, link: Cell::new(None) };
        let routine = MaybeUninit::new(routine);
        let body = Body { state: State::Idle, allocator, value: MaybeUninit::uninit(), routine };
        // SAFETY: the block is new, and has this layout.
        unsafe { block.write(Block { front, body }) };
        Ok(Frame { block, owns: PhantomData })
    }

    /// Makes it a curried subroutine, whose routine stays in its frame when it returns: it can be looked at, given other
    /// arguments, and called again. To be said before the call: otherwise the routine is gone, and a result that nobody took
    /// is dropped. See [`Process::frame`](crate::Process::frame) for an example.
    ///
    /// What it holds stays as long as it does; so a routine that calls itself had better release its callee in its last step.
    #[inline]
    pub fn curried(mut self) -> Curried<C, A> {
        drop(self.result());
        let block = ManuallyDrop::new(self).block;
        // SAFETY: the handle's invariant. From here on it is a frame of the other kind: there is no value, and whoever else names
        // it, such as a stack that was forgotten, reads the table anew.
        unsafe { (*block.as_ptr()).front.table = Curried::<C, A>::TABLE };
        Frame { block, owns: PhantomData }
    }

    /// Takes what the call returned, and releases the frame: nothing if the subroutine has not been called. See
    /// [`Continuation`] for an example.
    #[inline(always)]
    pub fn into_result(self) -> Option<C::Return> {
        let mut frame = ManuallyDrop::new(self);
        if !matches!(frame.body().state, State::Returned) {
            // SAFETY: the handle is neither used nor dropped any more.
            unsafe { frame.release() };
            return None;
        }
        let (block, body) = (frame.block.cast(), frame.body_mut());
        // SAFETY: in `Returned` the value is there, and the routine is not; the block is not used any more after these two are
        // read. It was allocated there with this layout.
        unsafe {
            let (value, allocator) = (body.value.assume_init_read(), (&raw const body.allocator).read());
            allocator.deallocate(block, Self::LAYOUT);
            Some(value)
        }
    }

    /// The frame itself, for as long as it is allocated.
    pub(crate) fn as_ref(&self) -> FrameRef {
        FrameRef(self.block.cast())
    }

    /// Where the routine is, and stays.
    pub(crate) fn routine(&self) -> *const C {
        (&raw const self.body().routine).cast()
    }
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> Frame<C, A, KEPT> {
    const TABLE: &'static Table = &Table { resume: Self::resume, destroy: Self::destroy };
    const LAYOUT: Layout = Layout::new::<Block<C, A>>();

    /// Takes what the last call returned: nothing if the subroutine has not been called, or if its result was taken
    /// already. See [`Process::frame`](crate::Process::frame) for an example.
    #[inline(always)]
    pub fn result(&mut self) -> Option<C::Return> {
        let body = self.body_mut();
        if !matches!(body.state, State::Returned) {
            return None;
        }
        body.state = if KEPT { State::Idle } else { State::Gone };
        // SAFETY: in `Returned` the value is there; from here on it counts as moved out.
        Some(unsafe { body.value.assume_init_read() })
    }

    /// Lends the frame to be called from its beginning.
    #[inline(always)]
    pub(crate) fn begin(&mut self) -> Callee<'_> {
        if !matches!(self.body().state, State::Idle) {
            self.begin_again();
        }
        self.body_mut().state = State::Called(C::START);
        Callee { frame: FrameRef(self.block.cast()), lent: PhantomData }
    }

    /// After a call that was forgotten, or whose result was.
    #[cold]
    #[inline(never)]
    fn begin_again(&mut self) {
        drop(self.result());
        if !matches!(self.body().state, State::Idle | State::Called(_)) {
            is_gone::<C>();
        }
    }

    #[inline(always)]
    fn body(&self) -> &Body<C, A> {
        // SAFETY: the handle's invariant; while the frame is called, its owner is suspended, or whoever ran it was forgotten; while
        // it is being destroyed, only the state is used.
        unsafe { &(*self.block.as_ptr()).body }
    }

    #[inline(always)]
    fn body_mut(&mut self) -> &mut Body<C, A> {
        // SAFETY: as in `body`.
        unsafe { &mut (*self.block.as_ptr()).body }
    }

    unsafe fn resume(frame: FrameRef, cx: &mut Context<'_>) -> Rest<()> {
        // SAFETY: the table is only ever put into a `Block<C, A>`; nobody else uses its body now (contract of
        // `FrameRef::resume`).
        let body = unsafe { &mut (*frame.0.cast::<Block<C, A>>().as_ptr()).body };
        if !matches!(body.state, State::Called(_)) {
            has_ended::<C>();
        }
        // SAFETY: in `Called` the routine is there.
        match advance(&mut body.state, unsafe { body.routine.assume_init_mut() }, cx) {
            Rest::Waits => Rest::Waits,
            Rest::GivesWay => Rest::GivesWay,
            Rest::Calls(frame) => Rest::Calls(frame),
            Rest::Returned(value) => {
                if !KEPT {
                    // Should its destructor panic.
                    body.state = State::Gone;
                    // SAFETY: it was there, and in `Gone` it counts as dropped.
                    unsafe { body.routine.assume_init_drop() };
                }
                body.value.write(value);
                body.state = State::Returned;
                Rest::Returned(())
            }
            Rest::EndsFibre => Rest::EndsFibre,
        }
    }

    unsafe fn destroy(frame: FrameRef) {
        /// Whoever is destroyed may own its own frame, and has let it go now. Only the outermost destruction settles this.
        struct Settle<C: Continuation, A: AllocRef, const KEPT: bool>(NonNull<Block<C, A>>);
        impl<C: Continuation, A: AllocRef, const KEPT: bool> Drop for Settle<C, A, KEPT> {
            fn drop(&mut self) {
                // SAFETY: the block is allocated: in `Going` its owner only changes the state, and an inner destruction nothing.
                let state = unsafe { &mut (*self.0.as_ptr()).body.state };
                if matches!(mem::replace(state, State::Gone), State::Orphan) {
                    drop(Frame::<C, A, KEPT> { block: self.0, owns: PhantomData });
                }
            }
        }
        let block = frame.0.cast::<Block<C, A>>();
        // SAFETY: the block is allocated (invariant of `FrameRef`), and no reference to its state is in use.
        if matches!(unsafe { (*block.as_ptr()).body.state }, State::Going | State::Orphan) {
            // The coroutine that calls it goes with it. What is begun goes on below on the thread's stack, in this block.
            return;
        }
        let settle = Settle::<C, A, KEPT>(block);
        // SAFETY: as in `resume`. What is there is destroyed through the pointer, because it may look at its own frame.
        unsafe {
            let body = &raw mut (*block.as_ptr()).body;
            let state = mem::replace(&mut (*body).state, State::Going);
            Parts::<C> { routine: &raw mut (*body).routine, value: &raw mut (*body).value }.destroy::<KEPT>(state);
        }
        drop(settle);
    }

    /// Destroys what is in the frame, and releases its block.
    ///
    /// # Safety
    /// The handle is neither used nor dropped afterwards.
    #[inline(always)]
    unsafe fn release(&mut self) {
        /// Releases the block also if a destructor panics.
        struct Release<A: AllocRef>(NonNull<u8>, Layout, A);
        impl<A: AllocRef> Drop for Release<A> {
            #[inline(always)]
            fn drop(&mut self) {
                // SAFETY: allocated there with this layout; nothing refers to it any more.
                unsafe { self.2.deallocate(self.0, self.1) }
            }
        }
        let block = self.block.cast();
        let body = self.body_mut();
        if matches!(body.state, State::Going) {
            body.state = State::Orphan;
            return;
        }
        // SAFETY: the allocator is not used where it was any more.
        let _release = Release(block, Self::LAYOUT, unsafe { (&raw const body.allocator).read() });
        let state = mem::replace(&mut body.state, State::Gone);
        // SAFETY: in `Gone` all counts as destroyed.
        unsafe { Parts::<C> { routine: &raw mut body.routine, value: &raw mut body.value }.destroy::<KEPT>(state) };
    }
}

/// What may have to be destroyed.
struct Parts<C: Continuation> {
    routine: *mut MaybeUninit<C>,
    value: *mut MaybeUninit<C::Return>,
}

impl<C: Continuation> Parts<C> {
    /// Destroys what is there in this state.
    ///
    /// # Safety
    /// The pointers are those to the parts of a frame in this state, and nobody will use these two any more.
    #[inline(always)]
    unsafe fn destroy<const KEPT: bool>(self, state: State<C::Step>) {
        /// Destroys the routine even if the destructor of the value panics.
        struct Routine<C>(*mut MaybeUninit<C>, bool);
        impl<C> Drop for Routine<C> {
            #[inline(always)]
            fn drop(&mut self) {
                if self.1 {
                    // SAFETY: it is there, and counts as destroyed from now on.
                    unsafe { self.0.cast::<C>().drop_in_place() }
                }
            }
        }
        let (has_value, has_routine) = match state {
            State::Idle | State::Called(_) => (false, true),
            State::Returned => (true, KEPT),
            State::Gone | State::Going | State::Orphan => (false, false),
        };
        let _routine = Routine(self.routine, has_routine);
        if has_value {
            // SAFETY: it is there, and counts as destroyed from now on.
            unsafe { self.value.cast::<C::Return>().drop_in_place() };
        }
    }
}

#[cold]
#[inline(never)]
fn is_gone<C>() -> ! {
    panic!(
        "routine `{}` is gone: it has returned and is not curried, or it was destroyed in the middle of a call",
        core::any::type_name::<C>()
    )
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> Drop for Frame<C, A, KEPT> {
    #[inline]
    fn drop(&mut self) {
        /// A function of its own, so that a routine whose callee is of its own type can look inline whether there is one.
        #[inline(never)]
        unsafe fn release<C: Continuation, A: AllocRef, const KEPT: bool>(frame: &mut Frame<C, A, KEPT>) {
            // SAFETY: passed on to the caller.
            unsafe { frame.release() }
        }
        // SAFETY: this is the handle's end.
        unsafe { if needs_drop::<C>() || needs_drop::<C::Return>() { release(self) } else { self.release() } }
    }
}

impl<C: Continuation, A: AllocRef> Deref for Curried<C, A> {
    type Target = C;

    fn deref(&self) -> &C {
        let body = self.body();
        if matches!(body.state, State::Gone | State::Going | State::Orphan) {
            is_gone::<C>();
        }
        // SAFETY: that of a curried one is there otherwise.
        unsafe { body.routine.assume_init_ref() }
    }
}

impl<C: Continuation + Unpin, A: AllocRef> DerefMut for Curried<C, A> {
    fn deref_mut(&mut self) -> &mut C {
        let body = self.body_mut();
        if matches!(body.state, State::Gone | State::Going | State::Orphan) {
            is_gone::<C>();
        }
        // SAFETY: as in `deref`.
        unsafe { body.routine.assume_init_mut() }
    }
}

impl<C: Continuation, A: AllocRef, const KEPT: bool> fmt::Debug for Frame<C, A, KEPT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame(`{}`)", core::any::type_name::<C>())
    }
}

/// There was no block for a frame. The routine is not lost: it is in here.
///
/// Where it does not matter, the error becomes an [`AllocError`].
///
/// ```
/// use core::mem::{self, ManuallyDrop, MaybeUninit, needs_drop};
/// # use core::task::{Context, Poll};
/// use fibra_core::{Continuation, Frame, MemReq, Next, SizeClasses, table};
///
/// struct Square(u64);
/// # impl Continuation for Square {
/// #     type Step = ();
/// #     type Return = u64;
/// #     const START: () = ();
/// #     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
/// #         Next::finish(self.0 * self.0)
/// #     }
/// # }
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let pool = SizeClasses::new(&table([MemReq { block_size: 64, n_blocks: 1 }]), &mut memory)?;
/// let first = Frame::new_in(Square(1), &pool)?;
/// let error = Frame::new_in(Square(2), &pool).unwrap_err();
/// assert!(error.to_string().starts_with("the allocator has no block for a frame of routine"));
/// drop(first);
/// assert_eq!(error.routine.0, 2);
/// let _second = Frame::new_in(error.routine, &pool)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct NoFrame<C> {
    /// The routine that was to be called.
    pub routine: C,
}

impl<C> fmt::Debug for NoFrame<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoFrame").finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NoFrame<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the allocator has no block for a frame of routine `{}`", core::any::type_name::<C>())
    }
}

impl<C> core::error::Error for NoFrame<C> {}

impl<C> From<NoFrame<C>> for AllocError {
    /// Drops the routine.
    fn from(_: NoFrame<C>) -> Self {
        AllocError
    }
}

impl<A: AllocRef> Process<'_, '_, A> {
    /// Puts a subroutine into a frame from the process's allocator.
    ///
    /// # Errors
    /// [`NoFrame`], with the routine in it, if the allocator has no block of
    /// [`frame_layout::<C, &A>()`](crate::frame_layout).
    ///
    /// ```
    /// use core::task::{Context, Poll};
    /// use fibra_core::{AllocRef, Continuation, Curried, Next, coroutine};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    ///
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
    /// /// Keeps a subroutine, and calls it with one argument after the other.
    /// struct Keeper<'p, A: AllocRef> {
    ///     square: Curried<Square, &'p A>,
    ///     sum: u64,
    /// }
    ///
    /// impl<A: AllocRef> Continuation for Keeper<'_, A> {
    ///     type Step = bool; // whether it has returned
    ///     type Return = ();
    ///     const START: bool = false;
    ///
    ///     fn resume(&mut self, has_returned: bool, _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
    ///         if has_returned {
    ///             self.sum += self.square.result().unwrap();
    ///             self.square.0 += 1; // the next argument
    ///         }
    ///         if self.square.0 > 4 {
    ///             assert_eq!(self.sum, 1 + 4 + 9 + 16);
    ///             return Next::finish(());
    ///         }
    ///         Next::call(&mut self.square, true)
    ///     }
    /// }
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let square = p.frame(Square(1)).unwrap().curried();
    ///     p.spawn(coroutine(Keeper { square, sum: 0 })).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn frame<C: Continuation>(&self, routine: C) -> Result<Frame<C, &A>, NoFrame<C>> {
        Frame::new_in(routine, &self.allocator)
    }
}

/// The size in bytes and the alignment of a frame of the routine `C` from an allocator `A`: what one call takes.
///
/// ```
/// use core::task::{Context, Poll};
/// use fibra_allocators::Borrowed;
/// use fibra_core::{Continuation, Next, SizeClasses, frame_layout};
///
/// struct Square(u64);
/// # impl Continuation for Square {
/// #     type Step = ();
/// #     type Return = u64;
/// #     const START: () = ();
/// #     fn resume(&mut self, (): (), _: &mut Context<'_>) -> Poll<Next<'_, Self>> {
/// #         Next::finish(self.0 * self.0)
/// #     }
/// # }
/// const SIZE: usize = frame_layout::<Square, &SizeClasses<4, Borrowed<'_>>>().size();
/// const { assert!(SIZE <= 6 * size_of::<u64>()) };
/// ```
pub const fn frame_layout<C: Continuation, A: AllocRef>() -> Layout {
    Frame::<C, A>::LAYOUT
}
