//! The wakers that a clock keeps: whose turn it is, who drops them and where, and that they may do anything meanwhile.

mod support;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use fibra_std::{Clock, run, yield_now};
use futures::executor::block_on;
use futures::future::join_all;
use support::{HOUR, MS, calls, clock, counts, in_time, poll_with, sleeping, spawn};

/// A waker that counts, and says who woke it.
#[derive(Default)]
struct Counter {
    woken: AtomicUsize,
    by: Mutex<Option<ThreadId>>,
}

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        *self.by.lock().unwrap() = Some(thread::current().id());
        self.woken.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_last_waker_is_woken_and_the_others_are_let_go() {
    let clock = clock();
    in_time(|distance| {
        let wakers: Vec<_> = (0..3).map(|_| Arc::new(Counter::default())).collect();
        let soon = Instant::now() + distance;
        let mut sleep = pin!(clock.sleep_until(soon));
        let (tx, rx) = mpsc::channel();
        for waker in &wakers {
            let _ = poll_with(sleep.as_mut(), &Waker::from(Arc::clone(waker)));
            // The same once more changes nothing.
            let _ = poll_with(sleep.as_mut(), &Waker::from(Arc::clone(waker)));
        }
        let counts: Vec<usize> = wakers.iter().map(Arc::strong_count).collect();
        let mut after = pin!(clock.sleep_until(soon));
        let _ = poll_with(after.as_mut(), &calls(move || tx.send(()).unwrap()));
        if Instant::now() >= soon {
            return None;
        }
        assert_eq!(counts, [1, 1, 2]);
        rx.recv().unwrap();
        let woken: Vec<usize> = wakers.iter().map(|waker| waker.woken.load(Ordering::SeqCst)).collect();
        assert_eq!(woken, [0, 0, 1]);
        assert_ne!(*wakers[2].by.lock().unwrap(), Some(thread::current().id()));
        for _ in 0..2 {
            assert_eq!(poll_with(sleep.as_mut(), Waker::noop()), Poll::Ready(()), "over, and it stays over");
        }
        Some(())
    });
}

#[test]
fn a_forgotten_sleep_harms_nobody() {
    let clock = clock();
    let (soon, late) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    for (counter, duration) in [(&soon, 5 * MS), (&late, HOUR)] {
        // Never polled, it is not known to the clock at all.
        std::mem::forget(clock.sleep_for(duration));
        let mut sleep = Box::pin(clock.sleep_for(duration));
        let _ = poll_with(sleep.as_mut(), &Waker::from(Arc::clone(counter)));
        std::mem::forget(sleep);
    }
    // Others are served before and after it.
    block_on(join_all((0..10).map(|n| clock.sleep_for(n * MS))));
    assert_eq!((soon.woken.load(Ordering::SeqCst), Arc::strong_count(&soon)), (1, 1));
    assert_eq!((late.woken.load(Ordering::SeqCst), Arc::strong_count(&late)), (0, 2));
    // The clock ends all the same, and with it what was kept for the forgotten one.
    drop(clock);
    assert_eq!((late.woken.load(Ordering::SeqCst), Arc::strong_count(&late)), (0, 1));
}

#[test]
fn a_sleep_that_begins_in_one_fibre_wakes_another() {
    let clock = clock();
    let begun = RefCell::new(Some(Box::pin(clock.sleep_for(20 * MS))));
    let (_, outcome) = run(|p| {
        spawn(p, async {
            let mut sleep = begun.take().unwrap();
            assert!(poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx))).await.is_pending());
            begun.replace(Some(sleep));
            // Ends, and its cell with it.
        });
        spawn(p, async {
            yield_now().await;
            let sleep = begun.take().unwrap();
            sleep.await;
        });
    })
    .unwrap();
    assert_eq!(counts(outcome), (2, 0, 0, 0));
}

#[test]
fn sleeps_are_dropped_on_other_threads_with_their_wakers() {
    struct TellsDrop(mpsc::Sender<ThreadId>);
    impl Wake for TellsDrop {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for TellsDrop {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }
    let clock = clock();
    let (tell, told) = mpsc::channel();
    thread::scope(|s| {
        for _ in 0..8 {
            let mut sleep = Box::pin(clock.sleep_for(HOUR));
            let _ = poll_with(sleep.as_mut(), &Waker::from(Arc::new(TellsDrop(tell.clone()))));
            let other = s.spawn(move || drop(sleep)).thread().id();
            assert_eq!(told.recv(), Ok(other));
        }
    });
    assert_eq!(sleeping(&clock), 0);
}

#[test]
fn wakers_may_use_the_clock_while_they_are_woken_and_dropped() {
    struct Reenters {
        clock: Clock,
        tx: mpsc::Sender<&'static str>,
    }
    impl Reenters {
        fn use_clock(&self) {
            let mut sleep = Box::pin(self.clock.sleep_for(HOUR));
            let _ = poll_with(sleep.as_mut(), Waker::noop());
            assert!(sleeping(&self.clock) > 0);
        }
    }
    impl Wake for Reenters {
        fn wake(self: Arc<Self>) {
            self.use_clock();
            self.tx.send("woken").unwrap();
        }
    }
    impl Drop for Reenters {
        fn drop(&mut self) {
            self.use_clock();
            self.tx.send("dropped").unwrap();
        }
    }
    let clock = clock();
    let (tx, rx) = mpsc::channel();
    let waker = || Waker::from(Arc::new(Reenters { clock: clock.clone(), tx: tx.clone() }));
    // Woken and dropped by the thread of the clock; dropped because another came; dropped with the sleep.
    let mut woken = Box::pin(clock.sleep_for(MS));
    let _ = poll_with(woken.as_mut(), &waker());
    assert_eq!((rx.recv(), rx.recv()), (Ok("woken"), Ok("dropped")));
    let mut replaced = Box::pin(clock.sleep_for(HOUR));
    let _ = poll_with(replaced.as_mut(), &waker());
    let _ = poll_with(replaced.as_mut(), Waker::noop());
    assert_eq!(rx.recv(), Ok("dropped"));
    let _ = poll_with(replaced.as_mut(), &waker());
    drop(replaced);
    assert_eq!(rx.recv(), Ok("dropped"));
}

/// A waker whose clone uses the clock: the first time to sleep, the second time to poll the very sleep that it is cloned for,
/// until that is over.
struct ClonesIntoClock {
    clock: Clock,
    clones: AtomicUsize,
}

impl ClonesIntoClock {
    const TABLE: RawWakerVTable = RawWakerVTable::new(Self::clone, Self::drop, |_| {}, Self::drop);

    fn waker(clock: &Clock) -> (Arc<Self>, Waker) {
        let this = Arc::new(ClonesIntoClock { clock: clock.clone(), clones: AtomicUsize::new(0) });
        let data = Arc::into_raw(Arc::clone(&this)).cast();
        // SAFETY: the functions below keep a count of the `Arc` for each waker, and may be called on any thread.
        (this, unsafe { Waker::new(data, &Self::TABLE) })
    }

    unsafe fn clone(data: *const ()) -> RawWaker {
        // SAFETY: each waker has a count of the `Arc`.
        let this = unsafe {
            Arc::increment_strong_count(data.cast::<Self>());
            &*data.cast::<Self>()
        };
        this.clones.fetch_add(1, Ordering::SeqCst);
        block_on(this.clock.sleep_for(30 * MS));
        RawWaker::new(data, &Self::TABLE)
    }

    unsafe fn drop(data: *const ()) {
        // SAFETY: it is the count of the waker that is dropped.
        unsafe { Arc::decrement_strong_count(data.cast::<Self>()) }
    }
}

#[test]
fn wakers_may_use_the_clock_while_they_are_cloned() {
    let clock = clock();
    let (state, waker) = ClonesIntoClock::waker(&clock);
    let mut sleep = Box::pin(clock.sleep_for(HOUR));
    let _ = poll_with(sleep.as_mut(), &waker);
    assert_eq!((state.clones.load(Ordering::SeqCst), Arc::strong_count(&state)), (1, 3));
    drop(sleep);
    assert_eq!(Arc::strong_count(&state), 2);
    // The sleep ends while the waker that is to replace another is cloned: that one must not be kept.
    let mut sleep = Box::pin(clock.sleep_for(20 * MS));
    let _ = poll_with(sleep.as_mut(), Waker::noop());
    while poll_with(sleep.as_mut(), &waker).is_pending() {}
    assert_eq!(Arc::strong_count(&state), 2);
}

#[test]
fn a_waker_that_panics_does_not_stop_the_clock() {
    let clock = clock();
    let here = thread::current().id();
    let soon = Instant::now() + 10 * MS;
    let mut sleeps: Vec<_> = (0..5).map(|_| Box::pin(clock.sleep_until(soon))).collect();
    for sleep in &mut sleeps {
        let waker = calls(move || assert_eq!(thread::current().id(), here, "as an example"));
        let _ = poll_with(sleep.as_mut(), &waker);
    }
    block_on(clock.sleep_until(soon));
    block_on(clock.sleep_for(MS));
}

#[test]
fn a_waker_that_takes_its_time_delays_the_others_and_loses_none() {
    let clock = clock();
    in_time(|distance| {
        let (hold, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let soon = Instant::now() + distance;
        let mut holding = Box::pin(clock.sleep_until(soon));
        let here = thread::current().id();
        let waker = calls(move || {
            if thread::current().id() != here {
                let _ = held.lock().unwrap().recv();
            }
        });
        let _ = poll_with(holding.as_mut(), &waker);
        let mut cancelled = Box::pin(clock.sleep_until(soon + MS));
        let _ = poll_with(cancelled.as_mut(), Waker::noop());
        let was_in_time = Instant::now() < soon;
        while sleeping(&clock) == 2 {
            thread::sleep(MS);
        }
        // The thread is with that waker. Meanwhile the clock takes new sleeps and lets old ones go.
        let mut next = Box::pin(clock.sleep_for(MS));
        let _ = poll_with(next.as_mut(), Waker::noop());
        drop(cancelled);
        drop(hold);
        block_on(next);
        was_in_time.then_some(())
    });
}

#[test]
fn sleeps_that_race_with_being_dropped_and_polled() {
    let clock = clock();
    let counter = Arc::new(Counter::default());
    for n in 0..500 {
        // About when the thread takes it out.
        let mut sleep = Box::pin(clock.sleep_for(Duration::from_micros(n % 100)));
        let _ = poll_with(sleep.as_mut(), &Waker::from(Arc::clone(&counter)));
        let until = Instant::now() + Duration::from_micros(n * 7 % 150);
        while Instant::now() < until {
            if poll_with(sleep.as_mut(), &Waker::from(Arc::new(Counter::default()))).is_ready() {
                break;
            }
        }
    }
    drop(clock);
    assert_eq!(Arc::strong_count(&counter), 1);
}

#[test]
fn the_last_handle_may_be_dropped_by_the_thread_of_the_clock() {
    in_time(|distance| {
        let first = clock();
        let second = Mutex::new(Some(first.clone()));
        let (go, gone) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let gone = Mutex::new(gone);
        let soon = Instant::now() + distance;
        let mut sleep = Box::pin(first.sleep_until(soon));
        let here = thread::current().id();
        let waker = calls(move || {
            if thread::current().id() != here {
                let _ = gone.lock().unwrap().recv();
                drop(second.lock().unwrap().take());
                tell.send(()).unwrap();
            }
        });
        let _ = poll_with(sleep.as_mut(), &waker);
        drop(waker);
        if Instant::now() >= soon {
            return None;
        }
        while sleeping(&first) > 0 {
            thread::sleep(MS);
        }
        drop(sleep);
        drop(first);
        drop(go);
        told.recv().unwrap();
        Some(())
    });
}
