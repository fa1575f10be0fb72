use std::fmt;
use std::time::{Duration, Instant};

use crate::Clock;

/// A row of moments at equal distances. Made by [`Clock::tick`].
///
/// Each moment is a multiple of the period from the start, however late the one before was served: nothing drifts. Who comes
/// late is told how many were missed, and gets the last of those that have come due; they are never made up for in a burst.
///
/// The fibre that awaits ticks is spawned with [`waker`](crate::FibreOptions::waker).
///
/// ```
/// use fibra_std::{Clock, run};
/// use std::time::Duration;
///
/// let clock = Clock::new()?;
/// let period = Duration::from_millis(2);
/// let mut ticks = clock.tick(period);
/// run(|p| {
///     p.fibre().waker().spawn(async {
///         let first = ticks.next().await;
///         let second = ticks.next().await;
///         assert_eq!(second.due - first.due, period * (1 + second.missed as u32)); // to the nanosecond
///         println!("{:?} late", second.due.elapsed());
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ticks<'c> {
    clock: &'c Clock,
    period: Duration,
    /// When the next one is due. `None` is later than an [`Instant`] can tell.
    due: Option<Instant>,
}

/// One of [`Ticks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tick {
    /// When it was due.
    pub due: Instant,
    /// How many came due between the one that was given out before (or the start) and this one.
    pub missed: u64,
}

impl<'c> Ticks<'c> {
    pub(super) fn new(clock: &'c Clock, period: Duration) -> Self {
        Ticks { clock, period, due: Instant::now().checked_add(period) }
    }

    /// The next tick, when it is due. If it is due already, the others that are ready have one turn first.
    ///
    /// Dropping what this returns before it is over misses nothing: the tick comes from the next call.
    ///
    /// # Blocking
    /// Suspends the fibre, never the thread.
    ///
    /// # Collapse
    /// As with [`Clock::sleep_until`]: the fibre needs a [`waker`](crate::FibreOptions::waker).
    ///
    /// For an example see [`Ticks`].
    pub async fn next(&mut self) -> Tick {
        loop {
            self.clock.sleep(self.due).await;
            // One that is never due is slept for for ever.
            if let Some(due) = self.due {
                return self.at(due, Instant::now());
            }
        }
    }

    /// The last tick that was due by `now`; `due` was, and is the first that was not given out.
    fn at(&mut self, due: Instant, now: Instant) -> Tick {
        let late = now.saturating_duration_since(due);
        let missed = late.as_nanos().checked_div(self.period.as_nanos()).unwrap_or(0);
        let due = due + late.saturating_sub(remainder(late, self.period));
        self.due = due.checked_add(self.period);
        Tick { due, missed: u64::try_from(missed).unwrap_or(u64::MAX) }
    }
}

/// What is left of `whole` after as many periods as it has; all of it if the period is zero.
fn remainder(whole: Duration, period: Duration) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let Some(rest) = whole.as_nanos().checked_rem(period.as_nanos()) else { return whole };
    // It is no longer than `whole`, so its seconds are no more than a duration's.
    Duration::new((rest / SECOND) as u64, (rest % SECOND) as u32)
}

impl fmt::Debug for Ticks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticks").field("period", &self.period).field("due", &self.due).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_is_late_gets_the_last_one_and_hears_of_the_others() {
        let clock = Clock::new().unwrap();
        let mut ticks = clock.tick(SECOND);
        let first = ticks.due.expect("in a second");
        let mut tick = |after: Duration| {
            let (due, now) = (ticks.due.expect("soon"), first + after);
            let tick = ticks.at(due, now);
            assert!(tick.due <= now && now < tick.due + SECOND);
            assert_eq!(ticks.due, Some(tick.due + SECOND));
            ((tick.due - first).as_secs(), tick.missed)
        };
        assert_eq!(tick(Duration::ZERO), (0, 0));
        assert_eq!(tick(SECOND), (1, 0));
        assert_eq!(tick(SECOND * 3 - Duration::from_nanos(1)), (2, 0));
        assert_eq!(tick(SECOND * 3 + SECOND / 2), (3, 0));
        assert_eq!(tick(SECOND * 6), (6, 2));
        assert_eq!(tick(SECOND * 106), (106, 99));
    }

    #[test]
    fn a_period_of_zero_misses_nothing() {
        let clock = Clock::new().unwrap();
        let mut ticks = clock.tick(Duration::ZERO);
        let start = ticks.due.expect("now");
        assert_eq!(ticks.at(start, start + SECOND), Tick { due: start, missed: 0 });
        assert_eq!(ticks.due, Some(start));
    }

    #[test]
    fn the_least_and_the_greatest_period() {
        let clock = Clock::new().unwrap();
        let mut ticks = clock.tick(Duration::from_nanos(1));
        let start = ticks.due.expect("now");
        let century = SECOND * 100 * 366 * 86_400;
        assert_eq!(u128::from(ticks.at(start, start + century).missed), century.as_nanos());
        let mut ticks = clock.tick(Duration::MAX);
        assert_eq!(ticks.due, None);
        assert_eq!(ticks.at(start, start), Tick { due: start, missed: 0 });
        assert_eq!(ticks.due, None);
    }

    #[test]
    fn remainders() {
        let long = Duration::new(u64::MAX, 999_999_999);
        assert_eq!(remainder(long, SECOND), Duration::from_nanos(999_999_999));
        assert_eq!(remainder(long - SECOND, long), long - SECOND);
        assert_eq!(remainder(SECOND, Duration::ZERO), SECOND);
    }
}
