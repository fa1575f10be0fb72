//! How long single operations take, from the first one on: the churn, each operation between two stamps.

use super::subject::{BLOCK, Subject};
use super::work::{BLOCKS, LIVE, Places, Step, TRACE, give_back, read, take, trace, write};
use crate::stamp;

/// What each operation took, in ticks of [`stamp`], with what the stamps themselves take.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Allocations, in the order in which they were made.
    pub take: Vec<u32>,
    /// Releases.
    pub give_back: Vec<u32>,
}

/// Runs the churn for `pairs` of a release and an allocation, after taking the blocks that are live throughout. The pool is
/// made for it and starts cold. A pool of one size is asked for that size always.
///
/// # Panics
///
/// When a block does not have what was written to it.
pub(super) fn latencies<S: Subject>(pairs: usize) -> Latencies {
    let steps = trace();
    let size_of = |size: u16| if S::ANY_SIZE { usize::from(size) } else { BLOCK };
    // All that is written to while operations are timed is resident before.
    let mut latencies = Latencies { take: vec![1; LIVE as usize + pairs], give_back: vec![1; pairs] };
    let mut places = Places::new(LIVE as usize);
    let mut sizes = vec![0; LIVE as usize];
    let mut sum = 0_u64;

    let pool = S::new(BLOCKS);
    let worker = pool.worker();
    for (place, latency) in latencies.take[..LIVE as usize].iter_mut().enumerate() {
        sizes[place] = size_of(steps[place].size);
        let before = stamp::before();
        let block = take(&worker, sizes[place]);
        let after = stamp::after();
        *latency = stamp::between(before, after);
        write(&worker, &block, place as u64);
        // SAFETY: there is such a place.
        unsafe { places.put(place, block) };
    }
    for i in 0..pairs {
        let Step { place, size } = steps[(i + LIVE as usize) % TRACE];
        let place = usize::from(place);
        // SAFETY: each place has a block of this pool, of the size beside it.
        let block = unsafe { places.get(place) };
        sum += read(&worker, &block);
        let before = stamp::before();
        // SAFETY: as above.
        unsafe { give_back(&worker, block, sizes[place]) };
        let after = stamp::after();
        latencies.give_back[i] = stamp::between(before, after);
        sizes[place] = size_of(size);
        let before = stamp::before();
        let block = take(&worker, sizes[place]);
        let after = stamp::after();
        latencies.take[i + LIVE as usize] = stamp::between(before, after);
        write(&worker, &block, LIVE + i as u64);
        // SAFETY: there is such a place, and its block was given back.
        unsafe { places.put(place, block) };
    }
    for (place, size) in sizes.into_iter().enumerate() {
        // SAFETY: as above; each is got once.
        unsafe {
            let block = places.get(place);
            sum += read(&worker, &block);
            give_back(&worker, block, size);
        }
    }
    let written = LIVE + pairs as u64;
    assert_eq!(sum, written * (written - 1) / 2, "a block was not what its user wrote to");
    latencies
}
