//! The outside ends of asynchronous channels: of those whom no scheduler can collapse, and who are told instead.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::pin::Pin;
use core::task::{Context, Poll};

use fibra_allocators::AllocError;

use crate::channel::ChannelRef;
use crate::node::Direction;
use crate::process::Process;
use crate::reach::{Asynchronous, Platform, Reach};
use crate::reader::Reader;
use crate::writer::Writer;

/// The end of an asynchronous channel that is written to from outside: by a thread, an interrupt handler, a task of any
/// executor. Made by [`asynchronous`](crate::asynchronous).
///
/// Where a fibre would collapse, this one is told that no reader can come any more, and gets its value back. Dropping it ends
/// the waits of the readers, as usual.
///
/// ```
/// use fibra_core::Unsent;
/// # use fibra_core::{Here, Platform, asynchronous};
/// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
/// # struct Threads;
/// # unsafe impl Platform for Threads {
/// #     type Lock = SpinLock;
/// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
/// #         std::thread_local!(static HERE: Here = const { Here::new() });
/// #         HERE.with(f)
/// #     }
/// # }
/// # static MEMORY: Arena<1024> = Arena::new();
/// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 2)]), MEMORY.take().unwrap())?;
/// # let pool: &'static _ = Box::leak(Box::new(pool));
/// let (mut to, mut from) = asynchronous::<u32, Threads, _>(pool).unwrap();
/// // On any executor: here, one of the ecosystem's.
/// let (written, read) = futures::executor::block_on(async { futures::join!(to.write(7), from.read()) });
/// assert_eq!((written, read), (Ok(()), Ok(7)));
///
/// drop(from);
/// assert_eq!(futures::executor::block_on(to.write(8)), Err(Unsent(8)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct OutsideWriter<T, P: Platform> {
    /// Dropped before the end, which keeps the channel.
    at_large: AtLarge<P>,
    end: Writer<'static, T, Asynchronous<P>>,
}

/// The end of an asynchronous channel that is read from outside. Made by [`asynchronous`](crate::asynchronous).
///
/// Where a fibre would collapse, this one is told that no writer can come any more.
///
/// For an example see [`OutsideWriter`].
pub struct OutsideReader<T, P: Platform> {
    /// Dropped before the end, which keeps the channel.
    at_large: AtLarge<P>,
    end: Reader<'static, T, Asynchronous<P>>,
}

/// An end that is counted as being outside of processes.
struct AtLarge<P: Platform> {
    channel: ChannelRef,
    direction: Direction,
    platform: PhantomData<fn(P)>,
}

// SAFETY: it only changes counts under the channel's lock; the end beside it keeps the channel.
unsafe impl<P: Platform> Send for AtLarge<P> {}
// SAFETY: as above.
unsafe impl<P: Platform> Sync for AtLarge<P> {}

impl<P: Platform> AtLarge<P> {
    /// For an end that is counted already.
    fn counted(channel: ChannelRef, direction: Direction) -> Self {
        AtLarge { channel, direction, platform: PhantomData }
    }

    fn new(channel: ChannelRef, direction: Direction) -> Self {
        channel.change_outsiders::<Asynchronous<P>>(direction, |_, ends| ends.set(ends.get() + 1));
        Self::counted(channel, direction)
    }

    /// The end goes inside of a process. If that one belongs to nobody, or not to the one of the others, it is as good as
    /// outside: nobody there knows when it waits.
    fn go_inside<A, R: Reach>(self, process: &Process<'_, '_, A, R>) {
        let group = process.core.outside.map_or(0, |outside| outside.source.group());
        let this = ManuallyDrop::new(self);
        this.channel.change_outsiders::<Asynchronous<P>>(this.direction, |outsiders, ends| {
            if group != 0 && [0, group].contains(&outsiders.group.get()) {
                outsiders.group.set(group);
                ends.set(ends.get() - 1);
            }
        });
    }
}

impl<P: Platform> Drop for AtLarge<P> {
    fn drop(&mut self) {
        self.channel.change_outsiders::<Asynchronous<P>>(self.direction, |_, ends| ends.set(ends.get() - 1));
    }
}

impl<T, P: Platform> Writer<'_, T, Asynchronous<P>> {
    /// For use outside of the process: an end that is told where a fibre would collapse.
    ///
    /// A write that was forgotten is taken back.
    ///
    /// For an example see [`OutsideWriter`].
    pub fn outside(mut self) -> OutsideWriter<T, P> {
        drop(self.cancel_write());
        OutsideWriter::new(self.of_any_process())
    }
}

impl<T, P: Platform> Reader<'_, T, Asynchronous<P>> {
    /// For use outside of the process: an end that is told where a fibre would collapse.
    ///
    /// For an example see [`OutsideWriter`].
    pub fn outside(mut self) -> OutsideReader<T, P> {
        self.end.clear_read();
        OutsideReader::new(self.of_any_process())
    }
}

impl<T, P: Platform> OutsideWriter<T, P> {
    /// Writes a value: completes when a reader has it.
    ///
    /// Dropping the future before the value was delivered drops the value; [`OutsideWrite::cancel`] gives it back.
    ///
    /// # Errors
    /// [`Unsent`], with the value in it, if no reader can come any more.
    ///
    /// For an example see [`OutsideWriter`].
    pub fn write(&mut self, value: T) -> OutsideWrite<'_, T, P> {
        self.end.begin_write(value);
        OutsideWrite { end: Some(self) }
    }

    /// Writes a value if a reader waits for one; otherwise gives it back. Never waits, so an interrupt handler may call it,
    /// if the platform's lock is a critical section.
    ///
    /// # Errors
    /// [`TryWriteError`], with the value in it: no reader waits, or none can come any more.
    ///
    /// ```
    /// use fibra_core::TryWriteError;
    /// # use fibra_core::{Here, Platform, asynchronous};
    /// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
    /// # struct Threads;
    /// # unsafe impl Platform for Threads {
    /// #     type Lock = SpinLock;
    /// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    /// #         std::thread_local!(static HERE: Here = const { Here::new() });
    /// #         HERE.with(f)
    /// #     }
    /// # }
    /// # static MEMORY: Arena<1024> = Arena::new();
    /// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 3)]), MEMORY.take().unwrap())?;
    /// # let pool: &'static _ = Box::leak(Box::new(pool));
    /// let (mut to, from) = asynchronous::<u32, Threads, _>(pool).unwrap();
    /// assert_eq!(to.try_write(1), Err(TryWriteError::NobodyWaits(1)));
    /// drop(from);
    /// assert_eq!(to.try_write(1), Err(TryWriteError::Ended(1)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_write(&mut self, value: T) -> Result<(), TryWriteError<T>> {
        self.end.try_write(value).map_err(|value| match self.end.end.is_ended(Direction::Write) {
            true => TryWriteError::Ended(value),
            false => TryWriteError::NobodyWaits(value),
        })
    }

    /// Begins a write, for [`poll_write`](Self::poll_write) to complete, as [`Writer::begin_write`] does.
    ///
    /// ```
    /// use core::task::{Context, Poll, Waker};
    /// use fibra_core::Unsent;
    /// # use fibra_core::{Here, Platform, asynchronous};
    /// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
    /// # struct Threads;
    /// # unsafe impl Platform for Threads {
    /// #     type Lock = SpinLock;
    /// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    /// #         std::thread_local!(static HERE: Here = const { Here::new() });
    /// #         HERE.with(f)
    /// #     }
    /// # }
    /// # static MEMORY: Arena<1024> = Arena::new();
    /// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 3)]), MEMORY.take().unwrap())?;
    /// # let pool: &'static _ = Box::leak(Box::new(pool));
    /// let (mut to, mut from) = asynchronous::<u32, Threads, _>(pool).unwrap();
    /// let mut cx = Context::from_waker(Waker::noop());
    /// to.begin_write(7);
    /// assert_eq!(to.poll_write(&mut cx), Poll::Pending);
    /// assert_eq!(from.try_read(), Ok(7));
    /// assert_eq!(to.poll_write(&mut cx), Poll::Ready(Ok(())));
    ///
    /// to.begin_write(8);
    /// drop(from);
    /// assert_eq!(to.poll_write(&mut cx), Poll::Ready(Err(Unsent(8))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_write(&mut self, value: T) {
        self.end.begin_write(value);
    }

    /// Completes the write that was begun last. Ready also when none was.
    ///
    /// # Errors
    /// [`Unsent`], with the value in it, if no reader can come any more.
    ///
    /// For an example see [`begin_write`](Self::begin_write).
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<T>>> {
        self.end.end.poll_begun_write_or_end(cx).map_err(Unsent)
    }

    /// Takes back the write that was begun last: the value if it was not delivered.
    ///
    /// For an example see [`Writer::cancel_write`].
    pub fn cancel_write(&mut self) -> Option<T> {
        self.end.cancel_write()
    }

    /// Makes another outside writer of the same channel. Takes one block from the channel's allocator.
    ///
    /// # Errors
    /// [`AllocError`] if it has none.
    ///
    /// For an example see [`Writer::dup`].
    pub fn dup(&self) -> Result<Self, AllocError> {
        Ok(Self::new(self.end.dup()?))
    }

    /// For use by the fibres of a process: a writer like any other, whose fibre collapses when no reader can come any more.
    ///
    /// A write that was begun is taken back.
    ///
    /// For an example see [`asynchronous`](crate::asynchronous).
    pub fn inside<'p, A, R: Reach>(mut self, process: &'p Process<'p, '_, A, R>) -> Writer<'p, T, Asynchronous<P>> {
        drop(self.cancel_write());
        let OutsideWriter { at_large, end } = self;
        at_large.go_inside(process);
        end.of_any_process()
    }

    /// One that is not counted yet as being outside.
    fn new(end: Writer<'static, T, Asynchronous<P>>) -> Self {
        OutsideWriter { at_large: AtLarge::new(end.end.channel, Direction::Write), end }
    }

    /// The first one of a new channel.
    pub(crate) fn first(end: Writer<'static, T, Asynchronous<P>>) -> Self {
        OutsideWriter { at_large: AtLarge::counted(end.end.channel, Direction::Write), end }
    }
}

impl<T, P: Platform> OutsideReader<T, P> {
    /// Reads a value.
    ///
    /// Dropping the future loses nothing: a value that was delivered comes from the next read.
    ///
    /// # Errors
    /// [`Ended`] if no writer can come any more.
    ///
    /// For an example see [`OutsideWriter`].
    pub fn read(&mut self) -> OutsideRead<'_, T, P> {
        OutsideRead { end: Some(self) }
    }

    /// Reads a value if a writer waits with one. Never waits, so an interrupt handler may call it, if the platform's lock is a
    /// critical section.
    ///
    /// # Errors
    /// [`TryReadError`]: no writer waits, or none can come any more.
    ///
    /// ```
    /// use fibra_core::TryReadError;
    /// # use fibra_core::{Here, Platform, asynchronous};
    /// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
    /// # struct Threads;
    /// # unsafe impl Platform for Threads {
    /// #     type Lock = SpinLock;
    /// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    /// #         std::thread_local!(static HERE: Here = const { Here::new() });
    /// #         HERE.with(f)
    /// #     }
    /// # }
    /// # static MEMORY: Arena<1024> = Arena::new();
    /// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 3)]), MEMORY.take().unwrap())?;
    /// # let pool: &'static _ = Box::leak(Box::new(pool));
    /// let (to, mut from) = asynchronous::<u32, Threads, _>(pool).unwrap();
    /// assert_eq!(from.try_read(), Err(TryReadError::NobodyWaits));
    /// drop(to);
    /// assert_eq!(from.try_read(), Err(TryReadError::Ended));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_read(&mut self) -> Result<T, TryReadError> {
        self.end.try_read().ok_or_else(|| match self.end.end.is_ended(Direction::Read) {
            true => TryReadError::Ended,
            false => TryReadError::NobodyWaits,
        })
    }

    /// The same as [`read`](Self::read) for those who have no `async`.
    ///
    /// # Errors
    /// [`Ended`] if no writer can come any more.
    ///
    /// For an example see [`Reader::poll_read`].
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Ended>> {
        self.end.poll_read_or_end(cx).map(|value| value.ok_or(Ended))
    }

    /// Takes back a read that was [polled](Self::poll_read). A value that was delivered comes from the next read.
    ///
    /// For an example see [`OutsideWriter`].
    pub fn cancel_read(&mut self) {
        self.end.end.clear_read();
    }

    /// Makes another outside reader of the same channel. Takes one block from the channel's allocator.
    ///
    /// # Errors
    /// [`AllocError`] if it has none.
    ///
    /// ```
    /// use fibra_core::Ended;
    /// # use fibra_core::{Here, Platform, asynchronous};
    /// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
    /// # struct Threads;
    /// # unsafe impl Platform for Threads {
    /// #     type Lock = SpinLock;
    /// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    /// #         std::thread_local!(static HERE: Here = const { Here::new() });
    /// #         HERE.with(f)
    /// #     }
    /// # }
    /// # static MEMORY: Arena<1024> = Arena::new();
    /// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 3)]), MEMORY.take().unwrap())?;
    /// # let pool: &'static _ = Box::leak(Box::new(pool));
    /// let (mut to, mut from) = asynchronous::<u32, Threads, _>(pool).unwrap();
    /// let mut other = from.dup().unwrap();
    /// let both = async { futures::join!(from.read(), to.write(1)) };
    /// assert_eq!(futures::executor::block_on(both), (Ok(1), Ok(())));
    /// drop(to);
    /// assert_eq!(futures::executor::block_on(other.read()), Err(Ended));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dup(&self) -> Result<Self, AllocError> {
        Ok(Self::new(self.end.dup()?))
    }

    /// For use by the fibres of a process: a reader like any other, whose fibre collapses when no writer can come any more.
    ///
    /// For an example see [`asynchronous`](crate::asynchronous).
    pub fn inside<'p, A, R: Reach>(mut self, process: &'p Process<'p, '_, A, R>) -> Reader<'p, T, Asynchronous<P>> {
        self.cancel_read();
        let OutsideReader { at_large, end } = self;
        at_large.go_inside(process);
        end.of_any_process()
    }

    /// One that is not counted yet as being outside.
    fn new(end: Reader<'static, T, Asynchronous<P>>) -> Self {
        OutsideReader { at_large: AtLarge::new(end.end.channel, Direction::Read), end }
    }

    /// The first one of a new channel.
    pub(crate) fn first(end: Reader<'static, T, Asynchronous<P>>) -> Self {
        OutsideReader { at_large: AtLarge::counted(end.end.channel, Direction::Read), end }
    }
}

/// A write from outside on its way. Made by [`OutsideWriter::write`].
#[must_use = "nothing is written until this is awaited"]
pub struct OutsideWrite<'a, T, P: Platform> {
    /// `None` once complete.
    end: Option<&'a mut OutsideWriter<T, P>>,
}

impl<T, P: Platform> OutsideWrite<'_, T, P> {
    /// Takes the write back: the value if it was not delivered, `None` if a reader has it.
    ///
    /// ```
    /// # use fibra_core::{Here, Platform, asynchronous};
    /// # use fibra_allocators::{Arena, MemReq, SizeClasses, SpinLock, table};
    /// # struct Threads;
    /// # unsafe impl Platform for Threads {
    /// #     type Lock = SpinLock;
    /// #     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
    /// #         std::thread_local!(static HERE: Here = const { Here::new() });
    /// #         HERE.with(f)
    /// #     }
    /// # }
    /// # static MEMORY: Arena<1024> = Arena::new();
    /// # let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 3)]), MEMORY.take().unwrap())?;
    /// # let pool: &'static _ = Box::leak(Box::new(pool));
    /// let (mut to, _from) = asynchronous::<u32, Threads, _>(pool).unwrap();
    /// assert_eq!(to.write(7).cancel(), Some(7)); // nobody has read it
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self) -> Option<T> {
        self.end.take()?.cancel_write()
    }
}

impl<T, P: Platform> Future for OutsideWrite<'_, T, P> {
    type Output = Result<(), Unsent<T>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else { return Poll::Ready(Ok(())) };
        let poll = end.poll_write(cx);
        if poll.is_ready() {
            this.end = None;
        }
        poll
    }
}

impl<T, P: Platform> Drop for OutsideWrite<'_, T, P> {
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            drop(end.cancel_write());
        }
    }
}

/// A read from outside on its way. Made by [`OutsideReader::read`].
#[must_use = "nothing is read until this is awaited"]
pub struct OutsideRead<'a, T, P: Platform> {
    /// `None` once complete.
    end: Option<&'a mut OutsideReader<T, P>>,
}

impl<T, P: Platform> Future for OutsideRead<'_, T, P> {
    type Output = Result<T, Ended>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(end) = &mut this.end else { return Poll::Ready(Err(Ended)) };
        let poll = end.poll_read(cx);
        if poll.is_ready() {
            this.end = None;
        }
        poll
    }
}

impl<T, P: Platform> Drop for OutsideRead<'_, T, P> {
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            end.cancel_read();
        }
    }
}

#[cfg(feature = "futures")]
impl<T, P: Platform> futures_core::Stream for OutsideReader<T, P> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.get_mut().poll_read(cx).map(Result::ok)
    }
}

/// Each item is written when the sink is flushed, or before the next one is taken.
#[cfg(feature = "futures")]
impl<T, P: Platform> futures_sink::Sink<T> for OutsideWriter<T, P> {
    type Error = Unsent<T>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<T>>> {
        self.get_mut().poll_write(cx)
    }

    fn start_send(self: Pin<&mut Self>, item: T) -> Result<(), Unsent<T>> {
        self.get_mut().begin_write(item);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<T>>> {
        self.get_mut().poll_write(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Unsent<T>>> {
        self.get_mut().poll_write(cx)
    }
}

/// The value was not written, because no reader can come any more. It is in here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unsent<T>(pub T);

/// No writer can come any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended;

/// The value was not written at once. It is in here.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum TryWriteError<T> {
    /// No reader waits for one now.
    NobodyWaits(T),
    /// No reader can come any more.
    Ended(T),
}

impl<T> TryWriteError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        match self {
            TryWriteError::NobodyWaits(value) | TryWriteError::Ended(value) => value,
        }
    }
}

/// There was no value to be read at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TryReadError {
    /// No writer waits now.
    NobodyWaits,
    /// No writer can come any more.
    Ended,
}

impl<T> fmt::Debug for Unsent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsent(..)")
    }
}

impl<T> fmt::Debug for TryWriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryWriteError::NobodyWaits(_) => "NobodyWaits(..)",
            TryWriteError::Ended(_) => "Ended(..)",
        })
    }
}

impl<T> fmt::Display for Unsent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value was not written: all readers of the channel have gone")
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing to read: all writers of the channel have gone")
    }
}

impl<T> fmt::Display for TryWriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryWriteError::NobodyWaits(_) => "the value was not written: no reader waits for one now",
            TryWriteError::Ended(_) => "the value was not written: all readers of the channel have gone",
        })
    }
}

impl fmt::Display for TryReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TryReadError::NobodyWaits => "nothing to read: no writer waits now",
            TryReadError::Ended => "nothing to read: all writers of the channel have gone",
        })
    }
}

impl<T> core::error::Error for Unsent<T> {}
impl core::error::Error for Ended {}
impl<T> core::error::Error for TryWriteError<T> {}
impl core::error::Error for TryReadError {}

impl<T, P: Platform> fmt::Debug for OutsideWriter<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outside{:?}", self.end)
    }
}

impl<T, P: Platform> fmt::Debug for OutsideReader<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outside{:?}", self.end)
    }
}
