//! Running a process on the host.

use std::fmt;

use fibra_core::{AllocError, AllocRef, Cause, Failure, Outcome, Report};

use crate::Memory;
use crate::hub::Lease;
use crate::panics::FirstPanic;

/// A process: see [`fibra_core::Process`]. Without a third parameter it is one in the default [`Memory`].
///
/// ```
/// use fibra_std::{Process, SpawnErrorKind};
///
/// fn greet<'p>(p: &'p Process<'p, '_>, name: &'p str) -> Result<(), SpawnErrorKind> {
///     p.spawn(async move { println!("hello, {name}") }).map_err(|error| error.kind)
/// }
/// let (greeted, outcome) = fibra_std::run(|p| greet(p, "world"))?;
/// assert_eq!((greeted, outcome.finished), (Ok(()), 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Process<'p, 'env, A = Memory> = fibra_core::Process<'p, 'env, A>;

/// Runs a process in a pool of its own ([`Memory`]): calls `setup`, then runs the fibres that it spawned, and those that
/// they spawn, until none is left that could ever run again.
///
/// Gives what `setup` returned, and what became of the fibres. When this returns, every fibre has been destroyed. Fibres
/// may borrow whatever is declared before the call.
///
/// # Errors
/// [`Error::OutOfMemory`] if the host refuses the pool; [`Error::Failed`] if an essential fibre collapsed or deadlocked.
///
/// # Panics
/// If `setup`, a fibre or a destructor panics: the others are destroyed in order, then the first panic goes on.
///
/// # Blocking
/// Until the process has ended. It sleeps while none of its fibres is ready and a waker may still come from outside.
///
/// ```
/// let (value, outcome) = fibra_std::run(|p| {
///     p.spawn(async { println!("runs once the closure has returned") }).unwrap();
///     "what the closure returned"
/// })?;
/// assert_eq!((value, outcome.finished), ("what the closure returned", 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run<'env, R>(setup: impl for<'p> FnOnce(&'p Process<'p, 'env>) -> R) -> Result<(R, Outcome), Error<R>> {
    Setup::new().run(setup)
}

/// The same as [`run`] in the memory of `allocator`, for instance a pool with a table of sizes for this very program.
///
/// # Errors
/// [`Error::Failed`] if an essential fibre collapsed or deadlocked; [`Error::OutOfMemory`] if the host has no memory for
/// the wake hub.
///
/// # Panics
/// As [`run`].
///
/// # Blocking
/// As [`run`].
///
/// ```
/// use fibra_std::{Arena, MemReq, SizeClasses, Table, table};
///
/// const SIZES: Table<1> = table([MemReq::new(256, 16)]);
/// static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
///
/// let pool = SizeClasses::new(&SIZES, MEMORY.take().expect("taken only here"))?;
/// let (channel, _) = fibra_std::run_in(&pool, |p| p.channel::<u8>().is_ok())?;
/// assert!(channel);
/// assert_eq!(pool.classes().map(|class| (class.peak, class.live)).next(), Some((1, 0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run_in<'env, A: AllocRef, R>(
    allocator: A,
    setup: impl for<'p> FnOnce(&'p Process<'p, 'env, A>) -> R,
) -> Result<(R, Outcome), Error<R>> {
    Setup::with_allocator(allocator).run(setup)
}

/// A process before it runs: its memory, and how it deals with panics and with lost fibres.
///
/// ```
/// let mut lost = Vec::new();
/// let (_, outcome) = fibra_std::Setup::new()
///     .isolate_panics()
///     .report(&mut |report| lost.push(report.to_string()))
///     .run(|p| {
///         let (w, mut r) = p.channel_named::<u8>("orders").unwrap();
///         p.fibre().name("cook").spawn(async move { drop(r.read().await) }).unwrap();
///         p.fibre()
///             .name("waiter")
///             .spawn(async move {
///                 let _orders = w;
///                 panic!("dropped the tray");
///             })
///             .unwrap();
///     })?;
/// assert_eq!((outcome.panicked, outcome.collapsed), (1, 1));
/// assert_eq!(
///     lost,
///     [
///         "fibre `waiter` panicked",
///         "fibre `cook` collapsed while reading from channel `orders`: no other end was left",
///     ]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing runs until `run` is called"]
pub struct Setup<'s, A = Memory> {
    allocator: Result<A, AllocError>,
    report: Option<&'s mut dyn FnMut(&Report)>,
    isolate: bool,
}

impl Setup<'_> {
    /// A process in a pool of its own ([`Memory`]).
    ///
    /// If the host refuses the memory, [`run`](Self::run) says so.
    ///
    /// ```
    /// let (_, outcome) = fibra_std::Setup::new().run(|p| p.spawn(async {}).is_ok())?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[expect(clippy::new_without_default, reason = "it reserves memory, which a default does not suggest")]
    pub fn new() -> Self {
        Setup { allocator: Memory::new(), report: None, isolate: false }
    }
}

impl<'s, A: AllocRef> Setup<'s, A> {
    /// A process in the memory of `allocator`.
    ///
    /// ```
    /// use fibra_std::{Malloc, MemReq, Setup, SizeClasses, table};
    ///
    /// let pool = SizeClasses::in_parent(&table([MemReq::new(256, 100)]), Malloc)?;
    /// let (_, outcome) = Setup::with_allocator(&pool).isolate_panics().run(|p| p.spawn(async {}).is_ok())?;
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_allocator(allocator: A) -> Self {
        Setup { allocator: Ok(allocator), report: None, isolate: false }
    }

    /// Calls `visit` for each fibre that collapses, when it does, and for each wait of a fibre that is deadlocked at the
    /// end.
    ///
    /// ```
    /// let mut lost = Vec::new();
    /// fibra_std::Setup::new().report(&mut |report| lost.push(report.wait().fibre())).run(|p| {
    ///     p.fibre().name("sleeper").spawn(std::future::pending()).unwrap();
    /// })?;
    /// assert_eq!(lost, ["sleeper"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(mut self, visit: &'s mut dyn FnMut(&Report)) -> Self {
        self.report = Some(visit);
        self
    }

    /// A fibre's panic ends that fibre only; it is counted, and what it panicked with is dropped. The panic hook, which
    /// writes the message, runs as always.
    ///
    /// ```
    /// let (_, outcome) = fibra_std::Setup::new().isolate_panics().run(|p| {
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

    /// Runs the process: see [`run`].
    ///
    /// # Errors
    /// As [`run`].
    ///
    /// # Panics
    /// As [`run`]; if panics are [isolated](Self::isolate_panics), only if `setup` itself panics.
    ///
    /// # Blocking
    /// As [`run`].
    ///
    /// For an example see [`Setup`].
    pub fn run<'env, R>(
        self,
        setup: impl for<'p> FnOnce(&'p Process<'p, 'env, A>) -> R,
    ) -> Result<(R, Outcome), Error<R>> {
        let Setup { allocator, report, isolate } = self;
        let hub = Lease::take()?;
        let mut panic = FirstPanic::default();
        let mut catch = |f: &mut dyn FnMut()| panic.catch(f);
        let mut process = fibra_core::Setup::new(allocator?).hub(*hub).catch(&mut catch);
        if let Some(visit) = report {
            process = process.report(visit);
        }
        if isolate {
            process = process.isolate_panics();
        }
        let result = process.run(setup);
        drop(hub);
        if let Err(Failure { cause: Cause::Panicked, .. }) = result {
            panic.resume();
        }
        result.map_err(Error::Failed)
    }
}

impl<A> fmt::Debug for Setup<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("isolate_panics", &self.isolate).finish_non_exhaustive()
    }
}

/// Why a run failed.
///
/// ```
/// use fibra_std::{Error, run};
///
/// let result = run(|p| p.fibre().name("pump").essential().spawn(std::future::pending()).is_ok());
/// let Err(Error::Failed(failure)) = result else { unreachable!() };
/// assert_eq!((failure.value, failure.outcome.collapsed), (Some(true), 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error<R> {
    /// The host refuses the memory that the process is to run in. Nothing was run.
    OutOfMemory,
    /// An essential fibre was lost. What the run made is in here.
    Failed(Failure<R>),
}

impl<R> From<AllocError> for Error<R> {
    fn from(_: AllocError) -> Self {
        Error::OutOfMemory
    }
}

impl<R> fmt::Display for Error<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OutOfMemory => f.write_str("the host refuses the memory that the process is to run in"),
            Error::Failed(failure) => failure.fmt(f),
        }
    }
}

impl<R: fmt::Debug> std::error::Error for Error<R> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_memory_nothing_is_run() {
        let setup: Setup<'_> = Setup { allocator: Err(AllocError), report: None, isolate: false };
        assert_eq!(setup.run(|_| unreachable!()), Err(Error::<()>::OutOfMemory));
    }
}
