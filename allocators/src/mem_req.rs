/// One row of a size-class table: reserve `n_blocks` blocks of `block_size` bytes.
///
/// A row is a wish; [`fixup`](crate::fixup) turns a list of them into a [`Table`](crate::Table).
///
/// # Examples
///
/// ```
/// use fibra_allocators::MemReq;
///
/// let row = MemReq::new(64, 1000);
/// assert_eq!(row, MemReq { block_size: 64, n_blocks: 1000 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemReq {
    /// The size of a block, in bytes. Any number from 1; it is rounded up to a multiple of
    /// [`GRANULE`](crate::GRANULE).
    pub block_size: usize,
    /// How many such blocks can be live at once.
    pub n_blocks: usize,
}

impl MemReq {
    /// `n_blocks` blocks of `block_size` bytes.
    ///
    /// For an example see [`MemReq`].
    #[must_use]
    pub const fn new(block_size: usize, n_blocks: usize) -> Self {
        MemReq { block_size, n_blocks }
    }
}
