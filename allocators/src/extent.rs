//! Where an arena's memory comes from.
//!
//! # Invariants
//!
//! A [`Backing`] owns the bytes `base .. base + len` for as long as it exists: nobody else reads, writes or reuses
//! them, and `base` carries the provenance of all of them. The range stays where it is when the backing moves.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use allocator_api2::alloc::AllocError;

use crate::AllocRef;

pub(crate) mod sealed {
    use core::ptr::NonNull;

    /// What the allocators need of a backing.
    ///
    /// # Safety
    ///
    /// `base .. base + len` obeys the invariants at the top of the module.
    pub unsafe trait Memory {
        fn base(&self) -> NonNull<u8>;
        /// In bytes.
        fn len(&self) -> usize;
    }
}

/// Where an arena's memory comes from: the caller's memory ([`Borrowed`]) or one block of a parent ([`Extent`]).
///
/// Sealed: an allocator relies on the two properties that its implementors keep, that nobody else touches the memory
/// and that it stays in place when the backing moves.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, Backing, Bump};
///
/// /// Takes a bump allocator wherever its memory is from.
/// fn room<B: Backing>(bump: &Bump<B>) -> usize {
///     bump.capacity() - bump.used()
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let parent = Bump::new(&mut memory);
/// let child = Bump::in_parent(&parent, 16)?;
/// assert_eq!(room(&child), 16);
/// assert!(room(&parent) <= 64 - 16);
/// # Ok::<(), AllocError>(())
/// ```
pub trait Backing: sealed::Memory {}

/// Memory lent by the caller for `'m`, for instance a static [`Arena`](crate::Arena) or a local array.
///
/// Nothing is given back: the borrow simply ends with the allocator.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Borrowed, Bump};
///
/// struct Parser<'m> {
///     scratch: Bump<Borrowed<'m>>,
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let parser = Parser { scratch: Bump::new(&mut memory) };
/// assert_eq!(parser.scratch.capacity(), 64);
/// ```
#[derive(Debug)]
pub struct Borrowed<'m> {
    base: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'m mut [MaybeUninit<u8>]>,
}

impl<'m> Borrowed<'m> {
    pub(crate) fn new(memory: &'m mut [MaybeUninit<u8>]) -> Self {
        Borrowed { len: memory.len(), base: NonNull::from(memory).cast(), memory: PhantomData }
    }
}

// SAFETY: the exclusive borrow, which `memory` stands for, keeps everybody else away for `'m`, and the pointer was made
// from the whole slice.
unsafe impl sealed::Memory for Borrowed<'_> {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    #[inline]
    fn len(&self) -> usize {
        self.len
    }
}

impl Backing for Borrowed<'_> {}

// SAFETY: it is an exclusive borrow of plain bytes, which may change threads.
unsafe impl Send for Borrowed<'_> {}
// SAFETY: a shared `Borrowed` gives no access to the bytes.
unsafe impl Sync for Borrowed<'_> {}

/// One block of a parent allocator, given back when the extent is dropped.
///
/// An allocator made by one of the `in_parent` constructors holds one, so that a parent gets everything back.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocRef, Bump, Extent, MemReq, SizeClasses, table};
///
/// struct Parser<P: AllocRef> {
///     scratch: Bump<Extent<P>>,
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 2048];
/// let system = SizeClasses::new(&table([MemReq::new(256, 4)]), &mut memory)?;
/// let live = || system.classes().map(|class| class.live).sum::<usize>();
///
/// let parser = Parser { scratch: Bump::in_parent(&system, 200).expect("a block of 256") };
/// assert_eq!((parser.scratch.capacity(), live()), (200, 1));
/// drop(parser);
/// assert_eq!(live(), 0);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
#[derive(Debug)]
pub struct Extent<P: AllocRef> {
    base: NonNull<u8>,
    layout: Layout,
    parent: P,
}

impl<P: AllocRef> Extent<P> {
    pub(crate) fn new(parent: P, layout: Layout) -> Result<Self, AllocError> {
        let base = parent.allocate(layout)?.cast();
        Ok(Extent { base, layout, parent })
    }
}

impl<P: AllocRef> Drop for Extent<P> {
    fn drop(&mut self) {
        // SAFETY: the block came from this parent with this layout, and only this extent, which ends here, gives it back.
        unsafe { self.parent.deallocate(self.base, self.layout) }
    }
}

// SAFETY: the block is ours until `drop`, by the contract of `Allocator`, which also keeps it in place as long as a clone
// of the handle lives; `base` is the parent's own pointer to it.
unsafe impl<P: AllocRef> sealed::Memory for Extent<P> {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    #[inline]
    fn len(&self) -> usize {
        self.layout.size()
    }
}

impl<P: AllocRef> Backing for Extent<P> {}

// SAFETY: the bytes are plain and owned; giving them back is the only use of the parent, which may change threads itself.
unsafe impl<P: AllocRef + Send> Send for Extent<P> {}
// SAFETY: a shared `Extent` gives no access to the bytes, nor to the parent unless that is itself `Sync`.
unsafe impl<P: AllocRef + Sync> Sync for Extent<P> {}
