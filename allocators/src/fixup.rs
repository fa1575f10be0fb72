use core::fmt;

use crate::MemReq;
use crate::form::{Form, Side};

/// The unit that block sizes are rounded up to, and the alignment that every block has at least, in bytes: two words
/// (16 on a 64-bit machine, 8 on a 32-bit one).
///
/// # Examples
///
/// ```
/// use fibra_allocators::{GRANULE, MemReq, table};
///
/// assert_eq!(table([MemReq::new(1, 5)]).rows(), [MemReq::new(GRANULE, 5)]);
/// ```
pub const GRANULE: usize = 2 * size_of::<usize>();

/// The greatest alignment that a class gives its blocks, in bytes.
pub(crate) const MAX_ALIGN: usize = 4096;

/// What all blocks of a table take together at most, in bytes. Room is left for the largest padding, so that no later sum
/// can overflow.
pub(crate) const MOST_BYTES: usize = isize::MAX as usize - 2 * MAX_ALIGN;

/// The alignment of the memory that [`Table::arena_size`] counts on, in bytes: that of [`Arena`](crate::Arena).
pub(crate) const ARENA_ALIGN: usize = 16;

/// Why a list of rows is no size-class table. Rows are counted from 0, in the order given.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{FixupError, MemReq, fixup};
///
/// let error = fixup([MemReq::new(64, 10), MemReq::new(128, 0)]).unwrap_err();
/// assert_eq!(error, FixupError::NoBlocks { row: 1 });
/// assert_eq!(error.to_string(), "row 1 of the size-class table asks for 0 blocks");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FixupError {
    /// There is no row at all, so no request could ever be served.
    Empty,
    /// This row asks for no blocks.
    NoBlocks {
        /// The row.
        row: usize,
    },
    /// This row asks for blocks of no bytes.
    NoBytes {
        /// The row.
        row: usize,
    },
    /// This row, or the rows up to this one together, ask for more than can be addressed.
    Overflow {
        /// The row.
        row: usize,
    },
    /// More different sizes than the look-up can tell apart, which is 255.
    TooManyClasses,
}

impl fmt::Display for FixupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FixupError::Empty => f.write_str("the size-class table has no rows"),
            FixupError::NoBlocks { row } => {
                write!(f, "row {row} of the size-class table asks for 0 blocks")
            }
            FixupError::NoBytes { row } => write!(f, "row {row} of the size-class table asks for blocks of 0 bytes"),
            FixupError::Overflow { row } => {
                write!(f, "the size-class table asks for more than can be addressed, from row {row} on")
            }
            FixupError::TooManyClasses => f.write_str("the size-class table has more than 255 different sizes"),
        }
    }
}

impl core::error::Error for FixupError {}

/// A fixed-up size-class table: block sizes are multiples of [`GRANULE`], ascending, and all different.
///
/// Made by [`fixup`] or, as a constant, by [`table`]. `N` is the number of rows that were given; equal sizes are merged, so
/// the table may have fewer.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{MemReq, Table, table};
///
/// const SIZES: Table<3> = table([MemReq::new(64, 5), MemReq::new(32, 10), MemReq::new(64, 1)]);
/// assert_eq!(SIZES.rows(), [MemReq::new(32, 10), MemReq::new(64, 6)]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Table<const N: usize> {
    /// The first `len` are the table. The others are 0 blocks of 0 bytes, so that equal tables compare equal.
    rows: [MemReq; N],
    len: usize,
}

/// Rounds the block sizes up to [`GRANULE`], sorts the rows and merges those of equal size (their counts are added).
///
/// O(N²), with N the number of rows; usable in `const`, where [`table`] is shorter.
///
/// # Errors
///
/// A [`FixupError`] that says which row is at fault: an empty table, a row of 0 blocks or of 0 bytes, a size, a product or
/// a sum that overflows. Every other list of rows is a table.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{FixupError, MemReq, fixup};
///
/// // As on a 64-bit machine, where sizes are multiples of 16 bytes.
/// # #[cfg(target_pointer_width = "64")] {
/// let table = fixup([MemReq::new(100, 5), MemReq::new(25, 10), MemReq::new(32, 1)])?;
/// assert_eq!(table.rows(), [MemReq::new(32, 11), MemReq::new(112, 5)]);
/// # }
///
/// assert_eq!(fixup([MemReq::new(64, 1), MemReq::new(0, 9)]), Err(FixupError::NoBytes { row: 1 }));
/// # Ok::<(), FixupError>(())
/// ```
pub const fn fixup<const N: usize>(reqs: [MemReq; N]) -> Result<Table<N>, FixupError> {
    if N == 0 {
        return Err(FixupError::Empty);
    }
    let mut table = Table { rows: [MemReq::new(0, 0); N], len: 0 };
    let mut total = 0_usize;
    let mut row = 0;
    while row < N {
        let MemReq { block_size, n_blocks } = reqs[row];
        if block_size == 0 {
            return Err(FixupError::NoBytes { row });
        }
        if n_blocks == 0 {
            return Err(FixupError::NoBlocks { row });
        }
        let overflow = Err(FixupError::Overflow { row });
        let Some(block_size) = block_size.checked_next_multiple_of(GRANULE) else {
            return overflow;
        };
        let Some(bytes) = block_size.checked_mul(n_blocks) else {
            return overflow;
        };
        total = match total.checked_add(bytes) {
            Some(sum) if sum <= MOST_BYTES => sum,
            _ => return overflow,
        };
        table.insert(MemReq { block_size, n_blocks });
        row += 1;
    }
    // The look-up holds a class in a byte and needs one value for "none".
    if table.len > u8::MAX as usize {
        return Err(FixupError::TooManyClasses);
    }
    Ok(table)
}

/// [`fixup`] for constants: a bad table is a compile error.
///
/// # Panics
///
/// Where [`fixup`] returns an error; in a `const` that stops the compilation.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Arena, MemReq, Table, table};
///
/// const SIZES: Table<2> = table([MemReq::new(64, 100), MemReq::new(1024, 4)]);
/// static MEMORY: Arena<{ SIZES.arena_size() }> = Arena::new();
/// ```
///
/// ```compile_fail,E0080
/// use fibra_allocators::{MemReq, Table, table};
///
/// const SIZES: Table<2> = table([MemReq::new(64, 100), MemReq::new(1024, 0)]);
/// # let _ = SIZES;
/// ```
#[must_use]
#[track_caller]
pub const fn table<const N: usize>(reqs: [MemReq; N]) -> Table<N> {
    match fixup(reqs) {
        Ok(table) => table,
        // Formatting is not to be had in `const`, hence without the row.
        Err(FixupError::Empty) => panic!("the size-class table has no rows"),
        Err(FixupError::NoBlocks { .. }) => {
            panic!("a row of the size-class table asks for 0 blocks")
        }
        Err(FixupError::NoBytes { .. }) => {
            panic!("a row of the size-class table asks for blocks of 0 bytes")
        }
        Err(FixupError::Overflow { .. }) => {
            panic!("the size-class table asks for more than can be addressed")
        }
        Err(FixupError::TooManyClasses) => {
            panic!("the size-class table has more than 255 different sizes")
        }
    }
}

/// The alignment of the blocks of a class, in bytes: the lowest set bit of their size, at most [`MAX_ALIGN`].
pub(crate) const fn class_align(block_size: usize) -> usize {
    let lowest = block_size & block_size.wrapping_neg();
    if lowest > MAX_ALIGN { MAX_ALIGN } else { lowest }
}

impl<const N: usize> Table<N> {
    /// The first `len` of these rows, which are as [`fixup`] leaves them; the others are 0 blocks of 0 bytes.
    pub(crate) const fn fixed_up(rows: [MemReq; N], len: usize) -> Self {
        Table { rows, len }
    }

    /// The sums were checked before.
    const fn insert(&mut self, new: MemReq) {
        let mut at = self.len;
        while at > 0 && self.rows[at - 1].block_size >= new.block_size {
            at -= 1;
        }
        if at < self.len && self.rows[at].block_size == new.block_size {
            self.rows[at].n_blocks += new.n_blocks;
            return;
        }
        let mut i = self.len;
        while i > at {
            self.rows[i] = self.rows[i - 1];
            i -= 1;
        }
        self.rows[at] = new;
        self.len += 1;
    }

    /// The rows, smallest block first.
    ///
    /// For an example see [`Table`].
    #[must_use]
    pub const fn rows(&self) -> &[MemReq] {
        self.rows.split_at(self.len).0
    }

    /// The bytes of all blocks together.
    ///
    /// O(rows).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, table};
    ///
    /// assert_eq!(table([MemReq::new(64, 10), MemReq::new(32, 4)]).block_bytes(), 640 + 128);
    /// ```
    #[must_use]
    pub const fn block_bytes(&self) -> usize {
        let mut bytes = 0;
        let mut row = 0;
        while row < self.len {
            bytes += self.rows[row].block_size * self.rows[row].n_blocks;
            row += 1;
        }
        bytes
    }

    /// The alignment of memory that needs no padding, in bytes: that of the most aligned class, at most 4096.
    ///
    /// O(rows).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, table};
    ///
    /// assert_eq!(table([MemReq::new(48, 10), MemReq::new(64, 10)]).arena_align(), 64); // 48 is a multiple of 16 only
    /// ```
    #[must_use]
    pub const fn arena_align(&self) -> usize {
        let mut align = GRANULE;
        let mut row = 0;
        while row < self.len {
            let of_class = class_align(self.rows[row].block_size);
            if of_class > align {
                align = of_class;
            }
            row += 1;
        }
        align
    }

    /// The bytes that a form needs beside the blocks. Saturates.
    pub(crate) const fn side_bytes(&self, side: Side) -> usize {
        let mut bytes = 0_usize;
        let mut row = 0;
        while row < self.len {
            bytes = bytes.saturating_add(side.bytes(self.rows[row].n_blocks));
            row += 1;
        }
        bytes
    }

    /// The size of the memory that a [`SizeClasses`](crate::SizeClasses) with this table needs, in bytes, wherever it is put
    /// as long as it is aligned to 16, as an [`Arena`](crate::Arena) is.
    ///
    /// That is the blocks and, for the case that the memory is aligned no better, the padding before the most aligned
    /// class.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, Table, table};
    ///
    /// const SIZES: Table<2> = table([MemReq::new(64, 10), MemReq::new(48, 10)]);
    /// assert_eq!(SIZES.arena_size(), 640 + 480 + (64 - 16));
    /// ```
    #[must_use]
    pub const fn arena_size(&self) -> usize {
        self.block_bytes() + self.arena_align().saturating_sub(ARENA_ALIGN)
    }

    /// [`Table::arena_size`] for another [`Form`], which may keep something beside the blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{Arena, LockFree, SizeClasses, Table, table, MemReq};
    ///
    /// const SIZES: Table<1> = table([MemReq::new(64, 10)]);
    /// assert_eq!(SIZES.arena_size_for::<LockFree>(), SIZES.arena_size() + 10 * 4);
    ///
    /// static MEMORY: Arena<{ SIZES.arena_size_for::<LockFree>() }> = Arena::new();
    /// let system = SizeClasses::with_form::<LockFree>(&SIZES, MEMORY.take().unwrap());
    /// assert!(system.is_ok());
    /// ```
    #[must_use]
    pub const fn arena_size_for<F: Form>(&self) -> usize {
        self.arena_size().saturating_add(self.side_bytes(F::SIDE))
    }
}
