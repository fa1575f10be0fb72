//! Spawning fibres, and making channels: the service requests that allocate.

use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use fibra_allocators::{AllocError, AllocRef, Layout};

use crate::endpoint::{self, Endpoint};
use crate::fibre::{Extra, IsExtra, Task};
use crate::hub::WakeCell;
use crate::process::Process;
use crate::reach::{Reach, Runs, Sequential};
use crate::reader::Reader;
use crate::reporting::Of;
use crate::writer::Writer;

/// Why a fibre could not be spawned.
///
/// ```
/// use fibra_core::SpawnErrorKind;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let error = p.fibre().waker().spawn(async {}).unwrap_err();
///     assert_eq!(error.kind, SpawnErrorKind::NoWakeCell); // this process has no wake hub
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpawnErrorKind {
    /// The process's allocator has no block for the fibre; [`fibre_layout`](crate::fibre_layout) says which it takes.
    OutOfMemory,
    /// The process is ending: its fibres are being destroyed.
    Closing,
    /// The fibre asked for a wake cell, and the process has no wake hub, or the hub has no cell left.
    NoWakeCell,
    /// The reservation is used up.
    ReservationUsedUp,
}

impl fmt::Display for SpawnErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfMemory => "the process's allocator has no block for the fibre",
            Self::Closing => "the process is ending",
            Self::NoWakeCell => {
                "the fibre needs a wake cell, and the process's wake hub has none left (or there is no hub)"
            }
            Self::ReservationUsedUp => "the reservation is used up",
        })
    }
}

/// A fibre could not be spawned. The future is not lost: it is in here.
///
/// ```
/// use fibra_core::SpawnErrorKind;
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 1 }]), &mut memory)?;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let ends = p.channel::<u8>().unwrap(); // takes the pool's only block
///     let error = p.spawn(async { println!("at last") }).unwrap_err();
///     assert_eq!(error.kind, SpawnErrorKind::OutOfMemory);
///     drop(ends);
///     p.spawn(error.future).unwrap();
/// })?;
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SpawnError<F> {
    /// Why.
    pub kind: SpawnErrorKind,
    /// The future that was to be run.
    pub future: F,
}

impl<F> fmt::Debug for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpawnError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the fibre was not spawned: {}", self.kind)
    }
}

impl<F> core::error::Error for SpawnError<F> {}

impl<'p, 'env, A: AllocRef, R: Reach> Process<'p, 'env, A, R> {
    /// Spawns a fibre: it goes to the tail of the run queue, and the caller runs on.
    ///
    /// Inside a fibre and in the closure of [`run`](crate::run) alike. The fibre may borrow what outlives the process.
    ///
    /// Takes one block of [`fibre_layout::<F>()`](crate::fibre_layout), and constant time besides moving the future.
    ///
    /// # Errors
    /// [`SpawnError`], with the future in it, if the allocator has no block or the process is ending.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let words = ["communicating", "sequential", "processes"];
    /// let letters = core::cell::Cell::new(0);
    /// fibra_core::run(&pool, |p| {
    ///     for word in &words {
    ///         let letters = &letters; // fibres borrow what is around `run`
    ///         p.spawn(async move { letters.set(letters.get() + word.len()) }).unwrap();
    ///     }
    /// })?;
    /// assert_eq!(letters.get(), 32);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn spawn<F: Future<Output = ()> + 'p>(&'p self, future: F) -> Result<(), SpawnError<F>>
    where
        R: Runs<F>,
    {
        match self.block_for(Task::<F, ()>::LAYOUT) {
            Ok(block) => {
                // SAFETY: the block has that layout, and comes from this process's allocator. `F: 'p` and all fibres are
                // destroyed before `'p` ends.
                self.core.this().start::<R>(unsafe { Task::write::<A, R>(block, (), || future) });
                Ok(())
            }
            Err(kind) => Err(SpawnError { kind, future }),
        }
    }

    /// Spawns a fibre whose future `make` builds in the fibre's own block: for futures too large for the stack.
    ///
    /// (In an unoptimised build the compiler may still move it through the stack.)
    ///
    /// # Errors
    /// If the allocator has no block or the process is ending: then `make` is given back, and was not called.
    ///
    /// # Panics
    /// If `make` does; its block goes back first.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = vec![core::mem::MaybeUninit::uninit(); 256 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 70_000, n_blocks: 2 }]), &mut memory)?;
    /// async fn large() {
    ///     let buffer = [0u8; 65_536];
    ///     fibra_core::yield_now().await;
    ///     core::hint::black_box(&buffer);
    /// }
    /// let (_, outcome) = fibra_core::run(&pool, |p| p.spawn_with(large).is_ok())?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn spawn_with<F, M>(&'p self, make: M) -> Result<(), SpawnError<M>>
    where
        F: Future<Output = ()> + 'p,
        M: FnOnce() -> F,
        R: Runs<F>,
    {
        match self.block_for(Task::<F, ()>::LAYOUT) {
            Ok(block) => {
                // SAFETY: as in `spawn`.
                unsafe { self.start(block, (), make, false) };
                Ok(())
            }
            Err(kind) => Err(SpawnError { kind, future: make }),
        }
    }

    /// Spawns a fibre that runs next, before the running one goes on: the child goes to the head of the run queue, and
    /// the parent, as soon as it awaits this, to its tail.
    ///
    /// # Blocking
    /// Suspends the running fibre for one round of the ready fibres.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), at once.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let order = std::cell::RefCell::new(Vec::new());
    /// fibra_core::run(&pool, |p| {
    ///     let order = &order;
    ///     p.spawn(async move {
    ///         p.spawn_next(async { order.borrow_mut().push("child") }).await.unwrap();
    ///         order.borrow_mut().push("parent");
    ///     })
    ///     .unwrap();
    ///     p.spawn(async { order.borrow_mut().push("bystander") }).unwrap();
    /// })?;
    /// assert_eq!(order.into_inner(), ["child", "bystander", "parent"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_next<F: Future<Output = ()> + 'p>(&'p self, future: F) -> SpawnNext<'p, 'env, F, A, R>
    where
        R: Runs<F>,
    {
        SpawnNext { process: self, options: None, future: Some(future) }
    }

    /// Options for a fibre: a name, essential, with a waker.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let failure = fibra_core::run(&pool, |p| {
    ///     let (_, mut r) = p.channel_named::<u8>("orders").unwrap();
    ///     p.fibre().name("cook").essential().spawn(async move { drop(r.read().await) }).unwrap();
    /// })
    /// .unwrap_err();
    /// assert_eq!(
    ///     failure.to_string(),
    ///     "an essential fibre was lost: \
    ///      fibre `cook` collapsed while reading from channel `orders`: no other end was left"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fibre(&'p self) -> FibreOptions<'p, 'env, A, R> {
        FibreOptions { process: self, name: None, essential: false, waker: false }
    }

    /// Makes a channel, and gives its two ends.
    ///
    /// Takes one block of [`channel_layout::<T>()`](crate::channel_layout), and constant time. For a picture of the whole
    /// see the [crate's example](crate).
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no such block.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut w, mut r) = p.channel::<&str>().unwrap();
    ///     p.spawn(async move { w.write("hello").await }).unwrap();
    ///     p.spawn(async move { assert_eq!(r.read().await, "hello") }).unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channel<T>(&'p self) -> Result<(Writer<'p, T, R>, Reader<'p, T, R>), AllocError> {
        endpoint::channel(self.core.this(), ())
    }

    /// Makes a channel with a name, for reports and dumps. The name takes two words more.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block for it.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (w, r) = p.channel_named::<u8>("orders").unwrap();
    ///     assert_eq!(format!("{w:?}, {r:?}"), "Writer(`orders`), Reader(`orders`)");
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn channel_named<T>(&'p self, name: &'static str) -> Result<(Writer<'p, T, R>, Reader<'p, T, R>), AllocError> {
        endpoint::channel(self.core.this(), name)
    }

    /// Makes a two-way channel, and gives its first two endpoints. Takes one block, and constant time.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block of [`two_way_layout::<T>()`](crate::two_way_layout).
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let (mut one, mut other) = p.two_way::<&str>().unwrap();
    ///     p.spawn(async move {
    ///         one.write("ping").await;
    ///         assert_eq!(one.read().await, "pong");
    ///     })
    ///     .unwrap();
    ///     p.spawn(async move {
    ///         assert_eq!(other.read().await, "ping");
    ///         other.write("pong").await;
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn two_way<T>(&'p self) -> Result<(Endpoint<'p, T, R>, Endpoint<'p, T, R>), AllocError> {
        endpoint::two_way(self.core.this(), ())
    }

    /// Makes a two-way channel with a name, for reports and dumps. The name takes two words more.
    ///
    /// # Errors
    /// [`AllocError`] if the process's allocator has no block for it.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 512, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let (one, _other) = p.two_way_named::<u8>("line").unwrap();
    ///     assert_eq!(format!("{one:?}"), "Endpoint(`line`)");
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn two_way_named<T>(
        &'p self,
        name: &'static str,
    ) -> Result<(Endpoint<'p, T, R>, Endpoint<'p, T, R>), AllocError> {
        endpoint::two_way(self.core.this(), name)
    }

    #[inline]
    fn block_for(&self, layout: Layout) -> Result<NonNull<u8>, SpawnErrorKind> {
        if self.core.closing.get() {
            return Err(SpawnErrorKind::Closing);
        }
        self.allocator.allocate(layout).map(NonNull::cast).map_err(|_| SpawnErrorKind::OutOfMemory)
    }

    /// Builds a fibre in its block and queues it; gives the block back if `make` panics.
    ///
    /// # Safety
    /// `block` came from this process's allocator with the layout of `Task<F, X>`.
    #[inline]
    pub(crate) unsafe fn start<F, X>(&'p self, block: NonNull<u8>, extra: X, make: impl FnOnce() -> F, first: bool)
    where
        F: Future<Output = ()> + 'p,
        X: IsExtra,
    {
        struct GiveBack<'a, A: AllocRef>(&'a A, NonNull<u8>, Layout);
        impl<A: AllocRef> Drop for GiveBack<'_, A> {
            fn drop(&mut self) {
                // SAFETY: taken with this layout; the fibre was not built, and nobody knows the block.
                unsafe { self.0.deallocate(self.1, self.2) }
            }
        }
        let give_back = GiveBack(&self.allocator, block, Task::<F, X>::LAYOUT);
        // SAFETY: the caller's promise. `F: 'p`, and all fibres are destroyed before `'p` ends.
        let fibre = unsafe { Task::write::<A, R>(block, extra, make) };
        core::mem::forget(give_back);
        // Before it can run.
        if X::HAS_EXTRA
            && let Some(cell) = fibre.wake_cell()
        {
            self.core.this().exclusive::<R, _>(|| cell.fibre.set(Some(fibre)));
        }
        let process = self.core.this();
        match R::worker_of(process) {
            Some(worker) if first => worker.enqueue_first::<R>(fibre),
            _ => process.start::<R>(fibre),
        }
    }
}

/// Options for one fibre. Made by [`Process::fibre`].
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     let important = p.fibre().essential(); // `Copy`: one set of options for several fibres
///     important.name("pump").spawn(async {}).unwrap();
///     important.name("valve").spawn(async {}).unwrap();
/// })?;
/// assert_eq!(outcome.finished, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is spawned until `spawn` is called"]
pub struct FibreOptions<'p, 'env, A, R: Reach = Sequential> {
    process: &'p Process<'p, 'env, A, R>,
    name: Option<&'static str>,
    essential: bool,
    waker: bool,
}

impl<A, R: Reach> Clone for FibreOptions<'_, '_, A, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A, R: Reach> Copy for FibreOptions<'_, '_, A, R> {}

impl<'p, 'env, A: AllocRef, R: Reach> FibreOptions<'p, 'env, A, R> {
    /// A name for reports and dumps. By default a fibre is called like the type of its future.
    ///
    /// ```
    /// use fibra_core::Setup;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut lost = "";
    /// Setup::new(&pool).report(&mut |report| lost = report.wait().fibre()).run(|p| {
    ///     p.fibre().name("sleeping beauty").spawn(core::future::pending()).unwrap();
    /// })?;
    /// assert_eq!(lost, "sleeping beauty");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// The fibre must not be lost: if it collapses or deadlocks, `run` returns an error that names it.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let failure = fibra_core::run(&pool, |p| {
    ///     p.fibre().name("pump").essential().spawn(core::future::pending()).unwrap();
    /// })
    /// .unwrap_err();
    /// assert_eq!(failure.to_string(), "an essential fibre was lost: fibre `pump` collapsed");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn essential(mut self) -> Self {
        self.essential = true;
        self
    }

    /// The fibre awaits something that is woken from outside the process's channels: a future of the ecosystem, a
    /// device. Reserves a cell of the process's wake hub, so that cloning the fibre's waker cannot fail.
    ///
    /// Such a fibre is kept as long as a clone of its waker exists, even inside itself. Spawning it takes time in
    /// proportion to the hub's cells, at the most.
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
    /// let (tell, told) = futures::channel::oneshot::channel();
    /// let mut answer = 0;
    /// let heard = &mut answer;
    /// Setup::new(&pool).hub(&HUB).run(|p| {
    ///     p.fibre().waker().spawn(async move { *heard = told.await.unwrap() }).unwrap();
    ///     std::thread::spawn(move || tell.send(42));
    /// })?;
    /// assert_eq!(answer, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn waker(mut self) -> Self {
        self.waker = true;
        self
    }

    /// Spawns the fibre, as [`Process::spawn`] does.
    ///
    /// Takes one block of [`fibre_layout_with_options::<F>()`](crate::fibre_layout_with_options).
    ///
    /// # Errors
    /// As [`Process::spawn`], and if there is no wake cell for a fibre that asks for one.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     p.fibre().name("greeter").spawn(async { println!("hello") }).unwrap();
    /// })?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn<F: Future<Output = ()> + 'p>(self, future: F) -> Result<(), SpawnError<F>>
    where
        R: Runs<F>,
    {
        self.start(future, |future| future, false)
    }

    /// Spawns a fibre whose future is built in place, as [`Process::spawn_with`] does.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn); then `make` was not called.
    ///
    /// # Panics
    /// If `make` does; its block and its wake cell go back first.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 2048, n_blocks: 2 }]), &mut memory)?;
    /// async fn fill() {
    ///     let buffer = [1_u8; 1000];
    ///     fibra_core::yield_now().await;
    ///     core::hint::black_box(&buffer);
    /// }
    /// let (_, outcome) = fibra_core::run(&pool, |p| p.fibre().name("filler").spawn_with(fill).is_ok())?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_with<F, M>(self, make: M) -> Result<(), SpawnError<M>>
    where
        F: Future<Output = ()> + 'p,
        M: FnOnce() -> F,
        R: Runs<F>,
    {
        self.start(make, |make| make(), false)
    }

    /// Spawns a fibre that runs next, as [`Process::spawn_next`] does.
    ///
    /// # Blocking
    /// Suspends the running fibre for one round of the ready fibres.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), when it is awaited.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let steps = core::cell::RefCell::new(Vec::new());
    /// fibra_core::run(&pool, |p| {
    ///     let steps = &steps;
    ///     p.spawn(async move {
    ///         p.fibre().name("child").spawn_next(async { steps.borrow_mut().push("child") }).await.unwrap();
    ///         steps.borrow_mut().push("parent");
    ///     })
    ///     .unwrap();
    /// })?;
    /// assert_eq!(steps.into_inner(), ["child", "parent"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn_next<F: Future<Output = ()> + 'p>(self, future: F) -> SpawnNext<'p, 'env, F, A, R>
    where
        R: Runs<F>,
    {
        SpawnNext { process: self.process, options: Some(self), future: Some(future) }
    }

    fn start<F, M>(self, from: M, make: impl FnOnce(M) -> F, first: bool) -> Result<(), SpawnError<M>>
    where
        F: Future<Output = ()> + 'p,
    {
        struct Disown<'p, 'env, 'a, A, R: Reach>(&'a Process<'p, 'env, A, R>, Option<&'static WakeCell>);
        impl<A, R: Reach> Drop for Disown<'_, '_, '_, A, R> {
            fn drop(&mut self) {
                if let Some(cell) = self.1 {
                    self.0.core.this().disown::<R>(cell);
                }
            }
        }

        let process = self.process;
        let cell = if self.waker { process.core.this().claim_cell::<R>() } else { None };
        if self.waker && cell.is_none() {
            return Err(SpawnError { kind: SpawnErrorKind::NoWakeCell, future: from });
        }
        let disown = Disown(process, cell);
        let block = match process.block_for(Task::<F, Extra>::LAYOUT) {
            Ok(block) => block,
            Err(kind) => return Err(SpawnError { kind, future: from }),
        };
        if self.essential {
            process.core.reporting.set(Of::<R>::REPORTING);
        }
        let extra = Extra { name: self.name, essential: self.essential, cell };
        // SAFETY: the block has that layout, and comes from this process's allocator.
        unsafe { process.start(block, extra, || make(from), first) };
        core::mem::forget(disown);
        Ok(())
    }
}

/// Spawns a fibre and lets it run before the one that awaits this. Made by [`Process::spawn_next`].
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let (_, outcome) = fibra_core::run(&pool, |p| {
///     p.spawn(async move {
///         let child = p.spawn_next(async {});
///         drop(child); // never awaited, so never spawned
///     })
///     .unwrap();
/// })?;
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing is spawned until this is awaited"]
pub struct SpawnNext<'p, 'env, F, A, R: Reach = Sequential> {
    process: &'p Process<'p, 'env, A, R>,
    options: Option<FibreOptions<'p, 'env, A, R>>,
    future: Option<F>,
}

/// The future in here is moved out before it is first polled, so nothing is pinned.
impl<F, A, R: Reach> Unpin for SpawnNext<'_, '_, F, A, R> {}

impl<'p, F: Future<Output = ()> + 'p, A: AllocRef, R: Reach> Future for SpawnNext<'p, '_, F, A, R> {
    type Output = Result<(), SpawnError<F>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.future.is_none() {
            return Poll::Ready(Ok(()));
        }
        match this.start() {
            Ok(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl<'p, F: Future<Output = ()> + 'p, A: AllocRef, R: Reach> SpawnNext<'p, '_, F, A, R> {
    /// Spawns the fibre, before all that are ready.
    pub(crate) fn start(&mut self) -> Result<(), SpawnError<F>> {
        let Some(future) = self.future.take() else { return Ok(()) };
        let process = self.process;
        match self.options {
            Some(options) => options.start(future, |future| future, true),
            None => match process.block_for(Task::<F, ()>::LAYOUT) {
                Ok(block) => {
                    // SAFETY: the block has that layout, and comes from this process's allocator. `F: 'p`.
                    unsafe { process.start(block, (), || future, true) };
                    Ok(())
                }
                Err(kind) => Err(SpawnError { kind, future }),
            },
        }
    }
}
