//! What the tests share: guarded memory, a parent that keeps accounts, and a model to hold an allocator against.

// Each test file is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::cell::{Cell, RefCell};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use allocator_api2::alloc::Global;
use fibra_allocators::{AllocError, AllocRef, Allocator, Layout};
use proptest::prelude::*;
use proptest::sample::Index;

pub mod values;

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

    pub fn range(&self) -> std::ops::Range<usize> {
        let start = self.whole.cast::<u8>().addr().get() + self.start;
        start..start + self.len
    }

    fn read(&self, range: std::ops::Range<usize>) -> &[u8] {
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

    pub fn range(&self) -> std::ops::Range<usize> {
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

/// One step of a random run.
#[derive(Debug, Clone)]
pub enum Step {
    Allocate {
        layout: Layout,
        zeroed: bool,
    },
    /// A block is released with any size between the one asked for and the one given.
    Release {
        which: Index,
        size: Index,
    },
    Resize {
        which: Index,
        layout: Layout,
        zeroed: bool,
    },
}

/// Sizes up to `max`, the small ones more often, and alignments up to 8192.
pub fn layouts(max: usize) -> impl Strategy<Value = Layout> {
    let size = prop_oneof![4 => 0..=max.min(128), 2 => 0..=max, 1 => Just(0), 1 => Just(max)];
    let align = prop_oneof![6 => 0..=4_u32, 2 => 5..=8_u32, 1 => 9..=13_u32];
    (size, align).prop_map(|(size, log)| layout(size, 1 << log))
}

pub fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (layouts(max), any::<bool>()).prop_map(|(layout, zeroed)| Step::Allocate { layout, zeroed }),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(which, size)| Step::Release { which, size }),
        3 => (any::<Index>(), layouts(max), any::<bool>())
            .prop_map(|(which, layout, zeroed)| Step::Resize { which, layout, zeroed }),
    ];
    prop::collection::vec(step, 0..150)
}

/// A block in use, by the model's account.
pub struct Live {
    pub block: NonNull<[u8]>,
    pub layout: Layout,
    seed: u8,
}

impl Live {
    pub fn addr(&self) -> usize {
        self.block.cast::<u8>().addr().get()
    }

    pub fn range(&self) -> std::ops::Range<usize> {
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
#[derive(Debug, PartialEq, Eq)]
pub enum Expect {
    /// `AllocError`, and nothing changed.
    Refused,
    /// A block that is not in use, of this length.
    Fresh(usize),
    /// The block that it was, of this length now.
    Same(usize),
}

/// What the documentation says of an allocator, written as plainly as possible.
pub trait Spec {
    fn on_allocate(&self, layout: Layout, live: &[Live]) -> Expect;
    fn on_resize(&self, block: &Live, layout: Layout, live: &[Live]) -> Expect;
    /// Compares the allocator's own counts with the model's.
    fn assert_counts(&self, live: &[Live]);
}

/// Runs the steps against the allocator, whose memory is `arena`, and compares it with its specification at each.
/// Releases everything at the end.
pub fn run(allocator: impl AllocRef, arena: std::ops::Range<usize>, spec: &impl Spec, steps: &[Step]) {
    let mut live: Vec<Live> = Vec::new();
    let mut seed = 0_u8;

    let admit = |block: NonNull<[u8]>, layout: Layout, seed: u8, others: &[Live]| {
        let new = Live { block, layout, seed };
        assert!(new.addr().is_multiple_of(layout.align()), "misaligned");
        assert!(block.len() >= layout.size(), "too short");
        if layout.size() != 0 {
            assert!(arena.start <= new.range().start && new.range().end <= arena.end, "outside");
        }
        for other in others {
            let apart = new.range().end <= other.range().start || other.range().end <= new.range().start;
            assert!(apart || new.block.is_empty() || other.block.is_empty(), "two blocks overlap");
        }
        new
    };

    for step in steps {
        seed = seed.wrapping_add(37);
        match *step {
            Step::Allocate { layout, zeroed } => {
                let expected = spec.on_allocate(layout, &live);
                let result = if zeroed { allocator.allocate_zeroed(layout) } else { allocator.allocate(layout) };
                match result {
                    Err(AllocError) => assert_eq!(expected, Expect::Refused, "{layout:?}"),
                    Ok(block) => {
                        assert_eq!(expected, Expect::Fresh(block.len()), "{layout:?}");
                        let new = admit(block, layout, seed, &live);
                        assert!(!zeroed || bytes(block).iter().all(|byte| *byte == 0), "not zeroed");
                        new.write();
                        live.push(new);
                    }
                }
            }
            Step::Release { which, size } => {
                if live.is_empty() {
                    continue;
                }
                let old = live.swap_remove(which.index(live.len()));
                old.assert_intact(old.block.len());
                let size = old.layout.size() + size.index(old.block.len() - old.layout.size() + 1);
                release(&allocator, old.block, layout(size, old.layout.align()));
            }
            Step::Resize { which, layout, zeroed } => {
                if live.is_empty() {
                    continue;
                }
                let which = which.index(live.len());
                let expected = spec.on_resize(&live[which], layout, &live);
                let old = &live[which];
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
                        assert_eq!(expected, Expect::Refused, "{from:?} to {layout:?}");
                        old.assert_intact(old.block.len());
                    }
                    Ok(block) => {
                        let same = block.cast() == old.block.cast::<u8>();
                        let seen = if same && from.size() != 0 && layout.size() != 0 {
                            Expect::Same(block.len())
                        } else {
                            Expect::Fresh(block.len())
                        };
                        assert_eq!(expected, seen, "{from:?} to {layout:?}");
                        let old = live.swap_remove(which);
                        let mut new = admit(block, layout, old.seed, &live);
                        new.assert_intact(from.size().min(layout.size()));
                        if grows && zeroed {
                            assert!(bytes(block)[from.size()..].iter().all(|byte| *byte == 0), "not zeroed");
                        }
                        new.seed = seed;
                        new.write();
                        live.push(new);
                    }
                }
            }
        }
        spec.assert_counts(&live);
    }

    for old in live.drain(..) {
        old.assert_intact(old.block.len());
        release(&allocator, old.block, old.layout);
    }
    spec.assert_counts(&[]);
}
