//! From a box of a value to a box of a trait object, in safe code and without the compiler's unstable traits.
//!
//! The compiler coerces references, and structs with the value in their last field. So the caller coerces a reference to an
//! [`Unsizing`], and the box takes over what became of the pointer.
//!
//! # Invariant
//!
//! An [`Unsizing`] exists only behind the reference that [`PoolBox::unsize`] lends, for a lifetime that nothing outside
//! that one call can name. The lifetime is part of the type, and invariant: a reference from another call, which may well live
//! longer, is of another type. Nothing can be done with one but what can be done with any type: it can be coerced. So a
//! function that returns one of this lifetime returns the one that it got.

use core::fmt;
use core::marker::PhantomData;

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
///
/// nor to be passed off as that of another call, even one that knows how long it lives:
///
/// ```compile_fail
/// use core::marker::PhantomData;
/// use allocator_api2::alloc::Global;
/// use fibra_allocators::PoolBox;
///
/// struct AsLong<'x>(PhantomData<&'x ()>);
///
/// fn as_long<'x, T: ?Sized>(_: &&'x mut T) -> AsLong<'x> {
///     AsLong(PhantomData)
/// }
///
/// let text = PoolBox::new_in(String::from("owned twice"), Global).unwrap();
/// PoolBox::unsize::<String>(text, |it| {
///     let other = PoolBox::new_in(as_long(&it), Global).unwrap();
///     drop(PoolBox::unsize::<String>(other, |_| it));
///     panic!("and dropped twice");
/// });
/// ```
///
/// nor to be swapped with it:
///
/// ```compile_fail,E0521
/// use allocator_api2::alloc::Global;
/// use fibra_allocators::PoolBox;
///
/// let [one, two] = [1, 2].map(|n| PoolBox::new_in(n, Global).unwrap());
/// PoolBox::unsize::<u32>(one, |one| {
///     PoolBox::unsize::<u32>(two, |two| {
///         core::mem::swap(one, two);
///         two
///     });
///     one
/// });
/// ```
#[repr(transparent)]
pub struct Unsizing<'x, T: ?Sized>(PhantomData<fn(&'x ()) -> &'x ()>, T);

impl<T: ?Sized> fmt::Debug for Unsizing<'_, T> {
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
        coerce: impl for<'x> FnOnce(&'x mut Unsizing<'x, T>) -> &'x mut Unsizing<'x, U>,
    ) -> PoolBox<U, A> {
        let mut boxed = boxed;
        let value: *mut T = &mut *boxed;
        // SAFETY: the value is the box's alone, and an `Unsizing` is the value, as far as memory goes. The box is not
        // touched before the reference is done with, unless the closure panics, which ends the reference too.
        let coerced: *mut Unsizing<'_, U> = coerce(unsafe { &mut *(value as *mut Unsizing<'_, T>) });
        let (_, allocator) = Self::into_raw_with_allocator(boxed);
        // SAFETY: by the invariant it is the value that was lent, of the type that it was coerced to, in the same block.
        unsafe { PoolBox::from_raw_in(coerced as *mut U, allocator) }
    }
}
