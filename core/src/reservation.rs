//! Blocks set aside, so that spawning cannot run out of memory.

use core::future::Future;
use core::marker::PhantomData;
use core::ptr::NonNull;

use fibra_allocators::{AllocError, AllocRef};

use crate::fibre::Task;
use crate::process::Process;
use crate::spawn::{SpawnError, SpawnErrorKind};

impl<'p, 'env, A: AllocRef> Process<'p, 'env, A> {
    /// Sets `n` blocks aside for fibres of one type, so that spawning them later cannot run out of memory.
    ///
    /// The type is the one that is then spawned from the reservation. Takes `n` blocks of
    /// [`fibre_layout::<F>()`](crate::fibre_layout), and time in proportion.
    ///
    /// # Errors
    /// [`AllocError`] if the allocator has not as many blocks; then none is taken.
    ///
    /// ```
    /// # use fibra_core::{SizeClasses, table, MemReq};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// async fn worker(_n: u32) {}
    ///
    /// let (_, outcome) = fibra_core::run(&pool, |p| {
    ///     let mut workers = p.reserve(3).unwrap();
    ///     for n in 0..3 {
    ///         workers.spawn(worker(n)).unwrap(); // cannot fail for want of memory
    ///     }
    /// })?;
    /// assert_eq!(outcome.finished, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve<F: Future<Output = ()> + 'p>(&'p self, n: usize) -> Result<Reservation<'p, 'env, F, A>, AllocError> {
        let mut reservation = Reservation { process: self, free: None, left: 0, fibres: PhantomData };
        for _ in 0..n {
            reservation.add(self.allocator.allocate(Task::<F, ()>::LAYOUT)?.cast());
        }
        Ok(reservation)
    }
}

/// Blocks set aside for fibres of one type. Made by [`Process::reserve`]; what is left goes back when it is dropped.
///
/// ```
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// fibra_core::run(&pool, |p| {
///     let live = || p.allocator().classes().map(|class| class.live).sum::<usize>();
///     let mut reservation = p.reserve(3).unwrap();
///     reservation.spawn(async {}).unwrap();
///     assert_eq!(live(), 3); // one fibre, and room for two
///     drop(reservation);
///     assert_eq!(live(), 1);
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reservation<'p, 'env, F: Future<Output = ()> + 'p, A: AllocRef> {
    process: &'p Process<'p, 'env, A>,
    /// The blocks that are left, each with the address of the next one in its first word.
    free: Option<NonNull<u8>>,
    left: usize,
    fibres: PhantomData<fn(F)>,
}

impl<'p, F: Future<Output = ()> + 'p, A: AllocRef> Reservation<'p, '_, F, A> {
    /// How many fibres may still be spawned from it.
    ///
    /// ```
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// fibra_core::run(&pool, |p| {
    ///     let mut reservation = p.reserve(3).unwrap();
    ///     reservation.spawn(async {}).unwrap();
    ///     assert_eq!(reservation.left(), 2);
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn left(&self) -> usize {
        self.left
    }

    /// Spawns a fibre in one of the blocks: it goes to the tail of the run queue. Takes constant time.
    ///
    /// # Errors
    /// If all blocks are used, or the process is ending. Never for want of memory.
    ///
    /// ```
    /// use fibra_core::SpawnErrorKind;
    /// # use fibra_core::{MemReq, SizeClasses, table};
    /// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
    /// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
    /// async fn work(job: u32) {
    ///     println!("job {job}");
    /// }
    /// fibra_core::run(&pool, |p| {
    ///     let mut reservation = p.reserve(1).unwrap();
    ///     reservation.spawn(work(1)).unwrap();
    ///     assert_eq!(reservation.spawn(work(2)).unwrap_err().kind, SpawnErrorKind::ReservationUsedUp);
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spawn(&mut self, future: F) -> Result<(), SpawnError<F>> {
        if self.process.core.closing.get() {
            return Err(SpawnError { kind: SpawnErrorKind::Closing, future });
        }
        let Some(block) = self.take() else {
            return Err(SpawnError { kind: SpawnErrorKind::ReservationUsedUp, future });
        };
        // SAFETY: the block was taken from this process's allocator, with this layout.
        unsafe { self.process.start(block, (), || future, false) };
        Ok(())
    }

    fn add(&mut self, block: NonNull<u8>) {
        // SAFETY: a fibre's block begins with a header, so it has room for a link, which is aligned there.
        unsafe { block.cast().write(self.free) };
        self.free = Some(block);
        self.left += 1;
    }

    fn take(&mut self) -> Option<NonNull<u8>> {
        let block = self.free?;
        // SAFETY: `add` wrote the link, and the block has been ours since.
        self.free = unsafe { block.cast().read() };
        self.left -= 1;
        Some(block)
    }
}

impl<'p, F: Future<Output = ()> + 'p, A: AllocRef> Drop for Reservation<'p, '_, F, A> {
    fn drop(&mut self) {
        while let Some(block) = self.take() {
            // SAFETY: taken from this process's allocator with this layout, and never used.
            unsafe { self.process.allocator.deallocate(block, Task::<F, ()>::LAYOUT) };
        }
    }
}
