//! Counting children that run on several threads, without these getting in each other's way.

use std::sync::atomic::{
    AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::workloads::Answer;

/// More than there are ever threads at once that count.
const THREADS: usize = 64;

/// In a pair of cache lines of its own, because processors fetch them in pairs.
#[repr(align(128))]
struct Count(AtomicU64);

static COUNTS: [Count; THREADS] = [const { Count(AtomicU64::new(0)) }; THREADS];
/// From this one on, nobody has had them.
static UNUSED: AtomicUsize = AtomicUsize::new(0);
static RETURNED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
static IN_USE: Mutex<()> = Mutex::new(());

/// A thread's place, which goes back when it ends.
struct Place(usize);

impl Place {
    fn take() -> Self {
        let returned = RETURNED.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Place(returned.unwrap_or_else(|| UNUSED.fetch_add(1, Relaxed)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        RETURNED.lock().unwrap_or_else(PoisonError::into_inner).push(self.0);
    }
}

thread_local! {
    static PLACE: Place = Place::take();
}

/// How many children have run. There is one count in a program, so that a child needs nothing to find it; whoever has this
/// has it alone.
pub(crate) struct Tally {
    _alone: MutexGuard<'static, ()>,
}

impl Tally {
    /// Waits until nobody else counts.
    pub(crate) fn take() -> Self {
        Tally { _alone: IN_USE.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// What a child does. Only its own thread writes to a count, so it need not be an atomic addition.
    #[inline]
    pub(crate) fn child_ran() {
        PLACE.with(|place| {
            let count = &COUNTS[place.0].0;
            count.store(count.load(Relaxed) + 1, Relaxed);
        });
    }

    /// Children that have run since the program began.
    #[inline]
    pub(crate) fn ran() -> u64 {
        COUNTS[..UNUSED.load(Relaxed)].iter().map(|count| count.0.load(Relaxed)).sum()
    }
}

/// Children that are ready at once, and when the last of them ran. There is one at a time: see [`Tally`].
pub(crate) struct Burst {
    start: Instant,
}

static BURST_RAN: AtomicU64 = AtomicU64::new(0);
static BURST_TOOK: AtomicU64 = AtomicU64::new(0);

impl Burst {
    /// Begins now.
    pub(crate) fn begin() -> Self {
        BURST_RAN.store(0, Relaxed);
        BURST_TOOK.store(0, Relaxed);
        Burst { start: Instant::now() }
    }

    /// What a child does; `start` is that of the burst.
    pub(crate) fn child_ran(start: Instant) {
        BURST_TOOK.fetch_max(start.elapsed().as_nanos() as u64, Relaxed);
        // Whoever sees all of them run sees how long it took.
        BURST_RAN.fetch_add(1, Release);
    }

    /// When it began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Nanoseconds until the last of so many had run, once it has.
    pub(crate) fn took(&self, children: u64) -> Option<u64> {
        let ran = BURST_RAN.load(Acquire);
        (ran == children).then(|| BURST_TOOK.load(Relaxed))
    }
}

/// Children that are counted down, so that the last of them gives the answer and nobody has to look. There is one at a time:
/// see [`Tally`].
pub(crate) struct Countdown {
    per_group: u64,
}

/// Children that are spawned one after the other mostly run on the same worker, so a group's count mostly stays with it.
const GROUPS: usize = 1024;

static LEFT_IN_GROUP: [Count; GROUPS] = [const { Count(AtomicU64::new(0)) }; GROUPS];
static GROUPS_LEFT: AtomicU64 = AtomicU64::new(0);
static ANSWER: Mutex<Option<(Answer, u64)>> = Mutex::new(None);

impl Countdown {
    /// Counts `n` children down; the last one sends their number.
    pub(crate) fn begin(n: u64, answer: Answer) -> Self {
        *ANSWER.lock().unwrap_or_else(PoisonError::into_inner) = Some((answer, n));
        let per_group = n.div_ceil(GROUPS as u64);
        GROUPS_LEFT.store(n.div_ceil(per_group), Relaxed);
        for (group, left) in (0..).zip(&LEFT_IN_GROUP) {
            left.0.store(n.saturating_sub(group * per_group).min(per_group), Relaxed);
        }
        Countdown { per_group }
    }

    /// That of the `i`-th child.
    #[inline]
    pub(crate) fn group(&self, i: u64) -> usize {
        (i / self.per_group) as usize
    }

    /// What a child of a group does.
    #[inline]
    pub(crate) fn child_ran(group: usize) {
        if LEFT_IN_GROUP[group].0.fetch_sub(1, AcqRel) == 1 && GROUPS_LEFT.fetch_sub(1, AcqRel) == 1 {
            let answer = ANSWER.lock().unwrap_or_else(PoisonError::into_inner).take();
            let _ = answer.map(|(answer, n)| answer.send(n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_count_together_and_give_their_places_back() {
        let _tally = Tally::take();
        let before = Tally::ran();
        for _ in 0..3 * THREADS {
            std::thread::scope(|s| {
                for _ in 0..2 {
                    s.spawn(|| (0..10).for_each(|_| Tally::child_ran()));
                }
            });
        }
        assert_eq!(Tally::ran() - before, 3 * THREADS as u64 * 20);
    }

    #[test]
    fn a_burst_takes_as_long_as_its_last() {
        let _tally = Tally::take();
        let burst = Burst::begin();
        Burst::child_ran(burst.start());
        assert_eq!(burst.took(2), None);
        std::thread::sleep(std::time::Duration::from_millis(2));
        Burst::child_ran(burst.start());
        assert!(burst.took(2).is_some_and(|took| took >= 2_000_000));
    }

    #[test]
    fn the_last_child_answers() {
        let _tally = Tally::take();
        for n in [1, 2, 1023, 1024, 1025, 5000] {
            let (answer, mut result) = tokio::sync::oneshot::channel();
            let countdown = Countdown::begin(n, answer);
            for i in 0..n {
                assert!(result.try_recv().is_err(), "{i} of {n}");
                Countdown::child_ran(countdown.group(i));
            }
            assert_eq!(result.try_recv(), Ok(n));
        }
    }
}
