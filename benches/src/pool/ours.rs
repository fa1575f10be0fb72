//! fibra's own pools: a few lines for each form, and a line in [`ALL`](super::ALL).

use fibra_allocators::{Extent, FixedBlock, Layout, MemReq, SizeClasses, Table, table};

use super::pages::Pages;
use super::subject::{ALIGN, BLOCK, CLASSES, Handle, SPARE, Subject};

/// As many blocks of each size.
fn sizes(blocks: usize) -> Table<{ CLASSES.len() }> {
    table(CLASSES.map(|size| MemReq::new(size, blocks + SPARE)))
}

fn block() -> Layout {
    Layout::from_size_align(BLOCK, ALIGN).expect("a valid layout")
}

/// Size classes for one thread.
pub(super) struct Single(SizeClasses<{ CLASSES.len() }, Extent<Pages>>);

impl Subject for Single {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<&'a SizeClasses<{ CLASSES.len() }, Extent<Pages>>>;

    fn new(blocks: usize) -> Self {
        Single(SizeClasses::in_parent(&sizes(blocks), Pages).expect("room for an arena"))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(&self.0)
    }
}

/// Blocks of one size for one thread.
pub(super) struct Fixed(FixedBlock<Extent<Pages>>);

impl Subject for Fixed {
    const ANY_SIZE: bool = false;
    type Worker<'a> = Handle<&'a FixedBlock<Extent<Pages>>>;

    fn new(blocks: usize) -> Self {
        Fixed(FixedBlock::in_parent(block(), blocks + SPARE, Pages).expect("room for an arena"))
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(&self.0)
    }
}
