//! How fast fibra is: the same small networks on fibra, on a bare floor and on what people use today, in one binary,
//! in one run, with one set of compiler flags; and likewise its memory pools.
//!
//! ```text
//! cargo run --release --bin versus                    # every workload, about four minutes
//! cargo run --release --bin versus -- ring skynet     # some of them
//! cargo run --release --bin versus -- pool            # those whose names begin so: memory pools
//! cargo run --release --bin pool-report -- OUT.html   # memory pools on a page with drawings, and more about them
//! cargo run --release --bin clock                     # the clock of `fibra-std`: how late, how idle, how dear
//! cargo run --release --bin workers                   # several workers: see the module `workers`
//! cargo bench                                         # the same bodies under criterion
//! ```
//!
//! `versus` prints one tab-separated line per workload and contender: workload, contender, value, value divided by
//! fibra's value (that of the first contender). A value is the median of several rounds in which the contenders take turns,
//! in processor time of the one thread that runs them; with two threads, in time on the wall. [`Workload`] says what is
//! counted, and in which unit.
//!
//! # The contenders
//!
//! | name | scheduler | channel |
//! | --- | --- | --- |
//! | `fibra` | one single-threaded process over size classes | sequential channel |
//! | `fibra-steps` | the same | the same |
//! | `floor` | a queue of raw pointers, free lists | one value, one writer, one reader; nothing else |
//! | `embassy` | `embassy-executor`, raw, pender sets a flag | `embassy-sync` `Channel<NoopRawMutex, u64, 1>` in an `Rc` |
//! | `kanal` | tokio, current thread | `bounded_async(0)` |
//! | `tokio` | tokio, current thread | `mpsc::channel(1)` |
//! | `futures-intrusive` | the floor's | `LocalUnbufferedChannel` in an `Rc` |
//!
//! `fibra-steps` is fibra with its routines written by hand as explicit continuations
//! ([`Continuation`](fibra_core::Continuation)) instead of `async` blocks: what a compiler for another language would make.
//! [`Workload::Call`] has contenders of its own.
//!
//! `floor` is no runtime that one could use: nothing in it can be cancelled, dropped early, duplicated or woken from
//! elsewhere. It says how much of a figure is the machine's and how much is the price of being safe.
//!
//! The text of each workload is written once (`src/workloads.rs`) and compiled once per contender against that
//! contender's own types, so that nobody pays for an adapter. Only `fibra-steps` has a text of its own
//! (`src/contenders/steps.rs`), with the same fibres and channels.
//!
//! # The memory pools
//!
//! [`pool::ALL`] lists them, each with a few words. There are three families.
//!
//! * `fibra...`: ours, each form under its own name. `fibra` is the single-threaded one, with which all are compared; where
//!   threads share a pool it cannot take part, and `fibra-cached` is the one to compare with.
//! * `floor...`: what each design costs at least. A floor checks nothing, counts nothing, and is sound for these workloads
//!   only. `floor` belongs to `fibra`, `floor-cached` to `fibra-cached`, and so on.
//! * malloc, mimalloc, jemalloc, snmalloc, rusty_alloc, talc, rlsf and heapless's pool, through their own interfaces.
//!
//! `pool-report` adds what a line cannot say: how long single operations take, up to the longest one; how long a pool of a
//! million blocks takes to make and to fill; and its overhead in resident bytes.
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
//! * **Addresses.** Where a stack lies relative to the arenas is chance, and moves most figures by a few per cent and some by
//!   a fifth. `versus` takes each round's samples elsewhere on the stack; criterion does not, so run it several times.
//!   fibra's size classes are laid out so that its fibres and channels do not get in each other's way; nobody else's memory is.
//! * **Ends.** When a network is done, tokio stops and destroys what is left; the others run until nothing is ready.
//!   fibra in addition decides for each parked fibre whether it may ever run again. All of this is inside the time taken.
//! * **Bytes.** The `bytes` row is resident memory, taken in a fresh process for each contender, so it contains what
//!   `malloc` and size classes round up, and the growth of queues; not the binary and not the runtime itself.
//!   fibra's share is what its endpoints remember, so that nothing is lost or left dangling whatever is dropped.
//! * **Pools: what is known.** fibra's pools and the floors are made for a known number of blocks. malloc, mimalloc, jemalloc,
//!   snmalloc and rusty_alloc grow, serve any size, and find out a block's size from its address; fibra is told the size
//!   again, as Rust does. talc and rlsf split and join blocks of one arena, and so waste less where sizes are not known.
//! * **Pools: threads.** malloc and its like serve all threads, always. `fibra` and `floor` serve one, and pay for no
//!   atomics. The floors with caches keep them in static variables of the thread, which only one pool in a program can do;
//!   `fibra-cached` has them where the worker keeps them.
//! * **Pools: compilers.** What is written in C and C++ cannot be inlined into Rust; what is written in Rust is. The
//!   crates of mimalloc and snmalloc build themselves with assertions when there are line tables, as in our release
//!   profile, which is why the workspace's `Cargo.toml` has a profile for each; snmalloc's also leaves `NDEBUG` undefined, which
//!   doubles its times, and takes flags from nowhere but `CXXFLAGS`. The workspace's `.cargo/config.toml` sets it, so
//!   nobody has to; built from outside the workspace, `pool-report` says that the figures of snmalloc are with assertions.
//!   mimalloc's interface in Rust always passes an alignment. No flags for a particular processor are used, so heapless's
//!   pool, which compares and swaps 16 bytes, goes through a pointer to code that fits the processor.
//! * **Pools: cold.** A block comes back in random order, 64 MiB of them, and then each is taken again. What reuses the last
//!   one first has to follow links that are in no cache. mimalloc, jemalloc and others sort blocks by page on the way, for
//!   which they pay when a block is given back, which is not timed there. In glibc, seven of eight blocks come from a list
//!   that the eighth one filled: so its median is small and the mean (`pool-cold-bulk`) is not.
//! * **Pools: first in, first out.** `fibra-fifo` goes round through all of a class's blocks before it reuses one. Here a pool
//!   has ten times the blocks that are live, and more, so its blocks are in no near cache. With few blocks they would be.
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
pub mod workers;
pub mod workload;
mod workloads;

pub use workload::{Contender, Workload};
