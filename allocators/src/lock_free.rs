//! A stack of free blocks without a lock (Treiber, "Systems programming: coping with parallelism", 1986).
//!
//! # Invariants
//!
//! 1. `start` and `links` are memory that the owner's backing keeps for us: `n_blocks` blocks and as many links. A block
//!    is named by its number, counted from 1; 0 is none.
//! 2. Blocks up to `carved` have been given out; of those, the ones on the stack are ours and the others their users'.
//! 3. `head` is the topmost block's number in its low bits, and above them a tag that every pop changes. The link of a
//!    block on the stack is the number of the one below it.
//!
//! The links are beside the blocks and not in them. A thread that is about to pop a block reads its link, and at that very
//! moment another may pop the block and hand it to a user, who writes to it: a data race, if the link were in there. Beside
//! the blocks it is a stale number, and the tag makes the exchange fail that would use it. The tag has all bits that a
//! block's number leaves: 44 for a million blocks on a 64-bit machine. So a thread would have to sleep between its load and its
//! exchange while others pop a multiple of 2⁴⁴ blocks, and find the same block on top.

use core::ptr::NonNull;

use crate::form::sealed::{self, List};
use crate::form::{Corruption, MOST_NUMBERED, Numbering, Side};
use crate::sync::{AtomicU32, AtomicUsize, Ordering, Row};

/// A form without a lock: threads and interrupt handlers may share it, and none ever waits for another.
///
/// An operation that is overtaken by another tries again, so that somebody always gets on. Four bytes for each block, besides
/// the blocks. On chips without compare-and-swap each step is a critical section (feature `critical-section`).
///
/// Where two threads really meet, a lock is as fast or faster, and caches ([`Cached`](crate::Cached)) are faster by far.
/// This form is for those who may not wait: an interrupt handler, a thread that must not be held up by another one that was
/// descheduled inside a lock.
///
/// # Bounds
///
/// A word tells the states of the class apart: it holds a block's number and, in the bits that are left, a count of allocations.
/// On a 64-bit machine that is 44 bits for a million blocks. On a 32-bit one it is 22 bits for a thousand blocks, and 16 at the
/// least: a thread that was stopped within an allocation for as long as others make exactly 2¹⁶ of them, or a multiple, and
/// that then finds the same block in front, would not notice. An interrupt handler is never so long; for threads that may be
/// stopped so long, on such a machine, take a lock.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{FixedBlock, Layout, LockFree};
///
/// let mut memory = [MaybeUninit::uninit(); 4096];
/// let words = FixedBlock::with_form::<LockFree>(Layout::new::<u64>(), &mut memory);
/// std::thread::scope(|s| {
///     for n in 0..2_u64 {
///         let words = &words;
///         s.spawn(move || (0..100).for_each(|_| assert_eq!(*Box::new_in(n, words), n)));
///     }
/// });
/// assert_eq!(words.live(), 0);
/// assert!(words.peak() <= 2);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct LockFree(());

impl sealed::Form for LockFree {
    type List = TaggedList;
    const SIDE: Side = Side::Links;
}

/// See the top of the module.
// A cache line each, so that threads at different classes do not fight for one; and so that the n-th of a row is a shift away.
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
#[allow(missing_debug_implementations)] // its name cannot be written outside
pub struct TaggedList {
    head: AtomicUsize,
    carved: AtomicUsize,
    /// The bits of `head` that are a block's number.
    mask: usize,
    start: NonNull<u8>,
    links: Row<AtomicU32>,
    block_size: usize,
    n_blocks: usize,
    numbering: Numbering,
}

impl TaggedList {
    const fn block(&self, number: usize) -> NonNull<u8> {
        // SAFETY: invariant 1: there are blocks up to `n_blocks`, and callers have a number from `head` or `carved`.
        unsafe { self.start.add((number - 1) * self.block_size) }
    }

    /// # Safety
    ///
    /// A block has that number.
    #[inline(always)]
    unsafe fn link(&self, number: usize) -> &AtomicU32 {
        // SAFETY: invariant 1.
        unsafe { self.links.get(number - 1) }
    }

    /// A block that was never given out; `None` if there is no such block.
    #[cold]
    fn carve(&self) -> Option<NonNull<u8>> {
        let mut carved = self.carved.load(Ordering::Relaxed);
        while carved < self.n_blocks {
            match self.carved.compare_exchange_weak(carved, carved + 1, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(self.block(carved + 1)),
                Err(now) => carved = now,
            }
        }
        None
    }

    /// Whether `head`, which has no block, is still that. A load could be answered with a value from before another
    /// thread's release; an exchange is answered with the last one.
    #[cold]
    fn is_last(&self, head: usize) -> Result<(), usize> {
        self.head.compare_exchange(head, head, Ordering::Acquire, Ordering::Acquire).map(|_| ())
    }

    /// The numbers on the stack from the top, as they were a moment ago; at most as many as there are blocks.
    fn numbers(&self) -> impl Iterator<Item = usize> {
        let mut at = self.head.load(Ordering::Acquire) & self.mask;
        (0..self.n_blocks).map_while(move |_| {
            let number = at;
            if number == 0 || number > self.n_blocks {
                return None;
            }
            // SAFETY: just compared. A block on the stack has a link.
            at = unsafe { self.link(number) }.load(Ordering::Relaxed) as usize;
            Some(number)
        })
    }
}

// SAFETY: a block leaves the stack by the one exchange of `head` that succeeds, which the tag makes fail when another pop
// came between (invariant 3); it is carved by the one exchange of `carved` that succeeds.
unsafe impl List for TaggedList {
    fn empty() -> Self {
        TaggedList {
            head: AtomicUsize::new(0),
            carved: AtomicUsize::new(0),
            mask: 0,
            start: NonNull::dangling(),
            links: Row::NONE,
            block_size: 0,
            n_blocks: 0,
            numbering: Numbering::NONE,
        }
    }

    unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize, side: NonNull<u8>) -> Self {
        debug_assert!(n_blocks <= MOST_NUMBERED);
        TaggedList {
            mask: (n_blocks + 1).next_power_of_two() - 1,
            start,
            // SAFETY: passed on from our caller.
            links: unsafe { Row::new(side, n_blocks) },
            block_size,
            n_blocks,
            numbering: Numbering::new(block_size),
            ..Self::empty()
        }
    }

    #[inline]
    fn block_size(&self) -> usize {
        self.block_size
    }

    fn start(&self, _n_blocks: usize) -> NonNull<u8> {
        self.start
    }

    /// The most recently released one, if there is one.
    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        // Acquire, here and below: what the block's last user did to it comes before what the next one does. All changes of
        // `head` are exchanges, so that each load sees every release before it, whoever changed `head` since.
        let mut head = self.head.load(Ordering::Acquire);
        loop {
            let number = head & self.mask;
            if number == 0 {
                if let Some(block) = self.carve() {
                    return Some(block);
                }
                // Only once all are carved, and they stay so, does an empty stack mean that all are live.
                match self.is_last(head) {
                    Ok(()) => return None,
                    Err(now) => head = now,
                }
                continue;
            }
            // SAFETY: `number` was on the stack.
            let below = unsafe { self.link(number) }.load(Ordering::Relaxed) as usize;
            let next = (head | self.mask).wrapping_add(1) | below;
            match self.head.compare_exchange_weak(head, next, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(self.block(number)),
                Err(now) => head = now,
            }
        }
    }

    #[inline]
    unsafe fn push(&self, block: NonNull<u8>) {
        let number = self.numbering.of(block.addr().get() - self.start.addr().get()) + 1;
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            // SAFETY: the block is one of ours, by our caller's word, and so its number.
            unsafe { self.link(number) }.store((head & self.mask) as u32, Ordering::Relaxed);
            let next = head & !self.mask | number;
            match self.head.compare_exchange_weak(head, next, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    fn untouched(&self) -> usize {
        self.n_blocks - self.carved.load(Ordering::Relaxed)
    }

    /// As it was a moment ago.
    fn recycled(&self) -> usize {
        self.numbers().count()
    }

    /// Exact while nobody else is at it.
    fn verify(&self, n_blocks: usize) -> Result<(), Corruption> {
        let carved = self.carved.load(Ordering::Relaxed).min(n_blocks);
        let mut left = carved;
        for number in self.numbers() {
            if number > carved || left == 0 {
                let address = if left == 0 { 0 } else { self.block(number).addr().get() };
                return Err(Corruption { block_size: self.block_size, address });
            }
            left -= 1;
        }
        Ok(())
    }
}

// SAFETY: the pointers lead into memory that the list owns (invariant 1).
unsafe impl Send for TaggedList {}
// SAFETY: what changes is atomic, and a block that is on the stack or not carved is nobody's (invariants 2 and 3).
unsafe impl Sync for TaggedList {}
