//! What the workloads do not look at, since it would be measured: every word of every block.

use std::sync::Mutex;
use std::thread;

use super::subject::{ALIGN, BLOCK, Shared, Subject, Worker};
use super::threads::Barrier;
use super::work::Random;

const STEPS: u64 = 3_000;
const MOST: u64 = 100;

/// A block in use, with what was written to all of it.
struct Filled<B> {
    block: B,
    size: usize,
    value: u64,
}

impl<B> Filled<B> {
    fn new<W: Worker<Block = B>>(worker: &W, size: usize, value: u64) -> Self {
        let block = worker.take(size).expect("there are enough blocks");
        let address = worker.address(&block);
        assert!(address.addr().get().is_multiple_of(ALIGN), "a block is not aligned");
        for word in 0..size / ALIGN {
            // SAFETY: the block is in use, and this large.
            unsafe { address.add(word).write(value + word as u64) };
        }
        Filled { block, size, value }
    }

    /// Compares, and gives back.
    fn end<W: Worker<Block = B>>(self, worker: &W) {
        let Filled { block, size, value } = self;
        let address = worker.address(&block);
        for word in 0..size / ALIGN {
            // SAFETY: the block is in use, this large, and all its words were written.
            let found = unsafe { address.add(word).read() };
            assert_eq!(found, value + word as u64, "somebody else wrote to a block in use");
        }
        // SAFETY: taken in `new` with this size.
        unsafe { worker.give_back(block, size) };
    }
}

fn size<S: Subject>(random: &mut Random) -> usize {
    if S::ANY_SIZE { random.below(128) as usize * ALIGN + ALIGN } else { BLOCK }
}

/// Takes and gives back at random.
pub(super) fn alone<S: Subject>() {
    let pool = S::new(MOST as usize);
    let worker = pool.worker();
    let mut random = Random::new(41);
    let mut live = Vec::new();
    for step in 0..STEPS {
        if random.below(MOST) >= live.len() as u64 {
            live.push(Filled::new(&worker, size::<S>(&mut random), step << 32));
        } else {
            live.swap_remove(random.below(live.len() as u64) as usize).end(&worker);
        }
    }
    live.into_iter().for_each(|block| block.end(&worker));
}

/// Blocks of a [`Shared`] pool, for whichever thread comes first.
struct Exchange<B>(Mutex<Vec<Filled<B>>>);

// SAFETY: such blocks belong to no thread.
unsafe impl<B> Sync for Exchange<B> {}

/// Two threads take and give back at random, and exchange half of their blocks.
pub(super) fn shared<S: Shared>() {
    alone::<S>();
    let pool = S::new(4 * MOST as usize);
    let start = Barrier::new(2);
    let exchange = Exchange(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for thread in 0..2 {
            let (pool, start, exchange) = (&pool, &start, &exchange);
            scope.spawn(move || {
                let worker = pool.worker();
                let mut random = Random::new(43 + thread);
                let mut live = Vec::new();
                start.wait();
                for step in 0..STEPS {
                    match random.below(4) {
                        0 | 1 if (live.len() as u64) < MOST => {
                            let value = (thread << 63) | (step << 32);
                            live.push(Filled::new(&worker, size::<S>(&mut random), value));
                        }
                        0..3 => {
                            if let Some(block) = live.pop() {
                                block.end(&worker);
                            }
                        }
                        _ => {
                            let mut others = exchange.0.lock().expect("nobody panics with it");
                            let there = live.len() / 2;
                            let mine = live.split_off(there);
                            let theirs = std::mem::replace(&mut *others, mine);
                            drop(others);
                            live.extend(theirs);
                        }
                    }
                }
                live.into_iter().for_each(|block| block.end(&worker));
            });
        }
    });
    let worker = pool.worker();
    for block in exchange.0.into_inner().expect("nobody panicked with it") {
        block.end(&worker);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ptr::NonNull;

    use super::*;
    use crate::pool::cold;
    use crate::pool::pages::Mapping;
    use crate::pool::work::{LIVE, Order, batches, churn};
    use crate::{Workload, measure::Outcome};

    /// Gives each block to two users.
    struct Twice {
        taken: Cell<usize>,
        memory: Mapping,
    }

    impl Subject for Twice {
        const ANY_SIZE: bool = true;
        type Worker<'a> = &'a Twice;

        fn new(blocks: usize) -> Self {
            Twice { taken: Cell::new(0), memory: Mapping::new((blocks + LIVE as usize) * 1024) }
        }

        fn worker(&self) -> &Twice {
            self
        }
    }

    // SAFETY: it is not what it should be, but the memory is there and all its users are this thread's.
    unsafe impl Worker for &Twice {
        type Block = NonNull<u8>;

        fn take(&self, _size: usize) -> Option<NonNull<u8>> {
            let place = self.taken.get() / 2 % (self.memory.len() / 1024);
            self.taken.set(self.taken.get() + 1);
            // SAFETY: within the mapping.
            Some(unsafe { self.memory.start().add(place * 1024) })
        }

        fn address(&self, block: &NonNull<u8>) -> NonNull<u64> {
            block.cast()
        }

        unsafe fn give_back(&self, _block: NonNull<u8>, _size: usize) {}
    }

    fn is_wrong(workload: Workload, n: u64, outcome: Outcome) {
        assert_ne!(Some(outcome.answer), workload.answer(n), "{} does not see it", workload.name());
    }

    #[test]
    fn a_block_with_two_users_is_seen_by_the_workloads() {
        is_wrong(Workload::PoolInOrder, 3, batches::<Twice>(3, Order::First));
        is_wrong(Workload::PoolRandom, 1, batches::<Twice>(1, Order::Random));
        is_wrong(Workload::PoolChurn, 100, churn::<Twice>(100));
        is_wrong(Workload::PoolCold, 1000, cold::median::<Twice>(1000));
        is_wrong(Workload::PoolColdBulk, 1000, cold::bulk::<Twice>(1000));
    }

    #[test]
    #[should_panic(expected = "somebody else wrote to a block in use")]
    fn a_block_with_two_users_is_seen_by_the_check() {
        alone::<Twice>();
    }
}
