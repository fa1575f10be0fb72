//! How fast fibra is: the same small networks on fibra, on a bare floor and on what people use today, in one binary,
//! in one run, with one set of compiler flags.
//!
//! ```text
//! cargo run --release --bin versus                    # every workload, about a minute
//! cargo run --release --bin versus -- ring skynet     # some of them
//! cargo bench                                         # the same bodies under criterion, in wall time
//! ```
//!
//! `versus` prints one tab-separated line per workload and contender: workload, contender, value, value divided by
//! fibra's value. A value is the median of several rounds in which the contenders take turns, in processor time of the
//! one thread that runs them. [`Workload`] says what is counted, and in which unit.
//!
//! # The contenders
//!
//! | name | scheduler | channel |
//! | --- | --- | --- |
//! | `fibra` | one single-threaded process over size classes | sequential channel |
//! | `floor` | a queue of raw pointers, free lists | one value, one writer, one reader; nothing else |
//! | `embassy` | `embassy-executor`, raw, pender sets a flag | `embassy-sync` `Channel<NoopRawMutex, u64, 1>` in an `Rc` |
//! | `kanal` | tokio, current thread | `bounded_async(0)` |
//! | `tokio` | tokio, current thread | `mpsc::channel(1)` |
//! | `futures-intrusive` | the floor's | `LocalUnbufferedChannel` in an `Rc` |
//!
//! `floor` is no runtime that one could use: nothing in it can be cancelled, dropped early, duplicated or woken from
//! elsewhere. It says how much of a figure is the machine's and how much is the price of being safe.
//!
//! The text of each workload is written once (`src/workloads.rs`) and compiled once per contender against that
//! contender's own types, so that nobody pays for an adapter.
//!
//! # What is unfair about it
//!
//! * **Capacity.** embassy and tokio have no rendezvous: their channels hold one value, so a writer runs ahead by one and
//!   some of its switches are saved. kanal, futures-intrusive, fibra and the floor meet at each value.
//! * **Threads.** tokio's and kanal's channels work between threads and pay for atomics (kanal: a lock) that a single
//!   thread does not need. embassy's tasks are woken with atomics, so that interrupts may do it. fibra's sequential
//!   channel needs neither; its concurrent and asynchronous ones are not measured here.
//! * **Executors.** futures-intrusive brings none, so it gets the floor's, which is cheaper than any that one could use;
//!   kanal gets tokio's. The `spawn` row has no channel in it: there, kanal repeats tokio and futures-intrusive repeats
//!   the floor.
//! * **Memory.** embassy means its tasks to be statics. Here they are carved from a region that is used again from its
//!   start in each run, at next to no cost; in `spawn` it has 100 tasks ready and takes them in turn, where its `TaskPool`
//!   would look for a free one from the start each time. The floor carves from such a region too, and keeps free lists;
//!   fibra has size classes over memory that stays. tokio asks `malloc` for each task, and the `Rc`s of embassy, of
//!   futures-intrusive and of the floor come from there.
//! * **Skynet.** kanal, tokio, futures-intrusive and fibra give ten children one channel with ten writers. embassy's
//!   channel of one wakes one writer at a time and the floor's knows only one, so both get a channel per child.
//!   Each sample is the second run in a fresh process: page faults are over, and nobody inherits another's heap.
//! * **Ends.** When a network is done, tokio stops and destroys what is left; the others run until nothing is ready.
//!   fibra in addition decides for each parked fibre whether it may ever run again. All of this is inside the time taken.
//! * **Bytes.** The `bytes` row is resident memory, taken in a fresh process for each contender, so it contains what
//!   `malloc` and size classes round up, and the growth of queues; not the binary and not the runtime itself.
//!   fibra's share is what its endpoints remember, so that nothing is lost or left dangling whatever is dropped.
//! * **Pools.** The pool rows ask for 64 bytes of known size, 1,000 live at most. glibc's `malloc` keeps only a few blocks
//!   a size in its per-thread cache, and it is prepared for threads; fibra's size classes in those rows are the
//!   single-threaded version, made for the purpose with as many blocks as are needed.
//! * **Shape.** Everything here is the cost of switching. Programs that compute between two communications see less
//!   of it, and programs with other cache footprints see something else.
//!
//! Figures depend on the machine; compare ratios within one run.

pub mod child;
pub mod contenders;
pub mod measure;
pub mod pool;
pub mod report;
pub mod stamp;
pub mod workload;
mod workloads;

pub use workload::{Contender, Workload};
