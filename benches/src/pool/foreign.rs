//! What people use today, each through its own interface.

use std::alloc::{GlobalAlloc, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::Mutex;

use fibra_allocators::{AllocError, Allocator, Layout};
use heapless::pool::boxed::BoxBlock;
use mimalloc::MiMalloc;
use rusty_alloc_api::RustyAlloc;
use snmalloc_rs::SnMalloc;
use spin::mutex::SpinMutex;
use talc::source::Manual;
use talc::{TalcCell, TalcLock};
use tikv_jemallocator::Jemalloc;

use super::pages::Mapping;
use super::subject::{ALIGN, BLOCK, Handle, SPARE, Shared, Subject, Worker};

/// An allocator that was made to be a program's only one.
#[derive(Clone, Copy)]
pub(super) struct Global<'a, G>(&'a G);

// SAFETY: what `GlobalAlloc` promises; there are no requests for no bytes here.
unsafe impl<G: GlobalAlloc> Allocator for Global<'_, G> {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the request is for some bytes.
        let block = unsafe { self.0.alloc(layout) };
        let block = NonNull::new(block).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: by our caller's word it came from `allocate` with this layout.
        unsafe { self.0.dealloc(block.as_ptr(), layout) }
    }
}

macro_rules! process_wide {
    ($name:ident, $allocator:ident) => {
        pub(super) struct $name;

        impl Subject for $name {
            const ANY_SIZE: bool = true;
            type Worker<'a> = Handle<Global<'a, $allocator>>;

            fn new(_blocks: usize) -> Self {
                $name
            }

            #[inline(always)]
            fn worker(&self) -> Self::Worker<'_> {
                Handle(Global(&$allocator))
            }
        }

        // SAFETY: global allocators serve all threads.
        unsafe impl Shared for $name {}
    };
}

process_wide!(Malloc, System);
process_wide!(Mimalloc, MiMalloc);
process_wide!(Jemallocator, Jemalloc);
process_wide!(Snmalloc, SnMalloc);
process_wide!(Rusty, RustyAlloc);

/// An arena for those that may split it as they like, with room for what they write beside each block.
fn arena(blocks: usize) -> Mapping {
    Mapping::new(((blocks + SPARE) * 2 * BLOCK + (1 << 24)).next_power_of_two())
}

/// talc for one thread.
pub(super) struct Talc {
    talc: TalcCell<Manual>,
    _memory: Mapping,
}

impl Subject for Talc {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<Global<'a, TalcCell<Manual>>>;

    fn new(blocks: usize) -> Self {
        let memory = arena(blocks);
        let talc = TalcCell::new(Manual);
        // SAFETY: the memory is talc's alone, and kept beside it.
        unsafe { talc.claim(memory.start().as_ptr(), memory.len()) }.expect("room for its own");
        Talc { talc, _memory: memory }
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(Global(&self.talc))
    }
}

/// talc behind the spin lock of the `spin` crate.
pub(super) struct SpinTalc {
    talc: TalcLock<SpinMutex<()>, Manual>,
    _memory: Mapping,
}

impl Subject for SpinTalc {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<Global<'a, TalcLock<SpinMutex<()>, Manual>>>;

    fn new(blocks: usize) -> Self {
        let memory = arena(blocks);
        let talc: TalcLock<SpinMutex<()>, _> = TalcLock::new(Manual);
        // SAFETY: the memory is talc's alone, and kept beside it.
        unsafe { talc.lock().claim(memory.start().as_ptr(), memory.len()) }.expect("room for its own");
        SpinTalc { talc, _memory: memory }
    }

    #[inline(always)]
    fn worker(&self) -> Self::Worker<'_> {
        Handle(Global(&self.talc))
    }
}

// SAFETY: it has a lock.
unsafe impl Shared for SpinTalc {}

/// The parameters are those of its own documentation, with room for the largest arena here.
type Tlsf = rlsf::Tlsf<'static, u32, u32, 28, 32>;

fn tlsf(memory: &Mapping) -> Tlsf {
    let mut tlsf = Tlsf::new();
    let whole = NonNull::slice_from_raw_parts(memory.start(), memory.len());
    // SAFETY: the memory is the pool's alone, and our caller keeps it as long as the pool.
    unsafe { tlsf.insert_free_block_ptr(whole) }.expect("room for its own");
    tlsf
}

/// rlsf for one thread.
pub(super) struct Rlsf {
    tlsf: UnsafeCell<Tlsf>,
    _memory: Mapping,
}

// SAFETY: what `Tlsf` promises. The exclusive reference lasts for one call, which comes back to nobody here.
unsafe impl Allocator for &Rlsf {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: see above.
        let block = unsafe { (*self.tlsf.get()).allocate(layout) }.ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: see above; by our caller's word it came from `allocate` with this layout.
        unsafe { (*self.tlsf.get()).deallocate(block, layout.align()) }
    }
}

impl Subject for Rlsf {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<&'a Rlsf>;

    fn new(blocks: usize) -> Self {
        let memory = arena(blocks);
        Rlsf { tlsf: UnsafeCell::new(tlsf(&memory)), _memory: memory }
    }

    #[inline(always)]
    fn worker(&self) -> Handle<&Rlsf> {
        Handle(self)
    }
}

/// rlsf behind the spin lock of the `spin` crate.
pub(super) struct SpinRlsf {
    tlsf: SpinMutex<Tlsf>,
    _memory: Mapping,
}

// SAFETY: what `Tlsf` promises.
unsafe impl Allocator for &SpinRlsf {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = self.tlsf.lock().allocate(layout).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: by our caller's word it came from `allocate` with this layout.
        unsafe { self.tlsf.lock().deallocate(block, layout.align()) }
    }
}

impl Subject for SpinRlsf {
    const ANY_SIZE: bool = true;
    type Worker<'a> = Handle<&'a SpinRlsf>;

    fn new(blocks: usize) -> Self {
        let memory = arena(blocks);
        SpinRlsf { tlsf: SpinMutex::new(tlsf(&memory)), _memory: memory }
    }

    #[inline(always)]
    fn worker(&self) -> Handle<&SpinRlsf> {
        Handle(self)
    }
}

// SAFETY: it has a lock, and a block belongs to no thread.
unsafe impl Shared for SpinRlsf {}

/// What a box of heapless's pool holds: a block that nobody has written to.
pub struct Unwritten(UnsafeCell<MaybeUninit<[u64; BLOCK / ALIGN]>>);

// SAFETY: plain memory; who has the box has it alone.
unsafe impl Sync for Unwritten {}

heapless::box_pool!(Boxes: Unwritten);

/// heapless's pool of boxes, of which there is one for each type in the whole program.
pub(super) struct Heapless;

impl Subject for Heapless {
    const ANY_SIZE: bool = false;
    type Worker<'a> = HeaplessWorker;

    fn new(blocks: usize) -> Self {
        static MANAGED: Mutex<usize> = Mutex::new(0);
        let mut managed = MANAGED.lock().expect("nobody panics with it");
        let more = (blocks + SPARE).saturating_sub(*managed);
        // The pool keeps its blocks for ever.
        let memory = std::mem::ManuallyDrop::new(Mapping::new((more * size_of::<BoxBlock<Unwritten>>()).max(1)));
        // Last in, first out: so the first to come out is the first in memory.
        for i in (0..more).rev() {
            // SAFETY: within the mapping, which nobody unmaps, and a place of its own for each.
            unsafe {
                let block = memory.start().cast::<BoxBlock<Unwritten>>().add(i);
                block.write(BoxBlock::new());
                Boxes.manage(&mut *block.as_ptr());
            }
        }
        *managed += more;
        Heapless
    }

    #[inline(always)]
    fn worker(&self) -> HeaplessWorker {
        HeaplessWorker
    }
}

// SAFETY: the pool is lock-free, made for all threads.
unsafe impl Shared for Heapless {}

pub(super) struct HeaplessWorker;

// SAFETY: a box is its owner's alone, as large as a block and aligned for words.
unsafe impl Worker for HeaplessWorker {
    type Block = heapless::pool::boxed::Box<Boxes>;

    #[inline(always)]
    fn take(&self, _size: usize) -> Option<Self::Block> {
        Boxes.alloc(Unwritten(UnsafeCell::new(MaybeUninit::uninit()))).ok()
    }

    #[inline(always)]
    fn address(&self, block: &Self::Block) -> NonNull<u64> {
        NonNull::from(&block.0).cast()
    }

    #[inline(always)]
    unsafe fn give_back(&self, block: Self::Block, _size: usize) {
        drop(block);
    }
}
