//! A channel: one block that holds who waits, the counts of its ends, and the nodes of its first two endpoints. Nothing
//! here knows the type of the values.

use core::cell::Cell;
use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::task::Waker;

use fibra_allocators::Layout;

use crate::fibre::{FINISHED, FibreRef, LIVE, QUEUED};
use crate::node::{Direction, IN_REPORT, Node, NodeRef, ORPHAN, OWN_BLOCK, REPORTED, State, WRITER, Waiter};
use crate::process::ProcessRef;
use fibra_allocators::Lock;

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
    waiting: Cell<*const ()>,
    pub process: ProcessRef,
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
    pub lock: L,
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
    /// `block` is allocated from `process` with the layout of `info`.
    pub unsafe fn init<L: Lock>(block: NonNull<u8>, process: ProcessRef, info: &'static Info) -> Self {
        let front = block.cast::<Channel<L>>();
        // SAFETY: the block is large enough: a channel's front is its first field.
        unsafe {
            front.write(Channel {
                core: ChannelCore {
                    waiting: Cell::new(ptr::null()),
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
                lock: L::NEW,
            });
        }
        let channel = ChannelRef(block.cast());
        process.channels.insert(channel);
        channel
    }

    /// The lock of a channel that was made with the lock `L`.
    ///
    /// # Safety
    /// It was.
    #[inline(always)]
    pub unsafe fn lock<'a, L: Lock>(self) -> &'a L {
        // SAFETY: the caller's promise; the endpoint that asks keeps the channel.
        unsafe { &(*self.0.as_ptr().cast::<Channel<L>>()).lock }
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

    /// The ring of those who wait, into which one that waits directly is put first.
    pub fn ring(self) -> Waiting {
        for direction in [Direction::Read, Direction::Write] {
            if let Some(fibre) = self.who_waits().directly(direction) {
                let offset = self.info.direct_offsets[direction as usize];
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
        self.ends[direction as usize].get() & LIVE
    }

    fn change_ends(self, direction: Direction, change: impl Fn(u32) -> u32) {
        let ends = &self.ends[direction as usize];
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
        self.waiting.set(fibre.as_ptr().wrapping_byte_add(direction.tag()).cast());
        fibre.add_wait();
        node.state.set(state);
    }

    /// A fibre that is being polled by its own process waits in `node`.
    pub fn wait(self, node: NodeRef, state: State, fibre: FibreRef) {
        fibre.add_wait();
        node.fibre.set(Some(fibre));
        node.state.set(state);
        self.link(node);
    }

    /// A foreign task waits in `node`; if a fibre of this process is running, it is the one that polls.
    pub fn wait_foreign(self, node: NodeRef, state: State, waker: Waker) {
        let fibre = self.process.current.get();
        if let Some(fibre) = fibre {
            fibre.add_wait();
        }
        node.fibre.set(fibre);
        node.set_foreign(waker);
        node.state.set(state);
        self.link(node);
    }

    /// Whether the wait in `node` already belongs to who polls it now.
    pub fn is_waiter(self, node: NodeRef, waker: &Waker) -> bool {
        self.ring();
        let same_waker = if self.process.owns(waker) { !node.is_foreign() } else { node.would_wake(waker) };
        same_waker && node.fibre() == self.process.current.get()
    }

    /// Ends the direct wait of `fibre` in `node` because its counterpart came, in the usual case: the fibre is parked, and
    /// waits for nothing else. Says whether that was so; otherwise nothing has changed. If it was, the node is `Done`, and
    /// the fibre ready.
    #[inline(always)]
    #[must_use]
    pub fn meet_directly(self, fibre: FibreRef, node: NodeRef) -> bool {
        if fibre.status.get() != 1 {
            return false;
        }
        fibre.status.set(QUEUED);
        self.waiting.set(ptr::null());
        node.state.set(State::Done);
        self.process.enqueue(fibre);
        true
    }

    /// Ends the wait in `node` because its counterpart came, in any case. If this returns a waker, it is to be woken as
    /// soon as everything is in order.
    #[must_use]
    pub fn meet(self, node: NodeRef) -> Option<Waker> {
        self.unmark();
        self.unlink(node);
        node.state.set(State::Done);
        let waker = node.take_waker();
        if let Some(fibre) = node.fibre() {
            let is_finished = fibre.flags() & FINISHED != 0;
            fibre.forget_wait(self.process);
            // The block of a finished one may be gone now.
            if !is_finished {
                self.process.ready(fibre);
            }
        }
        waker
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
        node.state.set(State::Dead);
        (Waiter { fibre: node.fibre(), waker: node.take_waker() }, direction, wants_end)
    }

    /// Takes back the wait in `node`. The waker that is returned, if any, is to be dropped as soon as everything is in
    /// order.
    #[cold]
    #[inline(never)]
    #[must_use]
    pub fn withdraw(self, node: NodeRef) -> Option<Waker> {
        node.state.set(State::Idle);
        if node.kind.get() & IN_REPORT != 0 {
            return None;
        }
        self.unmark();
        self.unlink(node);
        self.seal();
        let waker = node.take_waker();
        if let Some(fibre) = node.fibre() {
            let is_finished = fibre.flags() & FINISHED != 0;
            fibre.forget_wait(self.process);
            // A parked fibre whose wait another one has taken back may have nothing left to wait for. It is polled once
            // more, and the scheduler then decides. (The block of a finished one may be gone now.)
            if !is_finished && fibre.status.get() == 0 && self.process.current.get() != Some(fibre) {
                self.process.ready(fibre);
            }
        }
        waker
    }

    /// Counts another endpoint, for these directions. `None` if there are too many.
    pub fn add_endpoint(self, directions: &[Direction]) -> Option<()> {
        self.process.channels.add_endpoints(1)?;
        for direction in directions {
            self.change_ends(*direction, |ends| ends + 1);
        }
        self.unmark();
        self.seal();
        Some(())
    }

    /// An endpoint goes: one with these nodes, one for each of its directions, the first of which is where its block
    /// begins. What it held in its slots has been dropped, and nothing of it waits in a ring that matters.
    #[inline(never)]
    pub fn remove_endpoint(self, nodes: &[NodeRef]) {
        let process = self.process;
        let is_closing = self.flags() & IN_CLOSING != 0;
        process.channels.endpoints.set(process.channels.endpoints.get() - 1);
        let mut kinds = 0;
        for node in nodes {
            kinds |= node.kind.get();
            self.change_ends(node.direction(), |ends| ends - 1);
            if is_closing && let Some(reporting) = process.reporting.get() {
                (reporting.note_holder)(self, node.direction());
            }
        }
        if self.ends[1].get() & STUCK_BUT_ONE != 0 {
            self.unmark();
            self.set_flags(self.flags() | STUCK);
        }
        let is_last = self.is_abandoned() && !is_closing;
        if !is_last && !is_closing {
            self.seal();
            if self.ring().first().is_some_and(|first| !self.has_counterpart(first.direction())) {
                self.dissolve();
            }
        }
        // The allocator is foreign code, so it comes last.
        if kinds & IN_REPORT != 0 {
            for node in nodes {
                node.kind.set(node.kind.get() | ORPHAN);
            }
        } else if kinds & OWN_BLOCK != 0 {
            // SAFETY: `dup` made the block with this layout, and its endpoint is going.
            unsafe { process.deallocate(nodes[0].block(0), self.info.endpoint_layout) };
        }
        if is_last {
            self.free();
        }
    }

    /// Has the scheduler end all waits on this channel.
    pub fn dissolve(self) {
        let process = self.process;
        self.set_flags(self.flags() | DISSOLVING);
        process.channels.to_front(self);
        process.enqueue_marker(&process.dissolver);
    }

    /// Releases the channel's block. No endpoint is left.
    fn free(self) {
        let process = self.process;
        process.channels.remove(self);
        // SAFETY: `init`'s caller got the block from this process with this layout; no endpoint refers to it any more.
        unsafe { process.deallocate(self.0.cast(), self.info.layout) };
    }

    /// Whether every endpoint belongs to a fibre that is parked here, waits in the same direction, and for nothing else.
    /// Takes a step for each of them.
    pub fn is_stuck(self) -> bool {
        let ring = self.ring();
        let fibres = || ring.nodes().filter_map(NodeRef::fibre);
        // While each fibre's waits here are not counted, one that is parked and waits for nothing else counts none.
        fibres().for_each(|fibre| fibre.status.set(fibre.status.get() - 1));
        let is_dead =
            |fibre: &FibreRef| fibre.status.get() == 0 && !fibre.wake_cell().is_some_and(|cell| cell.is_live());
        let stuck = fibres().take_while(is_dead).count();
        fibres().for_each(|fibre| fibre.status.set(fibre.status.get() + 1));
        stuck != 0 && stuck == self.ends(Direction::Read) as usize
    }

    /// The next wait that is to be ended here, if there is (still) one: any, if the last counterpart has gone; if all
    /// endpoints are stuck (`true`), one that wants to be told of the end, because its fibre may then go on with another.
    pub fn next_to_end(self) -> Option<(NodeRef, bool)> {
        let first = self.ring().first()?;
        if !self.has_counterpart(first.direction()) {
            return Some((first, false));
        }
        // Found out once; whatever happens to the ring meanwhile takes the mark away.
        if self.flags() & STUCK == 0 {
            let is_stuck = self.info.is_stuck?;
            if !is_stuck(self) {
                return None;
            }
            let wants_end = |node: &NodeRef| node.state.get() == State::WaitingOrEnd;
            if let Some(node) = self.ring().nodes().find(wants_end) {
                return Some((node, true));
            }
            self.set_flags(self.flags() | STUCK);
        }
        Some((first, true))
    }
}

/// The end of a process, seen from a channel. The ring that waits at that time is set aside for the report.
impl ChannelRef {
    /// Sets the ring aside, shows who waits in it, and makes sure that nobody meets here any more.
    pub fn freeze(self, mut each: impl FnMut(FibreRef)) {
        self.set_flags(IN_CLOSING);
        for node in self.ring().nodes() {
            node.kind.set(node.kind.get() | IN_REPORT);
            match node.fibre() {
                // It ended long ago; only its block is still there.
                Some(fibre) if fibre.flags() & FINISHED != 0 => {
                    node.fibre.set(None);
                    fibre.forget_wait(self.process);
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
        if let (Some(first), Some(dying)) = (ring.first(), self.process.dying.get())
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
        let process = self.process;
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
