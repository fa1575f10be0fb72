use core::alloc::Layout;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use allocator_api2::alloc::AllocError;

use crate::extent::{Backing, Borrowed, Extent};
use crate::fixed_block::rounded;
use crate::fixup::ARENA_ALIGN;
use crate::form::Form;
use crate::{AllocRef, Counted, FixedBlock, NoLock, NoRoom, PoolBox, PoolRc};

/// Room for a number of values of one type: a [`FixedBlock`] that knows what is in its blocks.
///
/// Putting a value in and dropping it are O(1). Values of no bytes take no block. To share values, make it a pool of
/// [`Counted`] ones and put them in with [`rc`](Pool::rc) or [`arc`](Pool::arc).
///
/// # Examples
///
/// ```
/// use fibra_allocators::{Arena, NoRoom, Pool};
///
/// struct Session {
///     user: u32,
///     sent: [u8; 100],
/// }
///
/// static MEMORY: Arena<{ Pool::<Session, _>::arena_size(2) }> = Arena::new();
/// let sessions = Pool::<Session, _>::new(MEMORY.take().expect("taken only here"));
///
/// let session = |user| Session { user, sent: [0; 100] };
/// let mut one = sessions.put(session(1))?;
/// let two = sessions.put(session(2))?;
/// one.sent[0] = 7;
/// let NoRoom { value: third } = sessions.put(session(3)).err().expect("it holds two");
/// drop(one);
/// assert_eq!(sessions.put(third)?.user, 3);
/// assert_eq!((two.user, sessions.capacity(), sessions.peak(), sessions.live()), (2, 2, 2, 1));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// Its values do not outlive it:
///
/// ```compile_fail,E0597
/// use core::mem::MaybeUninit;
/// use fibra_allocators::Pool;
///
/// let mut memory = [MaybeUninit::uninit(); 64];
/// let escaped = {
///     let pool = Pool::new(&mut memory);
///     pool.put(7).unwrap()
/// };
/// ```
pub struct Pool<T, B: Backing, F: Form = NoLock> {
    blocks: FixedBlock<B, F>,
    // It makes values of the type and has none: each is its box's.
    values: PhantomData<fn() -> T>,
}

impl<T> Pool<T, Borrowed<'static>> {
    /// The size of the memory that holds `n` values, in bytes, as long as it is aligned to 16, as an
    /// [`Arena`](crate::Arena) is.
    ///
    /// # Panics
    ///
    /// If that is more than can be addressed; in a `const` that stops the compilation.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{Arena, Pool};
    ///
    /// static MEMORY: Arena<{ Pool::<[u64; 3], _>::arena_size(10) }> = Arena::new();
    /// assert_eq!(MEMORY.size(), 240);
    /// assert_eq!(Pool::<[u64; 3], _>::new(MEMORY.take().unwrap()).capacity(), 10);
    /// ```
    #[must_use]
    pub const fn arena_size(n: usize) -> usize {
        Self::arena_size_for::<NoLock>(n)
    }

    /// [`Pool::arena_size`] for another [`Form`], which may keep something beside the blocks.
    ///
    /// # Panics
    ///
    /// If that is more than can be addressed; in a `const` that stops the compilation.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::{Arena, LockFree, Pool};
    ///
    /// static MEMORY: Arena<{ Pool::<[u64; 3], _>::arena_size_for::<LockFree>(10) }> = Arena::new();
    /// assert_eq!(MEMORY.size(), 240 + 40);
    /// assert_eq!(Pool::<[u64; 3], _>::with_form::<LockFree>(MEMORY.take().unwrap()).capacity(), 10);
    /// ```
    #[must_use]
    pub const fn arena_size_for<F: Form>(n: usize) -> usize {
        let block = rounded(Layout::new::<T>());
        let padding = block.align().saturating_sub(ARENA_ALIGN).saturating_add(F::SIDE.bytes(n));
        match block.size().checked_mul(n) {
            Some(bytes) if padding < isize::MAX as usize && bytes <= isize::MAX as usize - padding => bytes + padding,
            _ => panic!("the pool asks for more than can be addressed"),
        }
    }
}

impl<'m, T> Pool<T, Borrowed<'m>> {
    /// As many values as fit into the caller's memory, which may be none. Touches none of the memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let pool = Pool::new(&mut memory);
    /// assert_eq!(pool.put("the first says of what type they are")?.len(), 36);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[must_use]
    pub fn new(memory: &'m mut [MaybeUninit<u8>]) -> Self {
        Self::with_form(memory)
    }

    /// [`Pool::new`], in another [`Form`].
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool, SpinLock};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let pool = Pool::with_form::<SpinLock>(&mut memory);
    /// let seven = pool.put(7)?;
    /// std::thread::scope(|s| {
    ///     s.spawn(move || assert_eq!(*seven, 7));
    /// });
    /// # Ok::<(), AllocError>(())
    /// ```
    #[must_use]
    pub fn with_form<F: Form>(memory: &'m mut [MaybeUninit<u8>]) -> Pool<T, Borrowed<'m>, F> {
        Pool { blocks: FixedBlock::with_form(Layout::new::<T>(), memory), values: PhantomData }
    }
}

impl<T, P: AllocRef> Pool<T, Extent<P>> {
    /// `n` values, in one block from `parent`, which gets it back when the pool is dropped.
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block, or if none so large can exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, Pool};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let pool = Pool::<u64, _>::in_parent(10, &parent)?;
    /// assert_eq!((pool.capacity(), parent.used() >= 80), (10, true));
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent(n: usize, parent: P) -> Result<Self, AllocError> {
        Self::in_parent_with_form(n, parent)
    }

    /// [`Pool::in_parent`], in another [`Form`].
    ///
    /// # Errors
    ///
    /// [`AllocError`] if the parent has no such block, or if none so large can exist.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Bump, Fifo, Pool};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let parent = Bump::new(&mut memory);
    /// let pool = Pool::<u64, _>::in_parent_with_form::<Fifo>(10, &parent)?;
    /// assert_eq!(pool.capacity(), 10);
    /// # Ok::<(), AllocError>(())
    /// ```
    pub fn in_parent_with_form<F: Form>(n: usize, parent: P) -> Result<Pool<T, Extent<P>, F>, AllocError> {
        Ok(Pool { blocks: FixedBlock::in_parent_with_form(Layout::new::<T>(), n, parent)?, values: PhantomData })
    }
}

impl<T, B: Backing, F: Form> Pool<T, B, F> {
    /// Puts a value in. O(1).
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if the pool is full.
    ///
    /// For an example see [`Pool`].
    #[inline]
    pub fn put(&self, value: T) -> Result<PoolBox<T, &FixedBlock<B, F>>, NoRoom<T>> {
        if size_of::<T>() == 0 {
            return PoolBox::new_in(value, &self.blocks);
        }
        // Every block holds a value, so nothing need be compared.
        let Some(block) = self.blocks.pop() else { return Err(NoRoom { value }) };
        let block = block.cast::<T>();
        // SAFETY: the blocks were made as large and as aligned as a value, and this one is ours.
        unsafe {
            block.write(value);
            Ok(PoolBox::from_raw_in(block.as_ptr(), &self.blocks))
        }
    }

    /// Takes a block and only then makes the value: see [`PoolBox::new_with_in`].
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the closure, which was not called, if the pool is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 4096];
    /// let pages = Pool::new(&mut memory);
    /// assert_eq!(pages.put_with(|| [0_u8; 4000])?.len(), 4000);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    pub fn put_with<M: FnOnce() -> T>(&self, make: M) -> Result<PoolBox<T, &FixedBlock<B, F>>, NoRoom<M>> {
        PoolBox::new_with_in(make, &self.blocks)
    }

    /// How many values there can be at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::Pool;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = Pool::<u64, _>::new(&mut memory);
    /// assert!((127..=128).contains(&words.capacity())); // one is lost if the memory is not aligned
    /// ```
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.blocks.capacity()
    }

    /// The greatest number of values that there ever were at once. O(1), and costs nothing to keep.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::Pool;
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let words = Pool::<u64, _>::new(&mut memory);
    /// drop([words.put(1), words.put(2)]);
    /// assert_eq!((words.peak(), words.live()), (2, 0));
    /// ```
    #[must_use]
    pub fn peak(&self) -> usize {
        self.blocks.peak()
    }

    /// How many values there are. Walks the free list: O(peak - live).
    ///
    /// For an example see [`peak`](Pool::peak).
    #[must_use]
    pub fn live(&self) -> usize {
        self.blocks.live()
    }

    /// The allocator of the blocks: for what else fits one.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Pool, PoolBox};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 64];
    /// let words = Pool::<u64, _>::new(&mut memory);
    /// let room = PoolBox::<u64, _>::new_uninit_in(words.blocks())?; // from here on nothing can fail
    /// assert_eq!(*PoolBox::write(room, 7), 7);
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn blocks(&self) -> &FixedBlock<B, F> {
        &self.blocks
    }
}

impl<T, B: Backing, F: Form> Pool<Counted<T>, B, F> {
    /// Puts a value in, to be shared on this thread. O(1).
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if the pool is full.
    ///
    /// For an example see [`PoolRc`].
    #[inline]
    pub fn rc(&self, value: T) -> Result<PoolRc<T, &FixedBlock<B, F>>, NoRoom<T>> {
        PoolRc::new_in(value, &self.blocks)
    }

    /// Puts a value in, to be shared among threads. O(1).
    ///
    /// # Errors
    ///
    /// [`NoRoom`] with the value, if the pool is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{AllocError, Counted, Pool, PoolArc};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 256];
    /// let pool = Pool::<Counted<u64>, _>::new(&mut memory);
    /// let one = pool.arc(7)?;
    /// let two = one.clone();
    /// assert_eq!((*two, PoolArc::strong_count(&one), pool.live()), (7, 2, 1));
    /// # Ok::<(), AllocError>(())
    /// ```
    #[inline]
    #[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
    pub fn arc(&self, value: T) -> Result<crate::PoolArc<T, &FixedBlock<B, F>>, NoRoom<T>> {
        crate::PoolArc::new_in(value, &self.blocks)
    }
}

impl<T, B: Backing, F: Form> fmt::Debug for Pool<T, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("capacity", &self.capacity()).field("peak", &self.peak()).finish()
    }
}
