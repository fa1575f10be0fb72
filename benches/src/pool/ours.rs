//! fibra's own pools: a few lines for each kind, and a line in [`ALL`](super::ALL) for each form.

use fibra_allocators::{
    Allocator, Cache, DynAlloc, Extent, FixedBlock, Form, Layout, MemReq, SizeClasses, SpinLock, Table, table,
};

use super::pages::Pages;
use super::subject::{ALIGN, BLOCK, CLASSES, Handle, Owner, SPARE, Shared, Subject};

const N: usize = CLASSES.len();

/// As many blocks of each size.
fn sizes(blocks: usize) -> Table<N> {
    table(CLASSES.map(|size| MemReq::new(size, blocks + SPARE)))
}

/// Size classes, of some form.
pub(super) struct Classes<F: Form>(SizeClasses<N, Extent<Pages>, F>);

impl<F: Form> Subject for Classes<F>
where
    for<'a> &'a SizeClasses<N, Extent<Pages>, F>: Allocator,
{
    const ANY_SIZE: bool = true;
    type Worker<'a>
        = Handle<&'a SizeClasses<N, Extent<Pages>, F>>
    where
        F: 'a;

    fn new(blocks: usize) -> Self {
        Classes(SizeClasses::in_parent_with_form(&sizes(blocks), Pages).expect("room for an arena"))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(&self.0)
    }
}

// SAFETY: one that is `Sync` may be used by all threads, and a block belongs to none.
unsafe impl<F: Form> Shared for Classes<F> where Self: Subject + Sync {}

/// Size classes behind a handle that says at run time which allocator it is.
pub(super) struct Erased(DynAlloc<'static>);

impl Subject for Erased {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<&'a DynAlloc<'static>>;

    fn new(blocks: usize) -> Self {
        let system = SizeClasses::in_parent(&sizes(blocks), Pages).expect("room for an arena");
        let handle = DynAlloc::new_in(system, DynAlloc::root(Pages)).expect("room for the classes themselves");
        Erased(std::hint::black_box(handle))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(&self.0)
    }
}

/// Blocks of one size, in some form.
pub(super) struct Fixed<F: Form>(FixedBlock<Extent<Pages>, F>);

impl<F: Form> Subject for Fixed<F>
where
    for<'a> &'a FixedBlock<Extent<Pages>, F>: Allocator,
{
    const ANY_SIZE: bool = false;
    type Worker<'a>
        = Handle<&'a FixedBlock<Extent<Pages>, F>>
    where
        F: 'a;

    fn new(blocks: usize) -> Self {
        let block = Layout::from_size_align(BLOCK, ALIGN).expect("a valid layout");
        Fixed(FixedBlock::in_parent_with_form(block, blocks + SPARE, Pages).expect("room for an arena"))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(&self.0)
    }
}

/// Size classes with a lock each, and for each worker a cache with two chains of `M` blocks.
pub(super) struct Cached<const M: usize>(SizeClasses<N, Extent<Pages>, SpinLock>);

impl<const M: usize> Subject for Cached<M> {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Owner<Cache<'a, N, Extent<Pages>>>;

    fn new(blocks: usize) -> Self {
        Cached(SizeClasses::in_parent_with_form(&sizes(blocks), Pages).expect("room for an arena"))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Owner(Cache::new(&self.0, M))
    }
}

// SAFETY: a block may be released through any cache of the same classes.
unsafe impl<const M: usize> Shared for Cached<M> {}
