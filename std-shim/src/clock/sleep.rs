use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Shared;
use super::deadlines::Entry;

/// A sleep: over at its deadline. Made by [`Clock::sleep_until`](crate::Clock::sleep_until) and
/// [`Clock::sleep_for`](crate::Clock::sleep_for).
///
/// Dropping it before that (a timeout that was not needed, a fibre that is stopped) takes it out of its clock, in time
/// logarithmic in the number of sleepers. Forgetting it is harmless: the clock then keeps its waker until the deadline, or until
/// the clock ends, and so the fibre that it would wake. It may be polled by one fibre or task and then by another: the last is woken. Once over, it stays over.
///
/// Whoever sleeps is spawned with [`waker`](crate::FibreOptions::waker).
///
/// It stays where it is from its first poll, because the clock has a link to it: `select!` wants [`pin!`](std::pin::pin), and a
/// routine without `async`, which polls it as a field, a box. The box serves for all its sleeps:
///
/// ```
/// use fibra_std::{Clock, Continuation, Next, Sleep, coroutine, run};
/// use std::{pin::Pin, task::{Context, Poll, ready}, time::Duration};
///
/// struct Blink<'c> {
///     clock: &'c Clock,
///     sleep: Pin<Box<Sleep<'c>>>,
///     left: u32,
/// }
/// impl Continuation for Blink<'_> {
///     type Step = ();
///     type Return = ();
///     const START: () = ();
///
///     fn resume(&mut self, (): (), cx: &mut Context<'_>) -> Poll<Next<'_, Self>> {
///         ready!(self.sleep.as_mut().poll(cx));
///         self.left -= 1;
///         if self.left == 0 {
///             return Next::finish(());
///         }
///         self.sleep.set(self.clock.sleep_for(Duration::from_millis(1)));
///         Next::go(())
///     }
/// }
/// let clock = Clock::new()?;
/// let sleep = Box::pin(clock.sleep_for(Duration::ZERO));
/// let (_, outcome) = run(|p| p.fibre().waker().spawn(coroutine(Blink { clock: &clock, sleep, left: 3 })).unwrap())?;
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nobody sleeps until this is awaited"]
pub struct Sleep<'c> {
    clock: &'c Shared,
    stage: Stage,
    entry: Entry,
}

/// ```text
///          first poll               the deadline, then a poll
///   Made ------------> Entered ------------------------------> Over
///     |                                                         ^
///     +--- first poll, after the deadline ---> Late --- poll ---+
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Made,
    /// The clock has the entry, or had it: it takes the entry out at the deadline.
    Entered,
    /// The others have their turn.
    Late,
    Over,
}

impl<'c> Sleep<'c> {
    /// `None` is for ever.
    pub(super) fn new(clock: &'c Shared, deadline: Option<Instant>) -> Self {
        Sleep { clock, stage: Stage::Made, entry: Entry::new(deadline) }
    }
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: nothing is moved out: of the entry, which alone has to stay where it is, only shared references are made.
        let this = unsafe { self.get_unchecked_mut() };
        match this.stage {
            Stage::Made if this.entry.is_due(Instant::now()) => {
                this.stage = Stage::Late;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Stage::Made => {
                let waker = cx.waker().clone();
                this.stage = Stage::Entered;
                // SAFETY: it was in no heap. It is pinned, so it stays where it is until it is dropped, which takes it out.
                unsafe { this.clock.enter(&this.entry, waker) };
                Poll::Pending
            }
            Stage::Entered if this.waits(cx) => Poll::Pending,
            Stage::Entered | Stage::Late | Stage::Over => {
                this.stage = Stage::Over;
                Poll::Ready(())
            }
        }
    }
}

impl Sleep<'_> {
    /// Whether it is still in the clock; then that has this context's waker from now on.
    fn waits(&self, cx: &Context<'_>) -> bool {
        {
            let deadlines = &mut self.clock.lock().deadlines;
            if !deadlines.contains(&self.entry) {
                return false;
            }
            if deadlines.has_waker(&self.entry, cx.waker()) {
                return true;
            }
        }
        let new = cx.waker().clone();
        let mut state = self.clock.lock();
        // Its time may have come meanwhile.
        let waits = state.deadlines.contains(&self.entry);
        let useless = if waits { state.deadlines.exchange_waker(&self.entry, new) } else { Some(new) };
        drop(state);
        drop(useless);
        waits
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if self.stage == Stage::Entered {
            let waker = self.clock.lock().deadlines.remove(&self.entry);
            // Only now, when the lock is free again: it may do anything.
            drop(waker);
        }
    }
}

impl fmt::Debug for Sleep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.entry.deadline()).finish_non_exhaustive()
    }
}
