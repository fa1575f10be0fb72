//! Both nodes of a two-way endpoint are held, each by another worker, when the endpoint goes.

mod common;

use std::future::poll_fn;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::Checked;
use fibra_allocators::{Lock, SpinLock};
use fibra_core::{Here, Hub, Idle, Platform, Shared, work};

const ROUNDS: usize = 20;

static IS_SLOW: AtomicBool = AtomicBool::new(false);

/// A lock after which a thread may lose its processor for a while, as it may after any other.
struct SlowLock(SpinLock);

// SAFETY: as of the lock in it.
unsafe impl Lock for SlowLock {
    #[allow(clippy::declare_interior_mutable_const)]
    const NEW: Self = SlowLock(SpinLock::NEW);
    const SHARED: bool = true;

    fn with<R>(&self, section: impl FnOnce() -> R) -> R {
        let result = self.0.with(section);
        if IS_SLOW.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(2));
        }
        result
    }
}

struct Slow;

// SAFETY: each thread has a place of its own.
unsafe impl Platform for Slow {
    type Lock = SlowLock;

    fn here<R>(f: impl FnOnce(&Here) -> R) -> R {
        thread_local!(static HERE: Here = const { Here::new() });
        HERE.with(f)
    }
}

struct Busy;

impl Idle for Busy {
    fn wait(&self) {
        thread::yield_now();
    }

    fn wake(&self) {}

    fn nap(&self) -> bool {
        thread::sleep(Duration::from_millis(1));
        true
    }

    fn has_moments(&self) -> bool {
        true
    }
}

static HUB: Hub<1> = Hub::new(&Busy);

#[test]
fn an_endpoint_that_two_workers_hold_is_removed_once() {
    let (checked, phase) = (Checked::new(), AtomicUsize::new(0));
    let (_, outcome) = Shared::<_, Slow>::new(&checked, &HUB)
        .run(|p| {
            thread::spawn(|| work(&HUB, &Busy));
            let (keeper, other) = p.two_way::<u32>().unwrap();
            let place = Arc::new(Mutex::new(None));
            let theirs = place.clone();
            let phase = &phase;
            let until = move |n: usize| {
                while phase.load(Ordering::Acquire) < n {
                    spin_loop();
                }
            };
            p.spawn(async move {
                let _other = other;
                for round in 0..ROUNDS {
                    let mut is_first = true;
                    poll_fn(|cx| {
                        if !std::mem::take(&mut is_first) {
                            IS_SLOW.store(false, Ordering::Relaxed);
                            return Poll::Ready(());
                        }
                        let mut end = keeper.dup().unwrap();
                        assert!(end.poll_read(cx).is_pending());
                        *place.lock().unwrap() = Some(end);
                        phase.store(3 * round + 1, Ordering::Release);
                        until(3 * round + 2);
                        let end = place.lock().unwrap().take();
                        drop(end);
                        IS_SLOW.store(true, Ordering::Relaxed);
                        phase.store(3 * round + 3, Ordering::Release);
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                }
            })
            .unwrap();
            p.spawn(async move {
                for round in 0..ROUNDS {
                    let mut is_first = true;
                    poll_fn(|cx| {
                        if !std::mem::take(&mut is_first) {
                            IS_SLOW.store(false, Ordering::Relaxed);
                            return Poll::Ready(());
                        }
                        until(3 * round + 1);
                        let mut end = theirs.lock().unwrap().take().unwrap();
                        end.begin_write(1);
                        assert!(end.poll_write(cx).is_pending());
                        *theirs.lock().unwrap() = Some(end);
                        phase.store(3 * round + 2, Ordering::Release);
                        until(3 * round + 3);
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                }
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!(outcome.finished, 2);
    checked.assert_empty();
}
