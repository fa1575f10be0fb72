use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::{Lock, Source};

/// Any allocator behind a lock: makes one that serves a single thread serve several.
///
/// It owns the allocator, `Locked<Bump<..>, SpinLock>`, so that nobody gets past the lock. The allocator that things are
/// allocated with is the reference, `&Locked<..>`.
///
/// Each operation costs what it costs inside, and one turn of the lock. An allocator that is made for several threads, such as
/// [`SizeClasses`](crate::SizeClasses) with a lock of its own for each class, keeps its threads waiting less.
///
/// # Blocking
///
/// Each operation, until no other is inside. Who enters again from within (an allocator inside that allocates here) waits for
/// itself for ever, if the lock is one that spins.
///
/// # Panics
///
/// Where the allocator inside does. The lock is free again then.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::vec::Vec;
/// use fibra_allocators::{Bump, Locked, SpinLock};
///
/// let mut memory = [MaybeUninit::uninit(); 4096];
/// let bump = Locked::<_, SpinLock>::new(Bump::new(&mut memory));
/// std::thread::scope(|scope| {
///     for thread in 0..4 {
///         let bump = &bump;
///         scope.spawn(move || {
///             let mut numbers = Vec::new_in(bump);
///             numbers.extend([thread; 10]);
///             assert_eq!(numbers.iter().sum::<i32>(), 10 * thread);
///         });
///     }
/// });
/// ```
///
/// What would keep a pointer to something single-threaded outside cannot be shared:
///
/// ```compile_fail,E0277
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, Locked, SpinLock};
///
/// let mut memory = [MaybeUninit::uninit(); 4096];
/// let bump = Bump::new(&mut memory);
/// let locked = Locked::<_, SpinLock>::new(&bump); // and `bump` is still there to be used by this thread
/// std::thread::scope(|scope| {
///     scope.spawn(|| drop(&locked));
/// });
/// ```
pub struct Locked<A, L: Lock> {
    lock: L,
    allocator: A,
}

impl<A, L: Lock> Locked<A, L> {
    /// Puts an allocator behind a lock.
    ///
    /// For an example see [`Locked`].
    #[must_use]
    pub const fn new(allocator: A) -> Self {
        Locked { lock: L::NEW, allocator }
    }

    /// Lets one look at the allocator, inside the lock: for its counts, say.
    ///
    /// # Blocking
    ///
    /// Until nobody else is inside, and everybody else until `look` returns. To allocate through the same `Locked` in there is
    /// to wait for oneself.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Locked, SpinLock};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Locked::<_, SpinLock>::new(Bump::new(&mut memory));
    /// let _word = Box::new_in(0_u64, &bump);
    /// assert_eq!(bump.with(|bump| bump.used()), 8);
    /// ```
    pub fn with<R>(&self, look: impl FnOnce(&A) -> R) -> R {
        self.lock.with(|| look(&self.allocator))
    }

    /// The allocator, without the lock, since nobody else has a handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Locked, SpinLock};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let mut bump = Locked::<_, SpinLock>::new(Bump::new(&mut memory));
    /// drop(Box::new_in(0_u64, &bump));
    /// bump.get_mut().reset();
    /// assert_eq!(bump.get_mut().used(), 0);
    /// ```
    pub const fn get_mut(&mut self) -> &mut A {
        &mut self.allocator
    }

    /// Takes the allocator out again.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{Bump, Locked, SpinLock};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Locked::<_, SpinLock>::new(Bump::new(&mut memory)).into_inner();
    /// assert_eq!(bump.capacity(), 64);
    /// ```
    #[must_use]
    pub fn into_inner(self) -> A {
        self.allocator
    }
}

// SAFETY: shared, it gives access to the allocator inside the lock only, so to one thread at a time, and nobody can keep a
// reference to the allocator beyond that; what serves one thread, and may change threads, may serve them in turn. Blocks may
// be released on another thread than they came from, as the allocator might have moved there in between.
unsafe impl<A: Send, L: Lock + Sync> Sync for Locked<A, L> {}

// SAFETY: every operation is that of the allocator inside, which keeps the contract for its reference, and stays in place as
// long as a handle of ours exists. Clones of the handle are the same reference.
unsafe impl<A: Source, L: Lock> Allocator for &Locked<A, L> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.with(|inner| inner.handle().allocate(layout))
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.with(|inner| inner.handle().allocate_zeroed(layout))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to our caller.
        self.with(|inner| unsafe { inner.handle().deallocate(block, layout) });
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.with(|inner| unsafe { inner.handle().grow(block, old, new) })
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.with(|inner| unsafe { inner.handle().grow_zeroed(block, old, new) })
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.with(|inner| unsafe { inner.handle().shrink(block, old, new) })
    }
}

impl<A, L: Lock> fmt::Debug for Locked<A, L> {
    /// Says nothing of what is inside, since that would be written inside the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").finish_non_exhaustive()
    }
}
