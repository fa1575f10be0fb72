//! The waker that every poll of a process's fibres is given.
//!
//! There is one per worker, not one per fibre: it wakes whichever fibre is being polled. A reference to it only lives
//! as long as that poll, but may meanwhile be used by other threads, so what it touches is atomic or does not change
//! during a poll. A clone of it wakes nobody. For a fibre with a wake cell, that cell's waker is put in its place.

use core::task::{RawWaker, RawWakerVTable, Waker};

use crate::sync::Ordering;
use crate::worker::Worker;

static OF_WORKER: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, drop_nothing);
static OF_NOBODY: RawWakerVTable = RawWakerVTable::new(|_| NOBODY, drop_nothing, drop_nothing, drop_nothing);
pub(crate) const NOBODY: RawWaker = RawWaker::new(core::ptr::null(), &OF_NOBODY);

/// # Safety
/// The worker outlives the waker.
pub(crate) unsafe fn of_worker(worker: *const Worker) -> Waker {
    // SAFETY: the functions keep `RawWaker`'s contract as long as the worker lives, which is the caller's promise;
    // they may be called from any thread during a poll (see the module's text).
    unsafe { Waker::from_raw(RawWaker::new(worker.cast(), &OF_WORKER)) }
}

unsafe fn clone(_: *const ()) -> RawWaker {
    NOBODY
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: `of_worker` says that the worker is there. The running fibre does not change while it is polled, and only during
    // a poll can anybody hold the reference that this is called through.
    if let Some(fibre) = unsafe { &*data.cast::<Worker>() }.current.get() {
        fibre.woken.store(true, Ordering::Release);
    }
}

unsafe fn drop_nothing(_: *const ()) {}

/// Whether waking this waker is of no use: it is a clone of the waker of a fibre without a wake cell.
pub(crate) fn is_nobody(waker: &Waker) -> bool {
    waker.data().is_null() && core::ptr::eq(waker.vtable(), &OF_NOBODY)
}
