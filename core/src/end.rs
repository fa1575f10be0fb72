//! One end of a channel for one direction: what the endpoints and their operations are made of.

use core::cell::{Cell, UnsafeCell};
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use fibra_allocators::{AllocError, Layout};

use crate::bare_end::BareEnd;
use crate::channel::{Channel, ChannelRef, Info, Waiting};
use crate::fibre::FibreRef;
use crate::node::{Direction, Node, NodeRef, OWN_BLOCK, State, WRITER};
use crate::reach::{Asynchronous, Concurrent, Guts, Platform, Reach};
use crate::worker::WorkerRef;

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

/// A channel's block, for values of type `T`, with the reach `K`, and with a name if `N` is one.
pub(crate) struct Blocks<T, K, N>(PhantomData<(T, K, N)>);

type PairOf<T, K, N> = Pair<T, <K as Guts>::Turns, N>;
type TwoWayOf<T, K, N> = TwoWay<T, <K as Guts>::Turns, N>;

impl<T, K: Guts, N> Blocks<T, K, N> {
    const IS_NAMED: bool = size_of::<N>() != 0;
    /// The same with and without a name, which comes last.
    const READER: usize = core::mem::offset_of!(PairOf<T, K, N>, reader);
    const WRITER: usize = core::mem::offset_of!(PairOf<T, K, N>, writer);
    pub const PAIR: &'static Info = &Info {
        type_name: core::any::type_name::<T>,
        layout: Layout::new::<PairOf<T, K, N>>(),
        endpoint_layout: Layout::new::<Slot<T>>(),
        name_offset: if Self::IS_NAMED { Some(core::mem::offset_of!(PairOf<T, K, N>, name)) } else { None },
        direct_offsets: [Self::READER, Self::WRITER],
        writer_offset: 0,
        is_stuck: None,
        memory: None,
    };
    pub const TWO_WAY: &'static Info = &Info {
        type_name: core::any::type_name::<T>,
        layout: Layout::new::<TwoWayOf<T, K, N>>(),
        endpoint_layout: Layout::new::<Slots<T>>(),
        name_offset: if Self::IS_NAMED { Some(core::mem::offset_of!(TwoWayOf<T, K, N>, name)) } else { None },
        direct_offsets: [0; 2], // none may wait directly
        writer_offset: core::mem::offset_of!(Slots<T>, writer),
        is_stuck: Some(ChannelRef::is_stuck),
        memory: None,
    };
}

/// One end of a channel for one direction: a slot and its channel.
///
/// Invariant: the slot belongs to this end alone, and both it and the channel's block stay allocated until
/// `ChannelRef::remove_endpoint` has been called for the endpoint that this is (a part of).
pub(crate) struct End<'p, T, K> {
    pub slot: NonNull<Slot<T>>,
    pub channel: ChannelRef,
    /// Invariant in `T` and `'p`; owns values; by itself neither `Send` nor `Sync`.
    pub marker: PhantomData<(Cell<&'p ()>, Cell<T>, *const K)>,
}

// SAFETY: with a reach that is shared, whatever others may use of the channel is used under its lock, or atomic; the values that
// pass through are `Send`. What only the owner of an end may do takes `&mut`, so an end is `Sync`, too: `&End` gives away
// nothing but the channel's name and `dup`.
unsafe impl<T: Send, P: Platform> Send for End<'_, T, Concurrent<P>> {}
// SAFETY: as above.
unsafe impl<T: Send, P: Platform> Sync for End<'_, T, Concurrent<P>> {}
// SAFETY: as above.
unsafe impl<T: Send, P: Platform> Send for End<'_, T, Asynchronous<P>> {}
// SAFETY: as above.
unsafe impl<T: Send, P: Platform> Sync for End<'_, T, Asynchronous<P>> {}

/// The values in the channel are not pinned by an end.
impl<T, K> Unpin for End<'_, T, K> {}

impl<T, K: Reach> End<'_, T, K> {
    /// # Safety
    /// `slot` holds an initialised node, belongs to no other end, and to an endpoint that is counted in `channel`, which
    /// was made for `T` and `K`.
    pub unsafe fn new(slot: *mut Slot<T>, channel: ChannelRef) -> Self {
        // SAFETY: a slot in an allocated block has an address.
        End { slot: unsafe { NonNull::new_unchecked(slot) }, channel, marker: PhantomData }
    }

    #[inline(always)]
    pub fn node(&self) -> NodeRef {
        // SAFETY: the type's invariant: the slot is allocated, and its node initialised.
        unsafe { NodeRef::new(self.slot.as_ptr().cast()) }
    }

    /// The node's state, and if that is `Done`, what was done to the slot.
    #[inline(always)]
    fn state(&self) -> State {
        self.node().state.observe::<K>()
    }

    #[inline(always)]
    fn locked<R>(&self, section: impl FnOnce() -> R) -> R {
        self.channel.locked::<K, R>(section)
    }

    /// The place of the value behind any node of this channel.
    #[inline(always)]
    pub fn value_of(node: NodeRef) -> *mut T {
        let slot = node.as_ptr().cast::<Slot<T>>();
        // SAFETY: a `NodeRef` may reach its whole slot, and all slots of this channel are for `T`; no reference is made.
        unsafe { (&raw const (*slot).value).cast_mut().cast() }
    }

    /// # Safety
    /// As [`MoveValue`].
    unsafe fn move_value(from: NodeRef, to: NodeRef) {
        // SAFETY: the caller's promise.
        unsafe { Self::value_of(to).copy_from_nonoverlapping(Self::value_of(from), 1) };
    }

    #[inline(always)]
    fn bare(&self) -> BareEnd<K> {
        BareEnd::new(self.node(), self.channel)
    }

    #[inline(always)]
    pub fn value(&self) -> *mut T {
        Self::value_of(self.node())
    }

    /// The worker on which this poll is one of its process's own running fibre.
    #[inline(always)]
    fn own_worker(&self, cx: &Context<'_>) -> Option<WorkerRef> {
        K::worker(self.channel).filter(|worker| worker.owns(cx.waker()))
    }

    /// The worker on which this poll may be one of its process's own running fibre: with several workers it is for sure.
    #[inline(always)]
    fn poller(&self, cx: &Context<'_>) -> Option<WorkerRef> {
        if K::IS_SHARED { self.own_worker(cx) } else { K::worker(self.channel) }
    }

    /// Enqueues a fibre that was met directly.
    #[inline(always)]
    fn enqueue(&self, worker: WorkerRef, fibre: FibreRef) {
        if K::IS_SHARED {
            self.channel.process().queue_on::<K>(worker, fibre);
        } else {
            worker.enqueue::<K>(fibre);
        }
    }

    /// Takes the value that was delivered here.
    #[inline(always)]
    pub fn claim(&mut self) -> T {
        self.node().state.put::<K>(State::Idle);
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
        if self.state() == State::Idle {
            return false;
        }
        let waiter = self.bare().retract();
        let has_value = node.state.get() == State::Loaded;
        node.state.set(State::Idle);
        /// Drops the value if the foreign waker's destructor panics.
        struct Unclaimed<'a, 'p, T, K: Reach>(&'a mut End<'p, T, K>, bool);
        impl<T, K: Reach> Drop for Unclaimed<'_, '_, T, K> {
            fn drop(&mut self) {
                if self.1 {
                    // SAFETY: the value is in the slot, and nobody was told of it.
                    unsafe { self.0.value().drop_in_place() };
                }
            }
        }
        if let Some(waiter) = waiter {
            let mut unclaimed = Unclaimed(self, has_value);
            drop(unclaimed.0.channel.forget::<K>(waiter));
            unclaimed.1 = false;
        }
        has_value
    }

    /// Takes back a read that is not finished. A value that was delivered stays.
    pub fn clear_read(&mut self) {
        self.bare().clear();
    }

    /// Tries to read without waiting.
    #[inline(always)]
    pub fn try_read(&mut self) -> Option<T> {
        if self.state() != State::Done && self.state() != State::Idle {
            self.clear_read();
        }
        if self.state() != State::Done {
            let waiter = self.locked(|| self.bare().meet(Self::move_value))?;
            self.bare().wake(waiter);
        }
        Some(self.claim())
    }

    /// The usual cases of a poll come first: the value was delivered; one writer waits; or nobody waits yet, and the fibre
    /// parks.
    #[inline(always)]
    pub fn poll_read(&mut self, cx: &mut Context<'_>, waiting: State) -> Poll<T> {
        let channel = self.channel;
        let state = self.state();
        if state != State::Done {
            if state < State::Done
                && let Some(worker) = self.poller(cx)
            {
                // Without the lock: only a look.
                let who = channel.look_who_waits::<K>();
                if who.is_direct(Direction::Write) {
                    if !K::IS_SHARED || worker.may_go_on() {
                        let met = channel.locked_on::<K, _>(worker, || {
                            let who = if K::IS_SHARED { channel.who_waits() } else { who };
                            let fibre = who.directly(Direction::Write)?;
                            let writer = self.direct_counterpart(Direction::Write);
                            // SAFETY: a waiting writer's value is in its slot. It counts as moved out once the node is `Done`;
                            // until then it is only a copy that is not used.
                            let value = unsafe { Self::value_of(writer).cast::<MaybeUninit<T>>().read() };
                            channel.meet_directly::<K>(fibre, writer).then_some((fibre, value))
                        });
                        if let Some((fibre, value)) = met {
                            self.enqueue(worker, fibre);
                            // SAFETY: the node is `Done` after it was met, so this is the value.
                            return Poll::Ready(unsafe { value.assume_init() });
                        }
                    } else {
                        return Poll::Pending;
                    }
                } else if self.park(who, worker, cx, Direction::Read, waiting) {
                    return Poll::Pending;
                }
            }
            if !self.bare().poll(cx, waiting, Self::move_value) {
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
            end.state() == State::Dead && end.locked(|| end.channel.first_waiting(Direction::Write)).is_none()
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
            self.bare().forget_dead_wait();
        }
        poll
    }

    /// Puts a value in the slot, to be written.
    #[inline(always)]
    pub fn load(&mut self, value: T) {
        if self.state() != State::Idle {
            return self.load_slowly(value);
        }
        // SAFETY: in `Idle` the slot is empty, and with `Loaded` it counts as filled.
        unsafe { self.value().write(value) };
        self.node().state.put::<K>(State::Loaded);
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
        if self.state() == State::Idle { Poll::Ready(()) } else { self.poll_write(cx, State::Waiting) }
    }

    /// The same, or the value if no reader can come any more.
    pub fn poll_begun_write_or_end(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), T>> {
        if self.state() == State::Idle {
            return Poll::Ready(Ok(()));
        }
        let has_ended =
            |end: &Self| end.state() == State::Dead && end.locked(|| !end.channel.has_counterpart(Direction::Write));
        if !has_ended(self) {
            match self.poll_write(cx, State::WaitingOrEnd) {
                Poll::Ready(()) => return Poll::Ready(Ok(())),
                Poll::Pending if !has_ended(self) => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        // In `Dead` of a writer the value is in the slot.
        match self.take_undelivered() {
            Some(value) => Poll::Ready(Err(value)),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The usual cases of a poll, as in [`poll_read`](Self::poll_read). A write has begun: the state is not `Idle`.
    #[inline(always)]
    pub fn poll_write(&mut self, cx: &mut Context<'_>, waiting: State) -> Poll<()> {
        let (node, channel) = (self.node(), self.channel);
        let state = self.state();
        if state != State::Done {
            if state < State::Done
                && let Some(worker) = self.poller(cx)
            {
                // Without the lock: only a look.
                let who = channel.look_who_waits::<K>();
                if who.is_direct(Direction::Read) {
                    if !K::IS_SHARED || worker.may_go_on() {
                        let met = channel.locked_on::<K, _>(worker, || {
                            let who = if K::IS_SHARED { channel.who_waits() } else { who };
                            let fibre = who.directly(Direction::Read)?;
                            let reader = self.direct_counterpart(Direction::Read);
                            // SAFETY: this end's value is in its slot, and a waiting reader's slot is empty. The copy only
                            // counts once the reader's node is `Done`, and with `Idle` this slot counts as empty.
                            unsafe { Self::value_of(reader).copy_from_nonoverlapping(Self::value_of(node), 1) };
                            channel.meet_directly::<K>(fibre, reader).then_some(fibre)
                        });
                        if let Some(fibre) = met {
                            node.state.put::<K>(State::Idle);
                            self.enqueue(worker, fibre);
                            return Poll::Ready(());
                        }
                    } else {
                        return Poll::Pending;
                    }
                } else if self.park(who, worker, cx, Direction::Write, waiting) {
                    return Poll::Pending;
                }
            }
            if !self.bare().poll(cx, waiting, Self::move_value) {
                return Poll::Pending;
            }
        }
        node.state.put::<K>(State::Idle);
        Poll::Ready(())
    }

    /// Has the running fibre wait here directly, if nobody waits yet but somebody could come: at once, or with several workers
    /// as soon as its poll has returned.
    #[inline(always)]
    fn park(&self, who: Waiting, worker: WorkerRef, cx: &Context<'_>, direction: Direction, waiting: State) -> bool {
        let (node, channel) = (self.node(), self.channel);
        if !who.is_open_and_empty() {
            return false;
        }
        if K::IS_SHARED {
            return worker.post(channel, node, direction, waiting);
        }
        if !worker.owns(cx.waker()) || !node.may_wait_directly() {
            return false;
        }
        // SAFETY: whoever has the worker's own waker is polled by it, and it sets `current` for that time; and a reference to
        // that waker cannot be kept any longer.
        let fibre = unsafe { worker.current.get().unwrap_unchecked() };
        channel.wait_directly(node, direction, waiting, fibre);
        true
    }

    /// The node of the fibre that waits directly in this direction.
    #[inline(always)]
    pub fn direct_counterpart(&self, direction: Direction) -> NodeRef {
        let offset = match direction {
            Direction::Read => Blocks::<T, K, ()>::READER,
            Direction::Write => Blocks::<T, K, ()>::WRITER,
        };
        // SAFETY: only nodes in a `Pair` wait directly (`DIRECT`), so this channel's block is one; a name does not change
        // where they are.
        unsafe { NodeRef::new(self.channel.as_ptr().cast::<u8>().add(offset).cast()) }
    }

    /// Whether no counterpart can come any more in this direction.
    pub fn is_ended(&self, direction: Direction) -> bool {
        self.locked(|| !self.channel.has_counterpart(direction))
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

impl<'p, T, K: Reach> End<'p, T, K> {
    #[inline]
    pub fn try_write(&mut self, value: T) -> Result<(), T> {
        if self.state() != State::Idle {
            self.clear_write();
        }
        // SAFETY: in `Idle` the slot is empty.
        unsafe { self.value().write(value) };
        let Some(waiter) = self.locked(|| self.bare().meet(Self::move_value)) else {
            // SAFETY: nobody has taken the value, and in `Idle` the slot counts as empty.
            return Err(unsafe { self.value().read() });
        };
        self.node().state.set(State::Idle);
        self.bare().wake(waiter);
        Ok(())
    }

    /// Another end for one direction, in a block of its own.
    pub fn dup(&self, direction: Direction) -> Result<Self, AllocError> {
        let block = self.channel.allocate::<K>(Layout::new::<Slot<T>>()).ok_or(AllocError)?;
        let slot = block.cast::<Slot<T>>().as_ptr();
        let kind = OWN_BLOCK | if direction == Direction::Write { WRITER } else { 0 };
        // SAFETY: the block is new, and has the layout of a slot.
        unsafe { NodeRef::init(slot.cast(), kind) };
        if self.channel.add_endpoint::<K>(&[direction]).is_none() {
            // SAFETY: taken for this channel above; nothing else knows it.
            unsafe { self.channel.deallocate::<K>(block, Layout::new::<Slot<T>>()) };
            return Err(AllocError);
        }
        // SAFETY: the node was initialised, and the endpoint counted.
        Ok(unsafe { End::new(slot, self.channel) })
    }
}

/// Removes an endpoint from its channel, also when the destructor of a value in its slot panics.
pub(crate) struct Remove<R: Reach, const N: usize> {
    pub channel: ChannelRef,
    pub nodes: [NodeRef; N],
    pub reach: PhantomData<R>,
}

impl<R: Reach, const N: usize> Drop for Remove<R, N> {
    fn drop(&mut self) {
        self.channel.remove_endpoint::<R>(&self.nodes);
    }
}
