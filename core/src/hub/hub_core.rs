//! What a hub's process and its cells share: the inbox, and who has the hub.

use core::ptr;

use super::cell::{LOST, NOTIFIED, OWNED, WAKER};
#[cfg(doc)]
use super::{Hub, WakeHub};
use super::{Idle, WakeCell};
use crate::process::{ProcessCore, ProcessRef};
use crate::run::Catch;
use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, const_unless_modelled};

/// The part of a hub that its process and its cells share.
///
/// Who writes a [`WakeHub`] puts one into it; [`Hub`] has one already.
///
/// ```
/// use fibra_core::{HubCore, Idle};
/// # struct WaitForEvent;
/// # impl Idle for WaitForEvent {
/// #     fn wait(&self) {}
/// #     fn wake(&self) {}
/// # }
/// static CORE: HubCore = HubCore::new(&WaitForEvent);
/// ```
pub struct HubCore {
    inbox: AtomicPtr<WakeCell>,
    idle: &'static dyn Idle,
    taken: AtomicBool,
    pub(super) generation: AtomicUsize,
    /// The generation that is to stop.
    pub(super) stop: AtomicUsize,
    /// Of a shared process: [`OPEN`] while workers may join, and above it how many have.
    crew: AtomicUsize,
    /// The process that they join. Set before it is open.
    process: AtomicPtr<ProcessCore>,
    /// What the process has said of whom it waits for may not be true any more.
    pub(super) is_in_doubt: AtomicBool,
}

const OPEN: usize = 1;
const JOINED: usize = 2;

impl HubCore {
    const_unless_modelled! {
    /// A hub that no process uses yet.
    ///
    /// For an example see [`HubCore`].
    pub fn new(idle: &'static dyn Idle) -> Self {
        HubCore {
            inbox: AtomicPtr::new(ptr::null_mut()),
            idle,
            taken: AtomicBool::new(false),
            generation: AtomicUsize::new(0),
            stop: AtomicUsize::new(0),
            crew: AtomicUsize::new(0),
            process: AtomicPtr::new(ptr::null_mut()),
            is_in_doubt: AtomicBool::new(false),
        }
    }
    }

    /// Whether the process has heard of everything that has happened outside so far, and whom it [waits](WakeHub::all_wait) for is
    /// still true.
    ///
    /// For an example see [`WakeHub`].
    #[must_use]
    pub fn is_quiet_now(&self) -> bool {
        self.inbox.load(Ordering::Acquire).is_null() && !self.is_in_doubt.load(Ordering::Acquire)
    }

    /// Ends the process's wait: it looks outside once more.
    ///
    /// For an example see [`WakeHub`].
    pub fn wake(&self) {
        self.idle.wake();
    }

    pub(crate) fn idle(&self) -> &'static dyn Idle {
        self.idle
    }

    /// From now on workers may join.
    pub(crate) fn open(&self, process: ProcessRef) {
        self.process.store(process.as_ptr().cast_mut(), Ordering::Relaxed);
        self.crew.store(OPEN, Ordering::Release);
    }

    /// From now on none can join. Waits until those that have are gone.
    pub(crate) fn shut(&self, wait: impl Fn()) {
        self.crew.fetch_and(!OPEN, Ordering::AcqRel);
        while self.crew.load(Ordering::Acquire) != 0 {
            wait();
        }
    }

    /// Runs another worker of the process, if it is open.
    pub(crate) fn join(&self, idle: &'static dyn Idle, catch: Option<&mut Catch<'_>>) -> bool {
        /// Leaves however the worker ends.
        struct Leave<'a>(&'a HubCore);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.crew.fetch_sub(JOINED, Ordering::Release);
                self.0.idle.wake();
            }
        }

        let mut crew = self.crew.load(Ordering::Relaxed);
        loop {
            if crew & OPEN == 0 {
                return false;
            }
            match self.crew.compare_exchange_weak(crew, crew + JOINED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => crew = now,
            }
        }
        let _leave = Leave(self);
        // SAFETY: the process was there when it was open, and stays until all that have joined are gone.
        let process = unsafe { ProcessRef::new(self.process.load(Ordering::Relaxed)) };
        process.crew.run_another(process, idle, catch);
        true
    }

    /// Makes the hub serve one process; `None` if it already serves another. Gives the process's generation.
    pub(crate) fn take(&self) -> Option<usize> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let generation = self.generation.load(Ordering::Relaxed).wrapping_add(1);
        self.generation.store(generation, Ordering::Relaxed);
        Some(generation)
    }

    pub(crate) fn give_back(&self) {
        self.taken.store(false, Ordering::Release);
    }

    pub(crate) fn is_stopped(&self, generation: usize) -> bool {
        self.stop.load(Ordering::Acquire) == generation
    }

    pub(crate) fn wait(&self) {
        self.idle.wait();
    }

    /// Whether nothing has happened outside. A plain load.
    pub(crate) fn is_quiet(&self, generation: usize) -> bool {
        self.inbox.load(Ordering::Acquire).is_null() && !self.is_stopped(generation)
    }

    /// Whether the inbox holds something. A plain load.
    #[inline(always)]
    pub(crate) fn has_news(&self) -> bool {
        !self.inbox.load(Ordering::Relaxed).is_null()
    }

    pub(super) fn post(&self, cell: &'static WakeCell) {
        let mut first = self.inbox.load(Ordering::Relaxed);
        loop {
            cell.next.store(first, Ordering::Relaxed);
            let new = ptr::from_ref(cell).cast_mut();
            match self.inbox.compare_exchange_weak(first, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        self.idle.wake();
    }

    /// Empties the inbox, oldest first, and shows the cells that were woken or lost their last waker: at most as many
    /// steps as the hub has cells. Then `leave` is to have each [leave](WakeCell::leave_inbox), and says whether it has. Neither
    /// must panic. Several workers may do so at once.
    pub(crate) fn drain(&self, mut each: impl FnMut(&'static WakeCell), leave: impl Fn(&'static WakeCell) -> bool) {
        let mut newest = self.inbox.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest: *mut WakeCell = ptr::null_mut();
        while let Some(cell) = WakeCell::at(newest) {
            newest = cell.next.load(Ordering::Relaxed);
            cell.next.store(oldest, Ordering::Relaxed);
            oldest = ptr::from_ref(cell).cast_mut();
        }
        while let Some(cell) = WakeCell::at(oldest) {
            // Before the cell leaves the inbox: from then on others may post it again.
            oldest = cell.next.load(Ordering::Relaxed);
            let before = cell.state.fetch_and(!(NOTIFIED | LOST), Ordering::AcqRel);
            // One that only lost its last waker, and has another by now, was not woken.
            if before & OWNED != 0 && (before & NOTIFIED != 0 || before < WAKER) {
                each(cell);
            }
            if !leave(cell) {
                self.post(cell);
            }
        }
    }
}
