//! The pools that a whole program runs on: size classes in a static arena, shared by all threads.

use core::ptr::NonNull;

use fibra_allocators::{
    AllocError, Allocator, Arena, Borrowed, ClassStats, Layout, Lock, MemReq, Owns, SizeClasses, SpinLock, Table, table,
};

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

/// Size classes for all threads.
pub type Pools = Locked<SizeClasses<CLASSES, Borrowed<'static>>>;

/// The pools, for the first who asks.
pub fn make() -> Option<Pools> {
    Some(Locked { lock: SpinLock::NEW, inner: SizeClasses::new(&SIZES, MEMORY.take()?).ok()? })
}

/// An allocator behind one spin lock.
pub struct Locked<S> {
    lock: SpinLock,
    inner: S,
}

// SAFETY: the inner allocator is used inside the lock only, by one thread at a time.
unsafe impl<S: Send> Sync for Locked<S> {}

impl Pools {
    /// The counts of each class, smallest block first.
    pub fn classes(&self) -> impl Iterator<Item = ClassStats> + '_ {
        // Copied, since whoever looks at them may allocate, which must not happen inside the lock.
        let mut copies = [None; CLASSES];
        self.lock.with(|| copies.iter_mut().zip(self.inner.classes()).for_each(|(copy, class)| *copy = Some(class)));
        copies.into_iter().flatten()
    }
}

// SAFETY: it is the inner allocator.
unsafe impl<S> Allocator for &Locked<S>
where
    for<'x> &'x S: Allocator,
{
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.lock.with(|| (&self.inner).allocate(layout))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { (&self.inner).deallocate(block, layout) })
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { (&self.inner).grow(block, old, new) })
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.lock.with(|| unsafe { (&self.inner).shrink(block, old, new) })
    }
}

// SAFETY: it is the inner allocator, which looks only at its arena's place to answer.
unsafe impl<S: Owns> Owns for Locked<S> {
    fn owns(&self, block: NonNull<u8>) -> bool {
        self.inner.owns(block)
    }
}
