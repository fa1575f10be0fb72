//! Panics beside the polls of fibres: in their destructors, and in how a platform waits and wakes.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use fibra_core::{Hub, Idle, Shared, work, work_catching};
use fibra_std::{SharedMemory, Threads, yield_now};

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

fn wait_for(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        thread::yield_now();
    }
}

/// Is done at once, and then panics as it is dropped.
struct Bomb<'a>(&'a AtomicBool);

impl Future for Bomb<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        panic!("a destructor");
    }
}

#[test]
fn a_worker_that_unwinds_out_of_a_destructor_stops_the_process() {
    static HUB: Hub<1> = Hub::new(&Busy);
    let memory = SharedMemory::new().unwrap();
    let is_dropped = AtomicBool::new(false);
    let is_dropped = &is_dropped;
    let mut other = None;
    let result = Shared::<_, Threads>::new(memory.clone(), &HUB).run(|p| {
        other = Some(thread::spawn(|| work(&HUB, &Busy)));
        p.spawn(Bomb(is_dropped)).unwrap();
        // This is the first worker, so it is the other one that runs it.
        wait_for(is_dropped);
        // It would run for ever.
        p.spawn(async {
            loop {
                yield_now().await;
            }
        })
        .unwrap();
    });
    assert!(result.is_err());
    assert!(other.unwrap().join().is_err());
    assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
}

/// Counts how often it is dropped, after the future in it.
struct Counted<F>(Pin<Box<F>>, CountsDrops);

impl<F: Future<Output = ()>> Future for Counted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _ = &self.1;
        self.0.as_mut().poll(cx)
    }
}

static DROPS: AtomicUsize = AtomicUsize::new(0);

struct CountsDrops;

impl Drop for CountsDrops {
    fn drop(&mut self) {
        DROPS.fetch_add(1, Ordering::AcqRel);
    }
}

/// Sleeps until it is woken. The first who wakes it is held up until a fibre is gone, and then panics.
struct PanicsAsItWakes;

static SLEEPS: AtomicBool = AtomicBool::new(false);
static IS_WOKEN: AtomicBool = AtomicBool::new(false);

impl Idle for PanicsAsItWakes {
    fn wait(&self) {
        SLEEPS.store(true, Ordering::Release);
        wait_for(&IS_WOKEN);
    }

    fn wake(&self) {
        if !IS_WOKEN.swap(true, Ordering::AcqRel) {
            while DROPS.load(Ordering::Acquire) == 0 {
                thread::yield_now();
            }
            panic!("a platform");
        }
    }
}

#[test]
fn a_worker_that_unwinds_between_two_turns_leaves_the_fibre_of_the_last_one_alone() {
    static HUB: Hub<1> = Hub::new(&Busy);
    let memory = SharedMemory::new().unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        Shared::<_, Threads>::new(memory.clone(), &HUB).run(|p| {
            let (mut to, mut from) = p.channel::<u8>().unwrap();
            // Parks here, and ends on the other worker while this one is about to wake it.
            let first = async move {
                thread::spawn(|| work(&HUB, &PanicsAsItWakes));
                wait_for(&SLEEPS);
                from.read().await;
            };
            p.spawn(Counted(Box::pin(first), CountsDrops)).unwrap();
            p.spawn(async { yield_now().await }).unwrap();
            // Who wakes keeps what comes next, and gives this one.
            p.spawn(async move { to.write(1).await }).unwrap();
        })
    }));
    assert!(result.is_err());
    assert_eq!(DROPS.load(Ordering::Acquire), 1);
    assert_eq!(memory.classes().map(|class| class.live).sum::<usize>(), 0);
}

static WAKER: Mutex<Option<Waker>> = Mutex::new(None);

/// Once, it wakes a fibre instead of sleeping, and panics.
struct PanicsAsItNaps;

impl Idle for PanicsAsItNaps {
    fn wait(&self) {
        thread::yield_now();
    }

    fn wake(&self) {}

    fn nap(&self) -> bool {
        let waker = WAKER.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
            panic!("a platform");
        }
        Busy.nap()
    }

    fn has_moments(&self) -> bool {
        true
    }
}

#[test]
fn a_worker_whose_wait_has_panicked_does_not_count_as_waiting() {
    static HUB: Hub<1> = Hub::new(&Busy);
    let memory = SharedMemory::new().unwrap();
    let has_begun = AtomicBool::new(false);
    let has_begun = &has_begun;
    let (_, outcome) = Shared::<_, Threads>::new(memory, &HUB)
        .isolate_panics()
        .run(|p| {
            thread::spawn(|| work_catching(&HUB, &PanicsAsItNaps, &mut |f| catch_unwind(AssertUnwindSafe(f)).is_err()));
            let (mut to, mut from) = p.channel::<u8>().unwrap();
            let woken = async move {
                let mut is_first = true;
                poll_fn(|cx| {
                    if std::mem::take(&mut is_first) {
                        *WAKER.lock().unwrap() = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Poll::Ready(())
                })
                .await;
                has_begun.store(true, Ordering::Release);
                // Long enough for the first worker to find out that it has nothing to do, and whether it is the last.
                thread::sleep(Duration::from_millis(100));
                to.write(1).await;
            };
            p.fibre().waker().spawn(woken).unwrap();
            p.spawn(async move { assert_eq!(from.read().await, 1) }).unwrap();
            // This is the first worker. So it is the other one that runs both, and waits, and goes on with the first of them.
            wait_for(has_begun);
        })
        .unwrap();
    assert_eq!((outcome.finished, outcome.stopped, outcome.deadlocked), (2, 0, 0));
}
