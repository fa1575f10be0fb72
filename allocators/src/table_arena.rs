#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
use core::mem::MaybeUninit;

use crate::{Arena, Table};
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
use crate::{Borrowed, SizeClasses};

/// A static [`Arena`] of exactly the size that its [`Table`] needs: what [`arena!`](crate::arena) declares.
///
/// # Examples
///
/// ```
/// use allocator_api2::boxed::Box;
///
/// fibra_allocators::arena! {
///     /// All memory that there is.
///     static MEMORY: [64 => 10, 256 => 4];
/// }
///
/// let system = MEMORY.size_classes().expect("taken only here");
/// assert_eq!(*Box::new_in(7, &system), 7);
/// ```
#[derive(Debug)]
pub struct TableArena<const N: usize, const BYTES: usize> {
    table: Table<N>,
    arena: Arena<BYTES>,
}

impl<const N: usize, const BYTES: usize> TableArena<N, BYTES> {
    /// An arena for this table that nobody has taken yet.
    ///
    /// # Panics
    ///
    /// If `BYTES` is not the table's [arena size](Table::arena_size); in a `static` that is a compile error.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{MemReq, Table, TableArena, table};
    ///
    /// const SIZES: Table<1> = table([MemReq::new(64, 10)]);
    /// static MEMORY: TableArena<1, { SIZES.arena_size() }> = TableArena::new(SIZES);
    /// assert_eq!(*MEMORY.table(), SIZES);
    /// ```
    ///
    /// ```compile_fail,E0080
    /// use fibra_allocators::{MemReq, TableArena, table};
    ///
    /// static MEMORY: TableArena<1, 64> = TableArena::new(table([MemReq::new(64, 10)]));
    /// ```
    #[must_use]
    pub const fn new(table: Table<N>) -> Self {
        assert!(table.arena_size() == BYTES, "the arena is not of the size that its table needs");
        TableArena { table, arena: Arena::new() }
    }

    /// The table.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::MemReq;
    ///
    /// fibra_allocators::arena! { static MEMORY: [256 => 4, 64 => 10]; }
    /// assert_eq!(MEMORY.table().rows(), [MemReq::new(64, 10), MemReq::new(256, 4)]);
    /// ```
    #[must_use]
    pub const fn table(&self) -> &Table<N> {
        &self.table
    }

    /// The size of the memory, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// fibra_allocators::arena! { static MEMORY: [256 => 4, 64 => 10]; }
    /// assert_eq!(MEMORY.size(), MEMORY.table().arena_size());
    /// ```
    #[must_use]
    pub const fn size(&self) -> usize {
        self.arena.size()
    }
}

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
impl<const N: usize, const BYTES: usize> TableArena<N, BYTES> {
    /// The memory, for the first caller of this or of [`size_classes`](TableArena::size_classes); `None` for every later one.
    ///
    /// For what is to be made of it otherwise than by [`size_classes`](TableArena::size_classes).
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::SizeClasses;
    ///
    /// fibra_allocators::arena! { static MEMORY: [64 => 10]; }
    ///
    /// let memory = MEMORY.take().expect("taken only here");
    /// let system = SizeClasses::new(MEMORY.table(), memory)?;
    /// assert!(MEMORY.size_classes().is_none());
    /// # let _ = system;
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    #[must_use = "an arena can be taken once only"]
    #[allow(clippy::mut_from_ref)] // the arena gives it out once
    pub fn take(&'static self) -> Option<&'static mut [MaybeUninit<u8>]> {
        self.arena.take()
    }

    /// The size classes of the table in the memory, for the first caller of this or of [`take`](TableArena::take); `None` for
    /// every later one.
    ///
    /// # Examples
    ///
    /// ```
    /// fibra_allocators::arena! { static MEMORY: [64 => 10]; }
    ///
    /// let system = MEMORY.size_classes().expect("taken only here");
    /// assert_eq!(system.classes().next().map(|class| class.reserved), Some(10));
    /// assert!(MEMORY.size_classes().is_none());
    /// ```
    #[must_use = "an arena can be taken once only"]
    pub fn size_classes(&'static self) -> Option<SizeClasses<N, Borrowed<'static>>> {
        // The memory has the size that the table asks for, so there is no error to lose.
        SizeClasses::new(&self.table, self.take()?).ok()
    }
}

/// Declares a static arena of exactly the size that its size classes need, in one line: `block size => number of blocks` for
/// each class.
///
/// The static is a [`TableArena`]: it has the table, the memory, and the ready [`SizeClasses`](crate::SizeClasses). Sizes and
/// numbers are any constant expressions of type `usize`, in any order; they are fixed up as by [`table`](crate::table).
///
/// # Examples
///
/// ```
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::arena;
///
/// struct Message([u8; 100]);
///
/// arena! {
///     /// For messages, and what they are made of.
///     pub static MEMORY: [32 => 100, 64 => 20, size_of::<Message>() => 2];
/// }
///
/// let system = MEMORY.size_classes().expect("taken only here");
/// let message = Box::new_in(Message([7; 100]), &system);
/// assert_eq!(message.0[99], 7);
/// ```
///
/// A row that is none is an error when it is compiled, which quotes it:
///
/// ```compile_fail,E0080
/// fibra_allocators::arena! { static MEMORY: [32 => 100, 64 => 0]; } // "the row `64 => 0` asks for 0 blocks"
/// ```
///
/// ```compile_fail,E0080
/// fibra_allocators::arena! { static MEMORY: [0 => 100]; }
/// ```
///
/// ```compile_fail,E0080
/// fibra_allocators::arena! { static MEMORY: [usize::MAX / 4 => 5]; }
/// ```
///
/// So are rows that are too much only together, and a table without any:
///
/// ```compile_fail,E0080
/// fibra_allocators::arena! { static MEMORY: [1024 => usize::MAX / 4096, 2048 => usize::MAX / 4096]; }
/// ```
///
/// ```compile_fail,E0080
/// fibra_allocators::arena! { static MEMORY: []; }
/// ```
#[macro_export]
macro_rules! arena {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis static $name:ident: [$($block_size:expr => $n_blocks:expr),* $(,)?];
    )+) => {$(
        $(#[$attribute])*
        $visibility static $name: $crate::TableArena<
            { [$($crate::MemReq::new($block_size, $n_blocks)),*].len() },
            {
                $(match $crate::fixup([$crate::MemReq::new($block_size, $n_blocks)]) {
                    Ok(_) => {}
                    Err($crate::FixupError::NoBlocks { .. }) => ::core::panic!(::core::concat!(
                        "the row `", ::core::stringify!($block_size => $n_blocks), "` asks for 0 blocks"
                    )),
                    Err($crate::FixupError::NoBytes { .. }) => ::core::panic!(::core::concat!(
                        "the row `", ::core::stringify!($block_size => $n_blocks), "` asks for blocks of 0 bytes"
                    )),
                    Err(_) => ::core::panic!(::core::concat!(
                        "the row `", ::core::stringify!($block_size => $n_blocks), "` asks for more than can be addressed"
                    )),
                })*
                $crate::table([$($crate::MemReq::new($block_size, $n_blocks)),*]).arena_size()
            },
        > = $crate::TableArena::new($crate::table([$($crate::MemReq::new($block_size, $n_blocks)),*]));
    )+};
}
