//! The end of a channel that is written to.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::task::{Context, Poll};

use fibra_allocators::AllocError;

use crate::end::{End, Remove};
use crate::node::{Direction, State};
use crate::operation::Write;
use crate::reach::{Asynchronous, Platform, Reach, Sequential};
#[cfg(doc)]
use crate::reader::Reader;

/// The end of a channel that is written to.
///
/// It is used by one fibre at a time; [`dup`](Self::dup) makes another writer of the same channel. Dropping the last
/// writer ends the waits of the readers: a fibre that waits in [`Reader::read`] and for nothing else collapses.
///
/// `'p` is the process's lifetime, `T` the type of the values, `R` the channel's [`Reach`] ([`Sequential`]: neither `Send` nor
/// `Sync`).
///
/// ```
/// use fibra_core::Writer;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// async fn count(mut to: Writer<'_, u32>, until: u32) {
///     for n in 1..=until {
///         to.write(n).await;
///     }
/// }
/// let mut sum = 0;
/// let total = &mut sum;
/// fibra_core::run(&pool, |p| {
///     let (w, mut r) = p.channel().unwrap();
///     p.spawn(count(w, 4)).unwrap();
///     p.spawn(async move {
///         loop {
///             *total += r.read().await; // ends with the writer
///         }
///     })
///     .unwrap();
/// })?;
/// assert_eq!(sum, 10);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Writer<'p, T, R: Reach = Sequential> {
    pub(crate) end: End<'p, T, R>,
}

impl<'p, T, R: Reach> Writer<'p, T, R> {
    /// Writes a value: completes when a reader has it.
    ///
    /// The value is moved into this endpoint's slot at once, and is offered to readers from the first poll on. Dropping the
    /// future before the value was delivered drops the value. A write that was forgotten
    /// ([`mem::forget`](core::mem::forget)) goes on, if it had begun, until the next operation on this writer takes it back
    /// and drops its value.
    ///
    /// # Blocking
    /// Suspends the fibre until a reader comes, unless one waits already. Takes constant time; allocates nothing.
    ///
    /// # Collapse
    /// May never return: if the last reader goes, the fibre can never run again, and is destroyed.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u32>().unwrap();
    ///     p.spawn(async move {
    ///         let mut n = 0;
    ///         loop {
    ///             w.write(n).await; // ends with the reader
    ///             n += 1;
    ///         }
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move { assert_eq!((r.read().await, r.read().await), (0, 1)) }).unwrap();
    /// })?;
    /// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn write(&mut self, value: T) -> Write<'_, 'p, T, R> {
        self.end.load(value);
        Write { end: Some(&mut self.end) }
    }

    /// Begins a write, for [`poll_write`](Self::poll_write) to complete: moves a value into this endpoint's slot.
    ///
    /// The two are [`write`](Self::write) for those who have no `async`, such as an explicit
    /// [`Continuation`](crate::Continuation). Nobody is offered the value before the first poll. A write that was begun
    /// before and has not completed is taken back, and its value dropped, unless it was delivered.
    ///
    /// ```
    /// use core::future::poll_fn;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u8>().unwrap();
    ///     p.spawn(async move {
    ///         w.begin_write(1);
    ///         w.begin_write(2); // instead of 1
    ///         poll_fn(|cx| w.poll_write(cx)).await;
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move { assert_eq!(r.read().await, 2) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn begin_write(&mut self, value: T) {
        self.end.load(value);
    }

    /// Completes the write that was begun last ([`begin_write`](Self::begin_write)). Ready when a reader has the value, and
    /// when there is nothing to complete: no write was begun, or another operation has taken it back.
    ///
    /// # Blocking
    /// Once it has given `Pending`, the fibre is woken when a reader has come.
    ///
    /// # Collapse
    /// May never be ready, as [`write`](Self::write).
    ///
    /// ```
    /// use core::task::{Context, Poll};
    /// use fibra_core::{Continuation, Next, Writer, coroutine};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// /// Writes one value.
    /// struct Once<'p>(Writer<'p, u8>);
    ///
    /// impl Continuation for Once<'_> {
    ///     type Step = bool; // whether it has begun
    ///     type Return = ();
    ///     const START: bool = false;
    ///
    ///     fn resume(&mut self, has_begun: bool, cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
    ///         if has_begun {
    ///             core::task::ready!(self.0.poll_write(cx));
    ///             return Next::finish(());
    ///         }
    ///         self.0.begin_write(7);
    ///         Next::go(true)
    ///     }
    /// }
    ///
    /// fibra_core::run(&pool, |p| {
    ///     let (w, mut r) = p.channel().unwrap();
    ///     p.spawn(coroutine(Once(w))).unwrap();
    ///     p.spawn(async move { assert_eq!(r.read().await, 7) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.poll_begun_write(cx)
    }

    /// Takes back the write that was begun last: the value if it was not delivered, `None` if a reader has it or if none
    /// was begun.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, _r) = p.channel::<&str>().unwrap();
    ///     w.begin_write("nobody reads this");
    ///     assert_eq!(w.cancel_write(), Some("nobody reads this"));
    ///     assert_eq!(w.cancel_write(), None);
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel_write(&mut self) -> Option<T> {
        self.end.take_undelivered()
    }

    /// Writes a value if a reader waits for one; otherwise gives it back. Never waits.
    ///
    /// # Errors
    /// The value, if no reader waits.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u8>().unwrap();
    ///     assert_eq!(w.try_write(1), Err(1)); // nobody waits yet
    ///     p.spawn(async move { assert_eq!(r.read().await, 2) }).unwrap();
    ///     p.spawn(async move { assert_eq!(w.try_write(2), Ok(())) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_write(&mut self, value: T) -> Result<(), T> {
        self.end.try_write(value)
    }

    /// Makes another writer of the same channel. Takes one block, and constant time.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block of [`dup_layout::<T>()`](crate::dup_layout).
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut sum = 0;
    /// let total = &mut sum;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut one, mut r) = p.channel::<u32>().unwrap();
    ///     let mut two = one.dup().unwrap();
    ///     p.spawn(async move { one.write(1).await }).unwrap();
    ///     p.spawn(async move { two.write(2).await }).unwrap();
    ///     p.spawn(async move {
    ///         while let Some(n) = r.read_or_end().await {
    ///             *total += n;
    ///         }
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(sum, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dup(&self) -> Result<Self, AllocError> {
        Ok(Writer { end: self.end.dup(Direction::Write)? })
    }
}

impl<T, P: Platform> Writer<'_, T, Asynchronous<P>> {
    /// The same end with another lifetime: the channel belongs to no process.
    pub(crate) fn of_any_process<'q>(self) -> Writer<'q, T, Asynchronous<P>> {
        let this = ManuallyDrop::new(self);
        Writer { end: End { slot: this.end.slot, channel: this.end.channel, marker: PhantomData } }
    }
}

impl<T, R: Reach> Drop for Writer<'_, T, R> {
    fn drop(&mut self) {
        let end = &mut self.end;
        let _last = Remove::<R, 1> { channel: end.channel, nodes: [end.node()], reach: PhantomData };
        if end.node().state.observe::<R>() != State::Idle {
            end.clear_write();
        }
    }
}
