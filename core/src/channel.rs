//! A channel: one block that holds who waits, the counts of its ends, and the nodes of its first two endpoints. Nothing
//! here knows the type of the values.

use core::marker::PhantomData;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::task::Waker;

use fibra_allocators::Layout;

use crate::crew::{Begun, DISSOLVE};
use crate::fibre::{FINISHED, FibreRef, HAS_CELL, LIVE, Lost, QUEUED, Woken};
use crate::node::{
    Direction, IN_REPORT, INSIDE, LEFT, Node, NodeRef, ORPHAN, OWN_BLOCK, REPORTED, State, WRITER, Waiter,
};
use crate::process::ProcessRef;
use crate::reach::{Guts, Sequential};
use crate::sync::word::AtomicPtr;
use crate::sync::{Alone, Cell, Ordering};
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

/// How the untyped code reaches the allocator of an open channel, which is in its block.
pub(crate) struct Memory {
    pub allocate: fn(ChannelRef, Layout) -> Option<NonNull<u8>>,
    pub deallocate: unsafe fn(ChannelRef, NonNull<u8>, Layout),
    /// Has the wake cell of a node's waker count that it waits inside, or no longer; `false` if it has none. And whether its process
    /// is to look again.
    pub count_inside: fn(NodeRef, bool, bool) -> bool,
    /// Releases the channel's own block, and drops the handle in it.
    pub free: unsafe fn(ChannelRef),
    pub outsiders: for<'a> fn(&'a ChannelRef) -> &'a Outsiders,
}

/// Which ends of an open channel are outside of processes. Under the channel's lock.
pub(crate) struct Outsiders {
    /// How many: readers and writers.
    pub ends: [Cell<u32>; 2],
    /// Whose processes the others are inside of.
    pub group: Cell<usize>,
}

impl Outsiders {
    pub fn new() -> Self {
        Outsiders { ends: [Cell::new(1), Cell::new(1)], group: Cell::new(0) }
    }
}

/// The tag of a channel's `waiting` while it holds a ring.
const RING: usize = 4;
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

/// Where a channel keeps who waits: changed under its lock, and looked at without.
struct Waits(AtomicPtr<()>);

impl Waits {
    #[inline(always)]
    fn get(&self) -> *const () {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn set(&self, waiting: *const ()) {
        self.0.store(waiting.cast_mut(), Ordering::Relaxed);
    }

    /// The same as [`get`](Self::get).
    #[inline(always)]
    fn look<K: Guts>(&self) -> *const () {
        // SAFETY: a channel that is not shared is used by one thread.
        if K::IS_SHARED { self.get() } else { unsafe { self.0.load_alone() } }
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    fn put<K: Guts>(&self, waiting: *const ()) {
        if K::IS_SHARED {
            self.set(waiting);
        } else {
            // SAFETY: as above.
            unsafe { self.0.store_alone(waiting.cast_mut()) }
        }
    }

    fn replace(&self, waiting: *const ()) -> *const () {
        let before = self.get();
        self.set(waiting);
        before
    }
}

/// Who waits on a channel, as it was read once.
#[derive(Clone, Copy)]
pub(crate) struct Waiting(*const ());

impl Waiting {
    /// The fibre that waits directly in this direction.
    #[inline(always)]
    pub fn directly(self, direction: Direction) -> Option<FibreRef> {
        if self.0.addr() & direction.tag() != 0 {
            let fibre = self.0.wrapping_byte_sub(direction.tag()).cast_mut().cast();
            // SAFETY: with this tag it is a fibre, moved by the tag; the fibre counts the node that it waits in.
            Some(unsafe { FibreRef::new(NonNull::new_unchecked(fibre)) })
        } else {
            None
        }
    }

    /// Whether nobody waits, but somebody could come.
    #[inline(always)]
    pub fn is_open_and_empty(self) -> bool {
        self.0.is_null()
    }

    /// Whether a fibre waits directly in this direction. For a look without the lock.
    #[inline(always)]
    pub fn is_direct(self, direction: Direction) -> bool {
        self.0.addr() & direction.tag() != 0
    }

    /// The first node of the ring, if there is one.
    pub fn first(self) -> Option<NodeRef> {
        // SAFETY: with this tag it is a node in the ring, moved by the tag.
        (self.0.addr() & RING != 0).then(|| unsafe { NodeRef::new(self.0.wrapping_byte_sub(RING).cast()) })
    }

    /// The nodes of the ring, in order.
    pub fn nodes(self) -> impl Iterator<Item = NodeRef> {
        let first = self.first();
        core::iter::successors(first, move |node| Some(node.next()).filter(|next| Some(*next) != first))
    }
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
                    waiting: Waits(AtomicPtr::new(ptr::null_mut())),
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

    /// Begins the wait that `fibre` posted, now that its poll has returned, if it waits for nothing else, and nobody else waits
    /// here. From then on it belongs to who meets it. `false` if nothing has changed.
    #[inline(always)]
    #[must_use]
    pub fn begin_direct_wait<K: Guts>(
        self,
        worker: WorkerRef,
        fibre: FibreRef,
        node: NodeRef,
        waiting: State,
        tag: u8,
    ) -> bool {
        self.locked_on::<K, _>(worker, || {
            let is_usual = self.who_waits().is_open_and_empty() && node.state.get() == State::Posted;
            if is_usual {
                self.waiting.set(fibre.as_ptr().wrapping_byte_add(usize::from(tag)).cast());
                node.state.set(waiting);
            }
            is_usual
        })
    }

    /// The same in all cases.
    pub fn begin_wait<K: Guts>(self, fibre: FibreRef, node: NodeRef, waiting: State) -> Begun {
        self.locked::<K, _>(|| self.begin_wait_locked(fibre, node, waiting))
    }

    fn begin_wait_locked(self, fibre: FibreRef, node: NodeRef, waiting: State) -> Begun {
        let direction = node.direction();
        let begun = if node.kind.get() & LEFT != 0 {
            if self.is_held_elsewhere(node) { Begun::TakenBack } else { Begun::Left }
        } else if node.state.get() != State::Posted {
            Begun::TakenBack
        } else if self.first_waiting(direction.opposite()).is_some() {
            node.state.set(if direction == Direction::Write { State::Loaded } else { State::Idle });
            Begun::Again
        } else if !self.has_counterpart(direction) {
            node.state.set(State::Dead);
            let reporting = self.process().reporting.get().filter(|_| waiting == State::Waiting);
            Begun::Dead(reporting.map(|reporting| (reporting.name)(self)), direction)
        } else {
            node.fibre.set(Some(fibre));
            node.state.set(waiting);
            self.link(node);
            Begun::Waits
        };
        node.held.store(false, Ordering::Release);
        begun
    }

    /// Who holds a node lets it go, and takes back what was posted, unless somebody has done so. Says whether its endpoint
    /// is to be removed, because its owner has left it.
    pub fn unhold<K: Guts>(self, node: NodeRef) -> bool {
        self.locked::<K, _>(|| {
            if node.state.get() == State::Posted {
                node.state.set(if node.direction() == Direction::Write { State::Loaded } else { State::Idle });
            }
            node.held.store(false, Ordering::Release);
            node.kind.get() & LEFT != 0 && !self.is_held_elsewhere(node)
        })
    }

    /// Whether another worker holds the other node of this one's endpoint: then that one removes an endpoint that has been left.
    /// The lock is held.
    fn is_held_elsewhere(self, node: NodeRef) -> bool {
        self.info.is_stuck.is_some()
            && self.nodes_of(node).into_iter().any(|other| other != node && other.held.load(Ordering::Relaxed))
    }

    /// The nodes of the two-way endpoint that this one is of.
    fn nodes_of(self, node: NodeRef) -> [NodeRef; 2] {
        // SAFETY: the nodes of a two-way endpoint are in one `Slots`, this far from each other.
        unsafe {
            let (this, offset) = (node.as_ptr().cast::<u8>(), self.info.writer_offset);
            match node.direction() {
                Direction::Read => [node, NodeRef::new(this.add(offset).cast())],
                Direction::Write => [NodeRef::new(this.sub(offset).cast()), node],
            }
        }
    }

    /// Removes the endpoint of a node whose owner has left it to who held the node; or leaves it to who holds its other one.
    pub fn remove_left<K: Guts>(self, node: NodeRef) {
        if self.info.is_stuck.is_none() {
            return self.remove_endpoint::<K>(&[node]);
        }
        self.remove_endpoint::<K>(&self.nodes_of(node));
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

    /// The waker of this node is about to go.
    fn note_outside(self, node: NodeRef) {
        if node.kind.get() & INSIDE != 0
            && let Some(memory) = self.info.memory
        {
            node.kind.set(node.kind.get() & !INSIDE);
            (memory.count_inside)(node, false, false);
        }
    }

    /// Puts another waker in the place of the one that waits on an open channel. The lock is held.
    pub fn change_waker(self, node: NodeRef, new: Waker) -> Option<Waker> {
        self.note_outside(node);
        let old = node.take_waker();
        node.set_foreign(new);
        self.note_inside(node, true);
        old
    }

    /// Notes whether all counterparts of a node that waits on an open channel are inside of processes. If its process may wait
    /// already (the wait is not new), that one is to look again.
    fn note_inside(self, node: NodeRef, is_new: bool) -> Option<()> {
        let memory = self.info.memory?;
        let outsiders = node.direction().opposite().of(&(memory.outsiders)(&self).ends).get();
        let (was_inside, is_inside) = (node.kind.get() & INSIDE != 0, outsiders == 0);
        if was_inside != is_inside && (memory.count_inside)(node, is_inside, !is_new) {
            node.kind.set(node.kind.get() ^ INSIDE);
        }
        Some(())
    }

    /// An end of an open channel leaves the outside, or comes there. Takes a step for each end that waits, if it was the last or
    /// is the first.
    pub fn change_outsiders<K: Guts>(self, direction: Direction, change: impl FnOnce(&Outsiders, &Cell<u32>)) {
        let Some(memory) = self.info.memory else { return };
        self.locked::<K, _>(|| {
            let outsiders = (memory.outsiders)(&self);
            let ends = direction.of(&outsiders.ends);
            let before = ends.get();
            change(outsiders, ends);
            if (before == 0) != (ends.get() == 0)
                && let Some(first) = self.ring().first()
                && first.direction() == direction.opposite()
            {
                self.who_waits().nodes().for_each(|node| {
                    self.note_inside(node, false);
                });
            }
        });
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

    /// The same of an open channel, which no scheduler looks after: who goes last ends the waits of the others, in as many steps
    /// as there are.
    fn remove_open_endpoint<K: Guts>(self, nodes: &[NodeRef]) {
        let Some(memory) = self.info.memory else { return };
        let mut leaving = [0; 2];
        let mut kinds = 0;
        for node in nodes {
            leaving[node.direction() as usize] = 1;
            kinds |= node.kind.get();
        }
        // As long as the endpoint is counted, the channel stays, and the allocator in it.
        if kinds & OWN_BLOCK != 0
            && let Some(first) = nodes.first()
        {
            // SAFETY: `dup` made the block with this layout, and its endpoint is going.
            unsafe { (memory.deallocate)(self, first.block(0), self.info.endpoint_layout) };
        }
        self.end_open_waits::<K>(memory, leaving, false);
    }

    /// Counts endpoints that have left, ends the waits of those who have lost their last counterpart by that, and releases the
    /// channel with its last endpoint. `is_mine`: this has been begun here, and goes on.
    fn end_open_waits<K: Guts>(self, memory: &'static Memory, mut leaving: [u32; 2], mut is_mine: bool) {
        /// Goes on when a foreign waker panics: nobody else would. If another one panics meanwhile, that aborts.
        struct GoOn<K: Guts>(ChannelRef, &'static Memory, PhantomData<K>);
        impl<K: Guts> Drop for GoOn<K> {
            fn drop(&mut self) {
                self.0.end_open_waits::<K>(self.1, [0; 2], true);
            }
        }

        loop {
            let (ended, is_last) = self.locked::<K, _>(|| {
                for (ends, leaving) in self.ends.iter().zip(&mut leaving) {
                    ends.set(ends.get() - core::mem::take(leaving));
                }
                self.seal();
                if self.flags() & DISSOLVING != 0 && !is_mine {
                    // Another one does, and releases the channel if it is the last.
                    return (None, false);
                }
                let first = self.ring().first().filter(|first| !self.has_counterpart(first.direction()));
                is_mine = first.is_some();
                self.set_flags(if is_mine { DISSOLVING } else { 0 });
                (first.map(|first| self.end_wait(first)), !is_mine && self.is_abandoned())
            });
            if is_last {
                // SAFETY: no endpoint is left, and nobody is about to come back to it.
                return unsafe { (memory.free)(self) };
            }
            let Some((waiter, _, wants_end)) = ended else { return };
            let go_on = GoOn::<K>(self, memory, PhantomData);
            if let Some(waker) = waiter.waker
                && wants_end
            {
                waker.wake();
            }
            core::mem::forget(go_on);
        }
    }

    /// Whether somebody waits whose last counterpart has gone.
    fn has_dead_wait(self) -> bool {
        self.flags() & IN_CLOSING == 0
            && self.ring().first().is_some_and(|first| !self.has_counterpart(first.direction()))
    }

    /// Has the scheduler end all waits on this channel. The process's own lock is held.
    pub fn dissolve<K: Guts>(self) {
        let process = self.process();
        self.locked::<K, _>(|| self.set_flags(self.flags() | DISSOLVING));
        process.channels.to_front(self);
        if K::IS_SHARED {
            process.crew.call(DISSOLVE);
        } else {
            process.enqueue_marker(&process.dissolver);
        }
    }

    /// Whether every endpoint belongs to a fibre that is parked here, waits in the same direction, and for nothing else.
    /// Takes a step for each of them.
    pub fn is_stuck(self) -> bool {
        let ring = self.ring();
        let fibres = || ring.nodes().filter_map(NodeRef::fibre);
        // While each fibre's waits here are not counted, one that is parked and waits for nothing else counts none.
        fibres().for_each(|fibre| fibre.status.set(fibre.status.get() - 1));
        let is_dead = |fibre: &FibreRef| {
            fibre.status.get() & !HAS_CELL == 0 && !fibre.wake_cell().is_some_and(|cell| cell.is_live())
        };
        let stuck = fibres().take_while(is_dead).count();
        fibres().for_each(|fibre| fibre.status.set(fibre.status.get() + 1));
        stuck != 0 && stuck == self.ends(Direction::Read) as usize
    }

    /// The next wait that is to be ended here, if there is (still) one: any, if the last counterpart has gone; if all
    /// endpoints are stuck (`true`), one that wants to be told of the end, because its fibre may then go on with another.
    ///
    /// With several workers, whether they are stuck is only known from [`mark_if_stuck`](Self::mark_if_stuck).
    pub fn next_to_end<K: Guts>(self) -> Option<(NodeRef, bool)> {
        let first = self.ring().first()?;
        if !self.has_counterpart(first.direction()) {
            return Some((first, false));
        }
        // Found out once; whatever happens to the ring meanwhile takes the mark away.
        if self.flags() & STUCK == 0 && (K::IS_SHARED || !self.mark_if_stuck()) {
            return None;
        }
        Some((self.ring().first()?, true))
    }

    /// Finds out whether all endpoints are stuck, and marks the channel if so: then the first of the ring is one that wants to
    /// be told of the end, if there is one. Only called while no fibre runs on another worker.
    pub fn mark_if_stuck(self) -> bool {
        let Some(is_stuck) = self.info.is_stuck else { return false };
        if !is_stuck(self) {
            return false;
        }
        let wants_end = |node: &NodeRef| node.state.get() == State::WaitingOrEnd;
        if let Some(node) = self.ring().nodes().find(wants_end) {
            // The ring is a circle: only where it begins has changed.
            self.set_first(Some(node));
        }
        self.set_flags(self.flags() | STUCK);
        true
    }
}

/// The end of a process, seen from a channel. The ring that waits at that time is set aside for the report.
impl ChannelRef {
    /// Sets the ring aside, shows who waits in it, and makes sure that nobody meets here any more.
    pub fn freeze(self, process: ProcessRef, mut each: impl FnMut(FibreRef)) {
        self.set_flags(IN_CLOSING);
        for node in self.ring().nodes() {
            node.kind.set(node.kind.get() | IN_REPORT);
            match node.fibre() {
                // It ended long ago; only its block is still there.
                Some(fibre) if fibre.flags() & FINISHED != 0 => {
                    node.fibre.set(None);
                    fibre.forget_wait::<Sequential>(process);
                }
                Some(fibre) => each(fibre),
                None => {}
            }
        }
        // The frozen list needs `prev` no more: no channel leaves it before the end.
        self.prev.set(self.waiting.replace(SEALED).cast());
    }

    /// The ring that was set aside. A frozen ring keeps its nodes.
    fn frozen_ring(self) -> Waiting {
        Waiting(if self.flags() & IN_CLOSING != 0 { self.prev.get().cast() } else { ptr::null() })
    }

    /// If the fibre that is being destroyed held the other end of a frozen wait, one that could be used in this direction,
    /// it is noted.
    pub fn note_holder(self, direction: Direction) {
        let ring = self.frozen_ring();
        if let (Some(first), Some(dying)) = (ring.first(), self.process().dying.get())
            && first.direction() == direction.opposite()
            && first.prev.get().addr() & 1 == 0
        {
            // Nothing is taken out of a frozen ring, so `prev` is free: it holds the fibre, tagged.
            first.prev.set(dying.as_ptr().cast::<Node>().wrapping_byte_add(1));
        }
    }

    fn holder(self) -> Option<FibreRef> {
        let note = self.frozen_ring().first()?.prev.get();
        // SAFETY: a tagged `prev` was set by `note_holder`; frozen fibres keep their blocks until the report is done.
        (note.addr() & 1 != 0)
            .then(|| unsafe { FibreRef::new(NonNull::new_unchecked(note.wrapping_byte_sub(1).cast_mut().cast())) })
    }

    /// Shows each frozen wait, once: the fibre, the direction, and who held the other end.
    pub fn for_each_frozen(self, mut each: impl FnMut(FibreRef, Direction, Option<FibreRef>)) {
        let ring = self.frozen_ring();
        let holder = self.holder();
        for node in ring.nodes() {
            if node.kind.replace(node.kind.get() | REPORTED) & REPORTED != 0 {
                continue;
            }
            if let Some(fibre) = node.fibre() {
                each(fibre, node.direction(), holder);
            }
        }
    }

    /// Takes the next waker out of the frozen ring, so that it can be dropped.
    pub fn take_frozen_waker(self) -> Option<Waker> {
        self.frozen_ring().nodes().find_map(NodeRef::take_waker)
    }

    /// Releases what only the report needed, and the channel itself unless an endpoint of it was forgotten.
    pub fn thaw(self) {
        let process = self.process();
        let ring = self.frozen_ring();
        let mut rest = ring.nodes().count();
        let mut next = ring.first();
        while let Some(node) = next.filter(|_| rest > 0) {
            rest -= 1;
            next = Some(node.next());
            if node.kind.get() & (ORPHAN | OWN_BLOCK) == ORPHAN | OWN_BLOCK {
                let offset = if node.kind.get() & WRITER != 0 { self.info.writer_offset } else { 0 };
                // SAFETY: the node is `offset` bytes into the block that `dup` made for its endpoint, which is gone.
                unsafe { process.deallocate(node.block(offset), self.info.endpoint_layout) };
            }
        }
        if self.is_abandoned() {
            // SAFETY: `init`'s caller got the block from this process with this layout; no endpoint refers to it.
            unsafe { process.deallocate(self.0.cast(), self.info.layout) };
        }
    }
}
