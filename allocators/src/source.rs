use allocator_api2::alloc::Allocator;

/// What handles are references to: every type `S` where `&S` is an [`Allocator`]. There is nothing to implement.
///
/// Such are all allocators of this crate, which own an arena and are used by reference; and, trivially, everything that is
/// an allocator by value. What takes an allocator over, and then keeps it in place ([`DynAlloc`](crate::DynAlloc),
/// [`Fallback`](crate::Fallback), ...), asks for this, where what takes a handle asks for [`AllocRef`](crate::AllocRef).
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Bump, Source};
///
/// struct Parser<S> {
///     memory: S,
/// }
///
/// impl<S: Source> Parser<S> {
///     fn parse(&self) -> Box<u8, S::Handle<'_>> {
///         Box::new_in(7, self.memory.handle())
///     }
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let parser = Parser { memory: Bump::new(&mut memory) };
/// assert_eq!(*parser.parse(), 7);
/// ```
// Not merely short for `for<'x> &'x S: Allocator`: a wrapper's implementation that asked for that would send the compiler
// round in circles wherever it has to infer an allocator's type.
pub trait Source {
    /// A reference.
    type Handle<'x>: Allocator + Copy
    where
        Self: 'x;

    /// A reference, as what allocates.
    fn handle(&self) -> Self::Handle<'_>;
}

impl<S> Source for S
where
    for<'x> &'x S: Allocator,
{
    type Handle<'x>
        = &'x S
    where
        Self: 'x;

    #[inline(always)]
    fn handle(&self) -> &S {
        self
    }
}
