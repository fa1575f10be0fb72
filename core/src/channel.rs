//! A channel: one block that holds who waits, the counts of its ends, and the nodes of its first two endpoints. Nothing
//! here knows the type of the values.

mod dead;
mod frozen;
mod open;
mod post;
mod waiting;

use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::task::Waker;

use fibra_allocators::Layout;

pub(crate) use self::open::{Memory, Outsiders};
pub(crate) use self::waiting::Waiting;
use self::waiting::{RING, Waits};
use crate::fibre::{FINISHED, FibreRef, LIVE, Lost, QUEUED, Woken};
use crate::node::{Direction, IN_REPORT, LEFT, NodeRef, ORPHAN, OWN_BLOCK, State, Waiter};
use crate::process::ProcessRef;
use crate::reach::{Guts, Sequential};
use crate::sync::{Cell, Ordering};
use crate::worker::WorkerRef;

/// What the untyped code must know of a type of channel.
pub(crate) struct Info {
    pub type_name: fn() -> &'static str,
    /// Of the channel's block.
    pub layout: Layout,
    /// Of the block that `dup` makes.
    pub endpoint_layout: Layout,
    /// Where in the channel's block its name is.
    pub name_offset: Option<usize>,
    /// Where in the channel's block the two nodes are that may wait directly: the reader's, and the writer's.
    pub direct_offsets: [usize; 2],
    /// Where in an endpoint's block the node for writing is: behind the one for reading, in a two-way one.
    pub writer_offset: usize,
    /// Of two-way channels: whether all fibres that have an endpoint wait for one another. A pointer, so that the image of
    /// a program without two-way channels has none of it.
    pub is_stuck: Option<fn(ChannelRef) -> bool>,
    /// Of open channels, which belong to no process: where their memory comes from.
    pub memory: Option<&'static Memory>,
}

/// In place of an empty ring: nobody can meet here any more, because there are no counterparts. So that one look tells a
/// fibre whether to meet, to wait, or neither.
const SEALED: *const () = ptr::without_provenance(8);

/// In the front of the process's list, with waits to end.
pub(crate) const DISSOLVING: u32 = 1 << 29;
/// The process is closing: the ring is kept for the report, and nobody can meet any more.
const IN_CLOSING: u32 = 1 << 30;
/// All of its fibres have been found to be stuck, and nothing has happened to its ring since.
const STUCK: u32 = 1 << 31;
/// Above the second count: the same but for one endpoint, whose wait was ended, and which is about to go with its fibre. If
/// it stays, all is to be found out anew.
const STUCK_BUT_ONE: u32 = 1 << 31;

/// The untyped front of every channel.
#[repr(C)]
pub(crate) struct ChannelCore {
    /// Who waits. All wait in the same direction, or they would have met. One of:
    /// - null: nobody;
    /// - a fibre, tagged with a direction: it waits directly, alone, in the node that one of the channel's first two ends
    ///   has for that direction. (Its counterpart finds the fibre and the slot without looking into the node: one load
    ///   less on the way from one fibre to the next, which is what a communication takes its time for.)
    /// - the first node of a ring, tagged with [`RING`];
    /// - [`SEALED`].
    waiting: Waits,
    /// `None` of an asynchronous channel, which belongs to no process.
    process: Option<ProcessRef>,
    /// How many endpoints can read, and how many can write: in a two-way channel, all of them. [`DISSOLVING`],
    /// [`IN_CLOSING`] and [`STUCK`] are above the first count, [`STUCK_BUT_ONE`] above the second; no process has as many
    /// endpoints as would reach them.
    ends: [Cell<u32>; 2],
    pub info: &'static Info,
    /// The process's list of channels: a circle.
    pub next: Cell<*const ChannelCore>,
    pub prev: Cell<*const ChannelCore>,
}

/// The front of every channel, with its lock.
#[repr(C)]
pub(crate) struct Channel<L> {
    pub core: ChannelCore,
    pub turns: L,
}

/// A pointer to a channel's front that may reach its whole block.
///
/// Invariant: the block is allocated: an endpoint exists, or the channel is in the list of a process that is closing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelRef(NonNull<ChannelCore>);

impl Deref for ChannelRef {
    type Target = ChannelCore;

    #[inline(always)]
    fn deref(&self) -> &ChannelCore {
        // SAFETY: the type's invariant; a channel is only ever changed through its cells.
        unsafe { self.0.as_ref() }
    }
}

impl ChannelRef {
    /// # Safety
    /// `channel` points at an initialised front and may reach the whole block.
    #[inline(always)]
    pub unsafe fn new(channel: *const ChannelCore) -> Self {
        // SAFETY: the caller's promise.
        ChannelRef(unsafe { NonNull::new_unchecked(channel.cast_mut()) })
    }

    #[inline(always)]
    pub fn as_ptr(self) -> *const ChannelCore {
        self.0.as_ptr()
    }

    /// Writes the front of a channel with its first two endpoints, which were counted, and enters it into the process's
    /// list.
    ///
    /// # Safety
    /// `block` is allocated from `process` with the layout of `info`. Only an open channel has none.
    pub unsafe fn init<K: Guts>(block: NonNull<u8>, process: Option<ProcessRef>, info: &'static Info) -> Self {
        let front = block.cast::<Channel<K::Turns>>();
        // SAFETY: the block is large enough: a channel's front is its first field.
        unsafe {
            front.write(Channel {
                core: ChannelCore {
                    waiting: Waits::new(),
                    process,
                    ends: if info.is_stuck.is_some() {
                        [Cell::new(2), Cell::new(2)]
                    } else {
                        [Cell::new(1), Cell::new(1)]
                    },
                    info,
                    next: Cell::new(ptr::null()),
                    prev: Cell::new(ptr::null()),
                },
                turns: K::new_turns(),
            });
        }
        let channel = ChannelRef(block.cast());
        if let Some(process) = process {
            process.exclusive::<K, _>(|| process.channels.insert(channel));
        }
        channel
    }

    /// The process of a channel that has one: of any that is not open.
    #[inline(always)]
    pub fn process(self) -> ProcessRef {
        debug_assert!(self.process.is_some());
        // SAFETY: only called of channels that are not open (`Guts::IS_OPEN`), all of which were made with a process.
        unsafe { self.process.unwrap_unchecked() }
    }

    /// Takes a block from where the channel's own came from.
    pub fn allocate<K: Guts>(self, layout: Layout) -> Option<NonNull<u8>> {
        match self.info.memory {
            Some(memory) if K::IS_OPEN => (memory.allocate)(self, layout),
            _ => self.process().allocate(layout),
        }
    }

    /// # Safety
    /// `block` came from [`allocate`](Self::allocate) of this channel with this layout, and nothing uses it any more.
    pub unsafe fn deallocate<K: Guts>(self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe {
            match self.info.memory {
                Some(memory) if K::IS_OPEN => (memory.deallocate)(self, block, layout),
                _ => self.process().deallocate(block, layout),
            }
        }
    }

    /// Runs `section` while nobody else uses the channel. No foreign code may run in it, and no other channel's section.
    #[inline(always)]
    pub fn locked<K: Guts, R>(self, section: impl FnOnce() -> R) -> R {
        K::locked(self, section)
    }

    /// The same on a worker of the channel's process.
    #[inline(always)]
    pub fn locked_on<K: Guts, R>(self, worker: WorkerRef, section: impl FnOnce() -> R) -> R {
        K::locked_on(self, worker, section)
    }

    /// What its users take turns with.
    #[inline(always)]
    pub fn turns<'a, K: Guts>(&self) -> &'a K::Turns {
        // SAFETY: all that is done to a channel is generic over its reach, which it was made with. The caller uses it while
        // the channel is there, as it does this pointer.
        unsafe { &(*self.0.as_ptr().cast::<Channel<K::Turns>>()).turns }
    }

    /// What the channel is called: its given name, or the type of its values.
    pub fn name(self) -> &'static str {
        match self.info.name_offset {
            // SAFETY: a type of channel with a name offset has its name there, written when it was made.
            Some(offset) => unsafe { self.0.as_ptr().cast::<u8>().add(offset).cast::<&'static str>().read() },
            None => (self.info.type_name)(),
        }
    }

    /// Who waits now. Only valid until anything else happens to the channel.
    #[inline(always)]
    pub fn who_waits(self) -> Waiting {
        Waiting(self.waiting.get())
    }

    /// The same as [`who_waits`](Self::who_waits).
    #[inline(always)]
    pub fn look_who_waits<K: Guts>(self) -> Waiting {
        Waiting(self.waiting.look::<K>())
    }

    /// The ring of those who wait, into which one that waits directly is put first.
    pub fn ring(self) -> Waiting {
        for direction in [Direction::Read, Direction::Write] {
            if let Some(fibre) = self.who_waits().directly(direction) {
                let offset = *direction.of(&self.info.direct_offsets);
                // SAFETY: the channel's block has the node of its first end for this direction there.
                let node = unsafe { NodeRef::new(self.0.as_ptr().cast::<u8>().add(offset).cast()) };
                node.fibre.set(Some(fibre));
                self.set_first(Some(node));
            }
        }
        self.who_waits()
    }

    fn set_first(self, first: Option<NodeRef>) {
        self.waiting.set(first.map_or(ptr::null(), |first| first.as_ptr().wrapping_byte_add(RING).cast()));
    }

    /// The first node that waits in this direction.
    pub fn first_waiting(self, direction: Direction) -> Option<NodeRef> {
        self.ring().first().filter(|first| first.direction() == direction)
    }

    /// How many endpoints can be used in this direction.
    fn ends(self, direction: Direction) -> u32 {
        direction.of(&self.ends).get() & LIVE
    }

    fn change_ends(self, direction: Direction, change: impl Fn(u32) -> u32) {
        let ends = direction.of(&self.ends);
        ends.set(change(ends.get()));
    }

    pub fn flags(self) -> u32 {
        self.ends[0].get() & !LIVE
    }

    pub fn set_flags(self, flags: u32) {
        self.ends[0].set(self.ends[0].get() & LIVE | flags);
    }

    /// Whether a wait in this direction could ever end: some endpoint could be its counterpart, other than itself.
    pub fn has_counterpart(self, direction: Direction) -> bool {
        let itself = u32::from(self.info.is_stuck.is_some());
        self.ends(direction.opposite()) > itself && self.flags() & IN_CLOSING == 0
    }

    /// Whether all endpoints have gone.
    fn is_abandoned(self) -> bool {
        self.ends(Direction::Read) == 0 && self.ends(Direction::Write) == 0
    }

    /// Puts a node at the end of the ring. None of the opposite direction is in there.
    fn link(self, node: NodeRef) {
        self.unmark();
        match self.ring().first() {
            None => self.set_first(Some(node)),
            Some(first) => {
                let last = first.prev.get();
                node.prev.set(last);
                node.next.set(first.as_ptr());
                first.prev.set(node.as_ptr());
                // SAFETY: a neighbour in the ring.
                unsafe { NodeRef::new(last) }.next.set(node.as_ptr());
            }
        }
    }

    /// Its fibres may not all be stuck any more.
    pub fn unmark(self) {
        self.set_flags(self.flags() & !STUCK);
        self.ends[1].set(self.ends[1].get() & !STUCK_BUT_ONE);
    }

    /// Takes a node out of the ring.
    fn unlink(self, node: NodeRef) {
        let (first, next) = (self.ring().first(), node.next());
        if next == node {
            return self.set_first(None);
        }
        let prev = node.prev.get();
        next.prev.set(prev);
        // SAFETY: a neighbour in the ring.
        unsafe { NodeRef::new(prev) }.next.set(next.as_ptr());
        node.next.set(node.as_ptr());
        node.prev.set(node.as_ptr());
        if first == Some(node) {
            self.set_first(Some(next));
        }
    }

    /// Marks the channel as sealed, or no longer, according to the counts. Called whenever they change, and whenever a wait
    /// ends without a meeting.
    fn seal(self) {
        if self.ring().first().is_none() {
            let is_open = self.has_counterpart(Direction::Read) && self.has_counterpart(Direction::Write);
            self.waiting.set(if is_open { ptr::null() } else { SEALED });
        }
    }

    /// A fibre that is being polled by its own process waits directly in `node`, where nobody waits yet.
    #[inline(always)]
    pub fn wait_directly(self, node: NodeRef, direction: Direction, state: State, fibre: FibreRef) {
        self.waiting.put::<Sequential>(fibre.as_ptr().wrapping_byte_add(direction.tag()).cast());
        fibre.add_wait();
        node.state.put::<Sequential>(state);
    }

    /// Who polls waits in `node`: the running fibre, a foreign task, or both.
    pub fn wait<K: Guts>(self, node: NodeRef, state: State, fibre: Option<FibreRef>, waker: Option<Waker>) {
        if let Some(fibre) = fibre {
            if K::IS_SHARED { fibre.status.add_wait_running() } else { fibre.add_wait() }
        }
        node.fibre.set(fibre);
        if let Some(waker) = waker {
            node.set_foreign(waker);
        }
        node.state.set(state);
        if K::IS_OPEN {
            self.note_inside(node, true);
        }
        self.link(node);
    }

    /// Who waited in a node that leaves the ring.
    fn take_waiter(self, node: NodeRef) -> Waiter {
        self.note_outside(node);
        Waiter { fibre: node.fibre(), waker: node.take_waker() }
    }

    /// Whether the wait in `node` already belongs to who polls it now.
    pub fn is_waiter<K: Guts>(self, node: NodeRef, waker: &Waker) -> bool {
        self.ring();
        let worker = K::worker(self);
        let is_own = worker.is_some_and(|worker| worker.owns(waker));
        let same_waker = if is_own { !node.is_foreign() } else { node.would_wake(waker) };
        same_waker && node.fibre() == worker.and_then(|worker| worker.current.get())
    }

    /// Ends the direct wait of `fibre` in `node` because its counterpart came, in the usual case: the fibre is parked, and
    /// waits for nothing else. Says whether that was so; otherwise nothing has changed. If it was, the node is `Done`, and
    /// the fibre is to be enqueued.
    #[inline(always)]
    #[must_use]
    pub fn meet_directly<K: Guts>(self, fibre: FibreRef, node: NodeRef) -> bool {
        // With several workers, who waits directly waits for nothing else (`begin_wait`).
        if !K::IS_SHARED && fibre.status.look::<K>() != 1 {
            return false;
        }
        fibre.status.put::<K>(QUEUED);
        self.waiting.put::<K>(ptr::null());
        node.state.set_done::<K>();
        true
    }

    /// Ends the wait in `node` because its counterpart came, in any case. Who waited is to be [woken](Self::wake) outside the
    /// lock.
    pub fn meet<K: Guts>(self, node: NodeRef) -> Waiter {
        self.unmark();
        self.unlink(node);
        let waiter = self.take_waiter(node);
        node.state.set_done::<K>();
        waiter
    }

    /// Makes the fibre ready that waited in a node which has left the ring. If this returns a waker, it is to be woken as soon
    /// as everything is in order.
    #[must_use]
    pub fn wake<K: Guts>(self, waiter: Waiter) -> Option<Waker> {
        if K::IS_OPEN {
            return waiter.waker;
        }
        let process = self.process();
        if let Some(fibre) = waiter.fibre {
            if K::IS_SHARED {
                process.wake_up::<K>(fibre, true);
            } else {
                let is_finished = fibre.flags() & FINISHED != 0;
                fibre.forget_wait::<K>(process);
                // The block of a finished one may be gone now.
                if !is_finished {
                    process.first_worker().ready(fibre);
                }
            }
        }
        waiter.waker
    }

    /// Ends the wait in `node` because its counterparts are gone. Says who waited, which way, and whether they want to
    /// be told. The fibre still counts the node.
    pub fn end_wait(self, node: NodeRef) -> (Waiter, Direction, bool) {
        let direction = node.direction();
        let wants_end = node.state.get() == State::WaitingOrEnd;
        let was_stuck = self.flags() & STUCK != 0;
        self.unmark();
        if was_stuck {
            self.ends[1].set(self.ends[1].get() | STUCK_BUT_ONE);
        }
        self.unlink(node);
        self.seal();
        let waiter = self.take_waiter(node);
        node.state.set(State::Dead);
        (waiter, direction, wants_end)
    }

    /// Takes a node that has left the ring off its fibre, and says what is left to it. If all who have an endpoint are stuck, its other
    /// waits here end with this one, in as many steps as the ring is long for each.
    pub fn lose_wait(self, fibre: FibreRef, is_stuck: bool) -> Lost {
        loop {
            let lost = fibre.status.lose_wait(is_stuck);
            if !is_stuck || lost != Lost::One(Woken::NotNow) {
                return lost;
            }
            let mut others = self.ring().nodes().filter(|node| node.fibre() == Some(fibre) && !node.is_foreign());
            let Some(node) = others.next() else { return lost };
            let _ = self.end_wait(node);
        }
    }

    /// Takes back the wait in `node`. Who waited is to be [told](Self::forget) outside the lock.
    pub fn withdraw(self, node: NodeRef) -> Waiter {
        node.state.set(State::Idle);
        if node.kind.get() & IN_REPORT != 0 {
            return Waiter { fibre: None, waker: None };
        }
        self.unmark();
        self.unlink(node);
        self.seal();
        self.take_waiter(node)
    }

    /// The wait that was taken back is none of its fibre's any more. The waker that is returned, if any, is to be dropped as
    /// soon as everything is in order.
    #[must_use]
    pub fn forget<K: Guts>(self, waiter: Waiter) -> Option<Waker> {
        if let Some(fibre) = waiter.fibre {
            let is_current = K::worker(self).and_then(|worker| worker.current.get()) == Some(fibre);
            // A parked fibre whose wait another one has taken back may have nothing left to wait for. It is polled once
            // more, and the scheduler then decides.
            if K::IS_SHARED && !is_current {
                self.process().wake_up::<K>(fibre, true);
            } else {
                let process = self.process();
                let is_finished = fibre.flags() & FINISHED != 0;
                fibre.forget_wait::<K>(process);
                // The block of a finished one may be gone now.
                if !K::IS_SHARED && !is_finished && fibre.status.get() == 0 && !is_current {
                    process.first_worker().ready(fibre);
                }
            }
        }
        waiter.waker
    }

    /// Counts another endpoint, for these directions. `None` if there are too many.
    pub fn add_endpoint<K: Guts>(self, directions: &[Direction]) -> Option<()> {
        if !K::IS_OPEN {
            self.process().channels.add_endpoints::<K>(1)?;
        }
        self.locked::<K, _>(|| {
            if K::IS_OPEN && directions.iter().any(|direction| self.ends(*direction) == LIVE) {
                return None;
            }
            for direction in directions {
                self.change_ends(*direction, |ends| ends + 1);
            }
            self.unmark();
            self.seal();
            Some(())
        })
    }

    /// An endpoint goes: one with these nodes, one for each of its directions, the first of which is where its block
    /// begins. What it held in its slots has been dropped, and nothing of it waits in a ring that matters.
    #[inline(never)]
    pub fn remove_endpoint<K: Guts>(self, nodes: &[NodeRef]) {
        if K::IS_SHARED {
            // Whether it has been left to the worker that holds one of its nodes.
            let is_left = self.locked::<K, _>(|| {
                let is_held = nodes.iter().any(|node| node.held.load(Ordering::Relaxed));
                if is_held {
                    nodes.iter().for_each(|node| node.kind.set(node.kind.get() | LEFT));
                }
                is_held
            });
            if is_left {
                return;
            }
        }
        if K::IS_OPEN {
            return self.remove_open_endpoint::<K>(nodes);
        }
        let process = self.process();
        process.channels.remove_endpoint::<K>();
        // Looked at now: as soon as this endpoint is not counted any more, another worker may release the channel, and the nodes
        // in it.
        let kinds = nodes.iter().fold(0, |kinds, node| kinds | node.kind.get());
        let endpoint_layout = self.info.endpoint_layout;
        let remove = || {
            let is_closing = self.flags() & IN_CLOSING != 0;
            for node in nodes {
                self.change_ends(node.direction(), |ends| ends - 1);
                if is_closing && let Some(reporting) = process.reporting.get() {
                    (reporting.note_holder)(self, node.direction());
                }
            }
            if self.ends[1].get() & STUCK_BUT_ONE != 0 {
                self.unmark();
                self.set_flags(self.flags() | STUCK);
            }
            if is_closing {
                return false;
            }
            if !self.is_abandoned() {
                self.seal();
            }
            self.is_abandoned()
        };
        // Whether the first who waits will have nobody left to wait for.
        let is_last_counterpart = || {
            self.flags() & IN_CLOSING == 0
                && self.ring().first().is_some_and(|first| {
                    let itself = u32::from(self.info.is_stuck.is_some());
                    let leaving = nodes.iter().any(|node| node.direction() == first.direction().opposite());
                    self.ends(first.direction().opposite()) <= itself + u32::from(leaving)
                })
        };
        // As long as this endpoint is counted, the channel stays.
        let removed = self.locked::<K, _>(|| if is_last_counterpart() { None } else { Some(remove()) });
        let is_last = removed.unwrap_or_else(|| {
            process.exclusive::<K, _>(|| {
                let is_last = self.locked::<K, _>(remove);
                if !is_last && self.locked::<K, _>(|| self.has_dead_wait()) {
                    self.dissolve::<K>();
                }
                is_last
            })
        });
        // The allocator is foreign code, so it comes last.
        if kinds & IN_REPORT != 0 {
            for node in nodes {
                node.kind.set(node.kind.get() | ORPHAN);
            }
        } else if kinds & OWN_BLOCK != 0
            && let Some(first) = nodes.first()
        {
            // SAFETY: `dup` made the block with this layout, and its endpoint is going.
            unsafe { process.deallocate(first.block(0), endpoint_layout) };
        }
        if is_last {
            process.exclusive::<K, _>(|| process.channels.remove(self));
            // SAFETY: `init`'s caller got the block from this process with this layout; no endpoint refers to it any more.
            unsafe { process.deallocate(self.0.cast(), self.info.layout) };
        }
    }
}
