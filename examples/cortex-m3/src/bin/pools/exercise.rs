//! Random allocations, releases, growths and shrinkings, against a model of what each request must be answered with.

use core::alloc::Layout;
use core::ptr::NonNull;

use fibra_allocators::{AllocError, AllocRef, ClassStats, Corruption, MemReq};

use crate::random::Random;

/// What is known of an allocator's classes, and what it says itself.
pub struct Classes<'a, V, C> {
    pub rows: &'a [MemReq],
    /// Blocks that were never used come before released ones.
    pub fresh_first: bool,
    pub verify: V,
    pub counts: C,
}

pub struct Tally {
    pub allocated: usize,
    pub refused: usize,
    pub resized: usize,
}

/// More than any class has blocks.
const SLOTS: usize = 24;
const MOST_CLASSES: usize = 5;
/// Steps between two looks at the counts.
const OFTEN: usize = 16;

/// A block in use, full of bytes that follow from `seed`.
struct Held {
    block: NonNull<u8>,
    len: usize,
    layout: Layout,
    seed: u8,
}

impl Held {
    fn new(block: NonNull<[u8]>, layout: Layout, seed: u8) -> Self {
        assert!(block.len() >= layout.size(), "long enough");
        assert!(block.cast::<u8>().addr().get().is_multiple_of(layout.align()), "aligned");
        let held = Held { block: block.cast(), len: block.len(), layout, seed };
        for i in 0..held.len {
            // SAFETY: the block is so long, and ours.
            unsafe { held.block.add(i).write(held.byte(i)) };
        }
        held
    }

    fn byte(&self, i: usize) -> u8 {
        self.seed.wrapping_add(i as u8)
    }

    fn check(&self, len: usize) {
        for i in 0..len {
            // SAFETY: the block is so long, and all of it was written.
            assert_eq!(unsafe { self.block.add(i).read() }, self.byte(i), "somebody else wrote into a block");
        }
    }
}

struct Model<'a> {
    rows: &'a [MemReq],
    fresh_first: bool,
    live: [usize; MOST_CLASSES],
    /// Blocks that were ever used.
    peak: [usize; MOST_CLASSES],
}

impl Model<'_> {
    fn class_of(&self, layout: Layout) -> Option<usize> {
        let fits = |row: &MemReq| row.block_size >= layout.size() && row.block_size.is_multiple_of(layout.align());
        self.rows.iter().position(fits)
    }

    /// The length of the block that a request gets; none if it is refused.
    fn take(&mut self, layout: Layout) -> Option<usize> {
        if layout.size() == 0 {
            return Some(0);
        }
        let class = self.class_of(layout)?;
        let MemReq { block_size, n_blocks } = self.rows[class];
        if self.live[class] == n_blocks {
            return None;
        }
        if self.live[class] == self.peak[class] || self.fresh_first && self.peak[class] < n_blocks {
            self.peak[class] += 1;
        }
        self.live[class] += 1;
        Some(block_size)
    }

    fn give(&mut self, layout: Layout) {
        if layout.size() != 0 {
            let class = self.class_of(layout).expect("it got a block");
            self.live[class] -= 1;
        }
    }

    fn stays(&self, old: Layout, new: Layout) -> bool {
        old.size() != 0 && new.size() != 0 && self.class_of(old) == self.class_of(new)
    }
}

fn random_layout(random: &mut Random, rows: &[MemReq]) -> Layout {
    let near = rows[random.below(rows.len())].block_size;
    // Now and then one that is larger than the class, and one of no bytes.
    let size = random.below(near + near / 8 + 2);
    let align = 1 << (random.below(12) / 2);
    Layout::from_size_align(size, align).expect("small")
}

pub fn exercise<A, V, C, I>(allocator: A, classes: Classes<'_, V, C>, steps: usize) -> Tally
where
    A: AllocRef,
    V: Fn() -> Result<(), Corruption>,
    C: Fn() -> I,
    I: IntoIterator<Item = ClassStats>,
{
    let Classes { rows, fresh_first, verify, counts } = classes;
    let mut model = Model { rows, fresh_first, live: [0; MOST_CLASSES], peak: [0; MOST_CLASSES] };
    let mut tally = Tally { allocated: 0, refused: 0, resized: 0 };
    let mut random = Random(0x2545_F491);
    let mut slots = [const { None::<Held> }; SLOTS];

    let look = |model: &Model<'_>| {
        assert_eq!(verify(), Ok(()));
        let mut said = 0;
        for (class, counts) in counts().into_iter().enumerate() {
            assert_eq!((counts.peak, counts.live), (model.peak[class], model.live[class]));
            said += 1;
        }
        assert_eq!(said, rows.len());
    };

    for step in 0..steps {
        let slot = &mut slots[random.below(SLOTS)];
        let seed = random.next() as u8;
        match slot.take() {
            None => {
                let layout = random_layout(&mut random, rows);
                let answer = allocator.allocate(layout);
                assert_eq!(answer.map(|block| block.len()).ok(), model.take(layout));
                match answer {
                    Ok(block) => {
                        *slot = Some(Held::new(block, layout, seed));
                        tally.allocated += 1;
                    }
                    Err(AllocError) => tally.refused += 1,
                }
            }
            Some(held) if seed.is_multiple_of(4) => {
                let layout = random_layout(&mut random, rows);
                held.check(held.len);
                // SAFETY: the block is ours, with that layout.
                let answer = unsafe {
                    if layout.size() >= held.layout.size() {
                        allocator.grow(held.block, held.layout, layout)
                    } else {
                        allocator.shrink(held.block, held.layout, layout)
                    }
                };
                if model.stays(held.layout, layout) {
                    assert_eq!(answer.map(NonNull::cast), Ok(held.block));
                } else {
                    let expected = model.take(layout);
                    assert_eq!(answer.map(|block| block.len()).ok(), expected);
                    if expected.is_some() {
                        model.give(held.layout);
                    }
                }
                *slot = Some(match answer {
                    Ok(block) => {
                        tally.resized += 1;
                        Held { block: block.cast(), ..held }.check(held.layout.size().min(layout.size()));
                        Held::new(block, layout, seed)
                    }
                    Err(AllocError) => {
                        tally.refused += 1;
                        held
                    }
                });
            }
            Some(held) => {
                held.check(held.len);
                // SAFETY: the block is ours, with that layout, and not used again.
                unsafe { allocator.deallocate(held.block, held.layout) };
                model.give(held.layout);
            }
        }
        if step.is_multiple_of(OFTEN) {
            look(&model);
        }
    }

    for held in slots.iter_mut().filter_map(Option::take) {
        held.check(held.len);
        // SAFETY: as above.
        unsafe { allocator.deallocate(held.block, held.layout) };
        model.give(held.layout);
    }
    look(&model);
    assert!(model.live.iter().all(|live| *live == 0));
    assert!(rows.iter().zip(model.peak).all(|(row, peak)| row.n_blocks == peak), "each class ran out");
    tally
}
