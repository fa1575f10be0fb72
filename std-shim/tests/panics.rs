//! Panics (C10): the first one goes on when all else is destroyed, or each ends its own fibre only.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use fibra_std::{Error, Setup, run, yield_now};

/// Notes its name when it is dropped.
struct Noted<'a>(&'static str, &'a RefCell<Vec<&'static str>>);

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

/// Panics when it is dropped.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any(self.0);
    }
}

/// What `f` panics with.
fn panic_of<R>(f: impl FnOnce() -> R) -> &'static str {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it did not panic") };
    payload.downcast_ref::<&str>().expect("the payload that was thrown")
}

#[test]
fn a_fibres_panic_goes_on_with_its_own_payload() {
    #[derive(Debug, PartialEq)]
    struct Payload(u32);
    let result = catch_unwind(|| run(|p| p.spawn(async { panic_any(Payload(42)) }).unwrap()));
    assert_eq!(*result.unwrap_err().downcast::<Payload>().unwrap(), Payload(42));
}

#[test]
fn the_others_are_destroyed_before_the_panic_goes_on() {
    let order = RefCell::new(Vec::new());
    let payload = panic_of(|| {
        let _outer = Noted("the caller's frame", &order);
        run(|p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            let parked = Noted("a parked fibre", &order);
            p.spawn(async move {
                let _parked = parked;
                r.read().await;
            })
            .unwrap();
            let panicking = Noted("the fibre that panicked", &order);
            p.spawn(async move {
                let (_end, _panicking) = (w, panicking);
                yield_now().await;
                panic_any("first");
            })
            .unwrap();
            let ready = Noted("a ready fibre", &order);
            p.spawn(async move {
                let _ready = ready;
                yield_now().await;
                yield_now().await;
                unreachable!("the process is stopped by then");
            })
            .unwrap();
        })
    });
    assert_eq!(payload, "first");
    let order = order.into_inner();
    assert_eq!(order[0], "the fibre that panicked");
    assert_eq!(order[3], "the caller's frame");
    assert_eq!(order.len(), 4);
}

#[test]
fn nothing_runs_after_the_panic() {
    let ran = RefCell::new(Vec::new());
    panic_of(|| {
        run(|p| {
            p.spawn(async { ran.borrow_mut().push("before") }).unwrap();
            p.spawn(async { panic_any("here") }).unwrap();
            p.spawn(async { ran.borrow_mut().push("after") }).unwrap();
        })
    });
    assert_eq!(ran.into_inner(), ["before"]);
}

#[test]
fn the_closures_panic_destroys_what_it_spawned() {
    let order = RefCell::new(Vec::new());
    let payload = panic_of(|| {
        run(|p| {
            let noted = Noted("fibre", &order);
            p.spawn(async move {
                let _noted = noted;
                unreachable!("no fibre runs");
            })
            .unwrap();
            panic_any("setup");
        })
    });
    assert_eq!(payload, "setup");
    assert_eq!(order.into_inner(), ["fibre"]);
}

#[test]
fn of_two_panics_the_first_goes_on() {
    let payload = panic_of(|| {
        run(|p| {
            let bomb = Bomb("second, while the others are destroyed");
            p.spawn(async move {
                let _bomb = bomb;
                std::future::pending::<()>().await;
            })
            .unwrap();
            let (w, mut r) = p.channel::<Bomb>().unwrap();
            p.spawn(async move {
                let _both = w;
                r.read().await;
            })
            .unwrap();
            p.spawn(async { panic_any("first") }).unwrap();
        })
    });
    // The first fibre collapsed before the third ran, so its destructor came first.
    assert_eq!(payload, "second, while the others are destroyed");

    let payload = panic_of(|| {
        run(|p| {
            let (w, mut r) = p.channel::<u8>().unwrap();
            for name in ["second", "third"] {
                let (bomb, mut end) = (Bomb(name), r.dup().unwrap());
                p.spawn(async move {
                    let _bomb = bomb;
                    end.read().await;
                })
                .unwrap();
            }
            p.spawn(async move {
                let _w = w;
                panic_any("first");
            })
            .unwrap();
            r.try_read();
        })
    });
    assert_eq!(payload, "first");
}

#[test]
fn a_payload_whose_destructor_panics_does_no_harm() {
    /// A payload that panics when it is dropped, with another of its kind, without end.
    struct Endless;
    impl Drop for Endless {
        fn drop(&mut self) {
            panic_any(Endless);
        }
    }
    let (_, outcome) = Setup::new()
        .isolate_panics()
        .run(|p| {
            for _ in 0..3 {
                p.spawn(async { panic_any(Endless) }).unwrap();
            }
            p.spawn(async {}).unwrap();
        })
        .unwrap();
    assert_eq!((outcome.panicked, outcome.finished), (3, 1));
}

#[test]
fn a_destructor_that_panics_at_collapse_takes_the_process_down() {
    let payload = panic_of(|| {
        run(|p| {
            let bomb = Bomb("collapse");
            p.spawn(async move {
                let _bomb = bomb;
                std::future::pending::<()>().await;
            })
            .unwrap();
        })
    });
    assert_eq!(payload, "collapse");
}

#[test]
fn an_isolated_panic_ends_its_own_fibre_only() {
    let mut served = Vec::new();
    let log = &mut served;
    let (_, outcome) = Setup::new()
        .isolate_panics()
        .run(|p| {
            let (w, mut r) = p.channel::<u32>().unwrap();
            for n in 0..4 {
                let mut w = w.dup().unwrap();
                p.spawn(async move {
                    w.write(n).await;
                    assert_ne!(n, 2, "this request is bad");
                    w.write(n + 10).await;
                })
                .unwrap();
            }
            p.spawn(async move {
                loop {
                    log.push(r.read().await);
                }
            })
            .unwrap();
        })
        .unwrap();
    served.sort_unstable();
    assert_eq!(served, [0, 1, 2, 3, 10, 11, 13]);
    assert_eq!((outcome.finished, outcome.collapsed, outcome.panicked, outcome.stopped), (3, 1, 1, 0));
}

#[test]
fn the_end_of_a_fibre_that_panicked_is_noticed_by_its_neighbours() {
    let (_, outcome) = Setup::new()
        .isolate_panics()
        .run(|p| {
            let (mut w, mut r) = p.channel::<u32>().unwrap();
            p.spawn(async move {
                loop {
                    w.write(1).await;
                }
            })
            .unwrap();
            p.spawn(async move {
                r.read().await;
                panic_any("enough");
            })
            .unwrap();
        })
        .unwrap();
    assert_eq!((outcome.panicked, outcome.collapsed), (1, 1));
}

#[test]
fn isolation_does_not_hide_a_panic_of_the_closure() {
    let payload = panic_of(|| {
        Setup::new().isolate_panics().run(|p| {
            p.spawn(async {}).unwrap();
            panic_any("setup")
        })
    });
    assert_eq!(payload, "setup");
}

#[test]
fn an_essential_fibre_that_is_lost_is_an_error_and_no_panic() {
    let result = run(|p| {
        let essential = p.fibre().name("essential").essential();
        essential.spawn(std::future::pending()).unwrap();
        7
    });
    let Err(Error::Failed(failure)) = result else { panic!("not the error: {result:?}") };
    assert_eq!(failure.value, Some(7));
    assert_eq!(failure.outcome.collapsed, 1);
    assert_eq!(failure.to_string(), "an essential fibre was lost: fibre `essential` collapsed");
}

#[test]
fn a_process_can_be_run_after_one_that_panicked() {
    for _ in 0..3 {
        panic_of(|| run(|p| p.fibre().waker().spawn(async { panic_any("again") }).unwrap()));
        let (_, outcome) = run(|p| p.fibre().waker().spawn(async {}).unwrap()).unwrap();
        assert_eq!(outcome.finished, 1);
    }
}

#[test]
fn an_isolated_destructor_that_panics_at_collapse_is_counted_once() {
    let (_, outcome) = Setup::new()
        .isolate_panics()
        .run(|p| {
            for name in ["one", "two"] {
                let bomb = Bomb(name);
                p.spawn(async move {
                    let _bomb = bomb;
                    std::future::pending::<()>().await;
                })
                .unwrap();
            }
            p.spawn(async {}).unwrap();
        })
        .unwrap();
    assert_eq!((outcome.finished, outcome.collapsed, outcome.panicked), (1, 0, 2));
}

#[test]
fn an_isolating_process_survives_a_process_inside_one_of_its_fibres() {
    let after = RefCell::new(Vec::new());
    let (_, outcome) = Setup::new()
        .isolate_panics()
        .run(|p| {
            p.spawn(async {
                let _outer = Noted("the fibre around it", &after);
                let _ = run(|p| {
                    let _inner = Noted("the inner closure", &after);
                    p.spawn(async { panic_any("inner") }).unwrap();
                });
                unreachable!("the panic goes on out of the inner process");
            })
            .unwrap();
            p.spawn(async { after.borrow_mut().push("a neighbour") }).unwrap();
        })
        .unwrap();
    assert_eq!((outcome.finished, outcome.panicked), (1, 1));
    assert_eq!(after.into_inner(), ["the inner closure", "the fibre around it", "a neighbour"]);
}
