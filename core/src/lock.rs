//! What a channel is generic over: the lock around its links and its hand-over.

/// The lock of a channel, which decides how far the channel reaches.
///
/// A sequential channel needs none ([`NoLock`]): its ends cannot leave the process's thread, and the compiler checks
/// that. The other reaches are instances of the same channel with another lock. The trait is sealed.
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
