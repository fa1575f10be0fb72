//! A worker: what one thread needs to run fibres, its run queue first of all.
//!
//! A process with one thread has one, as its first field. In a shared process each thread has its own, on its stack.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::compiler_fence;
use core::task::Waker;

use crate::channel::ChannelRef;
use crate::fibre::{Fibre, FibreRef, QUEUED};
use crate::hub::{Idle, WakeCell};
use crate::node::{Direction, NodeRef, State};
use crate::process::{ProcessCore, ProcessRef};
use crate::reach::Guts;
use crate::sync::{Alone, AtomicBool, AtomicU32, AtomicUsize, Cell, Ordering, spin_loop, word};
use crate::waker;

/// How many reads and writes a fibre completes at once before it gives way to the others, where counterparts run on other
/// workers.
const BUDGET: u32 = 128;

/// Another worker is at the queue, or is about to be.
const VISITED: u32 = 1;
/// How often a visitor looks whether the worker is outside: it may have been interrupted inside.
const VISIT_SPINS: usize = if cfg!(fibra_loom) { 3 } else { 1000 };
/// Visitors do not make this worker pass a barrier, so it has to do so by itself.
const FENCED: u32 = 2;

/// Of a post: it is to be told of the end.
const TELL_END: u8 = 1;

fn how(waiting: State) -> u8 {
    if waiting == State::WaitingOrEnd { TELL_END } else { 0 }
}

/// A link that others may look at: only to see whether there is something.
pub(crate) struct Link(word::AtomicPtr<Fibre>);

impl Link {
    fn new() -> Self {
        Link(word::AtomicPtr::new(ptr::null_mut()))
    }

    #[inline(always)]
    pub fn get(&self) -> Option<FibreRef> {
        // SAFETY: `set` puts only fibres there, which their list keeps.
        NonNull::new(self.0.load(Ordering::Relaxed)).map(|fibre| unsafe { FibreRef::new(fibre) })
    }

    #[inline(always)]
    pub fn set(&self, fibre: Option<FibreRef>) {
        self.0.store(fibre.map_or(ptr::null_mut(), |fibre| fibre.as_ptr().cast_mut()), Ordering::Relaxed);
    }

    fn take(&self) -> Option<FibreRef> {
        let fibre = self.get();
        self.set(None);
        fibre
    }

    /// The same as [`get`](Self::get).
    #[inline(always)]
    fn look<K: Guts>(&self) -> Option<FibreRef> {
        if K::IS_SHARED {
            return self.get();
        }
        // SAFETY: the queue of a process that is not shared is used by one thread; and as in `get`.
        unsafe { NonNull::new(self.0.load_alone()).map(|fibre| FibreRef::new(fibre)) }
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    fn put<K: Guts>(&self, fibre: Option<FibreRef>) {
        if K::IS_SHARED {
            return self.set(fibre);
        }
        // SAFETY: as above.
        unsafe { self.0.store_alone(fibre.map_or(ptr::null_mut(), |fibre| fibre.as_ptr().cast_mut())) }
    }
}

/// What each poll uses comes first, in one cache line.
#[cfg_attr(target_pointer_width = "64", repr(C, align(64)))]
#[cfg_attr(not(target_pointer_width = "64"), repr(C))]
pub(crate) struct Worker {
    /// The one waker of this worker, which every poll of a fibre is given that runs here. Its address tells a channel whether a
    /// poll is one of its own process. Written once, before anything else sees the worker.
    waker: UnsafeCell<MaybeUninit<Waker>>,
    /// The run queue, first in, first out.
    pub head: Link,
    pub tail: Link,
    /// The fibre that is being polled.
    pub current: Cell<Option<FibreRef>>,
    pub finished: Cell<usize>,
    process: Cell<*const ProcessCore>,

    /// In a shared process: what the running fibre is to wait in as soon as its poll has returned. (Its parts are not neighbours:
    /// loaded as one right after they were stored one by one, they would have to wait for the stores. And there are no more of
    /// them than must be: the next lock waits for all stores before it.)
    posted_node: Cell<Option<NodeRef>>,
    /// How many more operations may complete at once.
    budget: Cell<u32>,
    /// What the node is to be: [`TELL_END`], and above it the tag of the channel if the fibre may wait directly, or 0.
    posted_how: Cell<u8>,
    posted_channel: Cell<Option<ChannelRef>>,
    /// Since which turn the budget holds.
    budget_turn: Cell<usize>,
    /// This worker is at its queue, or at a channel that it owns.
    is_inside: AtomicBool,
    /// [`VISITED`] and [`FENCED`].
    visits: AtomicU32,
    /// How many turns it has given: for others, to see whether it is stuck in one.
    pub turns: AtomicUsize,
    /// Its turns take so long that others should have what it makes ready.
    pub has_long_turns: AtomicBool,
    /// The process's other workers. Under the process's lock.
    pub next: Cell<Option<WorkerRef>>,
    /// The others that may own a channel. Under the lock for that.
    pub next_owner: Cell<Option<WorkerRef>>,
    /// It has left the crew.
    pub has_left: Cell<bool>,
    /// What another one has given it, and how many fibres that is, until it wakes up. Under the process's lock.
    pub gift: Cell<Option<(Batch, usize)>>,
    /// How often it used a channel that another one had used just before.
    pub switches: Cell<usize>,
    /// How many fibres it has got from another one, until that is accounted for, and how many turns it had given then.
    pub loot: Cell<usize>,
    pub turns_at_loot: Cell<usize>,
    /// How many turns it had given when another one last looked. Under the process's lock.
    pub turns_seen: Cell<usize>,
    /// It waits, and was not woken yet. Under the process's lock.
    pub is_waiting: Cell<bool>,
    /// How it waits.
    pub idle: Cell<&'static dyn Idle>,

    pub collapsed: Cell<usize>,
    pub panicked: Cell<usize>,
    /// The dead wait that a fibre met last, for the report of its collapse.
    pub dead_wait: Cell<Option<(FibreRef, &'static str, Direction)>>,
    /// The fibre that panicked last, and whether it is essential, until that is told.
    pub panicked_last: Cell<Option<(&'static str, bool)>>,
}

/// Of the worker of a single-threaded process, which waits by means of its hub.
struct NeverWaits;

impl Idle for NeverWaits {
    fn wait(&self) {}
    fn wake(&self) {}
}

/// A wait that begins when the poll has returned.
#[derive(Clone, Copy)]
pub(crate) struct Post {
    pub channel: ChannelRef,
    pub node: NodeRef,
    /// What the node is to be then.
    pub waiting: State,
    /// How the channel is to be marked if the fibre may wait directly, or 0.
    pub tag: u8,
}

/// A pointer to a worker.
///
/// Invariant: it is there: it runs, or it is the process's first one, and the process is alive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerRef(NonNull<Worker>);

impl Deref for WorkerRef {
    type Target = Worker;

    #[inline(always)]
    fn deref(&self) -> &Worker {
        // SAFETY: the type's invariant; a worker is only ever changed through its cells.
        unsafe { self.0.as_ref() }
    }
}

impl WorkerRef {
    /// # Safety
    /// It is null, or points at a worker that may be used for as long as this is.
    #[inline(always)]
    pub unsafe fn at(worker: *mut Worker) -> Option<Self> {
        NonNull::new(worker).map(WorkerRef)
    }

    pub fn as_ptr(self) -> *mut Worker {
        self.0.as_ptr()
    }
}

impl Worker {
    pub fn new() -> Self {
        Worker {
            waker: UnsafeCell::new(MaybeUninit::uninit()),
            head: Link::new(),
            tail: Link::new(),
            current: Cell::new(None),
            finished: Cell::new(0),
            process: Cell::new(ptr::null()),
            posted_node: Cell::new(None),
            budget: Cell::new(BUDGET),
            posted_how: Cell::new(0),
            posted_channel: Cell::new(None),
            budget_turn: Cell::new(0),
            is_inside: AtomicBool::new(false),
            visits: AtomicU32::new(FENCED),
            turns: AtomicUsize::new(0),
            has_long_turns: AtomicBool::new(false),
            next: Cell::new(None),
            next_owner: Cell::new(None),
            has_left: Cell::new(false),
            gift: Cell::new(None),
            switches: Cell::new(0),
            loot: Cell::new(0),
            turns_at_loot: Cell::new(0),
            turns_seen: Cell::new(0),
            is_waiting: Cell::new(false),
            idle: Cell::new(&NeverWaits),
            collapsed: Cell::new(0),
            panicked: Cell::new(0),
            dead_wait: Cell::new(None),
            panicked_last: Cell::new(None),
        }
    }

    /// Ties the worker to its process, and to the address it will keep. Called once, before anything else.
    ///
    /// # Safety
    /// It stays where it is for the rest of its life, and the process outlives it.
    pub unsafe fn settle_down(&self, process: *const ProcessCore) {
        self.process.set(process);
        // SAFETY: the caller's promise; nobody else has seen the waker's place yet.
        unsafe { (*self.waker.get()).write(waker::of_worker(self)) };
    }

    #[inline(always)]
    pub fn process(&self) -> ProcessRef {
        // SAFETY: `settle_down` was called before anything else could call this, and the process outlives its workers.
        unsafe { ProcessRef::new(self.process.get()) }
    }

    /// The waker of this worker.
    #[inline(always)]
    pub fn waker(&self) -> &Waker {
        // SAFETY: written by `settle_down`, and never again.
        unsafe { (*self.waker.get()).assume_init_ref() }
    }

    /// Whether `waker` is this very worker's: then the poll is one of its running fibre.
    #[inline(always)]
    pub fn owns(&self, waker: &Waker) -> bool {
        ptr::eq(waker, self.waker.get().cast())
    }

    /// Counts a fibre that panicked, in its poll or in its destructor.
    #[cold]
    pub fn note_panic(&self, fibre: Option<(&'static str, bool)>) {
        self.panicked.set(self.panicked.get() + 1);
        self.panicked_last.set(fibre);
    }

    /// Enters the queue. Only others wait there, unless one of them is inside: so this costs no more than two stores and a
    /// load.
    ///
    /// The worker says that it is inside, and then looks for a visitor; a visitor says that it comes, and then looks for the
    /// worker. The barriers order both, so at least one of them sees the other: a visitor that sees the worker waits until it
    /// leaves; a worker that sees a visitor steps back until it has gone. (Dekker; the lock is biased towards the worker.)
    #[inline(always)]
    fn enter<K: Guts>(&self) {
        if K::IS_SHARED {
            self.go_inside();
            compiler_fence(Ordering::SeqCst);
            if self.visits.load(Ordering::Acquire) != 0 {
                self.enter_slowly::<K>();
            }
        }
    }

    #[cold]
    fn enter_slowly<K: Guts>(&self) {
        let is_visited = || self.visits.load(Ordering::Acquire) & VISITED != 0;
        loop {
            K::light_barrier();
            if !is_visited() {
                return;
            }
            self.go_outside();
            while is_visited() {
                spin_loop();
            }
            self.go_inside();
        }
    }

    /// Says that it is inside: of its queue, or of a channel that it owns. Before it relies on that, it has to look whether
    /// somebody has come, behind a barrier.
    #[inline(always)]
    pub fn go_inside(&self) {
        self.is_inside.store(true, Ordering::Relaxed);
    }

    #[inline(always)]
    pub fn go_outside(&self) {
        self.is_inside.store(false, Ordering::Release);
    }

    /// Waits until it is outside. Whoever waits has done what keeps it from going inside again, and then passed a heavy
    /// barrier.
    pub fn wait_until_outside(&self) {
        while self.is_inside.load(Ordering::Acquire) {
            spin_loop();
        }
    }

    /// Visitors will make this worker pass a barrier.
    pub fn drop_fence(&self) {
        self.visits.store(0, Ordering::Relaxed);
    }

    #[inline(always)]
    fn leave<K: Guts>(&self) {
        if K::IS_SHARED {
            self.go_outside();
        }
    }

    /// Uses the queue of another worker, if no other visitor is there, and that one does not stay inside.
    pub fn visit<K: Guts, R>(&self, visit: impl FnOnce() -> R) -> Option<R> {
        // Writes nothing if another visitor is there: not even the model checker is to take that for a visit of its own.
        let fenced = self.visits.load(Ordering::Relaxed) & FENCED;
        self.visits.compare_exchange(fenced, fenced | VISITED, Ordering::Acquire, Ordering::Relaxed).ok()?;
        K::heavy_barrier();
        let is_outside = (0..VISIT_SPINS).any(|_| {
            let is_inside = self.is_inside.load(Ordering::Acquire);
            if is_inside {
                spin_loop();
            }
            !is_inside
        });
        let result = is_outside.then(visit);
        self.visits.store(fenced, Ordering::Release);
        result
    }

    /// Puts a fibre at the tail of the run queue. It carries `QUEUED`. Says whether another one is before it.
    ///
    /// The branch is cheaper than one store through a pointer to either link would be: then the processor could not tell
    /// which of its next loads depends on it.
    #[inline(always)]
    pub fn enqueue<K: Guts>(&self, fibre: FibreRef) -> bool {
        self.enter::<K>();
        fibre.next.set(None);
        let last = self.tail.look::<K>();
        self.tail.put::<K>(Some(fibre));
        match last {
            None => self.head.put::<K>(Some(fibre)),
            Some(last) => last.next.set(Some(fibre)),
        }
        self.leave::<K>();
        last.is_some()
    }

    /// Puts a fibre at the head of the run queue. It carries `QUEUED`.
    pub fn enqueue_first<K: Guts>(&self, fibre: FibreRef) {
        self.enter::<K>();
        let stopper = self.head.get().filter(|first| self.process().is_stopper(*first));
        let next = match stopper {
            // A stop comes before everything.
            Some(stopper) => stopper.next.replace(Some(fibre)),
            None => {
                let next = self.head.get();
                self.head.set(Some(fibre));
                next
            }
        };
        fibre.next.set(next);
        if next.is_none() {
            self.tail.set(Some(fibre));
        }
        self.leave::<K>();
    }

    /// Puts a list of fibres at the tail of the run queue.
    pub fn enqueue_all<K: Guts>(&self, Batch { first, last }: Batch) {
        self.enter::<K>();
        match self.tail.get() {
            None => self.head.set(Some(first)),
            Some(tail) => tail.next.set(Some(first)),
        }
        self.tail.set(Some(last));
        self.leave::<K>();
    }

    pub fn is_queue_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Whether it holds more than one, as far as others can see.
    pub fn has_several(&self) -> bool {
        self.head.get() != self.tail.get()
    }

    /// Takes a fibre from the head. It carries `QUEUED` still.
    #[inline(always)]
    pub fn pop_queued<K: Guts>(&self) -> Option<FibreRef> {
        if K::IS_SHARED && self.is_queue_empty() {
            // Only this worker puts any there.
            return None;
        }
        self.enter::<K>();
        let fibre = self.head.look::<K>();
        if let Some(fibre) = fibre {
            let next = fibre.next.get();
            self.head.put::<K>(next);
            if next.is_none() {
                self.tail.put::<K>(None);
            }
        }
        self.leave::<K>();
        fibre
    }

    /// Takes the whole queue away.
    pub fn take_queue(&self) -> Option<Batch> {
        let (first, last) = (self.head.take()?, self.tail.take()?);
        Some(Batch { first, last })
    }

    /// Whether it has been in the same turn since another one last looked.
    pub fn is_stuck(&self) -> bool {
        self.turns_seen.get() == self.turns.load(Ordering::Relaxed)
    }

    /// Takes the whole queue away, for its own worker.
    pub fn take_all<K: Guts>(&self) -> Option<Batch> {
        self.enter::<K>();
        let batch = self.take_queue();
        self.leave::<K>();
        batch
    }

    /// Takes the older half of the queue away but for the fibre that comes next, unless that is the only one; or what comes first of
    /// it if it is long. Says how many these are.
    pub fn split<K: Guts>(&self) -> Option<(Batch, usize)> {
        self.enter::<K>();
        let half = self.split_inside();
        self.leave::<K>();
        half
    }

    fn split_inside(&self) -> Option<(Batch, usize)> {
        /// How many steps it takes.
        const MOST: usize = 64;

        let head = self.head.get()?;
        let Some(first) = head.next.get() else {
            return self.take_queue().map(|only| (only, 1));
        };
        let (mut last, mut ahead) = (first, first.next.get());
        let mut n = 1;
        for _ in 0..MOST {
            let Some(next) = ahead.and_then(|fibre| fibre.next.get()) else { break };
            ahead = next.next.get();
            let Some(after) = last.next.get() else { break };
            last = after;
            n += 1;
        }
        let rest = last.next.replace(None);
        head.next.set(rest);
        if rest.is_none() {
            self.tail.set(Some(head));
        }
        Some((Batch { first, last }, n))
    }
}

/// Puts the worker's own waker back in its place when a fibre with a wake cell has been polled.
pub(crate) struct Lent(WorkerRef);

impl Drop for Lent {
    fn drop(&mut self) {
        // SAFETY: the poll has ended, and with it every reference to the waker that it was given.
        unsafe { (*self.0.waker.get()).write(waker::of_worker(&raw const *self.0)) };
    }
}

impl WorkerRef {
    /// While a fibre with a wake cell is polled, the worker's waker is that cell's: so its clones are the same, and futures that
    /// ask (`will_wake`) need not replace what they have. It stays at its address, which is what tells whose poll it is.
    pub fn lend_waker(self, cell: &'static WakeCell) -> Option<Lent> {
        let raw = (self.process().outside?.lend_waker)(cell);
        // SAFETY: no poll is running, so nobody refers to the waker. A waker in this place is never dropped, so it need not
        // be counted; the cell is there for ever.
        unsafe { (*self.waker.get()).write(Waker::from_raw(raw)) };
        Some(Lent(self))
    }
}

/// Several fibres, linked, each of which carries `QUEUED`.
#[derive(Clone, Copy)]
pub(crate) struct Batch {
    pub first: FibreRef,
    pub last: FibreRef,
}

impl WorkerRef {
    /// Makes a fibre ready: to the tail of the run queue, unless it is there already or will never run again. Not for fibres
    /// that others may wake.
    #[inline]
    pub fn ready(self, fibre: FibreRef) {
        if fibre.flags() == 0 {
            fibre.set(QUEUED);
            self.enqueue::<crate::reach::Sequential>(fibre);
        }
    }

    /// Begins a turn.
    #[inline(always)]
    pub fn begin_turn(self) {
        // Only ever looked at by others to see that it changes.
        self.turns.store(self.turns.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether the running fibre may complete another operation in this turn. If not, it is to be polled again.
    #[inline(always)]
    pub fn may_go_on(self) -> bool {
        let left = self.budget.get();
        if left == 0 {
            return self.renew_budget();
        }
        self.budget.set(left - 1);
        true
    }

    /// The budget is used up. What was left of it when a turn began is that turn's, so that none need be set at each.
    #[cold]
    fn renew_budget(self) -> bool {
        self.budget.set(BUDGET);
        let turn = self.turns.load(Ordering::Relaxed);
        let is_new = self.budget_turn.replace(turn) != turn;
        if !is_new {
            self.waker().wake_by_ref();
        }
        is_new
    }

    #[inline(always)]
    pub fn has_post(self) -> bool {
        self.posted_node.get().is_some()
    }

    /// Has the running fibre wait in a node as soon as its poll has returned. `false` if it has posted one already, or if
    /// another worker holds the node.
    #[inline(always)]
    pub fn post(self, channel: ChannelRef, node: NodeRef, direction: Direction, waiting: State) -> bool {
        if self.has_post() || node.held.load(Ordering::Acquire) {
            return false;
        }
        node.state.set(State::Posted);
        self.posted_channel.set(Some(channel));
        let tag = if node.may_wait_directly() { direction.tag() as u8 } else { 0 };
        self.posted_how.set(tag << 1 | how(waiting));
        self.posted_node.set(Some(node));
        true
    }

    /// Whether this node is the one that was posted here, in this turn.
    #[inline(always)]
    pub fn has_posted(self, node: NodeRef) -> bool {
        self.posted_node.get() == Some(node)
    }

    /// Forgets the post of a node that its owner takes back.
    pub fn unpost(self) {
        self.posted_node.set(None);
    }

    /// For an operation that has been posted already, and is polled again in the same turn.
    pub fn repost(self, waiting: State) {
        self.posted_how.set(self.posted_how.get() & !TELL_END | how(waiting));
    }

    #[inline(always)]
    pub fn take_post(self) -> Option<Post> {
        let node = self.posted_node.take()?;
        // Set with the node, and never taken away.
        let channel = self.posted_channel.get()?;
        let how = self.posted_how.get();
        let waiting = if how & TELL_END == 0 { State::Waiting } else { State::WaitingOrEnd };
        Some(Post { channel, node, waiting, tag: how >> 1 })
    }
}
