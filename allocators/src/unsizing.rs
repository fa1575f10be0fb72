//! From a box of a value to a box of a trait object, in safe code and without the compiler's unstable traits.
//!
//! The compiler coerces references, and structs with the value in their last field. So the caller coerces a reference to an
//! [`Unsizing`], and the box takes over what became of the pointer.
//!
//! # Invariant
//!
//! An [`Unsizing`] exists only behind the reference that [`PoolBox::unsize`] lends, for a lifetime that nothing outside
//! that one call can name, and nothing can be done with one but what can be done with any type: it can be coerced, and
//! swapped with another of the same type. So a function that returns one of this lifetime returns the one that it got.

use core::fmt;

use allocator_api2::alloc::Allocator;

use crate::PoolBox;

/// A value on its way to become a trait object or a slice: see [`PoolBox::unsize`].
///
/// It can be coerced, and nothing else. It is not to be kept:
///
/// ```compile_fail,E0521
/// use allocator_api2::alloc::Global;
/// use fibra_allocators::PoolBox;
///
/// let mut kept = None;
/// PoolBox::unsize::<[u8; 2]>(PoolBox::new_in([1, 2], Global).unwrap(), |it| {
///     kept = Some(it);
///     unreachable!()
/// });
/// ```
#[repr(transparent)]
pub struct Unsizing<T: ?Sized>(T);

impl<T: ?Sized> fmt::Debug for Unsizing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unsizing")
    }
}

impl<T: ?Sized, A: Allocator> PoolBox<T, A> {
    /// Makes a box of a trait object out of a box of a value, or a slice out of an array.
    ///
    /// What the compiler does with `Box` by itself needs a word here: the closure `|it| it`, in which it converts the
    /// reference. Costs nothing at run time.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::fmt::Display;
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 256];
    /// let bump = Bump::new(&mut memory);
    /// let parts = [
    ///     PoolBox::unsize::<dyn Display>(PoolBox::new_in("answer ", &bump)?, |it| it),
    ///     PoolBox::unsize::<dyn Display>(PoolBox::new_in(42, &bump)?, |it| it),
    /// ];
    /// assert_eq!(format!("{}{}", parts[0], parts[1]), "answer 42");
    /// # Ok::<(), AllocError>(())
    /// ```
    ///
    /// What the value borrows is not forgotten:
    ///
    /// ```compile_fail,E0597
    /// use core::fmt::Display;
    /// use allocator_api2::alloc::Global;
    /// use fibra_allocators::PoolBox;
    ///
    /// let text = {
    ///     let local = String::from("gone");
    ///     PoolBox::unsize::<dyn Display>(PoolBox::new_in(&local, Global).unwrap(), |it| it)
    /// };
    /// println!("{text}");
    /// ```
    #[inline]
    #[must_use]
    pub fn unsize<U: ?Sized>(
        boxed: Self,
        coerce: impl for<'x> FnOnce(&'x mut Unsizing<T>) -> &'x mut Unsizing<U>,
    ) -> PoolBox<U, A> {
        let mut boxed = boxed;
        let value: *mut T = &mut *boxed;
        // SAFETY: the value is the box's alone, and an `Unsizing` is the value, as far as memory goes. The box is not
        // touched before the reference is done with, unless the closure panics, which ends the reference too.
        let coerced: *mut Unsizing<U> = coerce(unsafe { &mut *(value as *mut Unsizing<T>) });
        let (_, allocator) = Self::into_raw_with_allocator(boxed);
        // SAFETY: by the invariant it is the value that was lent, of the type that it was coerced to, in the same block.
        unsafe { PoolBox::from_raw_in(coerced as *mut U, allocator) }
    }
}
