use allocator_api2::alloc::Allocator;

/// What handles are references to: every type `S` where `&S` is an [`Allocator`]. There is nothing to implement.
///
/// Such are all allocators of this crate, which own an arena and are used by reference; and, trivially, everything that is
/// an allocator by value. What takes an allocator over, and then keeps it in place ([`DynAlloc`](crate::DynAlloc),
/// [`Fallback`](crate::Fallback), ...), asks for this, where what takes a handle asks for [`AllocRef`](crate::AllocRef).
///
/// # Safety
///
/// All handles of one value are handles to the same allocator: what is allocated through one may be used and released
/// through another one, as if they were clones, until the value is moved or dropped.
///
/// So it is not for safe code to say which allocator that is:
///
/// ```compile_fail,E0200
/// use core::cell::Cell;
/// use fibra_allocators::{Borrowed, FixedBlock, Source};
///
/// /// Now the one, now the other.
/// struct Fickle<'m>([FixedBlock<Borrowed<'m>>; 2], Cell<usize>);
///
/// impl<'m> Source for Fickle<'m> {
///     type Handle<'x>
///         = &'x FixedBlock<Borrowed<'m>>
///     where
///         Self: 'x;
///
///     fn handle(&self) -> Self::Handle<'_> {
///         self.1.set(self.1.get() + 1);
///         &self.0[self.1.get() % 2]
///     }
/// }
/// ```
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
pub unsafe trait Source {
    /// A reference.
    type Handle<'x>: Allocator + Copy
    where
        Self: 'x;

    /// A reference, as what allocates.
    fn handle(&self) -> Self::Handle<'_>;
}

// SAFETY: a handle is a reference to the value, and all of those are copies of one another.
unsafe impl<S> Source for S
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
