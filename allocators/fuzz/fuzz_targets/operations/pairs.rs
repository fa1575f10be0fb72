//! Allocators that have another one to turn to.

use std::ops::Range;

use fibra_allocators::{
    Allocator, Bump, DynAlloc, Elastic, Exhausted, Fallback, FixedBlock, Form, Layout, MemReq, NoFallback, Relief,
    SizeClasses, Source,
};

use crate::drive;
use crate::input::{Input, sizes};
use crate::lone::in_some_form;
use crate::model::{Expect, Guarded, Live, Parent, Spec, World, layout};
use crate::specs::{BumpModel, ClassesModel, FixedModel, Peaks};

/// The blocks that lie in some memory, or do not.
fn of(live: &[Live], arena: &Range<usize>, inside: bool) -> Vec<Live> {
    live.iter().filter(|block| arena.contains(&block.addr()) == inside || block.layout.size() == 0).copied().collect()
}

/// Has no blocks.
struct Nothing;

impl Spec for Nothing {
    fn on_allocate(&self, _: Layout, _: &[Live]) -> Expect {
        Expect::Refused
    }

    fn on_resize(&self, _: &Live, _: Layout, _: &[Live]) -> Expect {
        unreachable!("it never had one")
    }

    fn assert_counts(&self, live: &[Live]) {
        assert!(live.iter().all(|block| block.layout.size() == 0));
    }
}

/// The host, which never refuses.
struct Host<'a>(&'a Parent);

impl Spec for Host<'_> {
    fn on_allocate(&self, layout: Layout, _: &[Live]) -> Expect {
        Expect::Fresh(layout.size())
    }

    fn on_resize(&self, _: &Live, _: Layout, _: &[Live]) -> Expect {
        Expect::Any
    }

    fn assert_counts(&self, live: &[Live]) {
        assert_eq!(self.0.live().len(), live.iter().filter(|block| block.layout.size() != 0).count());
    }
}

/// The documentation of `Elastic`, over any other specification for its fallback.
struct ElasticModel<'a> {
    rows: &'a [MemReq],
    arena: Range<usize>,
    reliefs: [Relief; 6],
    fallback: &'a dyn Spec,
    counted: &'a dyn Fn() -> Vec<usize>,
}

impl ElasticModel<'_> {
    fn class(&self, layout: Layout) -> Option<usize> {
        self.rows.iter().position(|row| holds(row, layout))
    }

    fn home(&self, block: &Live) -> Option<usize> {
        let from_class = block.layout.size() != 0 && self.arena.contains(&block.addr());
        from_class.then(|| self.rows.iter().position(|row| row.block_size == block.block.len()).expect("a class"))
    }

    fn used(&self, class: usize, live: &[Live]) -> usize {
        live.iter().filter(|block| self.home(block) == Some(class)).count()
    }

    fn from(&self, class: usize, live: &[Live]) -> Option<Expect> {
        let row = self.rows[class];
        (self.used(class, live) < row.n_blocks).then_some(Expect::Fresh(row.block_size))
    }
}

fn holds(row: &MemReq, layout: Layout) -> bool {
    layout.size() <= row.block_size && row.block_size.is_multiple_of(layout.align()) && layout.align() <= 4096
}

impl Spec for ElasticModel<'_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let class = self.class(layout);
        if let Some(block) = class.and_then(|class| self.from(class, live)) {
            return block;
        }
        let relief = self.reliefs[class.unwrap_or(5)];
        if matches!(relief, Relief::NextClass | Relief::NextClassOrFallback) {
            let larger = class.map_or(self.rows.len(), |class| class + 1)..self.rows.len();
            let mut fitting = larger.filter(|larger| holds(&self.rows[*larger], layout));
            if let Some(block) = fitting.find_map(|larger| self.from(larger, live)) {
                return block;
            }
        }
        match relief {
            Relief::Fallback | Relief::NextClassOrFallback => {
                self.fallback.on_allocate(layout, &of(live, &self.arena, false))
            }
            _ => Expect::Refused,
        }
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        if block.layout.size() == 0 {
            return self.on_allocate(layout, live);
        }
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        let Some(class) = self.home(block) else {
            return match self.fallback.on_resize(block, layout, &of(live, &self.arena, false)) {
                Expect::Refused => self.on_allocate(layout, live),
                expected => expected,
            };
        };
        let (holds, grows) = (holds(&self.rows[class], layout), layout.size() >= block.layout.size());
        if if grows { holds } else { self.class(layout) == Some(class) } {
            return Expect::Same(block.block.len());
        }
        match self.on_allocate(layout, live) {
            Expect::Refused if !grows && holds => Expect::Same(block.block.len()),
            expected => expected,
        }
    }

    fn assert_counts(&self, live: &[Live]) {
        for (class, counted) in (self.counted)().into_iter().enumerate() {
            assert_eq!(counted, self.used(class, live), "class {class}");
        }
        self.fallback.assert_counts(&of(live, &self.arena, false));
    }
}

pub fn elastic(input: &mut Input<'_>) {
    in_some_form!(input, elastic_in(input));
}

fn elastic_in<F: Form>(input: &mut Input<'_>, _: bool) {
    let mut second = Guarded::new(0, 4096);
    let place = second.range();
    match input.byte() % 4 {
        0 => elastic_over::<F, _>(input, NoFallback, &Nothing, 0..0),
        1 => {
            let parent = Parent::default();
            elastic_over::<F, _>(input, &parent, &Host(&parent), 0..usize::MAX);
            assert_eq!(parent.live(), []);
        }
        2 => {
            let bump = Bump::new(second.memory());
            let spec = BumpModel { bump: &bump, start: place.start, used: 0.into() };
            elastic_over::<F, _>(input, &bump, &spec, place);
        }
        _ => {
            let blocks = FixedBlock::with_form::<F>(layout(80, 16), second.memory());
            let spec = FixedModel { blocks: &blocks, peaks: Peaks::default() };
            let spec = crate::specs::FifoModel(spec); // with peaks of its own for the one form
            elastic_over::<F, _>(input, &blocks, &spec, place);
            assert_eq!(blocks.live(), 0);
        }
    }
    second.assert_guards();
}

fn elastic_over<F: Form, A: Source>(input: &mut Input<'_>, fallback: A, spec: &dyn Spec, second: Range<usize>) {
    const RELIEFS: [Relief; 4] = [Relief::Fail, Relief::NextClass, Relief::Fallback, Relief::NextClassOrFallback];
    let table = input.table();
    let mut guarded = Guarded::new(0, table.arena_size_for::<F>());
    let arena = guarded.range();
    let reliefs = [(); 6].map(|()| RELIEFS[input.below(4)]);
    let system = SizeClasses::with_form::<F>(&table, guarded.memory()).expect("what the table asks for");
    let again = u32::from(input.byte() % 3);
    let policy = |exhausted: &Exhausted| match reliefs[exhausted.class.unwrap_or(5)] {
        _ if exhausted.retries < again => Relief::Retry,
        relief => relief,
    };
    let pools = Elastic::new(system, policy, fallback);
    let model = ElasticModel {
        rows: table.rows(),
        arena: arena.clone(),
        reliefs,
        fallback: spec,
        counted: &|| {
            assert_eq!(pools.system().verify(), Ok(()));
            pools.system().classes().map(|class| class.live).collect()
        },
    };
    let world = World::new(vec![arena, second], &model);
    drive(input, world, &[&&pools, &DynAlloc::root(&pools)], &sizes(table.rows()), |_, _| {});
    guarded.assert_guards();
}

/// The documentation of `Fallback`, over any two specifications.
struct BothModel<'a> {
    first: &'a dyn Spec,
    second: &'a dyn Spec,
    /// The first's memory.
    arena: Range<usize>,
}

impl Spec for BothModel<'_> {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        match self.first.on_allocate(layout, &of(live, &self.arena, true)) {
            Expect::Refused => self.second.on_allocate(layout, &of(live, &self.arena, false)),
            expected => expected,
        }
    }

    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect {
        if block.layout.size() == 0 || layout.size() == 0 {
            return self.on_allocate(layout, live);
        }
        let inside = self.arena.contains(&block.addr());
        let (home, other) = if inside { (self.first, self.second) } else { (self.second, self.first) };
        match home.on_resize(block, layout, &of(live, &self.arena, inside)) {
            Expect::Refused => other.on_allocate(layout, &of(live, &self.arena, !inside)),
            expected => expected,
        }
    }

    fn assert_counts(&self, live: &[Live]) {
        self.first.assert_counts(&of(live, &self.arena, true));
        self.second.assert_counts(&of(live, &self.arena, false));
    }
}

pub fn fallback(input: &mut Input<'_>) {
    let (small, large) = (input.table(), input.table());
    let (block, len) = (input.layout(&sizes(small.rows())), usize::from(input.word()) % 5000);
    let mut arenas = [
        Guarded::new(16, small.arena_size()),
        Guarded::new(48, large.arena_size()),
        Guarded::new(0, len),
        Guarded::new(7, 4 * block.pad_to_align().size()),
    ];
    let ranges = arenas.each_ref().map(Guarded::range);
    let [one, two, three, four] = arenas.each_mut().map(Guarded::memory);
    let a = SizeClasses::new(&small, one).expect("what the table asks for");
    let b = SizeClasses::new(&large, two).expect("what the table asks for");
    let c = Bump::new(three);
    let d = FixedBlock::new(block, four);
    let mut matters = sizes(small.rows());
    matters.extend([block.size(), len / 2]);
    let start = ranges[2].start;
    let run = |input: &mut Input<'_>, both: &dyn Allocator, model: &BothModel<'_>, more: Range<usize>| {
        let mut memory = ranges.to_vec();
        memory.push(more);
        drive(input, World::new(memory, model), &[both], &matters, |_, _| {});
    };
    match input.byte() % 4 {
        0 => {
            let parent = Parent::default();
            let both = Fallback::new(a, &parent);
            let first = ClassesModel { system: both.first(), peaks: Peaks::default() };
            let model = BothModel { first: &first, second: &Host(&parent), arena: ranges[0].clone() };
            run(input, &&both, &model, 0..usize::MAX);
            assert_eq!(parent.live(), []);
        }
        1 => {
            let both = Fallback::new(d, b);
            let first = FixedModel { blocks: both.first(), peaks: Peaks::default() };
            let second = ClassesModel { system: both.second(), peaks: Peaks::default() };
            run(input, &&both, &BothModel { first: &first, second: &second, arena: ranges[3].clone() }, 0..0);
        }
        2 => {
            let all = Fallback::new(c, Fallback::new(d, b));
            let first = BumpModel { bump: all.first(), start, used: 0.into() };
            let second = FixedModel { blocks: all.second().first(), peaks: Peaks::default() };
            let third = ClassesModel { system: all.second().second(), peaks: Peaks::default() };
            let rest = BothModel { first: &second, second: &third, arena: ranges[3].clone() };
            run(input, &&all, &BothModel { first: &first, second: &rest, arena: ranges[2].clone() }, 0..0);
        }
        _ => {
            let both = Fallback::new(a, c);
            let first = ClassesModel { system: both.first(), peaks: Peaks::default() };
            let second = BumpModel { bump: both.second(), start, used: 0.into() };
            let model = BothModel { first: &first, second: &second, arena: ranges[0].clone() };
            run(input, &DynAlloc::root(&both), &model, 0..0);
        }
    }
    arenas.iter().for_each(Guarded::assert_guards);
}
