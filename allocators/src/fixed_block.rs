use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::block_list::LINK;
use crate::extent::{Backing, Borrowed, Extent};
use crate::form::sealed::{self, List};
use crate::form::{Corruption, Form};
use crate::request::{dangling, grow_zeroed, rederive, relocate};
use crate::{AllocRef, NoLock};

/// Blocks of one size: for things that are all alike.
///
/// Released blocks go to a list inside the blocks themselves and are reused last in, first out, so the next one is still
/// in the cache; memory that was never used stays untouched as long as the list has a block. Allocation and release are
/// O(1) and there is no fragmentation: a request that fits is refused only when every block is live.
///
/// The allocator that things are allocated with is the reference, `&FixedBlock<B>`: as long as one exists, the blocks
/// cannot be moved or dropped.
///
/// The [`Form`] `F` says who may share it, and in which order blocks are reused. This, the first, serves one thread: it may
/// move to another thread as a whole, a reference to it may not.
///
/// # Errors
///
/// A request that is larger than the block, or more aligned, is [`AllocError`], and so is one more block than there are.
/// Neither changes anything.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{FixedBlock, Layout};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let nodes = FixedBlock::new(Layout::new::<[u64; 4]>(), &mut memory);
/// let a = Box::new_in([1_u64, 2, 3, 4], &nodes);
/// let b = Box::new_in([0_u64; 4], &nodes);
/// assert_eq!(nodes.live(), 2);
/// drop(a);
/// assert_eq!((nodes.live(), nodes.peak()), (1, 2));
/// assert!(Box::try_new_in([0_u64; 5], &nodes).is_err(), "larger than the block");
/// # drop(b);
/// ```
pub struct FixedBlock<B: Backing, F: Form = NoLock> {
    blocks: <F as sealed::Form>::List,
    block: Layout,
    capacity: usize,
    pub(crate) backing: B,
}

/// A block as large and as aligned as asked, and enough for a link while it is free.
pub(crate) const fn rounded(block: Layout) -> Layout {
    let size = if block.size() < LINK.size() { LINK.size() } else { block.size() };
    let align = if block.align() < LINK.align() { LINK.align() } else { block.align() };
    match Layout::from_size_align(size, align) {
        Ok(block) => block.pad_to_align(),
        // So large that no memory holds one, rounded or not.
        Err(_) => block,
    }
}

impl<'m> FixedBlock<Borrowed<'m>> {
    /// As many blocks of the given size and alignment as fit into the caller's memory, which may be none.
    ///
    /// The size is rounded up to a multiple of the alignment and to hold one pointer. Touches none of the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut memory);
    /// assert_eq!(*Box::new_in(7_u64, &words), 7);
    /// ```
    #[must_use]
    pub fn new(block: Layout, memory: &'m mut [MaybeUninit<u8>]) -> Self {
        Self::over(block, Borrowed::new(memory))
    }

    /// [`FixedBlock::new`], in another [`Form`], which may keep something beside the blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{FixedBlock, Layout, SpinLock};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = FixedBlock::with_form::<SpinLock>(Layout::new::<u64>(), &mut memory);
    /// std::thread::scope(|s| {
    ///     let seven = Box::new_in(7_u64, &words);
    ///     s.spawn(move || assert_eq!(*seven, 7));
    /// });
    /// ```
    #[must_use]
    pub fn with_form<F: Form>(block: Layout, memory: &'m mut [MaybeUninit<u8>]) -> FixedBlock<Borrowed<'m>, F> {
        FixedBlock::over(block, Borrowed::new(memory))
    }
}

impl<P: AllocRef> FixedBlock<Extent<P>> {
    /// `n_blocks` blocks of the given size and alignment, in one block from `parent`, which gets it back when the
    /// `FixedBlock` is dropped.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block, or if none so large can exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let words = FixedBlock::in_parent(Layout::new::<u64>(), 10, &parent)?;
    /// assert_eq!(words.capacity(), 10);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent(block: Layout, n_blocks: usize, parent: P) -> Result<Self, AllocError> {
        Self::in_parent_with_form(block, n_blocks, parent)
    }

    /// [`FixedBlock::in_parent`], in another [`Form`], which may keep something beside the blocks.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block, or if none so large can exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, Fifo, FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let words = FixedBlock::in_parent_with_form::<Fifo>(Layout::new::<u64>(), 10, &parent)?;
    /// assert_eq!(words.capacity(), 10);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent_with_form<F: Form>(
        block: Layout,
        n_blocks: usize,
        parent: P,
    ) -> Result<FixedBlock<Extent<P>, F>, AllocError> {
        let block = rounded(block);
        let bytes = bytes::<F>(block, n_blocks).ok_or(AllocError)?;
        let layout = Layout::from_size_align(bytes, block.align()).map_err(|_| AllocError)?;
        Ok(FixedBlock::over(block, Extent::new(parent, layout)?))
    }
}

/// What so many blocks need, with what the form keeps beside them.
fn bytes<F: Form>(block: Layout, n_blocks: usize) -> Option<usize> {
    block.size().checked_mul(n_blocks)?.checked_add(F::SIDE.bytes(n_blocks))
}

impl<B: Backing, F: Form> FixedBlock<B, F> {
    fn over(block: Layout, backing: B) -> Self {
        let block = rounded(block);
        let base = backing.base();
        let padding = base.addr().get().wrapping_neg() & (block.align() - 1);
        let room = backing.len().saturating_sub(padding);
        let fits = |n_blocks| bytes::<F>(block, n_blocks).is_some_and(|bytes| bytes <= room);
        // As many as fit: each step halves the range from what fits to what need not.
        let (mut capacity, mut beyond) = (0, room / block.size() + 1);
        while beyond - capacity > 1 {
            let middle = capacity + (beyond - capacity) / 2;
            *(if fits(middle) { &mut capacity } else { &mut beyond }) = middle;
        }
        let blocks = if capacity == 0 {
            F::List::empty()
        } else {
            // SAFETY: the padding, the blocks and then the side table, of as many bytes as were counted, lie in the backing,
            // which is ours alone as long as the list is used; `rounded` made the size and the alignment fit a link.
            unsafe {
                let start = base.add(padding);
                F::List::new(start, block.size(), capacity, start.add(capacity * block.size()))
            }
        };
        FixedBlock { blocks, block, capacity, backing }
    }

    /// The size and alignment of every block, in bytes, after rounding.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let bytes = FixedBlock::new(Layout::new::<u8>(), &mut memory);
    /// assert_eq!(bytes.block(), Layout::new::<usize>()); // room for a link
    /// ```
    #[must_use]
    pub fn block(&self) -> Layout {
        self.block
    }

    /// How many blocks can be live at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut memory);
    /// assert!((127..=128).contains(&words.capacity())); // one is lost if the memory is not aligned
    /// ```
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The greatest number of blocks that were ever live at once. O(1), and costs nothing to keep. With
    /// [`Fifo`](crate::Fifo) the number of blocks that were ever used.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut memory);
    /// for n in 0..10_u64 {
    ///     drop(Box::new_in(n, &words));
    /// }
    /// assert_eq!(words.peak(), 1);
    /// ```
    #[must_use]
    pub fn peak(&self) -> usize {
        self.capacity - self.blocks.untouched()
    }

    /// How many blocks are live. Walks the free list, O(peak - live), unless the form has a lock, which keeps count.
    ///
    /// Other threads may go on meanwhile; with [`LockFree`](crate::LockFree) and [`Fifo`](crate::Fifo) the count is exact only
    /// when they rest.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{FixedBlock, Layout};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut memory);
    /// let seven = Box::new_in(7_u64, &words);
    /// assert_eq!(words.live(), 1);
    /// drop(seven);
    /// assert_eq!(words.live(), 0);
    /// ```
    #[must_use]
    pub fn live(&self) -> usize {
        self.peak().saturating_sub(self.blocks.recycled())
    }

    /// Follows the free list, and says where it leads astray: a block was written to after its release, or released twice.
    ///
    /// O(peak - live), with the form's lock held; for tests and for the search of a mistake. Not every mistake shows. For an
    /// example see [`Corruption`].
    ///
    /// # Errors
    ///
    /// The first [`Corruption`] found.
    pub fn verify(&self) -> Result<(), Corruption> {
        self.blocks.verify(self.capacity)
    }

    /// A block, if there is one.
    #[inline]
    pub(crate) fn pop(&self) -> Option<NonNull<u8>> {
        self.blocks.pop()
    }

    #[inline]
    fn fits(&self, layout: Layout) -> bool {
        // Every block is aligned for a link, so that most layouts' alignment need not be compared.
        layout.size() <= self.block.size() && (layout.align() <= LINK.align() || layout.align() <= self.block.align())
    }
}

// SAFETY: the list gives out each block to one user at a time (its invariant 2), of the promised size and alignment, in
// the backing, which nobody else touches and which stays in place. Clones of the handle are the same reference. A request
// for no bytes, and only that, gets no block, on allocation as on release.
unsafe impl<B: Backing, F: Form> Allocator for &FixedBlock<B, F> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        if !self.fits(layout) {
            return Err(AllocError);
        }
        let block = self.blocks.pop().ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, self.block.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller gives back a block of ours, and every block of ours came from the list.
            unsafe { self.blocks.push(block) }
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() != 0 && self.fits(new) {
            let block = rederive(self.backing.base(), block);
            return Ok(NonNull::slice_from_raw_parts(block, self.block.size()));
        }
        // SAFETY: passed on to our caller.
        unsafe { relocate(*self, block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() != 0 && self.fits(new) {
            let block = rederive(self.backing.base(), block);
            return Ok(NonNull::slice_from_raw_parts(block, self.block.size()));
        }
        // SAFETY: passed on to our caller.
        unsafe { relocate(*self, block, old, new) }
    }
}

impl<B: Backing, F: Form> fmt::Debug for FixedBlock<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FixedBlock")
            .field("block", &self.block)
            .field("capacity", &self.capacity)
            .field("peak", &self.peak())
            .finish()
    }
}
