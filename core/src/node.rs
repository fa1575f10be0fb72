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

use core::cell::UnsafeCell;
use core::ops::Deref;
use core::ptr::NonNull;
use core::task::Waker;

use crate::fibre::FibreRef;
use crate::hub::WakeCell;
use crate::reach::Guts;
use crate::sync::word::{AtomicBool, AtomicU8};
use crate::sync::{Alone, Cell, Ordering};

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

    /// That one of two things, for reading and for writing.
    pub(crate) fn of<T>(self, [read, write]: &[T; 2]) -> &T {
        match self {
            Direction::Read => read,
            Direction::Write => write,
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
    /// Of a process with several workers: the worker that polls the fibre will put the node in the ring when the poll has
    /// returned.
    Posted,
    /// In the ring.
    Waiting,
    /// In the ring, and to be woken when the last counterpart goes.
    WaitingOrEnd,
}

/// A node's state. Whoever owns the endpoint may look at it at any time; others change it under the channel's lock.
pub(crate) struct StateCell(AtomicU8);

impl StateCell {
    fn new() -> Self {
        StateCell(AtomicU8::new(State::Idle as u8))
    }

    /// As seen by who has the lock, or where there is none.
    #[inline(always)]
    pub fn get(&self) -> State {
        State::from(self.0.load(Ordering::Relaxed))
    }

    /// As seen by who owns the endpoint, and has no lock: with `Done` they also see what was done to the slot.
    #[inline(always)]
    pub fn observe<K: Guts>(&self) -> State {
        State::from(if K::IS_SHARED {
            self.0.load(Ordering::Acquire)
        } else {
            // SAFETY: a channel that is not shared is used by one thread.
            unsafe { self.0.load_alone() }
        })
    }

    /// The same as [`set`](Self::set).
    #[inline(always)]
    pub fn put<K: Guts>(&self, state: State) {
        if K::IS_SHARED {
            self.set(state);
        } else {
            // SAFETY: as above.
            unsafe { self.0.store_alone(state as u8) }
        }
    }

    #[inline(always)]
    pub fn set(&self, state: State) {
        self.0.store(state as u8, Ordering::Relaxed);
    }

    /// The last thing that is done to a node by who does not own its endpoint.
    #[inline(always)]
    pub fn set_done<K: Guts>(&self) {
        if K::IS_SHARED {
            self.0.store(State::Done as u8, Ordering::Release);
        } else {
            self.put::<K>(State::Done);
        }
    }

    pub fn replace(&self, state: State) -> State {
        let before = self.get();
        self.set(state);
        before
    }
}

impl State {
    #[inline(always)]
    fn from(state: u8) -> Self {
        debug_assert!(state <= State::WaitingOrEnd as u8);
        // SAFETY: only the bytes of states are stored in a `StateCell`.
        unsafe { core::mem::transmute::<u8, State>(state) }
    }
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
/// The endpoint is gone; who holds the node removes it.
pub(crate) const LEFT: u8 = 64;
/// Of open channels: its waker is a fibre's, and all its counterparts are inside of processes.
pub(crate) const INSIDE: u8 = 128;
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
    pub state: StateCell,
    pub kind: Cell<u8>,
    /// What a worker has posted was taken back elsewhere: that worker will look at the node once more under the channel's lock, and
    /// until then it stays where it is. (It does as well while it is `Posted`.)
    pub held: AtomicBool,
    /// Of open channels: how many operations have completed at once, one after the other.
    pub streak: Cell<u8>,
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
                state: StateCell::new(),
                kind: Cell::new(kind),
                held: AtomicBool::new(false),
                streak: Cell::new(0),
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

    /// The wake cell that its waker stands for, if that is one of a fibre.
    pub fn cell(self) -> Option<&'static WakeCell> {
        // SAFETY: as in `set_foreign`; no foreign code runs.
        unsafe { (*self.waker.get()).as_ref() }.and_then(WakeCell::of)
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
