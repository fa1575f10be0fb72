use core::cell::Cell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::extent::{Backing, Borrowed, Extent};
use crate::request::{dangling, grow_zeroed, rederive, relocate};
use crate::{AllocRef, GRANULE};

/// A bump allocator: blocks follow one another, and none is reused before the whole is [`reset`](Bump::reset) or dropped.
///
/// The cheapest allocator there is, for things that live and die together. Allocation is O(1); release does nothing. The
/// block allocated last grows in place, so that one `Vec` can be filled without leaving its former selves behind.
///
/// The allocator that things are allocated with is the reference, `&Bump<B>`: as long as one of those, or a container
/// with one, exists, the bump cannot be moved, reset or dropped. It serves one thread: a `Bump` may move to another
/// thread as a whole, a reference to it may not.
///
/// # Errors
///
/// A request that does not fit behind what is in use is [`AllocError`], and changes nothing.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::vec::Vec;
/// use fibra_allocators::Bump;
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let mut bump = Bump::new(&mut memory);
/// {
///     let mut squares = Vec::new_in(&bump);
///     squares.extend((0..10_u64).map(|i| i * i));
///     assert_eq!(squares[9], 81);
/// }
/// assert!(bump.used() >= 80);
/// bump.reset();
/// assert_eq!(bump.used(), 0);
/// ```
///
/// What still lives in it keeps it from being reset:
///
/// ```compile_fail,E0502
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::Bump;
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let mut bump = Bump::new(&mut memory);
/// let seven = Box::new_in(7, &bump);
/// bump.reset();
/// assert_eq!(*seven, 7);
/// ```
pub struct Bump<B: Backing> {
    /// Bytes from the base, at most the backing's length. Live blocks lie below.
    used: Cell<usize>,
    pub(crate) backing: B,
}

impl<'m> Bump<Borrowed<'m>> {
    /// A bump allocator in the caller's memory. Touches none of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::Bump;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// assert_eq!(*Box::new_in(7_u32, &bump), 7);
    /// assert!(Box::try_new_in([0_u8; 64], &bump).is_err(), "four bytes are in use already");
    /// ```
    #[must_use]
    pub fn new(memory: &'m mut [MaybeUninit<u8>]) -> Self {
        Bump { used: Cell::new(0), backing: Borrowed::new(memory) }
    }
}

impl<P: AllocRef> Bump<Extent<P>> {
    /// A bump allocator in one block of `bytes` bytes, aligned to [`GRANULE`], from `parent`, which gets it back when the
    /// bump is dropped.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let child = Bump::in_parent(&parent, 256)?;
    /// assert_eq!(child.capacity(), 256);
    /// assert!(Bump::in_parent(&parent, 4096).is_err());
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent(parent: P, bytes: usize) -> Result<Self, AllocError> {
        let layout = Layout::from_size_align(bytes, GRANULE).map_err(|_| AllocError)?;
        Ok(Bump { used: Cell::new(0), backing: Extent::new(parent, layout)? })
    }
}

impl<B: Backing> Bump<B> {
    /// Bytes in use, with what was lost to alignment.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::Bump;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// drop(Box::new_in([0_u8; 10], &bump));
    /// assert_eq!(bump.used(), 10); // a release gives nothing back
    /// ```
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.get()
    }

    /// The size of the whole memory, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::Bump;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// assert_eq!(Bump::new(&mut memory).capacity(), 64);
    /// ```
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.backing.len()
    }

    /// Frees every block at once. Nothing can be using one, since whatever does borrows the bump.
    ///
    /// O(1); no destructor runs.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::Bump;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let mut bump = Bump::new(&mut memory);
    /// for round in 0..1000 {
    ///     assert_eq!(*Box::new_in([round; 8], &bump), [round; 8]);
    ///     bump.reset();
    /// }
    /// ```
    pub fn reset(&mut self) {
        self.used.set(0);
    }

    fn is_last(&self, block: NonNull<u8>, layout: Layout) -> bool {
        let end = self.backing.base().addr().get() + self.used.get();
        block.addr().get() + layout.size() == end
    }
}

// SAFETY: blocks are disjoint, because each begins at or above `used` and then lies below it, and `used` sinks only in
// `reset`, which excludes handles; they lie in the backing, which nobody else touches and which stays in place. Clones of
// the handle are the same reference.
unsafe impl<B: Backing> Allocator for &Bump<B> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        let used = self.used.get();
        let base = self.backing.base();
        let padding = (base.addr().get() + used).wrapping_neg() & (layout.align() - 1);
        // Both are below 2^(bits - 1), so the sum does not wrap.
        if padding + layout.size() > self.backing.len() - used {
            return Err(AllocError);
        }
        self.used.set(used + padding + layout.size());
        // SAFETY: just found to be within the backing.
        let block = unsafe { base.add(used + padding) };
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, _block: NonNull<u8>, _layout: Layout) {}

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if self.is_last(block, old) && block.addr().get().is_multiple_of(new.align()) {
            let more = new.size() - old.size();
            if more > self.backing.len() - self.used.get() {
                return Err(AllocError);
            }
            self.used.set(self.used.get() + more);
            return Ok(NonNull::slice_from_raw_parts(rederive(self.backing.base(), block), new.size()));
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
        if block.addr().get().is_multiple_of(new.align()) {
            return Ok(NonNull::slice_from_raw_parts(block, new.size()));
        }
        // SAFETY: passed on to our caller.
        unsafe { relocate(*self, block, old, new) }
    }
}

impl<B: Backing> fmt::Debug for Bump<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bump").field("used", &self.used()).field("capacity", &self.capacity()).finish()
    }
}
