//! Waits that can never end.

use super::{ChannelRef, DISSOLVING, IN_CLOSING, STUCK};
use crate::crew::DISSOLVE;
use crate::fibre::{FibreRef, HAS_CELL};
use crate::node::{Direction, NodeRef, State};
use crate::reach::Guts;

impl ChannelRef {
    /// Whether somebody waits whose last counterpart has gone.
    pub(super) fn has_dead_wait(self) -> bool {
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
