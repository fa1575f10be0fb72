//! The lock of a concurrent channel, which is biased towards the worker that uses it.
//!
//! Most channels are used by one worker time after time, because two fibres that talk to each other stay together. A worker that
//! has done so for long enough becomes the channel's owner, and needs the lock no more: it says that it is inside, and then
//! looks whether it still is the owner. Anybody else takes the lock, takes the channel away, and then waits until the owner is
//! outside. The barriers order both, so at least one of them sees the other (Dekker; the same as at a worker's queue).
//!
//! ```text
//!            used `PATIENCE` times in a row by one worker
//!   locked -----------------------------------------------> owned by that worker
//!      ^                                                       |
//!      `-------------------------------------------------------'
//!            anybody else takes the lock
//! ```
//!
//! To take a channel away costs a heavy barrier: some microseconds, which are no more than a part of what was saved, or of what
//! the uses cost that made the owner.

use core::ptr;

use fibra_allocators::Lock;

use crate::process::ProcessRef;
use crate::reach::{Concurrent, Here, Platform};
use crate::sync::word::AtomicPtr;
use crate::sync::{Cell, Ordering, light_fence};
use crate::worker::{Worker, WorkerRef};

/// How often in a row a worker uses a channel before it owns it.
const PATIENCE: u32 = if cfg!(fibra_loom) { 1 } else { 1000 };

/// The tag of a user who owns the channel.
const OWNER: usize = 1;

pub(crate) struct Biased<L> {
    lock: L,
    /// How often in a row its user has used it. Under the lock.
    streak: Cell<u32>,
    /// The worker that has used it last, tagged if it is the owner. Changed under the lock.
    user: AtomicPtr<Worker>,
}

fn owner(worker: *mut Worker) -> *mut Worker {
    worker.wrapping_byte_add(OWNER)
}

impl<L: Lock> Biased<L> {
    pub fn new() -> Self {
        Biased { lock: L::NEW, streak: Cell::new(0), user: AtomicPtr::new(ptr::null_mut()) }
    }

    #[inline(always)]
    fn is_owned_by(&self, worker: WorkerRef) -> bool {
        self.user.load(Ordering::Relaxed) == owner(worker.as_ptr())
    }

    /// Runs a section on a worker of this process.
    #[inline(always)]
    pub fn with_on<P: Platform<Lock = L>, R>(&self, worker: WorkerRef, section: impl FnOnce() -> R) -> R {
        if self.is_owned_by(worker) {
            worker.go_inside();
            // There are owners only where this is enough.
            light_fence();
            if self.is_owned_by(worker) {
                let result = section();
                worker.go_outside();
                return result;
            }
            worker.go_outside();
        }
        self.with::<P, R>(worker.process(), || {
            self.note_user::<P>(worker);
            section()
        })
    }

    /// Runs a section anywhere.
    #[inline(always)]
    pub fn with<P: Platform<Lock = L>, R>(&self, process: ProcessRef, section: impl FnOnce() -> R) -> R {
        self.lock.with(|| {
            if self.user.load(Ordering::Relaxed).addr() & OWNER != 0 {
                self.take_away::<P>(process);
            }
            section()
        })
    }

    /// Takes the channel away from its owner, unless that is who does so. The lock is held.
    #[cold]
    #[inline(never)]
    fn take_away<P: Platform<Lock = L>>(&self, process: ProcessRef) {
        let user = self.user.load(Ordering::Relaxed);
        // The owner is outside, since it is here.
        if owner(P::here(Here::worker)) == user {
            return;
        }
        self.user.store(ptr::null_mut(), Ordering::Relaxed);
        P::heavy_barrier();
        process.among_owners::<Concurrent<P>, _>(|| process.wait_for_owner(user.wrapping_byte_sub(OWNER)));
    }

    /// This worker uses the channel. The lock is held, and there is no other owner.
    #[inline(always)]
    fn note_user<P: Platform>(&self, worker: WorkerRef) {
        let user = self.user.load(Ordering::Relaxed);
        if user == worker.as_ptr() {
            let streak = self.streak.get().wrapping_add(1);
            self.streak.set(streak);
            if streak == PATIENCE && (cfg!(fibra_loom) || P::has_remote_barrier()) {
                self.user.store(owner(user), Ordering::Relaxed);
            }
        } else if user.addr() & OWNER == 0 {
            if !user.is_null() {
                worker.switches.set(worker.switches.get() + 1);
            }
            self.user.store(worker.as_ptr(), Ordering::Relaxed);
            self.streak.set(0);
        }
    }
}
