//! Caches over classes that several share: on one thread, which is all of the workers in turn.

use std::cell::Cell;

use fibra_allocators::{Allocator, Backing, Borrowed, Cache, Cached, DynAlloc, Layout, SizeClasses, SpinLock, Worker};

use crate::drive;
use crate::input::{Input, sizes};
use crate::model::{Expect, Guarded, Live, Spec, World};
use crate::specs::{Classes, ClassesModel, Peaks, live_in};

/// What a cache with chains of `n` blocks may hold of a class.
fn bound(n: usize) -> usize {
    32 + 2 * n.max(15)
}

/// Which cache has a free block is not the model's business: that some request of a class is refused only when all of its
/// blocks are live, or in caches, is.
struct CachesModel<'a, B: Backing> {
    classes: ClassesModel<'a, 6, B, SpinLock>,
    /// The most blocks of a class that may be in caches now.
    most_cached: Cell<usize>,
}

impl<B: Backing> Spec for CachesModel<'_, B> {
    fn on_allocate(&self, layout: Layout, _: &[Live]) -> Expect {
        match (layout.size(), self.classes.class_of(layout)) {
            (0, _) => Expect::Fresh(0),
            (_, None) => Expect::Refused,
            _ => Expect::Any,
        }
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        let same = block.layout.size() != 0 && layout.size() != 0;
        if same && self.classes.class_of(block.layout) == self.classes.class_of(layout) {
            return Expect::Same(block.block.len());
        }
        self.on_allocate(layout, live)
    }

    fn on_refused(&self, layout: Layout, live: &[Live]) {
        let Some(class) = self.classes.class_of(layout) else { return };
        let row = self.classes.rows()[class];
        let (_, counted) = self.classes.counts()[class];
        assert_eq!(counted, row.n_blocks, "refused, although the shared class has a block");
        let cached = counted - live_in(&self.classes, class, live);
        assert!(cached <= self.most_cached.get(), "{cached} blocks are in caches");
    }

    fn assert_counts(&self, live: &[Live]) {
        let rows = self.classes.rows();
        for (class, (_, counted)) in self.classes.counts().into_iter().enumerate() {
            let mine = live_in(&self.classes, class, live);
            assert!((mine..=mine + self.most_cached.get()).contains(&counted), "{mine} live, {counted} counted");
        }
        for block in live.iter().filter(|block| block.layout.size() != 0) {
            let class = self.classes.class_of(block.layout).expect("it was served");
            assert_eq!(block.block.len(), rows[class].block_size);
        }
    }
}

impl<B: Backing> CachesModel<'_, B> {
    /// For when all caches are empty.
    fn assert_exact(&self, live: &[Live]) {
        let most = self.most_cached.replace(0);
        self.assert_counts(live);
        self.most_cached.set(most);
    }
}

pub fn caches(input: &mut Input<'_>) {
    let table = input.table();
    let mut guarded = Guarded::new(0, table.arena_size());
    let range = guarded.range();
    let system = SizeClasses::with_form::<SpinLock>(&table, guarded.memory()).expect("what the table asks for");
    let depths = [(); 3].map(|()| input.below(40));
    let caches: Vec<_> = depths[..1 + input.below(3)].iter().map(|depth| Cache::new(&system, *depth)).collect();
    let spec = CachesModel {
        classes: ClassesModel { system: &system, peaks: Peaks::default() },
        most_cached: depths[..caches.len()].iter().map(|depth| bound(*depth)).sum::<usize>().into(),
    };
    let direct = &system;
    let handles: Vec<&Cache<'_, 6, Borrowed<'_>>> = caches.iter().collect();
    let mut handles: Vec<&dyn Allocator> = handles.iter().map(|cache| cache as &dyn Allocator).collect();
    handles.push(&direct);
    drive(input, World::new(vec![range], &spec), &handles, &sizes(table.rows()), |world, input| {
        match input.below(caches.len() + 1) {
            0 => {
                caches.iter().for_each(Cache::flush);
                spec.assert_exact(&world.live);
            }
            which => caches[which - 1].flush(),
        }
    });
    drop(caches);
    spec.assert_exact(&[]);
    guarded.assert_guards();
}

thread_local!(static INDEX: Cell<Option<usize>> = const { Cell::new(None) });

/// A worker whose number the fuzzer sets.
struct Numbered;

// SAFETY: there is one thread.
unsafe impl Worker for Numbered {
    fn index() -> Option<usize> {
        INDEX.get()
    }
}

const WORKERS: usize = 3;

pub fn cached(input: &mut Input<'_>) {
    let table = input.table();
    let depth = input.below(40);
    let mut guarded = Guarded::new(0, table.arena_size());
    let range = guarded.range();
    let system = SizeClasses::with_form::<SpinLock>(&table, guarded.memory()).expect("what the table asks for");
    let pool = Cached::<6, WORKERS, _, Numbered>::sized(system, |row| depth.min(row.n_blocks));
    let spec = CachesModel {
        classes: ClassesModel { system: pool.system(), peaks: Peaks::default() },
        most_cached: (WORKERS * bound(depth)).into(),
    };
    let flush = || {
        let was = INDEX.get();
        for worker in 0..WORKERS {
            INDEX.set(Some(worker));
            pool.flush();
        }
        INDEX.set(was);
    };
    let world = World::new(vec![range], &spec);
    drive(input, world, &[&&pool, &DynAlloc::root(&pool)], &sizes(table.rows()), |world, input| match input.below(7) {
        0 => {
            flush();
            spec.assert_exact(&world.live);
        }
        1 => INDEX.set(None),
        which => INDEX.set(Some(which - 2)), // one of them is one too many, and one is another
    });
    flush();
    spec.assert_exact(&[]);
    INDEX.set(None);
    guarded.assert_guards();
}
