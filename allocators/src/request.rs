//! What every allocator of this crate does the same way with a request.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

/// The answer to a request for no bytes: as aligned as was asked, pointing at nothing, owned by nobody.
#[inline]
pub(crate) const fn dangling(layout: Layout) -> NonNull<[u8]> {
    let address = ptr::without_provenance_mut::<u8>(layout.align());
    // SAFETY: an alignment is a power of two, hence not zero.
    let address = unsafe { NonNull::new_unchecked(address) };
    NonNull::slice_from_raw_parts(address, 0)
}

/// `block` as a pointer into the memory that `arena` points into.
///
/// A container may give back a pointer that may touch less than the whole block (`Box::into_raw` went through a `&mut T`).
/// The free list has to hold one that may touch all of it, so that the next owner can. No instruction comes of it.
#[inline]
pub(crate) fn rederive(arena: NonNull<u8>, block: NonNull<u8>) -> NonNull<u8> {
    arena.with_addr(block.addr())
}

/// Moves a block's contents to a new block and releases the old one.
///
/// # Safety
///
/// `block` is allocated through `allocator` and `old` fits it.
pub(crate) unsafe fn relocate(
    allocator: impl Allocator,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    let fresh = allocator.allocate(new)?;
    let kept = old.size().min(new.size());
    // SAFETY: both blocks are allocated, so they do not overlap, and each holds at least `kept` bytes. The caller lets
    // us release the old one.
    unsafe {
        ptr::copy_nonoverlapping(block.as_ptr(), fresh.cast().as_ptr(), kept);
        allocator.deallocate(block, old);
    }
    Ok(fresh)
}

/// [`Allocator::grow_zeroed`] by way of [`Allocator::grow`], so that it too stays in place where it can.
///
/// # Safety
///
/// As for [`Allocator::grow`].
pub(crate) unsafe fn grow_zeroed(
    allocator: impl Allocator,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: passed on to our caller.
    let grown = unsafe { allocator.grow(block, old, new)? };
    // SAFETY: the block is `grown.len()` bytes, which is not less than the new size and so not less than the old.
    unsafe { grown.cast::<u8>().add(old.size()).write_bytes(0, grown.len() - old.size()) };
    Ok(grown)
}
