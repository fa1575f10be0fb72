//! The pools that a whole program runs on: size classes in a static arena, shared by all threads.

use fibra_allocators::{Arena, Borrowed, MemReq, SizeClasses, SpinLock, Table, table};

const CLASSES: usize = 12;

/// For three hundred documents at once. What a program needs shows in the table that it prints: here many short texts, and
/// the nodes of maps, which have 640 bytes.
const SIZES: Table<CLASSES> = table([
    MemReq::new(16, 40_000),
    MemReq::new(32, 2_000),
    MemReq::new(64, 1_500),
    MemReq::new(128, 4_500),
    MemReq::new(256, 500),
    MemReq::new(512, 400),
    MemReq::new(640, 7_000),
    MemReq::new(1024, 1_500),
    MemReq::new(4096, 8),
    MemReq::new(8192, 4),
    MemReq::new(16384, 4),
    MemReq::new(32768, 4),
]);

static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();

/// Size classes for all threads, with a lock for each class.
pub type Pools = SizeClasses<CLASSES, Borrowed<'static>, SpinLock>;

/// The pools, for the first who asks.
pub fn make() -> Option<Pools> {
    SizeClasses::with_form(&SIZES, MEMORY.take()?).ok()
}
