//! Waits that were posted: with several workers, they begin when the poll has returned.

use super::ChannelRef;
use crate::crew::Begun;
use crate::fibre::FibreRef;
use crate::node::{Direction, LEFT, NodeRef, State};
use crate::reach::Guts;
use crate::sync::Ordering;
use crate::worker::WorkerRef;

impl ChannelRef {
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
}
