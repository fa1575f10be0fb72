//! What `Checking` finds, in words.

use core::alloc::Layout;
use core::fmt;

/// A block in a [`Mistake`]: where it is, how large it is, and which allocation it was.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{CheckedBlock, Layout};
///
/// let block = CheckedBlock { address: 0x1000, layout: Layout::new::<u64>(), sequence: 12 };
/// assert_eq!(block.to_string(), "block at 0x1000 of 8 bytes aligned to 8 (allocation 12)");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CheckedBlock {
    /// The address of its first byte.
    pub address: usize,
    /// What was asked for, when it was allocated or last grown or shrunk.
    pub layout: Layout,
    /// The how-manieth allocation it was, from 1. Requests for no bytes are not counted; a block that grows or shrinks keeps
    /// its number, also when it moves. A single-threaded program makes the same allocations in each run, so this is where
    /// to stop it.
    pub sequence: u64,
}

impl fmt::Display for CheckedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CheckedBlock { address, layout, sequence } = self;
        write!(f, "block at {address:#x} of {} (allocation {sequence})", Shape(layout))
    }
}

struct Shape<'a>(&'a Layout);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes aligned to {}", self.0.size(), self.0.align())
    }
}

/// A misuse of memory that [`Checking`](crate::Checking) found. `Display` says what happened, where, and what to do.
///
/// # Examples
///
/// ```
/// use fibra_allocators::{CheckedBlock, Layout, Mistake};
///
/// let block = CheckedBlock { address: 0x1000, layout: Layout::new::<u64>(), sequence: 12 };
/// let mistake = Mistake::Overrun { block, offset: 8 };
/// assert!(mistake.to_string().starts_with("overrun: byte 8 of the block at 0x1000 of 8 bytes"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mistake {
    /// A block was released, grown or shrunk that had been released before. Nothing was done.
    DoubleFree {
        /// The block, as it was when it was allocated.
        block: CheckedBlock,
    },
    /// What was released, grown or shrunk is not the beginning of any block. Nothing was done; the pointer was not followed.
    ForeignPointer {
        /// Where it points.
        address: usize,
        /// What it was said to be.
        layout: Layout,
    },
    /// A block was released, grown or shrunk as what it is not. Nothing was done: it is still live.
    WrongLayout {
        /// The block, with the layout that it really has.
        block: CheckedBlock,
        /// What it was said to be.
        given: Layout,
    },
    /// A block was to be grown to fewer bytes than it has, or to be shrunk to more. Nothing was done: it is still live.
    WrongResize {
        /// The block as it is.
        block: CheckedBlock,
        /// What it was to become.
        wanted: Layout,
    },
    /// A released block was written to. It is not given back to the inner allocator, since it may be written to again.
    WriteAfterFree {
        /// The block, as it was when it was released.
        block: CheckedBlock,
        /// The first byte that was found changed, counted from the beginning of the block.
        offset: usize,
    },
    /// Bytes behind the end of a block were written to.
    Overrun {
        /// The block that was written past.
        block: CheckedBlock,
        /// The first byte that was found changed, counted from the beginning of the block: at least its size.
        offset: usize,
    },
    /// A block was never released. Found when the `Checking` is dropped, which does not give it back to the inner
    /// allocator: something that was forgotten may still point to it.
    Leak {
        /// The block.
        block: CheckedBlock,
        /// Which of the leaks this is, from 1.
        nth: usize,
        /// How many leaks there are.
        of: usize,
    },
    /// The inner allocator gave out a block which is in use, or which it has not got back. The request was refused.
    HandedOutTwice {
        /// The block that is in use.
        block: CheckedBlock,
    },
}

impl Mistake {
    /// The block that it is about; none if the pointer is foreign.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{CheckedBlock, Layout, Mistake};
    ///
    /// let layout = Layout::new::<u64>();
    /// let block = CheckedBlock { address: 0x1000, layout, sequence: 12 };
    /// assert_eq!(Mistake::DoubleFree { block }.block(), Some(&block));
    /// assert_eq!(Mistake::ForeignPointer { address: 0x1000, layout }.block(), None);
    /// ```
    #[must_use]
    pub const fn block(&self) -> Option<&CheckedBlock> {
        match self {
            Mistake::DoubleFree { block }
            | Mistake::WrongLayout { block, .. }
            | Mistake::WrongResize { block, .. }
            | Mistake::WriteAfterFree { block, .. }
            | Mistake::Overrun { block, .. }
            | Mistake::Leak { block, .. }
            | Mistake::HandedOutTwice { block } => Some(block),
            Mistake::ForeignPointer { .. } => None,
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mistake::DoubleFree { block } => write!(
                f,
                "double free: the {block} was released before; look for a second owner, or for a pointer that was kept \
                 after the release"
            ),
            Mistake::ForeignPointer { address, layout } => write!(
                f,
                "foreign pointer: {address:#x}, released as {}, is not where a block begins; release a block where it \
                 came from, by the pointer that was given (or it was released so long ago that its record is gone)",
                Shape(layout)
            ),
            Mistake::WrongLayout { block, given } => write!(
                f,
                "wrong layout: the {block} was released as {}; release it as what was asked for, and look for a cast \
                 between types of different layout",
                Shape(given)
            ),
            Mistake::WrongResize { block, wanted } => write!(
                f,
                "wrong resize: the {block} was to become one of {}; grow to more bytes and shrink to fewer",
                Shape(wanted)
            ),
            Mistake::WriteAfterFree { block, offset } => write!(
                f,
                "write after free: byte {offset} of the {block} was changed after its release; look for a pointer that \
                 was kept. The block stays out of use"
            ),
            Mistake::Overrun { block, offset } => write!(
                f,
                "overrun: byte {offset} of the {block} was written, behind its end; look for an index or a length that \
                 is too large"
            ),
            Mistake::Leak { block, nth, of } => write!(
                f,
                "leak {nth} of {of}: the {block} was never released; look for what was forgotten, leaked, or refers to \
                 itself"
            ),
            Mistake::HandedOutTwice { block } => write!(
                f,
                "handed out twice: the inner allocator gave out the {block} again while it was in use; the mistake is in \
                 that allocator, or memory was released to it past the checks"
            ),
        }
    }
}

impl core::error::Error for Mistake {}

/// The bytes that [`Checking`](crate::Checking) fills memory with, for the eye of whoever looks at a dump.
///
/// All are odd, so that a pointer made of them is misaligned, and as 64-bit addresses they are none that a process has.
///
/// # Examples
///
/// ```
/// use fibra_allocators::Poison;
///
/// assert_eq!((Poison::Fresh as u8, Poison::Freed as u8, Poison::RedZone as u8), (0xA1, 0xDF, 0xB5));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Poison {
    /// Was given out and not written to yet.
    Fresh = 0xA1,
    /// Was released.
    Freed = 0xDF,
    /// Lies behind the end of a block.
    RedZone = 0xB5,
}

/// What [`Checking`](crate::Checking) does with a mistake unless told otherwise: panics with it. Of the leaks that are found
/// at drop, with the last one, which says how many there were.
///
/// A panic while another is unwinding ends the program, as always in Rust. Where the standard library is at hand, the std
/// shim has a handler that sees it coming.
///
/// # Panics
///
/// It does nothing else.
///
/// # Examples
///
/// ```should_panic
/// use fibra_allocators::{Layout, Mistake, panic_on_mistake};
///
/// panic_on_mistake(&Mistake::ForeignPointer { address: 0x1000, layout: Layout::new::<u64>() });
/// ```
#[cold]
#[inline(never)]
#[track_caller]
pub fn panic_on_mistake(mistake: &Mistake) {
    match mistake {
        Mistake::Leak { nth, of, .. } if nth < of => {}
        _ => panic!("{mistake}"),
    }
}
