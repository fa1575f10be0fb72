//! The loop of a single-threaded process, collapse, and what takes turns in the run queue besides fibres.

use core::ptr;

use crate::channels::Ended;
use crate::fibre::{FINISHED, FROZEN, Fibre, FibreRef, Marker, QUEUED, Turn};
use crate::process::{ProcessCore, ProcessRef};
use crate::reach::Sequential;
use crate::sync::Ordering;
use crate::worker::WorkerRef;

impl WorkerRef {
    #[inline]
    fn pop(self) -> Option<FibreRef> {
        let fibre = self.pop_queued::<Sequential>()?;
        // Subtracted, not masked: the compiler would clear the one byte, and the next load of the word wait for it.
        fibre.status.put::<Sequential>(fibre.status.look::<Sequential>() - QUEUED);
        Some(fibre)
    }

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

    /// Collapses a fibre that is parked, and that belongs to this worker.
    pub fn collapse(self, fibre: FibreRef) {
        self.current.set(None);
        let reporting = self.process().reporting.get();
        let report = reporting.map(|reporting| (reporting.collapse)(self, fibre));
        // SAFETY: a parked fibre's future is there (no flag is set), and its poll has returned.
        unsafe { fibre.destroy(self) };
        self.collapsed.set(self.collapsed.get() + 1);
        if let (Some(reporting), Some((report, essential))) = (reporting, report) {
            (reporting.tell)(self.process(), report, essential);
        }
    }
}

impl ProcessRef {
    pub fn enqueue_marker(self, marker: &Fibre) {
        self.first_worker().ready(self.marker(marker));
    }

    fn marker(self, marker: &Fibre) -> FibreRef {
        // SAFETY: the markers live in the process; the pointer is only used as a header, while the process lives.
        unsafe { FibreRef::new(ptr::NonNull::from(marker)) }
    }

    pub fn request_stop(self) {
        let stopper = self.marker(&self.stopper);
        if stopper.flags() == 0 {
            stopper.set(QUEUED);
            self.first_worker().enqueue_first::<Sequential>(stopper);
        }
    }

    pub fn is_stopper(self, fibre: FibreRef) -> bool {
        ptr::eq(fibre.as_ptr(), &self.stopper)
    }

    pub fn is_marker(self, fibre: FibreRef) -> bool {
        [&self.dissolver, &self.pump, &self.stopper].into_iter().any(|marker| ptr::eq(marker, fibre.as_ptr()))
    }
}

/// Ends waits whose last counterpart has gone, one at a time, and with them the fibres that had no other: one fibre each
/// turn, so that a chain of any length collapses in turns, not in depth.
pub(crate) struct Dissolver;

impl Marker for Dissolver {
    const TURN: Turn = |worker| {
        let process = worker.process();
        let reporting = process.reporting.get();
        let ended = process.channels.end_next_wait::<Sequential>(reporting.map(|reporting| reporting.name));
        let Some(Ended { waiter, direction, wants_end, is_stuck, name, .. }) = ended else { return };
        process.enqueue_marker(&process.dissolver);
        if let Some(fibre) = waiter.fibre {
            let is_finished = fibre.flags() & FINISHED != 0;
            fibre.forget_wait::<Sequential>(process);
            // The block of a finished one may be gone now.
            if !is_finished && wants_end {
                worker.ready(fibre);
            } else if !is_finished {
                if let (Some(reporting), Some(name)) = (reporting, name) {
                    (reporting.dead_wait)(worker, fibre, name, direction);
                }
                if is_stuck {
                    // It may wait in other nodes of the same channel, which go with it.
                    worker.collapse(fibre);
                } else {
                    worker.collapse_if_dead(fibre);
                }
            }
        }
        // Foreign code, so it comes last.
        if let Some(waker) = waiter.waker
            && wants_end
        {
            waker.wake();
        }
    };
}

/// Looks outside once in every round of the ready fibres, and waits there when none is ready.
pub(crate) struct Pump;

impl Marker for Pump {
    const TURN: Turn = |worker| {
        let process = worker.process();
        if let Some(outside) = process.outside {
            (outside.pump)(process, outside.hub);
        }
    };
}

/// Ends the loop by taking the queue away from it.
pub(crate) struct Stopper;

impl Marker for Stopper {
    const TURN: Turn = |worker| {
        let process = worker.process();
        process.is_stopped.set(true);
        process.cut_off.set(worker.take_queue().map(|queue| queue.first));
    };
}

impl FibreRef {
    /// Adds the fibre to the set that is destroyed at the end, unless it is there or has a list of its own.
    pub fn freeze(self, process: &ProcessCore) {
        if self.flags() & (FROZEN | QUEUED) == 0 {
            self.set(FROZEN);
            // From now on: it was told of.
            self.has_dead_wait.set(false);
            self.next.set(process.frozen.replace(Some(self)));
        }
    }
}
