use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use allocator_api2::alloc::{AllocError, Allocator, Layout};
use portable_atomic::AtomicU8;

use crate::request::dangling;
use crate::{Owns, Source};

/// An allocator that is made when it is first needed: for statics, whose allocator cannot be made at compile time.
///
/// The first request makes it, by calling a function. Until that returns all requests are refused, and never kept waiting:
/// those that the function makes itself as well as those of other threads and of interrupts. So this is usually the first
/// part of a [`Fallback`](crate::Fallback), which has an answer for them. Without one, call [`get`](Lazy::get) before there
/// are other threads. If the function returns `None`, requests are refused for good.
///
/// The allocator that things are allocated with is the reference, `&Lazy<S>`; it may be shared if `S` may. Not on chips
/// without compare-and-swap, unless with the feature `critical-section`.
///
/// ```text
///           first request             Some
///   (Unmade) -----------> (Making) ----------> (Made)
///      ^                   |    |      None
///      '---- panic --------'    '------------> (Refused)
/// ```
///
/// # Cost
///
/// One load and one comparison for each allocation, and nothing for a release.
///
/// # Errors
///
/// [`AllocError`] as long as there is no allocator. A request for no bytes succeeds, and makes nothing.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use std::sync::Mutex;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Arena, Borrowed, Bump, Lazy};
///
/// static MEMORY: Arena<4096> = Arena::new();
///
/// let lazy = Lazy::new(|| Some(Bump::new(MEMORY.take()?)));
/// assert_eq!(*Box::new_in(7_u64, &lazy), 7);
/// assert_eq!(lazy.get().map(Bump::used), Some(8));
/// ```
pub struct Lazy<S> {
    state: AtomicU8,
    make: fn() -> Option<S>,
    allocator: UnsafeCell<MaybeUninit<S>>,
}

/// Nobody has made it.
const UNMADE: u8 = 0;
/// Whoever set this makes it, and nobody else looks at it.
const MAKING: u8 = 1;
/// It is there, for everybody to share; for good.
const MADE: u8 = 2;
/// There was none to be made; for good.
const REFUSED: u8 = 3;

// SAFETY: one thread makes the allocator, so it may be dropped on another (`Send`); all share it (`Sync`), once they have
// seen `MADE`, which is set after it was written.
unsafe impl<S: Send + Sync> Sync for Lazy<S> {}

impl<S> Lazy<S> {
    /// An allocator that `make` will make, once. It may use any allocator, even one that this one is a part of.
    ///
    /// For an example see [`Lazy`].
    #[must_use]
    pub const fn new(make: fn() -> Option<S>) -> Self {
        Lazy { state: AtomicU8::new(UNMADE), make, allocator: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The allocator, which is made if nobody has made it yet. `None` while it is being made, and if there is none.
    ///
    /// # Panics
    ///
    /// If the function that makes it does; then the next request calls it again.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{Borrowed, Bump, Lazy};
    ///
    /// let never = Lazy::<Bump<Borrowed<'static>>>::new(|| None);
    /// assert!(never.get().is_none());
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&S> {
        if self.state.load(Ordering::Acquire) == MADE {
            // SAFETY: `MADE` says that it was written, and that it is shared from then on.
            return Some(unsafe { self.made() });
        }
        self.make()
    }

    #[cold]
    #[inline(never)]
    fn make(&self) -> Option<&S> {
        /// Says what became of it, also if that is a panic.
        struct Making<'s>(&'s AtomicU8, u8);
        impl Drop for Making<'_> {
            fn drop(&mut self) {
                self.0.store(self.1, Ordering::Release);
            }
        }
        match self.state.compare_exchange(UNMADE, MAKING, Ordering::Acquire, Ordering::Acquire) {
            Ok(_) => {}
            // Somebody else was quicker.
            // SAFETY: as in `get`.
            Err(MADE) => return Some(unsafe { self.made() }),
            Err(_) => return None,
        }
        let mut making = Making(&self.state, UNMADE);
        let Some(allocator) = (self.make)() else {
            making.1 = REFUSED;
            return None;
        };
        // SAFETY: `MAKING` is ours, so nobody else looks at it.
        unsafe { (*self.allocator.get()).write(allocator) };
        making.1 = MADE;
        drop(making);
        // SAFETY: just written, and shared from here on.
        Some(unsafe { self.made() })
    }

    /// # Safety
    ///
    /// The state was [`MADE`], and the caller knows.
    #[inline]
    unsafe fn made(&self) -> &S {
        // SAFETY: it was written, and is only read until we are dropped.
        unsafe { (*self.allocator.get()).assume_init_ref() }
    }
}

impl<S> Drop for Lazy<S> {
    fn drop(&mut self) {
        if *self.state.get_mut() == MADE {
            // SAFETY: it was written, and leaves once, here.
            unsafe { self.allocator.get_mut().assume_init_drop() }
        }
    }
}

// SAFETY: its blocks are those of the allocator that was made, which stays in place as long as we are borrowed. Whoever has
// a block got it from there, so the allocator was made before. A request for no bytes gets no block, on allocation as on
// release.
unsafe impl<S: Source> Allocator for &Lazy<S> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        self.get().ok_or(AllocError)?.handle().allocate(layout)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        self.get().ok_or(AllocError)?.handle().allocate_zeroed(layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: a block exists; the rest is passed on to our caller.
            unsafe { self.made().handle().deallocate(block, layout) }
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        // SAFETY: a block exists; the rest is passed on to our caller.
        unsafe { self.made().handle().grow(block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate_zeroed(new);
        }
        // SAFETY: a block exists; the rest is passed on to our caller.
        unsafe { self.made().handle().grow_zeroed(block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() == 0 {
            // SAFETY: passed on to our caller.
            unsafe { self.deallocate(block, old) };
            return Ok(dangling(new));
        }
        // SAFETY: a block exists; the rest is passed on to our caller.
        unsafe { self.made().handle().shrink(block, old, new) }
    }
}

// SAFETY: its blocks are those of the allocator, which owns them. What was allocated elsewhere before that was made, it does not
// own, so the answer for such a block is false throughout; except for the one that its memory lies in. That returns only when
// this is gone, since the function that got it can reach nothing but what lives for ever.
unsafe impl<S: Owns> Owns for Lazy<S> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        // SAFETY: as in `get`.
        self.state.load(Ordering::Acquire) == MADE && unsafe { self.made() }.owns(block)
    }
}

impl<S: fmt::Debug> fmt::Debug for Lazy<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Looking must not make it.
        let made = self.state.load(Ordering::Acquire) == MADE;
        // SAFETY: as in `get`.
        let allocator = made.then(|| unsafe { self.made() });
        f.debug_struct("Lazy").field("allocator", &allocator).finish_non_exhaustive()
    }
}
