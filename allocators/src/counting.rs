use core::fmt;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::report::sealed::Records;
use crate::{Counts, Lock, NoLock, Report, Statistics};

/// Any allocator, and counts of what it is asked for, in all: [`Statistics`] without the rows, in 8 words.
///
/// It wraps what that wraps, counts as that does, and is used as that is: `&Counting<..>` is the
/// [`AllocRef`](crate::AllocRef).
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Bump, Counting};
///
/// let mut memory = [MaybeUninit::uninit(); 100];
/// let counting = Counting::new(Bump::new(&mut memory));
/// drop((Box::new_in([1_u8; 60], &counting), Box::try_new_in([2_u8; 60], &counting)));
/// let counts = counting.counts();
/// assert_eq!((counts.live, counts.peak, counts.total, counts.failed, counts.total_bytes), (0, 1, 1, 1, 60));
/// ```
pub struct Counting<A, L: Lock = NoLock>(Statistics<A, L, 0>);

impl<A> Counting<A> {
    /// Counts what `inner` is asked for, on one thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::Counting;
    ///
    /// let counting = Counting::new(Global);
    /// let seven = Box::new_in(7_u32, &counting);
    /// assert_eq!((*seven, counting.counts().live_bytes), (7, 4));
    /// ```
    #[must_use]
    pub const fn new(inner: A) -> Self {
        Self::over(inner)
    }
}

impl<A, L: Lock> Counting<A, L> {
    /// Counts what `inner` is asked for, with the lock that the type says.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::{Counting, SpinLock};
    ///
    /// static SHARED: Counting<Global, SpinLock> = Counting::over(Global);
    /// std::thread::spawn(|| drop(Box::new_in(7, &SHARED))).join().unwrap();
    /// assert_eq!(SHARED.counts().total, 1);
    /// ```
    #[must_use]
    pub const fn over(inner: A) -> Self {
        Counting(Statistics::over(inner))
    }

    /// The allocator inside. What is asked of it directly is not counted.
    ///
    /// For an example see [`Statistics::inner`].
    #[must_use]
    pub const fn inner(&self) -> &A {
        self.0.inner()
    }

    /// The counts. O(1).
    ///
    /// For an example see [`Counting`].
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// The counts, to be written as a table, as CSV or as JSON; with the columns that [`Statistics`] has.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::alloc::Global;
    /// use fibra_allocators::Counting;
    ///
    /// let mut json = String::new();
    /// Counting::new(Global).report().write_json(&mut json)?;
    /// assert!(json.starts_with(r#"{"rows":[],"all":{"live":0,"#));
    /// # Ok::<(), core::fmt::Error>(())
    /// ```
    pub fn report(&self) -> Report<'_, Self> {
        Report(self)
    }
}

// SAFETY: every operation is that of the `Statistics` inside, which is borrowed, and so stays, as long as we are.
unsafe impl<A, L: Lock> Allocator for &Counting<A, L>
where
    for<'x> &'x A: Allocator,
{
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Allocator::allocate(&&self.0, layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Allocator::allocate_zeroed(&&self.0, layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to our caller.
        unsafe { Allocator::deallocate(&&self.0, block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { Allocator::grow(&&self.0, block, old, new) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { Allocator::grow_zeroed(&&self.0, block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { Allocator::shrink(&&self.0, block, old, new) }
    }
}

impl<A, L: Lock> Records for Counting<A, L> {
    type Number = u64;
    type Record = <Statistics<A, L, 0> as Records>::Record;
    const COLUMNS: &'static [&'static str] = <Statistics<A, L, 0> as Records>::COLUMNS;

    fn records(&self) -> impl Iterator<Item = Self::Record> {
        self.0.records()
    }

    fn all(&self) -> Self::Record {
        self.0.all()
    }
}

impl<A, L: Lock> fmt::Debug for Counting<A, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
