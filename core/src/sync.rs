//! What several threads share is made of these: the real ones, or those of the model checker. The checker sees every access to
//! a cell, and says so if two of them could be at the same time.

#[cfg(fibra_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};
#[cfg(not(fibra_loom))]
pub(crate) use portable_atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering, fence};

#[cfg(not(fibra_loom))]
pub(crate) use core::cell::Cell;
#[cfg(fibra_loom)]
pub(crate) use loom::cell::Cell;

#[cfg(not(fibra_loom))]
pub(crate) use core::hint::spin_loop;
/// Those that are only loaded and stored, which every chip can do by itself: also one without compare-and-swap, where the others
/// go through a critical section.
pub(crate) mod word {
    #[cfg(not(fibra_loom))]
    pub(crate) use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8};
    #[cfg(fibra_loom)]
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8};

    use super::{AtomicU32, Ordering};

    /// Loads a word that is changed by read-modify-write elsewhere.
    #[inline(always)]
    pub(crate) fn load(atomic: &AtomicU32) -> u32 {
        #[cfg(not(fibra_loom))]
        // SAFETY: the pointer is that of an atomic, which is only ever used as one while it is shared.
        let atomic = unsafe { core::sync::atomic::AtomicU32::from_ptr(atomic.as_ptr()) };
        atomic.load(Ordering::Relaxed)
    }

    /// Stores a word that is changed by read-modify-write elsewhere, but by nobody at the same time.
    #[inline(always)]
    pub(crate) fn store(atomic: &AtomicU32, value: u32) {
        #[cfg(not(fibra_loom))]
        // SAFETY: as in `load`.
        let atomic = unsafe { core::sync::atomic::AtomicU32::from_ptr(atomic.as_ptr()) };
        atomic.store(value, Ordering::Relaxed);
    }
}

/// Keeps the compiler from moving later loads before earlier stores. The processor is kept from it by the other side, where it can
/// do that (`Platform::has_remote_barrier`); the model checker's threads are not.
#[inline(always)]
pub(crate) fn light_fence() {
    if cfg!(fibra_loom) { fence(Ordering::SeqCst) } else { core::sync::atomic::compiler_fence(Ordering::SeqCst) }
}

/// Where a worker waits for another one that is inside for a few instructions.
#[cfg(fibra_loom)]
pub(crate) use loom::hint::spin_loop;

/// An atomic that is used like a `Cell` where there is one thread: the compiler then need not load what it has just stored.
pub(crate) trait Alone {
    type Value;

    /// # Safety
    /// No other thread uses it meanwhile.
    unsafe fn load_alone(&self) -> Self::Value;

    /// # Safety
    /// No other thread uses it meanwhile.
    unsafe fn store_alone(&self, value: Self::Value);
}

macro_rules! alone {
    ($([$($generic:ident)?] $atomic:ty, $value:ty;)*) => {$(
        impl $(<$generic>)? Alone for $atomic {
            type Value = $value;

            #[cfg(not(fibra_loom))]
            #[inline(always)]
            unsafe fn load_alone(&self) -> $value {
                // SAFETY: the caller's promise.
                unsafe { self.as_ptr().read() }
            }

            #[cfg(not(fibra_loom))]
            #[inline(always)]
            unsafe fn store_alone(&self, value: $value) {
                // SAFETY: the caller's promise.
                unsafe { self.as_ptr().write(value) }
            }

            #[cfg(fibra_loom)]
            unsafe fn load_alone(&self) -> $value {
                self.load(Ordering::Relaxed)
            }

            #[cfg(fibra_loom)]
            unsafe fn store_alone(&self, value: $value) {
                self.store(value, Ordering::Relaxed);
            }
        }
    )*};
}
alone! {
    [] word::AtomicU8, u8;
    [] AtomicU32, u32;
    [T] word::AtomicPtr<T>, *mut T;
}

/// A constructor that is `const`, except under the model checker, whose atomics cannot be made at compile time.
#[cfg(not(fibra_loom))]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block) => {
        $(#[$meta])* $vis const fn $name($($arg: $type),*) -> $out $body
    };
}
#[cfg(fibra_loom)]
macro_rules! const_unless_modelled {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> $out:ty $body:block) => {
        $(#[$meta])* $vis fn $name($($arg: $type),*) -> $out $body
    };
}
pub(crate) use const_unless_modelled;
