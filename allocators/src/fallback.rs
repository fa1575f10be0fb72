use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::abort::{AbortOnUnwind, abort};
use crate::request::{dangling, grow_zeroed};
use crate::{Owns, Source};

/// Two allocators as one: what the first refuses goes to the second.
///
/// The first refuses what is too large for it, and whatever it has no block left for. Each block returns to where it came
/// from, which its address tells ([`Owns`]), in constant time. Blocks stay where they are as long as their allocator can
/// grow or shrink them, and change to the other when it cannot.
///
/// The two are owned (the second may be a handle, such as a `&SizeClasses<_, _>`), and the allocator that things are allocated
/// with is the reference, `&Fallback<A, F>`. It may be shared between threads if both may. More than two go one inside
/// another: `Fallback<A, Fallback<B, C>>`.
///
/// # Cost
///
/// Allocation: that of the first, and that of the second if it is needed. Release: one comparison more than that of the
/// allocator that has the block, plus what [`Owns`] takes. Never more than one block is copied.
///
/// # Errors
///
/// [`AllocError`] if both refuse. A request for no bytes succeeds and is made to neither.
///
/// # Aborts
///
/// The second must not lie in the memory of the first, where its blocks would be taken for the first's. They are
/// noticed, and refused; but if the second *moves* one of its blocks there in order to grow or shrink it, and neither has
/// another place for it, then the program ends. No allocator that is usual does that.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use std::alloc::System;
/// use allocator_api2::{boxed::Box, vec::Vec};
/// use fibra_allocators::{Fallback, FromGlobal, MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 2), MemReq::new(256, 1)]), &mut memory)?;
/// let memory = Fallback::new(system, FromGlobal::new(System));
///
/// let three = [1, 2, 3].map(|n| Box::new_in([n; 16], &memory)); // the third is the host's
/// assert_eq!(three[2][0], 3);
/// let mut bytes = Vec::new_in(&memory);
/// bytes.extend_from_slice(&[7_u8; 200]);
/// bytes.extend_from_slice(&[7_u8; 2000]); // moves to the host
/// assert_eq!(memory.first().classes().map(|class| class.live).collect::<std::vec::Vec<_>>(), [2, 0]);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
#[derive(Debug)]
pub struct Fallback<A, F> {
    first: A,
    second: F,
}

impl<A, F> Fallback<A, F> {
    /// What `first` refuses goes to `second`.
    ///
    /// For an example see [`Fallback`].
    #[must_use]
    pub const fn new(first: A, second: F) -> Self {
        Fallback { first, second }
    }

    /// The allocator that every request goes to first.
    ///
    /// For an example see [`Fallback`].
    #[must_use]
    pub const fn first(&self) -> &A {
        &self.first
    }

    /// The allocator that gets what the first refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Bump, Fallback};
    ///
    /// let (mut small, mut large) = ([MaybeUninit::uninit(); 16], [MaybeUninit::uninit(); 160]);
    /// let both = Fallback::new(Bump::new(&mut small), Bump::new(&mut large));
    /// let _boxed = Box::new_in([0_u8; 100], &both);
    /// assert_eq!((both.first().used(), both.second().used()), (0, 100));
    /// ```
    #[must_use]
    pub const fn second(&self) -> &F {
        &self.second
    }
}

impl<A: Source + Owns, F: Source> Fallback<A, F> {
    /// A block of the second that can be told from those of the first.
    #[cold]
    #[inline(never)]
    fn allocate_second(&self, layout: Layout, zeroed: bool) -> Result<NonNull<[u8]>, AllocError> {
        let second = self.second.handle();
        let block = if zeroed { second.allocate_zeroed(layout) } else { second.allocate(layout) }?;
        if self.first.owns(block.cast()) {
            // SAFETY: just allocated there.
            unsafe { second.deallocate(block.cast(), layout) };
            return Err(AllocError);
        }
        Ok(block)
    }

    /// # Safety
    ///
    /// As for [`Allocator::grow`] or [`Allocator::shrink`], whichever `new` asks for.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        if new.size() == 0 {
            // SAFETY: passed on to our caller.
            unsafe { self.deallocate(block, old) };
            return Ok(dangling(new));
        }
        if self.first.owns(block) {
            // SAFETY: it is a block of the first; the rest is passed on to our caller.
            unsafe {
                resize_in(self.first.handle(), block, old, new).or_else(|AllocError| {
                    let fresh = self.allocate_second(new, false)?;
                    Ok(carry(self.first.handle(), block, old, fresh))
                })
            }
        } else {
            // SAFETY: it is a block of the second; the rest is passed on to our caller.
            unsafe { self.resize_second(block, old, new) }
        }
    }

    /// # Safety
    ///
    /// As for [`Fallback::resize`], and the block is one of the second.
    #[cold]
    #[inline(never)]
    unsafe fn resize_second(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let second = self.second.handle();
        // SAFETY: passed on to our caller.
        let Ok(resized) = (unsafe { resize_in(second, block, old, new) }) else {
            let fresh = self.first.handle().allocate(new)?;
            // SAFETY: passed on to our caller.
            return Ok(unsafe { carry(second, block, old, fresh) });
        };
        if !self.first.owns(resized.cast()) {
            return Ok(resized);
        }
        // The old block is gone, so it is too late for an error, or for an allocator that panics.
        Ok(AbortOnUnwind::around(|| match self.allocate(new) {
            // SAFETY: the second has just given it with this layout.
            Ok(fresh) => unsafe { carry(second, resized.cast(), new, fresh) },
            Err(AllocError) => abort("a fallback allocator moved a block into what it stands in for"),
        }))
    }
}

/// # Safety
///
/// As for [`Allocator::grow`] or [`Allocator::shrink`], whichever `new` asks for.
pub(crate) unsafe fn resize_in(
    home: impl Allocator,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: passed on to our caller.
    unsafe { if new.size() >= old.size() { home.grow(block, old, new) } else { home.shrink(block, old, new) } }
}

/// Moves a block's contents to a fresh block, as much of them as it holds, and releases the old one.
///
/// # Safety
///
/// `block` is allocated through `home`, and `old` fits it. `fresh` is allocated too.
#[cold]
pub(crate) unsafe fn carry(
    home: impl Allocator,
    block: NonNull<u8>,
    old: Layout,
    fresh: NonNull<[u8]>,
) -> NonNull<[u8]> {
    let kept = old.size().min(fresh.len());
    // SAFETY: both are allocated, so they do not overlap, and each holds so much. The caller lets us release the old one.
    unsafe {
        ptr::copy_nonoverlapping(block.as_ptr(), fresh.cast().as_ptr(), kept);
        home.deallocate(block, old);
    }
    fresh
}

// SAFETY: a block is a live one of the first or of the second, each of which keeps the contract, and stays in place as long
// as we are borrowed. It returns to the one that it is from: no block of the second is handed out that the first owns, and
// by the contract of `Owns` that stays so. A request for no bytes gets no block, on allocation as on release.
unsafe impl<A: Source + Owns, F: Source> Allocator for &Fallback<A, F> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        self.first.handle().allocate(layout).or_else(|AllocError| self.allocate_second(layout, false))
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        self.first.handle().allocate_zeroed(layout).or_else(|AllocError| self.allocate_second(layout, true))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        if self.first.owns(block) {
            // SAFETY: it is a block of the first; the rest is passed on to our caller.
            unsafe { self.first.handle().deallocate(block, layout) }
        } else {
            // SAFETY: it is a block of the second; the rest is passed on to our caller.
            unsafe { self.second.handle().deallocate(block, layout) }
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.resize(block, old, new) }
    }
}

// SAFETY: a block is one of the first or of the second, which own it. For any other the answers of both stay the same.
unsafe impl<A: Owns, F: Owns> Owns for Fallback<A, F> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        self.first.owns(block) || self.second.owns(block)
    }
}
