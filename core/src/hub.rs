//! The wake hub: how anything outside a process wakes a fibre.
//!
//! A waker may be kept by anybody, on any thread, for any length of time: longer than the fibre, the process, the
//! arena. So it never points at the fibre. It points at a [`WakeCell`] in `'static` memory, which counts the wakers and
//! remembers whether they were used; only the process knows which fibre the cell stands for.

mod cell;
mod hub_core;

use core::task::RawWaker;

pub use self::cell::WakeCell;
pub use self::hub_core::HubCore;
use crate::fibre::{FibreRef, Woken};
use crate::process::ProcessRef;
use crate::reach::{Guts, Sequential};
use crate::sync::{Ordering, fence};

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

    /// Whether [`nap`](Self::nap) does return by itself: who writes that says `true` here. Without, nobody notices that a worker is stuck
    /// in a turn with others ready behind it; and workers that get fibres from each other to little avail never rest. By default
    /// it does not.
    ///
    /// For an example see [`Idle`].
    fn has_moments(&self) -> bool {
        false
    }
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
                Ok(_) => return self.hub.idle().wake(),
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
