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
//! | [`FixedBlock`] | of one size | is reused last in, first out | O(1) |
//! | [`SizeClasses`] | of the sizes of a [`Table`] | is reused within its class, last in, first out | O(1) up to 256 granules |
//!
//! Each takes its memory from the caller (`new`) or from another allocator (`in_parent`), to which everything returns when
//! it is dropped. So a process can have its own extent of the system's memory.
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
//!
//! # Features
//!
//! - `critical-section`: [`Arena::take`] on chips without compare-and-swap, inside the critical section that the application
//!   supplies.

#![no_std]
#![warn(missing_debug_implementations)]

#[cfg(fibra_loom)]
extern crate std;

mod alloc_ref;
mod arena;
mod block_list;
mod bump;
mod checking;
mod class_stats;
mod debugging;
mod extent;
mod finally;
mod fixed_block;
mod fixup;
mod lock;
mod locked;
mod mem_req;
mod mistake;
mod records;
mod request;
mod size_classes;

pub use allocator_api2::alloc::{AllocError, Allocator, Layout};

pub use alloc_ref::AllocRef;
pub use arena::Arena;
pub use bump::Bump;
pub use checking::{Checking, checking_arena_size};
pub use class_stats::ClassStats;
pub use debugging::Debugging;
pub use extent::{Backing, Borrowed, Extent};
pub use fixed_block::FixedBlock;
pub use fixup::{FixupError, GRANULE, Table, fixup, table};
#[cfg(feature = "critical-section")]
pub use lock::CriticalSection;
pub use lock::{CacheLine, Lock, NoLock};
pub use locked::Locked;
pub use mem_req::MemReq;
pub use mistake::{CheckedBlock, Mistake, Poison, panic_on_mistake};
pub use size_classes::{ArenaTooSmall, SizeClasses};

portable_atomic::cfg_has_atomic_cas! {
    pub use lock::SpinLock;
}
