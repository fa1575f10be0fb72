//! fibra with an operating system: one call runs communicating fibres on memory from the host.
//!
//! ```
//! let mut sum = 0;
//! let total = &mut sum;
//!
//! let (_, outcome) = fibra_std::run(|p| {
//!     let (mut w, mut r) = p.channel::<u64>()?;
//!     p.spawn(async move {
//!         for n in 1..=10 {
//!             w.write(n).await;
//!         }
//!     })
//!     .expect("room for a fibre");
//!     p.spawn(async move {
//!         loop {
//!             *total += r.read().await;
//!         }
//!     })
//!     .expect("room for a fibre");
//!     Ok::<(), fibra_std::AllocError>(())
//! })?;
//!
//! assert_eq!(sum, 55);
//! assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The fibres, channels and pools themselves come from `fibra-core` and `fibra-allocators`, which need no operating
//! system; an application that has one needs only this crate, which re-exports them. It adds
//!
//! - memory: [`run`] makes a pool on the host's memory, [`run_in`] takes any allocator, and [`Malloc`] is the root that
//!   one's own pools are made in;
//! - panics: the others are destroyed in order, then the first panic goes on ([`run`]); or only the fibre that panicked
//!   goes ([`Setup::isolate_panics`]);
//! - wakers: every process is open, so a fibre spawned with [`FibreOptions::waker`] may await the futures of the
//!   ecosystem, which are woken from any thread;
//! - time: a [`Clock`], on which fibres sleep, and tasks of any executor;
//! - the world outside: [`asynchronous`] channels to threads, which sleep meanwhile ([`ReadBlocking`], [`WriteBlocking`]), and to
//!   functions that block ([`device`]).
//!
//! A function that spawns takes the process by reference:
//!
//! ```
//! use fibra_std::{Process, Writer};
//!
//! fn count<'p>(p: &'p Process<'p, '_>, mut to: Writer<'p, u32>) -> bool {
//!     let counting = async move {
//!         for n in 0.. {
//!             to.write(n).await; // collapses here when nobody reads any more
//!         }
//!     };
//!     p.spawn(counting).is_ok()
//! }
//! # fibra_std::run(|p| {
//! #     let (w, mut r) = p.channel().unwrap();
//! #     assert!(count(p, w));
//! #     p.spawn(async move { assert_eq!((r.read().await, r.read().await), (0, 1)) }).unwrap();
//! # }).unwrap();
//! ```

mod blocking;
mod clock;
pub mod device;
mod group;
mod hub;
mod malloc;
mod memory;
mod mistakes;
mod outside;
mod panics;
mod per_thread;
mod run;
mod shared;
mod sleep_lock;
mod sleeper;
mod system;
mod threads;

pub use blocking::{ReadBlocking, ReadError, WriteBlocking, WriteError};
pub use clock::{Clock, ClockError, Sleep, Tick, Ticks};
/// Everything that `fibra-allocators` has. What most programs need of it is at the top of this crate, too.
pub use fibra_allocators as allocators;
pub use fibra_allocators::{
    AllocError, AllocRef, Allocator, Arena, ClassStats, Layout, MemReq, SizeClasses, Table, fixup, table,
};
pub use fibra_core::{
    Async, Call, Cause, Continuation, Coroutine, Curried, Direction, Ended, Endpoint, Failure, Fate, FibreOptions,
    Frame, Lock, Next, NoFrame, Outcome, Pipe, PipeError, PipeErrorKind, Reach, Read, ReadOrEnd, Reader, Report,
    Reservation, Sequential, SpawnError, SpawnErrorKind, SpawnNext, StopHandle, TryReadError, TryWriteError, Unsent,
    Wait, Write, Writer, YieldNow, channel_layout, chips, coroutine, dup_layout, fibre_layout, fibre_layout_of,
    fibre_layout_with_options, frame_layout, steps, two_way_layout, yield_now,
};
pub use malloc::Malloc;
pub use memory::{Memory, Pool};
pub use mistakes::{abort_on_mistake, report_mistake};
pub use outside::{OutsideReader, OutsideWriter, asynchronous, asynchronous_in};
pub use per_thread::PerThread;
pub use run::{Error, Process, Setup, run, run_in};
pub use shared::{Shared, SharedMemory, SharedProcess};
pub use sleep_lock::SleepLock;
pub use system::{System, SystemOutcome};
pub use threads::{Asynchronous, Concurrent, Threads};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
