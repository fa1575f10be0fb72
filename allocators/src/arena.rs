use core::cell::UnsafeCell;
use core::mem::MaybeUninit;

use portable_atomic::AtomicBool;

/// `BYTES` bytes of static memory, to be taken once: where a program without a heap keeps its allocator's blocks.
///
/// The memory is uninitialised, so that it lands in `.bss` and costs no flash, and aligned to [`Arena::ALIGN`] bytes,
/// which is what [`Table::arena_size`](crate::Table::arena_size) counts on.
///
/// On a chip without compare-and-swap (thumbv6m) [`take`](Arena::take) exists only with the feature `critical-section`,
/// because claiming a flag with a load and a store would let an interrupt take the arena a second time.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Arena, MemReq, SizeClasses, Table, table};
///
/// const SIZES: Table<2> = table([MemReq::new(64, 10), MemReq::new(256, 4)]);
/// static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
///
/// let memory = MEMORY.take().expect("nobody took it before");
/// let system = SizeClasses::new(&SIZES, memory).expect("the size was computed from the same table");
/// assert!(MEMORY.take().is_none());
/// # let _ = system;
/// ```
#[repr(C, align(16))]
pub struct Arena<const BYTES: usize> {
    memory: UnsafeCell<[MaybeUninit<u8>; BYTES]>,
    taken: AtomicBool,
}

// SAFETY: the only access to `memory` is the exclusive reference that `take` gives out, once; `taken` is atomic.
unsafe impl<const BYTES: usize> Sync for Arena<BYTES> {}

impl<const BYTES: usize> Arena<BYTES> {
    /// The alignment of the memory, in bytes: 16.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::Arena;
    ///
    /// static MEMORY: Arena<1024> = Arena::new();
    /// assert!(MEMORY.take().is_some_and(|memory| memory.as_ptr().addr().is_multiple_of(Arena::<1024>::ALIGN)));
    /// ```
    pub const ALIGN: usize = align_of::<Self>();

    /// An arena that nobody has taken yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::Arena;
    ///
    /// static MEMORY: Arena<1024> = Arena::new();
    /// assert_eq!(MEMORY.take().map(|memory| memory.len()), Some(1024));
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Arena { memory: UnsafeCell::new([MaybeUninit::uninit(); BYTES]), taken: AtomicBool::new(false) }
    }

    /// The size of the memory, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::Arena;
    ///
    /// static MEMORY: Arena<1024> = Arena::new();
    /// assert_eq!(MEMORY.size(), 1024);
    /// ```
    #[must_use]
    pub const fn size(&self) -> usize {
        BYTES
    }
}

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
impl<const BYTES: usize> Arena<BYTES> {
    /// The memory, for the first caller; `None` for every later one, on whatever thread or in whatever interrupt.
    ///
    /// One atomic swap.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{Arena, Bump};
    ///
    /// static MEMORY: Arena<4096> = Arena::new();
    /// let bump = Bump::new(MEMORY.take().expect("taken only here"));
    /// assert_eq!(bump.capacity(), 4096);
    /// assert!(MEMORY.take().is_none());
    /// ```
    #[must_use = "an arena can be taken once only"]
    #[allow(clippy::mut_from_ref)] // the flag makes it exclusive
    pub fn take(&'static self) -> Option<&'static mut [MaybeUninit<u8>]> {
        // Relaxed: the flag publishes nothing, it only picks a winner.
        if self.taken.swap(true, core::sync::atomic::Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the flag was clear and is set now, never to be cleared, so this line is reached once in the
        // life of the arena: no other reference exists or ever will. The arena is `'static`.
        Some(unsafe { &mut *self.memory.get() })
    }
}

impl<const BYTES: usize> Default for Arena<BYTES> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BYTES: usize> core::fmt::Debug for Arena<BYTES> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let taken = self.taken.load(core::sync::atomic::Ordering::Relaxed);
        f.debug_struct("Arena").field("bytes", &BYTES).field("taken", &taken).finish()
    }
}
