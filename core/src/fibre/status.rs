//! What a fibre is about, and who may touch it.
//!
//! With one worker, the fibre's own diagram (`fibre.rs`) says it all.
//!
//! With several, a fibre that nobody else can name (it waits in no node, or in a single one whose channel's lock one has)
//! belongs to whoever runs or wakes it, and its status is a plain number, as with one. As soon as it waits in a second node, or
//! has a wake cell, others may wake it while it runs, and the status changes by read-modify-write. (While it runs and belongs to its
//! worker, it keeps `QUEUED`.)
//!
//! ```text
//!              popped                     poll: Pending
//!   QUEUED ------------------> RUNNING ------------------> (no flag: parked)
//!     ^                          |  ^                            |
//!     |          `wake_up`       v  | (again: nothing changes)   |
//!     |                     RUNNING + WOKEN                      | `wake_up`, by whoever
//!     |   poll: Pending          |                               | has taken a node off it
//!     `--------------------------'-------------------------------'
//! ```

use crate::reach::Guts;
use crate::sync::{Alone, AtomicU32, Ordering, const_unless_modelled, word};

/// In the run queue. Set by `ProcessCore::ready` and by spawn, cleared when the scheduler pops the fibre.
pub(crate) const QUEUED: u32 = 1 << 29;
/// The future is gone. Set before it is dropped; the block stays while the run queue or a linked node refers to it.
pub(crate) const FINISHED: u32 = 1 << 30;
/// Part of the set that is destroyed at the end of the process. Never runs again.
pub(crate) const FROZEN: u32 = 1 << 31;
/// With several workers: being polled, while others may wake it.
pub(crate) const RUNNING: u32 = 1 << 28;
/// With several workers: woken while it was running.
pub(crate) const WOKEN: u32 = 1 << 27;
/// With several workers: the fibre has a wake cell, so others may wake it at any time.
pub(crate) const HAS_CELL: u32 = 1 << 26;
/// Below the flags: how many linked nodes name the fibre. No process has as many endpoints as this.
pub(crate) const LIVE: u32 = HAS_CELL - 1;

/// A fibre's status: a plain number for whoever it belongs to, changed by read-modify-write when others may name it.
pub(crate) struct Status(AtomicU32);

impl Status {
    const_unless_modelled! {
    pub fn new(status: u32) -> Self {
        Status(AtomicU32::new(status))
    }
    }

    #[inline(always)]
    pub fn get(&self) -> u32 {
        word::load(&self.0)
    }

    #[inline(always)]
    pub fn set(&self, status: u32) {
        word::store(&self.0, status);
    }

    /// The same as [`get`](Self::get).
    #[inline(always)]
    pub fn look<K: Guts>(&self) -> u32 {
        // SAFETY: the fibres of a process that is not shared are used by one thread.
        if K::IS_SHARED { self.get() } else { unsafe { self.0.load_alone() } }
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    pub fn put<K: Guts>(&self, status: u32) {
        if K::IS_SHARED {
            self.set(status);
        } else {
            // SAFETY: as above.
            unsafe { self.0.store_alone(status) }
        }
    }

    /// Changes it while others may, too. Gives what it was, and what it is.
    #[inline]
    fn change(&self, change: impl Fn(u32) -> u32) -> (u32, u32) {
        let mut before = self.get();
        loop {
            let after = change(before);
            match self.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return (before, after),
                Err(now) => before = now,
            }
        }
    }

    /// For a worker that has popped the fibre, while others may name it.
    pub fn begin_to_run(&self) {
        self.change(|status| status - QUEUED + RUNNING);
    }

    /// The fibre waits in one node more while it runs.
    pub fn add_wait_running(&self) {
        if self.get() & !QUEUED == 0 {
            // It belongs to this worker alone, until the node is in the ring.
            self.set(RUNNING | 1);
        } else {
            self.change(|status| status + 1);
        }
    }

    /// What becomes of a fibre after its poll, if `may_park`: parked (`false`), or queued (`true`) because it was woken.
    /// If not, nothing has changed unless it was woken.
    pub fn end_run(&self, is_woken: bool, may_park: bool) -> bool {
        let stays = |status: u32| status & (LIVE | HAS_CELL);
        let (_, after) = self.change(|status| {
            if is_woken || status & WOKEN != 0 {
                stays(status) | QUEUED
            } else if may_park {
                stays(status)
            } else {
                status
            }
        });
        after & QUEUED != 0
    }

    /// Wakes the fibre, and takes one linked node off it if `has_left_node`.
    #[must_use]
    pub fn wake_up(&self, has_left_node: bool) -> Woken {
        let (before, after) = self.change(|status| {
            let status = status - u32::from(has_left_node);
            if status & (FINISHED | FROZEN | QUEUED) != 0 {
                status
            } else if status & RUNNING != 0 {
                status | WOKEN
            } else {
                status | QUEUED
            }
        });
        if before & QUEUED == 0 && after & QUEUED != 0 {
            Woken::Ready
        } else if after == FINISHED {
            Woken::Unused
        } else {
            Woken::NotNow
        }
    }

    /// Takes one linked node off the fibre, because the wait in it can never end. If others are left, or it has a wake cell,
    /// it is woken, to find out for itself; unless `is_stuck`: then all its waits end like this.
    #[must_use]
    pub fn lose_wait(&self, is_stuck: bool) -> Lost {
        let stays = |status: u32| {
            let is_parked = status & !(LIVE | HAS_CELL) == 0;
            is_parked && (is_stuck || status == 0)
        };
        let (before, after) = self.change(|status| {
            let status = status - 1;
            if stays(status) || status & (FINISHED | FROZEN | QUEUED) != 0 {
                status
            } else if status & RUNNING != 0 {
                status | WOKEN
            } else {
                status | QUEUED
            }
        });
        if stays(after) && after & LIVE == 0 {
            Lost::All
        } else if before & QUEUED == 0 && after & QUEUED != 0 {
            Lost::One(Woken::Ready)
        } else if after == FINISHED {
            Lost::One(Woken::Unused)
        } else {
            Lost::One(Woken::NotNow)
        }
    }

    /// One linked node less, whose fibre does not care. Says whether nobody refers to the fibre any more.
    #[must_use]
    pub fn leave_node(&self) -> bool {
        self.change(|status| status - 1).1 == FINISHED
    }

    /// Whether a linked node names the fibre. If none does, whatever others did to it when they took theirs off is done.
    pub fn is_named(&self) -> bool {
        self.0.load(Ordering::Acquire) & LIVE != 0
    }

    /// The future has been dropped. Says whether nobody refers to the fibre any more; if somebody does, that one will let
    /// the block go, perhaps at once.
    #[must_use]
    pub(crate) fn end_finish(&self) -> bool {
        // If only this worker names it, nobody else changes it.
        self.0.load(Ordering::Acquire) == FINISHED + 1 || self.leave_node()
    }

    /// The future is about to be dropped. Counted as one wait more meanwhile, so that nobody lets the block go.
    pub(crate) fn begin_to_finish(&self) {
        self.change(|status| ((status & LIVE) | FINISHED) + 1);
    }
}

/// What is left to a fibre that has lost a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// Nothing: it belongs to who took the wait, and collapses.
    All,
    /// Something.
    One(Woken),
}

/// What a fibre's waker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Queue it.
    Ready,
    /// Nothing: it is queued or running, or will never run again.
    NotNow,
    /// Release its block.
    Unused,
}
