//! Wake hubs in memory that is used again but never freed, because a waker may outlive everything else.
//!
//! A hub serves one process at a time, and keeps its cells: a process takes a hub from the pool of those that are idle,
//! and puts it back. So the number of hubs is the greatest number of processes that ever ran at once, and that of a hub's
//! cells follows the greatest number of fibres with wakers in one of them.

use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use allocator_api2::boxed::Box;
use fibra_core::{AllocError, HubCore, WakeCell, WakeHub, work_catching};

use crate::Malloc;
use crate::group::{Group, Member};
use crate::panics::FirstPanic;
use crate::sleeper::Sleeper;

/// How many cells are tried before a new one is made. Cells are tried in rotation, so they were all released some time
/// ago if they were released at all.
const TRIES: usize = 8;
/// How many new ones are made in vain, because others take them, before the search is given up.
const NEW: usize = 256;

static IDLE_HUBS: Mutex<Vec<&'static StdHub>> = Mutex::new(Vec::new());

/// A hub that grows.
pub struct StdHub {
    core: HubCore,
    cells: Mutex<Cells>,
    /// The threads that were started for its process.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// For threads that are yet to be started. They are used again, but never freed, because who wakes one may be slow.
    sleepers: Mutex<Vec<&'static Sleeper>>,
    /// The first panic of any of its workers.
    panic: Mutex<FirstPanic>,
    /// The system of its process.
    group: Mutex<Option<Arc<Group>>>,
}

#[derive(Default)]
struct Cells {
    all: Vec<&'static WakeCell>,
    next: usize,
}

impl StdHub {
    fn new() -> Result<&'static Self, AllocError> {
        let idle = leak(Sleeper::default())?;
        leak(StdHub {
            core: HubCore::new(idle),
            cells: Mutex::default(),
            threads: Mutex::default(),
            sleepers: Mutex::default(),
            panic: Mutex::default(),
            group: Mutex::default(),
        })
    }

    /// Calls `f`, and says whether it panicked. The first panic is kept.
    pub fn catch(&self, f: &mut dyn FnMut()) -> bool {
        let mut own = FirstPanic::default();
        let has_panicked = own.catch(f);
        if has_panicked {
            lock(&self.panic).take_over(&mut own);
        }
        has_panicked
    }

    /// The same hub, for as long as it has done nothing.
    pub fn is_quiet(&self) -> bool {
        self.core.is_quiet_now()
    }

    pub fn wake(&self) {
        self.core.wake();
    }

    fn group_of(&self) -> Option<Arc<Group>> {
        lock(&self.group).clone()
    }

    pub fn take_panic(&self) -> FirstPanic {
        mem::take(&mut *lock(&self.panic))
    }

    /// Waits for the threads that were started. The process has ended, so none joins it any more.
    pub fn join_threads(&self) {
        let threads = mem::take(&mut *lock(&self.threads));
        for thread in threads {
            // What panicked in it was caught.
            let _ = thread.join();
        }
    }
}

impl WakeHub for StdHub {
    fn core(&'static self) -> &'static HubCore {
        &self.core
    }

    fn candidate(&'static self, nth: usize) -> Option<&'static WakeCell> {
        let mut cells = lock(&self.cells);
        if nth < TRIES.min(cells.all.len()) {
            cells.next = (cells.next + 1) % cells.all.len();
            return Some(cells.all[cells.next]);
        }
        // A new one is free, unless another worker of this hub's process finds it in the list first: then it has got on.
        if nth >= TRIES + NEW {
            return None;
        }
        cells.all.try_reserve(1).ok()?;
        let cell = leak(WakeCell::new()).ok()?;
        cells.all.push(cell);
        Some(cell)
    }

    fn add_worker(&'static self) -> bool {
        let Some(sleeper) = lock(&self.sleepers).pop().or_else(|| leak(Sleeper::default()).ok()) else { return false };
        let worker = || {
            work_catching(self, sleeper, &mut |f| self.catch(f));
            lock(&self.sleepers).push(sleeper);
        };
        let mut threads = lock(&self.threads);
        let name = format!("worker {}", threads.len() + 2);
        let thread = thread::Builder::new().name(name).spawn(worker);
        thread.map(|thread| threads.push(thread)).is_ok()
    }

    fn group(&'static self) -> usize {
        lock(&self.group).as_ref().map_or(0, |group| Arc::as_ptr(group).addr())
    }

    fn all_wait(&'static self, waits_inside: bool) -> bool {
        self.group_of().is_some_and(|group| group.all_wait(self, waits_inside))
    }

    fn goes_on(&'static self) {
        if let Some(group) = self.group_of() {
            group.goes_on(self);
        }
    }
}

/// A hub for one process, which goes back to the pool.
pub struct Lease {
    hub: &'static StdHub,
    member: Option<Member>,
}

impl Lease {
    /// An idle hub, or a new one.
    pub fn take() -> Result<Self, AllocError> {
        let idle = lock(&IDLE_HUBS).pop();
        let hub = idle.map_or_else(StdHub::new, Ok)?;
        let member = Member::new(hub);
        *lock(&hub.group) = member.as_ref().map(|member| member.group().clone());
        Ok(Lease { hub, member })
    }
}

impl Deref for Lease {
    type Target = &'static StdHub;

    fn deref(&self) -> &&'static StdHub {
        &self.hub
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Before another process can have the hub.
        drop(self.member.take());
        *lock(&self.hub.group) = None;
        let mut idle = lock(&IDLE_HUBS);
        // Without room for it in the list, it is forgotten.
        if idle.try_reserve(1).is_ok() {
            idle.push(self.hub);
        }
    }
}

/// No user code runs under these locks, so what a panic left behind in one is whole.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn leak<T>(value: T) -> Result<&'static T, AllocError> {
    Ok(Box::leak(Box::try_new_in(value, Malloc)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::ptr;

    #[test]
    fn hubs_are_used_again() {
        let used: HashSet<_> = (0..1000).map(|_| ptr::from_ref(Lease::take().unwrap().hub)).collect();
        // The other tests of this binary may hold some meanwhile.
        assert!(used.len() < 5, "{} hubs for one process at a time", used.len());
    }

    #[test]
    fn a_lease_is_exclusive() {
        let (one, two) = (Lease::take().unwrap(), Lease::take().unwrap());
        assert!(!ptr::eq(*one, *two));
    }

    #[test]
    fn a_cell_is_made_when_the_others_were_tried() {
        let hub = Lease { hub: StdHub::new().unwrap(), member: None };
        let known = || lock(&hub.cells).all.len();
        let first = hub.candidate(0).unwrap();
        assert!((0..100).all(|_| ptr::eq(hub.candidate(0).unwrap(), first)));
        assert_eq!(known(), 1);
        while known() < 20 {
            hub.candidate(TRIES).unwrap();
        }
        let tried: HashSet<_> = (0..TRIES).map(|nth| ptr::from_ref(hub.candidate(nth).unwrap())).collect();
        assert_eq!((tried.len(), known()), (TRIES, 20));
        assert!(hub.candidate(TRIES).is_some_and(|new| !tried.contains(&ptr::from_ref(new))));
        assert!(hub.candidate(TRIES + NEW).is_none());
        assert_eq!(known(), 21);
    }
}
