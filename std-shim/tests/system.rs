//! Systems of processes.

use std::sync::Mutex;

use fibra_std::{Setup, Shared, System};

#[test]
fn processes_that_wait_for_each_other_are_found() {
    for workers in [1, 2] {
        let lost = Mutex::new(Vec::new());
        let ((), outcome) = System::run(|system| {
            let (to_b, from_a) = system.asynchronous::<u32>().unwrap();
            let (to_a, from_b) = system.asynchronous::<u32>().unwrap();
            let lost = &lost;
            system
                .spawn_process_with("a", move || {
                    Setup::new().report(&mut |report| lost.lock().unwrap().push(report.to_string())).run(|p| {
                        let (mut from, mut to) = (from_b.inside(p), to_b.inside(p));
                        let wait = async move {
                            let n = from.read().await;
                            to.write(n).await;
                        };
                        p.fibre().waker().name("one").spawn(wait).unwrap();
                    })
                })
                .unwrap();
            system
                .spawn_process_with("b", move || {
                    let report = &|report: &fibra_std::Report| lost.lock().unwrap().push(report.to_string());
                    Shared::new().workers(workers).report(report).run(|p| {
                        let (mut from, mut to) = (from_a.inside(p), to_a.inside(p));
                        let wait = async move {
                            let n = from.read().await;
                            to.write(n).await;
                        };
                        p.fibre().waker().name("other").spawn(wait).unwrap();
                    })
                })
                .unwrap();
        });
        assert_eq!((outcome.processes, outcome.fibres.deadlocked, outcome.fibres.collapsed), (2, 2, 0));
        let mut lost = lost.into_inner().unwrap();
        lost.sort();
        assert_eq!(lost, ["fibre `one` deadlocked", "fibre `other` deadlocked"]);
    }
}

#[test]
fn a_process_that_waits_for_the_setup_is_not_deadlocked() {
    let ((), outcome) = System::run(|system| {
        let (mut to, from) = system.asynchronous::<u32>().unwrap();
        system
            .spawn_process(move |p| {
                let mut from = from.inside(p);
                p.fibre().waker().spawn(async move { assert_eq!(from.read().await, 7) }).unwrap();
            })
            .unwrap();
        // Long enough for the process to wait, mostly.
        std::thread::sleep(std::time::Duration::from_millis(20));
        while to.try_write(7).is_err() {
            std::thread::yield_now();
        }
    });
    assert_eq!((outcome.fibres.finished, outcome.fibres.deadlocked), (1, 0));
}

#[test]
fn processes_spawn_processes() {
    let ((), outcome) = System::run(|system| {
        let inner = system.clone();
        system
            .spawn_process(move |p| {
                let (to, from) = inner.asynchronous::<u32>().unwrap();
                let mut from = from.inside(p);
                let spawns = async move {
                    let child = move |p: &'_ fibra_std::Process<'_, '_>| drop((to, p));
                    let _ = child;
                    drop(from.read());
                };
                p.fibre().waker().spawn(spawns).unwrap();
                inner.spawn_process(|p| p.spawn(async {}).unwrap()).unwrap();
            })
            .unwrap();
    });
    assert_eq!((outcome.processes, outcome.fibres.finished), (2, 2));
}
