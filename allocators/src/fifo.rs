//! A queue of free blocks without a lock (Michael and Scott, "Simple, fast, and practical non-blocking and blocking
//! concurrent queue algorithms", 1996).
//!
//! ```text
//!   head                        tail
//!    |                           |
//!    v        next               v
//!  [dummy] --------> [node] --> [node] --> nobody
//!                      |          |
//!                    block      block
//! ```
//!
//! # Invariants
//!
//! 1. `start` and the rows are memory that the owner's backing keeps for us: `n_blocks` blocks, and one node more than that.
//!    Block `b` is first given out together with node `b + 1`; node 0 is the first dummy.
//! 2. A block that is not in the queue has a node that is not in the queue either, `node_of`, with which it comes back. Taking
//!    the first block makes the node it was in the dummy, and sets the old dummy free, which becomes that block's node.
//! 3. In `head`, `tail` and each `next`, the low bits name a node, or nobody when all of them are set. Above them is a tag
//!    that each change of that word counts up, so that an exchange fails which began before the change. A node that is used
//!    again keeps its tag.

use core::fmt;
use core::ptr::NonNull;

use crate::form::sealed::{self, List};
use crate::form::{Corruption, MOST_NUMBERED, Numbering, Side};
use crate::sync::{AtomicU32, AtomicUsize, Ordering, Row};

/// A form that reuses the block that was released first, the "ring buffer": without a lock, for threads and interrupts.
///
/// Every block rests as long as possible before it is used again, and all wear alike; the price is that none is still in the
/// cache. Blocks that were never used come first, so the peak is the number of blocks that were ever used. Sixteen bytes for each block, besides the blocks, on a 64-bit machine, and twelve on a 32-bit one. An operation
/// that is overtaken by another tries again, so that somebody always gets on; none waits for a thread that was stopped in
/// the middle.
///
/// States are told apart by counts of as many bits as with [`LockFree`](crate::LockFree): see its bounds.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Fifo, FixedBlock, Layout};
///
/// let mut memory = [MaybeUninit::uninit(); 128];
/// let words = FixedBlock::with_form::<Fifo>(Layout::new::<u64>(), &mut memory);
/// let next = || (&raw const *Box::new_in(7_u64, &words)).addr();
/// let first = next();
/// for _ in 1..words.capacity() {
///     assert_ne!(next(), first);
/// }
/// assert_eq!(next(), first, "once all others were used");
/// ```
#[derive(Clone, Copy)]
pub struct Fifo(());

impl fmt::Debug for Fifo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fifo")
    }
}

impl sealed::Form for Fifo {
    type List = Queue;
    const SIDE: Side = Side::Nodes;
}

/// See the top of the module.
// A cache line each, so that threads at different classes do not fight for one; and so that the n-th of a row is a shift away.
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
#[allow(missing_debug_implementations)] // its name cannot be written outside
pub struct Queue {
    head: AtomicUsize,
    tail: AtomicUsize,
    carved: AtomicUsize,
    /// The bits that name a node.
    mask: usize,
    start: NonNull<u8>,
    block_size: usize,
    n_blocks: usize,
    numbering: Numbering,
    next: Row<AtomicUsize>,
    block_of: Row<AtomicU32>,
    node_of: Row<AtomicU32>,
}

impl Queue {
    /// The word with another node, and its tag counted up.
    #[inline(always)]
    fn to(&self, word: usize, node: usize) -> usize {
        ((word | self.mask).wrapping_add(1)) | node
    }

    /// # Safety
    ///
    /// Such a node is, or was, in the queue.
    #[inline(always)]
    unsafe fn next(&self, word: usize) -> &AtomicUsize {
        // SAFETY: invariant 1. Whatever came into the queue has a next.
        unsafe { self.next.get(word & self.mask) }
    }

    /// Moves `tail` on, unless somebody else did.
    fn catch_up(&self, tail: usize, next: usize) {
        let on = self.to(tail, next & self.mask);
        let _ = self.tail.compare_exchange(tail, on, Ordering::Release, Ordering::Relaxed);
    }

    /// A block that was never given out; `None` if there is no such block.
    fn carve(&self) -> Option<NonNull<u8>> {
        let mut carved = self.carved.load(Ordering::Relaxed);
        while carved < self.n_blocks {
            match self.carved.compare_exchange_weak(carved, carved + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => {
                    // SAFETY: invariant 1; the block and its node are ours now.
                    unsafe {
                        let node = carved + 1;
                        self.node_of.get(carved).store(node as u32, Ordering::Relaxed);
                        self.next.get(node).store(self.mask, Ordering::Relaxed);
                        return Some(self.start.add(carved * self.block_size));
                    }
                }
                Err(now) => carved = now,
            }
        }
        None
    }

    /// Whether the queue is empty. A load could be answered with a value from before another thread's release; an exchange is
    /// answered with the last one. `head` is asked first: a dummy that goes after that has a next one.
    #[cold]
    fn is_last(&self, head: usize, next: usize) -> bool {
        let order = (Ordering::Acquire, Ordering::Relaxed);
        // SAFETY: `head` names a node that was in the queue when it was loaded.
        self.head.compare_exchange(head, head, order.0, order.1).is_ok()
            && unsafe { self.next(head) }.compare_exchange(next, next, order.0, order.1).is_ok()
    }

    /// The numbers of the blocks in the queue, the first one first, as they were a moment ago; at most as many as there are.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let mut at = self.head.load(Ordering::Acquire);
        (0..self.n_blocks).map_while(move |_| {
            // SAFETY: from `head`, or from the next of a node.
            at = unsafe { self.next(at) }.load(Ordering::Acquire);
            let node = at & self.mask;
            if node > self.n_blocks {
                return None;
            }
            // SAFETY: just compared; and a node in the queue has a block.
            Some(unsafe { self.block_of.get(node) }.load(Ordering::Relaxed) as usize)
        })
    }
}

// SAFETY: a block leaves the queue by the one exchange of `head` that succeeds, which the tag makes fail when another one came
// between (invariant 3); it is carved by the one exchange of `carved` that succeeds.
unsafe impl List for Queue {
    fn empty() -> Self {
        Queue {
            head: AtomicUsize::new(0),
            tail: AtomicUsize::new(0),
            carved: AtomicUsize::new(0),
            mask: 0,
            start: NonNull::dangling(),
            block_size: 0,
            n_blocks: 0,
            numbering: Numbering::NONE,
            next: Row::NONE,
            block_of: Row::NONE,
            node_of: Row::NONE,
        }
    }

    unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize, side: NonNull<u8>) -> Self {
        debug_assert!(n_blocks <= MOST_NUMBERED);
        let nodes = n_blocks + 1;
        // SAFETY: the caller gives `bytes(n_blocks)` of them, aligned for the largest, which come first.
        let (next, block_of, node_of) = unsafe {
            let blocks = side.add(nodes * size_of::<usize>());
            let node_of = blocks.add(nodes * size_of::<u32>());
            (Row::new(side, nodes), Row::new(blocks, nodes), Row::new(node_of, n_blocks))
        };
        // One more than there are nodes, to have a name for nobody.
        let mask = (nodes + 1).next_power_of_two() - 1;
        let queue = Queue {
            mask,
            start,
            block_size,
            n_blocks,
            numbering: Numbering::new(block_size),
            next,
            block_of,
            node_of,
            ..Self::empty()
        };
        // SAFETY: node 0 is there, and in the queue.
        unsafe { queue.next(0) }.store(mask, Ordering::Relaxed);
        queue
    }

    #[inline]
    fn block_size(&self) -> usize {
        self.block_size
    }

    fn start(&self, _n_blocks: usize) -> NonNull<u8> {
        self.start
    }

    /// One that was never given out, else the one that was released first.
    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        if self.carved.load(Ordering::Relaxed) < self.n_blocks
            && let Some(block) = self.carve()
        {
            return Some(block);
        }
        if self.n_blocks == 0 {
            return None;
        }
        loop {
            let head = self.head.load(Ordering::Acquire);
            let tail = self.tail.load(Ordering::Acquire);
            // SAFETY: `head` names a node that was in the queue when it was loaded.
            let next = unsafe { self.next(head) }.load(Ordering::Acquire);
            if head != self.head.load(Ordering::Acquire) {
                continue;
            }
            if next & self.mask == self.mask {
                if self.is_last(head, next) {
                    return None;
                }
                continue;
            }
            if head & self.mask == tail & self.mask {
                self.catch_up(tail, next);
                continue;
            }
            // SAFETY: `next` was the first node with a block.
            let number = unsafe { self.block_of.get(next & self.mask) }.load(Ordering::Relaxed);
            let on = self.to(head, next & self.mask);
            // Acquire: what the block's last user did to it comes before what the next one does; see `push`.
            if self.head.compare_exchange_weak(head, on, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // SAFETY: the block and the old dummy are ours now (invariant 2), and a block has that number.
                unsafe {
                    self.node_of.get(number as usize).store((head & self.mask) as u32, Ordering::Relaxed);
                    return Some(self.start.add(number as usize * self.block_size));
                }
            }
        }
    }

    #[inline]
    unsafe fn push(&self, block: NonNull<u8>) {
        let number = self.numbering.of(block.addr().get() - self.start.addr().get());
        // SAFETY: the block is one of ours, by our caller's word, and so is its node until it is in the queue (invariant 2).
        let node = unsafe {
            let node = self.node_of.get(number).load(Ordering::Relaxed) as usize;
            self.block_of.get(node).store(number as u32, Ordering::Relaxed);
            let next = self.next.get(node);
            // Release: whoever still takes the node for the last one, and finds that it has no next, finds that `tail` has
            // moved on, too.
            next.store(self.to(next.load(Ordering::Relaxed), self.mask), Ordering::Release);
            node
        };
        loop {
            let tail = self.tail.load(Ordering::Acquire);
            // SAFETY: `tail` names a node that was in the queue when it was loaded.
            let last = unsafe { self.next(tail) };
            let next = last.load(Ordering::Acquire);
            if tail != self.tail.load(Ordering::Acquire) {
                continue;
            }
            if next & self.mask != self.mask {
                self.catch_up(tail, next);
                continue;
            }
            // Release: the node's contents, and what the block's user did to it, come before its being found here.
            if last.compare_exchange_weak(next, self.to(next, node), Ordering::Release, Ordering::Relaxed).is_ok() {
                self.catch_up(tail, node);
                return;
            }
        }
    }

    fn untouched(&self) -> usize {
        self.n_blocks - self.carved.load(Ordering::Relaxed)
    }

    /// As it was a moment ago.
    fn recycled(&self) -> usize {
        if self.n_blocks == 0 { 0 } else { self.numbers().count() }
    }

    /// Exact while nobody else is at it.
    fn verify(&self, n_blocks: usize) -> Result<(), Corruption> {
        let carved = self.carved.load(Ordering::Relaxed).min(n_blocks);
        let mut left = carved;
        let corrupt = |address| Err(Corruption { block_size: self.block_size, address });
        if self.n_blocks != 0 {
            for number in self.numbers() {
                if left == 0 {
                    return corrupt(0);
                }
                if number >= carved {
                    return corrupt(self.start.addr().get().wrapping_add(number.wrapping_mul(self.block_size)));
                }
                left -= 1;
            }
        }
        Ok(())
    }
}

// SAFETY: the pointers lead into memory that the list owns (invariant 1).
unsafe impl Send for Queue {}
// SAFETY: what changes is atomic, and a block that is in the queue or not carved is nobody's (invariants 2 and 3).
unsafe impl Sync for Queue {}
