//! Communicating sequential processes without an operating system or a heap.
//!
//! **Fibres** talk over synchronous **channels**, in memory that the application hands out. A fibre that can never run
//! again is reclaimed, and with it what it holds, so its neighbours may follow: a pipeline dissolves by itself when one
//! stage leaves. There is no "channel closed" error; `loop { w.write(f(r.read().await)).await }` is a complete, correctly
//! ending fibre.
//!
//! ```
//! use core::mem::MaybeUninit;
//! use fibra_core::{AllocError, MemReq, Reader, SizeClasses, Writer, run, table};
//!
//! async fn produce(mut to: Writer<'_, u32>) {
//!     for n in 1..=5 {
//!         to.write(n).await;
//!     }
//! }
//! async fn square(mut from: Reader<'_, u32>, mut to: Writer<'_, u32>) {
//!     loop {
//!         let n = from.read().await;
//!         to.write(n * n).await;
//!     }
//! }
//! async fn consume(mut from: Reader<'_, u32>, sum: &mut u32) {
//!     loop {
//!         *sum += from.read().await;
//!     }
//! }
//!
//! let mut memory = [MaybeUninit::uninit(); 4096]; // on a chip: a static `Arena`
//! let pool = SizeClasses::new(&table([MemReq { block_size: 192, n_blocks: 8 }]), &mut memory)?;
//!
//! let mut sum = 0;
//! let (_, outcome) = run(&pool, |p| {
//!     let (w1, r1) = p.channel()?;
//!     let (w2, r2) = p.channel()?;
//!     p.spawn(produce(w1)).expect("a block for the producer");
//!     p.spawn(square(r1, w2)).expect("a block for the squares");
//!     p.spawn(consume(r2, &mut sum)).expect("a block for the consumer");
//!     Ok::<(), AllocError>(())
//! })?;
//!
//! assert_eq!(sum, 1 + 4 + 9 + 16 + 25);
//! assert_eq!((outcome.finished, outcome.collapsed), (1, 2)); // the producer left, and the others followed
//! assert_eq!(pool.classes().map(|class| class.live).sum::<usize>(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where to look
//!
//! | | |
//! | --- | --- |
//! | run a process | [`run`]; with a wake hub, a report, a way of catching panics: [`Setup`] |
//! | spawn, make channels, stop, dump | the methods of [`Process`] |
//! | names, essential fibres, wakers | [`Process::fibre`] gives [`FibreOptions`] |
//! | ready-made fibres, and pipelines of them | [`chips`], [`Process::pipe`] |
//! | read and write | [`Reader`], [`Writer`]; both ways: [`Endpoint`] |
//! | write routines as explicit state machines, with subroutines and recursion | [`Continuation`], [`Frame`], [`coroutine`] |
//! | await something else than a channel | [`Hub`], [`FibreOptions::waker`] |
//! | how much memory | [`fibre_layout`], [`channel_layout`], [`dup_layout`], [`frame_layout`] |
//!
//! # What a fibre can rely on
//!
//! - A write completes with exactly one read. The value is moved, never cloned, and never allocated for.
//! - A fibre is destroyed when it is parked and nothing can ever wake it: it has no wait that could still end, no wake-up
//!   on its way, and no live waker. A fibre that waits for several things (`join`, `select`) is destroyed only when all of
//!   them are dead. Destroying it drops its locals, between two other fibres' turns, never in depth.
//! - There is one queue, first in, first out: a fibre made ready goes to its tail, and the running fibre runs on until it
//!   parks, yields or ends. A process is deterministic, and nothing that is ready starves.
//! - A read or write that is dropped at any moment (a timeout, a `select`) loses nothing: a value that was delivered comes
//!   from the endpoint's next read.
//! - Only making a channel, `dup`, a subroutine's frame, spawning and reserving allocate. Reading, writing, waking,
//!   collapsing and reporting do not, and take constant time.
//!
//! # Combinators and foreign futures
//!
//! `join!`, `select!`, `FuturesUnordered` and the like work on reads and writes in any process, because a fibre is woken by
//! whatever it polled, and collapse sees through them. Futures that are woken by something else than this process's
//! channels need a process with a wake hub ([`Setup::hub`]), and a fibre that asked for a wake cell. Without one, a clone
//! of a fibre's waker is a waker that wakes nobody, and a fibre that waits for nothing else is reclaimed.
//!
//! # Features
//!
//! - `critical-section`: for chips without compare-and-swap: the wake hub's atomics go through the critical section that
//!   the application supplies.
#![no_std]

#[cfg(fibra_loom)]
extern crate std;

mod async_frame;
mod asynchronous;
#[cfg(all(test, fibra_loom))]
mod asynchronous_model;
mod bare_end;
mod bias;
#[cfg(all(test, fibra_loom))]
mod bias_model;
mod channel;
mod channels;
pub mod chips;
mod closing;
mod continuation;
mod coroutine;
mod crew;
#[cfg(all(test, fibra_loom))]
mod crew_model;
mod end;
mod endpoint;
mod fibre;
#[cfg(all(test, fibra_loom))]
mod fibre_model;
mod frame;
mod hub;
#[cfg(all(test, fibra_loom))]
mod hub_model;
#[cfg(all(test, fibra_loom))]
mod modelled;
mod node;
mod operation;
mod outcome;
mod outside;
mod pipeline;
mod process;
mod reach;
mod reader;
mod reporting;
mod reservation;
mod run;
mod scheduler;
mod shared;
mod spawn;
mod stack;
mod steps;
mod sync;
mod waker;
mod worker;
#[cfg(all(test, fibra_loom))]
mod worker_model;
mod writer;
mod yield_now;

pub use async_frame::Async;
pub use asynchronous::{asynchronous, asynchronous_layout, asynchronous_named};
pub use continuation::{Continuation, Next};
pub use coroutine::{Call, Coroutine, coroutine};
pub use endpoint::{Endpoint, channel_layout, dup_layout, two_way_layout};
/// What a program needs of `fibra-allocators` at the least.
pub use fibra_allocators::{AllocError, AllocRef, Allocator, Arena, Layout, Lock, MemReq, NoLock, SizeClasses, table};
pub use fibre::{fibre_layout, fibre_layout_of, fibre_layout_with_options};
pub use frame::{Curried, Frame, NoFrame, frame_layout};
pub use hub::{Hub, HubCore, Idle, StopHandle, WakeCell, WakeHub};
pub use node::Direction;
pub use operation::{Read, ReadOrEnd, Write};
pub use outcome::{Cause, Failure, Fate, Outcome, Report, Wait};
pub use outside::{
    Ended, OutsideRead, OutsideReader, OutsideWrite, OutsideWriter, TryReadError, TryWriteError, Unsent,
};
pub use pipeline::{Pipe, PipeError, PipeErrorKind};
pub use process::Process;
pub use reach::{Asynchronous, Concurrent, Here, Platform, Reach, Runs, Sequential};
pub use reader::Reader;
pub use reservation::Reservation;
pub use run::{Catch, Setup, run};
pub use shared::{NoCothread, Shared, work, work_catching};
pub use spawn::{FibreOptions, SpawnError, SpawnErrorKind, SpawnNext};
pub use writer::Writer;
pub use yield_now::{YieldNow, yield_now};
