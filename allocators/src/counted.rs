//! A value beside the count of its handles, and how the count is kept.
//!
//! # Invariants
//!
//! 1. Up to [`LIMIT`], the count is the number of handles that were not dropped, the forgotten ones among them; 1 in a
//!    `Counted` that is not shared.
//! 2. Above [`LIMIT`] it is saturated: handles are no longer counted, and the value stays for ever. A handle takes at least
//!    a pointer's worth of memory, so more than half of those counted must have been forgotten; that many hold the count
//!    above 0 for good. Each operation moves a saturated count by 1 and then sets it to [`SATURATED`], further from both
//!    ends than there can be threads, so it never leaves.

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::Relaxed;
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
use core::sync::atomic::Ordering::{Acquire, Release};

#[cfg(fibra_loom)]
pub(crate) use loom::sync::atomic::AtomicUsize;
#[cfg(not(fibra_loom))]
pub(crate) use portable_atomic::AtomicUsize;

const LIMIT: usize = isize::MAX as usize;

/// A value with room for a count beside it: what a [`PoolRc`](crate::PoolRc) or a [`PoolArc`](crate::PoolArc) has in its
/// block.
///
/// It says how large that block is (`size_of::<Counted<T>>()`, for a [`MemReq`](crate::MemReq)), it makes a
/// [`Pool`](crate::Pool) whose values can be shared, and in a [`PoolBox`](crate::PoolBox) it is a value not yet shared: to
/// be changed, or made a trait object, and then turned into a handle at no cost.
///
/// # Examples
///
/// ```
/// use core::fmt::Display;
/// use core::mem::MaybeUninit;
/// use fibra_allocators::{AllocError, Counted, Pool, PoolBox, PoolRc};
///
/// let mut memory = [MaybeUninit::uninit(); 256];
/// let pool = Pool::<Counted<u32>, _>::new(&mut memory);
///
/// let mut number = pool.put(Counted::new(41))?;
/// **number += 1;
/// let shared = PoolRc::from(PoolBox::unsize::<Counted<dyn Display>>(number, |it| it));
/// assert_eq!(shared.clone().to_string(), "42");
/// # Ok::<(), AllocError>(())
/// ```
pub struct Counted<T: ?Sized> {
    pub(crate) count: AtomicUsize,
    pub(crate) value: T,
}

impl<T> Counted<T> {
    /// A value that nobody shares yet.
    ///
    /// For an example see [`Counted`].
    #[inline]
    #[must_use]
    pub fn new(value: T) -> Self {
        Counted { count: AtomicUsize::new(1), value }
    }

    /// The value alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use fibra_allocators::Counted;
    ///
    /// assert_eq!(Counted::into_inner(Counted::new(7)), 7);
    /// ```
    #[inline]
    #[must_use]
    pub fn into_inner(counted: Self) -> T {
        counted.value
    }
}

impl<T: ?Sized> Deref for Counted<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> DerefMut for Counted<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Counted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

/// How handles count themselves.
///
/// # Safety
///
/// The counts obey the invariants at the top of the module, on all threads that the implementor's handles can be on. What
/// was done through any handle happened before `down` or `is_one` says that there is no other.
pub unsafe trait Count {
    fn up(count: &AtomicUsize);
    /// Whether that was the last one. Unless it was, the count may be gone already.
    fn down(count: &AtomicUsize) -> bool;
    /// Asked by the holder of a handle.
    fn is_one(count: &AtomicUsize) -> bool;
}

/// Handles that stay on one thread, and count without atomic instructions: those of a [`PoolRc`](crate::PoolRc).
#[derive(Debug)]
pub enum OneThread {}

// SAFETY: the handles are on one thread, because `Shared` is neither `Send` nor `Sync` with it; so nothing comes between a
// load and its store.
unsafe impl Count for OneThread {
    #[inline]
    fn up(count: &AtomicUsize) {
        let handles = count.load(Relaxed);
        if handles <= LIMIT {
            count.store(handles + 1, Relaxed);
        }
    }

    #[inline]
    fn down(count: &AtomicUsize) -> bool {
        let handles = count.load(Relaxed);
        if handles <= LIMIT {
            count.store(handles - 1, Relaxed);
        }
        handles == 1
    }

    #[inline]
    fn is_one(count: &AtomicUsize) -> bool {
        count.load(Relaxed) == 1
    }
}

/// Handles that go anywhere, and count with atomic instructions: those of a [`PoolArc`](crate::PoolArc).
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
#[derive(Debug)]
pub enum AnyThread {}

// SAFETY: each step is one atomic operation. A decrement releases what its thread did, and who finds that no other
// handle is left acquires it. A new handle comes from an existing one, which keeps the count from 0 meanwhile, so an
// increment orders nothing. The stores come after a count above the limit, where the counter stays (invariant 2).
#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
unsafe impl Count for AnyThread {
    #[inline]
    fn up(count: &AtomicUsize) {
        if count.fetch_add(1, Relaxed) > LIMIT {
            saturate(count);
        }
    }

    #[inline]
    fn down(count: &AtomicUsize) -> bool {
        let handles = count.fetch_sub(1, Release);
        if handles == 1 {
            // A load, where a fence would do as well, because race detectors do not understand fences.
            let _last = count.load(Acquire);
            return true;
        }
        if handles > LIMIT {
            saturate(count);
        }
        false
    }

    #[inline]
    fn is_one(count: &AtomicUsize) -> bool {
        count.load(Acquire) == 1
    }
}

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
const SATURATED: usize = 3 << (usize::BITS - 2);

#[cfg(any(target_has_atomic = "ptr", feature = "critical-section"))]
#[cold]
fn saturate(count: &AtomicUsize) {
    count.store(SATURATED, Relaxed);
}

#[cfg(all(test, not(fibra_loom)))]
mod tests {
    use super::*;

    fn saturates<S: Count>() {
        let count = AtomicUsize::new(LIMIT - 1);
        S::up(&count);
        assert_eq!(count.load(Relaxed), LIMIT, "still exact");
        assert!(!S::down(&count));
        assert_eq!(count.load(Relaxed), LIMIT - 1);
        // Two beyond: the first enters where counting ends, and the next finds itself there.
        (0..3).for_each(|_| S::up(&count));
        let resting = count.load(Relaxed);
        assert!(resting > LIMIT);
        for _ in 0..3 {
            S::up(&count);
            assert_eq!(count.load(Relaxed), resting, "it does not rise until it wraps");
        }
        for _ in 0..3 {
            assert!(!S::down(&count) && !S::is_one(&count));
            assert_eq!(count.load(Relaxed), resting, "nor sink until it ends");
        }
    }

    #[test]
    fn a_count_that_would_overflow_stays_high_for_ever() {
        saturates::<OneThread>();
        saturates::<AnyThread>();
    }

    fn ends_with_the_last<S: Count>() {
        let counted = Counted::new(());
        for _ in 0..3 {
            S::up(&counted.count);
        }
        assert_eq!(
            [(); 4].map(|()| (S::is_one(&counted.count), S::down(&counted.count))),
            [(false, false), (false, false), (false, false), (true, true)]
        );
    }

    #[test]
    fn the_last_handle_knows_that_it_is() {
        ends_with_the_last::<OneThread>();
        ends_with_the_last::<AnyThread>();
    }
}

// RUSTFLAGS="--cfg fibra_loom" cargo test -p fibra-allocators --lib --release
#[cfg(all(test, fibra_loom))]
mod models {
    use allocator_api2::alloc::Global;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use crate::PoolArc;

    /// The model checker stops at any access that is not ordered behind another's.
    struct Watched {
        cell: UnsafeCell<u32>,
        drops: Arc<loom::sync::atomic::AtomicUsize>,
    }

    // SAFETY: it exists to be checked.
    unsafe impl Sync for Watched {}

    impl Watched {
        fn read(&self) {
            // SAFETY: the model checker watches it.
            self.cell.with(|value| assert_eq!(unsafe { *value }, 7));
        }
    }

    impl Drop for Watched {
        fn drop(&mut self) {
            // SAFETY: the model checker watches it.
            self.cell.with_mut(|value| unsafe { *value = 0 });
            self.drops.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
        }
    }

    fn model(check: impl Fn(PoolArc<Watched, Global>) + Send + Sync + 'static) {
        loom::model(move || {
            let drops = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let watched = Watched { cell: UnsafeCell::new(7), drops: drops.clone() };
            check(PoolArc::new_in(watched, Global).ok().expect("room"));
            assert_eq!(drops.load(loom::sync::atomic::Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn reads_come_before_the_drop_and_there_is_one_drop() {
        model(|first| {
            let (second, third) = (first.clone(), first.clone());
            let threads = [second, third].map(|shared| {
                thread::spawn(move || {
                    shared.read();
                    let copy = shared.clone();
                    drop(shared);
                    copy.read();
                })
            });
            first.read();
            drop(first);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
    }

    #[test]
    fn one_of_two_gets_the_value_out_after_the_other_has_read_it() {
        model(|first| {
            let second = first.clone();
            let give_up = |shared: PoolArc<Watched, Global>| {
                shared.read();
                PoolArc::into_inner(shared).is_some()
            };
            let other = thread::spawn(move || give_up(second));
            assert!(give_up(first) ^ other.join().unwrap());
        });
    }

    #[test]
    fn who_finds_itself_alone_may_write() {
        model(|mut first| {
            let second = first.clone();
            let other = thread::spawn(move || second.read());
            if let Some(alone) = PoolArc::get_mut(&mut first) {
                // SAFETY: the model checker watches it.
                alone.cell.with_mut(|value| unsafe { *value = 7 });
            }
            let unwrapped = PoolArc::try_unwrap(first);
            other.join().unwrap();
            drop(unwrapped);
        });
    }
}
