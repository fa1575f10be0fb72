//! Caches for workers: a few free blocks of each class that one worker has to itself, over classes that all share.
//!
//! ```text
//!   worker 0:  block block block ...          worker 1:  block block block ...
//!                  ^        |                                 ^        |
//!                  |        v                                 |        v
//!              [page] [page] [page]  [spare chain]        [page] [page]  [spare chain]
//!                               ^          |                        ^          |
//!                               |          v                        |          v
//!   shared:    [chain] [chain] [chain] ...  single blocks ...    untouched blocks
//! ```
//!
//! A block is taken from the worker's own list and released to it, without a lock: two loads and two stores. When the list runs
//! dry, the blocks of a page or two are linked into it; when it runs over, a page or two is made of half of it. When the
//! pages run out, the spare chain takes their place, else a chain of the shared class; when there are too many, they become
//! the spare chain, and the former spare chain goes to the shared class. So a chain changes hands in constant time,
//! whatever its length, and the lock is taken once for as many blocks as it has (the magazines of Bonwick and Adams,
//! "Magazines and vmem", 2001). Magazines and pages lie in the free blocks, see [`Page`].
//!
//! # Invariants
//!
//! 1. The blocks of a rack's list, those of its pages, and those of its spare pages are free blocks of its class, which the
//!    rack owns. All its pages are full.
//! 2. `count`, `pages` and `spare_pages` say how many there are. The list has at most `HANDY`.
//! 3. One thread at a time uses a rack.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator, Layout};

use crate::block_list::{BlockList, Chain, Page, Taken};
use crate::extent::Backing;
use crate::form::sealed::List;
use crate::lock::{Lock, SpinLock};
use crate::request::{dangling, grow_zeroed};
use crate::{MemReq, SizeClasses};

type Link = Option<NonNull<u8>>;

/// The most blocks in a worker's own list.
const HANDY: usize = 32;

/// What a worker has of one class.
struct Rack {
    list: Cell<Link>,
    count: Cell<usize>,
    block_size: usize,
    /// Pages in a chain before it is passed on.
    depth: usize,
    page: Cell<Option<Page>>,
    pages: Cell<usize>,
    spare: Cell<Option<Page>>,
    spare_pages: Cell<usize>,
}

impl Rack {
    /// With chains of about so many blocks.
    fn new(block_size: usize, blocks: usize) -> Self {
        Rack {
            list: Cell::new(None),
            count: Cell::new(0),
            block_size,
            depth: (blocks / Self::blocks_of_page(block_size)).max(1),
            page: Cell::new(None),
            pages: Cell::new(0),
            spare: Cell::new(None),
            spare_pages: Cell::new(0),
        }
    }

    const fn blocks_of_page(block_size: usize) -> usize {
        Page::slots(block_size) + 1
    }

    #[inline(always)]
    fn pop<L: Lock>(&self, shared: &BlockList<L>) -> Link {
        match self.list.get() {
            Some(block) => Some(self.unlink(block)),
            None => self.refill(shared),
        }
    }

    /// # Safety
    ///
    /// As for `push` of the shared list.
    #[inline(always)]
    unsafe fn push<L: Lock>(&self, shared: &BlockList<L>, block: NonNull<u8>) {
        if self.count.get() >= HANDY {
            self.stow(shared, HANDY / 2);
        }
        // SAFETY: the block is ours now.
        unsafe { self.link(block) };
    }

    /// Takes the first block of the list.
    #[inline(always)]
    fn unlink(&self, first: NonNull<u8>) -> NonNull<u8> {
        // SAFETY: invariant 1.
        self.list.set(unsafe { first.cast::<Link>().read() });
        self.count.set(self.count.get() - 1);
        first
    }

    /// # Safety
    ///
    /// The block is the rack's, or becomes so, and in no other place.
    #[inline(always)]
    unsafe fn link(&self, block: NonNull<u8>) {
        // SAFETY: a block has room for a link.
        unsafe { block.cast::<Link>().write(self.list.get()) };
        self.list.set(Some(block));
        self.count.set(self.count.get() + 1);
    }

    /// Fetches some blocks, and takes one.
    #[cold]
    #[inline(never)]
    fn refill<L: Lock>(&self, shared: &BlockList<L>) -> Link {
        if self.page.get().is_none() {
            match self.spare.take() {
                Some(spare) => self.hold(Some(spare), self.spare_pages.get()),
                None => match shared.pop_chain() {
                    Taken::Chain(Chain { first, pages }) => self.hold(Some(first), pages),
                    Taken::Block(block) => return Some(block),
                    Taken::Nothing => return None,
                },
            }
        }
        while let Some(page) = self.page.get()
            && self.count.get() + Self::blocks_of_page(self.block_size) <= HANDY / 2
        {
            // SAFETY: invariant 1.
            unsafe {
                self.hold(page.next(), self.pages.get() - 1);
                for slot in 0..Page::slots(self.block_size) {
                    self.link(page.get(slot));
                }
                self.link(page.block());
            }
        }
        self.list.get().map(|first| self.unlink(first))
    }

    /// Makes pages of the list until it has no more than so many blocks, and less than a page.
    #[cold]
    #[inline(never)]
    fn stow<L: Lock>(&self, shared: &BlockList<L>, keep: usize) {
        let of_page = Self::blocks_of_page(self.block_size);
        while self.count.get() >= keep + of_page
            && let Some(first) = self.list.get()
        {
            if self.pages.get() >= self.depth {
                self.flush(shared);
            }
            // SAFETY: invariants 1 and 2: the blocks of a page are there.
            unsafe {
                let page = Page::new(self.unlink(first), self.page.get());
                for slot in 0..of_page - 1 {
                    if let Some(first) = self.list.get() {
                        page.set(slot, self.unlink(first));
                    }
                }
                self.hold(Some(page), self.pages.get() + 1);
            }
        }
    }

    fn hold(&self, page: Option<Page>, pages: usize) {
        self.page.set(page);
        self.pages.set(pages);
    }

    /// Makes the pages the spare chain, and passes the former one on.
    fn flush<L: Lock>(&self, shared: &BlockList<L>) {
        let spare = self.spare.replace(self.page.take());
        let pages = self.spare_pages.replace(self.pages.replace(0));
        if let Some(first) = spare {
            // SAFETY: the blocks came from this class, and have been the rack's since (invariant 1).
            unsafe { shared.push_chain(Chain { first, pages }) };
        }
    }

    /// Gives everything back.
    fn clear<L: Lock>(&self, shared: &BlockList<L>) {
        self.stow(shared, 0);
        while let Some(first) = self.list.get() {
            // SAFETY: it came from this class, and has been the rack's since (invariant 1).
            unsafe { shared.push(self.unlink(first)) };
        }
        self.flush(shared);
        self.flush(shared);
    }

    fn len(&self) -> usize {
        let spare = if self.spare.get().is_some() { self.spare_pages.get() } else { 0 };
        self.count.get() + (self.pages.get() + spare) * Self::blocks_of_page(self.block_size)
    }
}

/// Only lists that can be shared look for chains (their invariant 5); in another one, chains would be lost.
const fn assert_shared<L: Lock>() {
    assert!(L::SHARED, "a cache is for classes that can be shared");
}

/// What a worker has of all classes.
// Cache lines of its own, so that workers do not fight for one.
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
struct Racks<const N: usize> {
    racks: [Rack; N],
}

impl<const N: usize> Racks<N> {
    fn new(rows: &[MemReq], depth: impl Fn(&MemReq) -> usize) -> Self {
        let mut rows = rows.iter();
        let racks = [(); N].map(|()| rows.next().map_or(Rack::new(0, 0), |row| Rack::new(row.block_size, depth(row))));
        Racks { racks }
    }
}

/// What a [`Cache`] and a [`Cached`] do the same way.
struct Hand<'a, const N: usize, B: Backing, L: Lock> {
    system: &'a SizeClasses<N, B, L>,
    racks: &'a Racks<N>,
}

impl<const N: usize, B: Backing, L: Lock> Hand<'_, N, B, L> {
    #[inline(always)]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if SizeClasses::<N, B, L>::is_common(layout) {
            self.allocate_from(self.system.look_up(layout))
        } else {
            self.allocate_uncommon(layout)
        }
    }

    #[cold]
    #[inline(never)]
    fn allocate_uncommon(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(dangling(layout));
        }
        self.allocate_from(self.system.class_of(layout))
    }

    #[inline(always)]
    fn allocate_from(&self, class: usize) -> Result<NonNull<[u8]>, AllocError> {
        let rack = self.racks.racks.get(class).ok_or(AllocError)?;
        let block = rack.pop(&self.system.classes[class]).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, rack.block_size))
    }

    /// # Safety
    ///
    /// As for [`Allocator::deallocate`] of the system.
    #[inline(always)]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on from our caller.
        unsafe {
            if SizeClasses::<N, B, L>::is_common(layout) {
                self.release_to(self.system.look_up(layout), block);
            } else {
                self.deallocate_uncommon(block, layout);
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Allocator::deallocate`] of the system.
    #[cold]
    #[inline(never)]
    unsafe fn deallocate_uncommon(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: passed on from our caller.
            unsafe { self.release_to(self.system.class_of(layout), block) }
        }
    }

    /// # Safety
    ///
    /// The block came from this class of the system and its user has finished with it.
    #[inline(always)]
    unsafe fn release_to(&self, class: usize, block: NonNull<u8>) {
        debug_assert!(class < N, "released with a layout that never got a block");
        // SAFETY: a block came from it, so there is such a class; the rest is passed on from our caller.
        unsafe {
            let list = self.system.classes.get_unchecked(class);
            self.racks.racks.get_unchecked(class).push(list, list.own(block));
        }
    }

    fn clear(&self) {
        for (rack, list) in self.racks.racks.iter().zip(&self.system.classes) {
            rack.clear(list);
        }
    }
}

/// One worker's cache over [`SizeClasses`] that several share: most allocations and releases then take no lock.
///
/// A block that came from one cache may be released through another one of the same classes, or through the classes
/// themselves: `&Cache` and `&SizeClasses` are the same allocator. (In safe code a container keeps the handle it was made
/// with, and one with a `&Cache` stays on the worker's thread. [`Cached`] is for those that travel.)
///
/// # Bounds
///
/// With chains of `n` blocks a cache holds at most `2 * n + 32` free blocks of each class, which no other worker can have:
/// reserve as many more. (Chains are of whole pages, each of which has at most 15 blocks, and of one page at least.) One
/// allocation in `n` that goes beyond, or one release, takes the lock of its class, to move up to `n` blocks in constant
/// time, whatever `n` is; and so does every allocation of a block that was never used before. One in at least 15 links, or
/// unlinks, up to 16 blocks. A worker without a cache that
/// meets a chain breaks one page of it up, at most 14 stores inside the lock. Dropping a cache gives everything back, with
/// at most 16 locked sections of constant time for each class.
///
/// # Errors
///
/// [`AllocError`] as for the classes; also when the blocks that are left are in the caches of others.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Cache, MemReq, SizeClasses, SpinLock, table};
///
/// let mut memory = [MaybeUninit::uninit(); 8192];
/// let system = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(64, 100)]), &mut memory)?;
/// std::thread::scope(|s| {
///     for n in 0..2_u64 {
///         let system = &system;
///         s.spawn(move || {
///             let cache = Cache::new(system, 8);
///             (0..1000).for_each(|_| assert_eq!(*Box::new_in(n, &cache), n));
///         });
///     }
/// });
/// assert_eq!(system.classes().next().unwrap().live, 0);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
///
/// Where there is nothing to share, what a cache gives back would only be out of the way of the classes' own list:
///
/// ```compile_fail,E0080
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{Cache, MemReq, SizeClasses, table};
///
/// let mut memory = [MaybeUninit::uninit(); 8192];
/// let of_one_thread = SizeClasses::new(&table([MemReq::new(64, 100)]), &mut memory).unwrap();
/// drop(Cache::new(&of_one_thread, 8));
/// ```
pub struct Cache<'s, const N: usize, B: Backing, L: Lock = SpinLock> {
    system: &'s SizeClasses<N, B, L>,
    racks: Racks<N>,
}

impl<'s, const N: usize, B: Backing, L: Lock> Cache<'s, N, B, L> {
    /// An empty cache with two chains of `blocks` blocks, at least one, for each class.
    ///
    /// For an example see [`Cache`].
    pub fn new(system: &'s SizeClasses<N, B, L>, blocks: usize) -> Self {
        Self::sized(system, |_| blocks)
    }

    /// An empty cache with chains of as many blocks as `depth` says for each class, given its row; at least one.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use fibra_allocators::{Cache, MemReq, SizeClasses, SpinLock, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 16 * 1024];
    /// let sizes = table([MemReq::new(64, 100), MemReq::new(1024, 8)]);
    /// let system = SizeClasses::with_form::<SpinLock>(&sizes, &mut memory)?;
    /// // Of each class at most a tenth in each of the two chains.
    /// let cache = Cache::sized(&system, |row| row.n_blocks / 10);
    /// # drop(cache);
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn sized(system: &'s SizeClasses<N, B, L>, depth: impl Fn(&MemReq) -> usize) -> Self {
        const { assert_shared::<L>() };
        Cache { system, racks: Racks::new(system.table().rows(), depth) }
    }

    /// Gives all blocks in the cache back to the classes.
    ///
    /// At most 16 locked sections of constant time for each class.
    ///
    /// # Examples
    ///
    /// ```
    /// use core::mem::MaybeUninit;
    /// use allocator_api2::boxed::Box;
    /// use fibra_allocators::{Cache, MemReq, SizeClasses, SpinLock, table};
    ///
    /// let mut memory = [MaybeUninit::uninit(); 1024];
    /// let system = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(64, 1)]), &mut memory)?;
    /// let cache = Cache::new(&system, 8);
    /// drop(Box::new_in(7, &cache));
    /// assert!(Box::try_new_in(7, &system).is_err(), "the only block is in the cache");
    /// cache.flush();
    /// assert!(Box::try_new_in(7, &system).is_ok());
    /// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
    /// ```
    pub fn flush(&self) {
        self.hand().clear();
    }

    #[inline(always)]
    fn hand(&self) -> Hand<'_, N, B, L> {
        Hand { system: self.system, racks: &self.racks }
    }
}

impl<const N: usize, B: Backing, L: Lock> Drop for Cache<'_, N, B, L> {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Which worker is asking: what tells the caches of a [`Cached`] apart.
///
/// The std shim has one for threads. A kernel's is the number of the processor, with interrupts that could switch threads
/// masked, or the number of the worker thread.
///
/// # Safety
///
/// While somebody is between a call of [`index`](Worker::index) that returned `Some(i)` and the end of the operation of the
/// allocator that called it, nobody else is: not on another thread, and not in an interrupt. What the one wrote, the next one
/// sees.
///
/// # Examples
///
/// ```
/// use fibra_allocators::Worker;
///
/// /// For a program in which one thread allocates very much, and others now and then.
/// struct OneWorker;
/// # thread_local! { static IS_THE_ONE: core::cell::Cell<bool> = const { core::cell::Cell::new(false) } }
///
/// // SAFETY: one thread ever sets its own `IS_THE_ONE`.
/// unsafe impl Worker for OneWorker {
///     fn index() -> Option<usize> {
///         IS_THE_ONE.get().then_some(0)
///     }
/// }
/// assert_eq!(OneWorker::index(), None);
/// ```
pub unsafe trait Worker {
    /// The number of the worker that calls, counted from 0; `None` if it is to have no cache.
    fn index() -> Option<usize>;
}

/// Size classes with a cache for each of `W` workers, found by the worker's number: for handles that travel between threads.
///
/// `&Cached` may be shared by all threads. Each operation asks `I` which worker it is called on; whoever has no number, or
/// one of `W` or more, takes and gives blocks at the shared classes, under their locks. For bounds and errors see [`Cache`]: `W`
/// caches of chains of `n` blocks hold at most `W * (2 * n + 32)` free blocks of each class. What a worker that ended left in its
/// cache is there for the next one with its number.
///
/// # Examples
///
/// ```
/// use core::mem::MaybeUninit;
/// use allocator_api2::boxed::Box;
/// use fibra_allocators::{Cached, MemReq, SizeClasses, SpinLock, Worker, table};
///
/// struct Nobody;
/// // SAFETY: there is no number that two could have.
/// unsafe impl Worker for Nobody {
///     fn index() -> Option<usize> {
///         None
///     }
/// }
///
/// let mut memory = [MaybeUninit::uninit(); 8192];
/// let system = SizeClasses::with_form::<SpinLock>(&table([MemReq::new(64, 100)]), &mut memory)?;
/// let cached = Cached::<1, 4, _, Nobody>::new(system, 8);
/// let seven = Box::new_in(7, &cached);
/// std::thread::scope(|s| {
///     s.spawn(|| drop(seven));
/// });
/// assert_eq!(cached.system().classes().next().unwrap().live, 0);
/// # Ok::<(), fibra_allocators::ArenaTooSmall>(())
/// ```
pub struct Cached<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock = SpinLock> {
    system: SizeClasses<N, B, L>,
    workers: [UnsafeCell<Racks<N>>; W],
    index: PhantomData<fn() -> I>,
}

impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> Cached<N, W, B, I, L> {
    /// Empty caches with two chains of `blocks` blocks, at least one, for each class.
    ///
    /// For an example see [`Cached`].
    pub fn new(system: SizeClasses<N, B, L>, blocks: usize) -> Self {
        Self::sized(system, |_| blocks)
    }

    /// Empty caches with chains of as many blocks as `depth` says for each class, given its row; at least one.
    ///
    /// For an example see [`Cache::sized`].
    pub fn sized(system: SizeClasses<N, B, L>, depth: impl Fn(&MemReq) -> usize) -> Self {
        const { assert_shared::<L>() };
        let rows = system.table();
        let workers = [(); W].map(|()| UnsafeCell::new(Racks::new(rows.rows(), &depth)));
        Cached { workers, system, index: PhantomData }
    }

    /// The shared classes. Blocks in caches count as live there.
    ///
    /// For an example see [`Cached`].
    #[must_use]
    pub fn system(&self) -> &SizeClasses<N, B, L> {
        &self.system
    }

    /// Gives all blocks in the caller's own cache back to the classes.
    ///
    /// # Examples
    ///
    /// See [`Cache::flush`].
    pub fn flush(&self) {
        if let Some(hand) = self.hand() {
            hand.clear();
        }
    }

    // Out of the way of those with a cache.
    #[cold]
    #[inline(never)]
    fn allocate_shared(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        (&self.system).allocate(layout)
    }

    /// # Safety
    ///
    /// As for [`Allocator::deallocate`] of the system.
    #[cold]
    #[inline(never)]
    unsafe fn deallocate_shared(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on from our caller.
        unsafe { (&self.system).deallocate(block, layout) }
    }

    #[inline(always)]
    fn hand(&self) -> Option<Hand<'_, N, B, L>> {
        let racks = self.workers.get(I::index()?)?;
        // SAFETY: whoever has this number is alone with it until the end of the operation, by the contract of `Worker`, and
        // no operation calls what is not ours.
        Some(Hand { system: &self.system, racks: unsafe { &*racks.get() } })
    }
}

// SAFETY: what is not behind a lock is reached by one thread at a time, by the contract of `Worker`, and owns free blocks of
// the system.
unsafe impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> Sync for Cached<N, W, B, I, L> where
    SizeClasses<N, B, L>: Sync
{
}
// SAFETY: the chains lead into the system, which changes threads with them.
unsafe impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> Send for Cached<N, W, B, I, L> where
    SizeClasses<N, B, L>: Send
{
}
// SAFETY: the chains lead into the system, which the other thread may use too.
unsafe impl<const N: usize, B: Backing, L: Lock> Send for Cache<'_, N, B, L> where SizeClasses<N, B, L>: Sync {}

// SAFETY: blocks come from the system and go to it, by way of racks that own them meanwhile; which handle is used makes no
// difference. A block is as long as its class says, and every layout between the one asked for and that length has the same
// class.
unsafe impl<const N: usize, B: Backing, L: Lock> Allocator for &Cache<'_, N, B, L> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.hand().allocate(layout)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to our caller.
        unsafe { self.hand().deallocate(block, layout) }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.system.resize(*self, block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.system.resize(*self, block, old, new) }
    }
}

// SAFETY: blocks come from the system and go to it, by way of racks that own them meanwhile; which handle is used makes no
// difference. A block is as long as its class says, and every layout between the one asked for and that length has the same
// class.
unsafe impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> Allocator for &Cached<N, W, B, I, L> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match self.hand() {
            Some(hand) => hand.allocate(layout),
            None => self.allocate_shared(layout),
        }
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: passed on to our caller.
        unsafe {
            match self.hand() {
                Some(hand) => hand.deallocate(block, layout),
                None => self.deallocate_shared(block, layout),
            }
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.system.resize(*self, block, old, new) }
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { grow_zeroed(*self, block, old, new) }
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on to our caller.
        unsafe { self.system.resize(*self, block, old, new) }
    }
}

impl<const N: usize, B: Backing, L: Lock> fmt::Debug for Cache<'_, N, B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let racks = self.racks.racks.iter().filter(|rack| rack.block_size != 0);
        f.debug_map().entries(racks.map(|rack| (rack.block_size, rack.len()))).finish()
    }
}

impl<const N: usize, const W: usize, B: Backing, I: Worker, L: Lock> fmt::Debug for Cached<N, W, B, I, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("workers", &W).field("system", &self.system).finish()
    }
}
