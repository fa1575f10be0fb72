//! The rows: what each counts, who takes part, with how many workers, and which answer is right.

use std::time::Duration;

use super::{PAIRS, PARKED, machine, threads, with};
use crate::contenders::{RUNTIMES, Runtime};
use crate::measure::Effort;
use crate::workload::{BATCH, RING, STAGES};

/// One row, for one number of workers and for two. The unit of its value stands beside each; times are on the wall unless
/// said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// One writer, one reader: nanoseconds per communication.
    OneToOne,
    /// A source, ten stages, a sink: nanoseconds per communication.
    Pipeline,
    /// The commstime network of four fibres: nanoseconds per communication.
    Commstime,
    /// One token in a ring of 503 fibres: nanoseconds per hop. There is never anything to do for a second worker.
    Ring,
    /// Eight writers, each with a reader of its own: nanoseconds per communication of any.
    Pairs,
    /// A parked fibre, its channel and both ends: bytes of resident memory. For one worker only: its children are counted in
    /// the thread that spawns them.
    Bytes,
    /// A value goes from a fibre to a blocked thread and back: nanoseconds for both ways. The baselines have a second thread
    /// in the fibre's place: `condvar` is a mutex and a condition variable each way, `sync-channel` std's
    /// `sync_channel(0)`, `crossbeam` its `bounded(0)`. In Go, the thread is a goroutine that is locked to one.
    RoundTrip,
    /// Spawn, run and end an empty fibre, in 10,000 batches of 100, each of which has run before the next one is spawned:
    /// nanoseconds per fibre.
    Spawn,
    /// The same, all in one batch of a million; the parent does not wait.
    SpawnMillion,
    /// A tree of fibres with a million leaves, ten to a parent: milliseconds in all.
    Skynet,
    /// A writer and a reader, each of which computes for about 100 µs for each value: microseconds per value.
    Stages,
    /// A fibre makes 100 others ready and then computes for about 20 ms: microseconds until the last of the others has run.
    Hog,
    /// A writer, and eight readers of the same channel that compute for about 20 µs for each value: microseconds per value.
    FanOut,
    /// Two workers while 100 fibres wait for something outside that comes after 10 s: milliseconds of processor time.
    Idle,
    /// A fibre waits for another thread's job, which takes 200 ms: milliseconds for the whole run.
    Job,
    /// Two copies of fibra's single-threaded one-to-one; with "two workers", in two threads at once: nanoseconds per
    /// communication of either.
    TwoCopies,
    /// Two threads on two processors hand a cache line to and fro: nanoseconds each way.
    CacheLine,
}

/// Somebody who takes part in one row.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The name in the third column.
    pub name: &'static str,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    Sized(fn(u64) -> u64),
    Outside { fibres: u64, run: fn(u64, Duration) -> u64 },
}

impl Contender {
    /// Runs the row at a given size with so many workers, and returns its answer.
    pub fn run(&self, n: u64, workers: usize) -> u64 {
        with(workers, || match self.body {
            Body::Sized(run) => run(n),
            Body::Outside { fibres, run } => run(fibres, Duration::from_millis(n)),
        })
    }
}

impl Row {
    /// All rows, in the order in which they are printed.
    pub const ALL: [Self; 17] = [
        Self::TwoCopies,
        Self::CacheLine,
        Self::OneToOne,
        Self::Pipeline,
        Self::Commstime,
        Self::Ring,
        Self::Pairs,
        Self::Bytes,
        Self::RoundTrip,
        Self::Spawn,
        Self::SpawnMillion,
        Self::Skynet,
        Self::Stages,
        Self::Hog,
        Self::FanOut,
        Self::Idle,
        Self::Job,
    ];

    /// The name in the first column and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::Pipeline => "pipeline",
            Self::Commstime => "commstime",
            Self::Ring => "ring",
            Self::Pairs => "pairs",
            Self::Bytes => "bytes",
            Self::RoundTrip => "round-trip",
            Self::Spawn => "spawn",
            Self::SpawnMillion => "spawn-million",
            Self::Skynet => "skynet",
            Self::Stages => "stages",
            Self::Hog => "hog",
            Self::FanOut => "fan-out",
            Self::Idle => "idle",
            Self::Job => "job",
            Self::TwoCopies => "two-copies",
            Self::CacheLine => "cache-line",
        }
    }

    /// The row of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|row| row.name() == name)
    }

    /// The row of that name; or if there is none, all whose names begin with it, which may be none.
    pub fn matching(name: &str) -> Vec<Self> {
        match Self::named(name) {
            Some(row) => vec![row],
            None => Self::ALL.into_iter().filter(|row| row.name().starts_with(name)).collect(),
        }
    }

    /// What the value is.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime | Self::Pairs | Self::TwoCopies => "ns per communication",
            Self::Ring => "ns per hop",
            Self::Bytes => "bytes per parked fibre and channel",
            Self::RoundTrip => "ns to a blocked thread and back",
            Self::Spawn | Self::SpawnMillion => "ns per fibre",
            Self::Skynet => "ms for 1,000,000 leaves",
            Self::Stages => "us per value that is computed 100 us for, twice",
            Self::Hog => "us until 100 fibres have run while one computes 20 ms",
            Self::FanOut => "us per value that is computed 20 us for",
            Self::Idle => "ms of processor time while 100 fibres wait for 10 s",
            Self::Job => "ms until a run ends that waits for a job of 200 ms",
            Self::CacheLine => "ns for a cache line from one processor to another",
        }
    }

    /// With how many workers it is run.
    pub const fn workers(self) -> &'static [usize] {
        match self {
            Self::Bytes | Self::RoundTrip => &[1],
            Self::Idle | Self::Job | Self::CacheLine => &[2],
            _ => &[1, 2],
        }
    }

    /// Operations in a run of size `n`: values, laps, batches, leaves, milliseconds or repetitions, whichever the row has.
    pub const fn operations(self, n: u64) -> u64 {
        match self {
            Self::OneToOne | Self::Bytes | Self::RoundTrip | Self::SpawnMillion | Self::CacheLine => n,
            Self::Stages | Self::Hog | Self::FanOut => n,
            Self::Pipeline => n * (STAGES + 1),
            Self::Commstime => n * 4,
            Self::Ring => n * RING,
            Self::Pairs => n * PAIRS,
            Self::Spawn => n * BATCH,
            Self::TwoCopies => n * 2,
            // What is asked for is the whole run.
            Self::Skynet | Self::Idle | Self::Job => 1,
        }
    }

    /// How many of the row's units a nanosecond is.
    pub(super) const fn per_nanosecond(self) -> f64 {
        match self {
            Self::Skynet | Self::Idle | Self::Job => 1e-6,
            Self::Stages | Self::Hog | Self::FanOut => 1e-3,
            _ => 1.0,
        }
    }

    /// The size at which the row is run when that is part of its definition; the others take what fills a sample.
    pub(super) const fn fixed_size(self, effort: Effort) -> Option<u64> {
        match self {
            Self::Bytes => Some(effort.of(200_000)),
            Self::Spawn => Some(effort.of(1_000_000 / BATCH)),
            Self::SpawnMillion => Some(effort.of(1_000_000)),
            // A power of ten, always.
            Self::Skynet => Some(if matches!(effort, Effort::Full) { 1_000_000 } else { 10_000 }),
            Self::Hog => Some(effort.of(10)),
            Self::Idle => Some(effort.of(10_000)),
            Self::Job => Some(200),
            _ => None,
        }
    }

    /// Whether there is a run that does not count before the one that does.
    pub const fn warms_up(self) -> bool {
        !matches!(self, Self::Bytes | Self::Idle | Self::Job)
    }

    /// How often each contender has its turn.
    pub const fn rounds(self, effort: Effort) -> usize {
        match self {
            _ if matches!(effort, Effort::Quick) => 1,
            Self::Idle | Self::Bytes => 1,
            Self::SpawnMillion | Self::Job => 3,
            Self::Skynet => 5,
            _ => 9,
        }
    }

    /// The right answer of a run of size `n`; `None` where the answer is the result.
    pub const fn answer(self, n: u64) -> Option<u64> {
        let sum = n * n.saturating_sub(1) / 2;
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime | Self::Skynet | Self::Stages | Self::FanOut => Some(sum),
            Self::Pairs => Some(sum * PAIRS),
            Self::TwoCopies => Some(sum * 2),
            Self::Ring => Some(n * RING),
            Self::Spawn => Some(n * BATCH),
            Self::RoundTrip | Self::SpawnMillion | Self::CacheLine => Some(n),
            Self::Idle => Some(PARKED),
            Self::Job => Some(1),
            Self::Bytes | Self::Hog => None,
        }
    }

    /// Who takes part within this program, fibra first. Go's rows come from another one.
    pub fn contenders(self) -> Vec<Contender> {
        match self {
            Self::OneToOne => runtimes(|r| Body::Sized(r.one_to_one)),
            Self::Pipeline => runtimes(|r| Body::Sized(r.pipeline)),
            Self::Commstime => runtimes(|r| Body::Sized(r.commstime)),
            Self::Ring => runtimes(|r| Body::Sized(r.ring)),
            Self::Pairs => runtimes(|r| Body::Sized(r.pairs)),
            Self::Bytes => runtimes(|r| Body::Sized(r.bytes)),
            Self::RoundTrip => {
                let mut all = runtimes(|r| Body::Sized(r.round_trip));
                all.push(own("condvar", threads::condvar));
                all.push(own("sync-channel", threads::sync_channels));
                all.push(own("crossbeam", threads::crossbeam));
                all
            }
            Self::Spawn => runtimes(|r| Body::Sized(r.spawn_batches)),
            Self::SpawnMillion => runtimes(|r| Body::Sized(r.spawn_all)),
            Self::Skynet => runtimes(|r| Body::Sized(r.skynet)),
            Self::Stages => runtimes(|r| Body::Sized(r.stages)),
            Self::Hog => runtimes(|r| Body::Sized(r.hog)),
            Self::FanOut => runtimes(|r| Body::Sized(r.fan_out)),
            Self::Idle => runtimes(|r| Body::Outside { fibres: PARKED, run: r.outside }),
            Self::Job => runtimes(|r| Body::Outside { fibres: 1, run: r.outside }),
            Self::TwoCopies => vec![own("threads", machine::two_copies)],
            // With one processor, each would wait for the other's share of time to end.
            Self::CacheLine if std::thread::available_parallelism().is_ok_and(|n| n.get() < 2) => Vec::new(),
            Self::CacheLine => vec![own("threads", machine::cache_line)],
        }
    }

    /// Whether it is about the machine, and not about any runtime.
    pub const fn is_machine(self) -> bool {
        matches!(self, Self::TwoCopies | Self::CacheLine)
    }
}

fn own(name: &'static str, run: fn(u64) -> u64) -> Contender {
    Contender { name, body: Body::Sized(run) }
}

fn runtimes(pick: fn(&Runtime) -> Body) -> Vec<Contender> {
    RUNTIMES.iter().map(|r| Contender { name: r.name, body: pick(r) }).collect()
}
