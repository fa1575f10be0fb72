//! A process: its queue, its channels, and the scope in which its fibres live.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};

use fibra_allocators::{AllocRef, Layout};

use crate::async_frame::Entry;
use crate::channels::Channels;
use crate::crew::Crew;
use crate::fibre::{Fibre, FibreRef, marker};
use crate::hub::{Outside, StopHandle, WakeCell};
use crate::outcome::{Report, Wait};
use crate::reach::{Concurrent, Guts, Platform, Reach, Sequential};
use crate::reporting::{ReportingCell, Visitor};
use crate::scheduler::{Dissolver, Pump, Stopper};
use crate::sync::Cell;
use crate::sync::word::AtomicBool;
use crate::worker::{Worker, WorkerRef};
use fibra_allocators::Lock;

/// A process: a set of fibres, the channels between them, and the allocator that all their memory comes from.
///
/// One is made by [`run`](crate::run) or [`Setup::run`](crate::Setup::run), which hand it to a closure by reference; it
/// lives until `run` returns. `'p` is the process's own lifetime, which its channels' ends carry; `'env` is that of the
/// things around it which its fibres may borrow; `A` is the handle to its allocator; `R` is the [`Reach`] of its channels.
///
/// A [`Sequential`] process, which is the default, is used by one thread: it is neither `Send` nor `Sync`. A [`Concurrent`] one
/// is run by several workers ([`Shared`](crate::Shared)), so it is `Sync`, and its fibres are `Send`.
///
/// ```
/// use fibra_core::{Outcome, SizeClasses, table, MemReq};
/// use core::mem::MaybeUninit;
///
/// let mut memory = [MaybeUninit::uninit(); 16 * 1024];
/// let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
///
/// let mut sum = 0;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let (mut w, mut r) = p.channel::<u64>().unwrap();
///     p.spawn(async move {
///         for i in 1..=10 {
///             w.write(i).await;
///         }
///     })
///     .unwrap();
///     let sum = &mut sum;
///     p.spawn(async move {
///         loop {
///             *sum += r.read().await;
///         }
///     })
///     .unwrap();
/// })?;
///
/// assert_eq!(sum, 55);
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct Process<'p, 'env: 'p, A, R: Reach = Sequential> {
    pub(crate) core: ProcessCore,
    /// Of what the workers share: the second field of [`Front`], too.
    lock: <R as Guts>::Lock,
    /// Of the list of those who may own a channel ([`Biased`](crate::bias::Biased)): the third.
    owners: <R as Guts>::Lock,
    pub(crate) allocator: A,
    /// Invariant in both, as with scoped threads: no end may pass for one of a longer- or shorter-lived process.
    scope: PhantomData<(Cell<&'p ()>, Cell<&'env ()>)>,
}

// SAFETY: every method of a shared process may be called from any thread: what it shares is behind its lock, atomic, or does not
// change while there are several workers (`closing` and what belongs to the end). The allocator is shared, too.
unsafe impl<A: Sync, P: Platform> Sync for Process<'_, '_, A, Concurrent<P>> {}

/// How every process begins that has this reach.
#[repr(C)]
struct Front<R: Guts> {
    core: ProcessCore,
    lock: R::Lock,
    owners: R::Lock,
}

/// The part of a process that does not depend on the type of its allocator.
#[repr(C)]
pub(crate) struct ProcessCore {
    /// The only worker, or that of the thread which runs the process.
    first: Worker,
    pub closing: Cell<bool>,
    pub channels: Channels,
    this: Cell<*const ProcessCore>,
    ops: &'static Ops,
    /// What several workers share.
    pub crew: Crew,

    pub deadlocked: Cell<usize>,
    pub stopped: Cell<usize>,

    pub dissolver: Fibre,
    pub pump: Fibre,
    pub stopper: Fibre,

    /// The fibre whose future is being dropped at the end of the process.
    pub dying: Cell<Option<FibreRef>>,
    /// The fibres that were parked when the process ended.
    pub frozen: Cell<Option<FibreRef>>,
    /// Which of them is to be destroyed next.
    pub destroy_next: Cell<Option<FibreRef>>,
    /// The fibres that were ready when the process was stopped.
    pub cut_off: Cell<Option<FibreRef>>,
    pub is_stopped: Cell<bool>,
    pub report: Cell<Option<Visitor>>,
    /// Set where somebody wants to know of lost fibres: a visitor, or an essential fibre.
    pub reporting: ReportingCell,
    /// The first essential fibre that was lost.
    pub lost: Cell<Option<Report>>,
    pub dump: AtomicBool,
    /// The `async` routines in frames.
    pub async_frames: Cell<Option<NonNull<Entry>>>,

    pub outside: Option<Outside>,
    /// The wake cells of this process's fibres.
    pub cells: Cell<Option<&'static WakeCell>>,
    pub generation: usize,
}

/// A pointer to a process's core that may reach the whole process.
///
/// Invariant: the process is alive. Everything that stores one (a channel, the process's waker) is unreachable before
/// the process ends: the ends of its channels carry its lifetime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessRef(NonNull<ProcessCore>);

impl Deref for ProcessRef {
    type Target = ProcessCore;

    #[inline]
    fn deref(&self) -> &ProcessCore {
        // SAFETY: the type's invariant; the core is only changed through cells.
        unsafe { self.0.as_ref() }
    }
}

impl ProcessRef {
    /// # Safety
    /// `core` is the core of a live `Process` and may reach all of it.
    #[inline]
    pub unsafe fn new(core: *const ProcessCore) -> Self {
        // SAFETY: a live process has an address.
        ProcessRef(unsafe { NonNull::new_unchecked(core.cast_mut()) })
    }

    #[inline]
    pub fn as_ptr(self) -> *const ProcessCore {
        self.0.as_ptr()
    }

    /// Takes a block from the process's allocator.
    pub fn allocate(self, layout: Layout) -> Option<NonNull<u8>> {
        (self.ops.allocate)(self, layout)
    }

    /// # Safety
    /// `block` came from [`allocate`](Self::allocate) of this process with this layout, and nothing uses it any more.
    pub unsafe fn deallocate(self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { (self.ops.deallocate)(self, block, layout) }
    }
}

/// How the untyped parts reach the allocator.
struct Ops {
    allocate: fn(ProcessRef, Layout) -> Option<NonNull<u8>>,
    deallocate: unsafe fn(ProcessRef, NonNull<u8>, Layout),
}

impl<'p, 'env, A: AllocRef, R: Reach> Process<'p, 'env, A, R> {
    const OPS: &'static Ops = &Ops {
        allocate: |process, layout| Self::of(process).allocator.allocate(layout).ok().map(NonNull::cast),
        deallocate: Self::deallocate,
    };

    unsafe fn deallocate(process: ProcessRef, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's contract is that of the allocator.
        unsafe { Self::of(process).allocator.deallocate(block, layout) }
    }

    /// The process around a core that carries this type's [`Ops`].
    fn of<'a>(process: ProcessRef) -> &'a Self {
        // SAFETY: the table is only ever put into a `Process<A>`, of which `core` is the first field; it is alive.
        unsafe { &*process.as_ptr().cast::<Self>() }
    }

    pub(crate) fn new(allocator: A, outside: Option<Outside>, generation: usize) -> Self {
        Process {
            core: ProcessCore {
                first: Worker::new(),
                closing: Cell::new(false),
                channels: Channels::new(),
                this: Cell::new(ptr::null()),
                ops: Self::OPS,
                crew: Crew::new(),
                deadlocked: Cell::new(0),
                stopped: Cell::new(0),
                dissolver: marker::<Dissolver>(),
                pump: marker::<Pump>(),
                stopper: marker::<Stopper>(),
                dying: Cell::new(None),
                frozen: Cell::new(None),
                destroy_next: Cell::new(None),
                cut_off: Cell::new(None),
                is_stopped: Cell::new(false),
                report: Cell::new(None),
                reporting: ReportingCell::new(),
                lost: Cell::new(None),
                dump: AtomicBool::new(false),
                async_frames: Cell::new(None),
                outside,
                cells: Cell::new(None),
                generation,
            },
            lock: <R as Guts>::Lock::NEW,
            owners: <R as Guts>::Lock::NEW,
            allocator,
            scope: PhantomData,
        }
    }

    /// Ties the process to the address it will keep. Called once, before anything else.
    pub(crate) fn settle_down(&self) -> ProcessRef {
        let this = ptr::from_ref(self).cast::<ProcessCore>();
        self.core.this.set(this);
        // SAFETY: the process stays where it is for the rest of its life (who runs it owns it and only lends it out), and its
        // first worker with it.
        unsafe { self.core.first.settle_down(this) };
        let process = self.core.this();
        if !R::IS_SHARED && self.core.outside.is_some() {
            process.enqueue_marker(&process.pump);
        }
        process
    }

    /// The allocator that the process was given.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (live, _) = fibra_core::run(&pool, |p| {
    ///     p.spawn(async {}).unwrap();
    ///     p.allocator().classes().map(|class| class.live).sum::<usize>()
    /// })?;
    /// assert_eq!(live, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allocator(&self) -> &A {
        &self.allocator
    }

    /// Ends the process as soon as the running fibre parks: every other fibre is destroyed, ready or not, and counted as
    /// [`stopped`](crate::Outcome::stopped).
    ///
    /// Called in the closure of [`run`](crate::run), it ends the process before any fibre ran.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     p.spawn(async move {
    ///         loop {
    ///             fibra_core::yield_now().await
    ///         }
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move { p.stop() }).unwrap();
    /// })?;
    /// assert_eq!((outcome.finished, outcome.stopped), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop(&self) {
        let process = self.core.this();
        if !process.closing.get() {
            if R::IS_SHARED { process.end_crew::<R>(true) } else { process.request_stop() }
        }
    }

    /// A handle that stops this process from anywhere: another thread, an interrupt. `None` in a process without a wake
    /// hub, which nothing outside can reach.
    ///
    /// The handle does not keep the process alive, and does nothing once the process has ended.
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
    ///     let handle = p.stop_handle().expect("there is a hub");
    ///     p.spawn(async {
    ///         loop {
    ///             yield_now().await
    ///         }
    ///     })
    ///     .unwrap();
    ///     std::thread::spawn(move || handle.stop());
    /// })?;
    /// assert_eq!(outcome.stopped, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stop_handle(&self) -> Option<StopHandle> {
        self.core.outside.map(|outside| StopHandle::new(outside.hub, self.core.generation))
    }

    /// Shows what each parked fibre waits for, one [`Wait`] at a time: a fibre that waits for several things comes
    /// several times, one that only a waker can wake comes without a channel. Ready fibres are not shown.
    ///
    /// Nothing is allocated. `visit` may use the process; a `dump` within a `dump` shows nothing.
    ///
    /// Complexity: one step per channel and, for a channel with k fibres waiting, k² / 2 steps.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut seen = String::new();
    /// let out = &mut seen;
    /// fibra_core::run(&pool, |p| {
    ///     let (w, mut r) = p.channel_named::<u8>("letters").unwrap();
    ///     p.fibre().name("reader").spawn(async move { drop(r.read().await) }).unwrap();
    ///     p.spawn(async move {
    ///         p.dump(|wait| *out = wait.to_string());
    ///         drop(w);
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(seen, "fibre `reader` waits to read from channel `letters`");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dump(&self, visit: impl FnMut(&Wait)) {
        self.core.this().dump::<R>(visit);
    }
}

impl ProcessCore {
    #[inline]
    pub fn this(&self) -> ProcessRef {
        // SAFETY: `settle_down` stored the address of the whole process before anything else could call this.
        unsafe { ProcessRef::new(self.this.get()) }
    }
}

impl ProcessRef {
    /// The only worker, or that of the thread which runs the process.
    #[inline(always)]
    pub fn first_worker(self) -> WorkerRef {
        // SAFETY: the worker is the process's first field.
        unsafe { WorkerRef::at(self.0.as_ptr().cast()).unwrap_unchecked() }
    }

    /// Runs `section` while no other worker is in one. No foreign code may run in it.
    #[inline(always)]
    pub fn exclusive<R: Guts, T>(self, section: impl FnOnce() -> T) -> T {
        // SAFETY: a process of this reach begins with a `Front<R>`.
        unsafe { &(*self.0.as_ptr().cast::<Front<R>>()).lock }.with(section)
    }

    /// Runs `section` while no worker comes to those who may own a channel, or leaves them. This may be called in a channel's
    /// section.
    pub fn among_owners<R: Guts, T>(self, section: impl FnOnce() -> T) -> T {
        // SAFETY: as in `exclusive`.
        unsafe { &(*self.0.as_ptr().cast::<Front<R>>()).owners }.with(section)
    }
}
