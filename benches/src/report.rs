//! Everything about memory pools on one page: measured here, drawn by the modules below.

mod bars;
mod curves;
mod latency;
mod machine;
mod page;

use std::io;

use crate::measure::{self, Effort};
use crate::pool::{self, Family, Pool, Start};
use crate::{Workload, child};

pub use latency::Profile;
pub use machine::Machine;

/// Blocks of the pool whose making and filling is timed, when there is time.
const BLOCKS: u64 = 1_000_000;
/// Pairs of operations that are timed singly, when there is time.
const PAIRS: u64 = 1_000_000;

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How thoroughly.
    pub effort: Effort,
    /// The rows of `versus`.
    pub rows: Vec<Row>,
    /// How long single operations take.
    pub profiles: Vec<(Pool, Profile)>,
    /// Blocks in the pools that follow.
    pub blocks: u64,
    /// Making and filling a pool.
    pub starts: Vec<(Pool, Start)>,
}

/// A workload and its values, in the order of [`Workload::contenders`].
#[derive(Debug)]
pub struct Row {
    /// The workload.
    pub workload: Workload,
    /// Who took part, and the median.
    pub values: Vec<(Pool, f64)>,
}

fn workloads() -> impl Iterator<Item = Workload> {
    Workload::ALL.into_iter().filter(|workload| workload.is_pool())
}

/// How often a start is timed.
const fn starts(effort: Effort) -> usize {
    match effort {
        Effort::Full => 3,
        Effort::Quick => 1,
    }
}

impl Report {
    /// How often [`measure`](Self::measure) says what it does.
    pub fn steps(effort: Effort) -> usize {
        let samples: usize = workloads().map(|w| w.contenders().len() * effort.rounds(w)).sum();
        samples + pool::ALL.len() * (latency::passes(effort) + starts(effort))
    }

    /// Measures. `tick` is called before each step, with a word about it.
    ///
    /// # Errors
    ///
    /// What a process that was to measure something complained about.
    pub fn measure(effort: Effort, mut tick: impl FnMut(&str)) -> io::Result<Self> {
        let mut rows = Vec::new();
        for workload in workloads() {
            let medians = measure::medians(workload, effort, || tick(workload.name()))?;
            let pools = workload.contenders().into_iter().filter_map(|c| pool::named(c.name));
            rows.push(Row { workload, values: pools.zip(medians).collect() });
        }
        let pairs = effort.of(PAIRS) as usize;
        let profile = |pool: Pool| Ok((pool, Profile::measure(pool, pairs, effort, || tick("latency"))?));
        let profiles = pool::ALL.into_iter().map(profile).collect::<io::Result<_>>()?;
        let blocks = effort.of(BLOCKS);
        let start = |pool: Pool| {
            let once = |_| {
                tick("start");
                child::start(pool.name, blocks as usize)
            };
            let mut samples = (0..starts(effort)).map(once).collect::<io::Result<Vec<Start>>>()?;
            samples.sort_by_key(|start| start.make + start.fill);
            Ok((pool, samples[samples.len() / 2]))
        };
        let starts = pool::ALL.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok(Report { machine: Machine::find(), effort, rows, profiles, blocks, starts })
    }

    /// The page: one HTML document that needs nothing besides itself.
    pub fn page(&self) -> String {
        page::page(self)
    }
}

/// What the families are called.
const fn family(family: Family) -> &'static str {
    match family {
        Family::Ours => "fibra",
        Family::Floor => "bare floor",
        Family::Foreign => "in use today",
    }
}

/// The class that a family's marks have in the page.
const fn class(family: Family) -> &'static str {
    match family {
        Family::Ours => "ours",
        Family::Floor => "floor",
        Family::Foreign => "foreign",
    }
}

/// Text as it has to be written in a page.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A number with three digits or so.
fn short(value: f64) -> String {
    match value {
        v if v >= 100_000.0 => format!("{:.3} M", v / 1e6),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}
