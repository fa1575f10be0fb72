//! The end of a channel that is read from.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::task::{Context, Poll};

use fibra_allocators::AllocError;

use crate::end::{End, Remove};
use crate::node::{Direction, State};
use crate::operation::{Read, ReadOrEnd};
use crate::reach::{Asynchronous, Platform, Reach, Sequential};
#[cfg(doc)]
use crate::writer::Writer;

/// The end of a channel that is read from.
///
/// It is used by one fibre at a time; [`dup`](Self::dup) makes another reader of the same channel: each value goes to
/// one of them, in the order in which they began to wait. Dropping the last reader ends the waits of the writers: a fibre
/// that waits in [`Writer::write`] and for nothing else collapses.
///
/// A value that was delivered to a read which was then dropped or forgotten stays with the reader and comes from its next
/// read. It is dropped only with the reader.
///
/// ```
/// use fibra_core::Reader;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// async fn expect(mut from: Reader<'_, char>, text: &str) {
///     for letter in text.chars() {
///         assert_eq!(from.read().await, letter);
///     }
/// }
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (mut w, r) = p.channel().unwrap();
///     p.spawn(expect(r, "ok")).unwrap();
///     p.spawn(async move {
///         w.write('o').await;
///         w.write('k').await;
///         w.write('?').await; // the reader has gone: collapses here
///     })
///     .unwrap();
/// })?;
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<'p, T, R: Reach = Sequential> {
    pub(crate) end: End<'p, T, R>,
}

impl<'p, T, R: Reach> Reader<'p, T, R> {
    /// Reads a value.
    ///
    /// # Blocking
    /// Suspends the fibre until a writer comes, unless one waits already. Takes constant time; allocates nothing.
    ///
    /// # Collapse
    /// May never return: if the last writer goes, the fibre can never run again, and is destroyed. To be told instead,
    /// use [`read_or_end`](Self::read_or_end).
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u32>().unwrap();
    ///     p.spawn(async move { w.write(7).await }).unwrap();
    ///     p.spawn(async move {
    ///         assert_eq!(r.read().await, 7);
    ///         r.read().await; // the writer has gone: collapses here
    ///         unreachable!();
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn read(&mut self) -> Read<'_, 'p, T, R> {
        Read { end: Some(&mut self.end) }
    }

    /// Reads a value, or `None` if none can come any more.
    ///
    /// # Blocking
    /// Suspends the fibre until a writer comes, unless one waits already, or until the last writer goes.
    ///
    /// # Collapse
    /// Returns where [`read`](Self::read) would collapse.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut sum = 0;
    /// let total = &mut sum;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u32>().unwrap();
    ///     p.spawn(async move {
    ///         for n in 1..=3 {
    ///             w.write(n).await;
    ///         }
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move {
    ///         while let Some(n) = r.read_or_end().await {
    ///             *total += n;
    ///         }
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(sum, 6);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn read_or_end(&mut self) -> ReadOrEnd<'_, 'p, T, R> {
        ReadOrEnd { end: Some(&mut self.end) }
    }

    /// Reads a value, for those who have no `async`, such as an explicit [`Continuation`](crate::Continuation): as
    /// [`read`](Self::read).
    ///
    /// A value that comes after this has given `Pending` stays with the reader, for its next read of whatever kind. So one
    /// fibre can poll several readers, and loses nothing.
    ///
    /// # Blocking
    /// Once it has given `Pending`, the fibre is woken when a value has come.
    ///
    /// # Collapse
    /// May never be ready, as [`read`](Self::read).
    ///
    /// ```
    /// use core::future::poll_fn;
    /// use core::task::Poll;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (_w1, mut r1) = p.channel::<u8>().unwrap();
    ///     let (mut w2, mut r2) = p.channel::<u8>().unwrap();
    ///     p.spawn(async move {
    ///         let first = poll_fn(|cx| match r1.poll_read(cx) {
    ///             Poll::Ready(value) => Poll::Ready(value),
    ///             Poll::Pending => r2.poll_read(cx),
    ///         });
    ///         assert_eq!(first.await, 2);
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move { w2.write(2).await }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        self.end.poll_read(cx, State::Waiting)
    }

    /// Reads a value, or `None` if none can come any more: [`poll_read`](Self::poll_read) as
    /// [`read_or_end`](Self::read_or_end) is to [`read`](Self::read).
    ///
    /// ```
    /// use core::future::poll_fn;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u8>().unwrap();
    ///     p.spawn(async move { w.write(1).await }).unwrap();
    ///     p.spawn(async move {
    ///         assert_eq!(poll_fn(|cx| r.poll_read_or_end(cx)).await, Some(1));
    ///         assert_eq!(poll_fn(|cx| r.poll_read_or_end(cx)).await, None);
    ///     })
    ///     .unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline(always)]
    pub fn poll_read_or_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.end.poll_read_or_end(cx)
    }

    /// Reads a value if there is one: from a read that was dropped after delivery, or from a writer that waits. Never
    /// waits.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<u8>().unwrap();
    ///     assert_eq!(r.try_read(), None); // nobody waits yet
    ///     p.spawn(async move { w.write(1).await }).unwrap();
    ///     p.spawn(async move { assert_eq!(r.try_read(), Some(1)) }).unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_read(&mut self) -> Option<T> {
        self.end.try_read()
    }

    /// Makes another reader of the same channel. Takes one block, and constant time.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block of [`dup_layout::<T>()`](crate::dup_layout).
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, mut one) = p.channel::<&str>().unwrap();
    ///     let mut two = one.dup().unwrap();
    ///     p.spawn(async move { assert_eq!(one.read().await, "for the first to wait") }).unwrap();
    ///     p.spawn(async move { assert_eq!(two.read().await, "for the second") }).unwrap();
    ///     p.spawn(async move {
    ///         w.write("for the first to wait").await;
    ///         w.write("for the second").await;
    ///     })
    ///     .unwrap();
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dup(&self) -> Result<Self, AllocError> {
        Ok(Reader { end: self.end.dup(Direction::Read)? })
    }
}

impl<T, P: Platform> Reader<'_, T, Asynchronous<P>> {
    /// The same end with another lifetime: the channel belongs to no process.
    pub(crate) fn of_any_process<'q>(self) -> Reader<'q, T, Asynchronous<P>> {
        let this = ManuallyDrop::new(self);
        Reader { end: End { slot: this.end.slot, channel: this.end.channel, marker: PhantomData } }
    }
}

impl<T, R: Reach> Drop for Reader<'_, T, R> {
    fn drop(&mut self) {
        let end = &mut self.end;
        let _last = Remove::<R, 1> { channel: end.channel, nodes: [end.node()], reach: PhantomData };
        if end.node().state.observe::<R>() != State::Idle {
            end.drop_delivered();
        }
    }
}
