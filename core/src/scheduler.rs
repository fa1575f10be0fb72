//! The run queue, the loop that empties it, and collapse.

use core::ptr;

use portable_atomic::Ordering;

use crate::fibre::{FINISHED, FROZEN, Fibre, FibreRef, Marker, QUEUED, Turn};
use crate::process::{ProcessCore, ProcessRef};

impl ProcessCore {
    /// Puts a fibre at the tail of the run queue. It carries `QUEUED`.
    ///
    /// The branch is cheaper than one store through a pointer to either link would be: then the processor could not tell
    /// which of its next loads depends on it.
    #[inline]
    pub fn enqueue(&self, fibre: FibreRef) {
        fibre.next.set(None);
        match self.tail.replace(Some(fibre)) {
            None => self.head.set(Some(fibre)),
            Some(last) => last.next.set(Some(fibre)),
        }
    }

    /// Puts a fibre at the head of the run queue. It carries `QUEUED`.
    pub fn enqueue_first(&self, fibre: FibreRef) {
        let stopper = self.head.get().filter(|first| ptr::eq(first.as_ptr(), &self.stopper));
        let next = match stopper {
            // A stop comes before everything.
            Some(stopper) => stopper.next.replace(Some(fibre)),
            None => self.head.replace(Some(fibre)),
        };
        fibre.next.set(next);
        if next.is_none() {
            self.tail.set(Some(fibre));
        }
    }

    pub fn is_queue_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Makes a fibre ready: to the tail of the run queue, unless it is there already or will never run again.
    #[inline]
    pub fn ready(&self, fibre: FibreRef) {
        if fibre.flags() == 0 {
            fibre.set(QUEUED);
            self.enqueue(fibre);
        }
    }

    #[inline]
    fn pop(&self) -> Option<FibreRef> {
        let fibre = self.head.get()?;
        let next = fibre.next.get();
        self.head.set(next);
        if next.is_none() {
            self.tail.set(None);
        }
        // Subtracted, not masked: the compiler would clear the one byte, and the next load of the word wait for it.
        fibre.status.set(fibre.status.get() - QUEUED);
        Some(fibre)
    }

    /// Takes the whole queue away, as a list.
    pub fn take_queue(&self) -> Option<FibreRef> {
        self.tail.set(None);
        self.head.take()
    }
}

impl ProcessRef {
    /// Runs the ready fibres, and those that they make ready, until there are none.
    pub fn run_ready(self) {
        while let Some(fibre) = self.pop() {
            self.current.set(Some(fibre));
            // SAFETY: the fibre was popped just now; a finished one has a table of its own, which does not poll.
            unsafe { fibre.poll(self) };
        }
        self.current.set(None);
    }

    /// Decides about a fibre whose poll returned `Pending` and which has no live wait, or was woken meanwhile.
    #[cold]
    #[inline(never)]
    pub fn settle(self, fibre: FibreRef) {
        if fibre.woken.load(Ordering::Acquire) {
            fibre.woken.store(false, Ordering::Relaxed);
            self.ready(fibre);
        }
        self.collapse_if_dead(fibre);
    }

    /// Collapses a fibre that is parked and that nothing can wake.
    fn collapse_if_dead(self, fibre: FibreRef) {
        if fibre.status.get() != 0 || fibre.wake_cell().is_some_and(|cell| cell.is_live()) {
            return;
        }
        self.collapse(fibre);
    }

    /// Collapses a fibre that is parked.
    fn collapse(self, fibre: FibreRef) {
        self.current.set(None);
        let reporting = self.reporting.get();
        let report = reporting.map(|reporting| (reporting.collapse)(self, fibre));
        // SAFETY: a parked fibre's future is there (no flag is set), and its poll has returned.
        unsafe { fibre.destroy(self) };
        self.collapsed.set(self.collapsed.get() + 1);
        if let (Some(reporting), Some((report, essential))) = (reporting, report) {
            (reporting.tell)(self, report, essential);
        }
    }

    pub fn enqueue_marker(self, marker: &Fibre) {
        self.ready(self.marker(marker));
    }

    fn marker(self, marker: &Fibre) -> FibreRef {
        // SAFETY: the markers live in the process; the pointer is only used as a header, while the process lives.
        unsafe { FibreRef::new(ptr::NonNull::from(marker)) }
    }

    pub fn request_stop(self) {
        let stopper = self.marker(&self.stopper);
        if stopper.flags() == 0 {
            stopper.set(QUEUED);
            self.enqueue_first(stopper);
        }
    }

    pub fn is_marker(self, fibre: FibreRef) -> bool {
        [&self.dissolver, &self.pump, &self.stopper].into_iter().any(|marker| ptr::eq(marker, fibre.as_ptr()))
    }
}

/// Ends waits whose last counterpart has gone, one at a time, and with them the fibres that had no other: one fibre each
/// turn, so that a chain of any length collapses in turns, not in depth.
pub(crate) struct Dissolver;

impl Marker for Dissolver {
    const TURN: Turn = |process| {
        let Some((channel, node, is_stuck)) = process.channels.next_dissolving() else { return };
        let (waiter, direction, wants_end) = channel.end_wait(node);
        if process.channels.is_dissolving() {
            process.enqueue_marker(&process.dissolver);
        }
        if let Some(fibre) = waiter.fibre() {
            let is_finished = fibre.flags() & FINISHED != 0;
            fibre.forget_wait(process);
            // The block of a finished one may be gone now.
            if !is_finished && wants_end {
                process.ready(fibre);
            } else if !is_finished {
                if let Some(reporting) = process.reporting.get() {
                    (reporting.dead_wait)(process, fibre, channel, direction);
                }
                if is_stuck {
                    // It may wait in other nodes of the same channel, which go with it.
                    process.collapse(fibre);
                } else {
                    process.collapse_if_dead(fibre);
                }
            }
        }
        // Foreign code, so it comes last.
        if let Some(waker) = waiter.into_waker()
            && wants_end
        {
            waker.wake();
        }
    };
}

/// Looks outside once in every round of the ready fibres, and waits there when none is ready.
pub(crate) struct Pump;

impl Marker for Pump {
    const TURN: Turn = |process| {
        if let Some(outside) = process.outside {
            (outside.pump)(process, outside.hub);
        }
    };
}

/// Ends the loop by taking the queue away from it.
pub(crate) struct Stopper;

impl Marker for Stopper {
    const TURN: Turn = |process| {
        process.is_stopped.set(true);
        process.cut_off.set(process.take_queue());
    };
}

impl FibreRef {
    /// Adds the fibre to the set that is destroyed at the end, unless it is there or has a list of its own.
    pub fn freeze(self, process: &ProcessCore) {
        if self.flags() & (FROZEN | QUEUED) == 0 {
            self.set(FROZEN);
            self.next.set(process.frozen.replace(Some(self)));
        }
    }
}
