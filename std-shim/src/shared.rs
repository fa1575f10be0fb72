//! Processes that several threads run.

use std::fmt;
use std::num::NonZero;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;
use std::thread;

use fibra_allocators::{AllocError, AllocRef, Allocator, Extent, Layout, SizeClasses, SpinLock};
use fibra_core::{Cause, Failure, Outcome, Report};

use crate::hub::Lease;
use crate::memory::{N_CLASSES, SIZES};
use crate::run::Error;
use crate::threads::Threads;
use crate::{Concurrent, Malloc};

/// A process that several threads run: see [`fibra_core::Process`]. Without a third parameter it is one in the default
/// [`SharedMemory`].
///
/// For an example see [`Shared`].
pub type SharedProcess<'p, 'env, A = SharedMemory> = fibra_core::Process<'p, 'env, A, Concurrent>;

/// The pool behind [`SharedMemory`].
///
/// For an example see [`SharedMemory`].
pub type SharedPool = SizeClasses<N_CLASSES, Extent<Malloc>, SpinLock>;

/// The memory that a [`Shared`] process gets by default: the size classes of [`Memory`](crate::Memory), each behind a spin
/// lock.
///
/// A clone is another handle to the same pool; it goes back to the host with the last one. It dereferences to the
/// [`SizeClasses`]. Where many threads spawn at the same time, a pool with a cache for each
/// ([`Cached`](crate::allocators::Cached), [`PerThread`](crate::PerThread)) is faster.
///
/// ```
/// use fibra_std::SharedMemory;
/// let memory = SharedMemory::new()?;
/// fibra_std::Shared::with_allocator(memory.clone()).run(|p| p.spawn(async {}).is_ok())?;
/// assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SharedMemory {
    pool: Arc<SharedPool>,
}

impl SharedMemory {
    /// A pool of its own.
    ///
    /// # Errors
    /// [`AllocError`] if the host refuses so much memory at once.
    ///
    /// For an example see [`SharedMemory`].
    pub fn new() -> Result<Self, AllocError> {
        let classes = SizeClasses::<N_CLASSES, Extent<Malloc>>::in_parent_with_form::<SpinLock>(&SIZES, Malloc)?;
        Ok(SharedMemory { pool: Arc::new(classes) })
    }
}

impl Deref for SharedMemory {
    type Target = SharedPool;

    #[inline]
    fn deref(&self) -> &SharedPool {
        &self.pool
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SharedMemory").field(&*self.pool).finish()
    }
}

// SAFETY: every operation is the pool's own, which keeps the contract for as long as a handle exists; all clones of a handle are
// the same allocator.
unsafe impl Allocator for SharedMemory {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&*self.pool).allocate(layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { (&*self.pool).deallocate(block, layout) }
    }
}

/// A process that several threads run, before it runs: its memory, its workers, and how it deals with panics and with lost
/// fibres.
///
/// Its fibres are [`Send`]; its channels are [`Concurrent`]. The same code of a fibre runs here and in a single-threaded
/// process, if it is generic over the [`Reach`](crate::Reach) of its channels.
///
/// ```
/// use fibra_std::{Reach, Reader, Shared, Writer};
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// async fn produce<R: Reach>(mut to: Writer<'_, u64, R>) {
///     for n in 1..=10 {
///         to.write(n).await;
///     }
/// }
/// async fn add<R: Reach>(mut from: Reader<'_, u64, R>, sum: &AtomicU64) {
///     loop {
///         sum.fetch_add(from.read().await, Ordering::Relaxed);
///     }
/// }
///
/// let sum = AtomicU64::new(0);
/// let (_, outcome) = Shared::new().workers(2).run(|p| {
///     for _ in 0..4 {
///         let (to, from) = p.channel().unwrap();
///         p.spawn(produce(to)).unwrap();
///         p.spawn(add(from, &sum)).unwrap();
///     }
/// })?;
/// assert_eq!(sum.into_inner(), 4 * 55);
/// assert_eq!((outcome.finished, outcome.collapsed), (4, 4));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing runs until `run` is called"]
pub struct Shared<'s, A = SharedMemory> {
    allocator: Result<A, AllocError>,
    workers: Option<usize>,
    report: Option<&'s (dyn Fn(&Report) + Sync)>,
    isolate: bool,
}

impl Shared<'_> {
    /// A process in a pool of its own ([`SharedMemory`]), with as many workers as there are processors.
    ///
    /// If the host refuses the memory, [`run`](Self::run) says so.
    ///
    /// For an example see [`Shared`].
    #[expect(clippy::new_without_default, reason = "it reserves memory, which a default does not suggest")]
    pub fn new() -> Self {
        Shared { allocator: SharedMemory::new(), workers: None, report: None, isolate: false }
    }
}

impl<'s, A: AllocRef + Sync> Shared<'s, A> {
    /// A process in the memory of `allocator`, which all workers share.
    ///
    /// For an example see [`SharedMemory`].
    pub fn with_allocator(allocator: A) -> Self {
        Shared { allocator: Ok(allocator), workers: None, report: None, isolate: false }
    }

    /// How many threads run the process, the one that calls [`run`](Self::run) included. At least one. By default as many as
    /// there are processors.
    ///
    /// For an example see [`Shared`].
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = Some(workers.max(1));
        self
    }

    /// Calls `visit` for each fibre that collapses, when it does, and for each wait of a fibre that is deadlocked at the
    /// end. Several workers may call it at once.
    ///
    /// ```
    /// use std::sync::Mutex;
    /// let lost = Mutex::new(Vec::new());
    /// fibra_std::Shared::new().report(&|report| lost.lock().unwrap().push(report.wait().fibre())).run(|p| {
    ///     p.fibre().name("sleeper").spawn(std::future::pending()).unwrap();
    /// })?;
    /// assert_eq!(lost.into_inner().unwrap(), ["sleeper"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(mut self, visit: &'s (dyn Fn(&Report) + Sync)) -> Self {
        self.report = Some(visit);
        self
    }

    /// A fibre's panic ends that fibre only; it is counted, and what it panicked with is dropped.
    ///
    /// ```
    /// let (_, outcome) = fibra_std::Shared::new().isolate_panics().run(|p| {
    ///     p.spawn(async { panic!("as an example") }).unwrap();
    ///     p.spawn(async {}).unwrap();
    /// })?;
    /// assert_eq!((outcome.panicked, outcome.finished), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn isolate_panics(mut self) -> Self {
        self.isolate = true;
        self
    }

    /// Runs the process: calls `setup`, then runs the fibres, on all workers, until none is left that could ever run again.
    ///
    /// The other workers begin while `setup` runs, with what it has spawned. If the host refuses a thread, there are fewer.
    ///
    /// # Errors
    /// As [`run`](crate::run).
    ///
    /// # Panics
    /// If `setup`, a fibre or a destructor panics, unless panics are [isolated](Self::isolate_panics): the others are destroyed
    /// in order, then the first panic goes on.
    ///
    /// # Blocking
    /// Until the process has ended, and its other threads with it.
    ///
    /// For an example see [`Shared`].
    pub fn run<'env, R>(
        self,
        setup: impl for<'p> FnOnce(&'p SharedProcess<'p, 'env, A>) -> R,
    ) -> Result<(R, Outcome), Error<R>> {
        let Shared { allocator, workers, report, isolate } = self;
        let hub = Lease::take()?;
        let workers = workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let mut catch = |f: &mut dyn FnMut()| hub.catch(f);
        let mut process = fibra_core::Shared::<A, Threads>::new(allocator?, *hub).catch(&mut catch);
        if let Some(visit) = report {
            process = process.report(visit);
        }
        if isolate {
            process = process.isolate_panics();
        }
        let result = process.run(|p| {
            for _ in 1..workers {
                if p.spawn_cothread().is_err() {
                    break;
                }
            }
            setup(p)
        });
        hub.join_threads();
        let panic = hub.take_panic();
        drop(hub);
        if let Err(Failure { cause: Cause::Panicked, .. }) = result {
            panic.resume();
        }
        result.map_err(Error::Failed)
    }
}

impl<A> fmt::Debug for Shared<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("workers", &self.workers)
            .field("isolate_panics", &self.isolate)
            .finish_non_exhaustive()
    }
}
