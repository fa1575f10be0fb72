//! A wake cell: what the wakers of one fibre point at.
//!
//! ```text
//!  state: wakers * WAKER | LOST | INBOX | NOTIFIED | OWNED
//!
//!            claim                        disown                last waker dropped
//!   0 (free) ------> OWNED [+ wakers] ----------> [wakers] -------------------------> 0 (free)
//!                     |         ^
//!     wake, or the    |         | the process empties its inbox: NOTIFIED or LOST goes, the fibre is made ready (if it then
//!     last waker is   v         | parks with nothing left to wake it, it collapses), and INBOX goes
//!     dropped      OWNED + INBOX + NOTIFIED or LOST
//! ```
//!
//! INBOX goes last, so a fibre whose cell is `OWNED` and nothing else has heard of everything. If the cell was notified anew
//! meanwhile, it stays in the inbox.
//!
//! A cell that is disowned while it is in the inbox is free when the inbox is next emptied, by whichever process.

use core::ptr;
use core::task::{RawWaker, RawWakerVTable, Waker};

use super::HubCore;
#[cfg(doc)]
use super::{Hub, WakeHub};
use crate::fibre::FibreRef;
use crate::sync::{AtomicPtr, AtomicUsize, Cell, Ordering, const_unless_modelled};

pub(super) const OWNED: usize = 1;
pub(super) const NOTIFIED: usize = 2;
pub(super) const INBOX: usize = 4;
/// Its last waker was lost.
pub(super) const LOST: usize = 8;
pub(super) const WAKER: usize = 16;

/// What the wakers of one fibre point at. Its states are drawn in the source.
///
/// Who writes a [`WakeHub`] keeps a number of them; [`Hub`] has its own.
///
/// ```
/// use fibra_core::WakeCell;
/// static CELLS: [WakeCell; 8] = [const { WakeCell::new() }; 8];
/// ```
pub struct WakeCell {
    pub(super) state: AtomicUsize,
    /// How many of its wakers wait in asynchronous channels whose counterparts are all inside of processes.
    inside: AtomicUsize,
    /// The link of the inbox. Belongs to whoever set `INBOX`, until the inbox is emptied.
    pub(super) next: AtomicPtr<WakeCell>,
    /// Where wake-ups go. Written by the owner before the first waker is made.
    hub: Cell<Option<&'static HubCore>>,
    /// The rest belongs to the process that owns the cell, alone.
    pub(crate) fibre: Cell<Option<FibreRef>>,
    pub(super) newer: Cell<Option<&'static WakeCell>>,
    pub(super) older: Cell<Option<&'static WakeCell>>,
}

// SAFETY: other threads only reach the cell through wakers, which use the atomics and `hub`; `hub` is written by the
// thread that claimed the cell (`state` went from 0 to OWNED, with acquire) before a waker exists, and not again before
// the count of wakers was zero. The other cells are only used by the owner's thread.
unsafe impl Sync for WakeCell {}

impl WakeCell {
    const_unless_modelled! {
    /// A free cell.
    ///
    /// For an example see [`WakeCell`].
    #[expect(clippy::new_without_default, reason = "a cell is of no use on its own")]
    pub fn new() -> Self {
        WakeCell {
            state: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
            hub: Cell::new(None),
            fibre: Cell::new(None),
            newer: Cell::new(None),
            older: Cell::new(None),
        }
    }
    }

    /// The cell behind a link of the inbox.
    pub(super) fn at(link: *mut WakeCell) -> Option<&'static WakeCell> {
        // SAFETY: only `post` puts pointers there, and those come from `&'static WakeCell`.
        unsafe { link.as_ref() }
    }

    pub(crate) fn claim(&'static self, hub: &'static HubCore) -> bool {
        if self.state.compare_exchange(0, OWNED, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        self.hub.set(Some(hub));
        true
    }

    /// The owner needs the cell no more.
    pub(crate) fn let_go(&self) {
        self.state.fetch_and(!OWNED, Ordering::AcqRel);
    }

    /// Whether something outside may still wake the cell's fibre, or has and was not heard yet.
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Ordering::Acquire) != OWNED
    }

    /// Takes the cell out of the inbox, unless it was notified anew.
    pub(crate) fn leave_inbox(&self) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while state & (NOTIFIED | LOST) == 0 {
            match self.state.compare_exchange_weak(state, state & !INBOX, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    /// A waker that must not be dropped.
    pub(super) fn uncounted_waker(&'static self) -> RawWaker {
        RawWaker::new(ptr::from_ref(self).cast(), &OF_CELL)
    }

    pub(crate) fn clone_waker(&'static self) -> RawWaker {
        let before = self.state.fetch_add(WAKER, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            // So many clones can only be forgotten ones. The count must not wrap, so the others wake nobody.
            self.state.fetch_sub(WAKER, Ordering::Relaxed);
            return crate::waker::NOBODY;
        }
        RawWaker::new(ptr::from_ref(self).cast(), &OF_CELL)
    }

    /// `is_last_use`: the waker that this is called through goes with it. At once, so that the process does not hear of the
    /// same waker twice.
    fn wake(&'static self, is_last_use: bool) {
        let gone = if is_last_use { WAKER } else { 0 };
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let is_owned = state & OWNED != 0;
            if !is_owned && !is_last_use {
                return;
            }
            // Written even if nothing changes: so that the process, when it takes the notice away, also sees what was done
            // before this call.
            let new = (state - gone) | if is_owned { NOTIFIED | INBOX } else { 0 };
            match self.state.compare_exchange_weak(state, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if is_owned => break,
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        self.post_unless(state & INBOX != 0);
    }

    fn drop_waker(&'static self) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let mut new = state - WAKER;
            let is_last = new & OWNED != 0 && new < WAKER;
            if is_last {
                new |= INBOX | LOST;
            }
            match self.state.compare_exchange_weak(state, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if is_last => break,
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
        self.post_unless(state & INBOX != 0);
    }

    /// Whether all of its wakers wait in asynchronous channels whose counterparts are all inside of processes.
    pub(super) fn waits_inside(&self) -> bool {
        let state = self.state.load(Ordering::Acquire);
        state & (INBOX | NOTIFIED | LOST) == 0 && state / WAKER == self.inside.load(Ordering::Acquire)
    }

    /// One of its wakers waits, or no longer, in an asynchronous channel whose counterparts are all inside of processes. If
    /// `looks_again`, its process is to look whom it waits for.
    pub(crate) fn count_inside(&self, is_inside: bool, looks_again: bool) {
        if is_inside {
            self.inside.fetch_add(1, Ordering::Release);
        } else {
            self.inside.fetch_sub(1, Ordering::Release);
        }
        if looks_again && let Some(hub) = self.hub.get() {
            hub.is_in_doubt.store(true, Ordering::Release);
            hub.idle().wake();
        }
    }

    fn post_unless(&'static self, already: bool) {
        if !already && let Some(hub) = self.hub.get() {
            hub.post(self);
        }
    }
}

static OF_CELL: RawWakerVTable = RawWakerVTable::new(
    |data| cell(data).clone_waker(),
    |data| cell(data).wake(true),
    |data| cell(data).wake(false),
    |data| cell(data).drop_waker(),
);

impl WakeCell {
    /// The cell that a waker stands for, if it is one of a fibre.
    pub(crate) fn of(waker: &Waker) -> Option<&'static WakeCell> {
        ptr::eq(waker.vtable(), &OF_CELL).then(|| cell(waker.data()))
    }
}

fn cell(data: *const ()) -> &'static WakeCell {
    // SAFETY: only `clone_waker` pairs this table with a pointer, and that one comes from a `&'static WakeCell`.
    unsafe { &*data.cast() }
}
