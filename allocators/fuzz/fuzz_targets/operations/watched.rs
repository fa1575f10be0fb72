//! Allocators behind others that watch: statistics, counts, a record of each operation, a check for mistakes.

use fibra_allocators::{
    Allocator, Borrowed, Checking, Counting, Counts, Debugging, DynAlloc, Layout, NoLock, SizeClasses, SpinLock,
    Statistics, checking_arena_size,
};

use crate::drive;
use crate::input::{Input, sizes};
use crate::model::{Expect, Guarded, Live, Spec, World};
use crate::specs::{ClassesModel, Peaks};

/// As the one inside, but blocks have exactly the length that was asked for.
struct Cut<'a> {
    inside: &'a dyn Spec,
    counted: &'a dyn Fn() -> Counts,
}

fn cut(expected: Expect, layout: Layout) -> Expect {
    match expected {
        Expect::Fresh(_) => Expect::Fresh(layout.size()),
        Expect::Same(_) => Expect::Same(layout.size()),
        other => other,
    }
}

impl Spec for Cut<'_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        cut(self.inside.on_allocate(layout, live), layout)
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        cut(self.inside.on_resize(block, layout, live), layout)
    }

    fn assert_counts(&self, live: &[Live]) {
        self.inside.assert_counts(live);
        let counts = (self.counted)();
        let with_bytes = live.iter().filter(|block| block.layout.size() != 0);
        assert_eq!(counts.live, with_bytes.clone().count());
        assert_eq!(counts.live_bytes, with_bytes.map(|block| block.layout.size()).sum::<usize>());
        assert!(counts.live <= counts.peak && counts.peak as u64 <= counts.total);
        assert!(counts.live_bytes <= counts.peak_bytes && counts.peak_bytes as u64 <= counts.total_bytes);
    }
}

/// What waits in quarantine, and red zones, decide what is refused: so it is only when the allocator inside has nothing left
/// even when all that has come home, or the records are full.
struct CheckingModel<'a> {
    inside: &'a dyn Allocator,
    /// Live, quarantined, capacity.
    records: &'a dyn Fn() -> [usize; 3],
    inside_live: &'a dyn Fn() -> usize,
}

impl Spec for CheckingModel<'_> {
    fn on_allocate(&self, layout: Layout, _: &[Live]) -> Expect {
        if layout.size() == 0 { Expect::Fresh(0) } else { Expect::Any }
    }

    fn on_resize(&self, _: &Live, layout: Layout, live: &[Live]) -> Expect {
        self.on_allocate(layout, live)
    }

    fn on_refused(&self, layout: Layout, _: &[Live]) {
        let [live, waiting, capacity] = (self.records)();
        assert_eq!(waiting, 0, "refused, with blocks in quarantine");
        assert!(live == capacity || self.inside.allocate(layout).is_err(), "refused, with room inside");
    }

    fn assert_counts(&self, blocks: &[Live]) {
        let [live, waiting, capacity] = (self.records)();
        assert_eq!(live, blocks.iter().filter(|block| block.layout.size() != 0).count());
        assert!(live + waiting <= capacity);
        assert_eq!((self.inside_live)(), live + waiting);
        assert!(blocks.iter().all(|block| block.block.len() == block.layout.size()));
    }
}

pub fn watched(input: &mut Input<'_>) {
    let table = input.table();
    let mut guarded = Guarded::new(0, table.arena_size());
    let range = guarded.range();
    let system = SizeClasses::new(&table, guarded.memory()).expect("what the table asks for");
    let inside = ClassesModel { system: &system, peaks: Peaks::default() };
    let system = &system;
    let live = || system.classes().map(|class| class.live).sum();
    let matters = sizes(table.rows());
    let run = |input: &mut Input<'_>, watched: &dyn Allocator, model: &dyn Spec, beside: &dyn Fn(&mut Input<'_>)| {
        drive(input, World::new(vec![range.clone()], model), &[watched], &matters, |_, input| beside(input));
    };
    match input.byte() % 5 {
        0 => {
            let stats = Statistics::<_, NoLock, 8>::over(system);
            run(input, &&stats, &Cut { inside: &inside, counted: &|| stats.counts() }, &|_| {
                let rows = stats.rows().map(|row| row.counts.total).sum::<u64>();
                assert_eq!(rows, stats.counts().total);
            });
        }
        1 => {
            let counting = Counting::<_, SpinLock>::over(Debugging::new(Statistics::new(system), "", String::new()));
            run(input, &&counting, &Cut { inside: &inside, counted: &|| counting.counts() }, &|_| {});
            assert_eq!(counting.inner().failures(), 0);
        }
        2 => {
            let stats = Statistics::new(Debugging::trace(system, String::new()).with_lock::<SpinLock>());
            run(input, &DynAlloc::root(&stats), &Cut { inside: &inside, counted: &|| stats.counts() }, &|_| {});
        }
        which => {
            let records = 1 + input.below(60);
            let mut memory = Guarded::new(5, checking_arena_size(records));
            let (zone, blocks, bytes) = (input.below(70), input.below(20), usize::from(input.word()) % 8000);
            if which == 3 {
                let checking = Checking::new(system, memory.memory()).red_zone(zone).quarantine(blocks, bytes);
                let model = CheckingModel {
                    inside: &system,
                    records: &|| [checking.live(), checking.quarantined(), checking.capacity()],
                    inside_live: &live,
                };
                run(input, &&checking, &model, &|_| assert_eq!(checking.verify(), 0));
                assert_eq!((checking.verify(), checking.mistakes()), (0, 0));
            } else {
                let stats = Statistics::new(Debugging::new(system, "inside", String::new()));
                let checking = Checking::<_, Borrowed<'_>>::new(&stats, memory.memory())
                    .red_zone(zone)
                    .quarantine(blocks, bytes)
                    .with_lock::<SpinLock>();
                let outside = Counting::new(&checking);
                let model = CheckingModel {
                    inside: &&stats,
                    records: &|| [checking.live(), checking.quarantined(), checking.capacity()],
                    inside_live: &|| stats.counts().live,
                };
                run(input, &&outside, &model, &|_| assert_eq!(checking.verify(), 0));
                assert_eq!(outside.counts().live, 0);
            }
            memory.assert_guards();
        }
    }
    assert_eq!((live(), system.verify()), (0, Ok(())));
    drop(inside);
    guarded.assert_guards();
}
