//! What a block costs that is in no cache: a pool of many blocks, all taken, then given back in random order, so that a pool
//! that reuses the last one first leads through memory at random.

use std::time::Duration;

use super::subject::{BLOCK, Subject, Worker};
use super::work::{Places, give_back, read, shuffled, take, write};
use crate::measure::{Outcome, elapsed, processor_time};
use crate::stamp;

/// Blocks in the pool: 64 MiB of them, more than most caches hold.
pub const COLD: u64 = 1 << 20;

/// The median time of taking one of `n` blocks after all were given back in random order, as if each had taken that.
pub(super) fn median<S: Subject>(n: u64) -> Outcome {
    let pool = S::new(n as usize);
    let worker = pool.worker();
    let (mut places, mut answer) = age(&worker, n as usize);
    let mut ticks: Vec<u32> = vec![0; n as usize];
    for (place, ticks) in ticks.iter_mut().enumerate() {
        let before = stamp::before();
        let block = take(&worker, BLOCK);
        let after = stamp::after();
        *ticks = stamp::between(before, after);
        write(&worker, &block, place as u64);
        // SAFETY: there are `n` places.
        unsafe { places.put(place, block) };
    }
    answer += clear(&worker, &places, n as usize);
    let each = (stamp::median(&mut ticks) - stamp::overhead()).max(0.0) * stamp::tick();
    Outcome { time: Duration::from_secs_f64(each * n as f64 * 1e-9), answer }
}

/// The time of taking and writing `n` blocks after all were given back in random order.
pub(super) fn bulk<S: Subject>(n: u64) -> Outcome {
    #[inline(never)]
    fn fill<W: Worker>(worker: &W, places: &mut Places<W::Block>, n: usize) {
        for place in 0..n {
            let block = take(worker, BLOCK);
            write(worker, &block, place as u64);
            // SAFETY: our caller has `n` places.
            unsafe { places.put(place, block) };
        }
    }
    let pool = S::new(n as usize);
    let worker = pool.worker();
    let (mut places, mut answer) = age(&worker, n as usize);
    let time = elapsed(processor_time, || fill(&worker, &mut places, n as usize));
    answer += clear(&worker, &places, n as usize);
    Outcome { time, answer }
}

/// Takes `n` blocks and gives them back at random: empty places, and the sum of what was read.
fn age<W: Worker>(worker: &W, n: usize) -> (Places<W::Block>, u64) {
    let mut places = Places::new(n);
    for place in 0..n {
        let block = take(worker, BLOCK);
        write(worker, &block, place as u64);
        // SAFETY: there are `n` places.
        unsafe { places.put(place, block) };
    }
    let mut sum = 0;
    for place in shuffled(n, 9) {
        // SAFETY: each was filled, and is got once.
        unsafe {
            let block = places.get(place);
            sum += read(worker, &block);
            give_back(worker, block, BLOCK);
        }
    }
    (places, sum)
}

/// Gives back what is at all `n` places: the sum of what was read.
fn clear<W: Worker>(worker: &W, places: &Places<W::Block>, n: usize) -> u64 {
    let mut sum = 0;
    for place in 0..n {
        // SAFETY: our caller filled them, and each is got once.
        unsafe {
            let block = places.get(place);
            sum += read(worker, &block);
            give_back(worker, block, BLOCK);
        }
    }
    sum
}
