//! Several processes, each with its own memory and its own threads.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope};

use fibra_core::{AllocError, Failure, Outcome};

use crate::group::{Active, Group};
use crate::panics::FirstPanic;
use crate::run::{Error, Process};
use crate::shared::SharedMemory;

/// Several processes that run at the same time, each on its own thread or threads and in its own memory.
///
/// If all of them wait for nothing but each other, that is a deadlock: they end, and the fibres are reported as deadlocked.
///
/// They are structured, as scoped threads are: [`System::run`] returns when all have ended. They may borrow what is declared
/// before it, and talk to each other over asynchronous channels. A handle is cheap to clone, and may be taken into fibres:
/// they spawn processes like anybody else.
///
/// ```
/// use fibra_std::System;
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// let sum = AtomicU32::new(0);
/// let ((), outcome) = System::run(|system| {
///     let (to, from) = system.asynchronous::<u32>().unwrap();
///     system
///         .spawn_process(move |p| {
///             let mut to = to.inside(p);
///             let count = async move {
///                 for n in 1..=10 {
///                     to.write(n).await;
///                 }
///             };
///             p.fibre().waker().spawn(count).unwrap();
///         })
///         .unwrap();
///     system
///         .spawn_process(|p| {
///             let mut from = from.inside(p);
///             let sum = &sum;
///             let add = async move {
///                 loop {
///                     sum.fetch_add(from.read().await, Ordering::Relaxed);
///                 }
///             };
///             p.fibre().waker().spawn(add).unwrap();
///         })
///         .unwrap();
/// });
/// assert_eq!(sum.into_inner(), 55);
/// assert_eq!((outcome.processes, outcome.fibres.finished, outcome.fibres.collapsed), (2, 1, 1));
/// ```
pub struct System<'scope, 'env: 'scope> {
    scope: &'scope Scope<'scope, 'env>,
    state: Arc<State>,
}

impl Clone for System<'_, '_> {
    fn clone(&self) -> Self {
        System { scope: self.scope, state: self.state.clone() }
    }
}

/// What the processes of a system leave behind.
struct State {
    /// Nothing, if the host refused it.
    memory: Result<SharedMemory, AllocError>,
    group: Arc<Group>,
    ended: Mutex<Ended>,
}

#[derive(Default)]
struct Ended {
    outcome: SystemOutcome,
    panic: FirstPanic,
}

/// What became of the processes of a [`System`].
///
/// For an example see [`System`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct SystemOutcome {
    /// How many processes there were.
    pub processes: usize,
    /// What became of the fibres of all of them.
    pub fibres: Outcome,
    /// The processes that failed: what each is called, and why.
    pub failures: Vec<(String, Error<()>)>,
}

impl<'env> System<'_, 'env> {
    /// Runs a system: calls `setup`, and waits for all processes that it, or their fibres, have spawned.
    ///
    /// # Panics
    /// If `setup`, or a process that does not isolate panics, panics: the first panic goes on when all have ended.
    ///
    /// # Blocking
    /// Until all processes have ended.
    ///
    /// For an example see [`System`].
    pub fn run<R>(setup: impl for<'scope> FnOnce(System<'scope, 'env>) -> R) -> (R, SystemOutcome) {
        let state = Arc::new(State { memory: SharedMemory::new(), group: Arc::default(), ended: Mutex::default() });
        let value = thread::scope(|scope| {
            // As long as it can spawn processes, those that there are do not wait for each other only.
            let _active = Active::new(&state.group);
            setup(System { scope, state: state.clone() })
        });
        let mut ended = state.ended();
        let panic = std::mem::take(&mut ended.panic);
        let outcome = std::mem::take(&mut ended.outcome);
        drop(ended);
        panic.resume();
        (value, outcome)
    }
}

impl<'scope> System<'scope, '_> {
    /// The system's own memory, where its channels are. Processes may use it, too.
    ///
    /// # Errors
    /// [`AllocError`] if the host refused it when the system began.
    ///
    /// For an example see [`SharedMemory`].
    pub fn memory(&self) -> Result<&SharedMemory, AllocError> {
        self.state.memory.as_ref().map_err(|error| *error)
    }

    /// Makes an asynchronous channel in the system's memory, for its processes and anybody else.
    ///
    /// # Errors
    /// [`AllocError`] if there is no block for it, or no [`memory`](Self::memory).
    ///
    /// For an example see [`System`].
    pub fn asynchronous<T: Send>(
        &self,
    ) -> Result<(fibra_core::OutsideWriter<T, crate::Threads>, fibra_core::OutsideReader<T, crate::Threads>), AllocError>
    {
        fibra_core::asynchronous(self.memory()?.clone())
    }

    /// Spawns a process with one thread, in a pool of its own ([`Memory`](crate::Memory)).
    ///
    /// # Errors
    /// If the host refuses a thread.
    ///
    /// For an example see [`System`].
    pub fn spawn_process(&self, setup: impl for<'p> FnOnce(&'p Process<'p, 'scope>) + Send + 'scope) -> io::Result<()> {
        self.spawn_process_with("process", || crate::run(setup))
    }

    /// Spawns a process that `run` runs, on a thread of its own: with any memory, any number of workers, a report.
    ///
    /// # Errors
    /// If the host refuses a thread.
    ///
    /// ```
    /// use fibra_std::{Malloc, MemReq, Setup, Shared, SizeClasses, System, table};
    /// let ((), outcome) = System::run(|system| {
    ///     system
    ///         .spawn_process_with("small", || {
    ///             let pool = SizeClasses::in_parent(&table([MemReq::new(256, 16)]), Malloc)?;
    ///             Setup::with_allocator(&pool).isolate_panics().run(|p| p.spawn(async {}).unwrap())
    ///         })
    ///         .unwrap();
    ///     system
    ///         .spawn_process_with("wide", || Shared::new().workers(2).run(|p| p.spawn(async {}).unwrap()))
    ///         .unwrap();
    /// });
    /// assert_eq!((outcome.processes, outcome.fibres.finished), (2, 2));
    /// ```
    pub fn spawn_process_with(
        &self,
        name: &str,
        run: impl FnOnce() -> Result<((), Outcome), Error<()>> + Send + 'scope,
    ) -> io::Result<()> {
        let (state, of) = (self.state.clone(), name.to_owned());
        let active = Active::new(&state.group);
        let process = move || {
            active.enter();
            let mut panic = FirstPanic::default();
            let (mut run, mut result) = (Some(run), None);
            panic.catch(&mut || result = run.take().map(|run| run()));
            let mut ended = state.ended();
            ended.panic.take_over(&mut panic);
            ended.outcome.processes += 1;
            match result {
                Some(Ok(((), outcome))) => ended.outcome.add(&outcome),
                Some(Err(error)) => {
                    if let Error::Failed(Failure { outcome, .. }) = &error {
                        ended.outcome.add(outcome);
                    }
                    ended.outcome.failures.push((of, error));
                }
                None => {}
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn_scoped(self.scope, process).map(|_| ())
    }
}

impl State {
    /// No user code runs under this lock.
    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SystemOutcome {
    fn add(&mut self, outcome: &Outcome) {
        let all = &mut self.fibres;
        all.finished += outcome.finished;
        all.collapsed += outcome.collapsed;
        all.deadlocked += outcome.deadlocked;
        all.stopped += outcome.stopped;
        all.panicked += outcome.panicked;
    }
}

impl fmt::Debug for System<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("System").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_memory_there_are_processes_but_no_channels() {
        let state = Arc::new(State { memory: Err(AllocError), group: Arc::default(), ended: Mutex::default() });
        thread::scope(|scope| {
            let system = System { scope, state: state.clone() };
            assert!(system.memory().is_err());
            assert!(system.asynchronous::<u8>().is_err());
            system.spawn_process_with("idle", || crate::run_in(crate::Malloc, |_| ())).unwrap();
        });
        let ended = state.ended();
        assert_eq!((ended.outcome.processes, ended.outcome.failures.len()), (1, 0));
    }
}
