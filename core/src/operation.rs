//! Reads and writes on their way: the futures.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

use crate::end::End;
use crate::node::State;
use crate::reach::{Reach, Sequential};

/// A write on its way. Made by [`Writer::write`](crate::Writer::write) and [`Endpoint::write`](crate::Endpoint::write).
///
/// Dropping it before it was delivered drops the value. Once complete, it stays complete.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let (mut w1, mut r1) = p.channel::<u8>().unwrap();
///     let (mut w2, mut r2) = p.channel::<u8>().unwrap();
///     p.spawn(async move {
///         futures::join!(w1.write(1), w2.write(2)); // both at once, in whatever order they are read
///     })
///     .unwrap();
///     p.spawn(async move { assert_eq!((r2.read().await, r1.read().await), (2, 1)) }).unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is written until this is awaited"]
pub struct Write<'a, 'p, T, R: Reach = Sequential> {
    /// `None` once complete.
    pub(crate) end: Option<&'a mut End<'p, T, R>>,
}

impl<T, R: Reach> Write<'_, '_, T, R> {
    /// Takes the write back: the value if it was not delivered, `None` if a reader has it.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (mut w, _r) = p.channel::<&str>().unwrap();
    ///     assert_eq!(w.write("nobody reads this").cancel(), Some("nobody reads this"));
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self) -> Option<T> {
        self.end.take()?.take_undelivered()
    }
}

impl<T, R: Reach> Future for Write<'_, '_, T, R> {
    type Output = ();

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else { return Poll::Ready(()) };
        let poll = end.poll_write(cx, State::Waiting);
        if poll.is_ready() {
            this.end = None;
        }
        poll
    }
}

impl<T, R: Reach> Drop for Write<'_, '_, T, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            end.clear_write();
        }
    }
}

/// A read on its way. Made by [`Reader::read`](crate::Reader::read) and [`Endpoint::read`](crate::Endpoint::read).
///
/// Dropping it loses nothing: a value that was delivered comes from the endpoint's next read. It must not be polled
/// again after it completed: it would wait for ever.
///
/// ```
/// use futures::future::{Either, select};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let (mut w1, mut r1) = p.channel::<u8>().unwrap();
///     let (mut w2, mut r2) = p.channel::<u8>().unwrap();
///     p.spawn(async move {
///         let Either::Left((1, _)) = select(r1.read(), r2.read()).await else { unreachable!() };
///         assert_eq!(r2.read().await, 2); // was delivered to the read that `select` dropped
///     })
///     .unwrap();
///     p.spawn(async move {
///         w1.write(1).await;
///         w2.write(2).await;
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is read until this is awaited"]
pub struct Read<'a, 'p, T, R: Reach = Sequential> {
    /// `None` once complete.
    pub(crate) end: Option<&'a mut End<'p, T, R>>,
}

impl<T, R: Reach> Future for Read<'_, '_, T, R> {
    type Output = T;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else { return Poll::Pending };
        let poll = end.poll_read(cx, State::Waiting);
        if poll.is_ready() {
            this.end = None;
        }
        poll
    }
}

impl<T, R: Reach> Drop for Read<'_, '_, T, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            end.clear_read();
        }
    }
}

/// A read on its way, or the end of the stream. Made by [`Reader::read_or_end`](crate::Reader::read_or_end) and
/// [`Endpoint::read_or_end`](crate::Endpoint::read_or_end).
///
/// Dropping it loses nothing, as with [`Read`]. Polled again after it completed, it says that the stream has ended.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let (mut w, mut r) = p.channel::<u8>().unwrap();
///     let (closed, mut ended) = p.channel::<u8>().unwrap();
///     drop(closed);
///     p.spawn(async move { w.write(1).await }).unwrap();
///     p.spawn(async move {
///         assert_eq!(futures::join!(r.read_or_end(), ended.read_or_end()), (Some(1), None));
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is read until this is awaited"]
pub struct ReadOrEnd<'a, 'p, T, R: Reach = Sequential> {
    /// `None` once complete.
    pub(crate) end: Option<&'a mut End<'p, T, R>>,
}

impl<T, R: Reach> Future for ReadOrEnd<'_, '_, T, R> {
    type Output = Option<T>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else { return Poll::Ready(None) };
        let poll = end.poll_read_or_end(cx);
        if poll.is_ready() {
            this.end = None;
        }
        poll
    }
}

impl<T, R: Reach> Drop for ReadOrEnd<'_, '_, T, R> {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            end.clear_read();
        }
    }
}
