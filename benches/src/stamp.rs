//! The finest clock there is: for single operations, which take a few nanoseconds.

use std::sync::OnceLock;

/// A stamp before an operation: whatever is written before has been done, and nothing written after has begun.
#[inline(always)]
pub fn before() -> u64 {
    clock::before()
}

/// A stamp after an operation: the operation has been done, and nothing written after has begun.
#[inline(always)]
pub fn after() -> u64 {
    clock::after()
}

/// What two stamps differ by when there is nothing between them, in ticks.
pub fn overhead() -> f64 {
    let mut nothing: Vec<u32> = (0..10_000).map(|_| between(before(), after())).collect();
    median(&mut nothing)
}

/// Ticks between two stamps.
#[inline(always)]
pub fn between(before: u64, after: u64) -> u32 {
    u32::try_from(after.wrapping_sub(before)).unwrap_or(u32::MAX)
}

/// The median of differences between stamps, finer than the clock. Clocks advance in steps of many ticks, so half of the
/// differences may be the same; each stands for all that the clock does not tell apart, evenly spread.
///
/// # Panics
///
/// If there are no differences.
pub fn median(differences: &mut [u32]) -> f64 {
    differences.sort_unstable();
    let middle = differences[differences.len() / 2];
    let below = differences.partition_point(|&x| x < middle);
    let same = differences.partition_point(|&x| x <= middle) - below;
    let smaller = below.checked_sub(1).map(|i| differences[i]);
    let larger = differences.get(below + same).copied();
    let steps = [smaller.map(|x| middle - x), larger.map(|x| x - middle)];
    let step = steps.into_iter().flatten().min().unwrap_or(0);
    let within = (differences.len() as f64 / 2.0 - below as f64) / same as f64;
    f64::from(middle) + (within - 0.5) * f64::from(step)
}

/// Nanoseconds a tick, found by waiting for a tenth of a second, once.
pub fn tick() -> f64 {
    static TICK: OnceLock<f64> = OnceLock::new();
    *TICK.get_or_init(clock::tick)
}

#[cfg(target_arch = "x86_64")]
mod clock {
    use std::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};
    use std::time::{Duration, Instant};

    #[inline(always)]
    pub(super) fn before() -> u64 {
        // SAFETY: every x86-64 processor has these instructions; they touch no memory.
        unsafe {
            _mm_lfence();
            let ticks = _rdtsc();
            _mm_lfence();
            ticks
        }
    }

    #[inline(always)]
    pub(super) fn after() -> u64 {
        let mut processor = 0;
        // SAFETY: every x86-64 processor of this decade has these instructions; they write to `processor` only.
        unsafe {
            let ticks = __rdtscp(&raw mut processor);
            _mm_lfence();
            ticks
        }
    }

    pub(super) fn tick() -> f64 {
        const WAIT: Duration = Duration::from_millis(100);
        let start = Instant::now();
        let ticks = before();
        while start.elapsed() < WAIT {}
        let ticks = after() - ticks;
        start.elapsed().as_nanos() as f64 / ticks as f64
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod clock {
    use std::sync::OnceLock;
    use std::time::Instant;

    fn now() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_nanos() as u64
    }

    pub(super) fn before() -> u64 {
        now()
    }

    pub(super) fn after() -> u64 {
        now()
    }

    pub(super) fn tick() -> f64 {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_finer_than_the_clock() {
        assert_eq!(median(&mut [26]), 26.0);
        // As many below as above: in the middle of the step.
        assert_eq!(median(&mut [0, 26, 26, 52]), 26.0);
        // All but one are within the step that goes from 13 to 39; the middle of all six is a third into the five.
        assert_eq!(median(&mut [0, 26, 26, 26, 26, 26]), 13.0 + 26.0 * 2.0 / 5.0);
        assert_eq!(median(&mut [4, 0, 0, 4, 0]), -2.0 + 4.0 * 2.5 / 3.0);
    }

    #[test]
    fn time_goes_on() {
        let start = before();
        while tick() * (after() - start) as f64 <= 1000.0 {}
        assert!(overhead() < 100_000.0);
        assert_eq!(between(5, 7), 2);
        assert_eq!(between(0, u64::MAX), u32::MAX);
    }
}
