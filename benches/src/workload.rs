//! The rows of the table: what each workload counts, who takes part and which answer is right.

use std::time::Duration;

use crate::contenders;
use crate::measure::{Outcome, elapsed, processor_time};
use crate::pool;

/// Fibres in the ring.
pub const RING: u64 = 503;
/// Stages of the pipeline between its source and its sink.
pub const STAGES: u64 = 10;
/// Fibres spawned before the spawning fibre lets them run.
pub const BATCH: u64 = 100;
/// Calls in progress before the first of them returns, where a routine calls itself.
pub const DEPTH: u64 = 100;

/// One row of the table. The unit of its value stands beside each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// One writer, one reader: nanoseconds per communication.
    OneToOne,
    /// A source, ten stages, a sink: nanoseconds per communication.
    Pipeline,
    /// The commstime network of four fibres: nanoseconds per communication.
    Commstime,
    /// One token in a ring of 503 fibres: nanoseconds per hop.
    Ring,
    /// Spawn, run and end an empty fibre, in batches of 100: nanoseconds per fibre.
    Spawn,
    /// A parked fibre, its channel and both endpoints: bytes of resident memory.
    Bytes,
    /// A tree of fibres with a million leaves, ten to a parent: milliseconds in all.
    Skynet,
    /// Call a subroutine and return: nanoseconds per call. Each call takes the subroutine's memory, and its return gives it
    /// back.
    ///
    /// | contender | who calls | whom | memory from |
    /// | --- | --- | --- | --- |
    /// | `fibra` | an `async` routine | an explicit continuation in a [`Frame`](fibra_core::Frame) | the pool |
    /// | `fibra-steps` | a coroutine | the same | the pool |
    /// | `fibra-steps-nested` | an explicit continuation in a frame | itself, to a depth of [`DEPTH`] | the pool |
    /// | `fibra-steps-async` | a coroutine | an `async` routine in a frame | the pool |
    /// | `pool-box-pin` | an `async fn` | itself, to a depth of [`DEPTH`], in a pinned [`PoolBox`](fibra_allocators::PoolBox) | the pool |
    /// | `box-pin` | an `async fn` | itself, to a depth of [`DEPTH`], in a pinned [`Box`] | malloc |
    ///
    /// The last two are what people do today. Their calls nest on the processor's stack, each poll goes through all that are
    /// in progress, and so does a wake-up at the bottom; which is not timed here, because nobody waits. Explicit calls are
    /// links in a list: a wake-up goes to the bottom at once, and no depth overflows anything.
    ///
    /// The runtime that fibra re-creates took 20 ns per call and return with its pool on a machine of this kind, 11 without
    /// atomics, and 27 with its system allocator.
    Call,
    /// Take a block of 64 bytes and give it back at once: nanoseconds per pair.
    PoolTight,
    /// Take 1,000 blocks, give them back in the order they came: nanoseconds per pair.
    PoolInOrder,
    /// Take 1,000 blocks, give the last back first: nanoseconds per pair.
    PoolReversed,
    /// Take 1,000 blocks, give them back in random order: nanoseconds per pair.
    PoolRandom,
    /// 1,000 blocks of 16 to 1024 bytes, of which one after the other is replaced by one of another size: nanoseconds per
    /// block given back and taken.
    PoolChurn,
    /// Two threads, each of which takes 1,000 blocks and gives them back in random order: nanoseconds on the wall per pair
    /// of either.
    PoolTwoThreads,
    /// One thread takes blocks, another one gives them back: nanoseconds on the wall per block.
    PoolHandover,
    /// Take one of 1,048,576 blocks, 64 MiB, after all were given back in random order: nanoseconds, the median.
    PoolCold,
    /// Take and write them all, one after the other: nanoseconds per block.
    PoolColdBulk,
}

/// Somebody who takes part in one workload.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The name in the second column.
    pub name: &'static str,
    body: Body,
}

#[derive(Clone, Copy, Debug)]
enum Body {
    /// All of it is timed.
    Whole(fn(u64) -> u64),
    /// It knows what is.
    Timed(fn(u64) -> Outcome),
}

impl Contender {
    /// Runs the workload at a given size.
    pub fn run(&self, n: u64) -> Outcome {
        match self.body {
            Body::Whole(run) => {
                let mut answer = 0;
                let time = elapsed(processor_time, || answer = run(n));
                Outcome { time, answer }
            }
            Body::Timed(run) => run(n),
        }
    }
}

impl Workload {
    /// All rows, in the order in which they are printed.
    pub const ALL: [Self; 17] = [
        Self::OneToOne,
        Self::Pipeline,
        Self::Commstime,
        Self::Ring,
        Self::Spawn,
        Self::Bytes,
        Self::Skynet,
        Self::Call,
        Self::PoolTight,
        Self::PoolInOrder,
        Self::PoolReversed,
        Self::PoolRandom,
        Self::PoolChurn,
        Self::PoolTwoThreads,
        Self::PoolHandover,
        Self::PoolCold,
        Self::PoolColdBulk,
    ];

    /// The name in the first column and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OneToOne => "one-to-one",
            Self::Pipeline => "pipeline",
            Self::Commstime => "commstime",
            Self::Ring => "ring",
            Self::Spawn => "spawn",
            Self::Bytes => "bytes",
            Self::Skynet => "skynet",
            Self::Call => "call",
            Self::PoolTight => "pool-tight",
            Self::PoolInOrder => "pool-in-order",
            Self::PoolReversed => "pool-reversed",
            Self::PoolRandom => "pool-random",
            Self::PoolChurn => "pool-churn",
            Self::PoolTwoThreads => "pool-two-threads",
            Self::PoolHandover => "pool-handover",
            Self::PoolCold => "pool-cold",
            Self::PoolColdBulk => "pool-cold-bulk",
        }
    }

    /// The workload of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|w| w.name() == name)
    }

    /// The workload of that name; or if there is none, all whose names begin with it, which may be none.
    pub fn matching(name: &str) -> Vec<Self> {
        match Self::named(name) {
            Some(workload) => vec![workload],
            None => Self::ALL.into_iter().filter(|w| w.name().starts_with(name)).collect(),
        }
    }

    /// Whether it is about memory pools.
    pub fn is_pool(self) -> bool {
        self.name().starts_with("pool-")
    }

    /// What the value is.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime => "ns per communication",
            Self::Ring => "ns per hop",
            Self::Spawn => "ns per fibre",
            Self::Bytes => "bytes per parked fibre and channel",
            Self::Skynet => "ms for 1,000,000 leaves",
            Self::Call => "ns per call and return",
            Self::PoolTight | Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom | Self::PoolChurn => {
                "ns per block taken and given back"
            }
            Self::PoolTwoThreads => "ns (wall) per block that either thread takes and gives back",
            Self::PoolHandover => "ns (wall) per block taken here and given back there",
            Self::PoolCold => "ns per block taken, median, of 64 MiB given back at random",
            Self::PoolColdBulk => "ns per block taken, mean, of 64 MiB given back at random",
        }
    }

    /// Operations in a run of size `n`: values, laps, batches, leaves or repetitions, whichever the workload has.
    pub const fn operations(self, n: u64) -> u64 {
        match self {
            Self::OneToOne | Self::Bytes | Self::Skynet | Self::Call => n,
            Self::PoolTight | Self::PoolChurn | Self::PoolHandover | Self::PoolCold | Self::PoolColdBulk => n,
            Self::Pipeline => n * (STAGES + 1),
            Self::Commstime => n * 4,
            Self::Ring => n * RING,
            Self::Spawn => n * BATCH,
            Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom | Self::PoolTwoThreads => n * pool::LIVE,
        }
    }

    /// The size at which the workload is run when that is part of its definition; the others take what fills a sample.
    pub const fn fixed_size(self) -> Option<u64> {
        match self {
            Self::Bytes => Some(200_000),
            Self::Skynet => Some(1_000_000),
            Self::PoolCold | Self::PoolColdBulk => Some(pool::COLD),
            _ => None,
        }
    }

    /// Whether each sample is taken in a process of its own. [`Workload::Bytes`] has to: memory that was used before does
    /// not become resident again. [`Workload::Skynet`] leaves a heap behind in which everything is slower, and so do
    /// [`Workload::PoolCold`] and [`Workload::PoolColdBulk`].
    pub const fn isolated(self) -> bool {
        matches!(self, Self::Bytes | Self::Skynet | Self::PoolCold | Self::PoolColdBulk)
    }

    /// Whether there is a run that does not count before those that do. Not where memory that was used before behaves
    /// otherwise.
    pub const fn warms_up(self) -> bool {
        !matches!(self, Self::Bytes | Self::PoolCold | Self::PoolColdBulk)
    }

    /// How long one sample takes: far above the clock's resolution, and short enough that a burst of other work on the
    /// machine spoils few of them. On the wall, even short ones are spoilt. Workloads of a fixed size take what they take.
    pub const fn sample(self) -> Duration {
        match self {
            Self::PoolTwoThreads | Self::PoolHandover => Duration::from_millis(2),
            _ => Duration::from_millis(35),
        }
    }

    /// How often each contender has its turn.
    pub const fn rounds(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::PoolCold | Self::PoolColdBulk => 3,
            Self::Skynet => 5,
            Self::PoolTwoThreads | Self::PoolHandover => 31,
            _ => 9,
        }
    }

    /// The right answer of a run of size `n`; `None` for [`Workload::Bytes`], whose answer is the result.
    pub const fn answer(self, n: u64) -> Option<u64> {
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime | Self::Skynet => Some(sum_below(n)),
            Self::PoolTight => Some(pool::LOOKED_AT * sum_below(n.div_ceil(pool::LOOKED_AT))),
            Self::PoolHandover => Some(sum_below(n)),
            Self::Call => Some(n),
            Self::Ring => Some(n * RING),
            Self::Spawn => Some(n * BATCH),
            Self::Bytes => None,
            Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom => {
                Some(n.div_ceil(pool::LOOKED_AT) * sum_below(pool::LIVE))
            }
            Self::PoolChurn => Some(sum_below(pool::churned(n))),
            Self::PoolTwoThreads => Some(n.div_ceil(pool::LOOKED_AT) * sum_below(2 * pool::LIVE)),
            Self::PoolCold | Self::PoolColdBulk => Some(2 * sum_below(n)),
        }
    }

    /// Who takes part, fibra first. `fibra-steps` and what begins so is written as explicit continuations.
    pub fn contenders(self) -> Vec<Contender> {
        match self {
            Self::OneToOne => networks(|c| c.one_to_one),
            Self::Pipeline => networks(|c| c.pipeline),
            Self::Commstime => networks(|c| c.commstime),
            Self::Ring => networks(|c| c.ring),
            Self::Spawn => networks(|c| c.spawn),
            Self::Bytes => networks(|c| c.bytes),
            Self::Skynet => networks(|c| c.skynet),
            Self::Call => calls(),
            Self::PoolTight => pools(|p| Some(p.tight)),
            Self::PoolInOrder => pools(|p| Some(p.in_order)),
            Self::PoolReversed => pools(|p| Some(p.reversed)),
            Self::PoolRandom => pools(|p| Some(p.random)),
            Self::PoolChurn => pools(|p| p.churn),
            Self::PoolTwoThreads => pools(|p| p.two_threads),
            Self::PoolHandover => pools(|p| p.handover),
            Self::PoolCold => pools(|p| Some(p.cold)),
            Self::PoolColdBulk => pools(|p| Some(p.cold_bulk)),
        }
    }
}

fn networks(pick: fn(&contenders::Network) -> fn(u64) -> u64) -> Vec<Contender> {
    contenders::ALL.iter().map(|c| Contender { name: c.name, body: Body::Whole(pick(c)) }).collect()
}

fn calls() -> Vec<Contender> {
    let contender = |name, calls| Contender { name, body: Body::Whole(calls) };
    use contenders::calls;
    vec![
        contender("fibra", calls::from_async),
        contender("fibra-steps", calls::from_coroutine),
        contender("fibra-steps-nested", calls::nested),
        contender("fibra-steps-async", calls::of_async),
        contender("pool-box-pin", calls::pool_boxed),
        contender("box-pin", calls::boxed),
    ]
}

fn pools(pick: fn(&pool::Pool) -> Option<fn(u64) -> Outcome>) -> Vec<Contender> {
    pool::ALL.iter().filter_map(|p| Some(Contender { name: p.name, body: Body::Timed(pick(p)?) })).collect()
}

/// 0 + 1 + ... + (n - 1).
const fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}
