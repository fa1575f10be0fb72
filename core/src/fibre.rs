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
//! With several, see [`Status`].

mod status;

use core::cell::UnsafeCell;
use core::future::Future;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

pub(crate) use self::status::{FINISHED, FROZEN, HAS_CELL, LIVE, Lost, QUEUED, RUNNING, Status, WOKEN, Woken};
use crate::hub::WakeCell;
use crate::process::{Process, ProcessRef};
use crate::reach::{Guts, Reach, Sequential};
use crate::sync::{AtomicBool, Cell, Ordering};
use crate::worker::WorkerRef;
use fibra_allocators::{AllocRef, Layout};

/// How the name of a [`Coroutine`](crate::Coroutine)'s type begins; that of its routine follows.
const COROUTINE: &str = concat!(env!("CARGO_CRATE_NAME"), "::coroutine::Coroutine<");

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
