//! Random allocations, releases, growths and shrinkings, of each allocator, against a model.

mod support;

use std::cell::RefCell;

use fibra_allocators::{
    Backing, Bump, Cache, Fifo, FixedBlock, Form, GRANULE, Layout, LockFree, MemReq, NoLock, Ordered, SizeClasses,
    SpinLock, Table, fixup,
};
use proptest::prelude::*;
use support::{Expect, Guarded, Live, Parent, Spec, Step, layout, run, steps};

const LARGEST_ALIGN: usize = 4096;

/// Greatest number of live blocks so far, per class.
#[derive(Default)]
struct Peaks(RefCell<Vec<usize>>);

impl Peaks {
    fn raise(&self, class: usize, live: usize) -> usize {
        let mut peaks = self.0.borrow_mut();
        if peaks.len() <= class {
            peaks.resize(class + 1, 0);
        }
        peaks[class] = peaks[class].max(live);
        peaks[class]
    }
}

/// What `FixedBlock` and `SizeClasses` have in common: blocks of some classes, a limited number of each.
trait Classes {
    /// Block size and number of each class.
    fn rows(&self) -> Vec<MemReq>;
    fn class_of(&self, layout: Layout) -> Option<usize>;
    /// (peak, live) of each class, as the allocator counts.
    fn counts(&self) -> Vec<(usize, usize)>;
    fn peaks(&self) -> &Peaks;
}

fn live_in(classes: &impl Classes, class: usize, live: &[Live]) -> usize {
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

struct ClassesModel<'a, const N: usize, B: Backing, F: Form = NoLock> {
    system: &'a SizeClasses<N, B, F>,
    peaks: Peaks,
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

struct FixedModel<'a, B: Backing, F: Form = NoLock> {
    blocks: &'a FixedBlock<B, F>,
    peaks: Peaks,
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
struct FifoModel<M>(M);

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
struct CacheModel<M>(M);

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

struct BumpModel<'a, B: Backing> {
    bump: &'a Bump<B>,
    start: usize,
    /// The lowest `used` that there can be now.
    used: RefCell<usize>,
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

fn tables() -> impl Strategy<Value = Table<6>> {
    let size = prop_oneof![3 => 1..200_usize, 2 => 1..10_000_usize, 2 => (4..14_u32).prop_map(|log| 1 << log)];
    let row = (size, 1..6_usize).prop_map(|(size, n)| MemReq::new(size, n));
    prop::array::uniform6(row).prop_map(|rows| fixup(rows).expect("rows of at least 1 block of 1 byte"))
}

proptest! {
    #[test]
    fn size_classes_in_lent_memory(table in tables(), skew in 0..256_usize, steps in steps(9000)) {
        let skew = skew * 16;
        let mut guarded = Guarded::new(skew, table.arena_size());
        let range = guarded.range();
        let system = SizeClasses::new(&table, guarded.memory()).expect("the size that the table asks for");
        run(&system, range, &ClassesModel { system: &system, peaks: Peaks::default() }, &steps);
        guarded.assert_guards();
    }

    #[test]
    fn size_classes_at_any_address(table in tables(), skew in 0..4096_usize, steps in steps(1000)) {
        let mut guarded = Guarded::new(skew, table.block_bytes() + LARGEST_ALIGN);
        let range = guarded.range();
        let system = SizeClasses::new(&table, guarded.memory()).expect("room for any padding");
        run(&system, range, &ClassesModel { system: &system, peaks: Peaks::default() }, &steps);
        guarded.assert_guards();
    }

    #[test]
    fn size_classes_in_a_parent(table in tables(), steps in steps(9000)) {
        let parent = Parent::default();
        let system = SizeClasses::in_parent(&table, &parent).expect("the parent has memory");
        prop_assert_eq!(parent.live(), [layout(table.block_bytes(), table.arena_align())]);
        run(&system, parent.range(), &ClassesModel { system: &system, peaks: Peaks::default() }, &steps);
        prop_assert_eq!(parent.given(), 1, "all comes from the one extent");
        drop(system);
        prop_assert_eq!(parent.live(), []);
    }

    #[test]
    fn fixed_blocks_in_lent_memory(
        size in 0..300_usize,
        log in 0..9_u32,
        skew in 0..300_usize,
        len in 0..4000_usize,
        steps in steps(400),
    ) {
        let mut guarded = Guarded::new(skew, len);
        let range = guarded.range();
        let blocks = FixedBlock::new(layout(size, 1 << log), guarded.memory());
        run(&blocks, range, &FixedModel { blocks: &blocks, peaks: Peaks::default() }, &steps);
        guarded.assert_guards();
    }

    #[test]
    fn fixed_blocks_in_a_parent(size in 0..300_usize, log in 0..9_u32, n in 0..20_usize, steps in steps(400)) {
        let parent = Parent::default();
        let blocks = FixedBlock::in_parent(layout(size, 1 << log), n, &parent).expect("the parent has memory");
        prop_assert_eq!(blocks.capacity(), n);
        run(&blocks, parent.range(), &FixedModel { blocks: &blocks, peaks: Peaks::default() }, &steps);
        drop(blocks);
        prop_assert_eq!(parent.live(), []);
    }

    #[test]
    fn bump_in_lent_memory(skew in 0..300_usize, len in 0..20_000_usize, steps in steps(900)) {
        let mut guarded = Guarded::new(skew, len);
        let range = guarded.range();
        let mut bump = Bump::new(guarded.memory());
        for _ in 0..2 {
            run(&bump, range.clone(), &BumpModel { bump: &bump, start: range.start, used: 0.into() }, &steps);
            bump.reset();
        }
        guarded.assert_guards();
    }

    #[test]
    fn bump_in_a_parent(len in 0..20_000_usize, steps in steps(900)) {
        let parent = Parent::default();
        let bump = Bump::in_parent(&parent, len).expect("the parent has memory");
        prop_assert_eq!(parent.live(), [layout(len, GRANULE)]);
        let range = parent.range();
        run(&bump, range.clone(), &BumpModel { bump: &bump, start: range.start, used: 0.into() }, &steps);
        drop(bump);
        prop_assert_eq!(parent.live(), []);
    }

    #[test]
    fn size_classes_in_every_form(table in tables(), skew in 0..256_usize, steps in steps(9000)) {
        in_form::<SpinLock>(&table, skew * 16, &steps, false);
        in_form::<LockFree>(&table, skew * 16, &steps, false);
        in_form::<Ordered>(&table, skew * 16, &steps, false);
        in_form::<Ordered<SpinLock>>(&table, skew * 16, &steps, false);
        in_form::<Fifo>(&table, skew * 16, &steps, true);
    }

    #[test]
    fn fixed_blocks_in_every_form(size in 0..300_usize, log in 0..9_u32, len in 0..9000_usize, steps in steps(400)) {
        let block = layout(size, 1 << log);
        fixed_in_form::<SpinLock>(block, len, &steps, false);
        fixed_in_form::<LockFree>(block, len, &steps, false);
        fixed_in_form::<Ordered>(block, len, &steps, false);
        fixed_in_form::<Fifo>(block, len, &steps, true);
    }

    #[test]
    fn a_cache_gives_out_what_its_classes_have(table in tables(), depth in 0..100_usize, steps in steps(9000)) {
        let mut guarded = Guarded::new(0, table.arena_size());
        let range = guarded.range();
        let system = SizeClasses::with_form::<SpinLock>(&table, guarded.memory()).expect("the size that the table asks for");
        let cache = Cache::new(&system, depth);
        run(&cache, range, &CacheModel(ClassesModel { system: &system, peaks: Peaks::default() }), &steps);
        drop(cache);
        prop_assert_eq!(system.verify(), Ok(()));
        prop_assert!(system.classes().all(|class| class.live == 0));
        guarded.assert_guards();
    }
}

fn in_form<F: Form>(table: &Table<6>, skew: usize, steps: &[Step], fifo: bool) {
    let mut guarded = Guarded::new(skew, table.arena_size_for::<F>());
    let range = guarded.range();
    let system = SizeClasses::with_form::<F>(table, guarded.memory()).expect("the size that the table asks for");
    let model = ClassesModel { system: &system, peaks: Peaks::default() };
    if fifo {
        run(&system, range, &FifoModel(model), steps)
    } else {
        run(&system, range, &model, steps)
    }
    guarded.assert_guards();
}

fn fixed_in_form<F: Form>(block: Layout, len: usize, steps: &[Step], fifo: bool) {
    let mut guarded = Guarded::new(7, len);
    let range = guarded.range();
    let blocks = FixedBlock::with_form::<F>(block, guarded.memory());
    let model = FixedModel { blocks: &blocks, peaks: Peaks::default() };
    if fifo {
        run(&blocks, range, &FifoModel(model), steps)
    } else {
        run(&blocks, range, &model, steps)
    }
    guarded.assert_guards();
}
