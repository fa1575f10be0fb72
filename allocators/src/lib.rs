//! Memory for programs that must not run out of it by surprise: pools of a size that is known, over memory that the
//! application chooses, in constant time and without a heap.
//!
//! The story in one example. A program states which blocks it needs, as rows of ([size](MemReq::block_size),
//! [count](MemReq::n_blocks)). [`table`] fixes the rows up while compiling, so the exact size of the arena is a constant. A
//! static [`Arena`] of that size is taken once, and [`SizeClasses`] serves requests from it:
//!
//! ```
//! use allocator_api2::{boxed::Box, vec::Vec};
//! use fibra_allocators::{Arena, MemReq, SizeClasses, Table, table};
//!
//! const SIZES: Table<3> = table([MemReq::new(32, 100), MemReq::new(128, 20), MemReq::new(1024, 2)]);
//! static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
//!
//! let system = SizeClasses::new(&SIZES, MEMORY.take().expect("taken only here"))?;
//!
//! let word = Box::new_in(42_u64, &system);
//! let mut bytes = Vec::new_in(&system);
//! bytes.extend_from_slice(&[*word as u8; 600]);
//! assert!(Box::try_new_in([0_u8; 2000], &system).is_err(), "larger than the largest class");
//!
//! print!("{}", system.report()); // block size, reserved, peak, live: of each class
//! # Ok::<(), fibra_allocators::ArenaTooSmall>(())
//! ```
//!
//! # Which one
//!
//! | allocator | blocks | released memory | allocation |
//! | --- | --- | --- | --- |
//! | [`Bump`] | of any size, one behind the other | is reused after `reset` only | O(1) |
//! | [`FixedBlock`] | of one size | is reused | O(1) |
//! | [`SizeClasses`] | of the sizes of a [`Table`] | is reused within its class | O(1) up to 256 granules |
//!
//! Each takes its memory from the caller (`new`) or from another allocator (`in_parent`), to which everything returns when
//! it is dropped. So a process can have its own extent of the system's memory.
//!
//! The last two come in several [forms](Form), which say who may share them and which block is reused first: one thread
//! ([`NoLock`], the default), threads with a [`SpinLock`] for each class or without any ([`LockFree`]), a core and its
//! interrupts (`CriticalSection`), first in first out ([`Fifo`]), in order of address ([`Ordered`]). On several cores, a
//! [`Cache`] for each worker, or [`Cached`] classes, take most locks away.
//!
//! # Round an allocator
//!
//! These take an allocator, or a handle to one, and are allocators themselves, so they stack.
//!
//! | | adds |
//! | --- | --- |
//! | [`Elastic`] | what to do when a class is exhausted: the next class, a fallback, a callback |
//! | [`Fallback`] | a second allocator for what the first one refuses |
//! | [`Locked`] | a lock, so that threads can share what serves one |
//! | [`DynAlloc`] | a handle of one type for all of them, counted, chosen at run time |
//! | [`Lazy`], [`AsGlobal`], [`FromGlobal`] | the way to be, or to use, a program's global allocator |
//! | [`Statistics`], [`Counting`] | counts, by size and in all, as a table, CSV or JSON |
//! | [`Debugging`] | a line for each operation, to read or to replay |
//! | [`Checking`] | the name of each mistake: freed twice, foreign, wrong layout, written after release, overrun, leaked |
//!
//! # Values
//!
//! What stands in the blocks has an owner, as with a heap, but nothing is ever lost to a want of memory: the error is
//! [`NoRoom`], with the value in it.
//!
//! | type | what it is | memory |
//! | --- | --- | --- |
//! | [`PoolBox`] | one value, or a slice, or a trait object, owned | a block |
//! | [`PoolRc`], `PoolArc` | one value, shared on one thread or among threads | a block of a [`Counted`] value |
//! | [`Pool`] | room for a number of values of one type | a [`FixedBlock`] |
//! | [`Reserve`] | blocks set aside, so that using them later cannot fail | blocks of any allocator |
//!
//! # Which sizes
//!
//! Run the program once with [`Statistics`] around its allocator; [`optimise`] finds the size classes that serve its
//! [profile](Statistics::profile) with the least waste, for each number of classes; [`write_rust`] and [`write_toml`] print the
//! table, and [`arena!`] declares the memory for it.
//!
//! # What they promise
//!
//! - Exhaustion is [`AllocError`], and so is a request that could never be served. Nothing is overrun, nothing changes.
//! - Alignment is honoured, and a request for no bytes succeeds and takes no memory.
//! - The time of an operation does not depend on how full the allocator is, and memory that was never needed is never
//!   touched.
//! - Handles are [`AllocRef`]: the [`Allocator`] trait of `allocator-api2`, so its `Box` and `Vec`, `hashbrown` and others
//!   work with them. A handle borrows its allocator, which therefore cannot move, be reset or be dropped under its blocks.
//! - Single-threaded allocators stay on their thread: the compiler sees to it.
//! - [`SizeClasses::verify`] follows all free lists, for tests and for the search of a mistake.
//!
//! # Features
//!
//! - `critical-section`: the lock `CriticalSection`; and on chips without compare-and-swap (thumbv6m) whatever else needs one
//!   ([`Arena::take`], [`LockFree`], [`Fifo`], [`Lazy`], [`PoolArc`]), inside the critical section that the application
//!   supplies.

#![no_std]
#![warn(missing_debug_implementations)]

#[cfg(fibra_loom)]
extern crate std;

mod abort;
mod alloc_ref;
mod arena;
mod as_global;
mod block_list;
mod bump;
#[cfg(target_has_atomic = "8")]
mod cache;
mod checking;
mod class_stats;
mod counted;
mod counting;
mod debugging;
mod dyn_alloc;
mod elastic;
mod erased;
mod extent;
mod fallback;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
mod fifo;
mod finally;
mod fixed_block;
mod fixup;
mod form;
mod forward;
mod from_global;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
mod lazy;
mod lock;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
mod lock_free;
mod locked;
mod mem_req;
mod mistake;
#[cfg(all(test, fibra_loom))]
mod models;
mod no_room;
mod optimise;
mod ordered;
mod owns;
mod pool;
mod pool_box;
mod pool_slice;
mod records;
mod report;
mod request;
mod reserve;
mod shared;
mod size_classes;
mod source;
mod statistics;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
mod sync;
mod table_arena;
mod unsizing;

pub use allocator_api2::alloc::{AllocError, Allocator, Layout};

pub use alloc_ref::AllocRef;
pub use arena::Arena;
pub use as_global::AsGlobal;
pub use bump::Bump;
#[cfg(target_has_atomic = "8")]
pub use cache::{Cache, Cached, Worker};
pub use checking::{Checking, checking_arena_size};
pub use class_stats::ClassStats;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub use counted::AnyThread;
pub use counted::{Counted, OneThread};
pub use counting::Counting;
pub use debugging::Debugging;
pub use dyn_alloc::{Concurrent, DynAlloc, ParentFull, Reach, Sequential};
pub use elastic::{Elastic, Exhausted, NoFallback, Policy, Relief};
pub use extent::{Backing, Borrowed, Extent};
pub use fallback::Fallback;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub use fifo::Fifo;
pub use fixed_block::FixedBlock;
pub use fixup::{FixupError, GRANULE, Table, fixup, table};
pub use form::{Corruption, Form};
pub use from_global::{ByRef, FromGlobal};
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub use lazy::Lazy;
#[cfg(feature = "critical-section")]
pub use lock::CriticalSection;
#[cfg(target_has_atomic = "8")]
pub use lock::SpinLock;
pub use lock::{Lock, NoLock};
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub use lock_free::LockFree;
pub use locked::Locked;
pub use mem_req::MemReq;
pub use mistake::{CheckedBlock, Mistake, Poison, panic_on_mistake};
pub use no_room::NoRoom;
pub use optimise::{Demand, OptimiseError, Plan, optimise, optimise_by, optimise_scratch};
pub use ordered::Ordered;
pub use owns::Owns;
pub use pool::Pool;
pub use pool_box::PoolBox;
pub use report::{Report, write_rust, write_toml};
pub use reserve::Reserve;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub use shared::PoolArc;
pub use shared::{PoolRc, Shared, Sharing};
pub use size_classes::{ArenaTooSmall, SizeClasses};
pub use source::Source;
pub use statistics::{Counts, RowCounts, Statistics};
pub use table_arena::TableArena;
pub use unsizing::Unsizing;
