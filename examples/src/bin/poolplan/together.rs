//! How many blocks of some sizes were live at the same time: what a class that serves all of them needs for this trace.

use fibra_allocators::{Demand, GRANULE};
use fibra_std::Layout;

use crate::trace::{Operation, Trace};

/// For each range of the profile's rows, the greatest number of blocks that were live at once.
pub struct Together {
    /// As the optimiser rounds them: ascending, and all different.
    sizes: Vec<usize>,
    /// Of the rows from `first` to `last` at `first * sizes.len() + last`.
    peaks: Vec<u32>,
}

fn rounded(size: usize, align: usize) -> usize {
    size.next_multiple_of(align.max(GRANULE))
}

impl Together {
    /// O(rows² × operations). `done` is told of the rows that it has finished.
    pub fn new(profile: &[Demand], trace: &Trace, mut done: impl FnMut(usize)) -> Self {
        let sizes: Vec<usize> = profile.iter().map(|row| rounded(row.size, row.align)).collect();
        let n = sizes.len();
        let row_of = |layout: Layout| sizes.partition_point(|size| *size < rounded(layout.size(), layout.align()));

        let mut row_of_block = Vec::new();
        // (row, whether a block is taken or released)
        let mut steps: Vec<(usize, bool)> = Vec::new();
        for operation in &trace.operations {
            match *operation {
                Operation::Allocate { block, layout } => {
                    let row = (layout.size() > 0).then(|| row_of(layout));
                    if row_of_block.len() <= block {
                        row_of_block.resize(block + 1, None);
                    }
                    row_of_block[block] = row;
                    steps.extend(row.map(|row| (row, true)));
                }
                Operation::Release { block } => steps.extend(row_of_block[block].map(|row| (row, false))),
            }
        }

        let mut peaks = vec![0; n * n];
        for (first, peaks) in peaks.chunks_mut(n.max(1)).enumerate() {
            steps.retain(|(row, _)| *row >= first);
            let mut live = vec![0_u32; n];
            for (row, taken) in &steps {
                if *taken {
                    for (live, peak) in live[*row..].iter_mut().zip(&mut peaks[*row..]) {
                        *live += 1;
                        *peak = (*peak).max(*live);
                    }
                } else {
                    live[*row..].iter_mut().for_each(|live| *live -= 1);
                }
            }
            done(first + 1);
        }
        Together { sizes, peaks }
    }

    /// For the sizes from `smallest` to `largest`, which are rows.
    pub fn n_blocks(&self, smallest: usize, largest: usize) -> usize {
        let row = |size| self.sizes.partition_point(|of_row| *of_row < size);
        self.peaks[row(smallest) * self.sizes.len() + row(largest)] as usize
    }
}
