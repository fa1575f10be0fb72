use core::alloc::Layout;
use core::fmt;

use allocator_api2::alloc::AllocError;

/// The allocator has no block for a value, which comes back in this error.
///
/// Either all blocks that could hold it are in use, or none is as large or as aligned. So drop something, reserve more
/// blocks of that size, or put the value elsewhere. Where the value does not matter, the error becomes an [`AllocError`].
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, Borrowed, NoRoom, Pool};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let pool = Pool::<[u64; 8], _>::new(&mut memory[..63]);
/// let NoRoom { value } = pool.put([7; 8]).unwrap_err();
/// assert_eq!(value, [7; 8]);
///
/// fn count(pool: &Pool<[u64; 8], Borrowed<'_>>) -> Result<usize, AllocError> {
///     let _row = pool.put([0; 8])?;
///     Ok(pool.live())
/// }
/// assert_eq!(count(&pool), Err(AllocError));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NoRoom<T> {
    /// What could not be put anywhere: the value, or the closure that would have made it.
    pub value: T,
}

impl<T> NoRoom<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> NoRoom<U> {
        NoRoom { value: f(self.value) }
    }
}

// Also for values that cannot be printed, so that `unwrap` works with every type.
impl<T> fmt::Debug for NoRoom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoRoom").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for NoRoom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = Layout::new::<T>();
        write!(
            f,
            "no free block for {} bytes aligned to {}: release one, or reserve more",
            layout.size(),
            layout.align()
        )
    }
}

impl<T> core::error::Error for NoRoom<T> {}

impl<T> From<NoRoom<T>> for AllocError {
    /// Drops the value.
    fn from(_: NoRoom<T>) -> Self {
        AllocError
    }
}
