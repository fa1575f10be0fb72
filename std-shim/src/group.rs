//! Finding processes of one system that wait for each other.
//!
//! A process that has nothing to do, and whose fibres wait for nothing but asynchronous channels whose other ends are all inside
//! of processes of this system, says so before it waits. When all of them have, none can ever go on: the last one to say so finds
//! that out. All of them end then, but not before each has fixed the set of its deadlocked fibres: otherwise the first to
//! destroy its fibres would have those of the others collapse.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::hub::{StdHub, lock};

thread_local! {
    static OF_THIS_THREAD: RefCell<Option<Arc<Group>>> = const { RefCell::new(None) };
    /// How many processes run on this thread, one within another.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// The processes of one system, and the threads that may yet begin some.
#[derive(Default)]
pub struct Group {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Those that have not ended.
    active: usize,
    /// The processes that wait for nothing but each other.
    waiting: Vec<&'static StdHub>,
    /// Those that were found to wait for each other, and have not gone on to end; and whether each knows.
    doomed: Vec<(&'static StdHub, bool)>,
}

impl State {
    /// Finds out whether all wait for each other. What is still to be heard by one of them is counted as work.
    fn look(&mut self) {
        if self.active != 0 && self.waiting.len() == self.active && self.waiting.iter().all(|hub| hub.is_quiet()) {
            self.doomed = self.waiting.iter().map(|hub| (*hub, false)).collect();
            self.waiting.iter().for_each(|hub| hub.wake());
        }
    }

    fn doomed(&mut self, hub: &'static StdHub) -> Option<&mut bool> {
        self.doomed.iter_mut().find(|(doomed, _)| ptr::eq(*doomed, hub)).map(|(_, knows)| knows)
    }

    fn forget(&mut self, hub: &'static StdHub) {
        self.waiting.retain(|other| !ptr::eq(*other, hub));
        self.doomed.retain(|(other, _)| !ptr::eq(*other, hub));
    }
}

/// A thread, or a process within another on one thread, that is counted as active.
pub struct Active(Arc<Group>);

impl Active {
    /// Counts one that is about to begin.
    pub fn new(group: &Arc<Group>) -> Self {
        lock(&group.state).active += 1;
        Active(group.clone())
    }

    /// The processes of this thread are of the system from now on.
    pub fn enter(&self) {
        OF_THIS_THREAD.set(Some(self.0.clone()));
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.active -= 1;
        if state.doomed.is_empty() {
            state.look();
        }
    }
}

/// A process of a group.
pub struct Member {
    group: Arc<Group>,
    hub: &'static StdHub,
    /// Of one that runs within another on the same thread, which is counted for the other.
    _active: Option<Active>,
}

impl Member {
    /// A process that is about to run on this thread, if its processes are of a group.
    pub fn new(hub: &'static StdHub) -> Option<Self> {
        let group = OF_THIS_THREAD.with_borrow(Clone::clone)?;
        let depth = DEPTH.replace(DEPTH.get() + 1);
        let active = (depth != 0).then(|| Active::new(&group));
        Some(Member { group, hub, _active: active })
    }

    pub fn group(&self) -> &Arc<Group> {
        &self.group
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        lock(&self.group.state).forget(self.hub);
        // Whoever waits for it to know waits no longer.
        self.group.changed.notify_all();
    }
}

impl Group {
    /// A process has nothing to do; if `waits_inside`, it waits for nothing but others of the group. Says whether they all do.
    pub fn all_wait(&self, hub: &'static StdHub, waits_inside: bool) -> bool {
        let mut state = lock(&self.state);
        if state.doomed(hub).is_none() {
            if !waits_inside {
                return false;
            }
            state.waiting.push(hub);
            if state.doomed.is_empty() {
                state.look();
            }
        }
        let Some(knows) = state.doomed(hub) else { return false };
        *knows = true;
        self.changed.notify_all();
        while !state.doomed.iter().all(|(_, knows)| *knows) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // It stays among the doomed until it has ended: so all who wait here see that everybody knows.
        true
    }

    pub fn goes_on(&self, hub: &'static StdHub) {
        lock(&self.state).waiting.retain(|other| !ptr::eq(*other, hub));
    }
}
