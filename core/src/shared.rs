//! Running a process with several workers.

use core::marker::PhantomData;
use core::mem;
use core::ptr::NonNull;

use fibra_allocators::AllocRef;

use crate::crew::END;
use crate::hub::{HubCore, Idle, Outside, WakeHub};
use crate::outcome::{Cause, Failure, Outcome, Report};
use crate::process::{Process, ProcessRef};
use crate::reach::{Concurrent, Platform};
use crate::reporting::{Of, Visitor};
use crate::run::{Catch, until_done};
use crate::worker::{Worker, WorkerRef};

/// A process that any number of threads or cores run together, before it runs.
///
/// Its fibres are [`Send`], and move between the workers; its channels are [`Concurrent`]. The thread that calls
/// [`run`](Self::run) is the first worker; others join it by [`work`].
///
/// The allocator's blocks had better be whole cache lines (multiples of 64 bytes on most machines), so that workers do not get in
/// each other's way.
///
/// ```
/// use fibra_allocators::{MemReq, SizeClasses, SpinLock, table};
/// use fibra_core::{Concurrent, Here, Hub, Idle, Platform, Reader, Shared, Writer, work};
/// use core::sync::atomic::{AtomicU32, Ordering};
///
/// # struct Busy;
/// # impl Idle for Busy {
/// #     fn wait(&self) {
/// #         std::thread::yield_now()
/// #     }
/// #     fn wake(&self) {}
/// #     fn nap(&self) -> bool {
/// #         std::thread::yield_now();
/// #         true
/// #     }
/// #     fn has_moments(&self) -> bool {
/// #         true
/// #     }
/// # }
/// static HUB: Hub<4> = Hub::new(&Busy); // `Busy` waits for an event
///
/// struct Threads;
/// // SAFETY: each thread has a place of its own.
/// unsafe impl Platform for Threads {
///     type Lock = SpinLock;
///     fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
///         std::thread_local!(static HERE: Here = const { Here::new() });
///         HERE.with(f)
///     }
/// }
///
/// async fn count(mut to: Writer<'_, u32, Concurrent<Threads>>) {
///     for n in 1..=10 {
///         to.write(n).await;
///     }
/// }
/// async fn add(mut from: Reader<'_, u32, Concurrent<Threads>>, sum: &AtomicU32) {
///     loop {
///         sum.fetch_add(from.read().await, Ordering::Relaxed);
///     }
/// }
///
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// let pool = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(256, 16)]), &mut memory)?;
/// let sum = AtomicU32::new(0);
/// let (_, outcome) = Shared::<_, Threads>::new(&pool, &HUB).run(|p| {
///     std::thread::spawn(|| work(&HUB, &Busy)); // another worker
///     let (to, from) = p.channel().unwrap();
///     p.spawn(count(to)).unwrap();
///     p.spawn(add(from, &sum)).unwrap();
/// })?;
/// assert_eq!((outcome.finished, outcome.collapsed), (1, 1));
/// assert_eq!(sum.into_inner(), 55);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing runs until `run` is called"]
pub struct Shared<'s, A, P> {
    allocator: A,
    outside: Outside,
    report: Option<&'s (dyn Fn(&Report) + Sync)>,
    catch: Option<&'s mut Catch<'s>>,
    isolate: bool,
    platform: PhantomData<P>,
}

impl<'s, A: AllocRef + Sync, P: Platform> Shared<'s, A, P> {
    /// A process in the memory of `allocator`, whose workers meet at `hub`, and which may be woken from outside through it.
    ///
    /// For an example see [`Shared`].
    pub fn new(allocator: A, hub: &'static dyn WakeHub) -> Self {
        let outside = Outside::new(hub);
        Shared { allocator, outside, report: None, catch: None, isolate: false, platform: PhantomData }
    }

    /// Calls `visit` for each fibre that collapses, when it does, and for each wait of a fibre that is deadlocked at the
    /// end. Any worker may call it, and several at once.
    ///
    /// For an example see [`Setup::report`](crate::Setup::report).
    pub fn report(mut self, visit: &'s (dyn Fn(&Report) + Sync)) -> Self {
        self.report = Some(visit);
        self
    }

    /// Uses the platform's way of catching panics on this thread, as [`Setup::catch`](crate::Setup::catch) does.
    ///
    /// The other workers bring theirs ([`work_catching`]).
    ///
    /// For an example see [`Setup::catch`](crate::Setup::catch).
    pub fn catch(mut self, catch: &'s mut Catch<'s>) -> Self {
        self.catch = Some(catch);
        self
    }

    /// A fibre's panic ends that fibre only; it is counted. Only with [`catch`](Self::catch).
    ///
    /// For an example see [`Setup::isolate_panics`](crate::Setup::isolate_panics).
    pub fn isolate_panics(mut self) -> Self {
        self.isolate = true;
        self
    }

    /// Runs the process: calls `setup`, then runs the fibres, together with whoever [joins](work), until none is left that
    /// could ever run again.
    ///
    /// Workers that join while `setup` runs begin at once with the fibres that it has spawned.
    ///
    /// # Errors
    /// [`Failure`] if an essential fibre was lost, if a panic was [caught](Self::catch) and is not isolated, or if the
    /// wake hub serves another process.
    ///
    /// # Panics
    /// If `setup`, a fibre or a destructor panics and the platform does not catch it. The other workers have left by then, and
    /// all fibres are destroyed.
    ///
    /// # Blocking
    /// Until the process has ended, and the other workers have left.
    ///
    /// For an example see [`Shared`].
    pub fn run<'env, R>(
        self,
        setup: impl for<'p> FnOnce(&'p Process<'p, 'env, A, Concurrent<P>>) -> R,
    ) -> Result<(R, Outcome), Failure<R>> {
        let Shared { allocator, outside, report, mut catch, isolate, .. } = self;
        let hub = outside.hub;
        P::prepare();
        let Some(generation) = hub.take() else {
            return Err(Failure { cause: Cause::HubTaken, value: None, outcome: Outcome::default() });
        };
        let process = Process::<A, Concurrent<P>>::new(allocator, Some(outside), generation);
        let core = process.settle_down();
        if let Some(visit) = report {
            core.reporting.set(Of::<Concurrent<P>>::REPORTING);
            let visit = NonNull::from(visit);
            // SAFETY: only the lifetime changes; the process is gone before this function returns.
            let visit = unsafe {
                mem::transmute::<NonNull<dyn Fn(&Report) + Sync + '_>, NonNull<dyn Fn(&Report) + Sync>>(visit)
            };
            core.report.set(Some(Visitor::Shared(visit)));
        }
        core.crew.isolates_panics.set(isolate);
        let worker = core.first_worker();
        worker.idle.set(hub.idle());
        let end = End::<P> { process: core, before: enter::<P>(worker.as_ptr()), platform: PhantomData };
        core.join_crew::<Concurrent<P>>(worker);
        core.crew.set_another(join::<P>);
        hub.open(core);

        let mut value = None;
        let mut setup = Some(setup);
        let mut first = || {
            if let Some(setup) = setup.take() {
                value = Some(setup(&process));
            }
        };
        let mut panicked = false;
        match &mut catch {
            None => {
                first();
                worker.work::<Concurrent<P>>(hub);
                drop(end);
            }
            Some(catch) => {
                if catch(&mut first) {
                    panicked = true;
                    core.end_crew::<Concurrent<P>>(true);
                }
                run_worker::<P>(worker, hub, catch);
                let close = || {
                    worker.tell_panicked();
                    end.close();
                    worker.tell_panicked();
                };
                until_done(catch, close, || panicked |= !isolate);
                drop(end);
            }
        }
        panicked |= core.crew.has_panicked.get();

        let crew = &core.crew;
        let rest = core.outcome();
        let outcome = Outcome {
            finished: rest.finished + crew.finished.get(),
            collapsed: rest.collapsed + crew.collapsed.get(),
            panicked: rest.panicked + crew.panicked.get(),
            ..rest
        };
        let cause = match core.lost.get() {
            _ if panicked => Cause::Panicked,
            Some(report) => Cause::Lost(report),
            None => match value {
                Some(value) => return Ok((value, outcome)),
                // A `catch` that did not call what it was given.
                None => Cause::Panicked,
            },
        };
        Err(Failure { cause, value, outcome })
    }
}

impl<A: AllocRef, P: Platform> Process<'_, '_, A, Concurrent<P>> {
    /// Has another thread or core help to run this process, until it ends.
    ///
    /// # Errors
    /// [`NoCothread`] if the platform has none to give, or if the process is ending.
    ///
    /// For an example see [`Shared`]; there the thread is started by hand.
    pub fn spawn_cothread(&self) -> Result<(), NoCothread> {
        let outside = self.core.outside.filter(|_| !self.core.closing.get());
        if outside.is_some_and(|outside| outside.source.add_worker()) { Ok(()) } else { Err(NoCothread) }
    }
}

/// No other thread or core can be had for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCothread;

impl core::fmt::Display for NoCothread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(
            "no further worker was started: the platform has no thread or core for it, or the process is ending",
        )
    }
}

impl core::error::Error for NoCothread {}

impl<A, P> core::fmt::Debug for Shared<'_, A, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").field("isolate_panics", &self.isolate).finish_non_exhaustive()
    }
}

/// Runs fibres of the shared process that `hub` serves, as another worker, until the process ends. Says whether there was a
/// process.
///
/// A kernel calls it on each of its other cores, a program in each of its other threads. `idle` is how this one waits.
///
/// # Panics
/// If a fibre panics here: it stops the process first.
///
/// # Blocking
/// Until the process ends.
///
/// For an example see [`Shared`].
pub fn work(hub: &'static dyn WakeHub, idle: &'static dyn Idle) -> bool {
    hub.core().join(idle, None)
}

/// The same as [`work`], with the platform's way of catching panics on this thread.
///
/// What panicked stops the process, unless it isolates panics.
///
/// # Blocking
/// Until the process ends.
///
/// For an example see [`Shared`] and [`Setup::catch`](crate::Setup::catch).
pub fn work_catching(hub: &'static dyn WakeHub, idle: &'static dyn Idle, catch: &mut Catch<'_>) -> bool {
    hub.core().join(idle, Some(catch))
}

fn enter<P: Platform>(worker: *mut Worker) -> *mut Worker {
    P::here(|here| here.enter(worker))
}

/// Has a worker run fibres until the process ends, each panic caught.
fn run_worker<P: Platform>(worker: WorkerRef, hub: &HubCore, catch: &mut Catch<'_>) {
    let process = worker.process();
    let run = || {
        // What panicked last time round.
        worker.destroy_panicked();
        worker.take_back_post::<Concurrent<P>>();
        worker.tell_panicked();
        worker.work::<Concurrent<P>>(hub);
    };
    until_done(catch, run, || {
        if !process.crew.isolates_panics.get() {
            process.stop_panicked::<Concurrent<P>>();
        }
    });
}

/// Another worker's life.
fn join<P: Platform>(process: ProcessRef, idle: &'static dyn Idle, catch: Option<&mut Catch<'_>>) {
    /// Leaves however the worker ends.
    struct Leave<P: Platform> {
        worker: WorkerRef,
        before: *mut Worker,
        platform: PhantomData<P>,
    }
    impl<P: Platform> Drop for Leave<P> {
        fn drop(&mut self) {
            let (worker, process) = (self.worker, self.worker.process());
            if !process.crew.is_called_for(END) {
                // Unwinding, and nobody catches it.
                process.stop_panicked::<Concurrent<P>>();
            }
            // Even if what panicked panics again.
            let _gone = Gone::<P>(worker, self.before, PhantomData);
            worker.destroy_panicked();
        }
    }
    /// The last steps.
    struct Gone<P: Platform>(WorkerRef, *mut Worker, PhantomData<P>);
    impl<P: Platform> Drop for Gone<P> {
        fn drop(&mut self) {
            self.0.take_back_post::<Concurrent<P>>();
            self.0.process().leave_crew::<Concurrent<P>>(self.0);
            enter::<P>(self.1);
        }
    }

    let worker = Worker::new();
    worker.idle.set(idle);
    // SAFETY: it stays where it is until `leave` is dropped, after which nobody knows it; the process waits for that.
    let worker = unsafe {
        worker.settle_down(process.as_ptr());
        WorkerRef::at((&raw const worker).cast_mut()).unwrap_unchecked()
    };
    process.join_crew::<Concurrent<P>>(worker);
    let _leave = Leave::<P> { worker, before: enter::<P>(worker.as_ptr()), platform: PhantomData };
    let Some(outside) = process.outside else { return };
    match catch {
        Some(catch) => run_worker::<P>(worker, outside.hub, catch),
        None => worker.work::<Concurrent<P>>(outside.hub),
    }
}

/// Ends the process however its run ends.
struct End<P: Platform> {
    process: ProcessRef,
    before: *mut Worker,
    platform: PhantomData<P>,
}

impl<P: Platform> End<P> {
    /// Waits for the other workers to leave, and destroys what is left.
    fn close(&self) {
        let process = self.process;
        let worker = process.first_worker();
        if !worker.has_left.get() {
            process.end_crew::<Concurrent<P>>(false);
            if let Some(outside) = process.outside {
                outside.hub.shut(|| worker.wait_to_be_left());
            }
            process.leave_crew::<Concurrent<P>>(worker);
            // Not before: the platform may panic, and this then begins anew.
            worker.has_left.set(true);
        }
        process.close();
    }
}

impl<P: Platform> Drop for End<P> {
    fn drop(&mut self) {
        /// Goes on, while unwinding, after a panic in a destructor; another panic then aborts.
        struct GoOn<'a, P: Platform>(&'a End<P>);
        impl<P: Platform> Drop for GoOn<'_, P> {
            fn drop(&mut self) {
                // What panicked may have been the visitor. But other workers may still call it.
                if self.0.process.first_worker().has_left.get() {
                    self.0.process.report.set(None);
                }
                self.0.close();
                enter::<P>(self.0.before);
                if let Some(outside) = self.0.process.outside {
                    outside.hub.give_back();
                }
            }
        }
        let process = self.process;
        let worker = process.first_worker();
        if !process.crew.is_called_for(END) {
            // Unwinding: the process did not come to its end by itself.
            process.end_crew::<Concurrent<P>>(true);
        }
        let go_on = GoOn(self);
        process.destroy_panicked();
        worker.take_back_post::<Concurrent<P>>();
        self.close();
        drop(go_on);
    }
}
