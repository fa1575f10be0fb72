//! Threads as the workers of shared processes: what the machine supplies.

use std::sync::atomic::{AtomicU8, Ordering, fence};

use fibra_allocators::SpinLock;
use fibra_core::{Here, Platform};

/// The host's threads as workers: what `R` is in a process made by [`Shared`](crate::Shared).
pub type Concurrent = fibra_core::Concurrent<Threads>;

/// The reach of asynchronous channels on the host.
pub type Asynchronous = fibra_core::Asynchronous<Threads>;

/// What the host supplies for workers that are threads: a lock that spins, a place for each thread, and barriers.
///
/// On Linux the worker that seldom needs one makes all others' processors pass a barrier (`membarrier`), so those need none of
/// their own.
///
/// ```
/// use fibra_core::Platform;
/// fibra_std::Threads::here(|_| ()); // seldom needed by hand: `fibra_std::Concurrent` is the reach
/// ```
#[derive(Debug)]
pub struct Threads(());

// SAFETY: a thread's local variable is no other's while the thread lives. The barriers are sequentially consistent fences on both
// sides; or the operating system makes all running threads of the program pass one, and those that do not run have.
unsafe impl Platform for Threads {
    type Lock = SpinLock;

    #[inline(always)]
    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        thread_local! {
            static HERE: Here = const { Here::new() };
        }
        HERE.with(f)
    }

    fn prepare() {
        if REMOTE.load(Ordering::Relaxed) == UNKNOWN {
            let found = if remote::is_possible() { POSSIBLE } else { IMPOSSIBLE };
            // What another thread has found holds for all.
            _ = REMOTE.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn has_remote_barrier() -> bool {
        REMOTE.load(Ordering::Relaxed) == POSSIBLE
    }

    #[inline(never)]
    fn heavy_barrier() {
        fence(Ordering::SeqCst);
        if REMOTE.load(Ordering::Relaxed) == POSSIBLE {
            remote::barrier();
        }
    }
}

/// Whether the others can be made to pass a barrier. Once it is `POSSIBLE`, it stays so.
static REMOTE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const POSSIBLE: u8 = 1;
const IMPOSSIBLE: u8 = 2;

#[cfg(all(target_os = "linux", not(miri)))]
mod remote {
    const REGISTER: libc::c_int = 1 << 4; // MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED
    const BARRIER: libc::c_int = 1 << 3; // MEMBARRIER_CMD_PRIVATE_EXPEDITED

    fn membarrier(command: libc::c_int) -> bool {
        // SAFETY: the system call takes numbers only, and touches no memory.
        unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
    }

    pub fn is_possible() -> bool {
        membarrier(REGISTER) && membarrier(BARRIER)
    }

    /// If it is refused all of a sudden (a filter of system calls that was installed late), others rely on it already.
    pub fn barrier() {
        if !membarrier(BARRIER) {
            std::process::abort();
        }
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod remote {
    pub fn is_possible() -> bool {
        false
    }

    pub fn barrier() {}
}
