//! A model to hold an allocator against, guarded memory, and a parent that keeps accounts: what the random tests and the
//! fuzzer share.

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr::NonNull;

use allocator_api2::alloc::Global;
use fibra_allocators::{AllocError, AllocRef, Allocator, Layout};

pub fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("the test asks for what can exist")
}

/// Releases a block that the test has finished with.
pub fn release(allocator: impl Allocator, block: NonNull<[u8]>, layout: Layout) {
    // SAFETY: the tests pass what they got from this allocator with this layout, once.
    unsafe { allocator.deallocate(block.cast(), layout) }
}

/// Every block that requests of this layout can get.
pub fn drain(allocator: impl Allocator, layout: Layout) -> Vec<NonNull<[u8]>> {
    std::iter::from_fn(|| allocator.allocate(layout).ok()).collect()
}

pub fn fill(block: NonNull<[u8]>, byte: u8) {
    // SAFETY: the test has just been given the block, so it is the test's to write.
    unsafe { block.cast::<u8>().write_bytes(byte, block.len()) }
}

pub fn bytes<'a>(block: NonNull<[u8]>) -> &'a [u8] {
    // SAFETY: the test owns the block, has filled it before, and does not keep the slice.
    unsafe { block.as_ref() }
}

/// Memory at a chosen distance from a 4096-byte boundary, between guards that notice a write.
pub struct Guarded {
    whole: NonNull<[u8]>,
    start: usize,
    len: usize,
}

const PAGE: usize = 4096;
const UNTOUCHED: u8 = 0xA5;

impl Guarded {
    pub fn new(skew: usize, len: usize) -> Self {
        let start = PAGE + skew;
        let whole = Global
            .allocate(layout((start + len).next_multiple_of(PAGE) + PAGE, PAGE))
            .expect("the test machine has memory");
        fill(whole, UNTOUCHED);
        Guarded { whole, start, len }
    }

    pub fn memory(&mut self) -> &mut [MaybeUninit<u8>] {
        let start = self.whole.cast::<MaybeUninit<u8>>();
        // SAFETY: a part of our own block, borrowed from us exclusively.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.start).as_ptr(), self.len) }
    }

    pub fn range(&self) -> Range<usize> {
        let start = self.whole.cast::<u8>().addr().get() + self.start;
        start..start + self.len
    }

    fn read(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: our own block, filled when it was made, borrowed from us; allocators only ever write whole bytes.
        let whole: &[u8] = unsafe { self.whole.as_ref() };
        &whole[range]
    }

    pub fn assert_guards(&self) {
        let clean = |bytes: &[u8]| bytes.iter().all(|byte| *byte == UNTOUCHED);
        assert!(clean(self.read(0..self.start)), "written before the memory");
        assert!(clean(self.read(self.start + self.len..self.whole.len())), "written behind the memory");
    }

    pub fn assert_untouched(&self) {
        assert!(self.read(0..self.whole.len()).iter().all(|byte| *byte == UNTOUCHED), "written");
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        release(Global, self.whole, layout(self.whole.len(), PAGE));
    }
}

/// A parent that keeps accounts: each block must come back, once, with the layout it was asked for.
#[derive(Default)]
pub struct Parent {
    live: RefCell<Vec<(usize, Layout)>>,
    given: Cell<usize>,
    /// Requests that are still granted.
    pub grants: Cell<Option<usize>>,
}

impl Parent {
    pub fn granting(n: usize) -> Self {
        Parent { grants: Cell::new(Some(n)), ..Parent::default() }
    }

    /// How many blocks it gave out, ever.
    pub fn given(&self) -> usize {
        self.given.get()
    }

    pub fn live(&self) -> Vec<Layout> {
        self.live.borrow().iter().map(|(_, layout)| *layout).collect()
    }

    pub fn range(&self) -> Range<usize> {
        let live = self.live.borrow();
        let [(start, layout)] = live.as_slice() else { panic!("one extent expected") };
        *start..start + layout.size()
    }
}

// SAFETY: it is `Global`, with accounts.
unsafe impl Allocator for &Parent {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if let Some(left) = self.grants.get() {
            self.grants.set(Some(left.checked_sub(1).ok_or(AllocError)?));
        }
        let block = Global.allocate(layout)?;
        self.given.set(self.given.get() + 1);
        self.live.borrow_mut().push((block.addr().get(), layout));
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let mut live = self.live.borrow_mut();
        let at = live.iter().position(|entry| *entry == (block.addr().get(), layout));
        live.swap_remove(at.expect("what comes back is what was given"));
        // SAFETY: it is on the account, so it came from `Global` with this layout and was not released since.
        unsafe { Global.deallocate(block, layout) }
    }
}

/// One of so many, whatever number of them there turns out to be.
#[derive(Debug, Clone, Copy)]
pub struct Pick(pub u32);

impl Pick {
    pub fn index(self, len: usize) -> usize {
        ((u64::from(self.0) * len as u64) >> u32::BITS) as usize
    }
}

/// One step of a random run.
#[derive(Debug, Clone)]
pub enum Step {
    Allocate {
        layout: Layout,
        zeroed: bool,
    },
    /// A block is released with any size between the one asked for and the one given.
    Release {
        which: Pick,
        size: Pick,
    },
    Resize {
        which: Pick,
        layout: Layout,
        zeroed: bool,
    },
}

/// A block in use, by the model's account.
#[derive(Clone, Copy)]
pub struct Live {
    pub block: NonNull<[u8]>,
    pub layout: Layout,
    seed: u8,
}

impl Live {
    pub fn addr(&self) -> usize {
        self.block.cast::<u8>().addr().get()
    }

    pub fn range(&self) -> Range<usize> {
        self.addr()..self.addr() + self.block.len()
    }

    fn pattern(&self) -> impl Iterator<Item = u8> + use<> {
        let seed = self.seed;
        (0_usize..).map(move |i| seed.wrapping_add((i % 251) as u8))
    }

    fn write(&self) {
        let start = self.block.cast::<u8>();
        for (i, byte) in self.pattern().take(self.block.len()).enumerate() {
            // SAFETY: within a block that is ours.
            unsafe { start.add(i).write(byte) }
        }
    }

    fn assert_intact(&self, len: usize) {
        assert!(bytes(self.block)[..len].iter().copied().eq(self.pattern().take(len)), "contents lost");
    }
}

/// What an allocator must do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// `AllocError`, and nothing changed.
    Refused,
    /// A block that is not in use, of this length.
    Fresh(usize),
    /// The block that it was, of this length now.
    Same(usize),
    /// Any of these: it depends on what the model does not know.
    Any,
}

/// What the documentation says of an allocator, written as plainly as possible.
pub trait Spec {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect;
    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect;
    /// Called after a refusal, which was as expected, for those that can say more about it.
    fn on_refused(&self, _layout: Layout, _live: &[Live]) {}
    /// Compares the allocator's own counts with the model's.
    fn assert_counts(&self, live: &[Live]);
}

/// Blocks in use, and the specification of the allocator that they are from.
pub struct World<'s, S: ?Sized> {
    pub live: Vec<Live>,
    spec: &'s S,
    arenas: Vec<Range<usize>>,
    seed: u8,
}

impl<'s, S: Spec + ?Sized> World<'s, S> {
    /// `arenas` are the memory that blocks may lie in.
    pub fn new(arenas: Vec<Range<usize>>, spec: &'s S) -> Self {
        World { live: Vec::new(), spec, arenas, seed: 0 }
    }

    /// Takes a step, and compares what the allocator does with what it is to do.
    pub fn step(&mut self, allocator: &dyn Allocator, step: &Step) {
        self.seed = self.seed.wrapping_add(37);
        match *step {
            Step::Allocate { layout, zeroed } => self.allocate(allocator, layout, zeroed),
            _ if self.live.is_empty() => return,
            Step::Release { which, size } => {
                let old = self.live.swap_remove(which.index(self.live.len()));
                old.assert_intact(old.block.len());
                let size = old.layout.size() + size.index(old.block.len() - old.layout.size() + 1);
                release(allocator, old.block, layout(size, old.layout.align()));
            }
            Step::Resize { which, layout, zeroed } => {
                self.resize(allocator, which.index(self.live.len()), layout, zeroed);
            }
        }
        self.spec.assert_counts(&self.live);
    }

    fn allocate(&mut self, allocator: &dyn Allocator, layout: Layout, zeroed: bool) {
        let expected = self.spec.on_allocate(layout, &self.live);
        let result = if zeroed { allocator.allocate_zeroed(layout) } else { allocator.allocate(layout) };
        match result {
            Err(AllocError) => {
                assert!(matches!(expected, Expect::Refused | Expect::Any), "{layout:?}: {expected:?}, but refused");
                self.spec.on_refused(layout, &self.live);
            }
            Ok(block) => {
                if expected != Expect::Any {
                    assert_eq!(expected, Expect::Fresh(block.len()), "{layout:?}");
                }
                let new = self.admit(block, layout);
                assert!(!zeroed || bytes(block).iter().all(|byte| *byte == 0), "not zeroed");
                new.write();
                self.live.push(new);
            }
        }
    }

    fn resize(&mut self, allocator: &dyn Allocator, which: usize, layout: Layout, zeroed: bool) {
        let old = &self.live[which];
        let expected = self.spec.on_resize(old, layout, &self.live);
        let (from, block) = (old.layout, old.block.cast());
        let grows = layout.size() >= from.size();
        // SAFETY: the block is in use, this is its layout, and the sizes are compared as each method wants.
        let result = unsafe {
            match (grows, zeroed) {
                (true, true) => allocator.grow_zeroed(block, from, layout),
                (true, false) => allocator.grow(block, from, layout),
                (false, _) => allocator.shrink(block, from, layout),
            }
        };
        match result {
            Err(AllocError) => {
                let refused = matches!(expected, Expect::Refused | Expect::Any);
                assert!(refused, "{from:?} to {layout:?}: {expected:?}, but refused");
                old.assert_intact(old.block.len());
                self.spec.on_refused(layout, &self.live);
            }
            Ok(block) => {
                let same = block.cast() == old.block.cast::<u8>();
                let seen = if same && from.size() != 0 && layout.size() != 0 {
                    Expect::Same(block.len())
                } else {
                    Expect::Fresh(block.len())
                };
                if expected != Expect::Any {
                    assert_eq!(expected, seen, "{from:?} to {layout:?}");
                }
                let old = self.live.swap_remove(which);
                let new = Live { seed: old.seed, ..self.admit(block, layout) };
                new.assert_intact(from.size().min(layout.size()));
                if grows && zeroed {
                    assert!(bytes(block)[from.size()..].iter().all(|byte| *byte == 0), "not zeroed");
                }
                let new = Live { seed: self.seed, ..new };
                new.write();
                self.live.push(new);
            }
        }
    }

    fn admit(&self, block: NonNull<[u8]>, layout: Layout) -> Live {
        let new = Live { block, layout, seed: self.seed };
        assert!(new.addr().is_multiple_of(layout.align()), "misaligned");
        assert!(block.len() >= layout.size(), "too short");
        if !block.is_empty() {
            let inside = |arena: &Range<usize>| arena.start <= new.range().start && new.range().end <= arena.end;
            assert!(layout.size() == 0 || self.arenas.iter().any(inside), "outside");
            for other in self.live.iter().filter(|other| !other.block.is_empty()) {
                let apart = new.range().end <= other.range().start || other.range().end <= new.range().start;
                assert!(apart, "two blocks overlap");
            }
        }
        new
    }

    /// Releases everything.
    pub fn finish(mut self, allocator: &dyn Allocator) {
        for old in self.live.drain(..) {
            old.assert_intact(old.block.len());
            release(allocator, old.block, old.layout);
        }
        self.spec.assert_counts(&[]);
    }
}

/// Runs the steps against the allocator, whose memory is `arena`, and compares it with its specification at each.
/// Releases everything at the end.
pub fn run(allocator: impl AllocRef, arena: Range<usize>, spec: &impl Spec, steps: &[Step]) {
    let mut world = World::new(vec![arena], spec);
    steps.iter().for_each(|step| world.step(&allocator, step));
    world.finish(&allocator);
}
