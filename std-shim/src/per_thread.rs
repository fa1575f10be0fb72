use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use fibra_allocators::Worker;

const WORDS: usize = 16;
/// Numbers that there are.
const MOST: usize = WORDS * 64;
/// The thread has not asked yet.
const UNASKED: usize = usize::MAX;
/// The thread has no number, and gets none.
const NONE: usize = usize::MAX - 1;

/// A set bit is a number that a thread has.
static TAKEN: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];

thread_local! {
    // Without a destructor, so that it can be asked at any time, also by the destructors of other thread-local values.
    static NUMBER: Cell<usize> = const { Cell::new(UNASKED) };
    static GIVES_BACK: GivesBack = const { GivesBack };
}

/// A cache for each thread: the [`Worker`] of a [`Cached`](fibra_allocators::Cached) that the threads of a program share.
///
/// A thread gets the lowest free number when it first asks, and gives it back when it ends; the next one with that number
/// finds what the cache still holds. So a program needs as many caches as it ever has threads at once, up to 1024; threads that
/// come when all are taken have none and use the shared classes.
///
/// Asking takes a load and a comparison. The first time it takes a few steps more, and registers a destructor with the host,
/// which may allocate: meanwhile the thread has no number, so that this works in a global allocator, too.
///
/// ```
/// use fibra_std::PerThread;
/// use fibra_std::allocators::{Cached, MemReq, PoolBox, SizeClasses, SpinLock, table};
///
/// let sizes = table([MemReq::new(64, 1000)]);
/// let mut memory = vec![std::mem::MaybeUninit::uninit(); sizes.arena_size()];
/// let system = SizeClasses::with_form::<SpinLock>(&sizes, &mut memory)?;
/// let pools = Cached::<1, 8, _, PerThread>::new(system, 32);
///
/// let word = PoolBox::new_in(7_u64, &pools).unwrap();
/// std::thread::scope(|s| {
///     s.spawn(|| assert_eq!(*word, 7)); // from this thread's cache
/// });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PerThread(());

// SAFETY: a number's bit is set by one thread, which alone has the number until it clears the bit, after its last use; clearing
// releases what was written, and setting acquires it.
unsafe impl Worker for PerThread {
    #[inline(always)]
    fn index() -> Option<usize> {
        let number = NUMBER.get();
        if number < MOST { Some(number) } else { first(number) }
    }
}

#[cold]
#[inline(never)]
fn first(number: usize) -> Option<usize> {
    if number == NONE {
        return None;
    }
    // What is allocated from here on, until there is a number, is allocated without one.
    NUMBER.set(NONE);
    // No number without the destructor that gives it back.
    GIVES_BACK.try_with(|_| ()).ok()?;
    let number = take()?;
    NUMBER.set(number);
    Some(number)
}

/// The lowest number that no thread has.
fn take() -> Option<usize> {
    (0..).zip(&TAKEN).find_map(|(word, taken)| {
        let lowest = |bits: u64| (bits != u64::MAX).then(|| bits | (bits + 1));
        let before = taken.fetch_update(Ordering::Acquire, Ordering::Relaxed, lowest).ok()?;
        Some(word * 64 + before.trailing_ones() as usize)
    })
}

struct GivesBack;

impl Drop for GivesBack {
    fn drop(&mut self) {
        let number = NUMBER.replace(NONE);
        if number < MOST {
            TAKEN[number / 64].fetch_and(!(1 << (number % 64)), Ordering::Release);
        }
    }
}
