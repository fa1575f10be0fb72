//! The forms of a class: how its free blocks are kept, and so who may share them and in which order they are reused.
//!
//! # Invariants
//!
//! What a [`List`] is given at `new`, `n_blocks` blocks and a [side table](Side), is its own until its last use. It gives
//! each block to one user at a time: from `pop` until `push`.

use core::fmt;
use core::ptr::NonNull;

use crate::block_list::BlockList;
use crate::lock::Lock;
use crate::ordered;

/// How an allocator keeps its free blocks: who may share it, and in which order blocks are reused.
///
/// The parameter `F` of [`SizeClasses`](crate::SizeClasses) and [`FixedBlock`](crate::FixedBlock). Times are of one
/// allocation and its release, uncontended.
///
/// | form | shared by | next is | memory besides the blocks | time |
/// | --- | --- | --- | --- | --- |
/// | [`NoLock`](crate::NoLock) | one thread | the last released | none | 1 ns |
/// | [`SpinLock`](crate::SpinLock), one for each class | threads | the last released | none | two locked instructions |
/// | `CriticalSection` | a core and its interrupts | the last released | none | twice masking interrupts |
/// | [`LockFree`](crate::LockFree) | threads, interrupts | the last released | 4 bytes a block | two locked instructions |
/// | [`Fifo`](crate::Fifo) | threads, interrupts | the first released | 16 bytes a block | four locked instructions |
/// | [`Ordered`](crate::Ordered) over a lock | whom the lock admits | near the one before, else at the lowest address | a bit a block | 2 ns and the lock |
///
/// Every [`Lock`] is a form. The trait is sealed.
///
/// # On a chip
///
/// Instructions (not cycles) of 32 bytes from `SizeClasses`: an allocation of a block that was never used, one of a released
/// block, and a release. A Cortex-M3 has compare-and-swap (thumbv7m); a Cortex-M0 has none (thumbv6m), and masks interrupts
/// instead.
///
/// | form | M3, `opt-level = 3` | M3, `"z"` | M0, `opt-level = 3` | M0, `"z"` |
/// | --- | --- | --- | --- | --- |
/// | `NoLock` | 18, 14, 13 | 23, 19, 12 | 21, 16, 17 | 25, 20, 13 |
/// | `CriticalSection` | 25, 21, 20 | 31, 27, 25 | 25, 23, 24 | 30, 28, 26 |
/// | `SpinLock` | 33, 29, 27 | 36, 32, 33 | – | – |
/// | `LockFree` | 36, 38, 33 | 39, 38, 43 | 51, 45, 48 | 72, 74, 75 |
/// | `Fifo` | 36, 57, 68 | 41, 64, 76 | 64, 99, 121 | 88, 122, 146 |
/// | `Ordered` | 26, 31, 30 | 35, 33, 36 | 32, 51, 38 | 44, 52, 42 |
///
/// `FixedBlock` differs by seven at most. With rustc 1.96, `lto = "fat"` and `codegen-units = 1`; counted by QEMU's clock
/// (`-icount shift=0`) over 512 blocks, each operation called as a function, less what calling an empty one takes. The program
/// is `examples/cortex-m3/src/bin/costs.rs`.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, AllocRef, Allocator, Borrowed, Form, MemReq, SizeClasses, SpinLock, table};
///
/// fn first_class_live<F: Form>(system: &SizeClasses<1, Borrowed<'_>, F>) -> usize {
///     system.classes().map(|class| class.live).sum()
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(64, 10)]), &mut memory)?;
/// assert_eq!(first_class_live(&system), 0);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
pub trait Form: sealed::Form {}

impl<F: sealed::Form> Form for F {}

/// The memory that a form needs besides the blocks.
#[derive(Debug, Clone, Copy)]
pub enum Side {
    /// None.
    None,
    /// A link for each block.
    Links,
    /// The nodes of a queue.
    Nodes,
    /// A bit for each block, and summaries.
    Bits,
}

impl Side {
    /// The bytes for a class of `n_blocks`, which are a multiple of a word; so many that no memory holds them if the form
    /// cannot have such a class.
    pub(crate) const fn bytes(self, n_blocks: usize) -> usize {
        if matches!(self, Side::None) {
            return 0;
        }
        if n_blocks > MOST_NUMBERED {
            return usize::MAX;
        }
        const WORD: usize = size_of::<usize>();
        const NUMBER: usize = size_of::<u32>();
        let bytes = match self {
            Side::None => 0,
            Side::Links => n_blocks * NUMBER,
            // Of each node the next one and its block, and of each block its node.
            Side::Nodes => (n_blocks + 1) * WORD + (2 * n_blocks + 1) * NUMBER,
            Side::Bits => ordered::words(n_blocks) * WORD,
        };
        bytes.next_multiple_of(WORD)
    }
}

/// The greatest number of blocks in a class whose form numbers them: their numbers, and one more, are half of a word at
/// most. The rest is for tags.
pub(crate) const MOST_NUMBERED: usize = (usize::MAX >> (usize::BITS / 2)) - 1;

/// A free list, or a block in it, is not what the allocator left there: somebody wrote to a block after its release, or
/// released a block twice.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Allocator, FixedBlock, Layout};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let words = FixedBlock::new(Layout::new::<usize>(), &mut memory);
/// let block = (&words).allocate(Layout::new::<usize>())?.cast::<usize>();
/// // SAFETY: ours; and then, after the release, it is not: a mistake, which happens to hit nothing but the arena.
/// unsafe {
///     (&words).deallocate(block.cast(), Layout::new::<usize>());
///     block.write(0xbad);
/// }
/// assert_eq!(words.verify().unwrap_err().block_size, size_of::<usize>());
/// # Ok::<(), fibra_allocators::AllocError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Corruption {
    /// The size of the blocks of the class, in bytes.
    pub block_size: usize,
    /// The address that no free block of the class can have, or 0 if the list has more blocks than were released.
    pub address: usize,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { block_size, address } = self;
        write!(f, "the free list of blocks of {block_size} bytes ")?;
        match address {
            0 => write!(f, "has more blocks than were released"),
            _ => write!(f, "leads to {address:#x}, which is no free block"),
        }?;
        f.write_str(": a block was written to after its release, or released twice")
    }
}

impl core::error::Error for Corruption {}

pub(crate) mod sealed {
    use super::{Corruption, NonNull, Side};

    pub trait Form {
        type List: List;
        const SIDE: Side;
    }

    /// The free blocks of one class.
    ///
    /// # Safety
    ///
    /// It obeys the invariants at the top of the module.
    pub unsafe trait List: Sized {
        /// A list that never has a block.
        fn empty() -> Self;

        /// Touches none of the memory.
        ///
        /// # Safety
        ///
        /// `n_blocks * block_size` bytes at `start` and `SIDE.bytes(n_blocks)` bytes at `side` are ours, with the
        /// arena's provenance, until the last use of the list. `start`, `side` and `block_size` are multiples of the
        /// alignment of a pointer, and `block_size` is not 0.
        unsafe fn new(start: NonNull<u8>, block_size: usize, n_blocks: usize, side: NonNull<u8>) -> Self;

        /// The size of every block, in bytes; 0 for the empty list.
        fn block_size(&self) -> usize;

        /// Where the first of its `n_blocks` begins.
        fn start(&self, n_blocks: usize) -> NonNull<u8>;

        /// A block of `block_size` bytes.
        fn pop(&self) -> Option<NonNull<u8>>;

        /// Takes a block back.
        ///
        /// # Safety
        ///
        /// `block` came from `pop` on this list, is not on it, and its user has finished with it.
        unsafe fn push(&self, block: NonNull<u8>);

        /// Blocks that were never given out yet.
        fn untouched(&self) -> usize;

        /// Blocks that were given out and came back.
        fn recycled(&self) -> usize;

        /// Follows the free list of a class of `n_blocks`, whatever is written in it.
        fn verify(&self, n_blocks: usize) -> Result<(), Corruption>;
    }
}

impl<L: Lock> sealed::Form for L {
    type List = BlockList<L>;
    const SIDE: Side = Side::None;
}

/// The number of the block that begins `offset` bytes behind the first one, without a division.
///
/// An offset that is a multiple of the block size is divided by shifting out the size's powers of two and multiplying with
/// the inverse of what is left, modulo the machine's word (exact division: Granlund and Montgomery, "Division by invariant
/// integers using multiplication", 1994).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbering {
    shift: u32,
    inverse: usize,
}

impl Numbering {
    pub(crate) const NONE: Self = Numbering { shift: 0, inverse: 0 };

    pub(crate) fn new(block_size: usize) -> Self {
        let shift = block_size.trailing_zeros();
        let odd = block_size >> shift;
        // Newton's iteration: each step doubles the number of right bits, of which the first guess has three.
        let mut inverse = odd;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_usize.wrapping_sub(odd.wrapping_mul(inverse)));
        }
        Numbering { shift, inverse }
    }

    #[inline(always)]
    pub(crate) fn of(self, offset: usize) -> usize {
        (offset >> (self.shift & (usize::BITS - 1))).wrapping_mul(self.inverse)
    }
}
