use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::class_stats::ClassStats;
use crate::extent::{Backing, Borrowed, Extent};
use crate::fixup::{GRANULE, MAX_ALIGN, Table, class_align};
use crate::form::sealed::{self, List};
use crate::form::{Corruption, Form};
use crate::report::sealed::Records;
use crate::request::{dangling, grow_zeroed, rederive, relocate};
use crate::{AllocRef, MemReq, NoLock, Report};

/// Entries of the look-up: one byte each, one for each granule, so 4 KiB on a 64-bit machine and 2 KiB on a 32-bit one,
/// where memory is dear.
const ENTRIES: usize = 256;
/// Requests of at most so many bytes are looked up; for larger ones the large classes are stepped over.
const LOOKED_UP: usize = ENTRIES * GRANULE;

/// The main allocator: size classes from a [`Table`], all in one arena.
///
/// A request is served by the smallest class that holds it. Each class has its own blocks and never lends them to another,
/// so there is no fragmentation: whether a request succeeds depends on how many blocks of its class are live and on nothing
/// that happened before.
///
/// | operation | cost |
/// | --- | --- |
/// | making it | O(classes); touches no page of the arena |
/// | allocation, release, of at most 256 granules (4 KiB on a 64-bit machine) | O(1), however full the classes are |
/// | of more, or aligned to more than [`GRANULE`] | a step over the classes; at most `N` |
/// | live and peak counts | nothing, until one asks |
///
/// Alignment: every block is aligned to the lowest set bit of its size, up to 4096. A request that is aligned to more than
/// [`GRANULE`] goes to the smallest class whose block size is a multiple of that alignment.
///
/// The allocator that things are allocated with is the reference, `&SizeClasses<N, B>`: as long as one of those, or a
/// container with one, exists, the classes cannot be moved or dropped.
///
/// The [`Form`] `F` says who may share it, and in which order blocks are reused. This, the first, serves one thread: it may
/// move to another thread as a whole, a reference to it may not:
///
/// ```compile_fail,E0277
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory).unwrap();
/// let handle = &system;
/// std::thread::scope(|s| {
///     s.spawn(move || drop(handle));
/// });
/// ```
///
/// Nor can it be dropped, or moved, with blocks out:
///
/// ```compile_fail,E0505
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory).unwrap();
/// let seven = Box::new_in(7, &system);
/// drop(system);
/// assert_eq!(*seven, 7);
/// ```
///
/// # Errors
///
/// [`AllocError`], with nothing changed, for a request that is larger than the largest class, that is aligned to more than
/// any class that could hold it (at most 4096), or whose class has no block left. A request for no bytes always succeeds.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{MemReq, SizeClasses, Table, table};
///
/// const SIZES: Table<3> = table([MemReq::new(32, 8), MemReq::new(64, 4), MemReq::new(256, 2)]);
///
/// let mut memory = [MaybeUninit::uninit(); 2048];
/// let system = SizeClasses::new(&SIZES, &mut memory)?;
/// let message = Box::new_in([7_u8; 50], &system);
/// assert_eq!(message[49], 7);
///
/// let of_64 = system.classes().nth(1).unwrap();
/// assert_eq!((of_64.block_size, of_64.reserved, of_64.peak, of_64.live), (64, 4, 1, 1));
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
// `repr(C)`, so that what every allocation reads comes first and together.
#[repr(C)]
pub struct SizeClasses<const N: usize, B: Backing, F: Form = NoLock> {
    /// Ascending. Those past the table's length are empty.
    pub(crate) classes: [<F as sealed::Form>::List; N],
    /// Right behind them, so that there always is a class after the last one of the table: where requests go that have none. It
    /// never has a block.
    none: <F as sealed::Form>::List,
    /// The class of a request of `i * GRANULE + 1 ..= (i + 1) * GRANULE` bytes; the one after the last if there is none.
    lookup: [u8; ENTRIES],
    table: Table<N>,
    pub(crate) backing: B,
}

/// The memory given to [`SizeClasses::new`] does not hold the classes.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 100];
/// let error = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory).unwrap_err();
/// assert!(error.needed >= 640);
/// assert_eq!(error.got, 100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ArenaTooSmall {
    /// Bytes that would do at this address: [`Table::block_bytes`] and the padding up to [`Table::arena_align`].
    pub needed: usize,
    /// Bytes that there are.
    pub got: usize,
}

impl fmt::Display for ArenaTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the size classes need {} bytes and the arena has {}", self.needed, self.got)
    }
}

impl core::error::Error for ArenaTooSmall {}

impl<'m, const N: usize> SizeClasses<N, Borrowed<'m>> {
    /// Size classes in the caller's memory, for instance that of a static [`Arena`](crate::Arena). Touches none of it.
    ///
    /// # Errors
    ///
    /// [`ArenaTooSmall`] if the memory does not hold the classes; [`Table::arena_size`] bytes, aligned to 16, always do.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 2), MemReq::new(256, 1)]), &mut memory)?;
    /// let (_one, _two) = (Box::new_in([1_u8; 50], &system), Box::new_in([2_u8; 64], &system));
    /// assert!(Box::try_new_in([3_u8; 50], &system).is_err(), "a class borrows no block of another");
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn new(table: &Table<N>, memory: &'m mut [MaybeUninit<u8>]) -> Result<Self, ArenaTooSmall> {
        Self::over(table, Borrowed::new(memory))
    }

    /// [`SizeClasses::new`], in another [`Form`].
    ///
    /// # Errors
    ///
    /// [`ArenaTooSmall`] if the memory does not hold the classes; [`Table::arena_size_for`] bytes, aligned to 16, always do.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{MemReq, SizeClasses, SpinLock, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(64, 10)]), &mut memory)?;
    /// std::thread::scope(|s| {
    ///     let seven = Box::new_in(7, &system);
    ///     s.spawn(move || assert_eq!(*seven, 7));
    /// });
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn with_form<F: Form>(
        table: &Table<N>,
        memory: &'m mut [MaybeUninit<u8>],
    ) -> Result<SizeClasses<N, Borrowed<'m>, F>, ArenaTooSmall> {
        SizeClasses::over(table, Borrowed::new(memory))
    }
}

impl<const N: usize, P: AllocRef> SizeClasses<N, Extent<P>> {
    /// Size classes in one block from `parent`, which gets it back when they are dropped.
    ///
    /// The block is [`Table::block_bytes`] bytes, aligned to [`Table::arena_align`].
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let system = SizeClasses::in_parent(&table([MemReq::new(64, 10)]), &parent)?;
    /// assert_eq!(system.classes().count(), 1);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent(table: &Table<N>, parent: P) -> Result<Self, AllocError> {
        Self::in_parent_with_form(table, parent)
    }

    /// [`SizeClasses::in_parent`], in another [`Form`].
    ///
    /// The block has room for what the form keeps beside the blocks, too.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, LockFree, MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let system = SizeClasses::in_parent_with_form::<LockFree>(&table([MemReq::new(64, 10)]), &parent)?;
    /// assert!(parent.used() >= 10 * (64 + 4));
    /// # drop(system);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent_with_form<F: Form>(
        table: &Table<N>,
        parent: P,
    ) -> Result<SizeClasses<N, Extent<P>, F>, AllocError> {
        let bytes = table.block_bytes().saturating_add(table.side_bytes(F::SIDE));
        let layout = Layout::from_size_align(bytes, table.arena_align()).map_err(|_| AllocError)?;
        SizeClasses::over(table, Extent::new(parent, layout)?).map_err(|_| AllocError)
    }
}

impl<const N: usize, B: Backing, F: Form> SizeClasses<N, B, F> {
    fn over(table: &Table<N>, backing: B) -> Result<Self, ArenaTooSmall> {
        let base = backing.base();
        let padding = base.addr().get().wrapping_neg() & (table.arena_align() - 1);
        let blocks_end = padding + table.block_bytes();
        let needed = blocks_end.saturating_add(table.side_bytes(F::SIDE));
        if needed > backing.len() {
            return Err(ArenaTooSmall { needed, got: backing.len() });
        }

        let rows = table.rows();
        let mut classes = [(); N].map(|()| F::List::empty());
        // The most aligned classes come first, so that padding is needed once only, at the front.
        let mut offset = padding;
        let mut side = blocks_end;
        let mut align = table.arena_align();
        while align >= GRANULE {
            for (class, &MemReq { block_size, n_blocks }) in classes.iter_mut().zip(rows) {
                if class_align(block_size) == align {
                    // SAFETY: each class has its own part of `padding .. blocks_end`, and of what follows for its side table,
                    // both in the backing, which is ours alone as long as the classes are used. The class before ended on
                    // a multiple of its own, not smaller, alignment; side tables are whole words.
                    *class = unsafe { F::List::new(base.add(offset), block_size, n_blocks, base.add(side)) };
                    offset += block_size * n_blocks;
                    side += F::SIDE.bytes(n_blocks);
                }
            }
            align /= 2;
        }
        debug_assert_eq!((offset, side), (blocks_end, needed));

        // As many rows as a byte can count.
        let mut lookup = [rows.len() as u8; ENTRIES];
        let mut entry = 0;
        for (class, row) in (0..u8::MAX).zip(rows) {
            let end = (row.block_size / GRANULE).min(ENTRIES);
            // Rows are sorted, so this is never out of bounds; but an index would bring the formatting of panics along.
            if let Some(entries) = lookup.get_mut(entry..end) {
                entries.fill(class);
            }
            entry = end;
        }
        Ok(SizeClasses { classes, none: F::List::empty(), lookup, table: *table, backing })
    }

    /// The counts of each class, smallest block first.
    ///
    /// Each step walks the free list of its class, O(peak - live), unless the form has a lock, which keeps count. Other threads
    /// may go on meanwhile. They may come between a peak and its live count; and with [`LockFree`](crate::LockFree) and
    /// [`Fifo`](crate::Fifo) a count is exact only when they rest.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 2), MemReq::new(256, 1)]), &mut memory)?;
    /// let _hundred = Box::new_in([0_u8; 100], &system);
    /// let free: Vec<_> = system.classes().map(|class| class.reserved - class.live).collect();
    /// assert_eq!(free, [2, 0]);
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn classes(&self) -> impl Iterator<Item = ClassStats> + '_ {
        self.classes.iter().zip(self.table.rows()).map(|(class, &MemReq { block_size, n_blocks })| {
            let peak = n_blocks - class.untouched();
            ClassStats { block_size, reserved: n_blocks, peak, live: peak.saturating_sub(class.recycled()) }
        })
    }

    /// The table that the classes were made from.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory)?;
    /// assert_eq!(system.table().rows(), [MemReq::new(64, 10)]);
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    #[must_use]
    pub fn table(&self) -> &Table<N> {
        &self.table
    }

    /// The counts of each class and in all, to be written to any writer: as a table with `write!` or `{}`, as CSV or as JSON.
    ///
    /// The peak in all is the sum of the classes' peaks, which need not have been at the same time.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory)?;
    /// assert_eq!(
    ///     system.report().to_string(),
    ///     "block size   reserved       peak       live\n\
    ///     \x20       64         10          0          0\n\
    ///     \x20      all         10          0          0\n",
    /// );
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn report(&self) -> Report<'_, Self> {
        Report(self)
    }

    /// Follows all free lists, and says where one leads astray: a block was written to after its release, or released twice.
    ///
    /// O(peak - live), with a form's lock held for each class; for tests and for the search of a mistake. Not every mistake
    /// shows.
    ///
    /// # Errors
    ///
    /// The first [`Corruption`] found.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{MemReq, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory)?;
    /// assert_eq!(system.verify(), Ok(()));
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn verify(&self) -> Result<(), Corruption> {
        self.classes.iter().zip(self.table.rows()).try_for_each(|(class, row)| class.verify(row.n_blocks))
    }

    /// Whether the look-up alone answers for this layout. Known at compile time where the layout is.
    #[inline]
    pub(crate) fn is_common(layout: Layout) -> bool {
        // A request of no bytes wraps round and so counts as uncommon, which saves the common ones a comparison.
        layout.align() <= GRANULE && layout.size().wrapping_sub(1) < LOOKED_UP
    }

    /// The class of a common layout.
    #[inline]
    pub(crate) fn look_up(&self, layout: Layout) -> usize {
        // Known to be in range by everybody who asks, so this costs nothing.
        usize::from(self.lookup.get((layout.size() - 1) / GRANULE).copied().unwrap_or(0))
    }

    /// The class that a request goes to and comes from: a matter of the layout and the table alone, so that allocation and
    /// release agree. The one after the last if there is none. Not for requests of no bytes.
    #[inline]
    pub(crate) fn class_of(&self, layout: Layout) -> usize {
        if Self::is_common(layout) { self.look_up(layout) } else { self.step_to(layout) }
    }

    #[inline(never)]
    fn step_to(&self, layout: Layout) -> usize {
        let none = self.table.rows().len();
        if layout.align() > MAX_ALIGN {
            return none;
        }
        // What holds the size and is a multiple of the alignment also holds the size rounded up to it.
        let holds =
            |class: &F::List| class.block_size() >= layout.size() && class.block_size() & (layout.align() - 1) == 0;
        let entry = ((layout.size() - 1) / GRANULE).min(ENTRIES - 1);
        let start = usize::from(self.lookup[entry]);
        let classes = self.classes.get(start..none).unwrap_or(&[]);
        classes.iter().position(holds).map_or(none, |step| start + step)
    }

    #[cold]
    #[inline(never)]
    fn allocate_uncommon(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        // SAFETY: a layout's class.
        unsafe { self.allocate_from(self.step_to(layout)) }
    }

    #[cold]
    #[inline(never)]
    fn deallocate_uncommon(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: a release of ours, so the layout has a class, the one that the block came from.
            unsafe { self.release_to(self.step_to(layout), block) }
        }
    }

    /// # Safety
    ///
    /// The class is one of the table's, or the one after the last.
    #[inline]
    pub(crate) unsafe fn allocate_from(&self, class: usize) -> Result<NonNull<[u8]>, AllocError> {
        debug_assert!(class <= self.table.rows().len());
        // SAFETY: there are so many classes in `classes`, which comes first, and one more right behind them.
        let class = unsafe { &*ptr::from_ref(self).cast::<F::List>().add(class) };
        let block = class.pop().ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, class.block_size()))
    }

    /// # Safety
    ///
    /// The block came from this class and its user has finished with it.
    #[inline]
    pub(crate) unsafe fn release_to(&self, class: usize, block: NonNull<u8>) {
        debug_assert!(class < N, "released with a layout that never got a block");
        // SAFETY: a block came from it, so there is such a class; the rest is passed on to our caller.
        unsafe { self.classes.get_unchecked(class).push(block) }
    }

    /// The same block, if it is what a request with the new layout would get too.
    #[inline]
    pub(crate) fn in_place(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Option<NonNull<[u8]>> {
        if old.size() == 0 || new.size() == 0 {
            return None;
        }
        let class = self.class_of(old);
        if self.class_of(new) != class {
            return None;
        }
        let size = self.classes.get(class)?.block_size();
        Some(NonNull::slice_from_raw_parts(self.own(block), size))
    }

    /// The same block if it serves the new layout too, and else another one by way of `handle`, which is one on these classes.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::grow`], or [`Allocator::shrink`].
    #[inline]
    pub(crate) unsafe fn resize(
        &self,
        handle: impl Allocator,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        match self.in_place(block, old, new) {
            Some(same) => Ok(same),
            // SAFETY: passed on to our caller.
            None => unsafe { relocate(handle, block, old, new) },
        }
    }

    /// A block of ours, as a pointer that may touch all of it.
    #[inline(always)]
    pub(crate) fn own(&self, block: NonNull<u8>) -> NonNull<u8> {
        rederive(self.backing.base(), block)
    }
}

// SAFETY: a class gives out each of its blocks to one user at a time (invariant 2 of the list), of at least the size and
// alignment asked for; classes are disjoint parts of the backing, which nobody else touches and which stays in place.
// A block is as long as its class says, and every layout between the one asked for and that length has the same class, so
// release finds the class again. Clones of the handle are the same reference.
unsafe impl<const N: usize, B: Backing, F: Form> Allocator for &SizeClasses<N, B, F> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if SizeClasses::<N, B, F>::is_common(layout) {
            // SAFETY: a layout's class.
            unsafe { self.allocate_from(self.look_up(layout)) }
        } else {
            self.allocate_uncommon(layout)
        }
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if SizeClasses::<N, B, F>::is_common(layout) {
            // SAFETY: the caller releases a block of ours with a layout that fits it, which has the class it came from.
            unsafe { self.release_to(self.look_up(layout), block) }
        } else {
            self.deallocate_uncommon(block, layout);
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(*self, block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(*self, block, old, new) }
    }
}

impl<const N: usize, B: Backing, F: Form> fmt::Debug for SizeClasses<N, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.classes()).finish()
    }
}

impl<const N: usize, B: Backing, F: Form> Records for SizeClasses<N, B, F> {
    type Number = usize;
    type Record = [Option<usize>; 4];
    const COLUMNS: &'static [&'static str] = &["block_size", "reserved", "peak", "live"];

    fn records(&self) -> impl Iterator<Item = Self::Record> {
        self.classes().map(|class| [class.block_size, class.reserved, class.peak, class.live].map(Some))
    }

    fn all(&self) -> Self::Record {
        let (mut reserved, mut peak, mut live) = (0, 0, 0);
        for class in self.classes() {
            reserved += class.reserved;
            peak += class.peak;
            live += class.live;
        }
        [None, Some(reserved), Some(peak), Some(live)]
    }
}
