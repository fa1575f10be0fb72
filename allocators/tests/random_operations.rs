//! Random allocations, releases, growths and shrinkings, of each allocator, against a model.

mod support;

use fibra_allocators::{
    Bump, Cache, Fifo, FixedBlock, Form, GRANULE, Layout, LockFree, MemReq, Ordered, SizeClasses, SpinLock, Table,
    fixup,
};
use proptest::prelude::*;
use support::specs::{BumpModel, CacheModel, ClassesModel, FifoModel, FixedModel, LARGEST_ALIGN, Peaks};
use support::{Guarded, Parent, Step, layout, run, steps};

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
