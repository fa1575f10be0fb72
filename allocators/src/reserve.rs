//! Blocks set aside.
//!
//! # Invariants
//!
//! 1. Each block that is left came from `allocator` with the layout `block`, is nobody else's, and holds in its first word
//!    the address of the next one. There are `left` of them, and `free` is the first.
//! 2. `block` is as large as a link, though perhaps less aligned, so links are read and written unaligned.

use core::cell::Cell;
use core::fmt;
use core::mem::{self, MaybeUninit};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::block_list::LINK;
use crate::finally::Finally;
use crate::request::dangling;
use crate::{AllocRef, NoRoom, PoolBox};

/// Blocks of one layout, set aside so that using them later cannot fail. What is left goes back when it is dropped.
///
/// A block that was given out goes home to the allocator, not to the reserve, so what is made of it may outlive the
/// reserve. There are three ways to use one: [`put`](Reserve::put) a value into it, take the bare block
/// ([`take`](Reserve::take)), or let a container allocate through the reference, `&Reserve<A>`, which is an [`Allocator`]
/// that is good for as many requests as there are blocks (growing a container is another request).
///
/// Each is O(1). It serves one thread, and may move to another as a whole if its allocator's handle may.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, Layout, MemReq, PoolBox, Reserve, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 3)]), &mut memory).expect("room for three");
///
/// let alarms = Reserve::new(&system, Layout::new::<[u8; 60]>(), 2)?;
/// let last = PoolBox::new_in([0_u8; 60], &system)?;
/// assert!(PoolBox::new_in([1_u8; 60], &system).is_err(), "the system is exhausted");
/// let alarm = alarms.put([1_u8; 60])?; // but not the reserve
/// assert_eq!(alarms.left(), 1);
///
/// drop((alarms, alarm, last));
/// assert!(system.classes().all(|class| class.live == 0));
/// # Ok::<(), AllocError>(())
/// ```
pub struct Reserve<A: AllocRef> {
    free: Cell<Option<NonNull<u8>>>,
    left: Cell<usize>,
    block: Layout,
    allocator: A,
}

impl<A: AllocRef> Reserve<A> {
    /// Sets `n` blocks aside. Takes the time of as many allocations.
    ///
    /// The size is rounded up to hold one pointer.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the allocator has not as many blocks; then none is kept.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, FixedBlock, Layout, Reserve};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let block = Layout::new::<[u64; 3]>();
    /// let blocks = FixedBlock::new(block, &mut memory);
    /// assert!(Reserve::new(&blocks, block, 3).is_err());
    /// assert_eq!(blocks.live(), 0);
    /// let two = Reserve::new(&blocks, block, 2)?;
    /// assert_eq!((two.left(), blocks.live()), (2, 2));
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn new(allocator: A, block: Layout, n: usize) -> Result<Self, AllocError> {
        let block = Layout::from_size_align(block.size().max(LINK.size()), block.align()).map_err(|_| AllocError)?;
        let reserve = Reserve { free: Cell::new(None), left: Cell::new(0), block, allocator };
        for _ in 0..n {
            let block = reserve.allocator.allocate(block)?;
            // SAFETY: just given to us with this layout.
            unsafe { reserve.keep(block.cast()) };
        }
        Ok(reserve)
    }

    /// Puts a value into one of the blocks. Cannot fail while blocks are [`left`](Reserve::left), if the value has the
    /// layout that was reserved.
    ///
    /// A smaller value fits too. Its block is first shrunk to it ([`Allocator::shrink`]), since it will be released with
    /// the value's own layout. The allocators of this crate do that where the block is, except that size classes move it
    /// to the class that is right for it, which may be exhausted.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if no block is left, or the value is larger or more aligned than the blocks, or the
    /// allocator cannot shrink a block to it. Nothing is lost then.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, Layout, Reserve};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let reserve = Reserve::new(&bump, Layout::new::<u64>(), 2)?;
    /// let one = reserve.put(1_u64)?;
    /// assert_eq!(reserve.put([2_u64, 3]).unwrap_err().value, [2, 3]); // too large
    /// let four = reserve.put(4_u64)?;
    /// assert_eq!(reserve.put(5_u64).unwrap_err().value, 5); // none left
    /// drop(reserve);
    /// assert_eq!((*one, *four), (1, 4));
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn put<T>(&self, value: T) -> Result<PoolBox<T, A>, NoRoom<T>> {
        match self.take_for(Layout::new::<T>()) {
            Ok((block, allocator)) => {
                // SAFETY: a block of this allocator, whose layout is now that of a `T`.
                let room: PoolBox<MaybeUninit<T>, A> =
                    unsafe { PoolBox::from_raw_in(block.cast().as_ptr(), allocator) };
                Ok(PoolBox::write(room, value))
            }
            Err(AllocError) => Err(NoRoom { value }),
        }
    }

    /// A block that may be released through the allocator with this layout, and the handle for that.
    fn take_for(&self, layout: Layout) -> Result<(NonNull<u8>, A), AllocError> {
        if !self.fits(layout) {
            return Err(AllocError);
        }
        // First, since it is another's code and may panic.
        let allocator = self.allocator.clone();
        let block = self.take().ok_or(AllocError)?;
        if layout == self.block {
            return Ok((block, allocator));
        }
        // Also if the allocator panics.
        // SAFETY: it was not shrunk, so it is still ours with the layout that it had.
        let not_shrunk = Finally::new(|| unsafe { self.keep(block) });
        // SAFETY: the block is ours and has this layout (invariant 1), and the new one is not larger.
        let shrunk = unsafe { self.allocator.shrink(block, self.block, layout)? };
        mem::forget(not_shrunk);
        Ok((shrunk.cast(), allocator))
    }

    /// Takes one of the blocks out, uninitialised. From now on it is a block of the allocator like any other, which has the
    /// layout [`block`](Reserve::block).
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Allocator, FixedBlock, Layout, Reserve};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut memory);
    /// let reserve = Reserve::new(&words, Layout::new::<u64>(), 1)?;
    /// let block = reserve.take().expect("there is one");
    /// assert_eq!((reserve.take(), words.live()), (None, 1));
    /// // SAFETY: a block of this allocator, with this layout, not used again.
    /// unsafe { (&words).deallocate(block, reserve.block()) };
    /// assert_eq!(words.live(), 0);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use = "the block is lost, if nobody releases it"]
    pub fn take(&self) -> Option<NonNull<u8>> {
        let block = self.free.get()?;
        // SAFETY: invariants 1 and 2.
        self.free.set(unsafe { block.cast::<Option<NonNull<u8>>>().read_unaligned() });
        self.left.set(self.left.get() - 1);
        Some(block)
    }

    /// # Safety
    ///
    /// The block came from `allocator` with the layout `self.block`, and is nobody else's.
    #[inline]
    unsafe fn keep(&self, block: NonNull<u8>) {
        // SAFETY: ours, says the caller, and large enough (invariant 2).
        unsafe { block.cast::<Option<NonNull<u8>>>().write_unaligned(self.free.get()) };
        self.free.set(Some(block));
        self.left.set(self.left.get() + 1);
    }

    /// How many blocks are left.
    ///
    /// For an example see [`Reserve`].
    #[inline]
    #[must_use]
    pub fn left(&self) -> usize {
        self.left.get()
    }

    /// The size and alignment of each block, in bytes, as the allocator was asked for it.
    ///
    /// For an example see [`take`](Reserve::take).
    #[inline]
    #[must_use]
    pub fn block(&self) -> Layout {
        self.block
    }

    #[inline]
    fn fits(&self, layout: Layout) -> bool {
        layout.size() <= self.block.size() && layout.align() <= self.block.align()
    }
}

// SAFETY: each block is given out once (invariant 1), of at least the size and alignment asked for, and stays allocated
// until it comes back, since the reserve has a handle of its allocator. Clones of the handle are the same reference. A
// request for no bytes, and only that, gets no block, on allocation as on release.
unsafe impl<A: AllocRef> Allocator for &Reserve<A> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        if !self.fits(layout) {
            return Err(AllocError);
        }
        let block = self.take().ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, self.block.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller gives back a block of ours, each of which the allocator gave us with this layout.
            unsafe { self.allocator.deallocate(block, self.block) }
        }
    }

    // In place, since by default it would take another block.
    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() == 0 {
            // SAFETY: passed on to our caller, who has finished with the block.
            unsafe { self.deallocate(block, old) };
            return Ok(dangling(new));
        }
        if !self.fits(new) {
            return Err(AllocError);
        }
        Ok(NonNull::slice_from_raw_parts(block, new.size()))
    }
}

impl<A: AllocRef> Drop for Reserve<A> {
    fn drop(&mut self) {
        while let Some(block) = self.take() {
            // SAFETY: invariant 1.
            unsafe { self.allocator.deallocate(block, self.block) }
        }
    }
}

// SAFETY: the blocks are plain memory, reached by nobody else; the only use of the allocator is through its handle, which
// may change threads itself.
unsafe impl<A: AllocRef + Send> Send for Reserve<A> {}

impl<A: AllocRef> fmt::Debug for Reserve<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reserve").field("block", &self.block).field("left", &self.left()).finish()
    }
}
