//! Open channels: those that belong to no process, and whose ends may be outside of any.

use core::marker::PhantomData;
use core::ptr::NonNull;
use core::task::Waker;

use fibra_allocators::Layout;

use super::{ChannelRef, DISSOLVING};
use crate::node::{Direction, INSIDE, NodeRef, OWN_BLOCK};
use crate::reach::Guts;
use crate::sync::Cell;

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

impl ChannelRef {
    /// The waker of this node is about to go.
    pub(super) fn note_outside(self, node: NodeRef) {
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
    pub(super) fn note_inside(self, node: NodeRef, is_new: bool) -> Option<()> {
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

    /// The same of an open channel, which no scheduler looks after: who goes last ends the waits of the others, in as many steps
    /// as there are.
    pub(super) fn remove_open_endpoint<K: Guts>(self, nodes: &[NodeRef]) {
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
    pub(super) fn end_open_waits<K: Guts>(self, memory: &'static Memory, mut leaving: [u32; 2], mut is_mine: bool) {
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
}
