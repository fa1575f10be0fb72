use core::fmt;

/// What one size class has, has had and has now.
///
/// `Display` writes it as one line of the table that [`SizeClasses::report`](crate::SizeClasses::report) writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClassStats {
    /// The size of a block, in bytes.
    pub block_size: usize,
    /// How many blocks there are.
    pub reserved: usize,
    /// The greatest number of blocks that were ever live at once.
    pub peak: usize,
    /// How many blocks are live.
    pub live: usize,
}

impl ClassStats {
    pub(crate) const HEADING: [&'static str; 4] = ["block size", "reserved", "peak", "live"];
}

impl fmt::Display for ClassStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClassStats { block_size, reserved, peak, live } = self;
        write!(f, "{block_size:>10} {reserved:>10} {peak:>10} {live:>10}")
    }
}
