//! What a channel is generic over: the lock around its links and its hand-over.

/// The lock of a channel, which decides how far the channel reaches.
///
/// A sequential channel needs none ([`NoLock`]): its ends cannot leave the process's thread, and the compiler checks
/// that. The other reaches are instances of the same channel with another lock. The trait is sealed.
///
/// A program does not use it directly, only names it where it is generic over the reach of its channels:
///
/// ```
/// use fibra_core::{Lock, Reader};
/// # use fibra_core::{MemReq, SizeClasses, table};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// async fn sum_of_two<L: Lock>(mut from: Reader<'_, u32, L>) {
///     assert_eq!(from.read().await + from.read().await, 3);
/// }
/// fibra_core::run(&pool, |p| {
///     let (mut w, r) = p.channel().unwrap();
///     p.spawn(sum_of_two(r)).unwrap();
///     p.spawn(async move {
///         w.write(1).await;
///         w.write(2).await;
///     })
///     .unwrap();
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Lock: sealed::Sealed {
    /// An unlocked lock.
    #[doc(hidden)]
    const NEW: Self;

    /// Runs `section` while nobody else is inside. Links are changed and values are moved in there; user code (a
    /// destructor, a foreign waker) never runs in there.
    #[doc(hidden)]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R;
}

/// No lock: for sequential channels, which only one thread can reach. Takes no space and no time.
///
/// It is the default of every end's last parameter, so it is seldom written down:
///
/// ```
/// use fibra_core::{NoLock, Writer};
/// fn same<'p>(w: Writer<'p, u8>) -> Writer<'p, u8, NoLock> {
///     w
/// }
/// ```
#[derive(Debug)]
pub struct NoLock(());

impl Lock for NoLock {
    const NEW: Self = NoLock(());

    #[inline(always)]
    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        section()
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::NoLock {}
}
