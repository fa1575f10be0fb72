//! Memory for one run after the other.

use std::alloc::{Layout, alloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// Memory that is given out in order, until all of it is taken back at once. Its extents stay for the next run, so that a
/// run finds its memory resident and its addresses ascending, whatever happened before.
#[derive(Default)]
pub(super) struct Region {
    extents: RefCell<Vec<NonNull<u8>>>,
    /// Extents in use; the last of them is the one we carve from.
    open: Cell<usize>,
    /// Bytes of that one in use.
    used: Cell<usize>,
}

impl Region {
    const EXTENT: Layout = match Layout::from_size_align(1 << 20, 64) {
        Ok(layout) => layout,
        Err(_) => panic!("a valid layout"),
    };

    /// Room for a `T`, nobody else's until [`clear`](Self::clear).
    #[inline]
    pub(super) fn carve<T>(&self) -> NonNull<T> {
        const { assert!(align_of::<T>() <= Self::EXTENT.align()) };
        self.carve_bytes(size_of::<T>(), align_of::<T>()).cast()
    }

    /// Room for that many bytes, so aligned; both at most those of an extent.
    #[inline]
    pub(super) fn carve_bytes(&self, size: usize, align: usize) -> NonNull<u8> {
        debug_assert!(size <= Self::EXTENT.size() && align <= Self::EXTENT.align());
        let mut start = self.used.get().next_multiple_of(align);
        if self.open.get() == 0 || start + size > Self::EXTENT.size() {
            self.open_another();
            start = 0;
        }
        self.used.set(start + size);
        let extent = self.extents.borrow()[self.open.get() - 1];
        // SAFETY: `start + size` is within the extent.
        unsafe { extent.add(start) }
    }

    #[cold]
    fn open_another(&self) {
        let mut extents = self.extents.borrow_mut();
        if self.open.get() == extents.len() {
            // SAFETY: the layout is not of size zero.
            let extent = unsafe { alloc(Self::EXTENT) };
            extents.push(NonNull::new(extent).unwrap_or_else(|| handle_alloc_error(Self::EXTENT)));
        }
        self.open.set(self.open.get() + 1);
    }

    /// Takes everything back. Who holds a pointer into the region may not use it any more.
    pub(super) fn clear(&self) {
        self.open.set(0);
        self.used.set(0);
    }
}
