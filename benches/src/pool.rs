//! The pool rows: blocks of 64 bytes from fibra's size classes and from `malloc`.

use std::hint::black_box;
use std::ptr::NonNull;

use fibra_allocators::{AllocError, Allocator, Layout, MemReq, SizeClasses, Table, table};

/// Blocks that are live at once in a batch.
pub const LIVE: u64 = 1000;

const BLOCK: Layout = match Layout::from_size_align(64, 8) {
    Ok(layout) => layout,
    Err(_) => panic!("a valid layout"),
};

/// More than one class, so that there is something to look up.
const SIZES: Table<4> = table([
    MemReq::new(32, LIVE as usize),
    MemReq::new(64, LIVE as usize),
    MemReq::new(128, LIVE as usize),
    MemReq::new(256, LIVE as usize),
]);

/// What is done with the blocks, `n` times.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    /// One is taken, written, read and given back.
    Tight,
    /// [`LIVE`] of them are.
    Batches(Order),
}

/// The order in which a batch is given back.
#[derive(Clone, Copy)]
pub(crate) enum Order {
    /// First taken, first given back.
    First,
    /// Last taken, first given back.
    Last,
    /// Any, but the same for everybody.
    Random,
}

/// fibra's size classes, the single-threaded ones.
pub(crate) fn size_classes(n: u64, how: Use) -> u64 {
    let mut memory = Box::new_uninit_slice(SIZES.arena_size());
    let pool = SizeClasses::new(&SIZES, &mut memory).expect("an arena's size always does");
    how.run(n, &pool)
}

/// The host's allocator.
pub(crate) fn malloc(n: u64, how: Use) -> u64 {
    how.run(n, Malloc)
}

impl Use {
    fn run(self, n: u64, pool: impl Allocator) -> u64 {
        match self {
            Self::Tight => tight(n, &pool),
            Self::Batches(order) => batches(n, &pool, &order.permutation()),
        }
    }
}

fn tight(n: u64, pool: &impl Allocator) -> u64 {
    let mut sum = 0;
    for i in 0..n {
        let block = take(pool, i);
        // SAFETY: it is this pool's, and not used after.
        sum += unsafe { give_back(pool, block) };
    }
    sum
}

fn batches(n: u64, pool: &impl Allocator, order: &[usize]) -> u64 {
    let mut blocks = vec![NonNull::dangling(); order.len()];
    let mut sum = 0;
    for _ in 0..n {
        for (i, place) in (0..).zip(&mut blocks) {
            *place = take(pool, i);
        }
        for &i in order {
            // SAFETY: it is this pool's, and a permutation has each of them once.
            sum += unsafe { give_back(pool, blocks[i]) };
        }
    }
    sum
}

/// Takes a block and writes `value` to it. The compiler cannot see that only we read it, nor keep the pool in registers.
#[inline(always)]
fn take(pool: &impl Allocator, value: u64) -> NonNull<u64> {
    let block = pool.allocate(BLOCK).expect("there are enough blocks").cast();
    // SAFETY: a fresh block, with room for it and aligned.
    unsafe { block.write(value) };
    black_box((pool, block));
    block
}

/// Reads what [`take`] wrote and gives the block back.
///
/// # Safety
///
/// It came from `take` with this pool, and this is its end.
#[inline(always)]
unsafe fn give_back(pool: &impl Allocator, block: NonNull<u64>) -> u64 {
    // SAFETY: `take` wrote it; the rest is our caller's word.
    unsafe {
        let value = block.read();
        pool.deallocate(block.cast(), BLOCK);
        value
    }
}

impl Order {
    fn permutation(self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..LIVE as usize).collect();
        match self {
            Self::First => {}
            Self::Last => order.reverse(),
            Self::Random => {
                let mut state = 0x2545_f491_4f6c_dd1d_u64;
                for i in (1..order.len()).rev() {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    order.swap(i, (state % (i as u64 + 1)) as usize);
                }
            }
        }
        order
    }
}

/// The host's allocator, for requests that are not empty.
struct Malloc;

// SAFETY: a block of `alloc` is valid, and its owner's alone, until `dealloc`; that there is no state makes a copy as good
// as the original.
unsafe impl Allocator for Malloc {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: there are no empty requests here.
        let block = unsafe { std::alloc::alloc(layout) };
        let block = NonNull::new(block).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: by our caller's word it came from `allocate` with this layout.
        unsafe { std::alloc::dealloc(block.as_ptr(), layout) }
    }
}
