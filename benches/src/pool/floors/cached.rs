use std::cell::UnsafeCell;
use std::mem;
use std::ptr::NonNull;

use super::spin::Turn;
use super::{FreeList, Link, List};
use crate::pool::subject::CLASSES;

/// Two chains of up to `M` blocks for each thread, and behind them, under a lock, full chains, each taken and given as a
/// whole, then loose blocks.
#[repr(align(64))]
pub(in crate::pool) struct Cached<const M: usize> {
    turn: Turn,
    class: usize,
    /// The first blocks of full chains; the second word of each leads to the next.
    full: UnsafeCell<Link>,
    loose: FreeList,
}

// SAFETY: everything that changes is used by whoever has the turn.
unsafe impl<const M: usize> Sync for Cached<M> {}

/// Blocks linked through their first words, and how many.
struct Chain {
    first: Link,
    len: usize,
}

impl Chain {
    const EMPTY: Self = Chain { first: None, len: 0 };
}

/// What a thread withholds of one class. The spare chain is empty or full, except after the thread took one in.
struct Magazines {
    loaded: Chain,
    spare: Chain,
}

thread_local! {
    static MAGAZINES: UnsafeCell<[Magazines; CLASSES.len()]> =
        const { UnsafeCell::new([const { Magazines { loaded: Chain::EMPTY, spare: Chain::EMPTY } }; CLASSES.len()]) };
}

impl<const M: usize> Cached<M> {
    #[inline(always)]
    fn magazines<R>(&self, section: impl FnOnce(&mut Magazines) -> R) -> R {
        // SAFETY: this thread's alone, no section enters another, and the class was promised to be one.
        MAGAZINES.with(|all| section(unsafe { (*all.get()).get_unchecked_mut(self.class) }))
    }

    /// Called with the loaded chain empty.
    #[cold]
    #[inline(never)]
    fn refill(&self, magazines: &mut Magazines) -> Link {
        if magazines.spare.len == 0 {
            self.turn.take();
            // SAFETY: we have the turn, and the first block of a full chain has a second link.
            let chain = unsafe {
                let full = &mut *self.full.get();
                let chain = *full;
                if let Some(first) = chain {
                    *full = first.cast::<Link>().add(1).read();
                }
                chain
            };
            if chain.is_none() {
                let block = self.loose.pop();
                self.turn.give();
                return block;
            }
            self.turn.give();
            magazines.loaded = Chain { first: chain, len: M };
        } else {
            mem::swap(&mut magazines.loaded, &mut magazines.spare);
        }
        let block = magazines.loaded.first?;
        // SAFETY: it is on a chain.
        magazines.loaded.first = unsafe { block.cast::<Link>().read() };
        magazines.loaded.len -= 1;
        Some(block)
    }

    /// Called with the loaded chain full; leaves it otherwise.
    #[cold]
    #[inline(never)]
    fn flush(&self, magazines: &mut Magazines) {
        if magazines.spare.len == M {
            let spare = mem::replace(&mut magazines.spare, Chain::EMPTY);
            self.turn.take();
            // SAFETY: we have the turn, and the chain's first block has room for a second link.
            unsafe {
                let full = &mut *self.full.get();
                if let Some(first) = spare.first {
                    first.cast::<Link>().add(1).write(*full);
                    *full = spare.first;
                }
            }
            self.turn.give();
        }
        mem::swap(&mut magazines.loaded, &mut magazines.spare);
    }
}

impl<const M: usize> List for Cached<M> {
    unsafe fn new(start: NonNull<u8>, size: usize, count: usize, class: usize) -> Self {
        // SAFETY: our caller's word.
        let loose = unsafe { FreeList::new(start, size, count, class) };
        Cached { turn: Turn::new(), class, full: UnsafeCell::new(None), loose }
    }

    #[inline(always)]
    fn pop(&self) -> Link {
        self.magazines(|magazines| {
            let Some(block) = magazines.loaded.first else {
                return self.refill(magazines);
            };
            // SAFETY: it is on a chain.
            magazines.loaded.first = unsafe { block.cast::<Link>().read() };
            magazines.loaded.len -= 1;
            Some(block)
        })
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>) {
        self.magazines(|magazines| {
            if magazines.loaded.len == M {
                self.flush(magazines);
            }
            // SAFETY: the block is ours again, and has room for a link.
            unsafe { block.cast::<Link>().write(magazines.loaded.first) };
            magazines.loaded.first = Some(block);
            magazines.loaded.len += 1;
        });
    }

    fn leave(&self) {
        self.magazines(|magazines| {
            self.turn.take();
            for chain in [&mut magazines.loaded, &mut magazines.spare] {
                let mut next = mem::replace(chain, Chain::EMPTY).first;
                while let Some(block) = next {
                    // SAFETY: it was on a chain, is on none any more, and we have the turn.
                    unsafe {
                        next = block.cast::<Link>().read();
                        self.loose.push(block);
                    }
                }
            }
            self.turn.give();
        });
    }
}
