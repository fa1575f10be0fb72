//! Processes on the host's memory: one after another, one inside another, several at once.

use std::thread;

use fibra_std::{AllocError, Malloc, MemReq, Outcome, Process, Reader, Setup, SizeClasses, Writer, run, run_in, table};

async fn double<'p>(mut from: Reader<'p, u64>, mut to: Writer<'p, u64>) {
    loop {
        to.write(2 * from.read().await).await;
    }
}

/// A chain of stages that double, from the first writer to the last reader.
fn chain<'p>(p: &'p Process<'p, '_>, stages: usize) -> Result<(Writer<'p, u64>, Reader<'p, u64>), AllocError> {
    let (first, mut last) = p.channel()?;
    for _ in 0..stages {
        let (w, r) = p.channel()?;
        let from = std::mem::replace(&mut last, r);
        p.spawn(double(from, w)).map_err(|_| AllocError)?;
    }
    Ok((first, last))
}

fn double_times(stages: usize, value: u64) -> (u64, Outcome) {
    let mut result = 0;
    let out = &mut result;
    let (made, outcome) = run(|p| {
        let (mut w, mut r) = chain(p, stages)?;
        p.spawn(async move { w.write(value).await }).map_err(|_| AllocError)?;
        p.spawn(async move { *out = r.read().await }).map_err(|_| AllocError)
    })
    .unwrap();
    made.unwrap();
    (result, outcome)
}

#[test]
fn a_chain_answers_and_collapses() {
    let (value, outcome) = double_times(10, 3);
    assert_eq!(value, 3 << 10);
    assert_eq!((outcome.finished, outcome.collapsed), (2, 10));
}

#[test]
fn the_default_memory_holds_a_chain_of_a_hundred_thousand_stages() {
    let (value, outcome) = double_times(100_000, 0);
    assert_eq!(value, 0);
    assert_eq!((outcome.finished, outcome.collapsed), (2, 100_000));
}

#[test]
fn a_run_inside_a_fibre() {
    let mut answer = 0;
    let out = &mut answer;
    let (_, outcome) = run(|p| {
        let (mut w, mut r) = p.channel::<u64>().unwrap();
        p.spawn(async move {
            let (value, _) = double_times(3, 5);
            w.write(value).await;
        })
        .unwrap();
        p.spawn(async move { *out = r.read().await }).unwrap();
    })
    .unwrap();
    assert_eq!(answer, 40);
    assert_eq!(outcome.finished, 2);
}

#[test]
fn one_after_another_and_at_once_on_several_threads() {
    thread::scope(|s| {
        for n in 0..4_u64 {
            s.spawn(move || {
                for _ in 0..25 {
                    assert_eq!(double_times(2, n).0, 4 * n);
                }
            });
        }
    });
}

#[test]
fn everything_is_back_in_the_callers_pool() {
    let pool = SizeClasses::in_parent(&table([MemReq::new(128, 8), MemReq::new(256, 8)]), Malloc).unwrap();
    for _ in 0..3 {
        let (_, outcome) = run_in(&pool, |p| {
            let (mut w, mut r) = p.channel::<String>().unwrap();
            p.spawn(async move { w.write("a value on the heap".to_string()).await }).unwrap();
            p.spawn(async move { assert_eq!(r.read().await.len(), 19) }).unwrap();
        })
        .unwrap();
        assert_eq!(outcome.finished, 2);
        assert_eq!(pool.classes().map(|class| class.live).sum::<usize>(), 0);
    }
    assert!(pool.classes().map(|class| class.peak).sum::<usize>() >= 3);
}

#[test]
fn a_pool_that_is_too_small_gives_the_future_back() {
    let pool = SizeClasses::in_parent(&table([MemReq::new(256, 1)]), Malloc).unwrap();
    let (refused, outcome) = run_in(&pool, |p| {
        p.spawn(async {}).unwrap();
        p.spawn(async {}).unwrap_err().kind
    })
    .unwrap();
    assert_eq!(refused, fibra_std::SpawnErrorKind::OutOfMemory);
    assert_eq!(outcome.finished, 1);
}

#[test]
fn every_lost_fibre_is_reported() {
    let mut lines = Vec::new();
    let (_, outcome) = Setup::new()
        .report(&mut |report| lines.push(report.to_string()))
        .run(|p| {
            let (wa, mut ra) = p.channel_named::<u8>("a").unwrap();
            let (wb, mut rb) = p.channel_named::<u8>("b").unwrap();
            p.fibre().name("one").spawn(async move { drop((ra.read().await, wb)) }).unwrap();
            p.fibre().name("two").spawn(async move { drop((rb.read().await, wa)) }).unwrap();
        })
        .unwrap();
    assert_eq!(outcome.deadlocked, 2);
    assert_eq!(
        lines,
        [
            "fibre `one` deadlocked while reading from channel `a`: the other end was held by fibre `two`",
            "fibre `two` deadlocked while reading from channel `b`: the other end was held by fibre `one`",
        ]
    );
}
