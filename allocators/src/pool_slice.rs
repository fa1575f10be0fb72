//! Several values in one block.

use core::alloc::Layout;
use core::mem::{self, MaybeUninit};
use core::ptr;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::PoolBox;

impl<T, A: Allocator> PoolBox<[T], A> {
    /// One block for `len` values that do not exist yet: scratch memory, for instance an arena of one's own.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the allocator has no such block, or none so large can exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, MemReq, PoolBox, SizeClasses, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::new(&table([MemReq::new(256, 2)]), &mut memory).expect("room for two");
    /// let mut scratch = PoolBox::<[u8], _>::new_uninit_slice_in(200, &system)?;
    /// let parser = Bump::new(&mut scratch);
    /// assert_eq!(parser.capacity(), 200);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn new_uninit_slice_in(len: usize, allocator: A) -> Result<PoolBox<[MaybeUninit<T>], A>, AllocError> {
        let layout = Layout::array::<T>(len).map_err(|_| AllocError)?;
        let block = allocator.allocate(layout)?;
        let slice = ptr::slice_from_raw_parts_mut(block.cast().as_ptr(), len);
        // SAFETY: a new block with the layout of the slice, whose elements need no value.
        Ok(unsafe { PoolBox::from_raw_in(slice, allocator) })
    }

    /// `len` values in one block, each made from its index, in ascending order.
    ///
    /// If the closure panics, the values that it made are dropped and the block is released.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the allocator has no such block, or none so large can exist; then the closure was not called.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 256];
    /// let bump = Bump::new(&mut memory);
    /// let squares = PoolBox::from_fn_in(10, |i| i * i, &bump)?;
    /// assert_eq!(squares[9], 81);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn from_fn_in(len: usize, mut make: impl FnMut(usize) -> T, allocator: A) -> Result<Self, AllocError> {
        struct Made<'a, T>(&'a mut [MaybeUninit<T>], usize);
        impl<T> Drop for Made<'_, T> {
            fn drop(&mut self) {
                let made: *mut [T] = ptr::slice_from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.1);
                // SAFETY: so many were written, and nobody else will drop them.
                unsafe { ptr::drop_in_place(made) }
            }
        }

        let mut room = Self::new_uninit_slice_in(len, allocator)?;
        let mut made = Made(&mut room, 0);
        while let Some(next) = made.0.get_mut(made.1) {
            next.write(make(made.1));
            made.1 += 1;
        }
        mem::forget(made);
        // SAFETY: all were written.
        Ok(unsafe { room.assume_init() })
    }
}

impl<T, A: Allocator> PoolBox<[MaybeUninit<T>], A> {
    /// The box of the values that the block holds now.
    ///
    /// # Safety
    ///
    /// It holds all of them, as for [`MaybeUninit::assume_init`].
    #[inline]
    pub unsafe fn assume_init(self) -> PoolBox<[T], A> {
        let (room, allocator) = Self::into_raw_with_allocator(self);
        // SAFETY: the parts of a box; the values are there, says the caller, and the layouts are the same.
        unsafe { PoolBox::from_raw_in(room as *mut [T], allocator) }
    }
}
