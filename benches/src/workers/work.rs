//! What a fibre does when it computes.

use std::hint::black_box;

use super::Micros;

/// Six shifts and combinations, each of which needs the one before; about 1.5 ns.
const STEPS_PER_MICRO: u64 = 650;

/// Computes for a while, and gives `value` back. The work is fixed, not the time.
#[inline(never)]
pub(crate) fn compute(value: u64, time: Micros) -> u64 {
    let mut x = black_box(value | 1);
    for _ in 0..time.0 * STEPS_PER_MICRO {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
    value
}
