//! Runtimes with several workers, beside plain threads: what `workers` measures.
//!
//! ```text
//! cargo run --release --bin workers                    # every row, about a quarter of an hour
//! cargo run --release --bin workers -- ring skynet     # some of them; a name's beginning will do
//! cargo run --release --bin workers -- --quick         # to see that it runs; the figures mean little
//! cargo run --release --bin workers -- --patient       # where others use the machine: waits for them
//! ```
//!
//! It prints one tab-separated line per row, number of workers and contender: row, workers, contender, value, value divided
//! by the first contender's (fibra's) with as many workers, how many times better this contender is than with one worker,
//! processor time in the value's unit, and how much of one processor others used in the meantime. [`Row`] says what is
//! counted, and in which unit.
//!
//! A value is the median of several rounds in which the contenders take turns, each time in a process of its own, in time on
//! the wall. That is the time that counts where there are several workers, and the one that everybody else on the machine
//! spoils: so each row waits for them for half a minute in all (or, when patient, until they are calm), samples during which
//! they used more than a little are taken again, and the median is that of the calmest. Where the last column says more than
//! 10%, believe no speed-up; with one worker, processor time still says something.
//!
//! # The contenders
//!
//! | name | workers | channel |
//! | --- | --- | --- |
//! | `tokio` | those of its multi-threaded runtime | `mpsc::channel(1)` |
//! | `kanal` | the same | `bounded_async(0)` |
//! | `smol` | threads that run one `StaticExecutor` of async-executor | `async_channel::bounded(1)` |
//! | `go` | `GOMAXPROCS` | unbuffered |
//!
//! Go takes part if `go` is on the path: `go/` has the same networks, and `workers` compiles them. The rows about the
//! machine itself ([`Row::TwoCopies`], [`Row::CacheLine`]) say how much of two any speed-up can come to there.
//!
//! # What is unfair about it
//!
//! * **Capacity.** tokio's channels and async-channel's have no rendezvous: they hold one value, so a writer runs ahead by one,
//!   and some of its switches are saved. The others meet at each value.
//! * **Many readers.** tokio's channel has one reader. In [`Row::FanOut`] eight share it under tokio's own mutex, as its
//!   documentation has it; that costs another wait for each value.
//! * **Spawning.** In [`Row::Spawn`], the children are counted in a counter for each thread, and the parent yields until they
//!   have run; in [`Row::SpawnMillion`], in a counter for every thousand or so. In Go it is a `WaitGroup`, one for all.
//! * **Spinning.** kanal's blocking ends, and Go's scheduler, look again for a while before they sleep. That is what their
//!   round trips are short by, and why they take more processor time where they wait.
//! * **The last one.** tokio keeps the task that was made ready last in a place from which no other worker can take it. So in
//!   [`Row::Hog`], one of the hundred waits for the end of the computation.
//! * **Preemption.** Go interrupts what runs for 10 ms, so there a fibre that computes holds nobody up for longer.
//! * **Start and end.** Making the runtime and its threads, and ending them, is part of the time; in most rows it is a
//!   thousandth.
//! * **Memory.** tokio, async-executor and Go ask their allocators for each task.
//! * **Work.** To compute means a chain of shifts of a fixed length ([`Row::Stages`], [`Row::Hog`], [`Row::FanOut`]), not to
//!   look at the clock until it is over: who is interrupted takes longer. Its length is right for a processor of about 4
//!   GHz.

mod bodies;
mod go;
mod machine;
mod measure;
mod row;
mod tally;
mod threads;
mod work;

use std::cell::Cell;

pub(crate) use bodies::{outside, round_trip, worker_bodies};
pub use go::program as go;
pub use measure::{Figure, Subject, measure, serve, subjects};
pub use row::{Contender, Row};
pub(crate) use tally::{Burst, Countdown, Tally};
pub(crate) use work::compute;

/// Independent pairs of a writer and a reader.
pub const PAIRS: u64 = 8;
/// Readers of the one channel of [`Row::FanOut`].
pub const CONSUMERS: usize = 8;
/// Fibres that are ready while another one computes.
pub const OTHERS: u64 = 100;
/// Fibres that wait in [`Row::Idle`].
pub const PARKED: u64 = 100;
/// How long a stage computes for each value.
pub const STAGE: Micros = Micros(100);
/// How long a consumer computes for each value.
pub const CONSUMER: Micros = Micros(20);
/// How long the fibre of [`Row::Hog`] computes.
pub const HOG: Micros = Micros(20_000);

/// So many microseconds of computing, about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micros(pub u64);

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(1) };
}

/// How many workers the runtime that this thread starts is to have.
pub(crate) fn number() -> usize {
    NUMBER.get()
}

/// Has the runtimes that `section` starts have so many workers.
fn with<R>(workers: usize, section: impl FnOnce() -> R) -> R {
    let before = NUMBER.replace(workers);
    let result = section();
    NUMBER.set(before);
    result
}
