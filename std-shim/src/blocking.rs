//! Reads and writes of threads that no process runs, and that may sleep meanwhile.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use fibra_core::{Ended, OutsideReader, OutsideWriter, Platform, TryReadError, Unsent};

use crate::sleeper::Sleeper;

/// Reads of a thread from an asynchronous channel: methods of [`OutsideReader`](crate::OutsideReader).
///
/// They make the thread sleep, on a condition variable of its own, so they are for plain threads. In a fibre they would hold up
/// its whole process: it awaits the [`inside`](fibra_core::OutsideReader::inside) end instead. Only the first of a thread
/// allocates, from the program's global allocator.
///
/// ```
/// use fibra_std::{Ended, ReadBlocking, ReadError, WriteBlocking, asynchronous};
/// use std::time::Duration;
///
/// let (mut to, mut from) = asynchronous::<&str>()?;
/// assert_eq!(from.read_timeout(Duration::from_millis(1)), Err(ReadError::TimedOut));
///
/// std::thread::scope(|scope| {
///     scope.spawn(move || to.write_blocking("hello"));
///     assert_eq!(from.read_blocking(), Ok("hello"));
///     assert_eq!(from.read_blocking(), Err(Ended)); // that thread has dropped the writer
/// });
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
pub trait ReadBlocking: Sealed {
    /// What is read.
    type Value;

    /// Reads a value.
    ///
    /// # Errors
    /// [`Ended`] if no writer can come any more.
    ///
    /// # Blocking
    /// The thread sleeps until a writer comes, or until the last one goes.
    ///
    /// For an example see [`ReadBlocking`].
    fn read_blocking(&mut self) -> Result<Self::Value, Ended>;

    /// Reads a value, if one comes before `deadline`. If that is over, only one that is there.
    ///
    /// Nothing is lost when the time is over: a value that comes at the last moment is returned.
    ///
    /// # Errors
    /// [`ReadError`]: no writer can come any more, or none has come in time.
    ///
    /// # Blocking
    /// The thread sleeps until a writer comes, until the last one goes, or until `deadline`.
    ///
    /// For an example see [`ReadBlocking`].
    fn read_until(&mut self, deadline: Instant) -> Result<Self::Value, ReadError>;

    /// Reads a value, if one comes within this time: [`read_until`](Self::read_until). A time too long for an [`Instant`] is
    /// for ever.
    ///
    /// # Errors
    /// [`ReadError`]: no writer can come any more, or none has come in time.
    ///
    /// # Blocking
    /// The thread sleeps until a writer comes, until the last one goes, or until the time is over.
    ///
    /// For an example see [`ReadBlocking`].
    fn read_timeout(&mut self, time: Duration) -> Result<Self::Value, ReadError> {
        match Instant::now().checked_add(time) {
            Some(deadline) => self.read_until(deadline),
            None => Ok(self.read_blocking()?),
        }
    }
}

/// Writes of a thread to an asynchronous channel: methods of [`OutsideWriter`](crate::OutsideWriter).
///
/// They make the thread sleep, as those of [`ReadBlocking`].
///
/// ```
/// use fibra_std::{Unsent, WriteBlocking, WriteError, asynchronous};
/// use std::time::Duration;
///
/// let (mut to, from) = asynchronous()?;
/// assert_eq!(to.write_timeout("nobody reads", Duration::ZERO), Err(WriteError::TimedOut("nobody reads")));
/// drop(from);
/// assert_eq!(to.write_blocking("nobody will"), Err(Unsent("nobody will")));
/// # Ok::<(), fibra_std::AllocError>(())
/// ```
pub trait WriteBlocking: Sealed {
    /// What is written.
    type Value;

    /// Writes a value: returns when a reader has it.
    ///
    /// # Errors
    /// [`Unsent`], with the value in it, if no reader can come any more.
    ///
    /// # Blocking
    /// The thread sleeps until a reader comes, or until the last one goes.
    ///
    /// For an example see [`WriteBlocking`].
    fn write_blocking(&mut self, value: Self::Value) -> Result<(), Unsent<Self::Value>>;

    /// Writes a value, if a reader comes before `deadline`. If that is over, only if one waits.
    ///
    /// The value is either delivered or returned, also when both happens at the same moment.
    ///
    /// # Errors
    /// [`WriteError`], with the value in it: no reader can come any more, or none has come in time.
    ///
    /// # Blocking
    /// The thread sleeps until a reader comes, until the last one goes, or until `deadline`.
    ///
    /// For an example see [`WriteBlocking`].
    fn write_until(&mut self, value: Self::Value, deadline: Instant) -> Result<(), WriteError<Self::Value>>;

    /// Writes a value, if a reader comes within this time: [`write_until`](Self::write_until). A time too long for an
    /// [`Instant`] is for ever.
    ///
    /// # Errors
    /// [`WriteError`], with the value in it: no reader can come any more, or none has come in time.
    ///
    /// # Blocking
    /// The thread sleeps until a reader comes, until the last one goes, or until the time is over.
    ///
    /// For an example see [`WriteBlocking`].
    fn write_timeout(&mut self, value: Self::Value, time: Duration) -> Result<(), WriteError<Self::Value>> {
        match Instant::now().checked_add(time) {
            Some(deadline) => self.write_until(value, deadline),
            None => Ok(self.write_blocking(value)?),
        }
    }
}

/// Both traits only name what these types can do.
pub trait Sealed {}
impl<T, P: Platform> Sealed for OutsideReader<T, P> {}
impl<T, P: Platform> Sealed for OutsideWriter<T, P> {}

impl<T, P: Platform> ReadBlocking for OutsideReader<T, P> {
    type Value = T;

    fn read_blocking(&mut self) -> Result<T, Ended> {
        match block(None, |cx| self.poll_read(cx)) {
            Some(result) => result,
            // Not without a deadline.
            None => Err(Ended),
        }
    }

    fn read_until(&mut self, deadline: Instant) -> Result<T, ReadError> {
        if let Some(result) = block(Some(deadline), |cx| self.poll_read(cx)) {
            return Ok(result?);
        }
        // Afterwards nobody can deliver anything, so this finds what was delivered until now.
        self.cancel_read();
        self.try_read().map_err(|error| match error {
            TryReadError::NobodyWaits => ReadError::TimedOut,
            TryReadError::Ended => ReadError::Ended,
        })
    }
}

impl<T, P: Platform> WriteBlocking for OutsideWriter<T, P> {
    type Value = T;

    fn write_blocking(&mut self, value: T) -> Result<(), Unsent<T>> {
        self.begin_write(value);
        block(None, |cx| self.poll_write(cx)).unwrap_or(Ok(()))
    }

    fn write_until(&mut self, value: T, deadline: Instant) -> Result<(), WriteError<T>> {
        self.begin_write(value);
        if let Some(result) = block(Some(deadline), |cx| self.poll_write(cx)) {
            return Ok(result?);
        }
        self.cancel_write().map_or(Ok(()), |value| Err(WriteError::TimedOut(value)))
    }
}

/// Wakes the thread that waits.
#[derive(Default)]
struct Alarm(Sleeper);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// What a thread waits with.
struct Bed {
    alarm: Arc<Alarm>,
    waker: Waker,
}

thread_local! {
    /// Taken out while it is in use: a foreign waker or destructor that runs meanwhile on this thread, and blocks in its turn,
    /// would take the other's wake-ups.
    static BED: Cell<Option<Bed>> = const { Cell::new(None) };
}

/// Polls until that is ready, and sleeps meanwhile; `None` if it is not before the deadline.
fn block<R>(deadline: Option<Instant>, mut poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> Option<R> {
    // A destructor of another thread-local value may come when this one is gone.
    let bed = BED.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
        let alarm = Arc::<Alarm>::default();
        Bed { waker: alarm.clone().into(), alarm }
    });
    let mut cx = Context::from_waker(&bed.waker);
    let result = loop {
        if let Poll::Ready(result) = poll(&mut cx) {
            break Some(result);
        }
        if !bed.alarm.0.wait_until(deadline) {
            break None;
        }
    };
    let _ = BED.try_with(|place| place.set(Some(bed)));
    result
}

/// Nothing was read.
///
/// For an example see [`ReadBlocking`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadError {
    /// No writer can come any more.
    Ended,
    /// None has come in time.
    TimedOut,
}

impl From<Ended> for ReadError {
    fn from(_: Ended) -> Self {
        ReadError::Ended
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Ended => Ended.fmt(f),
            ReadError::TimedOut => f.write_str("nothing to read: no writer of the channel has come in time"),
        }
    }
}

impl std::error::Error for ReadError {}

/// The value was not written. It is in here.
///
/// For an example see [`WriteBlocking`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteError<T> {
    /// No reader can come any more.
    Ended(T),
    /// None has come in time.
    TimedOut(T),
}

impl<T> WriteError<T> {
    /// The value.
    ///
    /// ```
    /// assert_eq!(fibra_std::WriteError::TimedOut(7).into_inner(), 7);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            WriteError::Ended(value) | WriteError::TimedOut(value) => value,
        }
    }
}

impl<T> From<Unsent<T>> for WriteError<T> {
    fn from(Unsent(value): Unsent<T>) -> Self {
        WriteError::Ended(value)
    }
}

impl<T> fmt::Debug for WriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WriteError::Ended(_) => "Ended(..)",
            WriteError::TimedOut(_) => "TimedOut(..)",
        })
    }
}

impl<T> fmt::Display for WriteError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WriteError::Ended(_) => Unsent(()).fmt(f),
            WriteError::TimedOut(_) => {
                f.write_str("the value was not written: no reader of the channel has come in time")
            }
        }
    }
}

impl<T> std::error::Error for WriteError<T> {}
