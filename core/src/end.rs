//! One end of a channel for one direction: what the endpoints and their operations are made of.

use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use fibra_allocators::{AllocError, Layout};

use crate::channel::{Channel, ChannelRef, Info, Waiting};
use crate::node::{Direction, Node, NodeRef, OWN_BLOCK, State, WRITER};
use fibra_allocators::Lock;

/// A node and the place for one value on its way.
#[repr(C)]
pub(crate) struct Slot<T> {
    pub node: Node,
    pub value: UnsafeCell<MaybeUninit<T>>,
}

/// The nodes of a two-way endpoint: a slot for each direction.
#[repr(C)]
pub(crate) struct Slots<T> {
    pub reader: Slot<T>,
    pub writer: Slot<T>,
}

/// The block of a directional channel.
#[repr(C)]
pub(crate) struct Pair<T, L, N> {
    pub channel: Channel<L>,
    pub writer: Slot<T>,
    pub reader: Slot<T>,
    pub name: N,
}

/// The block of a two-way channel.
#[repr(C)]
pub(crate) struct TwoWay<T, L, N> {
    pub channel: Channel<L>,
    pub ends: [Slots<T>; 2],
    pub name: N,
}

/// A channel's block, for values of type `T`, with the lock `L`, and with a name if `N` is one.
pub(crate) struct Blocks<T, L, N>(PhantomData<(T, L, N)>);

impl<T, L: Lock, N> Blocks<T, L, N> {
    const IS_NAMED: bool = size_of::<N>() != 0;
    /// The same with and without a name, which comes last.
    const READER: usize = core::mem::offset_of!(Pair<T, L, N>, reader);
    const WRITER: usize = core::mem::offset_of!(Pair<T, L, N>, writer);
    pub const PAIR: &'static Info = &Info {
        type_name: core::any::type_name::<T>,
        layout: Layout::new::<Pair<T, L, N>>(),
        endpoint_layout: Layout::new::<Slot<T>>(),
        name_offset: if Self::IS_NAMED { Some(core::mem::offset_of!(Pair<T, L, N>, name)) } else { None },
        direct_offsets: [Self::READER, Self::WRITER],
        writer_offset: 0,
        is_stuck: None,
    };
    pub const TWO_WAY: &'static Info = &Info {
        type_name: core::any::type_name::<T>,
        layout: Layout::new::<TwoWay<T, L, N>>(),
        endpoint_layout: Layout::new::<Slots<T>>(),
        name_offset: if Self::IS_NAMED { Some(core::mem::offset_of!(TwoWay<T, L, N>, name)) } else { None },
        direct_offsets: [0; 2], // none may wait directly
        writer_offset: core::mem::offset_of!(Slots<T>, writer),
        is_stuck: Some(ChannelRef::is_stuck),
    };
}

/// One end of a channel for one direction: a slot and its channel.
///
/// Invariant: the slot belongs to this end alone, and both it and the channel's block stay allocated until
/// `ChannelRef::remove_endpoint` has been called for the endpoint that this is (a part of).
pub(crate) struct End<'p, T, L> {
    pub slot: NonNull<Slot<T>>,
    pub channel: ChannelRef,
    /// Invariant in `T` and `'p`; owns values; neither `Send` nor `Sync`.
    pub marker: PhantomData<(Cell<&'p ()>, Cell<T>, *const L)>,
}

impl<T, L: Lock> End<'_, T, L> {
    /// # Safety
    /// `slot` holds an initialised node, belongs to no other end, and to an endpoint that is counted in `channel`, which
    /// was made for `T` and `L`.
    pub unsafe fn new(slot: *mut Slot<T>, channel: ChannelRef) -> Self {
        // SAFETY: a slot in an allocated block has an address.
        End { slot: unsafe { NonNull::new_unchecked(slot) }, channel, marker: PhantomData }
    }

    #[inline(always)]
    pub fn node(&self) -> NodeRef {
        // SAFETY: the type's invariant: the slot is allocated, and its node initialised.
        unsafe { NodeRef::new(self.slot.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn lock(&self) -> &L {
        // SAFETY: the channel was made with the lock `L` (contract of `new`).
        unsafe { self.channel.lock() }
    }

    /// The place of the value behind any node of this channel.
    #[inline(always)]
    pub fn value_of(node: NodeRef) -> *mut T {
        let slot = node.as_ptr().cast::<Slot<T>>();
        // SAFETY: a `NodeRef` may reach its whole slot, and all slots of this channel are for `T`; no reference is made.
        unsafe { (&raw const (*slot).value).cast_mut().cast() }
    }

    #[inline(always)]
    pub fn value(&self) -> *mut T {
        Self::value_of(self.node())
    }

    /// Takes the value that was delivered here.
    #[inline(always)]
    pub fn claim(&mut self) -> T {
        self.node().state.set(State::Idle);
        // SAFETY: only called in `Done` of a reader: the value is in the slot, and with `Idle` it counts as moved out.
        unsafe { self.value().read() }
    }

    /// Takes back a write, and drops its value unless it was delivered.
    #[cold]
    #[inline(never)]
    pub fn clear_write(&mut self) {
        if self.take_back() {
            // SAFETY: `take_back` says that the value is in the slot, and nothing else will take it from there.
            unsafe { self.value().drop_in_place() };
        }
    }

    /// Takes back a write: the value, unless it was delivered.
    pub fn take_undelivered(&mut self) -> Option<T> {
        // SAFETY: as in `clear_write`.
        self.take_back().then(|| unsafe { self.value().read() })
    }

    /// Takes back a write. Says whether its value is in the slot, which counts as empty from now on.
    pub fn take_back(&mut self) -> bool {
        let node = self.node();
        let has_value = !matches!(node.state.get(), State::Idle | State::Done);
        if node.state.get() == State::Dead {
            self.forget_dead_wait();
        }
        let waker = if node.is_waiting() { self.lock().with(|| self.channel.withdraw(node)) } else { None };
        node.state.set(State::Idle);
        /// Drops the value if the foreign waker's destructor panics.
        struct Unclaimed<'a, 'p, T, L: Lock>(&'a mut End<'p, T, L>, bool);
        impl<T, L: Lock> Drop for Unclaimed<'_, '_, T, L> {
            fn drop(&mut self) {
                if self.1 {
                    // SAFETY: the value is in the slot, and nobody was told of it.
                    unsafe { self.0.value().drop_in_place() };
                }
            }
        }
        if waker.is_some() {
            let mut unclaimed = Unclaimed(self, has_value);
            drop(waker);
            unclaimed.1 = false;
        }
        has_value
    }

    /// Takes back a read that is not finished. A value that was delivered stays.
    #[cold]
    #[inline(never)]
    pub fn clear_read(&mut self) {
        let node = self.node();
        if node.is_waiting() {
            drop(self.lock().with(|| self.channel.withdraw(node)));
        } else if node.state.get() == State::Dead {
            node.state.set(State::Idle);
            self.forget_dead_wait();
        }
    }

    /// The running fibre has taken back a wait that could never end, so it will not be what the fibre collapses of.
    fn forget_dead_wait(&self) {
        if let Some(fibre) = self.channel.process.current.get() {
            fibre.has_dead_wait.set(false);
        }
    }

    /// Tries to read without waiting.
    #[inline(always)]
    pub fn try_read(&mut self) -> Option<T> {
        let (node, channel) = (self.node(), self.channel);
        if node.is_waiting() {
            self.clear_read();
        }
        if node.state.get() != State::Done {
            let writer = self.lock().with(|| channel.first_waiting(Direction::Write))?;
            self.take_from(writer);
        }
        Some(self.claim())
    }

    /// The usual cases of a poll come first: the value was delivered; one writer waits; or nobody waits yet, and the fibre
    /// parks.
    #[inline(always)]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, waiting: State) -> Poll<T> {
        let (node, channel) = (self.node(), self.channel);
        let state = node.state.get();
        if state != State::Done {
            if state < State::Done {
                let done = self.lock().with(|| {
                    let who = channel.who_waits();
                    if let Some(fibre) = who.directly(Direction::Write) {
                        let writer = self.direct_counterpart(Direction::Write);
                        // SAFETY: a waiting writer's value is in its slot. It counts as moved out once the node is `Done`;
                        // until then it is only a copy that is not used.
                        let value = unsafe { Self::value_of(writer).cast::<MaybeUninit<T>>().read() };
                        let met = channel.meet_directly(fibre, writer);
                        // SAFETY: the node is `Done` after it was met, so this is the value.
                        return met.then(|| Poll::Ready(unsafe { value.assume_init() }));
                    }
                    self.park(who, cx, Direction::Read, waiting)
                });
                if let Some(done) = done {
                    return done;
                }
            }
            if !self.poll_read_slowly(cx, waiting) {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.claim())
    }

    /// The same, or the end of the stream.
    #[inline(always)]
    pub fn poll_read_or_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // The scheduler has said so while it waited, and nobody has come since.
        let has_ended = |end: &mut Self| {
            end.node().state.get() == State::Dead
                && end.lock().with(|| end.channel.first_waiting(Direction::Write)).is_none()
        };
        let poll = if has_ended(self) {
            Poll::Ready(None)
        } else {
            match self.poll_read(cx, State::WaitingOrEnd) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if has_ended(self) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        };
        if let Poll::Ready(None) = poll {
            // The next one finds out for itself: another endpoint may have come.
            self.node().state.set(State::Idle);
            self.forget_dead_wait();
        }
        poll
    }

    /// The other cases: several wait, the waker is foreign, the wait can never end, or the read is polled again while it
    /// is in the ring. Says whether the value is in the slot.
    #[cold]
    #[inline(never)]
    pub fn poll_read_slowly(&mut self, cx: &mut Context<'_>, waiting: State) -> bool {
        let (node, channel) = (self.node(), self.channel);
        if node.is_waiting() {
            if channel.is_waiter(node, cx.waker()) {
                node.state.set(waiting);
                return false;
            }
            self.clear_read();
        }
        loop {
            if let Some(writer) = self.lock().with(|| channel.first_waiting(Direction::Write)) {
                self.take_from(writer);
                return true;
            }
            if self.park_slowly(cx, Direction::Read, waiting) {
                return false;
            }
        }
    }

    /// Moves the value of a writer that waits into this end's slot.
    #[cold]
    #[inline(never)]
    pub fn take_from(&mut self, writer: NodeRef) {
        let (node, channel) = (self.node(), self.channel);
        // SAFETY: a waiting writer's value is in its slot; `meet` takes it out of that state. This end's slot is empty
        // (`Idle` or `Dead`), and with `Done` it counts as filled.
        let waker = self.lock().with(|| unsafe {
            Self::value_of(node).copy_from_nonoverlapping(Self::value_of(writer), 1);
            node.state.set(State::Done);
            channel.meet(writer)
        });
        if let Some(waker) = waker {
            // If this panics, the value stays with this endpoint.
            waker.wake();
        }
    }

    /// Puts a value in the slot, to be written.
    #[inline(always)]
    pub fn load(&mut self, value: T) {
        if self.node().state.get() != State::Idle {
            return self.load_slowly(value);
        }
        // SAFETY: in `Idle` the slot is empty, and with `Loaded` it counts as filled.
        unsafe { self.value().write(value) };
        self.node().state.set(State::Loaded);
    }

    /// The same, after a write that was forgotten.
    #[cold]
    #[inline(never)]
    pub fn load_slowly(&mut self, value: T) {
        self.clear_write();
        self.load(value);
    }

    /// The same, if a write has begun; if none has, there is nothing to wait for.
    #[inline(always)]
    pub fn poll_begun_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.node().state.get() == State::Idle { Poll::Ready(()) } else { self.poll_write(cx) }
    }

    /// The usual cases of a poll, as in [`poll_read`](Self::poll_read). A write has begun: the state is not `Idle`.
    #[inline(always)]
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (node, channel) = (self.node(), self.channel);
        let state = node.state.get();
        if state != State::Done {
            if state < State::Done {
                let done = self.lock().with(|| {
                    let who = channel.who_waits();
                    if let Some(fibre) = who.directly(Direction::Read) {
                        let reader = self.direct_counterpart(Direction::Read);
                        // SAFETY: this end's value is in its slot, and a waiting reader's slot is empty. The copy only
                        // counts once the reader's node is `Done`, and with `Idle` this slot counts as empty.
                        unsafe { Self::value_of(reader).copy_from_nonoverlapping(Self::value_of(node), 1) };
                        return channel.meet_directly(fibre, reader).then(|| {
                            node.state.set(State::Idle);
                            Poll::Ready(())
                        });
                    }
                    self.park(who, cx, Direction::Write, State::Waiting)
                });
                if let Some(done) = done {
                    return done;
                }
            }
            if !self.poll_write_slowly(cx) {
                return Poll::Pending;
            }
        }
        node.state.set(State::Idle);
        Poll::Ready(())
    }

    /// The other cases, as in [`poll_read_slowly`](Self::poll_read_slowly). Says whether the value has gone.
    #[cold]
    #[inline(never)]
    pub fn poll_write_slowly(&mut self, cx: &mut Context<'_>) -> bool {
        let (node, channel) = (self.node(), self.channel);
        if node.is_waiting() {
            if channel.is_waiter(node, cx.waker()) {
                return false;
            }
            let waker = self.lock().with(|| channel.withdraw(node));
            node.state.set(State::Loaded);
            drop(waker);
        }
        loop {
            if let Some(reader) = self.lock().with(|| channel.first_waiting(Direction::Read)) {
                self.hand_to(reader);
                return true;
            }
            if self.park_slowly(cx, Direction::Write, State::Waiting) {
                return false;
            }
        }
    }

    /// Moves the value in this end's slot to a reader that waits.
    #[cold]
    #[inline(never)]
    pub fn hand_to(&mut self, reader: NodeRef) {
        let (node, channel) = (self.node(), self.channel);
        // SAFETY: this end's value is in its slot, and with `Done` it counts as taken, even if the foreign waker panics; a
        // waiting reader's slot is empty, and with `Done`, which `meet` sets, it counts as filled.
        let waker = self.lock().with(|| unsafe {
            Self::value_of(reader).copy_from_nonoverlapping(Self::value_of(node), 1);
            node.state.set(State::Done);
            channel.meet(reader)
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has the running fibre wait here directly, if the poll is this process's own and nobody waits yet but somebody could
    /// come.
    #[inline(always)]
    pub fn park<R>(&self, who: Waiting, cx: &Context<'_>, direction: Direction, waiting: State) -> Option<Poll<R>> {
        let (node, channel) = (self.node(), self.channel);
        if !who.is_open_and_empty() || !channel.process.owns(cx.waker()) || !node.may_wait_directly() {
            return None;
        }
        // SAFETY: whoever has the process's own waker is polled by `run_ready`, which sets `current` for that time; and a
        // reference to that waker cannot be kept any longer.
        let fibre = unsafe { channel.process.current.get().unwrap_unchecked() };
        channel.wait_directly(node, direction, waiting, fibre);
        Some(Poll::Pending)
    }

    /// The node of the fibre that waits directly in this direction.
    #[inline(always)]
    pub fn direct_counterpart(&self, direction: Direction) -> NodeRef {
        let offset = match direction {
            Direction::Read => Blocks::<T, L, ()>::READER,
            Direction::Write => Blocks::<T, L, ()>::WRITER,
        };
        // SAFETY: only nodes in a `Pair` wait directly (`DIRECT`), so this channel's block is one; a name does not change
        // where they are.
        unsafe { NodeRef::new(self.channel.as_ptr().cast::<u8>().add(offset).cast()) }
    }

    /// Has whoever polls wait here, if that makes sense; then the node is in the ring, or else `Dead`. `false` if a
    /// counterpart came meanwhile.
    pub fn park_slowly(&mut self, cx: &mut Context<'_>, direction: Direction, waiting: State) -> bool {
        let (node, channel) = (self.node(), self.channel);
        let is_own = channel.process.owns(cx.waker());
        // Foreign code, so it runs while nothing is half done; then everything is looked at again.
        let mut waker = if is_own { None } else { Some(cx.waker().clone()) };
        self.lock().with(|| {
            let fibre = channel.process.current.get();
            if channel.first_waiting(direction.opposite()).is_some() {
                return false;
            }
            if !channel.has_counterpart(direction) {
                node.state.set(State::Dead);
                if waiting == State::Waiting
                    && let (Some(fibre), Some(reporting)) = (fibre, channel.process.reporting.get())
                {
                    (reporting.dead_wait)(channel.process, fibre, channel, direction);
                }
                return true;
            }
            match (waker.take(), fibre) {
                (Some(waker), _) => channel.wait_foreign(node, waiting, waker),
                (None, Some(fibre)) => channel.wait(node, waiting, fibre),
                (None, None) => {}
            }
            true
        })
    }

    /// Drops what a reader's slot still holds.
    pub fn drop_delivered(&mut self) {
        self.clear_read();
        if self.node().state.replace(State::Idle) == State::Done {
            // SAFETY: in `Done` of a reader the value is in the slot; with `Idle` it counts as moved out.
            unsafe { self.value().drop_in_place() };
        }
    }
}

impl<'p, T, L: Lock> End<'p, T, L> {
    #[inline]
    pub fn try_write(&mut self, value: T) -> Result<(), T> {
        if self.node().state.get() != State::Idle {
            self.clear_write();
        }
        let Some(reader) = self.lock().with(|| self.channel.first_waiting(Direction::Read)) else {
            return Err(value);
        };
        self.load(value);
        self.hand_to(reader);
        self.node().state.set(State::Idle);
        Ok(())
    }

    /// Another end for one direction, in a block of its own.
    pub fn dup(&self, direction: Direction) -> Result<Self, AllocError> {
        let process = self.channel.process;
        let block = process.allocate(Layout::new::<Slot<T>>()).ok_or(AllocError)?;
        let slot = block.cast::<Slot<T>>().as_ptr();
        let kind = OWN_BLOCK | if direction == Direction::Write { WRITER } else { 0 };
        // SAFETY: the block is new, and has the layout of a slot.
        unsafe { NodeRef::init(slot.cast(), kind) };
        if self.lock().with(|| self.channel.add_endpoint(&[direction])).is_none() {
            // SAFETY: taken from this process above; nothing else knows it.
            unsafe { process.deallocate(block, Layout::new::<Slot<T>>()) };
            return Err(AllocError);
        }
        // SAFETY: the node was initialised, and the endpoint counted.
        Ok(unsafe { End::new(slot, self.channel) })
    }
}
