//! Sleeping allocates nothing. A test alone in its program, so that all that is allocated is its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use fibra_std::{Clock, Sleep};

/// The host's memory, with a count of what is asked of it, by any thread.
struct Counting(AtomicUsize);

#[global_allocator]
static MEMORY: Counting = Counting(AtomicUsize::new(0));

// SAFETY: it is `System`.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.fetch_add(1, Ordering::Relaxed);
        // SAFETY: passed on to the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on to the caller.
        unsafe { System.dealloc(block, layout) }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn wait_for<F: Future>(future: F, cx: &mut Context<'_>) -> F::Output {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

fn use_it<'c>(clock: &'c Clock, sleeps: &mut [Pin<Box<Sleep<'c>>>], cx: &mut Context<'_>) {
    const MS: Duration = Duration::from_millis(1);
    let mut ticks = clock.tick(MS);
    for round in 0..20 {
        // Many at once, some of which are over before they are dropped.
        for (n, sleep) in (0..).zip(&mut *sleeps) {
            sleep.set(clock.sleep_for(MS / 40 * (n * 7 % 100)));
            assert!(sleep.as_mut().poll(cx).is_pending());
        }
        wait_for(ticks.next(), cx);
        wait_for(clock.sleep_for(MS / 10 * round), cx);
    }
}

#[test]
fn sleeping_allocates_nothing() {
    let clock = Clock::new().unwrap();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let cx = &mut Context::from_waker(&waker);
    let mut sleeps: Vec<_> = (0..100).map(|_| Box::pin(clock.sleep_for(Duration::ZERO))).collect();
    // What the host's library sets up for itself when it is first used is not ours.
    use_it(&clock, &mut sleeps, cx);
    let before = MEMORY.0.load(Ordering::Relaxed);
    use_it(&clock, &mut sleeps, cx);
    assert_eq!(MEMORY.0.load(Ordering::Relaxed), before);
}
