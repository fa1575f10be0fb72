use core::ptr::NonNull;

use crate::extent::Backing;
use crate::form::Form;
use crate::{Bump, FixedBlock, SizeClasses};
#[cfg(target_has_atomic = "8")]
use crate::{Cached, Lock, Worker};

/// An allocator that can tell its own blocks by their address.
///
/// So a block finds its way home where it may have come from one of several allocators: see [`Fallback`](crate::Fallback).
/// For an allocator with one arena it is a comparison, whatever is in use.
///
/// # Safety
///
/// 1. While a block of at least one byte is allocated through a reference to the allocator, [`owns`](Owns::owns) is true for
///    its address.
/// 2. While a block of at least one byte is allocated through anything else, the answer for its address does not change.
///    It is false if the block was allocated before there was this allocator, unless it is the one that its memory lies in. It
///    may be true for the blocks of a child, which has its arena from this one. (So it is not for handles, which come into
///    being when their allocator has children already.)
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use core::ptr::NonNull;
/// use fibra_allocators::{Bump, Owns};
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let bump = Bump::new(&mut memory);
/// let (ours, foreign) = (Box::new_in(7_u8, &bump), 7_u8);
/// assert!(bump.owns(NonNull::from(&*ours)));
/// assert!(!bump.owns(NonNull::from(&foreign)));
/// ```
pub unsafe trait Owns {
    /// Whether a block with this address is one of this allocator's.
    ///
    /// What a request for no bytes got is no block, and the answer for it means nothing: ask the layout first.
    fn owns(&self, block: NonNull<u8>) -> bool;
}

#[inline(always)]
fn within(backing: &impl Backing, block: NonNull<u8>) -> bool {
    // Below the base it wraps round and is larger than any length.
    block.addr().get().wrapping_sub(backing.base().addr().get()) < backing.len()
}

// SAFETY: all its blocks lie in the backing, which is always the same, and was nobody else's when the allocator was made.
unsafe impl<const N: usize, B: Backing, F: Form> Owns for SizeClasses<N, B, F> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        within(&self.backing, block)
    }
}

// SAFETY: as above.
unsafe impl<B: Backing, F: Form> Owns for FixedBlock<B, F> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        within(&self.backing, block)
    }
}

// SAFETY: as above.
unsafe impl<B: Backing> Owns for Bump<B> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        within(&self.backing, block)
    }
}

// SAFETY: its blocks are those of the classes.
#[cfg(target_has_atomic = "8")]
unsafe impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> Owns for Cached<N, W, B, I, L> {
    #[inline]
    fn owns(&self, block: NonNull<u8>) -> bool {
        self.system().owns(block)
    }
}
