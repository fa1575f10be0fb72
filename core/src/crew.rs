//! The workers of a shared process: what they do between two turns, how they help each other, and how they find out that
//! there is nothing left to do.
//!
//! Each worker has a run queue of its own, and looks at nothing else as long as that holds something and nobody calls. When one
//! waits, another that has several fibres gives it the older half of its queue, but for the one that comes next, at its next turn or
//! as it makes one ready. It gives its only fibre just if it is busy with long turns: two fibres that only talk to each other are faster on one core.
//!
//! ```text
//!              the queue is empty              nothing to take                    all workers wait, and nothing outside
//!   working ----------------------> looking -----------------> waiting -------> can wake a fibre: the process ends
//!      ^                              |  ^                        |
//!      `------------------------------'  `------------------------'
//!          was given some, a fibre was    called, or (one of them, while others
//!          woken, a channel dissolves     work) after a moment
//! ```
//!
//! The one that waits for a moment only sees how long the others' turns are. One that has been in the same turn all the time
//! cannot give anything: it takes that one's whole queue.
//!
//! To part fibres is of no use if they come to rest, or meet again, after a few short turns: that costs more than it saves. So
//! there is a credit for it, which is used up when it happens, and then comes back with the moments: workers rest in between.
//! A worker whose fibres share their channels with those of another at every turn gives them all to that one, and rests.
//!
//! What several workers share is behind the process's lock, but for the flags that they look at without it.

mod settle;
mod work;

pub(crate) use self::settle::Begun;
use crate::fibre::{FibreRef, Woken};
use crate::hub::Idle;
use crate::process::ProcessRef;
use crate::reach::Guts;
use crate::run::Catch;
use crate::sync::{AtomicUsize, Cell, Ordering};
use crate::worker::{Batch, Worker, WorkerRef};

/// The process ends: all workers leave.
pub(crate) const END: usize = 1;
/// There are channels whose waits are to be ended.
pub(crate) const DISSOLVE: usize = 2;
/// There are fibres for whoever comes first: made ready by somebody who is not a worker, or left by one that retires.
pub(crate) const INJECTED: usize = 4;

/// One waits who is to be given fibres. It is no call to the workers that have none to give.
const HELP: usize = 8;

/// A worker whose turns are longer than a moment divided by this is busy with long turns.
const SHORT_TURNS: usize = 128;
/// Turns shorter than a moment divided by this cost less than it does to hand a fibre to another worker.
const TINY_TURNS: usize = 2000;
const SOME_CREDIT: usize = 8;
const MUCH_CREDIT: usize = 512;

type Another = fn(ProcessRef, &'static dyn Idle, Option<&mut Catch<'_>>);

/// What the workers of a process share.
pub(crate) struct Crew {
    /// What the workers are called for: they look at it between two turns.
    calls: AtomicUsize,
    /// One waits for a moment only. Changed under the lock.
    is_napping: Cell<bool>,
    /// How often naps have ended early since the turns were noted.
    interruptions: Cell<u8>,
    /// All workers can nap.
    has_moments: Cell<bool>,
    /// The hub was told that all wait, and not yet that one goes on.
    have_all_waited: Cell<bool>,
    /// All of them. Under the lock, like the rest.
    workers: Cell<Option<WorkerRef>>,
    waiting: Cell<usize>,
    /// How many more times fibres may be given in vain, before workers rest for a moment each time.
    credit: Cell<usize>,
    /// Those that may own a channel. Under the lock for that.
    owners: Cell<Option<WorkerRef>>,
    injected: Cell<Option<Batch>>,
    pub isolates_panics: Cell<bool>,
    pub has_panicked: Cell<bool>,
    /// What another worker does, from joining to leaving. Set before any can join.
    another: Cell<Option<Another>>,
    /// Of workers that have left.
    pub finished: Cell<usize>,
    pub collapsed: Cell<usize>,
    pub panicked: Cell<usize>,
}

impl Crew {
    pub fn new() -> Self {
        Crew {
            calls: AtomicUsize::new(0),
            is_napping: Cell::new(false),
            interruptions: Cell::new(0),
            has_moments: Cell::new(true),
            have_all_waited: Cell::new(false),
            workers: Cell::new(None),
            waiting: Cell::new(0),
            credit: Cell::new(SOME_CREDIT),
            owners: Cell::new(None),
            injected: Cell::new(None),
            isolates_panics: Cell::new(false),
            has_panicked: Cell::new(false),
            another: Cell::new(None),
            finished: Cell::new(0),
            collapsed: Cell::new(0),
            panicked: Cell::new(0),
        }
    }

    pub fn set_another(&self, another: Another) {
        self.another.set(Some(another));
    }

    pub fn run_another(&self, process: ProcessRef, idle: &'static dyn Idle, catch: Option<&mut Catch<'_>>) {
        if let Some(another) = self.another.get() {
            another(process, idle, catch);
        }
    }

    pub fn call(&self, what: usize) {
        self.calls.fetch_or(what, Ordering::Release);
    }

    /// Called whenever something has changed that it depends on whether there are helpers.
    fn note_helpers(&self) {
        let wants_help = self.waiting.get() != 0 && self.credit.get() != 0;
        if wants_help != self.is_called_for(HELP) {
            if wants_help { self.call(HELP) } else { self.uncall(HELP) }
        }
    }

    /// How many turns all workers have given. If `notes`, each of them is to see later whether it has gone on. The lock is held.
    fn turns(&self, notes: bool) -> usize {
        let turns = |worker: WorkerRef| {
            let turns = worker.turns.load(Ordering::Relaxed);
            if notes {
                worker.turns_seen.set(turns);
            }
            turns
        };
        self.workers().map(turns).fold(0, usize::wrapping_add)
    }

    /// In a moment, workers have given so many turns. The lock is held.
    fn learn(&self, turns: usize) {
        self.workers().for_each(|worker| worker.has_long_turns.store(turns < SHORT_TURNS, Ordering::Relaxed));
        // If they are tiny, once, to see whether it is of use all the same.
        self.credit.set(self.credit.get().max(if turns < TINY_TURNS { MUCH_CREDIT } else { 1 }));
        self.note_helpers();
    }

    /// Takes from the credit, if it is there.
    fn charge(&self, much: usize) {
        self.credit.set(self.credit.get().saturating_sub(much));
        self.note_helpers();
    }

    fn uncall(&self, what: usize) {
        self.calls.fetch_and(!what, Ordering::Relaxed);
    }

    pub fn is_called_for(&self, what: usize) -> bool {
        self.calls.load(Ordering::Acquire) & what != 0
    }

    fn workers(&self) -> impl Iterator<Item = WorkerRef> {
        core::iter::successors(self.workers.get(), |worker| worker.next.get())
    }

    /// One of those who wait. It is to be woken outside the lock, which it takes as soon as it wakes. The lock is held.
    fn pick_one(&self) -> Option<WorkerRef> {
        let worker = self.workers().find(|worker| worker.is_waiting.get())?;
        // Until it has woken up, it is not called again.
        worker.is_waiting.set(false);
        self.waiting.set(self.waiting.get() - 1);
        self.note_helpers();
        Some(worker)
    }

    /// Queues fibres for whoever comes first. The lock is held.
    fn inject(&self, batch: Batch) {
        let first = match self.injected.get() {
            Some(Batch { first, last }) => {
                last.next.set(Some(batch.first));
                first
            }
            None => batch.first,
        };
        self.injected.set(Some(Batch { first, last: batch.last }));
        self.call(INJECTED);
    }
}

impl ProcessRef {
    /// Queues a fibre that was just spawned.
    #[inline(always)]
    pub fn start<K: Guts>(self, fibre: FibreRef) {
        if K::IS_SHARED {
            self.make_ready::<K>(fibre);
        } else {
            self.first_worker().enqueue::<K>(fibre);
        }
    }

    /// Queues a fibre that carries `QUEUED`: on the worker that this code runs on, if it does, or else on whichever comes first.
    #[inline]
    pub fn make_ready<K: Guts>(self, fibre: FibreRef) {
        match K::worker_of(self) {
            Some(worker) => self.queue_on::<K>(worker, fibre),
            None => self.inject::<K>(fibre),
        }
    }

    /// Queues a fibre that carries `QUEUED` on the worker that this code runs on.
    #[inline(always)]
    pub fn queue_on<K: Guts>(self, worker: WorkerRef, fibre: FibreRef) {
        let has_several = worker.enqueue::<K>(fibre);
        if self.crew.calls.load(Ordering::Relaxed) & HELP != 0 {
            worker.offer::<K>(has_several);
        }
    }

    /// Queues a fibre for whichever worker comes first.
    #[cold]
    fn inject<K: Guts>(self, fibre: FibreRef) {
        fibre.next.set(None);
        let idle = self.exclusive::<K, _>(|| {
            self.crew.inject(Batch { first: fibre, last: fibre });
            self.crew.pick_one().map(|worker| worker.idle.get())
        });
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// Wakes a fibre that others may wake, too, or takes a node off it that has left its ring.
    pub fn wake_up<K: Guts>(self, fibre: FibreRef, has_left_node: bool) {
        match fibre.status.wake_up(has_left_node) {
            Woken::Ready => self.make_ready::<K>(fibre),
            Woken::NotNow => {}
            // SAFETY: its future is gone, and nothing names it any more.
            Woken::Unused => unsafe { fibre.release(self) },
        }
    }

    /// Has all workers leave; if `is_stopped`, whatever their fibres are about.
    pub fn end_crew<K: Guts>(self, is_stopped: bool) {
        self.exclusive::<K, _>(|| {
            if is_stopped {
                self.is_stopped.set(true);
            }
            self.crew.call(END);
            self.crew.workers().for_each(|worker| worker.wake());
        });
    }

    /// Not all workers wait any more. The lock is held.
    fn go_on(self) {
        if self.crew.have_all_waited.replace(false)
            && let Some(outside) = self.outside
        {
            outside.source.goes_on();
        }
    }

    /// Enters a worker.
    pub fn join_crew<K: Guts>(self, worker: WorkerRef) {
        if K::has_remote_barrier() {
            worker.drop_fence();
        }
        self.exclusive::<K, _>(|| {
            self.crew.has_moments.set(self.crew.has_moments.get() && worker.idle.get().has_moments());
            self.go_on();
            worker.next.set(self.crew.workers.get());
            self.crew.workers.set(Some(worker));
        });
        self.among_owners::<K, _>(|| worker.next_owner.set(self.crew.owners.replace(Some(worker))));
    }

    fn owners(self) -> impl Iterator<Item = WorkerRef> {
        core::iter::successors(self.crew.owners.get(), |worker| worker.next_owner.get())
    }

    /// Waits until the worker there, which has lost a channel, is not inside of it. If it has left the crew, it is not. In a
    /// section of [`among_owners`](Self::among_owners).
    pub fn wait_for_owner(self, owner: *mut Worker) {
        if let Some(worker) = self.owners().find(|worker| worker.as_ptr() == owner) {
            worker.wait_until_outside();
        }
    }

    /// A worker leaves. What its queue still holds is cut off.
    pub fn leave_crew<K: Guts>(self, worker: WorkerRef) {
        // The first one is there until the end of the process.
        if worker != self.first_worker() {
            self.among_owners::<K, _>(|| match self.owners().find(|it| it.next_owner.get() == Some(worker)) {
                Some(before) => before.next_owner.set(worker.next_owner.get()),
                None => self.crew.owners.set(worker.next_owner.get()),
            });
        }
        self.exclusive::<K, _>(|| {
            let crew = &self.crew;
            if crew.workers.get() == Some(worker) {
                crew.workers.set(worker.next.get());
            } else if let Some(before) = crew.workers().find(|before| before.next.get() == Some(worker)) {
                before.next.set(worker.next.get());
            }
            let gift = worker.gift.take().map(|(batch, _)| batch);
            for batch in [worker.take_queue(), gift, crew.injected.take()].into_iter().flatten() {
                self.cut_off(batch);
            }
            for (all, its) in [
                (&crew.finished, &worker.finished),
                (&crew.collapsed, &worker.collapsed),
                (&crew.panicked, &worker.panicked),
            ] {
                all.set(all.get() + its.take());
            }
        });
    }

    /// The fibres of a queue will not run any more.
    pub fn cut_off(self, batch: Batch) {
        let mut next = Some(batch.first);
        while let Some(fibre) = next {
            next = fibre.next.get();
            fibre.next.set(self.cut_off.replace(Some(fibre)));
        }
    }

    /// A fibre has panicked, and that is not isolated.
    pub fn stop_panicked<K: Guts>(self) {
        self.exclusive::<K, _>(|| self.crew.has_panicked.set(true));
        self.end_crew::<K>(true);
    }
}

/// How a worker waits.
impl WorkerRef {
    /// Called under the process's lock, so the worker is there.
    fn wake(self) {
        self.idle.get().wake();
    }

    fn wait(self) {
        self.idle.get().wait();
    }

    /// Whether the moment has passed, as far as one can tell.
    fn nap(self) -> bool {
        self.idle.get().nap()
    }

    pub fn wait_to_be_left(self) {
        self.idle.get().wait();
    }
}
