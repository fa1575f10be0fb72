//! What it takes before the first block, and for each block until all are in use.

use std::time::{Duration, Instant};

use super::subject::{ALIGN, BLOCK, Subject, Worker};
use super::work::{Places, give_back, opaque, take};
use crate::measure::resident_bytes;

/// Making a pool, and filling it. Sensible in a process that did nothing before.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Making the pool.
    pub make: Duration,
    /// Memory that became resident by that, in bytes.
    pub made_bytes: u64,
    /// Taking all its blocks and writing to every word of them.
    pub fill: Duration,
    /// Memory that is resident in the end, and was not before the pool was made, in bytes.
    pub full_bytes: u64,
}

/// A pool of `blocks` blocks of 64 bytes is made and filled.
///
/// # Panics
///
/// When a block does not have what was written to it.
pub(super) fn start<S: Subject>(blocks: usize) -> Start {
    let mut places = Places::new(blocks);
    let none = resident_bytes();
    let began = Instant::now();
    let pool = S::new(blocks);
    let make = began.elapsed();
    let made_bytes = resident_bytes().saturating_sub(none);

    let worker = pool.worker();
    let began = Instant::now();
    for place in 0..blocks {
        let block = take(&worker, BLOCK);
        let address = opaque(worker.address(&block).as_ptr());
        for word in 0..BLOCK / ALIGN {
            // SAFETY: the block is in use and has so many words.
            unsafe { address.add(word).write_volatile(place as u64) };
        }
        // SAFETY: there are so many places.
        unsafe { places.put(place, block) };
    }
    let fill = began.elapsed();
    let full_bytes = resident_bytes().saturating_sub(none);

    for place in 0..blocks {
        // SAFETY: each place has a block, and is got once.
        let block = unsafe { places.get(place) };
        for word in 0..BLOCK / ALIGN {
            // SAFETY: the block is in use and has so many words, all written.
            let value = unsafe { worker.address(&block).add(word).read() };
            assert_eq!(value, place as u64, "a block was not what its user wrote to");
        }
        // SAFETY: a block of this pool.
        unsafe { give_back(&worker, block, BLOCK) };
    }
    Start { make, made_bytes, fill, full_bytes }
}
