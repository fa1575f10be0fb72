//! The end of a process, seen from a channel. The ring that waits at that time is set aside for the report.

use core::ptr::{self, NonNull};
use core::task::Waker;

use super::{ChannelRef, IN_CLOSING, SEALED, Waiting};
use crate::fibre::{FINISHED, FibreRef};
use crate::node::{Direction, IN_REPORT, Node, NodeRef, ORPHAN, OWN_BLOCK, REPORTED, WRITER};
use crate::process::ProcessRef;
use crate::reach::Sequential;

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
