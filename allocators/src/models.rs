//! Every interleaving of a few operations on the shared forms, under the model checker.
//!
//! `RUSTFLAGS='--cfg fibra_loom' cargo test -p fibra-allocators --lib --release models`
//!
//! What is checked: no block is given to two users at once, none is lost, nobody is refused who is entitled to one, and
//! what a block's last user wrote is seen by the next one (a word of the checker's beside each block). What is not: loom knows
//! nothing of memory that is not its own, so the lists in the blocks themselves are watched through what they give out.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use std::sync::Arc;
use std::vec::Vec;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::cache::Cache;
use crate::fifo::Queue;
use crate::form::sealed::{self, List};
use crate::lock_free::{LockFree, TaggedList};
use crate::ordered::Ordered;
use crate::{Allocator, Borrowed, Fifo, Layout, MemReq, SizeClasses, SpinLock, table};

const SIZE: usize = 64;

/// A list of a few blocks, and beside each what its users do to it.
struct Pool<L> {
    list: L,
    start: NonNull<u8>,
    owners: Vec<AtomicUsize>,
    contents: Vec<UnsafeCell<usize>>,
}

// SAFETY: the list is one of those that are shared; the start is an address only.
unsafe impl<L: Send> Send for Pool<L> {}
// SAFETY: as above; the contents are a block's user's.
unsafe impl<L: Sync> Sync for Pool<L> {}

impl<L: List> Pool<L> {
    fn new<F: sealed::Form<List = L>>(n: usize) -> Arc<Self> {
        let words = (n * SIZE + F::SIDE.bytes(n)) / size_of::<usize>();
        let memory: &'static mut [MaybeUninit<usize>] = std::vec![MaybeUninit::uninit(); words].leak();
        let start = NonNull::from(memory).cast::<u8>();
        // SAFETY: leaked, so ours for ever; as many bytes as the list wants.
        let list = unsafe { L::new(start, SIZE, n, start.add(n * SIZE)) };
        Arc::new(Pool {
            list,
            start,
            owners: (0..n).map(|_| AtomicUsize::new(0)).collect(),
            contents: (0..n).map(|_| UnsafeCell::new(0)).collect(),
        })
    }

    fn take(&self) -> Option<NonNull<u8>> {
        let block = self.list.pop()?;
        let number = self.number(block);
        assert_eq!(self.owners[number].swap(1, Ordering::Relaxed), 0, "a block of somebody else");
        // SAFETY: the block is ours; that the checker complains if it is not is the point.
        self.contents[number].with_mut(|content| unsafe { *content += 1 });
        Some(block)
    }

    fn give(&self, block: NonNull<u8>) {
        let number = self.number(block);
        // SAFETY: as in `take`.
        self.contents[number].with_mut(|content| unsafe { *content += 1 });
        assert_eq!(self.owners[number].swap(0, Ordering::Relaxed), 1);
        // SAFETY: it came from the list, and is given back once.
        unsafe { self.list.push(block) };
    }

    fn number(&self, block: NonNull<u8>) -> usize {
        (block.addr().get() - self.start.addr().get()) / SIZE
    }

    /// All blocks are there, each once.
    fn assert_whole(&self) {
        let all: Vec<_> = (0..self.owners.len()).map(|_| self.take().expect("a block was lost")).collect();
        assert!(self.list.pop().is_none());
        all.into_iter().for_each(|block| self.give(block));
    }
}

fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(run);
}

/// Two threads take and give a block twice each, of as many blocks as threads: nobody is refused.
fn pairs<F: sealed::Form>(blocks: usize, preemptions: usize)
where
    F::List: Send + Sync + 'static,
{
    model(preemptions, move || {
        let pool = Pool::new::<F>(blocks);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || (0..2).for_each(|_| pool.give(pool.take().expect("one for each"))))
        };
        (0..2).for_each(|_| pool.give(pool.take().expect("one for each")));
        other.join().unwrap();
        pool.assert_whole();
    });
}

#[test]
fn a_stack_serves_whoever_is_entitled() {
    pairs::<LockFree>(2, 3);
    pairs::<LockFree>(3, 3);
}

#[test]
fn a_queue_serves_whoever_is_entitled() {
    pairs::<Fifo>(2, 3);
    pairs::<Fifo>(3, 3);
}

#[test]
fn lists_and_bits_behind_a_lock_serve_whoever_is_entitled() {
    pairs::<SpinLock>(2, 3);
    pairs::<Ordered<SpinLock>>(2, 3);
}

/// One thread is about to take the topmost block while the other takes two and gives the first one back: the block is on top
/// again, and the one below it is gone.
#[test]
fn a_stack_survives_a_block_that_comes_back() {
    model(3, || {
        let pool: Arc<Pool<TaggedList>> = Pool::new::<LockFree>(3);
        let blocks: Vec<_> = (0..3).map(|_| pool.take().unwrap()).collect();
        blocks.into_iter().for_each(|block| pool.give(block));
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                let (a, b) = (pool.take().unwrap(), pool.take().unwrap());
                pool.give(a);
                pool.give(b);
            })
        };
        (0..2).for_each(|_| pool.give(pool.take().expect("the other has two")));
        other.join().unwrap();
        pool.assert_whole();
    });
}

/// The same of a queue, whose nodes come back with other blocks.
#[test]
fn a_queue_survives_nodes_that_come_back() {
    model(2, || {
        let pool: Arc<Pool<Queue>> = Pool::new::<Fifo>(2);
        let blocks: Vec<_> = (0..2).map(|_| pool.take().unwrap()).collect();
        blocks.into_iter().for_each(|block| pool.give(block));
        let other = {
            let pool = pool.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    if let Some(block) = pool.take() {
                        pool.give(block);
                    }
                }
            })
        };
        let mine = pool.take().unwrap();
        pool.give(mine);
        other.join().unwrap();
        pool.assert_whole();
    });
}

/// One thread has gone round with all blocks, and so with all nodes, when the other comes, who has heard of nothing yet.
#[test]
fn who_comes_late_finds_no_old_state() {
    fn check<F: sealed::Form>(rounds: usize)
    where
        F::List: Send + Sync + 'static,
    {
        model(2, move || {
            let pool = Pool::new::<F>(2);
            let both = [pool.take().unwrap(), pool.take().unwrap()];
            both.into_iter().for_each(|block| pool.give(block));
            let other = {
                let pool = pool.clone();
                thread::spawn(move || (0..rounds).for_each(|_| pool.give(pool.take().expect("one for each"))))
            };
            pool.give(pool.take().expect("one for each"));
            other.join().unwrap();
            pool.assert_whole();
        });
    }
    check::<Fifo>(3);
    check::<Fifo>(4);
    check::<LockFree>(4);
}

/// What is released while another finds the rest carved and the list empty is not overlooked.
#[test]
fn the_last_block_is_not_overlooked() {
    fn check<F: sealed::Form>()
    where
        F::List: Send + Sync + 'static,
    {
        model(3, || {
            let pool = Pool::new::<F>(2);
            let first = pool.take().unwrap();
            let other = {
                let (pool, first) = (pool.clone(), first.addr().get());
                thread::spawn(move || {
                    pool.give(pool.start.with_addr(first.try_into().unwrap()));
                    // The one that was released, or the one that was never used: one of them is for us.
                    pool.give(pool.take().expect("two blocks for two users"));
                })
            };
            pool.give(pool.take().expect("two blocks for two users"));
            other.join().unwrap();
            pool.assert_whole();
        });
    }
    check::<LockFree>();
    check::<Fifo>();
}

/// A chain changes hands between caches, while a third party takes single blocks.
#[test]
fn caches_pass_chains_on() {
    // With blocks of two words a page is one block, and so is a chain. A cache of 32 blocks, a page and a spare one are full.
    const BLOCKS: usize = 37;
    const WORD: Layout = Layout::new::<usize>();
    model(2, || {
        let sizes = table([MemReq::new(1, BLOCKS)]);
        let memory = std::vec![MaybeUninit::uninit(); sizes.arena_size() + 16].leak();
        let system: &'static SizeClasses<1, Borrowed<'static>, SpinLock> =
            std::boxed::Box::leak(std::boxed::Box::new(SizeClasses::with_form::<SpinLock>(&sizes, memory).unwrap()));
        let owners: Arc<Vec<AtomicUsize>> = Arc::new((0..BLOCKS).map(|_| AtomicUsize::new(0)).collect());
        let base = system.allocate(WORD).unwrap().cast::<u8>();
        let number = move |block: NonNull<u8>| (block.addr().get() - base.addr().get()) / (2 * size_of::<usize>());
        let own = move |owners: &[AtomicUsize], block: NonNull<u8>| {
            assert_eq!(owners[number(block)].swap(1, Ordering::Relaxed), 0, "a block of somebody else");
        };

        // The last release passes a chain to the classes.
        let cache = Cache::new(system, 1);
        let blocks: Vec<_> = (0..35).map(|_| (&cache).allocate(WORD).unwrap().cast::<u8>()).collect();
        // SAFETY: allocated there, each released once.
        blocks[..32].iter().for_each(|&block| unsafe { (&cache).deallocate(block, WORD) });
        let other = {
            let owners = owners.clone();
            thread::spawn(move || {
                let cache = Cache::new(system, 1);
                for _ in 0..2 {
                    let block = (&cache).allocate(WORD);
                    if let Ok(block) = block {
                        own(&owners, block.cast());
                        owners[number(block.cast())].store(0, Ordering::Relaxed);
                        // SAFETY: allocated there.
                        unsafe { (&cache).deallocate(block.cast(), WORD) };
                    }
                }
            })
        };
        // SAFETY: as above.
        blocks[32..].iter().for_each(|&block| unsafe { (&cache).deallocate(block, WORD) });
        let block = system.allocate(WORD).expect("one is left, or a chain").cast();
        own(&owners, block);
        owners[number(block)].store(0, Ordering::Relaxed);
        // SAFETY: allocated there.
        unsafe { system.deallocate(block, WORD) };
        other.join().unwrap();
        drop(cache);
        assert_eq!(system.verify(), Ok(()));
        assert_eq!(system.classes().next().unwrap().live, 1, "the first one, which names the others");
    });
}
