//! Where an endpoint waits.
//!
//! A node is where one endpoint waits:
//!
//! ```text
//!             write(v)              poll: a counterpart waits, and the value is moved
//!      IDLE ----------> LOADED ------------------------------------------.
//!       ^ \                 \  poll: nobody waits                        |
//!       |  `- poll of a read -`--> WAITING (in the ring) ---- met ----> DONE (a reader: the value is in its slot)
//!       |                            |       |                           |
//!       |   dropped, withdrawn       |       | the last counterpart goes |
//!       |<---------------------------'       v                           |
//!       |<-------------------------------- DEAD                          |
//!       `----------------------------------------------------- claimed --'
//! ```

use core::cell::{Cell, UnsafeCell};
use core::ops::Deref;
use core::ptr::NonNull;
use core::task::Waker;

use crate::fibre::FibreRef;

/// Which way a value moves, seen from the fibre that waits.
///
/// ```
/// use fibra_core::{Direction, Setup};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let mut lost = Vec::new();
/// Setup::new(&pool).report(&mut |report| lost.push(report.wait().direction())).run(|p| {
///     let (mut w, r) = p.channel::<u8>().unwrap();
///     p.spawn(async move { w.write(1).await }).unwrap();
///     drop(r);
/// })?;
/// assert_eq!(lost, [Some(Direction::Write)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The fibre waits to read.
    Read,
    /// The fibre waits to write.
    Write,
}

impl Direction {
    /// The tag of a channel's `waiting` while a fibre waits directly in this direction.
    pub(crate) const fn tag(self) -> usize {
        match self {
            Direction::Read => 1,
            Direction::Write => 2,
        }
    }

    pub(crate) const fn opposite(self) -> Self {
        match self {
            Direction::Read => Direction::Write,
            Direction::Write => Direction::Read,
        }
    }
}

/// Where a node is in the diagram above. The order lets one comparison tell what most polls must know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum State {
    /// Nothing is going on, and the slot is empty.
    Idle,
    /// Writers: the value is in the slot, and nobody was offered it.
    Loaded,
    /// The wait can never end. A writer's value is still in the slot.
    Dead,
    /// Readers: the value is in the slot. Writers: it has been taken.
    Done,
    /// In the ring.
    Waiting,
    /// In the ring, and to be woken when the last counterpart goes.
    WaitingOrEnd,
}

/// The node of one of the first two ends of a directional channel: it may wait directly.
pub(crate) const DIRECT: u8 = 1;
/// Part of a block of its own, made by `dup`.
pub(crate) const OWN_BLOCK: u8 = 2;
/// For writing.
pub(crate) const WRITER: u8 = 4;
/// In the ring of a frozen channel, for the report.
pub(crate) const IN_REPORT: u8 = 8;
/// Reported already.
pub(crate) const REPORTED: u8 = 32;
/// The endpoint is gone; only the report still needs the node.
pub(crate) const ORPHAN: u8 = 16;

/// Where one endpoint waits. The slot for its value follows, in a `Slot<T>`.
#[repr(C, align(8))]
pub(crate) struct Node {
    /// The ring of waiting nodes. Alone, or not in the ring, a node is its own neighbour.
    pub next: Cell<*const Node>,
    pub prev: Cell<*const Node>,
    /// The fibre that waits: valid while the node is in the ring, unless it waits directly.
    pub fibre: Cell<Option<FibreRef>>,
    pub state: Cell<State>,
    pub kind: Cell<u8>,
    /// Which round of a choice this wait belongs to; 0 for a plain wait.
    #[allow(dead_code, reason = "room for `alt`, so that it need not grow the node")]
    pub claim: Cell<u32>,
    pub waker: UnsafeCell<Option<Waker>>,
}

/// A pointer to a node that may reach its whole slot.
///
/// Invariant: the node's block is allocated: its endpoint exists, or it is in a ring (an endpoint takes its nodes out of
/// the ring before it goes, except from a frozen ring, which keeps the blocks).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeRef(NonNull<Node>);

impl Deref for NodeRef {
    type Target = Node;

    #[inline]
    fn deref(&self) -> &Node {
        // SAFETY: the type's invariant; a node is only ever changed through its cells.
        unsafe { self.0.as_ref() }
    }
}

impl NodeRef {
    /// # Safety
    /// `node` points at an initialised node and may reach the slot around it.
    #[inline]
    pub unsafe fn new(node: *const Node) -> Self {
        // SAFETY: the caller's promise.
        NodeRef(unsafe { NonNull::new_unchecked(node.cast_mut()) })
    }

    #[inline]
    pub fn as_ptr(self) -> *const Node {
        self.0.as_ptr()
    }

    /// The block that begins `offset` bytes before the node.
    ///
    /// # Safety
    /// One does, and the node may reach it.
    pub unsafe fn block(self, offset: usize) -> NonNull<u8> {
        // SAFETY: the caller's promise.
        unsafe { self.0.cast::<u8>().sub(offset) }
    }

    pub fn next(self) -> NodeRef {
        // SAFETY: links point at nodes of the same ring, or at the node itself.
        unsafe { NodeRef::new(self.next.get()) }
    }

    /// Writes an idle node.
    ///
    /// # Safety
    /// `node` is valid for writing a node. `kind` tells the truth.
    pub unsafe fn init(node: *mut Node, kind: u8) {
        // SAFETY: the caller's promise.
        unsafe {
            node.write(Node {
                next: Cell::new(node),
                prev: Cell::new(node),
                fibre: Cell::new(None),
                state: Cell::new(State::Idle),
                kind: Cell::new(kind),
                claim: Cell::new(0),
                waker: UnsafeCell::new(None),
            });
        }
    }

    #[inline]
    pub fn is_waiting(self) -> bool {
        self.state.get() >= State::Waiting
    }

    #[inline]
    pub fn may_wait_directly(self) -> bool {
        self.kind.get() & DIRECT != 0
    }

    pub fn direction(self) -> Direction {
        if self.kind.get() & WRITER != 0 { Direction::Write } else { Direction::Read }
    }

    pub fn is_foreign(self) -> bool {
        // SAFETY: as in `set_foreign`.
        unsafe { (*self.waker.get()).is_some() }
    }

    /// The fibre that waits here. The node is in the ring.
    pub fn fibre(self) -> Option<FibreRef> {
        self.fibre.get()
    }

    pub fn set_foreign(self, waker: Waker) {
        // SAFETY: nobody else has a reference to the place: it is only used within this file's functions, which let no
        // foreign code run meanwhile. It is empty, so that nothing is dropped here.
        unsafe { *self.waker.get() = Some(waker) };
    }

    /// Whether waking this node's waker would wake `waker`'s task.
    pub fn would_wake(self, waker: &Waker) -> bool {
        // SAFETY: as in `set_foreign`; `will_wake` compares addresses and runs no foreign code.
        unsafe { (*self.waker.get()).as_ref() }.is_some_and(|mine| mine.will_wake(waker))
    }

    pub fn take_waker(self) -> Option<Waker> {
        // SAFETY: as in `set_foreign`.
        unsafe { (*self.waker.get()).take() }
    }
}

/// Who waited in a node that has left its ring.
#[must_use]
pub(crate) struct Waiter {
    pub fibre: Option<FibreRef>,
    pub waker: Option<Waker>,
}

impl Waiter {
    pub fn fibre(&self) -> Option<FibreRef> {
        self.fibre
    }

    pub fn into_waker(self) -> Option<Waker> {
        self.waker
    }
}
