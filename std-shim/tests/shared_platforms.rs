//! Platforms in safe code that panic, or do not tell the truth.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use fibra_core::{Hub, Idle, Shared, work};
use fibra_std::{SharedMemory, Threads};

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

/// Panics when it is woken for the second time.
struct Panics(AtomicUsize);

impl Idle for Panics {
    fn wait(&self) {
        thread::yield_now();
    }

    fn wake(&self) {
        assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 1, "woken twice");
    }

    fn nap(&self) -> bool {
        thread::sleep(Duration::from_millis(1));
        true
    }

    fn has_moments(&self) -> bool {
        true
    }
}

#[test]
fn run_returns_after_all_workers_have_left_even_if_one_cannot_be_woken() {
    static HUB: Hub<1> = Hub::new(&Busy);
    static IDLE: Panics = Panics(AtomicUsize::new(0));
    static HAS_RETURNED: AtomicBool = AtomicBool::new(false);
    static TOO_LATE: AtomicBool = AtomicBool::new(false);
    let memory = SharedMemory::new().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        let began = AtomicBool::new(false);
        let began = &began;
        Shared::<_, Threads>::new(memory.clone(), &HUB).run(|p| {
            thread::spawn(|| work(&HUB, &IDLE));
            p.spawn(async move {
                began.store(true, Ordering::Release);
                thread::sleep(Duration::from_millis(300));
                if HAS_RETURNED.load(Ordering::Acquire) {
                    TOO_LATE.store(true, Ordering::Release);
                    // Everything it could use is gone.
                    loop {
                        thread::park();
                    }
                }
            })
            .unwrap();
            while !began.load(Ordering::Acquire) {
                thread::yield_now();
            }
            p.stop();
        })
    }));
    HAS_RETURNED.store(true, Ordering::Release);
    assert!(result.is_err());
    thread::sleep(Duration::from_millis(600));
    assert!(!TOO_LATE.load(Ordering::Acquire), "a fibre runs after the end of its process");
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the destructor, too");
    }
}

/// Panics when it is polled, and again when it is dropped, which is later.
struct Panicking<'a>(&'a AtomicBool, Bomb);

impl Future for Panicking<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        self.0.store(true, Ordering::Release);
        panic!("a fibre, of which {:p} is left", &raw const self.1);
    }
}

#[test]
fn a_worker_leaves_even_if_its_catch_does_not_say_what_it_caught() {
    static HUB: Hub<1> = Hub::new(&Busy);
    let memory = SharedMemory::new().unwrap();
    let began = AtomicBool::new(false);
    let began = &began;
    let result = catch_unwind(AssertUnwindSafe(|| {
        Shared::<_, Threads>::new(memory.clone(), &HUB).run(|p| {
            let other = thread::spawn(|| {
                fibra_core::work_catching(&HUB, &Busy, &mut |f| {
                    let _ = catch_unwind(AssertUnwindSafe(f));
                    false
                })
            });
            p.spawn(Panicking(began, Bomb)).unwrap();
            while !began.load(Ordering::Acquire) {
                thread::yield_now();
            }
            // The other worker's place on its stack is gone then.
            let _ = other.join();
        })
    }));
    drop(result);
}

/// Each nap ends early, as where something else wakes it again and again.
struct IsDisturbed;

impl Idle for IsDisturbed {
    fn wait(&self) {
        thread::yield_now();
    }

    fn wake(&self) {}

    fn nap(&self) -> bool {
        thread::yield_now();
        false
    }

    fn has_moments(&self) -> bool {
        true
    }
}

#[test]
fn a_worker_whose_naps_all_end_early_helps_one_that_is_stuck() {
    static HUB: Hub<1> = Hub::new(&IsDisturbed);
    let (is_ready, has_run) = (AtomicBool::new(false), AtomicBool::new(false));
    let (is_ready, has_run) = (&is_ready, &has_run);
    let (_, outcome) = Shared::<_, Threads>::new(SharedMemory::new().unwrap(), &HUB)
        .run(|p| {
            thread::spawn(|| work(&HUB, &Busy));
            p.spawn(async move {
                // Nobody waits yet who could be given this one.
                p.spawn(async { has_run.store(true, Ordering::Release) }).unwrap();
                is_ready.store(true, Ordering::Release);
                while !has_run.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            })
            .unwrap();
            // This is the first worker, so it is the other one that is stuck.
            while !is_ready.load(Ordering::Acquire) {
                thread::yield_now();
            }
        })
        .unwrap();
    assert_eq!(outcome.finished, 2);
}
