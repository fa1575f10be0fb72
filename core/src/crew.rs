//! The workers of a shared process: what they do between two turns, how they help each other, and how they find out that
//! there is nothing left to do.
//!
//! Each worker has a run queue of its own, and looks at nothing else as long as that holds something and nobody calls. When one
//! waits, another that has several fibres gives it the older half of its queue, at its next turn or as it makes one ready. It
//! gives its only fibre just if it is busy with long turns: two fibres that only talk to each other are faster on one core.
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

use crate::channel::ChannelRef;
use crate::channels::Ended;
use crate::fibre::{FibreRef, Lost, QUEUED, Woken};
use crate::hub::{HubCore, Idle};
use crate::node::{NodeRef, State};
use crate::process::ProcessRef;
use crate::reach::Guts;
use crate::run::Catch;
use crate::sync::{AtomicUsize, Cell, Ordering};
use crate::worker::{Batch, Post, Worker, WorkerRef};

/// The process ends: all workers leave.
pub(crate) const END: usize = 1;
/// There are channels whose waits are to be ended.
pub(crate) const DISSOLVE: usize = 2;
/// Fibres were made ready by somebody who is not a worker.
pub(crate) const INJECTED: usize = 4;

/// One waits who is to be given fibres. It is no call to the workers that have none to give.
const HELP: usize = 8;

/// A worker whose turns are longer than a moment divided by this is busy with long turns.
const SHORT_TURNS: usize = 128;
/// Turns shorter than a moment divided by this cost less than it does to hand a fibre to another worker.
const TINY_TURNS: usize = 2000;
/// How many turns for each fibre that was given are worth while, however short they are.
const USEFUL_TURNS: usize = 64;
const SOME_CREDIT: usize = 8;
const MUCH_CREDIT: usize = 512;
/// After so many turns a worker looks how often a channel had been used by another one just before.
const TURNS_IN_SIGHT: usize = 256;
const MANY_SWITCHES: usize = TURNS_IN_SIGHT / 4;

type Another = fn(ProcessRef, &'static dyn Idle, Option<&mut Catch<'_>>);

/// What the workers of a process share.
pub(crate) struct Crew {
    /// What the workers are called for: they look at it between two turns.
    calls: AtomicUsize,
    /// One waits for a moment only. Changed under the lock.
    is_napping: Cell<bool>,
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

    /// Whether one waits who is to be given fibres.
    #[inline(always)]
    fn wants_help(&self) -> bool {
        self.calls.load(Ordering::Relaxed) & HELP != 0
    }

    /// Called whenever either has changed.
    fn note_helpers(&self) {
        let wants_help = self.waiting.get() != 0 && self.credit.get() != 0;
        if wants_help != self.wants_help() {
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

    fn is_called_for(&self, what: usize) -> bool {
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
        if self.crew.wants_help() && (has_several || worker.has_long_turns.load(Ordering::Relaxed)) {
            worker.share::<K>(1);
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

/// What a worker that found nothing to do is to do.
enum Nothing {
    /// Look again.
    LookAgain,
    /// Wait until it is woken.
    Wait,
    /// Wait for a moment.
    Nap,
    /// Leave.
    Leave,
}

impl WorkerRef {
    /// Runs fibres until the process ends. If a fibre panics, this may be called again.
    pub fn work<K: Guts>(self, hub: &HubCore) {
        let process = self.process();
        loop {
            let calls = process.crew.calls.load(Ordering::Relaxed);
            if calls & HELP != 0 && self.has_several() {
                self.share::<K>(2);
            }
            let turns = self.turns.load(Ordering::Relaxed);
            if turns.is_multiple_of(TURNS_IN_SIGHT) && self.switches.take() > MANY_SWITCHES {
                let begun = self.retire::<K>();
                if begun.is_some() && !self.find_work::<K>(hub, begun) {
                    return;
                }
            }
            let is_called = calls & !HELP != 0 || hub.has_news();
            if is_called || (turns.is_multiple_of(16) && !hub.is_quiet(process.generation)) {
                // What is heard of after the end is not answered: who waits then is deadlocked.
                if !process.crew.is_called_for(END) {
                    self.answer::<K>(hub);
                }
                if process.crew.is_called_for(END) {
                    // Its poll has returned, and it may belong to another worker by now.
                    self.current.set(None);
                    return;
                }
            }
            match self.pop_queued::<K>() {
                Some(fibre) => {
                    // If nobody else names it, it may as well keep its mark.
                    if fibre.status.get() != QUEUED {
                        fibre.status.begin_to_run();
                    }
                    self.begin_turn();
                    self.current.set(Some(fibre));
                    // SAFETY: the fibre was popped just now, and nobody polls it but who pops it.
                    unsafe { fibre.poll(self) };
                }
                None => {
                    self.current.set(None);
                    if !self.find_work::<K>(hub, None) {
                        return;
                    }
                }
            }
        }
    }

    /// Does what the workers are called for, as far as one turn goes.
    #[cold]
    #[inline(never)]
    fn answer<K: Guts>(self, hub: &HubCore) {
        let process = self.process();
        self.current.set(None);
        if !hub.is_quiet(process.generation) {
            process.empty_inbox::<K>(hub);
            if hub.is_stopped(process.generation) {
                process.end_crew::<K>(true);
            }
        }
        if process.crew.is_called_for(INJECTED) {
            let injected = process.exclusive::<K, _>(|| {
                process.crew.uncall(INJECTED);
                process.crew.injected.take()
            });
            if let Some(batch) = injected {
                self.enqueue_all::<K>(batch);
            }
        }
        if process.crew.is_called_for(DISSOLVE) {
            self.dissolve::<K>();
        }
    }

    /// Ends one wait whose last counterpart has gone, and with it the fibre if it had no other.
    fn dissolve<K: Guts>(self) {
        let process = self.process();
        let reporting = process.reporting.get();
        let ended = process.exclusive::<K, _>(|| {
            let ended = process.channels.end_next_wait::<K>(reporting.map(|reporting| reporting.name));
            if ended.is_none() {
                process.crew.uncall(DISSOLVE);
            }
            ended
        });
        let Some(Ended { waiter, direction, wants_end, lost, name, .. }) = ended else { return };
        if let Some(fibre) = waiter.fibre {
            match lost {
                None => process.wake_up::<K>(fibre, true),
                Some(Lost::All) => {
                    if let (Some(reporting), Some(name)) = (reporting, name) {
                        (reporting.dead_wait)(self, fibre, name, direction);
                    }
                    self.collapse(fibre);
                }
                Some(Lost::One(Woken::Ready)) => process.make_ready::<K>(fibre),
                Some(Lost::One(Woken::NotNow)) => {}
                // SAFETY: its future is gone, and nothing names it any more.
                Some(Lost::One(Woken::Unused)) => unsafe { fibre.release(process) },
            }
        }
        // Foreign code, so it comes last.
        if let Some(waker) = waiter.waker
            && wants_end
        {
            waker.wake();
        }
    }

    /// Wakes one who waits. It is given the older half of the queue, if that holds so many at least.
    #[cold]
    #[inline(never)]
    fn share<K: Guts>(self, at_least: usize) {
        let process = self.process();
        let idle = process.exclusive::<K, _>(|| {
            let helper = process.crew.pick_one()?;
            if at_least == 1 || self.has_several() {
                helper.gift.set(self.split::<K>());
            }
            Some(helper.idle.get())
        });
        if let Some(idle) = idle {
            idle.wake();
        }
    }

    /// Its fibres meet those of other workers all the time. If the credit for that is used up, and another worker is there, that one
    /// gets them all, and this one is to wait.
    #[cold]
    #[inline(never)]
    fn retire<K: Guts>(self) -> Option<Nothing> {
        let process = self.process();
        let crew = &process.crew;
        if !self.idle.get().has_moments() {
            return None;
        }
        process.exclusive::<K, _>(|| {
            crew.charge(1 + crew.credit.get() / 64);
            let is_alone = crew.workers().all(|worker| worker == self || worker.is_waiting.get());
            if crew.credit.get() != 0 || is_alone || crew.is_called_for(END) {
                return None;
            }
            crew.inject(self.take_all::<K>()?);
            Some(self.begin_to_wait(false))
        })
    }

    /// Waits until there is something to do, in the queue or to answer; perhaps because it has begun to. `false` if there will be
    /// nothing.
    #[cold]
    #[inline(never)]
    fn find_work<K: Guts>(self, hub: &HubCore, mut begun: Option<Nothing>) -> bool {
        let process = self.process();
        let crew = &process.crew;
        // How many turns all had given when this one last looked, before a nap.
        let mut turns_before = None;
        let mut has_napped = false;
        self.current.set(None);
        loop {
            let nothing = match begun.take() {
                Some(begun) => begun,
                None if self.take_some::<K>(turns_before.take()) => Nothing::LookAgain,
                None => process.exclusive::<K, _>(|| self.nothing_to_do(hub)),
            };
            match nothing {
                Nothing::LookAgain => {
                    // What it is called for may be no more than an empty call. A stop is not among what it looks for in each turn.
                    if hub.is_stopped(process.generation) {
                        process.end_crew::<K>(true);
                    }
                    if has_napped {
                        // Another one is to nap in its place.
                        self.share::<K>(2);
                    }
                    return true;
                }
                Nothing::Leave => return false,
                Nothing::Wait => {
                    self.wait();
                    process.exclusive::<K, _>(|| self.stop_waiting(false));
                }
                Nothing::Nap => {
                    let turns = process.exclusive::<K, _>(|| crew.turns(true));
                    has_napped = true;
                    let is_over = self.nap();
                    process.exclusive::<K, _>(|| self.stop_waiting(true));
                    if is_over {
                        turns_before = Some(turns);
                    }
                }
            }
        }
    }

    /// Decides what is to be done by a worker with nothing to do. The lock is held.
    fn nothing_to_do(self, hub: &HubCore) -> Nothing {
        let process = self.process();
        let crew = &process.crew;
        if crew.is_called_for(END) {
            return Nothing::Leave;
        }
        if crew.is_called_for(DISSOLVE | INJECTED) || !hub.is_quiet(process.generation) {
            return Nothing::LookAgain;
        }
        let is_last = crew.workers().all(|worker| worker == self || worker.is_waiting.get());
        if is_last {
            // Nothing runs now, and nothing is ready: whoever waits here found no fibre in its own queue, which nobody else
            // fills, and was given none.
            if process.sweep_two_way() {
                return Nothing::LookAgain;
            }
            let is_over = !process.cells().any(|cell| cell.is_live())
                || process.outside.is_some_and(|outside| outside.source.all_wait(process.waits_inside(hub)));
            if is_over {
                crew.call(END);
                crew.workers().for_each(|worker| worker.wake());
                return Nothing::Leave;
            }
            crew.have_all_waited.set(true);
            // Whatever comes now is something else.
            crew.credit.set(SOME_CREDIT);
        }
        self.begin_to_wait(is_last)
    }

    /// The lock is held.
    fn begin_to_wait(self, is_last: bool) -> Nothing {
        let crew = &self.process().crew;
        self.is_waiting.set(true);
        crew.waiting.set(crew.waiting.get() + 1);
        crew.note_helpers();
        if !is_last && !crew.is_napping.replace(true) { Nothing::Nap } else { Nothing::Wait }
    }

    /// The lock is held.
    fn stop_waiting(self, was_napping: bool) {
        let crew = &self.process().crew;
        if was_napping {
            crew.is_napping.set(false);
        }
        self.process().go_on();
        // Unless who woke it has done so.
        if self.is_waiting.replace(false) {
            crew.waiting.set(crew.waiting.get() - 1);
            crew.note_helpers();
        }
    }

    /// Takes what it was given, or else another one that has not woken up yet. If a moment ago all had given so many turns, it learns
    /// from that how long turns are, and takes the queue of one that is stuck in one.
    fn take_some<K: Guts>(self, turns_before: Option<usize>) -> bool {
        let process = self.process();
        let crew = &process.crew;
        let loot = process.exclusive::<K, _>(|| {
            let gift = self.gift.take();
            if gift.is_some() {
                return gift;
            }
            self.account_for_loot();
            if let Some(before) = turns_before {
                crew.learn(crew.turns(false).wrapping_sub(before));
            }
            crew.workers().filter(|worker| *worker != self).find_map(|worker| {
                let gift = worker.gift.take();
                let is_stuck = turns_before.is_some() && worker.is_stuck() && !worker.is_queue_empty();
                if gift.is_some() || !is_stuck {
                    gift
                } else {
                    Some((worker.visit::<K, _>(|| worker.take_queue())??, 0))
                }
            })
        });
        if let Some((batch, n)) = loot {
            self.loot.set(n);
            self.turns_at_loot.set(self.turns.load(Ordering::Relaxed));
            self.enqueue_all::<K>(batch);
        }
        loot.is_some()
    }

    /// Fibres that came from another worker have come to rest, or are there again. The lock is held.
    fn account_for_loot(self) {
        let crew = &self.process().crew;
        let loot = self.loot.take();
        if loot == 0 || !self.idle.get().has_moments() {
            return;
        }
        let turns = self.turns.load(Ordering::Relaxed).wrapping_sub(self.turns_at_loot.get());
        if turns < USEFUL_TURNS * loot {
            crew.charge(1);
        } else {
            crew.credit.set(crew.credit.get().max(SOME_CREDIT));
            crew.note_helpers();
        }
    }

    /// What becomes of a fibre whose poll returned `Pending`.
    ///
    /// In the usual case it has posted one wait, and waits for nothing else: it belongs to this worker until that wait begins.
    #[inline(always)]
    pub fn settle_shared<K: Guts>(self, fibre: FibreRef) {
        if fibre.status.get() == QUEUED
            && !fibre.woken.load(Ordering::Relaxed)
            && let Some(Post { channel, node, waiting, tag }) = self.take_post()
        {
            fibre.status.set(1);
            // If it waits, perhaps it runs elsewhere already.
            if tag == 0 || !channel.begin_direct_wait::<K>(self, fibre, node, waiting, tag) {
                self.settle_alone::<K>(fibre, channel, node, waiting);
            }
        } else {
            self.settle_slowly::<K>(fibre);
        }
    }

    /// The only wait of a fibre is not the only one at its channel, or cannot begin.
    #[cold]
    #[inline(never)]
    fn settle_alone<K: Guts>(self, fibre: FibreRef, channel: ChannelRef, node: NodeRef, waiting: State) {
        let begun = channel.begin_wait::<K>(fibre, node, waiting);
        if matches!(begun, Begun::Waits) {
            return;
        }
        if self.goes_on::<K>(fibre, channel, node, waiting, begun) {
            fibre.status.set(QUEUED);
            self.process().make_ready::<K>(fibre);
        } else {
            fibre.status.set(0);
            self.collapse(fibre);
        }
    }

    /// A wait did not begin. Says whether the fibre is to be polled again.
    fn goes_on<K: Guts>(
        self,
        fibre: FibreRef,
        channel: ChannelRef,
        node: NodeRef,
        waiting: State,
        begun: Begun,
    ) -> bool {
        match begun {
            Begun::Waits | Begun::Again | Begun::TakenBack => true,
            Begun::Left => {
                channel.remove_left::<K>(node);
                true
            }
            Begun::Dead(name, direction) => {
                if let (Some(reporting), Some(name)) = (self.process().reporting.get(), name) {
                    (reporting.dead_wait)(self, fibre, name, direction);
                }
                waiting == State::WaitingOrEnd
            }
        }
    }

    /// The other cases: several waits, a wake cell, woken while it ran, or nothing left to wait for.
    #[cold]
    #[inline(never)]
    fn settle_slowly<K: Guts>(self, fibre: FibreRef) {
        let mut is_woken = fibre.woken.load(Ordering::Acquire);
        if is_woken {
            fibre.woken.store(false, Ordering::Relaxed);
        }
        if let Some(Post { channel, node, waiting, .. }) = self.take_post() {
            fibre.status.add_wait_running();
            match channel.begin_wait::<K>(fibre, node, waiting) {
                Begun::Waits => {}
                begun => {
                    is_woken |= self.goes_on::<K>(fibre, channel, node, waiting, begun);
                    // It is running, so this was not the last that names it.
                    let _ = fibre.status.leave_node();
                }
            }
        }
        if fibre.status.get() == QUEUED {
            // Nobody else names it.
            if is_woken {
                self.process().make_ready::<K>(fibre);
            } else {
                self.collapse(fibre);
            }
            return;
        }
        // If not, that will not change any more, but the fibre may have been woken before.
        let may_be_woken = fibre.live() != 0 || fibre.wake_cell().is_some_and(|cell| cell.is_live());
        if fibre.status.end_run(is_woken, may_be_woken) {
            self.process().make_ready::<K>(fibre);
        } else if !may_be_woken {
            self.collapse(fibre);
        }
    }

    /// Takes back what a fibre has posted that is done, or has panicked.
    pub fn take_back_post<K: Guts>(self) {
        if let Some(Post { channel, node, .. }) = self.take_post()
            && channel.unhold::<K>(node)
        {
            channel.remove_left::<K>(node);
        }
    }
}

/// How a posted wait began.
pub(crate) enum Begun {
    /// It did. The fibre may be anywhere by now, unless it is marked as running.
    Waits,
    /// A counterpart waits: the fibre is to be polled again, and will meet it.
    Again,
    /// No counterpart can come any more: the channel's name, if somebody wants to know, and the direction.
    Dead(Option<&'static str>, crate::node::Direction),
    /// Another fibre has taken the wait back.
    TakenBack,
    /// Another fibre has dropped the endpoint, and left it to be removed.
    Left,
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
