//! The best size classes for a profile, found by trying all.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use fibra_allocators::{Demand, GRANULE};

/// Rounded, sorted and merged, in the plainest way: size to (alignment, peak).
pub fn merged(profile: &[Demand]) -> Vec<(usize, usize, usize)> {
    let mut sizes = BTreeMap::<usize, (usize, usize)>::new();
    for demand in profile {
        let align = demand.align.max(GRANULE);
        let entry = sizes.entry(demand.size.next_multiple_of(align)).or_insert((align, 0));
        *entry = (entry.0.max(align), entry.1 + demand.peak);
    }
    sizes.into_iter().map(|(size, (align, peak))| (size, align, peak)).collect()
}

/// The fewest bytes in which at most `classes` classes serve the profile: tries each way to cut it.
pub fn by_force(profile: &[Demand], classes: usize, n_blocks: impl Fn(RangeInclusive<usize>, usize) -> usize) -> usize {
    let rows = merged(profile);
    let cuts = rows.len() - 1;
    let mut best = usize::MAX;
    'cuts: for mask in (0..1_u32 << cuts).filter(|mask| (mask.count_ones() as usize) < classes) {
        let (mut total, mut first) = (0, 0);
        for last in 0..rows.len() {
            if last < cuts && mask >> last & 1 == 0 {
                continue;
            }
            let run = &rows[first..=last];
            let align = run.iter().map(|row| row.1).max().unwrap();
            let block = rows[last].0.next_multiple_of(align);
            if rows.get(last + 1).is_some_and(|next| block >= next.0) {
                continue 'cuts;
            }
            total += block * n_blocks(rows[first].0..=rows[last].0, run.iter().map(|row| row.2).sum());
            first = last + 1;
        }
        best = best.min(total);
    }
    best
}
