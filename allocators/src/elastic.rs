//! Size classes that do something when one of them is exhausted.
//!
//! # Invariants
//!
//! 1. `regions` are where the blocks of each class lie, in order of address; the first `len` count. They do not overlap.
//! 2. A block that lies in a region came from that class; every other block of at least one byte came from the fallback.

use core::fmt;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::abort::{AbortOnUnwind, abort};
use crate::extent::Backing;
use crate::fallback::{carry, resize_in};
use crate::form::Form;
use crate::form::sealed::List;
use crate::request::{dangling, grow_zeroed, relocate};
use crate::{NoLock, SizeClasses, Source};

/// What to do for a request whose class has no block left.
///
/// # Examples
///
/// See [`Elastic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relief {
    /// Refuse it.
    Fail,
    /// Give it a block of the next larger class that has one, or refuse it.
    NextClass,
    /// Hand it to the fallback.
    Fallback,
    /// Give it a block of the next larger class that has one, or hand it to the fallback.
    NextClassOrFallback,
    /// Look again, and ask again if there is still none: for a policy that has meanwhile released something. A policy that
    /// never answers anything else spins until another thread, or an interrupt, has released a block of this class, which for
    /// a request that has no class is never.
    Retry,
}

/// A request whose class has no block left: what a [`Policy`] is asked about.
///
/// # Examples
///
/// See [`Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// What was asked for.
    pub layout: Layout,
    /// The class, counted from 0 in the order of [`Table::rows`](crate::Table::rows); `None` for a request that is too large, or
    /// too much aligned, for all of them.
    pub class: Option<usize>,
    /// How often the policy has answered [`Relief::Retry`] for this request.
    pub retries: u32,
}

/// Says what is done when a class is exhausted: the same for all (a [`Relief`]), by class (an array of them), or whatever a
/// function makes of it.
///
/// It is asked only then. The function may release blocks, and answer [`Relief::Retry`]; it may also use the allocator.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Exhausted, Layout, Policy, Relief};
///
/// let small = Exhausted { layout: Layout::new::<u8>(), class: Some(0), retries: 0 };
/// let too_large = Exhausted { layout: Layout::new::<[u8; 9999]>(), class: None, retries: 0 };
///
/// assert_eq!(Relief::NextClass.relief(&small), Relief::NextClass);
///
/// let by_class = [Relief::NextClass, Relief::Fail];
/// assert_eq!(by_class.relief(&small), Relief::NextClass);
/// assert_eq!(by_class.relief(&too_large), Relief::Fail); // as the last class does
///
/// let asked = |exhausted: &Exhausted| if exhausted.class.is_none() { Relief::Fallback } else { Relief::Fail };
/// assert_eq!(asked.relief(&too_large), Relief::Fallback);
/// ```
pub trait Policy {
    /// What to do for this request.
    fn relief(&self, exhausted: &Exhausted) -> Relief;
}

impl Policy for Relief {
    fn relief(&self, _: &Exhausted) -> Relief {
        *self
    }
}

impl<const N: usize> Policy for [Relief; N] {
    fn relief(&self, exhausted: &Exhausted) -> Relief {
        let last = N.saturating_sub(1);
        self.get(exhausted.class.unwrap_or(last).min(last)).copied().unwrap_or(Relief::Fail)
    }
}

impl<P: Fn(&Exhausted) -> Relief> Policy for P {
    fn relief(&self, exhausted: &Exhausted) -> Relief {
        self(exhausted)
    }
}

/// The fallback of those that have none: refuses everything.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{AllocError, Allocator, Layout, NoFallback};
///
/// assert_eq!(NoFallback.allocate(Layout::new::<u8>()), Err(AllocError));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFallback;

// SAFETY: it never gives out a block.
unsafe impl Allocator for NoFallback {
    fn allocate(&self, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }

    unsafe fn deallocate(&self, _: NonNull<u8>, _: Layout) {}
}

/// Where the blocks of a class lie.
#[derive(Clone, Copy)]
struct Region {
    start: usize,
    bytes: usize,
    class: usize,
}

impl Region {
    const NOWHERE: Self = Region { start: usize::MAX, bytes: 0, class: 0 };

    #[inline(always)]
    fn has(&self, block: NonNull<u8>) -> bool {
        // Below the start it wraps round and is larger than any region.
        block.addr().get().wrapping_sub(self.start) < self.bytes
    }
}

/// [`SizeClasses`] with a [`Policy`] for requests whose class is exhausted, and a fallback.
///
/// As long as no class is exhausted it costs a release one comparison. A block finds its way home by its address, whoever it
/// came from, in at most eight steps. A block that came from a larger class is as large as that class says, and grows in
/// place as far.
///
/// # Errors
///
/// [`AllocError`] where the policy says so, or where what it says has no block either.
///
/// # Aborts
///
/// If the fallback has its memory from these very classes, and moves there a block that grows or shrinks, and there is no
/// other place for it. (As long as it has not moved, that is an error.)
///
/// # Panics
///
/// Where the policy or the fallback does; the request is as if it had been refused.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Bump, Elastic, MemReq, Relief, SizeClasses, table};
///
/// let (mut memory, mut more) = ([MaybeUninit::uninit(); 1024], [MaybeUninit::uninit(); 1024]);
/// let system = SizeClasses::new(&table([MemReq::new(64, 1), MemReq::new(256, 1)]), &mut memory)?;
/// let reserve = Bump::new(&mut more);
///
/// let pools = Elastic::new(system, [Relief::NextClassOrFallback, Relief::Fail], &reserve);
/// let a = Box::new_in([1_u8; 64], &pools);
/// let b = Box::new_in([2_u8; 64], &pools); // in the block of 256 bytes
/// let c = Box::new_in([3_u8; 64], &pools); // in the reserve
/// assert!(Box::try_new_in([4_u8; 256], &pools).is_err());
/// drop((a, b));
/// assert!(Box::try_new_in([4_u8; 256], &pools).is_ok());
/// assert_eq!(reserve.used(), 64);
/// # drop(c);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
///
/// A callback makes room:
///
/// ```
/// use core::cell::Cell;
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Allocator, Elastic, Exhausted, Layout, MemReq, NoFallback, Relief, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 1)]), &mut memory)?;
/// let pages = Cell::new(1);
/// let policy = |exhausted: &Exhausted| match exhausted.retries {
///     0 if pages.take() > 0 => Relief::Retry, // here a program would drop what it can do without
///     _ => Relief::Fail,
/// };
/// let pools = Elastic::new(system, policy, NoFallback);
/// let page = Box::new_in([0_u8; 64], &pools);
/// assert!(Box::try_new_in([0_u8; 64], &pools).is_err());
/// assert_eq!(pages.get(), 0);
/// # drop(page);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
pub struct Elastic<const N: usize, B: Backing, P: Policy, A: Source, F: Form = NoLock> {
    system: SizeClasses<N, B, F>,
    /// By class.
    own: [Region; N],
    /// By address.
    regions: [Region; N],
    len: usize,
    policy: P,
    fallback: A,
}

impl<const N: usize, B: Backing, P: Policy, A: Source, F: Form> Elastic<N, B, P, A, F> {
    /// O(classes²).
    ///
    /// For examples see [`Elastic`].
    pub fn new(system: SizeClasses<N, B, F>, policy: P, fallback: A) -> Self {
        let mut own = [Region::NOWHERE; N];
        let rows = system.table().rows();
        for (class, ((own, list), row)) in own.iter_mut().zip(&system.classes).zip(rows).enumerate() {
            let start = list.start(row.n_blocks).addr().get();
            *own = Region { start, bytes: row.block_size * row.n_blocks, class };
        }
        let mut regions = own;
        regions.sort_unstable_by_key(|region| region.start);
        Elastic { len: rows.len(), system, own, regions, policy, fallback }
    }

    /// The classes, for their counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Elastic, MemReq, NoFallback, Relief, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(64, 1), MemReq::new(256, 1)]), &mut memory)?;
    /// let pools = Elastic::new(system, Relief::NextClass, NoFallback);
    /// let _both = (Box::new_in(1, &pools), Box::new_in(2, &pools));
    /// assert!(pools.system().classes().all(|class| class.live == 1));
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    #[must_use]
    pub fn system(&self) -> &SizeClasses<N, B, F> {
        &self.system
    }

    /// The class that a block came from, if not from the fallback. `hint` is where to look first.
    #[inline]
    fn home(&self, block: NonNull<u8>, hint: usize) -> Option<usize> {
        match self.own.get(hint) {
            Some(own) if own.has(block) => Some(hint),
            _ => self.search(block),
        }
    }

    #[cold]
    #[inline(never)]
    fn search(&self, block: NonNull<u8>) -> Option<usize> {
        let regions = self.regions.get(..self.len)?;
        let after = regions.partition_point(|region| region.start <= block.addr().get());
        let region = regions.get(after.checked_sub(1)?)?;
        region.has(block).then_some(region.class)
    }

    /// A block for a request of at least one byte, whose class has none.
    #[cold]
    #[inline(never)]
    fn relieve(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let class = self.system.class_of(layout);
        let mut exhausted = Exhausted { layout, class: (class < self.len).then_some(class), retries: 0 };
        loop {
            let relief = self.policy.relief(&exhausted);
            match relief {
                Relief::Fail => return Err(AllocError),
                Relief::Retry => {
                    // SAFETY: a layout's class.
                    if let Ok(block) = unsafe { self.system.allocate_from(class) } {
                        return Ok(block);
                    }
                    exhausted.retries = exhausted.retries.saturating_add(1);
                    continue;
                }
                Relief::NextClass | Relief::NextClassOrFallback => {
                    if let Some(block) = self.next_class(class, layout) {
                        return Ok(block);
                    }
                }
                Relief::Fallback => {}
            }
            return match relief {
                Relief::NextClass => Err(AllocError),
                _ => self.fall_back(layout),
            };
        }
    }

    fn next_class(&self, class: usize, layout: Layout) -> Option<NonNull<[u8]>> {
        (class.checked_add(1)?..self.len)
            .filter(|&larger| self.holds(larger, layout))
            // SAFETY: one of the table's.
            .find_map(|larger| unsafe { self.system.allocate_from(larger) }.ok())
    }

    /// Whether the blocks of a class are large and aligned enough.
    #[inline]
    fn holds(&self, class: usize, layout: Layout) -> bool {
        let block_size = self.system.classes.get(class).map_or(0, List::block_size);
        layout.size() <= block_size
            && block_size & (layout.align() - 1) == 0
            && layout.align() <= crate::fixup::MAX_ALIGN
    }

    fn same(&self, block: NonNull<u8>, class: usize) -> NonNull<[u8]> {
        NonNull::slice_from_raw_parts(self.system.own(block), self.system.classes[class].block_size())
    }

    fn fall_back(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let fallback = self.fallback.handle();
        let block = fallback.allocate(layout)?;
        // A fallback that has its memory from us: the block could not be told from ours.
        if self.search(block.cast()).is_some() {
            // SAFETY: just allocated there.
            unsafe { fallback.deallocate(block.cast(), layout) };
            return Err(AllocError);
        }
        Ok(block)
    }

    /// Changes the size of a block of the fallback.
    ///
    /// # Safety
    ///
    /// As for [`Allocator::grow`], or [`Allocator::shrink`].
    #[cold]
    #[inline(never)]
    unsafe fn resize_fallback(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let fallback = self.fallback.handle();
        // SAFETY: passed on to our caller; the block came from the fallback (invariant 2).
        let Ok(resized) = (unsafe { resize_in(fallback, block, old, new) }) else {
            let fresh = self.allocate(new)?;
            // SAFETY: the block is the fallback's, and our caller lets us release it.
            return Ok(unsafe { carry(fallback, block, old, fresh) });
        };
        if self.search(resized.cast()).is_none() {
            return Ok(resized);
        }
        // The old block is gone, so it is too late for an error, or for a policy that panics.
        Ok(AbortOnUnwind::around(|| match self.allocate(new) {
            // SAFETY: the fallback has just given it with this layout.
            Ok(fresh) => unsafe { carry(fallback, resized.cast(), new, fresh) },
            Err(AllocError) => abort("a fallback allocator moved a block into what it stands in for"),
        }))
    }
}

// SAFETY: a block comes from a class or from the fallback, which both keep their promises, and goes back to where it came
// from, which its address says (invariant 2): no block of the fallback's is given out that lies in a region.
// What the handle borrows stays where it is. Clones of it are the same reference.
unsafe impl<const N: usize, B: Backing, P: Policy, A: Source, F: Form> Allocator for &Elastic<N, B, P, A, F> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // A request for no bytes is never refused.
        (&self.system).allocate(layout).or_else(|_| self.relieve(layout))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() == 0 {
            return;
        }
        // SAFETY: the block's address says where it came from (invariant 2); the rest is our caller's word.
        unsafe {
            match self.home(block, self.system.class_of(layout)) {
                Some(class) => self.system.release_to(class, block),
                None => self.fallback.handle().deallocate(block, layout),
            }
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.size() == 0 {
            return self.allocate(new);
        }
        match self.home(block, self.system.class_of(old)) {
            Some(class) if self.holds(class, new) => Ok(self.same(block, class)),
            // SAFETY: passed on to our caller.
            Some(_) => unsafe { relocate(*self, block, old, new) },
            // SAFETY: passed on to our caller.
            None => unsafe { self.resize_fallback(block, old, new) },
        }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if new.size() == 0 {
            // SAFETY: passed on to our caller.
            unsafe { self.deallocate(block, old) };
            return Ok(dangling(new));
        }
        match self.home(block, self.system.class_of(old)) {
            Some(class) if self.system.class_of(new) == class => Ok(self.same(block, class)),
            // SAFETY: passed on to our caller.
            Some(class) => match unsafe { relocate(*self, block, old, new) } {
                // There is no smaller block, but this one holds it.
                Err(AllocError) if self.holds(class, new) => Ok(self.same(block, class)),
                result => result,
            },
            // SAFETY: passed on to our caller.
            None => unsafe { self.resize_fallback(block, old, new) },
        }
    }
}

impl<const N: usize, B: Backing, P: Policy, A: Source, F: Form> fmt::Debug for Elastic<N, B, P, A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Elastic").field(&self.system).finish()
    }
}
