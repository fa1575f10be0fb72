use core::alloc::GlobalAlloc;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::Source;
use crate::abort::AbortOnUnwind;

/// An allocator as the global one of a program, so that everything there is runs on it: `Box`, `String`, `HashMap`, other
/// people's crates.
///
/// As it is a static, the allocator usually is a [`Lazy`](crate::Lazy) one; and as not everything has an upper bound, it
/// usually has a [`Fallback`](crate::Fallback):
///
/// ```
/// use std::alloc::System;
/// use std::collections::HashMap;
/// use fibra_allocators::{Arena, AsGlobal, Borrowed, Fallback, FromGlobal, Lazy, MemReq, SizeClasses, SpinLock, Table, table};
///
/// const SIZES: Table<2> = table([MemReq::new(64, 1000), MemReq::new(256, 100)]);
/// static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
///
/// type Pools = SizeClasses<2, Borrowed<'static>, SpinLock>;
///
/// #[global_allocator]
/// static GLOBAL: AsGlobal<Fallback<Lazy<Pools>, FromGlobal<System>>> = AsGlobal::new(Fallback::new(
///     Lazy::new(|| SizeClasses::with_form(&SIZES, MEMORY.take()?).ok()),
///     FromGlobal::new(System),
/// ));
///
/// let names = HashMap::from([("one".to_string(), 1)]); // in the arena
/// assert_eq!(names["one"], 1);
/// let numbers = vec![0_u8; 100_000]; // the host's
/// # assert_eq!(numbers.len(), 100_000);
/// ```
///
/// With threads that allocate much, [`Cached`](crate::Cached) classes are several times as fast.
///
/// `realloc` is `grow` or `shrink`, so a block stays in place where it can.
///
/// # Aborts
///
/// If the allocator panics, for a global one must not unwind. Those of this crate do not.
#[derive(Debug)]
pub struct AsGlobal<A>(A);

impl<A> AsGlobal<A> {
    /// An allocator to be the global one.
    ///
    /// For an example see [`AsGlobal`].
    #[must_use]
    pub const fn new(allocator: A) -> Self {
        AsGlobal(allocator)
    }

    /// The allocator.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::alloc::{GlobalAlloc, Layout};
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AsGlobal, Bump};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let global = AsGlobal::new(Bump::new(&mut memory));
    /// // SAFETY: the layout has bytes.
    /// let block = unsafe { global.alloc(Layout::new::<u64>()) };
    /// assert!(!block.is_null());
    /// assert_eq!(global.get().used(), 8);
    /// ```
    #[must_use]
    pub const fn get(&self) -> &A {
        &self.0
    }
}

fn or_null(block: Result<NonNull<[u8]>, AllocError>) -> *mut u8 {
    block.map_or(ptr::null_mut(), |block| block.cast().as_ptr())
}

// SAFETY: a reference to the allocator keeps the contract of `Allocator`, which is not less than what is asked of us; it
// never unwinds, because that ends the program.
unsafe impl<A: Source> GlobalAlloc for AsGlobal<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        AbortOnUnwind::around(|| or_null(self.0.handle().allocate(layout)))
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        AbortOnUnwind::around(|| or_null(self.0.handle().allocate_zeroed(layout)))
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller has it from us, with this layout, so it is not null.
        AbortOnUnwind::around(|| unsafe { self.0.handle().deallocate(NonNull::new_unchecked(block), layout) });
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, old: Layout, new_size: usize) -> *mut u8 {
        AbortOnUnwind::around(|| {
            // SAFETY: the caller has it from us, with this layout, so it is not null; and sees to it that the new size makes
            // a layout with the same alignment.
            let (block, new) =
                unsafe { (NonNull::new_unchecked(block), Layout::from_size_align_unchecked(new_size, old.align())) };
            // SAFETY: as above, and each method gets what it is for.
            or_null(unsafe {
                if new_size >= old.size() {
                    self.0.handle().grow(block, old, new)
                } else {
                    self.0.handle().shrink(block, old, new)
                }
            })
        })
    }
}
