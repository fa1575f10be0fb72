//! The root allocator: alignment, requests for nothing, requests for too much.

use std::alloc::Layout;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use fibra_std::{AllocError, AllocRef, Allocator, Malloc};
use static_assertions::{assert_eq_size, assert_impl_all};

assert_impl_all!(Malloc: AllocRef, Copy, Send, Sync);
assert_eq_size!(Malloc, ());

#[test]
fn every_alignment_is_honoured() {
    for shift in 0..=16 {
        for size in [1, 7, 64, 5000] {
            let layout = Layout::from_size_align(size, 1 << shift).unwrap();
            let block = Malloc.allocate(layout).unwrap();
            assert!(block.len() >= size);
            let block = block.cast::<u8>();
            assert_eq!(block.addr().get() % layout.align(), 0);
            // SAFETY: the block is that large, and came from there with that layout.
            unsafe {
                block.write_bytes(0xAA, size);
                Malloc.deallocate(block, layout);
            }
        }
    }
}

#[test]
fn no_bytes_are_no_trouble() {
    for align in [1, 8, 4096] {
        let layout = Layout::from_size_align(0, align).unwrap();
        let block = Malloc.allocate(layout).unwrap().cast::<u8>();
        assert_eq!(block.addr().get() % align, 0);
        // SAFETY: it came from there with that layout.
        unsafe { Malloc.deallocate(block, layout) };
    }
}

#[test]
fn a_request_that_no_host_can_serve_is_an_error() {
    let huge = Layout::from_size_align(isize::MAX as usize - 4095, 4096).unwrap();
    assert_eq!(Malloc.allocate(huge), Err(AllocError));
    assert_eq!(Malloc.allocate_zeroed(huge), Err(AllocError));
}

#[test]
fn blocks_grow_and_shrink_with_what_is_in_them() {
    let small = Layout::from_size_align(16, 8).unwrap();
    let large = Layout::from_size_align(4000, 64).unwrap();
    let block = Malloc.allocate(small).unwrap().cast::<u8>();
    // SAFETY: all are blocks of this allocator, with the layouts that they have at the time.
    unsafe {
        block.write_bytes(7, 16);
        let grown = Malloc.grow_zeroed(block, small, large).unwrap().cast::<u8>();
        assert_eq!(grown.addr().get() % 64, 0);
        assert_eq!((grown.add(15).read(), grown.add(16).read(), grown.add(3999).read()), (7, 0, 0));
        let shrunk = Malloc.shrink(grown, large, small).unwrap().cast::<u8>();
        assert_eq!(shrunk.add(15).read(), 7);
        Malloc.deallocate(shrunk, small);
    }
}

#[test]
fn containers_live_in_it_and_change_threads() {
    let mut numbers = Vec::new_in(Malloc);
    numbers.extend(0..1000_u32);
    let boxed = Box::new_in(numbers, Malloc);
    let sum = std::thread::spawn(move || boxed.iter().sum::<u32>()).join().unwrap();
    assert_eq!(sum, 499_500);
}
