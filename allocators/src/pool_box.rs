//! One value in one block.
//!
//! # Invariants
//!
//! 1. `value` points to a value of type `T` in a block that came from `allocator` (or from a clone of it) and that the
//!    value's layout fits, as [`Allocator`] puts it. Pointer and handle part only when the box is taken apart.
//! 2. Nobody else refers to the value or to the block.
//!
//! A `PoolBox<MaybeUninit<T>>` is the block alone: dropping it releases the block and no more. Whatever has to hold a
//! block while a user's code runs holds it so, and the block is released if that code panics.

use core::alloc::Layout;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use crate::NoRoom;

/// One value in a block of an allocator, owned: dropping the box drops the value and releases the block.
///
/// It is `Box` for crates that have no heap: the same methods under the same names, except that every constructor can fail
/// and that failing loses nothing. It is as large as a pointer and the handle `A` together. The block is released also if
/// the value's destructor panics. Values of no bytes take no block.
///
/// There is no `Clone`, since cloning has to be allowed to fail: `PoolBox::new_in(T::clone(&boxed), allocator)`.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, MemReq, PoolBox, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 1)]), &mut memory)?;
///
/// let mut message = PoolBox::new_in([7_u8; 50], &system)?;
/// message[49] = 8;
/// assert_eq!(message.iter().map(|byte| u32::from(*byte)).sum::<u32>(), 49 * 7 + 8);
///
/// let refused = PoolBox::new_in([9_u8; 50], &system).unwrap_err();
/// assert_eq!(refused.value, [9; 50]);
/// drop(message);
/// assert!(PoolBox::new_in(refused.value, &system).is_ok());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// It borrows its allocator, which therefore outlives it:
///
/// ```compile_fail,E0505
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Bump, PoolBox};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// let seven = PoolBox::new_in(7, &bump);
/// drop(bump);
/// drop(seven);
/// ```
pub struct PoolBox<T: ?Sized, A: Allocator> {
    value: NonNull<T>,
    allocator: A,
    owns: PhantomData<T>,
}

impl<T, A: Allocator> PoolBox<T, A> {
    /// Puts a value into a block. Takes the time of one allocation.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if the allocator has no block for it.
    ///
    /// For an example see [`PoolBox`].
    #[inline]
    pub fn new_in(value: T, allocator: A) -> Result<Self, NoRoom<T>> {
        match Self::new_uninit_in(allocator) {
            Ok(room) => Ok(PoolBox::write(room, value)),
            Err(AllocError) => Err(NoRoom { value }),
        }
    }

    /// Takes a block and only then makes the value: for what is expensive to make, or large, since the optimiser can build
    /// it in place.
    ///
    /// If the closure panics, the block is released.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the closure, which was not called, if the allocator has no block for the value.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 4096];
    /// let bump = Bump::new(&mut memory);
    /// let zeros = PoolBox::new_with_in(|| [0_u8; 4000], &bump)?;
    /// assert_eq!(zeros.len(), 4000);
    /// assert!(PoolBox::new_with_in(|| -> [u8; 4000] { unreachable!() }, &bump).is_err());
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn new_with_in<F: FnOnce() -> T>(make: F, allocator: A) -> Result<Self, NoRoom<F>> {
        match Self::new_uninit_in(allocator) {
            Ok(room) => Ok(PoolBox::write(room, make())),
            Err(AllocError) => Err(NoRoom { value: make }),
        }
    }

    /// A block for a value that does not exist yet.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the allocator has no such block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let room = PoolBox::<u64, _>::new_uninit_in(&bump)?; // from here on nothing can fail
    /// assert_eq!(*PoolBox::write(room, 7), 7);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn new_uninit_in(allocator: A) -> Result<PoolBox<MaybeUninit<T>, A>, AllocError> {
        let block = allocator.allocate(Layout::new::<T>())?;
        // SAFETY: a new block with the layout of a `T`, hence of a `MaybeUninit<T>`, which needs no value.
        Ok(unsafe { PoolBox::from_raw_in(block.cast().as_ptr(), allocator) })
    }

    /// Takes the value out and releases the block.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let pool = Pool::<String, _>::new(&mut memory);
    /// let name = pool.put(String::from("pump"))?;
    /// assert_eq!(PoolBox::into_inner(name), "pump");
    /// assert_eq!(pool.live(), 0);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn into_inner(boxed: Self) -> T {
        let (value, allocator) = Self::into_raw_with_allocator(boxed);
        // SAFETY: the parts of a box, whose value is read once, on the next line.
        let room: PoolBox<MaybeUninit<T>, A> = unsafe { PoolBox::from_raw_in(value.cast(), allocator) };
        // SAFETY: it still holds the value (invariant 1), and nobody reads it again.
        unsafe { room.assume_init_read() }
    }
}

impl<T, A: Allocator> PoolBox<MaybeUninit<T>, A> {
    /// Puts the value into the block that was taken for it.
    ///
    /// For an example see [`new_uninit_in`](PoolBox::new_uninit_in).
    #[inline]
    pub fn write(mut room: Self, value: T) -> PoolBox<T, A> {
        MaybeUninit::write(&mut room, value);
        // SAFETY: just written.
        unsafe { room.assume_init() }
    }

    /// The box of the value that the block holds now.
    ///
    /// # Safety
    ///
    /// It holds one, as for [`MaybeUninit::assume_init`].
    #[inline]
    pub unsafe fn assume_init(self) -> PoolBox<T, A> {
        let (room, allocator) = Self::into_raw_with_allocator(self);
        // SAFETY: the parts of a box; there is a value, says the caller, and the layouts are the same.
        unsafe { PoolBox::from_raw_in(room.cast(), allocator) }
    }
}

impl<T: ?Sized, A: Allocator> PoolBox<T, A> {
    /// The box of a value and the handle of the allocator that its block is from.
    ///
    /// # Safety
    ///
    /// The block came from this allocator, the value's layout fits it (as [`Allocator`] puts it), and neither is used by
    /// anybody else from now on. That holds for what [`into_raw_with_allocator`](PoolBox::into_raw_with_allocator) gave.
    #[inline]
    pub unsafe fn from_raw_in(value: *mut T, allocator: A) -> Self {
        // SAFETY: a block is not null.
        let value = unsafe { NonNull::new_unchecked(value) };
        PoolBox { value, allocator, owns: PhantomData }
    }

    /// The value's address and the handle, to be put together again with [`from_raw_in`](PoolBox::from_raw_in); otherwise
    /// neither the value is dropped nor the block released.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let pool = Pool::<u64, _>::new(&mut memory);
    /// let (raw, blocks) = PoolBox::into_raw_with_allocator(pool.put(7)?);
    /// // SAFETY: just taken out of a box with that handle.
    /// let seven = unsafe { PoolBox::from_raw_in(raw, blocks) };
    /// assert_eq!(*seven, 7);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn into_raw_with_allocator(boxed: Self) -> (*mut T, A) {
        let boxed = ManuallyDrop::new(boxed);
        // SAFETY: read once, out of a box that is not used again.
        (boxed.value.as_ptr(), unsafe { ptr::read(&boxed.allocator) })
    }

    /// The handle that the block goes back through.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let one = PoolBox::new_in(1_u8, &bump)?;
    /// let two = PoolBox::new_in(2_u8, *PoolBox::allocator(&one))?;
    /// assert_eq!((*one, *two, bump.used()), (1, 2, 2));
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn allocator(boxed: &Self) -> &A {
        &boxed.allocator
    }

    /// Gives the box up for a reference: the value is never dropped, nor its block released, while the allocator lives.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Arena, Bump, PoolBox};
    ///
    /// static MEMORY: Arena<64> = Arena::new();
    /// let bump = Bump::new(MEMORY.take().expect("taken only here"));
    /// let settings = PoolBox::leak(PoolBox::new_in([1_u32, 2, 3], &bump)?);
    /// settings[0] = 7;
    /// assert_eq!(*settings, [7, 2, 3]);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use = "dropping the reference does not bring the value back: drop the box instead"]
    pub fn leak<'a>(boxed: Self) -> &'a mut T
    where
        A: 'a,
    {
        // SAFETY: ours alone (invariant 2), and left to the reference. The handle is never dropped, so the block stays
        // for as long as a handle of this type can live.
        unsafe { ManuallyDrop::new(boxed).value.as_mut() }
    }

    /// Pins the value: it stays where it is until it is dropped.
    ///
    /// The allocator has to be there for ever, as a `static` one is, because a pinned value's memory must not be used again
    /// before the value was dropped; a box that is forgotten in a local allocator would break that. An [`Unpin`] value does
    /// not mind: [`Pin::new`].
    ///
    /// # Examples
    ///
    /// ```
    /// use allocator_api2::alloc::Global;
    /// use fibra_allocators::{AllocError, PoolBox};
    ///
    /// let mut future = PoolBox::into_pin(PoolBox::new_in(async { 7 }, Global)?);
    /// let mut context = core::task::Context::from_waker(core::task::Waker::noop());
    /// assert_eq!(future.as_mut().poll(&mut context), core::task::Poll::Ready(7));
    /// # Ok::<(), AllocError>(())
    /// ```
    ///
    /// ```compile_fail,E0597
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let bump = Bump::new(&mut memory);
    /// let future = PoolBox::into_pin(PoolBox::new_in(async { 7 }, &bump).unwrap());
    /// ```
    #[inline]
    #[must_use]
    pub fn into_pin(boxed: Self) -> Pin<Self>
    where
        A: 'static,
    {
        // SAFETY: the value does not move with the box, and no method of a pinned box gives it out. The handle is good for
        // ever, so if the box is forgotten, and the handle with it, then the block is never used again.
        unsafe { Pin::new_unchecked(boxed) }
    }
}

impl<T: ?Sized, A: Allocator> Drop for PoolBox<T, A> {
    #[inline]
    fn drop(&mut self) {
        struct Release<'a, A: Allocator>(NonNull<u8>, Layout, &'a A);
        impl<A: Allocator> Drop for Release<'_, A> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the block came from this allocator and the layout fits it (invariant 1); the value is gone.
                unsafe { self.2.deallocate(self.0, self.1) }
            }
        }
        let _also_if_it_panics = Release(self.value.cast(), Layout::for_value::<T>(self), &self.allocator);
        // SAFETY: ours (invariants 1 and 2), and this is the end of it.
        unsafe { ptr::drop_in_place(self.value.as_ptr()) }
    }
}

impl<T: ?Sized, A: Allocator> Deref for PoolBox<T, A> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: invariants 1 and 2; the reference borrows the box.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized, A: Allocator> DerefMut for PoolBox<T, A> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: invariants 1 and 2; the reference borrows the box exclusively.
        unsafe { self.value.as_mut() }
    }
}

// SAFETY: the box owns the value and the handle, and has nothing else.
unsafe impl<T: ?Sized + Send, A: Allocator + Send> Send for PoolBox<T, A> {}
// SAFETY: a shared box gives out shared references to the value and the handle, and nothing else.
unsafe impl<T: ?Sized + Sync, A: Allocator + Sync> Sync for PoolBox<T, A> {}

// The value does not move when the box does.
impl<T: ?Sized, A: Allocator> Unpin for PoolBox<T, A> {}
