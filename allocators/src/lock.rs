//! What keeps threads out of each other's way, where something is shared at all.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

/// How threads, or a thread and interrupts, take turns: not at all ([`NoLock`]), by spinning ([`SpinLock`]) or by masking
/// interrupts (`CriticalSection`, with the feature of that name). The std shim adds one that sleeps.
///
/// Everything in fibra that can be shared is generic over it, so there is one implementation of each thing.
///
/// # Safety
///
/// Of all sections that run [`with`](Lock::with) the same lock, one ends before the next begins, on whatever threads, and
/// sees what that one wrote; unless the lock is not [`Sync`], which leaves one thread. A section ends also when it panics.
/// A section that enters its own lock again may be let in, as part of itself, or wait for itself: code that is generic over
/// locks has to expect either.
///
/// # Examples
///
/// ```
/// use core::cell::Cell;
/// use fibra_allocators::{Lock, NoLock};
///
/// struct Counter<L> {
///     lock: L,
///     count: Cell<u32>,
/// }
///
/// impl<L: Lock> Counter<L> {
///     fn up(&self) -> u32 {
///         self.lock.with(|| {
///             self.count.set(self.count.get() + 1);
///             self.count.get()
///         })
///     }
/// }
///
/// let counter = Counter { lock: NoLock::NEW, count: Cell::new(41) };
/// assert_eq!(counter.up(), 42);
/// ```
pub unsafe trait Lock {
    /// An unlocked lock.
    #[allow(clippy::declare_interior_mutable_const)] // every use is to be a lock of its own
    const NEW: Self;

    /// Whether there can be others to take turns with. What is shared keeps counts that would otherwise be found out by
    /// looking, because looking would make the others wait.
    const SHARED: bool;

    /// Runs `section` while nobody else is inside.
    ///
    /// # Blocking
    ///
    /// Until nobody else is.
    fn with<R>(&self, section: impl FnOnce() -> R) -> R;
}

/// No lock: for what only one thread can reach, which the compiler checks. Takes no space and no time.
///
/// It is the default wherever a lock can be chosen, so it is seldom written down.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Lock, NoLock};
///
/// assert_eq!(size_of::<NoLock>(), 0);
/// assert_eq!(NoLock::NEW.with(|| 42), 42);
/// ```
///
/// ```compile_fail,E0277
/// use fibra_allocators::{Lock, NoLock};
///
/// static NOT_TO_BE_SHARED: NoLock = NoLock::NEW;
/// ```
pub struct NoLock(PhantomData<Cell<()>>);

// SAFETY: not `Sync`, so that all sections run on one thread.
unsafe impl Lock for NoLock {
    const NEW: Self = NoLock(PhantomData);
    const SHARED: bool = false;

    #[inline(always)]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        section()
    }
}

impl fmt::Debug for NoLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NoLock")
    }
}

/// A lock that spins: for sections of a few instructions, on machines with several cores.
///
/// Not to be shared with an interrupt handler of the same core, which would wait for ever for the code that it
/// interrupted; that is what `CriticalSection` is for. There is none on chips without compare-and-swap, which have one
/// core.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Lock, SpinLock};
///
/// static TURN: SpinLock = SpinLock::NEW;
/// assert_eq!(TURN.with(|| 42), 42);
/// ```
#[cfg(target_has_atomic = "8")]
#[derive(Debug)]
pub struct SpinLock(imp::Mutex);

#[cfg(target_has_atomic = "8")]
// SAFETY: a mutex, whose guard is dropped also while unwinding.
unsafe impl Lock for SpinLock {
    const NEW: Self = SpinLock(imp::NEW);
    const SHARED: bool = true;

    #[inline(always)]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        let _guard = imp::lock(&self.0);
        section()
    }
}

#[cfg(all(target_has_atomic = "8", not(fibra_loom)))]
mod imp {
    use spin::mutex::spin::{SpinMutex, SpinMutexGuard};

    pub(super) type Mutex = SpinMutex<()>;
    #[allow(clippy::declare_interior_mutable_const)]
    pub(super) const NEW: Mutex = SpinMutex::new(());

    #[inline(always)]
    pub(super) fn lock(mutex: &Mutex) -> SpinMutexGuard<'_, ()> {
        mutex.lock()
    }
}

// The model checker has to know that a thread waits. Its mutexes cannot be made at compile time.
#[cfg(fibra_loom)]
mod imp {
    use loom::sync::MutexGuard;
    use std::sync::OnceLock;

    pub(super) type Mutex = OnceLock<loom::sync::Mutex<()>>;
    #[allow(clippy::declare_interior_mutable_const)]
    pub(super) const NEW: Mutex = OnceLock::new();

    pub(super) fn lock(mutex: &Mutex) -> MutexGuard<'_, ()> {
        mutex.get_or_init(|| loom::sync::Mutex::new(())).lock().unwrap()
    }
}

/// The section runs with interrupts masked, by whatever the application supplies through the `critical-section` crate: for
/// chips with one core, and for what their interrupt handlers share with the rest.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{CriticalSection, Lock};
///
/// static TURN: CriticalSection = CriticalSection::NEW;
/// assert_eq!(TURN.with(|| 42), 42);
/// ```
#[cfg(feature = "critical-section")]
#[derive(Debug)]
pub struct CriticalSection(());

// SAFETY: there is one critical section in the whole program, and its implementation promises what is asked of us.
#[cfg(feature = "critical-section")]
unsafe impl Lock for CriticalSection {
    const NEW: Self = CriticalSection(());
    const SHARED: bool = true;

    #[inline(always)]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        critical_section::with(|_| section())
    }
}
