//! The waker that every poll of a process's fibres is given.
//!
//! There is one per process, not one per fibre: it wakes whichever fibre is being polled. A reference to it only lives
//! as long as that poll, but may meanwhile be used by other threads, so what it touches is atomic or does not change
//! during a poll. A clone is something else: it refers to the fibre's wake cell, or, where the fibre has none, wakes
//! nobody.

use core::task::{RawWaker, RawWakerVTable, Waker};

use portable_atomic::Ordering;

use crate::fibre::FibreRef;
use crate::process::{ProcessCore, ProcessRef};

static OF_PROCESS: RawWakerVTable = RawWakerVTable::new(clone, wake_by_ref, wake_by_ref, drop_nothing);
static OF_NOBODY: RawWakerVTable = RawWakerVTable::new(|_| NOBODY, drop_nothing, drop_nothing, drop_nothing);
pub(crate) const NOBODY: RawWaker = RawWaker::new(core::ptr::null(), &OF_NOBODY);

/// # Safety
/// `process` is the address of a process that outlives the waker.
pub(crate) unsafe fn of_process(process: *const ProcessCore) -> Waker {
    // SAFETY: the functions keep `RawWaker`'s contract as long as the process lives, which is the caller's promise;
    // they may be called from any thread during a poll (see the module's text).
    unsafe { Waker::from_raw(RawWaker::new(process.cast(), &OF_PROCESS)) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: `of_process` says that the process is alive. The running fibre and its wake cell do not change while it is
    // polled, and only during a poll can anybody hold the reference that this is called through.
    let process = unsafe { ProcessRef::new(data.cast()) };
    match (process.outside, process.current.get().and_then(FibreRef::wake_cell)) {
        (Some(outside), Some(cell)) => (outside.clone_waker)(cell),
        _ => NOBODY,
    }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: as in `clone`.
    if let Some(fibre) = unsafe { ProcessRef::new(data.cast()) }.current.get() {
        fibre.woken.store(true, Ordering::Release);
    }
}

unsafe fn drop_nothing(_: *const ()) {}
