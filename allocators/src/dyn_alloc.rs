//! A handle to an allocator that is chosen at run time: what is safe to do with an [erased](crate::erased) one.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::Source;
use crate::erased::{Count, Node, Raw};

mod sealed {
    pub trait Reach {}
}

/// How far a [`DynAlloc`] reaches: one thread ([`Sequential`]) or all of them ([`Concurrent`]).
///
/// Sealed.
///
/// ```
/// use fibra_allocators::{DynAlloc, Reach};
///
/// /// Takes a handle whichever it is.
/// fn word_count<R: Reach>(_handle: &DynAlloc<'_, R>) -> usize {
///     size_of::<DynAlloc<'_, R>>() / size_of::<usize>()
/// }
/// # use fibra_allocators::Bump;
/// # let mut memory = [const { core::mem::MaybeUninit::uninit() }; 16];
/// # let bump = Bump::new(&mut memory);
/// assert_eq!(word_count(&DynAlloc::root(&bump)), 2);
/// ```
pub trait Reach: sealed::Reach {}

/// The reach of a [`DynAlloc`] that stays on its thread, whatever is behind it.
///
/// ```
/// use fibra_allocators::{DynAlloc, Sequential};
///
/// fn same_type(handle: DynAlloc<'_>) -> DynAlloc<'_, Sequential> {
///     handle
/// }
/// ```
#[derive(Debug)]
pub enum Sequential {}

/// The reach of a [`DynAlloc`] that every thread may use.
///
/// ```
/// use fibra_allocators::{Concurrent, DynAlloc};
///
/// fn anywhere() -> impl Sized
/// where
///     DynAlloc<'static, Concurrent>: Send + Sync,
/// {
/// }
/// anywhere();
/// ```
#[derive(Debug)]
pub enum Concurrent {}

impl sealed::Reach for Sequential {}
impl sealed::Reach for Concurrent {}
impl Reach for Sequential {}
impl Reach for Concurrent {}

/// A handle to some allocator: which one is decided while the program runs, and is no part of the type.
///
/// Two words, one of them a table of functions. It is an [`AllocRef`](crate::AllocRef), so it goes wherever an allocator
/// can be chosen.
///
/// - A *root* ([`root`](DynAlloc::root)) stands for an allocator that lives elsewhere, usually in a static. It is not
///   counted, and has no parent.
/// - Any other handle ([`new_in`](DynAlloc::new_in)) owns its allocator, which was moved into a block of a parent. It is
///   reference counted there. When the last clone goes, the allocator is dropped, so that what it had from others returns
///   to them; then its block returns to the parent; then the handle on the parent is dropped. So parents outlive children.
///
/// What may be used from one thread only is erased as well as what may be used from all. The former gives a handle that
/// stays on its thread, `DynAlloc<'a>`. The latter gives `DynAlloc<'a, Concurrent>` ([`shared_root`](DynAlloc::shared_root),
/// [`shared_in`](DynAlloc::shared_in)), which is `Send` and `Sync` and can be [turned](From) into the former.
///
/// # Cost
///
/// One indirect call for each operation of [`Allocator`], with the allocator inlined in it. A clone or drop costs a root
/// one comparison, and the others an indirect call too, with an atomic operation in it if the handle may be shared.
///
/// Dropping the last handle to a child drops the one on its parent, which may be the last as well, and so on up to the
/// root: in a loop, so a chain of any length needs the stack of one. (A *value* that itself holds the last handle to
/// another allocator drops it where its destructor does, one inside another. The way to no such nesting is to build each
/// allocator on a clone of the handle that is its parent.)
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::vec::Vec;
/// use fibra_allocators::{AllocError, Bump, DynAlloc, MemReq, SizeClasses, table};
///
/// fn allocator<'a>(root: DynAlloc<'a>, reuse: bool) -> Result<DynAlloc<'a>, AllocError> {
///     Ok(if reuse {
///         let classes = table([MemReq::new(64, 4), MemReq::new(256, 2)]);
///         DynAlloc::new_in(SizeClasses::in_parent(&classes, root.clone())?, root)?
///     } else {
///         DynAlloc::new_in(Bump::in_parent(root.clone(), 1024)?, root)?
///     })
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 16384];
/// let root = Bump::new(&mut memory);
/// for reuse in [false, true] {
///     let mut bytes = Vec::new_in(allocator(DynAlloc::root(&root), reuse)?);
///     bytes.extend_from_slice(&[7_u8; 200]);
/// } // the vector held the only handle, so its allocator is gone with it
/// # Ok::<(), AllocError>(())
/// ```
///
/// What it was made of must live as long as it does:
///
/// ```compile_fail,E0597
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, DynAlloc};
///
/// let handle = {
///     let mut memory = [MaybeUninit::uninit(); 64];
///     let bump = Bump::new(&mut memory);
///     DynAlloc::root(&bump)
/// };
/// drop(handle);
/// ```
///
/// and so must what the owned allocator borrows:
///
/// ```compile_fail,E0597
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, DynAlloc};
///
/// let mut roots = [MaybeUninit::uninit(); 256];
/// let root = Bump::new(&mut roots);
/// let handle = {
///     let mut memory = [MaybeUninit::uninit(); 64];
///     DynAlloc::new_in(Bump::new(&mut memory), DynAlloc::root(&root))
/// };
/// drop(handle);
/// ```
///
/// What is not for all threads is not shared:
///
/// ```compile_fail,E0277
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, DynAlloc};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// let handle = DynAlloc::shared_root(&bump);
/// ```
pub struct DynAlloc<'a, R: Reach = Sequential> {
    raw: Raw,
    behind: PhantomData<(&'a (), R)>,
}

// SAFETY: invariant 4.
unsafe impl Send for DynAlloc<'_, Concurrent> {}
// SAFETY: invariant 4.
unsafe impl Sync for DynAlloc<'_, Concurrent> {}

impl<'a> DynAlloc<'a> {
    /// A handle to what `handle` is a handle to, for one thread. Not counted; takes no memory.
    ///
    /// `handle` is anything of at most one word that can be copied: a reference to an allocator, or one that takes no space
    /// (another size is a compile error). A handle that has to be cloned and dropped goes into [`new_in`](DynAlloc::new_in)
    /// instead.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, DynAlloc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let root = DynAlloc::root(&bump);
    /// assert_eq!(*Box::new_in(7_u32, root.clone()), 7);
    /// assert_eq!(bump.used(), 4);
    /// ```
    #[must_use]
    pub const fn root<H: Allocator + Copy + 'a>(handle: H) -> Self {
        DynAlloc { raw: Raw::root(handle), behind: PhantomData }
    }

    /// Moves an allocator into a block of `parent`: a handle to it for one thread.
    ///
    /// # Errors
    ///
    /// [`ParentFull`], with both in it, if the parent has no such block: one for `S` and three words.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{AllocError, Bump, DynAlloc, FixedBlock, Layout, ParentFull};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let root = Bump::new(&mut memory);
    ///
    /// let mut words = [MaybeUninit::uninit(); 64];
    /// let words = FixedBlock::new(Layout::new::<u64>(), &mut words);
    /// let handle = DynAlloc::new_in(words, DynAlloc::root(&root))?;
    /// assert_eq!(*Box::new_in(7_u64, handle), 7);
    ///
    /// let mut little = [MaybeUninit::uninit(); 16];
    /// let little = Bump::new(&mut little);
    /// let ParentFull { value, parent: _ } = DynAlloc::new_in(root, DynAlloc::root(&little)).unwrap_err();
    /// assert!(value.used() > 0);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn new_in<S: Source + 'a>(value: S, parent: Self) -> Result<Self, ParentFull<S, Self>> {
        Self::node::<S, Cell<usize>>(value, parent)
    }
}

impl<'a> DynAlloc<'a, Concurrent> {
    /// As [`root`](DynAlloc::root), for every thread. It can be a static itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::alloc::System;
    /// use fibra_allocators::{Concurrent, DynAlloc, FromGlobal};
    ///
    /// static ROOT: DynAlloc<'static, Concurrent> = DynAlloc::shared_root(FromGlobal::new(System));
    /// let there = std::thread::spawn(|| allocator_api2::boxed::Box::new_in(7, ROOT.clone()));
    /// assert_eq!(*there.join().unwrap(), 7);
    /// ```
    #[must_use]
    pub const fn shared_root<H: Allocator + Copy + Send + Sync + 'a>(handle: H) -> Self {
        DynAlloc { raw: Raw::root(handle), behind: PhantomData }
    }
}

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
impl<'a> DynAlloc<'a, Concurrent> {
    /// As [`new_in`](DynAlloc::new_in), for every thread. Not on chips without compare-and-swap, unless with the feature
    /// `critical-section`.
    ///
    /// # Errors
    ///
    /// [`ParentFull`], with both in it, if the parent has no such block: one for `S` and three words.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::alloc::System;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{DynAlloc, FromGlobal};
    ///
    /// let root = DynAlloc::shared_root(FromGlobal::new(System));
    /// let handle = DynAlloc::shared_in(FromGlobal::new(System), root)?;
    /// std::thread::scope(|scope| {
    ///     for n in 0..4 {
    ///         let handle = handle.clone();
    ///         scope.spawn(move || assert_eq!(*Box::new_in(n, handle), n));
    ///     }
    /// });
    /// # Ok::<(), std::boxed::Box<dyn std::error::Error>>(())
    /// ```
    pub fn shared_in<S: Source + Send + Sync + 'a>(value: S, parent: Self) -> Result<Self, ParentFull<S, Self>> {
        Self::node::<S, portable_atomic::AtomicUsize>(value, parent)
    }
}

impl<'a, R: Reach> DynAlloc<'a, R> {
    /// The callers see to invariant 4, by what they let in and how it is counted.
    fn node<S: Source + 'a, C: Count>(value: S, parent: Self) -> Result<Self, ParentFull<S, Self>> {
        let Ok(block) = parent.allocate(Node::<S, C>::LAYOUT) else {
            return Err(ParentFull { value, parent });
        };
        let parent = ManuallyDrop::new(parent).raw;
        // SAFETY: a block of the parent with this layout, ours alone; and the parent's handle goes with it.
        let raw = unsafe { Node::<S, C>::write(block.cast(), value, parent) };
        Ok(DynAlloc { raw, behind: PhantomData })
    }
}

impl<R: Reach> Clone for DynAlloc<'_, R> {
    #[inline]
    fn clone(&self) -> Self {
        // SAFETY: a handle is made of it.
        DynAlloc { raw: unsafe { self.raw.retain() }, behind: PhantomData }
    }
}

impl<R: Reach> Drop for DynAlloc<'_, R> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this handle ends here.
        unsafe { self.raw.release() };
    }
}

impl<'a> From<DynAlloc<'a, Concurrent>> for DynAlloc<'a> {
    /// The same allocator, through a handle that stays on its thread. Costs nothing.
    fn from(handle: DynAlloc<'a, Concurrent>) -> Self {
        DynAlloc { raw: ManuallyDrop::new(handle).raw, behind: PhantomData }
    }
}

// SAFETY: every operation is that of the one allocator behind the handle and its clones, which lives and stays in place as
// long as one of these does (invariants 2 and 3), or for `'a` if it is a root (invariant 4).
unsafe impl<R: Reach> Allocator for DynAlloc<'_, R> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: invariant 1.
        unsafe { (self.raw.vtable.allocate)(self.raw.word, layout) }
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: invariant 1.
        unsafe { (self.raw.vtable.allocate_zeroed)(self.raw.word, layout) }
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: invariant 1; the rest is passed on to our caller.
        unsafe { (self.raw.vtable.deallocate)(self.raw.word, block, layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: invariant 1; the rest is passed on to our caller.
        unsafe { (self.raw.vtable.grow)(self.raw.word, block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: invariant 1; the rest is passed on to our caller.
        unsafe { (self.raw.vtable.grow_zeroed)(self.raw.word, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: invariant 1; the rest is passed on to our caller.
        unsafe { (self.raw.vtable.shrink)(self.raw.word, block, old, new) }
    }
}

impl<R: Reach> fmt::Debug for DynAlloc<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_root = self.raw.is_root();
        f.debug_struct("DynAlloc").field("is_root", &is_root).finish_non_exhaustive()
    }
}

/// The parent of [`DynAlloc::new_in`] had no block for the allocator. Here are both again.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, DynAlloc, ParentFull};
///
/// /// Takes the parent itself where it has no room for a child.
/// fn or_parent<'a>(value: Bump<impl fibra_allocators::Backing + 'a>, parent: DynAlloc<'a>) -> DynAlloc<'a> {
///     DynAlloc::new_in(value, parent).unwrap_or_else(|ParentFull { parent, .. }| parent)
/// }
///
/// let (mut few, mut more) = ([MaybeUninit::uninit(); 8], [MaybeUninit::uninit(); 80]);
/// let few = Bump::new(&mut few);
/// let handle = or_parent(Bump::new(&mut more), DynAlloc::root(&few));
/// assert_eq!(*allocator_api2::boxed::Box::new_in(1_u8, handle), 1);
/// assert_eq!(few.used(), 1);
/// ```
pub struct ParentFull<S, P> {
    /// The allocator that was to be moved.
    pub value: S,
    /// The handle on the parent.
    pub parent: P,
}

impl<S, P> fmt::Debug for ParentFull<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParentFull").finish_non_exhaustive()
    }
}

impl<S, P> fmt::Display for ParentFull<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parent has no room for the allocator")
    }
}

impl<S, P> core::error::Error for ParentFull<S, P> {}

impl<S, P> From<ParentFull<S, P>> for AllocError {
    /// For callers that do not want the two back. Drops them.
    fn from(_: ParentFull<S, P>) -> Self {
        AllocError
    }
}
