//! Primes: a pipeline that grows by a fibre for each prime it finds, and collapses when the numbers end.
//!
//! ```text
//!   numbers --> not a multiple of 2 --> not a multiple of 3 --> ... --> grow: what comes out here is a prime
//! ```

use core::cell::Cell;
use core::mem;
use core::ops::ControlFlow;

use fibra_allocators::{AllocError, AllocRef, FixupError, MemReq, Table, fixup};
use fibra_core::{Process, Reader, Writer, channel_layout, fibre_layout_of};

/// Writes the numbers from 2 to `limit`, then ends.
async fn number(limit: u32, mut to: Writer<'_, u32>) {
    for n in 2..=limit {
        to.write(n).await;
    }
}

/// Passes on what is no multiple of `prime`.
async fn filter(prime: u32, mut from: Reader<'_, u32>, mut to: Writer<'_, u32>) {
    loop {
        let n = from.read().await;
        if n % prime != 0 {
            to.write(n).await;
        }
    }
}

/// Whatever reaches the end of the pipeline is a prime: shows it, and puts a filter for its multiples before itself.
async fn grow<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    mut from: Reader<'p, u32>,
    mut show: impl FnMut(u32) -> ControlFlow<()>,
    exhausted: &Cell<bool>,
) {
    loop {
        let prime = from.read().await;
        if show(prime).is_break() {
            return;
        }
        let Ok((to, next)) = p.channel() else {
            return exhausted.set(true);
        };
        let before = mem::replace(&mut from, next);
        if p.spawn(filter(prime, before, to)).is_err() {
            return exhausted.set(true);
        }
    }
}

/// Spawns the numbers and the end of the pipeline, between which it grows. `exhausted` tells whether it had to stop for
/// want of memory.
///
/// # Errors
/// [`AllocError`] if there is not even memory to begin.
pub fn spawn<'p, A: AllocRef>(
    p: &'p Process<'p, '_, A>,
    limit: u32,
    show: impl FnMut(u32) -> ControlFlow<()> + 'p,
    exhausted: &'p Cell<bool>,
) -> Result<(), AllocError> {
    let (to, from) = p.channel()?;
    p.spawn(number(limit, to)).map_err(|_| AllocError)?;
    p.spawn(grow(p, from, show, exhausted)).map_err(|_| AllocError)
}

/// Blocks enough for all primes up to `limit`: so the sieve cannot run out of memory once it has begun.
///
/// # Errors
/// If they are more than can be addressed.
pub fn sizes(limit: u32) -> Result<Table<3>, FixupError> {
    let n_filters = most_primes(limit);
    let filter = fibre_layout_of(&|(prime, from, to)| filter(prime, from, to)).size();
    // The two fibres at the ends take a block of 512 bytes at most.
    fixup([
        MemReq::new(filter, n_filters),
        MemReq::new(channel_layout::<u32>().size(), n_filters + 1),
        MemReq::new(512, 2),
    ])
}

/// A bound on the number of primes up to `limit`, and at least 1.
///
/// π(n) < 1.25506 n / ln n (Rosser and Schoenfeld); ln n > 0.693 (bits − 1), with bits the length of n in binary.
fn most_primes(limit: u32) -> usize {
    let n = u64::from(limit.max(8));
    let bits = u64::from(n.ilog2());
    let bound = n * 1812 / (1000 * bits) + 1;
    usize::try_from(bound).unwrap_or(usize::MAX / 2)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn the_bound_holds() {
        let mut primes = std::vec::Vec::<u32>::new();
        for n in 0..20_000 {
            if n > 1 && primes.iter().take_while(|p| *p * *p <= n).all(|p| n % p != 0) {
                primes.push(n);
            }
            assert!(most_primes(n) >= primes.len().max(1), "up to {n}");
        }
        assert!(most_primes(u32::MAX) >= 203_280_221);
    }
}
