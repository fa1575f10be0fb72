//! An end without the type of its values: what is done in the less usual cases, once for all types.

use core::marker::PhantomData;
use core::task::{Context, Waker};

use crate::channel::ChannelRef;
use crate::node::{Direction, NodeRef, State, Waiter};
use crate::reach::Reach;
use crate::sync::Ordering;
use crate::waker::is_nobody;
use crate::worker::WorkerRef;

/// How many operations of one end of an open channel may complete at once, one after the other, before its fibre gives way.
const MOST_AT_ONCE: u8 = 128;

const NOT_TO_BE_WOKEN: &str = "this fibre waits on an asynchronous channel, which cannot wake it: it has no wake cell; \
    spawn it with `p.fibre().waker().spawn(..)`, in a process with a wake hub";

/// A waker to wait with in an open channel.
fn waker_of(cx: &Context<'_>) -> Waker {
    let waker = cx.waker().clone();
    assert!(!is_nobody(&waker), "{NOT_TO_BE_WOKEN}");
    waker
}

/// Moves the value in the first node's slot to that of the second.
///
/// # Safety
/// Both are nodes of a channel for the values that it moves; there is one in the first slot, and none in the second.
pub(crate) type MoveValue = unsafe fn(NodeRef, NodeRef);

/// What a locked section found for a read or a write.
enum Found {
    /// A counterpart, which has the value or has given it, and is to be woken.
    Met(Waiter),
    /// Nobody: the fibre that polls waits now, or will when its poll has returned.
    Waits,
    /// Nobody, and none can come any more.
    Dead,
    /// Nobody, and the waker must be cloned first.
    NeedsWaker,
}

/// For a moment: the node and the channel of an [`End`](crate::end::End).
pub(crate) struct BareEnd<K> {
    node: NodeRef,
    channel: ChannelRef,
    reach: PhantomData<fn() -> K>,
}

impl<K: Reach> BareEnd<K> {
    #[inline(always)]
    pub fn new(node: NodeRef, channel: ChannelRef) -> Self {
        BareEnd { node, channel, reach: PhantomData }
    }

    fn state(&self) -> State {
        self.node.state.observe::<K>()
    }

    /// What the state is while no operation goes on that has met anybody.
    fn idle(&self) -> State {
        if self.node.direction() == Direction::Write { State::Loaded } else { State::Idle }
    }

    fn locked<R>(&self, section: impl FnOnce() -> R) -> R {
        self.channel.locked::<K, R>(section)
    }

    fn own_worker(&self, cx: &Context<'_>) -> Option<WorkerRef> {
        K::worker(self.channel).filter(|worker| worker.owns(cx.waker()))
    }

    /// Has the node wait for nothing any more: takes back a wait, if there is one. Afterwards it is `Done`, if that was so or has
    /// come about meanwhile, or else [`idle`](Self::idle). Gives who waited.
    pub fn retract(&self) -> Option<Waiter> {
        let (node, idle) = (self.node, self.idle());
        let state = self.state();
        match state {
            State::Done => return None,
            State::Idle | State::Loaded => {
                node.state.set(idle);
                return None;
            }
            State::Dead => {
                node.state.set(idle);
                self.forget_dead_wait();
                return None;
            }
            State::Posted | State::Waiting | State::WaitingOrEnd => {}
        }
        // Not if it waits already: this worker may hold a post that another has taken back, to begin another wait.
        if K::IS_SHARED
            && state == State::Posted
            && let Some(worker) = K::worker(self.channel)
            && worker.has_posted(node)
        {
            worker.unpost();
            node.state.set(idle);
            return None;
        }
        self.locked(|| match node.state.get() {
            State::Waiting | State::WaitingOrEnd => {
                let waiter = self.channel.withdraw(node);
                node.state.set(idle);
                Some(waiter)
            }
            State::Done => None,
            // Posted by another worker, which will look at it once more, and find that out; or its counterparts have gone
            // meanwhile.
            state => {
                if state == State::Posted {
                    node.held.store(true, Ordering::Relaxed);
                }
                node.state.set(idle);
                None
            }
        })
    }

    /// The running fibre has taken back a wait that could never end, so it will not be what the fibre collapses of.
    pub fn forget_dead_wait(&self) {
        if let Some(fibre) = K::worker(self.channel).and_then(|worker| worker.current.get()) {
            fibre.has_dead_wait.set(false);
        }
    }

    /// Takes back what goes on and has not met anybody.
    #[cold]
    #[inline(never)]
    pub fn clear(&self) {
        if let Some(waiter) = self.retract() {
            drop(self.channel.forget::<K>(waiter));
        }
    }

    /// Meets who waits first on the other side, if somebody does: the value goes from the writer's slot to the reader's. The lock
    /// is held. An end that writes has a value in its slot, and one that reads has none.
    pub fn meet(&self, move_value: MoveValue) -> Option<Waiter> {
        let (node, channel) = (self.node, self.channel);
        let other = channel.first_waiting(node.direction().opposite())?;
        let (from, to) = match node.direction() {
            Direction::Read => (other, node),
            Direction::Write => (node, other),
        };
        // SAFETY: a waiting writer's value is in its slot, and a waiting reader's slot is empty; with `Done`, which `meet` sets,
        // that is no longer so. This end's own slot is as the caller says, and with `Done` it counts as filled if it reads,
        // and as empty if it writes.
        unsafe { move_value(from, to) };
        node.state.set(State::Done);
        Some(channel.meet::<K>(other))
    }

    /// Wakes whoever was met. If a foreign waker panics, everything is in order: the value stays with who has it.
    pub fn wake(&self, waiter: Waiter) {
        if let Some(waker) = self.channel.wake::<K>(waiter) {
            waker.wake();
        }
    }

    /// The less usual cases of a poll: several wait, the waker is foreign, the wait can never end, or the operation is polled again
    /// while it is in the ring. Says whether it is done.
    #[cold]
    #[inline(never)]
    pub fn poll(&self, cx: &Context<'_>, waiting: State, move_value: MoveValue) -> bool {
        if self.is_waited_for(cx, waiting) {
            return false;
        }
        if self.state() > State::Done {
            self.clear();
        }
        // Perhaps only now.
        if self.state() == State::Done {
            return true;
        }
        self.meet_or_park(cx, waiting, move_value)
    }

    /// Whether whoever polls waits here already, or will as soon as the poll has returned.
    fn is_waited_for(&self, cx: &Context<'_>, waiting: State) -> bool {
        let (node, channel) = (self.node, self.channel);
        match self.state() {
            State::Posted => {
                let worker = self.own_worker(cx).filter(|worker| worker.has_posted(node));
                worker.inspect(|worker| worker.repost(waiting)).is_some()
            }
            State::Waiting | State::WaitingOrEnd => {
                let waits = self.locked(|| {
                    // It may have ended meanwhile.
                    let waits = node.is_waiting() && channel.is_waiter::<K>(node, cx.waker());
                    if waits {
                        node.state.set(waiting);
                    }
                    waits
                });
                waits || K::IS_OPEN && self.change_waker(cx, waiting)
            }
            _ => false,
        }
    }

    /// Has whoever polls wait in the place of who waits here, if that wait has not ended meanwhile. The place in the queue stays;
    /// and the old waker goes after the new one has come, so that it is never the last one of a fibre, which would be polled
    /// again for that.
    #[cold]
    fn change_waker(&self, cx: &Context<'_>, waiting: State) -> bool {
        let node = self.node;
        // Foreign code, as is the drop of either: outside the lock.
        let mut new = Some(waker_of(cx));
        let old = self.locked(|| {
            let new = new.take_if(|_| node.is_waiting())?;
            let old = self.channel.change_waker(node, new);
            node.state.set(waiting);
            Some(old)
        });
        old.is_some()
    }

    /// Meets a counterpart, or has whoever polls wait here if that makes sense: then the node is in the ring, or posted, or else
    /// `Dead`. `true` if a counterpart was met.
    fn meet_or_park(&self, cx: &Context<'_>, waiting: State, move_value: MoveValue) -> bool {
        let (node, channel) = (self.node, self.channel);
        let direction = node.direction();
        let worker = K::worker(channel);
        let fibre = worker.and_then(|worker| worker.current.get());
        let own = worker.filter(|worker| worker.owns(cx.waker()));
        if K::IS_SHARED
            && let Some(own) = own
            && !own.may_go_on()
        {
            return false;
        }
        if K::IS_OPEN && node.streak.get() == MOST_AT_ONCE {
            node.streak.set(0);
            cx.waker().wake_by_ref();
            return false;
        }
        let mut waker = None;
        loop {
            let found = self.locked(|| {
                if let Some(waiter) = self.meet(move_value) {
                    return Found::Met(waiter);
                }
                if !channel.has_counterpart(direction) {
                    node.state.set(State::Dead);
                    return Found::Dead;
                }
                if let Some(own) = own {
                    if !(K::IS_SHARED && own.post(channel, node, direction, waiting)) && fibre.is_some() {
                        channel.wait::<K>(node, waiting, fibre, None);
                    }
                    return Found::Waits;
                }
                match waker.take() {
                    None => return Found::NeedsWaker,
                    waker => channel.wait::<K>(node, waiting, fibre, waker),
                }
                Found::Waits
            });
            match found {
                Found::Met(waiter) => {
                    if K::IS_OPEN {
                        node.streak.set(node.streak.get() + 1);
                    }
                    self.wake(waiter);
                    return true;
                }
                Found::Waits => return false,
                Found::Dead => {
                    if waiting == State::Waiting
                        && let (Some(worker), Some(fibre)) = (worker, fibre)
                        && let Some(reporting) = worker.process().reporting.get()
                    {
                        (reporting.dead_wait)(worker, fibre, (reporting.name)(channel), direction);
                    }
                    return false;
                }
                // Foreign code, so it runs while nothing is half done; then everything is looked at again.
                Found::NeedsWaker => {
                    waker = Some(if K::IS_OPEN { waker_of(cx) } else { cx.waker().clone() });
                    node.streak.set(0);
                }
            }
        }
    }
}
