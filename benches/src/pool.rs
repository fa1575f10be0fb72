//! The pool workloads: everybody who takes part, and what each can do.

mod check;
mod cold;
mod floors;
mod foreign;
mod latency;
mod ours;
mod pages;
mod start;
mod subject;
mod threads;
mod work;

use fibra_allocators::{Fifo, LockFree, NoLock, Ordered, SpinLock};
use floors::{Bare, Cached, Classes, Dyn, Fixed, FreeList, Spin, Tagged};
use subject::{Shared, Subject};
use work::Order;

pub use cold::COLD;
pub use latency::Latencies;
pub use start::Start;
pub use work::LIVE;
pub(crate) use work::{LOOKED_AT, churned};

use crate::measure::Outcome;

/// Whose a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// fibra's.
    Ours,
    /// A bare floor's: no pool that one could use.
    Floor,
    /// What people use today.
    Foreign,
}

/// A pool, and the workloads on it: each takes a size and returns its time and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// The name in the second column.
    pub name: &'static str,
    /// Whose it is.
    pub family: Family,
    /// What it is, in a few words.
    pub about: &'static str,
    /// See [`Workload::PoolTight`](crate::Workload::PoolTight).
    pub tight: fn(u64) -> Outcome,
    /// See [`Workload::PoolInOrder`](crate::Workload::PoolInOrder).
    pub in_order: fn(u64) -> Outcome,
    /// See [`Workload::PoolReversed`](crate::Workload::PoolReversed).
    pub reversed: fn(u64) -> Outcome,
    /// See [`Workload::PoolRandom`](crate::Workload::PoolRandom).
    pub random: fn(u64) -> Outcome,
    /// See [`Workload::PoolChurn`](crate::Workload::PoolChurn); for pools of several sizes.
    pub churn: Option<fn(u64) -> Outcome>,
    /// See [`Workload::PoolTwoThreads`](crate::Workload::PoolTwoThreads); for pools that threads can share.
    pub two_threads: Option<fn(u64) -> Outcome>,
    /// See [`Workload::PoolHandover`](crate::Workload::PoolHandover); for pools that threads can share.
    pub handover: Option<fn(u64) -> Outcome>,
    /// See [`Workload::PoolCold`](crate::Workload::PoolCold).
    pub cold: fn(u64) -> Outcome,
    /// See [`Workload::PoolColdBulk`](crate::Workload::PoolColdBulk).
    pub cold_bulk: fn(u64) -> Outcome,
    /// What each operation of so many pairs takes, from the first on. To be called once in a process.
    pub latencies: fn(usize) -> Latencies,
    /// What it takes to make a pool of so many blocks and to fill it. To be called once in a process.
    pub start: fn(usize) -> Start,
    /// Operations at random, on two threads if it can be shared, with every word of every block compared.
    ///
    /// # Panics
    ///
    /// When a block is not what its user wrote to it.
    pub check: fn(),
}

impl Pool {
    const fn new<S: Subject>(name: &'static str, family: Family, about: &'static str) -> Self {
        Pool {
            name,
            family,
            about,
            tight: work::tight::<S>,
            in_order: |n| work::batches::<S>(n, Order::First),
            reversed: |n| work::batches::<S>(n, Order::Last),
            random: |n| work::batches::<S>(n, Order::Random),
            churn: if S::ANY_SIZE { Some(work::churn::<S>) } else { None },
            two_threads: None,
            handover: None,
            cold: cold::median::<S>,
            cold_bulk: cold::bulk::<S>,
            latencies: latency::latencies::<S>,
            start: start::start::<S>,
            check: check::alone::<S>,
        }
    }

    /// The workloads of two threads too.
    const fn shared<S: Shared>(self) -> Self {
        Pool {
            two_threads: Some(threads::two_threads::<S>),
            handover: Some(threads::handover::<S>),
            check: check::shared::<S>,
            ..self
        }
    }
}

/// A pool for one thread, or `shared` by several.
macro_rules! pool {
    ($name:literal, $family:ident, $subject:ty, $about:literal) => {
        Pool::new::<$subject>($name, Family::$family, $about)
    };
    (shared $name:literal, $family:ident, $subject:ty, $about:literal) => {
        Pool::new::<$subject>($name, Family::$family, $about).shared::<$subject>()
    };
}

/// Everybody: ours first, and of those the ones first that the others are compared with, `fibra` where it takes part and
/// `fibra-cached` where it does not.
pub const ALL: [Pool; 28] = [
    pool!("fibra", Ours, ours::Classes<NoLock>, "size classes for one thread"),
    pool!(shared "fibra-cached", Ours, ours::Cached<512>, "size classes, with a cache of two chains of 512 per worker"),
    pool!(shared "fibra-cached-32", Ours, ours::Cached<32>, "size classes, with a cache of two chains of 32 per worker"),
    pool!(shared "fibra-spin", Ours, ours::Classes<SpinLock>, "size classes, with a spin lock each"),
    pool!(shared "fibra-lock-free", Ours, ours::Classes<LockFree>, "size classes, lock-free"),
    pool!(shared "fibra-fifo", Ours, ours::Classes<Fifo>, "size classes, lock-free, first in, first out"),
    pool!("fibra-ordered", Ours, ours::Classes<Ordered>, "size classes for one thread, in order of address"),
    pool!(shared "fibra-ordered-spin", Ours, ours::Classes<Ordered<SpinLock>>, "size classes, in order of address, with a spin lock each"),
    pool!("fibra-dyn", Ours, ours::Erased, "size classes for one thread, behind a handle chosen at run time"),
    pool!("fibra-fixed", Ours, ours::Fixed<NoLock>, "blocks of one size for one thread"),
    pool!("floor", Floor, Bare<Classes<FreeList>>, "a free list per size class"),
    pool!("floor-fixed", Floor, Bare<Fixed<FreeList>>, "a free list"),
    pool!("floor-dyn", Floor, Bare<Dyn<Classes<FreeList>>>, "floor, called through a table of functions"),
    pool!(shared "floor-spin", Floor, Bare<Classes<Spin<FreeList>>>, "a free list and a spinning flag per size class"),
    pool!(shared "floor-lock-free", Floor, Bare<Classes<Tagged>>, "a tagged stack per size class"),
    pool!(shared "floor-cached", Floor, Bare<Classes<Cached<512>>>, "two chains of 512 per thread and size class"),
    pool!(shared "floor-cached-32", Floor, Bare<Classes<Cached<32>>>, "two chains of 32 per thread and size class"),
    pool!(shared "floor-cached-dyn", Floor, Bare<Dyn<Classes<Cached<512>>>>, "floor-cached, called through a table of functions"),
    pool!(shared "malloc", Foreign, foreign::Malloc, "the host's"),
    pool!(shared "mimalloc", Foreign, foreign::Mimalloc, "a cache per thread, C"),
    pool!(shared "jemalloc", Foreign, foreign::Jemallocator, "a cache per thread, C"),
    pool!(shared "snmalloc", Foreign, foreign::Snmalloc, "a cache per thread, C++"),
    pool!(shared "rusty_alloc", Foreign, foreign::Rusty, "mimalloc's design in Rust"),
    pool!("talc", Foreign, foreign::Talc, "splits and joins blocks of one arena"),
    pool!("rlsf", Foreign, foreign::Rlsf, "two-level segregated fit in one arena"),
    // Those two again, as threads can use them.
    pool!(shared "talc-spin", Foreign, foreign::SpinTalc, "talc behind a spin lock"),
    pool!(shared "rlsf-spin", Foreign, foreign::SpinRlsf, "rlsf behind a spin lock"),
    pool!(shared "heapless", Foreign, foreign::Heapless, "a pool of boxes, a tagged stack"),
];

/// The pool of that name.
pub fn named(name: &str) -> Option<Pool> {
    ALL.into_iter().find(|pool| pool.name == name)
}
