//! The atomics of the lock-free forms: the real ones, or those of the model checker.

use core::ptr::NonNull;

#[cfg(fibra_loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
#[cfg(not(fibra_loom))]
pub(crate) use portable_atomic::{AtomicU32, AtomicUsize, Ordering};

/// A row of atomics in memory that somebody else keeps. An entry has no value before its first `store`.
pub(crate) struct Row<T> {
    first: NonNull<T>,
}

impl<T> Row<T> {
    pub(crate) const NONE: Self = Row { first: NonNull::dangling() };

    /// # Safety
    ///
    /// There is room for `len` entries at `memory`, aligned for them, that is nobody else's until the last use of the row.
    pub(crate) unsafe fn new(memory: NonNull<u8>, len: usize) -> Self
    where
        T: Entry,
    {
        Row { first: T::row(memory.cast(), len) }
    }

    /// # Safety
    ///
    /// `index` is less than the row's length, and a load comes after the entry's first store.
    #[inline(always)]
    pub(crate) unsafe fn get(&self, index: usize) -> &T {
        // SAFETY: in the row, by our caller's word; an atomic is made of the same bytes as its value.
        unsafe { self.first.add(index).as_ref() }
    }
}

/// What a row can be made of.
pub(crate) trait Entry: Sized {
    fn row(memory: NonNull<Self>, len: usize) -> NonNull<Self>;
}

#[cfg(not(fibra_loom))]
impl<T> Entry for T {
    #[inline(always)]
    fn row(memory: NonNull<Self>, _len: usize) -> NonNull<Self> {
        // Not so on machines of 16 bits, whose atomics of 32 may be aligned to more.
        const { assert!(align_of::<T>() <= align_of::<usize>(), "side tables are aligned to a word") };
        memory
    }
}

/// The model checker's atomics are larger than their values, so they live in memory of their own.
#[cfg(fibra_loom)]
macro_rules! modelled {
    ($($atomic:ty),*) => {$(
        impl Entry for $atomic {
            fn row(_memory: NonNull<Self>, len: usize) -> NonNull<Self> {
                let row: std::vec::Vec<$atomic> = (0..len).map(|_| <$atomic>::new(0)).collect();
                NonNull::from(row.leak()).cast()
            }
        }
    )*};
}
#[cfg(fibra_loom)]
modelled!(AtomicU32, AtomicUsize);
