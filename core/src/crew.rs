//! The workers of a shared process: what they do between two turns, how they help each other, and how they find out that
//! there is nothing left to do.
//!
//! Each worker has a run queue of its own, and looks at nothing else as long as that holds something and nobody calls. One
//! with nothing to do takes the older half of another's queue. It takes a queue's only fibre just if the other worker is busy
//! with long turns: two fibres that only talk to each other are faster on one core.
//!
//! ```text
//!              the queue is empty              nothing to take                    all workers wait, and nothing outside
//!   working ----------------------> looking -----------------> waiting -------> can wake a fibre: the process ends
//!      ^                              |  ^                        |
//!      `------------------------------'  `------------------------'
//!          took a batch, a fibre was      called, or (one of them, while others
//!          woken, a channel dissolves     work) after a moment
//! ```
//!
//! What several workers share is behind the process's lock, but for the flags that they look at without it.

use core::sync::atomic::compiler_fence;

use crate::channel::ChannelRef;
use crate::channels::Ended;
use crate::fibre::{FibreRef, Lost, QUEUED, Woken};
use crate::hub::{HubCore, Idle};
use crate::node::{NodeRef, State};
use crate::process::ProcessRef;
use crate::reach::Guts;
use crate::run::Catch;
use crate::sync::{AtomicBool, AtomicUsize, Cell, Ordering};
use crate::worker::{Batch, Post, Worker, WorkerRef};

/// The process ends: all workers leave.
pub(crate) const END: usize = 1;
/// There are channels whose waits are to be ended.
pub(crate) const DISSOLVE: usize = 2;
/// Fibres were made ready by somebody who is not a worker.
pub(crate) const INJECTED: usize = 4;

/// Who is about to wait does not make the others pass a barrier, so they have to do so by themselves.
const FENCED: usize = !(usize::MAX >> 1);

/// A worker whose turns are longer than a moment divided by this is busy with long turns.
const SHORT_TURNS: usize = 128;

type Another = fn(ProcessRef, &'static dyn Idle, Option<&mut Catch<'_>>);

/// What the workers of a process share.
pub(crate) struct Crew {
    /// What the workers are called for: they look at it between two turns.
    calls: AtomicUsize,
    /// How many of them wait, and [`FENCED`]. Changed under the lock.
    waiting: AtomicUsize,
    /// One was woken to help, and has not looked around yet.
    is_waking: AtomicBool,
    /// One waits for a moment only. Changed under the lock.
    is_napping: Cell<bool>,
    /// The hub was told that all wait, and not yet that one goes on.
    have_all_waited: Cell<bool>,
    /// All of them. Under the lock, like the rest.
    workers: Cell<Option<WorkerRef>>,
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
            waiting: AtomicUsize::new(FENCED),
            is_waking: AtomicBool::new(false),
            is_napping: Cell::new(false),
            have_all_waited: Cell::new(false),
            workers: Cell::new(None),
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

    fn how_many_wait(&self) -> usize {
        self.waiting.load(Ordering::Relaxed) & !FENCED
    }

    fn is_called_for(&self, what: usize) -> bool {
        self.calls.load(Ordering::Acquire) & what != 0
    }

    fn workers(&self) -> impl Iterator<Item = WorkerRef> {
        core::iter::successors(self.workers.get(), |worker| worker.next.get())
    }

    /// One of those who wait. It is to be woken outside the lock, which it takes as soon as it wakes. The lock is held.
    fn pick_one(&self) -> Option<&'static dyn Idle> {
        let worker = self.workers().find(|worker| worker.is_waiting.get())?;
        // Until it has woken up, it is not called again.
        worker.is_waiting.set(false);
        self.waiting.store(self.waiting.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        self.is_waking.store(true, Ordering::Relaxed);
        Some(worker.idle.get())
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
        // Who is about to wait says so, and then looks at the queues (`was_overlooked`): one of both sees the other.
        compiler_fence(Ordering::SeqCst);
        if self.crew.waiting.load(Ordering::Relaxed) != 0 && self.wants_help::<K>(worker, has_several) {
            self.call_help::<K>();
        }
    }

    /// Whether one of those who wait is to help this worker.
    #[inline]
    fn wants_help<K: Guts>(self, worker: WorkerRef, has_several: bool) -> bool {
        if self.crew.waiting.load(Ordering::Relaxed) & FENCED != 0 {
            K::light_barrier();
            if self.crew.how_many_wait() == 0 {
                return false;
            }
        }
        (has_several || worker.has_long_turns.load(Ordering::Relaxed)) && !self.crew.is_waking.load(Ordering::Relaxed)
    }

    #[cold]
    #[inline(never)]
    fn call_help<K: Guts>(self) {
        if let Some(idle) = self.exclusive::<K, _>(|| self.crew.pick_one()) {
            idle.wake();
        }
    }

    /// Queues a fibre for whichever worker comes first.
    #[cold]
    fn inject<K: Guts>(self, fibre: FibreRef) {
        fibre.next.set(None);
        let idle = self.exclusive::<K, _>(|| {
            let first = match self.crew.injected.get() {
                Some(Batch { first, last }) => {
                    last.next.set(Some(fibre));
                    first
                }
                None => fibre,
            };
            self.crew.injected.set(Some(Batch { first, last: fibre }));
            self.crew.call(INJECTED);
            self.crew.pick_one()
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
        let has_remote_barrier = K::has_remote_barrier();
        if has_remote_barrier {
            worker.drop_fence();
        }
        self.exclusive::<K, _>(|| {
            if has_remote_barrier {
                self.crew.waiting.store(self.crew.how_many_wait(), Ordering::Relaxed);
            }
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
            let injected = crew.injected.take().map(|batch| batch.first);
            self.cut_off(worker.take_queue());
            self.cut_off(injected);
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
    pub fn cut_off(self, queue: Option<FibreRef>) {
        let mut next = queue;
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
            let is_called = process.crew.calls.load(Ordering::Relaxed) != 0 || hub.has_news();
            if is_called || (self.turns.load(Ordering::Relaxed).is_multiple_of(16) && !hub.is_quiet(process.generation))
            {
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
                    if !self.find_work::<K>(hub) {
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
                process.crew.calls.fetch_and(!INJECTED, Ordering::Relaxed);
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
                process.crew.calls.fetch_and(!DISSOLVE, Ordering::Relaxed);
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

    /// Waits until there is something to do, in the queue or to answer. `false` if there will be nothing.
    #[cold]
    #[inline(never)]
    fn find_work<K: Guts>(self, hub: &HubCore) -> bool {
        let process = self.process();
        let crew = &process.crew;
        // How many turns the others had given when this one last looked, before a nap.
        let mut turns_before = None;
        let mut has_napped = false;
        loop {
            let has_work = self.take_some::<K>(turns_before.take());
            if has_work && has_napped {
                // Another one is to nap in its place.
                process.call_help::<K>();
            }
            if has_work {
                return true;
            }
            match process.exclusive::<K, _>(|| self.nothing_to_do::<K>(hub)) {
                Nothing::LookAgain => {
                    // What it is called for may be no more than an empty call. A stop is not among what it looks for in each turn.
                    if hub.is_stopped(process.generation) {
                        process.end_crew::<K>(true);
                    }
                    return true;
                }
                Nothing::Leave => return false,
                Nothing::Wait => {
                    if !self.was_overlooked::<K>() {
                        self.wait();
                    }
                    process.exclusive::<K, _>(|| self.stop_waiting(false));
                }
                Nothing::Nap => {
                    let turns = self.turns_of_others::<K>();
                    has_napped = true;
                    let is_over = !self.was_overlooked::<K>() && self.nap();
                    process.exclusive::<K, _>(|| self.stop_waiting(true));
                    if is_over {
                        turns_before = Some(turns);
                    }
                }
            }
            // From here on, whoever has something to give calls again.
            crew.is_waking.store(false, Ordering::Relaxed);
            K::heavy_barrier();
        }
    }

    /// Decides what is to be done by a worker with nothing to do. The lock is held.
    fn nothing_to_do<K: Guts>(self, hub: &HubCore) -> Nothing {
        let process = self.process();
        let crew = &process.crew;
        if crew.is_called_for(END) {
            return Nothing::Leave;
        }
        if crew.is_called_for(DISSOLVE | INJECTED) || !hub.is_quiet(process.generation) {
            return Nothing::LookAgain;
        }
        let waiting = crew.waiting.load(Ordering::Relaxed) + 1;
        let is_last = crew.workers().all(|worker| worker == self || worker.is_waiting.get());
        if is_last {
            // Nothing runs now, and nothing is ready: whoever waits here found no fibre in its own queue, which nobody else
            // fills.
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
        }
        crew.waiting.store(waiting, Ordering::Relaxed);
        self.is_waiting.set(true);
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
            crew.waiting.store(crew.waiting.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
    }

    /// Whether another worker has several fibres: it may have looked for somebody who waits just before this one did.
    fn was_overlooked<K: Guts>(self) -> bool {
        K::heavy_barrier();
        let process = self.process();
        process.exclusive::<K, _>(|| process.crew.workers().any(|worker| worker != self && worker.has_several()))
    }

    /// How many turns all others have given.
    fn turns_of_others<K: Guts>(self) -> usize {
        let process = self.process();
        let turns = |worker: WorkerRef| worker.turns.load(Ordering::Relaxed);
        process.exclusive::<K, _>(|| {
            process.crew.workers().filter(|worker| *worker != self).map(turns).fold(0, usize::wrapping_add)
        })
    }

    /// Takes the older half of another worker's queue. If a moment ago the others had given so many turns, and have given few
    /// since, also a queue's only fibre.
    fn take_some<K: Guts>(self, turns_before: Option<usize>) -> bool {
        let process = self.process();
        let has_long_turns = turns_before.map(|before| self.turns_of_others::<K>().wrapping_sub(before) < SHORT_TURNS);
        let batch = process.exclusive::<K, _>(|| {
            let others = || process.crew.workers().filter(|worker| *worker != self);
            if let Some(has_long_turns) = has_long_turns {
                others().for_each(|worker| worker.has_long_turns.store(has_long_turns, Ordering::Relaxed));
            }
            others().find_map(|worker| {
                let may_take_one = worker.has_long_turns.load(Ordering::Relaxed) && !worker.is_queue_empty();
                if worker.has_several() || may_take_one { worker.visit::<K, _>(|| worker.split())? } else { None }
            })
        });
        if let Some(batch) = batch {
            self.enqueue_all::<K>(batch);
            if self.has_several() && process.crew.how_many_wait() != 0 {
                process.call_help::<K>();
            }
        }
        batch.is_some()
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
