//! Allocators that own an arena, each by itself, and the reserve.

use std::cell::Cell;

use fibra_allocators::{
    AllocRef, Allocator, Backing, Bump, DynAlloc, FixedBlock, Form, Layout, PoolBox, Reserve, SizeClasses,
};

use crate::drive;
use crate::input::{Input, sizes};
use crate::model::{Expect, Guarded, Live, Parent, Spec, World, release};
use crate::specs::{BumpModel, Classes, ClassesModel, FifoModel, FixedModel, Peaks};

pub fn bump(input: &mut Input<'_>) {
    let (skew, len) = (input.byte().into(), usize::from(input.word()) % 20_000);
    if input.byte() & 1 == 0 {
        let mut guarded = Guarded::new(skew, len);
        let range = guarded.range();
        let mut bump = Bump::new(guarded.memory());
        for _ in 0..2 {
            drive_bump(input, &bump, range.clone());
            bump.reset();
        }
        guarded.assert_guards();
    } else {
        let parent = Parent::default();
        drive_bump(input, &Bump::in_parent(&parent, len).expect("the host has memory"), parent.range());
        assert_eq!(parent.live(), []);
    }
}

fn drive_bump<B: Backing>(input: &mut Input<'_>, bump: &Bump<B>, range: std::ops::Range<usize>) {
    let spec = BumpModel { bump, start: range.start, used: 0.into() };
    let left = [bump.capacity(), bump.capacity() / 2];
    drive(input, World::new(vec![range], &spec), &[&bump, &DynAlloc::root(bump)], &left, |_, _| {});
}

/// As `call::<FORM>(arguments)`, whichever form the input names; and `true` for the one whose peaks are not the model's.
macro_rules! in_some_form {
    ($input:expr, $call:ident($($argument:expr),*)) => {
        match $input.byte() % 6 {
            0 => $call::<fibra_allocators::NoLock>($($argument,)* false),
            1 => $call::<fibra_allocators::SpinLock>($($argument,)* false),
            2 => $call::<fibra_allocators::LockFree>($($argument,)* false),
            3 => $call::<fibra_allocators::Ordered>($($argument,)* false),
            4 => $call::<fibra_allocators::Ordered<fibra_allocators::SpinLock>>($($argument,)* false),
            _ => $call::<fibra_allocators::Fifo>($($argument,)* true),
        }
    };
}
pub(crate) use in_some_form;

pub fn fixed_block(input: &mut Input<'_>) {
    let block = input.layout(&[]);
    in_some_form!(input, fixed_block_in(input, block));
}

fn fixed_block_in<F: Form>(input: &mut Input<'_>, block: Layout, fifo: bool) {
    let room = input.byte();
    if room & 1 == 0 {
        let skew = input.byte().into();
        let mut guarded = Guarded::new(skew, block.pad_to_align().size() * usize::from(room) / 8 + skew);
        let range = guarded.range();
        let blocks = FixedBlock::with_form::<F>(block, guarded.memory());
        drive_fixed(input, &blocks, range, fifo);
        guarded.assert_guards();
    } else {
        let parent = Parent::default();
        let blocks = FixedBlock::in_parent_with_form::<F>(block, usize::from(room) / 8, &parent).expect("memory");
        drive_fixed(input, &blocks, parent.range(), fifo);
        drop(blocks);
        assert_eq!(parent.live(), []);
    }
}

fn drive_fixed<B: Backing, F: Form>(
    input: &mut Input<'_>,
    blocks: &FixedBlock<B, F>,
    range: std::ops::Range<usize>,
    fifo: bool,
) {
    let model = FixedModel { blocks, peaks: Peaks::default() };
    let spec = forgiving(model, fifo);
    let handles: [&dyn Allocator; 2] = [&blocks, &DynAlloc::root(blocks)];
    drive(input, World::new(vec![range], &*spec), &handles, &[blocks.block().size()], |_, _| {});
}

fn forgiving<'m>(model: impl Classes + 'm, fifo: bool) -> Box<dyn Spec + 'm> {
    if fifo { Box::new(FifoModel(model)) } else { Box::new(model) }
}

pub fn size_classes(input: &mut Input<'_>) {
    in_some_form!(input, size_classes_in(input));
}

fn size_classes_in<F: Form>(input: &mut Input<'_>, fifo: bool) {
    let table = input.table();
    let skew = usize::from(input.byte()) * 16;
    if input.byte() & 1 == 0 {
        let mut guarded = Guarded::new(skew, table.arena_size_for::<F>());
        let range = guarded.range();
        let system = SizeClasses::with_form::<F>(&table, guarded.memory()).expect("what the table asks for");
        drive_classes(input, &system, range, fifo);
        guarded.assert_guards();
    } else {
        let parent = Parent::default();
        let system = SizeClasses::in_parent_with_form::<F>(&table, &parent).expect("the host has memory");
        drive_classes(input, &system, parent.range(), fifo);
        drop(system);
        assert_eq!(parent.live(), []);
    }
}

fn drive_classes<B: Backing, F: Form>(
    input: &mut Input<'_>,
    system: &SizeClasses<6, B, F>,
    range: std::ops::Range<usize>,
    fifo: bool,
) {
    let spec = forgiving(ClassesModel { system, peaks: Peaks::default() }, fifo);
    let handles: [&dyn Allocator; 2] = [&system, &DynAlloc::root(system)];
    drive(input, World::new(vec![range], &*spec), &handles, &sizes(system.table().rows()), |_, _| {});
}

/// The documentation of `Reserve`: so many requests are served, wherever its blocks are from.
struct ReserveModel<'a, A: AllocRef> {
    reserve: &'a Reserve<A>,
    left: Cell<usize>,
    /// Blocks that left the reserve, and are on no list of the model's.
    gone: Cell<usize>,
    live_in_parent: &'a dyn Fn() -> usize,
}

impl<A: AllocRef> Spec for ReserveModel<'_, A> {
    fn on_allocate(&self, layout: Layout, _: &[Live]) -> Expect {
        let block = self.reserve.block();
        if layout.size() == 0 {
            return Expect::Fresh(0);
        }
        if layout.size() > block.size() || layout.align() > block.align() || self.left.get() == 0 {
            return Expect::Refused;
        }
        self.left.set(self.left.get() - 1);
        Expect::Fresh(block.size())
    }

    fn on_resize(&self, old: &Live, layout: Layout, live: &[Live]) -> Expect {
        if layout.size() >= old.layout.size() {
            return self.on_allocate(layout, live);
        }
        match layout.size() {
            0 => Expect::Fresh(0),
            _ if layout.align() > self.reserve.block().align() => Expect::Refused,
            size => Expect::Same(size),
        }
    }

    fn assert_counts(&self, live: &[Live]) {
        assert_eq!(self.reserve.left(), self.left.get());
        let in_use = live.iter().filter(|block| block.layout.size() != 0).count();
        assert_eq!((self.live_in_parent)(), self.left.get() + self.gone.get() + in_use);
    }
}

pub fn reserve(input: &mut Input<'_>) {
    type Value = [u16; 12];
    let table = input.table();
    let mut guarded = Guarded::new(0, table.arena_size());
    let range = guarded.range();
    let system = SizeClasses::new(&table, guarded.memory()).expect("what the table asks for");
    let live = || system.classes().map(|class| class.live).sum::<usize>();
    let (block, n) = (input.layout(&sizes(table.rows())), input.below(8));
    match Reserve::new(&system, block, n) {
        Ok(reserve) => {
            let spec = ReserveModel { reserve: &reserve, left: n.into(), gone: 0.into(), live_in_parent: &live };
            let matters = [reserve.block().size()];
            let (mut bare, mut boxes) = (Vec::new(), Vec::new());
            let count = |by: usize| {
                spec.left.set(spec.left.get() - by);
                spec.gone.set(spec.gone.get() + by);
            };
            let handles: [&dyn Allocator; 1] = [&&reserve];
            drive(input, World::new(vec![range], &spec), &handles, &matters, |world, input| {
                let left = reserve.left();
                match input.byte() % 4 {
                    0 => match reserve.take() {
                        Some(block) => {
                            count(1);
                            bare.push(block);
                        }
                        None => assert_eq!(left, 0),
                    },
                    1 => match reserve.put([input.word(); 12]) {
                        Ok(boxed) => {
                            count(1);
                            boxes.push(boxed);
                        }
                        Err(no_room) => assert!(
                            no_room.value.iter().all(|word| *word == no_room.value[0])
                                && (left == 0 || reserve.block() != Layout::new::<Value>())
                        ),
                    },
                    2 => {
                        if let Some(boxed) = boxes.pop() {
                            let value = PoolBox::into_inner(boxed);
                            assert!(value.iter().all(|word| *word == value[0]));
                            spec.gone.set(spec.gone.get() - 1);
                        }
                    }
                    _ => {
                        if let Some(block) = bare.pop() {
                            release(&system, std::ptr::NonNull::slice_from_raw_parts(block, 0), reserve.block());
                            spec.gone.set(spec.gone.get() - 1);
                        }
                    }
                }
                spec.assert_counts(&world.live);
            });
            drop(boxes);
            for block in bare {
                release(&system, std::ptr::NonNull::slice_from_raw_parts(block, 0), reserve.block());
            }
        }
        Err(_) => assert_eq!(live(), 0, "a reserve that was not made keeps nothing"),
    }
    assert_eq!((live(), system.verify()), (0, Ok(())));
    guarded.assert_guards();
}
