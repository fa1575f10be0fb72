//! Counts what an allocator is asked for.
//!
//! # Invariants
//!
//! 1. The state is touched only in `with`, by sections of this module, which call nothing outside it. So there is one
//!    reference to it at a time: the lock keeps other threads out, and nothing can come back on the same one.
//! 2. The inner allocator and the user's writer never run in a section.

use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::report::sealed::Records;
use crate::{Demand, GRANULE, Lock, NoLock, Report};

/// Sizes up to so many granules have a row for each granule.
const EXACT: usize = 256;
/// Of larger sizes each doubling has so many rows.
const STEPS: usize = 8;
/// Enough for eight doublings past the exact rows: 1 MiB on a 64-bit machine, 512 KiB on a 32-bit one.
const DEFAULT_ROWS: usize = EXACT + 8 * STEPS;

/// Any allocator, and counts of what it is asked for, by size and in all: the first step from a program to its
/// [`Table`](crate::Table).
///
/// Run the program once with it, then give [`profile`](Statistics::profile) to [`optimise`](crate::optimise), which finds the
/// best size classes for it.
///
/// # What it wraps
///
/// Any `A` for which `&A` is an [`Allocator`]. That is the pool itself, `Statistics<SizeClasses<..>>`, which then lives in the
/// wrapper; and, because a reference to a handle is an allocator too, any handle: `Statistics<&SizeClasses<..>>`, or one that
/// is a value, such as the global allocator's. By value, wrappers stack into one object that can be moved until it is used;
/// by handle, one can be put around an allocator that already exists, and in a `static` beside a `static` one, as
/// [`over`](Statistics::over) is `const`. The wrapper is used as all others are, by reference: `&Statistics<..>` is the
/// [`AllocRef`](crate::AllocRef).
///
/// # What is counted
///
/// Each request for at least a byte, in the row of its size. A row holds the sizes of one granule, up to 256 granules; beyond
/// that there are eight rows for each doubling; the last of the `ROWS` rows takes all larger sizes, too. A row tells the
/// largest request that was served from it. A request that is aligned to more than [`GRANULE`] counts in the row of its size
/// rounded up to the alignment, since no smaller class can serve it.
///
/// A block that grows or shrinks counts as a request for the new size and a release of the old one. Where it moves, both
/// blocks are live for a moment, and the peaks say so.
///
/// A block has exactly the length asked for; what the inner allocator's block has over is counted as wasted and hidden. So
/// a container cannot fit itself to the blocks that there happen to be, and the profile is that of the program alone.
///
/// Nothing wraps round: counts stop at the greatest number and at 0, whatever is released.
///
/// # Cost
///
/// A row is found in O(1), and each operation is a short section under the lock `L`, in which neither the inner allocator nor
/// anybody's writer runs. `Statistics` is 10 words for each row on a 64-bit machine: 25 KiB with the default of 320 rows.
/// Where that is too much, take fewer rows, or [`Counting`](crate::Counting), which has none.
///
/// With a lock that is [`Sync`] the counts can be read, and the allocator used if the inner one can, from several threads. An
/// operation is then counted at its end, or if it is a release, at its beginning; so a peak can be off by one for each other
/// thread that was amid an operation.
///
/// # Examples
///
/// ```
/// use allocator_api2::{alloc::Global, boxed::Box, vec::Vec};
/// use fibra_allocators::{GRANULE, MemReq, Statistics, optimise, optimise_scratch};
///
/// let stats = Statistics::new(Global);
/// {
///     let _points: Vec<_, _> = (0..10_u8).map(|n| Box::new_in([n; 24], &stats)).collect();
///     let _line = Vec::<u8, _>::with_capacity_in(200, &stats);
///     assert_eq!((stats.counts().live, stats.counts().live_bytes), (11, 10 * 24 + 200));
/// }
/// print!("{}", stats.report());
///
/// let mut scratch = [0; optimise_scratch(320, 4)];
/// let plan = optimise(stats.profile(), 4, &mut scratch)?;
/// let rows: Vec<_> = plan.rows(2).collect();
/// # if GRANULE == 16 {
/// assert_eq!(rows[..], [MemReq::new(32, 10), MemReq::new(208, 1)]);
/// # }
/// # Ok::<(), fibra_allocators::OptimiseError>(())
/// ```
pub struct Statistics<A, L: Lock = NoLock, const ROWS: usize = DEFAULT_ROWS> {
    lock: L,
    state: UnsafeCell<State<ROWS>>,
    inner: A,
}

/// What was asked of an allocator: in all, or for the sizes of one row.
///
/// # Examples
///
/// ```
/// use allocator_api2::{alloc::Global, boxed::Box};
/// use fibra_allocators::Counting;
///
/// let counting = Counting::new(Global);
/// drop(Box::new_in([0_u8; 100], &counting));
/// let counts = counting.counts();
/// assert_eq!((counts.live, counts.peak, counts.total), (0, 1, 1));
/// assert_eq!((counts.live_bytes, counts.peak_bytes, counts.total_bytes), (0, 100, 100));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// How many blocks are live.
    pub live: usize,
    /// The greatest number of blocks that were live at once.
    pub peak: usize,
    /// How many requests were served.
    pub total: u64,
    /// How many requests were refused.
    pub failed: u64,
    /// The bytes asked for with the blocks that are live.
    pub live_bytes: usize,
    /// The greatest number of bytes that were live at once.
    pub peak_bytes: usize,
    /// The bytes asked for with all requests that were served.
    pub total_bytes: u64,
    /// The bytes that the inner allocator's blocks had over what was asked for, with all requests that were served.
    pub wasted_bytes: u64,
}

impl Counts {
    const NONE: Counts =
        Counts { live: 0, peak: 0, total: 0, failed: 0, live_bytes: 0, peak_bytes: 0, total_bytes: 0, wasted_bytes: 0 };

    fn admit(&mut self, size: usize, len: usize) {
        self.live = self.live.saturating_add(1);
        self.peak = self.peak.max(self.live);
        self.total = self.total.saturating_add(1);
        self.live_bytes = self.live_bytes.saturating_add(size);
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
        self.total_bytes = self.total_bytes.saturating_add(size as u64);
        self.wasted_bytes = self.wasted_bytes.saturating_add(len.saturating_sub(size) as u64);
    }

    fn dismiss(&mut self, size: usize) {
        self.live = self.live.saturating_sub(1);
        self.live_bytes = self.live_bytes.saturating_sub(size);
    }

    fn refuse(&mut self) {
        self.failed = self.failed.saturating_add(1);
    }

    fn numbers(&self) -> [Option<u64>; 8] {
        let Counts { live, peak, total, failed, live_bytes, peak_bytes, total_bytes, wasted_bytes } = *self;
        [live as u64, peak as u64, total, failed, live_bytes as u64, peak_bytes as u64, total_bytes, wasted_bytes]
            .map(Some)
    }
}

/// What was asked of an allocator for one row of sizes: see [`Statistics::rows`].
///
/// # Examples
///
/// ```
/// use allocator_api2::{alloc::Global, boxed::Box};
/// use fibra_allocators::{RowCounts, Statistics};
///
/// let stats = Statistics::new(Global);
/// let _eight = Box::new_in([0_u64; 8], &stats);
/// let rows: Vec<RowCounts> = stats.rows().collect();
/// assert_eq!((rows[0].size, rows[0].align, rows[0].counts.live), (64, align_of::<u64>(), 1));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RowCounts {
    /// The largest request of the row that was served, or was refused if all were, in bytes; rounded up to its alignment if
    /// that is more than [`GRANULE`].
    pub size: usize,
    /// The greatest alignment of those requests, in bytes.
    pub align: usize,
    /// The counts.
    pub counts: Counts,
}

impl RowCounts {
    const NONE: RowCounts = RowCounts { size: 0, align: 1, counts: Counts::NONE };

    fn see(&mut self, size: usize, align: usize) {
        self.size = self.size.max(size);
        self.align = self.align.max(align);
    }

    fn admit(&mut self, size: usize, layout: Layout, len: usize) {
        if self.counts.total == 0 {
            // What was refused before counts no more.
            (self.size, self.align) = (0, 1);
        }
        self.see(size, layout.align());
        self.counts.admit(layout.size(), len);
    }

    fn refuse(&mut self, size: usize, layout: Layout) {
        if self.counts.total == 0 {
            self.see(size, layout.align());
        }
        self.counts.refuse();
    }
}

struct State<const ROWS: usize> {
    all: Counts,
    rows: [RowCounts; ROWS],
}

impl<const ROWS: usize> State<ROWS> {
    /// The row of a request, if there is any row at all, and the size that counts there.
    fn row(&mut self, layout: Layout) -> Option<(&mut RowCounts, usize)> {
        let size = if layout.align() > GRANULE { layout.pad_to_align().size() } else { layout.size() };
        let row = row_of(size).min(ROWS.saturating_sub(1));
        Some((self.rows.get_mut(row)?, size))
    }

    fn admit(&mut self, layout: Layout, len: usize) {
        if layout.size() == 0 {
            return;
        }
        self.all.admit(layout.size(), len);
        if let Some((row, size)) = self.row(layout) {
            row.admit(size, layout, len);
        }
    }

    fn dismiss(&mut self, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        self.all.dismiss(layout.size());
        if let Some((row, _)) = self.row(layout) {
            row.counts.dismiss(layout.size());
        }
    }

    fn refuse(&mut self, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        self.all.refuse();
        if let Some((row, size)) = self.row(layout) {
            row.refuse(size, layout);
        }
    }
}

/// The row of a size of at least 1, if there were rows without end.
const fn row_of(size: usize) -> usize {
    let granule = (size - 1) / GRANULE;
    if granule < EXACT {
        return granule;
    }
    let doubling = granule.ilog2();
    let step = (granule >> (doubling - STEPS.ilog2())) % STEPS;
    EXACT + (doubling - EXACT.ilog2()) as usize * STEPS + step
}

impl<A> Statistics<A> {
    /// Counts what `inner` is asked for; on one thread, with the default number of rows.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{MemReq, SizeClasses, Statistics, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory)?;
    /// let by_handle = Statistics::new(&system);
    /// drop(Box::new_in([0_u8; 50], &by_handle));
    /// assert_eq!(by_handle.counts().wasted_bytes, 14);
    ///
    /// let by_value = Statistics::new(system);
    /// assert!(Box::try_new_in([0_u8; 65], &by_value).is_err());
    /// assert_eq!(by_value.counts().failed, 1);
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    #[must_use]
    pub const fn new(inner: A) -> Self {
        Self::over(inner)
    }
}

impl<A, L: Lock, const ROWS: usize> Statistics<A, L, ROWS> {
    /// Counts what `inner` is asked for, with the lock and the number of rows that the type says.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::{NoLock, SpinLock, Statistics};
    ///
    /// static SHARED: Statistics<Global, SpinLock> = Statistics::over(Global);
    /// std::thread::spawn(|| drop(Box::new_in(7, &SHARED))).join().unwrap();
    /// assert_eq!(SHARED.counts().total, 1);
    ///
    /// let small = Statistics::<_, NoLock, 16>::over(Global);
    /// assert!(size_of_val(&small) <= 18 * 80);
    /// ```
    #[must_use]
    pub const fn over(inner: A) -> Self {
        let state = State { all: Counts::NONE, rows: [RowCounts::NONE; ROWS] };
        Statistics { lock: L::NEW, state: UnsafeCell::new(state), inner }
    }

    /// The allocator inside. What is asked of it directly is not counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{Bump, Statistics};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let stats = Statistics::new(Bump::new(&mut memory));
    /// assert_eq!(stats.inner().capacity(), 64);
    /// ```
    #[must_use]
    pub const fn inner(&self) -> &A {
        &self.inner
    }

    /// The counts in all. O(1).
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, vec::Vec};
    /// use fibra_allocators::Statistics;
    ///
    /// let stats = Statistics::new(Global);
    /// let mut bytes = Vec::<u8, _>::with_capacity_in(100, &stats);
    /// bytes.reserve_exact(200);
    /// let counts = stats.counts();
    /// assert_eq!((counts.live, counts.total, counts.live_bytes, counts.total_bytes), (1, 2, 200, 300));
    /// ```
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.with(|state| state.all)
    }

    /// The counts of each row that was ever asked for anything, smallest sizes first.
    ///
    /// O(rows). Each row is as it is when the iterator comes to it.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::Statistics;
    ///
    /// let stats = Statistics::new(Global);
    /// let _small = (Box::new_in([0_u8; 1], &stats), Box::new_in([0_u8; 3], &stats));
    /// let _large = Box::new_in([0_u8; 5000], &stats);
    /// let rows: Vec<_> = stats.rows().map(|row| (row.size, row.counts.live)).collect();
    /// assert_eq!(rows, [(3, 2), (5000, 1)]);
    /// ```
    pub fn rows(&self) -> impl Iterator<Item = RowCounts> + '_ {
        let asked = |row: &RowCounts| row.counts.total != 0 || row.counts.failed != 0;
        (0..ROWS).filter_map(move |row| self.with(|state| state.rows.get(row).copied()).filter(asked))
    }

    /// What the program needs: of each row its largest size, its alignment, and how many blocks were live at once at most. For
    /// [`optimise`](crate::optimise).
    ///
    /// A table made from all of it, without merging, serves the same run again. (If there are sizes past the last row,
    /// they are all taken for the largest.)
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::{Demand, Statistics};
    ///
    /// let stats = Statistics::new(Global);
    /// drop((Box::new_in([0_u8; 40], &stats), Box::new_in([0_u8; 41], &stats)));
    /// assert_eq!(stats.profile().next(), Some(Demand { size: 41, align: 1, peak: 2 }));
    /// ```
    pub fn profile(&self) -> impl Iterator<Item = Demand> + '_ {
        let demand = |RowCounts { size, align, counts }| Demand { size, align, peak: counts.peak };
        self.rows().map(demand).filter(|demand| demand.peak != 0)
    }

    /// The counts of each row and in all, to be written as a table, as CSV or as JSON.
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::{alloc::Global, boxed::Box};
    /// use fibra_allocators::Statistics;
    ///
    /// let stats = Statistics::new(Global);
    /// drop(Box::new_in([0_u8; 40], &stats));
    ///
    /// let mut csv = String::new();
    /// stats.report().write_csv(&mut csv)?;
    /// assert_eq!(csv, "\
    /// size,align,live,peak,total,failed,live_bytes,peak_bytes,total_bytes,wasted_bytes
    /// 40,1,0,1,1,0,0,40,40,0
    /// all,,0,1,1,0,0,40,40,0
    /// ");
    /// # Ok::<(), core::fmt::Error>(())
    /// ```
    pub fn report(&self) -> Report<'_, Self> {
        Report(self)
    }

    fn with<R>(&self, section: impl FnOnce(&mut State<ROWS>) -> R) -> R {
        self.lock.with(|| {
            // SAFETY: invariant 1.
            section(unsafe { &mut *self.state.get() })
        })
    }

    /// Counts the answer to a request, and cuts the block to the length that was asked for.
    fn answer(&self, layout: Layout, block: Result<NonNull<[u8]>, AllocError>) -> Result<NonNull<[u8]>, AllocError> {
        self.with(|state| match block {
            Ok(block) => state.admit(layout, block.len()),
            Err(AllocError) => state.refuse(layout),
        });
        Ok(cut(block?, layout))
    }

    /// Counts the answer to a change of size, in the same way.
    fn change(
        &self,
        was: NonNull<u8>,
        old: Layout,
        new: Layout,
        block: Result<NonNull<[u8]>, AllocError>,
    ) -> Result<NonNull<[u8]>, AllocError> {
        self.with(|state| match block {
            Ok(block) if block.cast() == was => {
                state.dismiss(old);
                state.admit(new, block.len());
            }
            // There were two blocks before the old one went.
            Ok(block) => {
                state.admit(new, block.len());
                state.dismiss(old);
            }
            Err(AllocError) => state.refuse(new),
        });
        Ok(cut(block?, new))
    }
}

/// The release of a block names its size, which is thereby the one that was asked for.
fn cut(block: NonNull<[u8]>, layout: Layout) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(block.cast(), layout.size())
}

// SAFETY: the blocks are those of `inner`, at least as long as asked for, and are given no longer than that; which a layout
// that fits ours also fits. `inner` cannot be moved or dropped as long as a handle, which borrows it, exists, and nobody gets
// more than a shared reference to it. Clones of the handle are the same reference.
unsafe impl<A, L: Lock, const ROWS: usize> Allocator for &Statistics<A, L, ROWS>
where
    for<'x> &'x A: Allocator,
{
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.answer(layout, Allocator::allocate(&&self.inner, layout))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.answer(layout, Allocator::allocate_zeroed(&&self.inner, layout))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // Before the block can be given out again, so that it does not count twice.
        self.with(|state| state.dismiss(layout));
        // SAFETY: passed on to our caller.
        unsafe { Allocator::deallocate(&&self.inner, block, layout) }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.change(block, old, new, unsafe { Allocator::grow(&&self.inner, block, old, new) })
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.change(block, old, new, unsafe { Allocator::grow_zeroed(&&self.inner, block, old, new) })
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        self.change(block, old, new, unsafe { Allocator::shrink(&&self.inner, block, old, new) })
    }
}

// SAFETY: the state is touched under the lock only, which such a lock lets one thread at a time do (invariant 1).
unsafe impl<A: Sync, L: Lock + Sync, const ROWS: usize> Sync for Statistics<A, L, ROWS> {}

impl<A, L: Lock, const ROWS: usize> Records for Statistics<A, L, ROWS> {
    type Number = u64;
    type Record = [Option<u64>; 10];
    const COLUMNS: &'static [&'static str] = &[
        "size",
        "align",
        "live",
        "peak",
        "total",
        "failed",
        "live_bytes",
        "peak_bytes",
        "total_bytes",
        "wasted_bytes",
    ];

    fn records(&self) -> impl Iterator<Item = Self::Record> {
        self.rows().map(|row| record(Some(row.size as u64), Some(row.align as u64), &row.counts))
    }

    fn all(&self) -> Self::Record {
        record(None, None, &self.counts())
    }
}

fn record(size: Option<u64>, align: Option<u64>, counts: &Counts) -> [Option<u64>; 10] {
    let [a, b, c, d, e, f, g, h] = counts.numbers();
    [size, align, a, b, c, d, e, f, g, h]
}

impl<A, L: Lock, const ROWS: usize> fmt::Debug for Statistics<A, L, ROWS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Statistics").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
