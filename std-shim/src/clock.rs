//! The clock device: one thread, which sleeps until the first deadline and wakes whoever waits for it.
//!
//! ```text
//!   fibre, task --- poll, drop ---> deadlines (one lock, links only) <--- takes out what is due --- the thread
//!        ^                                                                                             |
//!        +------------------------------------ wakes, outside the lock --------------------------------+
//! ```
//!
//! The lock guards links and numbers. Wakers are somebody else's code: they are cloned, woken and dropped without it.

mod deadlines;
mod sleep;
mod ticks;

use std::error::Error;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

pub use sleep::Sleep;
pub use ticks::{Tick, Ticks};

use crate::panics::FirstPanic;
use deadlines::{Deadlines, Entry, is_sooner};

/// How many are woken between two turns at the lock.
const BATCH: usize = 32;

/// A clock: a device that completes sleeps, with one thread for any number of them.
///
/// A handle: clones are the same clock, and go to any thread. What a clock makes borrows the handle that made it, so no sleep
/// outlives its clock; a fibre or task that has to own its clock takes a clone. The thread ends with the last handle, and
/// dropping that waits for it: not for long, unless a waker blocks that is being woken.
///
/// Fibres that sleep are spawned with [`waker`](crate::FibreOptions::waker): without a wake cell nothing outside could
/// wake them, and they collapse instead of sleeping. A process lives as long as one of its fibres sleeps. The clock knows
/// nothing of processes, so tasks of every other executor sleep as well.
///
/// Sleeping allocates nothing: what the clock needs of a sleep is in the [`Sleep`] itself. Beginning one, ending one, and
/// dropping it before it has ended take time in proportion to the logarithm of the number of sleepers. While nobody is due
/// the thread waits, and takes no processor time.
///
/// ```
/// use fibra_std::{Clock, run};
/// use std::time::Duration;
///
/// let clock = &Clock::new()?; // borrowed by every fibre
/// run(|p| {
///     let (mut w, mut r) = p.channel().unwrap();
///     let count = async move {
///         for n in 0..3 {
///             clock.sleep_for(Duration::from_millis(2)).await;
///             w.write(n).await;
///         }
///     };
///     p.fibre().waker().spawn(count).unwrap();
///     p.spawn(async move { loop { println!("{}", r.read().await) } }).unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A read with a timeout, by means of the ecosystem; whichever loses is dropped, and leaves nothing in the clock:
///
/// ```
/// use fibra_std::{Clock, run};
/// use futures::{FutureExt, select};
/// use std::{pin::pin, time::Duration};
///
/// let clock = &Clock::new()?;
/// run(|p| {
///     let (_w, mut r) = p.channel::<u8>().unwrap();
///     let read = async move {
///         let mut timeout = pin!(clock.sleep_for(Duration::from_millis(2)).fuse());
///         select! {
///             _ = r.read().fuse() => unreachable!("nobody writes"),
///             () = timeout => println!("too late"),
///         }
///     };
///     p.fibre().waker().spawn(read).unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A sleep does not outlive its clock:
///
/// ```compile_fail,E0505
/// let clock = fibra_std::Clock::new().unwrap();
/// let sleep = clock.sleep_for(std::time::Duration::from_secs(1));
/// drop(clock);
/// drop(sleep);
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Handle>);

impl Clock {
    /// A clock, with its thread.
    ///
    /// # Errors
    /// [`ClockError`] if the host refuses the thread.
    ///
    /// ```
    /// let clock = fibra_std::Clock::new()?;
    /// let for_another_thread = clock.clone();
    /// # drop(for_another_thread);
    /// # Ok::<(), fibra_std::ClockError>(())
    /// ```
    pub fn new() -> Result<Self, ClockError> {
        Self::on(thread::Builder::new().name("fibra-clock".into()))
    }

    fn on(builder: thread::Builder) -> Result<Self, ClockError> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = builder.spawn(move || of_thread.serve()).map_err(ClockError)?;
        Ok(Clock(Arc::new(Handle { shared, thread: Some(thread) })))
    }

    /// Sleeps until `deadline`.
    ///
    /// Those whose deadlines are the same wake in the order in which they began to sleep, which a [`Sleep`] does when it is
    /// first polled. If the deadline has passed by then, the others that are ready have one turn, and the sleep is over:
    /// so a fibre that is behind its time and sleeps again and again keeps nobody from running.
    ///
    /// # Blocking
    /// Suspends the fibre, never the thread.
    ///
    /// # Collapse
    /// A fibre that was not spawned with [`waker`](crate::FibreOptions::waker) collapses here if it waits for nothing else.
    ///
    /// ```
    /// use fibra_std::{Clock, run};
    /// use std::time::{Duration, Instant};
    ///
    /// let clock = Clock::new()?;
    /// let soon = Instant::now() + Duration::from_millis(2);
    /// let (_, outcome) = run(|p| {
    ///     for _ in 0..2 {
    ///         p.fibre().waker().spawn(clock.sleep_until(soon)).unwrap();
    ///     }
    ///     p.spawn(clock.sleep_until(soon)).unwrap(); // without a waker
    /// })?;
    /// assert!(Instant::now() >= soon);
    /// assert_eq!((outcome.finished, outcome.collapsed), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sleep_until(&self, deadline: Instant) -> Sleep<'_> {
        self.sleep(Some(deadline))
    }

    /// Sleeps until `duration` from now has passed: from this call, not from the first poll.
    ///
    /// A duration that ends later than an [`Instant`] can tell, as [`Duration::MAX`] does, never ends: the fibre sleeps until
    /// it is destroyed, and so keeps its process until that is [stopped](crate::StopHandle).
    ///
    /// # Blocking
    /// Suspends the fibre, never the thread.
    ///
    /// # Collapse
    /// As with [`sleep_until`](Self::sleep_until): the fibre needs a [`waker`](crate::FibreOptions::waker).
    ///
    /// ```
    /// use fibra_std::{Clock, run};
    /// use std::time::{Duration, Instant};
    ///
    /// let clock = Clock::new()?;
    /// let start = Instant::now();
    /// run(|p| p.fibre().waker().spawn(async { clock.sleep_for(Duration::from_millis(2)).await }).unwrap())?;
    /// assert!(start.elapsed() >= Duration::from_millis(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sleep_for(&self, duration: Duration) -> Sleep<'_> {
        self.sleep(Instant::now().checked_add(duration))
    }

    /// Ticks every `period`, for the first time one period from now.
    ///
    /// The fibre that awaits ticks is spawned with [`waker`](crate::FibreOptions::waker). With a period of zero every tick is
    /// due at once, and none is ever missed.
    ///
    /// For an example see [`Ticks`].
    pub fn tick(&self, period: Duration) -> Ticks<'_> {
        Ticks::new(self, period)
    }

    /// `None` is for ever.
    fn sleep(&self, deadline: Option<Instant>) -> Sleep<'_> {
        Sleep::new(&self.0.shared, deadline)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("sleeping", &self.0.shared.lock().deadlines.len()).finish()
    }
}

/// The host refused the thread of a [`Clock`].
///
/// ```
/// fn start() -> Result<fibra_std::Clock, fibra_std::ClockError> {
///     fibra_std::Clock::new().inspect_err(|error| eprintln!("{error}"))
/// }
/// # start().unwrap();
/// ```
#[derive(Debug)]
pub struct ClockError(io::Error);

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClockError(error) = self;
        write!(f, "the host refuses a thread for the clock ({error}): end other threads, or raise the limit")
    }
}

impl Error for ClockError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// What all handles of a clock share: with the last of them it is dropped, and the thread ends.
struct Handle {
    shared: Arc<Shared>,
    /// Gone only while this is dropped.
    thread: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_one();
        // A waker that the thread wakes may have had the last handle; then the thread ends when it is back.
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // It catches what wakers panic with, and has nothing else to panic.
            let _ = thread.join();
        }
    }
}

/// What the handles, the sleeps and the thread share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    deadlines: Deadlines,
    thread: Thread,
    has_ended: bool,
}

/// What the thread is doing.
#[derive(Default)]
enum Thread {
    /// It will look at the deadlines before it waits.
    #[default]
    Looks,
    /// It waits until then, or until it is told of something sooner.
    Waits(Option<Instant>),
}

impl Shared {
    /// No foreign code runs under the lock, so it is never poisoned.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a sleep.
    ///
    /// # Safety
    /// That of [`Deadlines::insert`]; the entry is taken out through this very `Shared`.
    unsafe fn enter(&self, entry: &Entry, waker: Waker) {
        let mut state = self.lock();
        // SAFETY: passed on to the caller.
        unsafe { state.deadlines.insert(entry, waker) };
        if let Thread::Waits(until) = state.thread
            && is_sooner(entry.deadline(), until)
        {
            state.thread = Thread::Looks;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The thread: wakes those who are due, then waits for the next deadline, until the last handle has gone.
    fn serve(&self) {
        let mut state = self.lock();
        while !state.has_ended {
            let now = Instant::now();
            if let Some(due) = Batch::take(|| state.deadlines.pop_due(now)) {
                drop(state);
                due.each(Waker::wake);
                state = self.lock();
                continue;
            }
            let until = state.deadlines.first();
            state.thread = Thread::Waits(until);
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let waited = self.changed.wait_timeout(state, until.saturating_duration_since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.thread = Thread::Looks;
        }
        // Only sleeps that were forgotten are left. They keep nobody alive any more.
        while let Some(forgotten) = Batch::take(|| state.deadlines.pop()) {
            drop(state);
            forgotten.each(drop);
            state = self.lock();
        }
    }
}

/// Wakers that were taken out under the lock, to be used without it.
struct Batch([Option<Waker>; BATCH]);

impl Batch {
    /// As many as there is room for; `None` if there are none.
    fn take(mut next: impl FnMut() -> Option<Waker>) -> Option<Self> {
        let first = next()?;
        let mut batch = Batch([const { None }; BATCH]);
        batch.0[0] = Some(first);
        for place in &mut batch.0[1..] {
            *place = next();
            if place.is_none() {
                break;
            }
        }
        Some(batch)
    }

    /// A waker that panics has been heard by the panic hook, and must not cost the others their wake-ups.
    fn each(self, f: impl Fn(Waker)) {
        for mut waker in self.0.into_iter().take_while(Option::is_some) {
            FirstPanic::default().catch(&mut || waker.take().into_iter().for_each(&f));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_the_host_refuses_is_an_error() {
        let more_than_there_is = thread::Builder::new().stack_size(1 << (usize::BITS - 2));
        let error = Clock::on(more_than_there_is).unwrap_err();
        let why = error.source().expect("what the host says").to_string();
        assert_eq!(
            error.to_string(),
            format!("the host refuses a thread for the clock ({why}): end other threads, or raise the limit")
        );
    }

    #[test]
    fn a_waker_that_panics_costs_the_others_nothing() {
        let mut left = 3;
        let batch = Batch::take(|| {
            left -= 1;
            (left >= 0).then(|| Waker::noop().clone())
        });
        let called = std::cell::Cell::new(0);
        batch.expect("three").each(|_| {
            called.set(called.get() + 1);
            assert_ne!(called.get(), 2, "as an example");
        });
        assert_eq!(called.get(), 3);
    }

    #[test]
    fn a_batch_takes_no_more_than_it_has_room_for() {
        assert!(Batch::take(|| None).is_none());
        let taken = std::cell::Cell::new(0);
        let batch = Batch::take(|| {
            taken.set(taken.get() + 1);
            Some(Waker::noop().clone())
        });
        assert_eq!(taken.get(), BATCH);
        batch.expect("wakers").each(|_| taken.set(taken.get() - 1));
        assert_eq!(taken.get(), 0);
    }
}
