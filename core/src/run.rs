//! Running a process.

use core::mem;
use core::ptr::NonNull;

use fibra_allocators::AllocRef;

use crate::fibre::FibreRef;
use crate::hub::{Outside, WakeHub};
use crate::outcome::{Cause, Failure, Outcome, Report, Wait};
use crate::process::{Process, ProcessRef};
use crate::reach::{Guts, Sequential};
use crate::reporting::{Of, Reporting, Visitor};
use crate::sync::Ordering;
use crate::worker::WorkerRef;

/// Runs a process in the memory of `allocator`: calls `setup`, then runs the fibres that it spawned, and those that they
/// spawn, until none is left that could ever run again.
///
/// Gives what `setup` returned, and what became of the fibres. When this returns, every fibre has been destroyed, and
/// all memory is back in the allocator, but for what was forgotten with [`mem::forget`], or made to own itself (a value in a
/// channel that holds the last reader of that very channel).
///
/// The process is closed: nothing outside it can wake a fibre. For one that awaits other things than channels, give it a
/// wake hub: [`Setup::hub`].
///
/// # Errors
/// [`Failure`] if an essential fibre collapsed or deadlocked.
///
/// # Panics
/// If `setup` or a fibre panics. All fibres are destroyed first, while unwinding. (With a platform that catches panics,
/// such as `fibra-std`, they are destroyed in order, and the panic then goes on.)
///
/// # Blocking
/// Until the process has ended.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let (value, outcome) = fibra_core::run(&pool, |p| {
///     p.spawn(async { println!("runs once the closure has returned") }).unwrap();
///     "what the closure returned"
/// })?;
/// assert_eq!(value, "what the closure returned");
/// assert_eq!(outcome.finished, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn run<'env, A: AllocRef, R>(
    allocator: A,
    setup: impl for<'p> FnOnce(&'p Process<'p, 'env, A>) -> R,
) -> Result<(R, Outcome), Failure<R>> {
    Setup::new(allocator).run(setup)
}

/// A process before it runs: its allocator, and how it deals with the world.
///
/// ```
/// # use fibra_core::{MemReq, Setup, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut lost = Vec::new();
/// let (_, outcome) = Setup::new(&pool).report(&mut |report| lost.push(report.to_string())).run(|p| {
///     let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
///     let (wb, mut rb) = p.channel_named::<u8>("b").unwrap();
///     p.fibre().name("one").spawn(async move { drop((ra.read().await, wb)) }).unwrap();
///     p.fibre().name("two").spawn(async move { drop((rb.read().await, wa)) }).unwrap();
/// })?;
/// assert_eq!(outcome.deadlocked, 2);
/// assert_eq!(
///     lost,
///     [
///         "fibre `one` deadlocked while reading from channel `a`: the other end was held by fibre `two`",
///         "fibre `two` deadlocked while reading from channel `b`: the other end was held by fibre `one`",
///     ]
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "nothing runs until `run` is called"]
pub struct Setup<'s, A> {
    allocator: A,
    outside: Option<Outside>,
    report: Option<&'s mut dyn FnMut(&Report)>,
    reporting: Option<&'static Reporting>,
    catch: Option<&'s mut Catch<'s>>,
    isolate: bool,
}

/// The platform's way of catching panics: calls the function it is given, and says whether it panicked.
///
/// It must call its argument exactly once each time, also after a panic: then the rest of the process is destroyed.
///
/// ```
/// use std::panic::{AssertUnwindSafe, catch_unwind};
/// use fibra_core::{Catch, Cause, Setup};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let catch: &mut Catch<'_> = &mut |f| catch_unwind(AssertUnwindSafe(f)).is_err();
/// let failure = Setup::new(&pool).catch(catch).run(|_| panic!("in the closure")).unwrap_err();
/// assert_eq!((failure.cause, failure.value), (Cause::Panicked, None::<()>));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Catch<'s> = dyn FnMut(&mut dyn FnMut()) -> bool + 's;

impl<'s, A: AllocRef> Setup<'s, A> {
    /// A closed process in the memory of `allocator`.
    ///
    /// ```
    /// use fibra_core::Setup;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (_, outcome) = Setup::new(&pool).run(|p| p.spawn(async {}).is_ok())?; // the same as `run`
    /// assert_eq!(outcome.finished, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(allocator: A) -> Self {
        Setup { allocator, outside: None, report: None, reporting: None, catch: None, isolate: false }
    }

    /// Opens the process: its fibres may be woken from outside, through `hub`, which serves one process at a time.
    ///
    /// Fibres that await anything else than this process's channels are spawned with
    /// [`waker`](crate::FibreOptions::waker). The process lives as long as such a fibre's waker does.
    ///
    /// ```
    /// use fibra_core::{Cause, Hub, Idle, Setup};
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
    /// static HUB: Hub<4> = Hub::new(&Busy);
    ///
    /// Setup::new(&pool).hub(&HUB).run(|p| {
    ///     let (tell, told) = futures::channel::oneshot::channel();
    ///     p.fibre().waker().spawn(async move { assert_eq!(told.await, Ok(7)) }).unwrap();
    ///     std::thread::spawn(move || tell.send(7));
    ///
    ///     let nested = Setup::new(p.allocator()).hub(&HUB).run(|_| ());
    ///     assert_eq!(nested.unwrap_err().cause, Cause::HubTaken);
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hub(mut self, hub: &'static dyn WakeHub) -> Self {
        self.outside = Some(Outside::new(hub));
        self
    }

    /// Calls `visit` for each fibre that collapses, when it does, and for each wait of a fibre that is deadlocked at the
    /// end. Nothing is allocated for it.
    ///
    /// ```
    /// use fibra_core::Setup;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut lost = 0;
    /// Setup::new(&pool).report(&mut |_| lost += 1).run(|p| {
    ///     p.spawn(core::future::pending()).unwrap();
    /// })?;
    /// assert_eq!(lost, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(mut self, visit: &'s mut dyn FnMut(&Report)) -> Self {
        self.report = Some(visit);
        self.reporting = Some(Of::<Sequential>::REPORTING);
        self
    }

    /// Uses the platform's way of catching panics. Then a fibre's panic stops the process in order, and
    /// [`run`](Self::run) returns [`Cause::Panicked`]; the platform goes on with what it caught.
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use fibra_core::{Cause, Setup};
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut catch = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();
    /// let failure = Setup::new(&pool).catch(&mut catch).run(|p| {
    ///     p.spawn(async { panic!("as an example") }).unwrap();
    ///     p.spawn(async {}).unwrap();
    /// });
    /// let failure = failure.unwrap_err();
    /// assert_eq!(failure.cause, Cause::Panicked);
    /// assert_eq!((failure.outcome.panicked, failure.outcome.stopped), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn catch(mut self, catch: &'s mut Catch<'s>) -> Self {
        self.catch = Some(catch);
        self
    }

    /// A fibre's panic ends that fibre only; it is counted. Only with [`catch`](Self::catch).
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use fibra_core::Setup;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let mut catch = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();
    /// let (_, outcome) = Setup::new(&pool).catch(&mut catch).isolate_panics().run(|p| {
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
    /// [`Failure`] if an essential fibre was lost, if a panic was [caught](Self::catch) and is not isolated, or if the
    /// wake hub serves another process.
    ///
    /// # Panics
    /// If `setup`, a fibre or a destructor panics and the platform does not catch it.
    ///
    /// # Blocking
    /// Until the process has ended. One with a hub waits by means of its [`Idle`](crate::Idle) while no fibre is ready.
    ///
    /// ```
    /// use fibra_core::Setup;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// let (value, outcome) = Setup::new(&pool).run(|p| {
    ///     p.spawn(async {}).unwrap();
    ///     42
    /// })?;
    /// assert_eq!((value, outcome.finished), (42, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn run<'env, R>(
        self,
        setup: impl for<'p> FnOnce(&'p Process<'p, 'env, A>) -> R,
    ) -> Result<(R, Outcome), Failure<R>> {
        let Setup { allocator, outside, mut report, reporting, mut catch, isolate } = self;
        let generation = match outside.map(|outside| outside.hub.take()) {
            Some(None) => {
                return Err(Failure { cause: Cause::HubTaken, value: None, outcome: Outcome::default() });
            }
            Some(Some(generation)) => generation,
            None => 0,
        };
        let process = Process::new(allocator, outside, generation);
        let core = process.settle_down();
        if let Some(reporting) = reporting {
            core.reporting.set(reporting);
        }
        if let Some(visit) = &mut report {
            let visit = NonNull::from(&mut **visit);
            // SAFETY: only the lifetime changes; `report` is not used until the process is gone, which `end` makes sure
            // of before this function returns.
            let visit =
                unsafe { mem::transmute::<NonNull<dyn FnMut(&Report) + '_>, NonNull<dyn FnMut(&Report)>>(visit) };
            core.report.set(Some(Visitor::Alone(visit)));
        }
        let end = End(core);

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
                core.run_until_idle();
                drop(end);
            }
            Some(catch) => {
                if catch(&mut first) {
                    panicked = true;
                    core.is_stopped.set(true);
                }
                // Each time round, what panicked has been dealt with as far as it had come.
                let run = || {
                    core.destroy_panicked();
                    core.tell_panicked();
                    if !core.is_stopped.get() {
                        core.run_until_idle();
                    }
                };
                until_done(catch, run, || {
                    panicked |= !isolate;
                    core.is_stopped.set(core.is_stopped.get() || panicked);
                });
                let close = || {
                    core.tell_panicked();
                    core.close();
                    core.tell_panicked();
                };
                until_done(catch, close, || panicked |= !isolate);
                drop(end);
            }
        }

        let outcome = core.outcome();
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

/// Lets the platform call `step`, again after each panic, until it has come to its end. If the platform does not call it, or
/// does not say that it panicked, that is the end, too.
pub(crate) fn until_done(catch: &mut Catch<'_>, step: impl Fn(), mut panicked: impl FnMut()) {
    loop {
        let (mut called, mut done) = (false, false);
        let caught = catch(&mut || {
            called = true;
            step();
            done = true;
        });
        if done || !called || !caught {
            return;
        }
        panicked();
    }
}

/// Ends the process however its run ends.
struct End(ProcessRef);

impl Drop for End {
    fn drop(&mut self) {
        /// Goes on, while unwinding, after a panic in a destructor; another panic then aborts.
        struct GoOn(ProcessRef);
        impl Drop for GoOn {
            fn drop(&mut self) {
                // What panicked may have been the visitor.
                self.0.report.set(None);
                self.0.close();
                if let Some(outside) = self.0.outside {
                    outside.hub.give_back();
                }
            }
        }
        let process = self.0;
        let worker = process.first_worker();
        if worker.current.get().is_some() || !worker.is_queue_empty() {
            // Unwinding: the process did not come to its end by itself.
            process.is_stopped.set(true);
        }
        let go_on = GoOn(process);
        process.destroy_panicked();
        process.close();
        drop(go_on);
    }
}

impl ProcessRef {
    /// Runs fibres until none is ready and nothing outside can make one ready, or until the process is stopped.
    fn run_until_idle(self) {
        loop {
            if self.outside.is_some() {
                self.enqueue_marker(&self.pump);
            }
            self.first_worker().run_ready();
            if self.is_stopped.get() || !self.sweep_two_way() {
                return;
            }
        }
    }

    fn tell_panicked(self) {
        self.first_worker().tell_panicked();
    }

    /// Destroys the fibre whose poll panicked, if one did.
    pub(crate) fn destroy_panicked(self) {
        self.first_worker().destroy_panicked();
    }

    /// What has become of the fibres so far.
    pub(crate) fn outcome(self) -> Outcome {
        let worker = self.first_worker();
        Outcome {
            finished: worker.finished.get(),
            collapsed: worker.collapsed.get(),
            deadlocked: self.deadlocked.get(),
            stopped: self.stopped.get(),
            panicked: worker.panicked.get(),
        }
    }

    /// Shows what each parked fibre waits for.
    pub(crate) fn dump<R: Guts>(self, mut visit: impl FnMut(&Wait)) {
        struct Done(ProcessRef);
        impl Drop for Done {
            fn drop(&mut self) {
                self.0.dump.store(false, Ordering::Release);
            }
        }
        let is_busy = self.exclusive::<R, _>(|| {
            let is_busy = self.dump.load(Ordering::Acquire);
            self.dump.store(true, Ordering::Relaxed);
            is_busy
        });
        if is_busy {
            return;
        }
        let _done = Done(self);
        self.channels.for_each_wait::<R>(self, &mut visit);
        let running = R::worker_of(self).and_then(|worker| worker.current.get());
        let mut nth = 0;
        // Each step starts anew, because `visit` may have changed the list.
        loop {
            let step = self.exclusive::<R, _>(|| {
                let fibre = self.cells().nth(nth)?.fibre.get();
                nth += 1;
                let is_parked = |fibre: &FibreRef| fibre.is_parked() && fibre.live() == 0 && Some(*fibre) != running;
                Some(fibre.filter(is_parked).map(FibreRef::name))
            });
            match step {
                None => return,
                Some(None) => {}
                Some(Some(name)) => visit(&Wait::new(name, None)),
            }
        }
    }
}

impl WorkerRef {
    pub(crate) fn tell_panicked(self) {
        if let Some(reporting) = self.process().reporting.get() {
            (reporting.panicked)(self);
        }
    }

    /// Destroys the fibre whose poll panicked, if one did.
    pub(crate) fn destroy_panicked(self) {
        if let Some(fibre) = self.current.take()
            && !self.process().is_marker(fibre)
        {
            let identity = self.process().identity(fibre);
            // SAFETY: its poll has unwound, and `current` is only set to fibres whose future is there.
            unsafe { fibre.destroy(self) };
            // The destructor did not panic, too, which would have been counted.
            self.note_panic(identity);
        }
    }
}
