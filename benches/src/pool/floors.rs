//! Bare floors: the least that each design could cost.
//!
//! They count nothing, check nothing and cannot be shared wrongly only because nobody here does. They are **unsound** for
//! anything but these workloads, which is why they are not public: a floor trusts its caller's sizes, is `Sync` or not as
//! the workload needs, and the one with caches keeps them in statics of the thread, so that a thread may use one such floor
//! at a time.
//!
//! # Invariants
//!
//! 1. A list's memory is a whole number of blocks of at least 16 bytes, aligned to 16, and lives as long as the list.
//! 2. A block is either its user's or on one list, which may then use its first two words for links.

mod cached;
mod free_list;
mod spin;
mod tagged;

use std::marker::PhantomData;
use std::ptr::NonNull;

use super::pages::Mapping;
use super::subject::{BLOCK, CLASSES, SPARE, Shared, Subject, Worker};

pub(super) use cached::Cached;
pub(super) use free_list::FreeList;
pub(super) use spin::Spin;
pub(super) use tagged::Tagged;

/// Blocks of one size.
pub(super) trait List {
    /// # Safety
    ///
    /// `count` blocks of `size` bytes at `start` are the list's, aligned to 16, `size` a multiple of 16 and not 0.
    /// `class` is below the number of [`CLASSES`], and different for each list that a thread uses.
    unsafe fn new(start: NonNull<u8>, size: usize, count: usize, class: usize) -> Self;

    fn pop(&self) -> Option<NonNull<u8>>;

    /// # Safety
    ///
    /// The block came from this list, and its user has finished with it.
    unsafe fn push(&self, block: NonNull<u8>);

    /// Puts back what the calling thread withholds.
    fn leave(&self) {}
}

/// The first word of a block that is on a list.
type Link = Option<NonNull<u8>>;

/// Several lists, and which of them a size belongs to.
pub(super) trait Floor {
    const ANY_SIZE: bool;

    fn new(blocks: usize) -> Self;

    fn pop(&self, size: usize) -> Option<NonNull<u8>>;

    /// # Safety
    ///
    /// The block came from `pop` of the same size, and its user has finished with it.
    unsafe fn push(&self, block: NonNull<u8>, size: usize);

    fn leave(&self);
}

/// Blocks of one size.
pub(super) struct Fixed<L> {
    list: L,
    _memory: Mapping,
}

impl<L: List> Floor for Fixed<L> {
    const ANY_SIZE: bool = false;

    fn new(blocks: usize) -> Self {
        let count = blocks + SPARE;
        let memory = Mapping::new(count * BLOCK);
        // SAFETY: a mapping begins at a page and is kept beside the list.
        let list = unsafe { L::new(memory.start(), BLOCK, count, 0) };
        Fixed { list, _memory: memory }
    }

    #[inline(always)]
    fn pop(&self, _size: usize) -> Option<NonNull<u8>> {
        self.list.pop()
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>, _size: usize) {
        // SAFETY: our caller's word.
        unsafe { self.list.push(block) }
    }

    fn leave(&self) {
        self.list.leave();
    }
}

/// Sizes are looked up in steps of so many bytes.
const GRANULE: usize = 16;

/// Blocks of several sizes.
pub(super) struct Classes<L> {
    lookup: [u8; CLASSES[CLASSES.len() - 1] / GRANULE + 1],
    lists: [L; CLASSES.len()],
    _memory: Mapping,
}

impl<L: List> Floor for Classes<L> {
    const ANY_SIZE: bool = true;

    fn new(blocks: usize) -> Self {
        let count = blocks + SPARE;
        let memory = Mapping::new(CLASSES.iter().sum::<usize>() * count);
        let mut offset = 0;
        let lists = std::array::from_fn(|class| {
            // SAFETY: within the mapping, which begins at a page, is kept beside the lists, and of which each list gets a
            // part of its own.
            let list = unsafe { L::new(memory.start().add(offset), CLASSES[class], count, class) };
            offset += CLASSES[class] * count;
            list
        });
        let class_of = |granules| CLASSES.partition_point(|&size| size < granules * GRANULE) as u8;
        Classes { lookup: std::array::from_fn(class_of), lists, _memory: memory }
    }

    #[inline(always)]
    fn pop(&self, size: usize) -> Option<NonNull<u8>> {
        self.list(size).pop()
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word: the same size has the same list.
        unsafe { self.list(size).push(block) }
    }

    fn leave(&self) {
        self.lists.iter().for_each(List::leave);
    }
}

impl<L> Classes<L> {
    #[inline(always)]
    fn list(&self, size: usize) -> &L {
        // SAFETY: the sizes of the workloads are in the table, and the table has classes only.
        unsafe {
            let class = *self.lookup.get_unchecked(size.div_ceil(GRANULE));
            self.lists.get_unchecked(usize::from(class))
        }
    }
}

/// What a call through a table of functions can reach.
trait Erased {
    fn pop(&self, size: usize) -> Option<NonNull<u8>>;

    /// # Safety
    ///
    /// As for [`Floor::push`].
    unsafe fn push(&self, block: NonNull<u8>, size: usize);

    fn leave(&self);
}

impl<F: Floor> Erased for F {
    fn pop(&self, size: usize) -> Option<NonNull<u8>> {
        self.pop(size)
    }

    unsafe fn push(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word.
        unsafe { self.push(block, size) }
    }

    fn leave(&self) {
        self.leave();
    }
}

/// A floor of which the compiler does not know which it is.
pub(super) struct Dyn<F> {
    floor: Box<dyn Erased>,
    kind: PhantomData<F>,
}

impl<F: Floor + 'static> Floor for Dyn<F> {
    const ANY_SIZE: bool = F::ANY_SIZE;

    fn new(blocks: usize) -> Self {
        let floor: Box<dyn Erased> = Box::new(F::new(blocks));
        Dyn { floor: std::hint::black_box(floor), kind: PhantomData }
    }

    #[inline(always)]
    fn pop(&self, size: usize) -> Option<NonNull<u8>> {
        self.floor.pop(size)
    }

    #[inline(always)]
    unsafe fn push(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word.
        unsafe { self.floor.push(block, size) }
    }

    fn leave(&self) {
        self.floor.leave();
    }
}

/// A floor as everybody uses it.
pub(super) struct Bare<F>(F);

/// One thread's use of a floor.
pub(super) struct BareWorker<'a, F: Floor>(&'a F);

impl<F: Floor> Subject for Bare<F> {
    const ANY_SIZE: bool = F::ANY_SIZE;
    type Worker<'a>
        = BareWorker<'a, F>
    where
        F: 'a;

    fn new(blocks: usize) -> Self {
        Bare(F::new(blocks))
    }

    #[inline(always)]
    fn worker(&self) -> BareWorker<'_, F> {
        BareWorker(&self.0)
    }
}

// SAFETY: invariant 2: a block is its user's as long as it is on no list. The sizes of the workloads have a list each.
unsafe impl<F: Floor> Worker for BareWorker<'_, F> {
    type Block = NonNull<u8>;

    #[inline(always)]
    fn take(&self, size: usize) -> Option<NonNull<u8>> {
        self.0.pop(size)
    }

    #[inline(always)]
    fn address(&self, block: &NonNull<u8>) -> NonNull<u64> {
        block.cast()
    }

    #[inline(always)]
    unsafe fn give_back(&self, block: NonNull<u8>, size: usize) {
        // SAFETY: our caller's word.
        unsafe { self.0.push(block, size) }
    }
}

impl<F: Floor> Drop for BareWorker<'_, F> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// A floor whose lists may be used by several threads.
trait SharedFloor: Floor {}

impl<L: List + Sync> SharedFloor for Fixed<L> {}
impl<L: List + Sync> SharedFloor for Classes<L> {}
impl<F: SharedFloor + 'static> SharedFloor for Dyn<F> {}

// SAFETY: the lists are `Sync`; besides them there is only the look-up, which does not change.
unsafe impl<F: SharedFloor> Sync for Bare<F> {}
// SAFETY: a block belongs to no thread.
unsafe impl<F: SharedFloor> Shared for Bare<F> {}
