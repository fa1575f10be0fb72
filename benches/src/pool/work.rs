//! The workloads of one thread.

use std::mem::MaybeUninit;
use std::sync::OnceLock;

use super::subject::{BLOCK, Subject, Worker};
use crate::measure::{Outcome, elapsed, processor_time};

/// Blocks that are live at once in a batch, and in the churn.
pub const LIVE: u64 = 1000;

/// Blocks of each size that the small workloads ask of a pool.
pub(super) const BLOCKS: usize = 8192;

/// The order in which a batch is given back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// First taken, first given back.
    First,
    /// Last taken, first given back.
    Last,
    /// Any, but the same for everybody.
    Random,
}

impl Order {
    fn permutation(self) -> Vec<usize> {
        let blocks = 0..LIVE as usize;
        match self {
            Self::First => blocks.collect(),
            Self::Last => blocks.rev().collect(),
            Self::Random => shuffled(LIVE as usize, 5),
        }
    }
}

/// Hands a pointer back. The compiler cannot know that it is the same one, nor that nobody used what it points to, so what
/// was written there has to be there, and what is read later has to be read. No instruction comes of it.
#[inline(always)]
pub(super) fn opaque<T>(pointer: *mut T) -> *mut T {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    {
        let mut pointer = pointer;
        // SAFETY: a comment.
        unsafe { std::arch::asm!("/* {0} */", inout(reg) pointer, options(nostack, preserves_flags)) };
        pointer
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    std::hint::black_box(pointer)
}

#[cold]
#[inline(never)]
fn exhausted() -> ! {
    panic!("the pool has too few blocks")
}

/// Takes a block without writing to it.
#[inline(always)]
pub(super) fn take<W: Worker>(worker: &W, size: usize) -> W::Block {
    worker.take(size).unwrap_or_else(|| exhausted())
}

/// Writes the first word of a block.
#[inline(always)]
pub(super) fn write<W: Worker>(worker: &W, block: &W::Block, value: u64) {
    let address = opaque(worker.address(block).as_ptr());
    // SAFETY: the block is in use, so its memory is ours; it has a word, and is aligned for it.
    unsafe { address.write(value) };
    opaque(address);
}

/// Reads the first word of a block.
#[inline(always)]
pub(super) fn read<W: Worker>(worker: &W, block: &W::Block) -> u64 {
    // SAFETY: the block is in use, so its memory is ours; it has a word, and `write` wrote it.
    unsafe { worker.address(block).read() }
}

/// Gives a block back.
///
/// # Safety
///
/// It came from [`take`] of the same size, on this worker's pool.
#[inline(always)]
pub(super) unsafe fn give_back<W: Worker>(worker: &W, block: W::Block, size: usize) {
    // SAFETY: our caller's word.
    unsafe { worker.give_back(block, size) };
    opaque(std::ptr::from_ref(worker).cast_mut());
}

/// One block, or batch, of so many is read before it is given back: to read all, which were just written, takes as long as
/// what is to be measured.
pub(crate) const LOOKED_AT: u64 = 64;

/// One block is taken, written and given back, `n` times.
pub(super) fn tight<S: Subject>(n: u64) -> Outcome {
    #[inline(never)]
    fn pairs<W: Worker>(worker: &W, n: u64) -> u64 {
        let mut sum = 0;
        for i in 0..n {
            let block = take(worker, BLOCK);
            write(worker, &block, i);
            if i % LOOKED_AT == 0 {
                sum += read(worker, &block);
            }
            // SAFETY: just taken.
            unsafe { give_back(worker, block, BLOCK) };
        }
        sum
    }
    let pool = S::new(BLOCKS);
    let worker = pool.worker();
    pairs(&worker, LIVE);
    let mut answer = 0;
    let time = elapsed(processor_time, || answer = pairs(&worker, n));
    Outcome { time, answer }
}

/// [`LIVE`] blocks are taken and written, then given back, `n` times.
pub(super) fn batches<S: Subject>(n: u64, order: Order) -> Outcome {
    let pool = S::new(BLOCKS);
    let worker = pool.worker();
    let order = order.permutation();
    batches_of(&worker, &order, 1, 0);
    let mut answer = 0;
    let time = elapsed(processor_time, || answer = batches_of(&worker, &order, n, 0));
    Outcome { time, answer }
}

/// The batches, with values from `first` on: the sum of what was read. `order` is a permutation.
#[inline(never)]
pub(super) fn batches_of<W: Worker>(worker: &W, order: &[usize], n: u64, first: u64) -> u64 {
    let mut places = Places::new(order.len());
    let mut sum = 0;
    for batch in 0..n {
        for (value, place) in (first..).zip(0..order.len()) {
            let block = take(worker, BLOCK);
            write(worker, &block, value);
            // SAFETY: there are as many places.
            unsafe { places.put(place, block) };
        }
        if batch % LOOKED_AT == 0 {
            // SAFETY: all were filled above.
            sum += (0..order.len()).map(|place| read(worker, unsafe { places.look(place) })).sum::<u64>();
        }
        for &place in order {
            // SAFETY: a permutation has each place once, and all were filled above. Blocks of 64 bytes, of this pool.
            unsafe { give_back(worker, places.get(place), BLOCK) };
        }
    }
    sum
}

/// Blocks that are live, at places that the caller keeps book of: nothing is checked here, since it would be measured.
pub(super) struct Places<B>(Vec<MaybeUninit<B>>);

impl<B> Places<B> {
    /// So many empty places, resident.
    pub(super) fn new(count: usize) -> Self {
        let mut places = Vec::with_capacity(count);
        places.resize_with(count, MaybeUninit::zeroed);
        Places(places)
    }

    /// # Safety
    ///
    /// There is such a place. A block that is there is forgotten.
    #[inline(always)]
    pub(super) unsafe fn put(&mut self, place: usize, block: B) {
        // SAFETY: our caller's word.
        unsafe { self.0.get_unchecked_mut(place).write(block) };
    }

    /// # Safety
    ///
    /// A block was put there and not got since.
    #[inline(always)]
    pub(super) unsafe fn look(&self, place: usize) -> &B {
        // SAFETY: our caller's word.
        unsafe { self.0.get_unchecked(place).assume_init_ref() }
    }

    /// # Safety
    ///
    /// A block was put there and not got since.
    #[inline(always)]
    pub(super) unsafe fn get(&self, place: usize) -> B {
        // SAFETY: our caller's word.
        unsafe { self.0.get_unchecked(place).assume_init_read() }
    }
}

/// What happens next in the churn: the block at this place is given back, and one of that size takes its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) place: u16,
    pub(super) size: u16,
}

/// Steps in the [`trace`], after which it begins again.
pub(super) const TRACE: usize = 1 << 20;

/// The steps of the churn, the same for everybody: places below [`LIVE`], sizes of 16 to 1024 bytes, each as likely.
pub(super) fn trace() -> &'static [Step; TRACE] {
    static STEPS: OnceLock<Box<[Step; TRACE]>> = OnceLock::new();
    STEPS.get_or_init(|| {
        let mut random = Random::new(0x1234_5678_9abc_def1);
        let step = |_| Step { place: random.below(LIVE) as u16, size: 16 + random.below(1009) as u16 };
        let steps: Vec<Step> = (0..TRACE).map(step).collect();
        steps.try_into().expect("as many as there are")
    })
}

/// Blocks of mixed sizes, [`LIVE`] at any time: one is read and given back, and another one taken and written, `n` times.
pub(super) fn churn<S: Subject>(n: u64) -> Outcome {
    let pool = S::new(BLOCKS);
    let mut live = Churn::begin(pool.worker());
    live.steps(WARM);
    let time = elapsed(processor_time, || live.steps(n));
    Outcome { time, answer: live.end() }
}

/// Steps of the churn before those that count.
const WARM: u64 = 20_000;

/// What [`churn`] writes, each once, and so should read: as many numbers, from 0 on.
pub(crate) const fn churned(n: u64) -> u64 {
    LIVE + WARM + n
}

struct Churn<W: Worker> {
    worker: W,
    places: Places<W::Block>,
    sizes: Box<[u16]>,
    /// The next value, of which `LIVE` were written before the first step.
    next: u64,
    sum: u64,
}

impl<W: Worker> Churn<W> {
    fn begin(worker: W) -> Self {
        let mut places = Places::new(LIVE as usize);
        let sizes: Box<[u16]> = trace().iter().map(|step| step.size).take(LIVE as usize).collect();
        for (value, (place, &size)) in (0..).zip(sizes.iter().enumerate()) {
            let block = take(&worker, size.into());
            write(&worker, &block, value);
            // SAFETY: there are as many places as sizes.
            unsafe { places.put(place, block) };
        }
        Churn { worker, places, sizes, next: LIVE, sum: 0 }
    }

    #[inline(never)]
    fn steps(&mut self, n: u64) {
        let trace = trace();
        // In locals, or the compiler would write them back before each look at a block.
        let (worker, places, sizes) = (&self.worker, &mut self.places.0[..], &mut self.sizes[..]);
        let values = self.next..self.next + n;
        let mut sum = 0;
        for value in values.clone() {
            let Step { place, size } = trace[value as usize % TRACE];
            let place = usize::from(place);
            // SAFETY: the trace's places are below `LIVE`; each has a block of this pool, of the size beside it.
            unsafe {
                let held = places.get_unchecked_mut(place);
                let held_size = sizes.get_unchecked_mut(place);
                let old = held.assume_init_read();
                sum += read(worker, &old);
                give_back(worker, old, usize::from(*held_size));
                let new = take(worker, size.into());
                write(worker, &new, value);
                held.write(new);
                *held_size = size;
            }
        }
        self.next = values.end;
        self.sum += sum;
    }

    /// Gives back what is left: the sum of all that was read.
    fn end(self) -> u64 {
        let mut sum = self.sum;
        for (place, &size) in self.sizes.iter().enumerate() {
            // SAFETY: each place has a block of this pool, of the size beside it, and is visited once.
            unsafe {
                let block = self.places.get(place);
                sum += read(&self.worker, &block);
                give_back(&self.worker, block, size.into());
            }
        }
        sum
    }
}

/// Marsaglia's xorshift, multiplied: the same numbers on every machine.
pub(super) struct Random(u64);

impl Random {
    /// `seed` is not 0.
    pub(super) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % limit
    }
}

/// The numbers below `count` in an order that the seed decides.
pub(super) fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut numbers: Vec<usize> = (0..count).collect();
    for i in (1..count).rev() {
        numbers.swap(i, random.below(i as u64 + 1) as usize);
    }
    numbers
}
