//! The workloads of two threads, each on a processor of its own if there are two. They are timed by the clock on the wall.

use std::cell::UnsafeCell;
use std::hint;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::subject::{BLOCK, Shared};
use super::work::{BLOCKS, LIVE, batches_of, give_back, read, shuffled, take, write};
use crate::measure::{Outcome, pin};

/// Both threads take [`LIVE`] blocks and give them back in random order, `n` times. The time is from the first one's start
/// to the last one's end.
pub(super) fn two_threads<S: Shared>(n: u64) -> Outcome {
    let pool = S::new(BLOCKS);
    let start = Barrier::new(2);
    let run = |thread: usize| {
        pin(thread);
        let worker = pool.worker();
        let order = shuffled(LIVE as usize, 77 + thread as u64);
        batches_of(&worker, &order, 2, 0);
        start.wait();
        let began = Instant::now();
        // Different values, so that a block that both have got shows.
        let sum = batches_of(&worker, &order, n, thread as u64 * LIVE);
        (began, Instant::now(), sum)
    };
    let [a, b] = thread::scope(|scope| {
        [0, 1].map(|thread| scope.spawn(move || run(thread))).map(|thread| thread.join().expect("no panic"))
    });
    Outcome { time: a.1.max(b.1) - a.0.min(b.0), answer: a.2 + b.2 }
}

/// One thread takes and writes `n` blocks, the other one reads them and gives them back. The time is from the first one's
/// start until it knows that the other one is done.
pub(super) fn handover<S: Shared>(n: u64) -> Outcome {
    let pool = S::new(BLOCKS);
    let start = Barrier::new(2);
    let ring = Ring::new();
    let n = n as usize;
    let produce = || {
        pin(0);
        let worker = pool.worker();
        start.wait();
        let began = Instant::now();
        let mut seen = 0;
        for i in 0..n {
            let block = take(&worker, BLOCK);
            write(&worker, &block, i as u64);
            if i - seen >= PLACES {
                seen = ring.wait_until(&ring.read, |read| i - read < PLACES);
            }
            // SAFETY: the reader is done with this place, and does not look at it before it is announced.
            unsafe { ring.put(i, block) };
            if i % TOGETHER == TOGETHER - 1 || i + 1 == n {
                ring.written.0.store(i + 1, Ordering::Release);
            }
        }
        ring.wait_until(&ring.read, |read| read == n);
        began.elapsed()
    };
    let consume = || {
        pin(1);
        let worker = pool.worker();
        start.wait();
        let mut sum = 0;
        let mut i = 0;
        while i < n {
            let written = ring.wait_until(&ring.written, |written| written > i);
            while i < written {
                // SAFETY: it was announced, and is got once. A block of this pool.
                unsafe {
                    let block = ring.get(i);
                    sum += read(&worker, &block);
                    give_back(&worker, block, BLOCK);
                }
                i += 1;
                if i % TOGETHER == 0 {
                    ring.read.0.store(i, Ordering::Release);
                }
            }
            ring.read.0.store(i, Ordering::Release);
        }
        sum
    };
    thread::scope(|scope| {
        // Workers are made and used on their own threads, so only the pool and the ring are shared.
        let consumer = scope.spawn(consume);
        let producer = scope.spawn(produce);
        let answer = consumer.join().expect("no panic");
        Outcome { time: producer.join().expect("no panic"), answer }
    })
}

/// Blocks on their way.
const PLACES: usize = 1024;

/// Blocks announced at once, on either side.
const TOGETHER: usize = 16;

/// One writer, one reader. Both count the blocks from 0 on.
struct Ring<B> {
    places: Box<[UnsafeCell<MaybeUninit<B>>]>,
    /// Blocks that the reader has got, as far as announced.
    read: Counter,
    /// Blocks that the writer has put, as far as announced.
    written: Counter,
}

#[repr(align(128))]
struct Counter(AtomicUsize);

// SAFETY: a place is used by the writer until it is announced, then by the reader until that is announced. The blocks are
// those of a `Shared` pool, which belong to no thread.
unsafe impl<B> Sync for Ring<B> {}

impl<B> Ring<B> {
    fn new() -> Self {
        let places = (0..PLACES).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
        Ring { places, read: Counter(AtomicUsize::new(0)), written: Counter(AtomicUsize::new(0)) }
    }

    /// # Safety
    ///
    /// For the writer: the place is not the reader's.
    #[inline(always)]
    unsafe fn put(&self, i: usize, block: B) {
        // SAFETY: our caller's word.
        unsafe { (*self.places[i % PLACES].get()).write(block) };
    }

    /// # Safety
    ///
    /// For the reader: the place has a block that was not got yet.
    #[inline(always)]
    unsafe fn get(&self, i: usize) -> B {
        // SAFETY: our caller's word.
        unsafe { (*self.places[i % PLACES].get()).assume_init_read() }
    }

    #[inline(always)]
    fn wait_until(&self, counter: &Counter, enough: impl Fn(usize) -> bool) -> usize {
        let mut patience = Patience::new();
        loop {
            let count = counter.0.load(Ordering::Acquire);
            if enough(count) {
                return count;
            }
            patience.lose();
        }
    }
}

/// Where threads wait for each other, once.
pub(super) struct Barrier {
    missing: AtomicUsize,
}

impl Barrier {
    pub(super) fn new(threads: usize) -> Self {
        Barrier { missing: AtomicUsize::new(threads) }
    }

    pub(super) fn wait(&self) {
        self.missing.fetch_sub(1, Ordering::AcqRel);
        let mut patience = Patience::new();
        while self.missing.load(Ordering::Acquire) != 0 {
            patience.lose();
        }
    }
}

/// Spins for a while, then lets others run: there may be one processor only.
struct Patience(u32);

impl Patience {
    fn new() -> Self {
        Patience(10_000)
    }

    fn lose(&mut self) {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                hint::spin_loop();
            }
            None => thread::yield_now(),
        }
    }
}
