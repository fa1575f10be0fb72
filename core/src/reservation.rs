//! Blocks set aside, so that spawning cannot run out of memory.

use core::future::Future;
use core::marker::PhantomData;

use fibra_allocators::{AllocError, AllocRef, Reserve};

use crate::fibre::Task;
use crate::process::Process;
use crate::reach::{Reach, Runs, Sequential};
use crate::spawn::{SpawnError, SpawnErrorKind};

impl<'p, 'env, A: AllocRef, R: Reach> Process<'p, 'env, A, R> {
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
    pub fn reserve<F: Future<Output = ()> + 'p>(
        &'p self,
        n: usize,
    ) -> Result<Reservation<'p, 'env, F, A, R>, AllocError>
    where
        R: Runs<F>,
    {
        let blocks = Reserve::new(&self.allocator, Task::<F, ()>::LAYOUT, n)?;
        Ok(Reservation { process: self, blocks, fibres: PhantomData })
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
pub struct Reservation<'p, 'env, F: Future<Output = ()> + 'p, A: AllocRef, R: Reach = Sequential> {
    process: &'p Process<'p, 'env, A, R>,
    blocks: Reserve<&'p A>,
    fibres: PhantomData<fn(F)>,
}

impl<'p, F: Future<Output = ()> + 'p, A: AllocRef, R: Reach> Reservation<'p, '_, F, A, R> {
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
        self.blocks.left()
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
        let Some(block) = self.blocks.take() else {
            return Err(SpawnError { kind: SpawnErrorKind::ReservationUsedUp, future });
        };
        // SAFETY: the block is one of this process's allocator, with this layout: it begins with a header, so it was not
        // rounded up to hold a link.
        unsafe { self.process.start(block, (), || future, false) };
        Ok(())
    }
}
