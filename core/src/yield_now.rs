//! Giving way.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll};

/// Lets all other ready fibres run once before the one that awaits this goes on. Works on any executor.
///
/// ```
/// # use fibra_core::{SizeClasses, table, MemReq};
/// # let mut memory = [core::mem::MaybeUninit::uninit(); 16 * 1024];
/// # let pool = SizeClasses::new(&table([MemReq { block_size: 256, n_blocks: 16 }]), &mut memory)?;
/// let order = std::cell::RefCell::new(Vec::new());
/// fibra_core::run(&pool, |p| {
///     let order = &order;
///     for name in ["a", "b"] {
///         p.spawn(async move {
///             for _ in 0..2 {
///                 order.borrow_mut().push(name);
///                 fibra_core::yield_now().await;
///             }
///         })
///         .unwrap();
///     }
/// })?;
/// assert_eq!(order.into_inner(), ["a", "b", "a", "b"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// Gives way to the other ready fibres once. Made by [`yield_now`].
///
/// ```
/// // On any executor: here, one of the ecosystem's.
/// futures::executor::block_on(fibra_core::yield_now());
/// ```
#[must_use = "nothing happens until this is awaited"]
#[derive(Debug)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if core::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
