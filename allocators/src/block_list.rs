//! The blocks of one size, threaded through themselves: the mechanism of every form that has a lock, or needs none.
//!
//! ```text
//!   start                 virgin              end
//!     |  free  live  free   |    untouched     |
//!        ^            |
//!        |            v
//!      (next) <---- free
//! ```
//!
//! # Invariants
//!
//! 1. `start .. end` is memory that the owner's backing keeps for us, a whole number of blocks, each aligned for a link and
//!    large enough for one; `virgin` lies on a block boundary in it. `virgin` and `end` have the arena's provenance.
//! 2. A block below `virgin` is either live (its user's alone) or on the free list, which then owns it.
//! 3. The first word of a block on the free list is the link to the next one; all links have the arena's provenance.
//! 4. The cells are used inside the lock only.
//! 5. `chains` leads to chains of pages, each through its first page: see [`Page`]. Only lists of blocks of two words and more,
//!    behind locks that can be shared, have chains.
//!
//! Blocks are carved from `virgin` only when the free list is empty. So at the moment of carving all blocks are live, and
//! the number of carved blocks is the greatest number that was ever live: the peak costs nothing to keep.

use core::alloc::Layout;
use core::cell::Cell;
use core::ptr::NonNull;

use crate::form::Corruption;
use crate::form::sealed::List;
use crate::lock::Lock;
use crate::request::rederive;

type Link = Option<NonNull<u8>>;

/// What a block has to hold while nobody uses it.
pub(crate) const LINK: Layout = Layout::new::<Link>();

/// See the top of the module.
// A cache line each, so that threads at different classes do not fight for one; and so that the n-th of a row is a shift away.
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
#[allow(missing_debug_implementations)] // its name cannot be written outside
pub struct BlockList<L: Lock> {
    lock: L,
    free: Cell<Link>,
    virgin: Cell<NonNull<u8>>,
    end: NonNull<u8>,
    block_size: usize,
    chains: Cell<Option<Page>>,
    /// Blocks on the free list and in chains, where the lock can be shared.
    count: Cell<usize>,
}

/// What [`BlockList::pop_chain`] found.
#[cfg(target_has_atomic = "8")]
pub(crate) enum Taken {
    Chain(Chain),
    Block(NonNull<u8>),
    Nothing,
}

/// Full pages that change hands together. Owns them and their blocks.
pub(crate) struct Chain {
    pub first: Page,
    pub pages: usize,
}

/// A free block that names others: so that a chain of blocks changes hands by its pages alone, and what reads and writes the
/// chain leaves most blocks untouched, which are in other processors' caches.
///
/// ```text
///   word 0       1            2 ...
///   next page    next chain   other blocks, as many as there are slots
/// ```
///
/// All slots are used. The second word is used while the chain is in a shared list: in its first page, as shown; in its second
/// page, if there is one, for the number of pages.
#[derive(Clone, Copy)]
pub(crate) struct Page(NonNull<Link>);

impl Page {
    const NEXT: usize = 0;
    const CHAIN: usize = 1;
    const SLOTS: usize = 2;
    /// The most slots that a page has, whatever its size: a bound on what is done inside the lock.
    const MOST: usize = 14;

    /// How many slots blocks of this size have.
    pub(crate) const fn slots(block_size: usize) -> usize {
        let words = block_size / LINK.size();
        if words < Self::SLOTS + Self::MOST { words.saturating_sub(Self::SLOTS) } else { Self::MOST }
    }

    /// # Safety
    ///
    /// The block is the caller's, to be a page, and has two words.
    #[cfg(target_has_atomic = "8")]
    #[inline(always)]
    pub(crate) unsafe fn new(block: NonNull<u8>, next: Option<Page>) -> Self {
        let page = Page(block.cast());
        // SAFETY: our caller's word.
        unsafe { page.0.add(Self::NEXT).cast().write(next) };
        page
    }

    #[inline(always)]
    pub(crate) fn block(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// # Safety
    ///
    /// This, and all the following, is a page of the caller's.
    #[inline(always)]
    pub(crate) unsafe fn next(self) -> Option<Page> {
        // SAFETY: our caller's word.
        unsafe { self.0.add(Self::NEXT).cast().read() }
    }

    /// # Safety
    ///
    /// There is such a slot, and it was written.
    #[inline(always)]
    pub(crate) unsafe fn get(self, slot: usize) -> NonNull<u8> {
        // SAFETY: our caller's word.
        unsafe { self.0.add(Self::SLOTS + slot).cast().read() }
    }

    /// # Safety
    ///
    /// There is such a slot.
    #[cfg(target_has_atomic = "8")]
    #[inline(always)]
    pub(crate) unsafe fn set(self, slot: usize, block: NonNull<u8>) {
        // SAFETY: our caller's word.
        unsafe { self.0.add(Self::SLOTS + slot).cast().write(block) };
    }

    /// # Safety
    ///
    /// The second word of this page is of that type.
    unsafe fn second<T>(self) -> NonNull<T> {
        // SAFETY: our caller's word.
        unsafe { self.0.add(Self::CHAIN).cast() }
    }
}

impl<L: Lock> BlockList<L> {
    /// Whether there can be caches, which are what makes chains.
    const CHAINS: bool = L::SHARED && cfg!(target_has_atomic = "8");

    /// Walks a list until `visit` has enough.
    fn walk(mut at: Link, mut visit: impl FnMut(NonNull<u8>) -> bool) {
        while let Some(block) = at {
            if !visit(block) {
                return;
            }
            // SAFETY: invariant 3.
            at = unsafe { block.cast::<Link>().read() };
        }
    }

    /// A block of ours, as a pointer that may touch all of it. No instruction comes of it.
    #[inline(always)]
    pub(crate) fn own(&self, block: NonNull<u8>) -> NonNull<u8> {
        rederive(self.end, block)
    }

    /// A whole chain, else a single block. Two locked sections of constant time.
    #[cfg(target_has_atomic = "8")]
    pub(crate) fn pop_chain(&self) -> Taken {
        let chain = self.lock.with(|| {
            let chain = self.unlink_chain()?;
            self.count.set(self.count.get() - chain.pages * (Page::slots(self.block_size) + 1));
            Some(chain)
        });
        match chain {
            Some(chain) => Taken::Chain(chain),
            None => self.pop().map_or(Taken::Nothing, Taken::Block),
        }
    }

    /// Takes a chain back. One locked section of constant time.
    ///
    /// # Safety
    ///
    /// All blocks of the chain came from this list, their users have finished with them, and they have two words.
    #[cfg(target_has_atomic = "8")]
    pub(crate) unsafe fn push_chain(&self, chain: Chain) {
        let Chain { first, pages } = chain;
        let len = pages * (Page::slots(self.block_size) + 1);
        // SAFETY: the chain is ours now (invariant 5).
        unsafe {
            if let Some(second) = first.next() {
                second.second().write(pages);
            }
            self.lock.with(|| {
                first.second().write(self.chains.replace(Some(first)));
                self.count.set(self.count.get() + len);
            });
        }
    }

    /// To be called inside the lock. Leaves the count as it is.
    fn unlink_chain(&self) -> Option<Chain> {
        let first = self.chains.get()?;
        // SAFETY: invariant 5.
        unsafe {
            self.chains.set(first.second().read());
            let pages = first.next().map_or(1, |second| second.second().read());
            Some(Chain { first, pages })
        }
    }

    /// Makes single blocks of a page, and takes one. To be called inside the lock.
    #[cold]
    #[inline(never)]
    fn break_chain(&self) -> Option<NonNull<u8>> {
        let Chain { first, pages } = self.unlink_chain()?;
        self.count.set(self.count.get() - 1);
        // SAFETY: invariant 5: the page is full; and its blocks, and the other pages, are ours.
        unsafe {
            for slot in 0..Page::slots(self.block_size) {
                let block = first.get(slot);
                block.cast::<Link>().write(self.free.replace(Some(block)));
            }
            if let Some(second) = first.next() {
                if let Some(third) = second.next() {
                    third.second().write(pages - 1);
                }
                second.second().write(self.chains.replace(Some(second)));
            }
        }
        Some(first.block())
    }

    fn untouched_bytes(&self) -> usize {
        self.end.addr().get() - self.virgin.get().addr().get()
    }
}

// SAFETY: invariants 2 and 4: a block leaves the list, or is carved, inside the lock, and so for one user at a time.
unsafe impl<L: Lock> List for BlockList<L> {
    fn empty() -> Self {
        let nowhere = NonNull::dangling();
        BlockList {
            lock: L::NEW,
            free: Cell::new(None),
            virgin: Cell::new(nowhere),
            end: nowhere,
            block_size: 0,
            chains: Cell::new(None),
            count: Cell::new(0),
        }
    }

    unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize, _side: NonNull<u8>) -> Self {
        debug_assert!(block_size >= LINK.size());
        debug_assert!((start.addr().get() | block_size).is_multiple_of(LINK.align()));
        // SAFETY: still within, or one past the end of, the memory that the caller gives.
        let end = unsafe { start.add(n_blocks * block_size) };
        BlockList { virgin: Cell::new(start), end, block_size, ..Self::empty() }
    }

    #[inline]
    fn block_size(&self) -> usize {
        self.block_size
    }

    fn start(&self, n_blocks: usize) -> NonNull<u8> {
        // SAFETY: invariant 1.
        unsafe { self.end.sub(n_blocks * self.block_size) }
    }

    /// The most recently released one, if there is one.
    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        self.lock.with(|| {
            if let Some(block) = self.free.get() {
                // SAFETY: invariant 3, and invariant 1 for its alignment.
                self.free.set(unsafe { block.cast::<Link>().read() });
                if L::SHARED {
                    self.count.set(self.count.get() - 1);
                }
                return Some(block);
            }
            if Self::CHAINS && self.chains.get().is_some() {
                return self.break_chain();
            }
            let block = self.virgin.get();
            if block == self.end {
                return None;
            }
            // SAFETY: invariant 1: at least one whole block lies between `virgin` and `end`.
            self.virgin.set(unsafe { block.add(self.block_size) });
            Some(block)
        })
    }

    #[inline]
    unsafe fn push(&self, block: NonNull<u8>) {
        let block = self.own(block);
        self.lock.with(|| {
            // SAFETY: the block is ours again (invariant 2) and can hold a link (invariant 1).
            unsafe { block.cast::<Link>().write(self.free.get()) };
            self.free.set(Some(block));
            if L::SHARED {
                self.count.set(self.count.get() + 1);
            }
        });
    }

    fn untouched(&self) -> usize {
        self.lock.with(|| self.untouched_bytes()).checked_div(self.block_size).unwrap_or(0)
    }

    fn recycled(&self) -> usize {
        self.lock.with(|| {
            let mut count = self.count.get();
            if !L::SHARED {
                Self::walk(self.free.get(), |_| {
                    count += 1;
                    true
                });
            }
            count
        })
    }

    fn verify(&self, n_blocks: usize) -> Result<(), Corruption> {
        let corrupt = |address| Err(Corruption { block_size: self.block_size, address });
        self.lock.with(|| {
            let bytes = n_blocks * self.block_size;
            let carved = bytes - self.untouched_bytes();
            let start = self.end.addr().get() - bytes;
            let mut left = carved / self.block_size.max(1);
            let mut wrong = None;
            let mut look = |block: NonNull<u8>| {
                let address = block.addr().get();
                // Not to be followed: it need not be memory at all.
                let offset = address.wrapping_sub(start);
                wrong = match left.checked_sub(1) {
                    None => Some(0),
                    Some(rest) if offset < carved && offset.is_multiple_of(self.block_size) => {
                        left = rest;
                        return true;
                    }
                    Some(_) => Some(address),
                };
                false
            };
            Self::walk(self.free.get(), &mut look);
            let mut chain = self.chains.get();
            while let Some(first) = chain {
                // Each block is looked at before it is followed.
                let mut at = Some(first);
                while let Some(page) = at {
                    if !look(page.block()) {
                        return wrong.map_or(Ok(()), corrupt);
                    }
                    // SAFETY: it is one of our blocks, which have the words of a page (invariant 5).
                    unsafe {
                        if !(0..Page::slots(self.block_size)).all(|slot| look(page.get(slot))) {
                            return wrong.map_or(Ok(()), corrupt);
                        }
                        at = page.next();
                    }
                }
                // SAFETY: as above.
                chain = unsafe { first.second().read() };
            }
            wrong.map_or(Ok(()), corrupt)
        })
    }
}

// SAFETY: the pointers lead into memory that the list owns (invariant 1).
unsafe impl<L: Lock + Send> Send for BlockList<L> {}
// SAFETY: what is shared is used inside the lock (invariant 4), and the rest never changes.
unsafe impl<L: Lock + Sync> Sync for BlockList<L> {}
