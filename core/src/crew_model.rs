//! Models of whole shared processes, with two workers: what they share, how they wait, and how they come to an end. If a worker
//! waits for ever, the model checker says that it found a deadlock; if the process ends too early, the outcome says so.

use core::cell::RefCell;
use core::future::poll_fn;
use core::mem;
use core::pin::Pin;
use core::task::{Poll, Waker};

use futures::future::{Either, join, select};
use loom::sync::Mutex;
use loom::thread;

use crate::endpoint::Endpoint;
use crate::hub::Hub;
use crate::modelled::{Memory, Sleeper, Threads, Value, forever, hub, model};
use crate::outcome::Outcome;
use crate::process::Process;
use crate::reach::Concurrent;
use crate::reader::Reader;
use crate::shared::{Shared, work};
use crate::writer::Writer;

type Reach = Concurrent<Threads>;
type Shop<'p> = Process<'p, 'static, &'static Memory, Reach>;
type To<'p> = Writer<'p, Value, Reach>;
type From<'p> = Reader<'p, Value, Reach>;

fn run_with(hub: &'static Hub<2>, setup: impl for<'p> FnOnce(&'p Shop<'p>)) -> Outcome {
    let memory = Memory::new();
    let mut other = None;
    let result = Shared::<_, Threads>::new(memory, hub).run(|p| {
        other = Some(thread::spawn(move || work(hub, forever(Sleeper::new()))));
        setup(p);
    });
    other.unwrap().join().unwrap();
    memory.check();
    result.unwrap().1
}

/// Runs a process with two workers.
fn run(setup: impl for<'p> FnOnce(&'p Shop<'p>)) -> Outcome {
    run_with(hub(), setup)
}

fn outcome(finished: usize, collapsed: usize) -> Outcome {
    Outcome { finished, collapsed, ..Outcome::default() }
}

#[test]
fn a_process_with_nothing_to_do_ends() {
    model(2, || assert_eq!(run(|_| ()), outcome(0, 0)));
}

#[test]
fn a_fibre_runs_once() {
    model(2, || assert_eq!(run(|p| p.spawn(async {}).unwrap()), outcome(1, 0)));
}

#[test]
fn several_fibres_each_run_once() {
    model(1, || {
        let outcome_is = run(|p| {
            p.spawn(async move { (0..2).for_each(|_| p.spawn(async {}).unwrap()) }).unwrap();
            p.spawn(async {}).unwrap();
        });
        assert_eq!(outcome_is, outcome(4, 0));
    });
}

#[test]
fn a_value_arrives() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            p.spawn(async move { assert_eq!(from.read().await.get(), 7) }).unwrap();
            p.spawn(async move { to.write(Value::new(7)).await }).unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 0));
    });
}

#[test]
fn a_pipeline_dissolves() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            let (mut on, mut last): (To, From) = p.channel().unwrap();
            p.spawn(async move { while last.read().await.get() == 7 {} }).unwrap();
            p.spawn(async move {
                loop {
                    on.write(from.read().await).await
                }
            })
            .unwrap();
            p.spawn(async move { to.write(Value::new(7)).await }).unwrap();
        });
        assert_eq!(outcome_is, outcome(1, 2));
    });
}

#[test]
fn of_two_readers_one_gets_the_value_and_the_other_collapses() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            let mut twin = from.dup().unwrap();
            p.spawn(async move { assert_eq!(from.read().await.get(), 7) }).unwrap();
            p.spawn(async move { assert_eq!(twin.read().await.get(), 7) }).unwrap();
            p.spawn(async move { to.write(Value::new(7)).await }).unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 1));
    });
}

#[test]
fn a_fibre_waits_for_two_things() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            let (mut too, mut second): (To, From) = p.channel().unwrap();
            p.spawn(async move {
                let (one, two) = join(from.read(), second.read()).await;
                assert_eq!((one.get(), two.get()), (1, 2));
            })
            .unwrap();
            p.spawn(async move { to.write(Value::new(1)).await }).unwrap();
            p.spawn(async move { too.write(Value::new(2)).await }).unwrap();
        });
        assert_eq!(outcome_is, outcome(3, 0));
    });
}

#[test]
fn a_fibre_waits_for_either_and_then_for_the_other() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            let (mut too, mut second): (To, From) = p.channel().unwrap();
            p.spawn(async move {
                let is_first = match select(from.read(), second.read()).await {
                    Either::Left((value, _)) => {
                        assert_eq!(value.get(), 1);
                        true
                    }
                    Either::Right((value, _)) => {
                        assert_eq!(value.get(), 2);
                        false
                    }
                };
                if is_first {
                    assert_eq!(second.read().await.get(), 2);
                } else {
                    assert_eq!(from.read().await.get(), 1);
                }
            })
            .unwrap();
            p.spawn(async move { to.write(Value::new(1)).await }).unwrap();
            p.spawn(async move { too.write(Value::new(2)).await }).unwrap();
        });
        assert_eq!(outcome_is, outcome(3, 0));
    });
}

#[test]
fn a_fibre_that_waits_for_two_things_collapses_when_both_are_dead() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, mut from): (To, From) = p.channel().unwrap();
            let (too, mut second): (To, From) = p.channel().unwrap();
            p.spawn(async move { drop(join(from.read(), second.read()).await) }).unwrap();
            p.spawn(async move { drop(to) }).unwrap();
            p.spawn(async move { drop(too) }).unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 1));
    });
}

#[test]
fn the_end_of_a_stream_is_told() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, mut from): (To, From) = p.channel().unwrap();
            p.spawn(async move { assert!(from.read_or_end().await.is_none()) }).unwrap();
            p.spawn(async move { drop(to) }).unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 0));
    });
}

/// Begins to read, forgets that, and hands the end on while the read may be posted still.
async fn forget_a_read<'p>(mut from: From<'p>, mut on: Writer<'p, From<'p>, Reach>) {
    poll_fn(|cx| {
        let mut read = from.read();
        // A writer may have come already.
        drop(Pin::new(&mut read).poll(cx));
        mem::forget(read);
        Poll::Ready(())
    })
    .await;
    on.write(from).await;
}

#[test]
fn another_fibre_drops_what_was_posted() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, from): (To, From) = p.channel().unwrap();
            // In a block of its own, which goes with it.
            let twin = from.dup().unwrap();
            let (on, mut next) = p.channel().unwrap();
            p.spawn(async move { drop((next.read().await, to, from)) }).unwrap();
            p.spawn(forget_a_read(twin, on)).unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 0));
    });
}

#[test]
fn another_fibre_reads_what_was_posted() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, from): (To, From) = p.channel().unwrap();
            let (on, mut next): (Writer<From, Reach>, _) = p.channel().unwrap();
            p.spawn(async move { assert_eq!(next.read().await.read().await.get(), 7) }).unwrap();
            p.spawn(async move {
                forget_a_read(from, on).await;
                to.write(Value::new(7)).await;
            })
            .unwrap();
        });
        assert_eq!(outcome_is, outcome(2, 0));
    });
}

#[test]
fn a_write_meets_or_finds_that_the_end_was_dropped_while_it_was_posted() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut to, from): (To, From) = p.channel().unwrap();
            let (on, mut next) = p.channel().unwrap();
            p.spawn(async move { drop(next.read().await) }).unwrap();
            p.spawn(forget_a_read(from, on)).unwrap();
            p.spawn(async move { to.write(Value::new(7)).await }).unwrap();
        });
        assert_eq!(outcome_is.finished + outcome_is.collapsed, 3);
        assert!(outcome_is.finished >= 2);
    });
}

#[test]
fn two_who_wait_for_each_other_collapse() {
    model(1, || {
        let outcome_is = run(|p| {
            let (mut one, mut other): (Endpoint<Value, Reach>, _) = p.two_way().unwrap();
            p.spawn(async move { drop(one.read().await) }).unwrap();
            p.spawn(async move { drop(other.read().await) }).unwrap();
        });
        assert_eq!(outcome_is, outcome(0, 2));
    });
}

#[test]
fn two_who_wait_in_a_circle_are_deadlocked() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, mut from): (To, From) = p.channel().unwrap();
            let (too, mut second): (To, From) = p.channel().unwrap();
            p.spawn(async move { drop((from.read().await, too)) }).unwrap();
            p.spawn(async move { drop((second.read().await, to)) }).unwrap();
        });
        assert_eq!(outcome_is, Outcome { deadlocked: 2, ..outcome(0, 0) });
    });
}

#[test]
fn a_fibre_stops_the_process() {
    model(1, || {
        let outcome_is = run(|p| {
            p.spawn(async move { p.stop() }).unwrap();
            let (_to, mut from): (To, From) = p.channel().unwrap();
            p.spawn(async move { drop(from.read().await) }).unwrap();
        });
        assert_eq!(outcome_is.finished, 1);
        assert_eq!(outcome_is.stopped + outcome_is.collapsed, 1);
    });
}

/// Something outside that tells a fibre when it has happened.
struct Event {
    waker: Mutex<Option<Waker>>,
    has_happened: Mutex<bool>,
    /// What was done before.
    value: Value,
}

impl Event {
    fn new() -> &'static Self {
        forever(Event { waker: Mutex::new(None), has_happened: Mutex::new(false), value: Value::new(0) })
    }

    fn happen(&self) {
        self.value.set(7);
        *self.has_happened.lock().unwrap() = true;
        let waker = self.waker.lock().unwrap().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self) -> u32 {
        poll_fn(|cx| {
            *self.waker.lock().unwrap() = Some(cx.waker().clone());
            if !*self.has_happened.lock().unwrap() {
                return Poll::Pending;
            }
            // The clone may have been taken, or not.
            drop(self.waker.lock().unwrap().take());
            Poll::Ready(self.value.get())
        })
        .await
    }
}

// SAFETY: the model checker watches the cell.
unsafe impl Sync for Event {}

#[test]
fn a_wake_up_from_outside_is_heard_whatever_the_workers_do() {
    model(1, || {
        let event = Event::new();
        let outside = RefCell::new(None);
        let outcome_is = run(|p| {
            p.fibre().waker().spawn(async { assert_eq!(event.wait().await, 7) }).unwrap();
            *outside.borrow_mut() = Some(thread::spawn(|| event.happen()));
        });
        outside.take().unwrap().join().unwrap();
        assert_eq!(outcome_is, outcome(1, 0));
    });
}

#[test]
fn a_wake_up_and_a_value_come_at_once() {
    model(1, || {
        let event = Event::new();
        let outside = RefCell::new(None);
        let outcome_is = run(|p| {
            let (mut to, mut from): (To, From) = p.channel().unwrap();
            let both = async move {
                let read = async { from.read().await.get() };
                assert_eq!(join(event.wait(), read).await, (7, 8));
            };
            p.fibre().waker().spawn(both).unwrap();
            p.spawn(async move { to.write(Value::new(8)).await }).unwrap();
            *outside.borrow_mut() = Some(thread::spawn(|| event.happen()));
        });
        outside.take().unwrap().join().unwrap();
        assert_eq!(outcome_is, outcome(2, 0));
    });
}

#[test]
fn a_fibre_whose_last_waker_goes_collapses() {
    model(2, || {
        // The waker, until the place is closed.
        let place: &Mutex<(bool, Option<Waker>)> = forever(Mutex::new((false, None)));
        let outside = RefCell::new(None);
        let outcome_is = run(|p| {
            let never = poll_fn(move |cx| {
                let mut place = place.lock().unwrap();
                let before = if place.0 { None } else { place.1.replace(cx.waker().clone()) };
                drop((place, before));
                Poll::Pending
            });
            p.fibre().waker().spawn(never).unwrap();
            let close = move || {
                let mut place = place.lock().unwrap();
                place.0 = true;
                place.1.take()
            };
            *outside.borrow_mut() = Some(thread::spawn(move || drop(close())));
        });
        outside.take().unwrap().join().unwrap();
        assert_eq!(outcome_is, outcome(0, 1));
    });
}

#[test]
fn a_process_is_stopped_from_outside() {
    model(1, || {
        let outside = RefCell::new(None);
        let outcome_is = run(|p| {
            let event = Event::new();
            p.fibre().waker().spawn(async { assert_eq!(event.wait().await, 7) }).unwrap();
            let handle = p.stop_handle().unwrap();
            *outside.borrow_mut() = Some(thread::spawn(move || handle.stop()));
        });
        outside.take().unwrap().join().unwrap();
        assert_eq!(outcome_is, Outcome { stopped: 1, ..outcome(0, 0) });
    });
}

/// # Safety
/// It is gone before its process ends.
unsafe fn for_a_thread(to: To<'_>) -> To<'static> {
    // SAFETY: only the lifetime changes; the caller's promise.
    unsafe { mem::transmute(to) }
}

#[test]
fn a_thread_that_is_no_worker_writes() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, mut from): (To, From) = p.channel().unwrap();
            p.spawn(async move { assert_eq!(from.read().await.get(), 7) }).unwrap();
            // SAFETY: the thread ends before this closure does.
            let mut to = unsafe { for_a_thread(to) };
            thread::spawn(move || drop(to.try_write(Value::new(7)))).join().unwrap();
        });
        // If the fibre did not wait yet, nothing was written, and no writer is left.
        assert_eq!(outcome_is.finished + outcome_is.collapsed, 1);
    });
}

#[test]
fn a_thread_that_is_no_worker_drops_the_last_counterpart() {
    model(1, || {
        let outcome_is = run(|p| {
            let (to, mut from): (To, From) = p.channel().unwrap();
            p.spawn(async move { drop(from.read().await) }).unwrap();
            // SAFETY: the thread ends before this closure does.
            let to = unsafe { for_a_thread(to) };
            thread::spawn(move || drop(to)).join().unwrap();
        });
        assert_eq!(outcome_is, outcome(0, 1));
    });
}
