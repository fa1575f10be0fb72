use core::fmt;

/// What one size class has, has had and has now.
///
/// `Display` writes it as one line of the table that [`SizeClasses::report`](crate::SizeClasses::report) writes.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{ClassStats, MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 1024];
/// let system = SizeClasses::new(&table([MemReq::new(64, 10)]), &mut memory)?;
/// drop(Box::new_in([0_u8; 50], &system));
/// let of_64 = system.classes().next();
/// assert_eq!(of_64, Some(ClassStats { block_size: 64, reserved: 10, peak: 1, live: 0 }));
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
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

impl fmt::Display for ClassStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClassStats { block_size, reserved, peak, live } = self;
        write!(f, "{block_size:>10} {reserved:>10} {peak:>10} {live:>10}")
    }
}
