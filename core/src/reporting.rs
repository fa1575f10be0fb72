//! Telling of lost fibres. Reached through pointers that are set where somebody wants to know: so an image for a chip on
//! which nobody does has none of it, and none of the names.

use core::ptr::NonNull;

use core::marker::PhantomData;
use core::ptr;

use crate::channel::ChannelRef;
use crate::fibre::FibreRef;
use crate::node::Direction;
use crate::outcome::{Fate, Report, Wait};
use crate::process::{ProcessCore, ProcessRef};
use crate::reach::Guts;
use crate::sync::Ordering;
use crate::sync::word::AtomicPtr;
use crate::worker::WorkerRef;

/// Who is told of lost fibres.
#[derive(Clone, Copy)]
pub(crate) enum Visitor {
    /// By the only worker.
    Alone(NonNull<dyn FnMut(&Report)>),
    /// By any worker, and by several at once.
    Shared(NonNull<dyn Fn(&Report) + Sync>),
}

/// Where a process keeps its [`Reporting`], if it has any.
pub(crate) struct ReportingCell(AtomicPtr<Reporting>);

impl ReportingCell {
    pub fn new() -> Self {
        ReportingCell(AtomicPtr::new(ptr::null_mut()))
    }

    #[inline]
    pub fn get(&self) -> Option<&'static Reporting> {
        // SAFETY: only `set` stores anything there.
        unsafe { self.0.load(Ordering::Relaxed).as_ref() }
    }

    pub fn set(&self, reporting: &'static Reporting) {
        self.0.store(ptr::from_ref(reporting).cast_mut(), Ordering::Relaxed);
    }
}

pub(crate) struct Reporting {
    /// A fibre's name, and whether it is essential.
    pub identity: fn(FibreRef) -> (&'static str, bool),
    /// What a channel is called.
    pub name: fn(ChannelRef) -> &'static str,
    /// A fibre has met a wait that can never end.
    pub dead_wait: fn(WorkerRef, FibreRef, &'static str, Direction),
    /// What there will be to tell of a fibre that is about to collapse, and whether it is essential.
    pub collapse: fn(WorkerRef, FibreRef) -> (Report, bool),
    /// A fibre was lost.
    pub tell: fn(ProcessRef, Report, bool),
    /// The fibre that panicked last on this worker, if that was not told yet.
    pub panicked: fn(WorkerRef),
    /// The fibre that is being destroyed held the other end of a frozen wait.
    pub note_holder: fn(ChannelRef, Direction),
    /// The fibres that were parked when the process ended.
    pub deadlocks: fn(ProcessRef),
}

/// The [`Reporting`] of processes of one reach.
pub(crate) struct Of<K>(PhantomData<K>);

impl<K: Guts> Of<K> {
    pub const REPORTING: &'static Reporting = &Reporting {
        identity: |fibre| (fibre.name(), fibre.is_essential()),
        name: ChannelRef::name,
        dead_wait: |worker, fibre, channel, direction| {
            worker.dead_wait.set(Some((fibre, channel, direction)));
            fibre.has_dead_wait.set(true);
        },
        collapse: |worker, fibre| {
            let wait = match worker.dead_wait.take() {
                Some((who, channel, direction)) if who == fibre && fibre.has_dead_wait.get() => {
                    Some((channel, direction))
                }
                _ => None,
            };
            let wait = Wait::new(fibre.name(), wait);
            (Report { fate: Fate::Collapsed, wait, held_by: None }, fibre.is_essential())
        },
        tell: tell::<K>,
        panicked: |worker| {
            if let Some((name, essential)) = worker.panicked_last.take() {
                let wait = Wait::new(name, None);
                tell::<K>(worker.process(), Report { fate: Fate::Panicked, wait, held_by: None }, essential);
            }
        },
        note_holder: ChannelRef::note_holder,
        deadlocks: |process| {
            for channel in process.channels.frozen() {
                channel.for_each_frozen(|fibre, direction, holder| {
                    if fibre.has_panicked.get() {
                        return;
                    }
                    fibre.has_dead_wait.set(true);
                    let wait = Wait::new(fibre.name(), Some((channel.name(), direction)));
                    let held_by = holder.map(FibreRef::name);
                    tell::<K>(process, Report { fate: Fate::Deadlocked, wait, held_by }, fibre.is_essential());
                });
            }
            // Those that waited for no channel of the process.
            let mut next = process.frozen.get();
            while let Some(fibre) = next {
                next = fibre.next.get();
                if !fibre.has_dead_wait.get() && !fibre.has_panicked.get() {
                    let wait = Wait::new(fibre.name(), None);
                    tell::<K>(process, Report { fate: Fate::Deadlocked, wait, held_by: None }, fibre.is_essential());
                }
            }
        },
    };
}

/// Remembers the first essential fibre that was lost, and calls the visitor.
fn tell<K: Guts>(process: ProcessRef, report: Report, essential: bool) {
    /// Puts the visitor back, even if it panics.
    struct PutBack<'a>(&'a ProcessCore, NonNull<dyn FnMut(&Report)>);
    impl Drop for PutBack<'_> {
        fn drop(&mut self) {
            self.0.report.set(Some(Visitor::Alone(self.1)));
        }
    }

    if essential {
        process.exclusive::<K, _>(|| {
            if process.lost.get().is_none() {
                process.lost.set(Some(report));
            }
        });
    }
    match process.report.get() {
        None => {}
        Some(Visitor::Alone(visit)) => {
            process.report.set(None);
            let mut visit = PutBack(&process, visit);
            // SAFETY: `Setup::run` put a closure there that outlives the process, and it was taken out, so that this is the
            // only reference to it.
            unsafe { visit.1.as_mut()(&report) };
        }
        // SAFETY: `Shared::run` put a closure there that outlives the process, and that may be called by any thread.
        Some(Visitor::Shared(visit)) => unsafe { visit.as_ref()(&report) },
    }
}

impl ProcessRef {
    /// Who a fibre is, if anybody wants to know.
    pub fn identity(self, fibre: FibreRef) -> Option<(&'static str, bool)> {
        self.reporting.get().map(|reporting| (reporting.identity)(fibre))
    }
}
