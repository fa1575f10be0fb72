//! Who waits on a channel, in one word.

use core::ptr::NonNull;

use crate::fibre::FibreRef;
use crate::node::{Direction, NodeRef};
use crate::reach::Guts;
use crate::sync::word::AtomicPtr;
use crate::sync::{Alone, Ordering};

/// The tag of a channel's `waiting` while it holds a ring.
pub(super) const RING: usize = 4;

/// Where a channel keeps who waits: changed under its lock, and looked at without.
pub(super) struct Waits(AtomicPtr<()>);

impl Waits {
    pub fn new() -> Self {
        Waits(AtomicPtr::new(core::ptr::null_mut()))
    }

    #[inline(always)]
    pub fn get(&self) -> *const () {
        self.0.load(Ordering::Relaxed)
    }

    #[inline(always)]
    pub fn set(&self, waiting: *const ()) {
        self.0.store(waiting.cast_mut(), Ordering::Relaxed);
    }

    /// The same as [`get`](Self::get).
    #[inline(always)]
    pub fn look<K: Guts>(&self) -> *const () {
        // SAFETY: a channel that is not shared is used by one thread.
        if K::IS_SHARED { self.get() } else { unsafe { self.0.load_alone() } }
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    pub fn put<K: Guts>(&self, waiting: *const ()) {
        if K::IS_SHARED {
            self.set(waiting);
        } else {
            // SAFETY: as above.
            unsafe { self.0.store_alone(waiting.cast_mut()) }
        }
    }

    pub fn replace(&self, waiting: *const ()) -> *const () {
        let before = self.get();
        self.set(waiting);
        before
    }
}

/// Who waits on a channel, as it was read once.
#[derive(Clone, Copy)]
pub(crate) struct Waiting(pub(super) *const ());

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
