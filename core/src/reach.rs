//! How far a channel reaches: the fibres of one thread, those of several workers, or anybody.

use core::marker::PhantomData;
use core::ptr;

use fibra_allocators::{Lock, NoLock};

use crate::bias::Biased;
use crate::channel::ChannelRef;
use crate::process::ProcessRef;
use crate::sync::word::AtomicPtr;
use crate::sync::{Ordering, const_unless_modelled, fence};
use crate::worker::{Worker, WorkerRef};

/// How far a channel reaches, and so how its ends take turns: [`Sequential`] (the fibres of one single-threaded process; no
/// lock), [`Concurrent`] (the fibres of a process with several workers), [`Asynchronous`] (anybody).
///
/// The code of a fibre that is generic over it runs in all of them, in each at that one's cost:
///
/// ```
/// use fibra_core::{Reach, Reader, Writer};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// async fn square<R: Reach>(mut from: Reader<'_, u32, R>, mut to: Writer<'_, u32, R>) {
///     loop {
///         let n = from.read().await;
///         to.write(n * n).await;
///     }
/// }
/// fibra_core::run(&pool, |p| {
///     let (mut numbers, from) = p.channel().unwrap();
///     let (to, mut squares) = p.channel().unwrap();
///     p.spawn(square(from, to)).unwrap();
///     p.spawn(async move { numbers.write(7).await }).unwrap();
///     p.spawn(async move { assert_eq!(squares.read().await, 49) }).unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[allow(private_bounds, reason = "sealed: its methods are nobody else's business")]
pub trait Reach: Guts + 'static {}

/// What the machinery must know of a reach.
pub(crate) trait Guts {
    /// Of a process.
    type Lock: Lock;
    /// Of a channel.
    type Turns;
    /// Several workers may use a channel at once.
    const IS_SHARED: bool;
    /// The channel belongs to no process: everybody waits in it by means of a waker.
    const IS_OPEN: bool;

    /// The worker of the channel's process that this code runs on, if it does.
    fn worker(channel: ChannelRef) -> Option<WorkerRef>;

    /// The worker of this process that this code runs on, if it does.
    fn worker_of(process: ProcessRef) -> Option<WorkerRef>;

    /// The process of a worker that runs fibres of this reach.
    fn process(worker: WorkerRef) -> ProcessRef;

    /// Orders what a worker has written before what it reads next, as others see it that call `heavy_barrier`. Not needed where
    /// that is enough.
    fn light_barrier();

    fn heavy_barrier();

    fn has_remote_barrier() -> bool {
        false
    }

    fn new_turns() -> Self::Turns;

    /// Runs `section` while nobody else uses the channel.
    fn locked<R>(channel: ChannelRef, section: impl FnOnce() -> R) -> R;

    /// The same on a worker of the channel's process.
    #[inline(always)]
    fn locked_on<R>(channel: ChannelRef, _: WorkerRef, section: impl FnOnce() -> R) -> R {
        Self::locked(channel, section)
    }
}

/// The reach of channels in a process with one thread: no lock, no atomics. Its ends stay on their thread, which the
/// compiler checks.
///
/// For an example see [`Reach`].
#[derive(Debug)]
pub struct Sequential(());

impl Reach for Sequential {}

impl Guts for Sequential {
    type Lock = NoLock;
    type Turns = NoLock;
    const IS_SHARED: bool = false;
    const IS_OPEN: bool = false;

    #[inline(always)]
    fn worker(channel: ChannelRef) -> Option<WorkerRef> {
        Some(channel.process().first_worker())
    }

    #[inline(always)]
    fn worker_of(process: ProcessRef) -> Option<WorkerRef> {
        Some(process.first_worker())
    }

    #[inline(always)]
    fn process(worker: WorkerRef) -> ProcessRef {
        // SAFETY: the only worker is the process's first field, and whoever has a pointer to it has it from `first_worker`.
        unsafe { ProcessRef::new(worker.as_ptr().cast_const().cast()) }
    }

    fn light_barrier() {}
    fn heavy_barrier() {}

    fn new_turns() -> NoLock {
        NoLock::NEW
    }

    #[inline(always)]
    fn locked<R>(_: ChannelRef, section: impl FnOnce() -> R) -> R {
        section()
    }
}

/// The reach of channels in a process with several workers: each operation takes a lock once at the most, and none where one
/// worker has used the channel for long.
///
/// `P` is what the machine supplies. For an example see [`Shared`](crate::Shared).
#[derive(Debug)]
pub struct Concurrent<P>(PhantomData<P>);

impl<P: Platform> Reach for Concurrent<P> {}

impl<P: Platform> Guts for Concurrent<P> {
    type Lock = P::Lock;
    type Turns = Biased<P::Lock>;
    const IS_SHARED: bool = true;
    const IS_OPEN: bool = false;

    #[inline(always)]
    fn worker(channel: ChannelRef) -> Option<WorkerRef> {
        Self::worker_of(channel.process())
    }

    #[inline(always)]
    fn worker_of(process: ProcessRef) -> Option<WorkerRef> {
        // SAFETY: `Here` holds a worker only while that one runs on this very thread (`Here::enter`), and so is there.
        let worker = unsafe { WorkerRef::at(P::here(Here::worker)) }?;
        (worker.process() == process).then_some(worker)
    }

    #[inline(always)]
    fn process(worker: WorkerRef) -> ProcessRef {
        worker.process()
    }

    fn light_barrier() {
        P::light_barrier();
    }

    fn heavy_barrier() {
        P::heavy_barrier();
    }

    fn has_remote_barrier() -> bool {
        P::has_remote_barrier()
    }

    fn new_turns() -> Biased<P::Lock> {
        Biased::new()
    }

    #[inline(always)]
    fn locked<R>(channel: ChannelRef, section: impl FnOnce() -> R) -> R {
        channel.turns::<Self>().with::<P, R>(channel.process(), section)
    }

    #[inline(always)]
    fn locked_on<R>(channel: ChannelRef, worker: WorkerRef, section: impl FnOnce() -> R) -> R {
        channel.turns::<Self>().with_on::<P, R>(worker, section)
    }
}

/// The reach of channels between a process and anything else: other processes, threads, interrupts, other executors' tasks.
///
/// `P` is what the machine supplies.
#[derive(Debug)]
pub struct Asynchronous<P>(PhantomData<P>);

impl<P: Platform> Reach for Asynchronous<P> {}

impl<P: Platform> Guts for Asynchronous<P> {
    type Lock = P::Lock;
    type Turns = P::Lock;
    const IS_SHARED: bool = true;
    const IS_OPEN: bool = true;

    #[inline(always)]
    fn worker(_: ChannelRef) -> Option<WorkerRef> {
        None
    }

    fn worker_of(_: ProcessRef) -> Option<WorkerRef> {
        None
    }

    fn process(worker: WorkerRef) -> ProcessRef {
        worker.process()
    }

    fn light_barrier() {}
    fn heavy_barrier() {}

    fn new_turns() -> P::Lock {
        P::Lock::NEW
    }

    #[inline(always)]
    fn locked<R>(channel: ChannelRef, section: impl FnOnce() -> R) -> R {
        channel.turns::<Self>().with(section)
    }
}

/// What a machine with several threads or cores supplies: a lock, a place for each thread, and barriers.
///
/// `fibra-std` has one for threads; a kernel writes its own.
///
/// # Safety
/// - `here` passes a place that no other thread (core) is ever given while this one lives, and always the same.
/// - What a thread wrote before `light_barrier`, every other thread sees after its own `heavy_barrier`; or else what that
///   one wrote before its `heavy_barrier`, the first sees after its `light_barrier`. Two sequentially consistent fences
///   do it, and that is the default.
/// - If `has_remote_barrier` says so once, it says so for ever, and each `heavy_barrier` acts as if every other thread had passed
///   a `light_barrier` at some time during the call, wherever it is.
///
/// ```
/// use fibra_core::{Here, Platform};
/// use fibra_allocators::SpinLock;
///
/// fn core_number() -> usize {
///     0 // on a chip with two cores: from a register
/// }
/// struct TwoCores;
/// // SAFETY: each core has a place of its own.
/// unsafe impl Platform for TwoCores {
///     type Lock = SpinLock;
///     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
///         static HERE: [Here; 2] = [Here::new(), Here::new()];
///         f(&HERE[core_number()])
///     }
/// }
/// ```
pub unsafe trait Platform: 'static {
    /// What the workers take turns with.
    type Lock: Lock + Sync;

    /// Passes this thread's (core's) own place to `f`.
    ///
    /// For an example see [`Platform`].
    fn here<R>(f: impl FnOnce(&Here) -> R) -> R;

    /// Called whenever a process is about to run, before its first worker.
    ///
    /// For an example see [`Platform`].
    fn prepare() {}

    /// The one that is called often, by each worker several times for each fibre it runs, unless the other one does the work of
    /// both.
    ///
    /// For an example see [`Platform`].
    #[inline]
    fn light_barrier() {
        fence(Ordering::SeqCst);
    }

    /// Whether a `heavy_barrier` makes all others pass one, too: then they need none of their own, and no lock for channels that
    /// only one of them has used for long. Asked after [`prepare`](Self::prepare). Not where workers share a core and the lock
    /// keeps the others from running: who takes such a channel away waits in a lock for the one that uses it.
    ///
    /// For an example see [`Platform`].
    fn has_remote_barrier() -> bool {
        false
    }

    /// The one that is called seldom: by workers that have nothing to do, and by who takes away a channel that another worker
    /// has used for long.
    ///
    /// For an example see [`Platform`].
    #[inline]
    fn heavy_barrier() {
        fence(Ordering::SeqCst);
    }
}

/// A thread's (core's) own place, where it notes what it runs.
///
/// For an example see [`Platform`].
#[derive(Debug)]
pub struct Here {
    worker: AtomicPtr<Worker>,
}

impl Here {
    const_unless_modelled! {
    /// An empty place.
    ///
    /// For an example see [`Platform`].
    #[allow(clippy::new_without_default, reason = "one is of no use on its own")]
    pub fn new() -> Self {
        Here { worker: AtomicPtr::new(ptr::null_mut()) }
    }
    }

    /// The worker that runs on this thread.
    #[inline(always)]
    pub(crate) fn worker(&self) -> *mut Worker {
        self.worker.load(Ordering::Relaxed)
    }

    /// Notes which worker runs on this thread, and gives the one that ran there before.
    pub(crate) fn enter(&self, worker: *mut Worker) -> *mut Worker {
        let before = self.worker();
        self.worker.store(worker, Ordering::Relaxed);
        before
    }
}

/// Whether a process of this reach runs fibres of type `F`: with several workers, those that are [`Send`].
///
/// # Safety
/// Only for reaches whose workers may move an `F` between them.
#[diagnostic::on_unimplemented(
    message = "the fibre `{F}` cannot be run by several workers: it is not `Send`",
    note = "a fibre of a shared process is run now by one thread and now by another",
    note = "code that is generic over the reach asks for `R: Runs<F>` where it spawns an `F`, or takes the fibres from its caller"
)]
#[allow(private_bounds, reason = "sealed, as `Reach`")]
pub unsafe trait Runs<F>: Guts {}

// SAFETY: there is one worker.
unsafe impl<F> Runs<F> for Sequential {}
// SAFETY: an `F` may move between threads.
unsafe impl<F: Send, P: Platform> Runs<F> for Concurrent<P> {}
