//! Wake hubs in memory that is used again but never freed, because a waker may outlive everything else.
//!
//! A hub serves one process at a time, and keeps its cells: a process takes a hub from the pool of those that are idle,
//! and puts it back. So the number of hubs is the greatest number of processes that ever ran at once, and that of a hub's
//! cells follows the greatest number of fibres with wakers in one of them.

use std::ops::Deref;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use allocator_api2::boxed::Box;
use fibra_core::{AllocError, HubCore, Idle, WakeCell, WakeHub};

use crate::Malloc;

/// How many cells are tried before a new one is made. Cells are tried in rotation, so they were all released some time
/// ago if they were released at all.
const TRIES: usize = 8;

static IDLE_HUBS: Mutex<Vec<&'static StdHub>> = Mutex::new(Vec::new());

/// A hub that grows.
pub struct StdHub {
    core: HubCore,
    cells: Mutex<Cells>,
}

#[derive(Default)]
struct Cells {
    all: Vec<&'static WakeCell>,
    next: usize,
}

impl StdHub {
    fn new() -> Result<&'static Self, AllocError> {
        let idle = leak(Sleeper::default())?;
        leak(StdHub { core: HubCore::new(idle), cells: Mutex::default() })
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
        // Everybody else only looks at cells that are in the list, and only this hub's process looks: the new one is
        // surely free, so there is no further candidate.
        if nth > TRIES {
            return None;
        }
        cells.all.try_reserve(1).ok()?;
        let cell = leak(WakeCell::new()).ok()?;
        cells.all.push(cell);
        Some(cell)
    }
}

/// A hub for one process, which goes back to the pool.
pub struct Lease(&'static StdHub);

impl Lease {
    /// An idle hub, or a new one.
    pub fn take() -> Result<Self, AllocError> {
        let idle = lock(&IDLE_HUBS).pop();
        idle.map_or_else(StdHub::new, Ok).map(Lease)
    }
}

impl Deref for Lease {
    type Target = &'static StdHub;

    fn deref(&self) -> &&'static StdHub {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut idle = lock(&IDLE_HUBS);
        // Without room for it in the list, it is forgotten.
        if idle.try_reserve(1).is_ok() {
            idle.push(self.0);
        }
    }
}

/// A condition variable with a flag, so that a wake-up before the wait is not lost.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Idle for Sleeper {
    fn wait(&self) {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = self.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
    }

    fn wake(&self) {
        *lock(&self.woken) = true;
        self.changed.notify_one();
    }
}

/// No user code runs under these locks, so what a panic left behind in one is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        let used: HashSet<_> = (0..1000).map(|_| ptr::from_ref(Lease::take().unwrap().0)).collect();
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
        let hub = Lease(StdHub::new().unwrap());
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
        assert!(hub.candidate(TRIES + 1).is_none());
        assert_eq!(known(), 21);
    }

    #[test]
    fn a_wake_up_before_the_wait_is_not_lost() {
        let sleeper = Sleeper::default();
        sleeper.wake();
        sleeper.wake();
        sleeper.wait();
        std::thread::scope(|s| {
            s.spawn(|| sleeper.wake());
            sleeper.wait();
        });
    }
}
