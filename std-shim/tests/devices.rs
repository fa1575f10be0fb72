//! Devices: functions that block, on threads of their own.

use std::cell::RefCell;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use fibra_std::{Outcome, Shared, device, run};

fn assert_counts(outcome: Outcome, finished: usize, collapsed: usize) {
    assert_eq!((outcome.finished, outcome.collapsed, outcome.deadlocked), (finished, collapsed, 0));
}

#[test]
fn a_source_gives_its_values_in_order_and_ends() {
    let mut n = 0;
    let (from, thread) = device::source("count", move || {
        n += 1;
        (n <= 100).then_some(n)
    })
    .unwrap();
    let mut seen = Vec::new();
    let (_, outcome) = run(|p| {
        let (seen, mut from) = (&mut seen, from.inside(p));
        let fibre = async move {
            while let Some(n) = from.read_or_end().await {
                seen.push(n);
            }
        };
        p.fibre().waker().spawn(fibre).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
    assert!(seen.into_iter().eq(1..=100));
    thread.join().unwrap();
}

#[test]
fn a_fibre_that_only_reads_collapses_when_the_source_ends() {
    let (from, _) = device::source("nothing", || None::<u8>).unwrap();
    let (_, outcome) = run(|p| {
        let mut from = from.inside(p);
        p.fibre().waker().spawn(async move { _ = from.read().await }).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 0, 1);
}

#[test]
fn a_source_ends_when_nobody_reads_any_more() {
    let alive = Arc::new(());
    let its = alive.clone();
    let (from, thread) = device::source("endless", move || Some(Arc::strong_count(&its))).unwrap();
    let (_, outcome) = run(|p| {
        let mut from = from.inside(p);
        p.fibre().waker().spawn(async move { assert_eq!((from.read().await, from.read().await), (2, 2)) }).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
    thread.join().unwrap();
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[test]
fn a_sink_has_got_everything_when_it_is_joined() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let its = seen.clone();
    let (to, thread) = device::sink("log", move |n| {
        its.lock().unwrap().push(n);
        Some(())
    })
    .unwrap();
    let (_, outcome) = Shared::new()
        .workers(2)
        .run(|p| {
            let mut to = to.inside(p);
            let fibre = async move {
                for n in 0..100 {
                    to.write(n).await;
                }
            };
            p.fibre().waker().spawn(fibre).unwrap();
        })
        .unwrap();
    assert_counts(outcome, 1, 0);
    thread.join().unwrap();
    assert!(seen.lock().unwrap().iter().copied().eq(0..100));
}

#[test]
fn a_fibre_that_writes_collapses_when_the_sink_ends() {
    let (to, thread) = device::sink("three", |n| (n < 3).then_some(())).unwrap();
    let (_, outcome) = run(|p| {
        let mut to = to.inside(p);
        let fibre = async move {
            for n in 1.. {
                to.write(n).await;
            }
        };
        p.fibre().waker().spawn(fibre).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 0, 1);
    thread.join().unwrap();
}

#[test]
fn a_service_answers() {
    let (ask, answers, thread) = device::service("half", |n: u32| n.is_multiple_of(2).then_some(n / 2)).unwrap();
    let seen = RefCell::new(Vec::new());
    let (_, outcome) = run(|p| {
        let (seen, mut ask, mut answers) = (&seen, ask.inside(p), answers.inside(p));
        let fibre = async move {
            let mut n = 24;
            loop {
                ask.write(n).await;
                n = answers.read().await;
                seen.borrow_mut().push(n);
            }
        };
        p.fibre().waker().spawn(fibre).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 0, 1);
    assert_eq!(seen.into_inner(), [12, 6, 3]);
    thread.join().unwrap();
}

#[test]
fn a_service_ends_with_its_askers() {
    let (ask, answers, thread) = device::service("none", |n: u32| Some(n)).unwrap();
    drop((ask, answers));
    thread.join().unwrap();
}

#[test]
fn a_device_that_panics_takes_its_fibres_along() {
    let (from, source) = device::source("bad source", || -> Option<u8> { panic!("as a test") }).unwrap();
    let (to, sink) = device::sink("bad sink", |_: String| panic!("as a test")).unwrap();
    let (ask, answers, service) =
        device::service("bad service", |(): ()| -> Option<()> { panic!("as a test") }).unwrap();
    let (_, outcome) = run(|p| {
        let (mut from, mut to) = (from.inside(p), to.inside(p));
        let (mut ask, mut answers) = (ask.inside(p), answers.inside(p));
        p.fibre().waker().spawn(async move { _ = from.read().await }).unwrap();
        p.fibre()
            .waker()
            .spawn(async move {
                loop {
                    to.write("text".to_owned()).await;
                }
            })
            .unwrap();
        p.fibre()
            .waker()
            .spawn(async move {
                ask.write(()).await;
                answers.read().await;
            })
            .unwrap();
    })
    .unwrap();
    assert_counts(outcome, 0, 3);
    for thread in [source, sink, service] {
        assert_eq!(*thread.join().unwrap_err().downcast::<&str>().unwrap(), "as a test");
    }
}

/// It blocks in its function, where nobody can reach it, until that comes back.
#[test]
fn a_device_may_outlive_the_process() {
    let (tell, told) = mpsc::channel::<u8>();
    let (from, thread) = device::source("slow", move || told.recv().ok()).unwrap();
    tell.send(1).unwrap();
    let (_, outcome) = run(|p| {
        let mut from = from.inside(p);
        p.fibre().waker().spawn(async move { assert_eq!(from.read().await, 1) }).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
    tell.send(2).unwrap(); // nobody is left to read it
    thread.join().unwrap();
    assert!(tell.send(3).is_err(), "the device has dropped its function");
}

#[test]
fn standard_output_takes_text_and_bytes() {
    let (text, text_thread) = device::stdout().unwrap();
    let (bytes, bytes_thread) = device::stdout::<Vec<u8>>().unwrap();
    let (_, outcome) = run(|p| {
        let (mut text, mut bytes) = (text.inside(p), bytes.inside(p));
        let fibre = async move {
            text.write("text\n").await;
            bytes.write(b"bytes\n".to_vec()).await;
        };
        p.fibre().waker().spawn(fibre).unwrap();
    })
    .unwrap();
    assert_counts(outcome, 1, 0);
    text_thread.join().unwrap();
    bytes_thread.join().unwrap();
}
