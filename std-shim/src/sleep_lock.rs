use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use fibra_allocators::Lock;

/// A lock that sleeps: who has to wait leaves the processor to others. For sections that may take long, such as writing a line
/// somewhere, and wherever there may be more threads than processors.
///
/// A section that enters its own lock again, on the same thread, is let in; it would wait for itself otherwise. A panic in a
/// section frees the lock, and spoils nothing. Neither making one nor using it allocates, so it may stand under a global
/// allocator.
///
/// # Examples
///
/// ```
/// use fibra_std::allocators::{Bump, Locked};
/// use fibra_std::{Malloc, SleepLock};
///
/// let scratch = Locked::<_, SleepLock>::new(Bump::in_parent(Malloc, 4096)?);
/// std::thread::scope(|scope| {
///     for n in 0..4_u64 {
///         let scratch = &scratch;
///         scope.spawn(move || assert_eq!(*allocator_api2::boxed::Box::new_in(n, scratch), n));
///     }
/// });
/// assert_eq!(scratch.with(|bump| bump.used()), 32);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SleepLock {
    turn: Mutex<()>,
    /// The thread that is inside, as [`this_thread`] calls it, or 0. Another thread may see it too late, but never its own
    /// number where it is not.
    inside: AtomicUsize,
}

/// A number that no other living thread has, and not 0. Costs no allocation, unlike `ThreadId`.
fn this_thread() -> usize {
    thread_local! {
        static PLACE: Cell<u8> = const { Cell::new(0) };
    }
    PLACE.with(|place| (&raw const *place).addr())
}

// SAFETY: sections of several threads hold the mutex, whose guard goes also while unwinding; one that enters again is on the
// thread that holds it.
unsafe impl Lock for SleepLock {
    #[allow(clippy::declare_interior_mutable_const)] // as the trait says
    const NEW: Self = SleepLock { turn: Mutex::new(()), inside: AtomicUsize::new(0) };
    const SHARED: bool = true;

    #[inline]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        struct Leave<'a>(&'a AtomicUsize);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Relaxed);
            }
        }

        let this_thread = this_thread();
        // Relaxed: only this thread ever writes this number, and takes it away before it leaves.
        if self.inside.load(Ordering::Relaxed) == this_thread {
            return section();
        }
        let _guard = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.inside.store(this_thread, Ordering::Relaxed);
        let _leave = Leave(&self.inside);
        section()
    }
}

impl fmt::Debug for SleepLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SleepLock")
    }
}
