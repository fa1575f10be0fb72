//! Free blocks as bits, in memory of their own: for pools whose blocks have gone cold.
//!
//! ```text
//!   top      1 . . 1                       a set bit: there is one in the word below
//!            |     |
//!   middle   ..1.  1..1                    (as many rows as it takes)
//!              |   |  |
//!   bottom   ...1..11...11.1....           a set bit: this block is free
//! ```
//!
//! # Invariants
//!
//! 1. `start` and the words are memory that the owner's backing keeps for us: `n_blocks` blocks and [`words`] words.
//! 2. Blocks below `carved` were given out. Of those, the ones whose bit is set are ours and the others their users'. The
//!    words of a row have a value as soon as they cover such a block.
//! 3. A bit of a row above the bottom is set if and only if the word that it covers is not zero. The word that `current` names
//!    counts as if it were not, so that the rows above rest while one group empties and fills.
//! 4. `free` is the number of bits set in the bottom row.
//! 5. The cells, and the words, are used inside the lock only.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::form::sealed::{self, List};
use crate::form::{Corruption, MOST_NUMBERED, Numbering, Side};
use crate::lock::{Lock, NoLock};

const BITS: usize = usize::BITS as usize;
/// The binary logarithm of `BITS`.
const SHIFT: u32 = usize::BITS.trailing_zeros();
/// Rows for the most blocks that a class can have: a half of the word's bits, by `SHIFT` at a time.
const ROWS: usize = (BITS / 2).div_ceil(SHIFT as usize);

/// Words for the rows of a class.
pub(crate) const fn words(n_blocks: usize) -> usize {
    let mut words = 0;
    let mut row = n_blocks;
    while row > 0 {
        row = row.div_ceil(BITS);
        words += row;
        if row == 1 {
            break;
        }
    }
    words
}

/// A form that keeps free blocks in order of address and does not touch them: for pools that are larger than the cache.
///
/// A list through the blocks themselves has to read a block to find the next one, which costs a cache miss when the block
/// was released long ago, and hands out blocks in the order of their release, which over time becomes any order. Here a free
/// block is a bit. The next block is one of the same group of 64 as the one before (32 on a 32-bit machine) as long as there
/// is one, and then the one at the lowest address; blocks that are used together lie together, and pages at the end of the
/// arena stay untouched, or go cold as a whole.
///
/// A bit and a little more for each block, besides the blocks. Allocation and release take a step for each factor of 64 in
/// the number of blocks, four for a million, and mostly one.
///
/// `L` says who may share it, as always.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{FixedBlock, Layout, Ordered};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let words = FixedBlock::with_form::<Ordered>(Layout::new::<u64>(), &mut memory);
/// let (a, b, c) = (Box::new_in(1_u64, &words), Box::new_in(2_u64, &words), Box::new_in(3_u64, &words));
/// let lowest = &raw const *a;
/// drop(a);
/// drop(c);
/// assert_eq!(&raw const *Box::new_in(4_u64, &words), lowest);
/// # drop(b);
/// ```
pub struct Ordered<L: Lock = NoLock>(PhantomData<L>);

impl<L: Lock> fmt::Debug for Ordered<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ordered")
    }
}

impl<L: Lock> sealed::Form for Ordered<L> {
    type List = Bitmap<L>;
    const SIDE: Side = Side::Bits;
}

/// See the top of the module.
// A cache line each, so that threads at different classes do not fight for one; and so that the n-th of a row is a shift away.
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
#[allow(missing_debug_implementations)] // its name cannot be written outside
pub struct Bitmap<L: Lock> {
    lock: L,
    /// The word of the bottom row that the last block came from.
    current: Cell<usize>,
    carved: Cell<usize>,
    start: NonNull<u8>,
    block_size: usize,
    n_blocks: usize,
    numbering: Numbering,
    bottom: NonNull<usize>,
    /// Of each row, counted from the bottom, its first word.
    first: [u32; ROWS],
    /// The number of rows. The one at the top has one word.
    rows: usize,
    free: Cell<usize>,
}

impl<L: Lock> Bitmap<L> {
    /// # Safety
    ///
    /// There is such a row, and it has such a word.
    #[inline(always)]
    unsafe fn word(&self, row: usize, index: usize) -> NonNull<usize> {
        // SAFETY: invariant 1 and our caller's word.
        unsafe { self.bottom.add(*self.first.get_unchecked(row) as usize + index) }
    }

    /// A block that was never given out; `None` if there is no such block.
    fn carve(&self) -> Option<NonNull<u8>> {
        let number = self.carved.get();
        if number == self.n_blocks {
            return None;
        }
        let mut index = number;
        for row in 0..self.rows {
            if !index.is_multiple_of(BITS) {
                break;
            }
            index /= BITS;
            // The way to the current word, which is the first one here, counts as not empty.
            let fresh = usize::from(number == 0 && row > 0);
            // SAFETY: the word covers the block.
            unsafe { self.word(row, index).write(fresh) };
        }
        self.carved.set(number + 1);
        // SAFETY: invariant 1.
        Some(unsafe { self.start.add(number * self.block_size) })
    }

    /// Makes another word the current one. Not to be called with all blocks live, nor while the current word has a bit.
    #[cold]
    fn turn(&self) {
        let mut index = self.current.get();
        for row in 1..self.rows {
            // SAFETY: the word is on the way to the top, and has a value, since it covers the current word.
            let left = unsafe {
                let word = self.word(row, index / BITS);
                let left = word.read() & !(1 << (index % BITS));
                word.write(left);
                left
            };
            if left != 0 {
                break;
            }
            index /= BITS;
        }
        index = 0;
        for row in (1..self.rows).rev() {
            // SAFETY: the top has one word, and a bit stands for a word of the row below that is not zero (invariant 3).
            let word = unsafe { self.word(row, index).read() };
            index = index * BITS + word.trailing_zeros() as usize;
        }
        self.current.set(index);
    }

    /// Marks, in the rows above, that a word of the bottom row is no longer zero.
    #[cold]
    fn climb(&self, mut index: usize) {
        for row in 1..self.rows {
            // SAFETY: the word is on the way to the top, and has a value, since it covers a block that was given out.
            let before = unsafe {
                let word = self.word(row, index / BITS);
                let before = word.read();
                word.write(before | 1 << (index % BITS));
                before
            };
            if before != 0 {
                return;
            }
            index /= BITS;
        }
    }
}

// SAFETY: invariants 2 and 5: a block's bit is cleared, or the block is carved, inside the lock, and so for one user at a
// time.
unsafe impl<L: Lock> List for Bitmap<L> {
    fn empty() -> Self {
        Bitmap {
            lock: L::NEW,
            current: Cell::new(0),
            carved: Cell::new(0),
            start: NonNull::dangling(),
            block_size: 0,
            n_blocks: 0,
            numbering: Numbering::NONE,
            bottom: NonNull::dangling(),
            first: [0; ROWS],
            rows: 0,
            free: Cell::new(0),
        }
    }

    unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize, side: NonNull<u8>) -> Self {
        debug_assert!(n_blocks <= MOST_NUMBERED);
        let numbering = Numbering::new(block_size);
        let mut bitmap = Bitmap { start, block_size, n_blocks, numbering, bottom: side.cast(), ..Self::empty() };
        let mut word = 0;
        let mut row = n_blocks;
        for first in &mut bitmap.first {
            if row <= 1 && bitmap.rows > 0 {
                break;
            }
            *first = word as u32;
            row = row.div_ceil(BITS);
            word += row;
            bitmap.rows += 1;
        }
        bitmap
    }

    #[inline]
    fn block_size(&self) -> usize {
        self.block_size
    }

    fn start(&self, _n_blocks: usize) -> NonNull<u8> {
        self.start
    }

    #[inline]
    fn pop(&self) -> Option<NonNull<u8>> {
        self.lock.with(|| {
            let free = self.free.get();
            if free == 0 {
                return self.carve();
            }
            self.free.set(free - 1);
            // SAFETY: the current word covers blocks that were given out, the first ones at least. After `turn` it is not
            // zero, because a bit is left somewhere (invariant 4). So the number is that of a block.
            unsafe {
                if self.bottom.add(self.current.get()).read() == 0 {
                    self.turn();
                }
                let current = self.current.get();
                let word = self.bottom.add(current);
                let bits = word.read();
                word.write(bits & (bits - 1));
                let number = current * BITS + bits.trailing_zeros() as usize;
                Some(self.start.add(number * self.block_size))
            }
        })
    }

    #[inline]
    unsafe fn push(&self, block: NonNull<u8>) {
        let number = self.numbering.of(block.addr().get() - self.start.addr().get());
        let index = number / BITS;
        self.lock.with(|| {
            // SAFETY: the block is one of ours, by our caller's word, and was given out.
            let before = unsafe {
                let word = self.bottom.add(index);
                let before = word.read();
                word.write(before | 1 << (number % BITS));
                before
            };
            self.free.set(self.free.get() + 1);
            if before == 0 && index != self.current.get() {
                self.climb(index);
            }
        });
    }

    fn untouched(&self) -> usize {
        self.lock.with(|| self.n_blocks - self.carved.get())
    }

    fn recycled(&self) -> usize {
        self.lock.with(|| self.free.get())
    }

    /// Counts the bits. Nobody who writes to a released block can change them; who releases one twice can.
    fn verify(&self, _n_blocks: usize) -> Result<(), Corruption> {
        let free = self.lock.with(|| {
            let words = self.carved.get().div_ceil(BITS);
            // SAFETY: these words cover blocks that were given out.
            let bits = (0..words).map(|index| unsafe { self.bottom.add(index).read() }.count_ones() as usize);
            bits.sum::<usize>() == self.free.get()
        });
        if free { Ok(()) } else { Err(Corruption { block_size: self.block_size, address: 0 }) }
    }
}

// SAFETY: the pointers lead into memory that the list owns (invariant 1).
unsafe impl<L: Lock + Send> Send for Bitmap<L> {}
// SAFETY: what is shared is used inside the lock (invariant 5), and the rest never changes.
unsafe impl<L: Lock + Sync> Sync for Bitmap<L> {}
