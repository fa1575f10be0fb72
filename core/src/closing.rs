//! The end of a process: what is left is frozen first, then destroyed, then reported, then released.
//!
//! Each step can be entered again after a user's destructor panicked in it: whatever was begun is out of the lists by
//! then.

use crate::fibre::FINISHED;
use crate::process::ProcessRef;

impl ProcessRef {
    /// Destroys everything that is left. After a panic in a destructor or in the visitor, to be called again.
    pub fn close(self) {
        // The platform may have caught a fibre's panic, and not have said so.
        self.destroy_panicked();
        if !self.closing.replace(true) {
            self.freeze();
        }
        self.destroy_cut_off();
        self.destroy_frozen();
        self.destroy_async_frames();
        while let Some(waker) = self.channels.frozen().find_map(|channel| channel.take_frozen_waker()) {
            drop(waker);
        }
        if !self.is_stopped.get()
            && let Some(reporting) = self.reporting.get()
        {
            (reporting.deadlocks)(self);
        }
        self.channels.thaw();
        while let Some(fibre) = self.frozen.get() {
            self.frozen.set(fibre.next.get());
            // SAFETY: its future is gone, and the queue is empty. A ring that still names it belongs to a channel whose endpoint
            // was forgotten, and which nobody can reach any more.
            unsafe { fibre.release(self) };
        }
    }

    /// Fixes the set of those that are parked, and of those that are ready.
    fn freeze(self) {
        self.first_worker().current.set(None);
        match self.first_worker().take_queue() {
            Some(queue) if self.cut_off.get().is_none() => self.cut_off.set(Some(queue.first)),
            // What has panicked may have made others ready as it was destroyed.
            Some(queue) => self.cut_off(queue),
            None => {}
        }
        self.channels.freeze(self, |fibre| fibre.freeze(&self));
        self.cells().filter_map(|cell| cell.fibre.get()).for_each(|fibre| fibre.freeze(&self));
        self.destroy_next.set(self.frozen.get());
    }

    /// Destroys the fibres that were ready.
    fn destroy_cut_off(self) {
        while let Some(fibre) = self.cut_off.get() {
            self.cut_off.set(fibre.next.get());
            if self.is_marker(fibre) {
                continue;
            }
            // It has left the queue. If a ring still names it, it is kept for the release of the ring, like the parked ones.
            let was_finished = fibre.flags() & FINISHED != 0;
            fibre.status.set(fibre.live());
            if fibre.live() != 0 {
                fibre.freeze(&self);
            }
            if was_finished {
                fibre.set(FINISHED);
                fibre.release_if_unused(self);
                continue;
            }
            // SAFETY: the future is there, and no fibre is being polled any more.
            unsafe { fibre.destroy(self.first_worker()) };
            self.stopped.set(self.stopped.get() + 1);
        }
    }

    /// Destroys the fibres that were parked, but keeps their blocks for the report.
    fn destroy_frozen(self) {
        while let Some(fibre) = self.destroy_next.get() {
            self.destroy_next.set(fibre.next.get());
            if fibre.flags() & FINISHED != 0 {
                continue;
            }
            self.dying.set(Some(fibre));
            // SAFETY: the future is there, and no fibre is being polled any more.
            unsafe { fibre.destroy(self.first_worker()) };
            let count = if self.is_stopped.get() { &self.stopped } else { &self.deadlocked };
            count.set(count.get() + 1);
        }
        self.dying.set(None);
    }
}
