//! What the documentation says of the allocators themselves, for [`run`](super::model::run).

use std::cell::RefCell;

use fibra_allocators::{Backing, Bump, FixedBlock, Form, Layout, MemReq, NoLock, SizeClasses};

use super::model::{Expect, Live, Spec};

pub const LARGEST_ALIGN: usize = 4096;

/// Greatest number of live blocks so far, per class.
#[derive(Default)]
pub struct Peaks(RefCell<Vec<usize>>);

impl Peaks {
    pub fn raise(&self, class: usize, live: usize) -> usize {
        let mut peaks = self.0.borrow_mut();
        if peaks.len() <= class {
            peaks.resize(class + 1, 0);
        }
        peaks[class] = peaks[class].max(live);
        peaks[class]
    }
}

/// What `FixedBlock` and `SizeClasses` have in common: blocks of some classes, a limited number of each.
pub trait Classes {
    /// Block size and number of each class.
    fn rows(&self) -> Vec<MemReq>;
    fn class_of(&self, layout: Layout) -> Option<usize>;
    /// (peak, live) of each class, as the allocator counts.
    fn counts(&self) -> Vec<(usize, usize)>;
    fn peaks(&self) -> &Peaks;
}

pub fn live_in(classes: &impl Classes, class: usize, live: &[Live]) -> usize {
    let of_class = |block: &&Live| block.layout.size() != 0 && classes.class_of(block.layout) == Some(class);
    live.iter().filter(of_class).count()
}

impl<C: Classes> Spec for C {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let Some(class) = self.class_of(layout) else {
            return Expect::Refused;
        };
        let MemReq { block_size, n_blocks } = self.rows()[class];
        let now = live_in(self, class, live);
        if now == n_blocks {
            return Expect::Refused;
        }
        self.peaks().raise(class, now + 1);
        Expect::Fresh(block_size)
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        if block.layout.size() != 0 && layout.size() != 0 {
            let class = self.class_of(block.layout);
            if class == self.class_of(layout) {
                return Expect::Same(block.block.len());
            }
        }
        // The old block is released only after the new one was found.
        self.on_allocate(layout, live)
    }

    fn assert_counts(&self, live: &[Live]) {
        for (class, counts) in self.counts().into_iter().enumerate() {
            let live = live_in(self, class, live);
            assert_eq!(counts, (self.peaks().raise(class, live), live), "(peak, live) of class {class}");
        }
    }
}

pub struct ClassesModel<'a, const N: usize, B: Backing, F: Form = NoLock> {
    pub system: &'a SizeClasses<N, B, F>,
    pub peaks: Peaks,
}

impl<const N: usize, B: Backing, F: Form> Classes for ClassesModel<'_, N, B, F> {
    fn rows(&self) -> Vec<MemReq> {
        self.system.table().rows().to_vec()
    }

    fn class_of(&self, layout: Layout) -> Option<usize> {
        if layout.align() > LARGEST_ALIGN {
            return None;
        }
        let size = layout.size().next_multiple_of(layout.align());
        self.rows().iter().position(|row| size <= row.block_size && row.block_size % layout.align() == 0)
    }

    fn counts(&self) -> Vec<(usize, usize)> {
        assert_eq!(self.system.verify(), Ok(()));
        self.system.classes().map(|class| (class.peak, class.live)).collect()
    }

    fn peaks(&self) -> &Peaks {
        &self.peaks
    }
}

pub struct FixedModel<'a, B: Backing, F: Form = NoLock> {
    pub blocks: &'a FixedBlock<B, F>,
    pub peaks: Peaks,
}

impl<B: Backing, F: Form> Classes for FixedModel<'_, B, F> {
    fn rows(&self) -> Vec<MemReq> {
        vec![MemReq::new(self.blocks.block().size(), self.blocks.capacity())]
    }

    fn class_of(&self, layout: Layout) -> Option<usize> {
        let block = self.blocks.block();
        (layout.size() <= block.size() && layout.align() <= block.align()).then_some(0)
    }

    fn counts(&self) -> Vec<(usize, usize)> {
        assert_eq!(self.blocks.verify(), Ok(()));
        vec![(self.blocks.peak(), self.blocks.live())]
    }

    fn peaks(&self) -> &Peaks {
        &self.peaks
    }
}

/// A class gives out all its blocks before it uses one again, so its peak is not the greatest number of live ones.
pub struct FifoModel<M>(pub M);

impl<M: Classes> Spec for FifoModel<M> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        self.0.on_allocate(layout, live)
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        self.0.on_resize(block, layout, live)
    }

    fn assert_counts(&self, live: &[Live]) {
        for (class, (peak, counted)) in self.0.counts().into_iter().enumerate() {
            let live = live_in(&self.0, class, live);
            assert_eq!(counted, live, "live blocks of class {class}");
            assert!(peak >= self.0.peaks().raise(class, live));
        }
    }
}

/// Blocks in a cache count as live, so only what is given out can be predicted, not the counts.
pub struct CacheModel<M>(pub M);

impl<M: Classes> Spec for CacheModel<M> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        self.0.on_allocate(layout, live)
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        self.0.on_resize(block, layout, live)
    }

    fn assert_counts(&self, live: &[Live]) {
        for (class, (_, counted)) in self.0.counts().into_iter().enumerate() {
            assert!(counted >= live_in(&self.0, class, live));
        }
    }
}

pub struct BumpModel<'a, B: Backing> {
    pub bump: &'a Bump<B>,
    pub start: usize,
    /// The lowest `used` that there can be now.
    pub used: RefCell<usize>,
}

impl<B: Backing> Spec for BumpModel<'_, B> {
    fn on_allocate(&self, layout: Layout, _: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let mut used = self.used.borrow_mut();
        let begin = (self.start + *used).next_multiple_of(layout.align());
        let end = begin + layout.size() - self.start;
        if end > self.bump.capacity() {
            return Expect::Refused;
        }
        *used = end;
        Expect::Fresh(layout.size())
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        let aligned = block.addr().is_multiple_of(layout.align());
        if layout.size() < block.layout.size() && aligned {
            return if layout.size() == 0 { Expect::Fresh(0) } else { Expect::Same(layout.size()) };
        }
        let mut used = self.used.borrow_mut();
        let last = block.layout.size() != 0 && block.addr() + block.layout.size() == self.start + *used;
        if layout.size() < block.layout.size() || !aligned || !last {
            drop(used);
            return self.on_allocate(layout, live);
        }
        let end = *used + layout.size() - block.layout.size();
        if end > self.bump.capacity() {
            return Expect::Refused;
        }
        *used = end;
        Expect::Same(layout.size())
    }

    fn assert_counts(&self, _: &[Live]) {
        assert_eq!(self.bump.used(), *self.used.borrow());
    }
}
