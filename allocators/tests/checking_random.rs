//! Random use of memory is never found fault with, and a random mistake in the middle of it is always named.

mod support;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ptr::NonNull;

use fibra_allocators::{
    AllocError, Allocator, Borrowed, Bump, CheckedBlock, Checking, FixedBlock, Layout, MemReq, Mistake, NoLock,
    SizeClasses, Table, checking_arena_size, table,
};
use proptest::prelude::*;
use proptest::sample::Index;
use support::{Guarded, Step, bytes, layout, release, steps};

const SIZES: Table<4> = table([MemReq::new(32, 12), MemReq::new(96, 8), MemReq::new(512, 6), MemReq::new(4096, 2)]);

/// Knows how long each block is that the inner allocator gave.
struct Lengths<'a> {
    inner: &'a dyn Allocator,
    lengths: RefCell<HashMap<usize, usize>>,
}

impl Lengths<'_> {
    fn noted(&self, given: Result<NonNull<[u8]>, AllocError>) -> Result<NonNull<[u8]>, AllocError> {
        if let Ok(block) = given {
            self.lengths.borrow_mut().insert(block.cast::<u8>().addr().get(), block.len());
        }
        given
    }
}

// SAFETY: it is the inner allocator.
unsafe impl Allocator for Lengths<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.noted(self.inner.allocate(layout))
    }
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { self.inner.deallocate(block, layout) }
    }
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.noted(unsafe { self.inner.grow(block, old, new) })
    }
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to the caller.
        self.noted(unsafe { self.inner.shrink(block, old, new) })
    }
}

#[derive(Debug, Clone)]
struct Setup {
    inner: usize,
    records: usize,
    red_zone: usize,
    blocks: usize,
    bytes: usize,
}

fn setups() -> impl Strategy<Value = Setup> {
    (
        0..3_usize,
        1..60_usize,
        prop_oneof![Just(0), Just(16), 0..70_usize],
        0..12_usize,
        prop_oneof![Just(0), 0..8000_usize],
    )
        .prop_map(|(inner, records, red_zone, blocks, bytes)| Setup { inner, records, red_zone, blocks, bytes })
}

/// A block in use.
struct Live {
    block: NonNull<[u8]>,
    layout: Layout,
    sequence: u64,
    seed: u8,
}

impl Live {
    fn named(&self) -> CheckedBlock {
        CheckedBlock { address: self.block.cast::<u8>().addr().get(), layout: self.layout, sequence: self.sequence }
    }

    fn fill(&mut self, seed: u8) {
        self.seed = seed;
        for at in 0..self.block.len() {
            // SAFETY: within a block that is ours.
            unsafe { self.block.cast::<u8>().add(at).write(seed.wrapping_add(at as u8)) }
        }
    }

    fn assert_intact(&self, len: usize) {
        let intact = |(at, byte): (usize, &u8)| *byte == self.seed.wrapping_add(at as u8);
        assert!(bytes(self.block)[..len].iter().enumerate().all(intact), "contents lost");
    }
}

type Checked<'a> = Checking<&'a Lengths<'a>, Borrowed<'a>, NoLock, &'a dyn Fn(&Mistake)>;

struct World<'w, 'a> {
    checking: &'w Checked<'a>,
    lengths: &'w Lengths<'a>,
    mistakes: &'w RefCell<Vec<Mistake>>,
    setup: Setup,
    live: Vec<Live>,
    admitted: u64,
    seed: u8,
}

impl World<'_, '_> {
    fn obtain(&mut self, layout: Layout, zeroed: bool) {
        let given = if zeroed { self.checking.allocate_zeroed(layout) } else { self.checking.allocate(layout) };
        let Ok(block) = given else { return };
        assert_eq!(block.len(), layout.size());
        assert!(block.cast::<u8>().addr().get().is_multiple_of(layout.align()));
        assert!(!zeroed || bytes(block).iter().all(|byte| *byte == 0), "not zeroed");
        self.admitted += u64::from(layout.size() != 0);
        let mut new = Live { block, layout, sequence: self.admitted, seed: 0 };
        new.fill(self.seed);
        self.live.push(new);
    }

    fn resize(&mut self, which: usize, layout: Layout, zeroed: bool) {
        let Live { block, layout: old, .. } = self.live[which];
        // SAFETY: the block is in use, this is its layout, and the sizes are compared as each method wants.
        let given = unsafe {
            match (layout.size() >= old.size(), zeroed) {
                (true, true) => self.checking.grow_zeroed(block.cast(), old, layout),
                (true, false) => self.checking.grow(block.cast(), old, layout),
                (false, _) => self.checking.shrink(block.cast(), old, layout),
            }
        };
        let entry = &mut self.live[which];
        let Ok(block) = given else { return entry.assert_intact(old.size()) };
        assert_eq!(block.len(), layout.size());
        assert!(block.cast::<u8>().addr().get().is_multiple_of(layout.align()));
        entry.block = block;
        entry.layout = layout;
        entry.assert_intact(old.size().min(layout.size()));
        if zeroed && layout.size() > old.size() {
            assert!(bytes(block)[old.size()..].iter().all(|byte| *byte == 0), "not zeroed");
        }
        if old.size() == 0 && layout.size() != 0 {
            self.admitted += 1;
            entry.sequence = self.admitted;
        }
        entry.fill(self.seed);
    }

    fn step(&mut self, step: &Step) {
        self.seed = self.seed.wrapping_add(37);
        match *step {
            Step::Allocate { layout, zeroed } => self.obtain(layout, zeroed),
            Step::Release { which, .. } if !self.live.is_empty() => {
                let old = self.live.swap_remove(which.index(self.live.len()));
                old.assert_intact(old.layout.size());
                release(self.checking, old.block, old.layout);
            }
            Step::Resize { which, layout, zeroed } if !self.live.is_empty() => {
                self.resize(which.index(self.live.len()), layout, zeroed);
            }
            _ => {}
        }
        self.assert_right();
    }

    fn assert_right(&self) {
        assert_eq!(*self.mistakes.borrow(), []);
        assert_eq!(self.checking.live(), self.live.iter().filter(|entry| entry.layout.size() != 0).count());
        assert!(self.checking.quarantined() <= self.setup.blocks + 1);
    }

    /// Makes a mistake with a block that has bytes, and sees it named. Afterwards all goes on as if nothing had been.
    fn mistake(&mut self, wrong: &Wrong) {
        let with_bytes: Vec<_> = (0..self.live.len()).filter(|at| self.live[*at].layout.size() != 0).collect();
        if with_bytes.is_empty() {
            return;
        }
        let which = with_bytes[wrong.which.index(with_bytes.len())];
        let entry = &self.live[which];
        let (block, named, shape) = (entry.block, entry.named(), entry.layout);
        let length = *self.lengths.lengths.borrow().get(&named.address).expect("it was given");
        let expected = match wrong.kind {
            Kind::DoubleFree => {
                self.live.swap_remove(which);
                release(self.checking, block, shape);
                assert_eq!(*self.mistakes.borrow(), []);
                release(self.checking, block, wrong.layout);
                (wrong.layout.size() != 0).then_some(Mistake::DoubleFree { block: named })
            }
            Kind::Foreign => {
                let inside = 1 + wrong.at.index(shape.size());
                let address = named.address + inside;
                let other = self.live.iter().any(|entry| entry.named().address == address && entry.layout.size() != 0);
                if other || wrong.layout.size() == 0 || inside == shape.size() {
                    return;
                }
                let pointer = NonNull::<u8>::dangling().with_addr(address.try_into().expect("not null"));
                // SAFETY: it is not followed; that is what is tested.
                unsafe { self.checking.deallocate(pointer, wrong.layout) };
                Some(Mistake::ForeignPointer { address, layout: wrong.layout })
            }
            Kind::WrongLayout => {
                if wrong.layout == shape {
                    return;
                }
                release(self.checking, block, wrong.layout);
                Some(Mistake::WrongLayout { block: named, given: wrong.layout })
            }
            Kind::WriteAfterFree => {
                self.live.swap_remove(which);
                release(self.checking, block, shape);
                if self.setup.blocks == 0 || length.min(shape.size() + 64) > self.setup.bytes {
                    return; // it has gone back, and is somebody else's
                }
                let offset = wrong.at.index(length.min(shape.size() + 64));
                // SAFETY: in quarantine: the memory is that of the arena, and nobody else uses it.
                unsafe {
                    let byte = block.cast::<u8>().add(offset);
                    byte.write(byte.read() ^ 1);
                }
                assert_eq!(self.checking.verify(), 1);
                Some(Mistake::WriteAfterFree { block: named, offset })
            }
            Kind::Overrun => {
                let zone = (length - shape.size()).min(64);
                if zone == 0 {
                    return;
                }
                let offset = shape.size() + wrong.at.index(zone);
                // SAFETY: behind the user's bytes, and within the inner block.
                unsafe { block.cast::<u8>().add(offset).write(0) };
                if wrong.which.index(2) == 0 {
                    assert_eq!(self.checking.verify(), 1);
                } else {
                    self.live.swap_remove(which);
                    release(self.checking, block, shape);
                }
                Some(Mistake::Overrun { block: named, offset })
            }
        };
        assert_eq!(self.mistakes.take(), Vec::from_iter(expected));
        assert_eq!(self.checking.verify(), 0);
        self.assert_right();
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    DoubleFree,
    Foreign,
    WrongLayout,
    WriteAfterFree,
    Overrun,
}

#[derive(Debug, Clone)]
struct Wrong {
    kind: Kind,
    after: Index,
    which: Index,
    at: Index,
    layout: Layout,
}

fn wrongs() -> impl Strategy<Value = Wrong> {
    let kind = prop_oneof![
        Just(Kind::DoubleFree),
        Just(Kind::Foreign),
        Just(Kind::WrongLayout),
        Just(Kind::WriteAfterFree),
        Just(Kind::Overrun),
    ];
    (kind, any::<Index>(), any::<Index>(), any::<Index>(), support::layouts(600))
        .prop_map(|(kind, after, which, at, layout)| Wrong { kind, after, which, at, layout })
}

fn run(setup: &Setup, steps: &[Step], wrong: Option<&Wrong>, forgotten: &[Index]) {
    let mut memory = Guarded::new(0, 256 * 1024);
    let bump;
    let fixed;
    let system;
    let inner: &dyn Allocator = match setup.inner {
        0 => {
            bump = Bump::new(memory.memory());
            &&bump
        }
        1 => {
            fixed = FixedBlock::new(layout(640, 256), memory.memory());
            &&fixed
        }
        _ => {
            system = SizeClasses::new(&SIZES, memory.memory()).expect("room");
            &&system
        }
    };
    let lengths = Lengths { inner, lengths: RefCell::default() };
    let mistakes = RefCell::new(Vec::new());
    let handler = |mistake: &Mistake| mistakes.borrow_mut().push(*mistake);
    let mut records = Guarded::new(5, checking_arena_size(setup.records));
    let checking = Checking::new(&lengths, records.memory())
        .red_zone(setup.red_zone)
        .quarantine(setup.blocks, setup.bytes)
        .on_mistake(&handler as &dyn Fn(&Mistake));
    let mut world = World {
        checking: &checking,
        lengths: &lengths,
        mistakes: &mistakes,
        setup: setup.clone(),
        live: Vec::new(),
        admitted: 0,
        seed: 0,
    };
    let after = wrong.map(|wrong| wrong.after.index(steps.len() + 1));
    for (at, step) in steps.iter().enumerate() {
        if after == Some(at) {
            world.mistake(wrong.expect("there is a place for one"));
        }
        world.step(step);
    }
    assert_eq!(checking.verify(), 0);
    let mut live = world.live;
    let mut leaks = Vec::new();
    for which in forgotten {
        if !live.is_empty() {
            leaks.push(live.swap_remove(which.index(live.len())));
        }
    }
    for old in live {
        old.assert_intact(old.layout.size());
        release(&checking, old.block, old.layout);
    }
    let told = checking.mistakes();
    drop(checking);
    leaks.retain(|leak| leak.layout.size() != 0);
    let mut mistakes = mistakes.take();
    assert!(told <= 1);
    for (at, mistake) in mistakes.iter().enumerate() {
        assert!(matches!(mistake, Mistake::Leak { nth, of, .. } if *nth == at + 1 && *of == leaks.len()), "{mistake}");
    }
    mistakes.sort_by_key(|mistake| mistake.block().map(|block| block.sequence));
    leaks.sort_by_key(|leak| leak.sequence);
    assert!(mistakes.iter().map(Mistake::block).eq(leaks.iter().map(Live::named).collect::<Vec<_>>().iter().map(Some)));
    leaks.iter().for_each(|leak| leak.assert_intact(leak.layout.size()));
    records.assert_guards();
    memory.assert_guards();
}

proptest! {
    #[test]
    fn what_is_right_is_never_reported(setup in setups(), steps in steps(3000)) {
        run(&setup, &steps, None, &[]);
    }

    #[test]
    fn a_single_mistake_is_always_named(setup in setups(), steps in steps(600), wrong in wrongs()) {
        run(&setup, &steps, Some(&wrong), &[]);
    }

    #[test]
    fn what_is_forgotten_is_named(
        setup in setups(),
        steps in steps(600),
        forgotten in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        run(&setup, &steps, None, &forgotten);
    }
}
