//! The rows of the table: what each workload counts, who takes part and which answer is right.

use crate::contenders;
use crate::pool::{self, Order, Use};

/// Fibres in the ring.
pub const RING: u64 = 503;
/// Stages of the pipeline between its source and its sink.
pub const STAGES: u64 = 10;
/// Fibres spawned before the spawning fibre lets them run.
pub const BATCH: u64 = 100;

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
    /// Take a block of 64 bytes and give it back at once: nanoseconds per pair.
    PoolTight,
    /// Take 1,000 blocks, give them back in the order they came: nanoseconds per pair.
    PoolInOrder,
    /// Take 1,000 blocks, give the last back first: nanoseconds per pair.
    PoolReversed,
    /// Take 1,000 blocks, give them back in random order: nanoseconds per pair.
    PoolRandom,
}

/// Somebody who takes part in one workload.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// The name in the second column.
    pub name: &'static str,
    /// Runs the workload at a given size and returns its answer (see [`Workload::answer`]).
    pub run: fn(u64) -> u64,
}

impl Workload {
    /// All rows, in the order in which they are printed.
    pub const ALL: [Self; 11] = [
        Self::OneToOne,
        Self::Pipeline,
        Self::Commstime,
        Self::Ring,
        Self::Spawn,
        Self::Bytes,
        Self::Skynet,
        Self::PoolTight,
        Self::PoolInOrder,
        Self::PoolReversed,
        Self::PoolRandom,
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
            Self::PoolTight => "pool-tight",
            Self::PoolInOrder => "pool-in-order",
            Self::PoolReversed => "pool-reversed",
            Self::PoolRandom => "pool-random",
        }
    }

    /// The workload of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|w| w.name() == name)
    }

    /// What the value is.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime => "ns per communication",
            Self::Ring => "ns per hop",
            Self::Spawn => "ns per fibre",
            Self::Bytes => "bytes per parked fibre and channel",
            Self::Skynet => "ms for 1,000,000 leaves",
            Self::PoolTight | Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom => {
                "ns per block taken and given back"
            }
        }
    }

    /// Operations in a run of size `n`: values, laps, batches, leaves or repetitions, whichever the workload has.
    pub const fn operations(self, n: u64) -> u64 {
        match self {
            Self::OneToOne | Self::PoolTight | Self::Bytes | Self::Skynet => n,
            Self::Pipeline => n * (STAGES + 1),
            Self::Commstime => n * 4,
            Self::Ring => n * RING,
            Self::Spawn => n * BATCH,
            Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom => n * pool::LIVE,
        }
    }

    /// The size at which the workload is run when that is part of its definition; the others take what fills a sample.
    pub const fn fixed_size(self) -> Option<u64> {
        match self {
            Self::Bytes => Some(200_000),
            Self::Skynet => Some(1_000_000),
            _ => None,
        }
    }

    /// Whether each sample is taken in a process of its own. [`Workload::Bytes`] has to: memory that was used before does
    /// not become resident again. [`Workload::Skynet`] leaves a heap behind in which everything is slower.
    pub const fn isolated(self) -> bool {
        matches!(self, Self::Bytes | Self::Skynet)
    }

    /// How often each contender has its turn.
    pub const fn rounds(self) -> usize {
        match self {
            Self::Bytes => 1,
            Self::Skynet => 5,
            _ => 9,
        }
    }

    /// The right answer of a run of size `n`; `None` for [`Workload::Bytes`], whose answer is the result.
    pub const fn answer(self, n: u64) -> Option<u64> {
        match self {
            Self::OneToOne | Self::Pipeline | Self::Commstime | Self::Skynet | Self::PoolTight => Some(sum_below(n)),
            Self::Ring => Some(n * RING),
            Self::Spawn => Some(n * BATCH),
            Self::Bytes => None,
            Self::PoolInOrder | Self::PoolReversed | Self::PoolRandom => Some(n * sum_below(pool::LIVE)),
        }
    }

    /// Who takes part, fibra first.
    pub fn contenders(self) -> Vec<Contender> {
        match self {
            Self::OneToOne => networks(|c| c.one_to_one),
            Self::Pipeline => networks(|c| c.pipeline),
            Self::Commstime => networks(|c| c.commstime),
            Self::Ring => networks(|c| c.ring),
            Self::Spawn => networks(|c| c.spawn),
            Self::Bytes => networks(|c| c.bytes),
            Self::Skynet => networks(|c| c.skynet),
            Self::PoolTight => pools(|n| pool::size_classes(n, Use::Tight), |n| pool::malloc(n, Use::Tight)),
            Self::PoolInOrder => pools(
                |n| pool::size_classes(n, Use::Batches(Order::First)),
                |n| pool::malloc(n, Use::Batches(Order::First)),
            ),
            Self::PoolReversed => pools(
                |n| pool::size_classes(n, Use::Batches(Order::Last)),
                |n| pool::malloc(n, Use::Batches(Order::Last)),
            ),
            Self::PoolRandom => pools(
                |n| pool::size_classes(n, Use::Batches(Order::Random)),
                |n| pool::malloc(n, Use::Batches(Order::Random)),
            ),
        }
    }
}

fn networks(pick: fn(&contenders::Network) -> fn(u64) -> u64) -> Vec<Contender> {
    contenders::ALL.iter().map(|c| Contender { name: c.name, run: pick(c) }).collect()
}

fn pools(fibra: fn(u64) -> u64, malloc: fn(u64) -> u64) -> Vec<Contender> {
    vec![Contender { name: "fibra", run: fibra }, Contender { name: "malloc", run: malloc }]
}

/// 0 + 1 + ... + (n - 1).
const fn sum_below(n: u64) -> u64 {
    n * n.saturating_sub(1) / 2
}
