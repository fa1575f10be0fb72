//! What becomes of a fibre of a shared process after its poll.

use crate::channel::ChannelRef;
use crate::fibre::{FibreRef, QUEUED};
use crate::node::{NodeRef, State};
use crate::reach::Guts;
use crate::sync::Ordering;
use crate::worker::{Post, WorkerRef};

impl WorkerRef {
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
            self.requeue::<K>(fibre);
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
                self.requeue::<K>(fibre);
            } else {
                self.collapse(fibre);
            }
            return;
        }
        // If not, that will not change any more, but the fibre may have been woken before.
        let may_be_woken = fibre.live() != 0 || fibre.wake_cell().is_some_and(|cell| cell.is_live());
        if fibre.status.end_run(is_woken, may_be_woken) {
            self.requeue::<K>(fibre);
        } else if !may_be_woken {
            self.collapse(fibre);
        }
    }

    /// Queues the fibre that has just been polled. It does not run here any more.
    fn requeue<K: Guts>(self, fibre: FibreRef) {
        self.current.set(None);
        self.process().make_ready::<K>(fibre);
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
