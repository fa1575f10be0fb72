use std::io;

use crate::child;
use crate::measure::{self, Effort};
use crate::pool::Pool;

/// How often the operations are timed.
pub(super) const fn passes(effort: Effort) -> usize {
    match effort {
        Effort::Full => 5,
        Effort::Quick => 2,
    }
}

/// How long a pool's operations take. Passes are the same, operation by operation, so what a machine does besides is taken
/// out by keeping the least time of each operation.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Allocations.
    pub take: Distribution,
    /// Releases.
    pub give_back: Distribution,
}

/// Times of operations, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// Of each operation the least time of all passes, ascending.
    least: Vec<f32>,
    /// The longest time of a pass with all that the machine did meanwhile: the median of the passes.
    pub longest_seen: f64,
}

impl Profile {
    /// Measures. `tick` is called before each pass.
    ///
    /// # Errors
    ///
    /// What a process that was to measure complained about.
    pub(super) fn measure(pool: Pool, pairs: usize, effort: Effort, mut tick: impl FnMut()) -> io::Result<Self> {
        let (mut take, mut give_back) = (Passes::default(), Passes::default());
        for _ in 0..passes(effort) {
            tick();
            let (taken, given_back) = child::latencies(pool.name, pairs)?;
            take.add(taken);
            give_back.add(given_back);
        }
        Ok(Profile { take: take.end(), give_back: give_back.end() })
    }
}

#[derive(Default)]
struct Passes {
    least: Vec<f32>,
    longest: Vec<f64>,
}

impl Passes {
    fn add(&mut self, times: Vec<f32>) {
        self.longest.push(times.iter().copied().fold(0.0, f32::max).into());
        if self.least.is_empty() {
            self.least = times;
        } else {
            for (least, time) in self.least.iter_mut().zip(times) {
                *least = least.min(time);
            }
        }
    }

    fn end(mut self) -> Distribution {
        self.least.sort_by(f32::total_cmp);
        Distribution { least: self.least, longest_seen: measure::median(self.longest) }
    }
}

impl Distribution {
    /// The time that all operations take at most but for such a share of them; for 0 the longest.
    pub(super) fn all_but(&self, share: f64) -> f64 {
        let count = self.least.len();
        let beyond = (share * count as f64) as usize;
        let index = count.saturating_sub(1 + beyond);
        self.least.get(index).copied().unwrap_or(0.0).into()
    }

    pub(super) fn count(&self) -> usize {
        self.least.len()
    }
}
