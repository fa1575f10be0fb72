//! A metronome: a fibre that beats in time, a fibre that shows the beats, and how late they came.
//!
//! ```text
//!   clock ~~> beat --> show
//! ```

extern crate std;

use core::fmt;
use core::ops::ControlFlow;
use core::time::Duration;
use std::collections::TryReserveError;
use std::vec::Vec;

use fibra_core::{AllocError, AllocRef, Process, Reader, Writer};
use fibra_std::Ticks;

/// One beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Which one, from 1. Beats that were missed count.
    pub number: u32,
    /// How long after its time.
    pub late: Duration,
}

/// Beats so many times, then ends. What it is too late for is missed.
async fn beat(mut ticks: Ticks<'_>, beats: u32, mut to: Writer<'_, Beat>) {
    let mut next = 1_u64;
    while next <= beats.into() {
        let tick = ticks.next().await;
        let late = tick.due.elapsed();
        next = next.saturating_add(tick.missed);
        // What was missed may have been the last ones.
        if let Some(number) = u32::try_from(next).ok().filter(|number| *number <= beats) {
            to.write(Beat { number, late }).await;
        }
        next = next.saturating_add(1);
    }
}

/// Shows each beat, until it is told to stop. It has no end of its own: it goes when nobody beats any more.
async fn show(mut from: Reader<'_, Beat>, mut show: impl FnMut(Beat) -> ControlFlow<()>) {
    while show(from.read().await).is_continue() {}
}

/// Spawns the two fibres. The one that beats can be woken from outside, by the clock.
///
/// # Errors
/// [`AllocError`] if there is no memory, or no wake cell, for them.
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    ticks: Ticks<'p>,
    beats: u32,
    shown: impl FnMut(Beat) -> ControlFlow<()> + 'p,
) -> Result<(), AllocError> {
    let (to, from) = p.channel()?;
    p.fibre().name("beat").waker().spawn(beat(ticks, beats, to)).map_err(|_| AllocError)?;
    p.fibre().name("show").spawn(show(from, shown)).map_err(|_| AllocError)
}

/// How late beats were. Displayed as a histogram, and as median and worst.
#[derive(Debug)]
pub struct Jitter(Vec<Duration>);

impl Jitter {
    /// With room for so many.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub fn of(beats: u32) -> Result<Self, TryReserveError> {
        let mut late = Vec::new();
        late.try_reserve_exact(beats as usize)?;
        Ok(Jitter(late))
    }

    /// Notes another one.
    pub fn note(&mut self, late: Duration) {
        self.0.push(late);
    }

    /// How many there were.
    pub fn beats(&self) -> usize {
        self.0.len()
    }

    /// The middle one, and the greatest; `None` if there are none.
    pub fn median_and_worst(&self) -> Option<(Duration, Duration)> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        Some((*sorted.get(sorted.len() / 2)?, *sorted.last()?))
    }
}

/// The lower ends of the rows, in microseconds. The first row has what is less than the first, too.
const ROWS: [u32; 10] = [0, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// The longest bar.
const WIDTH: usize = 50;

impl fmt::Display for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((median, worst)) = self.median_and_worst() else { return Ok(()) };
        let mut counts = [0; ROWS.len()];
        for late in &self.0 {
            let row = ROWS.partition_point(|from| Duration::from_micros((*from).into()) <= *late);
            counts[row.saturating_sub(1)] += 1;
        }
        // Rows before the first beat and behind the last one show nothing.
        let is_used = |count: &usize| *count > 0;
        let (first, last) = (counts.iter().position(is_used), counts.iter().rposition(is_used));
        let most = counts.iter().copied().max().unwrap_or(1);
        writeln!(f, "{:>13} {:>10}", "µs late", "beats")?;
        for row in first.unwrap_or(0)..=last.unwrap_or(0) {
            write!(f, "{:>6}", ROWS[row])?;
            match ROWS.get(row + 1) {
                Some(to) => write!(f, " {:<9}", std::format!("to {to}"))?,
                None => write!(f, " {:<9}", "and more")?,
            }
            write!(f, "{:>8}", counts[row])?;
            if counts[row] > 0 {
                f.write_str("  ")?;
                // However few, they are seen.
                let long = (counts[row] * WIDTH).div_ceil(most);
                (0..long).try_for_each(|_| f.write_str("█"))?;
            }
            writeln!(f)?;
        }
        let ms = |late: Duration| late.as_secs_f64() * 1e3;
        writeln!(f, "median {:.3} ms, worst {:.3} ms", ms(median), ms(worst))
    }
}
