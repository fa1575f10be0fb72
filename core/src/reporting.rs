//! Telling of lost fibres. Reached through pointers that are set where somebody wants to know: so an image for a chip on
//! which nobody does has none of it, and none of the names.

use core::ptr::NonNull;

use crate::channel::ChannelRef;
use crate::fibre::FibreRef;
use crate::node::Direction;
use crate::outcome::{Fate, Report, Wait};
use crate::process::{ProcessCore, ProcessRef};

pub(crate) struct Reporting {
    /// A fibre's name, and whether it is essential.
    pub identity: fn(FibreRef) -> (&'static str, bool),
    /// A fibre has met a wait that can never end.
    pub dead_wait: fn(ProcessRef, FibreRef, ChannelRef, Direction),
    /// What there will be to tell of a fibre that is about to collapse, and whether it is essential.
    pub collapse: fn(ProcessRef, FibreRef) -> (Report, bool),
    /// A fibre was lost.
    pub tell: fn(ProcessRef, Report, bool),
    /// The fibre that panicked last, if that was not told yet.
    pub panicked: fn(ProcessRef),
    /// The fibre that is being destroyed held the other end of a frozen wait.
    pub note_holder: fn(ChannelRef, Direction),
    /// The fibres that were parked when the process ended.
    pub deadlocks: fn(ProcessRef),
}

pub(crate) static REPORTING: Reporting = Reporting {
    identity: |fibre| (fibre.name(), fibre.is_essential()),
    dead_wait: |process, fibre, channel, direction| {
        process.dead_wait.set(Some((fibre, channel.name(), direction)));
        fibre.has_dead_wait.set(true);
    },
    collapse: |process, fibre| {
        let wait = match process.dead_wait.take() {
            Some((who, channel, direction)) if who == fibre && fibre.has_dead_wait.get() => Some((channel, direction)),
            _ => None,
        };
        let wait = Wait::new(fibre.name(), wait);
        (Report { fate: Fate::Collapsed, wait, held_by: None }, fibre.is_essential())
    },
    tell,
    panicked: |process| {
        if let Some((name, essential)) = process.panicked_last.take() {
            let wait = Wait::new(name, None);
            tell(process, Report { fate: Fate::Panicked, wait, held_by: None }, essential);
        }
    },
    note_holder: ChannelRef::note_holder,
    deadlocks: |process| {
        for channel in process.channels.frozen() {
            channel.for_each_frozen(|fibre, direction, holder| {
                if fibre.has_panicked.get() {
                    return;
                }
                let wait = Wait::new(fibre.name(), Some((channel.name(), direction)));
                let held_by = holder.map(FibreRef::name);
                tell(process, Report { fate: Fate::Deadlocked, wait, held_by }, fibre.is_essential());
            });
        }
    },
};

/// Remembers the first essential fibre that was lost, and calls the visitor.
fn tell(process: ProcessRef, report: Report, essential: bool) {
    /// Puts the visitor back, even if it panics.
    struct PutBack<'a>(&'a ProcessCore, NonNull<dyn FnMut(&Report)>);
    impl Drop for PutBack<'_> {
        fn drop(&mut self) {
            self.0.report.set(Some(self.1));
        }
    }

    if essential && process.lost.get().is_none() {
        process.lost.set(Some(report));
    }
    if let Some(visit) = process.report.take() {
        let mut visit = PutBack(&process, visit);
        // SAFETY: `Setup::run` put a closure there that outlives the process, and it was taken out, so that this is the
        // only reference to it.
        unsafe { visit.1.as_mut()(&report) };
    }
}
