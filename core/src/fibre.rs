//! A fibre: one block that holds a header and a future.
//!
//! ```text
//!             spawn                       a wait completes, a waker, yield
//!   (nothing) ------> QUEUED <------------------------------------------.
//!                       | popped                                        |
//!                       v                                               |
//!                    running ---- poll: Pending, something can wake it --> parked
//!                       |    \                                          |
//!            poll: Ready|     \ poll: Pending, nothing can wake it      | the last live wait dies
//!                       v      v                                        v
//!                    FINISHED <--- collapse: the future is dropped -----'
//!                       |
//!                       | not in the run queue, and no linked node names it
//!                       v
//!                   block released
//! ```
//!
//! With one worker, running and parked need no bit: the running fibre is `Worker::current`, and a parked one is named by
//! the nodes it waits in (`LIVE` counts them) or by its wake cell.
//!
//! With several, a fibre that nobody else can name (it waits in no node, or in a single one whose channel's lock one has)
//! belongs to whoever runs or wakes it, and its status is a plain number, as above. As soon as it waits in a second node, or
//! has a wake cell, others may wake it while it runs, and the status changes by read-modify-write. (While it runs and belongs to its
//! worker, it keeps `QUEUED`.)
//!
//! ```text
//!              popped                     poll: Pending
//!   QUEUED ------------------> RUNNING ------------------> (no flag: parked)
//!     ^                          |  ^                            |
//!     |          `wake_up`       v  | (again: nothing changes)   |
//!     |                     RUNNING + WOKEN                      | `wake_up`, by whoever
//!     |   poll: Pending          |                               | has taken a node off it
//!     `--------------------------'-------------------------------'
//! ```

use core::cell::UnsafeCell;
use core::future::Future;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use crate::hub::WakeCell;
use crate::process::{Process, ProcessRef};
use crate::reach::{Guts, Reach, Sequential};
use crate::sync::{Alone, AtomicBool, AtomicU32, Cell, Ordering, const_unless_modelled, word};
use crate::worker::WorkerRef;
use fibra_allocators::{AllocRef, Layout};

/// How the name of a [`Coroutine`](crate::Coroutine)'s type begins; that of its routine follows.
const COROUTINE: &str = concat!(env!("CARGO_CRATE_NAME"), "::coroutine::Coroutine<");

/// In the run queue. Set by `ProcessCore::ready` and by spawn, cleared when the scheduler pops the fibre.
pub(crate) const QUEUED: u32 = 1 << 29;
/// The future is gone. Set before it is dropped; the block stays while the run queue or a linked node refers to it.
pub(crate) const FINISHED: u32 = 1 << 30;
/// Part of the set that is destroyed at the end of the process. Never runs again.
pub(crate) const FROZEN: u32 = 1 << 31;
/// With several workers: being polled, while others may wake it.
pub(crate) const RUNNING: u32 = 1 << 28;
/// With several workers: woken while it was running.
const WOKEN: u32 = 1 << 27;
/// With several workers: the fibre has a wake cell, so others may wake it at any time.
pub(crate) const HAS_CELL: u32 = 1 << 26;
/// Below the flags: how many linked nodes name the fibre. No process has as many endpoints as this.
pub(crate) const LIVE: u32 = HAS_CELL - 1;

/// A fibre's status: a plain number for whoever it belongs to, changed by read-modify-write when others may name it.
pub(crate) struct Status(AtomicU32);

impl Status {
    const_unless_modelled! {
    pub fn new(status: u32) -> Self {
        Status(AtomicU32::new(status))
    }
    }

    #[inline(always)]
    pub fn get(&self) -> u32 {
        word::load(&self.0)
    }

    #[inline(always)]
    pub fn set(&self, status: u32) {
        word::store(&self.0, status);
    }

    /// The same as [`get`](Self::get).
    #[inline(always)]
    pub fn look<K: Guts>(&self) -> u32 {
        // SAFETY: the fibres of a process that is not shared are used by one thread.
        if K::IS_SHARED { self.get() } else { unsafe { self.0.load_alone() } }
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    pub fn put<K: Guts>(&self, status: u32) {
        if K::IS_SHARED {
            self.set(status);
        } else {
            // SAFETY: as above.
            unsafe { self.0.store_alone(status) }
        }
    }

    /// Changes it while others may, too. Gives what it was, and what it is.
    #[inline]
    fn change(&self, change: impl Fn(u32) -> u32) -> (u32, u32) {
        let mut before = self.get();
        loop {
            let after = change(before);
            match self.0.compare_exchange_weak(before, after, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return (before, after),
                Err(now) => before = now,
            }
        }
    }

    /// For a worker that has popped the fibre, while others may name it.
    pub fn begin_to_run(&self) {
        self.change(|status| status - QUEUED + RUNNING);
    }

    /// The fibre waits in one node more while it runs.
    pub fn add_wait_running(&self) {
        if self.get() & !QUEUED == 0 {
            // It belongs to this worker alone, until the node is in the ring.
            self.set(RUNNING | 1);
        } else {
            self.change(|status| status + 1);
        }
    }

    /// What becomes of a fibre after its poll, if `may_park`: parked (`false`), or queued (`true`) because it was woken.
    /// If not, nothing has changed unless it was woken.
    pub fn end_run(&self, is_woken: bool, may_park: bool) -> bool {
        let stays = |status: u32| status & (LIVE | HAS_CELL);
        let (_, after) = self.change(|status| {
            if is_woken || status & WOKEN != 0 {
                stays(status) | QUEUED
            } else if may_park {
                stays(status)
            } else {
                status
            }
        });
        after & QUEUED != 0
    }

    /// Wakes the fibre, and takes one linked node off it if `has_left_node`.
    #[must_use]
    pub fn wake_up(&self, has_left_node: bool) -> Woken {
        let (before, after) = self.change(|status| {
            let status = status - u32::from(has_left_node);
            if status & (FINISHED | FROZEN | QUEUED) != 0 {
                status
            } else if status & RUNNING != 0 {
                status | WOKEN
            } else {
                status | QUEUED
            }
        });
        if before & QUEUED == 0 && after & QUEUED != 0 {
            Woken::Ready
        } else if after == FINISHED {
            Woken::Unused
        } else {
            Woken::NotNow
        }
    }

    /// Takes one linked node off the fibre, because the wait in it can never end. If others are left, or it has a wake cell,
    /// it is woken, to find out for itself; unless `is_stuck`: then all its waits end like this.
    #[must_use]
    pub fn lose_wait(&self, is_stuck: bool) -> Lost {
        let stays = |status: u32| {
            let is_parked = status & !(LIVE | HAS_CELL) == 0;
            is_parked && (is_stuck || status == 0)
        };
        let (before, after) = self.change(|status| {
            let status = status - 1;
            if stays(status) || status & (FINISHED | FROZEN | QUEUED) != 0 {
                status
            } else if status & RUNNING != 0 {
                status | WOKEN
            } else {
                status | QUEUED
            }
        });
        if stays(after) && after & LIVE == 0 {
            Lost::All
        } else if before & QUEUED == 0 && after & QUEUED != 0 {
            Lost::One(Woken::Ready)
        } else if after == FINISHED {
            Lost::One(Woken::Unused)
        } else {
            Lost::One(Woken::NotNow)
        }
    }

    /// One linked node less, whose fibre does not care. Says whether nobody refers to the fibre any more.
    #[must_use]
    pub fn leave_node(&self) -> bool {
        self.change(|status| status - 1).1 == FINISHED
    }

    /// Whether a linked node names the fibre. If none does, whatever others did to it when they took theirs off is done.
    fn is_named(&self) -> bool {
        self.0.load(Ordering::Acquire) & LIVE != 0
    }

    /// The future has been dropped. Says whether nobody refers to the fibre any more; if somebody does, that one will let
    /// the block go, perhaps at once.
    #[must_use]
    pub(crate) fn end_finish(&self) -> bool {
        // If only this worker names it, nobody else changes it.
        self.0.load(Ordering::Acquire) == FINISHED + 1 || self.leave_node()
    }

    /// The future is about to be dropped. Counted as one wait more meanwhile, so that nobody lets the block go.
    pub(crate) fn begin_to_finish(&self) {
        self.change(|status| ((status & LIVE) | FINISHED) + 1);
    }
}

/// What is left to a fibre that has lost a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lost {
    /// Nothing: it belongs to who took the wait, and collapses.
    All,
    /// Something.
    One(Woken),
}

/// What a fibre's waker has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// Queue it.
    Ready,
    /// Nothing: it is queued or running, or will never run again.
    NotNow,
    /// Release its block.
    Unused,
}

/// The untyped front of every fibre.
#[repr(C, align(8))]
pub(crate) struct Fibre {
    /// The next fibre in whichever list this one is in: the run queue, or the frozen set.
    pub next: Cell<Option<FibreRef>>,
    vtable: Cell<&'static VTable>,
    /// [`QUEUED`], [`FINISHED`], [`FROZEN`], and below them ([`LIVE`]) how many linked nodes name this fibre. Each of
    /// those is a live wait: a wait that dies is unlinked.
    pub status: Status,
    /// Set through the process's waker, perhaps by another thread that borrows it during the poll.
    pub woken: AtomicBool,
    /// `Worker::dead_wait` is of this fibre, not of an earlier one in the same block.
    pub has_dead_wait: Cell<bool>,
    /// Its destructor has panicked, which will have been told.
    pub has_panicked: Cell<bool>,
}

/// A pointer to a fibre's header.
///
/// Invariant: the header is allocated and initialised. Whoever stores a `FibreRef` is counted (`LIVE`), or is a list
/// that keeps the fibre's block (`QUEUED`, `FROZEN`), or holds it for the length of a call that cannot release it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct FibreRef(NonNull<Fibre>);

impl Deref for FibreRef {
    type Target = Fibre;

    #[inline]
    fn deref(&self) -> &Fibre {
        // SAFETY: the type's invariant; a header is only ever changed through its cells.
        unsafe { self.0.as_ref() }
    }
}

impl FibreRef {
    /// # Safety
    /// `header` points at an initialised header and may reach the whole block.
    #[inline]
    pub unsafe fn new(header: NonNull<Fibre>) -> Self {
        FibreRef(header)
    }

    #[inline]
    pub fn as_ptr(self) -> *const Fibre {
        self.0.as_ptr()
    }

    /// Whether the scheduler may have something to decide after a poll that returned `Pending`: no live wait is left, or
    /// the fibre was woken while it ran.
    #[inline]
    pub fn is_unsettled(self) -> bool {
        // A fibre with several waits needs no decision, but to say so here would cost all the others.
        self.status.look::<Sequential>() != 1 || self.woken.load(Ordering::Relaxed)
    }

    /// How many linked nodes name the fibre.
    #[inline]
    pub fn live(self) -> u32 {
        self.status.get() & LIVE
    }

    #[inline]
    pub fn flags(self) -> u32 {
        self.status.get() & !LIVE
    }

    #[inline]
    pub fn set(self, flag: u32) {
        self.status.set(self.status.get() | flag);
    }

    /// One linked node more names this fibre. The limit on endpoints keeps the count from reaching the flags.
    #[inline]
    pub fn add_wait(self) {
        self.status.put::<Sequential>(self.status.look::<Sequential>() + 1);
    }

    /// Runs the fibre until it parks or is done, and decides what becomes of it. Afterwards it may be gone.
    ///
    /// # Safety
    /// The fibre was popped from the run queue of `worker`, of its process, and is not being polled.
    #[inline]
    pub unsafe fn poll(self, worker: WorkerRef) {
        // SAFETY: passed on to the caller.
        unsafe { (self.vtable.get().poll)(self, worker) }
    }

    /// Drops the future and releases the block as soon as nothing refers to it any more.
    ///
    /// # Safety
    /// The future is there (not `FINISHED`) and is not being polled; it belongs to `worker`, of its process, alone.
    pub unsafe fn destroy(self, worker: WorkerRef) {
        // SAFETY: passed on to the caller.
        unsafe { (self.vtable.get().destroy)(self, worker) }
    }

    /// Releases the block of a finished fibre if neither the run queue nor a linked node refers to it.
    pub fn release_if_unused(self, process: ProcessRef) {
        if self.status.get() == FINISHED {
            // SAFETY: the future is gone, no list and no node names the fibre any more: this was the last reference.
            unsafe { self.release(process) }
        }
    }

    /// # Safety
    /// The future is gone, and nothing will use the fibre after this call.
    pub unsafe fn release(self, process: ProcessRef) {
        // SAFETY: passed on to the caller.
        unsafe { (self.vtable.get().release)(self, process) }
    }

    /// One linked node less names this fibre, and nobody is to wake it for that.
    pub fn forget_wait<K: Guts>(self, process: ProcessRef) {
        if K::IS_SHARED {
            if self.status.leave_node() {
                // SAFETY: as in `release_if_unused`.
                unsafe { self.release(process) }
            }
        } else {
            self.status.set(self.status.get() - 1);
            self.release_if_unused(process);
        }
    }

    /// The fibre is parked: nothing runs it, and nothing is about to.
    pub fn is_parked(self) -> bool {
        self.flags() & !HAS_CELL == 0
    }

    /// What the fibre is called: its given name, or the type of its future or routine.
    pub fn name(self) -> &'static str {
        if let Some(name) = self.extra().and_then(|extra| extra.name) {
            return name;
        }
        name_of((self.vtable.get().type_name)())
    }

    pub fn is_essential(self) -> bool {
        self.extra().is_some_and(|extra| extra.essential)
    }

    pub fn wake_cell(self) -> Option<&'static WakeCell> {
        self.extra().and_then(|extra| extra.cell)
    }

    fn extra(&self) -> Option<&Extra> {
        if self.vtable.get().has_extra {
            // SAFETY: `has_extra` says that the block is a `Task<_, Extra>`; `FibreRef` may reach the whole block, and
            // the extra part is never changed after the spawn.
            Some(unsafe { &(*self.0.as_ptr().cast::<Front<Extra>>()).extra })
        } else {
            None
        }
    }
}

/// What a fibre without a name is called, by the name of its future's type.
pub(crate) fn name_of(future: &'static str) -> &'static str {
    let mut name = future;
    if let Some(routine) = name.strip_prefix(COROUTINE).and_then(|name| name.strip_suffix('>')) {
        name = routine;
    }
    while let Some(shorter) = name.strip_suffix("::{{closure}}") {
        name = shorter;
    }
    name
}

/// What only some fibres have, so that the others do not pay for it.
pub(crate) struct Extra {
    pub name: Option<&'static str>,
    pub essential: bool,
    pub cell: Option<&'static WakeCell>,
}

/// The part of a fibre in front of its future. `X` is `()` or [`Extra`].
#[repr(C)]
struct Front<X> {
    header: Fibre,
    extra: X,
}

/// A fibre's block.
#[repr(C)]
pub(crate) struct Task<F, X> {
    front: Front<X>,
    future: UnsafeCell<ManuallyDrop<F>>,
}

struct VTable {
    poll: unsafe fn(FibreRef, WorkerRef),
    destroy: unsafe fn(FibreRef, WorkerRef),
    release: unsafe fn(FibreRef, ProcessRef),
    type_name: fn() -> &'static str,
    has_extra: bool,
}

/// Says whether a [`Front`] holds an [`Extra`].
pub(crate) trait IsExtra {
    const HAS_EXTRA: bool;

    /// What the status says of it, with several workers.
    fn status(&self) -> u32;
}
impl IsExtra for () {
    const HAS_EXTRA: bool = false;

    fn status(&self) -> u32 {
        0
    }
}
impl IsExtra for Extra {
    const HAS_EXTRA: bool = true;

    fn status(&self) -> u32 {
        if self.cell.is_some() { HAS_CELL } else { 0 }
    }
}

/// The tables of one type of fibre in one type of process.
struct Tables<F, X, A, K>(F, X, A, K);

impl<F: Future<Output = ()>, X: IsExtra, A: AllocRef, K: Reach> Tables<F, X, A, K> {
    const LIVE: &'static VTable = &VTable {
        poll: Task::<F, X>::poll::<A, K>,
        destroy: Task::<F, X>::destroy::<A, K>,
        release: Task::<F, X>::release::<A, K>,
        type_name: core::any::type_name::<F>,
        has_extra: X::HAS_EXTRA,
    };
    /// For a block whose future is gone, but which the run queue or a linked node still names.
    const FINISHED: &'static VTable = &VTable { poll: Task::<F, X>::poll_finished, ..*Self::LIVE };
}

impl<F: Future<Output = ()>, X: IsExtra> Task<F, X> {
    pub const LAYOUT: Layout = Layout::new::<Self>();

    /// Writes the fibre into its block: in the run queue's state, but not yet in the queue. If `make` panics, the block
    /// is still the caller's.
    ///
    /// # Safety
    /// `block` is allocated for [`Self::LAYOUT`] from the allocator of the process (of types `A` and `K`) that will run it.
    #[inline]
    pub unsafe fn write<A: AllocRef, K: Reach>(block: NonNull<u8>, extra: X, make: impl FnOnce() -> F) -> FibreRef {
        let task = block.cast::<Self>().as_ptr();
        // SAFETY: the block is ours, and large and aligned enough.
        unsafe {
            (&raw mut (*task).future).cast::<F>().write(make());
            (&raw mut (*task).front).write(Front {
                header: Fibre {
                    next: Cell::new(None),
                    vtable: Cell::new(Tables::<F, X, A, K>::LIVE),
                    status: Status::new(if K::IS_SHARED { QUEUED | extra.status() } else { QUEUED }),
                    woken: AtomicBool::new(false),
                    has_dead_wait: Cell::new(false),
                    has_panicked: Cell::new(false),
                },
                extra,
            });
        }
        FibreRef(block.cast())
    }

    #[inline]
    fn future(fibre: FibreRef) -> *mut F {
        let task = fibre.0.as_ptr().cast::<Self>();
        // SAFETY: only called for blocks of this type (through their own table); no reference is made.
        unsafe { (&raw mut (*task).future).cast() }
    }

    unsafe fn poll<A: AllocRef, K: Reach>(fibre: FibreRef, worker: WorkerRef) {
        let _given_back = X::HAS_EXTRA.then(|| fibre.wake_cell()).flatten().map(|cell| worker.lend_waker(cell));
        // A context of its own for each poll: a future may put another one in its place.
        let mut cx = Context::from_waker(worker.waker());
        // SAFETY: the future is there and nobody else polls it (contract of `FibreRef::poll`; a finished fibre has another
        // table); it stays in its block until it is dropped there, so it is pinned.
        let future = unsafe { Pin::new_unchecked(&mut *Self::future(fibre)) };
        match future.poll(&mut cx) {
            Poll::Pending => {
                if K::IS_SHARED {
                    worker.settle_shared::<K>(fibre);
                } else if fibre.is_unsettled() {
                    worker.settle(fibre);
                }
            }
            Poll::Ready(()) => {
                // SAFETY: the future is there, and its poll has returned.
                unsafe { Self::destroy::<A, K>(fibre, worker) };
                worker.finished.set(worker.finished.get() + 1);
            }
        }
    }

    /// Pops a block that was only waiting to leave the run queue.
    unsafe fn poll_finished(fibre: FibreRef, worker: WorkerRef) {
        worker.current.set(None);
        fibre.set(FINISHED);
        fibre.release_if_unused(worker.process());
    }

    #[inline]
    unsafe fn destroy<A: AllocRef, K: Reach>(fibre: FibreRef, worker: WorkerRef) {
        /// Lets the block go. If the future's destructor panics, that is counted against the fibre.
        struct Leave<F: Future<Output = ()>, X: IsExtra, A: AllocRef, K: Reach> {
            fibre: FibreRef,
            worker: WorkerRef,
            has_panicked: bool,
            tables: PhantomData<Tables<F, X, A, K>>,
        }
        impl<F: Future<Output = ()>, X: IsExtra, A: AllocRef, K: Reach> Drop for Leave<F, X, A, K> {
            #[inline]
            fn drop(&mut self) {
                let Leave { fibre, worker, .. } = *self;
                if K::IS_SHARED {
                    worker.take_back_post::<K>();
                }
                if self.has_panicked {
                    fibre.has_panicked.set(true);
                    worker.note_panic(worker.process().identity(fibre));
                }
                let is_unused = if K::IS_SHARED {
                    fibre.status.end_finish()
                } else {
                    fibre.status.put::<K>(fibre.status.look::<K>() - 1);
                    fibre.status.look::<K>() == FINISHED
                };
                if is_unused {
                    // SAFETY: the future is gone, and nothing names the fibre: not the queue, not a node.
                    unsafe { Task::<F, X>::release::<A, K>(fibre, K::process(worker)) }
                } else if !K::IS_SHARED {
                    // It may still be in the run queue.
                    fibre.vtable.set(Tables::<F, X, A, K>::FINISHED);
                }
            }
        }

        worker.current.set(None);
        if X::HAS_EXTRA
            && let Some(cell) = fibre.wake_cell()
        {
            // From here on nobody finds the fibre through its cell.
            worker.process().disown::<K>(cell);
        }
        // Counted as one wait more, so that nobody lets the block go while the future in it is being dropped.
        if K::IS_SHARED && fibre.status.is_named() {
            fibre.status.begin_to_finish();
        } else {
            let over = if K::IS_SHARED { QUEUED | HAS_CELL | RUNNING | WOKEN } else { 0 };
            fibre.status.put::<K>(((fibre.status.look::<K>() & !over) | FINISHED) + 1);
        }
        let mut leave = Leave::<F, X, A, K> { fibre, worker, has_panicked: true, tables: PhantomData };
        // SAFETY: the future is there (contract), and `FINISHED` keeps everybody from touching it again.
        unsafe { Self::future(fibre).drop_in_place() };
        leave.has_panicked = false;
        drop(leave);
    }

    #[inline]
    unsafe fn release<A: AllocRef, K: Reach>(fibre: FibreRef, process: ProcessRef) {
        // SAFETY: the process is a `Process<A, K>` (its own spawn chose the table), the block came from its allocator with
        // this layout, and nothing refers to it any more.
        unsafe {
            let allocator = &(*process.as_ptr().cast::<Process<'_, '_, A, K>>()).allocator;
            allocator.deallocate(fibre.0.cast(), Self::LAYOUT);
        }
    }
}

/// A part of the scheduler that takes its turn in the run queue like a fibre, so that the loop need not look for work
/// of its kind at each step.
pub(crate) type Turn = fn(WorkerRef);

/// The header of a marker, whose turn is `T`.
pub(crate) fn marker<T: Marker>() -> Fibre {
    Fibre {
        next: Cell::new(None),
        vtable: Cell::new(
            const {
                &VTable {
                    poll: turn::<T>,
                    destroy: no_future,
                    release: no_block,
                    type_name: || "marker",
                    has_extra: false,
                }
            },
        ),
        status: Status::new(0),
        woken: AtomicBool::new(false),
        has_dead_wait: Cell::new(false),
        has_panicked: Cell::new(false),
    }
}

/// Something that takes a turn in the run queue without being a fibre.
pub(crate) trait Marker {
    const TURN: Turn;
}

unsafe fn turn<T: Marker>(_: FibreRef, worker: WorkerRef) {
    worker.current.set(None);
    (T::TURN)(worker);
}

unsafe fn no_future(_: FibreRef, _: WorkerRef) {}
unsafe fn no_block(_: FibreRef, _: ProcessRef) {}

/// The size in bytes and the alignment of a fibre that runs the future `F`: what one spawn takes from the process's
/// allocator. A fibre with a name, an essential one, or one with a wake cell has four words more
/// ([`fibre_layout_with_options`]).
///
/// ```
/// const SMALL: usize = fibra_core::fibre_layout::<core::future::Ready<()>>().size();
/// const { assert!(SMALL <= 32) };
/// ```
pub const fn fibre_layout<F: Future<Output = ()>>() -> Layout {
    Task::<F, ()>::LAYOUT
}

/// The same as [`fibre_layout`] for a fibre that was spawned with options ([`Process::fibre`]).
///
/// ```
/// use core::future::Ready;
/// use fibra_core::{fibre_layout, fibre_layout_with_options};
/// assert!(fibre_layout_with_options::<Ready<()>>().size() > fibre_layout::<Ready<()>>().size());
/// ```
pub const fn fibre_layout_with_options<F: Future<Output = ()>>() -> Layout {
    Task::<F, Extra>::LAYOUT
}

/// The layout of the fibre that `make` would make: for futures whose type cannot be written down. `make` is not called.
///
/// ```
/// use fibra_core::{Reader, Writer, fibre_layout_of};
///
/// async fn double(mut from: Reader<'_, u64>, mut to: Writer<'_, u64>) {
///     loop {
///         to.write(2 * from.read().await).await
///     }
/// }
/// const SIZE: usize = fibre_layout_of(&|(from, to)| double(from, to)).size();
/// println!("a doubling fibre takes {SIZE} bytes");
/// const { assert!(SIZE <= 256) };
/// ```
pub const fn fibre_layout_of<X, F: Future<Output = ()>>(_make: &impl Fn(X) -> F) -> Layout {
    fibre_layout::<F>()
}
