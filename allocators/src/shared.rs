//! One value in one block, shared by counted handles.
//!
//! # Invariants
//!
//! 1. `counted` points to what a [`PoolBox`] of the same types would own, in a block of `allocator` and its clones; each
//!    handle is one of those that the count counts (see the invariants of `counted.rs`).
//! 2. While there may be other handles, the value is only read, through shared references. The last handle, found by the
//!    count, takes it over as a `PoolBox`.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
use crate::counted::AnyThread;
use crate::counted::{Count, Counted, OneThread};
use crate::{AllocRef, NoRoom, PoolBox};

/// How the handles of a [`Shared`] value count themselves: [`OneThread`] or [`AnyThread`](crate::AnyThread). Sealed.
pub trait Sharing: Count {}

impl<S: Count> Sharing for S {}

/// A value shared on one thread: `Rc` for crates that have no heap. All of it is in [`Shared`].
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, Counted, Pool, PoolRc};
///
/// let mut memory = [MaybeUninit::uninit(); 256];
/// let pool = Pool::<Counted<[u8; 10]>, _>::new(&mut memory);
/// let message = pool.rc([7; 10])?;
/// let copies = [message.clone(), message.clone(), message];
/// assert_eq!((copies[2][9], PoolRc::strong_count(&copies[0]), pool.live()), (7, 3, 1));
/// drop(copies);
/// assert_eq!(pool.live(), 0);
/// # Ok::<(), AllocError>(())
/// ```
///
/// ```compile_fail,E0277
/// use allocator_api2::alloc::Global;
/// use fibra_allocators::PoolRc;
///
/// let shared = PoolRc::new_in(7, Global).unwrap();
/// std::thread::spawn(move || assert_eq!(*shared, 7));
/// ```
pub type PoolRc<T, A> = Shared<T, A, OneThread>;

/// A value shared among threads: `Arc` for crates that have no heap. All of it is in [`Shared`].
///
/// It can go to another thread if the value is `Send` and `Sync` and the allocator's handle may go there.
///
/// # Examples
///
/// ```
/// use allocator_api2::alloc::Global;
/// use fibra_allocators::{AllocError, PoolArc};
///
/// let table = PoolArc::new_in([1, 2, 3], Global)?;
/// let sum = std::thread::spawn({
///     let table = table.clone();
///     move || table.iter().sum::<i32>()
/// });
/// assert_eq!(sum.join().unwrap(), 6);
/// assert_eq!(PoolArc::try_unwrap(table), Ok([1, 2, 3]));
/// # Ok::<(), AllocError>(())
/// ```
///
/// A single-threaded allocator does not reach another thread:
///
/// ```compile_fail,E0277
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, PoolArc};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// let shared = PoolArc::new_in(7, &bump).unwrap();
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(shared));
/// });
/// ```
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
pub type PoolArc<T, A> = Shared<T, A, AnyThread>;

// SAFETY: whichever thread has the last handle drops the value, so it must be `Send`, and all use it at once, so it
// must be `Sync`. The count orders the last after all others.
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
unsafe impl<T: ?Sized + Send + Sync, A: Allocator + Send> Send for Shared<T, A, AnyThread> {}
// SAFETY: who shares a handle can clone it, so as above; and reach its allocator.
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
unsafe impl<T: ?Sized + Send + Sync, A: Allocator + Sync> Sync for Shared<T, A, AnyThread> {}

/// A value in a block of an allocator, shared by its handles: [`PoolRc`] on one thread, [`PoolArc`](crate::PoolArc) among
/// threads. The last handle drops the value and releases the block.
///
/// Cloning a handle allocates nothing and cannot fail. The count stands in the block, before the value: see [`Counted`].
/// A handle is as large as a pointer and the allocator's handle together.
///
/// There are strong handles only, no weak ones: a cycle of them is never dropped. As with `Rc`, a long list of handles is
/// dropped by recursion, unless its owner takes it apart with [`into_inner`](Shared::into_inner) in a loop.
///
/// After `isize::MAX` handles (most of which must have been forgotten) the value just stays for ever.
///
/// # Examples
///
/// A list that two heads share:
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, AllocRef, MemReq, PoolRc, SizeClasses, table};
///
/// struct Cons<A: AllocRef>(u32, Option<PoolRc<Cons<A>, A>>);
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 3)]), &mut memory).expect("room for three");
///
/// let tail = PoolRc::new_in(Cons(3, None), &system)?;
/// let one = PoolRc::new_in(Cons(1, Some(tail.clone())), &system)?;
/// let two = PoolRc::new_in(Cons(2, Some(tail)), &system)?;
/// let last = |list: &Cons<_>| list.1.as_ref().unwrap().0;
/// assert_eq!((last(&one), last(&two)), (3, 3));
/// # Ok::<(), AllocError>(())
/// ```
pub struct Shared<T: ?Sized, A: Allocator, S: Sharing> {
    counted: NonNull<Counted<T>>,
    /// Taken by `drop`.
    allocator: ManuallyDrop<A>,
    owns: PhantomData<(S, Counted<T>)>,
}

impl<T, A: Allocator, S: Sharing> Shared<T, A, S> {
    /// Puts a value into a block, with one handle. Takes the time of one allocation.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if the allocator has no block for a `Counted<T>`.
    ///
    /// For an example see [`PoolArc`](crate::PoolArc).
    #[inline]
    pub fn new_in(value: T, allocator: A) -> Result<Self, NoRoom<T>> {
        match PoolBox::new_in(Counted::new(value), allocator) {
            Ok(boxed) => Ok(boxed.into()),
            Err(no_room) => Err(no_room.map(Counted::into_inner)),
        }
    }

    /// The value, if this is its only handle; otherwise the handle. The block is released with it.
    ///
    /// If several threads try this with the last handles, it may be that none succeeds; with
    /// [`into_inner`](Shared::into_inner) one does.
    ///
    /// # Errors
    ///
    /// The handle, if there are others.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolRc::new_in(7, &bump)?;
    /// let two = one.clone();
    /// let one = PoolRc::try_unwrap(one).unwrap_err();
    /// drop(two);
    /// assert_eq!(PoolRc::try_unwrap(one), Ok(7));
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn try_unwrap(this: Self) -> Result<T, Self> {
        if !S::is_one(this.count()) {
            return Err(this);
        }
        let (counted, allocator) = Self::into_parts(this);
        // SAFETY: ours was the only handle, and only a handle makes another.
        let boxed = unsafe { PoolBox::from_raw_in(counted.as_ptr(), allocator) };
        Ok(Counted::into_inner(PoolBox::into_inner(boxed)))
    }

    /// Gives this handle up; the value comes back if it was the last. The block is released with it.
    ///
    /// If all handles are given up in this way, on whatever threads, exactly one of them gets the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolRc::new_in(7, &bump)?;
    /// let two = one.clone();
    /// assert_eq!(PoolRc::into_inner(one), None);
    /// assert_eq!(PoolRc::into_inner(two), Some(7));
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn into_inner(this: Self) -> Option<T> {
        let boxed = Self::give_up(this)?;
        Some(Counted::into_inner(PoolBox::into_inner(boxed)))
    }
}

impl<T: ?Sized, A: Allocator, S: Sharing> Shared<T, A, S> {
    /// The value, to be changed, if this is its only handle.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let mut one = PoolRc::new_in(7, &bump)?;
    /// *PoolRc::get_mut(&mut one).expect("it is the only one") = 8;
    /// let two = one.clone();
    /// assert!(PoolRc::get_mut(&mut one).is_none());
    /// assert_eq!(*two, 8);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if !S::is_one(this.count()) {
            return None;
        }
        // SAFETY: ours is the only handle, and it is borrowed exclusively, so that no other comes into being.
        Some(unsafe { &mut (*this.counted.as_ptr()).value })
    }

    /// Whether two handles share one value.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolRc::new_in(7, &bump)?;
    /// let equal = PoolRc::new_in(7, &bump)?;
    /// assert!(PoolRc::ptr_eq(&one, &one.clone()));
    /// assert!(one == equal && !PoolRc::ptr_eq(&one, &equal));
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn ptr_eq(this: &Self, other: &Self) -> bool {
        ptr::addr_eq(this.counted.as_ptr(), other.counted.as_ptr())
    }

    /// How many handles there are, the forgotten ones among them. Another thread may be changing it.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolRc::new_in(7, &bump)?;
    /// let two = one.clone();
    /// assert_eq!(PoolRc::strong_count(&one), 2);
    /// drop(one);
    /// assert_eq!(PoolRc::strong_count(&two), 1);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn strong_count(this: &Self) -> usize {
        this.count().load(core::sync::atomic::Ordering::Relaxed)
    }

    /// This handle's own handle of the allocator.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolRc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolRc::new_in(1, &bump)?;
    /// let two = PoolRc::new_in(2, *PoolRc::allocator(&one))?;
    /// assert_eq!(*one + *two, 3);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn allocator(this: &Self) -> &A {
        &this.allocator
    }

    #[inline]
    fn count(&self) -> &crate::counted::AtomicUsize {
        // SAFETY: the handle keeps the value in place (invariant 1).
        unsafe { &(*self.counted.as_ptr()).count }
    }

    #[inline]
    fn into_parts(this: Self) -> (NonNull<Counted<T>>, A) {
        let mut this = ManuallyDrop::new(this);
        // SAFETY: taken once, out of a handle that is not used again.
        (this.counted, unsafe { ManuallyDrop::take(&mut this.allocator) })
    }

    /// Uncounts the handle. The last one leaves the value, now owned.
    #[inline]
    fn give_up(this: Self) -> Option<PoolBox<Counted<T>, A>> {
        let (counted, allocator) = Self::into_parts(this);
        // SAFETY: the handle was counted until here, so the value is there; with the last one the value is the box's, and
        // otherwise it is not touched any more.
        unsafe { S::down(&(*counted.as_ptr()).count).then(|| PoolBox::from_raw_in(counted.as_ptr(), allocator)) }
    }
}

impl<T: ?Sized, A: Allocator, S: Sharing> From<PoolBox<Counted<T>, A>> for Shared<T, A, S> {
    /// Takes the value over where it is. Costs nothing.
    #[inline]
    fn from(boxed: PoolBox<Counted<T>, A>) -> Self {
        let (counted, allocator) = PoolBox::into_raw_with_allocator(boxed);
        // SAFETY: a box's pointer is not null. A `Counted` that is not shared counts 1, which is this handle.
        let counted = unsafe { NonNull::new_unchecked(counted) };
        Shared { counted, allocator: ManuallyDrop::new(allocator), owns: PhantomData }
    }
}

impl<T: ?Sized, A: AllocRef, S: Sharing> Clone for Shared<T, A, S> {
    /// Another handle to the same value. O(1), allocates nothing.
    #[inline]
    fn clone(&self) -> Self {
        // First, since it is another's code and may panic.
        let allocator = self.allocator.clone();
        S::up(self.count());
        Shared { counted: self.counted, allocator, owns: PhantomData }
    }
}

impl<T: ?Sized, A: Allocator, S: Sharing> Drop for Shared<T, A, S> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: taken once, and the handle ends here.
        let allocator = unsafe { ManuallyDrop::take(&mut self.allocator) };
        if S::down(self.count()) {
            // SAFETY: that was the last handle, so the value is ours alone.
            drop(unsafe { PoolBox::from_raw_in(self.counted.as_ptr(), allocator) });
        }
    }
}

impl<T: ?Sized, A: Allocator, S: Sharing> Deref for Shared<T, A, S> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the handle keeps the value in place (invariant 1), and nobody writes to it (invariant 2).
        unsafe { &(*self.counted.as_ptr()).value }
    }
}

// The value does not move when a handle does.
impl<T: ?Sized, A: Allocator, S: Sharing> Unpin for Shared<T, A, S> {}
