//! The wake hub: how anything outside a process wakes a fibre.
//!
//! A waker may be kept by anybody, on any thread, for any length of time: longer than the fibre, the process, the
//! arena. So it never points at the fibre. It points at a [`WakeCell`] in `'static` memory, which counts the wakers and
//! remembers whether they were used; only the process knows which fibre the cell stands for.
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

use crate::fibre::{FibreRef, Woken};
use crate::process::{ProcessCore, ProcessRef};
use crate::reach::{Guts, Sequential};
use crate::run::Catch;
use crate::sync::{AtomicBool, AtomicPtr, AtomicUsize, Cell, Ordering, const_unless_modelled, fence};

/// How a process waits when none of its fibres is ready but something outside may still wake one.
///
/// On a chip: wait-for-event or wait-for-interrupt. With an operating system: a condition variable (`fibra-std` has it).
///
/// ```
/// use fibra_core::Idle;
/// use std::sync::{Condvar, Mutex};
///
/// /// The flag remembers a wake-up that comes before the wait.
/// struct Sleeper {
///     woken: Mutex<bool>,
///     changed: Condvar,
/// }
/// impl Idle for Sleeper {
///     fn wait(&self) {
///         let woken = self.woken.lock().unwrap();
///         *self.changed.wait_while(woken, |woken| !*woken).unwrap() = false;
///     }
///     fn wake(&self) {
///         *self.woken.lock().unwrap() = true;
///         self.changed.notify_one();
///     }
/// }
/// let sleeper = Sleeper { woken: Mutex::new(false), changed: Condvar::new() };
/// sleeper.wake();
/// sleeper.wait(); // returns at once
/// ```
pub trait Idle: Sync {
    /// Returns soon after [`wake`](Self::wake) was called, and at once if it was called since the last `wait` returned.
    /// May return early.
    ///
    /// # Blocking
    /// Suspends the process's thread, and so all its fibres, which are parked then.
    ///
    /// For an example see [`Idle`].
    fn wait(&self);

    /// Ends a [`wait`](Self::wait), now or the next one. Called from any thread and from interrupts, and perhaps while a lock of a
    /// process or a channel is held: it must use neither.
    ///
    /// For an example see [`Idle`].
    fn wake(&self);

    /// The same as [`wait`](Self::wait), but returns by itself after a moment, about a millisecond; says whether it did. So a
    /// worker with nothing to do sees, while others work, whether one of them is stuck in a long turn.
    ///
    /// Where there is no clock at hand, and by default, it waits.
    ///
    /// For an example see [`Idle`].
    fn nap(&self) -> bool {
        self.wait();
        false
    }

    /// Whether [`nap`](Self::nap) does return by itself. Then workers that take fibres from each other to little avail rest for
    /// a moment each time. By default it does not.
    ///
    /// For an example see [`Idle`].
    fn has_moments(&self) -> bool {
        false
    }
}

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
    generation: AtomicUsize,
    /// The generation that is to stop.
    stop: AtomicUsize,
    /// Of a shared process: [`OPEN`] while workers may join, and above it how many have.
    crew: AtomicUsize,
    /// The process that they join. Set before it is open.
    process: AtomicPtr<ProcessCore>,
    /// What the process has said of whom it waits for may not be true any more.
    is_in_doubt: AtomicBool,
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

    fn post(&self, cell: &'static WakeCell) {
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

const OWNED: usize = 1;
const NOTIFIED: usize = 2;
const INBOX: usize = 4;
/// Its last waker was lost.
const LOST: usize = 8;
const WAKER: usize = 16;

/// What the wakers of one fibre point at. Its states are drawn in the source.
///
/// Who writes a [`WakeHub`] keeps a number of them; [`Hub`] has its own.
///
/// ```
/// use fibra_core::WakeCell;
/// static CELLS: [WakeCell; 8] = [const { WakeCell::new() }; 8];
/// ```
pub struct WakeCell {
    state: AtomicUsize,
    /// How many of its wakers wait in asynchronous channels whose counterparts are all inside of processes.
    inside: AtomicUsize,
    /// The link of the inbox. Belongs to whoever set `INBOX`, until the inbox is emptied.
    next: AtomicPtr<WakeCell>,
    /// Where wake-ups go. Written by the owner before the first waker is made.
    hub: Cell<Option<&'static HubCore>>,
    /// The rest belongs to the process that owns the cell, alone.
    pub(crate) fibre: Cell<Option<FibreRef>>,
    newer: Cell<Option<&'static WakeCell>>,
    older: Cell<Option<&'static WakeCell>>,
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
    fn at(link: *mut WakeCell) -> Option<&'static WakeCell> {
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
    fn uncounted_waker(&'static self) -> RawWaker {
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
    fn waits_inside(&self) -> bool {
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
            hub.idle.wake();
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

/// Where a process gets its wake cells from.
///
/// [`Hub`] is the one for a `static`; `fibra-std` has one that grows.
///
/// ```
/// use fibra_core::{HubCore, Idle, Setup, WakeCell, WakeHub};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// # struct WaitForEvent;
/// # impl Idle for WaitForEvent {
/// #     fn wait(&self) {}
/// #     fn wake(&self) {}
/// # }
/// struct TwoCells(HubCore, [WakeCell; 2]);
/// impl WakeHub for TwoCells {
///     fn core(&'static self) -> &'static HubCore {
///         &self.0
///     }
///     fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell> {
///         self.1.get(nth)
///     }
/// }
/// static HUB: TwoCells = TwoCells(HubCore::new(&WaitForEvent), [const { WakeCell::new() }; 2]);
///
/// let (spawned, _) = Setup::new(&pool).hub(&HUB).run(|p| {
///     (0..3).filter(|_| p.fibre().waker().spawn(async {}).is_ok()).count()
/// })?;
/// assert_eq!(spawned, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait WakeHub: Sync {
    /// What the hub's process and cells share: always the same.
    ///
    /// For an example see [`WakeHub`].
    fn core(&'static self) -> &'static HubCore;

    /// The `nth` cell to try when a fibre asks for one, from 0; `None` ends the search.
    ///
    /// A candidate that is in use is passed over, so it need not be free.
    ///
    /// For an example see [`WakeHub`].
    fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell>;

    /// Has another thread or core [work](crate::work) for the shared process that this hub serves. Says whether there is one.
    ///
    /// Where none can be started, and by default, there is none.
    ///
    /// For an example see [`WakeHub`].
    fn add_worker(&'static self) -> bool {
        false
    }

    /// Whom the process belongs to: processes of one group are known to wait for each other only, if all of them
    /// [wait inside](Self::all_wait). 0, which is the default: nobody knows.
    ///
    /// For an example see [`WakeHub`].
    fn group(&'static self) -> usize {
        0
    }

    /// The process has nothing to do, and is about to wait for a wake-up from outside. If `waits_inside`, none of its fibres
    /// waits for anything but asynchronous channels whose other ends are all inside of processes: so if all processes that can
    /// reach it do the same, they wait for each other for ever.
    ///
    /// If this returns `true`, the process does not wait: it ends, and its fibres are deadlocked. By default it waits.
    ///
    /// No other method of the hub is called meanwhile; a shared process's lock is held.
    ///
    /// For an example see [`WakeHub`].
    fn all_wait(&'static self, waits_inside: bool) -> bool {
        let _ = waits_inside;
        false
    }

    /// The process no longer waits.
    ///
    /// For an example see [`WakeHub`].
    fn goes_on(&'static self) {}
}

/// A wake hub of `N` cells, for a `static`: at most `N` fibres at once may have wakers.
///
/// A hub serves one process at a time.
///
/// ```
/// use fibra_core::{Hub, Idle};
///
/// struct WaitForEvent;
/// impl Idle for WaitForEvent {
///     fn wait(&self) { /* on a chip: wfe */ }
///     fn wake(&self) { /* on a chip: sev */ }
/// }
/// static HUB: Hub<4> = Hub::new(&WaitForEvent);
/// ```
pub struct Hub<const N: usize> {
    core: HubCore,
    cells: [WakeCell; N],
}

#[cfg(not(fibra_loom))]
impl<const N: usize> Hub<N> {
    /// A hub whose process waits by means of `idle`.
    ///
    /// For an example see [`Hub`].
    pub const fn new(idle: &'static dyn Idle) -> Self {
        Hub { core: HubCore::new(idle), cells: [const { WakeCell::new() }; N] }
    }
}

#[cfg(fibra_loom)]
impl<const N: usize> Hub<N> {
    /// A hub whose process waits by means of `idle`.
    pub fn new(idle: &'static dyn Idle) -> Self {
        Hub { core: HubCore::new(idle), cells: core::array::from_fn(|_| WakeCell::new()) }
    }
}

impl<const N: usize> WakeHub for Hub<N> {
    fn core(&'static self) -> &'static HubCore {
        &self.core
    }

    fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell> {
        self.cells.get(nth)
    }
}

/// Stops a process from anywhere. Made by [`Process::stop_handle`](crate::Process::stop_handle).
///
/// It is `Copy`, so any number of places may have one, and keeps nothing alive.
///
/// ```
/// use fibra_core::{Hub, Idle, Setup};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// # struct Busy;
/// # impl Idle for Busy {
/// #     fn wait(&self) {
/// #         std::thread::yield_now()
/// #     }
/// #     fn wake(&self) {}
/// # }
/// static HUB: Hub<1> = Hub::new(&Busy);
///
/// let (handle, outcome) = Setup::new(&pool).hub(&HUB).run(|p| {
///     p.spawn(async {}).unwrap();
///     p.stop_handle().expect("there is a hub")
/// })?;
/// assert_eq!((outcome.finished, outcome.stopped), (1, 0));
/// handle.stop(); // its process has ended: nothing happens, and the hub's next process runs undisturbed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct StopHandle {
    hub: &'static HubCore,
    generation: usize,
}

impl StopHandle {
    pub(crate) fn new(hub: &'static HubCore, generation: usize) -> Self {
        StopHandle { hub, generation }
    }

    /// Ends the process at its next turn to look outside: when all fibres that are ready now have run once. Does nothing
    /// if it has ended.
    ///
    /// A few atomic operations and one [`Idle::wake`], so it may be called in an interrupt.
    ///
    /// ```
    /// use fibra_core::{Hub, Idle, Setup, yield_now};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// # struct Busy;
    /// # impl Idle for Busy {
    /// #     fn wait(&self) {
    /// #         std::thread::yield_now()
    /// #     }
    /// #     fn wake(&self) {}
    /// # }
    /// static HUB: Hub<1> = Hub::new(&Busy);
    ///
    /// let (_, outcome) = Setup::new(&pool).hub(&HUB).run(|p| {
    ///     p.stop_handle().expect("there is a hub").stop();
    ///     p.spawn(async {
    ///         loop {
    ///             yield_now().await
    ///         }
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(outcome.stopped, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        let mut stop = self.hub.stop.load(Ordering::Relaxed);
        while self.hub.generation.load(Ordering::Relaxed) == self.generation
            && self.generation.wrapping_sub(stop).cast_signed() > 0
        {
            // Only ever raised: else the handle of an earlier process, if it was slow, could undo the stop of a later one.
            match self.hub.stop.compare_exchange(stop, self.generation, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return self.hub.idle.wake(),
                Err(now) => stop = now,
            }
        }
    }
}

impl core::fmt::Debug for StopHandle {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("StopHandle").finish_non_exhaustive()
    }
}

/// An open process's way outside. Reached through pointers that [`Setup::hub`](crate::Setup::hub) sets, so that the image
/// of a program with closed processes has none of it.
#[derive(Clone, Copy)]
pub(crate) struct Outside {
    pub hub: &'static HubCore,
    pub source: &'static dyn WakeHub,
    pub pump: fn(ProcessRef, &'static HubCore),
    pub lend_waker: fn(&'static WakeCell) -> RawWaker,
}

impl Outside {
    pub fn new(source: &'static dyn WakeHub) -> Self {
        Outside { hub: source.core(), source, pump: ProcessRef::pump, lend_waker: WakeCell::uncounted_waker }
    }
}

impl ProcessRef {
    /// Reserves a cell for a fibre that is about to be spawned.
    pub(crate) fn claim_cell<R: Guts>(self) -> Option<&'static WakeCell> {
        let Outside { hub, source, .. } = self.outside?;
        let find = || (0..).map_while(|nth| source.candidate(nth)).find(|cell| cell.claim(hub));
        // Free cells may still be in the inbox: those whose last wake-up came too late for their process.
        let cell = find().or_else(|| {
            self.empty_inbox::<R>(hub);
            find()
        })?;
        self.exclusive::<R, _>(|| {
            cell.fibre.set(None);
            cell.newer.set(None);
            cell.older.set(self.cells.get());
            if let Some(older) = self.cells.replace(Some(cell)) {
                older.newer.set(Some(cell));
            }
        });
        Some(cell)
    }

    /// Looks outside; if no fibre is ready, waits until one is, or nothing outside can make one ready any more.
    fn pump(self, hub: &'static HubCore) {
        loop {
            self.empty_inbox::<Sequential>(hub);
            if hub.is_stopped(self.generation) {
                self.request_stop();
            }
            if !self.first_worker().is_queue_empty() || self.sweep_two_way() {
                self.enqueue_marker(&self.pump);
                return;
            }
            if !self.cells().any(|cell| cell.is_live()) {
                return;
            }
            if hub.is_quiet(self.generation) {
                let Some(outside) = self.outside else { return };
                if outside.source.all_wait(self.waits_inside(hub)) {
                    return;
                }
                hub.wait();
                outside.source.goes_on();
            }
        }
    }

    /// Whether the fibres wait for nothing but what other processes have to do. Takes a step for each cell.
    pub(crate) fn waits_inside(self, hub: &HubCore) -> bool {
        // First: what is changed from here on is to be looked at again.
        hub.is_in_doubt.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.cells().all(WakeCell::waits_inside)
    }

    /// Makes those fibres ready that were woken from outside.
    pub(crate) fn empty_inbox<R: Guts>(self, hub: &HubCore) {
        if !R::IS_SHARED {
            let each = |cell: &'static WakeCell| {
                if let Some(fibre) = cell.fibre.get() {
                    self.first_worker().ready(fibre);
                }
            };
            return hub.drain(each, WakeCell::leave_inbox);
        }
        // As long as the cell has not been disowned, its fibre is there.
        let wake = |fibre: &FibreRef| fibre.status.wake_up(false) == Woken::Ready;
        let each = |cell: &'static WakeCell| {
            let ready = self.exclusive::<R, _>(|| cell.fibre.get().filter(wake));
            ready.inspect(|fibre| self.make_ready::<R>(*fibre));
        };
        // If that was the last that could wake its fibre, and the fibre has run on another worker and parked meanwhile, it
        // parked for the sake of this cell's being in the inbox: it is to find out that this is over. While it is in there, the
        // cell is either this process's or nobody's.
        let leave = |cell: &'static WakeCell| {
            let (has_left, ready) = self.exclusive::<R, _>(|| {
                let fibre = cell.fibre.get();
                let has_left = cell.leave_inbox();
                (has_left, fibre.filter(|_| has_left && !cell.is_live()).filter(wake))
            });
            ready.inspect(|fibre| self.make_ready::<R>(*fibre));
            has_left
        };
        hub.drain(each, leave);
    }

    /// The cell's fibre is gone: its wakers wake nobody from now on.
    pub(crate) fn disown<R: Guts>(self, cell: &'static WakeCell) {
        self.exclusive::<R, _>(|| {
            let (newer, older) = (cell.newer.take(), cell.older.take());
            match newer {
                Some(newer) => newer.older.set(older),
                None => self.cells.set(older),
            }
            if let Some(older) = older {
                older.newer.set(newer);
            }
            cell.fibre.set(None);
        });
        cell.let_go();
    }

    /// The wake cells of this process's fibres.
    pub(crate) fn cells(self) -> impl Iterator<Item = &'static WakeCell> {
        core::iter::successors(self.cells.get(), |cell| cell.older.get())
    }
}
